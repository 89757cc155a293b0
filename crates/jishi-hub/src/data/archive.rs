//! Reading archives of packages: wheels (zip), `.tar.gz`, and Debian's `.deb` (ar with a tar inside).
//!
//! Members are handed out one by one and nothing is written under a name from an archive, so that no path in it can
//! lead anywhere. Bytes are counted, so that a small archive can't become endless ones.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use jishi_recipe::Problem;

use crate::error::HubError;

/// Unpacked bytes of an archive at most.
const MAX_BYTES: u64 = 2 << 30;
/// Bytes of a member that is read into memory at most.
const MAX_MEMBER: u64 = 256 << 20;

/// What is done with each member: its name, and its content.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&str, &mut dyn Read) -> Result<(), HubError>;

/// Shows every file of the archive at `path` to `visit`. The name's ending says what kind it is.
pub(super) fn walk(path: &Path, visit: Visit<'_>) -> Result<(), HubError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let file = File::open(path).map_err(|e| HubError::io(path, e))?;
    let file = BufReader::new(file);
    let bad = |e: io::Error| HubError::from(Problem::new(format!("the archive is damaged: {e}")).file(path));
    if name.ends_with(".whl") || name.ends_with(".zip") {
        walk_zip(file, path, visit)
    } else if name.ends_with(".tar.gz") || name.ends_with(".tgz") {
        walk_tar(GzDecoder::new(file), path, visit)
    } else if name.ends_with(".deb") {
        let (member, content) = deb_data(file).map_err(bad)?;
        match member.trim_start_matches("data.tar") {
            ".xz" => {
                let mut tar = Vec::new();
                let mut out = Limited { inner: &mut tar, left: MAX_MEMBER };
                lzma_rs::xz_decompress(&mut BufReader::new(content), &mut out)
                    .map_err(|e| bad(io::Error::other(format!("{e:?}"))))?;
                walk_tar(Cursor::new(tar), path, visit)
            }
            ".zst" => walk_tar(zstd::Decoder::new(content).map_err(bad)?, path, visit),
            ".gz" => walk_tar(GzDecoder::new(content), path, visit),
            other => Err(bad(io::Error::other(format!("its data is compressed as {other:?}")))),
        }
    } else {
        Err(Problem::new("expected a .whl, .zip, .tar.gz, .tgz or .deb file").file(path).into())
    }
}

/// Shows every file of a `.tar.gz` that is inside of another archive.
pub(super) fn walk_tar_gz(content: impl Read, path: &Path, visit: Visit<'_>) -> Result<(), HubError> {
    walk_tar(GzDecoder::new(content), path, visit)
}

/// A member's content, where it is not too large to keep.
pub(super) fn read_member(content: &mut dyn Read, name: &str) -> Result<Vec<u8>, HubError> {
    let mut bytes = Vec::new();
    content
        .take(MAX_MEMBER + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Problem::new(format!("the archive is damaged at {name:?}: {e}")))?;
    if bytes.len() as u64 > MAX_MEMBER {
        return Err(Problem::new(format!("{name:?} in the archive has more than {MAX_MEMBER} bytes")).into());
    }
    Ok(bytes)
}

fn walk_zip(file: BufReader<File>, path: &Path, visit: Visit<'_>) -> Result<(), HubError> {
    let bad = |e: zip::result::ZipError| Problem::new(format!("the archive is damaged: {e}")).file(path);
    let mut archive = zip::ZipArchive::new(file).map_err(bad)?;
    let mut left = MAX_BYTES;
    for index in 0..archive.len() {
        let member = archive.by_index(index).map_err(bad)?;
        if !member.is_file() {
            continue;
        }
        let name = member.name().to_string();
        let mut counted = Counted { inner: member, left: &mut left };
        visit(&name, &mut counted)?;
    }
    Ok(())
}

fn walk_tar(content: impl Read, path: &Path, visit: Visit<'_>) -> Result<(), HubError> {
    let bad = |e: io::Error| Problem::new(format!("the archive is damaged: {e}")).file(path);
    let mut left = MAX_BYTES;
    let mut archive = tar::Archive::new(Counted { inner: content, left: &mut left });
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        visit(&name, &mut entry)?;
    }
    Ok(())
}

/// The member of a `.deb` that holds the files, and its name.
fn deb_data(mut file: impl Read) -> io::Result<(String, impl Read)> {
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    if &magic != b"!<arch>\n" {
        return Err(io::Error::other("it is no Debian package"));
    }
    loop {
        let mut header = [0; 60];
        file.read_exact(&mut header)?;
        let field =
            |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim().to_string();
        let name = field(0..16).trim_end_matches('/').to_string();
        let size: u64 = field(48..58).parse().map_err(io::Error::other)?;
        if name.starts_with("data.tar") {
            return Ok((name, file.take(size)));
        }
        // Members begin at even bytes.
        let skipped = size.saturating_add(size % 2);
        if io::copy(&mut (&mut file).take(skipped), &mut io::sink())? < skipped {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Fails once more was read than an archive may hold.
struct Counted<'a, R> {
    inner: R,
    left: &'a mut u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        *self.left =
            self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other("it unpacks to too much"))?;
        Ok(read)
    }
}

/// Fails once more is written than may be.
struct Limited<'a> {
    inner: &'a mut Vec<u8>,
    left: u64,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("it unpacks to too much"))?;
        self.inner.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jishi_runs::atomic::write_real;
    use std::io::Write;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            // The builder refuses paths that lead out of the archive, and this must survive them.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn deb(member: &str, data: &[u8]) -> Vec<u8> {
        let mut out = b"!<arch>\n".to_vec();
        for (name, content) in [("debian-binary", &b"2.0"[..]), (member, data)] {
            writeln!(out, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, content.len()).unwrap();
            out.extend_from_slice(content);
            out.resize(out.len().next_multiple_of(2), b'\n');
        }
        out
    }

    fn members(name: &str, bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, HubError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        write_real(&path, bytes).unwrap();
        let mut found = Vec::new();
        walk(&path, &mut |name, content| {
            found.push((name.to_string(), read_member(content, name)?));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn every_kind_of_archive_gives_its_files() {
        let files: [(&str, &[u8]); 2] = [("a/b.txt", b"one"), ("../../c", b"two")];
        let expected: Vec<(String, Vec<u8>)> =
            files.iter().map(|(n, c)| ((*n).to_string(), c.to_vec())).collect();
        let tar = tar_of(&files);
        assert_eq!(members("x.tgz", &gz(&tar)).unwrap(), expected);
        assert_eq!(members("x.deb", &deb("data.tar.gz/", &gz(&tar))).unwrap(), expected);
        assert_eq!(
            members("x.deb", &deb("data.tar.zst", &zstd::encode_all(&tar[..], 1).unwrap())).unwrap(),
            expected
        );
        let mut xz = Vec::new();
        lzma_rs::xz_compress(&mut &tar[..], &mut xz).unwrap();
        assert_eq!(members("x.deb", &deb("data.tar.xz", &xz)).unwrap(), expected);
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        assert_eq!(members("x.whl", &zip.finish().unwrap().into_inner()).unwrap(), expected);
    }

    #[test]
    fn damage_is_an_error() {
        let tar = gz(&tar_of(&[("a", &[7; 5000])]));
        for end in [0, 5, tar.len() / 2] {
            assert!(members("x.tgz", &tar[..end]).is_err(), "{end}");
        }
        let deb = deb("data.tar.gz", &tar);
        for end in (0..deb.len() - 20).step_by(9) {
            assert!(members("x.deb", &deb[..end]).is_err(), "{end}");
        }
        assert!(members("x.whl", b"PK\x03\x04").is_err());
        assert!(members("x.rar", b"").is_err());
        let mut left = 10;
        let mut out = Vec::new();
        assert!(Counted { inner: &[0u8; 11][..], left: &mut left }.read_to_end(&mut out).is_err());
    }
}

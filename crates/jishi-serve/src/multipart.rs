//! Files of a form, as browsers and `curl -F` send them (RFC 7578).

use crate::error::ApiError;

/// Characters of a boundary at most, by RFC 2046.
const BOUNDARY: usize = 70;
/// Bytes of a part's head at most.
const HEAD: usize = 4096;

/// The boundary that a header `Content-Type` of the kind `multipart/form-data` names.
///
/// # Errors
/// None, or one that is too long.
pub fn boundary(header: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::bad("expected a boundary in the header `Content-Type`");
    let named = header.split(';').skip(1).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    });
    named.filter(|b| !b.is_empty() && b.len() <= BOUNDARY).map(str::to_owned).ok_or_else(wrong)
}

/// The contents of a body's parts, in their order, at most so many.
///
/// # Errors
/// A body that is cut short or otherwise no form; too many parts.
pub fn parts<'a>(body: &'a [u8], boundary: &str, most: usize) -> Result<Vec<&'a [u8]>, ApiError> {
    let wrong = |what: &str| ApiError::bad(format!("the body is no form: {what}"));
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    // The first delimiter may be where the body begins, without a line before it.
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => &body[find(body, &delimiter).ok_or_else(|| wrong("there is no part"))? + delimiter.len()..],
    };
    let mut found = Vec::new();
    while !rest.starts_with(b"--") {
        // Blanks may stand behind a delimiter.
        let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let part = rest[blanks..].strip_prefix(b"\r\n").ok_or_else(|| wrong("a line does not end"))?;
        let end = find(part, &delimiter).ok_or_else(|| wrong("it is cut short"))?;
        // A part without a head begins with an empty line.
        let content = match part[..end].strip_prefix(b"\r\n") {
            Some(content) => content,
            None => {
                let head = find(&part[..end.min(HEAD)], b"\r\n\r\n");
                &part[head.ok_or_else(|| wrong("a part has no end of its head"))? + 4..end]
            }
        };
        if found.len() == most {
            return Err(ApiError::bad(format!("expected at most {most} files")));
        }
        found.push(content);
        rest = &part[end + delimiter.len()..];
    }
    Ok(found)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_was_sent() {
        let header = "multipart/form-data; charset=utf-8; Boundary=\"a-b\"";
        let boundary = boundary(header).unwrap();
        let body = b"preamble\r\n--a-b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\none\r\n--a\r\n\
                     --a-b  \r\n\r\n\r\n--a-b\r\nA: b\r\n\r\n\r\n\r\n--a-b--\r\nepilogue";
        let found = parts(body, &boundary, 3).unwrap();
        assert_eq!(found, [&b"one\r\n--a"[..], b"", b"\r\n"]);
        assert!(parts(body, &boundary, 2).unwrap_err().message.contains("at most 2 files"));
        assert_eq!(parts(b"--a-b--", &boundary, 1), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for header in ["multipart/form-data", "multipart/form-data; boundary=", "x; boundary=\"\""] {
            assert!(boundary(header).is_err(), "{header}");
        }
        assert!(boundary(&format!("x; boundary={}", "a".repeat(71))).is_err());
        for body in
            [&b""[..], b"--b", b"--b\r\n", b"--b\r\nA: b\r\n--b--", b"--b\r\n\r\nx", b"--bx\r\n\r\n--b--"]
        {
            assert!(parts(body, "b", 9).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}

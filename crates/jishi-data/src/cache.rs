//! Where the chunks of a table are kept: in memory, or in an Arrow IPC file that is mapped chunk by chunk.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::writer::FileWriter;
use arrow_ipc::{Block, root_as_footer};
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};

use crate::error::DataError;

/// The chunks of a table.
#[derive(Debug)]
pub(crate) enum Store {
    /// One list of arrays a chunk, and the bytes of all.
    Memory(Vec<Vec<ArrayRef>>, u64),
    /// A file.
    Disk(DiskStore),
}

/// An Arrow IPC file with one record batch a chunk. The file has no name: the system frees it with the last handle.
#[derive(Debug)]
pub(crate) struct DiskStore {
    file: File,
    blocks: Vec<Block>,
    decoder: Decoder,
    bytes: u64,
}

struct Decoder(FileDecoder);

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileDecoder")
    }
}

impl Store {
    pub(crate) fn chunk(&self, i: usize) -> Vec<ArrayRef> {
        match self {
            Self::Memory(chunks, _) => chunks[i].clone(),
            Self::Disk(disk) => {
                disk.chunk(i).unwrap_or_else(|e| panic!("the table's cache file can't be read: {e}"))
            }
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Memory(_, bytes) => *bytes,
            Self::Disk(disk) => disk.bytes,
        }
    }
}

impl DiskStore {
    /// Maps one chunk. The pages are given back when the last array of it is dropped, so that a walk over the
    /// table holds one chunk at a time.
    fn chunk(&self, i: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        let block = self.blocks[i];
        let length = block.bodyLength() as usize + block.metaDataLength() as usize;
        // SAFETY: the file is ours alone: it has no name and its handle never leaves this struct, so nobody changes
        // or shortens it while it is mapped.
        let map =
            unsafe { memmap2::MmapOptions::new().offset(block.offset() as u64).len(length).map(&self.file) }?;
        let buffer = Buffer::from(bytes::Bytes::from_owner(map));
        let batch = self.decoder.0.read_record_batch(&block, &buffer)?;
        let batch = batch.ok_or_else(|| ArrowError::IpcError("the block holds no record batch".into()))?;
        Ok(batch.columns().to_vec())
    }
}

/// Takes chunks in order and moves them to disk once they take more than `limit` bytes.
pub(crate) struct StoreWriter {
    limit: u64,
    folder: PathBuf,
    chunks: Vec<Vec<ArrayRef>>,
    bytes: u64,
    disk: Option<(FileWriter<BufWriter<File>>, SchemaRef)>,
}

impl StoreWriter {
    pub(crate) fn new(limit: u64, folder: Option<&Path>) -> Self {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_path_buf);
        Self { limit, folder, chunks: Vec::new(), bytes: 0, disk: None }
    }

    /// Adds a chunk: arrays of one length, of the same types in every chunk.
    pub(crate) fn push(&mut self, arrays: Vec<ArrayRef>) -> Result<(), DataError> {
        self.bytes += arrays.iter().map(|a| a.get_array_memory_size() as u64).sum::<u64>();
        self.chunks.push(arrays);
        if self.disk.is_some() || self.bytes > self.limit {
            for chunk in std::mem::take(&mut self.chunks) {
                self.write(chunk).map_err(|e| self.failed(e))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, arrays: Vec<ArrayRef>) -> Result<(), ArrowError> {
        if self.disk.is_none() {
            std::fs::create_dir_all(&self.folder)?;
            let file = tempfile::tempfile_in(&self.folder)?;
            let fields = arrays.iter().enumerate();
            let fields: Vec<Field> =
                fields.map(|(i, a)| Field::new(i.to_string(), a.data_type().clone(), true)).collect();
            let schema = Arc::new(Schema::new(fields));
            self.disk = Some((FileWriter::try_new_buffered(file, &schema)?, schema));
        }
        if let Some((writer, schema)) = &mut self.disk {
            writer.write(&RecordBatch::try_new(schema.clone(), arrays)?)?;
        }
        Ok(())
    }

    fn failed(&self, error: ArrowError) -> DataError {
        let source = match error {
            ArrowError::IoError(_, source) => source,
            other => std::io::Error::other(other),
        };
        DataError::io(&self.folder, source)
    }

    /// Ends the writing.
    pub(crate) fn finish(mut self) -> Result<Store, DataError> {
        let Some((writer, _)) = self.disk.take() else {
            return Ok(Store::Memory(self.chunks, self.bytes));
        };
        open(writer, self.bytes).map(Store::Disk).map_err(|e| self.failed(e))
    }
}

/// Ends a file and reads where its batches are.
fn open(writer: FileWriter<BufWriter<File>>, bytes: u64) -> Result<DiskStore, ArrowError> {
    let mut writer = writer;
    writer.finish()?;
    let mut file = writer.into_inner()?.into_inner().map_err(|e| ArrowError::from(e.into_error()))?;
    let bad = |e: &dyn std::fmt::Display| ArrowError::IpcError(e.to_string());

    let mut tail = [0; 10];
    file.seek(SeekFrom::End(-10))?;
    file.read_exact(&mut tail)?;
    let length = read_footer_length(tail)?;
    let mut footer = vec![0; length];
    file.seek(SeekFrom::End(-10 - length as i64))?;
    file.read_exact(&mut footer)?;
    let footer = root_as_footer(&footer).map_err(|e| bad(&e))?;
    let schema = footer.schema().ok_or_else(|| bad(&"the footer holds no schema"))?;
    // Zero-copy arrays need 64-bit values at multiples of 8; the writer pads every block to 64 bytes.
    let decoder =
        FileDecoder::new(Arc::new(try_fb_to_schema(schema)?), footer.version()).with_require_alignment(true);
    let blocks =
        footer.recordBatches().ok_or_else(|| bad(&"the footer lists no batches"))?.iter().copied().collect();
    Ok(DiskStore { file, blocks, decoder: Decoder(decoder), bytes })
}

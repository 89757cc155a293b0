//! What the text formats share: blocks parsed in parallel while their neighbours are read and merged.

use jishi_recipe::Problem;
use rayon::prelude::*;

use super::Stop;
use super::assemble::{Assembler, Block};
use super::bytes::{Blocks, RawBlock};

/// A block's text.
pub(crate) fn check_utf8(raw: &RawBlock) -> Result<&str, Problem> {
    std::str::from_utf8(&raw.bytes).map_err(|error| {
        let (good, bad) = raw.bytes.split_at(error.valid_up_to());
        let line = raw.first_line + memchr::memchr_iter(b'\n', good).count() as u64;
        let byte = good.len() - memchr::memrchr(b'\n', good).map_or(0, |n| n + 1) + 1;
        Problem::new(format!("expected UTF-8, found the byte 0x{:02x} at byte {byte} of the line", bad[0]))
            .line(line)
            .help("convert the file, for example from Latin-1: `iconv -f LATIN1 -t UTF-8 FILE > NEW`")
    })
}

/// Reads all blocks into `table`: `parse` turns a block into columns, given what `expect` says of them.
pub(crate) fn drive<E: Send + Sync>(
    first: RawBlock,
    blocks: &mut Blocks,
    table: &mut Assembler,
    expect: impl Fn(&Assembler) -> E,
    parse: impl Fn(&RawBlock, &E) -> Result<Block, Problem> + Sync,
) -> Result<(), Stop> {
    // The first block alone, so that those after it know what the columns look like.
    let parsed = parse(&first, &expect(table))?;
    drop(first);
    table.merge(&[parsed]).map_err(Stop::Data)?;

    let batch = 4 * rayon::current_num_threads().clamp(1, 16);
    let mut next = |n: usize| -> Result<Vec<RawBlock>, Stop> {
        let mut out = Vec::new();
        while out.len() < n {
            match blocks.next()? {
                Some(block) => out.push(block),
                None => break,
            }
        }
        Ok(out)
    };
    let mut raw = next(batch)?;
    let mut parsed: Vec<Block> = Vec::new();
    while !raw.is_empty() || !parsed.is_empty() {
        let known = expect(table);
        let (new, following) = rayon::join(
            || raw.par_iter().map(|raw| parse(raw, &known)).collect::<Vec<_>>(),
            || {
                table.merge(&parsed).map_err(Stop::Data)?;
                next(batch)
            },
        );
        // What is wrong with a block comes before what is wrong after it.
        parsed = new.into_iter().collect::<Result<_, _>>()?;
        raw = following?;
    }
    Ok(())
}

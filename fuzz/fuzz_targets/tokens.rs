#![no_main]
//! The header of a file of tokens.

use jishi_data::text::cache::header_fits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = header_fits(bytes);
});

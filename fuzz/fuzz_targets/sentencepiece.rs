#![no_main]
//! Models of SentencePiece.

use jishi_data::text::tokenizer::is_spm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = is_spm(bytes);
});

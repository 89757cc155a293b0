#![no_main]
//! The reader of weights: what it accepts, it writes back with the same tensors.

use std::path::Path;

use jishi_runs::tensors::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = decode(bytes, Path::new("fuzz.safetensors")) {
        let again = file.encode().expect("what was read can be written");
        assert_eq!(decode(&again, Path::new("again")).expect("it reads back").tensors.len(), file.tensors.len());
    }
});

#![no_main]
//! The reader of GGUF files: what it accepts has as many values as it says.

use std::path::Path;

use jishi_hub::gguf::read_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = read_bytes(Path::new("fuzz.gguf"), bytes.to_vec()) {
        for (name, meta) in model.tensors.iter() {
            let values = model.tensors.read(name).expect("it is there");
            assert_eq!(values.len(), meta.shape.iter().product::<usize>());
        }
    }
});

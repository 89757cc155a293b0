#![no_main]
//! The reader of PyTorch's checkpoints: what it accepts has as many values as it says.

use std::path::Path;

use jishi_hub::pth::read_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tensors) = read_bytes(Path::new("fuzz.pth"), bytes.to_vec()) {
        for (name, meta) in tensors.iter() {
            let values = tensors.read(name).expect("it is there");
            assert_eq!(values.len(), meta.shape.iter().product::<usize>());
        }
    }
});

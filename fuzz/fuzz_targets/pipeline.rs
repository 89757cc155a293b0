#![no_main]
//! The preprocessing of a package: any JSON gives a pipeline or an error.

use jishi_data::Pipeline;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pipeline) = serde_json::from_slice::<Pipeline>(bytes) {
        assert_eq!(pipeline.numbers(), pipeline.number_names().len());
    }
});

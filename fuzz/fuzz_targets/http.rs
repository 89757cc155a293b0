#![no_main]
//! The server: any request gets an answer, a refusal in the one form of errors, and nothing breaks.

use std::sync::OnceLock;

use jishi_serve::surface::Surface;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    static SURFACE: OnceLock<Surface> = OnceLock::new();
    let surface = SURFACE.get_or_init(|| Surface::new().expect("a runtime"));
    surface.read(bytes);
    if let Some((status, body)) = surface.ask(bytes) {
        assert!(status < 500, "{status}");
        if status >= 400 && !bytes.starts_with(b"HEAD") {
            let said: serde_json::Value = serde_json::from_slice(&body).expect("an error is JSON");
            assert!(said["error"]["message"].is_string(), "{said}");
        }
    }
});

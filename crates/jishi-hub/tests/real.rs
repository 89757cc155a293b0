//! Real models, where `JISHI_DATA` has them: `cargo test -p jishi-hub --test real -- --ignored`.
//! `tests/fixtures/compare.py` then compares what they write under `$OUT` with the reference implementations.

use std::path::{Path, PathBuf};

use jishi_hub::{Dtype, data, folder, gguf};

fn places() -> (PathBuf, PathBuf) {
    let from = |name| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
    (from("JISHI_DATA"), from("OUT"))
}

fn gguf_in(dir: &Path) -> PathBuf {
    let mut entries =
        std::fs::read_dir(dir).expect("the folder is there").map(|e| e.expect("it is read").path());
    entries.find(|path| path.extension().is_some_and(|e| e == "gguf")).expect("a GGUF file")
}

#[test]
#[ignore = "needs data that was fetched"]
fn smollm2_is_read_and_written_in_every_form() {
    let (data, out) = places();
    let model = gguf::read(&gguf_in(&data.join("smollm2"))).unwrap();
    assert_eq!(model.tensors.len(), 272);
    folder::write(&out.join("smollm2-hf"), &model.about, &model.tensors, Dtype::F32).unwrap();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Q8_0] {
        let path = out.join(format!("smollm2-{}.gguf", dtype.name()));
        gguf::write(&path, &model.about, &model.tensors, dtype).unwrap();
        let back = gguf::read(&path).unwrap();
        let name = "model.layers.3.self_attn.k_proj.weight";
        let (a, b) = (model.tensors.read(name).unwrap(), back.tensors.read(name).unwrap());
        let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= if dtype == Dtype::F32 { 0.0 } else { 0.02 }, "{dtype:?}: {worst}");
    }
}

#[test]
#[ignore = "needs data that was fetched"]
fn minilm_is_read_and_written() {
    let (data, out) = places();
    let model = folder::read(&data.join("minilm")).unwrap();
    assert_eq!(model.about.sentence.as_ref().unwrap().max_seq_length, Some(256));
    folder::write(&out.join("minilm-hf"), &model.about, &model.tensors, Dtype::F32).unwrap();
}

#[test]
#[ignore = "fetches from registries"]
fn every_entry_is_fetched_with_its_rows() {
    let (root, _) = places();
    let mut wrong = Vec::new();
    for entry in data::catalogue() {
        match data::get(entry.name, &root, &mut |line| println!("{line}")) {
            Err(error) => wrong.push(format!("{}: {error}", entry.name)),
            Ok(folder) => {
                let note: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(folder.join("source.json")).unwrap()).unwrap();
                let rows = note["rows"].as_u64();
                if rows != entry.rows.map(|n| n as u64) {
                    wrong.push(format!("{}: {rows:?} rows, expected {:?}", entry.name, entry.rows));
                }
                for file in data::files(&folder).unwrap() {
                    println!("{} {}", file.display(), file.metadata().unwrap().len());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs a Hugging Face folder in MODEL"]
fn a_folder_survives_the_way_through_gguf() {
    let (_, out) = places();
    let model = folder::read(Path::new(&std::env::var_os("MODEL").unwrap())).unwrap();
    let path = out.join(format!("{}.gguf", model.about.model_type()));
    gguf::write(&path, &model.about, &model.tensors, Dtype::F32).unwrap();
    let back = gguf::read(&path).unwrap();
    for (name, meta) in back.tensors.iter() {
        assert_eq!(model.tensors.meta(name).unwrap().shape, meta.shape, "{name}");
        assert_eq!(model.tensors.read(name).unwrap(), back.tensors.read(name).unwrap(), "{name}");
    }
    folder::write(&path.with_extension("hf"), &back.about, &back.tensors, Dtype::F32).unwrap();
}

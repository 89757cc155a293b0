//! Checkpoints of PyTorch: both layouts, what is refused, and damaged ones.

use std::io::{Cursor, Write};
use std::path::Path;

use jishi_hub::{Dtype, Tensors, pth};
use proptest::prelude::*;

/// Made by `fixtures/pth.py` with PyTorch.
const SMALL: &[u8] = include_bytes!("fixtures/small.pth");
const LEGACY: &[u8] = include_bytes!("fixtures/legacy.pth");

fn tensors(bytes: &[u8]) -> Tensors {
    pth::read_bytes(Path::new("x.pth"), bytes.to_vec()).expect("a file of PyTorch")
}

fn message(bytes: &[u8]) -> String {
    pth::read_bytes(Path::new("x.pth"), bytes.to_vec()).expect_err("it is refused").to_string()
}

#[test]
fn both_layouts_hold_the_same_tensors() {
    for bytes in [SMALL, LEGACY] {
        let tensors = tensors(bytes);
        assert_eq!(tensors.len(), 11);
        let counted = |count: usize| (0..count).map(|i| i as f32).collect::<Vec<f32>>();
        for (name, dtype, shape, values) in [
            ("plain", Dtype::F32, &[2, 3][..], counted(6)),
            ("half", Dtype::F16, &[3], counted(3)),
            ("brain", Dtype::BF16, &[3], counted(3)),
            ("double", Dtype::F64, &[2], counted(2)),
            ("long", Dtype::I64, &[], vec![7.0]),
            ("empty", Dtype::F32, &[0, 5], vec![]),
            ("turned", Dtype::F32, &[2, 3], vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0]),
            ("last", Dtype::F32, &[1, 2, 2, 3], counted(12)),
            ("tied", Dtype::F32, &[4, 3], counted(12)),
            ("part", Dtype::F32, &[2, 3], counted(9).split_off(3)),
            ("parameter", Dtype::F32, &[2], counted(2)),
        ] {
            let meta = tensors.meta(name).unwrap_or_else(|| panic!("{name} is not there"));
            assert_eq!((meta.dtype, &meta.shape[..]), (dtype, shape), "{name}");
            assert_eq!(tensors.read(name).expect("values"), values, "{name}");
        }
    }
}

/// A file of `torch.save` with this pickle, and numbers under the key "0".
fn archive(pickle: &[u8], numbers: &[u8], method: zip::CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in [("x/data.pkl", pickle), ("x/data/0", numbers)] {
        zip.start_file(name, options).expect("a member");
        zip.write_all(bytes).expect("its bytes");
    }
    zip.finish().expect("an archive").into_inner()
}

/// `{"w": tensor}` with this storage of numbers, offset, shape and strides.
fn pickle(count: u8, offset: u8, shape: [i32; 2], strides: [i32; 2]) -> Vec<u8> {
    let text = |text: &str| [&[0x8c, text.len() as u8][..], text.as_bytes()].concat();
    let pair = |pair: [i32; 2]| {
        let number = |n: i32| [&b"J"[..], &n.to_le_bytes()].concat();
        [number(pair[0]), number(pair[1]), vec![0x86]].concat()
    };
    [
        b"\x80\x02}".to_vec(),
        text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        vec![b'K', count, b't', b'Q', b'K', offset],
        pair(shape),
        pair(strides),
        b"\x89NtRs.".to_vec(),
    ]
    .concat()
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let stored = zip::CompressionMethod::Stored;
    let file =
        |count, offset, shape, strides| archive(&pickle(count, offset, shape, strides), &[0; 24], stored);
    assert_eq!(tensors(&file(6, 0, [2, 3], [3, 1])).read("w").expect("values"), [0.0; 6]);
    assert_eq!(tensors(&file(6, 1, [2, 2], [3, 1])).len(), 1);
    for (bytes, word) in [
        (file(7, 0, [2, 3], [3, 1]), "fewer numbers"),
        (file(6, 1, [2, 3], [3, 1]), "goes beyond"),
        (file(6, 0, [2, 3], [4, 1]), "goes beyond"),
        (file(6, 0, [i32::MAX, 1], [0, 0]), "larger than its numbers"),
        (file(6, 0, [i32::MAX, i32::MAX], [1, 1]), "larger than its numbers"),
        (file(6, 0, [-1, 3], [3, 1]), "shape of a tensor"),
        (archive(&pickle(6, 0, [2, 3], [3, 1]), &[0; 24], zip::CompressionMethod::Deflated), "compressed"),
    ] {
        let found = message(&bytes);
        assert!(found.contains(word) && found.contains("x.pth"), "{word}: {found}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let stored = zip::CompressionMethod::Stored;
    for (bytes, words) in [
        (&b""[..], ["neither", "again"]),
        (b"\x80\x04N.", ["another pickle", "state_dict"]),
        (&archive(b"\x80\x02cos\nsystem\n)R.", b"", stored), ["os.system", "state_dict"]),
        (&archive(b"\x80\x02ctorchvision.models.resnet\nResNet\n.", b"", stored), ["ResNet", "state_dict"]),
        (&archive(b"\x80\x02K\x01.", b"", stored), ["dictionary of tensors", "state_dict"]),
        (&archive(b"\x80\x02}.", b"", stored), ["no tensors", "state_dict"]),
        (&archive(b"\x80\x02}", b"", stored), ["damaged", "again"]),
        (&[&[0; 257][..], b"ustar"].concat(), ["tar", "again"]),
    ] {
        let found = message(bytes);
        assert!(words.iter().all(|word| found.contains(word)), "{words:?}: {found}");
    }
}

fn consistent(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    if let Ok(tensors) = pth::read_bytes(Path::new("x"), bytes) {
        for (name, meta) in tensors.iter() {
            let values = tensors.read(name).expect("it is there");
            prop_assert_eq!(values.len(), meta.shape.iter().product::<usize>());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_pickle_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        consistent(archive(&[b"\x80\x02}", &bytes[..]].concat(), &[0; 24], zip::CompressionMethod::Stored))?;
        consistent([&LEGACY[..15], &bytes[..]].concat())?;
        consistent(bytes)?;
    }

    #[test]
    fn changed_bytes_never_panic(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        for file in [SMALL, LEGACY] {
            let mut bytes = file.to_vec();
            for (at, value) in &changes {
                let at = at % bytes.len();
                bytes[at] = *value;
            }
            consistent(bytes)?;
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused(length in 0usize..4448) {
        for file in [SMALL, LEGACY] {
            let length = length.min(file.len() - 1);
            prop_assert!(pth::read_bytes(Path::new("x"), file[..length].to_vec()).is_err());
        }
    }
}

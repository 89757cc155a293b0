#![no_main]
//! Label files of pictures: the first byte chooses the format, the rest is the file. A box that is read lies on its picture.

use jishi_data::image::{LabelFormat, boxes_of};
use libfuzzer_sys::fuzz_target;

const FORMATS: [LabelFormat; 3] = [LabelFormat::Coco, LabelFormat::Voc, LabelFormat::Yolo];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let format = FORMATS[*first as usize % FORMATS.len()];
    if let Ok(objects) = boxes_of(format, rest, &["cat".into(), "dog".into()], [480, 640]) {
        for object in objects {
            let [left, top, right, bottom] = object.place;
            assert!(0.0 <= left && left < right && right <= 640.0);
            assert!(0.0 <= top && top < bottom && bottom <= 480.0);
        }
    }
});

//! Hugging Face's `preprocessor_config.json`: how a model of images is given them.

use jishi_data::image::{IMAGENET, Preparation};
use jishi_recipe::{Channels, Fit, Image, Interpolation, Problem, Size};
use serde_json::{Value, json};

/// The share of a side that ConvNeXt's processor keeps where none is said.
const CONVNEXT: f64 = 224.0 / 256.0;
/// From this side on, ConvNeXt's processor scales height and width on their own.
const CONVNEXT_LARGE: usize = 384;

/// What a `preprocessor_config.json` says, for a model of a `config.json`.
///
/// # Errors
/// Sizes or figures that make no sense; a filter or shapes that are not known.
pub fn read(value: &Value, config: &Value) -> Result<Preparation, Problem> {
    let gray = config["num_channels"] == 1;
    let channels = if gray { Channels::Gray } else { Channels::Rgb };
    let none = || Problem::new("preprocessor_config.json: expected `size`, found none").help("224 is usual");
    let side = |value: &Value| value.as_u64().map(|side| side as usize);
    let sides = |value: &Value| Some([side(&value["height"])?, side(&value["width"])?]);
    let short = side(&value["size"]["shortest_edge"]);
    let square = side(&value["size"]).map(|side| [side; 2]);
    let kind = value["image_processor_type"].as_str().or(value["feature_extractor_type"].as_str());
    let convnext = kind.is_some_and(|kind| kind.starts_with("ConvNext"));
    let cropped = if value["do_center_crop"] == false { Value::Null } else { value["crop_size"].clone() };
    let cropped = side(&cropped).map(|side| [side; 2]).or(sides(&cropped));
    let (size, fit, crop_pct) = if convnext {
        let side = short.or(square.map(|[side, _]| side)).ok_or_else(none)?;
        if side < CONVNEXT_LARGE {
            let share = value["crop_pct"].as_f64().unwrap_or(CONVNEXT);
            // The short side is cut to whole pixels.
            let scaled = (side as f64 / share).floor();
            ([side; 2], Fit::Crop, Some(side as f64 / scaled))
        } else {
            ([side; 2], Fit::Stretch, None)
        }
    } else if let Some([height, width]) = cropped {
        let scaled = short.or(square.map(|[side, _]| side));
        let scaled = scaled.unwrap_or(height.min(width));
        let share = height.min(width) as f64 / scaled as f64;
        ([height, width], Fit::Crop, (share < 1.0).then_some(share))
    } else if let Some(side) = short {
        ([side; 2], Fit::Crop, None)
    } else {
        let image = &config["image_size"];
        let size = square.or(sides(&value["size"])).or(side(image).map(|side| [side; 2]));
        (size.ok_or_else(none)?, Fit::Stretch, None)
    };
    let interpolation = match value["resample"].as_u64() {
        None | Some(2) => Interpolation::Bilinear,
        Some(3) => Interpolation::Bicubic,
        Some(other) => {
            let message = format!(
                "preprocessor_config.json: expected `resample` 2 (bilinear) or 3 (bicubic), found {other}"
            );
            return Err(Problem::new(message).help("change it, if another filter will do"));
        }
    };
    let figures = |key: &str, default: f32| -> Vec<f32> {
        let list = value[key].as_array().filter(|_| value["do_normalize"] != false);
        let values = list.map(|list| list.iter().filter_map(Value::as_f64).map(|v| v as f32).collect());
        values.unwrap_or_else(|| vec![default; channels.count()])
    };
    let image =
        Image { size: Some(Size::Sides(size)), channels, fit, crop_pct, interpolation, ..Image::default() };
    Preparation::with(&image, figures("image_mean", 0.0), figures("image_std", 1.0))
}

/// What models of torchvision were trained with: the short side scaled to 256 for 224, the figures of ImageNet. `size` is
/// the model's own, where it has one.
///
/// # Errors
/// A size of 0.
pub fn usual(config: &Value) -> Result<Preparation, Problem> {
    let size = config["image_size"].as_u64().unwrap_or(224);
    let gray = config["num_channels"] == 1;
    let [mean, std] = match gray {
        true => [json!([0.5]), json!([0.5])],
        false => [json!(IMAGENET.0), json!(IMAGENET.1)],
    };
    let value = json!({
        "image_processor_type": "ConvNextImageProcessor",
        "size": { "shortest_edge": size }, "image_mean": mean, "image_std": std,
    });
    read(&value, config)
}

/// A preparation as a `preprocessor_config.json`; `None` where none says the same.
#[must_use]
pub fn write(preparation: &Preparation) -> Option<Value> {
    let [height, width, _] = preparation.shape();
    let image = preparation.image();
    let size = json!({ "height": height, "width": width });
    let mut value = json!({
        "do_resize": true,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": preparation.mean(),
        "image_std": preparation.std(),
        "resample": if image.interpolation == Interpolation::Bicubic { 3 } else { 2 },
        "size": size,
    });
    match image.fit {
        Fit::Stretch if image.crop_pct.is_none() => {
            value["image_processor_type"] = "ViTImageProcessor".into();
        }
        Fit::Crop if height == width => {
            let scaled = (height as f64 / image.crop_pct.unwrap_or(1.0)).round() as usize;
            value["image_processor_type"] = "BitImageProcessor".into();
            value["size"] = json!({ "shortest_edge": scaled });
            value["do_center_crop"] = true.into();
            value["crop_size"] = size;
        }
        _ => return None,
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(value: Value) -> Preparation {
        read(&value, &json!({"num_channels": 3})).unwrap()
    }

    #[test]
    fn processors_say_what_the_model_sees() {
        let vit =
            of(json!({"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 48},
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2}));
        assert_eq!((vit.shape(), vit.image().fit), ([32, 48, 3], Fit::Stretch));
        assert_eq!(
            of(json!({"feature_extractor_type": "ViTFeatureExtractor", "size": 32})).image().fit,
            Fit::Stretch
        );
        let resnet =
            of(json!({"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875,
            "resample": 3}));
        let image = resnet.image();
        assert_eq!((resnet.shape(), image.fit), ([224, 224, 3], Fit::Crop));
        assert_eq!((image.crop_pct, image.interpolation), (Some(0.875), Interpolation::Bicubic));
        let large =
            of(json!({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}));
        assert_eq!((large.image().fit, large.image().crop_pct), (Fit::Stretch, None));
        let bit = of(json!({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}));
        assert_eq!(bit.image().crop_pct, Some(0.875));
        let whole = of(json!({"size": {"shortest_edge": 256}, "do_center_crop": false, "crop_size": 224}));
        assert_eq!((whole.shape(), whole.image().crop_pct), ([256, 256, 3], None));
        assert!(
            read(&json!({"size": 32, "resample": 1}), &json!({})).unwrap_err().message.contains("found 1")
        );
        assert!(read(&json!({}), &json!({})).unwrap_err().message.contains("`size`"));
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for (fit, crop_pct) in [(Fit::Stretch, None), (Fit::Crop, None), (Fit::Crop, Some(0.875))] {
            for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
                let size = Some(Size::Square(224));
                let image = Image { size, fit, crop_pct, interpolation, ..Image::default() };
                let preparation = Preparation::with(&image, vec![0.1, 0.2, 0.3], vec![0.4; 3]).unwrap();
                assert_eq!(of(write(&preparation).unwrap()), preparation);
            }
        }
        let padded = Image { size: Some(Size::Square(32)), fit: Fit::Pad, ..Image::default() };
        assert_eq!(write(&Preparation::with(&padded, vec![0.0; 3], vec![1.0; 3]).unwrap()), None);
    }
}

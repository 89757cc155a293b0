//! Hugging Face's `preprocessor_config.json`: how a model of images is given them.

use jishi_data::image::Preparation;
use jishi_recipe::{Channels, Fit, Problem};
use serde_json::{Value, json};

/// What a `preprocessor_config.json` says, for a model of a `config.json`.
///
/// # Errors
/// Sizes or figures that make no sense.
pub fn read(value: &Value, config: &Value) -> Result<Preparation, Problem> {
    let gray = config["num_channels"] == 1;
    let channels = if gray { Channels::Gray } else { Channels::Rgb };
    let side = |value: &Value, key: &str| value[key].as_u64().map(|side| side as usize);
    let size = |value: &Value| -> Option<[usize; 2]> {
        let square = value.as_u64().map(|side| side as usize).or(side(value, "shortest_edge"));
        square.map(|side| [side; 2]).or(Some([side(value, "height")?, side(value, "width")?]))
    };
    let cropped = size(&value["crop_size"]).filter(|_| value["do_center_crop"] != false);
    let whole = size(&value["size"]).or_else(|| size(&config["image_size"]));
    let sides = cropped.or(whole).ok_or_else(|| {
        Problem::new("preprocessor_config.json: expected `size`, found none").help("224 is usual")
    })?;
    // A square that is asked for by both sides is not cropped.
    let fit =
        if cropped.is_some() || value["size"]["shortest_edge"].is_u64() { Fit::Crop } else { Fit::Stretch };
    let figures = |key: &str, default: f32| -> Vec<f32> {
        let list = value[key].as_array().filter(|_| value["do_normalize"] != false);
        let values = list.map(|list| list.iter().filter_map(Value::as_f64).map(|v| v as f32).collect());
        values.unwrap_or_else(|| vec![default; channels.count()])
    };
    Preparation::with(sides, channels, fit, figures("image_mean", 0.0), figures("image_std", 1.0))
}

/// A preparation as a `preprocessor_config.json`.
#[must_use]
pub fn write(preparation: &Preparation) -> Value {
    let [height, width, _] = preparation.shape();
    let mut value = json!({
        "image_processor_type": "ViTImageProcessor",
        "do_resize": true,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": preparation.mean(),
        "image_std": preparation.std(),
        "resample": 2,
        "size": { "height": height, "width": width },
    });
    if preparation.fit_of() == Fit::Crop && height == width {
        value["size"] = json!({ "shortest_edge": height });
        value["do_center_crop"] = true.into();
        value["crop_size"] = json!({ "height": height, "width": width });
        value["image_processor_type"] = "ConvNextImageProcessor".into();
    }
    value
}

//! Keys of recipes that learn from pictures: how they are read, sized, normalised and augmented.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How pictures are read and prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Image {
    /// Column of a picture's path (from the table's own folder) or of its bytes, in CSV, JSONL and Parquet files.
    /// Folders of pictures and IDX files have none.
    pub column: String,
    /// Columns of pixel values in place of `column`: a row is a picture.
    pub pixels: Option<Pixels>,
    /// Height and width that the model sees: a number for both, or `[height, width]`. Default: the pictures' own, where all
    /// are equal.
    pub size: Option<Size>,
    /// Colours.
    pub channels: Channels,
    /// How a picture of another shape becomes one of `size`.
    pub fit: Fit,
    /// The share of a side that the model sees, of a picture that is scaled for it: 0.875 scales the short side to 256 where
    /// `size` is 224, and keeps the middle. Default: all of it, or 0.875 of large pictures that training crops by chance.
    pub crop_pct: Option<f64>,
    /// How pictures are scaled, as in Pillow.
    pub interpolation: Interpolation,
    /// How pixel values are shifted and scaled. Default: by the figures of the model that training begins with, where it has
    /// some, else `dataset`.
    pub normalize: Option<Normalize>,
    /// Random changes of training pictures, in this order.
    pub augment: Vec<Augment>,
    /// MixUp (Zhang et al. 2018): α of the Beta distribution of the shares of two pictures; 0: none.
    pub mixup: f64,
    /// CutMix (Yun et al. 2019): α of the Beta distribution of the shares of two pictures; 0: none. Where both are set,
    /// each batch has one of them, by a fair coin.
    pub cutmix: f64,
    /// `detection`: probability that a training picture is put together of four (Bochkovskiy et al. 2020).
    pub mosaic: f64,
}

/// Columns that hold the pixels of a picture, row by row from the top left, the colours of a pixel side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pixels {
    /// Names of the columns, in the order of the table: a pattern such as `"p*"`.
    pub columns: String,
    /// The value of white; black is 0.
    #[serde(default = "byte")]
    pub max: f64,
}

/// Height and width of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    /// The same for both.
    Square(usize),
    /// `[height, width]`.
    Sides([usize; 2]),
}

impl Size {
    /// `[height, width]` in pixels.
    #[must_use]
    pub fn sides(self) -> [usize; 2] {
        match self {
            Self::Square(side) => [side, side],
            Self::Sides(sides) => sides,
        }
    }
}

/// Colours of a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Red, green and blue.
    #[default]
    Rgb,
    /// Grey (luma of ITU-R BT.601).
    Gray,
}

impl Channels {
    /// Number of values a pixel.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Gray => 1,
        }
    }
}

/// How a picture of another shape becomes one of the model's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// `pad` for `detection`, whose objects may be at an edge; else `crop`.
    #[default]
    Auto,
    /// Scale until it covers the size, keep the middle.
    Crop,
    /// Scale height and width on their own.
    Stretch,
    /// Scale until it is inside the size, black around it.
    Pad,
}

/// How pictures are scaled: with the filter widened where a picture shrinks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// By straight lines.
    #[default]
    Bilinear,
    /// By cubic curves.
    Bicubic,
}

/// How pixel values, 0 to 1, are shifted and scaled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// By the mean and standard deviation of each colour over the training split.
    #[default]
    Dataset,
    /// By those of ImageNet: what most pretrained models were trained with.
    Imagenet,
    /// To −1…1.
    Half,
    /// Not at all.
    None,
}

/// A random change of a training picture, named and done as in torchvision. Pictures are changed at the size that the
/// model sees, but for the two crops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Augment {
    /// A part of random area and shape, scaled to the size (Szegedy et al. 2015).
    RandomResizedCrop(RandomResizedCrop),
    /// A part of the model's size at a random place, after padding.
    RandomCrop(RandomCrop),
    /// Left becomes right.
    HorizontalFlip(Flip),
    /// Top becomes bottom.
    VerticalFlip(Flip),
    /// Turned around the middle.
    Rotate(Rotate),
    /// Turned, moved, scaled and sheared around the middle.
    Affine(Affine),
    /// Other brightness, contrast, saturation and hue, in random order.
    ColorJitter(ColorJitter),
    /// Operations drawn from a fixed set (RandAugment: Cubuk et al. 2020).
    RandAugment(RandAugment),
    /// A rectangle becomes the mean colour (Zhong et al. 2020).
    RandomErasing(RandomErasing),
    /// Normal noise on every value.
    GaussianNoise(GaussianNoise),
    /// Blurred by a normal curve.
    Blur(Blur),
    /// Without colours.
    Grayscale(Grayscale),
}

/// A part of random area and shape, scaled to the size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomResizedCrop {
    /// Least and greatest share of the area.
    pub scale: [f64; 2],
    /// Least and greatest width over height.
    pub ratio: [f64; 2],
}

/// A part of the model's size at a random place, after padding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomCrop {
    /// Pixels added at every side. 0 crops the picture as it is, which is kept an eighth larger for it.
    pub padding: usize,
    /// What is added.
    pub mode: Padding,
}

/// What is beyond the edge of a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// Black.
    #[default]
    Zero,
    /// The picture mirrored at its edge.
    Reflect,
}

/// A flip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Flip {
    /// Probability.
    pub p: f64,
}

/// A turn around the middle; black comes in at the corners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rotate {
    /// At most, either way.
    pub degrees: f64,
}

/// An affine map around the middle; black comes in at the edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Affine {
    /// Turned by at most, either way.
    pub degrees: f64,
    /// Moved by at most this share of width and height, either way.
    pub translate: f64,
    /// Least and greatest scale.
    pub scale: [f64; 2],
    /// Sheared along the width by at most so many degrees, either way.
    pub shear: f64,
}

/// Other colours. A factor is drawn from 1 − x to 1 + x.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// Range of the brightness factor.
    pub brightness: f64,
    /// Range of the contrast factor.
    pub contrast: f64,
    /// Range of the saturation factor.
    pub saturation: f64,
    /// Hue is moved by at most this share of the colour circle, either way; at most 0.5.
    pub hue: f64,
}

/// Operations drawn from a fixed set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// Operations a picture.
    pub operations: usize,
    /// Their strength, 0 to 30.
    pub magnitude: f64,
}

/// A rectangle becomes the mean colour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomErasing {
    /// Probability.
    pub p: f64,
    /// Least and greatest share of the area.
    pub scale: [f64; 2],
    /// Least and greatest height over width.
    pub ratio: [f64; 2],
}

/// Normal noise on every value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GaussianNoise {
    /// Standard deviation, where white is 1.
    pub deviation: f64,
}

/// A blur.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Blur {
    /// Probability.
    pub p: f64,
    /// Least and greatest standard deviation, in pixels.
    pub sigma: [f64; 2],
}

/// A picture without colours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grayscale {
    /// Probability.
    pub p: f64,
}

fn byte() -> f64 {
    255.0
}

impl Default for Image {
    fn default() -> Self {
        Self {
            column: "image".into(),
            pixels: None,
            size: None,
            channels: Channels::Rgb,
            fit: Fit::Auto,
            crop_pct: None,
            interpolation: Interpolation::Bilinear,
            normalize: None,
            augment: Vec::new(),
            mixup: 0.0,
            cutmix: 0.0,
            mosaic: 0.0,
        }
    }
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self { scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0] }
    }
}

impl Default for RandomCrop {
    fn default() -> Self {
        Self { padding: 4, mode: Padding::Zero }
    }
}

impl Default for Flip {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Default for Rotate {
    fn default() -> Self {
        Self { degrees: 15.0 }
    }
}

impl Default for Affine {
    fn default() -> Self {
        Self { degrees: 10.0, translate: 0.1, scale: [0.9, 1.1], shear: 0.0 }
    }
}

impl Default for ColorJitter {
    fn default() -> Self {
        Self { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }
    }
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { operations: 2, magnitude: 9.0 }
    }
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self { p: 0.5, scale: [0.02, 0.33], ratio: [0.3, 3.3] }
    }
}

impl Default for GaussianNoise {
    fn default() -> Self {
        Self { deviation: 0.1 }
    }
}

impl Default for Blur {
    fn default() -> Self {
        Self { p: 0.5, sigma: [0.1, 2.0] }
    }
}

impl Default for Grayscale {
    fn default() -> Self {
        Self { p: 0.1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_unknown_ones_refused() {
        let image: Image = serde_json::from_value(serde_json::json!({
            "size": [32, 48],
            "channels": "gray",
            "augment": [{ "name": "random-crop", "mode": "reflect" }, { "name": "horizontal-flip" }],
        }))
        .unwrap();
        assert_eq!(image.size.map(Size::sides), Some([32, 48]));
        assert_eq!(image.channels.count(), 1);
        assert_eq!(
            image.augment,
            [
                Augment::RandomCrop(RandomCrop { padding: 4, mode: Padding::Reflect }),
                Augment::HorizontalFlip(Flip { p: 0.5 })
            ]
        );
        for bad in [r#"{"sizes": 3}"#, r#"{"augment": [{"name": "rotate", "degree": 3}]}"#] {
            assert!(serde_json::from_str::<Image>(bad).is_err(), "{bad}");
        }
        let square: Image = serde_json::from_str(r#"{"size": 28}"#).unwrap();
        assert_eq!(square.size.map(Size::sides), Some([28, 28]));
    }

    #[test]
    fn defaults_stay_defaults() {
        assert_eq!(serde_json::from_str::<Image>("{}").unwrap(), Image::default());
    }
}

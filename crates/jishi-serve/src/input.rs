//! What is predicted: rows, texts or images, read from a request.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jishi_data::image::{OwnedPicture, Preparation, claimed_size};
use jishi_data::pipeline::Pipeline;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::body;
use crate::error::ApiError;
use crate::limits::Limits;

/// Inputs of a request at most, whatever [`Limits::rows`] says.
pub const MOST: usize = 1 << 16;

/// How many pictures of the largest size a request may have.
const PICTURES: u64 = 4;

/// What a model predicts.
#[derive(Debug, Clone)]
pub enum Form {
    /// Rows of a table.
    Rows(Box<Pipeline>),
    /// Texts, which may be blank or not.
    Texts {
        /// Whether a text may be blank.
        blank: bool,
    },
    /// Images.
    Images(Box<Preparation>),
    /// Nothing: the model makes images of a seed.
    Seeds,
}

/// Inputs of one request, or of several.
#[derive(Debug, Clone)]
pub enum Input {
    /// Rows as JSON lines, and how many.
    Rows(Vec<u8>, usize),
    /// Texts.
    Texts(Vec<String>),
    /// Images.
    Images(Vec<Seen>),
    /// How many images of which seed to make.
    Seed {
        /// Of the random numbers.
        seed: u64,
        /// How many.
        count: usize,
        /// Whether they come in one picture.
        grid: bool,
    },
}

/// An image, scaled as the model's preparation says.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The pixels.
    pub picture: OwnedPicture,
    /// `[height, width]` before it was scaled.
    pub size: [usize; 2],
}

impl Input {
    /// Number of rows, texts or images.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(_, rows) => *rows,
            Self::Texts(texts) => texts.len(),
            Self::Images(pictures) => pictures.len(),
            Self::Seed { count, .. } => *count,
        }
    }

    /// Whether there is nothing to predict.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds those of another request, of the same kind.
    pub fn extend(&mut self, other: &Self) {
        match (self, other) {
            (Self::Rows(lines, rows), Self::Rows(more, count)) => {
                lines.extend_from_slice(more);
                *rows += count;
            }
            (Self::Texts(texts), Self::Texts(more)) => texts.extend_from_slice(more),
            (Self::Images(pictures), Self::Images(more)) => pictures.extend_from_slice(more),
            _ => {}
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow)]
    inputs: Inputs<'a>,
}

/// As they are written. There are never more than [`MOST`] in memory.
struct Inputs<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Inputs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for List<'a> {
            type Value = Inputs<'a>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of inputs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some(value) = list.next_element()? {
                    if found.len() == MOST {
                        return Err(A::Error::custom(format!("more than {MOST} inputs")));
                    }
                    found.push(value);
                }
                Ok(Inputs(found))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

impl Form {
    /// Reads the inputs of a body of JSON: `{"inputs": [...]}`. Images are decoded here, which takes a while.
    ///
    /// # Errors
    /// Everything that is wrong with them, with the place.
    pub fn parse(&self, bytes: &[u8], limits: &Limits) -> Result<Input, ApiError> {
        // A list would count as the fields of an object, in their order.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(ApiError::bad("the body is not what is expected here: an object with `inputs`"));
        }
        let Request { inputs: Inputs(inputs) } = body::parse(bytes)?;
        if inputs.is_empty() {
            return Err(ApiError::field("inputs", "there is nothing to predict"));
        }
        if inputs.len() > limits.rows {
            let message = format!("expected at most {} inputs, found {}", limits.rows, inputs.len());
            return Err(ApiError::field("inputs", message));
        }
        match self {
            Self::Seeds => Err(ApiError::bad("this model makes images, and predicts nothing")),
            Self::Rows(pipeline) => rows(pipeline, &inputs),
            Self::Texts { blank } => {
                let read = |(i, raw): (usize, &&RawValue)| text(i, raw, *blank, limits);
                Ok(Input::Texts(inputs.iter().enumerate().map(read).collect::<Result<_, _>>()?))
            }
            Self::Images(preparation) => {
                let mut left = limits.pixels.saturating_mul(PICTURES);
                let read = |(i, raw): (usize, &&RawValue)| {
                    let place = format!("inputs[{i}]");
                    let encoded = string(raw, "image", &place)?;
                    let encoded = encoded.split_once(";base64,").map_or(&*encoded, |(_, data)| data);
                    let bytes = STANDARD.decode(encoded.trim()).map_err(|error| {
                        ApiError::field(&place, format!("expected an image file in base64: {error}"))
                    })?;
                    picture(preparation, &bytes, &place, limits, &mut left)
                };
                Ok(Input::Images(inputs.iter().enumerate().map(read).collect::<Result<_, _>>()?))
            }
        }
    }

    /// Reads a body that is the file of an image.
    ///
    /// # Errors
    /// A model that does not see images; what is no image, or too large.
    pub fn file(&self, bytes: &[u8], limits: &Limits) -> Result<Input, ApiError> {
        self.files(&[bytes], limits)
    }

    /// Reads files of images.
    ///
    /// # Errors
    /// As [`Self::file`]; none.
    pub fn files(&self, files: &[&[u8]], limits: &Limits) -> Result<Input, ApiError> {
        let Self::Images(preparation) = self else {
            return Err(ApiError::media_type("this model reads `application/json`, and no images"));
        };
        if files.is_empty() {
            return Err(ApiError::bad("there is nothing to predict"));
        }
        let mut left = limits.pixels.saturating_mul(PICTURES);
        let read = |(i, file): (usize, &&[u8])| {
            picture(preparation, file, &format!("file {}", i + 1), limits, &mut left)
        };
        Ok(Input::Images(files.iter().enumerate().map(read).collect::<Result<_, _>>()?))
    }
}

/// Rows as lines of JSON. Each has a value for every column of training, `null` where there is none: a column that is
/// missing is a mistake more often than a value that is not known.
fn rows(pipeline: &Pipeline, inputs: &[&RawValue]) -> Result<Input, ApiError> {
    let mut lines = Vec::new();
    for (i, raw) in inputs.iter().enumerate() {
        let place = format!("inputs[{i}]");
        let raw = raw.get();
        if !raw.starts_with('{') {
            return Err(ApiError::field(place, "expected an object with a value for each column"));
        }
        let keys: HashMap<Cow<'_, str>, IgnoredAny> = serde_json::from_str(raw)
            .map_err(|error| ApiError::field(&place, format!("expected an object: {error}")))?;
        let there = |feature: &jishi_data::pipeline::Feature| keys.contains_key(feature.column.as_str());
        let features = pipeline.features();
        if keys.len() != features.len() || !features.iter().all(there) {
            let names: Vec<String> = keys.into_keys().map(Cow::into_owned).collect();
            if let Err(problems) = pipeline.check_columns(&names, false) {
                let error = ApiError::of_problems(&problems);
                return Err(ApiError::field(place, error.message));
            }
        }
        // A line break between keys is no end of the row; within strings there is none.
        lines.extend(raw.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
        lines.push(b'\n');
    }
    Ok(Input::Rows(lines, inputs.len()))
}

/// A string, or that of an object with one key.
fn string<'a>(raw: &'a RawValue, key: &str, place: &str) -> Result<Cow<'a, str>, ApiError> {
    #[derive(Deserialize)]
    struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

    let expected = || ApiError::field(place, format!("expected a string, or an object with `{key}`"));
    if raw.get().starts_with('"') {
        return serde_json::from_str::<Word<'_>>(raw.get()).map(|w| w.0).map_err(|_| expected());
    }
    let object: HashMap<Cow<'_, str>, Word<'_>> = serde_json::from_str(raw.get()).map_err(|_| expected())?;
    match object.into_iter().collect::<Vec<_>>().as_mut_slice() {
        [(name, word)] if &**name == key => Ok(std::mem::take(&mut word.0)),
        _ => Err(expected()),
    }
}

fn text(i: usize, raw: &RawValue, blank: bool, limits: &Limits) -> Result<String, ApiError> {
    let place = format!("inputs[{i}]");
    let text = string(raw, "text", &place)?;
    if text.len() > limits.text {
        let message = format!("expected at most {} bytes, found {}", limits.text, text.len());
        return Err(ApiError::field(place, message));
    }
    if !blank && text.trim().is_empty() {
        return Err(ApiError::field(place, "there is no text"));
    }
    Ok(text.into_owned())
}

/// An image. `left`: pixels that the request may still have.
fn picture(
    preparation: &Preparation,
    bytes: &[u8],
    place: &str,
    limits: &Limits,
    left: &mut u64,
) -> Result<Seen, ApiError> {
    let wrong = |problem: jishi_recipe::Problem| ApiError::field(place, problem.message);
    let [height, width] = claimed_size(bytes).map_err(wrong)?;
    if height.saturating_mul(width) > limits.pixels {
        let message =
            format!("expected at most {} pixels, found {height} × {width} (height × width)", limits.pixels);
        return Err(ApiError::field(place, message));
    }
    // Small files may hold large pictures: all of them together have a bound, too.
    *left = left.checked_sub(height.saturating_mul(width)).ok_or_else(|| {
        let most = limits.pixels.saturating_mul(PICTURES);
        ApiError::field(place, format!("expected at most {most} pixels in all images"))
    })?;
    let (picture, size) = preparation.decode_sized(bytes).map_err(wrong)?;
    Ok(Seen { picture, size })
}

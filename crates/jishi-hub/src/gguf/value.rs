//! Metadata of GGUF files: typed values by name.

use jishi_recipe::Problem;

/// A value of any type that the format has.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum MetaValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(String),
    Array(Vec<MetaValue>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl MetaValue {
    /// Number of its type in the file.
    #[must_use]
    pub fn kind(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// A whole number that is zero or more.
    #[must_use]
    pub fn as_usize(&self) -> Option<usize> {
        match *self {
            Self::U8(x) => Some(x.into()),
            Self::U16(x) => Some(x.into()),
            Self::U32(x) => x.try_into().ok(),
            Self::U64(x) => x.try_into().ok(),
            Self::I8(x) => x.try_into().ok(),
            Self::I16(x) => x.try_into().ok(),
            Self::I32(x) => x.try_into().ok(),
            Self::I64(x) => x.try_into().ok(),
            _ => None,
        }
    }

    /// A number. Of an `f32`, the shortest decimal number that it stands for: 1e-5 and not 9.999999747378752e-6.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(x) => x.to_string().parse().ok(),
            Self::F64(x) => Some(x),
            Self::I8(x) => Some(x.into()),
            Self::I16(x) => Some(x.into()),
            Self::I32(x) => Some(x.into()),
            Self::I64(x) => Some(x as f64),
            _ => self.as_usize().map(|x| x as f64),
        }
    }

    /// A text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A list.
    #[must_use]
    pub fn as_array(&self) -> Option<&[MetaValue]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }

    /// Yes or no.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }
}

/// Values by name, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(pub Vec<(String, MetaValue)>);

impl Metadata {
    /// The value called `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Adds a value.
    pub fn set(&mut self, key: impl Into<String>, value: MetaValue) {
        self.0.push((key.into(), value));
    }

    /// What `convert` makes of the value called `key`, where it is there.
    ///
    /// # Errors
    /// A [`Problem`] where it is of another type.
    pub fn optional<'a, T>(
        &'a self,
        key: &str,
        convert: impl Fn(&'a MetaValue) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(value)
            .map(Some)
            .ok_or_else(|| Problem::new(format!("the value {key:?} is not of the type that it should be")))
    }

    /// As [`Self::optional`] for a value that must be there.
    ///
    /// # Errors
    /// A [`Problem`] where it is missing or of another type.
    pub fn required<'a, T>(
        &'a self,
        key: &str,
        convert: impl Fn(&'a MetaValue) -> Option<T>,
    ) -> Result<T, Problem> {
        self.optional(key, convert)?
            .ok_or_else(|| Problem::new(format!("expected the value {key:?}, found none")))
    }

    /// A list of texts.
    ///
    /// # Errors
    /// A [`Problem`] where it is missing or something else is in it.
    pub fn texts(&self, key: &str) -> Result<Vec<&str>, Problem> {
        self.required(key, |v| v.as_array()?.iter().map(MetaValue::as_str).collect())
    }
}

//! Types of numbers in files: plain ones, and blocks of quantised ones.

/// Type of a tensor's numbers. Names of quantised kinds are those of GGML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// What is known about a type: its name, values in a block, bytes of a block, number in GGUF files.
const TABLE: [(Dtype, &str, usize, usize, u32); 18] = [
    (Dtype::F64, "F64", 1, 8, 28),
    (Dtype::F32, "F32", 1, 4, 0),
    (Dtype::F16, "F16", 1, 2, 1),
    (Dtype::BF16, "BF16", 1, 2, 30),
    (Dtype::I64, "I64", 1, 8, 27),
    (Dtype::I32, "I32", 1, 4, 26),
    (Dtype::I16, "I16", 1, 2, 25),
    (Dtype::I8, "I8", 1, 1, 24),
    (Dtype::U8, "U8", 1, 1, u32::MAX),
    (Dtype::Bool, "BOOL", 1, 1, u32::MAX),
    (Dtype::Q4_0, "Q4_0", 32, 18, 2),
    (Dtype::Q4_1, "Q4_1", 32, 20, 3),
    (Dtype::Q5_0, "Q5_0", 32, 22, 6),
    (Dtype::Q5_1, "Q5_1", 32, 24, 7),
    (Dtype::Q8_0, "Q8_0", 32, 34, 8),
    (Dtype::Q4_K, "Q4_K", 256, 144, 12),
    (Dtype::Q5_K, "Q5_K", 256, 176, 13),
    (Dtype::Q6_K, "Q6_K", 256, 210, 14),
];

impl Dtype {
    fn row(self) -> (Dtype, &'static str, usize, usize, u32) {
        TABLE[self as usize]
    }

    /// Its name in safetensors headers, or GGML's.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Values in a block; 1 for plain types.
    #[must_use]
    pub fn block(self) -> usize {
        self.row().2
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.row().3
    }

    /// Its number in GGUF files, where it has one.
    #[must_use]
    pub fn gguf(self) -> Option<u32> {
        Some(self.row().4).filter(|&n| n != u32::MAX)
    }

    /// The type called `name` in a safetensors header.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The type with this number in GGUF files.
    #[must_use]
    pub fn from_gguf(number: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.4 == number && number != u32::MAX).map(|row| row.0)
    }

    /// Whether it is a kind of blocks rather than a plain type.
    #[must_use]
    pub fn is_quantised(self) -> bool {
        self.block() > 1
    }

    /// Bytes of a tensor of this shape, where its rows are whole blocks and the number is not too large.
    #[must_use]
    pub fn bytes(self, shape: &[usize]) -> Option<usize> {
        let values = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let row = shape.last().copied().unwrap_or(1);
        (row.is_multiple_of(self.block())).then_some(())?;
        (values / self.block()).checked_mul(self.block_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i);
            assert_eq!(Dtype::from_name(row.0.name()), Some(row.0));
            if let Some(number) = row.0.gguf() {
                assert_eq!(Dtype::from_gguf(number), Some(row.0));
            }
        }
        assert_eq!(Dtype::from_gguf(u32::MAX), None);
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(Dtype::F16.bytes(&[3, 5]), Some(30));
        assert_eq!(Dtype::F32.bytes(&[]), Some(4));
        assert_eq!(Dtype::Q8_0.bytes(&[2, 64]), Some(136));
        assert_eq!(Dtype::Q8_0.bytes(&[64, 2]), None);
        assert_eq!(Dtype::F32.bytes(&[usize::MAX, 2]), None);
        assert_eq!(Dtype::F64.bytes(&[usize::MAX / 4]), None);
    }
}

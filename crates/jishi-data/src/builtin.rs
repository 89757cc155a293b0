//! Data that is compiled in, so that the first recipe runs without a download.

/// A built-in table.
#[derive(Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Name, as in `builtin:NAME`.
    pub name: &'static str,
    /// Number of rows.
    pub rows: usize,
    /// What it is, in one line.
    pub description: &'static str,
    /// The column that is usually predicted.
    pub target: &'static str,
    /// Licence of the data.
    pub licence: &'static str,
    /// Who made it and where it was taken from.
    pub source: &'static str,
    /// A CSV file, plain or zstd-compressed.
    pub(crate) bytes: &'static [u8],
}

static BUILTINS: [Builtin; 3] = [
    Builtin {
        name: "ames",
        rows: 2930,
        description: "Homes sold in Ames, Iowa, 2006-2010, and their prices in US dollars",
        target: "Sale_Price",
        licence: "MIT",
        source: "De Cock (2011), Journal of Statistics Education 19(3); from the R package modeldata",
        bytes: include_bytes!("../data/ames.csv.zst"),
    },
    Builtin {
        name: "breast-cancer",
        rows: 569,
        description: "Measures of cell nuclei from breast masses, malignant or benign",
        target: "diagnosis",
        licence: "CC BY 4.0",
        source: "Wolberg et al. (1993), Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning Repository, doi:10.24432/C5DW2B",
        bytes: include_bytes!("../data/breast_cancer.csv"),
    },
    Builtin {
        name: "digits",
        rows: 1797,
        description: "Handwritten digits, 8 x 8 pixels of 0 to 16 in the columns p0 to p63, row by row",
        target: "digit",
        licence: "CC BY 4.0",
        source: "Alpaydin & Kaynak (1998), Optical Recognition of Handwritten Digits, its test part, UCI Machine Learning Repository, doi:10.24432/C50P49",
        bytes: include_bytes!("../data/digits.csv.zst"),
    },
];

/// Every built-in table, by name.
#[must_use]
pub fn builtins() -> &'static [Builtin] {
    &BUILTINS
}

/// The built-in table called `name`.
#[must_use]
pub fn get(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|b| b.name == name)
}

impl Builtin {
    /// The bytes of its file, for a fingerprint.
    #[must_use]
    pub fn bytes(&self) -> &'static [u8] {
        self.bytes
    }

    /// Its CSV file, decompressed.
    ///
    /// # Errors
    /// None for the data that this crate holds.
    pub fn csv(&self) -> std::io::Result<Vec<u8>> {
        const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
        if self.bytes.starts_with(&ZSTD) { zstd::decode_all(self.bytes) } else { Ok(self.bytes.to_vec()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_a_csv_file_with_its_target_and_rows() {
        for builtin in builtins() {
            let text = String::from_utf8(builtin.csv().unwrap()).unwrap();
            let (header, rows) = text.split_once('\n').unwrap();
            assert!(header.split(',').any(|name| name.trim_matches('"') == builtin.target), "{header}");
            assert_eq!(rows.lines().count(), builtin.rows, "{}", builtin.name);
        }
    }
}

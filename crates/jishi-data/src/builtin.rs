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

static BUILTINS: [Builtin; 2] = [
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
];

/// Every built-in table, by name.
#[must_use]
pub fn builtins() -> &'static [Builtin] {
    &BUILTINS
}

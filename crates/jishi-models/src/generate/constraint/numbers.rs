//! Whole numbers between bounds, as expressions over their digits.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, Repetition};

/// Digits of a number without bounds, at most: what follows is still read as a number.
const DIGITS: u32 = 18;

pub fn literal(text: &str) -> Hir {
    Hir::literal(text.as_bytes())
}

pub fn characters(ranges: &[(char, char)]) -> Hir {
    let ranges = ranges.iter().map(|(a, b)| ClassUnicodeRange::new(*a, *b));
    Hir::class(Class::Unicode(ClassUnicode::new(ranges)))
}

pub fn repeat(hir: Hir, min: u32, max: Option<u32>) -> Hir {
    Hir::repetition(Repetition { min, max, greedy: true, sub: Box::new(hir) })
}

pub fn optional(hir: Hir) -> Hir {
    repeat(hir, 0, Some(1))
}

fn digits(min: u32, max: u32) -> Hir {
    repeat(characters(&[('0', '9')]), min, Some(max))
}

fn positive() -> Hir {
    Hir::concat(vec![characters(&[('1', '9')]), digits(0, DIGITS - 1)])
}

/// Any whole number, but not `-0`, which readers take for one with a fraction.
pub fn integer() -> Hir {
    Hir::alternation(vec![literal("0"), Hir::concat(vec![optional(literal("-")), positive()])])
}

/// Any number.
pub fn number() -> Hir {
    let fraction = Hir::concat(vec![literal("."), digits(1, DIGITS)]);
    let sign = optional(characters(&[('+', '+'), ('-', '-')]));
    let exponent = Hir::concat(vec![characters(&[('e', 'e'), ('E', 'E')]), sign, digits(1, 2)]);
    let whole = Hir::alternation(vec![literal("0"), positive()]);
    Hir::concat(vec![optional(literal("-")), whole, optional(fraction), optional(exponent)])
}

/// Whole numbers from `low` to `high`. Without a bound they have as many digits as [`integer`].
pub fn integers(low: Option<i64>, high: Option<i64>) -> Hir {
    let most = 10i64.pow(DIGITS) - 1;
    let (low, high) = (low.unwrap_or(-most).max(-most), high.unwrap_or(most).min(most));
    let mut parts = Vec::new();
    if low < 0 && low <= high {
        let (from, to) = ((-high).max(1), -low);
        parts.push(Hir::concat(vec![literal("-"), between(from, to)]));
    }
    if high >= 0 && low <= high {
        parts.push(between(low.max(0), high));
    }
    Hir::alternation(parts)
}

/// Numbers from `low` to `high`, neither below 0.
fn between(low: i64, high: i64) -> Hir {
    let length = |n: i64| n.to_string().len() as u32;
    let parts = (length(low)..=length(high)).map(|digits| {
        let least = if digits == 1 { 0 } else { 10i64.pow(digits - 1) };
        let most = 10i64.pow(digits) - 1;
        same_length(low.max(least).to_string().as_bytes(), high.min(most).to_string().as_bytes())
    });
    Hir::alternation(parts.collect())
}

fn same_length(low: &[u8], high: &[u8]) -> Hir {
    let ([a, low_rest @ ..], [b, high_rest @ ..]) = (low, high) else { return Hir::empty() };
    if low.iter().all(|d| *d == b'0') && high.iter().all(|d| *d == b'9') {
        return digits(low.len() as u32, low.len() as u32);
    }
    let digit = |from: u8, to: u8| characters(&[(char::from(from), char::from(to))]);
    if a == b {
        return Hir::concat(vec![digit(*a, *b), same_length(low_rest, high_rest)]);
    }
    let rest = low_rest.len();
    let mut parts = vec![
        Hir::concat(vec![digit(*a, *a), same_length(low_rest, &vec![b'9'; rest])]),
        Hir::concat(vec![digit(*b, *b), same_length(&vec![b'0'; rest], high_rest)]),
    ];
    if a + 1 < *b {
        parts.push(Hir::concat(vec![digit(a + 1, b - 1), digits(rest as u32, rest as u32)]));
    }
    Hir::alternation(parts)
}

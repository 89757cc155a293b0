//! What a field's text means: a number, a truth value, a date, or a category; or that there is no value.

use jishi_recipe::ColumnType;

/// The field values that mean "missing": the empty field and those that the user names.
#[derive(Debug, Clone)]
pub(crate) struct MissingValues {
    tokens: Vec<Box<[u8]>>,
    /// Some token reads as a number, a truth value or a date, so that tokens must be looked for first.
    ambiguous: bool,
}

impl MissingValues {
    pub(crate) fn new(tokens: &[String]) -> Self {
        let tokens: Vec<&str> = tokens.iter().map(|t| t.trim_matches([' ', '\t'])).collect();
        // "NaN" and "inf" read as numbers, but never as finite ones: the number parser leaves them to us.
        let ambiguous = tokens.iter().any(|t| match classify(t) {
            ColumnType::Number => parse_number(t).is_some_and(f64::is_finite),
            ColumnType::Boolean | ColumnType::Date => true,
            ColumnType::Category => false,
        });
        Self { tokens: tokens.into_iter().map(|t| t.as_bytes().into()).collect(), ambiguous }
    }

    /// Whether a field with this text has no value.
    pub(crate) fn contains(&self, text: &[u8]) -> bool {
        let text = trim(text);
        text.is_empty() || self.tokens.iter().any(|t| **t == *text)
    }

    /// Whether a text that reads as a finite number, a truth value or a date may still be a token.
    pub(crate) fn ambiguous(&self) -> bool {
        self.ambiguous
    }
}

/// Without spaces and tabs around it.
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The one type that a text reads as. The types are disjoint: a column whose values read as different types is a
/// category, whatever their order.
pub(crate) fn classify(text: &str) -> ColumnType {
    if parse_number(text).is_some() {
        ColumnType::Number
    } else if parse_boolean(text.as_bytes(), false).is_some() {
        ColumnType::Boolean
    } else if parse_date(text.as_bytes(), false).is_some() {
        ColumnType::Date
    } else {
        ColumnType::Category
    }
}

/// Powers of ten that are exact in `f64`.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The number nearest to a decimal such as ` -12.5e3 `; infinite for `inf` and for what is too large, NaN for `nan`.
#[inline]
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    match parse_short(text.as_bytes()) {
        Some(value) => Some(value),
        None => parse_any(text),
    }
}

/// Any decimal that the standard library reads.
#[cold]
fn parse_any(text: &str) -> Option<f64> {
    text.trim_matches([' ', '\t']).parse().ok()
}

/// Short decimals without an exponent: where the digits fit 53 bits and the power of ten is exact, one division
/// rounds correctly (Clinger 1990, "How to read floating point numbers accurately").
#[inline]
fn parse_short(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // At most 19 bytes, so that the digits fit a u64.
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut mantissa = 0u64;
    let mut i = 0;
    while i < digits.len() {
        let d = digits[i].wrapping_sub(b'0');
        if d > 9 {
            break;
        }
        mantissa = mantissa * 10 + u64::from(d);
        i += 1;
    }
    let mut power = 0;
    if i < digits.len() {
        if digits[i] != b'.' || digits.len() == 1 {
            return None;
        }
        let fraction = &digits[i + 1..];
        power = fraction.len();
        for &b in fraction {
            let d = b.wrapping_sub(b'0');
            if d > 9 {
                return None;
            }
            mantissa = mantissa * 10 + u64::from(d);
        }
    }
    if mantissa > 1 << 53 {
        return None;
    }
    let value = mantissa as f64 / POWERS[power];
    Some(if negative { -value } else { value })
}

/// `true`, `yes`, `false`, `no` in any case; with `forced` (the user said that the column is a boolean) also `1`, `0`,
/// `t`, `f`, `y`, `n`.
pub(crate) fn parse_boolean(text: &[u8], forced: bool) -> Option<bool> {
    let text = trim(text);
    let is = |words: &[&str]| words.iter().any(|w| text.eq_ignore_ascii_case(w.as_bytes()));
    if is(&["true", "yes"]) || forced && is(&["1", "t", "y"]) {
        Some(true)
    } else if is(&["false", "no"]) || forced && is(&["0", "f", "n"]) {
        Some(false)
    } else {
        None
    }
}

/// Microseconds since 1970-01-01 00:00 UTC of a day or moment as in ISO 8601: `2024-02-29`, `2024/02/29`,
/// `2024-02-29T12:30`, `2024-02-29 12:30:15.25+08:00`; without an offset it is UTC. With `forced` (the user said that
/// the column is a date) also `20240229`, `2024-02` and `2024`.
pub(crate) fn parse_date(text: &[u8], forced: bool) -> Option<i64> {
    let text = trim(text);
    let year = digits(text.get(..4)?)?;
    let (month, day, rest) = match &text[4..] {
        [s @ (b'-' | b'/'), m1, m2, s2, d1, d2, rest @ ..] if s == s2 => {
            (digits(&[*m1, *m2])?, digits(&[*d1, *d2])?, rest)
        }
        [m1, m2, d1, d2, rest @ ..] if forced => (digits(&[*m1, *m2])?, digits(&[*d1, *d2])?, rest),
        [b'-' | b'/', m1, m2] if forced => (digits(&[*m1, *m2])?, 1, &[][..]),
        [] if forced => (1, 1, &[][..]),
        _ => return None,
    };
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let time = match rest {
        [] => 0,
        [b'T' | b't' | b' ', time @ ..] => parse_time(time)?,
        _ => return None,
    };
    Some(days_since_1970(year, month, day) * 86_400_000_000 + time)
}

/// Microseconds of `hh:mm[:ss[.fraction]][Z|±hh[[:]mm]]`, the offset subtracted.
fn parse_time(text: &[u8]) -> Option<i64> {
    let (hour, minute, mut rest) = match text {
        [h1, h2, b':', m1, m2, rest @ ..] => (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, rest),
        _ => return None,
    };
    let (mut second, mut micros) = (0, 0);
    if let [b':', s1, s2, after @ ..] = rest {
        second = digits(&[*s1, *s2])?;
        rest = after;
        if let [b'.' | b',', after @ ..] = rest {
            let n = after.iter().take_while(|b| b.is_ascii_digit()).count();
            if n == 0 {
                return None;
            }
            for digit in after[..n].iter().chain(b"000000").take(6) {
                micros = micros * 10 + i64::from(digit - b'0');
            }
            rest = &after[n..];
        }
    }
    let offset = match trim(rest) {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, after @ ..] => {
            let minutes = match after {
                [] => 0,
                [b':', m1, m2] | [m1, m2] => digits(&[*m1, *m2])?,
                _ => return None,
            };
            let offset = digits(&[*h1, *h2])? * 60 + minutes;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(((hour * 60 + minute - offset) * 60 + second) * 1_000_000 + micros)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar: years that begin in March put the leap day last, and 400 of them
/// are always 146,097 days.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_those_of_the_standard_library(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?") {
            let ours = parse_number(&text).map(f64::to_bits);
            prop_assert_eq!(ours, text.parse::<f64>().ok().map(f64::to_bits), "{}", text);
        }

        #[test]
        fn every_number_survives_printing(bits: u64) {
            let x = f64::from_bits(bits);
            if x.is_finite() {
                prop_assert_eq!(parse_number(&x.to_string()).unwrap().to_bits(), bits);
            }
        }

        #[test]
        fn anything_may_be_a_number_or_a_date(text in ".{0,24}") {
            let trimmed = text.trim_matches([' ', '\t']);
            prop_assert_eq!(parse_number(&text).map(f64::to_bits), trimmed.parse::<f64>().ok().map(f64::to_bits));
            parse_date(text.as_bytes(), true);
        }

        #[test]
        fn days_go_up_one_by_one(year in 1i64..9999, month in 1i64..=12, day in 1i64..=31) {
            prop_assume!(day <= days_in(year, month));
            let next = if day < days_in(year, month) { (year, month, day + 1) }
                else if month < 12 { (year, month + 1, 1) } else { (year + 1, 1, 1) };
            prop_assert_eq!(days_since_1970(next.0, next.1, next.2), days_since_1970(year, month, day) + 1);
        }
    }

    #[test]
    fn dates() {
        let date = |t: &str| parse_date(t.as_bytes(), false);
        assert_eq!(date("1970-01-01"), Some(0));
        // `date -u -d '2024-02-29 12:30:15' +%s`
        assert_eq!(date("2024-02-29T12:30:15.25Z"), Some(1_709_209_815_250_000));
        assert_eq!(date("2024-02-29 20:30:15.25+08:00"), Some(1_709_209_815_250_000));
        assert_eq!(date(" 2024/02/29 12:30:15,25 "), Some(1_709_209_815_250_000));
        assert_eq!(date("1969-12-31T23:59-01"), Some(59 * 60_000_000));
        for bad in [
            "2023-02-29",
            "2024-13-01",
            "2024-1-1",
            "2024-01-01T24:00",
            "20240229",
            "2024",
            "2024-01/02",
            "2024-01-01x",
        ] {
            assert_eq!(date(bad), None, "{bad}");
        }
        assert_eq!(parse_date(b"20240229", true), date("2024-02-29"));
        assert_eq!(parse_date(b"2024-02", true), date("2024-02-01"));
        assert_eq!(parse_date(b"2024", true), date("2024-01-01"));
    }

    #[test]
    fn classes_and_missing_values() {
        for (text, class) in [
            ("1", ColumnType::Number),
            (" 1.5e-3 ", ColumnType::Number),
            ("inf", ColumnType::Number),
            ("yes", ColumnType::Boolean),
            ("FALSE", ColumnType::Boolean),
            ("2020-01-01", ColumnType::Date),
            ("1,000", ColumnType::Category),
            (".", ColumnType::Category),
            ("-", ColumnType::Category),
            ("0x10", ColumnType::Category),
            ("t", ColumnType::Category),
        ] {
            assert_eq!(classify(text), class, "{text}");
        }
        let plain = MissingValues::new(&["NA".into(), "nan".into()]);
        assert!(
            plain.contains(b"") && plain.contains(b"  ") && plain.contains(b" NA") && !plain.contains(b"na")
        );
        assert!(!plain.ambiguous());
        assert!(MissingValues::new(&["-999".into()]).ambiguous());
        assert!(MissingValues::new(&["no".into()]).ambiguous());
    }
}

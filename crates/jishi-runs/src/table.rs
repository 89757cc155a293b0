//! Text tables for the terminal.

use unicode_width::UnicodeWidthStr;

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Lays out rows under a header, columns two spaces apart, with a rule below the header. Where no column has a
/// title, there is neither.
///
/// Widths are those of a terminal: a Chinese character takes two cells. Line ends and other control
/// characters in a cell become spaces, so that data can't forge a line. No line ends in a space.
///
/// # Arguments
/// - `columns`: title and alignment of each.
/// - `rows`: cells; a missing cell is empty, cells beyond the columns are left out.
#[must_use]
pub fn text_table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let cell =
        |text: &str| -> String { text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
    let titles: Vec<String> = columns.iter().map(|(title, _)| cell(title)).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| (0..columns.len()).map(|i| row.get(i).map(|s| cell(s)).unwrap_or_default()).collect())
        .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| std::iter::once(&titles).chain(&rows).map(|row| row[i].width()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    let mut line = |row: &[String]| {
        let start = text.len();
        for (i, ((_, align), content)) in columns.iter().zip(row).enumerate() {
            let gap = " ".repeat(widths[i] - content.width());
            if i > 0 {
                text.push_str("  ");
            }
            match align {
                Align::Left => text.extend([content.as_str(), &gap]),
                Align::Right => text.extend([gap.as_str(), content]),
            }
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    };
    if titles.iter().any(|title| !title.is_empty()) {
        line(&titles);
        line(&widths.iter().map(|w| "─".repeat(*w)).collect::<Vec<_>>());
    }
    for row in &rows {
        line(row);
    }
    text
}

/// A number for people: about `digits` significant digits, thousands with separators, an exponent where it is very
/// large or small.
#[must_use]
pub fn number(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".into()
        } else {
            format!("{}∞", if value < 0.0 { "−" } else { "" })
        };
    }
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e12).contains(&size) {
        return format!("{value:.*e}", digits.saturating_sub(1));
    }
    let decimals = (digits as i32 - 1 - size.log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    thousands(text)
}

/// Puts commas between the thousands of a decimal number: `1234.5` becomes `1,234.5`.
#[must_use]
pub fn thousands(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = rest.find('.').map_or((rest, ""), |at| rest.split_at(at));
    let mut text = String::from(sign);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_in_any_script() {
        let rows =
            vec![vec!["房价".to_string(), "1".into()], vec!["a\nb".to_string(), "12,345".into()], vec![]];
        let text = text_table(&[("run", Align::Left), ("rmse", Align::Right)], &rows);
        assert_eq!(text, "run     rmse\n────  ──────\n房价       1\na b   12,345\n\n");
        let facts = text_table(&[("", Align::Left), ("", Align::Left)], &rows);
        assert_eq!(facts, "房价  1\na b   12,345\n\n");
    }

    #[test]
    fn numbers_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (25_621.734, "25,622"),
            (0.912_345, "0.9123"),
            (1.5, "1.5"),
            (-1234.0, "-1,234"),
            (1e-7, "1.000e-7"),
            (3e15, "3.000e15"),
            (100.0, "100"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "−∞"),
        ] {
            assert_eq!(number(value, 4), text);
        }
        assert_eq!(number(1_234_567.0, 4), "1,234,567");
        assert_eq!(thousands("999"), "999");
        assert_eq!(thousands("1000"), "1,000");
    }
}

//! An inspection as text for a terminal.

use std::fmt;

use jishi_recipe::{ColumnType, TaskName};

use super::{ColumnReport, Inspection};

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<String> = self.files.iter().take(3).map(|p| p.display().to_string()).collect();
        let more = self.files.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        write!(
            f,
            "{}{more}: {}, {}",
            files.join(", "),
            plural(self.rows, "row"),
            plural(self.columns.len() as u64, "column")
        )?;
        if self.dropped > 0 {
            write!(f, "; {} could not be read", plural(self.dropped, "row"))?;
        }
        writeln!(f, "\n")?;

        let mut lines = vec![["column", "type", "missing", "distinct", "values"].map(String::from)];
        lines.extend(self.columns.iter().map(|c| {
            let missing =
                if c.missing == 0 { "-".into() } else { format!("{:.1} %", c.missing_share * 100.0) };
            let distinct = format!("{}{}", if c.at_least { "≥" } else { "" }, thousands(c.distinct));
            [shorten(&c.name, 32), type_name(c.kind).into(), missing, distinct, values(c, self.rows)]
        }));
        let width = |i: usize| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..4).map(width).collect();
        for [name, kind, missing, distinct, values] in &lines {
            let [a, b, c, d] = [widths[0], widths[1], widths[2], widths[3]];
            writeln!(f, "{name:<a$}  {kind:<b$}  {missing:>c$}  {distinct:>d$}  {values}")?;
        }

        if let Some(target) = &self.target {
            let task = match target.task {
                TaskName::Regression => "regression",
                _ => "classification",
            };
            write!(f, "\ntarget {}: {task}", target.name)?;
            if let Some(skewness) = target.skewness {
                write!(f, ", skewness {}", figure(skewness))?;
            }
            let total: u64 = target.classes.iter().map(|c| c.1).sum();
            let classes = target.classes.iter().take(10);
            let shares: Vec<String> = classes
                .map(|(c, n)| format!("{} {:.1} %", shorten(c, 24), *n as f64 * 100.0 / total as f64))
                .collect();
            if !shares.is_empty() {
                let more = if target.classes.len() > 10 { ", …" } else { "" };
                write!(f, ": {}{more}", shares.join(", "))?;
            }
            if target.missing > 0 {
                write!(f, "; missing in {}", plural(target.missing, "row"))?;
            }
            writeln!(f)?;
        }
        if !self.suspicious.is_empty() {
            writeln!(f, "\nworth a look:")?;
            for s in &self.suspicious {
                writeln!(f, "  {}: {}", s.column, s.message)?;
            }
        }
        if self.duplicates.rows > 0 {
            let verb = if self.duplicates.rows == 1 { "repeats" } else { "repeat" };
            writeln!(f, "\n{} {verb} an earlier one:", plural(self.duplicates.rows, "row"))?;
            for d in &self.duplicates.examples {
                writeln!(
                    f,
                    "  {}:{} is {}:{}",
                    d.file.display(),
                    d.line,
                    d.first_file.display(),
                    d.first_line
                )?;
            }
        }
        Ok(())
    }
}

fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Number => "number",
        ColumnType::Category => "category",
        ColumnType::Boolean => "boolean",
        ColumnType::Date => "date",
    }
}

/// The last field of a column's line.
fn values(column: &ColumnReport, rows: u64) -> String {
    if let Some(n) = &column.numbers {
        return format!(
            "{} … {} … {}, mean {} ± {}",
            figure(n.min),
            figure(n.median),
            figure(n.max),
            figure(n.mean),
            figure(n.std)
        );
    }
    if let Some((first, last)) = &column.dates {
        return format!("{first} … {last}");
    }
    let there = (rows - column.missing).max(1) as f64;
    let top: Vec<String> = column
        .top
        .iter()
        .take(3)
        .map(|(v, n)| format!("{} {:.0} %", shorten(v, 24), *n as f64 * 100.0 / there))
        .collect();
    let more = if column.distinct > 3 { ", …" } else { "" };
    top.join(", ") + more
}

/// A number with about five digits.
fn figure(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    let digits = x.abs().log10().floor();
    if !(-4.0..9.0).contains(&digits) {
        return format!("{x:.3e}");
    }
    let decimals = (4.0 - digits).clamp(0.0, 8.0) as usize;
    let text = format!("{x:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}

/// A number of things.
pub(crate) fn plural(n: u64, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{} {word}s", thousands(n)) }
}

pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// On one line, at most `most` characters.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

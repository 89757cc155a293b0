//! Fitting columns to the training rows. Statistics are kept in 64 bits; quantiles come from at most a
//! million values, so that memory stays bounded however long the table is.

use arrow_array::Array;
use jishi_recipe::{ColumnType, Data, MissingCategory, MissingNumber, Problem, Scaling};

use super::date::DatePart;
use super::feature::{Encoding, Feature, Slot};
use super::scale::{Scaler, signed_log};
use super::stats::{Moments, Sampler, median, quantile};
use crate::rows::{by_chunk, number_text};
use crate::table::Chunk;
use crate::{OVERFLOW, Table};

/// A fitted column, or none where it says nothing, and what is to be told about it.
pub(super) type Fitted = (Option<Feature>, Vec<String>);

/// Fits one column to the training rows (ascending).
pub(super) fn feature(
    table: &Table,
    column: usize,
    train: &[u32],
    data: &Data,
    bins: Option<usize>,
) -> Result<Fitted, Problem> {
    let info = &table.columns[column];
    let scaling = data.scale.columns.get(&info.name).copied().unwrap_or(data.scale.number);
    let fit = Fit { table, column, train, scaling, bins };
    match info.kind {
        ColumnType::Number => fit.number(data.missing.number, data.missing.indicator),
        ColumnType::Date => fit.date(data.missing.number, data.missing.indicator),
        ColumnType::Category | ColumnType::Boolean => Ok(fit.category(data)),
    }
}

pub(super) fn too_large(name: &str) -> Problem {
    Problem::new(format!("column `{name}` holds numbers too large to scale"))
        .help("divide them by a power of ten, scale by `quantile` or `log`, or leave the column out")
}

/// A column's training values.
struct Values {
    /// Of the values that are there.
    moments: Moments,
    /// Of their logarithms, where asked for.
    logs: Moments,
    missing: u64,
    /// Values and missing values among the rows that quantiles are computed from.
    sample: Vec<f64>,
    sample_missing: usize,
}

#[derive(Clone, Copy)]
struct Fit<'a> {
    table: &'a Table,
    column: usize,
    train: &'a [u32],
    scaling: Scaling,
    bins: Option<usize>,
}

impl Fit<'_> {
    fn name(&self) -> &str {
        &self.table.columns[self.column].name
    }

    fn needs_order(&self) -> bool {
        Scaler::needs_order(self.scaling) || self.bins.is_some()
    }

    /// Walks the training rows. `read` gives the values of a chunk's rows, NaN where one is missing.
    fn values(&self, sampled: bool, read: impl Fn(&Chunk, &[u32], &mut Vec<f64>)) -> Values {
        let mut all = Values {
            moments: Moments::EMPTY,
            logs: Moments::EMPTY,
            missing: 0,
            sample: Vec::new(),
            sample_missing: 0,
        };
        let sampler = Sampler::new(self.train.len());
        let mut values = Vec::new();
        let mut position = 0;
        for (chunk, rows) in by_chunk(self.table, self.train) {
            values.clear();
            read(&chunk, rows, &mut values);
            if sampled {
                for (i, &value) in values.iter().enumerate() {
                    if !sampler.takes(position + i) {
                        continue;
                    }
                    if value.is_nan() {
                        all.sample_missing += 1;
                    } else {
                        all.sample.push(value);
                    }
                }
            }
            position += values.len();
            let before = values.len();
            values.retain(|v| !v.is_nan());
            all.missing += (before - values.len()) as u64;
            all.moments = all.moments.merge(Moments::of_slice(&values));
            if self.scaling == Scaling::Log {
                values.iter_mut().for_each(|v| *v = signed_log(*v));
                all.logs = all.logs.merge(Moments::of_slice(&values));
            }
        }
        all
    }

    /// The scaling and the bins of values whose missing ones are replaced by `fill`; `None` where all are
    /// equal.
    fn slot(&self, values: Values, fill: f64) -> Result<Option<Slot>, Problem> {
        let moments = values.moments.merge(Moments::of(fill, values.missing));
        let logs = match self.scaling {
            Scaling::Log => values.logs.merge(Moments::of(signed_log(fill), values.missing)),
            _ => Moments::EMPTY,
        };
        if moments.is_constant() {
            return Ok(None);
        }
        let mut sorted = values.sample;
        if self.needs_order() {
            sorted.extend(std::iter::repeat_n(fill, values.sample_missing));
            sorted.sort_unstable_by(f64::total_cmp);
        }
        let scaler = Scaler::fit(self.scaling, &moments, &logs, &sorted);
        scaler.check().map_err(|_| too_large(self.name()))?;
        let bins = self.bins.map_or_else(Vec::new, |bins| edges(&scaler, &sorted, bins));
        Ok(Some(Slot { scaler, bins }))
    }

    fn number(&self, missing: MissingNumber, indicator: bool) -> Result<Fitted, Problem> {
        let takes_median = missing == MissingNumber::Median;
        let mut values = self.values(self.needs_order() || takes_median, |chunk, rows, out| {
            let numbers = chunk.numbers(self.column);
            out.extend(rows.iter().map(|&row| {
                let at = row as usize - chunk.first_row;
                if numbers.is_valid(at) { numbers.value(at) } else { f64::NAN }
            }));
        });
        let fill = match missing {
            MissingNumber::Median => median(&mut values.sample).unwrap_or(0.0),
            MissingNumber::Mean => values.moments.mean,
            MissingNumber::Zero | MissingNumber::Drop | MissingNumber::Error => 0.0,
        };
        if !fill.is_finite() {
            return Err(too_large(self.name()));
        }
        let indicator = indicator && values.missing > 0 && values.moments.count > 0.0;
        let constant = values.moments.min;
        let there = values.moments.count > 0.0;
        let value = self.slot(values, fill)?;
        let mut notes = Vec::new();
        if value.is_none() {
            let name = self.name();
            notes.push(if there {
                format!("column `{name}` is {} in every training row: left out", number_text(constant))
            } else {
                format!("column `{name}` is empty in every training row: left out")
            });
            if !indicator {
                return Ok((None, notes));
            }
        }
        Ok((Some(self.feature(Encoding::Number { missing, fill, value, indicator })), notes))
    }

    fn date(&self, missing: MissingNumber, indicator: bool) -> Result<Fitted, Problem> {
        let takes_median = missing == MissingNumber::Median;
        let mut moments = self.values(takes_median, |chunk, rows, out| {
            let dates = chunk.dates(self.column);
            out.extend(rows.iter().map(|&row| {
                let at = row as usize - chunk.first_row;
                if dates.is_valid(at) { dates.value(at) as f64 } else { f64::NAN }
            }));
        });
        let fill = match missing {
            MissingNumber::Median => median(&mut moments.sample).unwrap_or(0.0),
            MissingNumber::Mean => moments.moments.mean,
            MissingNumber::Zero | MissingNumber::Drop | MissingNumber::Error => 0.0,
        }
        .round() as i64;
        let indicator = indicator && moments.missing > 0 && moments.moments.count > 0.0;
        let (mut parts, mut constant) = (Vec::new(), Vec::new());
        for part in DatePart::ALL {
            let values = self.values(self.needs_order(), |chunk, rows, out| {
                let dates = chunk.dates(self.column);
                out.extend(rows.iter().map(|&row| {
                    let at = row as usize - chunk.first_row;
                    if dates.is_valid(at) { part.of(dates.value(at)) } else { f64::NAN }
                }));
            });
            match self.slot(values, part.of(fill))? {
                Some(slot) => parts.push((part, slot)),
                None => constant.push(part.name()),
            }
        }
        let name = self.name();
        let mut notes = Vec::new();
        if !constant.is_empty() {
            notes.push(format!(
                "{} of column `{name}`: the same in every training row, left out",
                constant.join(", ")
            ));
        }
        if parts.is_empty() && !indicator {
            return Ok((None, notes));
        }
        Ok((Some(self.feature(Encoding::Date { missing, fill, parts, indicator })), notes))
    }

    fn category(&self, data: &Data) -> Fitted {
        let info = &self.table.columns[self.column];
        let name = &info.name;
        // By code of the table: training rows, and the first of them.
        let mut counts = vec![(0usize, u32::MAX); info.categories.len()];
        let (mut missing, mut overflow) = (0usize, 0usize);
        for (chunk, rows) in by_chunk(self.table, self.train) {
            let codes = chunk.codes(self.column);
            for &row in rows {
                let at = row as usize - chunk.first_row;
                if codes.is_null(at) {
                    missing += 1;
                    continue;
                }
                match codes.value(at) {
                    OVERFLOW => overflow += 1,
                    code => {
                        let (count, first) = &mut counts[code as usize];
                        *count += 1;
                        *first = row.min(*first);
                    }
                }
            }
        }
        let mut seen: Vec<usize> = (0..counts.len()).filter(|&code| counts[code].0 > 0).collect();
        seen.sort_unstable_by_key(|&code| (std::cmp::Reverse(counts[code].0), counts[code].1));
        let distinct = seen.len();
        seen.retain(|&code| counts[code].0 >= data.min_category_count);
        seen.truncate(data.max_categories);
        let policy = data.missing.category;
        let own_missing = policy == MissingCategory::Own && missing > 0;
        let mut notes = Vec::new();
        if overflow > 0 {
            notes.push(format!(
                "column `{name}` has too many distinct values: {overflow} training rows count as unknown"
            ));
        }
        let merged = distinct - seen.len();
        if merged > 0 {
            notes.push(format!(
                "{merged} of {distinct} values of column `{name}` are rare or beyond `max_categories`: they count as unknown"
            ));
        }
        // Training rows by code: unknown, each value, missing. Only one in use says nothing.
        let unknown = overflow > 0 || merged > 0;
        if seen.len() + usize::from(own_missing) + usize::from(unknown) < 2 {
            let same = seen.first().map_or("the same".into(), |&code| format!("`{}`", info.categories[code]));
            notes.push(format!("column `{name}` is {same} in every training row: left out"));
            return (None, notes);
        }
        let values = seen.into_iter().map(|code| info.categories[code].clone()).collect();
        let boolean = info.kind == ColumnType::Boolean;
        let encoding = Encoding::Category { boolean, missing: policy, values, own_missing };
        (Some(self.feature(encoding)), notes)
    }

    fn feature(&self, encoding: Encoding) -> Feature {
        Feature { column: self.name().to_string(), encoding }
    }
}

/// Edges of `bins` bins that hold equally many of the scaled values each; equal edges are joined
/// (Gorishniy et al. 2022, §3.2). There are at least two.
fn edges(scaler: &Scaler, sorted: &[f64], bins: usize) -> Vec<f32> {
    let bins = bins.max(1);
    // Every scaling keeps the order, so that scaled quantiles are the quantiles of scaled values.
    let scaled: Vec<f64> = sorted.iter().map(|&x| scaler.scale(x)).collect();
    let mut edges: Vec<f32> = (0..=bins).map(|i| super::encode::narrow(quantile(&scaled, i, bins))).collect();
    edges.dedup();
    if let [only] = edges[..] {
        // Different in 64 bits, equal in 32. A bin must not be so narrow that it blows values up.
        edges.push(if only.abs() > 1e30 { 0.0 } else { only + only.abs().max(1.0) });
        edges.sort_by(f32::total_cmp);
    }
    edges
}

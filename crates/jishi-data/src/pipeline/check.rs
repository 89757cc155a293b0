//! Whether a stored pipeline is sound. A package may come from anywhere: whatever its JSON holds, loading
//! it gives a pipeline that works, or an error.

use std::collections::HashSet;

use jishi_recipe::{ColumnType, MissingNumber, TaskName};

use super::feature::{Encoding, Feature, Slot};
use super::target::{MAX_CLASSES, Target};
use super::{FORMAT, Spec};

pub(super) fn check(spec: &Spec) -> Result<(), String> {
    if spec.format != FORMAT {
        return Err(format!("the pipeline has format {}, this version reads format {FORMAT}", spec.format));
    }
    if spec.features.is_empty() {
        return Err("the pipeline has no feature".into());
    }
    let mut names = HashSet::new();
    names.insert(spec.target.column());
    for feature in &spec.features {
        if !names.insert(&feature.column) {
            return Err(format!("column `{}` is there twice", feature.column));
        }
        check_feature(feature, spec.bins).map_err(|why| format!("column `{}`: {why}", feature.column))?;
    }
    if spec.delimiter.as_ref().is_some_and(|d| d.len() != 1) {
        return Err("the delimiter is not one ASCII character".into());
    }
    let column = spec.target.column();
    check_target(&spec.target, spec.task).map_err(|why| format!("target `{column}`: {why}"))
}

fn check_feature(feature: &Feature, bins: Option<usize>) -> Result<(), String> {
    let slot = |slot: &Slot| check_slot(slot, bins);
    match &feature.encoding {
        Encoding::Number { fill, value, indicator, missing } => {
            if !fill.is_finite() {
                return Err("the value for missing ones is not finite".into());
            }
            value.as_ref().map_or(Ok(()), slot)?;
            check_some(value.is_some(), *indicator, *missing)
        }
        Encoding::Date { parts, indicator, missing, .. } => {
            parts.iter().try_for_each(|(_, s)| slot(s))?;
            if !parts.is_sorted_by(|a, b| a.0 < b.0) {
                return Err("the parts of the date are out of order".into());
            }
            check_some(!parts.is_empty(), *indicator, *missing)
        }
        Encoding::Category { boolean, values, own_missing, .. } => {
            if values.len() >= u32::MAX as usize - 1 {
                return Err("too many values".into());
            }
            if values.iter().collect::<HashSet<_>>().len() < values.len() {
                return Err("a value is there twice".into());
            }
            if *boolean && values.iter().any(|v| v != "true" && v != "false") {
                return Err("a boolean column has a value other than true and false".into());
            }
            if values.is_empty() && !own_missing {
                return Err("there is no value".into());
            }
            Ok(())
        }
    }
}

fn check_some(value: bool, indicator: bool, missing: MissingNumber) -> Result<(), String> {
    if indicator && matches!(missing, MissingNumber::Drop | MissingNumber::Error) {
        return Err("an indicator of missing values where none may be missing".into());
    }
    if value || indicator { Ok(()) } else { Err("it gives no number".into()) }
}

fn check_slot(slot: &Slot, bins: Option<usize>) -> Result<(), String> {
    slot.scaler.check()?;
    let edges = &slot.bins;
    let sound = match bins {
        None => edges.is_empty(),
        Some(bins) => {
            (2..=bins.max(1).saturating_add(1)).contains(&edges.len())
                && edges.iter().all(|e| e.is_finite())
                && edges.is_sorted_by(|a, b| a < b)
        }
    };
    if sound { Ok(()) } else { Err("its bin edges are not ascending, or not as many as asked for".into()) }
}

fn check_target(target: &Target, task: TaskName) -> Result<(), String> {
    match (target, task) {
        (Target::Number { scaler, .. }, TaskName::Regression) => Ok(scaler.check()?),
        (Target::Class { kind, classes, .. }, TaskName::Classification) => {
            if !(2..=MAX_CLASSES).contains(&classes.len()) {
                return Err(format!("{} classes, where 2 to {MAX_CLASSES} are possible", classes.len()));
            }
            if classes.iter().collect::<HashSet<_>>().len() < classes.len() {
                return Err("a class is there twice".into());
            }
            let all_numbers = || classes.iter().all(|c| c.parse::<f64>().is_ok_and(f64::is_finite));
            match kind {
                ColumnType::Number if !all_numbers() => {
                    Err("a class of a numeric column is no number".into())
                }
                ColumnType::Date => Err("classes cannot be dates".into()),
                _ => Ok(()),
            }
        }
        _ => Err("it does not suit the task".into()),
    }
}

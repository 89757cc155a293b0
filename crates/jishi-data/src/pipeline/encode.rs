//! Rows of a table as a model takes them. Chunks are encoded in parallel and joined in order.

use std::collections::{BTreeMap, HashMap};

use arrow_array::Array;
use jishi_recipe::{ColumnType, MissingCategory, MissingNumber, Problem, Problems};
use rayon::prelude::*;

use super::feature::{Encoding, Feature};
use super::target::Target;
use super::usable::OnMissing;
use crate::encoded::{Encoded, EncodedTarget, EncodedWriter, Storage};
use crate::ledger::{Action, Ledger};
use crate::rows::{key_text, number_text, within};
use crate::table::{CHUNK_ROWS, Chunk};
use crate::{DataError, OVERFLOW, Table};

/// Values that one task of the thread pool encodes: a few MiB.
const TASK_VALUES: usize = 1 << 20;
/// Rows that are filled column by column before the next ones: they stay in the cache.
const STRIP: usize = 512;

/// A number in 32 bits; too large ones become the largest.
pub(super) fn narrow(x: f64) -> f32 {
    (x as f32).clamp(f32::MIN, f32::MAX)
}

pub(super) struct Encoder<'a> {
    table: &'a Table,
    columns: Vec<Input<'a>>,
    target: Option<TargetInput<'a>>,
    numbers: usize,
    categories: usize,
    /// Whether changed values are listed.
    listed: bool,
}

/// A feature, where its column is in this table, and where its numbers or its code go.
struct Input<'a> {
    feature: &'a Feature,
    column: usize,
    offset: usize,
    /// This table's code → the model's.
    codes: Vec<u32>,
}

struct TargetInput<'a> {
    target: &'a Target,
    column: usize,
    /// This table's code, or a number's bits → class.
    classes: HashMap<u64, u32>,
}

/// What happened to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Filled,
    Unknown,
}

/// Consecutive rows, encoded.
#[derive(Default)]
struct Block {
    numbers: Vec<f32>,
    codes: Vec<u32>,
    raw: Vec<f64>,
    classes: Vec<u32>,
    /// Feature, change, row, line.
    changes: Vec<(u32, Change, u32, u64)>,
    /// Values that may not be missing: feature, row, line.
    forbidden: Vec<(u32, u32, u64)>,
    no_target: Vec<(u32, u64)>,
    /// Class key, row, line.
    unknown_classes: Vec<(u64, u32, u64)>,
}

impl<'a> Encoder<'a> {
    pub fn new(
        table: &'a Table,
        features: &'a [Feature],
        target: Option<&'a Target>,
        listed: bool,
    ) -> Result<Self, DataError> {
        let mut problems = Vec::new();
        let mut find = |name: &str, kind| {
            let Some(column) = table.column_index(name) else {
                problems.push(
                    Problem::new(format!("column `{name}` is missing")).help("the model was trained with it"),
                );
                return None;
            };
            let found = table.columns[column].kind;
            if found != kind {
                problems.push(
                    Problem::new(format!(
                        "column `{name}` was {} in training, but here it is {}",
                        type_name(kind),
                        type_name(found)
                    ))
                    .help("read the data with the types of training"),
                );
                return None;
            }
            Some(column)
        };
        let (mut numbers, mut categories) = (0, 0);
        let mut columns = Vec::with_capacity(features.len());
        for feature in features {
            let Some(column) = find(&feature.column, feature.kind()) else { continue };
            let offset = if feature.cardinality().is_some() { categories } else { numbers };
            numbers += feature.numbers();
            categories += usize::from(feature.cardinality().is_some());
            columns.push(Input {
                feature,
                column,
                offset,
                codes: translate(feature, &table.columns[column].categories),
            });
        }
        let target = target.and_then(|target| {
            let column = find(target.column(), target.kind())?;
            let known: HashMap<&str, u32> = target.classes().iter().map(String::as_str).zip(0..).collect();
            let classes = match target.kind() {
                jishi_recipe::ColumnType::Number => {
                    let number =
                        |(name, class): (&&str, &u32)| Some((name.parse::<f64>().ok()?.to_bits(), *class));
                    known.iter().filter_map(number).collect()
                }
                _ => {
                    let values = table.columns[column].categories.iter().zip(0u64..);
                    values.filter_map(|(value, code)| Some((code, *known.get(value.as_str())?))).collect()
                }
            };
            Some(TargetInput { target, column, classes })
        });
        Problems(problems).into_result()?;
        Ok(Self { table, columns, target, numbers, categories, listed })
    }

    /// Encodes rows, in the order given, which may be any.
    pub fn run(
        &self,
        rows: &[u32],
        storage: Storage,
        mut ledger: Option<(&mut Ledger, Option<&str>)>,
    ) -> Result<Encoded, DataError> {
        // Rows are read and stored in the order of the table; `places` finds them again.
        let order = (!rows.is_sorted()).then(|| {
            let mut order: Vec<u32> = (0..rows.len() as u32).collect();
            order.par_sort_unstable_by_key(|&i| (rows[i as usize], i));
            order
        });
        let ascending: Option<Vec<u32>> =
            order.as_ref().map(|o| o.iter().map(|&i| rows[i as usize]).collect());
        let ascending = ascending.as_deref().unwrap_or(rows);
        let cardinalities: Vec<u32> =
            self.columns.iter().filter_map(|c| c.feature.cardinality()).map(|slots| slots as u32).collect();
        let mut writer = EncodedWriter::new(storage, rows.len(), self.numbers, cardinalities)?;
        let mut all = Block::default();
        all.raw.reserve_exact(if self.is_regression() { rows.len() } else { 0 });
        let mut recorder = Recorder::new(self);
        let tasks = self.tasks(ascending);
        for wave in tasks.chunks(2 * rayon::current_num_threads()) {
            let blocks: Vec<Block> =
                wave.par_iter().map(|&(chunk, rows)| self.block(&self.table.chunk(chunk), rows)).collect();
            for ((_, rows), block) in wave.iter().zip(blocks) {
                writer.push(rows.len(), &block.numbers, &block.codes)?;
                if let Some((ledger, split)) = &mut ledger {
                    recorder.record(&block.changes, ledger, *split);
                }
                all.raw.extend(block.raw);
                all.classes.extend(block.classes);
                all.forbidden.extend(block.forbidden);
                all.no_target.extend(block.no_target);
                all.unknown_classes.extend(block.unknown_classes);
            }
        }
        self.problems(&all)?;
        let target = self.finished_target(all, order.as_deref());
        let places = order.map(|order| {
            let mut places = vec![0; order.len()];
            for (place, &i) in order.iter().enumerate() {
                places[i as usize] = place as u32;
            }
            places
        });
        writer.finish(rows.len(), places, target)
    }

    fn is_regression(&self) -> bool {
        matches!(&self.target, Some(TargetInput { target: Target::Number { .. }, .. }))
    }

    /// Parts of chunks, each small enough for one task.
    fn tasks<'r>(&self, ascending: &'r [u32]) -> Vec<(usize, &'r [u32])> {
        let most = (TASK_VALUES / (self.numbers + self.categories).max(1)).max(STRIP);
        let mut tasks = Vec::new();
        for chunk in 0..self.table.chunks() {
            let rows = within(ascending, chunk * CHUNK_ROWS, CHUNK_ROWS);
            tasks.extend(rows.chunks(most).map(|part| (chunk, part)));
        }
        tasks
    }

    fn block(&self, chunk: &Chunk, rows: &[u32]) -> Block {
        let (n, c) = (self.numbers, self.categories);
        let mut block =
            Block { numbers: vec![0.0; rows.len() * n], codes: vec![0; rows.len() * c], ..Block::default() };
        for (strip, rows) in rows.chunks(STRIP).enumerate() {
            let first = strip * STRIP;
            for (index, input) in self.columns.iter().enumerate() {
                let mut events =
                    Events { chunk, feature: index as u32, listed: self.listed, block: &mut block };
                events.fill(input, rows, first, n, c);
            }
        }
        if let Some(target) = &self.target {
            target.read(chunk, rows, &mut block);
        }
        block
    }

    /// Everything that is wrong with the rows.
    fn problems(&self, all: &Block) -> Result<(), Problems> {
        let at = |row: u32, line: u64, problem: Problem| {
            problem.file(&self.table.files[self.table.file_of(row as usize)]).line(line)
        };
        let mut problems = Vec::new();
        let mut forbidden: BTreeMap<u32, (usize, u32, u64)> = BTreeMap::new();
        for &(feature, row, line) in &all.forbidden {
            forbidden.entry(feature).or_insert((0, row, line)).0 += 1;
        }
        for (feature, (count, row, line)) in forbidden {
            let name = &self.columns[feature as usize].feature.column;
            let problem =
                Problem::new(format!("column `{name}` is missing in {count} of these rows, first here"))
                    .help(
                        "the model was trained without missing values there: fill them in or remove the rows",
                    );
            problems.push(at(row, line, problem));
        }
        let Some(target) = &self.target else { return Problems(problems).into_result() };
        let name = target.target.column();
        if let Some(&(row, line)) = all.no_target.first() {
            let count = all.no_target.len();
            let problem =
                Problem::new(format!("target `{name}` is missing in {count} of these rows, first here"));
            problems.push(at(row, line, problem.help("fill it in, or remove these rows")));
        }
        let mut unknown: BTreeMap<u64, (usize, u32, u64)> = BTreeMap::new();
        for &(key, row, line) in &all.unknown_classes {
            unknown.entry(key).or_insert((0, row, line)).0 += 1;
        }
        let mut unknown: Vec<_> = unknown.into_iter().collect();
        unknown.sort_by_key(|(_, (_, row, _))| *row);
        let help = "split by `stratified`, so that every class is in training, or leave these rows out";
        if unknown.len() > 3 {
            problems.push(self.many_unknown(target.column, &unknown, help));
            return Problems(problems).into_result();
        }
        for (key, (count, row, line)) in unknown {
            let class = key_text(self.table, target.column, key);
            let problem = Problem::new(format!(
                "class `{class}` of target `{name}` is in {count} of these rows, first here, but in no training row"
            ))
            .help(help);
            problems.push(at(row, line, problem));
        }
        Problems(problems).into_result()
    }

    /// One problem for many classes that training has not seen, by key: rows that hold it, the first of them, its line.
    fn many_unknown(&self, column: usize, unknown: &[(u64, (usize, u32, u64))], help: &str) -> Problem {
        let info = &self.table.columns[column];
        let named = |&(key, (_, _, line)): &(u64, (usize, u32, u64))| {
            format!("`{}` (line {line})", key_text(self.table, column, key))
        };
        let names: Vec<String> = unknown.iter().map(named).collect();
        let problem = Problem::new(format!(
            "{} classes of target `{}` are in no training row: {}",
            unknown.len(),
            info.name,
            crate::rows::listed(&names, 5)
        ));
        let problem = match unknown.first() {
            Some((_, (_, row, _))) => problem.file(&self.table.files[self.table.file_of(*row as usize)]),
            None => problem,
        };
        match info.kind {
            ColumnType::Number => {
                problem.help(format!("to predict a number, set `task = \"regression\"`; for classes, {help}"))
            }
            _ => problem.help(help),
        }
    }

    /// Targets in the order that was asked for. `order[i]` is where the i-th row of the table goes.
    fn finished_target(&self, all: Block, order: Option<&[u32]>) -> EncodedTarget {
        let Some(TargetInput { target, .. }) = &self.target else { return EncodedTarget::None };
        match target {
            Target::Number { scaler, .. } => {
                let raw = reorder(all.raw, order);
                let scaled = raw.par_iter().map(|&y| narrow(scaler.scale(y))).collect();
                EncodedTarget::Numbers { scaled, raw }
            }
            Target::Class { .. } => EncodedTarget::Classes(reorder(all.classes, order)),
        }
    }
}

fn reorder<T: Copy + Default>(values: Vec<T>, order: Option<&[u32]>) -> Vec<T> {
    let Some(order) = order else { return values };
    let mut out = vec![T::default(); values.len()];
    for (&to, value) in order.iter().zip(values) {
        out[to as usize] = value;
    }
    out
}

/// The model's code for every code of this table.
fn translate(feature: &Feature, categories: &[String]) -> Vec<u32> {
    let Encoding::Category { values, .. } = &feature.encoding else { return Vec::new() };
    let known: HashMap<&str, u32> = values.iter().map(String::as_str).zip(1..).collect();
    categories.iter().map(|value| known.get(value.as_str()).copied().unwrap_or(0)).collect()
}

/// Fills one strip of one feature and notes what happened.
struct Events<'b> {
    chunk: &'b Chunk,
    feature: u32,
    listed: bool,
    block: &'b mut Block,
}

impl Events<'_> {
    fn fill(&mut self, input: &Input, rows: &[u32], first: usize, n: usize, c: usize) {
        let first_row = self.chunk.first_row;
        let at = |row: u32| row as usize - first_row;
        let cells = |i: usize| (first + i) * n + input.offset;
        match &input.feature.encoding {
            Encoding::Number { missing, fill, value, indicator } => {
                let numbers = self.chunk.numbers(input.column);
                for (i, &row) in rows.iter().enumerate() {
                    let valid = numbers.is_valid(at(row));
                    let x = if valid { numbers.value(at(row)) } else { *fill };
                    let mut cell = cells(i);
                    if let Some(slot) = value {
                        self.block.numbers[cell] = narrow(slot.scaler.scale(x));
                        cell += 1;
                    }
                    if *indicator {
                        self.block.numbers[cell] = f32::from(!valid);
                    }
                    if !valid {
                        self.missing_number(*missing, row);
                    }
                }
            }
            Encoding::Date { missing, fill, parts, indicator } => {
                let dates = self.chunk.dates(input.column);
                for (i, &row) in rows.iter().enumerate() {
                    let valid = dates.is_valid(at(row));
                    let moment = if valid { dates.value(at(row)) } else { *fill };
                    let mut cell = cells(i);
                    for (part, slot) in parts {
                        self.block.numbers[cell] = narrow(slot.scaler.scale(part.of(moment)));
                        cell += 1;
                    }
                    if *indicator {
                        self.block.numbers[cell] = f32::from(!valid);
                    }
                    if !valid {
                        self.missing_number(*missing, row);
                    }
                }
            }
            Encoding::Category { missing, values, own_missing, .. } => {
                let codes = self.chunk.codes(input.column);
                for (i, &row) in rows.iter().enumerate() {
                    let cell = (first + i) * c + input.offset;
                    if codes.is_null(at(row)) {
                        self.block.codes[cell] = self.missing_category(*missing, values, *own_missing, row);
                        continue;
                    }
                    let code = codes.value(at(row));
                    let slot = if code == OVERFLOW { 0 } else { input.codes[code as usize] };
                    self.block.codes[cell] = slot;
                    if slot == 0 {
                        self.change(Change::Unknown, row);
                    }
                }
            }
        }
    }

    fn missing_number(&mut self, policy: MissingNumber, row: u32) {
        if OnMissing::of_number(policy) == OnMissing::Keep {
            self.change(Change::Filled, row);
        } else {
            self.forbid(row);
        }
    }

    fn missing_category(&mut self, policy: MissingCategory, values: &[String], own: bool, row: u32) -> u32 {
        match policy {
            MissingCategory::Own if own => values.len() as u32 + 1,
            MissingCategory::MostFrequent if !values.is_empty() => {
                self.change(Change::Filled, row);
                1
            }
            MissingCategory::Own | MissingCategory::MostFrequent => {
                self.change(Change::Filled, row);
                0
            }
            MissingCategory::Drop | MissingCategory::Error => {
                self.forbid(row);
                0
            }
        }
    }

    fn change(&mut self, change: Change, row: u32) {
        if self.listed {
            let line = self.line(row);
            self.block.changes.push((self.feature, change, row, line));
        }
    }

    fn forbid(&mut self, row: u32) {
        let line = self.line(row);
        self.block.forbidden.push((self.feature, row, line));
    }

    fn line(&self, row: u32) -> u64 {
        self.chunk.lines().value(row as usize - self.chunk.first_row)
    }
}

impl TargetInput<'_> {
    fn read(&self, chunk: &Chunk, rows: &[u32], block: &mut Block) {
        let info_kind = self.target.kind();
        for &row in rows {
            let at = row as usize - chunk.first_row;
            let key = crate::rows::key(chunk, self.column, info_kind, at);
            match self.target {
                Target::Number { .. } => {
                    if key.is_none() {
                        block.no_target.push((row, chunk.lines().value(at)));
                    }
                    block.raw.push(key.map_or(0.0, f64::from_bits));
                }
                Target::Class { .. } => {
                    let class = key.and_then(|key| self.classes.get(&key).copied());
                    match (key, class) {
                        (None, _) => block.no_target.push((row, chunk.lines().value(at))),
                        (Some(key), None) => block.unknown_classes.push((key, row, chunk.lines().value(at))),
                        _ => {}
                    }
                    block.classes.push(class.unwrap_or(0));
                }
            }
        }
    }
}

/// Writes changed values into the ledger, finding each entry once a file.
struct Recorder<'a> {
    encoder: &'a Encoder<'a>,
    /// Feature and change → file and entry.
    open: BTreeMap<(u32, Change), (usize, usize)>,
}

impl<'a> Recorder<'a> {
    fn new(encoder: &'a Encoder<'a>) -> Self {
        Self { encoder, open: BTreeMap::new() }
    }

    fn record(&mut self, changes: &[(u32, Change, u32, u64)], ledger: &mut Ledger, split: Option<&str>) {
        let table = self.encoder.table;
        for &(feature, change, row, line) in changes {
            let file = table.file_of(row as usize);
            let entry = match self.open.get(&(feature, change)) {
                Some(&(f, entry)) if f == file => entry,
                _ => {
                    let feature_of = self.encoder.columns[feature as usize].feature;
                    let reason = reason(feature_of, change);
                    ledger.entry(
                        Action::Changed,
                        &reason,
                        Some(&feature_of.column),
                        split,
                        &table.files[file],
                    )
                }
            };
            self.open.insert((feature, change), (file, entry));
            ledger.push(entry, line);
        }
    }
}

fn reason(feature: &Feature, change: Change) -> String {
    let by = |policy: MissingNumber| match policy {
        MissingNumber::Median => "the median, ",
        MissingNumber::Mean => "the mean, ",
        _ => "",
    };
    match (&feature.encoding, change) {
        (Encoding::Number { missing, fill, .. }, _) => {
            format!("missing value filled with {}{}", by(*missing), number_text(*fill))
        }
        (Encoding::Date { missing, fill, .. }, _) => {
            let moment =
                jiff::Timestamp::from_microsecond(*fill).map_or_else(|_| fill.to_string(), |t| t.to_string());
            format!("missing date filled with {}{moment}", by(*missing))
        }
        (Encoding::Category { .. }, Change::Unknown) => {
            "category counts as unknown: rare or never seen in training".into()
        }
        (Encoding::Category { missing: MissingCategory::MostFrequent, values, .. }, Change::Filled) => {
            match values.first() {
                Some(value) => format!("missing category filled with the most frequent, `{value}`"),
                None => "missing category counts as unknown".into(),
            }
        }
        (Encoding::Category { .. }, Change::Filled) => {
            "missing category counts as unknown: never missing in training".into()
        }
    }
}

fn type_name(kind: jishi_recipe::ColumnType) -> &'static str {
    match kind {
        ColumnType::Number => "a number",
        ColumnType::Category => "a category",
        ColumnType::Boolean => "true or false",
        ColumnType::Date => "a date",
    }
}

//! Which columns of a table are learned from.

use jishi_recipe::{ColumnType, Data, Problem, Problems, SplitBy};

use crate::Table;
use crate::source::nearest;

/// Index of a column that the recipe names under `key`.
pub(crate) fn find_column(table: &Table, name: &str, key: &str) -> Result<usize, Problem> {
    table.column_index(name).ok_or_else(|| unknown(table, name, key))
}

fn unknown(table: &Table, name: &str, key: &str) -> Problem {
    Problem::new(format!("`{key}` names column `{name}`, which the data does not have"))
        .help(table.column_help(name))
}

impl Table {
    /// What to do about a column name that the table does not have: the nearest name, or the first few.
    #[must_use]
    pub fn column_help(&self, name: &str) -> String {
        if let Some(near) = nearest(name, self.columns.iter().map(|c| c.name.clone())) {
            return format!("did you mean `{near}`?");
        }
        let names: Vec<String> = self.columns.iter().map(|c| format!("`{}`", c.name)).collect();
        // Names that are numbers are the first row of a file without a header.
        let no_header = self.columns.iter().all(|c| c.name.parse::<f64>().is_ok());
        let more = if no_header { "; is the header line missing?" } else { "" };
        format!("its columns: {}{more}", crate::rows::listed(&names, 20))
    }
}

/// What the recipe makes of a table's columns.
pub(super) struct Roles {
    pub target: usize,
    /// Columns to learn from, in the order of the table.
    pub features: Vec<usize>,
}

impl Roles {
    pub fn new(table: &Table, data: &Data) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let target = find_column(table, data.target(), "data.target").map_err(|p| problems.push(p)).ok();
        let missing_columns = |names: &[String], key: &str| -> Vec<Problem> {
            names.iter().filter_map(|name| find_column(table, name, key).err()).collect()
        };
        problems.extend(missing_columns(&data.ignore, "data.ignore"));
        let typed: Vec<String> = data.types.keys().cloned().collect();
        problems.extend(missing_columns(&typed, "data.types"));
        for name in data.scale.columns.keys() {
            match find_column(table, name, "data.scale.columns") {
                Err(problem) => problems.push(problem),
                Ok(c) if !matches!(table.columns[c].kind, ColumnType::Number | ColumnType::Date) => problems
                    .push(
                        Problem::new(format!(
                            "`data.scale.columns` scales column `{name}`, which does not hold numbers"
                        ))
                        .help(format!("leave it out, or set `data.types.{name} = \"number\"`")),
                    ),
                Ok(_) => {}
            }
        }
        let split_column = match data.split.by {
            SplitBy::Group | SplitBy::Time | SplitBy::Column => data.split.column.as_deref(),
            SplitBy::Random | SplitBy::Stratified => None,
        };
        if let Some(name) = split_column {
            problems.extend(find_column(table, name, "data.split.column").err());
        }
        let learned = |name: &str| match &data.features {
            Some(features) => features.iter().any(|f| f == name),
            None => name != data.target() && Some(name) != split_column,
        };
        if let Some(features) = &data.features {
            problems.extend(missing_columns(features, "data.features"));
            if features.iter().any(|f| f == data.target()) {
                problems.push(
                    Problem::new(format!("`data.features` holds the target, `{}`", data.target()))
                        .help("leave it out: a model that sees the answer learns nothing"),
                );
            }
            for name in features.iter().filter(|f| data.ignore.contains(f)) {
                problems.push(
                    Problem::new(format!("column `{name}` is in `data.features` and in `data.ignore`"))
                        .help("leave it out of one of them"),
                );
            }
        }
        let features: Vec<usize> = (0..table.columns.len())
            .filter(|&c| {
                let name = &table.columns[c].name;
                learned(name) && !data.ignore.contains(name)
            })
            .collect();
        if features.is_empty() && problems.is_empty() {
            problems.push(no_feature());
        }
        match target {
            Some(target) if problems.is_empty() => Ok(Self { target, features }),
            _ => Err(Problems(problems)),
        }
    }
}

pub(super) fn no_feature() -> Problem {
    Problem::new("no column is left to learn from")
        .help("a table needs a column besides the target that is not ignored and not the same in every row")
}

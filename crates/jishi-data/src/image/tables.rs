//! Pictures of tables: rows with a path or with a picture's bytes, and rows whose columns are pixels.

use std::path::{Path, PathBuf};

use jishi_recipe::{ColumnType, DocumentUnit, Image, Pixels, Problem, SplitBy};

use super::decode::Bad;
use super::found::{Content, Found};
use super::pictures::OwnedPicture;
use crate::error::DataError;
use crate::ledger::Ledger;
use crate::read::bytes::format_of;
use crate::rows::{key, key_text};
use crate::source::{ReadOptions, Source, nearest};
use crate::table::Table;
use crate::text::documents::{BadRow, Columns, Documents, Role, Target};

/// Columns of a table that are read besides the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Others<'a> {
    pub target: Option<&'a str>,
    pub split: Option<&'a str>,
}

impl<'a> Others<'a> {
    pub(super) fn of(data: &'a jishi_recipe::Data) -> Self {
        let by_column = matches!(data.split.by, SplitBy::Group | SplitBy::Time | SplitBy::Column);
        Self { target: data.target.as_deref(), split: data.split.column.as_deref().filter(|_| by_column) }
    }
}

/// Whether a file's name says that it is a table.
pub(super) fn is_table(source: &Source, options: &ReadOptions) -> bool {
    format_of(source, options).is_ok()
}

/// Gives the rows of a table of pictures to `take`, in batches. Paths start at the table's folder. Returns the rows that
/// can't be read.
///
/// # Errors
/// Columns that are missing, a damaged file, those of `take`.
pub(super) fn read(
    source: &Source,
    options: &ReadOptions,
    image: &Image,
    others: Others,
    group: usize,
    mut take: impl FnMut(Vec<Found>) -> Result<(), DataError>,
) -> Result<Vec<BadRow>, DataError> {
    let mut columns = vec![(Role::Picture, image.column.clone())];
    columns.extend(others.target.map(|name| (Role::Target, name.to_owned())));
    columns.extend(others.split.map(|name| (Role::Split, name.to_owned())));
    let file = source.path();
    let base = file.parent().map(Path::to_path_buf).unwrap_or_default();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sources = [source.clone()];
    let mut documents = Documents::open(&sources, options, &Columns(columns), DocumentUnit::Line)?;
    while let Some(batch) = documents.next_batch()? {
        let found = batch.into_iter().map(|row| {
            let path = row.text.trim();
            let content = match row.bytes {
                Some(bytes) => Content::Bytes(bytes),
                None if path.is_empty() => {
                    let message = format!("column `{}` is empty", image.column);
                    Content::Bad(Bad::new("no picture", message))
                }
                None => Content::File(base.join(path)),
            };
            let path = match path {
                "" => format!("{name}:{}", row.line),
                path => path.to_owned(),
            };
            let (target, key, line) = (row.target, row.split, row.line);
            Found { content, target, key, path, group, line, ..Found::default() }
        });
        take(found.collect())?;
    }
    Ok(documents.bad)
}

/// The rows of tables whose columns are pixels, the tables' files, and what became of rows so far. `first` is the number
/// of the first file in the ledger.
///
/// # Errors
/// Those of the table; no column that fits the pattern; columns that make no picture.
pub(super) fn read_pixels(
    sources: &[Source],
    options: &ReadOptions,
    image: &Image,
    pixels: &Pixels,
    others: Others,
    first: usize,
) -> Result<(Vec<Found>, Vec<PathBuf>, Ledger), DataError> {
    let header = crate::read::header(sources, options)?;
    let pattern = glob::Pattern::new(&pixels.columns).map_err(|e| {
        Problem::new(format!(
            "`image.pixels.columns`: {:?} is not a valid pattern: {}",
            pixels.columns, e.msg
        ))
        .help("`*` stands for any part of a name: \"p*\"")
    })?;
    if !(pixels.max.is_finite() && pixels.max > 0.0) {
        let message = format!("`image.pixels.max`: expected a number above 0, found {}", pixels.max);
        return Err(Problem::new(message).into());
    }
    let others: Vec<(Role, &str)> = [(Role::Target, others.target), (Role::Split, others.split)]
        .into_iter()
        .filter_map(|(role, name)| Some((role, name?)))
        .collect();
    let other = |name: &str| others.iter().any(|(_, other)| *other == name);
    for (role, name) in &others {
        if !header.iter().any(|column| column == name) {
            let key = if *role == Role::Target { "data.target" } else { "data.split.column" };
            let problem = Problem::new(format!("there is no column `{name}`"));
            return Err(match nearest(name, header.iter().cloned()) {
                Some(near) => problem.help(format!("did you mean `{near}`? set `{key}`")),
                None => problem.help(format!("set `{key}`")),
            }
            .into());
        }
    }
    let names: Vec<String> = header.iter().filter(|n| pattern.matches(n) && !other(n)).cloned().collect();
    let [height, width, channels] = shape(names.len(), image, pixels)?;
    let mut options = options.clone();
    options.types = names.iter().map(|name| (name.clone(), ColumnType::Number)).collect();
    options.types.extend(others.iter().map(|(_, name)| ((*name).to_owned(), ColumnType::Category)));
    options.only = Some(names.iter().cloned().chain(others.iter().map(|(_, n)| (*n).to_owned())).collect());
    let table = crate::read(sources, &options)?;
    let places: Vec<usize> = names.iter().filter_map(|name| table.column_index(name)).collect();
    let mut found = Vec::with_capacity(table.rows);
    for i in 0..table.chunks() {
        let chunk = table.chunk(i);
        let columns: Vec<&[f64]> = places.iter().map(|&c| chunk.numbers(c).values().as_ref()).collect();
        let rows = table.rows.min(chunk.first_row + crate::CHUNK_ROWS) - chunk.first_row;
        for at in 0..rows {
            let (file, line) = table.origin(chunk.first_row + at);
            let mut pixels_of = Vec::with_capacity(columns.len());
            let mut bad = None;
            for (values, (column, name)) in columns.iter().zip(places.iter().zip(&names)) {
                let value = values[at];
                let missing = arrow_array::Array::is_null(chunk.numbers(*column), at);
                if missing || !(0.0..=pixels.max).contains(&value) {
                    let value = if missing { "nothing".into() } else { value.to_string() };
                    let message = format!("expected 0 to {} in column `{name}`, found {value}", pixels.max);
                    bad = Some(Bad::new("a value that is no pixel", message));
                    break;
                }
                pixels_of.push((value / pixels.max * 255.0).round() as u8);
            }
            let picture = OwnedPicture { height, width, channels, pixels: pixels_of };
            let mut row = Found {
                content: bad.map_or(Content::Pixels(picture), Content::Bad),
                path: format!("{}:{line}", short_name(&table, file)),
                group: first + file,
                line,
                ..Found::default()
            };
            for (role, name) in &others {
                let Some(column) = table.column_index(name) else { continue };
                let value =
                    key(&chunk, column, ColumnType::Category, at).map(|k| key_text(&table, column, k));
                match role {
                    Role::Target => row.target = value.map(Target::Text),
                    _ => row.key = value,
                }
            }
            found.push(row);
        }
    }
    Ok((found, table.files, table.ledger))
}

fn short_name(table: &Table, file: usize) -> String {
    table.files[file].file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `[height, width, channels]` of pictures of so many columns.
fn shape(columns: usize, image: &Image, pixels: &Pixels) -> Result<[usize; 3], Problem> {
    let square = |n: usize| {
        let side = n.isqrt();
        (n > 0 && side * side == n).then_some([side, side])
    };
    let named = image.size.map(jishi_recipe::Size::sides);
    let of = |channels: usize| {
        let n = columns.is_multiple_of(channels).then(|| columns / channels)?;
        let sides = named.filter(|[h, w]| h * w == n).or_else(|| square(n))?;
        (n > 0).then_some([sides[0], sides[1], channels])
    };
    of(1).or_else(|| of(3)).ok_or_else(|| {
        let pattern = &pixels.columns;
        if columns == 0 {
            return Problem::new(format!("no column fits `image.pixels.columns`, {pattern:?}"))
                .help("`*` stands for any part of a name: \"p*\"");
        }
        Problem::new(format!(
            "{columns} columns fit {pattern:?}, which are no square picture, grey or coloured"
        ))
        .help("correct the pattern, or say `size = [height, width]` in `[image]`")
    })
}

//! Tux Paint's stamps: pictures in category folders.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use jishi_runs::RealFs;
use jishi_runs::atomic::AtomicFile;

use super::missing;
use crate::data::archive::walk;
use crate::error::HubError;

/// Categories with pictures enough to learn from.
const CATEGORIES: [&str; 8] =
    ["animals", "food", "household", "plants", "seasonal", "symbols", "town", "vehicles"];

/// The pictures of each category in a folder of its name, and how many there are.
pub(super) fn folders(archive: &Path, out: &Path) -> Result<usize, HubError> {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    walk(archive, &mut |name, content| {
        let Some((_, place)) = name.split_once("/stamps/") else { return Ok(()) };
        let Some((category, rest)) = place.split_once('/') else { return Ok(()) };
        let Some(category) = CATEGORIES.iter().find(|known| **known == category) else { return Ok(()) };
        if !rest.ends_with(".png") {
            return Ok(());
        }
        let path = out.join(category).join(rest.replace('/', "-"));
        let parent = jishi_runs::fs::parent(&path);
        fs::create_dir_all(parent).map_err(|e| HubError::io(parent, e))?;
        let mut file = AtomicFile::create(&RealFs, &path)?;
        io::copy(content, &mut file).map_err(|e| HubError::io(&path, e))?;
        file.commit()?;
        *found.entry(category).or_default() += 1;
        Ok(())
    })?;
    match CATEGORIES.iter().find(|category| !found.contains_key(*category)) {
        None => Ok(found.values().sum()),
        Some(category) => Err(missing(archive, &format!("stamps/{category}"))),
    }
}

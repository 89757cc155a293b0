//! An inspection of pictures as text for a terminal.

use std::fmt;

use super::{BoxReport, ClassReport, ImageInspection, Spread};
use crate::inspect::render::{plural, shorten, thousands};

/// Classes that are listed.
const CLASSES: usize = 40;
/// Repeated pictures that are listed.
const EXAMPLES: usize = 5;

impl fmt::Display for ImageInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, layout) = (self.source.display(), self.layout);
        write!(f, "{source} ({layout}): {}", plural(self.pictures, "picture"))?;
        match self.classes.len() {
            0 => {}
            1 => write!(f, ", 1 class")?,
            n => write!(f, ", {} classes", thousands(n as u64))?,
        }
        if let Some(boxes) = &self.boxes {
            match boxes.boxes {
                1 => write!(f, ", 1 box")?,
                n => write!(f, ", {} boxes", thousands(n))?,
            }
        }
        if self.broken > 0 {
            write!(f, "; {} can't be read", thousands(self.broken))?;
        }
        if self.other_files > 0 {
            let verb = if self.other_files == 1 { "is no picture" } else { "are no pictures" };
            write!(f, "; {} {verb}", plural(self.other_files, "other file"))?;
        }
        writeln!(f, "\n")?;
        if let (Some(height), Some(width)) = (self.height, self.width) {
            let sizes =
                if self.sizes == 1 { "one size".into() } else { format!("{} sizes", thousands(self.sizes)) };
            writeln!(f, "height   {}\nwidth    {}, {sizes}", spread(height), spread(width))?;
            writeln!(f, "format   {}\nmode     {}", words(&self.formats), words(&self.modes))?;
        }
        if !self.parts.is_empty() {
            let parts: Vec<(String, u64)> =
                self.parts.iter().map(|(part, n)| ((*part).to_owned(), *n)).collect();
            writeln!(f, "parts    {}", words(&parts))?;
        }
        if let Some(boxes) = &self.boxes {
            of_boxes(f, boxes)?;
        }
        self.of_classes(f)?;
        self.of_duplicates(f)?;
        if !self.problems.is_empty() {
            writeln!(f, "\n{}:", plural(self.problem_count, "problem"))?;
            for wrong in &self.problems {
                writeln!(f, "  {}: {}", wrong.file.display(), wrong.message)?;
            }
            let more = self.problem_count - self.problems.len() as u64;
            if more > 0 {
                writeln!(f, "  and {} more", thousands(more))?;
            }
        }
        Ok(())
    }
}

impl ImageInspection {
    fn of_classes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.classes.is_empty() {
            return Ok(());
        }
        let parts: Vec<&str> = self.parts.keys().copied().collect();
        let mut head = vec!["class".to_owned(), "pictures".into(), "share".into()];
        head.extend(parts.iter().map(|part| (*part).to_owned()));
        if self.boxes.is_some() {
            head.extend(["boxes", "width of boxes", "height of boxes"].map(String::from));
        }
        let row = |class: &ClassReport| {
            let share = class.pictures as f64 * 100.0 / self.pictures.max(1) as f64;
            let mut row = vec![shorten(&class.name, 32), thousands(class.pictures), format!("{share:.1} %")];
            row.extend(parts.iter().map(|part| class.parts.get(part).map_or("-".into(), |n| thousands(*n))));
            if let Some(boxes) = class.boxes {
                let side = |side: Option<Spread>| side.map_or("-".into(), spread);
                row.extend([thousands(boxes), side(class.box_width), side(class.box_height)]);
            }
            row
        };
        let lines: Vec<Vec<String>> =
            std::iter::once(head).chain(self.classes.iter().take(CLASSES).map(row)).collect();
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0))
            .collect();
        writeln!(f)?;
        for line in &lines {
            let fields = line.iter().zip(&widths).enumerate().map(|(i, (field, width))| {
                if i == 0 { format!("{field:<width$}") } else { format!("{field:>width$}") }
            });
            writeln!(f, "{}", fields.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        if self.classes.len() > CLASSES {
            writeln!(f, "and {} more classes", thousands((self.classes.len() - CLASSES) as u64))?;
        }
        Ok(())
    }

    fn of_duplicates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.duplicates;
        if found.pictures == 0 {
            return Ok(());
        }
        let verb = if found.pictures == 1 { "repeats" } else { "repeat" };
        write!(f, "\n{} {verb} an earlier one", plural(found.pictures, "picture"))?;
        if found.of_other_classes > 0 {
            write!(f, ", {} with another class", thousands(found.of_other_classes))?;
        }
        if found.in_other_parts > 0 {
            write!(f, ", {} in another part", thousands(found.in_other_parts))?;
        }
        writeln!(f, ":")?;
        for (again, first) in found.examples.iter().take(EXAMPLES) {
            writeln!(f, "  {again} is {first}")?;
        }
        Ok(())
    }
}

fn of_boxes(f: &mut fmt::Formatter<'_>, report: &BoxReport) -> fmt::Result {
    let BoxReport { pictures_without, most, small_medium_large: [small, medium, large], crowds, .. } =
        *report;
    let [without, most, small, medium, large] = [pictures_without, most, small, medium, large].map(thousands);
    write!(f, "boxes    {small} small, {medium} medium, {large} large; at most {most} on a picture, ")?;
    write!(f, "none on {without}")?;
    if crowds > 0 {
        write!(f, "; {} of groups", thousands(crowds))?;
    }
    writeln!(f)
}

fn spread(Spread { min, median, max }: Spread) -> String {
    let [min, median, max] = [min, median, max].map(|side| thousands(side.round() as u64));
    if min == max { min } else { format!("{min} … {median} … {max}") }
}

fn words(counts: &[(String, u64)]) -> String {
    let words: Vec<String> = counts.iter().map(|(word, n)| format!("{word} {}", thousands(*n))).collect();
    words.join(", ")
}

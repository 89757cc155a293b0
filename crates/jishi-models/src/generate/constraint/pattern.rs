//! Characters of JSON strings, and regular expressions over what a string holds.

use jishi_recipe::Problem;
use regex_automata::util::syntax;
use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition};

use super::numbers::{characters, literal, repeat};

/// A character of a string, as it is written.
pub fn character() -> Hir {
    let hex = || characters(&[('0', '9'), ('a', 'f'), ('A', 'F')]);
    let three = Hir::concat(vec![hex(), hex(), hex()]);
    // Not D800 to DFFF, which are halves of characters.
    let low =
        Hir::concat(vec![characters(&[('0', '9'), ('a', 'c'), ('A', 'C'), ('e', 'f'), ('E', 'F')]), three]);
    let d = Hir::concat(vec![characters(&[('d', 'd'), ('D', 'D')]), characters(&[('0', '7')]), hex(), hex()]);
    let code = Hir::concat(vec![literal("u"), Hir::alternation(vec![low, d])]);
    let short = ['"', '\\', '/', 'b', 'f', 'n', 'r', 't'].map(|c| (c, c));
    let escape = Hir::concat(vec![literal("\\"), Hir::alternation(vec![characters(&short), code])]);
    Hir::alternation(vec![plain(), escape])
}

/// Characters that are written as they are.
fn plain() -> Hir {
    characters(&[(' ', '!'), ('#', '['), (']', '\u{d7ff}'), ('\u{e000}', char::MAX)])
}

/// Strings that a regular expression is found in, as they are written: it is one over what they hold.
pub fn holding(pattern: &str) -> Result<Hir, Problem> {
    let hir = syntax::parse(pattern).map_err(|error| Problem::new(error.to_string()))?;
    Ok(Hir::alternation(alternatives(&hir).into_iter().map(found).collect::<Result<_, _>>()?))
}

/// Parts of which one has to match.
fn alternatives(hir: &Hir) -> Vec<&Hir> {
    match hir.kind() {
        HirKind::Alternation(parts) => parts.iter().flat_map(alternatives).collect(),
        HirKind::Capture(Capture { sub, .. }) => alternatives(sub),
        _ => vec![hir],
    }
}

/// A part, and what may be before and after it where it says nothing of that.
fn found(hir: &Hir) -> Result<Hir, Problem> {
    let parts: Vec<&Hir> = match hir.kind() {
        HirKind::Concat(parts) => parts.iter().collect(),
        _ => vec![hir],
    };
    let is = |hir: Option<&&Hir>, look| hir.is_some_and(|h| *h.kind() == HirKind::Look(look));
    let (starts, ends) = (is(parts.first(), Look::Start), is(parts.last(), Look::End));
    let whole = parts.len();
    let middle =
        &parts[usize::from(starts)..whole.max(usize::from(starts) + usize::from(ends)) - usize::from(ends)];
    let anything = || repeat(character(), 0, None);
    let mut all = Vec::new();
    if !starts {
        all.push(anything());
    }
    for part in middle {
        all.push(written(part)?);
    }
    if !ends {
        all.push(anything());
    }
    Ok(Hir::concat(all))
}

/// An expression over what a string holds, as it is written.
fn written(hir: &Hir) -> Result<Hir, Problem> {
    Ok(match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(text) => {
            let text = std::str::from_utf8(&text.0)
                .map_err(|_| Problem::new("an expression over bytes that are no text"))?;
            Hir::concat(text.chars().map(|c| class(&[(c, c)])).collect())
        }
        HirKind::Class(Class::Unicode(found)) => {
            class(&found.iter().map(|r| (r.start(), r.end())).collect::<Vec<_>>())
        }
        HirKind::Class(Class::Bytes(_)) => {
            return Err(Problem::new("an expression over bytes that are no text"));
        }
        HirKind::Repetition(r) => {
            Hir::repetition(Repetition { sub: Box::new(written(&r.sub)?), ..r.clone() })
        }
        HirKind::Capture(capture) => written(&capture.sub)?,
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(written).collect::<Result<_, _>>()?),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(written).collect::<Result<_, _>>()?),
        HirKind::Look(_) => {
            let problem = Problem::new("`^`, `$` or `\\b` inside of an expression");
            return Err(problem.help("they may stand at its ends, or at those of its alternatives"));
        }
    })
}

/// Characters of a class, with an escape where they need one.
fn class(ranges: &[(char, char)]) -> Hir {
    let wanted = ClassUnicode::new(ranges.iter().map(|(a, b)| ClassUnicodeRange::new(*a, *b)));
    let mut as_they_are = wanted.clone();
    if let HirKind::Class(Class::Unicode(plain)) = plain().kind() {
        as_they_are.intersect(plain);
    }
    let mut parts = vec![Hir::class(Class::Unicode(as_they_are))];
    let holds = |c: char| wanted.iter().any(|r| r.start() <= c && c <= r.end());
    let short = [('"', "\\\""), ('\\', "\\\\"), ('\u{8}', "\\b"), ('\u{c}', "\\f")];
    let short = short.into_iter().chain([('\n', "\\n"), ('\r', "\\r"), ('\t', "\\t")]);
    let mut escaped = Vec::new();
    for (c, text) in short.filter(|(c, _)| holds(*c)) {
        escaped.push(c);
        parts.push(literal(text));
    }
    for c in ('\0'..' ').filter(|c| holds(*c) && !escaped.contains(c)) {
        parts.push(literal(&format!("\\u{:04x}", c as u32)));
    }
    Hir::alternation(parts)
}

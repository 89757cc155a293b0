//! BLEU (Papineni et al. 2002) and chrF (Popović 2015) of a whole set, as sacreBLEU computes them (Post 2018).
//!
//! BLEU's signature is `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp` (or `tok:zh`), chrF's `nc:6|nw:0|space:no`.

use std::collections::HashMap;
use std::hash::Hash;

/// Longest word n-gram of BLEU.
const WORDS: usize = 4;
/// Longest character n-gram of chrF.
const CHARACTERS: usize = 6;
/// Weight of recall in chrF.
const BETA: f64 = 2.0;

/// How BLEU cuts a text into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Western punctuation apart, as the NIST script `mteval-v13a`.
    Western,
    /// The same, and each Chinese character is a word.
    Chinese,
}

impl Words {
    /// `Chinese` where most references hold Chinese characters, which no space separates.
    #[must_use]
    pub fn of(references: &[String]) -> Self {
        let chinese = |text: &&String| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        let count = references.iter().filter(chinese).count();
        if count * 2 > references.len() { Self::Chinese } else { Self::Western }
    }

    fn cut(self, text: &str) -> Vec<String> {
        let text = match self {
            Self::Western => unescape(text.trim_end()),
            Self::Chinese => text.trim().chars().fold(String::new(), |mut out, c| {
                if is_chinese(c) {
                    out.extend([' ', c, ' ']);
                } else {
                    out.push(c);
                }
                out
            }),
        };
        let padded = if self == Self::Western { format!(" {text} ") } else { text };
        separate(&padded).split_whitespace().map(str::to_owned).collect()
    }
}

/// BLEU of hypotheses against a reference each, from 0 to 100.
///
/// # Panics
/// Where there are not as many references as hypotheses: a bug of the caller.
#[must_use]
pub fn bleu(hypotheses: &[String], references: &[String], words: Words) -> f64 {
    assert_eq!(hypotheses.len(), references.len(), "a reference for every hypothesis");
    let (mut found, mut total) = ([0_u64; WORDS], [0_u64; WORDS]);
    let (mut length, mut wanted) = (0_u64, 0_u64);
    for (hypothesis, reference) in hypotheses.iter().zip(references) {
        let (hypothesis, reference) = (words.cut(hypothesis), words.cut(reference));
        length += hypothesis.len() as u64;
        wanted += reference.len() as u64;
        for n in 1..=WORDS {
            found[n - 1] += shared(&hypothesis, &reference, n);
            total[n - 1] += (hypothesis.len() + 1).saturating_sub(n) as u64;
        }
    }
    // Without a common word there is nothing to smooth.
    if found.iter().all(|f| *f == 0) || total.contains(&0) {
        return 0.0;
    }
    let mut smooth = 1.0;
    let logs = found.iter().zip(total).map(|(found, total)| {
        if *found == 0 {
            smooth *= 2.0;
            (1.0 / (smooth * total as f64)).ln()
        } else {
            (*found as f64 / total as f64).ln()
        }
    });
    let mean = logs.sum::<f64>() / WORDS as f64;
    let brevity = if length < wanted { (1.0 - wanted as f64 / length as f64).exp() } else { 1.0 };
    100.0 * brevity * mean.exp()
}

/// chrF2 of hypotheses against a reference each, from 0 to 100. Whitespace does not count.
///
/// # Panics
/// Where there are not as many references as hypotheses: a bug of the caller.
#[must_use]
pub fn chrf(hypotheses: &[String], references: &[String]) -> f64 {
    assert_eq!(hypotheses.len(), references.len(), "a reference for every hypothesis");
    let mut counts = [[0_u64; 3]; CHARACTERS];
    let letters = |text: &String| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<char>>();
    for (hypothesis, reference) in hypotheses.iter().zip(references) {
        let (hypothesis, reference) = (letters(hypothesis), letters(reference));
        for (n, counts) in (1..).zip(&mut counts) {
            let grams = |text: &[char]| (text.len() + 1).saturating_sub(n) as u64;
            counts[0] += grams(&hypothesis);
            counts[1] += grams(&reference);
            counts[2] += shared(&hypothesis, &reference, n);
        }
    }
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for [hypothesis, reference, found] in counts.into_iter().filter(|c| c[0] > 0 && c[1] > 0) {
        precision += found as f64 / hypothesis as f64;
        recall += found as f64 / reference as f64;
        orders += 1.0;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    let factor = BETA * BETA;
    100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
}

/// N-grams that both have, each as often as the one that has it less often.
fn shared<T: Eq + Hash>(a: &[T], b: &[T], n: usize) -> u64 {
    let mut counts: HashMap<&[T], u64> = HashMap::new();
    for gram in b.windows(n) {
        *counts.entry(gram).or_default() += 1;
    }
    let mut found = 0;
    for gram in a.windows(n) {
        if let Some(left) = counts.get_mut(gram).filter(|left| **left > 0) {
            *left -= 1;
            found += 1;
        }
    }
    found
}

fn unescape(text: &str) -> String {
    let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if !text.contains('&') {
        return text;
    }
    text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
}

/// Puts spaces around punctuation: always, but full stops and commas only where no digit is before or after, and
/// dashes only after a digit.
fn separate(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        let apart = matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/');
        if apart {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    let stop = |c: char| c == '.' || c == ',';
    let digit = |c: char| c.is_ascii_digit();
    let spaced = pairs(&spaced, |a, b| !digit(a) && stop(b), |a, b| [Some(a), Some(' '), Some(b), Some(' ')]);
    let spaced = pairs(&spaced, |a, b| stop(a) && !digit(b), |a, b| [Some(' '), Some(a), Some(' '), Some(b)]);
    pairs(&spaced, |a, b| digit(a) && b == '-', |a, b| [Some(a), Some(' '), Some(b), Some(' ')])
}

/// Rewrites pairs of neighbours from left to right; no character is in two pairs.
fn pairs(
    text: &str,
    fits: impl Fn(char, char) -> bool,
    out: impl Fn(char, char) -> [Option<char>; 4],
) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut done = String::with_capacity(text.len() + 16);
    let mut at = 0;
    while let Some(&a) = letters.get(at) {
        match letters.get(at + 1) {
            Some(&b) if fits(a, b) => {
                done.extend(out(a, b).into_iter().flatten());
                at += 2;
            }
            _ => {
                done.push(a);
                at += 1;
            }
        }
    }
    done
}

/// As in sacreBLEU, whose two ranges beyond the basic plane are compared as strings there and so stand for the ranges
/// of the basic plane written here.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fbb}' | '\u{f900}'..='\u{fa2d}' | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}' | '\u{2001}'..='\u{2a6d}' | '\u{2f81}'..='\u{2fa1}' | '\u{ff00}'..='\u{ffef}'
        | '\u{2e80}'..='\u{2eff}' | '\u{3000}'..='\u{303f}' | '\u{31c0}'..='\u{31ef}' | '\u{2f00}'..='\u{2fdf}'
        | '\u{2ff0}'..='\u{2fff}' | '\u{3100}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}' | '\u{fe10}'..='\u{fe1f}'
        | '\u{fe30}'..='\u{fe4f}' | '\u{3200}'..='\u{33ff}')
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        words: String,
        hypotheses: Vec<String>,
        references: Vec<String>,
        bleu: f64,
        chrf: f64,
    }

    #[test]
    fn scores_are_those_of_sacrebleu() {
        let text = include_str!("../../tests/fixtures/translation.json");
        let cases: Vec<Case> = serde_json::from_str(text).expect("cases");
        assert!(cases.len() > 5);
        for case in cases {
            let words = if case.words == "zh" { Words::Chinese } else { Words::Western };
            let found =
                [bleu(&case.hypotheses, &case.references, words), chrf(&case.hypotheses, &case.references)];
            for (found, expected) in found.into_iter().zip([case.bleu, case.chrf]) {
                assert!((found - expected).abs() < 1e-9, "{found} for {expected}: {:?}", case.hypotheses);
            }
        }
    }

    #[test]
    fn the_cut_follows_the_references() {
        let texts = |t: &[&str]| t.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(Words::of(&texts(&["打开文件", "保存"])), Words::Chinese);
        assert_eq!(Words::of(&texts(&["open the file", "保存"])), Words::Western);
    }
}

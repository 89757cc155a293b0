//! Training of byte-pair encodings (Sennrich, Haddow & Birch 2016), the same for the same words in whatever order they
//! were counted: of pairs that are seen equally often the one with the smaller ids is merged first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use foldhash::fast::FixedState;

type Pair = (u32, u32);
type Map<K, V> = HashMap<K, V, FixedState>;

/// What training gives: the tokens by id, and the pairs of tokens that become one, in the order to merge them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Merges {
    pub tokens: Vec<String>,
    pub merges: Vec<(String, String)>,
}

/// What is trained.
pub(super) struct Plan<'a> {
    /// Tokens that come first and are merged with nothing.
    pub special: &'a [String],
    /// Characters that become tokens, in this order. Words with others are left out.
    pub alphabet: &'a [char],
    /// What is written before every character of a word but the first: `##` for WordPiece.
    pub prefix: &'a str,
    /// Tokens at most.
    pub vocabulary: usize,
    /// Pairs seen fewer times are not merged.
    pub min_frequency: u64,
}

/// Trains on different words and how often each is there.
pub(super) fn train(words: &[(String, u64)], plan: &Plan) -> Merges {
    let mut ids: Map<String, u32> = Map::default();
    let mut tokens: Vec<String> = Vec::new();
    let mut id_of = |token: String, tokens: &mut Vec<String>| {
        *ids.entry(token).or_insert_with_key(|token| {
            tokens.push(token.clone());
            tokens.len() as u32 - 1
        })
    };
    for token in plan.special {
        id_of(token.clone(), &mut tokens);
    }
    let mut single: Map<char, (u32, u32)> = Map::default();
    for &c in plan.alphabet {
        let id = id_of(c.to_string(), &mut tokens);
        single.insert(c, (id, id));
    }
    if !plan.prefix.is_empty() {
        for c in plan.alphabet {
            let inner = id_of(format!("{}{c}", plan.prefix), &mut tokens);
            if let Some((_, id)) = single.get_mut(c) {
                *id = inner;
            }
        }
    }

    let mut training = Training::new(words, &single);
    let mut merges = Vec::new();
    while tokens.len() < plan.vocabulary {
        let Some(pair) = training.most_frequent(plan.min_frequency.max(1)) else { break };
        let (a, b) = (tokens[pair.0 as usize].clone(), tokens[pair.1 as usize].clone());
        let joined = format!("{a}{}", b.strip_prefix(plan.prefix).unwrap_or(&b));
        training.merge(pair, id_of(joined, &mut tokens));
        merges.push((a, b));
    }
    Merges { tokens, merges }
}

/// Words as tokens, and where every pair of neighbours is.
struct Training {
    words: Vec<(Vec<u32>, i64)>,
    counts: Map<Pair, i64>,
    places: Map<Pair, Vec<u32>>,
    /// Pairs by count; a count may be out of date.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Training {
    fn new(words: &[(String, u64)], single: &Map<char, (u32, u32)>) -> Self {
        let mut new = Self {
            words: Vec::with_capacity(words.len()),
            counts: Map::default(),
            places: Map::default(),
            queue: BinaryHeap::new(),
        };
        for (word, count) in words {
            let id = |(i, c)| single.get(&c).map(|&(first, inner)| if i == 0 { first } else { inner });
            let Some(word) = word.chars().enumerate().map(id).collect::<Option<Vec<u32>>>() else { continue };
            let at = new.words.len() as u32;
            for pair in word.windows(2) {
                let pair = (pair[0], pair[1]);
                *new.counts.entry(pair).or_default() += *count as i64;
                add_place(&mut new.places, pair, at);
            }
            new.words.push((word, *count as i64));
        }
        new.queue = new.counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        new
    }

    fn most_frequent(&mut self, least: u64) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.counts.get(&pair).copied().unwrap_or_default();
            if now == count && count >= least as i64 {
                return Some(pair);
            }
            if now != count && now >= least as i64 {
                self.queue.push((now, Reverse(pair)));
            }
        }
        None
    }

    fn merge(&mut self, pair: Pair, new: u32) {
        let mut changes: Map<Pair, i64> = Map::default();
        for at in self.places.remove(&pair).unwrap_or_default() {
            let (word, count) = &mut self.words[at as usize];
            let mut out: Vec<u32> = Vec::with_capacity(word.len());
            let mut i = 0;
            while i < word.len() {
                if word.get(i..i + 2) != Some(&[pair.0, pair.1]) {
                    out.push(word[i]);
                    i += 1;
                    continue;
                }
                if let Some(&before) = out.last() {
                    *changes.entry((before, pair.0)).or_default() -= *count;
                    *changes.entry((before, new)).or_default() += *count;
                    add_place(&mut self.places, (before, new), at);
                }
                if let Some(&after) = word.get(i + 2) {
                    *changes.entry((pair.1, after)).or_default() -= *count;
                    *changes.entry((new, after)).or_default() += *count;
                    add_place(&mut self.places, (new, after), at);
                }
                out.push(new);
                i += 2;
            }
            *word = out;
        }
        for (changed, by) in changes {
            let count = self.counts.entry(changed).or_default();
            *count += by;
            if by > 0 {
                self.queue.push((*count, Reverse(changed)));
            }
        }
        self.counts.remove(&pair);
    }
}

fn add_place(places: &mut Map<Pair, Vec<u32>>, pair: Pair, at: u32) {
    let places = places.entry(pair).or_default();
    if places.last() != Some(&at) {
        places.push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan<'a>(alphabet: &'a [char], prefix: &'a str) -> Plan<'a> {
        Plan { special: &[], alphabet, prefix, vocabulary: 40, min_frequency: 2 }
    }

    /// The definition: count all pairs anew before every merge.
    fn naive(words: &[(String, u64)], plan: &Plan) -> Merges {
        let mut tokens: Vec<String> = plan.alphabet.iter().map(char::to_string).collect();
        let id = |c: char| plan.alphabet.iter().position(|&a| a == c).map(|i| i as u32);
        let mut all: Vec<(Vec<u32>, u64)> =
            words.iter().filter_map(|(w, n)| Some((w.chars().map(id).collect::<Option<_>>()?, *n))).collect();
        let mut merges = Vec::new();
        while tokens.len() < plan.vocabulary {
            let mut counts: HashMap<Pair, u64> = HashMap::new();
            for (word, n) in &all {
                word.windows(2).for_each(|p| *counts.entry((p[0], p[1])).or_default() += n);
            }
            let best = counts.iter().max_by_key(|(pair, n)| (**n, Reverse(**pair)));
            let Some((&pair, &n)) = best else { break };
            if n < plan.min_frequency {
                break;
            }
            let (a, b) = (tokens[pair.0 as usize].clone(), tokens[pair.1 as usize].clone());
            let joined = format!("{a}{b}");
            let new = tokens.iter().position(|t| *t == joined).unwrap_or(tokens.len()) as u32;
            if new as usize == tokens.len() {
                tokens.push(joined);
            }
            for (word, _) in &mut all {
                let mut i = 0;
                while i + 1 < word.len() {
                    if (word[i], word[i + 1]) == pair {
                        word[i] = new;
                        word.remove(i + 1);
                    }
                    i += 1;
                }
            }
            merges.push((a, b));
        }
        Merges { tokens, merges }
    }

    #[test]
    fn word_pieces_have_a_prefix() {
        let words = [("abab".to_string(), 3), ("ab".to_string(), 2), ("a?".to_string(), 9)];
        let out = train(&words, &plan(&['a', 'b'], "##"));
        assert_eq!(out.tokens[..5], ["a", "b", "##a", "##b", "ab"]);
        assert_eq!(out.merges[0], ("a".to_string(), "##b".to_string()));
        assert!(out.tokens.contains(&"abab".to_string()));
    }

    proptest! {
        // A pair that was counted once too often can leave overlapping runs of one letter wrong.
        #[test]
        fn as_by_definition(words in prop::collection::btree_map("[abc]{1,8}", 1u64..9, 1..12)) {
            let words: Vec<(String, u64)> = words.into_iter().collect();
            let plan = plan(&['a', 'b', 'c'], "");
            prop_assert_eq!(train(&words, &plan), naive(&words, &plan));
        }
    }
}

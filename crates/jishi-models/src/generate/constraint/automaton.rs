//! What is allowed, as a table of transitions.

use std::collections::{BTreeMap, HashMap};

use jishi_recipe::Problem;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::Hir;

use super::schema;

/// Bytes that an automaton may take while it is built.
const LIMIT: usize = 128 << 20;
/// No state.
const NONE: u32 = u32::MAX;

/// An automaton over bytes. From each of its states the end can be reached.
#[derive(Debug)]
pub struct Grammar {
    /// Of each byte.
    classes: [u8; 256],
    width: usize,
    /// `[states, width]`
    next: Vec<u32>,
    accepts: Vec<bool>,
    start: u32,
}

impl Grammar {
    /// Texts that a regular expression matches as a whole, in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// Says what is wrong with the expression, or that nothing matches it.
    pub fn regex(pattern: &str) -> Result<Self, Problem> {
        let config = syntax::Config::new();
        let hir = syntax::parse_with(pattern, &config)
            .map_err(|error| Problem::new(format!("a regular expression that cannot be read: {error}")))?;
        Self::new(&hir)?
            .ok_or_else(|| Problem::new(format!("nothing matches the regular expression `{pattern}`")))
    }

    /// JSON texts of values that a schema allows (draft 2020-12): properties in the order of the schema, no properties
    /// that it does not name, and a space at most after commas and colons.
    ///
    /// # Errors
    /// Names the place of what is not supported, makes no sense or allows no value.
    pub fn json_schema(schema: &serde_json::Value) -> Result<Self, Problem> {
        Self::new(&schema::compile(schema)?)?.ok_or_else(|| Problem::new("the schema at `#` allows no value"))
    }

    /// The automaton, unless it accepts nothing.
    fn new(hir: &Hir) -> Result<Option<Self>, Problem> {
        let large = |error: &dyn std::fmt::Display| {
            Problem::new(format!("a constraint that makes no automaton: {error}"))
                .help("smaller bounds of lengths and numbers of items make a smaller one")
        };
        let nfa = thompson::NFA::compiler()
            .configure(thompson::Config::new().nfa_size_limit(Some(LIMIT)))
            .build_from_hir(hir)
            .map_err(|error| large(&error))?;
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::All)
            .dfa_size_limit(Some(LIMIT))
            .determinize_size_limit(Some(LIMIT));
        let dfa =
            dense::Builder::new().configure(config).build_from_nfa(&nfa).map_err(|error| large(&error))?;
        let start =
            dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).map_err(|error| large(&error))?;
        Ok(Self::of(&dfa, start))
    }

    fn of(dfa: &dense::DFA<Vec<u32>>, start: StateID) -> Option<Self> {
        // One byte of each class, as classes are those of the automaton.
        let mut classes = [0; 256];
        let mut bytes: Vec<u8> = Vec::new();
        let mut class_of: BTreeMap<u8, u8> = BTreeMap::new();
        for byte in 0..=255u8 {
            let class = dfa.byte_classes().get(byte);
            classes[byte as usize] = *class_of.entry(class).or_insert_with(|| {
                bytes.push(byte);
                (bytes.len() - 1) as u8
            });
        }
        let width = bytes.len();
        let mut numbers: HashMap<StateID, u32> = HashMap::from([(start, 0)]);
        let mut states = vec![start];
        let mut next = Vec::new();
        let mut at = 0;
        while let Some(state) = states.get(at).copied() {
            for byte in &bytes {
                let to = dfa.next_state(state, *byte);
                if dfa.is_dead_state(to) || dfa.is_quit_state(to) {
                    next.push(NONE);
                    continue;
                }
                let number = *numbers.entry(to).or_insert_with(|| {
                    states.push(to);
                    (states.len() - 1) as u32
                });
                next.push(number);
            }
            at += 1;
        }
        let accepts: Vec<bool> =
            states.iter().map(|state| dfa.is_match_state(dfa.next_eoi_state(*state))).collect();
        // States from which the end is reached, backwards from those that accept.
        let mut before: Vec<Vec<u32>> = vec![Vec::new(); states.len()];
        for (at, to) in next.iter().enumerate().filter(|(_, to)| **to != NONE) {
            before[*to as usize].push((at / width) as u32);
        }
        let mut live = accepts.clone();
        let mut waiting: Vec<u32> = (0..states.len() as u32).filter(|s| live[*s as usize]).collect();
        while let Some(state) = waiting.pop() {
            for from in &before[state as usize] {
                if !std::mem::replace(&mut live[*from as usize], true) {
                    waiting.push(*from);
                }
            }
        }
        for to in &mut next {
            if *to != NONE && !live[*to as usize] {
                *to = NONE;
            }
        }
        live[0].then_some(Self { classes, width, next, accepts, start: 0 })
    }

    /// The state before the first byte.
    pub(super) fn start(&self) -> u32 {
        self.start
    }

    /// The state after a byte, where it is allowed.
    pub(super) fn next(&self, state: u32, byte: u8) -> Option<u32> {
        let class = usize::from(self.classes[byte as usize]);
        let next = self.next[state as usize * self.width + class];
        (next != NONE).then_some(next)
    }

    /// Whether the text may end in a state.
    pub(super) fn accepts(&self, state: u32) -> bool {
        self.accepts[state as usize]
    }

    /// Whether it allows a text.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let end = text.iter().try_fold(self.start, |state, byte| self.next(state, *byte));
        end.is_some_and(|state| self.accepts(state))
    }
}

//! Choosing a token from logits.
//!
//! Filters follow each other as in Hugging Face's `generate`: the penalty on repetition, what a constraint allows,
//! the temperature, `top_k`, `top_p`, `min_p`. Each sees what the one before left.

use jishi_recipe::{Generate, Problem, Problems};

use super::tokens::TokenSet;
use crate::rng::{Rng, stream};

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Divides logits; 0 takes the most likely token, the first of several.
    pub temperature: f64,
    /// Chooses among this many most likely tokens, and those as likely as the last of them; 0: all.
    pub top_k: usize,
    /// Chooses among the most likely tokens that have this share of the probability together (Holtzman et al. 2020).
    pub top_p: f64,
    /// Leaves out tokens with less than this share of the probability of the most likely one (Nguyen et al. 2024).
    pub min_p: f64,
    /// Divides the positive logits of tokens that were there already, and multiplies the negative ones (Keskar et al.
    /// 2019); 1: no penalty.
    pub repetition_penalty: f64,
    /// Of the random numbers. A token depends on the seed and its place in the text alone.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self::from(&Generate::default())
    }
}

impl From<&Generate> for SamplingOptions {
    fn from(options: &Generate) -> Self {
        Self {
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            repetition_penalty: options.repetition_penalty,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// The most likely token, always.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }

    /// Whether the values make sense.
    ///
    /// # Errors
    /// Names all that do not.
    pub fn check(&self) -> Result<(), Problems> {
        let mut problems = Vec::new();
        let mut check = |name: &str, value: f64, good: bool, wanted: &str| {
            if !good {
                problems.push(Problem::new(format!("`{name}` is {value}, which should be {wanted}")));
            }
        };
        let Self { temperature: t, top_p, min_p, repetition_penalty: penalty, .. } = *self;
        check("temperature", t, t >= 0.0 && t.is_finite(), "0 or more");
        check("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1");
        check("min_p", min_p, (0.0..=1.0).contains(&min_p), "from 0 to 1");
        check("repetition_penalty", penalty, penalty > 0.0 && penalty.is_finite(), "above 0");
        Problems(problems).into_result()
    }
}

/// Chooses tokens; its memory is kept from one to the next.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    candidates: Vec<Candidate>,
    seen: TokenSet,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    score: f32,
}

impl Sampler {
    /// A sampler.
    ///
    /// # Errors
    /// As [`SamplingOptions::check`].
    pub fn new(options: SamplingOptions) -> Result<Self, Problems> {
        options.check()?;
        Ok(Self { options, candidates: Vec::new(), seen: TokenSet::default() })
    }

    /// A token after those `before`, at place `index` of the text; `None` where no token is allowed that has a finite
    /// logit.
    pub fn choose(
        &mut self,
        logits: &[f32],
        before: &[u32],
        index: u64,
        allowed: Option<&TokenSet>,
    ) -> Option<u32> {
        self.gather(logits, before, allowed);
        let best = self.candidates.iter().copied().reduce(|a, b| if b.score > a.score { b } else { a })?;
        if self.options.temperature == 0.0 {
            return Some(best.token);
        }
        let temperature = self.options.temperature as f32;
        self.candidates.iter_mut().for_each(|c| c.score /= temperature);
        self.filter(best.score / temperature);
        let largest = best.score / temperature;
        let weight = |c: &Candidate| f64::from(c.score - largest).exp();
        let total: f64 = self.candidates.iter().map(weight).sum();
        let mut rng = Rng::new(self.options.seed, stream("sample", index));
        let mut left = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
        for candidate in &self.candidates {
            left -= weight(candidate);
            if left < 0.0 {
                return Some(candidate.token);
            }
        }
        // Rounding alone leads here.
        self.candidates.last().map(|c| c.token)
    }

    /// Allowed tokens with their penalised logits, in order.
    fn gather(&mut self, logits: &[f32], before: &[u32], allowed: Option<&TokenSet>) {
        self.candidates.clear();
        let tokens = logits.iter().enumerate().map(|(token, score)| (token as u32, *score));
        let tokens = tokens.filter(|(token, score)| {
            score.is_finite() && allowed.is_none_or(|allowed| allowed.contains(*token))
        });
        if self.options.repetition_penalty == 1.0 {
            self.candidates.extend(tokens.map(|(token, score)| Candidate { token, score }));
            return;
        }
        let penalty = self.options.repetition_penalty as f32;
        self.seen = TokenSet::empty(logits.len());
        before.iter().for_each(|token| self.seen.insert(*token));
        let seen = &self.seen;
        self.candidates.extend(tokens.map(|(token, score)| {
            let factor = if score < 0.0 { penalty } else { 1.0 / penalty };
            Candidate { token, score: if seen.contains(token) { score * factor } else { score } }
        }));
    }

    /// `top_k`, `top_p` and `min_p`; what is left is in the order of tokens.
    fn filter(&mut self, largest: f32) {
        let Self { options, candidates, .. } = self;
        let falling = |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score).then(a.token.cmp(&b.token));
        if options.top_k > 0 && options.top_k < candidates.len() {
            let (_, last, _) = candidates.select_nth_unstable_by(options.top_k - 1, falling);
            let least = last.score;
            candidates.retain(|c| c.score >= least);
        }
        let weight = |c: &Candidate| f64::from(c.score - largest).exp();
        if options.top_p < 1.0 {
            candidates.sort_unstable_by_key(|c| c.token);
            let wanted = options.top_p * candidates.iter().map(weight).sum::<f64>();
            // Most of the probability is with few tokens, so that all are seldom sorted.
            let mut sorted = 0;
            let mut sum = 0.0;
            let mut kept = candidates.len();
            'all: while sorted < candidates.len() {
                let more = (8 * sorted).max(64).min(candidates.len() - sorted);
                let rest = &mut candidates[sorted..];
                if more < rest.len() {
                    rest.select_nth_unstable_by(more - 1, falling);
                }
                rest[..more].sort_unstable_by(falling);
                for (i, candidate) in rest[..more].iter().enumerate() {
                    if sum >= wanted && sorted + i > 0 {
                        kept = sorted + i;
                        break 'all;
                    }
                    sum += weight(candidate);
                }
                sorted += more;
            }
            candidates.truncate(kept);
        }
        if options.min_p > 0.0 {
            candidates.retain(|c| weight(c) >= options.min_p);
        }
        candidates.sort_unstable_by_key(|c| c.token);
    }
}

/// How likely a token was by the model alone, before any filter.
#[derive(Debug, Clone, PartialEq)]
pub struct LogProbability {
    /// The token.
    pub token: u32,
    /// The logarithm of its probability.
    pub value: f64,
    /// The most likely tokens with theirs, the most likely one first.
    pub top: Vec<(u32, f64)>,
}

/// The logarithm of a token's probability, and the `top` most likely tokens.
#[must_use]
pub fn log_probability(logits: &[f32], token: u32, top: usize) -> LogProbability {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
    let value = |logit: f32| f64::from(logit - largest) - sum.ln();
    let mut all: Vec<(u32, f32)> = Vec::new();
    if top > 0 {
        all = logits.iter().enumerate().map(|(t, l)| (t as u32, *l)).collect();
        let falling = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if top < all.len() {
            all.select_nth_unstable_by(top - 1, falling);
            all.truncate(top);
        }
        all.sort_unstable_by(falling);
    }
    let own = logits.get(token as usize).map_or(f64::NEG_INFINITY, |l| value(*l));
    LogProbability { token, value: own, top: all.into_iter().map(|(t, l)| (t, value(l))).collect() }
}

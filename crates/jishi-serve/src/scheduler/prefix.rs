//! Prompts that begin alike: what was read of the last prompts is kept, and the next that begins the same goes on from
//! there. Only what was read as a prompt is taken over, never what was written: so the numbers are those of reading it.

use jishi_models::{Decoder, Sequence};

/// Prompts that are kept.
const KEPT: usize = 8;
/// Tokens that have to be common: fewer are read in no time.
const LEAST: usize = 16;

/// The last prompts.
#[derive(Debug, Default)]
pub struct Prefixes {
    /// The last used comes last.
    kept: Vec<(Vec<u32>, Sequence)>,
    /// Bytes that they may take.
    memory: usize,
}

impl Prefixes {
    /// None yet.
    #[must_use]
    pub fn new(memory: usize) -> Self {
        Self { kept: Vec::new(), memory }
    }

    /// A sequence that has read the beginning of a prompt, but never all of it: the last token's logits are wanted.
    pub fn begin(&mut self, decoder: &Decoder, prompt: &[u32]) -> Sequence {
        let common = |kept: &[u32]| kept.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let best = self.kept.iter().enumerate().map(|(i, (kept, _))| (common(kept), i)).max();
        match best {
            Some((common, i)) if common >= LEAST => {
                let found = self.kept.remove(i);
                let mut sequence = decoder.fork(&found.1);
                sequence.rewind(common.min(prompt.len() - 1));
                self.kept.push(found);
                sequence
            }
            _ => decoder.sequence(),
        }
    }

    /// Keeps a sequence that has read a prompt and nothing else.
    pub fn keep(&mut self, decoder: &Decoder, prompt: &[u32], sequence: &Sequence) {
        // One that the new one begins with is of no more use.
        self.kept.retain(|(kept, _)| !prompt.starts_with(kept));
        if prompt.len() < LEAST || sequence.bytes() > self.memory {
            return;
        }
        self.kept.push((prompt.to_vec(), decoder.fork(sequence)));
        let bytes = |kept: &[(Vec<u32>, Sequence)]| kept.iter().map(|(_, s)| s.bytes()).sum::<usize>();
        while self.kept.len() > KEPT || bytes(&self.kept) > self.memory {
            self.kept.remove(0);
        }
    }
}

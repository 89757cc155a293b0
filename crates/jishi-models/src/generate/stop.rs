//! Text as it is shown while it is made: whole characters, and nothing that may turn out to be part of a stop string.

/// Bytes of a text, of which a part is not yet shown.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Strings that end the text and are not part of it.
    stops: Vec<Vec<u8>>,
    held: Vec<u8>,
    stopped: bool,
}

impl Shown {
    /// A text that ends before the first of the strings; empty ones are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|s| !s.is_empty()).map(|s| s.as_bytes().to_vec()).collect();
        Self { stops, held: Vec::new(), stopped: false }
    }

    /// Whether a stop string was found.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes more bytes; gives what can be shown now.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.extend_from_slice(bytes);
        let first = self.stops.iter().filter_map(|stop| find(&self.held, stop)).min();
        if let Some(at) = first {
            self.stopped = true;
            self.held.truncate(at);
            return self.rest();
        }
        let safe = self.held.len() - self.stops.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        let ready = whole(&self.held[..safe]);
        let shown = String::from_utf8_lossy(&self.held[..ready]).into_owned();
        self.held.drain(..ready);
        shown
    }

    /// What was held back, where nothing follows.
    pub fn rest(&mut self) -> String {
        let rest = std::mem::take(&mut self.held);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|w| w == wanted)
}

/// Length of the longest end of a text that begins a string and is not all of it.
fn overlap(text: &[u8], string: &[u8]) -> usize {
    (1..string.len().min(text.len() + 1)).rev().find(|n| text.ends_with(&string[..*n])).unwrap_or(0)
}

/// Bytes before a character that is not complete.
fn whole(text: &[u8]) -> usize {
    // A character has at most four bytes.
    for back in 1..=text.len().min(3) {
        let byte = text[text.len() - back];
        if byte & 0xc0 == 0x80 {
            continue;
        }
        let wanted = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if wanted > back { text.len() - back } else { text.len() };
    }
    text.len()
}

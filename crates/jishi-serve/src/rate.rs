//! How much in a minute: a bucket that fills by so much a second, and holds what comes in a minute.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A bucket. What is taken may leave less than nothing: then nobody gets in before that is made up for.
#[derive(Debug)]
pub struct Bucket {
    per_minute: f64,
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(per_minute: u64, now: Instant) -> Self {
        Self { per_minute: per_minute as f64, level: Mutex::new((per_minute as f64, now)) }
    }

    /// What comes in a minute.
    #[must_use]
    pub fn per_minute(&self) -> u64 {
        self.per_minute as u64
    }

    fn level<T>(&self, now: Instant, change: impl FnOnce(&mut f64) -> T) -> T {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = now.saturating_duration_since(level.1).as_secs_f64();
        level.0 = (level.0 + seconds * self.per_minute / 60.0).min(self.per_minute);
        level.1 = level.1.max(now);
        change(&mut level.0)
    }

    fn seconds(&self, missing: f64) -> u32 {
        (missing * 60.0 / self.per_minute.max(1e-9)).ceil().clamp(1.0, 3600.0) as u32
    }

    /// Takes some.
    pub fn take(&self, amount: u64, now: Instant) {
        self.level(now, |level| *level -= amount as f64);
    }

    /// Takes one where there is one.
    ///
    /// # Errors
    /// The seconds after which there will be one.
    pub fn admit(&self, now: Instant) -> Result<(), u32> {
        self.level(now, |level| {
            if *level >= 1.0 {
                *level -= 1.0;
                return Ok(());
            }
            Err(self.seconds(1.0 - *level))
        })
    }

    /// Whether anything is left.
    ///
    /// # Errors
    /// The seconds after which there will be.
    pub fn open(&self, now: Instant) -> Result<(), u32> {
        self.level(now, |level| if *level >= 1.0 { Ok(()) } else { Err(self.seconds(1.0 - *level)) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_minute_holds_what_it_should() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let bucket = Bucket::new(6, start);
        assert!((0..6).all(|_| bucket.admit(start).is_ok()));
        assert_eq!(bucket.admit(at(0.0)), Err(10));
        assert_eq!(bucket.admit(at(4.0)), Err(6));
        assert_eq!(bucket.admit(at(10.0)), Ok(()));
        assert_eq!(bucket.admit(at(10.0)), Err(10));
        // An hour fills it once, and time does not run backwards.
        assert!((0..6).all(|_| bucket.admit(at(3600.0)).is_ok()));
        assert!(bucket.admit(at(3600.0)).is_err() && bucket.admit(start).is_err());

        let tokens = Bucket::new(60, start);
        tokens.take(100, start);
        assert_eq!(tokens.open(start), Err(41));
        assert_eq!(tokens.open(at(41.0)), Ok(()));
        assert_eq!(Bucket::new(0, start).admit(start), Err(3600));
    }
}

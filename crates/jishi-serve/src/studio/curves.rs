//! Curves of metric logs: read from where the last look ended, thinned while they are read, so that a log of any length
//! takes little memory and a second look little time. Lines that are no records are counted and left out.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jishi_runs::log::{Record, parse};

/// Points of a curve at most.
pub const MOST: usize = 1_000;
/// Bytes of a line at most; longer ones are no records.
const LONGEST: u64 = 1 << 20;
/// Logs that are remembered.
const REMEMBERED: usize = 64;

/// A curve: means over stretches of as many points as it takes to be short.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    points: Vec<[f64; 2]>,
    /// Points of the log to a point of the curve, as a power of two.
    stride: usize,
    open: [f64; 2],
    count: usize,
    /// The last point of the log.
    pub last: [f64; 2],
    /// The lowest and the highest.
    pub ends: Option<[[f64; 2]; 2]>,
    /// Points of the log.
    pub seen: usize,
}

impl Curve {
    fn add(&mut self, step: f64, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.seen += 1;
        self.last = [step, value];
        let [low, high] = self.ends.unwrap_or([[step, value]; 2]);
        self.ends = Some([
            if value < low[1] { [step, value] } else { low },
            if value > high[1] { [step, value] } else { high },
        ]);
        self.stride = self.stride.max(1);
        self.open[0] += step;
        self.open[1] += value;
        self.count += 1;
        if self.count == self.stride {
            let n = self.count as f64;
            self.points.push([self.open[0] / n, self.open[1] / n]);
            (self.open, self.count) = ([0.0; 2], 0);
            if self.points.len() >= MOST {
                let mean = |pair: &[[f64; 2]]| {
                    let n = pair.len() as f64;
                    [pair.iter().map(|p| p[0]).sum::<f64>() / n, pair.iter().map(|p| p[1]).sum::<f64>() / n]
                };
                self.points = self.points.chunks(2).map(mean).collect();
                self.stride *= 2;
            }
        }
    }

    /// The points to draw: the last one is that of the log.
    #[must_use]
    pub fn points(&self) -> Vec<[f64; 2]> {
        let mut points = self.points.clone();
        if self.seen > 0 && points.last().is_none_or(|p| p[0] < self.last[0]) {
            points.push(self.last);
        }
        points
    }
}

/// A log, as far as it was read.
#[derive(Debug, Clone, Default)]
pub struct Log {
    offset: u64,
    /// Curves by split and name.
    pub curves: BTreeMap<(String, String), Curve>,
    /// The last step.
    pub step: u64,
    /// The epochs that are done.
    pub epoch: f64,
    /// Lines that are no records.
    pub damaged: u64,
}

impl Log {
    /// Reads what is new.
    ///
    /// # Errors
    /// The system's. A log that is not there is empty.
    pub fn refresh(&mut self, path: &Path) -> io::Result<()> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *self = Self::default();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.offset {
            *self = Self::default();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                if read as u64 == LONGEST {
                    // Skipped in parts; the rest up to its end is no record either.
                    self.offset += read as u64;
                    self.damaged += 1;
                    continue;
                }
                // Still being written, or torn.
                return Ok(());
            }
            self.offset += read as u64;
            match parse(&line) {
                Some(record) => self.add(&record),
                None => self.damaged += 1,
            }
        }
    }

    fn add(&mut self, record: &Record) {
        self.step = record.step;
        self.epoch = record.epoch;
        for (name, value) in &record.values {
            let key = (record.split.clone(), name.clone());
            self.curves.entry(key).or_default().add(record.step as f64, *value);
        }
    }
}

/// Path of a log, and the moment that its run began.
type Key = (PathBuf, String);

/// Logs that were looked at.
#[derive(Debug, Default)]
pub struct Logs(Mutex<HashMap<Key, Arc<Mutex<Log>>>>);

impl Logs {
    /// A log as it is now.
    #[must_use]
    pub fn read(&self, path: &Path, created: &str) -> Log {
        let log = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (path.to_owned(), created.to_owned());
            if all.len() >= REMEMBERED && !all.contains_key(&key) {
                all.clear();
            }
            Arc::clone(all.entry(key).or_default())
        };
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        // What can't be read now was read as far as it could.
        let _ = log.refresh(path);
        log.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn logs_are_read_on_and_thinned() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let logs = Logs::default();
        assert_eq!(logs.read(&path, "").step, 0);
        let mut file = File::create(&path).unwrap();
        let write = |file: &mut File, steps: std::ops::Range<u64>| {
            for step in steps {
                writeln!(file, "{{\"step\":{step},\"epoch\":1.5,\"split\":\"train\",\"loss\":{}}}", step % 7)
                    .unwrap();
            }
        };
        write(&mut file, 1..10_001);
        file.write_all(b"no record\n{\"step\":3\n{\"step\":10001,\"spl").unwrap();
        let log = logs.read(&path, "");
        let curve = &log.curves[&("train".to_owned(), "loss".to_owned())];
        assert_eq!((log.step, log.damaged, curve.seen), (10_000, 2, 10_000));
        let points = curve.points();
        assert!((300..=MOST + 1).contains(&points.len()), "{}", points.len());
        assert_eq!((points.last(), curve.last), (Some(&[10_000.0, 4.0]), [10_000.0, 4.0]));
        assert_eq!(curve.ends.unwrap().map(|e| e[1]), [0.0, 6.0]);
        let mean = points.iter().map(|p| p[1]).sum::<f64>() / points.len() as f64;
        assert!((mean - 3.0).abs() < 0.1, "{mean}");

        file.write_all(b"it\":\"train\",\"loss\":null}\n").unwrap();
        write(&mut file, 10_002..10_003);
        let log = logs.read(&path, "");
        assert_eq!((log.step, log.damaged), (10_002, 2));
        assert_eq!(log.curves[&("train".to_owned(), "loss".to_owned())].seen, 10_001);

        // Resumed from an earlier step: the log is shorter.
        file.set_len(0).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        write(&mut file, 1..3);
        assert_eq!(logs.read(&path, "").step, 2);
        std::fs::remove_file(&path).unwrap();
        assert!(logs.read(&path, "").curves.is_empty());
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![b'x'; 3 << 20]).unwrap();
        file.write_all(b"\n{\"step\":5,\"epoch\":1,\"split\":\"train\",\"loss\":1}\n").unwrap();
        let mut log = Log::default();
        log.refresh(&path).unwrap();
        assert_eq!(log.step, 5);
        assert!(log.damaged > 0);
    }
}

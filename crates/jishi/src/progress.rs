//! What the user sees while a run trains: a bar in a terminal, plain lines elsewhere, or live curves.

use std::io::{IsTerminal, Write};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use jishi_train::{Event, Observer, Plan};

use crate::watch::Watch;

/// Between two updates of a bar, and between two plain lines.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// Progress of a training job: one run, or the folds of one after another.
pub struct Progress {
    watch: bool,
    stop: &'static AtomicBool,
    run: Option<Running>,
}

/// The run that is at work.
struct Running {
    view: View,
    plan: Plan,
    metric: &'static str,
    started: Instant,
    shown: Instant,
    first_step: Option<usize>,
    rows: usize,
    loss: Smooth,
    validation: Option<String>,
}

enum View {
    Bar(ProgressBar),
    Lines,
    Watch(Box<Watch>),
}

/// A loss that does not jitter from batch to batch.
#[derive(Default)]
struct Smooth(Option<f64>);

impl Smooth {
    fn add(&mut self, value: f64) {
        self.0 = Some(self.0.map_or(value, |old| old + (value - old) * 0.02));
    }
}

impl Progress {
    /// Progress on stderr; with `watch`, live curves where there is a terminal, whose `q` sets `stop`.
    pub fn new(watch: bool, stop: &'static AtomicBool) -> Self {
        Self { watch, stop, run: None }
    }
}

impl Observer for Progress {
    fn begin(&mut self, title: &str, plan: Plan, metric: &'static str) {
        let terminal = std::io::stderr().is_terminal();
        let view = if self.watch && terminal && std::io::stdout().is_terminal() {
            View::Watch(Box::new(Watch::new(title, plan, self.stop)))
        } else if terminal {
            let bar = ProgressBar::new(plan.total_steps as u64);
            let style = ProgressStyle::with_template("{prefix} {bar:24.cyan/dim} {msg}");
            bar.set_style(style.expect("the template is a constant").progress_chars("━━─"));
            bar.set_prefix(title.to_owned());
            View::Bar(bar)
        } else {
            View::Lines
        };
        let now = Instant::now();
        self.run = Some(Running {
            view,
            plan,
            metric,
            started: now,
            shown: now,
            first_step: None,
            rows: 0,
            loss: Smooth::default(),
            validation: None,
        });
    }

    fn event(&mut self, event: &Event<'_>) {
        if let Some(run) = &mut self.run {
            run.on(event);
        }
    }

    fn end(&mut self) {
        match self.run.take().map(|run| run.view) {
            Some(View::Bar(bar)) => bar.finish(),
            Some(View::Watch(watch)) => watch.close(),
            Some(View::Lines) | None => {}
        }
    }

    fn say(&mut self, line: &str) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

impl Running {
    /// Takes an event of the training loop.
    fn on(&mut self, event: &Event<'_>) {
        match event {
            Event::Step { step, epoch, measured } => {
                self.first_step.get_or_insert(step - 1);
                self.rows += measured.rows;
                self.loss.add(measured.loss);
                let last = *step == self.plan.total_steps;
                let interval = if matches!(self.view, View::Lines) { LINE_INTERVAL } else { BAR_INTERVAL };
                if last || self.shown.elapsed() >= interval {
                    self.show(*step, *epoch);
                }
            }
            Event::Validation { step, epoch, train_loss, evaluation, .. } => {
                if let Some(evaluation) = evaluation {
                    let mut text = format!("val_loss {}", short(evaluation.loss));
                    if let Some(value) = evaluation.metrics.get(self.metric) {
                        text += &format!("  val_{} {}", self.metric, short(*value));
                    }
                    self.validation = Some(text);
                }
                if let View::Watch(watch) = &mut self.view {
                    watch.validation(*epoch, *train_loss, evaluation.map(|e| e.loss));
                    watch.draw(*step, "");
                }
            }
            Event::Samples { samples, .. } => {
                if let (Some(sample), View::Bar(_) | View::Lines) = (samples.first(), &self.view) {
                    let between = if sample.continues { "" } else { " → " };
                    self.line(&one_line(&format!("{}{between}{}", sample.prompt, sample.text)));
                }
            }
            Event::Checkpoint { .. } => {}
        }
    }

    /// A line above the bar.
    fn line(&self, text: &str) {
        match &self.view {
            View::Bar(bar) => bar.println(text),
            View::Lines => drop(writeln!(std::io::stderr(), "{text}")),
            View::Watch(_) => {}
        }
    }

    fn show(&mut self, step: usize, epoch: f64) {
        self.shown = Instant::now();
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let done = (step - self.first_step.unwrap_or(0)).max(1);
        let left = seconds / done as f64 * (self.plan.total_steps - step) as f64;
        let epochs = self.plan.total_steps.div_ceil(self.plan.steps_per_epoch);
        let mut text = format!("epoch {}/{epochs}", (epoch.ceil() as usize).min(epochs));
        if let Some(loss) = self.loss.0 {
            text += &format!("  loss {}", short(loss));
        }
        if let Some(validation) = &self.validation {
            text += &format!("  {validation}");
        }
        text += &format!("  {} rows/s  {} left", short(self.rows as f64 / seconds), duration(left));
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_position(step as u64);
                bar.set_message(text);
            }
            View::Lines => {
                let _ = writeln!(std::io::stderr(), "step {step}  {text}");
            }
            View::Watch(watch) => watch.draw(step, &text),
        }
    }
}

/// The first words of a text, on one line.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 120;
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("  “{}…”", &flat[..end]),
        None => format!("  “{flat}”"),
    }
}

/// A figure with four significant digits, and thousands separated.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return value.to_string();
    }
    if size >= 1000.0 {
        let digits = format!("{:.0}", size);
        let mut out = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push(',');
            }
            out.push(c);
        }
        return if value < 0.0 { format!("-{out}") } else { out };
    }
    if size != 0.0 && size < 1e-3 {
        return format!("{value:.2e}");
    }
    let decimals = if size >= 100.0 {
        1
    } else if size >= 10.0 {
        2
    } else {
        4
    };
    format!("{value:.decimals$}")
}

/// Seconds as `0:07`, `12:30` or `3:05:00`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

#[cfg(test)]
mod tests {
    use super::{duration, short};

    #[test]
    fn figures_are_short_and_exact_enough() {
        assert_eq!(short(25_622.4), "25,622");
        assert_eq!(short(-1_234_567.0), "-1,234,567");
        assert_eq!(short(0.971_23), "0.9712");
        assert_eq!(short(0.000_012_3), "1.23e-5");
        assert_eq!(short(0.0), "0.0000");
        assert_eq!(short(f64::NAN), "NaN");
    }

    #[test]
    fn durations_read_like_a_clock() {
        assert_eq!(duration(7.2), "0:07");
        assert_eq!(duration(750.0), "12:30");
        assert_eq!(duration(11_100.0), "3:05:00");
    }
}

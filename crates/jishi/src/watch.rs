//! Live curves in the terminal: `jishi train --watch`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jishi_train::Plan;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, LegendPosition, Paragraph};

/// The live view. It owns the terminal until it is closed.
pub struct Watch {
    terminal: DefaultTerminal,
    title: String,
    plan: Plan,
    stop: &'static AtomicBool,
    training: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
    status: String,
}

impl Watch {
    /// Takes the terminal over.
    pub fn new(title: &str, plan: Plan, stop: &'static AtomicBool) -> Self {
        Self {
            terminal: ratatui::init(),
            title: title.to_owned(),
            plan,
            stop,
            training: Vec::new(),
            validation: Vec::new(),
            status: String::new(),
        }
    }

    /// Adds a point to each curve.
    pub fn validation(&mut self, epoch: f64, train_loss: f64, validation_loss: Option<f64>) {
        if train_loss.is_finite() {
            self.training.push((epoch, train_loss));
        }
        self.validation.extend(validation_loss.map(|loss| (epoch, loss)));
    }

    /// Draws the view; `status` replaces the line below the curves where it is not empty.
    pub fn draw(&mut self, step: usize, status: &str) {
        self.keys();
        if !status.is_empty() {
            status.clone_into(&mut self.status);
        }
        let share = step as f64 / self.plan.total_steps.max(1) as f64;
        let (training, validation) = (&self.training, &self.validation);
        let (title, line) = (&self.title, &self.status);
        // A terminal that went away must not end the training.
        let _ = self.terminal.draw(|frame| {
            let [chart_area, status_area, gauge_area, help_area] = Layout::vertical([
                Constraint::Min(5),
                Constraint::Length(1),
                Constraint::Length(1),
                Constraint::Length(1),
            ])
            .areas(frame.area());
            frame.render_widget(chart(title, training, validation), chart_area);
            frame.render_widget(Paragraph::new(line.as_str()), status_area);
            let gauge =
                Gauge::default().ratio(share.clamp(0.0, 1.0)).gauge_style(Style::new().cyan().on_black());
            frame.render_widget(gauge, gauge_area);
            frame.render_widget(Paragraph::new("q: save, stop and leave").dim(), help_area);
        });
    }

    fn keys(&self) {
        while event::poll(Duration::ZERO).unwrap_or(false) {
            if let Ok(Event::Key(key)) = event::read() {
                let interrupt =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if key.code == KeyCode::Char('q') || interrupt {
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Gives the terminal back.
    pub fn close(self) {
        ratatui::restore();
    }
}

fn chart<'a>(title: &'a str, training: &'a [(f64, f64)], validation: &'a [(f64, f64)]) -> Chart<'a> {
    let all = || training.iter().chain(validation);
    let last = all().map(|p| p.0).fold(1.0, f64::max);
    let low = all().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let high = all().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low < high { (low, high) } else { (0.0, 1.0) };
    let curve = |name, data, color| {
        Dataset::default()
            .name(name)
            .data(data)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
    };
    let label = |v: f64| Line::from(crate::progress::short(v));
    Chart::new(vec![
        curve("training loss", training, Color::Cyan),
        curve("validation loss", validation, Color::Yellow),
    ])
    .block(Block::bordered().title(title))
    .legend_position(Some(LegendPosition::TopRight))
    .x_axis(
        Axis::default()
            .title("epoch")
            .bounds([0.0, last])
            .labels([Line::from("0"), Line::from(format!("{last:.0}"))]),
    )
    .y_axis(Axis::default().bounds([low, high]).labels([
        label(low),
        label((low + high) / 2.0),
        label(high),
    ]))
}

//! Charts as inline SVG that fits any width, with a sentence and a table for those who do not see it.
//!
//! Lines are drawn in a frame of 1000 × [`HEIGHT`] that is stretched to the width there is; words and ticks stand beside it at
//! percentages of the width, so that they stay readable on a phone.

use std::fmt::Write;

use jishi_runs::table::{number, thousands};
use serde_json::json;

use super::html::{Html, Tag, div, span, tag};
use super::page::{Cx, more, scroll};
use super::text::T;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 220.0;
/// Losses whose largest is this many times the smallest are shown on a logarithmic axis.
const LOG_ABOVE: f64 = 50.0;
/// Lines of more points than this are shown pale, with their running mean over it.
const NOISY: usize = 200;
const MEANS: usize = 80;
/// Rows of the table.
const ROWS: usize = 12;
/// Colours that there are.
pub const COLOURS: usize = 8;

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// Its colour.
    pub colour: usize,
    /// Drawn pale: beside a more important line of the same colour.
    pub pale: bool,
    /// Step and value, in order.
    pub points: Vec<[f64; 2]>,
}

/// Where values stand.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        if !(low.is_finite() && high.is_finite()) {
            return Self { low: 0.0, high: 1.0, log: false };
        }
        if low > 0.0 && high / low > LOG_ABOVE {
            return Self { low: low / 1.1, high: high * 1.1, log: true };
        }
        let room = if high > low { (high - low) * 0.06 } else { (high.abs() * 0.1).max(0.5) };
        // What is never negative does not look as if it were.
        let floor = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
        Self { low: floor, high: high + room, log: false }
    }

    /// The share of the way from low to high.
    fn share(&self, value: f64) -> f64 {
        let share = if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if share.is_finite() { share.clamp(-0.1, 1.1) } else { 0.0 }
    }

    fn ticks(&self, about: usize) -> Vec<f64> {
        if self.log {
            let (first, last) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
            let powers: Vec<f64> = (first..=last).map(|e| 10f64.powi(e)).collect();
            if powers.len() >= 3 {
                let every = powers.len().div_ceil(about + 1);
                return powers.into_iter().step_by(every).collect();
            }
            let fine = (first - 1..=last + 1).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)));
            return fine.filter(|v| (self.low..=self.high).contains(v)).collect();
        }
        nice(self.low, self.high, about)
    }
}

/// Round numbers in a range, about so many.
fn nice(low: f64, high: f64, about: usize) -> Vec<f64> {
    let raw = (high - low) / about.max(1) as f64;
    if !(raw.is_finite() && raw > 0.0) {
        return vec![low];
    }
    let power = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= raw * 0.999).unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last.min(first + 50)).map(|i| i as f64 * step).collect()
}

/// A number on an axis: no more digits than it has.
fn tick(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 || (size > 0.0 && size < 1e-4) {
        let text = format!("{value:e}");
        return if text.len() > 8 { format!("{value:.1e}") } else { text };
    }
    number(value, 5)
}

/// A chart of lines over steps.
#[must_use]
pub fn chart(cx: &Cx<'_>, key: &str, title: &str, series: &[Series]) -> Html {
    let series: Vec<&Series> = series.iter().filter(|s| !s.points.is_empty()).collect();
    if series.is_empty() {
        return Html::none();
    }
    let all = || series.iter().flat_map(|s| s.points.iter());
    let x_high = all().map(|p| p[0]).fold(0.0, f64::max);
    let x = Scale { low: 0.0, high: x_high.max(1.0), log: false };
    let y = Scale::of(all().map(|p| p[1]));
    let at = |p: &[f64; 2]| [x.share(p[0]) * WIDTH, (1.0 - y.share(p[1])) * HEIGHT];

    let mut plot = tag("svg").class("plot").attr("aria-hidden", "true").attr("focusable", "false");
    let mut axis = tag("svg").class("axis").attr("aria-hidden", "true").attr("focusable", "false");
    for value in y.ticks(4) {
        let at = format!("{:.1}", (1.0 - y.share(value)) * HEIGHT);
        plot = plot.add(
            tag("line").class("grid").attr("x1", "0").attr("x2", "100%").attr("y1", &at).attr("y2", &at),
        );
        let text = tag("text").attr("x", "48").attr("y", &at).attr("dy", "0.32em").attr("text-anchor", "end");
        axis = axis.add(text.add(tick(value)));
    }
    let ticks = nice(x.low, x.high, 5);
    for value in &ticks {
        let share = x.share(*value);
        let left = format!("{:.2}%", share * 100.0);
        let anchor = if share < 0.04 {
            "start"
        } else if share > 0.96 {
            "end"
        } else {
            "middle"
        };
        let text =
            tag("text").attr("x", left).attr("y", format!("{}", HEIGHT + 18.0)).attr("text-anchor", anchor);
        plot = plot.add(text.add(thousands(&value.to_string())));
    }
    let base = format!("{HEIGHT}");
    plot = plot.add(
        tag("line").class("base").attr("x1", "0").attr("x2", "100%").attr("y1", &base).attr("y2", &base),
    );
    let mut lines = tag("svg")
        .attr("width", "100%")
        .attr("height", format!("{HEIGHT}"))
        .attr("viewBox", format!("0 0 {WIDTH} {HEIGHT}"))
        .attr("preserveAspectRatio", "none");
    for s in &series {
        let colour = format!("s{}", s.colour % COLOURS);
        let noisy = s.points.len() > NOISY;
        let pale = if s.pale || noisy { "pale" } else { "" };
        lines = lines.add(
            tag("path").class(&format!("line {colour} {pale}")).attr("d", path(s.points.iter().map(at))),
        );
        if noisy {
            let mean = means(&s.points);
            let class = if s.pale { "half" } else { "" };
            lines = lines.add(
                tag("path").class(&format!("line {colour} {class}")).attr("d", path(mean.iter().map(at))),
            );
        }
    }
    plot = plot.add(lines);
    for s in &series {
        // A line of one point is none.
        if let [one] = s.points.as_slice() {
            let [across, down] = at(one);
            plot = plot.add(
                tag("circle")
                    .class(&format!("point s{}", s.colour % COLOURS))
                    .attr("cx", format!("{:.2}%", across / WIDTH * 100.0))
                    .attr("cy", format!("{down:.1}"))
                    .attr("r", "4"),
            );
        }
    }
    let shown = json!({
        "x": [x.low, x.high],
        "y": [y.low, y.high, y.log],
        "height": HEIGHT,
        "step": cx.t(T::Step),
        "series": series.iter().map(|s| json!({
            "name": s.name, "colour": s.colour % COLOURS,
            "points": s.points.iter().map(|p| [rounded(p[0]), rounded(p[1])]).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    let swatch = |s: &&Series| {
        let line = span(&format!("swatch s{}{}", s.colour % COLOURS, if s.pale { " pale" } else { "" }));
        tag("li").add(line.attr("aria-hidden", "true")).add(&s.name)
    };
    let caption = tag("figcaption")
        .add(span("name").add(title))
        .add((series.len() > 1).then(|| tag("ul").class("legend").all(series.iter().map(swatch))));
    let drawing =
        div("canvas").attr("role", "img").attr("aria-label", words(cx, title, &series)).add(axis).add(plot);
    tag("figure")
        .class("chart")
        .attr("data-chart", shown.to_string())
        .add(caption)
        .add(drawing)
        .add(more(&format!("table-{key}"), cx.t(T::AsTable), table(cx, title, &series)))
        .into()
}

fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

fn path(points: impl Iterator<Item = [f64; 2]>) -> String {
    let mut d = String::new();
    for (i, [x, y]) in points.enumerate() {
        let _ = write!(d, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
    }
    d
}

fn means(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mean = |part: &[[f64; 2]]| {
        let n = part.len() as f64;
        [part.iter().map(|p| p[0]).sum::<f64>() / n, part.iter().map(|p| p[1]).sum::<f64>() / n]
    };
    points.chunks(points.len().div_ceil(MEANS)).map(mean).collect()
}

/// What a chart shows, in a sentence for each line.
fn words(cx: &Cx<'_>, title: &str, series: &[&Series]) -> String {
    let mut said = format!("{title}. ");
    for s in series {
        let (Some(first), Some(last)) = (s.points.first(), s.points.last()) else { continue };
        let low = s.points.iter().fold(first, |a, b| if b[1] < a[1] { b } else { a });
        let high = s.points.iter().fold(first, |a, b| if b[1] > a[1] { b } else { a });
        let steps = thousands(&format!("{:.0}", last[0]));
        let with: [&dyn std::fmt::Display; 6] = [
            &s.name,
            &number(first[1], 4),
            &number(last[1], 4),
            &steps,
            &number(low[1], 4),
            &number(high[1], 4),
        ];
        said += &cx.say(T::ChartSays, &with);
        said.push(' ');
    }
    said
}

fn table(cx: &Cx<'_>, title: &str, series: &[&Series]) -> Html {
    let longest = series.iter().max_by_key(|s| s.points.len()).map_or(&[][..], |s| &s.points);
    let every = longest.len().div_ceil(ROWS).max(1);
    let mut steps: Vec<f64> = longest.iter().step_by(every).map(|p| p[0]).collect();
    if let Some(last) = longest.last().filter(|p| steps.last() != Some(&p[0])) {
        steps.push(last[0]);
    }
    let head = tag("tr")
        .add(tag("th").attr("scope", "col").class("number").add(cx.t(T::Step)))
        .all(series.iter().map(|s| tag("th").attr("scope", "col").class("number").add(&s.name)));
    let cell = |s: &&Series, step: f64| -> Tag {
        // The last value up to there.
        let value = s.points.iter().rev().find(|p| p[0] <= step).map(|p| number(p[1], 5));
        tag("td").class("number").add(value.unwrap_or_else(|| "–".into()))
    };
    let row = |step: &f64| {
        let head = tag("th").attr("scope", "row").class("number").add(thousands(&format!("{step:.0}")));
        tag("tr").add(head).all(series.iter().map(|s| cell(s, *step)))
    };
    let table = tag("table")
        .add(tag("caption").class("sr").add(title))
        .add(tag("thead").add(head))
        .add(tag("tbody").all(steps.iter().map(row)));
    scroll(title, table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(nice(0.0, 540.0, 5), [0.0, 200.0, 400.0]);
        assert_eq!(nice(0.0, 1.0, 4), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(nice(3.0, 3.0, 4), [3.0]);
        let log = Scale::of([1e-3, 2.0].into_iter());
        assert!(log.log);
        assert_eq!(log.ticks(4), [1e-3, 1e-2, 1e-1, 1.0]);
        for odd in [[f64::MAX, f64::MIN], [0.0, 0.0], [1e-300, 1e300], [-1.0, -1.0]] {
            let scale = Scale::of(odd.into_iter());
            assert!(scale.ticks(4).len() < 700);
            assert!(scale.share(odd[0]).is_finite());
        }
        assert_eq!((tick(0.25), tick(25_000.0), tick(1e-6)), ("0.25".into(), "25,000".into(), "1e-6".into()));
    }
}

//! A rectangle with two axes, the ground of every chart.

use std::fmt::Write;

use crate::report::html::text::{escape, number};

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// How a position on an axis is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Plain,
    Percent,
    /// No position between two whole ones.
    Whole,
}

impl Unit {
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Plain | Unit::Whole => number(value),
            Unit::Percent => format!("{} %", number(value * 100.0)),
        }
    }
}

/// One axis: what it is called, its unit, where it starts and ends.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    pub name: &'a str,
    pub unit: Unit,
    pub from: f64,
    pub to: f64,
}

impl<'a> Axis<'a> {
    /// An axis that all values fit on. One value, or none, gets room on both sides.
    pub fn around(name: &'a str, unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::MAX, f64::MIN), |(low, high), v| {
                (low.min(v), high.max(v))
            });
        let (low, high) = match low <= high {
            true => (low, high),
            false => (0.0, 1.0),
        };
        let room = match high - low {
            0.0 if low == 0.0 => 1.0,
            0.0 => low.abs() * 0.1,
            range => range * 0.05,
        };
        let (mut from, mut to) = match unit {
            Unit::Whole if high > low => (low, high),
            _ => (low - room, high + room),
        };
        if low >= 0.0 {
            from = from.max(0.0);
        }
        if unit == Unit::Percent && high <= 1.0 {
            to = to.min(1.0);
        }
        Self {
            name,
            unit,
            from,
            to,
        }
    }

    /// Some four round positions.
    fn ticks(&self) -> Vec<f64> {
        if self.to <= self.from {
            return Vec::new();
        }
        let rough = (self.to - self.from) / 4.0;
        let magnitude = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|factor| factor * magnitude)
            .into_iter()
            .find(|step| *step >= rough * 0.99)
            .unwrap_or(rough);
        let step = match self.unit {
            Unit::Whole => step.ceil().max(1.0),
            _ => step,
        };
        let first = (self.from / step - 1e-9).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

/// A chart in the making: axes first, then marks.
pub struct Plane<'a> {
    x: Axis<'a>,
    y: Axis<'a>,
    svg: String,
}

impl<'a> Plane<'a> {
    pub fn new(x: Axis<'a>, y: Axis<'a>) -> Self {
        let mut plane = Self {
            x,
            y,
            svg: String::new(),
        };
        for at in plane.y.ticks() {
            let (y, shown) = (plane.y(at), escape(&plane.y.unit.show(at)));
            plane.line("grid", (LEFT, y), (WIDTH - RIGHT, y));
            plane.text("tick", "end", (LEFT - 6.0, y + 4.0), &shown);
        }
        let bottom = HEIGHT - BOTTOM;
        plane.line("grid", (LEFT, bottom), (WIDTH - RIGHT, bottom));
        for at in plane.x.ticks() {
            let (x, shown) = (plane.x(at), escape(&plane.x.unit.show(at)));
            plane.text("tick", "middle", (x, bottom + 16.0), &shown);
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        let name = escape(plane.x.name);
        plane.text("tick", "middle", (middle, HEIGHT - 6.0), &name);
        plane
    }

    fn x(&self, value: f64) -> f64 {
        let fraction = (value - self.x.from) / (self.x.to - self.x.from);
        LEFT + fraction * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let fraction = (value - self.y.from) / (self.y.to - self.y.from);
        HEIGHT - BOTTOM - fraction * (HEIGHT - TOP - BOTTOM)
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        self.svg
            .write_fmt(element)
            .expect("text can always be longer");
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    fn text(&mut self, class: &str, anchor: &str, (x, y): (f64, f64), text: &str) {
        self.push(format_args!(
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        ));
    }

    /// A line through points, and the points themselves where they are few.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let at: Vec<_> = points
            .iter()
            .map(|(x, y)| (self.x(*x), self.y(*y)))
            .collect();
        if let Some((first, rest)) = at.split_first().filter(|(_, rest)| !rest.is_empty()) {
            let mut path = format!("M{:.1} {:.1}", first.0, first.1);
            for (x, y) in rest {
                write!(path, "L{x:.1} {y:.1}").expect("text can always be longer");
            }
            self.push(format_args!("<path class=\"mark {class}\" d=\"{path}\"/>"));
        }
        if at.len() <= 30 {
            for (x, y) in at {
                self.push(format_args!(
                    "<circle class=\"mark {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>"
                ));
            }
        }
    }

    /// Where both axes say the same.
    pub fn diagonal(&mut self) {
        let (from, to) = (self.x.from.max(self.y.from), self.x.to.min(self.y.to));
        let ends = [from, to].map(|at| (self.x(at), self.y(at)));
        self.line("ideal", ends[0], ends[1]);
    }

    /// Bars beside each other, each with its name and value written to it.
    pub fn bars(&mut self, bars: &[(&str, &str, f64)]) {
        let room = (WIDTH - LEFT - RIGHT) / bars.len() as f64;
        for (i, (class, name, value)) in bars.iter().enumerate() {
            let (left, width) = (LEFT + room * (i as f64 + 0.2), room * 0.6);
            let (top, bottom) = (self.y(*value), HEIGHT - BOTTOM);
            self.push(format_args!(
                "<rect class=\"mark bar {class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
                 height=\"{:.1}\"/>",
                (bottom - top).max(0.5)
            ));
            let middle = left + width / 2.0;
            let shown = escape(&self.y.unit.show(*value));
            self.text("", "middle", (middle, top - 4.0), &shown);
            self.text("", "middle", (middle, bottom + 16.0), &escape(name));
        }
    }

    /// The chart, with a title and a description.
    pub fn finish(self, title: &str, words: &str) -> String {
        svg((WIDTH, HEIGHT), title, words, &self.svg)
    }
}

/// A drawing with a title and a description for those who do not see it.
pub fn svg((width, height): (f64, f64), title: &str, words: &str, inside: &str) -> String {
    format!(
        "<svg role=\"img\" viewBox=\"0 0 {width} {height}\" aria-label=\"{}\"><title>{}</title>\
         <desc>{}</desc>{inside}</svg>",
        escape(&format!("{title}. {words}")),
        escape(title),
        escape(words)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let ticks = |unit, from, to| {
            let axis = Axis {
                name: "",
                unit,
                from,
                to,
            };
            axis.ticks()
        };
        assert_eq!(ticks(Unit::Whole, 1.0, 3.0), [1.0, 2.0, 3.0]);
        assert_eq!(ticks(Unit::Plain, 0.0, 8.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        let fine = ticks(Unit::Percent, 0.871, 0.934);
        assert_eq!(fine.len(), 3, "{fine:?}");
        assert!(
            fine.iter().all(|at| (0.871..=0.934).contains(at)),
            "{fine:?}"
        );
    }

    #[test]
    fn an_axis_has_room_for_one_value_and_for_none() {
        let one = Axis::around("", Unit::Plain, [4.0].into_iter());
        assert!(one.from < 4.0 && one.to > 4.0);
        let none = Axis::around("", Unit::Plain, [f64::NAN].into_iter());
        assert_eq!(
            (none.from, none.to.total_cmp(&1.0)),
            (0.0, std::cmp::Ordering::Greater)
        );
        let fraction = Axis::around("", Unit::Percent, [0.5, 1.0].into_iter());
        assert_eq!(fraction.to, 1.0);
    }
}

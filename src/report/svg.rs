//! Plots as SVG: data coordinates in, pixels out; correct without a script or a style sheet.
//!
//! Contract: pure; the same numbers give the same bytes. Non-finite points are left out; lines and
//! areas end at the edge of the plot. Colors are classes (`s0`, `s1`, ... and names), so that the
//! page's theme sets them; every series also has its own dash pattern and mark. Text is escaped
//! here. It does not know what is plotted.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use super::text::{fixed, html, shortened};

/// Size of every plot in units of its view box.
pub const WIDTH: f64 = 440.0;
/// See [`WIDTH`].
pub const HEIGHT: f64 = 300.0;
/// Margins for the axes.
const LEFT: f64 = 54.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// What a column of a note's text takes at most, and its lines: 11 pixels high in the page's style.
const NOTE_COLUMN: f64 = 6.4;
const NOTE_HEIGHT: f64 = 12.0;
/// Distance from a point to the nearest corner of its name.
const NAME_GAP: f64 = 8.0;
/// Maximum length of a point's name, in characters.
const NAME_CHARS: usize = 40;

/// Colors and marks of series, in a cycle.
pub const SERIES: usize = 7;
/// Dash patterns, one per series; solid first.
const DASHES: [&str; SERIES] = ["", "7 3", "2 3", "9 3 2 3", "4 2", "1 2", "12 4"];

/// One axis: its label and range.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The quantity with its unit.
    pub label: String,
    /// Lower end.
    pub low: f64,
    /// Upper end, above the lower one.
    pub high: f64,
    /// Whether it is logarithmic; both ends are above 0 then.
    pub log: bool,
    /// Whether ticks show magnitudes: counts to both sides.
    pub magnitudes: bool,
}

impl Axis {
    /// From 0 to 1.
    pub fn share(label: &str) -> Self {
        Self { label: label.to_owned(), low: 0.0, high: 1.0, log: false, magnitudes: false }
    }

    /// From 0 to a round number at or above `most`.
    pub fn up_to(label: &str, most: f64) -> Self {
        Self {
            label: label.to_owned(),
            low: 0.0,
            high: round_up(most),
            log: false,
            magnitudes: false,
        }
    }

    /// From one value to another, widened if they are the same.
    pub fn between(label: &str, low: f64, high: f64) -> Self {
        let (low, high) = if high - low > 1e-9 { (low, high) } else { (low - 0.5, high + 0.5) };
        Self { label: label.to_owned(), low, high, log: false, magnitudes: false }
    }

    /// Counts to both sides of 0, up to round numbers at or above these.
    pub fn mirrored(label: &str, below: f64, above: f64) -> Self {
        let step = step((below + above).max(1.0)).max(1.0);
        let ends = [-below, above].map(|end| (end / step).abs().ceil() * step * end.signum());
        let (low, high) = (ends[0], ends[1].max(if below > 0.0 { 0.0 } else { step }));
        Self { label: label.to_owned(), low, high, log: false, magnitudes: true }
    }

    /// By factors, around all values, which must be above 0; at least one power of ten.
    pub fn factors(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|v| *v > 0.0 && v.is_finite())
            .fold((f64::INFINITY, 0.0_f64), |(a, b), v| (a.min(v), b.max(v)));
        let (low, high) = if high > 0.0 { (low * 0.7, high * 1.4) } else { (1.0, 10.0) };
        let wider = (10.0 / (high / low)).max(1.0).sqrt();
        Self {
            label: label.to_owned(),
            low: low / wider,
            high: high * wider,
            log: true,
            magnitudes: false,
        }
    }

    /// The position of a value, 0 to 1 from end to end.
    fn at(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Round values along it.
    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decade = |power: i32| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power));
            let powers = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
            let all: Vec<f64> =
                powers.flat_map(decade).filter(|v| (self.low..=self.high).contains(v)).collect();
            let sparse: Vec<f64> = all
                .iter()
                .copied()
                .filter(|v| (v.log10() - v.log10().round()).abs() < 1e-9)
                .collect();
            return if all.len() > 7 && sparse.len() > 1 { sparse } else { all };
        }
        let step = step(self.high - self.low);
        let first = (self.low / step - 1e-9).ceil();
        (0..32)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|v| *v <= self.high + step * 1e-9)
            .collect()
    }

    fn tick_text(&self, value: f64) -> String {
        if self.log {
            return if value >= 1000.0 {
                format!("{}k", fixed(value / 1000.0, 0))
            } else {
                format!("{value}")
            };
        }
        let value = if self.magnitudes { value.abs() } else { value };
        let decimals = (-step(self.high - self.low).log10().floor()).clamp(0.0, 6.0) as usize;
        fixed(value, decimals)
    }
}

/// A round step that divides a span into four to eight.
fn step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|s| s * power)
        .find(|s| *s >= rough * 0.999)
        .unwrap_or(power)
}

/// A round number at or above a value.
fn round_up(value: f64) -> f64 {
    if !(value.is_finite() && value > 0.0) {
        return 1.0;
    }
    let step = step(value);
    (value / step - 1e-9).ceil() * step
}

/// A point with the bars of its intervals.
#[derive(Clone, Debug)]
pub struct Point<'a> {
    /// Its position.
    pub at: (f64, f64),
    /// Both ends of its bar along x.
    pub along_x: (f64, f64),
    /// Both ends of its bar along y.
    pub along_y: (f64, f64),
    /// Its name.
    pub name: &'a str,
}

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    /// Around a line or a point, with some room on every side.
    fn around((x0, y0): (f64, f64), (x1, y1): (f64, f64), room: f64) -> Self {
        Self {
            left: x0.min(x1) - room,
            top: y0.min(y1) - room,
            right: x0.max(x1) + room,
            bottom: y0.max(y1) + room,
        }
    }

    fn touches(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn is_within(&self, other: &Self) -> bool {
        self.left >= other.left
            && self.right <= other.right
            && self.top >= other.top
            && self.bottom <= other.bottom
    }
}

/// A plot that marks are added to.
#[derive(Debug)]
pub struct Plot {
    x: Axis,
    y: Axis,
    id: String,
    body: String,
    /// Words, above all marks and never cut off.
    notes: String,
}

impl Plot {
    /// A plot; `id` names its parts in the page, letters and digits.
    pub fn new(id: &str, x: Axis, y: Axis) -> Self {
        Self { x, y, id: id.to_owned(), body: String::new(), notes: String::new() }
    }

    /// Pixels from the left.
    pub fn px(&self, x: f64) -> f64 {
        LEFT + self.x.at(x) * (WIDTH - LEFT - RIGHT)
    }

    /// Pixels from the top.
    pub fn py(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.at(y) * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (x, y) in points.filter(|(x, y)| x.is_finite() && y.is_finite()) {
            let _ = write!(
                path,
                "{}{} {}",
                if path.is_empty() { "M" } else { "L" },
                px(self.px(x)),
                px(self.py(y))
            );
        }
        path
    }

    /// A line of a series.
    pub fn line(&mut self, series: usize, points: &[(f64, f64)]) {
        let path = self.path(points.iter().copied());
        let _ = write!(
            self.body,
            r#"<path class="line s{}" stroke-dasharray="{}" d="{path}"/>"#,
            series % SERIES,
            DASHES[(series + series / SERIES) % SERIES]
        );
    }

    /// A line that does not belong to a series: a target, a diagonal.
    pub fn guide(&mut self, points: &[(f64, f64)]) {
        let path = self.path(points.iter().copied());
        let _ = write!(self.body, r#"<path class="guide" d="{path}"/>"#);
    }

    /// A mark of a series, with its tooltip.
    pub fn mark(&mut self, series: usize, (x, y): (f64, f64), title: &str) {
        if x.is_finite() && y.is_finite() {
            let shape = mark(series, self.px(x), self.py(y));
            let _ = write!(
                self.body,
                "<g class=\"mark s{}\"><title>{}</title>{shape}</g>",
                series % SERIES,
                html(title)
            );
        }
    }

    /// A bar of an interval along y, through a point.
    pub fn whisker_y(&mut self, series: usize, x: f64, (low, high): (f64, f64)) {
        self.whisker(series, [(x, low), (x, high)]);
    }

    /// A bar of an interval along x, through a point.
    pub fn whisker_x(&mut self, series: usize, (low, high): (f64, f64), y: f64) {
        self.whisker(series, [(low, y), (high, y)]);
    }

    fn whisker(&mut self, series: usize, ends: [(f64, f64); 2]) {
        let path = self.path(ends.into_iter());
        let _ = write!(self.body, r#"<path class="whisker s{}" d="{path}"/>"#, series % SERIES);
    }

    /// A rectangle between two corners, with its class and tooltip.
    pub fn bar(&mut self, class: &str, (x0, x1): (f64, f64), (y0, y1): (f64, f64), title: &str) {
        let (left, right) = (self.px(x0) + 0.5, self.px(x1) - 0.5);
        let (top, bottom) = (self.py(y0.max(y1)), self.py(y0.min(y1)));
        let (width, height) = (px((right - left).max(0.5)), px(bottom - top));
        let _ = write!(
            self.body,
            r#"<rect class="{class}" x="{}" y="{}" width="{width}" height="{height}"><title>{}</title></rect>"#,
            px(left),
            px(top),
            html(title)
        );
    }

    /// A word at a point; `anchor` is start, middle or end.
    pub fn note(&mut self, (x, y): (f64, f64), (dx, dy): (f64, f64), anchor: &str, text: &str) {
        let (x, y) = (px(self.px(x) + dx), px(self.py(y) + dy));
        let _ = write!(
            self.notes,
            r#"<text class="note" x="{x}" y="{y}" text-anchor="{anchor}">{}</text>"#,
            html(text)
        );
    }

    /// Names points beside them or at the ends of their bars: within the plot, away from all marks
    /// and other names, and away from the bars if possible. A name that fits nowhere is left to the
    /// legend.
    pub fn names(&mut self, points: &[Point<'_>]) {
        let at = |(x, y): (f64, f64)| (self.px(x), self.py(y));
        let marks: Vec<Area> = points
            .iter()
            .map(|point| Area::around(at(point.at), at(point.at), NAME_GAP - 1.0))
            .collect();
        let bar = |a: (f64, f64), b: (f64, f64)| Area::around(at(a), at(b), 1.0);
        let bars = points.iter().flat_map(|Point { at: (x, y), along_x, along_y, .. }| {
            [bar((along_x.0, *y), (along_x.1, *y)), bar((*x, along_y.0), (*x, along_y.1))]
        });
        let bars: Vec<Area> = bars.collect();
        let plot = Area { left: LEFT, top: TOP, right: WIDTH - RIGHT, bottom: HEIGHT - BOTTOM };
        let mut placed: Vec<Area> = Vec::new();
        let mut notes = String::new();
        for (series, point) in points
            .iter()
            .enumerate()
            .filter(|(_, point)| point.at.0.is_finite() && point.at.1.is_finite())
        {
            let name = shortened(point.name, NAME_CHARS);
            let (width, (x, y)) = (NOTE_COLUMN * name.width() as f64, at(point.at));
            let corner = |(right, below): (bool, bool)| {
                let left = if right { x + NAME_GAP } else { x - NAME_GAP - width };
                let top = if below { y + NAME_GAP * 0.5 } else { y - NAME_GAP * 0.5 - NOTE_HEIGHT };
                Area { left, top, right: left + width, bottom: top + NOTE_HEIGHT }
            };
            // Above and below its bar a name may move aside, as long as the bar points at it.
            let left = (x - 0.5 * width).min(plot.right - width).max(plot.left);
            let end = |top: f64| Area { left, top, right: left + width, bottom: top + NOTE_HEIGHT };
            let ends = [
                end(self.py(point.along_y.1) - 2.0 - NOTE_HEIGHT),
                end(self.py(point.along_y.0) + 2.0),
            ];
            let corners = [(true, false), (true, true), (false, false), (false, true)].map(corner);
            let is_free = |area: &&Area| {
                area.is_within(&plot)
                    && !marks.iter().chain(&placed).any(|other| other.touches(area))
            };
            let is_clear =
                |area: &&Area| is_free(area) && !bars.iter().any(|bar| bar.touches(area));
            let places = || corners.iter().chain(&ends);
            let Some(area) = places().find(is_clear).or_else(|| places().find(is_free)) else {
                continue;
            };
            placed.push(*area);
            // The name begins, or ends, beside the point, however wide its letters turn out to be.
            let (from, anchor) = match area {
                area if area.left > x => (area.left, "start"),
                area if area.right < x => (area.right, "end"),
                area => (f64::midpoint(area.left, area.right), "middle"),
            };
            let (from, base, series) = (px(from), px(area.bottom - 3.0), series % SERIES);
            let _ = write!(
                notes,
                r#"<text class="note name s{series}" x="{from}" y="{base}" text-anchor="{anchor}">{}</text>"#,
                html(&name)
            );
        }
        self.notes.push_str(&notes);
    }

    /// A horizontal line from end to end.
    pub fn baseline(&mut self, y: f64) {
        let y = px(self.py(y));
        let _ = write!(self.body, r#"<path class="axis" d="M{LEFT} {y}H{}"/>"#, WIDTH - RIGHT);
    }

    /// A vertical line from end to end.
    pub fn rule_x(&mut self, x: f64) {
        let x = px(self.px(x));
        let _ = write!(self.body, r#"<path class="guide" d="M{x} {TOP}V{}"/>"#, HEIGHT - BOTTOM);
    }

    /// A word beside a vertical line, at the top.
    pub fn corner_note(&mut self, x: f64, dx: f64, anchor: &str, text: &str) {
        let x = px(self.px(x) + dx);
        let _ = write!(
            self.notes,
            r#"<text class="note" x="{x}" y="{}" text-anchor="{anchor}">{}</text>"#,
            TOP + 10.0,
            html(text)
        );
    }

    /// The whole element. Screen readers read `title` and `description`; the description has the
    /// main numbers.
    pub fn finish(self, title: &str, description: &str) -> String {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut axes = String::new();
        for tick in self.x.ticks() {
            let (x, text) = (px(self.px(tick)), self.x.tick_text(tick));
            let _ = write!(
                axes,
                r#"<path class="grid" d="M{x} {TOP}V{bottom}"/><text x="{x}" y="{}" text-anchor="middle">{text}</text>"#,
                bottom + 16.0
            );
        }
        for tick in self.y.ticks() {
            let (y, text) = (self.py(tick), self.y.tick_text(tick));
            let _ = write!(
                axes,
                r#"<path class="grid" d="M{LEFT} {0}H{right}"/><text x="{1}" y="{2}" text-anchor="end">{text}</text>"#,
                px(y),
                LEFT - 6.0,
                px(y + 4.0)
            );
        }
        let (middle_x, middle_y) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, bottom));
        let _ = write!(
            axes,
            r#"<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/><text class="label" x="{}" y="{}" text-anchor="middle">{}</text>"#,
            px(middle_x),
            HEIGHT - 8.0,
            html(&self.x.label)
        );
        let _ = write!(
            axes,
            r#"<text class="label" x="13" y="{0}" text-anchor="middle" transform="rotate(-90 13 {0})">{1}</text>"#,
            px(middle_y),
            html(&self.y.label)
        );
        let id = &self.id;
        format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title>\
             <desc id=\"{id}-d\">{}</desc><clipPath id=\"{id}-c\"><rect x=\"{}\" y=\"{}\" \
                        width=\"{}\" height=\"{}\"/></clipPath>\
             {axes}<g clip-path=\"url(#{id}-c)\">{}</g>{}</svg>",
            html(title),
            html(description),
            LEFT - 6.0,
            TOP - 6.0,
            WIDTH - LEFT - RIGHT + 12.0,
            HEIGHT - TOP - BOTTOM + 12.0,
            self.body,
            self.notes
        )
    }
}

/// A coordinate with the precision of a tenth of a pixel.
fn px(value: f64) -> String {
    let text = fixed(value.clamp(-9999.0, 9999.0), 1);
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// The mark of a series around a point.
fn mark(series: usize, x: f64, y: f64) -> String {
    let at = |dx: f64, dy: f64| format!("{} {}", px(x + dx), px(y + dy));
    match series % SERIES {
        0 => format!(r#"<circle cx="{}" cy="{}" r="4.5"/>"#, px(x), px(y)),
        1 => format!(r#"<rect x="{}" y="{}" width="8" height="8"/>"#, px(x - 4.0), px(y - 4.0)),
        2 => format!(r#"<path d="M{}L{}L{}Z"/>"#, at(0.0, -5.5), at(5.0, 4.0), at(-5.0, 4.0)),
        3 => format!(
            r#"<path d="M{}L{}L{}L{}Z"/>"#,
            at(0.0, -6.0),
            at(6.0, 0.0),
            at(0.0, 6.0),
            at(-6.0, 0.0)
        ),
        4 => format!(r#"<path d="M{}L{}L{}Z"/>"#, at(0.0, 5.5), at(5.0, -4.0), at(-5.0, -4.0)),
        5 => format!(
            r#"<path class="open" d="M{}L{}M{}L{}"/>"#,
            at(-4.5, -4.5),
            at(4.5, 4.5),
            at(4.5, -4.5),
            at(-4.5, 4.5)
        ),
        _ => format!(
            r#"<path class="open" d="M{}L{}M{}L{}"/>"#,
            at(0.0, -5.5),
            at(0.0, 5.5),
            at(5.5, 0.0),
            at(-5.5, 0.0)
        ),
    }
}

/// A small sample of a series' line and mark, for a legend.
pub fn swatch(series: usize) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 34 14\" aria-hidden=\"true\"><path class=\"line \
         s{0}\" stroke-dasharray=\"{1}\" d=\"M0 7H34\"/>\
         <g class=\"mark s{0}\">{2}</g></svg>",
        series % SERIES,
        DASHES[(series + series / SERIES) % SERIES],
        mark(series, 17.0, 7.0)
    )
}

/// One row of stacked parts, each with a class and its share; for a table's cell.
pub fn stack(parts: &[(&str, f64)], title: &str) -> String {
    let mut body = String::new();
    let mut left = 0.0;
    for (class, share) in parts {
        let width = share * 200.0;
        if width > 0.0 {
            let _ = write!(
                body,
                r#"<rect class="{class}" x="{}" y="0" width="{}" height="14"/>"#,
                px(left),
                px(width)
            );
        }
        left += width;
    }
    format!(
        "<svg class=\"stack\" viewBox=\"0 0 200 14\" preserveAspectRatio=\"none\" \
         role=\"img\"><title>{}</title>{body}</svg>",
        html(title)
    )
}

//! Curves as SVG.

use std::fmt::Write;

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Points (x, y), x ascending.
    pub points: Vec<(f64, f64)>,
}

/// Several curves over one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// Name of the horizontal axis.
    pub x: String,
    /// Name of the vertical axis.
    pub y: String,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// Colours of curves, readable on light and dark ground (Okabe and Ito, 2008).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999",
];

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 12.0;

impl Chart {
    /// The chart as an SVG element, legend below. A chart without points is an empty drawing.
    pub fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let finite = |value: &f64| value.is_finite();
        let bounds = |pick: fn(&(f64, f64)) -> f64| {
            let values = points().map(pick).filter(finite);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            })
        };
        let (x_low, x_high) = widen(bounds(|point| point.0));
        let (y_low, y_high) = widen(bounds(|point| point.1));
        let place_x = |x: f64| LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
        let place_y =
            |y: f64| HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - TOP);
        let legend = self.curves.len().div_ceil(4) as f64 * 18.0;
        let mut svg = String::new();
        let mut put = |text: String| svg.push_str(&text);
        put(format!(
            "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">",
            HEIGHT + legend,
            escape(&self.title)
        ));
        for tick in ticks(y_low, y_high) {
            let y = place_y(tick);
            put(format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                number(tick)
            ));
        }
        for tick in ticks(x_low, x_high) {
            put(format!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                place_x(tick),
                HEIGHT - BOTTOM + 16.0,
                number(tick)
            ));
        }
        put(format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(12 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6.0,
            escape(&self.x),
            (TOP + HEIGHT - BOTTOM) / 2.0,
            escape(&self.y)
        ));
        for (index, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let mut path = String::new();
            for (x, y) in curve
                .points
                .iter()
                .filter(|(x, y)| x.is_finite() && y.is_finite())
            {
                let _ = write!(path, "{:.1},{:.1} ", place_x(*x), place_y(*y));
            }
            put(format!(
                "<polyline points=\"{}\" stroke=\"{colour}\"/>",
                path.trim_end()
            ));
            let (column, row) = (index % 4, index / 4);
            let x = LEFT + column as f64 * (WIDTH - LEFT) / 4.0;
            let y = HEIGHT + row as f64 * 18.0 + 6.0;
            put(format!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                y - 4.0,
                x + 17.0,
                y + 2.0,
                escape(&curve.name)
            ));
        }
        put("</svg>".to_owned());
        svg
    }
}

/// Bounds with some room between them.
fn widen((low, high): (f64, f64)) -> (f64, f64) {
    if low > high {
        (0.0, 1.0)
    } else if high - low < 1e-9 {
        (low - 0.5, high + 0.5)
    } else {
        (low, high)
    }
}

/// Four to eight round numbers between two bounds.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|step| *step >= rough);
    let step = step.unwrap_or(power * 10.0);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_inside_the_drawing() {
        let curve = Curve {
            name: "a<b".into(),
            points: vec![(0.0, 5.0), (10.0, 1.0), (20.0, f64::NAN)],
        };
        let chart = Chart {
            title: "t".into(),
            x: "steps".into(),
            y: "loss".into(),
            curves: vec![curve],
        };
        let svg = chart.svg();
        let points = svg
            .split("points=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let points: Vec<(f64, f64)> = points
            .split(' ')
            .map(|point| point.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        assert_eq!(points.len(), 2);
        assert!(
            points
                .iter()
                .all(|(x, y)| (0.0..=WIDTH).contains(x) && (0.0..=HEIGHT).contains(y))
        );
        assert!(points[0].1 < points[1].1, "a higher loss stands higher");
        assert!(svg.contains("a&lt;b"));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            ticks(0.0, 1.0),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert!(
            ticks(3.0, 1700.0)
                .iter()
                .all(|tick| (3.0..=1700.0).contains(tick))
        );
        assert!(
            !Chart {
                title: String::new(),
                x: String::new(),
                y: String::new(),
                curves: vec![]
            }
            .svg()
            .is_empty()
        );
    }
}

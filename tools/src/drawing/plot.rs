//! Values by name as SVG: one row a name, bars to the right.

use std::fmt::Write;

use super::{escape, tail};

const ROW: f64 = 22.0;
const NAMES: f64 = 230.0;
const BARS: f64 = 420.0;
const NUMBERS: f64 = 90.0;
const GAP: f64 = 24.0;
const TOP: f64 = 64.0;
const FONT: &str = "font-family=\"sans-serif\" font-size=\"12\"";
const COLOURS: [&str; 4] = ["#4269d0", "#ff725c", "#3ca951", "#9c6b4e"];

/// A row of bars, one in each panel.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// One for each panel; none leaves a dash.
    pub values: Vec<Option<f64>>,
}

/// Panels side by side over the same names, each with a title and a scale of its own that starts at 0. Negative values
/// and values that are not finite have no bar. A whole SVG document.
pub fn bars(title: &str, panels: &[&str], rows: &[Row]) -> String {
    let width = NAMES + panels.len() as f64 * (BARS / panels.len().max(1) as f64 + NUMBERS + GAP);
    let height = TOP + rows.len() as f64 * ROW + 16.0;
    let bar = BARS / panels.len().max(1) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
         {height}\" {FONT}>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n<text x=\"10\" y=\"22\" \
         font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    for (n, row) in rows.iter().enumerate() {
        let y = TOP + n as f64 * ROW;
        if n % 2 == 0 {
            let _ = writeln!(out, "<rect x=\"0\" y=\"{y}\" width=\"{width}\" height=\"{ROW}\" fill=\"#f3f4f6\"/>");
        }
        let (name, y) = (escape(&tail(&row.name, 32)), y + 15.0);
        let _ = writeln!(out, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{name}</text>", NAMES - 10.0);
    }
    for (p, panel) in panels.iter().enumerate() {
        let left = NAMES + p as f64 * (bar + NUMBERS + GAP);
        let value = |row: &Row| row.values.get(p).copied().flatten().filter(|v| v.is_finite());
        let most = rows.iter().filter_map(value).fold(0.0, f64::max);
        let _ = writeln!(out, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>", TOP - 12.0, escape(panel));
        for (n, row) in rows.iter().enumerate() {
            let y = TOP + n as f64 * ROW;
            let Some(v) = value(row) else {
                let _ = writeln!(out, "<text x=\"{left}\" y=\"{}\">-</text>", y + 15.0);
                continue;
            };
            let length = if most > 0.0 { v.max(0.0) / most * bar } else { 0.0 };
            let _ = writeln!(
                out,
                "<rect x=\"{left}\" y=\"{}\" width=\"{length:.1}\" height=\"14\" fill=\"{}\"/><text x=\"{:.1}\" \
                 y=\"{}\">{}</text>",
                y + 4.0,
                COLOURS[p % COLOURS.len()],
                left + length + 5.0,
                y + 15.0,
                number(v)
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

fn number(v: f64) -> String {
    match v.abs() {
        0.0 => "0".to_owned(),
        a if a < 0.001 => format!("{v:.1e}"),
        a if a < 10.0 => format!("{v:.3}"),
        _ => format!("{v:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_the_largest_value_of_its_panel() {
        let row =
            |name: &str, values: &[f64]| Row { name: name.into(), values: values.iter().map(|&v| Some(v)).collect() };
        let mut rows = vec![row("a<b", &[1.0, 50.0]), row("c", &[2.0, f64::INFINITY]), row("d", &[-1.0, 25.0])];
        rows[0].values[0] = None;
        let svg = bars("t & u", &["one", "two"], &rows);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let widths: Vec<f64> = document
            .descendants()
            .filter(|n| n.attribute("height") == Some("14"))
            .map(|n| n.attribute("width").unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths, [210.0, 0.0, 210.0, 105.0]);
        assert!(svg.contains("a&lt;b") && svg.contains("t &amp; u"));
    }
}

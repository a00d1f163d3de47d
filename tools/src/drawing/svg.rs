//! A graph as SVG: boxes with two lines of text, arrows between them.

use std::fmt::Write;

use super::layout::layout;
use super::{escape, tail};

/// Widths and heights in pixels.
const BOX: (f64, f64) = (210.0, 46.0);
const CELL: (f64, f64) = (234.0, 84.0);
const MARGIN: f64 = 12.0;
/// Characters of a line that fit into a box.
const FIT: usize = 28;

/// A node to draw.
#[derive(Clone, Debug)]
pub struct Shape {
    /// First line, bold.
    pub title: String,
    /// Second line.
    pub line: String,
    /// What a pointer resting on it shows.
    pub hint: String,
    /// Class of the style sheet.
    pub class: &'static str,
}

/// Draws `shapes` with `edges` (from, to). Node `n` has the id `n{n}`; classes are styled by whoever embeds it.
pub fn draw(shapes: &[Shape], edges: &[(usize, usize)]) -> String {
    let layout = layout(shapes.len(), edges);
    let x = |column: f64| MARGIN + column * CELL.0;
    let y = |row: usize| MARGIN + row as f64 * CELL.1;
    let (width, height) = (2.0 * MARGIN + layout.width * CELL.0, 2.0 * MARGIN + layout.height as f64 * CELL.1);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" \
         refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\"/></marker></defs>\n"
    );
    for (&(from, to), bends) in edges.iter().zip(&layout.bends) {
        let (Some(&(ax, ay)), Some(&(bx, by))) = (layout.nodes.get(from), layout.nodes.get(to)) else { continue };
        let mut at = (x(ax), y(ay) + BOX.1);
        let mut path = format!("M{:.1},{:.1}", at.0, at.1);
        let mut curve = |to: (f64, f64)| {
            let middle = (at.1 + to.1) / 2.0;
            let _ = write!(path, " C{:.1},{middle:.1} {:.1},{middle:.1} {:.1},{:.1}", at.0, to.0, to.0, to.1);
            at = to;
        };
        for &(bx, row) in bends {
            curve((x(bx), y(row)));
            curve((x(bx), y(row) + BOX.1));
        }
        curve((x(bx), y(by)));
        let _ = writeln!(out, "<path class=\"edge\" d=\"{path}\" marker-end=\"url(#arrow)\"/>");
    }
    for (n, (shape, &(column, row))) in shapes.iter().zip(&layout.nodes).enumerate() {
        let (left, top) = (x(column) - BOX.0 / 2.0, y(row));
        let _ = writeln!(
            out,
            "<g id=\"n{n}\" class=\"node {}\"><title>{}</title><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{}\" \
             height=\"{}\" rx=\"6\"/><text class=\"title\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text x=\"{:.1}\" \
             y=\"{:.1}\">{}</text></g>",
            shape.class,
            escape(&shape.hint),
            BOX.0,
            BOX.1,
            x(column),
            top + 19.0,
            escape(&tail(&shape.title, FIT)),
            x(column),
            top + 36.0,
            escape(&tail(&shape.line, FIT)),
        );
    }
    out.push_str("</svg>\n");
    out
}

//! Scores as horizontal bars.

use std::fmt::Write;

/// Bars of eighths of a character, one line per (name, value). Negative values grow to the left of the zero line.
/// `width` is the number of characters between the lowest and the highest end.
pub fn bars(rows: &[(String, f32)], width: usize) -> String {
    let finite = |v: f32| if v.is_finite() { v } else { 0.0 };
    let high = rows.iter().fold(0f32, |m, r| m.max(finite(r.1)));
    let low = rows.iter().fold(0f32, |m, r| m.min(finite(r.1)));
    let range = (f64::from(high) - f64::from(low)).max(f64::MIN_POSITIVE);
    let eighths = |v: f32| (f64::from(finite(v).abs()) / range * width as f64 * 8.0).round() as usize;
    let left = eighths(low).div_ceil(8);
    let names = rows.iter().map(|r| r.0.chars().count()).max().unwrap_or(0);
    let right = eighths(high).div_ceil(8);
    let mut text = String::new();
    for (name, value) in rows {
        let n = eighths(*value);
        // Only left-aligned block characters exist, so the left half is drawn in whole characters.
        let (minus, plus) =
            if *value < 0.0 { ("█".repeat(n.div_ceil(8)), String::new()) } else { (String::new(), bar(n)) };
        let zero = if left > 0 { "│" } else { "" };
        let _ = writeln!(text, "{name:>names$} {minus:>left$}{zero}{plus:<right$} {value:.4}");
    }
    text
}

/// A bar of `eighths` eighths of a character.
fn bar(eighths: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: &[f32], width: usize) -> String {
        bars(&values.iter().enumerate().map(|(i, &v)| (i.to_string(), v)).collect::<Vec<_>>(), width)
    }

    #[test]
    fn lengths_are_proportional() {
        assert_eq!(plot(&[4.0, 2.0, 0.25, 0.0], 4), "0 ████ 4.0000\n1 ██   2.0000\n2 ▎    0.2500\n3      0.0000\n");
    }

    #[test]
    fn negative_values_stand_left_of_zero() {
        assert_eq!(plot(&[2.0, -2.0], 4), "0   │██ 2.0000\n1 ██│   -2.0000\n");
    }

    #[test]
    fn odd_values_do_not_break_it() {
        for values in [&[][..], &[0.0], &[f32::NAN, 1.0], &[f32::INFINITY], &[f32::MAX, f32::MIN], &[1e-45]] {
            assert_eq!(plot(values, 20).lines().count(), values.len());
        }
    }
}

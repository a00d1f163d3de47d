//! Markdown tables.

use crate::measure::Time;

/// Prints a heading and what the table says.
pub fn heading(title: &str, text: &str) {
    println!("\n## {title}\n\n{text}\n");
}

/// Prints a table; the first column is text, the others are numbers.
pub fn table(columns: &[&str], rows: &[Vec<String>]) {
    println!("| {} |", columns.join(" | "));
    println!("|---{}|", "|--:".repeat(columns.len() - 1));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

/// How many times longer the peer takes.
pub fn ratio(peer: Time, this: Time) -> String {
    let ratio = peer.median / this.median;
    let mark = if peer.disturbed || this.disturbed { " †" } else { "" };
    if ratio < 10.0 { format!("**{ratio:.2}**{mark}") } else { format!("**{ratio:.1}**{mark}") }
}

/// A time and its spread, with a mark when it was disturbed.
pub fn time(time: Time) -> String {
    let mark = if time.disturbed { " †" } else { "" };
    format!("{} ±{:.0} %{mark}", seconds(time.median), time.spread * 100.0)
}

/// Seconds in a unit that leaves three digits.
pub fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

//! The first difference between two traces.

use std::io::{self, BufRead};

use super::{HEADER, place};
use crate::board::Bar;
use crate::regs::{edma, hdma};

/// A trace that cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Reading failed.
    #[error("cannot read the trace")]
    Read(#[from] io::Error),
    /// Not a trace, or one of another version.
    #[error("line {line} is not that of a trace: {text:?}")]
    Line {
        /// From 1.
        line: usize,
        /// What stands there.
        text: String,
    },
}

/// Where two traces part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Accesses before it that are equal.
    pub equal: usize,
    /// What the first trace says: line number and text, `None` at its end.
    pub first: Option<(usize, String)>,
    /// What the second one says.
    pub second: Option<(usize, String)>,
}

/// How two traces compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The same accesses in the same order: how many.
    Equal(usize),
    /// Something differs.
    Different(Difference),
}

/// Compares accesses in order. Left out of it, because they depend on how fast the board is: times, how often something was
/// read until it changed, interrupts, which end a wait early or come when nobody waits any more, and the second look at a DMA
/// channel whose end is seen before its message is. Addresses that the host chose count by their names.
pub fn compare(first: impl BufRead, second: impl BufRead) -> Result<Comparison, TraceError> {
    let (first, second) = (read(first)?, read(second)?);
    let equal = first.iter().zip(&second).take_while(|(a, b)| a.same(b)).count();
    if equal == first.len() && equal == second.len() {
        return Ok(Comparison::Equal(equal));
    }
    let at = |trace: &[Line]| trace.get(equal).map(|l| (l.number, l.text.clone()));
    Ok(Comparison::Different(Difference { equal, first: at(&first), second: at(&second) }))
}

/// Reads of a status register and, right behind them, of the channel: the driver asks whether it is still at work only when the
/// message of its end has not come in time (transport/channel.rs).
fn second_looks() -> Vec<(String, String)> {
    let read = |bar, offset: u32| format!("r {}", place(bar, offset.into()));
    let edma = |offset| read(Bar::Bar2, edma::BAR2_BASE + offset);
    let legacy = [edma::READ_STATUS, edma::WRITE_STATUS].map(|status| (edma(status), edma(edma::CHANNEL_CONTROL1)));
    let blocks = (0..hdma::CHANNELS as u32).flat_map(|pair| [0, hdma::READ_BLOCK].map(|way| pair * hdma::PAIR + way));
    let native =
        blocks.map(|block| (read(Bar::Bar0, block + hdma::INTERRUPT_STATUS), read(Bar::Bar0, block + hdma::STATUS)));
    legacy.into_iter().chain(native).collect()
}

/// One access.
struct Line {
    /// In the file, from 1.
    number: usize,
    /// Without its time.
    text: String,
    /// What is compared: kind and place, then what was there.
    place: String,
    content: String,
}

impl Line {
    fn parse(number: usize, line: &str) -> Option<Self> {
        let (time, text) = line.split_once(' ')?;
        time.parse::<f64>().ok()?;
        let mut fields: Vec<&str> = text.split(' ').collect();
        if let Some(times) = fields.last().and_then(|f| f.strip_prefix('x'))
            && times.parse::<u64>().is_ok()
        {
            fields.pop();
        }
        let known = matches!(fields[0], "cr" | "cw" | "r" | "w" | "dma" | "alloc" | "free" | "irq" | "reset");
        let places = if matches!(fields[0], "cr" | "cw" | "r" | "w") { 2 } else { 1 };
        if !known || fields.len() < places {
            return None;
        }
        let content = match fields[places..] {
            [_, symbol] if symbol.starts_with('=') => symbol.to_string(),
            ref all => all.join(" "),
        };
        Some(Self { number, text: text.into(), place: fields[..places].join(" "), content })
    }

    fn is_read(&self) -> bool {
        self.place.starts_with("r ") || self.place.starts_with("cr ")
    }

    fn same(&self, other: &Self) -> bool {
        self.place == other.place && self.content == other.content
    }
}

/// The accesses of a trace, with polling loops reduced to their last round: reads of one register, or of one that a write
/// selects before each.
fn read(trace: impl BufRead) -> Result<Vec<Line>, TraceError> {
    let second_looks = second_looks();
    let second_looks: Vec<(&str, &str)> = second_looks.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let mut lines: Vec<Line> = Vec::new();
    let mut headed = false;
    for (number, text) in (1..).zip(trace.lines()) {
        let text = text?;
        let text = text.trim();
        if number == 1 {
            headed = text.starts_with(HEADER);
        }
        if !headed {
            return Err(TraceError::Line { line: number, text: text.chars().take(80).collect() });
        }
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let line = Line::parse(number, text)
            .ok_or_else(|| TraceError::Line { line: number, text: text.chars().take(80).collect() })?;
        if line.place == "irq"
            || lines.last().is_some_and(|last| second_looks.contains(&(last.place.as_str(), line.place.as_str())))
        {
            continue;
        }
        let polls = |again: &Line, before: &Line| before.is_read() && before.place == again.place;
        if lines.last().is_some_and(|last| polls(&line, last)) {
            lines.pop();
        } else if let [.., select, seen, again] = &lines[..]
            && !select.is_read()
            && select.same(again)
            && polls(&line, seen)
        {
            lines.truncate(lines.len() - 2);
        }
        lines.push(line);
    }
    if !headed {
        return Err(TraceError::Line { line: 1, text: String::new() });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &str) -> Result<Vec<String>, TraceError> {
        let text = format!("{HEADER} akd1000 test\n{lines}");
        Ok(read(text.as_bytes())?.into_iter().map(|l| format!("{} {}", l.place, l.content)).collect())
    }

    #[test]
    fn polling_counts_once_and_interrupts_not_at_all() {
        let polled = "1.0 r BAR0+0x00004 0x0 x12\n2.0 irq\n3.0 r BAR0+0x00004 0x1\n4.0 w BAR0+0x00004 0x1";
        assert_eq!(of(polled).ok(), Some(vec!["r BAR0+0x00004 0x1".into(), "w BAR0+0x00004 0x1".into()]));
        let selected = "1 w A 0x0\n1 r B 0x1\n1 w A 0x0\n1 r B 0x1\n1 w A 0x0\n1 r B 0x3\n1 w C 0x0";
        assert_eq!(of(selected).ok(), Some(vec!["w A 0x0".into(), "r B 0x3".into(), "w C 0x0".into()]));
        // Two different channels are looked at: no loop.
        assert_eq!(of("1 w A 0x0\n1 r B 0x1\n1 w A 0x1\n1 r B 0x1").ok().map(|l| l.len()), Some(4));
    }

    #[test]
    fn a_second_look_at_a_channel_whose_message_is_late_is_not_compared() {
        // Done, message not seen: the driver asks the channel before it acknowledges.
        let late = "1 r BAR2+0x00a10 0x1\n1 r BAR2+0x00a70 0x260\n1 w BAR2+0x00a1c 0x1";
        let in_time = "1 r BAR2+0x00a10 0x1\n1 w BAR2+0x00a1c 0x1";
        assert_eq!(of(late).ok(), of(in_time).ok());
        let late = "1 r BAR0+0x00384 0x1\n1 r BAR0+0x00380 0x3\n1 w BAR0+0x0038c 0x5";
        let in_time = "1 r BAR0+0x00384 0x1\n1 w BAR0+0x0038c 0x5";
        assert_eq!(of(late).ok(), of(in_time).ok());
        // The same register at another time counts, and so does another channel's.
        assert_eq!(of("1 w A 0x0\n1 r BAR2+0x00a70 0x260").ok().map(|l| l.len()), Some(2));
        assert_eq!(of("1 r BAR0+0x00384 0x1\n1 r BAR0+0x00180 0x3").ok().map(|l| l.len()), Some(2));
    }

    #[test]
    fn the_first_difference_is_shown_with_its_lines() {
        let trace = |lines: &str| format!("{HEADER} akd1000 test\n{lines}").into_bytes();
        let a = trace("1 w A 0x1000 =host#1+0x0\n2 r B 0x7\n3 w A 0x1");
        let b = trace("9 w A 0x2000 =host#1+0x0\n9 r B 0x6\n9 r B 0x7\n9 w A 0x2");
        let Ok(Comparison::Different(d)) = compare(&a[..], &b[..]) else { panic!("they differ") };
        assert_eq!(d.equal, 2);
        assert_eq!((d.first, d.second), (Some((4, "w A 0x1".into())), Some((5, "w A 0x2".into()))));
        assert_eq!(compare(&a[..], &a[..]).ok(), Some(Comparison::Equal(3)));
        let Ok(Comparison::Different(d)) = compare(&a[..], &trace("1 w A 0x0 =host#1+0x0")[..]) else {
            panic!("differ")
        };
        assert_eq!((d.equal, d.second), (1, None));
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        for text in [
            "",
            "hello",
            "# akida-trace/1 a b\nnonsense",
            "# akida-trace/1 a b\n1.0 jump BAR0",
            "# akida-trace/1 a b\n1 r",
        ] {
            assert!(matches!(read(text.as_bytes()), Err(TraceError::Line { .. })), "{text:?}");
        }
    }
}

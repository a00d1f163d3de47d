//! `akida-ctl monitor`: what the boards of this machine are doing, from what the kernel says. Nothing is opened, so boards may be
//! in use.

use std::fs;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use akida_hal::sysfs::{PciBoard, Sysfs};
use serde::Serialize;

use super::{Format, Page, doctor};
use crate::exit::{Exit, Failure};
use crate::terminal::table;

#[derive(Serialize)]
struct Document {
    boards: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    device: String,
    chip: String,
    /// `ready`, or the id of doctor's first finding that keeps it from working.
    state: String,
    users: Vec<String>,
    link: String,
    power_state: String,
    /// DMA interrupts in a second, `null` before there are two looks or where nobody has switched them on.
    interrupts_per_second: Option<f64>,
    /// Interrupts since its user opened it.
    interrupts: Option<u64>,
    /// PCIe errors since boot: corrected, not corrected.
    link_errors: Option<[u64; 2]>,
    /// Not known of any Akida board: no sensor is public.
    temperature_celsius: Option<f64>,
}

/// Prints once, or again and again until it is ended.
pub fn run(sysfs: &Sysfs, once: bool, interval: Duration, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let live = !once && page.format == Format::Text && std::io::stdout().is_terminal();
    let mut before: Option<(Instant, Vec<Row>)> = None;
    loop {
        let now = Instant::now();
        let mut rows: Vec<Row> = sysfs.boards()?.iter().map(|board| row(sysfs, board)).collect();
        if let Some((then, old)) = &before {
            rates(&mut rows, old, now.saturating_duration_since(*then));
        }
        let document = Document { boards: rows };
        page.print("akida-ctl-monitor/1", &document, || match live {
            // Home, clear: the table stands still and its numbers change.
            true => format!("\x1b[H\x1b[2J{}", text(&document.boards)),
            false => lines(&document.boards),
        })?;
        page.out.flush().map_err(|e| Failure::stdout(&e))?;
        if once {
            return Ok(Exit::Done);
        }
        before = Some((now, document.boards));
        std::thread::sleep(interval);
    }
}

fn row(sysfs: &Sysfs, board: &PciBoard) -> Row {
    let folder = sysfs.folder(&board.address);
    let total = |file: &str| -> Option<u64> {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        text.lines().find(|l| l.starts_with("TOTAL_ERR"))?.split_whitespace().last()?.parse().ok()
    };
    let corrected = total("aer_dev_correctable");
    let others = total("aer_dev_nonfatal").zip(total("aer_dev_fatal")).map(|(a, b)| a + b);
    let table = fs::read_to_string(sysfs.path("/proc/interrupts")).unwrap_or_default();
    Row {
        device: board.address.clone(),
        chip: board.chip.map_or_else(|| "unknown".into(), doctor::chip_name),
        state: doctor::blocking(board).map_or("ready".into(), |f| f.id.to_string()),
        users: board.users.iter().map(ToString::to_string).collect(),
        link: if board.link.width == 0 { "-".into() } else { format!("{} x{}", board.link.speed, board.link.width) },
        power_state: board.power_state.clone(),
        interrupts_per_second: None,
        interrupts: interrupts(&table, &board.address),
        link_errors: corrected.zip(others).map(|(a, b)| [a, b]),
        temperature_celsius: None,
    }
}

/// The sum over processors of a function's lines in /proc/interrupts: `45:  0  12  IR-PCI-MSI ... vfio-msi[0](0000:03:00.0)`.
fn interrupts(table: &str, address: &str) -> Option<u64> {
    // A whole word: a domain may have more digits (10000:03:00.0).
    let names =
        |line: &&str| line.split(|c: char| !c.is_ascii_hexdigit() && c != ':' && c != '.').any(|word| word == address);
    let mut lines = table.lines().filter(names).peekable();
    lines.peek()?;
    let count = |line: &str| -> u64 { line.split_whitespace().skip(1).map_while(|f| f.parse::<u64>().ok()).sum() };
    Some(lines.map(count).sum())
}

fn rates(rows: &mut [Row], before: &[Row], passed: Duration) {
    for row in rows {
        let old = before.iter().find(|o| o.device == row.device).and_then(|o| o.interrupts);
        // A count that went back is that of a new user.
        let more = row.interrupts.zip(old).and_then(|(now, old)| now.checked_sub(old));
        row.interrupts_per_second = more.map(|n| n as f64 / passed.as_secs_f64().max(1e-3));
    }
}

fn cells(row: &Row) -> [String; 8] {
    let dash = || "-".to_string();
    [
        row.device.clone(),
        row.chip.clone(),
        row.state.clone(),
        if row.users.is_empty() { dash() } else { row.users.join(", ") },
        row.link.clone(),
        row.power_state.clone(),
        row.interrupts_per_second.map_or_else(dash, |r| format!("{r:.0}")),
        row.link_errors.map_or_else(dash, |[a, b]| format!("{a}/{b}")),
    ]
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no board on the PCI bus\n".into();
    }
    let mut table = table(&["board", "chip", "state", "used by", "link", "power", "interrupts/s", "link errors"]);
    for row in rows {
        table.add_row(cells(row));
    }
    format!("{}\n", table.trim_fmt())
}

/// One line a board, for pipes.
fn lines(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no board on the PCI bus\n".into();
    }
    rows.iter().map(|row| cells(row).join("  ") + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "           CPU0       CPU1\n  45:          2         40  IR-PCI-MSI 1-edge  vfio-msi[0](0000:03:00.0)\n \
                         46:          7          0  IR-PCI-MSI 2-edge  nvme0q0\n \
                         47:          9          0  IR-PCI-MSI 3-edge  vfio-msi[0](10000:03:00.0)\n";

    #[test]
    fn interrupts_are_summed_over_processors() {
        assert_eq!(interrupts(TABLE, "0000:03:00.0"), Some(42));
        assert_eq!(interrupts(TABLE, "10000:03:00.0"), Some(9));
        assert_eq!(interrupts(TABLE, "0000:04:00.0"), None);
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let row = |interrupts| Row {
            device: "0000:03:00.0".into(),
            chip: "AKD1000".into(),
            state: "ready".into(),
            users: vec![],
            link: "5.0 GT/s x1".into(),
            power_state: "D0".into(),
            interrupts_per_second: None,
            interrupts,
            link_errors: Some([3, 0]),
            temperature_celsius: None,
        };
        let mut now = vec![row(Some(142))];
        rates(&mut now, &[row(Some(42))], Duration::from_secs(2));
        assert_eq!(lines(&now), "0000:03:00.0  AKD1000  ready  -  5.0 GT/s x1  D0  50  3/0\n");
        for (before, after) in [(Some(42), Some(7)), (None, Some(7)), (Some(42), None)] {
            let mut now = vec![row(after)];
            rates(&mut now, &[row(before)], Duration::from_secs(2));
            assert_eq!(now[0].interrupts_per_second, None);
        }
    }
}

//! `akida-ctl selftest`.

use std::path::Path;

use akida_hal::board::Wake;
use akida_hal::selftest::{self, Verdict};
use akida_hal::sysfs::Sysfs;
use serde::Serialize;

use super::open::Which;
use super::{Page, known};
use crate::exit::{Exit, Failure, chain};
use crate::trace::Trace;

#[derive(Serialize)]
struct Document {
    board: String,
    simulated: bool,
    passed: bool,
    checks: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    about: &'static str,
    /// `passed`, `failed`, `skipped`.
    verdict: &'static str,
    detail: String,
    /// In the board's own time.
    took_microseconds: u64,
}

/// Runs all checks; the exit code is that of the first failure.
pub fn run(sysfs: &Sysfs, which: &Which, trace: Option<&Path>, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let (board, trace) = Trace::start(trace, which.open(sysfs)?)?;
    let (name, simulated) = (board.identity().name.clone(), board.identity().simulated);
    let mut exit = Exit::Done;
    let mut checks: Vec<Row> = selftest::run(board.clone())
        .into_iter()
        .map(|outcome| {
            let (verdict, detail) = match outcome.verdict {
                Verdict::Passed(detail) => ("passed", detail),
                Verdict::Skipped => ("skipped", "an earlier check failed".into()),
                Verdict::Failed(error) => {
                    let detail = chain(&error);
                    exit = Failure::from(error).exit;
                    ("failed", detail)
                }
            };
            let took_microseconds = outcome.took.as_micros() as u64;
            Row { name: outcome.name, about: outcome.about, verdict, detail, took_microseconds }
        })
        .collect();
    let start = board.now();
    let (verdict, detail) = match exit {
        Exit::Done => match selftest::interrupt(board.clone()) {
            Ok(Some(Wake::Interrupt)) => ("passed", "arrives".to_string()),
            Ok(Some(Wake::TimedOut)) => {
                exit = Exit::Board;
                ("failed", "no interrupt at the end of a transfer".to_string())
            }
            Ok(None) => ("skipped", "the kernel hides the interrupt message: polling only".to_string()),
            Err(error) => {
                let detail = chain(&error);
                exit = Failure::from(error).exit;
                ("failed", detail)
            }
        },
        _ => ("skipped", "an earlier check failed".into()),
    };
    let took_microseconds = board.now().saturating_sub(start).as_micros() as u64;
    checks.push(Row {
        name: "interrupt",
        about: "the end of a transfer interrupts",
        verdict,
        detail,
        took_microseconds,
    });
    let start = board.now();
    let (verdict, detail) = match exit {
        Exit::Done => match known::run(board.clone()) {
            Ok(Some(detail)) => ("passed", detail),
            Ok(None) => ("skipped", "how silicon takes networks is not public (docs/silicon.md)".to_string()),
            Err(failure) => {
                exit = failure.exit;
                ("failed", failure.message)
            }
        },
        _ => ("skipped", "an earlier check failed".into()),
    };
    let took_microseconds = board.now().saturating_sub(start).as_micros() as u64;
    let about = "a network gives the reference's integers";
    checks.push(Row { name: "network", about, verdict, detail, took_microseconds });
    drop(board);
    trace.map_or(Ok(()), Trace::finish)?;
    let document = Document { board: name, simulated, passed: exit == Exit::Done, checks };
    page.print("akida-ctl-selftest/1", &document, || text(&document))?;
    Ok(exit)
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    for row in &document.checks {
        text += &format!("{:<8} {:<10} {} ({})\n", row.verdict, row.name, row.about, row.detail);
    }
    let verdict = if document.passed { "all checks passed" } else { "NOT all checks passed" };
    let simulated = if document.simulated { " (simulated)" } else { "" };
    text + &format!("{}{simulated}: {verdict}\n", document.board)
}

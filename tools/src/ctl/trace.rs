//! `akida-ctl trace`: where two traces part.

use std::path::Path;

use akida_hal::trace::Comparison;
use serde::Serialize;

use super::Page;
use crate::exit::{Exit, Failure};
use crate::trace;

#[derive(Serialize)]
struct Document {
    equal: bool,
    /// Accesses that are the same, from the start.
    equal_accesses: usize,
    /// The first access that differs, in each file; null where a trace has ended.
    first: Option<Access>,
    second: Option<Access>,
}

#[derive(Serialize)]
struct Access {
    line: usize,
    text: String,
}

/// Compares; a difference ends with exit code 1.
pub fn compare(first: &Path, second: &Path, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let access = |at: Option<(usize, String)>| at.map(|(line, text)| Access { line, text });
    let document = match trace::compare(first, second)? {
        Comparison::Equal(accesses) => Document { equal: true, equal_accesses: accesses, first: None, second: None },
        Comparison::Different(d) => {
            Document { equal: false, equal_accesses: d.equal, first: access(d.first), second: access(d.second) }
        }
    };
    page.print("akida-ctl-trace-compare/1", &document, || {
        if document.equal {
            return format!("equal: {} accesses\n", document.equal_accesses);
        }
        let line = |path: &Path, at: &Option<Access>| match at {
            Some(a) => format!("  {}:{}: {}\n", path.display(), a.line, a.text),
            None => format!("  {}: has ended\n", path.display()),
        };
        let both = line(first, &document.first) + &line(second, &document.second);
        format!("{} accesses are equal, then:\n{both}", document.equal_accesses)
    })?;
    Ok(if document.equal { Exit::Done } else { Exit::Different })
}

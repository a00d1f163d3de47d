//! `akida-ctl bind` and `unbind`.

use akida_hal::sysfs::{Bound, Sysfs, is_address};
use serde::Serialize;

use super::Page;
use crate::exit::{Exit, Failure};

#[derive(Serialize)]
struct Document {
    board: String,
    driver_before: Option<String>,
    driver_after: Option<String>,
    aspm_disabled: bool,
    changed: bool,
}

/// Gives a board to vfio-pci.
pub fn bind(sysfs: &Sysfs, address: &str, page: &mut Page<'_>) -> Result<Exit, Failure> {
    report(sysfs.bind(&with_domain(address))?, page)
}

/// Gives a board back.
pub fn unbind(sysfs: &Sysfs, address: &str, page: &mut Page<'_>) -> Result<Exit, Failure> {
    report(sysfs.unbind(&with_domain(address))?, page)
}

/// `03:00.0` means domain 0.
fn with_domain(address: &str) -> String {
    let lower = address.to_ascii_lowercase();
    let full = format!("0000:{lower}");
    if is_address(&full) { full } else { lower }
}

fn report(bound: Bound, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let changed = bound.before != bound.after || bound.aspm_disabled;
    let document = Document {
        board: bound.address,
        driver_before: bound.before,
        driver_after: bound.after,
        aspm_disabled: bound.aspm_disabled,
        changed,
    };
    page.print("akida-ctl-bind/1", &document, || {
        let name = |d: &Option<String>| d.clone().unwrap_or_else(|| "no driver".into());
        let (before, after) = (name(&document.driver_before), name(&document.driver_after));
        let aspm = if document.aspm_disabled { ", ASPM switched off" } else { "" };
        if before == after {
            format!("{}: {after} already{aspm}\n", document.board)
        } else {
            format!("{}: {before} -> {after}{aspm}\n", document.board)
        }
    })?;
    Ok(Exit::Done)
}

//! `akida-ctl bind` and `unbind`.

use akida_hal::sysfs::{Bound, Sysfs};
use akida_hal::vfio::UNCONFINED;
use serde::Serialize;

use super::Page;
use crate::device::pci;
use crate::exit::{Exit, Failure};

#[derive(Serialize)]
struct Document {
    board: String,
    driver_before: Option<String>,
    driver_after: Option<String>,
    aspm_disabled: bool,
    changed: bool,
}

/// Gives a board to vfio-pci; in no-IOMMU mode when it is named `vfio-noiommu:ADDRESS`.
pub fn bind(sysfs: &Sysfs, name: &str, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let (unconfined, address) = parse(name);
    let bound = if unconfined { sysfs.bind_unconfined(&address) } else { sysfs.bind(&address) };
    report(bound?, page)
}

/// Gives a board back.
pub fn unbind(sysfs: &Sysfs, name: &str, page: &mut Page<'_>) -> Result<Exit, Failure> {
    report(sysfs.unbind(&parse(name).1)?, page)
}

/// Whether no-IOMMU mode is named, and the address; what is none is left for the error.
fn parse(name: &str) -> (bool, String) {
    let lower = name.to_ascii_lowercase();
    let bare = lower.strip_prefix(UNCONFINED);
    let address = bare.unwrap_or(&lower);
    (bare.is_some(), pci(address).unwrap_or_else(|| address.into()))
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

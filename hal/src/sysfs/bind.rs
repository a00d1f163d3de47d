//! Giving a board to vfio-pci and back to the driver it had.
//!
//! One function at a time, by `driver_override` and a probe; `new_id` would take every card of that id and race with
//! other drivers.

use std::io;
use std::path::{Path, PathBuf};

use super::{Aspm, Error, PciBoard, Sysfs};

/// The driver that hands functions to user space.
const VFIO_PCI: &str = "vfio-pci";

/// What binding changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// PCI address.
    pub address: String,
    /// Driver before.
    pub before: Option<String>,
    /// Driver now.
    pub after: Option<String>,
    /// ASPM was on and has been switched off.
    pub aspm_disabled: bool,
}

/// What keeps the board's DMA in bounds while vfio-pci has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// The IOMMU.
    Iommu,
    /// Nothing: VFIO's no-IOMMU mode, which makes a group of its own for the function.
    None,
}

/// Writes to the PCI core's files. The system's own is a plain write; tests bring a small PCI core.
pub trait PciCore {
    /// Writes `value` to a file of sysfs, in one write.
    fn write(&self, path: &Path, value: &str) -> io::Result<()>;
}

/// Plain writes to existing files.
struct Writes;

impl PciCore for Writes {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        use io::Write;
        std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
    }
}

impl Sysfs {
    /// Gives an Akida board to vfio-pci and switches ASPM off. Does nothing to a board that is bound already; refuses one
    /// that is in use, or whose IOMMU group holds anything but Akida boards and bridges. Needs root.
    pub fn bind(&self, address: &str) -> Result<Bound, Error> {
        self.bind_with(&Writes, address, Confinement::Iommu)
    }

    /// Gives an Akida board to vfio-pci in VFIO's no-IOMMU mode, in which **nothing confines the board's DMA**. For machines without
    /// an IOMMU on which the mode was switched on; refused on others. Needs root.
    pub fn bind_unconfined(&self, address: &str) -> Result<Bound, Error> {
        self.bind_with(&Writes, address, Confinement::None)
    }

    /// Gives a board back to the driver it had before [`bind`](Self::bind), or to whichever the kernel picks. Needs root.
    pub fn unbind(&self, address: &str) -> Result<Bound, Error> {
        self.unbind_with(&Writes, address)
    }

    /// [`bind`](Self::bind) over another PCI core.
    pub fn bind_with(&self, core: &dyn PciCore, address: &str, wanted: Confinement) -> Result<Bound, Error> {
        let board = self.board_to_change(address)?;
        self.expect_confinement(&board, wanted)?;
        let aspm_disabled = self.disable_aspm(core, &board)?;
        let bound = board.driver.as_deref() == Some(VFIO_PCI);
        if !bound {
            if !self.has_vfio_pci() {
                return Err(Error::NoDriver { driver: VFIO_PCI.into() });
            }
            refuse_users(&board)?;
            self.remember(&board)?;
            let result = self.rebind(core, &board, VFIO_PCI).and_then(|()| self.expect_driver(address, VFIO_PCI));
            if let Err(e) = result {
                // Half a change helps nobody: give the board back as it was, and report the first error.
                if let Err(second) = self.restore(core, &board) {
                    log::error!("{address}: giving the board back failed too: {second}");
                }
                return Err(e);
            }
        }
        Ok(Bound { address: address.into(), before: board.driver.clone(), after: Some(VFIO_PCI.into()), aspm_disabled })
    }

    /// [`unbind`](Self::unbind) over another PCI core.
    pub fn unbind_with(&self, core: &dyn PciCore, address: &str) -> Result<Bound, Error> {
        let board = self.board_to_change(address)?;
        let bound = board.driver.as_deref() == Some(VFIO_PCI);
        if bound || board.driver_override.as_deref() == Some(VFIO_PCI) {
            // The kernel would wait in our write until the last user has closed the board.
            refuse_users(&board)?;
            self.restore(core, &board)?;
        }
        let after = self.board(address)?.driver;
        Ok(Bound { address: address.into(), before: board.driver, after, aspm_disabled: false })
    }

    fn board_to_change(&self, address: &str) -> Result<PciBoard, Error> {
        let board = self.board(address)?;
        if board.chip.is_none() {
            return Err(Error::NotAkida { address: address.into(), vendor: board.vendor, device: board.device });
        }
        Ok(board)
    }

    /// Refuses a board that is confined in another way than its user thinks.
    fn expect_confinement(&self, board: &PciBoard, wanted: Confinement) -> Result<(), Error> {
        let address = board.address.clone();
        match (&board.group, wanted) {
            (None, Confinement::Iommu) => Err(Error::NoIommu { address }),
            (Some(group), Confinement::Iommu) if group.unconfined => Err(Error::Unconfined { address }),
            (Some(group), Confinement::Iommu) => {
                let others: Vec<String> = group.foreign().map(ToString::to_string).collect();
                if others.is_empty() {
                    Ok(())
                } else {
                    Err(Error::SharedGroup { address, group: group.number, others })
                }
            }
            (Some(group), Confinement::None) if !group.unconfined => {
                Err(Error::Confined { address, group: group.number })
            }
            (_, Confinement::None) => match self.no_iommu_mode() {
                Some(true) => Ok(()),
                off => Err(Error::NoIommuMode { address, known: off.is_some() }),
            },
        }
    }

    fn expect_driver(&self, address: &str, wanted: &str) -> Result<(), Error> {
        let driver = self.board(address)?.driver;
        if driver.as_deref() == Some(wanted) {
            return Ok(());
        }
        Err(Error::NotBound { address: address.into(), wanted: wanted.into(), driver })
    }

    fn rebind(&self, core: &dyn PciCore, board: &PciBoard, driver_override: &str) -> Result<(), Error> {
        let folder = self.folder(&board.address);
        // A lone newline clears the override.
        write(core, folder.join("driver_override"), &format!("{driver_override}\n"))?;
        if self.board(&board.address)?.driver.is_some() {
            write(core, folder.join("driver/unbind"), &board.address)?;
        }
        write(core, self.path("/sys/bus/pci/drivers_probe"), &board.address)
    }

    /// Puts override and driver back as they were remembered.
    fn restore(&self, core: &dyn PciCore, board: &PciBoard) -> Result<(), Error> {
        let (driver, driver_override) = self.recall(&board.address);
        self.rebind(core, board, &driver_override)?;
        let now = self.board(&board.address)?.driver;
        if let Some(driver) = driver.filter(|d| now.as_ref() != Some(d)) {
            // The kernel's own pick differs (the driver was bound by hand, or is gone); a refusal here is no failure.
            let bind = self.path("/sys/bus/pci/drivers").join(&driver).join("bind");
            if let Err(e) = core.write(&bind, &board.address) {
                log::warn!("{}: cannot give the board back to {driver}: {e}", board.address);
            }
        }
        let _ = std::fs::remove_file(self.memory(&board.address)); // absent for a board bound by somebody else
        Ok(())
    }

    fn disable_aspm(&self, core: &dyn PciCore, board: &PciBoard) -> Result<bool, Error> {
        if !board.aspm.is_on() {
            return Ok(false);
        }
        for switch in Aspm::SWITCHES {
            let path = self.folder(&board.address).join(switch);
            if path.exists() {
                write(core, path, "0")?;
            }
        }
        Ok(true)
    }

    /// Where the state before `bind` is kept until `unbind`.
    fn memory(&self, address: &str) -> PathBuf {
        self.path("/run/akida/bind").join(address)
    }

    fn remember(&self, board: &PciBoard) -> Result<(), Error> {
        let path = self.memory(&board.address);
        if board.driver_override.as_deref() == Some(VFIO_PCI) && path.exists() {
            return Ok(()); // a bind that was interrupted: the first memory is the true one
        }
        let text =
            format!("{}\n{}\n", board.driver.as_deref().unwrap_or(""), board.driver_override.as_deref().unwrap_or(""));
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, &text)).map_err(|source| Error::Write {
            path,
            value: text.trim().into(),
            source,
        })
    }

    fn recall(&self, address: &str) -> (Option<String>, String) {
        let text = std::fs::read_to_string(self.memory(address)).unwrap_or_default();
        let mut lines = text.lines();
        let driver = lines.next().filter(|d| !d.is_empty() && !d.contains('/')).map(str::to_string);
        (driver, lines.next().unwrap_or_default().to_string())
    }
}

fn refuse_users(board: &PciBoard) -> Result<(), Error> {
    if board.users.is_empty() {
        return Ok(());
    }
    Err(Error::InUse { address: board.address.clone(), users: board.users.iter().map(ToString::to_string).collect() })
}

fn write(core: &dyn PciCore, path: PathBuf, value: &str) -> Result<(), Error> {
    core.write(&path, value).map_err(|source| Error::Write { path, value: value.trim().into(), source })
}

//! Which board a command means, and opening it.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use akida_hal::board::Bar;
use akida_hal::device::DeviceOptions;
use akida_hal::node::NodeTransport;
use akida_hal::sysfs::Sysfs;
use akida_hal::vfio::{self, Interface, UNCONFINED, VfioBoard};
use akida_hal::vfio_user::{Dma, RemoteBoard};
use akida_hal::{Board, Device};
use akida_simulator::{SimBoard, SimSpec};

use crate::device::pci;
use crate::exit::{Exit, Failure};

/// A board as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// A PCI address, with its domain.
    Pci(String),
    /// A PCI address in VFIO's no-IOMMU mode.
    Unconfined(String),
    /// A simulated board by name.
    Sim(String),
    /// A board in another process, by its socket.
    Remote(PathBuf),
    /// The node of the vendor's kernel module.
    Node(PathBuf),
    /// None of these; says so when it is opened, with what there is.
    Unknown(String),
}

impl FromStr for Which {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if let Some(path) = text.strip_prefix("vfio-user:") {
            return Ok(Which::Remote(path.into()));
        }
        if let Some(path) = text.strip_prefix("node:") {
            return Ok(Which::Node(path.into()));
        }
        let lower = text.to_ascii_lowercase();
        if let Some(address) = lower.strip_prefix(UNCONFINED) {
            return Ok(pci(address).map_or_else(|| Which::Unknown(text.into()), Which::Unconfined));
        }
        Ok(match (pci(lower.strip_prefix("pci:").unwrap_or(&lower)), lower.strip_prefix("sim:")) {
            (Some(address), _) => Which::Pci(address),
            (None, Some(name)) => Which::Sim(name.into()),
            (None, None) => Which::Unknown(text.into()),
        })
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Pci(a) => f.write_str(a),
            Which::Unconfined(a) => write!(f, "{UNCONFINED}{a}"),
            Which::Sim(n) => write!(f, "sim:{n}"),
            Which::Remote(p) => write!(f, "vfio-user:{}", p.display()),
            Which::Node(p) => write!(f, "node:{}", p.display()),
            Which::Unknown(t) => f.write_str(t),
        }
    }
}

impl Which {
    /// Opens the device on it; with the lengths of its BARs, which a node does not show.
    pub fn device(&self, sysfs: &Sysfs) -> Result<(Device, Option<[u64; 3]>), Failure> {
        let options = DeviceOptions::default();
        match self {
            Which::Node(path) => Ok((Device::over(Arc::new(NodeTransport::open(path)?), options)?, None)),
            _ => {
                let board = self.open(sysfs)?;
                let lengths = Bar::ALL.map(|bar| board.bar_len(bar));
                Ok((Device::open(board, options)?, Some(lengths)))
            }
        }
    }

    /// Opens it.
    pub fn open(&self, sysfs: &Sysfs) -> Result<Arc<dyn Board>, Failure> {
        match self {
            Which::Pci(address) | Which::Unconfined(address) => {
                let interface = match self {
                    Which::Unconfined(_) => Interface::NoIommu,
                    _ => Interface::Auto,
                };
                let options = vfio::Options { interface, ..vfio::Options::default() };
                Ok(Arc::new(VfioBoard::open_with(sysfs, address, &options).map_err(refused)?))
            }
            Which::Sim(name) => {
                let spec: SimSpec = name.parse().map_err(|e: akida_simulator::UnknownModel| {
                    Failure::new(Exit::Usage, e.to_string(), "akida-ctl devices lists them")
                })?;
                Ok(Arc::new(SimBoard::open(&spec)?))
            }
            Which::Remote(path) => Ok(Arc::new(RemoteBoard::connect(path, Dma::Files)?)),
            Which::Node(path) => Err(Failure::new(
                Exit::Usage,
                format!("{}: the vendor's node does not show the PCI function, which this needs", path.display()),
                "bind the board to vfio-pci (akida-ctl bind), or use akida-ctl info",
            )),
            Which::Unknown(text) => Err(Failure::new(
                Exit::Usage,
                format!(
                    "{text:?} is none of a PCI address like 0000:03:00.0, sim:NAME, vfio-user:SOCKET, node:/dev/akida0"
                ),
                "akida-ctl devices lists the boards",
            )),
        }
    }
}

/// Opening fails for reasons that have exit codes of their own.
pub fn refused(error: akida_hal::Error) -> Failure {
    let exit = match &error {
        akida_hal::Error::NotAkida { .. } => Exit::Unavailable,
        akida_hal::Error::Vfio(e) => match e {
            vfio::Error::NoSuchFunction { .. } => Exit::Unavailable,
            vfio::Error::Busy { .. } => Exit::Retry,
            vfio::Error::Permission { .. } | vfio::Error::Privilege { .. } => Exit::Permission,
            vfio::Error::WrongDriver { .. }
            | vfio::Error::NoIommu { .. }
            | vfio::Error::Unconfined { .. }
            | vfio::Error::Confined { .. }
            | vfio::Error::BusAddresses { .. }
            | vfio::Error::NoHugePages { .. }
            | vfio::Error::SharedGroup { .. }
            | vfio::Error::LockedMemory { .. } => Exit::Config,
            _ => Exit::Os,
        },
        _ => return error.into(),
    };
    let help = error.advice().into_owned();
    Failure::new(exit, crate::exit::chain(&error), help)
}

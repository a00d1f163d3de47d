//! Which board to use: the `--device` argument, and what there is to choose from.
//!
//! ```text
//! auto              chooses for the model and says on standard error what it chose, and why
//! sim               a simulated board of the chip the model was made for
//! sim:NAME          a simulated board: akd1000, akd1500, akida2-6node (or akida2), akida2-2node
//! vfio-user:SOCKET  a board in another process, as `akida-sim serve` offers it
//! node:PATH         a board of the vendor's kernel module, by its node: node:/dev/akida0
//! pci:BDF, BDF      a PCI board by address, as lspci shows it: 0000:03:00.0 or 03:00.0
//! vfio-noiommu:BDF  a PCI board that no IOMMU confines: it can overwrite any memory of the machine
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use akida_hal::mesh::Mesh;
use akida_hal::node::NodeTransport;
use akida_hal::sysfs::{Sysfs, is_address};
use akida_hal::vfio::{self, Interface, UNCONFINED, VfioBoard};
use akida_hal::vfio_user::{Dma, RemoteBoard};
use akida_hal::{Board, Transport};
use akida_runtime::mapping::MapError;
use akida_runtime::model::Target;
use akida_simulator::{Clock, FaultPlan, Model as SimModel, SimBoard, SimSpec, UnknownModel};

use crate::exit::{Exit, Failure};

/// The simulated board that a model of this target runs on.
pub fn board_of(target: Target) -> SimModel {
    match target {
        Target::Akd1000 => SimModel::Akd1000,
        Target::Akd1500 => SimModel::Akd1500,
        Target::Akida2 => SimModel::Akida2SixNodes,
    }
}

/// What `--device` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Choose, and say what was chosen.
    Auto,
    /// The simulated board that fits the model.
    Sim,
    /// This simulated board.
    Model(SimModel),
    /// A board in another process.
    Remote(PathBuf),
    /// The node of the vendor's kernel module.
    Node(PathBuf),
    /// This PCI board, `0000:03:00.0`.
    Pci(String),
    /// This PCI board, in VFIO's no-IOMMU mode.
    Unconfined(String),
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(socket) = text.strip_prefix("vfio-user:").filter(|s| !s.is_empty()) {
            return Ok(Selector::Remote(socket.into()));
        }
        if let Some(node) = text.strip_prefix("node:").filter(|n| !n.is_empty()) {
            return Ok(Selector::Node(node.into()));
        }
        let lower = text.to_ascii_lowercase();
        if let Some(address) = lower.strip_prefix(UNCONFINED) {
            return pci(address)
                .map(Selector::Unconfined)
                .ok_or_else(|| format!("{address:?} is no PCI address; they look like 0000:03:00.0"));
        }
        match lower.split_once(':') {
            None if lower == "auto" => return Ok(Selector::Auto),
            None if lower == "sim" => return Ok(Selector::Sim),
            Some(("sim", name)) => {
                return name.parse().map(Selector::Model).map_err(|e: UnknownModel| e.to_string());
            }
            Some(("pci", address)) => {
                return pci(address)
                    .map(Selector::Pci)
                    .ok_or_else(|| format!("{address:?} is no PCI address; they look like 0000:03:00.0"));
            }
            _ => {}
        }
        let unknown = || {
            format!(
                "{text:?} is none of auto, sim, sim:NAME, vfio-user:SOCKET, node:/dev/akida0, pci:BDF (0000:03:00.0)"
            )
        };
        pci(&lower).map(Selector::Pci).ok_or_else(unknown)
    }
}

/// An address, given with or without its domain.
pub fn pci(text: &str) -> Option<String> {
    [text.to_string(), format!("0000:{text}")].into_iter().find(|t| is_address(t))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Auto => f.write_str("auto"),
            Selector::Sim => f.write_str("sim"),
            Selector::Model(m) => write!(f, "sim:{m}"),
            Selector::Remote(p) => write!(f, "vfio-user:{}", p.display()),
            Selector::Node(p) => write!(f, "node:{}", p.display()),
            Selector::Pci(a) => write!(f, "pci:{a}"),
            Selector::Unconfined(a) => write!(f, "{UNCONFINED}{a}"),
        }
    }
}

/// What is said about simulated boards only.
#[derive(Clone, Debug, Default)]
pub struct Simulation {
    /// What goes wrong.
    pub faults: Option<FaultPlan>,
    /// A thread of the board computes, in real time; otherwise time is virtual and runs repeat exactly.
    pub real_time: bool,
    /// Threads that compute in virtual time; 0 is one. Other boards have no use for them.
    pub threads: usize,
}

impl Simulation {
    /// Whether it asks for nothing that only a simulated board has.
    fn is_plain(&self) -> bool {
        self.faults.is_none() && !self.real_time
    }
}

/// What drives a board: a PCI function of its own, or the vendor's module.
pub enum Road {
    /// The function itself.
    Board(Arc<dyn Board>),
    /// The module's node.
    Node(Arc<dyn Transport>),
}

/// Opens the board a selector names for models of `target`. `notice` is told what `auto` chose.
pub fn open(
    selector: &Selector,
    target: Target,
    simulation: &Simulation,
    notice: impl FnOnce(fmt::Arguments<'_>),
) -> Result<Road, Failure> {
    let model = match selector {
        Selector::Pci(address) if simulation.is_plain() => {
            return Ok(Road::Board(Arc::new(VfioBoard::open(address)?)));
        }
        Selector::Unconfined(address) if simulation.is_plain() => {
            let options = vfio::Options { interface: Interface::NoIommu, ..vfio::Options::default() };
            return Ok(Road::Board(Arc::new(VfioBoard::open_with(&Sysfs::system(), address, &options)?)));
        }
        Selector::Remote(socket) if simulation.is_plain() => {
            return Ok(Road::Board(Arc::new(RemoteBoard::connect(socket, Dma::Files)?)));
        }
        Selector::Node(path) if simulation.is_plain() => {
            return Ok(Road::Node(Arc::new(NodeTransport::open(path)?)));
        }
        Selector::Pci(_) | Selector::Unconfined(_) | Selector::Remote(_) | Selector::Node(_) => {
            let message =
                format!("--faults and --real-time are for boards simulated in this process, not for {selector}");
            return Err(Failure::new(Exit::Usage, message, "leave them out, or choose --device sim"));
        }
        Selector::Model(model) => *model,
        Selector::Sim => board_of(target),
        Selector::Auto => {
            let model = board_of(target);
            notice(format_args!("device: auto chose sim:{model}, a SIMULATED board: {}", why_not_pci(model)));
            model
        }
    };
    let clock = if simulation.real_time { Clock::Threaded } else { Clock::Stepped };
    let faults = simulation.faults.clone().unwrap_or_default();
    let spec = SimSpec::new(model).with_faults(faults).with_clock(clock).with_threads(simulation.threads);
    Ok(Road::Board(Arc::new(SimBoard::open(&spec)?)))
}

/// Refuses a network made for another chip than a board has, before the board is touched.
pub fn refuse_other_target(board: &dyn Board, name: &str, made_for: Target) -> Result<(), Failure> {
    let version = Mesh::of(board.identity().chip).version;
    let found = Target::of(version);
    match found == made_for {
        true => Ok(()),
        false => Err(MapError::Target { name: name.to_owned(), made_for, found, version }.into()),
    }
}

/// Why `auto` does not take a PCI board of the right chip.
fn why_not_pci(model: SimModel) -> String {
    let boards = Sysfs::system().boards().unwrap_or_default();
    match boards.iter().find(|b| b.chip == Some(model.chip())) {
        Some(board) => format!("how {} takes converted networks is not public (docs/silicon.md)", board.address),
        None => format!("there is no {:?} on the PCI bus", model.chip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let at = |address: &str| Selector::Pci(address.into());
        let cases = [
            ("auto", Ok(Selector::Auto)),
            ("AUTO", Ok(Selector::Auto)),
            ("sim", Ok(Selector::Sim)),
            ("sim:akd1000", Ok(Selector::Model(SimModel::Akd1000))),
            ("sim:akida2", Ok(Selector::Model(SimModel::Akida2SixNodes))),
            ("sim:akida2-2node", Ok(Selector::Model(SimModel::Akida2TwoNodes))),
            ("pci:0000:03:00.0", Ok(at("0000:03:00.0"))),
            ("pci:03:00.0", Ok(at("0000:03:00.0"))),
            ("0000:AF:1f.0", Ok(at("0000:af:1f.0"))),
            ("af:1f.0", Ok(at("0000:af:1f.0"))),
            ("vfio-noiommu:03:00.0", Ok(Selector::Unconfined("0000:03:00.0".into()))),
            ("vfio-noiommu:0000:AF:1f.0", Ok(Selector::Unconfined("0000:af:1f.0".into()))),
            ("vfio-noiommu:", Err("no PCI address")),
            ("vfio-user:/run/Board", Ok(Selector::Remote("/run/Board".into()))),
            ("node:/dev/akida0", Ok(Selector::Node("/dev/akida0".into()))),
            ("sim:akd9", Err("use akd1000, akd1500, akida2")),
            ("sim:", Err("no simulated board is called")),
            ("pci:03:00", Err("03:00")),
            ("pci:03:00.8", Err("03:00.8")),
            ("/dev/akida0", Err("none of auto")),
            ("", Err("none of auto")),
        ];
        for (text, want) in cases {
            match (text.parse::<Selector>(), want) {
                (Ok(got), Ok(want)) => {
                    assert_eq!(got, want, "{text}");
                    assert_eq!(got.to_string().parse::<Selector>(), Ok(got));
                }
                (Err(got), Err(part)) => assert!(got.contains(part), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn every_target_has_a_board_that_runs_it() {
        for target in [Target::Akd1000, Target::Akd1500, Target::Akida2] {
            assert_eq!(Target::of(board_of(target).mesh().version), target);
        }
    }
}

//! Which board to use: the `--device` argument, and what there is to choose from.
//!
//! ```text
//! auto              the one PCI board of the model's chip, else a simulated one; says on standard error which
//! sim               a simulated board of the chip the model was made for
//! sim:PROFILE       a simulated board: akd1000, akd1500, akida2 (six nodes), akida2-2node
//! pci:BDF, BDF      a PCI board by address, as lspci shows it: 0000:03:00.0 or 03:00.0
//! ```

mod pci;

use std::fmt;
use std::str::FromStr;

use akida_hal::board::Chip;
use akida_hal::mesh::Mesh;
use akida_runtime::model::Target;

pub use pci::{PciAddress, PciBoard, pci_boards};

/// A kind of simulated board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// AKD1000, 78 NPs.
    Akd1000,
    /// AKD1500, 32 NPs.
    Akd1500,
    /// Akida 2.0, six nodes, 24 NPs.
    Akida2,
    /// Akida 2.0, two nodes, 8 NPs.
    Akida2TwoNode,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 4] = [Profile::Akd1000, Profile::Akd1500, Profile::Akida2, Profile::Akida2TwoNode];

    /// The name in a selector.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Akd1000 => "akd1000",
            Profile::Akd1500 => "akd1500",
            Profile::Akida2 => "akida2",
            Profile::Akida2TwoNode => "akida2-2node",
        }
    }

    /// The chip it is.
    pub fn chip(self) -> Chip {
        match self {
            Profile::Akd1000 => Chip::Akd1000,
            Profile::Akd1500 => Chip::Akd1500,
            Profile::Akida2 | Profile::Akida2TwoNode => Chip::Akida2,
        }
    }

    /// The mesh it has.
    pub fn mesh(self) -> Mesh {
        match self {
            Profile::Akd1000 => Mesh::akd1000(),
            Profile::Akd1500 => Mesh::akd1500(),
            Profile::Akida2 => Mesh::akida2_six_nodes(),
            Profile::Akida2TwoNode => Mesh::akida2_two_nodes(),
        }
    }

    /// The board a model of this target runs on.
    pub fn of_target(target: Target) -> Self {
        match target {
            Target::Akd1000 => Profile::Akd1000,
            Target::Akd1500 => Profile::Akd1500,
            Target::Akida2 => Profile::Akida2,
        }
    }
}

/// The target that runs on a chip.
pub fn target_of(chip: Chip) -> Option<Target> {
    match chip {
        Chip::Akd1000 => Some(Target::Akd1000),
        Chip::Akd1500 => Some(Target::Akd1500),
        Chip::Akida2 => Some(Target::Akida2),
        _ => None,
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
    Profile(Profile),
    /// This PCI board.
    Pci(PciAddress),
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        match lower.split_once(':') {
            None if lower == "auto" => return Ok(Selector::Auto),
            None if lower == "sim" => return Ok(Selector::Sim),
            Some(("sim", name)) => {
                let names = Profile::ALL.map(Profile::name).join(", ");
                return Profile::ALL
                    .into_iter()
                    .find(|p| p.name() == name)
                    .map(Selector::Profile)
                    .ok_or_else(|| format!("{name:?} is no simulated board; there are {names}"));
            }
            Some(("pci", address)) => return address.parse().map(Selector::Pci),
            _ => {}
        }
        let unknown = || format!("{text:?} is none of auto, sim, sim:PROFILE, pci:BDF (0000:03:00.0)");
        lower.parse().map(Selector::Pci).map_err(|_| unknown())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Auto => f.write_str("auto"),
            Selector::Sim => f.write_str("sim"),
            Selector::Profile(p) => write!(f, "sim:{}", p.name()),
            Selector::Pci(a) => write!(f, "pci:{a}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let at = |bus, device| Selector::Pci(PciAddress { domain: 0, bus, device, function: 0 });
        let cases = [
            ("auto", Ok(Selector::Auto)),
            ("AUTO", Ok(Selector::Auto)),
            ("sim", Ok(Selector::Sim)),
            ("sim:akd1000", Ok(Selector::Profile(Profile::Akd1000))),
            ("sim:akida2", Ok(Selector::Profile(Profile::Akida2))),
            ("sim:akida2-2node", Ok(Selector::Profile(Profile::Akida2TwoNode))),
            ("pci:0000:03:00.0", Ok(at(3, 0))),
            ("pci:03:00.0", Ok(at(3, 0))),
            ("0000:AF:1f.0", Ok(at(0xaf, 0x1f))),
            ("af:1f.0", Ok(at(0xaf, 0x1f))),
            ("sim:akd9", Err("akd1000, akd1500, akida2, akida2-2node")),
            ("sim:", Err("no simulated board")),
            ("pci:03:00", Err("03:00")),
            ("pci:03:20.0", Err("03:20.0")),
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
            assert_eq!(target_of(Profile::of_target(target).chip()), Some(target));
        }
    }
}

//! Which board to make.

use std::fmt;
use std::str::FromStr;

use akida_hal::board::Chip;
use akida_hal::mesh::Mesh;

use crate::clock::Clock;
use crate::faults::FaultPlan;

/// A board that can be made, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Model {
    /// AKD1000 PCIe board.
    Akd1000,
    /// AKD1500 board.
    Akd1500,
    /// Akida 2.0 IP with two nodes, behind the AKD1000's host interface (ours).
    Akida2TwoNodes,
    /// Akida 2.0 IP with six nodes, behind the AKD1000's host interface (ours).
    Akida2SixNodes,
}

impl Model {
    /// All of them.
    pub const ALL: [Model; 4] = [Model::Akd1000, Model::Akd1500, Model::Akida2TwoNodes, Model::Akida2SixNodes];

    /// Its name: `akd1000`, `akd1500`, `akida2-2node`, `akida2-6node`.
    pub const fn name(self) -> &'static str {
        match self {
            Model::Akd1000 => "akd1000",
            Model::Akd1500 => "akd1500",
            Model::Akida2TwoNodes => "akida2-2node",
            Model::Akida2SixNodes => "akida2-6node",
        }
    }

    /// The chip.
    pub const fn chip(self) -> Chip {
        match self {
            Model::Akd1000 => Chip::Akd1000,
            Model::Akd1500 => Chip::Akd1500,
            Model::Akida2TwoNodes | Model::Akida2SixNodes => Chip::Akida2,
        }
    }

    /// What is on its mesh.
    pub fn mesh(self) -> Mesh {
        match self {
            Model::Akd1000 => Mesh::akd1000(),
            Model::Akd1500 => Mesh::akd1500(),
            Model::Akida2TwoNodes => Mesh::akida2_two_nodes(),
            Model::Akida2SixNodes => Mesh::akida2_six_nodes(),
        }
    }

    /// Lengths of BARs 0, 2 and 4 unless a [`SimSpec`] says otherwise (hardware.md section 1; the AKD1500's BAR 0 is
    /// ours).
    pub const fn bar_len(self) -> [u64; 3] {
        match self {
            Model::Akd1500 => [64 << 10, 1 << 20, 1 << 20],
            _ => [4 << 20; 3],
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No board has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no simulated board is called {name:?}: use akd1000, akd1500, akida2, akida2-2node or akida2-6node")]
pub struct UnknownModel {
    /// The name.
    pub name: String,
}

impl FromStr for Model {
    type Err = UnknownModel;

    /// `akida2` means six nodes.
    fn from_str(name: &str) -> Result<Self, UnknownModel> {
        match name {
            "akida2" => Ok(Model::Akida2SixNodes),
            _ => Model::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| UnknownModel { name: name.into() }),
        }
    }
}

/// How to make a board.
#[derive(Clone, Debug, PartialEq)]
pub struct SimSpec {
    /// Which board.
    pub model: Model,
    /// What goes wrong, and when.
    pub faults: FaultPlan,
    /// Virtual or real time.
    pub clock: Clock,
    /// Threads that compute jobs which are in a ring together, in virtual time: the caller's and helpers. Results, their order
    /// and the board's time are the same whatever their number.
    pub threads: usize,
    /// Lengths of BARs 0, 2 and 4: powers of two from 4 KiB to 256 MiB.
    pub bar_len: [u64; 3],
}

impl SimSpec {
    /// A board without faults, in virtual time.
    pub fn new(model: Model) -> Self {
        Self { model, faults: FaultPlan::none(), clock: Clock::Stepped, threads: 1, bar_len: model.bar_len() }
    }

    /// The same with these faults.
    #[must_use]
    pub fn with_faults(mut self, faults: FaultPlan) -> Self {
        self.faults = faults;
        self
    }

    /// The same with so many threads, at least one.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl From<Model> for SimSpec {
    fn from(model: Model) -> Self {
        Self::new(model)
    }
}

impl FromStr for SimSpec {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Self, UnknownModel> {
        name.parse().map(Self::new)
    }
}

impl fmt::Display for SimSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for model in Model::ALL {
            assert_eq!(model.name().parse(), Ok(model));
            assert_eq!(SimSpec::new(model).to_string().parse::<SimSpec>().map(|s| s.model), Ok(model));
        }
        assert_eq!("akida2".parse(), Ok(Model::Akida2SixNodes));
        for name in ["", "AKD1000", "sim:akd1000", "akida3"] {
            assert!(name.parse::<Model>().is_err(), "{name:?}");
        }
    }
}

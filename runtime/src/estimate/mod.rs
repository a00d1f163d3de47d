//! Estimated cycles, latency and energy of an Akida 1.0 model on its chip: a model of the mesh, calibrated on figures the vendor
//! publishes (docs/estimates.md has them, the fit, and its errors). Never a measurement, and always to be labelled so.
//!
//! An NP takes time for the multiply-adds it makes and for the inputs it holds, both in proportion to how many inputs are not
//! 0; a layer takes what its busiest NP takes; layers follow each other; in programs of several passes each configuration adds
//! its words. Dynamic energy depends on the network and its activations, not on the mapping; the floor is paid for the time.

mod density;

use serde::Serialize;

use crate::mapping::stage::Role;
use crate::mapping::{HardwareSequence, Mapping, Placed, cost};
use crate::model::{LayerKind, Model, Target, TensorId};

pub use density::Densities;

/// Share of activations that are not 0 in the networks of the published figures. Not published: assumed.
pub const REFERENCE_DENSITY: f64 = 0.5;

/// Dynamic energy of an AKD1500 at [`REFERENCE_DENSITY`], in picojoules for a multiply-add and for an input of a layer.
pub const PICOJOULES_PER_MAC: f64 = 9.12;
/// See [`PICOJOULES_PER_MAC`].
pub const PICOJOULES_PER_INPUT: f64 = 505.0;

/// How far estimates were from published cycles when the network was left out of the calibration: typically, and at most, as
/// factors (docs/estimates.md).
pub const CYCLES_ERROR: [f64; 2] = [1.2, 1.6];

/// What is taken of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Chip {
    /// Clock of the core.
    pub clock_hz: f64,
    /// Power of the board when it does nothing.
    pub floor_mw: f64,
    /// Dynamic energy beside an AKD1500's.
    pub dynamic: f64,
}

/// AKD1500: the clock and floor of targets.md 5.1.
pub const AKD1500: Chip = Chip { clock_hz: 400e6, floor_mw: 112.5, dynamic: 1.0 };
/// AKD1000: 51.28 frames a second of 4.30 million cycles each, the floor of two captures, and the mean of their dynamic
/// energies (1.48 and 2.5 mJ for a network that takes 3.94 on the AKD1500; targets.md 5.2).
pub const AKD1000: Chip = Chip { clock_hz: 220e6, floor_mw: 908.0, dynamic: 0.5 };

/// One hardware layer of one pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerEstimate {
    /// Name of the model layer.
    pub layer: String,
    /// Which hardware sequence.
    pub sequence: usize,
    /// Which pass of it.
    pub pass: usize,
    /// NPs that share it; the HRC counts as one.
    pub nps: usize,
    /// Share of its inputs that are 0.
    pub input_sparsity: f64,
    /// Of its busiest NP.
    pub cycles: u64,
}

/// Energy of one inference, in millijoules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Energy {
    /// The board's idle power for the time of the inference.
    pub floor_mj: f64,
    /// Above it.
    pub dynamic_mj: f64,
    /// Both.
    pub total_mj: f64,
}

/// One inference at a time on the hardware; host layers are not in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// What it is.
    pub kind: &'static str,
    /// The chip.
    pub chip: Chip,
    /// From the first input to the last output.
    pub cycles: u64,
    /// Of these, for configuring the mesh between passes.
    pub configuring_cycles: u64,
    /// The same as time.
    pub latency_ms: f64,
    /// Inferences a second, one after another.
    pub fps: f64,
    /// Of an inference.
    pub energy: Energy,
    /// [`CYCLES_ERROR`].
    pub error_factors: [f64; 2],
    /// Samples that the sparsity was measured on; 0: half of all activations are taken to be 0.
    pub samples: usize,
    /// In the order in which they run.
    pub layers: Vec<LayerEstimate>,
}

impl Estimate {
    /// For people, two lines.
    pub fn text(&self) -> String {
        let sparsity = match self.samples {
            0 => "with half of all activations taken to be 0".into(),
            n => format!("with the sparsity of {n} samples"),
        };
        let configuring = match self.configuring_cycles {
            0 => String::new(),
            n => format!(" ({n} of them to configure the mesh between passes)"),
        };
        let (chip, energy, [typical, most]) = (&self.chip, &self.energy, self.error_factors);
        format!(
            "estimate, not a measurement, {sparsity}: {} cycles{configuring}, {:.3} ms at {:.0} MHz, {:.1} fps one at a time\n\
             estimate of energy: {:.4} mJ = floor {:.4} mJ ({:.0} mW) + dynamic {:.4} mJ; cycles are typically within a factor of \
             {typical} of published ones, at most {most} (docs/estimates.md)\n",
            self.cycles,
            self.latency_ms,
            chip.clock_hz / 1e6,
            self.fps,
            energy.total_mj,
            energy.floor_mj,
            chip.floor_mw,
            energy.dynamic_mj,
        )
    }
}

/// Estimates one inference of a mapped model, whose tensors have these densities.
///
/// # Errors
/// Why there is none: a target without published figures, nothing on the hardware.
pub fn estimate(model: &Model, mapping: &Mapping, densities: &Densities) -> Result<Estimate, &'static str> {
    let chip = match model.target {
        Target::Akd1500 => AKD1500,
        Target::Akd1000 => AKD1000,
        Target::Akida2 => return Err("no cycles or energies of Akida 2.0 are public to calibrate on"),
    };
    if mapping.hardware().next().is_none() {
        return Err("nothing of the network is on the hardware");
    }
    let mut layers = Vec::new();
    let (mut configuring, mut picojoules) = (0, 0.0);
    for (number, sequence) in mapping.hardware().enumerate() {
        configuring += configuration_cycles(sequence);
        for (pass, plan) in sequence.passes.iter().enumerate() {
            for parts in plan.placed.chunk_by(|a, b| a.part.layer == b.part.layer) {
                layers.push(layer(model, number, pass, parts, densities));
            }
        }
        picojoules += sequence.layers.iter().map(|&l| energy_of(model, l, densities)).sum::<f64>();
    }
    let cycles = layers.iter().map(|l| l.cycles).sum::<u64>() + configuring;
    let seconds = cycles.max(1) as f64 / chip.clock_hz;
    let (floor_mj, dynamic_mj) = (chip.floor_mw * seconds, picojoules * chip.dynamic / 1e9);
    Ok(Estimate {
        kind: "estimate, not a measurement",
        chip,
        cycles,
        configuring_cycles: configuring,
        latency_ms: seconds * 1e3,
        fps: 1.0 / seconds,
        energy: Energy { floor_mj, dynamic_mj, total_mj: floor_mj + dynamic_mj },
        error_factors: CYCLES_ERROR,
        samples: densities.samples,
        layers,
    })
}

/// The mesh is configured for every pass of every inference when there are several.
fn configuration_cycles(sequence: &HardwareSequence) -> u64 {
    if sequence.passes.len() < 2 {
        return 0;
    }
    let placed = sequence.passes.iter().flat_map(|p| &p.placed);
    placed.map(|p| cost::configured_words(&p.sram) * cost::CYCLES_PER_PROGRAM_WORD).sum()
}

/// Which tensor a hardware layer reads.
fn input_of(model: &Model, placed: &Placed) -> TensorId {
    match placed.role {
        // It stands behind its layer.
        Role::PassThrough => placed.layer + 1,
        Role::Layer => model.layers[placed.layer].inputs[0],
    }
}

fn layer(model: &Model, sequence: usize, pass: usize, parts: &[Placed], densities: &Densities) -> LayerEstimate {
    let density = densities.of(input_of(model, &parts[0]));
    let millicycles = |p: &Placed| {
        let hrc = p.kind.is_empty();
        let dense = cost::part_millicycles(hrc, p.macs, p.part.held_inputs() as u64) as f64;
        // What the HRC takes in is an image: every pixel counts.
        if hrc { dense } else { dense * density / REFERENCE_DENSITY }
    };
    LayerEstimate {
        layer: model.layers[parts[0].layer].name.clone(),
        sequence,
        pass,
        nps: parts.len(),
        input_sparsity: 1.0 - density,
        cycles: (parts.iter().map(millicycles).fold(0.0, f64::max) / 1000.0) as u64,
    }
}

/// Dynamic energy of a model layer on an AKD1500, in picojoules.
fn energy_of(model: &Model, layer: usize, densities: &Densities) -> f64 {
    let input = model.layers[layer].inputs[0];
    let macs = model.macs()[layer] as f64 * PICOJOULES_PER_MAC;
    let image = matches!(&model.layers[layer].kind, LayerKind::Conv(c) if c.kind == crate::model::ConvKind::Input);
    if image {
        return macs;
    }
    let inputs = model.tensor(input).elements() as f64 * PICOJOULES_PER_INPUT;
    (macs + inputs) * densities.of(input) / REFERENCE_DENSITY
}

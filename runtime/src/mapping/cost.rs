//! When another hardware sequence is worth its reprogramming.
//!
//! A model in several hardware sequences reprograms the board for each of them, batch by batch, and moves tensors there
//! and back, sample by sample. That pays when the host would need longer for the layers. Both are estimated with two round
//! figures, and the board is taken to compute in no time, so that the decision is the same on every machine:
//!
//! - the host makes [`HOST_MACS_PER_SECOND`] multiply-adds a second: with AVX2 it makes 16 to 56 billion, 7 of depthwise
//!   layers; without vectors 2 to 4 (docs/performance.md),
//! - [`BYTES_PER_SECOND`] are moved. The AKD1000 takes 999,868 cycles (3.3 ms at 300 MHz) for a program of 1.36 MB
//!   (targets.md 5.2): 400 MB/s, and its link of generation 2, one lane, has as much.
//!
//! With fewer sequences than two nothing is ever reprogrammed, so the last of two saves both programs.

use akida_hal::format::EVENT_BYTES;
use akida_hal::mesh::Mesh;
use akida_hal::program::{InputKind, OutputKind};

use super::place::Seat;
use super::split::{self, np_layer, sram_use};
use super::stage::Stage;
use super::{HardwareSequence, SramUse};

/// What host kernels do. Ours.
pub const HOST_MACS_PER_SECOND: u64 = 20_000_000_000;
/// What programming and jobs move.
pub const BYTES_PER_SECOND: u64 = 400_000_000;

/// A sequence that is not worth it, with the two sides of the comparison in multiply-adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWorth {
    /// Which of the sequences.
    pub index: usize,
    /// Multiply-adds of its layers in a batch.
    pub macs: u64,
    /// Multiply-adds the host makes while the program, and the tensors of a batch, are moved.
    pub threshold: u64,
}

/// The sequence to move to the host next, if there is one: that with the least work, when its work in a batch is less
/// than what the host could do in the time of the reprogramming it causes and of its tensors' way.
pub fn not_worth(sequences: &[&HardwareSequence], batch: usize) -> Option<NotWorth> {
    if sequences.len() < 2 {
        return None;
    }
    let (index, least) = sequences.iter().enumerate().min_by_key(|(i, s)| (s.macs(), *i))?;
    let saved: usize = if sequences.len() == 2 { sequences.iter().map(|s| s.bytes()).sum() } else { least.bytes() };
    let macs = least.macs() * batch as u64;
    let moved = saved as u64 + tensor_bytes(least) * batch as u64;
    let threshold = moved * (HOST_MACS_PER_SECOND / BYTES_PER_SECOND);
    (macs < threshold).then_some(NotWorth { index, macs, threshold })
}

/// Bytes of a sample's input and output; half of what comes and goes as events is taken to be 0.
fn tensor_bytes(sequence: &HardwareSequence) -> u64 {
    let (input, output) = (&sequence.program.input, &sequence.program.output);
    let elements = |shape: &[u32; 3]| shape.iter().map(|d| u64::from(*d)).product::<u64>();
    let half_events = EVENT_BYTES as u64 / 2;
    let into = elements(&input.shape) * if input.kind == InputKind::Dense { 1 } else { half_events };
    let out = match output.kind {
        OutputKind::Dense => output.dense_bytes() as u64,
        _ => elements(&output.shape) * half_events,
    };
    into + out
}

/// Cycles of an NP for a thousand multiply-adds and for a thousand inputs it holds, with half of its inputs 0; cycles to
/// configure a mesh between two passes, per word. Calibrated on the vendor's figures of the AKD1500 (docs/estimates.md).
pub const CYCLES_PER_1000_MACS: u64 = 149;
/// See [`CYCLES_PER_1000_MACS`].
pub const CYCLES_PER_1000_INPUTS: u64 = 6750;
/// See [`CYCLES_PER_1000_MACS`].
pub const CYCLES_PER_PROGRAM_WORD: u64 = 15;

/// Thousandths of a cycle that a part takes an NP when half of its inputs are 0; the HRC, an input a cycle (ours).
pub fn part_millicycles(hrc: bool, macs: u64, inputs: u64) -> u64 {
    if hrc { inputs * 1000 } else { macs * CYCLES_PER_1000_MACS + inputs * CYCLES_PER_1000_INPUTS }
}

/// Words an NP is configured with: registers, memories, headers of packets.
pub fn configured_words(used: &SramUse) -> u64 {
    u64::from(used.filter + used.parameter + used.lut) / 4 + akida_hal::np::registers::COUNT as u64 + 8
}

/// Estimated cycles of a pass, to compare ways to cut: those of the busiest NP of each layer, added up, and, unless it is
/// the only pass, of its configuration.
pub fn pass_cycles(stages: &[Stage], seats: &[Seat], mesh: &Mesh, only: bool) -> u64 {
    let generation = mesh.version.generation();
    let (mut busiest, mut words) = (vec![0; stages.len()], 0);
    for seat in seats {
        let stage = &stages[seat.stage];
        let part = np_layer(stage, &seat.part);
        let macs = split::macs(stage, &seat.part);
        let cycles = part_millicycles(stage.is_hrc(), macs, part.held_inputs() as u64);
        busiest[seat.stage] = cycles.max(busiest[seat.stage]);
        words += configured_words(&sram_use(&part, stage.is_hrc(), generation));
    }
    let configured = if only { 0 } else { words * CYCLES_PER_PROGRAM_WORD };
    busiest.iter().sum::<u64>() / 1000 + configured
}

//! Whether a program can run here, decided before anything is written.

use crate::descriptor::{HrcDescriptor, JobId, MAX_EVENTS};
use crate::mesh::{Mesh, NpAddress, NpTypes};
use crate::np::sram::UNIT_WORDS;
use crate::packet::{PacketHeader, Target, Uid, packets};
use crate::program::{InputKind, Program};
use crate::program_file::Encoding;
use crate::regs::{self, dma, epg};
use crate::{Error, Result};

/// Coordinates of events have 12 bits, so no dimension is larger (hardware.md section 20, trap 24).
const MAX_SIDE: u64 = 4096;
/// Words of a track: the config descriptor's size field.
const MAX_TRACK: u64 = u16::MAX as u64;

fn limit(what: &'static str, value: u64, limit: u64) -> Result<()> {
    if value <= limit { Ok(()) } else { Err(Error::ProgramLimit { what, value, limit }) }
}

fn at_least_one(what: &'static str, value: u64) -> Result<()> {
    // A limit of 0 below says it best: nothing of it is there.
    if value > 0 { Ok(()) } else { Err(Error::ProgramLimit { what, value, limit: 1 }) }
}

/// Checks a program against a mesh.
pub fn check(board: &str, mesh: &Mesh, program: &Program) -> Result<()> {
    if program.version != mesh.version {
        return Err(Error::ProgramVersion { board: board.to_owned(), device: mesh.version, program: program.version });
    }
    check_ports(board, program)?;
    at_least_one("number of passes", program.passes.len() as u64)?;
    if program.passes.len() > 1 {
        let slots = program.passes.len() as u64 * tracks_per_pass(program) as u64;
        limit("number of config descriptors", slots, dma::MAX_SLOTS.into())?;
    }
    // What is where in memories, only our own encoding tells; registers are the same in all.
    let ours = Encoding::of(program) == Encoding::Ours;
    for (pass, p) in program.passes.iter().enumerate() {
        for (track, t) in p.tracks.iter().enumerate() {
            check_track(board, mesh, pass, track, &t.words)?;
            if ours {
                check_memories(mesh, &t.words)?;
            }
        }
        for external in &p.external {
            at_least_one("external weight length", external.words.len() as u64)?;
            let fnp2 = mesh.nps.iter().any(|(np, t)| *np == external.np && t.contains(NpTypes::FNP2));
            if !fnp2 {
                return Err(Error::ProgramTarget { board: board.to_owned(), np: external.np, pass, track: 0, word: 0 });
            }
        }
    }
    for write in &program.epg {
        let last = epg::NAMES.last().map_or(0, |(offset, _)| *offset);
        limit("event generator register offset", write.offset.into(), last.into())?;
        limit("event generator register misalignment", (write.offset % 4).into(), 0)?;
    }
    Ok(())
}

/// The most tracks of a pass: what shorter ones are padded to in a multi-pass ring.
pub fn tracks_per_pass(program: &Program) -> usize {
    program.passes.iter().map(|p| p.tracks.len()).max().unwrap_or(0).max(1)
}

fn check_ports(board: &str, program: &Program) -> Result<()> {
    let (input, output) = (&program.input, &program.output);
    for (what, shape) in [("input dimension", input.shape), ("output dimension", output.shape)] {
        for d in shape {
            at_least_one(what, d.into())?;
        }
        limit(what, shape[0].into(), MAX_SIDE)?;
        limit(what, shape[1].into(), MAX_SIDE)?;
    }
    if !matches!(input.bits, 1 | 2 | 4 | 8) {
        return Err(Error::ProgramLimit { what: "input bits", value: input.bits.into(), limit: 8 });
    }
    if !(1..=32).contains(&output.bits) {
        return Err(Error::ProgramLimit { what: "output bits", value: output.bits.into(), limit: 32 });
    }
    let elements = |shape: [u32; 3]| shape.iter().map(|d| u64::from(*d)).product::<u64>();
    limit("number of output elements", elements(output.shape), 1 << 27)?;
    limit("number of input elements", elements(input.shape), 1 << 30)?;
    match input.kind {
        InputKind::Dense => {
            HrcDescriptor::dense(JobId(0), input.shape, input.window, 0, 0)
                .map_err(|source| Error::Descriptor { board: board.to_owned(), source })?;
        }
        InputKind::CnpEvents | InputKind::FnpEvents => {
            limit("number of input events", elements(input.shape), MAX_EVENTS.into())?;
        }
    }
    Ok(())
}

fn check_track(board: &str, mesh: &Mesh, pass: usize, track: usize, words: &[u32]) -> Result<()> {
    at_least_one("track length in words", words.len() as u64)?;
    limit("track length in words", words.len() as u64, MAX_TRACK)?;
    for packet in packets(words) {
        let packet = packet.map_err(|source| Error::ProgramPacket { pass, track, source })?;
        for np in packet.header.target.addresses() {
            let there =
                if np == NpAddress::HRC { mesh.hrc } else { mesh.nps.iter().any(|(address, _)| *address == np) };
            if !there {
                let board = board.to_owned();
                return Err(Error::ProgramTarget { board, np, pass, track, word: packet.offset });
            }
        }
        let PacketHeader { uid, start, len, target } = packet.header;
        if uid == Uid::Registers && target != Target::Hrc {
            limit("register index of a packet", u64::from(start) + u64::from(len), regs::np::COUNT as u64)?;
        }
    }
    Ok(())
}

/// Whether the packets of a checked track stay inside the memories of `akida_hal::np`.
fn check_memories(mesh: &Mesh, words: &[u32]) -> Result<()> {
    let sram = &mesh.sram;
    for packet in packets(words).flatten() {
        let PacketHeader { uid, start, len, target } = packet.header;
        let (bytes, unit) = match (uid, target == Target::Hrc) {
            (Uid::CnpFilter, true) => (sram.hrc, UNIT_WORDS),
            (Uid::CnpFilter | Uid::FnpWeights, false) => (sram.filter, UNIT_WORDS),
            (Uid::Thresholds, false) => (sram.parameter, 1),
            (Uid::PacketSram, false) => (sram.packet, 1),
            (Uid::Lut, false) if mesh.version.generation() > 1 => (sram.lut, 1),
            (Uid::Registers, _) => (regs::np::COUNT as u32 * 4, 1),
            _ => (0, 1),
        };
        limit(
            "end of a packet in an SRAM, in words",
            u64::from(start) * unit as u64 + u64::from(len),
            (bytes / 4).into(),
        )?;
    }
    Ok(())
}

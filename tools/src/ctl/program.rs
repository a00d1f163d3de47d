//! `akida-ctl program`: files in the vendor's program format.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use akida_hal::device::{Device, DeviceOptions, Verify};
use akida_hal::packet::packets;
use akida_hal::program::{Pass, Program};
use akida_hal::program_file::{Encoding, FileError, LARGEST, ProgramFile};
use akida_hal::sysfs::Sysfs;
use serde::Serialize;

use super::Page;
use super::open::Which;
use crate::exit::{Exit, Failure, chain};

/// What a file holds.
#[derive(Serialize)]
struct Contents {
    hardware: String,
    /// `ours` (docs/np-program.md) or `silicon`.
    encoding: &'static str,
    bytes: usize,
    input: Port,
    output: Port,
    learning: bool,
    descriptors_per_pass: u8,
    dequantized_channels: usize,
    epg: Vec<EpgWord>,
    passes: Vec<PassContents>,
}

#[derive(Serialize)]
struct Port {
    shape: [u32; 3],
    kind: String,
    bits: u8,
    signed: bool,
}

#[derive(Serialize)]
struct EpgWord {
    offset: u32,
    value: u32,
}

#[derive(Serialize)]
struct PassContents {
    tracks: Vec<TrackContents>,
    fnp2: Vec<Fnp2>,
}

#[derive(Serialize)]
struct TrackContents {
    words: usize,
    packets: Vec<PacketContents>,
}

#[derive(Serialize)]
struct PacketContents {
    target: String,
    memory: String,
    start: u16,
    words: u32,
}

#[derive(Serialize)]
struct Fnp2 {
    np: String,
    words: usize,
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let help = match error {
            FileError::Version { .. } => {
                "make the program again with a version of the vendor's tools that writes this schema"
            }
            FileError::TooLarge { .. } => "map the model to fewer passes",
            _ => "the file is damaged or no program: copy or make it again",
        };
        Self::new(Exit::Data, chain(&error), help)
    }
}

/// Reads a file, as far as a program can be long.
pub fn read(path: &Path) -> Result<ProgramFile, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| Failure::input(path, &e))?;
    Ok(ProgramFile::read(&bytes)?)
}

/// `akida-ctl program show`
pub fn show(path: &Path, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let contents = contents(&read(path)?);
    page.print("akida-program/1", &contents, || text(&contents))?;
    Ok(Exit::Done)
}

fn contents(file: &ProgramFile) -> Contents {
    let Program { version, input, output, passes, epg } = &file.program;
    Contents {
        hardware: version.to_string(),
        encoding: encoding(&file.program),
        bytes: file.program.size(),
        input: Port { shape: input.shape, kind: format!("{:?}", input.kind), bits: input.bits, signed: input.signed },
        output: Port {
            shape: output.shape,
            kind: format!("{:?}", output.kind),
            bits: output.bits,
            signed: output.signed,
        },
        learning: file.learning,
        descriptors_per_pass: file.descriptors_per_pass,
        dequantized_channels: file.scales.len(),
        epg: epg.iter().map(|w| EpgWord { offset: w.offset, value: w.value }).collect(),
        passes: passes.iter().map(pass).collect(),
    }
}

fn encoding(program: &Program) -> &'static str {
    match Encoding::of(program) {
        Encoding::Ours => "ours",
        Encoding::Silicon => "silicon",
    }
}

fn pass(pass: &Pass) -> PassContents {
    let packet = |p: akida_hal::packet::Packet| PacketContents {
        target: p.header.target.to_string(),
        memory: format!("{:?}", p.header.uid),
        start: p.header.start,
        words: p.header.len,
    };
    PassContents {
        tracks: pass
            .tracks
            .iter()
            .map(|t| TrackContents {
                words: t.words.len(),
                packets: packets(&t.words).map_while(Result::ok).map(packet).collect(),
            })
            .collect(),
        fnp2: pass.external.iter().map(|e| Fnp2 { np: e.np.to_string(), words: e.words.len() }).collect(),
    }
}

fn text(c: &Contents) -> String {
    let mut out = String::new();
    let port = |p: &Port| {
        let [a, b, d] = p.shape;
        format!("{a}x{b}x{d}, {} of {} bits{}", p.kind, p.bits, if p.signed { ", signed" } else { "" })
    };
    // Writing to a string does not fail.
    let _ = writeln!(out, "hardware  {} (encoding of NPs: {})", c.hardware, c.encoding);
    let _ = writeln!(out, "input     {}", port(&c.input));
    let _ = writeln!(out, "output    {}, {} channels dequantized", port(&c.output), c.dequantized_channels);
    let _ = writeln!(out, "size      {} bytes in {} passes", c.bytes, c.passes.len());
    if c.learning {
        let _ = writeln!(out, "learning  a learning layer, whose contents are not public");
    }
    for w in &c.epg {
        let _ = writeln!(out, "epg       +{:#04x} = {:#010x}", w.offset, w.value);
    }
    for (n, pass) in c.passes.iter().enumerate() {
        let _ = writeln!(out, "pass {n}: {} tracks", pass.tracks.len());
        for (t, track) in pass.tracks.iter().enumerate() {
            let _ = writeln!(out, "  track {t}: {} words", track.words);
            for p in &track.packets {
                let _ = writeln!(out, "    {:<20} {:<12} from {:<6} {} words", p.target, p.memory, p.start, p.words);
            }
        }
        for f in &pass.fnp2 {
            let _ = writeln!(out, "  device memory of {}: {} words", f.np, f.words);
        }
    }
    out
}

#[derive(Serialize)]
struct Loaded {
    board: String,
    simulated: bool,
    encoding: &'static str,
    passes: usize,
    bytes: usize,
    /// Passes whose registers and memories were read back and are as the file says.
    read_back: usize,
}

/// `akida-ctl program load`
pub fn load(sysfs: &Sysfs, path: &Path, which: &Which, page: &mut Page<'_>) -> Result<Exit, Failure> {
    let file = read(path)?;
    let refuse = |what: &str, help: &str| Err(Failure::new(Exit::Data, what, help));
    if file.learning {
        return refuse(
            "the program has a learning layer, whose contents are not public",
            "edge learning is not supported",
        );
    }
    let board = which.open(sysfs)?;
    let simulated = board.identity().simulated;
    let encoding = encoding(&file.program);
    if encoding == "ours" && !simulated {
        return refuse(
            "the program is in this project's own encoding, which no silicon knows",
            "load it on a simulated board: --device sim:akd1000",
        );
    }
    let mut device = Device::open(board, DeviceOptions { verify: Verify::Program, ..DeviceOptions::default() })?;
    // Several passes share the mesh and the config DMA: each is read back alone first.
    let program = &file.program;
    device.check(program)?;
    if program.passes.len() > 1 {
        for pass in &program.passes {
            device.program(&Program { passes: vec![pass.clone()], ..program.clone() })?;
        }
    }
    device.program(program)?;
    let loaded = Loaded {
        board: device.identity().to_string(),
        simulated,
        encoding,
        passes: program.passes.len(),
        bytes: program.size(),
        read_back: program.passes.len(),
    };
    page.print("akida-program-load/1", &loaded, || {
        let mut text = format!(
            "{}: {} bytes in {} passes; registers and memories read back as the file says\n",
            loaded.board, loaded.bytes, loaded.passes
        );
        if loaded.simulated && loaded.encoding == "silicon" {
            text.push_str("the NP encoding of this program is not public: a simulated board cannot compute with it\n");
        }
        text
    })?;
    Ok(Exit::Done)
}

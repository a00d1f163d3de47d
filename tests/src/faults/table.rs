//! The pairs of fault and phase.

use std::fmt;

/// A part of a board's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Translation, DMA engine, resets, mesh scan.
    Open,
    /// A network's program goes onto the mesh.
    Load,
    /// Rings and buffers for jobs are made.
    Batch,
    /// Inputs and descriptors go to the board.
    Feed,
    /// Jobs one behind the other, from input to output.
    Run,
    /// An output comes back.
    Fetch,
    /// NP memory is written and read by config packets.
    Config,
    /// The event DMA copies memory to memory.
    Loopback,
    /// The function is reset and brought up.
    Recover,
    /// The device is closed with a job in flight.
    Close,
}

impl Phase {
    /// As reports name it.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Open => "open",
            Phase::Load => "load",
            Phase::Batch => "batch",
            Phase::Feed => "feed",
            Phase::Run => "run",
            Phase::Fetch => "fetch",
            Phase::Config => "config",
            Phase::Loopback => "loopback",
            Phase::Recover => "recover",
            Phase::Close => "close",
        }
    }
}

/// A fault of docs/simulator.md, with its parameters, in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Name of the fault.
    pub fault: &'static str,
    /// At how many occurrences in a row, as plans say it.
    pub times: &'static str,
    /// Parameters.
    pub parameters: &'static str,
    /// The phase.
    pub phase: Phase,
}

const fn pair(fault: &'static str, times: &'static str, parameters: &'static str, phase: Phase) -> Pair {
    Pair { fault, times, parameters, phase }
}

macro_rules! pairs {
    ($($fault:literal $times:literal $parameters:literal: $($phase:ident)+;)*) => {
        &[$($(pair($fault, $times, $parameters, Phase::$phase)),+),*]
    };
}

/// All pairs. A phase in which a fault's occasion never comes is left out: no job runs while a device is opened.
pub static PAIRS: &[Pair] = pairs! {
    "drop-interrupt" "" "": Open Load Run Recover;
    "late-interrupt" "" "us=700000": Load Run;
    "stall-link" "" "": Open Load Feed Run Fetch Config Loopback Recover;
    "abort-link" "" "": Open Load Feed Run Fetch Config Loopback Recover;
    "flip-element" "" "word=0,bits=0x1": Load Run Fetch Loopback;
    "flip-element" "" "word=1,bits=0x4": Load Run;
    "flip-element" "" "word=3,bits=0x40": Load Run;
    "flip-element" "" "word=4,bits=0x100": Load Run;
    "stall-config" "" "": Open Load Config Recover;
    "stall-input" "" "": Run;
    "flip-descriptor" "" "word=0,bits=0x1": Load Run;
    "flip-descriptor" "" "word=1,bits=0x80000000": Load Run;
    "flip-descriptor" "" "word=1,bits=0x100": Load Run;
    "all-ones" "" "": Open Load Batch Feed Run Fetch Config Loopback Recover Close;
    "all-ones" "x5" "": Open Load Run;
    "lose-device" "" "": Open Load Batch Feed Run Fetch Config Loopback Recover Close;
    "lose-device" "" "forever": Open Load Run Fetch Recover Close;
    "corrupt-packet" "" "word=0,bits=0x7": Load;
    "corrupt-packet" "" "word=90,bits=0x1": Load;
    "wrong-job-id" "" "": Run;
    "truncate-header" "" "": Run;
    "stuck-reset" "" "": Open Load Loopback Recover Close;
    "refuse-allocation" "" "": Open Batch Recover;
};

impl Pair {
    /// The plan with the fault at this occurrence.
    pub fn plan(&self, at: u64) -> String {
        let colon = if self.parameters.is_empty() { "" } else { ":" };
        format!("{}@{at}{}{colon}{}", self.fault, self.times, self.parameters)
    }

    /// Only a board that is told to interrupt shows it.
    pub fn interrupts(&self) -> bool {
        self.fault.ends_with("interrupt")
    }

    /// Nothing but reading jobs back can notice it: a changed address that is still one.
    pub fn silent(&self) -> bool {
        self.fault.starts_with("flip") || self.fault == "corrupt-packet"
    }

    /// More occurrences than any phase has, to begin with.
    pub fn occasions(&self) -> u64 {
        if matches!(self.fault, "all-ones" | "lose-device") { 1 << 14 } else { 1 << 9 }
    }

    /// The start of its random numbers.
    pub fn seed(&self) -> u64 {
        let text = self.to_string();
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.parameters.is_empty() { "" } else { ":" };
        write!(f, "{}{}{colon}{}, {}", self.fault, self.times, self.parameters, self.phase.name())
    }
}

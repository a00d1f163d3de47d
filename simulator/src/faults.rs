//! Faults as configuration: what goes wrong on a simulated board, and when. Deterministic.
//!
//! As text: `NAME@N` for the N-th occurrence (from 1), `xTIMES` for how many in a row (`x*`: all from there on), and
//! parameters after a colon; several faults with semicolons between them:
//!
//! ```
//! use akida_simulator::faults::FaultPlan;
//! let plan: FaultPlan = "drop-interrupt@2; flip-element@3:word=1,bits=0x10; all-ones@100x5".parse()?;
//! assert_eq!(plan.to_string(), "drop-interrupt@2; flip-element@3:word=1,bits=0x10; all-ones@100x5");
//! # Ok::<(), akida_simulator::faults::FaultSyntax>(())
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// An interrupt message is not delivered. Counts messages. `drop-interrupt`
    DropInterrupt,
    /// An interrupt message is delivered later. Counts messages. `late-interrupt:us=5000`
    LateInterrupt {
        /// By how much.
        by: Duration,
    },
    /// A PCIe DMA channel stops moving until its engine is disabled. Counts transfers. `stall-link`
    StallLink,
    /// A PCIe DMA channel aborts. Counts transfers. `abort-link`
    AbortLink,
    /// Bits of a linked-list element are read inverted. Counts elements. `flip-element:word=0,bits=0x1`
    FlipElement {
        /// Which of its six words.
        word: u8,
        /// Which bits.
        bits: u32,
    },
    /// The config DMA takes a descriptor and never finishes. Counts its jobs. `stall-config`
    StallConfig,
    /// An input DMA takes a descriptor and never finishes. Counts jobs of both. `stall-input`
    StallInput,
    /// Bits of an Akida DMA descriptor are read inverted. Counts descriptors of all three. `flip-descriptor:word=1,bits=0x1`
    FlipDescriptor {
        /// Which of its words.
        word: u8,
        /// Which bits.
        bits: u32,
    },
    /// A read of a BAR or of configuration space gives all ones, a write is lost. Counts accesses. `all-ones`
    AllOnes,
    /// The device is gone: all ones, no DMA. Counts accesses. `lose-device`, `lose-device:forever`
    LoseDevice {
        /// A reset does not bring it back.
        forever: bool,
    },
    /// Bits of a track are inverted on their way to the mesh. Counts config writes. `corrupt-packet:word=2,bits=0x1`
    CorruptPacket {
        /// Which word of the track (modulo its length).
        word: u32,
        /// Which bits.
        bits: u32,
    },
    /// A finished job reports another job id. Counts input jobs. `wrong-job-id`
    WrongJobId,
    /// Only half of an output header is written. Counts input jobs. `truncate-header`
    TruncateHeader,
    /// Reset bits of general control stay set. Counts releases from reset. `stuck-reset`
    StuckReset,
    /// The host has no memory for a DMA buffer. Counts allocations. `refuse-allocation`
    RefuseAllocation,
}

/// What is counted to find the N-th occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    Message,
    Transfer,
    Element,
    ConfigJob,
    InputJob,
    Descriptor,
    Access,
    Track,
    Release,
    Allocation,
}

impl FaultKind {
    /// Its name in plans and reports.
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::DropInterrupt => "drop-interrupt",
            FaultKind::LateInterrupt { .. } => "late-interrupt",
            FaultKind::StallLink => "stall-link",
            FaultKind::AbortLink => "abort-link",
            FaultKind::FlipElement { .. } => "flip-element",
            FaultKind::StallConfig => "stall-config",
            FaultKind::StallInput => "stall-input",
            FaultKind::FlipDescriptor { .. } => "flip-descriptor",
            FaultKind::AllOnes => "all-ones",
            FaultKind::LoseDevice { .. } => "lose-device",
            FaultKind::CorruptPacket { .. } => "corrupt-packet",
            FaultKind::WrongJobId => "wrong-job-id",
            FaultKind::TruncateHeader => "truncate-header",
            FaultKind::StuckReset => "stuck-reset",
            FaultKind::RefuseAllocation => "refuse-allocation",
        }
    }

    const fn occasion(self) -> Occasion {
        match self {
            FaultKind::DropInterrupt | FaultKind::LateInterrupt { .. } => Occasion::Message,
            FaultKind::StallLink | FaultKind::AbortLink => Occasion::Transfer,
            FaultKind::FlipElement { .. } => Occasion::Element,
            FaultKind::StallConfig => Occasion::ConfigJob,
            FaultKind::StallInput | FaultKind::WrongJobId | FaultKind::TruncateHeader => Occasion::InputJob,
            FaultKind::FlipDescriptor { .. } => Occasion::Descriptor,
            FaultKind::AllOnes | FaultKind::LoseDevice { .. } => Occasion::Access,
            FaultKind::CorruptPacket { .. } => Occasion::Track,
            FaultKind::StuckReset => Occasion::Release,
            FaultKind::RefuseAllocation => Occasion::Allocation,
        }
    }
}

/// A fault and when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// At which occurrence it starts, from 1.
    pub at: u64,
    /// At how many occurrences in a row; `u64::MAX` for all from there on.
    pub times: u64,
}

impl Fault {
    /// At the N-th occurrence, once.
    pub const fn at(kind: FaultKind, at: u64) -> Self {
        Self { kind, at, times: 1 }
    }

    /// The same at several occurrences in a row.
    #[must_use]
    pub const fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }
}

/// Everything that goes wrong on a board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// In any order.
    pub faults: Vec<Fault>,
}

impl FaultPlan {
    /// Nothing goes wrong.
    pub const fn none() -> Self {
        Self { faults: Vec::new() }
    }

    /// The same and this one.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }
}

impl From<Fault> for FaultPlan {
    fn from(fault: Fault) -> Self {
        Self::none().with(fault)
    }
}

/// A fault that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The fault.
    pub fault: Fault,
    /// At which occurrence.
    pub occurrence: u64,
}

/// A plan at work: counts occasions.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    plan: Vec<(Fault, u64)>,
    fired: Vec<Fired>,
}

/// Reports kept; a fault that lasts for ever does not need more.
const FIRED_MAX: usize = 1024;

impl Faults {
    pub fn new(plan: &FaultPlan) -> Self {
        Self { plan: plan.faults.iter().map(|&f| (f, 0)).collect(), fired: Vec::new() }
    }

    /// Whether anything is to go wrong.
    pub fn any(&self) -> bool {
        !self.plan.is_empty()
    }

    pub fn arm(&mut self, plan: &FaultPlan) {
        self.plan = Self::new(plan).plan;
    }

    /// Counts an occasion for every fault that waits for it and gives those that happen now.
    pub fn on(&mut self, occasion: Occasion) -> impl Iterator<Item = FaultKind> + use<> {
        let mut now = Vec::new();
        for (fault, seen) in self.plan.iter_mut().filter(|(f, _)| f.kind.occasion() == occasion) {
            *seen += 1;
            if *seen >= fault.at && *seen - fault.at < fault.times {
                log::debug!(target: "akida::sim", "fault {} at occurrence {seen}", fault.kind.name());
                if self.fired.len() < FIRED_MAX {
                    self.fired.push(Fired { fault: *fault, occurrence: *seen });
                }
                now.push(fault.kind);
            }
        }
        now.into_iter()
    }

    pub fn fired(&self) -> &[Fired] {
        &self.fired
    }
}

/// A fault plan that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault {fault:?}: {problem}")]
pub struct FaultSyntax {
    /// The part that is wrong.
    pub fault: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl FromStr for FaultPlan {
    type Err = FaultSyntax;

    fn from_str(text: &str) -> Result<Self, FaultSyntax> {
        text.split(';')
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(|faults| Self { faults })
    }
}

impl FromStr for Fault {
    type Err = FaultSyntax;

    fn from_str(text: &str) -> Result<Self, FaultSyntax> {
        let error = |problem| FaultSyntax { fault: text.into(), problem };
        let (head, parameters) = text.split_once(':').unwrap_or((text, ""));
        let (name, when) = head.trim().split_once('@').ok_or(error("when? write NAME@N"))?;
        let (at, times) = when.split_once('x').unwrap_or((when, "1"));
        let at = at.parse().ok().filter(|&n| n > 0).ok_or(error("N in NAME@N is a number from 1"))?;
        let times = match times {
            "*" => u64::MAX,
            _ => times.parse().ok().filter(|&n| n > 0).ok_or(error("TIMES in xTIMES is a number from 1, or *"))?,
        };
        let mut parameters = Parameters { text: parameters, error: &error };
        let kind = match name {
            "drop-interrupt" => FaultKind::DropInterrupt,
            "late-interrupt" => FaultKind::LateInterrupt { by: Duration::from_micros(parameters.number("us", 5000)?) },
            "stall-link" => FaultKind::StallLink,
            "abort-link" => FaultKind::AbortLink,
            "flip-element" => FaultKind::FlipElement { word: parameters.below("word", 6)?, bits: parameters.bits()? },
            "stall-config" => FaultKind::StallConfig,
            "stall-input" => FaultKind::StallInput,
            "flip-descriptor" => {
                FaultKind::FlipDescriptor { word: parameters.below("word", 16)?, bits: parameters.bits()? }
            }
            "all-ones" => FaultKind::AllOnes,
            "lose-device" => FaultKind::LoseDevice { forever: parameters.flag("forever") },
            "corrupt-packet" => FaultKind::CorruptPacket {
                word: u32::try_from(parameters.number("word", 0)?).map_err(|_| error("word is a 32-bit number"))?,
                bits: parameters.bits()?,
            },
            "wrong-job-id" => FaultKind::WrongJobId,
            "truncate-header" => FaultKind::TruncateHeader,
            "stuck-reset" => FaultKind::StuckReset,
            "refuse-allocation" => FaultKind::RefuseAllocation,
            _ => return Err(error("no fault has this name")),
        };
        if !parameters.text.is_empty() {
            return Err(error("this fault has no such parameter"));
        }
        Ok(Self { kind, at, times })
    }
}

/// `key=value` pairs and flags, taken out one by one.
struct Parameters<'a> {
    text: &'a str,
    error: &'a dyn Fn(&'static str) -> FaultSyntax,
}

impl Parameters<'_> {
    /// Takes the first parameter if it is this one.
    fn take(&mut self, key: &str) -> Option<&str> {
        let (first, rest) = self.text.split_once(',').unwrap_or((self.text, ""));
        let value = first.trim().strip_prefix(key)?;
        self.text = rest;
        Some(value)
    }

    fn flag(&mut self, key: &str) -> bool {
        self.take(key).is_some_and(str::is_empty)
    }

    fn number(&mut self, key: &str, default: u64) -> Result<u64, FaultSyntax> {
        let error = (self.error)("a parameter is a decimal or 0x number");
        let Some(value) = self.take(key).map(str::to_owned) else { return Ok(default) };
        let value = value.strip_prefix('=').ok_or(error.clone())?;
        match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => value.parse(),
        }
        .map_err(|_| error)
    }

    fn below(&mut self, key: &str, limit: u8) -> Result<u8, FaultSyntax> {
        let value = self.number(key, 0)?;
        u8::try_from(value).ok().filter(|&v| v < limit).ok_or((self.error)("there is no such word"))
    }

    fn bits(&mut self) -> Result<u32, FaultSyntax> {
        u32::try_from(self.number("bits", 1)?).map_err(|_| (self.error)("bits is a 32-bit number"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.kind.name(), self.at)?;
        match self.times {
            1 => {}
            u64::MAX => f.write_str("x*")?,
            times => write!(f, "x{times}")?,
        }
        match self.kind {
            FaultKind::LateInterrupt { by } => write!(f, ":us={}", by.as_micros()),
            FaultKind::FlipElement { word, bits } | FaultKind::FlipDescriptor { word, bits } => {
                write!(f, ":word={word},bits={bits:#x}")
            }
            FaultKind::CorruptPacket { word, bits } => write!(f, ":word={word},bits={bits:#x}"),
            FaultKind::LoseDevice { forever: true } => f.write_str(":forever"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_round_trip_as_text() {
        let all = "drop-interrupt@1; late-interrupt@2:us=7; stall-link@3x*; abort-link@4x2; \
                   flip-element@1:word=5,bits=0x80; stall-config@1; stall-input@2; flip-descriptor@9:word=1,bits=0x4; \
                   all-ones@100x5; lose-device@50; lose-device@51:forever; corrupt-packet@1:word=70,bits=0x3; \
                   wrong-job-id@1; truncate-header@1; stuck-reset@1; refuse-allocation@2";
        let plan: FaultPlan = all.parse().expect("well-formed");
        assert_eq!(plan.faults.len(), 16);
        assert_eq!(plan.to_string(), all);
        assert_eq!("".parse(), Ok(FaultPlan::none()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, problem) in [
            ("drop-interrupt", "when? write NAME@N"),
            ("drop-interrupt@0", "N in NAME@N is a number from 1"),
            ("drop-interrupt@1x0", "TIMES in xTIMES is a number from 1, or *"),
            ("explode@1", "no fault has this name"),
            ("flip-element@1:word=6", "there is no such word"),
            ("flip-element@1:word=1,bits=zz", "a parameter is a decimal or 0x number"),
            ("all-ones@1:forever", "this fault has no such parameter"),
        ] {
            assert_eq!(text.parse::<FaultPlan>(), Err(FaultSyntax { fault: text.into(), problem }));
        }
    }

    #[test]
    fn faults_count_their_own_occasions() {
        let plan = "abort-link@2x2; stall-input@1".parse().expect("well-formed");
        let mut faults = Faults::new(&plan);
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(faults.on(Occasion::Transfer).count());
        }
        assert_eq!(seen, [0, 1, 1, 0, 0]);
        assert_eq!(faults.on(Occasion::Message).count(), 0);
        assert_eq!(faults.on(Occasion::InputJob).collect::<Vec<_>>(), [FaultKind::StallInput]);
        assert_eq!(faults.fired().iter().map(|f| f.occurrence).collect::<Vec<_>>(), [2, 3, 1]);
    }
}

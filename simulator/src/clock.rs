//! A board's own time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How time passes on a simulated board, and where its work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Virtual time: every access takes a little of it, [`pause`](akida_hal::Board::pause) as much as it says, and nothing
    /// really waits. All work is done inside the access that starts it, or looks so. Runs repeat exactly.
    Stepped,
    /// Real time. A thread of the board computes jobs while registers stay readable.
    Threaded,
}

/// What a register access costs in virtual time: about a PCIe read. Ours.
pub(crate) const ACCESS: Duration = Duration::from_nanos(500);
/// The core clock, 300 MHz. It is in no trusted source: ours.
pub(crate) const CORE_HZ: u64 = 300_000_000;

/// Time since the board was made.
#[derive(Debug)]
pub(crate) enum Time {
    /// Nanoseconds.
    Virtual(AtomicU64),
    Real(Instant),
}

impl Time {
    pub fn new(clock: Clock) -> Self {
        match clock {
            Clock::Stepped => Time::Virtual(AtomicU64::new(0)),
            Clock::Threaded => Time::Real(Instant::now()),
        }
    }

    pub fn now(&self) -> Duration {
        match self {
            Time::Virtual(ns) => Duration::from_nanos(ns.load(Ordering::SeqCst)),
            Time::Real(start) => start.elapsed(),
        }
    }

    /// Lets virtual time pass; real time passes by itself.
    pub fn advance(&self, by: Duration) {
        if let Time::Virtual(ns) = self {
            ns.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX / 4), Ordering::SeqCst);
        }
    }

    /// Sleeps, or lets virtual time pass.
    pub fn pause(&self, time: Duration) {
        match self {
            Time::Virtual(_) => self.advance(time),
            Time::Real(_) => std::thread::sleep(time),
        }
    }
}

/// Virtual duration of core clock cycles.
pub(crate) fn cycles(n: u32) -> Duration {
    Duration::from_nanos(u64::from(n) * 1_000_000_000 / CORE_HZ)
}

//! Every fault in every phase of a board's life: what may happen, and what must hold afterwards. One table, for simulated
//! boards in process (tests/tests/faults.rs) and wherever else a board takes a fault plan.
//!
//! An injection opens a board, goes to the phase, arms one fault at a random occurrence, and goes through the phase. The result
//! is right or a typed error. Then the faults are taken away and the board must work, if need be after [`Device::recover`];
//! one that cannot must say that it is quarantined, and why. Then everything is closed and must be gone.

mod table;
mod work;

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::{Completion, Device, DeviceOptions, Verify};
use akida_hal::regs::{dma, top};
use akida_hal::{Board, Error};

pub use self::table::{PAIRS, Pair, Phase};
pub use self::work::Work;
use crate::generate::Random;

/// A board that takes faults.
pub trait Patient {
    /// The board.
    fn board(&self) -> Arc<dyn Board>;
    /// Replaces what is left of the fault plan (docs/simulator.md); occasions count from now on.
    fn arm(&self, plan: &str);
    /// Whether a fault happened since it was made.
    fn fired(&self) -> bool;
    /// DMA mappings that exist.
    fn mappings(&self) -> usize;
    /// Whether it can interrupt.
    fn interrupts(&self) -> bool {
        true
    }
    /// Deadline of each step of the driver.
    fn timeout(&self) -> Duration {
        DeviceOptions::default().timeout
    }
}

/// How an injection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The fault's occasion did not come that often.
    NotFired,
    /// Right all the same.
    Right,
    /// A typed error; the board worked afterwards as it was.
    Error,
    /// A typed error; the board worked after a recovery.
    Recovered,
    /// A typed error, and the board is refused, with the reason.
    Quarantined,
}

/// Injections of one pair, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Right all the same.
    pub right: u32,
    /// Typed errors after which the board worked as it was.
    pub errors: u32,
    /// Typed errors after which it worked once recovered.
    pub recovered: u32,
    /// Typed errors that ended in quarantine.
    pub quarantined: u32,
}

impl Tally {
    /// Faults that happened.
    pub fn injected(&self) -> u32 {
        self.right + self.errors + self.recovered + self.quarantined
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            right: self.right + other.right,
            errors: self.errors + other.errors,
            recovered: self.recovered + other.recovered,
            quarantined: self.quarantined + other.quarantined,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, errors, recovered, quarantined } = self;
        write!(
            f,
            "{} happened: {right} right, {errors} errors, {recovered} recovered, {quarantined} refused",
            self.injected()
        )
    }
}

/// Injects a pair's fault `count` times at random occurrences, on fresh boards.
///
/// # Errors
/// What was wrong, with the plan that shows it again.
pub fn inject(pair: &Pair, count: u32, work: &Work, make: &dyn Fn() -> Box<dyn Patient>) -> Result<Tally, String> {
    let mut random = Random::new(pair.seed() ^ u64::from(count));
    let mut tally = Tally::default();
    // Occurrences there are, as far as is known: where one did not come, there are fewer.
    let mut limit = pair.occasions();
    while tally.injected() < count {
        if limit == 0 {
            return Err(format!("{pair}: the occasion never comes"));
        }
        let at = 1 + random.bits() % limit;
        let plan = pair.plan(at);
        let patient = make();
        let can = patient.interrupts();
        if pair.interrupts() && !can {
            return Err(format!("{pair}: the occasion never comes"));
        }
        let interrupt = pair.interrupts() || (random.once_in(2) && can);
        let completion = if interrupt { Completion::Interrupt } else { Completion::Poll };
        // With everything read back, flipped addresses that hit valid memory are noticed too; without, several jobs run at once.
        let verify = if pair.silent() || random.once_in(2) { Verify::Jobs } else { Verify::Program };
        let scan = matches!(pair.phase, Phase::Open | Phase::Recover);
        let timeout = patient.timeout();
        let options = DeviceOptions { completion, verify, scan, timeout, ..DeviceOptions::default() };
        let ended = one(pair.phase, &plan, &options, work, &*patient)
            .map_err(|wrong| format!("{plan} in phase {}, {completion:?}, {verify:?}: {wrong}", pair.phase.name()))?;
        match ended {
            Ended::NotFired => limit = at - 1,
            Ended::Right => tally.right += 1,
            Ended::Error => tally.errors += 1,
            Ended::Recovered => tally.recovered += 1,
            Ended::Quarantined => tally.quarantined += 1,
        }
    }
    Ok(tally)
}

/// One injection.
fn one(phase: Phase, plan: &str, options: &DeviceOptions, work: &Work, patient: &dyn Patient) -> Result<Ended, String> {
    let (result, device) = work::phase(phase, patient, plan, options, work)?;
    let fired = patient.fired();
    patient.arm("");
    if let Err(error) = &result
        && !fired
    {
        return Err(format!("an error without a fault: {error}"));
    }
    let after = afterwards(device, options, work, patient)?;
    match (fired, result, after) {
        (false, _, _) => Ok(Ended::NotFired),
        (true, Ok(()), Ended::Right) => Ok(Ended::Right),
        (true, Err(_), Ended::Right) => Ok(Ended::Error),
        // What was closed under a fault could not say so.
        (true, _, other) => Ok(other),
    }
}

/// The board works, or is refused with a reason; and lets go of everything.
fn afterwards(
    device: Option<Device>,
    options: &DeviceOptions,
    work: &Work,
    patient: &dyn Patient,
) -> Result<Ended, String> {
    let mut ended = Ended::Right;
    let open = || Device::open(patient.board(), options.clone());
    let mut device = device.map_or_else(open, Ok);
    if matches!(device, Err(Error::DeviceLost { .. })) {
        // What its advice says: reset, then open again.
        ended = Ended::Recovered;
        device = patient.board().reset().and_then(|()| open());
    }
    match device {
        Err(Error::DeviceLost { .. }) => ended = Ended::Quarantined,
        Err(error) => return Err(format!("the board does not open any more: {error}")),
        Ok(mut device) => {
            if let Err(first) = work.all(&mut device)? {
                ended = Ended::Recovered;
                if let Err(lost) = device.recover() {
                    match (device.quarantine(), work.all(&mut device)?) {
                        (Some(reason), Err(Error::Quarantined { reason: said, .. }))
                            if said == reason && !said.is_empty() =>
                        {
                            ended = Ended::Quarantined;
                        }
                        other => return Err(format!("{first}; recovery: {lost}; then not quarantined: {other:?}")),
                    }
                } else if let Err(again) = work.all(&mut device)? {
                    return Err(format!("{first}; after a recovery: {again}"));
                }
            }
            drop(device);
            if ended != Ended::Quarantined {
                quiet(&*patient.board())?;
            }
        }
    }
    match patient.mappings() {
        0 => Ok(ended),
        n => Err(format!("{n} DMA mappings are left")),
    }
}

/// No controller of the core runs, its ring is empty, and the function masters no bus.
fn quiet(board: &dyn Board) -> Result<(), String> {
    use akida_hal::board::{Bar, Chip};
    use akida_hal::regs::pci::{self, Command};
    let say = |e: Error| e.to_string();
    let core = if board.identity().chip == Chip::Akd1500 { Bar::Bar2 } else { Bar::Bar0 };
    for block in [top::EVENT_DMA, top::HRC_DMA, top::CONFIG_DMA] {
        let control = board.read(core, u64::from(block + dma::CONTROL)).map_err(say)?;
        let container = board.read(core, u64::from(block + dma::DESCRIPTOR)).map_err(say)?;
        let (run, last) = (control & dma::Control::RUN.bits(), dma::LAST.get(container));
        if run != 0 || last != 0xFF {
            return Err(format!(
                "DMA at {block:#x} of TOP is left with control {control:#x}, last descriptor {last:#x}"
            ));
        }
    }
    let command = board.config_read(pci::COMMAND_STATUS).map_err(say)?;
    if Command::from_bits_truncate(command).contains(Command::BUS_MASTER) {
        return Err("bus mastering is left on".into());
    }
    Ok(())
}

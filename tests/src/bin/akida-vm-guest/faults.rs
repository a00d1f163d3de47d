//! The table of faults by phases (akida_tests::faults) through vfio-pci: faults are armed over a serial port, at whose other end
//! the process that serves the boards listens (`akida-sim serve --control`).

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use akida_hal::board::{Bar, Chip, Identity, Wake};
use akida_hal::device::{Device, DeviceOptions};
use akida_hal::dma::DmaBuffer;
use akida_hal::regs::iatu;
use akida_hal::sysfs::PciBoard;
use akida_hal::vfio::VfioBoard;
use akida_hal::{Board, Result};
use akida_runtime::model::Target;
use akida_tests::faults::{PAIRS, Pair, Patient, Tally, Work, inject};

/// The machine's second serial port.
const PORT: &str = "/dev/ttyS1";
/// Pairs that have to be gone through, however slow the machine is.
const ENOUGH: usize = 40;
/// Deadline of each step of the driver: much is stalled here, and every stall costs one.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Goes through the table, `count` injections of each pair, for `limit` or until enough pairs are done, whatever takes longer.
pub fn table(boards: &[PciBoard], count: u32, limit: Duration) -> Result<String, String> {
    let start = Instant::now();
    // What the driver says of each fault would be most of the machine's console.
    let level = log::max_level();
    log::set_max_level(log::LevelFilter::Error.min(level));
    let control = Arc::new(Control::open()?);
    let result = pairs(boards, &control, count, limit, start);
    // The next checks get boards that are there.
    let mended = (0..boards.len()).try_for_each(|number| control.mend(number));
    log::set_max_level(level);
    result.and_then(|told| mended.map(|()| told))
}

fn pairs(
    boards: &[PciBoard],
    control: &Arc<Control>,
    count: u32,
    limit: Duration,
    start: Instant,
) -> Result<String, String> {
    let mut works = HashMap::new();
    for (number, board) in boards.iter().enumerate() {
        let patient = Behind::new(&board.address, number, control)?;
        let device = Device::open(patient.board(), options()).map_err(|e| e.to_string())?;
        let work = Work::small(target(&patient.vfio), device.mesh())?;
        works.insert(number, work);
    }
    let (mut pairs, mut sum) = (0, Tally::default());
    let only = crate::option("only");
    let wanted = |pair: &&Pair| !elsewhere(pair) && only.as_deref().is_none_or(|name| pair.fault == name);
    for (turn, pair) in PAIRS.iter().filter(wanted).enumerate() {
        if start.elapsed() > limit && (pairs >= ENOUGH || only.is_some()) {
            println!("SKIP  faults from {pair} on: {limit:.0?} are over");
            break;
        }
        let before = held();
        let mut left = count;
        // The occasion of a pair need not come on each board.
        for offset in 0..boards.len() {
            let number = (turn + offset) % boards.len();
            let make = || -> Box<dyn Patient> {
                match Behind::new(&boards[number].address, number, control) {
                    Ok(patient) => Box::new(patient),
                    // Without a board there is nothing to go on with, and nobody to say it to but here.
                    Err(wrong) => panic!("{wrong}"),
                }
            };
            match inject(pair, left, &works[&number], &make) {
                Ok(tally) => {
                    println!("      {pair} on {}: {tally}", boards[number].address);
                    sum = sum + tally;
                    left = 0;
                    break;
                }
                Err(e) if e.ends_with("the occasion never comes") => {}
                Err(e) => return Err(format!("{}: {e}", boards[number].address)),
            }
        }
        if left != 0 {
            return Err(format!("{pair}: its occasion comes on no board"));
        }
        if held() != before {
            return Err(format!("{pair}: descriptors and threads {before:?} before, {:?} after", held()));
        }
        pairs += 1;
    }
    if pairs < ENOUGH && only.is_none() {
        return Err(format!("only {pairs} pairs in {:.0?}", start.elapsed()));
    }
    Ok(format!(
        "{pairs} pairs, {count} injections each: {sum}; no mapping, descriptor or thread left; {:.0?}",
        start.elapsed()
    ))
}

/// Pairs that are no matter of a board behind this kernel: memory is given by this process; and for a board that fell off the
/// bus kernels before 7 wait a minute after the function level reset that it did not hear, each time.
fn elsewhere(pair: &Pair) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let major: u32 = release.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    pair.fault == "refuse-allocation" || (pair.fault == "lose-device" && major < 7)
}

fn options() -> DeviceOptions {
    DeviceOptions { timeout: TIMEOUT, ..DeviceOptions::default() }
}

fn target(board: &VfioBoard) -> Target {
    match board.identity().chip {
        Chip::Akd1000 => Target::Akd1000,
        Chip::Akd1500 => Target::Akd1500,
        _ => Target::Akida2,
    }
}

/// Open descriptors and threads of this process.
fn held() -> (usize, usize) {
    let count = |folder: &str| fs::read_dir(folder).map_or(0, Iterator::count);
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// The serial port: a line asked, a line answered.
struct Control {
    port: Mutex<BufReader<File>>,
}

impl Control {
    fn open() -> Result<Self, String> {
        let port = OpenOptions::new().read(true).write(true).open(PORT).map_err(|e| format!("{PORT}: {e}"))?;
        Ok(Self { port: Mutex::new(BufReader::new(port)) })
    }

    /// How many faults have happened on a board, once the plan is armed.
    fn ask(&self, board: usize, plan: &str) -> Result<u64, String> {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(port.get_mut(), "{board} {plan}").map_err(|e| format!("{PORT}: {e}"))?;
        let mut line = String::new();
        port.read_line(&mut line).map_err(|e| format!("{PORT}: {e}"))?;
        let answer: serde_json::Value = serde_json::from_str(&line).map_err(|e| format!("{line:?}: {e}"))?;
        match (answer.get("error"), answer["count"].as_u64()) {
            (None, Some(count)) => Ok(count),
            _ => Err(format!("{plan:?}: {}", line.trim())),
        }
    }

    /// No faults any more, and a board that one took away for good is another card from here on.
    fn mend(&self, board: usize) -> Result<(), String> {
        self.ask(board, "=")?;
        self.ask(board, "!").map(drop)
    }
}

/// A board behind the kernel, opened for one injection.
struct Behind {
    vfio: Arc<VfioBoard>,
    number: usize,
    control: Arc<Control>,
    /// Faults that had happened before.
    before: u64,
}

impl Behind {
    fn new(address: &str, number: usize, control: &Arc<Control>) -> Result<Self, String> {
        control.mend(number)?;
        let before = control.ask(number, "#")?;
        let vfio = Arc::new(VfioBoard::open(address).map_err(|e| format!("{address}: {e}"))?);
        Ok(Self { vfio, number, control: control.clone(), before })
    }
}

impl Patient for Behind {
    fn board(&self) -> Arc<dyn Board> {
        Arc::new(Brisk(self.vfio.clone()))
    }

    fn arm(&self, plan: &str) {
        // "=" takes all faults away and answers in as many bytes as there have to be on a serial port.
        let plan = if plan.is_empty() { "=".into() } else { format!("={plan}") };
        self.control.ask(self.number, &plan).expect("the serving process answers");
    }

    fn fired(&self) -> bool {
        self.control.ask(self.number, "#").expect("the serving process answers") > self.before
    }

    fn mappings(&self) -> usize {
        self.vfio.mappings()
    }

    /// How an AKD1500 could learn its message under VFIO is not known.
    fn interrupts(&self) -> bool {
        self.vfio.identity().chip != Chip::Akd1500
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }
}

/// The board, without the second that translation takes to settle on silicon: it would be most of the run.
struct Brisk(Arc<VfioBoard>);

impl Board for Brisk {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }

    fn config_read(&self, offset: u16) -> Result<u32> {
        self.0.config_read(offset)
    }

    fn config_write(&self, offset: u16, value: u32) -> Result<()> {
        self.0.config_write(offset, value)
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        self.0.bar_len(bar)
    }

    fn read(&self, bar: Bar, offset: u64) -> Result<u32> {
        self.0.read(bar, offset)
    }

    fn write(&self, bar: Bar, offset: u64, value: u32) -> Result<()> {
        self.0.write(bar, offset, value)
    }

    fn allocate(&self, len: usize) -> Result<DmaBuffer> {
        self.0.allocate(len)
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        self.0.wait_interrupt(timeout)
    }

    fn reset(&self) -> Result<()> {
        self.0.reset()
    }

    fn generation(&self) -> u64 {
        self.0.generation()
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    fn pause(&self, time: Duration) {
        if time != iatu::SETTLE {
            self.0.pause(time);
        }
    }
}

//! What runs in the virtual machine of tests/vm: an ordinary program of this project, as PID 1's only child.
//!
//! It goes the way of a user: looks for boards, asks the doctor, binds, opens, runs the suite that simulated boards run in
//! process, and gives the board back. Every step prints `ok` or `FAIL`; the exit status is the number of failures.

mod faults;
mod leave;
mod noiommu;
mod udev;

use std::fs;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_hal::board::{Bar, Chip};
use akida_hal::sysfs::{PciBoard, Sysfs};
use akida_hal::vfio::{self, Interface, VfioBoard};
use akida_hal::{Board, Error};
use akida_tests::{accesses, suite, transfers};

/// Seconds for the table of faults, where nothing else is said.
const FAULTS_LIMIT: u64 = 600;

struct Report {
    failed: u8,
}

impl Report {
    fn say(&mut self, what: &str, result: Result<String, String>) {
        match result {
            Ok(seen) => println!("ok    {what}: {seen}"),
            Err(wrong) => {
                println!("FAIL  {what}: {wrong}");
                self.failed = self.failed.saturating_add(1);
            }
        }
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_default_env().write_style(env_logger::WriteStyle::Never).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["crash", address] => leave::crash(address),
        ["user", address] => udev::user(address),
        ["named", address] => noiommu::user(address),
        ref networks => all(networks),
    }
}

/// The whole run; `networks` are `CHIP:COUNT:FILES`, as tests/vm/run makes them.
fn all(networks: &[&str]) -> ExitCode {
    let mut report = Report { failed: 0 };
    let sysfs = Sysfs::system();
    let boards = match sysfs.boards() {
        Ok(boards) if !boards.is_empty() => boards,
        other => {
            println!("FAIL  devices: {other:?}");
            return ExitCode::from(1);
        }
    };
    report.say("devices", ctl(&["devices"], 0));
    if option("noiommu").as_deref() == Some("1") {
        noiommu::all(&mut report, &sysfs, &boards, networks);
        println!("{} failures", report.failed);
        return ExitCode::from(report.failed);
    }
    report.say("udev rules", udev::rules_verified());
    // Nothing is bound yet: the doctor must say so, as a matter of configuration.
    report.say("doctor before", ctl(&["doctor"], 78).and_then(|t| contains(t, "akida-ctl bind")));
    for board in &boards {
        one(&mut report, &sysfs, board);
    }
    if boards.len() > 1 {
        report.say("boards at once", at_once(&boards));
    }
    // Before the faults: a board that came back from one is as the kernel left it, with link settings of its own.
    for board in &boards {
        run_networks(&mut report, board.chip, &board.address, networks);
    }
    let limit = option("limit").and_then(|n| n.parse().ok()).unwrap_or(FAULTS_LIMIT);
    let limit = Duration::from_secs(limit);
    match option("faults").and_then(|n| n.parse().ok()).unwrap_or(0) {
        0 => println!("SKIP  faults by phases: asked for by akida.faults"),
        count => report.say("faults by phases", faults::table(&boards, count, limit)),
    }
    for board in &boards {
        report.say("unbind", ctl(&["unbind", &board.address], 0));
        report.say("unbind again", ctl(&["unbind", &board.address], 0));
        let driver = sysfs.board(&board.address).ok().and_then(|b| b.driver);
        report
            .say("driver after unbind", if driver.is_none() { Ok("none".into()) } else { Err(format!("{driver:?}")) });
        match udev::of_silicon(board) {
            true => report.say("bound by udev", udev::bound_by_udev(&sysfs, &board.address)),
            false => println!("SKIP  bound by udev: the rule names boards of silicon, {} is none", board.address),
        }
    }
    println!("{} failures", report.failed);
    ExitCode::from(report.failed)
}

fn one(report: &mut Report, sysfs: &Sysfs, board: &PciBoard) {
    let address = &board.address;
    println!("---   {address} {:?}, simulated: {}", board.chip, board.simulated);
    let early = VfioBoard::open(address).map(|_| ()).map_err(|e| (e.to_string(), e));
    report.say(
        "open before bind",
        match early {
            Err((text, Error::Vfio(vfio::Error::WrongDriver { .. }))) => Ok(text),
            other => Err(format!("{other:?}")),
        },
    );
    report.say("bind", ctl(&["bind", address], 0));
    report.say("bind again", ctl(&["bind", address], 0).and_then(|t| contains(t, "already")));
    report.say("doctor after", ctl(&["doctor"], 0).or_else(|_| ctl(&["doctor"], 78)));
    report.say("unprivileged user", udev::as_user(sysfs, address));

    for interface in [Interface::Group, Interface::Iommufd] {
        if interface == Interface::Iommufd && !(cfg!(feature = "iommufd") && sysfs.has_iommufd()) {
            println!(
                "SKIP  iommufd: {}",
                if cfg!(feature = "iommufd") { "the kernel has none" } else { "not in this build" }
            );
            continue;
        }
        if let Err(wrong) = suite_over(report, sysfs, address, interface) {
            report.say("open", Err(wrong));
        }
    }
    report.say("killed in mid-transfer", leave::killed(address));
    report.say("asked back while in use", leave::asked_back(address));
    report.say("unplugged while in use", leave::unplugged(address));
    // The suite has tested the same; this shows the tool.
    if !quick() {
        report.say("selftest", ctl(&["selftest", address], 0));
    }
    report.say("info", ctl(&["info", address], 0));
    report.say("reset", ctl(&["reset", address], 0));
    report.say("fault in the kernel's log", fault_logged());
}

fn suite_over(report: &mut Report, sysfs: &Sysfs, address: &str, interface: Interface) -> Result<(), String> {
    let options = vfio::Options { interface, ..vfio::Options::default() };
    let vfio = Arc::new(VfioBoard::open_with(sysfs, address, &options).map_err(|e| e.to_string())?);
    println!("---   {address} through {}", vfio.interface());
    let twice = VfioBoard::open_with(sysfs, address, &options).map(|_| ());
    report.say(
        "open twice",
        match twice {
            Err(Error::Vfio(vfio::Error::Busy { .. })) => Ok("busy".into()),
            Err(Error::Vfio(e)) if interface == Interface::Iommufd => Ok(e.to_string()),
            other => Err(format!("{other:?}")),
        },
    );
    let board: Arc<dyn Board> = vfio.clone();
    for outcome in suite::run(&board) {
        let took = outcome.took;
        report.say(outcome.case.name, outcome.result.map(|seen| format!("{seen} ({took:.1?})")));
    }
    report.say("limits", limits(&*board));
    report.say("register read", register_read(&*board));
    report.say("transfers against 1 KiB at a time", fast_transfers(&board));
    report.say("accesses of a job", accesses_of_a_job(&board));
    drop(board);
    let left = vfio.mappings();
    report.say("mappings left", if left == 0 { Ok("none".into()) } else { Err(left.to_string()) });
    Ok(())
}

/// Accesses outside are refused before they reach the kernel, which would answer some of them with a signal.
fn limits(board: &dyn Board) -> Result<String, String> {
    for bar in Bar::ALL {
        let len = board.bar_len(bar);
        for offset in [len, len - 2, u64::MAX - 3] {
            if !matches!(board.read(bar, offset), Err(Error::Access { .. })) {
                return Err(format!("{bar:?}+{offset:#x} was read"));
            }
        }
    }
    match board.allocate(16 << 30) {
        Err(Error::Vfio(vfio::Error::NoIova { .. } | vfio::Error::LockedMemory { .. }) | Error::HostMemory { .. }) => {}
        other => return Err(format!("16 GiB: {other:?}")),
    }
    Ok("BARs, IOVA space".into())
}

/// A register access, of interest only beside other numbers of the same machine.
fn register_read(board: &dyn Board) -> Result<String, String> {
    let start = Instant::now();
    for _ in 0..500 {
        board.read(Bar::Bar0, 0).map_err(|e| e.to_string())?;
    }
    Ok(format!("{:.1?}", start.elapsed() / 500))
}

/// Each access leaves the machine: with 16 jobs in flight no more than three a job.
fn accesses_of_a_job(board: &Arc<dyn Board>) -> Result<String, String> {
    let counted = accesses::per_job(board.clone(), 16)?;
    let said = format!("{:.2} (median; mean {:.2}) with 16 in flight", counted.median, counted.mean);
    if counted.median <= 3.0 { Ok(said) } else { Err(said) }
}

/// Lists out of pinned memory beside the kernel driver's manner, each way: every byte is compared, times are told and not
/// judged, since other work on the machine decides them too.
fn fast_transfers(board: &Arc<dyn Board>) -> Result<String, String> {
    Ok(transfers::measure(board)?.map(|c| c.to_string()).join("\n        "))
}

/// All boards opened at the same time, their suites one after the other.
fn at_once(boards: &[PciBoard]) -> Result<String, String> {
    let opened: Result<Vec<Arc<dyn Board>>, String> = boards
        .iter()
        .map(|b| VfioBoard::open(&b.address).map(|b| Arc::new(b) as Arc<dyn Board>).map_err(|e| e.to_string()))
        .collect();
    test_at_once(opened?)
}

/// Tests open boards side by side.
fn test_at_once(opened: Vec<Arc<dyn Board>>) -> Result<String, String> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = opened.iter().map(|b| scope.spawn(|| akida_hal::selftest::run(b.clone()))).collect();
        for run in runs {
            let outcomes = run.join().map_err(|_| "panicked".to_string())?;
            if let Some(bad) = outcomes.iter().find(|o| !matches!(o.verdict, akida_hal::selftest::Verdict::Passed(_))) {
                return Err(format!("{bad:?}"));
            }
        }
        Ok(format!("{} boards", opened.len()))
    })
}

/// The IOMMU's own report of what the suite's refused transfers tried; only there when the board asks the IOMMU.
fn fault_logged() -> Result<String, String> {
    let wanted = option("dma").as_deref() == Some("messages");
    let log = Command::new("dmesg").output().map_err(|e| e.to_string())?;
    let log = String::from_utf8_lossy(&log.stdout);
    let address = format!("fault addr {:#x}", suite::UNMAPPED);
    let line = log.lines().find(|l| l.contains("DMAR") && l.contains(&address));
    match (line, wanted) {
        (Some(line), _) => Ok(line.trim().into()),
        (None, false) => Ok("none: DMA by files is checked by the board's own table".into()),
        (None, true) => Err(format!("no DMAR line with {address}")),
    }
}

/// The networks of a board's chip on that board, named `device`.
fn run_networks(report: &mut Report, chip: Option<Chip>, device: &str, networks: &[&str]) {
    for text in networks {
        match Network::parse(text) {
            Some(network) if chip == Some(network.chip) => {
                report.say("network", network.run(device));
                report.say("trace as in process", network.trace(device));
            }
            Some(_) => {}
            None => report.say("network", Err(format!("{text:?} is no CHIP:COUNT:FILES"))),
        }
    }
}

/// A network to run: `FILES.onnx` on the samples of `FILES.npz`, whose outputs must be the bytes of `FILES.expected.npz`.
struct Network<'a> {
    chip: Chip,
    count: &'a str,
    files: &'a str,
}

impl<'a> Network<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let chip = match parts.next()? {
            "akd1000" => Chip::Akd1000,
            "akd1500" => Chip::Akd1500,
            "akida2" => Chip::Akida2,
            _ => return None,
        };
        Some(Self { chip, count: parts.next()?, files: parts.next()? })
    }

    fn run(&self, address: &str) -> Result<String, String> {
        let start = Instant::now();
        let (model, samples) = (format!("{}.onnx", self.files), format!("{}.npz", self.files));
        let output = Command::new("/bin/akida-run")
            .args([&*model, "--input", &*samples, "--limit", self.count, "--device", address, "--show", "none"])
            .args(["--output", "/tmp/out.npz", "--raw"])
            .output()
            .map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let said = text.trim().replace('\n', "\n        ");
        if !output.status.success() {
            return Err(format!("exit {:?}: {said}", output.status.code()));
        }
        let read = |path: &str| fs::read(path).map_err(|e| format!("{path}: {e}"));
        if read("/tmp/out.npz")? != read(&format!("{}.expected.npz", self.files))? {
            return Err(format!("other numbers than in process: {said}"));
        }
        Ok(format!("{} samples, every byte as in process, in {:.1?}\n        {said}", self.count, start.elapsed()))
    }
}

impl Network<'_> {
    /// Every access of a run, compared with that of the same run on the simulated board in process.
    fn trace(&self, address: &str) -> Result<String, String> {
        let (model, samples) = (format!("{}.onnx", self.files), format!("{}.npz", self.files));
        let output = Command::new("/bin/akida-run")
            .args([&*model, "--input", &*samples, "--limit", "16", "--jobs", "1", "--device", address])
            .args(["--show", "none", "--trace", "/tmp/trace"])
            .output()
            .map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        ctl(&["trace", "compare", &format!("{}.trace", self.files), "/tmp/trace"], 0)
    }
}

fn ctl(arguments: &[&str], expected: i32) -> Result<String, String> {
    let output = Command::new("/bin/akida-ctl").args(arguments).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let text = text.trim().replace('\n', "\n        ");
    match output.status.code() {
        Some(code) if code == expected => Ok(text),
        code => Err(format!("exit {code:?} instead of {expected}: {text}")),
    }
}

/// What tests/vm/run says on the kernel's command line.
fn option(name: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;
    let find = |word: &str| word.strip_prefix("akida.")?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    line.split_whitespace().find_map(find)
}

/// Whether everything is to be shown once only.
fn quick() -> bool {
    option("quick").as_deref() == Some("1")
}

fn contains(text: String, part: &str) -> Result<String, String> {
    if text.contains(part) { Ok(text) } else { Err(format!("no {part:?} in {text}")) }
}

//! A machine without an IOMMU: boards are refused, then driven in VFIO's no-IOMMU mode by who names it.

use std::fs;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use akida_hal::sysfs::{PciBoard, Sysfs};
use akida_hal::vfio::{self, Interface, UNCONFINED, VfioBoard};
use akida_hal::{Board, Error};
use akida_tests::suite;

use crate::{Report, contains, ctl, register_read, run_networks};

const MODE: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
/// Huge pages for all boards: the host window of an AKD1500 alone is 16 MiB.
const HUGE_PAGES: u64 = 96;
/// Cases in which the IOMMU refuses what the board asks for.
const NEED_AN_IOMMU: [&str; 2] = ["refused-read", "refused-write"];
/// The kernel's taint of who uses this mode (TAINT_USER).
const TAINT_USER: u64 = 1 << 6;

/// The whole run.
pub fn all(report: &mut Report, sysfs: &Sysfs, boards: &[PciBoard], networks: &[&str]) {
    report.say("doctor without an IOMMU", ctl(&["doctor"], 78).and_then(|t| contains(t, "no IOMMU in use")));
    for board in boards {
        let by_name = format!("{UNCONFINED}{}", board.address);
        report.say("bind without an IOMMU", ctl(&["bind", &board.address], 78));
        report.say("bind while the mode is off", ctl(&["bind", &by_name], 78).and_then(|t| contains(t, "echo Y")));
    }
    report.say("mode switched on", fs::write(MODE, "Y").map(|()| MODE.into()).map_err(|e| e.to_string()));
    report.say("taint before", tainted().and_then(|taint| expect(!taint, "none")));
    for board in boards {
        one(report, sysfs, board);
    }
    report.say("taint after", tainted().and_then(|taint| expect(taint, "the kernel is marked (TAINT_USER)")));
    report.say("boards at once", at_once(sysfs, boards));
    for board in boards {
        let by_name = format!("{UNCONFINED}{}", board.address);
        run_networks(report, board.chip, &by_name, networks);
        report.say("unbind", ctl(&["unbind", &by_name], 0));
        let driver = sysfs.board(&board.address).ok().and_then(|b| b.driver);
        report.say("driver after unbind", expect(driver.is_none(), "none"));
    }
    let free = vfio::free_huge_pages();
    report.say("huge pages left to others", expect(free == Some(HUGE_PAGES), &format!("{free:?} of {HUGE_PAGES}")));
}

fn one(report: &mut Report, sysfs: &Sysfs, board: &PciBoard) {
    let address = &board.address;
    let by_name = format!("{UNCONFINED}{address}");
    println!("---   {by_name} {:?}, simulated: {}", board.chip, board.simulated);
    report.say("bind without the name", ctl(&["bind", address], 78));
    report.say("bind", ctl(&["bind", &by_name], 0));
    report.say("bind again", ctl(&["bind", &by_name], 0).and_then(|t| contains(t, "already")));
    report
        .say("bound, without the name", ctl(&["bind", address], 78).and_then(|t| contains(t, "overwrite any memory")));
    report.say("doctor", ctl(&["doctor"], 78).and_then(|t| contains(t, &by_name)));
    report.say(
        "open without the name",
        match VfioBoard::open(address) {
            Err(Error::Vfio(e @ vfio::Error::Unconfined { .. })) => {
                contains(format!("{e}; {}", e.advice()), &format!("name the board {by_name}"))
            }
            other => Err(format!("{:?}", other.map(|_| ()))),
        },
    );
    report.say("unprivileged user", unprivileged(address));
    set_huge_pages(report, 0);
    report.say(
        "without huge pages",
        match open(sysfs, address).and_then(|b| b.allocate(4096)) {
            Err(Error::Vfio(e @ vfio::Error::NoHugePages { free: 0, .. })) => Ok(format!("{e}; {}", e.advice())),
            other => Err(format!("{:?}", other.map(|_| ()))),
        },
    );
    set_huge_pages(report, HUGE_PAGES);
    if let Err(wrong) = suite_over(report, sysfs, address) {
        report.say("open", Err(wrong));
    }
    report.say("selftest", ctl(&["selftest", &by_name], 0));
    report.say("reset", ctl(&["reset", &by_name], 0));
}

fn suite_over(report: &mut Report, sysfs: &Sysfs, address: &str) -> Result<(), String> {
    let vfio = Arc::new(open(sysfs, address).map_err(|e| e.to_string())?);
    println!("---   {} through {}", vfio.identity(), vfio.interface());
    let twice = open(sysfs, address).map(|_| ());
    report.say(
        "open twice",
        match twice {
            Err(Error::Vfio(vfio::Error::Busy { .. })) => Ok("busy".into()),
            other => Err(format!("{other:?}")),
        },
    );
    let board: Arc<dyn Board> = vfio.clone();
    for case in &suite::CASES {
        if NEED_AN_IOMMU.contains(&case.name) {
            println!("SKIP  {}: nothing refuses a board anything here", case.name);
            continue;
        }
        let outcome = case.run(&board);
        let took = outcome.took;
        report.say(case.name, outcome.result.map(|seen| format!("{seen} ({took:.1?})")));
    }
    report.say("register read", register_read(&*board));
    report.say(
        "more than there is",
        match board.allocate(16 << 30) {
            Err(Error::Vfio(e @ vfio::Error::NoHugePages { .. })) => Ok(e.to_string()),
            other => Err(format!("16 GiB: {other:?}")),
        },
    );
    drop(board);
    report.say("buffers left", expect(vfio.mappings() == 0, &vfio.mappings().to_string()));
    Ok(())
}

fn open(sysfs: &Sysfs, address: &str) -> akida_hal::Result<VfioBoard> {
    VfioBoard::open_with(sysfs, address, &vfio::Options { interface: Interface::NoIommu, ..vfio::Options::default() })
}

/// All boards opened at the same time and tested side by side.
fn at_once(sysfs: &Sysfs, boards: &[PciBoard]) -> Result<String, String> {
    let opened: Result<Vec<VfioBoard>, Error> = boards.iter().map(|b| open(sysfs, &b.address)).collect();
    crate::test_at_once(opened.map_err(|e| e.to_string())?.into_iter().map(|b| Arc::new(b) as Arc<dyn Board>).collect())
}

/// Not even the right name gets who is not root a board that could overwrite the kernel.
fn unprivileged(address: &str) -> Result<String, String> {
    use std::os::unix::process::CommandExt;
    let this = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new(this).args(["named", address]).uid(1000).gid(970).output().map_err(|e| e.to_string())?;
    contains(String::from_utf8_lossy(&output.stdout).trim().into(), "Privilege")
}

/// Opens the board by its name and says how that went.
pub fn user(address: &str) -> ExitCode {
    match open(&Sysfs::system(), address) {
        Ok(_) => println!("opened"),
        Err(Error::Vfio(e @ vfio::Error::Privilege { .. })) => println!("Privilege: {e}; {}", e.advice()),
        Err(e) => println!("{e:?}"),
    }
    ExitCode::SUCCESS
}

fn set_huge_pages(report: &mut Report, count: u64) {
    let set = fs::write("/proc/sys/vm/nr_hugepages", count.to_string()).map_err(|e| e.to_string());
    let free = vfio::free_huge_pages();
    if set.is_err() || free != Some(count) {
        report.say("huge pages", Err(format!("{count} wanted, {free:?} free: {set:?}")));
    }
}

fn tainted() -> Result<bool, String> {
    let text = fs::read_to_string("/proc/sys/kernel/tainted").map_err(|e| e.to_string())?;
    let bits: u64 = text.trim().parse().map_err(|e| format!("{text:?}: {e}"))?;
    Ok(bits & TAINT_USER != 0)
}

fn expect(right: bool, seen: &str) -> Result<String, String> {
    if right { Ok(seen.into()) } else { Err(seen.into()) }
}

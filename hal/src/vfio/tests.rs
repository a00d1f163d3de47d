//! [`VfioBoard`] over a kernel made of a file, which refuses, unplugs and runs out of memory on request. What the real
//! kernel does is tested in a virtual machine (tests/vm).

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::libc::{EINVAL, EIO, ENOMEM, ENOTTY};

use super::ioctl::Region;
use super::kernel::{Confined, Kernel, index};
use super::memory::Mapped;
use super::{CLASS_REVISION as CLASS, COMMAND_STATUS as COMMAND, Error, Interface, Options, VfioBoard};
use crate::board::{Bar, Board, Chip, Identity, Wake};
use crate::dma::{DmaMemory, PAGE};
use crate::regs::pci;
use crate::{ErrorKind, sysfs};

const BAR0: u64 = 0x10000;
const BAR2: u64 = 0x20000;

/// What the file-made kernel was asked for, and what it shall answer.
#[derive(Default)]
struct Script {
    log: Vec<String>,
    refuse_map: Option<i32>,
    refuse_unmap: Option<i32>,
    refuse_reset: Option<i32>,
    /// How many resets are refused, `None` for all.
    refused_resets: Option<usize>,
    no_msi: bool,
    /// Whether the kernel offers a reset, at each opening; then it does.
    offered: Vec<bool>,
}

struct FileKernel {
    file: File,
    script: Arc<Mutex<Script>>,
}

impl FileKernel {
    fn say(&self, what: String) {
        self.script.lock().expect("one thread").log.push(what);
    }

    fn refused(&self, pick: fn(&Script) -> Option<i32>) -> io::Result<()> {
        pick(&self.script.lock().expect("one thread")).map_or(Ok(()), |e| Err(io::Error::from_raw_os_error(e)))
    }
}

impl Kernel for FileKernel {
    fn interface(&self) -> String {
        "a file".into()
    }
    fn device(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
    fn region(&self, index: u32) -> io::Result<Region> {
        let region = |size, offset, mappable| Region { size, offset, readable: true, writable: true, mappable };
        Ok(match index {
            0 => region(0x4000, BAR0, std::iter::once(0..0x4000).collect()),
            // The middle page must go through the file, as an MSI-X table would.
            2 => region(0x3000, BAR2, vec![0..0x1000, 0x2000..0x3000]),
            index::CONFIG => region(4096, 0, vec![]),
            _ => Region::default(),
        })
    }
    fn vectors(&self, index: u32) -> io::Result<u32> {
        Ok(u32::from(!self.script.lock().expect("one thread").no_msi && index == index::MSI))
    }
    fn signal(&self, index: u32, event: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.say(format!("signal {index} {}", if event.is_some() { "on" } else { "off" }));
        Ok(())
    }
    fn resettable(&self) -> io::Result<bool> {
        let offered = &mut self.script.lock().expect("one thread").offered;
        Ok(offered.is_empty() || offered.remove(0))
    }
    fn reset(&self) -> io::Result<()> {
        self.say("reset".into());
        let refuses = |s: &mut Script| match &mut s.refused_resets {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        };
        if refuses(&mut self.script.lock().expect("one thread")) {
            self.refused(|s| s.refuse_reset)?;
        }
        self.file.write_all_at(&[0; 4], COMMAND.into())
    }
}

impl Confined for FileKernel {
    fn iova_ranges(&self) -> io::Result<Vec<RangeInclusive<u64>>> {
        Ok(vec![0..=0xfedf_ffff, 0xfef0_0000..=0xffff_ffff])
    }
    fn map(&self, iova: u64, memory: &DmaMemory) -> io::Result<()> {
        self.say(format!("map {iova:#x} {:#x}", memory.len()));
        self.refused(|s| s.refuse_map)
    }
    fn unmap(&self, iova: u64, len: usize) -> io::Result<()> {
        self.say(format!("unmap {iova:#x} {len:#x}"));
        self.refused(|s| s.refuse_unmap)
    }
}

impl Drop for FileKernel {
    fn drop(&mut self) {
        let mut command = [0; 4];
        self.file.read_exact_at(&mut command, COMMAND.into()).expect("the file has a command register");
        self.say(format!("close, command {:#x}", u32::from_le_bytes(command)));
    }
}

struct Bench {
    board: VfioBoard,
    file: File,
    script: Arc<Mutex<Script>>,
}

impl Bench {
    fn new(script: Script) -> Self {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(0x30000).expect("room for the regions");
        // Vendor and device; status with write-one-to-clear bits set, to see that they are not written back.
        for (at, value) in [(0, 0xbca1_1e7c_u32), (COMMAND.into(), 0xf910_0000), (CLASS.into(), 0x1200_0001)] {
            file.write_all_at(&value.to_le_bytes(), at).expect("written");
        }
        let script = Arc::new(Mutex::new(script));
        let kernel = FileKernel { file: file.try_clone().expect("a second handle"), script: script.clone() };
        let identity = Identity {
            name: "0000:03:00.0".into(),
            vendor: pci::VENDOR,
            device: pci::DEVICE_AKD1000,
            chip: Chip::Akd1000,
            simulated: false,
        };
        let kernel = Arc::new(kernel);
        let memory = Mapped::new(&identity.name, kernel.clone(), Options::default().iova_limit).expect("ranges");
        let board = VfioBoard::with_kernel(identity, kernel, Box::new(memory)).expect("opens");
        Self { board, file, script }
    }

    fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, at).expect("inside the file");
        u32::from_le_bytes(bytes)
    }

    /// What vfio-pci shows of a function that is gone: its ids are of the time it was opened, all else is ones.
    fn unplug(&self) {
        self.file.write_all_at(&[0xff; 60], 4).expect("unplugged");
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.script.lock().expect("one thread").log)
    }
}

fn vfio(error: crate::Error) -> Error {
    match error {
        crate::Error::Vfio(e) => e,
        other => panic!("not a VFIO error: {other}"),
    }
}

#[test]
fn words_reach_mapped_and_unmapped_parts() {
    let bench = Bench::new(Script::default());
    assert_eq!(Bar::ALL.map(|b| bench.board.bar_len(b)), [0x4000, 0x3000, 0]);
    for (bar, offset, at) in [
        (Bar::Bar0, 0, BAR0),
        (Bar::Bar0, 0x3ffc, BAR0 + 0x3ffc),
        (Bar::Bar2, 0xffc, BAR2 + 0xffc),
        (Bar::Bar2, 0x1000, BAR2 + 0x1000),
        (Bar::Bar2, 0x2ffc, BAR2 + 0x2ffc),
    ] {
        let value = 0xa5a5_0000 | offset as u32;
        bench.board.write(bar, offset, value).expect("inside");
        assert_eq!(bench.word(at), value, "{bar:?}+{offset:#x} written");
        assert_eq!(bench.board.read(bar, offset).expect("inside"), value, "{bar:?}+{offset:#x} read");
    }
    for (bar, offset) in
        [(Bar::Bar0, 0x4000), (Bar::Bar0, 2), (Bar::Bar0, u64::MAX - 3), (Bar::Bar2, 0x3000), (Bar::Bar4, 0)]
    {
        let error = bench.board.read(bar, offset).expect_err("outside");
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(matches!(error, crate::Error::Access { offset: o, .. } if o == offset));
        assert!(bench.board.write(bar, offset, 0).is_err());
    }
    assert_eq!(bench.board.config_read(0).expect("vendor"), 0xbca1_1e7c);
    assert!(bench.board.config_read(4096).is_err() && bench.board.config_read(6).is_err());
}

#[test]
fn opening_turns_decoding_and_bus_mastering_on_and_leaves_status_alone() {
    let bench = Bench::new(Script::default());
    assert_eq!(bench.word(COMMAND.into()), 0x0000_0006, "status bits are write-one-to-clear: zero means untouched");
    assert_eq!(bench.log(), ["signal 1 on"]);
    bench.board.config_write(COMMAND, 0x4).expect("decoding off");
    assert!(matches!(vfio(bench.board.read(Bar::Bar0, 0).expect_err("off")), Error::DecodeOff { .. }));
    bench.board.config_write(COMMAND, 0x6).expect("decoding on");
    assert!(bench.board.read(Bar::Bar0, 0).is_ok());
}

#[test]
fn all_ones_are_believed_only_while_configuration_space_answers() {
    let bench = Bench::new(Script::default());
    bench.board.write(Bar::Bar0, 0x50, u32::MAX).expect("inside");
    assert_eq!(bench.board.read(Bar::Bar0, 0x50).expect("a value"), u32::MAX);
    bench.unplug();
    let error = bench.board.read(Bar::Bar0, 0x50).expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(matches!(error, crate::Error::DeviceLost { register, .. } if register == "BAR0 + 0x50"));
}

#[test]
fn buffers_are_mapped_apart_and_unmapped_when_dropped() {
    let bench = Bench::new(Script::default());
    bench.log();
    let a = bench.board.allocate(1).expect("a page");
    let b = bench.board.allocate(3 << 20).expect("3 MiB");
    let (page, large) = (PAGE as u64, 2 << 20);
    assert_eq!((a.iova(), a.len()), (page, PAGE));
    assert_eq!(b.iova() % large, 0, "large mappings start on a large page");
    assert_eq!(bench.board.mappings(), 2);
    drop((a, b));
    assert_eq!(bench.board.mappings(), 0);
    assert_eq!(
        bench.log(),
        ["map", "unmap"]
            .map(|call| [format!("{call} {page:#x} {page:#x}"), format!("{call} {large:#x} 0x300000")])
            .concat()
    );
}

#[test]
fn refused_mappings_leak_nothing() {
    /// The first page that is given out.
    const AT: u64 = PAGE as u64;
    for errno in [ENOMEM, EINVAL] {
        let bench = Bench::new(Script { refuse_map: Some(errno), ..Script::default() });
        let error = vfio(bench.board.allocate(PAGE).expect_err("refused"));
        assert!(
            matches!(error, Error::Dma { iova: AT, len: PAGE, .. } | Error::LockedMemory { needed: AT, .. }),
            "{error}"
        );
        assert_eq!(bench.board.mappings(), 0);
    }
    // A range that could not be unmapped is never given out again.
    let bench = Bench::new(Script { refuse_unmap: Some(EIO), ..Script::default() });
    drop(bench.board.allocate(PAGE).expect("mapped"));
    assert_eq!(bench.board.mappings(), 1);
    assert_eq!(bench.board.allocate(PAGE).expect("mapped").iova(), 3 * AT);
    let error = vfio(bench.board.allocate(5 << 30).expect_err("more than 4 GiB of IOVA"));
    assert!(matches!(error, Error::NoIova { .. } | Error::LockedMemory { .. }), "{error}");
}

#[test]
fn reset_makes_buffers_stale_and_says_when_it_fails() {
    let bench = Bench::new(Script::default());
    let before = bench.board.allocate(PAGE).expect("a page");
    bench.board.reset().expect("resets");
    assert_eq!((before.generation(), bench.board.generation()), (0, 1));
    assert_eq!(bench.word(COMMAND.into()) & 6, 6, "decoding and bus mastering are on again");
    for (errno, no_method) in [(EINVAL, true), (EIO, false)] {
        bench.script.lock().expect("one thread").refuse_reset = Some(errno);
        let error = vfio(bench.board.reset().expect_err("refused"));
        assert_eq!(matches!(error, Error::NoReset { .. }), no_method, "{error}");
    }
    assert_eq!(bench.board.generation(), 3, "a failed reset may have reset half: buffers are stale all the same");
}

/// Linux 7.3 resets a slot and says that it has no method (docs/boards.md): a board that answers is reset once more, one that does
/// not is left alone.
#[test]
fn a_reset_that_the_kernel_denies_is_asked_for_again_where_the_board_answers() {
    for (refused, answers, asked, resets) in [(1, true, 2, true), (2, true, 2, false), (1, false, 1, false)] {
        let script = Script { refuse_reset: Some(ENOTTY), refused_resets: Some(refused), ..Script::default() };
        let bench = Bench::new(script);
        bench.log();
        if !answers {
            bench.unplug();
        }
        let result = bench.board.reset();
        assert_eq!(bench.log().iter().filter(|l| *l == "reset").count(), asked, "{refused} {answers}");
        match (resets, answers) {
            (true, _) => assert!(result.is_ok(), "{result:?}"),
            (false, true) => assert!(matches!(vfio(result.expect_err("denied")), Error::NoReset { .. })),
            (false, false) => assert_eq!(result.expect_err("denied").kind(), ErrorKind::Lost, "nobody is there"),
        }
    }
}

/// The kernel offers no reset where its own at opening failed; only the next opening can have one.
#[test]
fn a_board_without_a_reset_is_opened_once_more() {
    for (offered, opened) in [(vec![true], 1), (vec![false, true], 2), (vec![false, false], 2)] {
        let script = Arc::new(Mutex::new(Script { offered, ..Script::default() }));
        let times = std::cell::Cell::new(0);
        let open = || -> Result<super::Opened, Error> {
            times.set(times.get() + 1);
            let file = tempfile::tempfile().expect("a temporary file");
            file.set_len(0x100).expect("room for a command register");
            let kernel = Arc::new(FileKernel { file, script: script.clone() });
            let memory = Mapped::new("test", kernel.clone(), Options::default().iova_limit)?;
            Ok((kernel, Box::new(memory)))
        };
        let board = super::open_resettable(open, "test").expect("opens, with a reset or without");
        let closed = script.lock().expect("one thread").log.iter().filter(|l| l.starts_with("close")).count();
        assert_eq!((times.get(), closed), (opened, opened - 1), "the first is closed, for the kernel's sake");
        drop(board);
    }
}

#[test]
fn waits_end_by_time_or_say_that_there_is_no_interrupt() {
    let bench = Bench::new(Script::default());
    assert_eq!(bench.board.wait_interrupt(Duration::ZERO).expect("waits"), Wake::TimedOut);
    let bench = Bench::new(Script { no_msi: true, ..Script::default() });
    let error = bench.board.wait_interrupt(Duration::ZERO).expect_err("none");
    assert!(matches!(error, crate::Error::Interrupts { .. }));
}

#[test]
fn teardown_stops_silences_unmaps_and_closes_in_this_order() {
    let Bench { board, script, .. } = Bench::new(Script::default());
    let buffer = board.allocate(PAGE).expect("a page");
    script.lock().expect("one thread").log.clear();
    drop(board);
    drop(buffer);
    assert_eq!(
        script.lock().expect("one thread").log,
        ["signal 1 off", &format!("unmap {PAGE:#x} {PAGE:#x}"), "close, command 0x2"],
        "bus mastering (4) off before all, the device open until its last mapping is gone"
    );
}

#[test]
fn sysfs_decides_before_a_node_is_opened() {
    let root = sysfs::tests::tree("busy-machine");
    let sysfs = sysfs::Sysfs::at(root.path());
    let open = |address: &str| {
        let options = Options { interface: Interface::Group, ..Options::default() };
        VfioBoard::open_with(&sysfs, address, &options).err().expect("no real device here")
    };
    assert!(matches!(vfio(open("0000:99:00.0")), Error::NoSuchFunction { .. }));
    assert!(matches!(vfio(open("../../etc")), Error::NoSuchFunction { .. }));
    assert!(matches!(open("0000:00:1f.2"), crate::Error::NotAkida { vendor: 0x8086, .. }));
    assert!(matches!(vfio(open("0000:03:00.0")), Error::WrongDriver { driver: Some(d), .. } if d == "akida-pcie"));
    assert!(
        matches!(vfio(open("0000:04:00.0")), Error::SharedGroup { group: 15, others, .. } if others == ["0000:04:00.1 (snd_hda_intel)"])
    );
    assert!(matches!(vfio(open("0000:08:00.0")), Error::NoIommu { .. }));
    let refused = vfio(open("0000:07:00.0"));
    assert!(matches!(refused, Error::Unconfined { .. }));
    assert!(refused.to_string().contains("overwrite any memory"), "the danger: {refused}");
    assert!(refused.advice().contains("name the board vfio-noiommu:0000:07:00.0"), "{}", refused.advice());
}

#[test]
fn no_iommu_mode_is_for_who_names_it_and_only_where_there_is_no_iommu() {
    let root = sysfs::tests::tree("busy-machine");
    let sysfs = sysfs::Sysfs::at(root.path());
    let named = |address: &str| {
        let options = Options { interface: Interface::NoIommu, ..Options::default() };
        VfioBoard::open_with(&sysfs, address, &options).err().expect("no real device here")
    };
    let confined = vfio(named("0000:04:00.0"));
    assert!(matches!(confined, Error::Confined { group: 15, .. }), "{confined}");
    assert_eq!(confined.advice(), "name the board 0000:04:00.0");
    let wrong = vfio(named("0000:03:00.0"));
    assert!(matches!(wrong, Error::WrongDriver { .. }));
    assert_eq!(wrong.advice(), "sudo akida-ctl bind vfio-noiommu:0000:03:00.0", "the name is kept");
    assert!(matches!(vfio(named("0000:08:00.0")), Error::NoIommu { .. }), "bound, and VFIO made no group");
    // Past all checks: what this machine answers depends on its VFIO, and is about the board by its name.
    let opened = vfio(named("0000:07:00.0"));
    assert!(opened.to_string().starts_with("vfio-noiommu:0000:07:00.0: "), "{opened}");
    assert!(
        matches!(opened, Error::Kernel { .. } | Error::Privilege { .. } | Error::BusAddresses { .. }),
        "{opened:?}"
    );
}

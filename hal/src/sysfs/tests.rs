//! Discovery and binding over recorded trees (tests/data/sysfs) and a PCI core small enough to read.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Access, Aspm, Confinement, Error, PciCore, Sysfs, is_address};
use crate::board::Chip;

/// Unfolds tests/data/sysfs/NAME.tree into a temporary folder.
pub fn tree(name: &str) -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/sysfs").join(name).with_extension("tree");
    let text = fs::read_to_string(&source).expect("a recorded tree");
    let root = tempfile::tempdir().expect("a temporary folder");
    for line in text.lines().filter(|l| l.starts_with('/')) {
        let (path, link, value) = match line.split_once(" -> ") {
            Some((path, target)) => (path, true, target.to_string()),
            None => {
                let (path, value) = line.split_once(" =").expect("a path and its text");
                (path, false, value.trim_start().replace("\\n", "\n"))
            }
        };
        let path = root.path().join(&path[1..]);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        if link { symlink(value, path) } else { fs::write(path, value) }.expect("an entry");
    }
    root
}

/// What the kernel does when these files are written: overrides, unbinding, probing.
struct SmallCore {
    sysfs: Sysfs,
    /// Driver that takes a function without override.
    natural: Option<&'static str>,
    /// A driver that refuses every function.
    broken: Option<&'static str>,
    writes: RefCell<Vec<String>>,
}

impl SmallCore {
    fn new(sysfs: &Sysfs, natural: Option<&'static str>) -> Self {
        Self { sysfs: sysfs.clone(), natural, broken: None, writes: RefCell::default() }
    }

    fn attach(&self, address: &str, driver: &str) -> io::Result<()> {
        if self.broken == Some(driver) {
            return Err(io::Error::from_raw_os_error(nix::libc::EINVAL));
        }
        symlink(self.sysfs.path("/sys/bus/pci/drivers").join(driver), self.sysfs.folder(address).join("driver"))
    }
}

impl PciCore for SmallCore {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        self.writes.borrow_mut().push(format!("{name}={}", value.trim_end()));
        let folder = self.sysfs.folder(value);
        match name.as_str() {
            "driver_override" => fs::write(path, if value == "\n" { "(null)\n" } else { value }),
            "unbind" => fs::remove_file(folder.join("driver")),
            "bind" => {
                let driver = path.parent().and_then(Path::file_name).expect("a driver's folder");
                self.attach(value, &driver.to_string_lossy())
            }
            "drivers_probe" if folder.join("driver").exists() => Ok(()),
            "drivers_probe" => {
                let wanted = fs::read_to_string(folder.join("driver_override"))?;
                match wanted.trim() {
                    "(null)" => self.natural.map_or(Ok(()), |d| self.attach(value, d)),
                    // A probe that fails is not an error of the write.
                    driver => self.attach(value, driver).or(Ok(())),
                }
            }
            _ => fs::write(path, value),
        }
    }
}

#[test]
fn addresses() {
    for good in ["0000:03:00.0", "10000:e1:00.7", "00010000:ff:1f.0"] {
        assert!(is_address(good), "{good}");
    }
    for bad in [
        "",
        "03:00.0",
        "0000:03:00.8",
        "0000:03:00",
        "../0000:03:00.0",
        "0000:03:00.0/",
        "0000:0G:00.0",
        "0000:03:00.0\n",
    ] {
        assert!(!is_address(bad), "{bad:?}");
    }
}

#[test]
fn lists_boards_with_all_that_sysfs_says() {
    let root = tree("busy-machine");
    let sysfs = Sysfs::at(root.path());
    let boards = sysfs.boards().expect("readable");
    let seen: Vec<(&str, Option<Chip>)> = boards.iter().map(|b| (b.address.as_str(), b.chip)).collect();
    assert_eq!(
        seen,
        [
            ("0000:03:00.0", Some(Chip::Akd1000)),
            ("0000:04:00.0", Some(Chip::Akd1500)),
            ("0000:07:00.0", Some(Chip::Akd1000)),
            ("0000:08:00.0", Some(Chip::Akd1000)),
            ("0000:09:00.0", None),
        ]
    );
    let first = &boards[0];
    assert_eq!(first.driver.as_deref(), Some("akida-pcie"));
    assert_eq!(first.driver_override, None);
    assert_eq!(first.bars, [4 << 20; 3]);
    assert_eq!((first.link.width, first.link.max_width, first.link.is_reduced()), (1, 2, true));
    assert_eq!(first.aspm, Aspm { l0s: Some(false), l1: Some(true) });
    assert_eq!(first.reset_methods, ["flr", "bus"]);
    assert_eq!(first.group.as_ref().map(|g| (g.number, g.kind.as_str())), Some((14, "DMA-FQ")));
    assert_eq!(first.users.iter().map(ToString::to_string).collect::<Vec<_>>(), ["python3 (4242)"]);
    let shared = boards[1].group.as_ref().expect("group 15");
    assert_eq!(shared.others.len(), 2, "bridges are listed");
    assert_eq!(shared.blocking().map(|m| m.address.as_str()).collect::<Vec<_>>(), ["0000:04:00.1"], "and do not block");
    assert_eq!(
        boards[1].node.as_ref().map(|n| (n.path.clone(), n.access)),
        Some(("/dev/vfio/15".into(), Access::Granted))
    );
    assert!(boards[2].group.as_ref().is_some_and(|g| g.unconfined));
    assert_eq!(
        (boards[3].group.is_none(), boards[3].link.is_up(), boards[3].power_state.as_str()),
        (true, false, "D3cold")
    );
    assert_eq!([14, 15, 16, 99].map(|g| sysfs.is_akida_group(g)), [true, false, true, false], "a sound card is in 15");
    assert!(sysfs.has_iommu() && sysfs.has_vfio_pci() && !sysfs.has_iommufd());
    assert_eq!(Sysfs::at("/nonexistent").boards().expect("no PCI is no error").len(), 0);
}

#[test]
fn binds_once_and_gives_back_what_was() {
    let root = tree("busy-machine");
    let sysfs = Sysfs::at(root.path());
    let core = SmallCore::new(&sysfs, Some("akida-pcie"));
    fs::remove_file(root.path().join("proc/4242/fd/7")).expect("the process closes the board");

    let bound = sysfs.bind_with(&core, "0000:03:00.0", Confinement::Iommu).expect("binds");
    assert_eq!(
        (bound.before.as_deref(), bound.after.as_deref(), bound.aspm_disabled),
        (Some("akida-pcie"), Some("vfio-pci"), true)
    );
    let board = sysfs.board("0000:03:00.0").expect("there");
    assert_eq!(
        (board.driver.as_deref(), board.driver_override.as_deref(), board.aspm.is_on()),
        (Some("vfio-pci"), Some("vfio-pci"), false)
    );

    core.writes.borrow_mut().clear();
    let again = sysfs.bind_with(&core, "0000:03:00.0", Confinement::Iommu).expect("idempotent");
    assert_eq!(
        (again.before.as_deref(), core.writes.borrow().len()),
        (Some("vfio-pci"), 0),
        "nothing is written twice"
    );

    let back = sysfs.unbind_with(&core, "0000:03:00.0").expect("unbinds");
    assert_eq!((back.before.as_deref(), back.after.as_deref()), (Some("vfio-pci"), Some("akida-pcie")));
    assert_eq!(sysfs.board("0000:03:00.0").expect("there").driver_override, None);
    core.writes.borrow_mut().clear();
    sysfs.unbind_with(&core, "0000:03:00.0").expect("idempotent");
    assert!(core.writes.borrow().is_empty());
    assert!(!root.path().join("run/akida/bind/0000:03:00.0").exists());
}

#[test]
fn refuses_before_touching_anything() {
    let root = tree("busy-machine");
    let sysfs = Sysfs::at(root.path());
    let core = SmallCore::new(&sysfs, None);
    let bind = |address| sysfs.bind_with(&core, address, Confinement::Iommu).expect_err("refused");
    assert!(
        matches!(bind("0000:04:00.0"), Error::SharedGroup { others, .. } if others == ["0000:04:00.1 (snd_hda_intel)"])
    );
    assert!(matches!(bind("0000:08:00.0"), Error::NoIommu { .. }));
    let unconfined = bind("0000:07:00.0");
    assert!(matches!(unconfined, Error::Unconfined { .. }), "bound already, which is not what was asked for");
    assert!(unconfined.to_string().contains("overwrite any memory"), "{unconfined}");
    assert!(unconfined.advice().contains("vfio-noiommu:0000:07:00.0"), "{}", unconfined.advice());
    assert!(matches!(bind("0000:00:1f.2"), Error::NotAkida { .. }));
    assert!(matches!(bind("0000:09:00.0"), Error::NotAkida { device: 0xbca2, .. }));
    assert!(matches!(bind("0000:77:00.0"), Error::NoSuchFunction { .. }));
    assert!(matches!(bind("03:00.0"), Error::NotAnAddress { .. }));
    assert!(core.writes.borrow().is_empty());
    assert!(matches!(bind("0000:03:00.0"), Error::InUse { users, .. } if users == ["python3 (4242)"]));
    assert_eq!(sysfs.board("0000:03:00.0").expect("there").driver.as_deref(), Some("akida-pcie"));
}

#[test]
fn a_driver_that_refuses_leaves_the_board_as_it_was() {
    let root = tree("busy-machine");
    let sysfs = Sysfs::at(root.path());
    let core = SmallCore { broken: Some("vfio-pci"), ..SmallCore::new(&sysfs, Some("akida-pcie")) };
    fs::remove_file(root.path().join("proc/4242/fd/7")).expect("the process closes the board");
    let error = sysfs.bind_with(&core, "0000:03:00.0", Confinement::Iommu).expect_err("vfio-pci refuses");
    assert!(matches!(error, Error::NotBound { driver: None, .. }), "{error}");
    let board = sysfs.board("0000:03:00.0").expect("there");
    assert_eq!((board.driver.as_deref(), board.driver_override), (Some("akida-pcie"), None));
}

#[test]
fn boards_may_share_a_group_with_boards() {
    let root = tree("two-boards");
    let sysfs = Sysfs::at(root.path());
    let core = SmallCore::new(&sysfs, None);
    for address in ["0000:02:00.0", "0000:02:01.0"] {
        let bound = sysfs.bind_with(&core, address, Confinement::Iommu).expect("an Akida board is no stranger");
        assert_eq!((bound.before, bound.aspm_disabled), (None, false));
    }
    let first = sysfs.board("0000:02:00.0").expect("there");
    assert_eq!(first.cdev.map(|n| n.path), Some(PathBuf::from("/dev/vfio/devices/vfio0")));
    assert!(sysfs.has_iommufd());
    let back = sysfs.unbind_with(&core, "0000:02:00.0").expect("unbinds");
    assert_eq!(back.after, None);
    fs::remove_dir_all(root.path().join("sys/bus/pci/drivers/vfio-pci")).expect("module unloaded");
    assert!(matches!(
        sysfs.bind_with(&core, "0000:02:00.0", Confinement::Iommu).expect_err("no driver"),
        Error::NoDriver { .. }
    ));
}

/// A machine without an IOMMU: bound to vfio-pci only by who asks for no-IOMMU mode, and only while it is on.
#[test]
fn no_iommu_mode_has_to_be_on_and_asked_for() {
    let root = tree("no-iommu");
    let sysfs = Sysfs::at(root.path());
    let core = SmallCore::new(&sysfs, None);
    let bind = |wanted| sysfs.bind_with(&core, "0000:01:00.0", wanted);
    assert!(!sysfs.has_iommu());
    assert!(matches!(bind(Confinement::Iommu).expect_err("by its address"), Error::NoIommu { .. }));

    let mode = root.path().join("sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    assert_eq!(sysfs.no_iommu_mode(), Some(false));
    let off = bind(Confinement::None).expect_err("the mode is off");
    assert!(matches!(off, Error::NoIommuMode { known: true, .. }));
    assert!(off.advice().contains("echo Y | sudo tee /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"));
    fs::remove_file(&mode).expect("a kernel without the mode");
    assert!(matches!(bind(Confinement::None).expect_err("no such mode"), Error::NoIommuMode { known: false, .. }));
    assert!(core.writes.borrow().is_empty(), "nothing was touched");

    fs::write(&mode, "Y\n").expect("the mode is switched on");
    let bound = bind(Confinement::None).expect("binds");
    assert_eq!((bound.before, bound.after.as_deref()), (None, Some("vfio-pci")));
    // VFIO makes a group for it; that is no IOMMU.
    let group = root.path().join("sys/kernel/iommu_groups/0");
    fs::create_dir_all(group.join("devices")).expect("a group");
    fs::write(group.join("name"), "vfio-noiommu\n").expect("its name");
    symlink(&group, sysfs.folder("0000:01:00.0").join("iommu_group")).expect("a link");
    assert!(!sysfs.has_iommu());
    assert!(bind(Confinement::None).is_ok(), "idempotent");
    assert!(matches!(bind(Confinement::Iommu).expect_err("not by its address"), Error::Unconfined { .. }));
    assert_eq!(sysfs.unbind_with(&core, "0000:01:00.0").expect("unbinds").after, None);

    // Where an IOMMU confines a board nobody gets it out of there.
    let busy = tree("busy-machine");
    let sysfs = Sysfs::at(busy.path());
    let confined = sysfs.bind_with(&core, "0000:03:00.0", Confinement::None).expect_err("group 14");
    assert!(matches!(confined, Error::Confined { group: 14, .. }));
}

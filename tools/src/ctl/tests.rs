//! The doctor's rules, on machines made of a few words.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use akida_hal::board::Chip;
use akida_hal::sysfs::{Access, Aspm, Group, Link, Member, Node, PciBoard, Sysfs, User};
use akida_hal::vfio::Locked;

use super::doctor::{Level, blocking, diagnose};
use super::host::Host;
use super::open::Which;
use crate::exit::Exit;

fn host() -> Host {
    Host {
        command_line: "quiet intel_iommu=on".into(),
        cpu_vendor: "GenuineIntel".into(),
        iommu: true,
        vfio_pci: true,
        noiommu: false,
        huge_pages: 64,
        lockdown: "none".into(),
        group: true,
        locked: Locked { limit: u64::MAX, locked: 0, exempt: false },
    }
}

fn board() -> PciBoard {
    let node = Node { path: "/dev/vfio/14".into(), mode: 0o660, uid: 0, gid: 970, access: Access::Granted };
    let speed = "5.0 GT/s PCIe".to_string();
    PciBoard {
        address: "0000:03:00.0".into(),
        vendor: 0x1e7c,
        device: 0xbca1,
        simulated: false,
        chip: Some(Chip::Akd1000),
        driver: Some("vfio-pci".into()),
        driver_override: Some("vfio-pci".into()),
        group: Some(Group { number: 14, kind: "DMA".into(), unconfined: false, others: vec![] }),
        node: Some(node),
        cdev: None,
        link: Link { speed: speed.clone(), width: 1, max_speed: speed, max_width: 1 },
        aspm: Aspm { l0s: Some(false), l1: Some(false) },
        power_state: "D0".into(),
        bars: [4 << 20; 3],
        reset_methods: vec!["flr".into()],
        answers: Some(true),
        users: vec![],
    }
}

/// Unfolds tests/data/sysfs/NAME.tree, whose lines are `path = text` and `path -> link`, into a temporary folder.
fn tree(name: &str) -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/sysfs").join(name).with_extension("tree");
    let root = tempfile::tempdir().expect("a temporary folder");
    for line in fs::read_to_string(&source).expect("a recorded tree").lines().filter(|l| l.starts_with('/')) {
        let place = |path: &str| {
            let path = root.path().join(&path[1..]);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
            path
        };
        match line.split_once(" -> ") {
            Some((path, target)) => symlink(target, place(path)).expect("a link"),
            None => {
                let (path, text) = line.split_once(" =").expect("a path and its text");
                let file = place(path);
                fs::write(&file, text.trim_start().replace("\\n", "\n")).expect("a file");
                // As the udev rule makes nodes, whatever this process's umask is.
                if path.starts_with("/dev/") {
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).expect("a mode");
                }
            }
        }
    }
    root
}

fn with_others(others: Vec<Member>) -> Option<Group> {
    Some(Group { number: 14, kind: "DMA".into(), unconfined: false, others })
}

fn member(driver: &str) -> Member {
    Member { address: "0000:03:00.1".into(), driver: Some(driver.into()), bridge: false, akida: false }
}

#[test]
fn a_healthy_machine_has_no_findings() {
    assert_eq!(diagnose(&host(), &[board()]), []);
    assert_eq!(blocking(&board()), None);
}

/// One row: what is wrong, the finding it must give, its level and exit code.
#[test]
fn each_trouble_is_named_with_its_remedy() {
    type Board = fn(&mut PciBoard);
    type Machine = fn(&mut Host);
    use Level::{Note, Problem, Warning};
    let boards: [(&str, Level, Exit, Board); 18] = [
        ("unknown-id", Problem, Exit::Unavailable, |b| b.chip = None),
        ("lost", Problem, Exit::Unavailable, |b| b.answers = Some(false)),
        ("asleep", Note, Exit::Done, |b| b.power_state = "D3hot".into()),
        ("no-bars", Problem, Exit::Config, |b| b.bars = [0; 3]),
        ("no-iommu-group", Problem, Exit::Config, |b| b.group = None),
        ("unconfined", Problem, Exit::Config, |b| b.group.as_mut().expect("one").unconfined = true),
        ("shared-group", Problem, Exit::Config, |b| b.group = with_others(vec![member("nvme")])),
        ("group-company", Warning, Exit::Config, |b| b.group = with_others(vec![member("vfio-pci")])),
        ("other-driver", Problem, Exit::Config, |b| b.driver = Some("akida-pcie".into())),
        ("no-driver", Problem, Exit::Config, |b| b.driver = None),
        ("no-node", Problem, Exit::Config, |b| b.node = None),
        ("no-permission", Problem, Exit::Permission, |b| b.node.as_mut().expect("one").access = Access::Denied),
        ("open-to-all", Warning, Exit::Config, |b| b.node.as_mut().expect("one").mode = 0o666),
        ("in-use", Note, Exit::Done, |b| b.users = vec![User { pid: 7, name: "akida-run".into() }]),
        ("aspm", Problem, Exit::Config, |b| b.aspm.l1 = Some(true)),
        ("link-down", Problem, Exit::Unavailable, |b| b.link.width = 0),
        ("slow-link", Note, Exit::Done, |b| b.link.max_width = 2),
        ("no-reset", Warning, Exit::Config, |b| b.reset_methods.clear()),
    ];
    let machines: [(&str, Level, Exit, Machine); 6] = [
        ("iommu-off", Problem, Exit::Config, |h| h.iommu = false),
        ("noiommu-mode", Warning, Exit::Config, |h| h.noiommu = true),
        ("no-vfio-pci", Problem, Exit::Config, |h| h.vfio_pci = false),
        ("no-group", Warning, Exit::Config, |h| h.group = false),
        ("memlock", Warning, Exit::Config, |h| h.locked.limit = 8 << 20),
        ("lockdown", Note, Exit::Done, |h| h.lockdown = "integrity".into()),
    ];
    let mut seen = BTreeSet::new();
    for (id, level, exit, change) in boards {
        let mut board = board();
        change(&mut board);
        let found = diagnose(&host(), &[board]);
        let ids: Vec<&str> = found.iter().map(|f| f.id).collect();
        assert_eq!(ids, [id]);
        assert_eq!(
            (found[0].level, found[0].exit, found[0].board.as_deref()),
            (level, exit, Some("0000:03:00.0")),
            "{id}"
        );
        assert_eq!(found[0].fix.is_empty(), level == Note, "{id}: {:?}", found[0].fix);
        assert!(seen.insert(id));
    }
    for (id, level, exit, change) in machines {
        let mut host = host();
        change(&mut host);
        let found = diagnose(&host, &[board()]);
        assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), [id]);
        assert_eq!((found[0].level, found[0].exit, found[0].board.as_deref()), (level, exit, None), "{id}");
        assert_eq!(found[0].fix.is_empty(), level == Note, "{id}");
        assert!(seen.insert(id));
    }
    // No-IOMMU mode takes its memory from huge pages.
    let mut unconfined = board();
    unconfined.group.as_mut().expect("one").unconfined = true;
    let found = diagnose(&Host { huge_pages: 0, ..host() }, &[unconfined]);
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["no-huge-pages", "unconfined"]);
    assert!(found[1].fix.contains("vfio-noiommu:0000:03:00.0"), "{}", found[1].fix);
    let none = diagnose(&Host { iommu: false, vfio_pci: false, ..host() }, &[]);
    assert_eq!(none.iter().map(|f| (f.id, f.exit)).collect::<Vec<_>>(), [("no-board", Exit::Unavailable)]);
}

#[test]
fn the_kernel_option_is_the_right_one() {
    let cases: [(&str, &str, &str, &[&str]); 7] = [
        ("GenuineIntel", "quiet", "in use", &["VT-d", "add intel_iommu=on", "/etc/default/grub", "sudo update-grub"]),
        ("GenuineIntel", "quiet intel_iommu=on", "although intel_iommu=on", &["VT-d on in the firmware"]),
        ("GenuineIntel", "intel_iommu=off", "intel_iommu=off is on its", &["take intel_iommu=off out of"]),
        // Linux has no amd_iommu=on: it uses that IOMMU by itself.
        ("AuthenticAMD", "", "in use", &["AMD-Vi"]),
        ("AuthenticAMD", "amd_iommu=off quiet", "amd_iommu=off is on its", &["take amd_iommu=off out of"]),
        ("", "", "in use", &["device tree", "node:/dev/akida0"]),
        ("", "iommu=off", "iommu=off is on its", &["take iommu=off out of"]),
    ];
    for (vendor, line, says, parts) in cases {
        let host = Host { iommu: false, cpu_vendor: vendor.into(), command_line: line.into(), ..host() };
        let found = &diagnose(&host, &[board()])[0];
        assert!(found.says.contains(says), "{vendor} {line}: {}", found.says);
        assert!(parts.iter().all(|part| found.fix.contains(part)), "{vendor} {line}: {}", found.fix);
        assert_eq!(found.fix.contains("add "), parts.iter().any(|p| p.starts_with("add")), "{}", found.fix);
    }
}

/// The doctor on whole machines as sysfs shows them (tests/data/sysfs): ids of findings by board, in order.
#[test]
fn recorded_machines_are_diagnosed_as_a_whole() {
    let machine = |name: &str| {
        let root = tree(name);
        let sysfs = Sysfs::at(root.path());
        let host = Host { locked: host().locked, ..Host::read(&sysfs) };
        let found = diagnose(&host, &sysfs.boards().expect("readable"));
        let mut lines: Vec<String> =
            found.iter().map(|f| format!("{} {}", f.board.as_deref().unwrap_or("machine"), f.id)).collect();
        lines.dedup();
        lines
    };
    assert_eq!(
        machine("busy-machine"),
        [
            "machine no-huge-pages",
            "machine no-group",
            "0000:03:00.0 other-driver",
            "0000:03:00.0 in-use",
            "0000:03:00.0 aspm",
            "0000:03:00.0 slow-link",
            "0000:04:00.0 no-bars",
            "0000:04:00.0 shared-group",
            "0000:04:00.0 no-reset",
            "0000:07:00.0 no-bars",
            "0000:07:00.0 unconfined",
            "0000:07:00.0 no-reset",
            "0000:08:00.0 asleep",
            "0000:08:00.0 no-bars",
            "0000:08:00.0 no-iommu-group",
            "0000:08:00.0 no-reset",
            "0000:09:00.0 unknown-id",
        ]
    );
    assert_eq!(
        machine("no-iommu"),
        ["machine iommu-off", "machine no-group", "0000:01:00.0 no-iommu-group", "0000:01:00.0 no-driver"]
    );
}

#[test]
fn boards_by_name() {
    for (text, want) in [
        ("0000:03:00.0", Which::Pci("0000:03:00.0".into())),
        ("AF:1f.7", Which::Pci("0000:af:1f.7".into())),
        ("vfio-noiommu:03:00.0", Which::Unconfined("0000:03:00.0".into())),
        ("vfio-noiommu:sim", Which::Unknown("vfio-noiommu:sim".into())),
        ("pci:03:00.0", Which::Pci("0000:03:00.0".into())),
        ("sim:akd1500", Which::Sim("akd1500".into())),
        ("vfio-user:/run/Board.sock", Which::Remote("/run/Board.sock".into())),
        ("node:/dev/akida0", Which::Node("/dev/akida0".into())),
        ("akd1500", Which::Unknown("akd1500".into())),
        ("../x", Which::Unknown("../x".into())),
    ] {
        assert_eq!(text.parse(), Ok(want), "{text}");
    }
}

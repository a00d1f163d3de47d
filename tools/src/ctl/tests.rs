//! The doctor's rules, on machines made of a few words.

use std::collections::BTreeSet;

use akida_hal::board::Chip;
use akida_hal::sysfs::{Access, Aspm, Group, Link, Member, Node, PciBoard, User};
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
    let none = diagnose(&Host { iommu: false, vfio_pci: false, ..host() }, &[]);
    assert_eq!(none.iter().map(|f| (f.id, f.exit)).collect::<Vec<_>>(), [("no-board", Exit::Unavailable)]);
}

#[test]
fn the_kernel_option_is_the_right_one() {
    for (vendor, line, part) in [
        ("GenuineIntel", "quiet", "add intel_iommu=on"),
        ("AuthenticAMD", "", "add amd_iommu=on"),
        ("", "", "iommu=on"),
        ("GenuineIntel", "quiet intel_iommu=on", "firmware setup"),
    ] {
        let host = Host { iommu: false, cpu_vendor: vendor.into(), command_line: line.into(), ..host() };
        let fix = &diagnose(&host, &[board()])[0].fix;
        assert!(fix.contains(part), "{vendor}: {fix}");
        assert_eq!(fix.contains("add "), !line.contains("intel_iommu"), "{fix}");
    }
}

#[test]
fn boards_by_name() {
    for (text, want) in [
        ("0000:03:00.0", Which::Pci("0000:03:00.0".into())),
        ("AF:1f.7", Which::Pci("0000:af:1f.7".into())),
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

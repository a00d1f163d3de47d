//! The PCI function: configuration space, translation, BARs, reset.

mod bench;

use akida_hal::board::Bar;
use akida_hal::memory_map::MEMORY;
use akida_hal::regs::{edma, pci, top};
use akida_hal::{Board, Error};
use akida_simulator::{Model, SimBoard, SimSpec};
use bench::Bench;

#[test]
fn identity_and_identification_are_those_of_the_model() {
    for (model, device, version) in [
        (Model::Akd1000, pci::DEVICE_AKD1000, 0),
        (Model::Akd1500, pci::DEVICE_AKD1500, 0xbca1_0309),
        (Model::Akida2TwoNodes, pci::DEVICE_AKIDA2, 0xbca2_0100),
        (Model::Akida2SixNodes, pci::DEVICE_AKIDA2, 0xbca2_0100),
    ] {
        let bench = Bench::new(model);
        assert_eq!(bench.board.identity().name, format!("sim:{model}"));
        assert_eq!(bench.config_read(0), u32::from(device) << 16 | 0x1e7c);
        assert_eq!(bench.top(top::IP_VERSION), version, "{model}");
        let mesh = model.mesh();
        let info = bench.top(top::MESH_INFO_1);
        assert_eq!((info & 0xff, info >> 8 & 0xff), (mesh.rows.into(), mesh.columns.into()), "{model}");
    }
}

/// Before the twelve writes a BAR is dense, writable memory and no register file (hardware.md 1.1).
#[test]
fn a_bar_without_translation_is_memory() {
    let board = SimBoard::open(&SimSpec::new(Model::Akd1000)).unwrap();
    let words: Vec<u32> = (0..1024).map(|i| board.read(Bar::Bar0, 4 * i).unwrap()).collect();
    assert!(words.iter().filter(|w| **w != 0).count() > 1000);
    board.write(Bar::Bar2, 0x40, 0xcafe_babe).unwrap();
    assert_eq!(board.read(Bar::Bar2, 0x40).unwrap(), 0xcafe_babe);
    assert_ne!(board.read(Bar::Bar2, 0x978).unwrap(), 0x0002_0002);
}

#[test]
fn reset_loses_translation_and_keeps_memory() {
    for model in Model::ALL {
        let bench = Bench::new(model);
        bench.poke(MEMORY + 0x1000, &[0x1234_5678]);
        let version = bench.top(top::MESH_INFO_1);
        let generation = bench.board.generation();
        bench.board.reset().unwrap();
        assert_eq!(bench.board.generation(), generation + 1);
        assert_ne!(bench.top(top::MESH_INFO_1), version, "{model}");
        bench.bring_up();
        assert_eq!(bench.top(top::MESH_INFO_1), version, "{model}");
        assert_eq!(bench.peek(MEMORY + 0x1000, 1), [0x1234_5678]);
    }
}

#[test]
fn memory_decoding_and_flr_are_honoured() {
    let bench = Bench::new(Model::Akd1000);
    bench.config_write(pci::COMMAND_STATUS, 0x4);
    assert_eq!(bench.top(top::MESH_INFO_1), u32::MAX);
    bench.config_write(pci::COMMAND_STATUS, 0x6);
    assert_eq!(bench.edma(edma::CONTROL), 0x0002_0002);
    bench.config_write(0x78, 1 << 15);
    assert_eq!(bench.config_read(pci::COMMAND_STATUS) & 0x6, 0, "function level reset");
    assert_eq!(bench.config_read(0x10), 0xc);
}

#[test]
fn the_endpoint_is_the_same_through_configuration_space_and_dbi() {
    let bench = Bench::new(Model::Akd1000);
    assert_eq!(bench.read(Bar::Bar2, 0), bench.config_read(0));
    assert_eq!(bench.config_read(0x978), 0x0002_0002);
    bench.config_write(0x900, 0x8000_0001);
    assert_eq!(bench.read(Bar::Bar2, 0x918), 0xf8c0_0000);
}

#[test]
fn accesses_outside_are_refused_by_name() {
    let bench = Bench::new(Model::Akd1500);
    for error in [
        bench.board.read(Bar::Bar2, 1 << 20).unwrap_err(),
        bench.board.write(Bar::Bar0, 2, 0).unwrap_err(),
        bench.board.config_read(4096).unwrap_err(),
        bench.board.config_write(2, 0).unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Access { board, .. } if board.starts_with("sim:akd1500")), "{error}");
    }
}

#[test]
fn bar_lengths_are_configurable_within_reason() {
    let mut spec = SimSpec::new(Model::Akd1000);
    spec.bar_len = [16 << 20, 4096, 1 << 20];
    let board = SimBoard::open(&spec).unwrap();
    assert_eq!(Bar::ALL.map(|b| board.bar_len(b)), spec.bar_len);
    for len in [0, 1000, 2048, 1 << 40] {
        spec.bar_len[0] = len;
        assert!(SimBoard::open(&spec).is_err(), "{len}");
    }
}

/// Time is the board's: an access takes some, a pause what it says.
#[test]
fn stepped_time_is_virtual() {
    let bench = Bench::new(Model::Akd1000);
    let before = bench.board.now();
    bench.top(top::IP_VERSION);
    let after = bench.board.now();
    assert!(after > before);
    let hour = std::time::Duration::from_secs(3600);
    bench.board.pause(hour);
    assert_eq!(bench.board.now(), after + hour);
}

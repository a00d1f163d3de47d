//! What BrainChip's kernel module does to a board, as a table of accesses in the order of hardware.md sections 2.1, 2.2, 3.2,
//! 3.3 and 16.3: probe, one transfer each way on every channel with the interrupt's work, removal. The simulated boards
//! must be good enough for it. Written from the documented facts; nothing of the module is here.
//!
//! A step reads what it has to find or writes; nothing else looks at the board, so no knowledge of ours can help it.

use std::time::Duration;

use akida_hal::Board;
use akida_hal::board::{Bar, Wake};
use akida_simulator::{Model, SimBoard, SimSpec};

const SECOND: Duration = Duration::from_secs(1);
/// What one transfer of the module moves at most.
const CHUNK: u32 = 1024;

/// One access.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Configuration space.
    Config(u16, u32),
    /// A register.
    Write(Bar, u64, u32),
    /// A register must read as this under the mask.
    Expect(Bar, u64, u32, u32),
    /// Changes bits: clear these, set those.
    Change(Bar, u64, u32, u32),
    /// Waits for translation to settle.
    Settle,
    /// Waits for the message.
    Interrupt,
}

use Step::{Change, Config, Expect, Interrupt, Settle, Write};

fn play(board: &SimBoard, steps: impl IntoIterator<Item = Step>) {
    for step in steps {
        match step {
            Config(offset, value) => board.config_write(offset, value).expect("in configuration space"),
            Write(bar, offset, value) => board.write(bar, offset, value).expect("inside the BAR"),
            Expect(bar, offset, mask, value) => {
                let read = board.read(bar, offset).expect("inside the BAR");
                assert_eq!(read & mask, value, "{step:x?} read {read:#010x}");
            }
            Change(bar, offset, clear, set) => {
                let old = board.read(bar, offset).expect("inside the BAR");
                board.write(bar, offset, old & !clear | set).expect("inside the BAR");
            }
            Settle => board.pause(SECOND),
            Interrupt => assert_eq!(board.wait_interrupt(SECOND).expect("an answer"), Wake::Interrupt, "{step:?}"),
        }
    }
}

/// The message as the PCI layer has put it into the MSI capability: address low, high, data.
fn message(board: &SimBoard) -> [u32; 3] {
    let read = |offset| board.config_read(offset).expect("in configuration space");
    let mut at = (read(0x34) & 0xff) as u16;
    while at != 0 {
        let head = read(at);
        if head & 0xff == 0x05 {
            let wide = head >> 16 & 0x80 != 0;
            let high = if wide { read(at + 8) } else { 0 };
            return [read(at + 4), high, read(at + if wide { 12 } else { 8 }) & 0xffff];
        }
        at = (head >> 8 & 0xff) as u16;
    }
    panic!("no MSI capability");
}

/// A list of one element and its link, at an offset of BAR4: size, source, destination, then the control word; pointer, then
/// the control word.
fn list(at: u64, source: u64, destination: u64) -> Vec<Step> {
    let halves = |a: u64| [a as u32, (a >> 32) as u32];
    let ([sl, sh], [dl, dh]) = (halves(source), halves(destination));
    let w = |offset: u64, value| Write(Bar::Bar4, at + offset, value);
    let link = 0x2000_0000 + at as u32;
    vec![
        w(4, CHUNK),
        w(8, sl),
        w(12, sh),
        w(16, dl),
        w(20, dh),
        w(0, 0x19),
        w(24 + 8, link),
        w(24 + 12, 0),
        w(24, 0x6),
        Expect(Bar::Bar4, at, u32::MAX, 0x19),
    ]
}

/// Registers of one direction of the AKD1000's engine, as BAR2 shows them.
struct Side {
    enable: u64,
    doorbell: u64,
    status: u64,
    mask: u64,
    clear: u64,
    list_error: u64,
    done: u64,
    data: u64,
    viewport: u32,
    lists: u64,
}

const TO_HOST: Side = Side {
    enable: 0x97c,
    doorbell: 0x980,
    status: 0x9bc,
    mask: 0x9c4,
    clear: 0x9c8,
    list_error: 0xa00,
    done: 0x9d0,
    data: 0x9e0,
    viewport: 0,
    lists: 0x00,
};
const TO_DEVICE: Side = Side {
    enable: 0x99c,
    doorbell: 0x9a0,
    status: 0xa10,
    mask: 0xa18,
    clear: 0xa1c,
    list_error: 0xa34,
    done: 0xa3c,
    data: 0xa4c,
    viewport: 1 << 31,
    lists: 0x80,
};

fn edma(offset: u64, value: u32) -> Step {
    Write(Bar::Bar2, offset, value)
}

fn quiet_edma() -> Vec<Step> {
    [TO_HOST, TO_DEVICE]
        .iter()
        .flat_map(|s| [edma(s.mask, 0x00ff_00ff), edma(s.clear, 0x00ff_00ff), edma(s.enable, 0)])
        .collect()
}

fn probe_akd1000([low, high, data]: [u32; 3]) -> Vec<Step> {
    let mut steps = vec![Config(0x04, 0x6)];
    for (region, target, control) in
        [(0, 0xfcc0_0000, 0xc008_0000), (1, 0xf8c0_0000, 0xc008_0200), (2, 0x2000_0000, 0xc008_0400)]
    {
        steps.extend([
            Config(0x900, 0x8000_0000 | region),
            Config(0x904, 0),
            Config(0x918, target),
            Config(0x908, control),
        ]);
    }
    steps.push(Settle);
    // Two channels each way or no engine.
    steps.push(Expect(Bar::Bar2, 0x978, 0x000f_000f, 0x0002_0002));
    steps.extend(quiet_edma());
    for side in [&TO_HOST, &TO_DEVICE] {
        for channel in 0..2 {
            let shift = 16 * channel;
            let addresses = [(0, low), (4, high), (8, low), (12, high)];
            steps.extend(addresses.map(|(at, value)| edma(side.done + at, value)));
            steps.push(Change(Bar::Bar2, side.data, 0xffff << shift, data << shift));
        }
    }
    steps
}

/// One transfer on a channel of the AKD1000, and what the interrupt's handler does.
fn transfer_akd1000(side: &Side, channel: u32, source: u64, destination: u64) -> Vec<Step> {
    let bit = 1 << channel;
    let at = side.lists + 0x40 * u64::from(channel);
    let mut steps = list(at, source, destination);
    steps.extend([
        edma(side.enable, 1),
        Change(Bar::Bar2, side.mask, bit | bit << 16, 0),
        Change(Bar::Bar2, side.list_error, 0, bit),
        edma(0xa6c, side.viewport | channel),
        edma(0xa70, 0x300),
        edma(0xa8c, 0x2000_0000 + at as u32),
        edma(0xa90, 0),
        Expect(Bar::Bar4, at, u32::MAX, 0x19),
        edma(side.doorbell, channel),
        Interrupt,
        Expect(Bar::Bar2, side.status, 0x00ff_00ff, bit),
        edma(0xa6c, side.viewport | channel),
        Expect(Bar::Bar2, 0xa70, 0x60, 0x60),
        edma(side.clear, bit),
        Expect(Bar::Bar2, side.status, 0x00ff_00ff, 0),
    ]);
    steps
}

/// Register block of a channel of the AKD1500 in BAR0.
fn block(to_device: bool, channel: u32) -> u64 {
    u64::from(channel) * 0x200 + if to_device { 0x100 } else { 0 }
}

fn hdma(offset: u64, value: u32) -> Step {
    Write(Bar::Bar0, offset, value)
}

fn quiet_hdma() -> Vec<Step> {
    // All eight pairs that the module assumes, both ways, though from the third on they lie over the translation's registers
    // (section 20, trap 9): what is written there must do no harm.
    (0..8)
        .flat_map(|channel| [block(false, channel), block(true, channel)])
        .flat_map(|at| [hdma(at + 0x88, 0x5), hdma(at + 0x8c, 0x5), hdma(at, 0)])
        .collect()
}

fn probe_akd1500([low, high, data]: [u32; 3], window: Option<(u64, u32)>) -> Vec<Step> {
    let mut steps = vec![Config(0x04, 0x6)];
    steps.extend([
        hdma(0x700, 0),
        hdma(0x704, 0xc008_0200),
        hdma(0x714, 0xfcc0_0000),
        hdma(0x900, 0),
        hdma(0x904, 0xc008_0400),
        hdma(0x914, 0x2000_0000),
    ]);
    if let Some((iova, len)) = window {
        steps.extend([
            hdma(0x404, 0),
            hdma(0x400, 0),
            hdma(0x408, 0xc000_0000),
            hdma(0x40c, 0),
            hdma(0x410, 0xc000_0000 + len - 1),
            hdma(0x414, iova as u32),
            hdma(0x418, (iova >> 32) as u32),
            hdma(0x404, 0x8000_0000),
        ]);
    }
    steps.push(Settle);
    steps.extend(quiet_hdma());
    for (channel, way) in [(0, false), (1, false), (0, true), (1, true)] {
        let at = block(way, channel);
        let addresses = [(0x90, low), (0x94, high), (0xa0, low), (0xa4, high), (0xa8, data)];
        steps.extend(addresses.map(|(offset, value)| hdma(at + offset, value)));
    }
    steps
}

fn transfer_akd1500(to_device: bool, channel: u32, source: u64, destination: u64) -> Vec<Step> {
    let registers = block(to_device, channel);
    let at = u64::from(channel) * 0x40 + if to_device { 0x80 } else { 0 };
    let mut steps = list(at, source, destination);
    steps.extend([
        hdma(registers, 1),
        Change(Bar::Bar0, registers + 0x88, 0, 0x7d),
        hdma(registers + 0x34, 1),
        hdma(registers + 0x10, 0x2000_0000 + at as u32),
        hdma(registers + 0x14, 0),
        hdma(registers + 0x18, 0x3),
        Expect(Bar::Bar4, at, u32::MAX, 0x19),
        hdma(registers + 0x04, 1),
        Interrupt,
        Expect(Bar::Bar0, registers + 0x84, 0x5, 0x1),
        Expect(Bar::Bar0, registers + 0x80, 0x3, 0x3),
        hdma(registers + 0x8c, 0x1),
        Expect(Bar::Bar0, registers + 0x84, 0x5, 0),
    ]);
    steps
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..CHUNK).map(|i| (i as u8).wrapping_mul(29).wrapping_add(seed)).collect()
}

/// 8 KiB there and back in pieces of 1 KiB, over both channels each way, as the module's node does it.
fn moves_data(board: &SimBoard, device: u64, transfer: impl Fn(bool, u32, u64, u64) -> Vec<Step>) {
    let (out, back) = (board.allocate(8192).expect("memory"), board.allocate(8192).expect("memory"));
    for piece in 0..8u32 {
        let offset = u64::from(piece * CHUNK);
        out.write(offset as usize, &pattern(piece as u8)).expect("inside");
        play(board, transfer(true, piece % 2, out.iova() + offset, device + offset));
        play(board, transfer(false, piece / 4, device + offset, back.iova() + offset));
    }
    for piece in 0..8u32 {
        let mut got = vec![0; CHUNK as usize];
        back.read((piece * CHUNK) as usize, &mut got).expect("inside");
        assert_eq!(got, pattern(piece as u8), "piece {piece}");
    }
}

#[test]
fn akd1000_satisfies_probe_transfers_and_removal() {
    let board = SimBoard::open(&SimSpec::new(Model::Akd1000)).expect("a board");
    // Probed, removed, probed again.
    for _ in 0..2 {
        play(&board, probe_akd1000(message(&board)));
        moves_data(&board, 0x2400_0000, |to_device, channel, source, destination| {
            let side = if to_device { &TO_DEVICE } else { &TO_HOST };
            transfer_akd1000(side, channel, source, destination)
        });
        play(&board, quiet_edma());
    }
}

#[test]
fn akd1500_satisfies_probe_transfers_and_removal() {
    let board = SimBoard::open(&SimSpec::new(Model::Akd1500)).expect("a board");
    let window = board.allocate(1 << 20).expect("memory");
    for window in [None, Some((window.iova(), 1 << 20))] {
        play(&board, probe_akd1500(message(&board), window));
        moves_data(&board, 0x2000_1000, transfer_akd1500);
        if window.is_some() {
            // Its third step, onto host memory: what the device sees at 0xC0000000 is ours.
            moves_data(&board, 0xc000_0000, transfer_akd1500);
        }
        play(&board, quiet_hdma());
    }
}

/// A request of several chunks: each is a list of its own in the same place, whose cycle bit is the other one; only the doorbell
/// is written again (section 3.2, "later chunks").
#[test]
fn chunks_of_one_request_take_turns_with_the_cycle_bit() {
    let board = SimBoard::open(&SimSpec::new(Model::Akd1000)).expect("a board");
    play(&board, probe_akd1000(message(&board)));
    for (side, channel) in [(&TO_DEVICE, 0), (&TO_DEVICE, 1), (&TO_HOST, 0), (&TO_HOST, 1)] {
        let host = board.allocate(4096).expect("memory");
        let at = side.lists + 0x40 * u64::from(channel);
        for piece in 0..4u32 {
            let (offset, device) = (u64::from(piece * CHUNK), 0x2400_0000 + u64::from(piece * CHUNK));
            let (source, destination) = if side.lists == TO_DEVICE.lists {
                (host.iova() + offset, device)
            } else {
                (device, host.iova() + offset)
            };
            if side.lists == TO_DEVICE.lists {
                host.write(offset as usize, &pattern(piece as u8 + 7 * channel as u8)).expect("inside");
            }
            if piece == 0 {
                play(&board, transfer_akd1000(side, channel, source, destination));
                continue;
            }
            let cycle = u32::from(piece % 2 == 0);
            let mut steps = list(at, source, destination);
            for step in &mut steps {
                match step {
                    Write(Bar::Bar4, offset, value) if *offset == at => *value = 0x18 | cycle,
                    Write(Bar::Bar4, offset, value) if *offset == at + 24 => *value = 0x6 | (1 - cycle),
                    Expect(Bar::Bar4, .., value) => *value = 0x18 | cycle,
                    _ => {}
                }
            }
            steps.extend([
                edma(side.doorbell, channel),
                Interrupt,
                Expect(Bar::Bar2, side.status, 0x00ff_00ff, 1 << channel),
                edma(side.clear, 1 << channel),
            ]);
            play(&board, steps);
        }
        for piece in 0..4u32 {
            let mut got = vec![0; CHUNK as usize];
            host.read((piece * CHUNK) as usize, &mut got).expect("inside");
            // What came back last is what went out last: on channel 1.
            let wanted = if side.lists == TO_DEVICE.lists { channel as u8 } else { 1 };
            assert_eq!(got, pattern(piece as u8 + 7 * wanted), "piece {piece} of channel {channel}");
        }
    }
}

/// "Nothing is read back, no VSEC is read": translation works whatever was there before, and the sizes the module needs are there.
#[test]
fn bars_are_as_large_as_the_module_needs() {
    for (model, needed) in [(Model::Akd1000, [0x7_0010, 0x970 + 0x124, 256]), (Model::Akd1500, [0x1000, 0x7_0010, 256])]
    {
        let board = SimBoard::open(&SimSpec::new(model)).expect("a board");
        for (bar, needed) in Bar::ALL.into_iter().zip(needed) {
            assert!(board.bar_len(bar) >= needed, "{model}: {bar:?}");
        }
    }
}

#[test]
fn an_abort_interrupts_and_is_told_on_the_abort_bit() {
    let board = SimBoard::open(&SimSpec::new(Model::Akd1000)).expect("a board");
    play(&board, probe_akd1000(message(&board)));
    let mut steps = transfer_akd1000(&TO_DEVICE, 1, 0xdead_0000, 0x2400_0000);
    steps.truncate(steps.len() - 6); // up to the doorbell
    play(&board, steps);
    play(
        &board,
        [
            Interrupt,
            Expect(Bar::Bar2, TO_DEVICE.status, 0x00ff_0000, 0x0002_0000),
            edma(TO_DEVICE.clear, 0x0002_0000),
            Expect(Bar::Bar2, TO_DEVICE.status, 0x00ff_00ff, 0),
        ],
    );
    play(&board, quiet_edma());
    moves_data(&board, 0x2400_0000, |to_device, channel, source, destination| {
        transfer_akd1000(if to_device { &TO_DEVICE } else { &TO_HOST }, channel, source, destination)
    });
}

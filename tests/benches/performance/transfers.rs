//! The transfer path: linked lists against one small transfer after another, as the kernel driver makes them.

use std::hint::black_box;
use std::sync::Arc;

use akida_hal::Board;
use akida_hal::transport::{PcieTransport, Transport, TransportOptions};
use akida_simulator::{Clock, Model, SimBoard, SimSpec};

use crate::measure::{Effort, in_turns};
use crate::table;

/// Most bytes of one transfer of the kernel driver (hardware.md section 3).
const VENDOR: usize = 1024;
const SIZES: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];

fn open(clock: Clock) -> (Arc<SimBoard>, PcieTransport) {
    let board = Arc::new(SimBoard::open(&SimSpec::new(Model::Akd1000).with_clock(clock)).expect("a board"));
    let options = TransportOptions {
        element_bytes: VENDOR as u32,
        // One word, as the kernel driver does.
        read_back: false,
        ..TransportOptions::default()
    };
    let transport = PcieTransport::open(board.clone(), options).expect("a transport");
    (board, transport)
}

/// One list, or one transfer with a wait of its own for each KiB.
#[derive(Clone, Copy)]
enum How {
    Lists,
    Single,
}

fn to_device(transport: &PcieTransport, how: How, bytes: &[u8]) {
    let base = transport.memory()[0].base;
    let part = if matches!(how, How::Lists) { bytes.len() } else { VENDOR };
    for (i, bytes) in bytes.chunks(part).enumerate() {
        transport.write(base + (i * part) as u32, black_box(bytes)).expect("written");
    }
}

fn to_host(transport: &PcieTransport, how: How, bytes: &mut [u8]) {
    let base = transport.memory()[0].base;
    let part = if matches!(how, How::Lists) { bytes.len() } else { VENDOR };
    for (i, bytes) in bytes.chunks_mut(part).enumerate() {
        transport.read(base + (i * part) as u32, black_box(bytes)).expect("read");
    }
}

/// What one transfer takes of the board: doorbells, register accesses, its own time in seconds.
fn counts(work: impl Fn(&PcieTransport)) -> (u64, u64, f64) {
    let (board, transport) = open(Clock::Stepped);
    work(&transport);
    let look = || (transport.counters().transfers, board.inspect().counters.bar_accesses, board.now());
    let before = look();
    work(&transport);
    let after = look();
    (after.0 - before.0, after.1 - before.1, (after.2 - before.2).as_secs_f64())
}

pub fn measure() {
    table::heading(
        "Transfers",
        "`sim:akd1000`: one call of the transport, which makes linked lists of 1 KiB elements, against 1 KiB at a time \
         with a doorbell and a wait each, as the kernel driver transfers (ours spares the single transfers the masks and \
         enables which that driver sets anew before each). Ratios are single to lists. Host time is this machine's, with a \
         board that works in its own thread; board time is virtual (500 ns a register access, 400 MB/s: ours, no model of \
         silicon). Doorbells and register accesses are exact and the same on silicon, where each read waits for the \
         link, apart from how often an end is polled for.",
    );
    let mut rows = Vec::new();
    for size in SIZES {
        let sent: Vec<u8> = (0..size).map(|i| ((i * 31) >> 3) as u8).collect();
        let (_lists_board, lists) = open(Clock::Threaded);
        let (_single_board, single) = open(Clock::Threaded);
        let (mut from_lists, mut from_single) = (vec![0; size], vec![0; size]);
        for (transport, how, back) in [(&lists, How::Lists, &mut from_lists), (&single, How::Single, &mut from_single)]
        {
            to_device(transport, how, &sent);
            to_host(transport, how, back);
            assert!(*back == sent, "{size} bytes come back");
        }
        let times = in_turns(
            Effort::LONG,
            &mut [
                ("lists in", &mut || to_device(&lists, How::Lists, &sent)),
                ("single in", &mut || to_device(&single, How::Single, &sent)),
                ("lists out", &mut || to_host(&lists, How::Lists, &mut from_lists)),
                ("single out", &mut || to_host(&single, How::Single, &mut from_single)),
            ],
        );
        for (name, first) in [("to device", 0), ("to host", 2)] {
            let work = |how| {
                let sent = &sent;
                move |transport: &PcieTransport| match first {
                    0 => to_device(transport, how, sent),
                    _ => to_host(transport, how, &mut vec![0; size]),
                }
            };
            let (bells, accesses, board) = counts(work(How::Lists));
            let (single_bells, single_accesses, single_board) = counts(work(How::Single));
            let rate = |i: usize| format!("{:.0}", size as f64 / times[i].median / 1e6);
            rows.push(vec![
                format!("{} KiB {name}", size >> 10),
                table::ratio(times[first + 1], times[first]),
                format!("**{:.2}**", single_board / board),
                format!("**{:.2}**", single_accesses as f64 / accesses as f64),
                format!("{bells} / {single_bells}"),
                format!("{accesses} / {single_accesses}"),
                format!("{} / {}", rate(first), rate(first + 1)),
            ]);
        }
    }
    table::table(
        &[
            "bytes",
            "host time",
            "board time",
            "accesses",
            "doorbells, lists / single",
            "register accesses, lists / single",
            "MB/s of host time, lists / single",
        ],
        &rows,
    );
}

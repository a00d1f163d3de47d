//! The real driver over every board, with both clocks and both ways to notice ends, and over every fault.

use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::{Completion, Device, DeviceOptions};
use akida_hal::packet::Uid;
use akida_hal::{Board, Error, ErrorKind};
use akida_simulator::{Clock, FaultPlan, Model, SimBoard, SimSpec};

fn options(completion: Completion) -> DeviceOptions {
    DeviceOptions { completion, timeout: Duration::from_secs(2), ..DeviceOptions::default() }
}

fn open(spec: &SimSpec, completion: Completion) -> (Arc<SimBoard>, akida_hal::Result<Device>) {
    let board = Arc::new(SimBoard::open(spec).expect("a board"));
    let device = Device::open(board.clone(), options(completion));
    (board, device)
}

/// What a healthy device does: loopback, and words to an NP and back.
fn exercise(device: &mut Device) -> akida_hal::Result<()> {
    device.self_test(1000)?;
    let np = device.mesh().nps[3].0;
    let words: Vec<u32> = (0..600).map(|i| i * 0x0001_0003).collect();
    device.write_np(np, Uid::PacketSram, 5, &words)?;
    let read = device.read_np(np, Uid::PacketSram, 5, words.len())?;
    assert!(read == words, "a wrong word was read without an error");
    Ok(())
}

#[test]
fn the_driver_finds_and_drives_every_board() {
    for model in Model::ALL {
        for clock in [Clock::Stepped, Clock::Threaded] {
            for completion in [Completion::Poll, Completion::Interrupt] {
                // Real time costs a second of translation settling; once is enough.
                if clock == Clock::Threaded && (model != Model::Akd1000 || completion == Completion::Poll) {
                    continue;
                }
                let (board, device) = open(&SimSpec::new(model).with_clock(clock), completion);
                let mut device = device.unwrap_or_else(|e| panic!("{model} {clock:?} {completion:?}: {e}"));
                assert_eq!(device.mesh(), &model.mesh(), "{model}");
                exercise(&mut device).unwrap_or_else(|e| panic!("{model} {clock:?} {completion:?}: {e}"));
                let generation = board.generation();
                device.recover().unwrap_or_else(|e| panic!("{model} {clock:?}: {e}"));
                assert!(board.generation() > generation);
                exercise(&mut device).unwrap_or_else(|e| panic!("{model} {clock:?} after recovery: {e}"));
                drop(device);
                let report = board.inspect();
                assert_eq!(report.host_refused, [], "{model} {clock:?} {completion:?}");
                assert_eq!(report.mappings, [], "{model}: mappings outlive the device");
            }
        }
    }
}

/// Whatever goes wrong ends in an error of a documented kind or in nothing noticed, never in a wrong word; and a device
/// that can come back does.
#[test]
fn every_fault_ends_in_an_error_or_in_nothing() {
    let faults = [
        "drop-interrupt@3x*",
        "late-interrupt@2x5:us=300000",
        "stall-link@4",
        "stall-link@40",
        "abort-link@1",
        "abort-link@25",
        "flip-element@7:bits=0x1",
        "flip-element@30:word=2,bits=0x80000000",
        "flip-element@31:word=3,bits=0x2",
        "stall-config@2",
        "stall-config@80",
        "stall-input@1",
        "flip-descriptor@3:bits=0x1",
        "flip-descriptor@80:word=1,bits=0x80000000",
        "all-ones@12",
        "all-ones@300x2",
        "lose-device@5",
        "lose-device@900",
        "lose-device@900:forever",
        "corrupt-packet@1:word=0,bits=0x7",
        "stuck-reset@1",
        "refuse-allocation@1",
        "refuse-allocation@2",
    ];
    let mut noticed = 0;
    for model in [Model::Akd1000, Model::Akd1500, Model::Akida2SixNodes] {
        for faults in faults {
            for completion in [Completion::Poll, Completion::Interrupt] {
                let plan: FaultPlan = faults.parse().expect("a fault plan");
                let (board, device) = open(&SimSpec::new(model).with_faults(plan), completion);
                let context = format!("{model} {faults} {completion:?}");
                let result = match device {
                    Ok(mut device) => exercise(&mut device).and_then(|()| exercise(&mut device)),
                    Err(error) => Err(error),
                };
                if let Err(error) = &result {
                    noticed += 1;
                    check_kind(&context, error);
                }
                assert_eq!(board.inspect().mappings, [], "{context}: mappings outlive the device");
                // A new driver on the same board: as after a restart of the program.
                let again = Device::open(board.clone(), options(completion))
                    .or_else(|_| {
                        board.reset()?;
                        Device::open(board.clone(), options(completion))
                    })
                    .and_then(|mut device| {
                        exercise(&mut device).or_else(|_| {
                            device.recover()?;
                            exercise(&mut device)
                        })
                    });
                match again {
                    Ok(()) => {}
                    Err(error) => assert!(faults.contains("forever"), "{context}: not well again: {error}"),
                }
            }
        }
    }
    assert!(noticed > 60, "only {noticed} faults were noticed");
}

fn check_kind(context: &str, error: &Error) {
    assert!(
        matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Device | ErrorKind::Lost | ErrorKind::Host),
        "{context}: {error}"
    );
    // Refused memory has no board to name.
    if !matches!(error, Error::HostMemory { .. }) {
        assert!(error.to_string().contains("sim:"), "{context}: {error} does not name the board");
    }
}

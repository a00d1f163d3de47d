//! What jobs cost in register accesses, each of which waits for PCIe or leaves a virtual machine; and that none of them may get
//! lost unnoticed.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use akida_hal::device::{Device, DeviceOptions};
use akida_hal::packet::Uid;
use akida_simulator::{Clock, Model, SimBoard, SimSpec};
use akida_tests::accesses::per_job;
use akida_tests::faults::Work;

fn target(board: Model) -> akida_runtime::model::Target {
    akida_runtime::model::Target::of(board.mesh().version)
}

/// Of so many accesses one is lost: each of them takes a board and, where it is noticed by time, a time-out. `tests/nightly` loses all.
fn step() -> u64 {
    std::env::var("AKIDA_LOST_STEP").ok().and_then(|n| n.parse().ok()).unwrap_or(17)
}

#[test]
fn a_job_takes_three_accesses_in_a_full_pipeline() {
    for model in Model::ALL {
        let per_job = |batch| {
            let board = Arc::new(SimBoard::open(&SimSpec::new(model)).expect("a simulated board opens"));
            per_job(board, batch).unwrap_or_else(|wrong| panic!("{model}: {wrong}")).mean
        };
        let (full, single) = (per_job(16), per_job(1));
        println!("{model}: {full:.2} accesses a job with 16 in flight, {single:.2} with one");
        assert!(full <= 3.0, "{model}: {full}");
        assert!(single <= 20.0, "{model}: {single}");
    }
}

/// Each access of loading a network and running jobs is lost once, or reads all ones, with everything as it is by default: the
/// numbers are right or there is an error. Of the accesses every n-th is tried, from another one on for each board.
#[test]
fn no_single_access_is_lost_unnoticed() {
    for (i, model) in Model::ALL.into_iter().enumerate() {
        let work = Work::small(target(model), &model.mesh()).expect("a network fits");
        let (mut at, mut right, mut errors) = (1 + i as u64, 0, 0);
        loop {
            let board = Arc::new(SimBoard::open(&SimSpec::new(model)).expect("a simulated board opens"));
            let options = DeviceOptions { scan: false, ..DeviceOptions::default() };
            let mut device = Device::open(board.clone(), options).expect("the device opens");
            board.arm(&format!("all-ones@{at}").parse().expect("a plan"));
            match work.all(&mut device) {
                Err(wrong) => panic!("{model}, all-ones@{at}: {wrong}"),
                Ok(Ok(())) if board.faults_fired().is_empty() => break,
                Ok(Ok(())) => right += 1,
                Ok(Err(_)) => errors += 1,
            }
            at += step();
        }
        println!("{model}: of {at} accesses {} lost: {right} right, {errors} errors", right + errors);
        assert!(errors > 0 && right > 0);
    }
}

/// The same of words to an NP's memory and back, on boards that take their time: what ended before must not be taken for the end
/// of what was asked for last.
#[test]
fn no_single_access_of_config_packets_is_lost_unnoticed() {
    let words: Vec<u32> = (1..=96u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let words = &words;
    let lose = |(i, model): (usize, Model)| {
        let (mut at, mut right, mut errors) = (1 + i as u64, 0, 0);
        loop {
            let spec = SimSpec { clock: Clock::Threaded, ..SimSpec::new(model) };
            let board = Arc::new(SimBoard::open(&spec).expect("a simulated board opens"));
            let options =
                DeviceOptions { scan: false, timeout: Duration::from_millis(100), ..DeviceOptions::default() };
            let mut device = Device::open(board.clone(), options).expect("the device opens");
            let np = device.mesh().nps[0].0;
            board.arm(&format!("all-ones@{at}").parse().expect("a plan"));
            let read = device
                .write_np(np, Uid::PacketSram, 0, words)
                .and_then(|()| device.read_np(np, Uid::PacketSram, 0, words.len()));
            match read {
                Ok(read) if read != *words => panic!("{model}, all-ones@{at}: other words come back, and no error"),
                Ok(_) if board.faults_fired().is_empty() => break,
                Ok(_) => right += 1,
                Err(_) => errors += 1,
            }
            at += step();
        }
        println!("{model}: of {at} accesses {} lost: {right} right, {errors} errors", right + errors);
        assert!(errors > 0);
    };
    // What is lost is noticed by time-outs: boards wait together.
    thread::scope(|scope| Model::ALL.into_iter().enumerate().for_each(|board| _ = scope.spawn(move || lose(board))));
}

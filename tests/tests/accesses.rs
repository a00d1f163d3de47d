//! What jobs cost in register accesses, each of which waits for PCIe or leaves a virtual machine; and that none of them may get
//! lost unnoticed.

use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::{Device, DeviceOptions, OutputValues};
use akida_simulator::{Model, SimBoard, SimSpec};
use akida_tests::faults::Work;

const WAIT: Duration = Duration::from_secs(5);

fn target(board: Model) -> akida_runtime::model::Target {
    akida_runtime::model::Target::of(board.mesh().version)
}

fn open(model: Model) -> (Arc<SimBoard>, Device, Work) {
    let board = Arc::new(SimBoard::open(&SimSpec::new(model)).expect("a simulated board opens"));
    let device = Device::open(board.clone(), DeviceOptions::default()).expect("the device opens");
    let work = Work::small(target(model), &model.mesh()).expect("a network fits");
    (board, device, work)
}

fn accesses(board: &SimBoard) -> u64 {
    let counters = board.inspect().counters;
    counters.bar_accesses + counters.config_accesses
}

/// Accesses per job, once buffers and lists are what they stay.
fn per_job(model: Model, batch: usize) -> f64 {
    let (board, mut device, work) = open(model);
    device.program(work.program()).expect("programmed");
    assert_eq!(device.set_batch(batch).expect("set"), batch);
    let samples = work.samples();
    let mut values = OutputValues::U8(Vec::new());
    let (mut sent, mut fetched) = (0, 0);
    let mut marks = Vec::new();
    while fetched < 256 {
        if device.enqueue(&samples[sent % samples.len()].0).expect("enqueued").is_some() {
            sent += 1;
            continue;
        }
        device.fetch_into(WAIT, &mut values).expect("fetched").expect("finished");
        let got: Vec<i32> = (0..values.len()).filter_map(|i| values.get(i)).collect();
        assert_eq!(got, samples[fetched % samples.len()].1);
        fetched += 1;
        marks.push(accesses(&board));
    }
    (marks[255] - marks[127]) as f64 / 128.0
}

#[test]
fn a_job_takes_three_accesses_in_a_full_pipeline() {
    for model in Model::ALL {
        let (full, single) = (per_job(model, 16), per_job(model, 1));
        println!("{model}: {full:.2} accesses a job with 16 in flight, {single:.2} with one");
        assert!(full <= 3.0, "{model}: {full}");
        assert!(single <= 20.0, "{model}: {single}");
    }
}

/// Each access of loading a network and running jobs is lost once, or reads all ones, with everything as it is by default: the
/// numbers are right or there is an error. Of the accesses every n-th is tried, from another one on for each board.
#[test]
fn no_single_access_is_lost_unnoticed() {
    let step: usize = std::env::var("AKIDA_LOST_STEP").ok().and_then(|n| n.parse().ok()).unwrap_or(17);
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
            at += step as u64;
        }
        println!("{model}: of {at} accesses {} lost: {right} right, {errors} errors", right + errors);
        assert!(errors > 0 && right > 0);
    }
}

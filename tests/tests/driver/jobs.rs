//! Programs and jobs over simulated boards: mapped random networks give the reference's integers, one job at a time, in a
//! full pipeline, over 65536 job ids, and after faults.

use std::sync::Arc;
use std::time::Duration;

use akida_hal::Error;
use akida_hal::device::{Completion, Device, DeviceOptions, OutputValues, Verify};
use akida_runtime::mapping::{HardwareOutput, HardwareSequence, MapOptions, map};
use akida_runtime::model::Target;
use akida_runtime::reference::{Reference, Rules};
use akida_simulator::{Clock, Model as BoardModel, SimBoard, SimSpec};
use akida_tests::generate::{self, Random};

const WAIT: Duration = Duration::from_secs(5);

fn target(board: BoardModel) -> Target {
    Target::of(board.mesh().version)
}

/// A program, inputs for it, and what must come out.
struct Case {
    sequence: HardwareSequence,
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<i32>>,
}

/// The hardware sequences with one tensor out, of a random model mapped to a board's mesh.
fn cases(board: BoardModel, seed: u64, samples: usize) -> Vec<Case> {
    let model = generate::model(target(board), seed);
    let Ok(mapping) = map(&model, &board.mesh(), &MapOptions::default()) else { return Vec::new() };
    let mut random = Random::new(seed ^ 0x5EED);
    let mut reference = Reference::new(&model, Rules::default());
    let tensors: Vec<Vec<Vec<i32>>> = (0..samples)
        .map(|_| {
            reference.reset();
            reference.run(&random.sample(&model.input.tensor)).expect("an input of the model")
        })
        .collect();
    let sequences = mapping.hardware().filter_map(|sequence| {
        let HardwareOutput::Tensor(output) = sequence.output else { return None };
        Some(Case {
            inputs: tensors.iter().map(|t| t[sequence.input].iter().map(|v| *v as u8).collect()).collect(),
            outputs: tensors.iter().map(|t| t[output].clone()).collect(),
            sequence: sequence.clone(),
        })
    });
    sequences.collect()
}

fn open(spec: &SimSpec, options: DeviceOptions) -> (Arc<SimBoard>, Device) {
    let board = Arc::new(SimBoard::open(spec).expect("a simulated board opens"));
    let device = Device::open(board.clone(), options).expect("the device opens");
    (board, device)
}

fn wide(values: &OutputValues) -> Vec<i32> {
    (0..values.len()).filter_map(|i| values.get(i)).collect()
}

#[test]
fn mapped_networks_give_the_reference_integers() {
    for board in BoardModel::ALL {
        let (_, mut device) = open(&SimSpec::new(board), DeviceOptions::default());
        let mut ran = 0;
        for seed in 0..12 {
            for case in cases(board, seed, 2) {
                device.program(&case.sequence.program).unwrap_or_else(|e| panic!("{board}, seed {seed}: {e}"));
                for (input, expected) in case.inputs.iter().zip(&case.outputs) {
                    let job = device.enqueue(input).expect("enqueued").expect("not full");
                    let output = device.fetch(WAIT).expect("fetched").expect("finished");
                    assert_eq!(output.job, job);
                    assert!(wide(&output.values) == *expected, "{board}, seed {seed}");
                    ran += 1;
                }
            }
        }
        assert!(ran > 8, "{board}: only {ran} jobs");
    }
}

/// One case that every test can use: the first there is.
fn first_case(board: BoardModel, samples: usize) -> Case {
    (0..50).find_map(|seed| cases(board, seed, samples).into_iter().next()).expect("some random model fits")
}

#[test]
fn a_full_pipeline_keeps_order_and_says_busy() {
    for (clock, completion) in [(Clock::Stepped, Completion::Poll), (Clock::Threaded, Completion::Interrupt)] {
        let mut spec = SimSpec::new(BoardModel::Akd1000);
        spec.clock = clock;
        let (_, mut device) = open(&spec, DeviceOptions { completion, ..DeviceOptions::default() });
        let case = first_case(BoardModel::Akd1000, 10);
        device.program(&case.sequence.program).expect("programmed");
        for (asked, got) in [(0, 1), (1, 1), (2, 2), (5, 5), (16, 16), (100, 32)] {
            assert_eq!(device.set_batch(asked).expect("set"), got);
            let mut sent = Vec::new();
            let mut fetched = 0;
            let mut values = OutputValues::U8(Vec::new());
            while fetched < 50 {
                // With others to come, or alone: order and results are the same.
                let input = &case.inputs[sent.len() % 10];
                let taken = if sent.len() % 3 > 0 { device.enqueue_of_several(input) } else { device.enqueue(input) };
                match taken.expect("enqueued") {
                    Some(job) => sent.push(job),
                    None => {
                        assert_eq!(device.pending(), got);
                        let (job, _) = device.fetch_into(WAIT, &mut values).expect("fetched").expect("finished");
                        assert_eq!(job, sent[fetched]);
                        assert_eq!(wide(&values), case.outputs[fetched % 10]);
                        fetched += 1;
                    }
                }
            }
        }
        assert_eq!(device.statistics().jobs, 300);
    }
}

#[test]
fn job_ids_wrap() {
    let (_, mut device) = open(&SimSpec::new(BoardModel::Akida2TwoNodes), DeviceOptions::default());
    let case = first_case(BoardModel::Akida2TwoNodes, 1);
    device.program(&case.sequence.program).expect("programmed");
    device.set_batch(4).expect("set");
    let mut values = OutputValues::U8(Vec::new());
    let mut done = 0u32;
    let mut ids = Vec::new();
    // The last job id of the hardware is not under the driver's control, so the whole range is walked when it is cheap.
    let jobs = if case.inputs[0].len() < 5000 { 66_000 } else { 300 };
    while done < jobs {
        if device.enqueue(&case.inputs[0]).expect("enqueued").is_none() {
            let (job, _) = device.fetch_into(WAIT, &mut values).expect("fetched").expect("finished");
            ids.push(job.0);
            done += 1;
        }
    }
    assert!(ids.windows(2).all(|w| w[1] == w[0].wrapping_add(1)));
    assert_eq!(wide(&values), case.outputs[0]);
}

#[test]
fn wrong_inputs_are_refused_and_change_nothing() {
    let (_, mut device) = open(&SimSpec::new(BoardModel::Akd1500), DeviceOptions::default());
    let case = first_case(BoardModel::Akd1500, 1);
    device.program(&case.sequence.program).expect("programmed");
    let input = &case.inputs[0];
    for wrong in [&input[1..], &[][..]] {
        assert!(matches!(device.enqueue(wrong), Err(Error::InputLength { .. })));
    }
    assert_eq!(device.fetch(WAIT).expect("nothing pending"), None);
    device.enqueue(input).expect("enqueued");
    let output = device.fetch(WAIT).expect("fetched").expect("finished");
    assert_eq!(wide(&output.values), case.outputs[0]);
    device.unprogram().expect("unprogrammed");
    assert!(matches!(device.enqueue(input), Err(Error::NotProgrammed { .. })));
}

/// A fault plan, at every one of its first occurrences, ends in an error or in the right integers; after recovery and
/// programming the next job is right.
#[test]
fn faults_never_give_a_wrong_number() {
    let case = first_case(BoardModel::Akida2TwoNodes, 6);
    let plans = [
        "stall-link",
        "abort-link",
        "stall-config",
        "stall-input",
        "wrong-job-id",
        "truncate-header",
        "stuck-reset",
        "drop-interrupt",
        "all-ones",
        "corrupt-packet:word=60,bits=0x4",
        "flip-descriptor:word=1,bits=0x40",
        "flip-descriptor:word=7,bits=0x40",
        "flip-descriptor:word=0,bits=0x10000",
        "flip-element:word=0,bits=0x1",
        "flip-element:word=1,bits=0x8",
        "flip-element:word=2,bits=0x20",
        "flip-element:word=4,bits=0x20",
    ];
    for completion in [Completion::Poll, Completion::Interrupt] {
        for plan in plans {
            let (name, parameters) = plan.split_once(':').unwrap_or((plan, ""));
            for n in 0..40u32 {
                // Opening takes some occurrences; later ones hit programs and jobs.
                let at = 1 + n * n * if name == "all-ones" { 37 } else { 1 };
                let colon = if parameters.is_empty() { "" } else { ":" };
                let plan = format!("{name}@{at}{colon}{parameters}");
                run_faulty(&case, &plan, completion);
            }
        }
    }
}

fn run_faulty(case: &Case, plan: &str, completion: Completion) {
    let faults = plan.parse().unwrap_or_else(|e| panic!("{plan}: {e}"));
    let spec = SimSpec::new(BoardModel::Akida2TwoNodes).with_faults(faults);
    let board = Arc::new(SimBoard::open(&spec).expect("a simulated board opens"));
    let options = DeviceOptions { completion, verify: Verify::Jobs, ..DeviceOptions::default() };
    let Ok(mut device) = Device::open(board.clone(), options.clone()).or_else(|_| Device::open(board, options)) else {
        panic!("{plan}: does not open a second time");
    };
    let program = |device: &mut Device| device.program(&case.sequence.program).and_then(|()| device.set_batch(2));
    if program(&mut device).is_err() {
        device.recover().unwrap_or_else(|e| panic!("{plan}: {e}"));
        program(&mut device).unwrap_or_else(|e| panic!("{plan}: after recovery: {e}"));
    }
    let mut failed = false;
    for (input, expected) in case.inputs.iter().zip(&case.outputs) {
        let output = match job(&mut device, input) {
            Ok(output) => output,
            Err(error) => {
                assert!(!failed, "{plan}: a second failure: {error}");
                failed = true;
                device.recover().unwrap_or_else(|e| panic!("{plan}: {e}"));
                program(&mut device).unwrap_or_else(|e| panic!("{plan}: after recovery: {e}"));
                job(&mut device, input).unwrap_or_else(|e| panic!("{plan}: after recovery: {e}"))
            }
        };
        assert!(output == *expected, "{plan}: a wrong number");
    }
}

fn job(device: &mut Device, input: &[u8]) -> Result<Vec<i32>, Error> {
    device.enqueue(input)?;
    device.fetch(Duration::from_secs(60)).map(|output| wide(&output.expect("finished or failed").values))
}

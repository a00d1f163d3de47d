//! Hardware sequences of random models, programmed through the driver into every simulated board, against the reference.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::{Completion, Device, DeviceOptions, Verify};
use akida_runtime::mapping::{HardwareOutput, HardwareSequence, MapOptions, map};
use akida_runtime::model::{Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_simulator::{Clock, Model as BoardModel, SimBoard, SimSpec};
use akida_tests::generate::{self, Random};

fn target(board: BoardModel) -> Target {
    match board {
        BoardModel::Akd1000 => Target::Akd1000,
        BoardModel::Akd1500 => Target::Akd1500,
        _ => Target::Akida2,
    }
}

fn open(spec: &SimSpec) -> (Arc<SimBoard>, Device) {
    let board = Arc::new(SimBoard::open(spec).expect("a board"));
    let options = DeviceOptions { timeout: Duration::from_secs(20), ..DeviceOptions::default() };
    (board.clone(), Device::open(board, options).expect("a device"))
}

/// Samples of a sequence's input and the integers its output must be, from the reference.
fn expected(model: &Model, sequence: &HardwareSequence, seed: u64, samples: usize) -> Vec<(Vec<u8>, Vec<i32>)> {
    let HardwareOutput::Tensor(output) = sequence.output else { return Vec::new() };
    let mut random = Random::new(seed);
    let mut reference = Reference::new(model, Rules::Chip);
    (0..samples)
        .map(|_| {
            let sample = random.sample(model.tensor(0));
            let tensors = reference.run(&sample).expect("the sample fits");
            let input = tensors[sequence.input].iter().map(|v| *v as u8).collect();
            (input, tensors[output].clone())
        })
        .collect()
}

/// Keeps as many jobs in flight as the device takes and compares every output.
fn run(device: &mut Device, sequence: &HardwareSequence, samples: &[(Vec<u8>, Vec<i32>)], what: &str) {
    device.program(&sequence.program).unwrap_or_else(|e| panic!("{what}: programming: {e}"));
    let batch = device.set_batch(4).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(batch, 4, "{what}");
    let mut waiting: VecDeque<_> = samples.iter().collect();
    let mut running = VecDeque::new();
    while !waiting.is_empty() || !running.is_empty() {
        if let Some((input, output)) = waiting.front()
            && let Some(job) = device.enqueue(input).unwrap_or_else(|e| panic!("{what}: enqueue: {e}"))
        {
            running.push_back((job, output));
            waiting.pop_front();
            continue;
        }
        let fetched = device.fetch(Duration::from_secs(60)).unwrap_or_else(|e| panic!("{what}: fetch: {e}"));
        let output = fetched.unwrap_or_else(|| panic!("{what}: nothing was finished"));
        let (job, expected) = running.pop_front().expect("something runs");
        assert_eq!(output.job, job, "{what}");
        let got: Vec<i32> = (0..output.values.len()).map(|i| output.values.get(i).expect("inside")).collect();
        assert!(got == *expected, "{what}: job {job} differs");
    }
}

#[test]
fn random_models_give_the_reference_integers_on_every_board() {
    let (mut sequences, mut several_passes) = (0, 0);
    for board in BoardModel::ALL {
        let (sim, mut device) = open(&SimSpec::new(board));
        for seed in 0..24 {
            let model = generate::model(target(board), seed);
            let Ok(mapping) = map(&model, device.mesh(), &MapOptions::default()) else { continue };
            for (i, sequence) in mapping.hardware().enumerate() {
                let samples = expected(&model, sequence, seed, 6);
                if samples.is_empty() {
                    continue;
                }
                sequences += 1;
                several_passes += usize::from(sequence.program.passes.len() > 1);
                run(&mut device, sequence, &samples, &format!("{board}, model {seed}, sequence {i}"));
            }
        }
        assert_eq!(sim.inspect().host_refused, [], "{board}");
    }
    println!("{sequences} sequences, {several_passes} of them with several passes");
    assert!(sequences > 60, "only {sequences} sequences ran");
}

/// The same with the core on its own thread, several jobs in flight, and ends noticed by interrupt or by looking.
#[test]
fn a_threaded_board_gives_the_same() {
    for completion in [Completion::Poll, Completion::Interrupt] {
        let board = SimBoard::open(&SimSpec::new(BoardModel::Akida2SixNodes).with_clock(Clock::Threaded));
        let options = DeviceOptions { timeout: Duration::from_secs(20), completion, ..DeviceOptions::default() };
        let mut device = Device::open(Arc::new(board.expect("a board")), options).expect("a device");
        for seed in 0..6 {
            let model = generate::model(Target::Akida2, seed);
            let Ok(mapping) = map(&model, device.mesh(), &MapOptions::default()) else { continue };
            for sequence in mapping.hardware() {
                let samples = expected(&model, sequence, seed, 20);
                if !samples.is_empty() {
                    run(&mut device, sequence, &samples, &format!("threaded, {completion:?}, model {seed}"));
                }
            }
        }
    }
}

/// Several passes: the config DMA replays its ring, the mesh is reset and programmed between passes, every job.
#[test]
fn passes_follow_each_other() {
    // With an activation that lets nothing negative through, and without.
    let cases = [6, 7].into_iter().flat_map(|seed| [Clock::Stepped, Clock::Threaded].map(|clock| (seed, clock)));
    for (seed, clock) in cases {
        let model = generate::again(seed);
        let (sim, mut device) = open(&SimSpec::new(BoardModel::Akida2SixNodes).with_clock(clock));
        let mapping = map(&model, device.mesh(), &MapOptions::default()).expect("it fits");
        let mut sequence = mapping.hardware().next().expect("it is on the hardware").clone();
        let mut reference = Reference::new(&model, Rules::Chip);
        let mut random = Random::new(1);
        for passes in [2, 3, 5] {
            sequence.program.passes = vec![sequence.program.passes[0].clone(); passes];
            let samples: Vec<_> = (0..4)
                .map(|_| {
                    let sample = random.sample(model.tensor(0));
                    let mut values: Vec<i32> = sample.iter().map(|v| i32::from(*v)).collect();
                    for _ in 0..passes {
                        let bytes: Vec<u8> = values.iter().map(|v| *v as u8).collect();
                        values = reference.run(&bytes).expect("it fits").swap_remove(1);
                    }
                    (sample, values)
                })
                .collect();
            assert!(
                samples.iter().any(|(_, out)| out.iter().any(|v| *v > 0 && *v < 255)),
                "outputs that tell something"
            );
            run(&mut device, &sequence, &samples, &format!("model {seed}, {passes} passes, {clock:?}"));
        }
        // Leaving multi-pass leaves nothing behind.
        let single = mapping.hardware().next().expect("a sequence");
        run(&mut device, single, &expected(&model, single, 3, 3), "single pass after several");
        assert_eq!(sim.inspect().host_refused, []);
    }
}

/// Faults while a network is loaded and run: each ends in an error or in nothing, never in a wrong number, and after
/// recovery the next inference is right.
#[test]
fn no_fault_makes_a_wrong_number() {
    let faults = [
        "drop-interrupt@3x*",
        "late-interrupt@2x9:us=700000",
        "stall-link@5",
        "stall-link@20",
        "abort-link@12",
        "flip-element@9:bits=0x1",
        "flip-element@15:word=3,bits=0x40",
        "stall-config@2",
        "stall-input@3",
        "flip-descriptor@1:bits=0x1",
        "flip-descriptor@4:bits=0x10000000",
        "flip-descriptor@14:bits=0x2",
        "flip-descriptor@15:word=1,bits=0x100",
        "flip-descriptor@16:word=7,bits=0x40",
        "flip-element@30:word=4,bits=0x100",
        "flip-element@60:word=2,bits=0x8",
        "all-ones@50x2",
        "all-ones@400",
        "lose-device@300",
        "lose-device@20",
        "corrupt-packet@1:word=0,bits=0x7",
        "corrupt-packet@1:word=5,bits=0x10",
        "corrupt-packet@2:word=90,bits=0x1",
        "wrong-job-id@3",
        "truncate-header@3",
        "stuck-reset@1",
        "refuse-allocation@1",
    ];
    let model = generate::again(7);
    let (mut fired, mut noticed) = (0, 0);
    for faults in faults {
        for completion in [Completion::Poll, Completion::Interrupt] {
            let board = Arc::new(SimBoard::open(&SimSpec::new(BoardModel::Akida2SixNodes)).expect("a board"));
            let options = DeviceOptions { completion, verify: Verify::Jobs, ..DeviceOptions::default() };
            let mut device = Device::open(board.clone(), options).expect("a healthy device");
            board.arm(&faults.parse().expect("a fault plan"));
            let mapping = map(&model, device.mesh(), &MapOptions::default()).expect("it fits");
            let sequence = mapping.hardware().next().expect("it is on the hardware");
            let samples = expected(&model, sequence, 3, 6);
            let what = format!("{faults} {completion:?}");
            if let Err(error) = attempt(&mut device, sequence, &samples, &what) {
                noticed += 1;
                assert!(
                    error.to_string().contains("sim:akida2-6node") || faults.starts_with("refuse"),
                    "{what}: {error}"
                );
                // Once more as it is, then after a recovery.
                if attempt(&mut device, sequence, &samples, &what).is_err() {
                    device.recover().unwrap_or_else(|e| panic!("{what}: recovery: {e}"));
                    attempt(&mut device, sequence, &samples, &what).unwrap_or_else(|e| panic!("{what}: after it: {e}"));
                }
            }
            let happened = !board.faults_fired().is_empty();
            if !happened {
                println!("{what}: did not happen");
            }
            fired += usize::from(happened);
        }
    }
    println!("{fired} of {} happened, {noticed} were noticed", 2 * faults.len());
    assert_eq!(fired, 2 * faults.len(), "every fault of the table happens");
}

/// As `run`, with errors returned; a wrong number is no error but a failure.
fn attempt(
    device: &mut Device,
    sequence: &HardwareSequence,
    samples: &[(Vec<u8>, Vec<i32>)],
    what: &str,
) -> akida_hal::Result<()> {
    device.program(&sequence.program)?;
    let batch = device.set_batch(2)?;
    for pair in samples.chunks(batch) {
        for (input, _) in pair {
            device.enqueue(input)?;
        }
        for (_, expected) in pair {
            let output = device.fetch(Duration::from_secs(60))?.unwrap_or_else(|| panic!("{what}: nothing finished"));
            let got: Vec<i32> = (0..output.values.len()).map(|i| output.values.get(i).expect("inside")).collect();
            assert!(got == *expected, "{what}: a wrong number");
        }
    }
    Ok(())
}

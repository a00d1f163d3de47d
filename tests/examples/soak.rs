//! `tests/soak N`: N inferences in one process, on simulated boards, with a fault now and then. Every result is compared; memory,
//! descriptors and threads are sampled, and must not grow.
//!
//! Small random networks run on all four boards, mnist_cnn on the Akida 2.0 board with six nodes; one inference in ten is a digit.

use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx;
use akida_hal::device::{Device, DeviceOptions, Verify};
use akida_runtime::model::{Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Outputs, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::conformance::Case;
use akida_tests::generate::{self, Random};

/// Inferences of one call.
const BATCH: usize = 100;
/// Calls between two faults.
const FAULT_EVERY: u64 = 200;
/// Samples of memory taken over the whole run.
const SAMPLES: usize = 100;
/// Growth that is allowed over the whole run, by the slope after the first fifth.
const GROWTH: f64 = 8.0 * 1024.0 * 1024.0;

const FAULTS: [&str; 9] = [
    "stall-link",
    "abort-link",
    "stall-config",
    "stall-input",
    "wrong-job-id",
    "truncate-header",
    "lose-device",
    "stuck-reset",
    "refuse-allocation",
];

/// A network on a board, with its samples and what they give.
struct Line {
    board: Arc<SimBoard>,
    session: Session,
    inputs: Vec<Vec<u8>>,
    expected: Vec<Vec<i32>>,
}

impl Line {
    fn open(board: BoardModel, model: Model, inputs: Vec<Vec<u8>>) -> Result<Self, Box<dyn Error>> {
        let sim = Arc::new(SimBoard::open(&SimSpec::new(board))?);
        let device = Device::open(sim.clone(), DeviceOptions { verify: Verify::Off, ..DeviceOptions::default() })?;
        let output = model.outputs[0].tensor;
        let tensor = model.tensor(output);
        let mut reference = Reference::new(&model, Rules::Chip);
        let expected = inputs
            .iter()
            .map(|input| Ok(tensor.layout.to_onnx(&reference.run(input)?[output], tensor.shape)))
            .collect::<Result<_, Box<dyn Error>>>()?;
        let session = Session::open(Arc::new(model.clone()), device, SessionOptions::default())?;
        Ok(Self { board: sim, session, inputs, expected })
    }

    /// One call; what it gives is right, or an error.
    fn call(&mut self) -> Result<(), Box<dyn Error>> {
        let outputs: Outputs = self.session.infer(Batch::Bytes(&self.inputs))?;
        for (i, (found, expected)) in outputs.raw[0].outer_iter().zip(&self.expected).enumerate() {
            if !found.iter().eq(expected.iter()) {
                // Nothing after this would be worth anything.
                eprintln!("WRONG NUMBER on {}: sample {i}", self.session.identity());
                std::process::exit(1);
            }
        }
        Ok(())
    }
}

fn target(board: BoardModel) -> Target {
    match board {
        BoardModel::Akd1000 => Target::Akd1000,
        BoardModel::Akd1500 => Target::Akd1500,
        _ => Target::Akida2,
    }
}

/// A random network without memory of frames before, since calls are repeated.
fn small(board: BoardModel) -> Result<Line, Box<dyn Error>> {
    let stateless = |m: &Model| {
        m.layers.iter().all(|l| !matches!(&l.kind, akida_runtime::model::LayerKind::Conv(c) if c.kind.temporal()))
    };
    let weights = |m: &Model| m.layers.len();
    let model = (0..40)
        .map(|seed| generate::model(target(board), seed))
        .filter(stateless)
        .min_by_key(weights)
        .ok_or("no network without memory")?;
    let mut random = Random::new(9);
    let inputs = (0..BATCH).map(|_| random.sample(&model.input.tensor)).collect();
    Line::open(board, model, inputs)
}

fn digits() -> Result<Line, Box<dyn Error>> {
    let case = Case::find("mnist_cnn").ok_or("mnist_cnn is not there")?;
    let graph = onnx::load(&case.path("quantized.onnx"))?;
    let model = import(&graph, ImportOptions { allow_float_tail: true, ..ImportOptions::default() })?.model;
    let pixels = case.npz("inputs.npz").ok_or("no digits")?.integers("x_u8");
    let inputs = pixels.outer_iter().take(BATCH).map(|d| d.iter().map(|v| *v as u8).collect()).collect();
    Line::open(BoardModel::Akida2SixNodes, model, inputs)
}

/// Resident bytes, open descriptors, threads.
fn held() -> Result<(f64, usize, usize), Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = kib.trim().trim_end_matches(" kB").parse()?;
    let count = |folder| Ok::<_, std::io::Error>(fs::read_dir(folder)?.count());
    Ok((kib * 1024.0, count("/proc/self/fd")?, count("/proc/self/task")?))
}

/// Bytes for each inference, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let above: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let below: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if below == 0.0 { 0.0 } else { above / below }
}

fn run(wanted: u64) -> Result<bool, Box<dyn Error>> {
    let mut lines: Vec<Line> = BoardModel::ALL.into_iter().map(small).collect::<Result<_, _>>()?;
    lines.push(digits()?);
    let (start, mut done, mut calls) = (Instant::now(), 0u64, 0u64);
    let (mut armed, mut errors) = (0u64, 0u64);
    let mut samples = Vec::new();
    let mut kept: Option<(usize, usize)> = None;
    while done < wanted {
        let line = if calls % 10 == 9 { lines.len() - 1 } else { (calls % 4) as usize };
        let line = &mut lines[line];
        if calls % FAULT_EVERY == FAULT_EVERY - 1 {
            let fault = FAULTS[(armed % FAULTS.len() as u64) as usize];
            line.board.arm(&format!("{fault}@{}", 1 + armed % 7).parse()?);
            armed += 1;
        }
        calls += 1;
        if let Err(error) = line.call() {
            errors += 1;
            log::info!("{error}");
            // The next call must do what this one could not.
            line.board.arm(&"".parse()?);
            line.call()?;
        }
        done += BATCH as u64;
        if done * SAMPLES as u64 / wanted > samples.len() as u64 {
            let (bytes, descriptors, threads) = held()?;
            samples.push((done as f64, bytes));
            if samples.len() % (SAMPLES / 10) == 0 {
                println!(
                    "{done} inferences, {:.0} s: {:.1} MiB resident, {descriptors} descriptors, {threads} threads",
                    start.elapsed().as_secs_f64(),
                    bytes / 1048576.0
                );
            }
            // The first sample is taken after every board has worked.
            match kept {
                None => kept = Some((descriptors, threads)),
                Some(kept) if kept != (descriptors, threads) => {
                    // A thread that was joined may still be leaving.
                    std::thread::sleep(Duration::from_millis(100));
                    let (_, descriptors, threads) = held()?;
                    if kept != (descriptors, threads) {
                        println!("FAILED: {descriptors} descriptors, {threads} threads instead of {kept:?}");
                        return Ok(false);
                    }
                }
                Some(_) => {}
            }
        }
    }
    let fired: usize = lines.iter().map(|l| l.board.faults_fired().len()).sum();
    let grown = slope(&samples[samples.len() / 5..]) * wanted as f64;
    println!(
        "{done} inferences in {:.0} s, all right; {armed} faults armed, {fired} happened, {errors} calls ended in an error and \
         were right when repeated; resident memory grows by {:.2} MiB over the run by its slope",
        start.elapsed().as_secs_f64(),
        grown / 1048576.0
    );
    let mappings: usize = lines.iter().map(|l| l.board.inspect().mappings.len()).sum();
    let boards: Vec<Arc<SimBoard>> = lines.iter().map(|l| l.board.clone()).collect();
    drop(lines);
    let left: usize = boards.iter().map(|b| b.inspect().mappings.len()).sum();
    println!("{mappings} DMA mappings while open, {left} afterwards");
    Ok(grown < GROWTH && left == 0 && fired > 0)
}

fn main() -> ExitCode {
    env_logger::Builder::from_default_env().filter_module("akida_hal", log::LevelFilter::Off).init();
    let Some(wanted) = std::env::args().nth(1).and_then(|n| n.parse().ok()).filter(|n| *n >= 10_000) else {
        eprintln!("soak N: N inferences, at least 10000");
        return ExitCode::from(64);
    };
    match run(wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("FAILED");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

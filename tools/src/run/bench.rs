//! `akida-run bench`: how long inferences take, and how much of it is not arithmetic.

use std::hint::black_box;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::model::Model;
use akida_runtime::session::{Batch, HostNetwork, Session, SessionOptions};
use clap::Parser;
use serde::Serialize;

use super::args::BenchFormat;
use super::pin::Processors;
use crate::command::Common;
use crate::device::{self, Road, Selector};
use crate::exit::{Exit, Failure};

/// Measure a network on a board: time of a call, samples a second, and what driver and board cost beside the arithmetic
#[derive(Clone, Debug, Parser)]
pub struct BenchArgs {
    /// Network: .akm, or an .onnx file already quantized by QuantizeML
    pub model: PathBuf,
    /// Board, as for a run
    #[arg(short, long, default_value = "auto", env = "AKIDA_DEVICE", value_name = "BOARD")]
    pub device: Selector,
    /// Samples of a call
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// How long to measure
    #[arg(long, default_value_t = 3.0, value_name = "S")]
    pub seconds: f64,
    /// How long to run before that, unmeasured. Default: a tenth of the measurement
    #[arg(long, value_name = "S")]
    pub warm_up: Option<f64>,
    /// Threads that compute jobs side by side on a simulated board, in virtual time. Arithmetic alone is measured on one
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
    /// Jobs in flight; a board takes at most 32
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub jobs: u8,
    /// Processors to run on and no others, as `0` or `0,2-3`. Default: all that the process may run on
    #[arg(long, value_name = "LIST")]
    pub pin: Option<Processors>,
    /// Simulated boards only: compute in a thread of the board
    #[arg(long)]
    pub real_time: bool,
    /// What goes to standard output
    #[arg(long, default_value = "text")]
    pub format: BenchFormat,
}

/// The document; units are in the names of keys.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    version: &'static str,
    board: String,
    simulated: bool,
    kernels: &'static str,
    model: String,
    batch: usize,
    seconds: f64,
    calls: usize,
    latency_us: Latency,
    throughput_per_s: f64,
    /// A sample's arithmetic alone: the same kernels, in the same process, in turns with the calls. Median.
    compute_us: f64,
    /// Median call, less its samples' arithmetic, by sample.
    overhead_us: f64,
    warm_up_s: f64,
    threads: usize,
    /// Processors that the process may run on.
    processors: usize,
    /// Which they are, where it is held to some.
    pinned: Option<String>,
}

/// Of a call of `batch` samples.
#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// Calls and arithmetic take turns of about so long.
const TURN: Duration = Duration::from_millis(10);
/// Longest measurement: times of calls are kept.
const LONGEST: f64 = 3600.0;

/// The command.
pub fn run(args: &BenchArgs, common: &Common, out: &mut dyn Write) -> Result<Exit, Failure> {
    if !(args.seconds > 0.0 && args.seconds <= LONGEST) {
        let message = format!("--seconds {} is no time to measure", args.seconds);
        return Err(Failure::new(Exit::Usage, message, format!("more than 0, at most {LONGEST}")));
    }
    let warm_up = args.warm_up.unwrap_or(args.seconds / 10.0);
    if !(0.0..=LONGEST).contains(&warm_up) {
        let message = format!("--warm-up {warm_up} is no time to run");
        return Err(Failure::new(Exit::Usage, message, format!("0 to {LONGEST}")));
    }
    // Before anything that makes threads: they are held to the same.
    args.pin.as_ref().map_or(Ok(()), Processors::hold)?;
    let network = crate::convert::load_network(&args.model)?;
    let Some(model) = network.whole() else {
        let message = format!("{} has {} parts, some on the host", args.model.display(), network.parts.len());
        return Err(Failure::new(Exit::Data, message, "measure a network that a board computes whole"));
    };
    let model = Arc::new(model.clone());
    let threads = usize::from(args.threads);
    let simulation = device::Simulation { faults: None, real_time: args.real_time, threads };
    let road = device::open(&args.device, model.target, &simulation, |text| common.notice(text))?;
    let device = match road {
        Road::Board(board) => {
            device::refuse_other_target(&*board, &model.name, model.target)?;
            Device::open(board, DeviceOptions::default())?
        }
        Road::Node(node) => Device::over(node, DeviceOptions::default())?,
    };
    let batch = usize::from(args.batch);
    // Which parts of a large network are worth a reprogramming depends on how many samples come between two of them, which are never
    // more than a session takes at once.
    let mut options = SessionOptions { jobs: args.jobs.into(), ..SessionOptions::default() };
    options.map.batch = batch.min(options.map.batch);
    let mut session = Session::open(model.clone(), device, options)?;
    let mut host = HostNetwork::prepare(&model)?;
    let inputs = inputs(&model, batch);

    let all = Duration::from_secs_f64(args.seconds);
    measure(&mut session, &mut host, &inputs, Duration::from_secs_f64(warm_up))?;
    let (mut calls, mut compute) = measure(&mut session, &mut host, &inputs, all)?;
    let elapsed: f64 = calls.iter().sum();
    let (calls_p, compute_us) = (percentiles(&mut calls), percentiles(&mut compute).p50);
    let report = Report {
        schema: "akida-run-bench/1",
        version: env!("CARGO_PKG_VERSION"),
        board: session.identity().name.clone(),
        simulated: session.identity().simulated,
        kernels: HostNetwork::kernels(),
        model: args.model.display().to_string(),
        batch,
        seconds: args.seconds,
        calls: calls.len(),
        throughput_per_s: (calls.len() * batch) as f64 * 1e6 / elapsed,
        compute_us,
        overhead_us: calls_p.p50 / batch as f64 - compute_us,
        latency_us: calls_p,
        warm_up_s: warm_up,
        threads,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        pinned: args.pin.as_ref().map(Processors::to_string),
    };
    match args.format {
        BenchFormat::Text => out.write_all(text(&report).as_bytes()),
        BenchFormat::Json => serde_json::to_writer_pretty(&mut *out, &report)
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n")),
    }
    .map_err(|e| Failure::stdout(&e))?;
    Ok(Exit::Done)
}

/// Microseconds of each call, and of a sample's arithmetic where all of a call's are computed one by one.
fn measure(
    session: &mut Session,
    host: &mut HostNetwork,
    inputs: &[Vec<u8>],
    all: Duration,
) -> Result<(Vec<f64>, Vec<f64>), Failure> {
    let micros = |start: Instant| start.elapsed().as_nanos() as f64 / 1e3;
    let (mut calls, mut compute) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while calls.is_empty() || start.elapsed() < all {
        let turn = Instant::now();
        while calls.is_empty() || turn.elapsed() < TURN {
            let call = Instant::now();
            black_box(session.infer(Batch::Bytes(black_box(inputs)))?);
            calls.push(micros(call));
        }
        // As many samples as a call has: what others do on the machine interrupts long measurements more often than short ones.
        let turn = Instant::now();
        loop {
            let call = Instant::now();
            for input in inputs {
                black_box(host.run(black_box(input))?);
            }
            compute.push(micros(call) / inputs.len() as f64);
            if turn.elapsed() >= TURN {
                break;
            }
        }
    }
    Ok((calls, compute))
}

fn percentiles(times: &mut [f64]) -> Latency {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}

/// The same on every machine, inside the input's range.
fn inputs(model: &Model, count: usize) -> Vec<Vec<u8>> {
    let tensor = &model.input.tensor;
    let (low, high) = tensor.range();
    let span = (i64::from(high) - i64::from(low) + 1) as u64;
    let mut state = 1u64;
    let mut element = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (i64::from(low) + ((state >> 33) % span) as i64) as u8
    };
    (0..count).map(|_| (0..tensor.elements()).map(|_| element()).collect()).collect()
}

fn text(report: &Report) -> String {
    let Report { board, model, kernels, batch, calls, latency_us: l, throughput_per_s, threads, .. } = report;
    let pinned = report.pinned.as_ref().map_or(String::new(), |list| format!(", on processor(s) {list}"));
    let simulated =
        if report.simulated { " (SIMULATED: times are those of the simulation, not of a chip)" } else { "" };
    format!(
        "{model} on {board}{simulated}\n\
         kernels     {kernels}, {threads} thread(s){pinned}\n\
         calls       {calls} of {batch} samples\n\
         latency     p50 {:.1} µs, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}\n\
         throughput  {throughput_per_s:.0} samples/s\n\
         a sample    {:.2} µs arithmetic, {:.2} µs beside it\n",
        l.p50, l.p90, l.p99, l.p999, l.max, report.compute_us, report.overhead_us
    )
}

#[cfg(test)]
mod tests {
    use super::percentiles;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut times: Vec<f64> = (0..=1000).rev().map(f64::from).collect();
        let p = percentiles(&mut times);
        assert_eq!([p.p50, p.p90, p.p99, p.p999, p.max], [500.0, 900.0, 990.0, 999.0, 1000.0]);
        assert_eq!(percentiles(&mut [7.0]).p999, 7.0);
    }
}

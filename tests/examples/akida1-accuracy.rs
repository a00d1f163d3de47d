//! Accuracy of quantization for Akida 1.0 on a simulated AKD1000, with each tool on and off: the table of
//! docs/quantization-1.0.md. `cargo run --release -p akida-tests --example akida1-accuracy [NET...]`
//! (`--default`: with all tools only; `--two`: at 8/2/2 only).

use std::sync::Arc;

use akida_converter::akida1::{Options, Quantized, Tools, convert};
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::mapping::MapOptions;
use akida_runtime::model::{Model, Target};
use akida_runtime::session::{Batch, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::akida1_nets::{NAMES, Net, correct, net};

fn settings() -> Vec<(&'static str, Tools)> {
    let all = Tools::ALL;
    vec![
        ("all", all),
        ("without equalization", Tools { equalize: false, ..all }),
        ("without range search", Tools { search_ranges: false, ..all }),
        ("without adaptive rounding", Tools { adaptive_rounding: false, ..all }),
        ("without threshold correction", Tools { correct_thresholds: false, ..all }),
        ("without tuning", Tools { tune: false, ..all }),
        ("none", Tools::NONE),
    ]
}

fn quantize(net: &Net, bits: &str, tools: Tools) -> Result<Quantized, Box<dyn std::error::Error>> {
    let options = Options { bits: bits.parse()?, tools, ..Options::new(Target::Akd1000) };
    Ok(convert(&net.model, net.calibration.view(), &options, &mut |_, _| {})?)
}

/// Correct answers on each set.
fn on_board(model: Model, net: &Net) -> Result<Vec<usize>, Box<dyn std::error::Error>> {
    let board = Arc::new(SimBoard::open(&SimSpec::new(BoardModel::Akd1000))?);
    let device = Device::open(board, DeviceOptions::default())?;
    let map = MapOptions { hw_only: true, ..MapOptions::default() };
    let mut session = Session::open(Arc::new(model), device, SessionOptions { map, ..SessionOptions::default() })?;
    let mut counts = Vec::new();
    for test in &net.tests {
        let outputs = session.infer(Batch::Float(test.samples.view()))?;
        counts.push(correct(&outputs.floats[0], &test.labels));
    }
    Ok(counts)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let (names, flags): (Vec<_>, Vec<_>) = asked.into_iter().partition(|a| !a.starts_with("--"));
    let names = if names.is_empty() { NAMES.map(str::to_owned).to_vec() } else { names };
    let settings = if flags.iter().any(|f| f == "--default") { settings()[..1].to_vec() } else { settings() };
    let all_bits = if flags.iter().any(|f| f == "--two") { &["8/2/2"][..] } else { &["8/4/4", "8/2/2"] };
    println!("| network | bits | tools | test | test_hard |");
    println!("|---|---|---|---|---|");
    let show = |values: &[usize]| {
        let cell = |set: usize| values.get(set).map_or("-".into(), ToString::to_string);
        format!("{} | {} |", cell(0), cell(1))
    };
    for name in &names {
        let net = net(name);
        let sets: Vec<&str> = net.tests.iter().map(|t| t.name).collect();
        let line = |f: &dyn Fn(&str) -> usize| sets.iter().map(|set| f(set)).collect::<Vec<_>>();
        println!("| {name} | float | | {}", show(&line(&|set| net.float(set))));
        for &bits in all_bits {
            println!("| {name} | {bits} | peer | {}", show(&line(&|set| net.peer(bits, set))));
            for (label, tools) in &settings {
                let start = std::time::Instant::now();
                let quantized = quantize(&net, bits, *tools)?;
                let took = start.elapsed();
                let errors: Vec<String> = quantized.layers.iter().map(|l| format!("{:.4}", l.relative_error)).collect();
                let tuning = format!("{:?}", quantized.tuning);
                let counts = on_board(quantized.model, &net)?;
                println!("| {name} | {bits} | {label} | {}", show(&counts));
                eprintln!("{took:.1?} then {:.1?}; {tuning}; errors {}", start.elapsed() - took, errors.join(" "));
            }
        }
    }
    Ok(())
}

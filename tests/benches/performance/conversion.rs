//! The stages of a conversion.

use std::hint::black_box;

use akida_converter::calibrate::observe;
use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx;
use akida_converter::prepare::prepare;
use akida_converter::quantize::{QuantizeOptions, quantize_prepared};
use ndarray::Axis;

use crate::digits::{self, Float};
use crate::measure::{Effort, Steps, in_turns};
use crate::table;

pub fn measure() {
    let float = Float::load();
    float.on_its_thread(|| beside(&float));
}

fn beside(float: &Float) {
    table::heading(
        "Conversion",
        "mnist_cnn from float ONNX to `.akm`, 128 samples for calibration. The peer of calibration is rten, which it is \
         made with, running the same samples on one thread (calibration uses rten's own choice) with all its optimizations and without a look at what is inside.",
    );
    let samples = digits::case().calibration();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("digits.akm");
    let mut steps = Steps::default();
    let mut convert = || {
        let graph = steps.step("read", || onnx::load(&digits::float_file()).expect("the float graph"));
        let (prepared, _) = steps.step("prepare", || prepare(graph, Some(&[1, 28, 28])).expect("a prepared graph"));
        let ranges = steps.step("calibrate", || observe(&prepared, samples.view(), &mut |_, _| {}).expect("ranges"));
        let options = QuantizeOptions::default();
        let (graph, _) = steps.step("quantize", || quantize_prepared(&prepared, &ranges, &options).expect("a graph"));
        let options = ImportOptions { allow_float_tail: true, require_functions: false };
        let imported = steps.step("convert", || import(&graph, options).expect("a model"));
        steps.step("save", || imported.model.save(&file).expect("saved"));
    };
    let inputs: Vec<_> = samples.axis_iter(Axis(0)).map(|s| Float::input(&s.to_owned(), 1)).collect();
    let mut run = || inputs.iter().for_each(|input| drop(black_box(float.run(input))));
    let effort = Effort { least: std::time::Duration::ZERO, ..Effort::LONG };
    let times = in_turns(effort, &mut [("whole", &mut convert), ("float", &mut run)]);
    let steps = steps.summary();
    let mut rows: Vec<_> = steps.iter().map(|(name, time)| vec![(*name).to_owned(), table::time(*time)]).collect();
    rows.push(vec!["all of it".into(), table::time(times[0])]);
    table::table(&["stage", "time"], &rows);
    let calibrate = steps.iter().find(|(name, _)| *name == "calibrate").map_or(f64::NAN, |(_, time)| time.median);
    println!(
        "\nrten alone takes {} for the samples: calibration takes **{:.2}** times as long.",
        table::time(times[1]),
        calibrate / times[1].median
    );
}

//! Every case of the conformance data through the converter, the reference arithmetic and simulated boards, as the
//! tables of docs/conformance.md. `tests/conformance` runs it; names of cases as arguments print only those.

mod agreement;
mod akida1;
mod integers;
mod parameters;

use std::sync::Arc;

use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx;
use akida_runtime::edge;
use akida_runtime::session::Batch;
use akida_tests::conformance::{Case, root};
use ndarray::{ArrayD, Axis, stack};

use agreement::{Agreement, agreement};
use parameters::{Compared, Share};

/// Why a case could not be measured.
pub type Failed = Box<dyn std::error::Error>;

/// Least share of integer parameters that own calibration gives like the reference's, percent.
const SHARE: f64 = 99.9;

struct Row {
    given: Compared,
    own: Compared,
    reference: Share,
    boards: Vec<Share>,
    /// Stored inner integers that the chip saturates.
    saturated: usize,
    /// Layers on the first board, and all layers.
    on_board: (usize, usize),
    /// Float operators behind the integers.
    tail: usize,
    ours: Agreement,
    theirs: Agreement,
}

impl Row {
    fn of(case: &Case) -> Result<Self, Failed> {
        let theirs = onnx::load(&case.path("quantized.onnx"))?;
        let tolerant = ImportOptions { allow_float_tail: true, ..ImportOptions::default() };
        let model = Arc::new(import(&theirs, tolerant)?.model);
        let mut stored = integers::stored(case, &model)?;
        let inputs = edge::quantize_input(&model, case.inputs().view())?;
        let reference = integers::reference(&model, &inputs, &stored)?;
        let saturated = integers::saturate(&model, &inputs, &mut stored)?;
        let (mut boards, mut on_board) = (Vec::new(), (0, model.layers.len()));
        for &board in integers::boards(model.target) {
            let mut session = integers::open(board, &model)?;
            if boards.is_empty() {
                on_board.0 = session.mapping().hardware().map(|h| h.layers.len()).sum();
            }
            boards.push(integers::board(&mut session, &inputs, &stored)?);
        }
        let array = |file: &str| Some(case.npz(file)?.floats("out0"));
        let float = array("float_outputs.npz").ok_or("no float outputs")?;
        // Where the chip saturates, so does what it is measured against.
        let quantized = match stored.iter().find(|s| s.tensor == model.outputs[0].tensor).and_then(|s| s.chip.as_ref())
        {
            Some(chip) => {
                let tensor = model.tensor(model.outputs[0].tensor);
                let sample = |values: ndarray::ArrayViewD<i64>| -> ArrayD<f32> {
                    let values: Vec<i32> = values.iter().map(|&v| v as i32).collect();
                    edge::dequantize(&model, &model.outputs[0], &tensor.layout.to_chip(&values, tensor.shape))
                };
                let samples: Vec<ArrayD<f32>> = chip.outer_iter().map(sample).collect();
                stack(Axis(0), &samples.iter().map(|s| s.view()).collect::<Vec<_>>())?
            }
            None => array("quantized_outputs.npz").ok_or("no outputs")?,
        };

        let given = parameters::compare(&parameters::with_given_ranges(case)?.graph, &theirs)?;
        let own = parameters::with_own_ranges(case)?.graph;
        let model = Arc::new(import(&own, tolerant)?.model);
        let mut session = integers::open(integers::boards(model.target)[0], &model)?;
        let mut output = session.infer(Batch::Float(case.inputs().view()))?.floats.swap_remove(0);
        if let Some(mut tail) = agreement::tail(&own)? {
            output = agreement::run_tail(&mut tail, &output, &own.outputs[0].name)?;
        }
        Ok(Self {
            own: parameters::compare(&own, &theirs)?,
            given,
            reference,
            boards,
            saturated,
            on_board,
            tail: own.nodes.iter().filter(|n| n.domain != onnx::BRAINCHIP).count(),
            ours: agreement(&float, &output),
            theirs: agreement(&float, &quantized.into_shape_with_order(float.raw_dim())?),
        })
    }

    /// What is not as it should be.
    fn shortfalls(&self) -> Vec<&'static str> {
        let (ours, theirs) = (self.ours, self.theirs);
        let checks = [
            ("parameters", self.given.integers.is_whole() && self.given.scales.is_whole()),
            ("own calibration", self.own.integers.percent() >= SHARE),
            ("reference", self.reference.is_whole()),
            ("board", self.boards.iter().all(|b| b.is_whole())),
            // Six digits of a cosine are what the table shows.
            ("agreement", ours.argmax >= theirs.argmax && ours.cosine >= theirs.cosine - 1e-6),
        ];
        checks.into_iter().filter(|(_, kept)| !kept).map(|(name, _)| name).collect()
    }

    fn print(&self, name: &str) {
        let agreement = |a: Agreement| format!("{:.6}, {:.1} dB, {:.2} %", a.cosine, a.sqnr_db, 100.0 * a.argmax);
        let mut boards: Vec<String> = self.boards.iter().map(|&b| cell(b)).collect();
        boards.dedup();
        if self.saturated > 0 {
            boards.push(format!("({} saturate)", self.saturated));
        }
        let short = self.shortfalls();
        println!(
            "| {name} | {} | {:.3} % | {} of {} | {} | {} | {} of {} | {} | {} | {} | {} |",
            cell(self.given.integers),
            self.own.integers.percent(),
            self.own.scales.equal,
            self.own.scales.all,
            cell(self.reference),
            boards.join(" "),
            self.on_board.0,
            self.on_board.1,
            self.tail,
            agreement(self.ours),
            agreement(self.theirs),
            if short.is_empty() { "-".to_owned() } else { short.join(", ") }
        );
    }
}

fn cell(share: Share) -> String {
    if share.is_whole() { share.all.to_string() } else { format!("**{} of {}**", share.equal, share.all) }
}

fn akida2(asked: &[String]) -> Result<bool, Failed> {
    let mut names: Vec<String> =
        std::fs::read_dir(root())?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.retain(|name| asked.is_empty() || asked.contains(name));
    println!(
        "| case | parameters equal, given ranges | own: integers equal | own: scales equal | reference: integers equal \
         | each board: integers equal | layers on sim:akida2 | float operators | agreement with float | the reference's | short of |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let (mut cases, mut exact) = (0, true);
    let mut sums = [Share::default(); 5];
    for name in &names {
        let Some(case) = Case::find(name).filter(|case| case.path("quantized.onnx").exists()) else { continue };
        let row = Row::of(&case).map_err(|e| format!("{name}: {e}"))?;
        row.print(name);
        let shares = [row.given.integers, row.own.integers, row.reference, row.boards[0], row.boards[1]];
        sums.iter_mut().zip(shares).for_each(|(sum, share)| sum.add(share));
        let whole = [row.given.integers, row.given.scales, row.reference, row.boards[0], row.boards[1]];
        exact &= whole.iter().all(|share| share.is_whole());
        cases += 1;
    }
    let [given, own, reference, large, small] = sums;
    println!(
        "\n{cases} cases. With the reference's ranges {} of {} parameters are equal, with ranges observed here {} ({:.4} \
         %). Integers equal: {} of {} by the reference arithmetic, {} of {} on sim:akida2, {} of {} on \
         sim:akida2-2node.\n",
        given.equal,
        given.all,
        own.equal,
        own.percent(),
        reference.equal,
        reference.all,
        large.equal,
        large.all,
        small.equal,
        small.all
    );
    Ok(exact && cases > 0)
}

fn akida1() -> Result<bool, Failed> {
    println!(
        "| Akida 1.0 vectors | files | reference: integers equal | sim:akd1000: integers equal | layers on the board |"
    );
    println!("|---|---|---|---|---|");
    let mut exact = true;
    for row in akida1::rows()? {
        let (reference, board, (on, all)) = (cell(row.reference), cell(row.board), row.on_board);
        println!("| {} | {} | {reference} | {board} | {on} of {all} |", row.kind, row.files);
        exact &= row.reference.is_whole() && row.board.is_whole();
    }
    Ok(exact)
}

fn main() -> Result<(), Failed> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let exact = akida2(&asked)? && (!asked.is_empty() || akida1()?);
    if exact { Ok(()) } else { Err("integers or parameters differ from the reference: see the table".into()) }
}

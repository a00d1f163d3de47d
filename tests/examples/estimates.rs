//! How the estimates of `akida_runtime::estimate` are calibrated, and how far they are off: the tables of docs/estimates.md.
//!
//! cargo run -p akida-tests --example estimates
//!
//! Published figures are those of targets.md 5.1 and 5.2.

use akida_hal::mesh::Mesh;
use akida_runtime::estimate::REFERENCE_DENSITY;
use akida_runtime::mapping::Mode;
use akida_runtime::model::Target;
use akida_tests::published::{Row, fit, predicted, published};
use akida_tests::zoo;

fn main() {
    let rows = published();
    println!(
        "| network | mode | NPs, passes: published | ours | density | cycles, published | estimate | estimate with the network left out |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let (mut own, mut left_out) = (Vec::new(), Vec::new());
    for row in &rows {
        let others: Vec<&Row> = rows.iter().filter(|r| r.model.name != row.model.name).collect();
        let (now, without) = (row.estimate().cycles as f64, predicted(row, fit(&others)));
        own.push((now / row.cycles).ln().abs());
        left_out.push((without / row.cycles).ln().abs());
        println!(
            "| {}, {} classes | {:?} | {}, {} | {}, {} | {:.2} | {} | {now} ({:+.0} %) | {without:.0} ({:+.0} %) |",
            row.model.name,
            row.model.tensor(row.model.outputs[0].tensor).elements(),
            row.mode,
            row.shape[0],
            row.shape[1],
            row.nps(),
            row.sequence().passes.len(),
            row.density * REFERENCE_DENSITY,
            row.cycles,
            (now / row.cycles - 1.0) * 100.0,
            (without / row.cycles - 1.0) * 100.0,
        );
    }
    let mean = |v: &[f64]| (v.iter().sum::<f64>() / v.len() as f64).exp();
    let most = |v: &[f64]| v.iter().copied().fold(0.0, f64::max).exp();
    println!("\ncoefficients of all rows: {:?}", fit(&rows.iter().collect::<Vec<_>>()));
    println!("error factor, typical and largest: {:.2} {:.2}", mean(&own), most(&own));
    println!("with the network left out:         {:.2} {:.2}\n", mean(&left_out), most(&left_out));

    println!("| network | dynamic mJ, published | estimate | total mJ, estimate |");
    println!("| --- | --- | --- | --- |");
    for row in &rows {
        let energy = row.estimate().energy;
        let off = (energy.dynamic_mj / row.millijoules - 1.0) * 100.0;
        println!(
            "| {} {:?} | {} | {:.3} ({off:+.0} %) | {:.3} |",
            row.model.name, row.mode, row.millijoules, energy.dynamic_mj, energy.total_mj
        );
    }

    let (target, mesh) = (Target::Akd1000, Mesh::akd1000());
    let keywords = rows[0].density;
    let other = [
        Row::new(zoo::akidanet(target, 2, 224, 1000), &mesh, Mode::AllNps, [68, 1], 13_733_572.0, 1.48),
        Row { density: keywords, ..Row::new(zoo::ds_cnn(target, 33), &mesh, Mode::AllNps, [65, 1], 93_965.0, 0.0) },
    ];
    println!("\nAKD1000, not used for the calibration:");
    for row in &other {
        let e = row.estimate();
        println!(
            "{} on {} NPs (published {}): {} cycles, published {} ({:+.0} %); {:.1} fps, dynamic {:.3} mJ",
            row.model.name,
            row.nps(),
            row.shape[0],
            e.cycles,
            row.cycles,
            (e.cycles as f64 / row.cycles - 1.0) * 100.0,
            e.fps,
            e.energy.dynamic_mj
        );
    }
}

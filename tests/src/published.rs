//! Published cycles and energies of Akida 1.0 chips, and estimates beside them (docs/estimates.md).
//!
//! Figures are those of targets.md 5.1. The networks have their shapes and random weights; how many of their activations are
//! 0 is not published.

use akida_hal::mesh::Mesh;
use akida_runtime::estimate::{Densities, Estimate, estimate};
use akida_runtime::mapping::{HardwareSequence, MapOptions, Mapping, Mode, Placed, cost, map};
use akida_runtime::model::{Model, Target};

use crate::zoo;

/// A published figure and what is mapped for it.
pub struct Row {
    /// Shapes of the network, random weights.
    /// How NPs are used.
    pub model: Model,
    /// Hardware only.
    pub mapping: Mapping,
    /// How NPs are used.
    pub mode: Mode,
    /// NPs with the HRC, and passes, as published.
    pub shape: [usize; 2],
    /// Of an inference, published.
    pub cycles: f64,
    /// Dynamic, published.
    pub millijoules: f64,
    /// Of activations, beside [`akida_runtime::estimate::REFERENCE_DENSITY`].
    pub density: f64,
}

impl Row {
    /// Maps the network.
    pub fn new(model: Model, mesh: &Mesh, mode: Mode, shape: [usize; 2], cycles: f64, millijoules: f64) -> Self {
        let options = MapOptions { hw_only: true, mode, ..MapOptions::default() };
        let mapping = map(&model, mesh, &options).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        let density = 1.0;
        Self { model, mapping, mode, shape, cycles, millijoules, density }
    }

    /// All of it is one.
    pub fn sequence(&self) -> &HardwareSequence {
        self.mapping.hardware().next().expect("hardware only")
    }

    /// Multiply-adds and inputs of the busiest NPs, words configured, and what has no coefficient.
    pub fn terms(&self) -> ([f64; 3], f64) {
        let (mut terms, mut fixed) = ([0.0; 3], 0.0);
        let sequence = self.sequence();
        for parts in sequence.passes.iter().flat_map(|p| p.placed.chunk_by(|a, b| a.part.layer == b.part.layer)) {
            let inputs = |p: &Placed| p.part.held_inputs() as u64;
            if parts[0].kind.is_empty() {
                fixed += inputs(&parts[0]) as f64;
                continue;
            }
            let busiest = parts.iter().max_by_key(|p| cost::part_millicycles(false, p.macs, inputs(p)));
            let busiest = busiest.expect("a layer has parts");
            terms[0] += busiest.macs as f64 * self.density;
            terms[1] += inputs(busiest) as f64 * self.density;
        }
        if sequence.passes.len() > 1 {
            let placed = sequence.passes.iter().flat_map(|p| &p.placed);
            terms[2] = placed.map(|p| cost::configured_words(&p.sram)).sum::<u64>() as f64;
        }
        (terms, fixed)
    }

    /// With its density.
    pub fn estimate(&self) -> Estimate {
        let densities = Densities::assumed(&self.model).scaled(self.density);
        estimate(&self.model, &self.mapping, &densities).expect("Akida 1.0")
    }

    /// NPs with the HRC, over all passes.
    pub fn nps(&self) -> usize {
        self.sequence().passes.iter().map(|p| p.placed.len()).sum()
    }
}

/// Least squares of relative errors with coefficients that are not negative.
pub fn fit(rows: &[&Row]) -> [f64; 3] {
    let mut used = vec![0, 1, 2];
    loop {
        let n = used.len();
        let mut matrix = vec![vec![0.0; n + 1]; n];
        for row in rows {
            let (terms, fixed) = row.terms();
            for (i, &a) in used.iter().enumerate() {
                for (j, &b) in used.iter().enumerate() {
                    matrix[i][j] += terms[a] * terms[b] / row.cycles.powi(2);
                }
                matrix[i][n] += terms[a] * (row.cycles - fixed) / row.cycles.powi(2);
            }
        }
        for i in 0..n {
            for j in (0..n).filter(|&j| j != i) {
                let factor = matrix[j][i] / matrix[i][i];
                let pivot = matrix[i].clone();
                matrix[j].iter_mut().zip(pivot).for_each(|(value, of_pivot)| *value -= factor * of_pivot);
            }
        }
        let found: Vec<f64> = (0..n).map(|i| matrix[i][n] / matrix[i][i]).collect();
        match found.iter().position(|&x| x < 0.0) {
            Some(negative) => drop(used.remove(negative)),
            None => {
                let mut all = [0.0; 3];
                used.iter().zip(found).for_each(|(&i, x)| all[i] = x);
                return all;
            }
        }
    }
}

/// Cycles of a row by these coefficients.
pub fn predicted(row: &Row, coefficients: [f64; 3]) -> f64 {
    let (terms, fixed) = row.terms();
    fixed + terms.iter().zip(coefficients).map(|(a, b)| a * b).sum::<f64>()
}

/// All figures of the AKD1500 whose networks have known shapes.
pub fn published() -> Vec<Row> {
    use Mode::{AllNps, HwPr, Minimal};
    let (target, mesh) = (Target::Akd1500, Mesh::akd1500());
    let net = |quarters, size, classes| zoo::akidanet(target, quarters, size, classes);
    let row = |model, mode, shape, cycles, mj| Row::new(model, &mesh, mode, shape, cycles, mj);
    let mut rows = vec![
        row(zoo::ds_cnn(target, 12), Minimal, [6, 1], 134_806.0, 0.008),
        row(zoo::ds_cnn(target, 12), AllNps, [31, 1], 45_638.0, 0.010),
        row(net(1, 96, 2), Minimal, [17, 1], 1_743_040.0, 0.116),
        row(net(1, 96, 2), AllNps, [29, 1], 1_325_867.0, 0.116),
        row(net(2, 224, 38), Minimal, [34, 2], 36_418_493.0, 3.948),
        row(net(2, 224, 38), AllNps, [59, 2], 18_314_559.0, 3.887),
        row(net(1, 160, 1000), Minimal, [21, 1], 8_417_975.0, 0.619),
        row(net(1, 160, 1000), AllNps, [33, 1], 5_554_226.0, 0.610),
        row(net(1, 160, 1000), HwPr, [107, 4], 3_210_457.0, 0.632),
        row(net(1, 224, 1000), Minimal, [23, 1], 14_867_433.0, 1.200),
        row(net(1, 224, 1000), HwPr, [110, 4], 4_613_118.0, 1.215),
        row(net(2, 160, 1000), Minimal, [25, 1], 24_259_988.0, 2.010),
        row(net(2, 160, 1000), HwPr, [107, 4], 8_233_113.0, 2.025),
        row(net(2, 224, 1000), Minimal, [33, 1], 36_261_735.0, 3.944),
        row(net(2, 224, 1000), HwPr, [130, 5], 11_024_084.0, 3.985),
        row(net(4, 160, 1000), Minimal, [69, 3], 38_299_862.0, 7.163),
        row(net(4, 160, 1000), AllNps, [79, 3], 32_085_266.0, 7.057),
        row(net(4, 160, 1000), HwPr, [130, 5], 23_211_956.0, 7.037),
        row(net(4, 224, 1000), Minimal, [117, 4], 50_512_691.0, 14.492),
        row(net(4, 224, 1000), HwPr, [132, 5], 41_274_237.0, 14.496),
    ];
    // Energy tells how dense the activations of two networks are that have others than the rest.
    for name in ["DS-CNN", "AkidaNet 0.25/96"] {
        let of: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].model.name == name).collect();
        let ratio = |&i: &usize| rows[i].millijoules / rows[i].estimate().energy.dynamic_mj;
        let mean = of.iter().map(ratio).sum::<f64>() / of.len() as f64;
        of.into_iter().for_each(|i| rows[i].density = mean);
    }
    rows
}

//! Estimates beside published figures, and what they must do whatever the figures are.

use akida_hal::mesh::Mesh;
use akida_runtime::estimate::{CYCLES_ERROR, Densities, estimate};
use akida_runtime::mapping::{MapOptions, Mode, Sequences, map};
use akida_runtime::model::Target;
use akida_tests::published::{Row, fit, predicted, published};
use akida_tests::{generate, zoo};

/// The errors that docs/estimates.md and every estimate state hold for networks that the calibration has not seen.
#[test]
fn cycles_of_networks_left_out_are_within_the_stated_factors() {
    let rows = published();
    let mut errors = Vec::new();
    for row in &rows {
        let others: Vec<&Row> = rows.iter().filter(|r| r.model.name != row.model.name).collect();
        let off = (predicted(row, fit(&others)) / row.cycles).ln().abs();
        assert!(off.exp() <= CYCLES_ERROR[1], "{} {:?}: factor {:.2}", row.model.name, row.mode, off.exp());
        errors.push(off);
        // The constants are those of the fit over all, rounded.
        let own = (row.estimate().cycles as f64 / predicted(row, fit(&rows.iter().collect::<Vec<_>>()))).ln().abs();
        assert!(own < 0.1, "{} {:?}: constants are {own} off the fit", row.model.name, row.mode);
        let energy = row.estimate().energy;
        let dynamic = (energy.dynamic_mj / row.millijoules).ln().abs();
        // Published with one digit for the smallest.
        assert!(dynamic < if row.millijoules < 0.02 { 0.3 } else { 0.05 }, "{}: {energy:?}", row.model.name);
        assert!((energy.total_mj - energy.floor_mj - energy.dynamic_mj).abs() < 1e-9);
    }
    let typical = (errors.iter().sum::<f64>() / errors.len() as f64).exp();
    assert!(typical <= CYCLES_ERROR[0], "typically {typical}");
}

#[test]
fn estimates_follow_sparsity_and_say_what_they_are() {
    for (target, mesh) in [(Target::Akd1000, Mesh::akd1000()), (Target::Akd1500, Mesh::akd1500())] {
        let model = zoo::ds_cnn(target, 12);
        let mapping =
            map(&model, &mesh, &MapOptions { mode: Mode::Minimal, ..MapOptions::default() }).expect("it maps");
        let half = Densities::assumed(&model);
        let of = |densities: &Densities| estimate(&model, &mapping, densities).expect("Akida 1.0");
        let (all, less) = (of(&half), of(&half.scaled(0.5)));
        assert!(less.cycles < all.cycles && less.energy.dynamic_mj < all.energy.dynamic_mj, "{less:?} {all:?}");
        // Layers that follow each other take what all of them take.
        assert_eq!(all.cycles, all.layers.iter().map(|l| l.cycles).sum::<u64>() + all.configuring_cycles);
        assert!(all.text().starts_with("estimate, not a measurement"), "{}", all.text());
        assert!(mapping.text(&model).contains("estimate, not a measurement"));
        assert_eq!(mapping.json(&model)["estimate"]["kind"], "estimate, not a measurement");
    }
    let model = generate::model(Target::Akida2, 3);
    let mapping = map(&model, &Mesh::akida2_six_nodes(), &MapOptions::default()).expect("it maps");
    assert!(estimate(&model, &mapping, &Densities::assumed(&model)).is_err());
    assert!(mapping.json(&model)["estimate"].is_null());
}

/// Sparsity is counted on the tensors of the reference.
#[test]
fn densities_are_those_of_the_reference() {
    use akida_runtime::reference::{Reference, Rules};
    for seed in 0..30 {
        let model = generate::model(Target::Akd1000, seed);
        let mut random = generate::Random::new(seed);
        let samples: Vec<Vec<u8>> = (0..2).map(|_| random.sample(&model.input.tensor)).collect();
        let densities = Densities::measure(&model, samples.iter().map(Vec::as_slice)).expect("inputs of the model");
        let mut reference = Reference::new(&model, Rules::Chip);
        let tensors: Vec<_> = samples.iter().map(|s| reference.run(s).expect("a sample").to_vec()).collect();
        for tensor in 0..=model.layers.len() {
            let set = tensors.iter().flat_map(|t| &t[tensor]).filter(|v| **v != 0).count();
            let share = set as f64 / (2 * model.tensor(tensor).elements()) as f64;
            assert!((densities.of(tensor) - share).abs() < 1e-12, "seed {seed} tensor {tensor}");
        }
    }
}

/// What a layer computes does not depend on how it is cut: without cuts and crops the mapper counts what the model does.
#[test]
fn multiply_adds_of_uncut_layers_are_those_of_the_model() {
    let (mut compared, mut depthwise) = (0, 0);
    for (target, mesh) in [
        (Target::Akida2, Mesh::akida2_six_nodes()),
        (Target::Akd1000, Mesh::akd1000()),
        (Target::Akd1500, Mesh::akd1500()),
    ] {
        for seed in 0..300 {
            let model = generate::model(target, seed);
            // Widened 1x1 kernels multiply zeros too, which the model does not count.
            let options = MapOptions {
                mode: Mode::Minimal,
                sequences: Sequences::All,
                pointwise_stride_2: true,
                ..MapOptions::default()
            };
            let mapping = map(&model, &mesh, &options).expect("it maps");
            for plan in mapping.hardware().flat_map(|h| &h.passes) {
                for parts in plan.placed.chunk_by(|a, b| a.part.layer == b.part.layer) {
                    let part = &parts[0].part;
                    let whole = parts.len() == 1
                        && parts[0].role == akida_runtime::mapping::stage::Role::Layer
                        && matches!(part.pool, akida_hal::np::Pool::None | akida_hal::np::Pool::Global)
                        && part.crop == [0, 0];
                    if !whole {
                        continue;
                    }
                    let (layer, macs) = (parts[0].layer, model.macs()[parts[0].layer]);
                    let exact = part.op == akida_hal::np::Op::Dense || part.pool == akida_hal::np::Pool::Global || {
                        let made = [part.out_rows.len, part.out_columns.len];
                        made == part.conv
                    };
                    if exact {
                        assert_eq!(parts[0].macs, macs, "{target} seed {seed}: {}", model.layers[layer].name);
                        compared += 1;
                        depthwise += usize::from(format!("{:?}", part.op).contains("Depthwise"));
                    }
                }
            }
        }
    }
    println!("{compared} layers, {depthwise} of them depthwise");
    assert!(compared > 500 && depthwise > 30, "{compared} {depthwise}");
}

//! Random networks on simulated boards, through the driver: every integer is that of the reference.
//!
//! A usual run takes a few hundred networks. `AKIDA_SEEDS=0..2000` (what `.ci/run` asks for; `tests/nightly` more) takes so
//! many for Akida 2.0 and as many for both chips of Akida 1.0; `AKIDA_SEEDS=17..18` is one network again. Each network is
//! on one board, in one mode: the seed says which.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::mapping::{HostStep, MapOptions, Mapping, Mode, Sequence, Sequences};
use akida_runtime::model::{Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Detail, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::generate::{self, Census, Random};

/// What `AKIDA_SEEDS=FIRST..END` asks for, else `0..usual`.
fn seeds(usual: u64) -> Range<u64> {
    let Ok(asked) = std::env::var("AKIDA_SEEDS") else { return 0..usual };
    let range = asked.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range.unwrap_or_else(|| panic!("AKIDA_SEEDS={asked} is not FIRST..END"))
}

/// What came of a network.
#[derive(Default)]
struct Tally {
    census: Census,
    networks: u64,
    /// Networks with nothing on the board.
    on_host: u64,
    /// Layers, and those on the board.
    layers: [u64; 2],
    /// Rules that put layers on the host.
    rules: BTreeMap<&'static str, u64>,
    failures: Vec<String>,
}

/// Runs one network on one board.
fn run(target: Target, seed: u64, tally: &Mutex<Tally>) -> Result<(), String> {
    let model = Arc::new(generate::model(target, seed));
    let mut random = Random::new(seed ^ 0x5eed);
    let inputs: Vec<Vec<u8>> = (0..3).map(|_| random.sample(&model.input.tensor)).collect();
    let board = match target {
        Target::Akd1000 => BoardModel::Akd1000,
        Target::Akd1500 => BoardModel::Akd1500,
        Target::Akida2 => random.one(&[BoardModel::Akida2TwoNodes, BoardModel::Akida2SixNodes]),
    };
    // Akida 2.0 has no passes, which is what the third mode is about.
    let modes = [Mode::Minimal, Mode::AllNps, Mode::HwPr];
    let mode = random.one(if target == Target::Akida2 { &modes[..2] } else { &modes });
    let sequences = random.one(&[Sequences::All, Sequences::All, Sequences::Auto]);
    // All tensors need a program each: one network in four.
    let detail = if random.once_in(4) { Detail::AllTensors } else { Detail::Outputs };
    let what = format!("on {board}, {mode:?}, {sequences:?}, {detail:?}");
    let say = |e: &dyn Error| {
        let mut text = format!("{what}: {e}");
        let mut source = e.source();
        while let Some(inner) = source {
            text.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        text
    };

    let mut reference = Reference::new(&model, Rules::Chip);
    let expected: Result<Vec<_>, _> = inputs.iter().map(|sample| reference.run(sample)).collect();
    let expected = expected.map_err(|e| say(&e))?;
    let sim = SimBoard::open(&SimSpec::new(board)).map_err(|e| say(&e))?;
    let device = Device::open(Arc::new(sim), DeviceOptions::default()).map_err(|e| say(&e))?;
    let map = MapOptions { mode, sequences, ..MapOptions::default() };
    let options = SessionOptions { map, ..SessionOptions::default() };
    let mut session = Session::open(model.clone(), device, options).map_err(|e| say(&e))?;
    count(&model, session.mapping(), tally);

    let outputs = session.infer_with(Batch::Bytes(&inputs), detail).map_err(|e| say(&e))?;
    // Inner tensors first: the first that differs is where it goes wrong.
    let inner = outputs.intermediates.iter().map(|i| (i.tensor, &i.values));
    for (tensor, values) in inner.chain(model.outputs.iter().map(|o| o.tensor).zip(&outputs.raw)) {
        let t = model.tensor(tensor);
        for (sample, expected) in expected.iter().enumerate() {
            let wanted = t.layout.to_onnx(&expected[tensor], t.shape);
            let found = values.outer_iter().nth(sample).map(|v| v.iter().copied().collect::<Vec<i32>>());
            let found = found.unwrap_or_default();
            if wanted != found {
                let first = wanted.iter().zip(&found).position(|(a, b)| a != b);
                let of = |v: &[i32]| first.and_then(|i| v.get(i).copied());
                let (w, f) = (of(&wanted), of(&found));
                return Err(format!(
                    "{what}: {} {:?} sample {sample} element {first:?} is {f:?}, not {w:?}",
                    t.name, t.shape
                ));
            }
        }
    }
    Ok(())
}

/// Counts what was drawn and where it is mapped.
fn count(model: &Model, mapping: &Mapping, tally: &Mutex<Tally>) {
    let mut on_board = vec![true; model.layers.len()];
    let mut tally = tally.lock().unwrap_or_else(|e| e.into_inner());
    for (step, reason) in mapping.host_steps() {
        *tally.rules.entry(reason.rule).or_default() += 1;
        if let HostStep::Layer(layer) = step {
            on_board[*layer] = false;
        }
    }
    tally.census.add(model, |layer| on_board[layer]);
    tally.networks += 1;
    tally.on_host += u64::from(!mapping.sequences.iter().any(|s| matches!(s, Sequence::Hardware(_))));
    tally.layers[0] += on_board.len() as u64;
    tally.layers[1] += on_board.iter().filter(|&&b| b).count() as u64;
}

/// Runs the networks of these seeds, on as many threads as there are processors.
fn all(seeds: Range<u64>, target_of: fn(u64) -> Target) -> Tally {
    let tally = Mutex::new(Tally::default());
    let next = AtomicU64::new(seeds.start);
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let target = target_of(seed);
                    let result = catch_unwind(AssertUnwindSafe(|| run(target, seed, &tally)));
                    let result = result.unwrap_or_else(|_| Err("a panic, see above".into()));
                    if let Err(e) = result {
                        let failure = format!("AKIDA_SEEDS={seed}..{} ({target}): {e}", seed + 1);
                        println!("FAILED {failure}");
                        tally.lock().unwrap_or_else(|e| e.into_inner()).failures.push(failure);
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap_or_else(|e| e.into_inner());
    let [layers, on_board] = tally.layers;
    println!("{}", tally.census);
    println!("rules that put layers on the host: {:#?}", tally.rules);
    println!(
        "{} networks (seeds {seeds:?}) in {:.1} s: {on_board} of {layers} layers on boards, {} networks on the host \
         alone, {} failures",
        tally.networks,
        started.elapsed().as_secs_f64(),
        tally.on_host,
        tally.failures.len()
    );
    tally
}

/// Nothing failed; enough was on a board; with many networks everything was.
fn hold(tally: &Tally, targets: &[Target]) {
    assert!(tally.failures.is_empty(), "{} networks failed:\n{}", tally.failures.len(), tally.failures.join("\n"));
    if tally.networks < 100 {
        return;
    }
    let [layers, on_board] = tally.layers;
    assert!(
        tally.on_host * 3 <= tally.networks,
        "{} of {} networks have no layer on a board",
        tally.on_host,
        tally.networks
    );
    assert!(on_board * 2 >= layers, "{on_board} of {layers} layers are on a board");
    if tally.networks >= 1000 {
        for &target in targets {
            assert_eq!(tally.census.missing(target), [""; 0], "never on a board");
        }
    }
}

#[test]
fn akida2_networks_give_the_integers_of_the_reference() {
    hold(&all(seeds(200), |_| Target::Akida2), &[Target::Akida2]);
}

#[test]
fn akida1_networks_give_the_integers_of_the_reference() {
    let target_of = |seed| if seed % 2 == 0 { Target::Akd1000 } else { Target::Akd1500 };
    hold(&all(seeds(200), target_of), &[Target::Akd1000, Target::Akd1500]);
}

//! Jobs of several passes end in registers before they are computed, and are computed together. Nobody may see that, whatever is done to
//! device memory between jobs: a job sees the tracks that were there when each of its passes was played.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use akida_hal::descriptor::{ConfigDescriptor, Direction};
use akida_hal::device::{Device, DeviceOptions, OutputValues};
use akida_hal::memory_map::TOP;
use akida_hal::program::Program;
use akida_hal::regs::{dma, top};
use akida_runtime::mapping::{MapOptions, map};
use akida_runtime::model::Model;
use akida_runtime::reference::{Reference, Rules};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::generate::{Random, again};

const WAIT: Duration = Duration::from_secs(60);

fn program(model: &Model, device: &Device) -> Program {
    let mapping = map(model, device.mesh(), &MapOptions::default()).expect("it fits");
    mapping.hardware().next().expect("it is on the hardware").program.clone()
}

/// Passes of these layers. The last has a track more, which it plays twice: the others are padded with reads.
fn passes(layers: &[Program]) -> Program {
    let mut program = layers[0].clone();
    program.passes = layers.iter().flat_map(|layer| layer.passes.clone()).collect();
    let last = program.passes.last_mut().expect("a pass");
    last.tracks.push(last.tracks[0].clone());
    program
}

struct Bench {
    device: Device,
    /// The config DMA's.
    descriptors: Vec<ConfigDescriptor>,
}

impl Bench {
    fn new(spec: &SimSpec, program: &Program) -> Self {
        let board = Arc::new(SimBoard::open(spec).expect("a board"));
        let mut device = Device::open(board, DeviceOptions::default()).expect("a device");
        device.program(program).expect("programmed");
        assert_eq!(device.set_batch(16).expect("a batch"), 16);
        let ring = device.transport().read32(TOP + top::CONFIG_DMA + dma::RING_BASE).expect("a register");
        let count = program.passes.len() * program.passes.iter().map(|p| p.tracks.len()).max().unwrap_or(0);
        let mut bench = Self { device, descriptors: Vec::new() };
        for slot in 0..count as u32 {
            let words: Vec<u32> =
                bench.get(ring + 32 * slot, 32).as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
            let words = words.try_into().expect("eight words");
            bench.descriptors.push(ConfigDescriptor::decode(&words).expect("a descriptor"));
        }
        bench
    }

    fn get(&self, address: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.device.transport().read(address, &mut bytes).expect("memory");
        bytes
    }

    fn put(&self, address: u32, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.device.transport().write(address, &bytes).expect("memory");
    }

    fn fetch(&mut self) -> Option<Vec<i32>> {
        let mut values = OutputValues::U8(Vec::new());
        self.device.fetch_into(WAIT, &mut values).expect("fetched")?;
        Some((0..values.len()).map(|i| values.get(i).expect("inside")).collect())
    }
}

#[test]
fn nobody_sees_that_jobs_of_several_passes_are_late() {
    let mut references: Vec<Reference> = Vec::new();
    let models: Vec<Model> = (0..5).map(again).collect();
    models.iter().for_each(|model| references.push(Reference::new(model, Rules::Chip)));
    let mut run = |layer: usize, values: &[i32]| {
        let bytes: Vec<u8> = values.iter().map(|v| *v as u8).collect();
        references[layer].run(&bytes).expect("it fits").swap_remove(1)
    };
    let (mut outputs, mut patched, mut scribbled) = (0, 0, 0);
    for seed in 0..24 {
        let mut random = Random::new(seed);
        let spec = SimSpec::new(BoardModel::Akida2SixNodes).with_threads(random.size(1, 3));
        let mut layers: Vec<usize> = (0..random.size(2, 4)).collect();
        let programs: Vec<Program> = {
            let board = Arc::new(SimBoard::open(&spec).expect("a board"));
            let device = Device::open(board, DeviceOptions::default()).expect("a device");
            models.iter().map(|model| program(model, &device)).collect()
        };
        let whole = passes(&programs[..layers.len()]);
        let per_pass = whole.passes.last().expect("a pass").tracks.len();
        let mut bench = Bench::new(&spec, &whole);
        let read = bench.descriptors.iter().find(|d| d.direction == Direction::Read).expect("passes are padded").output;
        // The first pass of a job was played at the end of the one before.
        let mut first = layers[0];
        let (mut waiting, mut given, mut over) = (VecDeque::new(), None, None);
        for step in 0..80 {
            let what = format!("seed {seed}, step {step}");
            match random.size(0, 9) {
                0..=4 => {
                    let sample = random.sample(models[0].tensor(0));
                    // Alone, so that it is started at once.
                    if bench.device.enqueue(&sample).expect("enqueued").is_some() {
                        let mut values: Vec<i32> = sample.iter().map(|v| i32::from(*v)).collect();
                        for layer in std::iter::once(first).chain(layers[1..].iter().copied()) {
                            values = run(layer, &values);
                        }
                        waiting.push_back(values);
                        (first, over) = (layers[0], None);
                    }
                }
                // Another layer in the place of one, from the next time on that its pass is played.
                5 => {
                    let pass = random.size(0, layers.len() - 1);
                    layers[pass] = random.size(0, models.len() - 1);
                    let tracks = &programs[layers[pass]].passes[0].tracks;
                    let descriptors = &bench.descriptors[pass * per_pass..][..per_pass];
                    let writes = descriptors.iter().filter(|d| d.direction == Direction::Write);
                    for (track, at) in tracks.iter().chain(&tracks[..1]).zip(writes) {
                        assert_eq!(usize::from(at.input_words), track.words.len(), "layers of one shape");
                        bench.put(at.input, &track.words);
                    }
                    patched += 1;
                }
                // Over what a read that pads a pass has given.
                6 => {
                    let there = bench.get(read, 4);
                    match &over {
                        Some(over) => assert_eq!(there, *over, "{what}: nothing was read since"),
                        None => assert_eq!(there, *given.get_or_insert(there.clone()), "{what}: what is read"),
                    }
                    bench.put(read, &[0x1234_5600 + step]);
                    over = Some((0x1234_5600 + step).to_le_bytes().to_vec());
                    scribbled += 1;
                }
                _ => {
                    let made = bench.fetch();
                    assert!(made == waiting.pop_front(), "{what}: another output");
                    outputs += usize::from(made.is_some_and(|values| values.iter().any(|v| (1..255).contains(v))));
                }
            }
        }
        while let Some(expected) = waiting.pop_front() {
            assert!(bench.fetch() == Some(expected), "seed {seed}: another output at the end");
        }
        assert_eq!(bench.fetch(), None);
    }
    println!("{outputs} outputs that tell something, {patched} passes changed, {scribbled} reads written over");
    assert!(outputs > 200 && patched > 60 && scribbled > 60, "{outputs} {patched} {scribbled}");
}

//! Jobs end in registers before they are computed. Nobody may see that: whatever a driver does next, memory has what it would have
//! if each job had been computed before the next began.

mod bench;
mod programs;

use akida_hal::descriptor::{HrcDescriptor, JobId};
use akida_hal::memory_map::MEMORY;
use akida_hal::np::{Destination, OutputFormat, ScaleRecord};
use akida_hal::regs::{dma, top};
use akida_simulator::mesh::{MeshInput, Network};
use akida_simulator::{Model, SimSpec};
use bench::Bench;
use programs::{Board as Program, Memory, Records, Whole, conv};

const RING: u32 = MEMORY + 0x2_0000;
const IN: u32 = MEMORY + 0x3_0000;
const OUT: u32 = MEMORY + 0x4_0000;
/// Of an output's buffer, and of the header in it.
const APART: u32 = 0x400;
const HEADER: u32 = 32;

const SHAPE: [u16; 3] = [8, 8, 1];
const LEN: usize = 64;

/// A network of one convolution whose output is as large as its input, and its packets.
fn program(model: Model, factor: i8) -> (Vec<u32>, impl Fn(&[u8]) -> Vec<u8>) {
    let mut board = Program::new(model.mesh());
    let mut np = conv(1, SHAPE, SHAPE);
    (np.output_signed, np.input_signed) = (true, true);
    np.destination = Destination::Output(OutputFormat::Dense);
    let weights = [1, -2, 3, 5, factor, 1, 2, 3, -1].to_vec();
    let scale = ScaleRecord { bias: 3, scale: 1, shift: 2, ..ScaleRecord::default() };
    board.place(&Whole::new(np, weights, Records::Scales(vec![scale]))).expect("it fits");
    let network: std::sync::Arc<Network> = board.mesh.network().expect("a network");
    let run = move |input: &[u8]| {
        let values = network.run(MeshInput::Dense(input), &Memory::default(), |output| output.values());
        values.expect("an output").iter().map(|v| *v as u8).collect()
    };
    (board.track, run)
}

struct Case {
    bench: Bench,
    jobs: u16,
}

impl Case {
    fn new(model: Model, threads: usize, track: &[u32]) -> Self {
        let bench = Bench::with(SimSpec::new(model).with_threads(threads));
        assert_eq!(bench.configure(track) & 0xffff, 7, "{model}");
        bench.ring(top::HRC_DMA, RING, 32, 2, 0x8300_0000);
        Self { bench, jobs: 0 }
    }

    fn put(&self, address: u32, bytes: &[u8]) {
        let words: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect();
        self.bench.poke(address, &words);
    }

    fn get(&self, address: u32) -> Vec<u8> {
        self.bench.peek(address, LEN / 4).iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// Hands jobs over with one write: where each has its input, and its output.
    fn jobs(&mut self, jobs: &[(u32, u32)]) {
        let descriptor = |((input, output), job): (&(u32, u32), u16)| {
            let descriptor = HrcDescriptor::dense(JobId(job), SHAPE.map(u32::from), [0, 0], *input, *output);
            descriptor.and_then(|d| d.encode()).expect("a descriptor")
        };
        let descriptors: Vec<_> = jobs.iter().zip(self.jobs + 1..).map(descriptor).collect();
        self.jobs += jobs.len() as u16;
        self.bench.enqueue_all(top::HRC_DMA, &descriptors.iter().map(|d| &d[..]).collect::<Vec<_>>());
        let done = dma::STATUS_JOB.get(self.bench.top(top::HRC_DMA + dma::DESCRIPTOR_STATUS));
        assert_eq!(done, u32::from(self.jobs), "registers tell of all jobs");
    }
}

fn picture(seed: usize) -> Vec<u8> {
    (0..LEN).map(|i| (i * 37 + seed * 101 + i * i * seed) as u8).collect()
}

fn output(place: u32) -> u32 {
    OUT + place * APART
}

#[test]
fn nobody_sees_that_jobs_are_late() {
    let model = Model::Akida2SixNodes;
    let (track, run) = program(model, 4);
    let (other_track, other) = program(model, -7);
    let inputs: Vec<Vec<u8>> = (0..24).map(picture).collect();
    assert_ne!(run(&inputs[1]), other(&inputs[1]), "the networks differ");
    for threads in [1, 2, 3] {
        let new = || {
            let case = Case::new(model, threads, &track);
            inputs.iter().zip(0..).for_each(|(input, i)| case.put(IN + i * APART, input));
            case
        };
        let plain = |i: u32| (IN + i * APART, output(i));
        let expect = |case: &Case, place: u32, expected: Vec<u8>, what: &str| {
            assert_eq!(case.get(output(place) + HEADER), expected, "{what}, output {place}, {threads} threads");
        };

        let mut case = new();
        for group in [0..1, 1..8, 8..9, 9..17, 17..24] {
            case.jobs(&group.map(plain).collect::<Vec<_>>());
        }
        for place in (0..24).rev() {
            expect(&case, place, run(&inputs[place as usize]), "groups that join, read backwards");
        }

        let mut case = new();
        case.jobs(&[plain(0), (output(0) + HEADER, output(1)), (output(1) + HEADER, output(2))]);
        let first = run(&inputs[0]);
        expect(&case, 2, run(&run(&first)), "a chain that is handed over at once");
        expect(&case, 1, run(&first), "a chain that is handed over at once");

        let mut case = new();
        case.jobs(&[plain(0), plain(1)]);
        case.jobs(&[plain(2), (output(1) + HEADER, output(3))]);
        expect(&case, 3, run(&run(&inputs[1])), "an input that is the output of a job before");

        let mut case = new();
        case.jobs(&[plain(0), plain(1)]);
        case.put(IN + APART, &picture(77));
        expect(&case, 1, run(&inputs[1]), "an input that is gone");

        let mut case = new();
        case.jobs(&[plain(0), plain(1), plain(2)]);
        case.put(output(1) + HEADER, &picture(78));
        expect(&case, 1, picture(78), "an output that was written over");
        expect(&case, 2, run(&inputs[2]), "the output behind it");
        expect(&case, 0, run(&inputs[0]), "the output before it");

        let mut case = new();
        case.jobs(&[plain(0), plain(1), (IN + 2 * APART, output(1))]);
        expect(&case, 1, run(&inputs[2]), "two outputs at one place");

        let mut case = new();
        case.jobs(&[plain(0), plain(1)]);
        assert_eq!(case.bench.configure_more(&other_track) & 0xffff, 7);
        expect(&case, 1, run(&inputs[1]), "another network since");
        case.jobs(&[plain(3), plain(4)]);
        expect(&case, 4, other(&inputs[4]), "the other network");

        let mut case = new();
        case.jobs(&[plain(0), plain(1)]);
        let before = case.bench.board.inspect().counters.jobs.len();
        assert!(before >= 2, "an inspection sees jobs");
        expect(&case, 0, run(&inputs[0]), "after an inspection");

        // Nobody fetches these.
        let mut case = new();
        case.jobs(&(0..24).map(plain).collect::<Vec<_>>());
    }
}

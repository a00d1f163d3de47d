//! Products of inputs that are known to be small, which kernel sets may add in fewer bits, against those of plain loops: with inputs that
//! drive sums as far as they go. Depthwise sums too.

mod sets;

use akida_kernels::isa::{Affine, BLOCK, CHUNK, Packed, Panel, Taps};
use akida_kernels::{Kernels, available, scalar};
use proptest::prelude::*;

use sets::sets;

/// What weights are made of.
#[derive(Clone, Copy, Debug)]
enum Weigh {
    /// All there are, alike often.
    Evenly,
    /// Mostly small, as those of trained networks.
    Trained,
    /// Mostly small, and now and then one of the largest.
    Outliers,
    /// The largest of one sign for a filter, of the other for the next.
    Extreme,
    /// The two farthest from 0, at random.
    Signs,
}

#[derive(Clone, Debug)]
struct Case {
    most: u8,
    weigh: Weigh,
    runs: usize,
    run: usize,
    filters: usize,
    count: usize,
    rows: usize,
    seed: u64,
}

/// Reproducible values.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u32) -> i32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * u64::from(below)) >> 32) as i32
    }
}

impl Weigh {
    /// So many filters.
    fn filters(self, filters: usize, each: usize, random: &mut Random) -> Vec<i8> {
        let one = |i: usize, random: &mut Random| match self {
            Weigh::Evenly => random.next(256) - 128,
            Weigh::Trained => random.next(64) + random.next(64) - random.next(64) - random.next(64),
            Weigh::Outliers if random.next(20) == 0 => [-128, 127][random.next(2) as usize],
            Weigh::Outliers => random.next(31) - 15,
            Weigh::Extreme => [127, -128][i / each % 2],
            Weigh::Signs => [127, -128][random.next(2) as usize],
        };
        (0..filters * each).map(|i| one(i, random) as i8).collect()
    }
}

impl Case {
    /// Inputs: in turns those that make the largest sum of some filter, the least, and others.
    fn inputs(&self, weights: &[i8], random: &mut Random) -> (Vec<u8>, [usize; 3]) {
        let (step, run_step) = (self.run + 3, self.run + 64);
        let row_step = self.count * step + self.runs * run_step;
        let mut data: Vec<u8> =
            (0..self.rows * row_step + 64).map(|_| random.next(u32::from(self.most) + 1) as u8).collect();
        for position in 0..self.rows * self.count {
            let filter = random.next(self.filters as u32) as usize;
            let weights = &weights[filter * self.runs * self.run..][..self.runs * self.run];
            for (i, &w) in weights.iter().enumerate() {
                let (row, column) = (position / self.count, position % self.count);
                let at = row * row_step + column * step + i / self.run * run_step + i % self.run;
                match position % 3 {
                    0 => data[at] = if w > 0 { self.most } else { 0 },
                    1 => data[at] = if w < 0 { self.most } else { 0 },
                    _ => {}
                }
            }
        }
        (data, [step, run_step, row_step])
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut random = Random(self.seed);
        let weights = self.weigh.filters(self.filters, self.runs * self.run, &mut random);
        let (data, [step, run_step, row_step]) = self.inputs(&weights, &mut random);
        let panel = Panel { data: &data, step, count: self.count, row_step, rows: self.rows, run_step };
        let packed = Packed::new(&weights, self.filters, self.runs).for_inputs_up_to(self.most);
        compare(&panel, &packed, sets())
    }
}

/// Sums of kernel sets and those of plain loops, of all filters.
fn compare(panel: &Panel<'_>, packed: &Packed, sets: &[&dyn Kernels]) -> Result<(), TestCaseError> {
    let (start, width) = (packed.start(128), packed.width());
    let (blocks, positions) = (0..width / BLOCK, panel.count * panel.rows);
    let mut expected = vec![7; positions * width];
    scalar().multiply(panel, packed, blocks.clone(), &start, &mut expected, width);
    for kernels in sets {
        let mut out = vec![7; positions * width];
        kernels.multiply(panel, packed, blocks.clone(), &start, &mut out, width);
        let told = |i: &usize| i % width < packed.filters();
        let wrong = (0..out.len()).filter(told).find(|&i| out[i] != expected[i]);
        prop_assert!(wrong.is_none(), "{}: sum {wrong:?}", kernels.name());
    }
    Ok(())
}

/// Kernels of 3x3 that move by one: some rows and columns of positions, with inputs that are all as large as they can be, or every other
/// pixel as a filter's tap likes it best or least.
fn squares(
    most: u8,
    weigh: Weigh,
    (channels, filters, rows, count): (usize, usize, usize, usize),
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let weights = weigh.filters(filters, 9 * channels, &mut random);
    let row_step = (count + 2) * channels;
    let mut data: Vec<u8> = (0..(rows + 2) * row_step).map(|_| random.next(u32::from(most) + 1) as u8).collect();
    if random.next(4) == 0 {
        data.fill(most);
    }
    for (place, pixel) in data.chunks_exact_mut(channels).enumerate().filter(|(place, _)| place % 2 > 0) {
        if random.next(2) == 0 {
            continue;
        }
        let filter = random.next(filters as u32) as usize;
        let tap = random.next(9) as usize;
        let taps = &weights[(filter * 9 + tap) * channels..][..channels];
        for (x, &w) in pixel.iter_mut().zip(taps) {
            *x = if (w > 0) == (place % 4 > 1) { most } else { 0 };
        }
    }
    let panel = Panel { data: &data, step: channels, count, row_step, rows, run_step: row_step };
    let packed = Packed::new(&weights, filters, 3).for_inputs_up_to(most);
    // Sets that are emulated have no other way for these.
    compare(&panel, &packed, available())
}

/// Depthwise: as many taps for every filter, some positions.
fn depthwise(
    most: u8,
    weigh: Weigh,
    (taps, filters, positions): (usize, usize, usize),
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let weights = weigh.filters(filters, taps, &mut random);
    let len = positions * filters;
    let value = |tap: usize, element: usize, random: &mut Random| {
        let weight = weights[element % filters * taps + tap];
        match element % 3 {
            0 if weight > 0 => most,
            1 if weight < 0 => most,
            2 => random.next(u32::from(most) + 1) as u8,
            _ => 0,
        }
    };
    let mut row =
        |tap: usize| -> Vec<u8> { (0..len.next_multiple_of(CHUNK)).map(|e| value(tap, e, &mut random)).collect() };
    let rows: Vec<Vec<u8>> = (0..taps).map(&mut row).collect();
    let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    // Sums of 127 * 255 for each tap, made bytes.
    let width = filters.next_multiple_of(BLOCK);
    let all = |value: i32| (0..width).map(|_| value).collect();
    let k = (taps * 127 * usize::from(most) / 100).ilog2() as i32;
    let affine = Affine {
        low: all(-(1 << 24)),
        high: all(1 << 24),
        m: all(1),
        add: all(1 << (k - 1).max(0)),
        k: all(k),
        signed: true,
        ceiling: 255,
        limited: positions.is_multiple_of(2),
    };
    let packed = Taps::new(&weights, filters, taps, 0).for_inputs_up_to(most);
    let end = packed.end(filters, &affine, None);
    let mut expected = vec![7; len];
    scalar().depthwise(&rows, &packed, &end, &mut expected);
    for kernels in sets() {
        let mut out = vec![7; len];
        kernels.depthwise(&rows, &packed, &end, &mut out);
        let wrong = (0..len).find(|&i| out[i] != expected[i]);
        prop_assert!(wrong.is_none(), "{}: {most} {weigh:?} {taps} {filters}, byte {wrong:?}", kernels.name());
    }
    Ok(())
}

fn weigh() -> impl Strategy<Value = Weigh> {
    use Weigh::*;
    prop_oneof![Just(Evenly), Just(Trained), Just(Outliers), Just(Extreme), Just(Signs)]
}

fn most() -> impl Strategy<Value = u8> {
    prop_oneof![Just(1u8), Just(3), Just(15), Just(127), Just(128), Just(160), Just(255), 1u8..]
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1usize..=3, 1usize..=150, 1usize..=70, 1usize..=15, 1usize..=2);
    (most(), weigh(), sizes, any::<u64>()).prop_map(|(most, weigh, (runs, run, filters, count, rows), seed)| Case {
        most,
        weigh,
        runs,
        run,
        filters,
        count,
        rows,
        seed,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sums_of_bounded_inputs_are_exact(case in cases()) {
        case.check()?;
    }

    #[test]
    fn sums_of_squares_are_exact(
        most in most(), weigh in weigh(),
        sizes in (prop::sample::select(&[8usize, 16, 32, 48, 64, 160][..]), 1usize..=90, 1usize..=10, 1usize..=14),
        seed: u64,
    ) {
        squares(most, weigh, sizes, seed)?;
    }

    #[test]
    fn depthwise_sums_of_bounded_inputs_are_exact(
        most in most(), weigh in weigh(), taps in prop_oneof![Just(9usize), 1usize..=12], filters in 1usize..=70,
        positions in 1usize..=9, seed: u64,
    ) {
        depthwise(most, weigh, (taps, filters, positions), seed)?;
    }
}

//! Products of inputs that are known to be small, which kernel sets may add in fewer bits, against those of plain loops: with inputs that
//! drive sums as far as they go.

mod sets;

use akida_kernels::isa::{BLOCK, Packed, Panel};
use akida_kernels::scalar;
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

impl Case {
    fn weights(&self, random: &mut Random) -> Vec<i8> {
        let each = self.runs * self.run;
        let one = |i: usize, random: &mut Random| match self.weigh {
            Weigh::Evenly => random.next(256) - 128,
            Weigh::Trained => random.next(64) + random.next(64) - random.next(64) - random.next(64),
            Weigh::Outliers if random.next(20) == 0 => [-128, 127][random.next(2) as usize],
            Weigh::Outliers => random.next(31) - 15,
            Weigh::Extreme => [127, -128][i / each % 2],
            Weigh::Signs => [127, -128][random.next(2) as usize],
        };
        (0..self.filters * each).map(|i| one(i, random) as i8).collect()
    }

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
        let weights = self.weights(&mut random);
        let (data, [step, run_step, row_step]) = self.inputs(&weights, &mut random);
        let panel = Panel { data: &data, step, count: self.count, row_step, rows: self.rows, run_step };
        let packed = Packed::new(&weights, self.filters, self.runs).for_inputs_up_to(self.most);
        let (start, width) = (packed.start(128), packed.width());
        let blocks = 0..width / BLOCK;
        let positions = self.count * self.rows;
        let mut expected = vec![7; positions * width];
        scalar().multiply(&panel, &packed, blocks.clone(), &start, &mut expected, width);
        for kernels in sets() {
            let mut out = vec![7; positions * width];
            kernels.multiply(&panel, &packed, blocks.clone(), &start, &mut out, width);
            let wrong = out.iter().zip(&expected).position(|(a, b)| a != b);
            prop_assert!(wrong.is_none(), "{}: {self:?}, sum {wrong:?}", kernels.name());
        }
        Ok(())
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let weigh = prop_oneof![
        Just(Weigh::Evenly),
        Just(Weigh::Trained),
        Just(Weigh::Outliers),
        Just(Weigh::Extreme),
        Just(Weigh::Signs)
    ];
    let most = prop_oneof![Just(1u8), Just(3), Just(15), Just(127), Just(128), Just(255), 1u8..];
    let sizes = (1usize..=3, 1usize..=150, 1usize..=70, 1usize..=15, 1usize..=2);
    (most, weigh, sizes, any::<u64>()).prop_map(|(most, weigh, (runs, run, filters, count, rows), seed)| Case {
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
}

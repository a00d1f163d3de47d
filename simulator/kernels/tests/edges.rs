//! Ends before and behind every step of the output, where rounding could put a sum on the wrong side: scales, biases and sums of every size,
//! against the formula, for every kernel set this machine has.

mod sets;

use akida_kernels::*;
use proptest::prelude::*;

use sets::sets;

/// Filters of a case, and how many of the sums around an edge are looked at to either side.
const FILTERS: usize = 24;
const AROUND: i64 = 2;

#[derive(Clone, Debug)]
struct Case {
    m: Vec<u8>,
    k: Vec<i8>,
    bias: Vec<i32>,
    activation: Activation,
    bits: u8,
    signed: bool,
    largest: i64,
}

prop_compose! {
    fn cases()(
        m in prop::collection::vec(1u8.., FILTERS),
        least in prop_oneof![1 => Just(0i8), 3 => 0i8..=20],
        k in prop::collection::vec(0i8..=4, FILTERS),
        // Sums below 2^24 are floats, and may become more than 32 bits.
        size in prop_oneof![1 => Just(24u32), 3 => 4u32..=26],
        bias in prop::collection::vec(any::<i32>(), FILTERS),
        bias_size in 0u32..=22,
        clip in prop::collection::vec(1i32..1 << 20, FILTERS),
        activation in 0u8..3,
        (bits, signed) in prop::sample::select(&[(8, true), (8, false), (4, true), (4, false)][..]),
    ) -> Case {
        let activation = match activation {
            0 => Activation::None,
            1 => Activation::Relu,
            _ => Activation::Clipped(clip),
        };
        let bias = bias.into_iter().map(|bias| bias >> (31 - bias_size)).collect();
        Case { m, k: k.iter().map(|k| k + least).collect(), bias, activation, bits, signed, largest: (1 << size) - 1 }
    }
}

impl Case {
    fn finish(&self) -> Finish {
        Finish {
            arithmetic: Arithmetic::Chip { accumulator_bits: 32 },
            bias: self.bias.clone(),
            activation: self.activation.clone(),
            scale: Some(Scale { m: self.m.clone(), k: self.k.clone() }),
            output_bits: self.bits,
            output_signed: self.signed,
        }
    }

    /// By the formula.
    fn output(&self, sum: i64, f: usize) -> i128 {
        let biased = i128::from(sum) + i128::from(self.bias[f]);
        let active = match &self.activation {
            Activation::Clipped(most) => biased.clamp(0, most[f].into()),
            Activation::Relu => biased.max(0),
            _ => biased,
        };
        let product = (active * i128::from(self.m[f])).clamp(i32::MIN.into(), i32::MAX.into());
        // Half up.
        let scaled = (2 * product + (1 << self.k[f])) >> (self.k[f] + 1);
        let values = 1 << (self.bits - u8::from(self.signed));
        scaled.clamp(if self.signed { -values } else { 0 }, values - 1)
    }

    /// Sums around all that an output of this filter begins at, and the farthest there are.
    fn sums(&self, f: usize) -> Vec<i64> {
        let (m, k, bias) = (i64::from(self.m[f]), self.k[f], i64::from(self.bias[f]));
        // The first sum whose product with the scale, half a step more, is a whole output.
        let edges = (-129..=256).map(|y: i64| ((y << k) - ((1 << k) >> 1)).div_euclid(m) - bias);
        let around = edges.flat_map(|edge| edge - AROUND..=edge + AROUND).filter(|sum| sum.abs() <= self.largest);
        around.chain([-self.largest, self.largest]).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ends_equal_the_formula_around_every_step(case in cases()) {
        let ending = Ending::prepare(case.finish(), FILTERS, case.largest).expect("an ending");
        let by_filter: Vec<Vec<i64>> = (0..FILTERS).map(|f| case.sums(f)).collect();
        let rows = by_filter.iter().map(Vec::len).max().unwrap_or(0);
        // Filters with fewer sums end some of them again.
        let sum = |row: usize, f: usize| by_filter[f][row % by_filter[f].len()];
        let sums: Vec<i32> = (0..rows * FILTERS).map(|i| sum(i / FILTERS, i % FILTERS) as i32).collect();
        for &kernels in sets() {
            let mut made = vec![0; sums.len()];
            ending.row(kernels, &sums, &mut Output::Bytes(&mut made));
            for (i, &made) in made.iter().enumerate() {
                let (row, f) = (i / FILTERS, i % FILTERS);
                let expected = case.output(sum(row, f), f);
                let made = if case.signed { i128::from(made.cast_signed()) } else { i128::from(made) };
                prop_assert_eq!(made, expected, "{}: filter {}, sum {}", kernels.name(), f, sum(row, f));
            }
        }
    }
}

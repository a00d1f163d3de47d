//! Depthwise layers whose columns may be met where they lie: parts of channels, maps and tiles, strides that differ, padding that is not
//! zero, against loops written from the formulas, for every kernel set this machine has.

mod naive;
mod sets;

use akida_kernels::*;
use proptest::prelude::*;

use naive::{Case, Values, run};
use sets::sets;

prop_compose! {
    fn cases()(
        size in (1usize..=9, 1usize..=9),
        (channels, filters) in prop::sample::select(&[(64, 64), (128, 128), (192, 64), (200, 128), (130, 128)][..]),
        stride in (1usize..=2, 1usize..=3),
        pad in (0usize..=2, 0usize..=2),
        extra in (0usize..=2, 0usize..=2),
        pool in prop_oneof![
            5 => Just(Pool::None),
            1 => Just(Pool::Max { size: [2, 2], stride: [2, 2], pad: [0, 0] }),
        ],
        activation in 0u8..4,
        graph: bool,
        (input_signed, output_signed, padded, extreme) in any::<(bool, bool, bool, bool)>(),
        cut in any::<[u16; 5]>(),
        seed: u64,
    ) -> Case {
        let (stride, pad, extra, size): ([_; 2], [_; 2], [_; 2], [_; 2]) = (stride.into(), pad.into(), extra.into(), size.into());
        let conv = [0, 1].map(|a| (size[a] + pad[a] + extra[a]).saturating_sub(3) / stride[a] + 1);
        let whole = naive::output_size(&pool, conv);
        let range = |i: usize, n: usize| {
            let start = usize::from(cut[i]) % n;
            start..start + 1 + usize::from(cut[i + 1]) % (n - start)
        };
        let first = usize::from(cut[4]) % (channels - filters + 1);
        let tile = Tile { rows: range(0, whole[0]), columns: range(2, whole[1]), filters: first..first + filters };
        let mut values = Values::new(seed, extreme);
        let pad_value = if padded { values.bytes(channels) } else { Vec::new() };
        let arithmetic = if graph { Arithmetic::Graph } else { Arithmetic::Chip { accumulator_bits: 16 } };
        let spec = LayerSpec {
            kind: Kind::Depthwise,
            geometry: Geometry { input: [size[0], size[1], channels], kernel: [3, 3], stride, pad, conv },
            input_bits: 8,
            input_signed: input_signed && extreme,
            pad_value,
            pool,
            tile,
            finish: naive::plain(arithmetic),
        };
        values.case(spec, 8, 1, (activation, arithmetic, 8, output_signed))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn columns_equal_the_formulas(case in cases()) {
        let expected = naive::layer(&case);
        for &kernels in sets() {
            prop_assert_eq!(&run(&case, kernels)?, &expected, "{}", kernels.name());
        }
    }
}

//! Every operation against loops written from the formulas, over random shapes, tiles and saturation edges, for every
//! kernel set this machine has.

mod naive;
mod sets;

use akida_kernels::*;
use proptest::prelude::*;

use naive::{Case, Values, run};
use sets::sets;

const KINDS: [Kind; 6] = [
    Kind::Standard,
    Kind::Depthwise,
    Kind::Transposed,
    Kind::DepthwiseTransposed,
    Kind::Separable,
    Kind::DepthwiseTemporal,
];

fn pools() -> impl Strategy<Value = Pool> {
    prop_oneof![
        2 => Just(Pool::None),
        3 => ((1usize..=3, 1usize..=3), (1usize..=3, 1usize..=3), (0usize..=1, 0usize..=1)).prop_map(
            |(size, stride, pad)| Pool::Max {
                size: size.into(),
                stride: stride.into(),
                pad: [pad.0.min(size.0 - 1), pad.1.min(size.1 - 1)],
            }
        ),
        1 => any::<bool>().prop_map(|after_activation| Pool::Global { after_activation }),
    ]
}

fn finishes() -> impl Strategy<Value = (u8, Arithmetic, u8, bool)> {
    // (activation, arithmetic, output bits, signed)
    (
        0u8..6,
        prop_oneof![
            Just(Arithmetic::Graph),
            prop_oneof![8u8..=16, 8u8..=32].prop_map(|accumulator_bits| Arithmetic::Chip { accumulator_bits })
        ],
        prop::sample::select(&[1u8, 2, 4, 8, 32][..]),
        any::<bool>(),
    )
}

prop_compose! {
    fn cases()(
        kind in prop::sample::select(&KINDS[..]),
        input in (1usize..9, prop_oneof![8 => 1usize..9, 1 => 20usize..40], 1usize..6),
        wide in prop::option::weighted(0.2, 30usize..70),
        kernel in (1usize..=5, 1usize..=5),
        stride in (1usize..=3, 1usize..=3),
        pad in (0usize..=3, 0usize..=3),
        extra in (0usize..=2, 0usize..=2),
        filters in prop_oneof![6 => 1usize..40, 1 => 40usize..300],
        frames in 1usize..4,
        pool in pools(),
        finish in finishes(),
        input_bits in prop::sample::select(&[1u8, 2, 4, 8][..]),
        weight_bits in prop::sample::select(&[1u8, 2, 4, 8][..]),
        flags in any::<(bool, bool, bool)>(),
        cut in any::<[u16; 6]>(),
        edges in prop::option::weighted(0.2, prop::array::uniform4(0usize..=2)),
        seed in any::<u64>(),
    ) -> Case {
        let (signed, padded, extreme) = flags;
        let mut channels = wide.unwrap_or(input.2);
        let mut kernel: [usize; 2] = kernel.into();
        let mut stride: [usize; 2] = stride.into();
        let mut pad: [usize; 2] = pad.into();
        if kind == Kind::DepthwiseTemporal {
            channels *= frames;
            (kernel, stride, pad) = ([1, 1], [1, 1], [0, 0]);
        }
        let transposed = matches!(kind, Kind::Transposed | Kind::DepthwiseTransposed);
        let extra = [extra.0, extra.1];
        let size = [input.0, input.1];
        let conv = [0, 1].map(|a| if transposed {
            ((size[a] - 1) * stride[a] + kernel[a]).saturating_sub(2 * pad[a]).max(1) + extra[a]
        } else {
            (size[a] + pad[a] + extra[a]).saturating_sub(kernel[a]) / stride[a] + 1
        });
        // Narrow enough for the sums of a separable layer's depthwise part to be held in 16 bits.
        let narrow = kind == Kind::Separable;
        let mut values = Values::new(seed, extreme);
        let total = match kind {
            Kind::Standard | Kind::Transposed | Kind::Separable => filters,
            Kind::Depthwise | Kind::DepthwiseTransposed => channels,
            Kind::DepthwiseTemporal => channels / frames,
        };
        let whole = naive::output_size(&pool, conv);
        let range = |i: usize, n: usize| {
            let start = usize::from(cut[i]) % n;
            start..start + 1 + usize::from(cut[i + 1]) % (n - start)
        };
        let tile = Tile { rows: range(0, whole[0]), columns: range(2, whole[1]), filters: range(4, total) };
        let bits = |b: u8| if narrow { b.min(4) } else { b };
        let (input_bits, weight_bits) = (bits(input_bits), bits(weight_bits));
        let pad_value = if padded && !transposed && !narrow { values.bytes(channels) } else { Vec::new() };
        let mut case = values.case(
            LayerSpec {
                kind,
                geometry: Geometry { input: [size[0], size[1], channels], kernel, stride, pad, conv },
                input_bits,
                input_signed: signed,
                pad_value,
                pool,
                tile,
                finish: naive::plain(finish.1),
            },
            weight_bits,
            frames,
            finish,
        );
        if let (Some([above, below, left, right]), Kind::Standard) = (edges, kind) {
            // Kernels whose edges no filter uses are made smaller.
            for (i, pixel) in case.weights.chunks_exact_mut(channels).enumerate() {
                let (row, column) = (i / kernel[1] % kernel[0], i % kernel[1]);
                let inside = (above..kernel[0].saturating_sub(below)).contains(&row)
                    && (left..kernel[1].saturating_sub(right)).contains(&column);
                if !inside {
                    pixel.fill(0);
                }
            }
        }
        case
    }
}

prop_compose! {
    /// Long sums, many positions in a row, many filters: what is cut into tiles and parts.
    fn large()(
        input in (1usize..=3, prop_oneof![1usize..6, 12usize..40], prop_oneof![60usize..140, 500usize..900]),
        kernel in prop::sample::select(&[[1usize, 1], [3, 3], [1, 2], [2, 1]][..]),
        stride in 1usize..=2,
        pad in 0usize..=1,
        filters in prop_oneof![1usize..20, 30usize..70],
        depthwise in prop::option::weighted(0.5, prop::sample::select(&[64usize, 100, 128, 192][..])),
        pool in prop_oneof![3 => Just(Pool::None), 1 => any::<bool>().prop_map(|after_activation| Pool::Global { after_activation })],
        finish in finishes(),
        signed: bool,
        seed: u64,
    ) -> Case {
        let channels = if kernel == [3, 3] { input.2.min(140) } else { input.2 };
        // Whole chunks of channels, and others, and two rows at least.
        let (kind, kernel, channels, filters) = match depthwise {
            Some(channels) => (Kind::Depthwise, [3, 3], channels, channels),
            None => (Kind::Standard, kernel, channels, filters),
        };
        let input = (input.0 + usize::from(depthwise.is_some()), input.1);
        let size = [input.0.max(kernel[0]), input.1.max(kernel[1])];
        let pad = if kernel == [1, 1] { 0 } else { pad };
        let conv = [0, 1].map(|a| (size[a] + 2 * pad - kernel[a]) / stride + 1);
        let whole = naive::output_size(&pool, conv);
        let tile = Tile { rows: 0..whole[0], columns: 0..whole[1], filters: 0..filters };
        let spec = LayerSpec {
            kind,
            geometry: Geometry { input: [size[0], size[1], channels], kernel, stride: [stride; 2], pad: [pad; 2], conv },
            input_bits: 8,
            input_signed: signed,
            pad_value: Vec::new(),
            pool,
            tile,
            finish: naive::plain(finish.1),
        };
        Values::new(seed, false).case(spec, 8, 1, finish)
    }
}

prop_compose! {
    /// Every filter meets one channel, all bytes there are.
    fn alone()(
        channels in prop_oneof![5 => 1usize..=20, 1 => 20usize..=70],
        finish in finishes(),
        usual in prop::option::weighted(0.7, 12i8..=16),
        flags in any::<(bool, bool)>(),
        input_bits in prop::sample::select(&[4u8, 7, 8][..]),
        pool in prop_oneof![3 => Just(Pool::None), 1 => pools()],
        seed: u64,
    ) -> Case {
        let (signed, extreme) = flags;
        let size = [16, 16];
        let whole = naive::output_size(&pool, size);
        let spec = LayerSpec {
            kind: Kind::Standard,
            geometry: Geometry { input: [size[0], size[1], channels], kernel: [1; 2], stride: [1; 2], pad: [0; 2], conv: size },
            input_bits,
            input_signed: signed,
            pad_value: Vec::new(),
            pool,
            tile: Tile { rows: 0..whole[0], columns: 0..whole[1], filters: 0..channels },
            finish: naive::plain(finish.1),
        };
        let mut case = Values::new(seed, extreme).case(spec, 8, 1, finish);
        let off = |i: usize| i / channels != i % channels;
        case.weights.iter_mut().enumerate().filter(|(i, _)| off(*i)).for_each(|(_, w)| *w = 0);
        let values = 1usize << input_bits;
        let first = if signed { values / 2 } else { 0 };
        case.input.iter_mut().enumerate().for_each(|(i, x)| *x = (i / channels % values).wrapping_sub(first) as u8);
        // Scales that bytes are not saturated by.
        if let (Some(k), Some(scale)) = (usual, &mut case.spec.finish.scale) {
            scale.k.iter_mut().zip(&scale.m).for_each(|(to, m)| *to = k - (m % 2) as i8);
            case.spec.finish.bias.iter_mut().for_each(|b| *b %= 1 << 12);
        }
        case
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn filters_of_one_channel_equal_the_formulas(case in alone()) {
        let expected = naive::layer(&case);
        for &kernels in sets() {
            prop_assert!(run(&case, kernels)? == expected, "{}", kernels.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn large_layers_equal_the_formulas(case in large()) {
        let expected = naive::layer(&case);
        for &kernels in sets() {
            prop_assert!(run(&case, kernels)? == expected, "{}", kernels.name());
        }
    }

    /// Several samples at once are the samples one by one.
    #[test]
    fn batches_are_their_samples(case in prop_oneof![large(), cases()], samples in 2usize..20) {
        let bytes = case.spec.finish.output_bits != 32;
        let [height, width, channels] = case.spec.geometry.input;
        let shape = [height, width, channels];
        // Every sample another rotation of the case's input.
        let len = case.input.len();
        let input: Vec<u8> = (0..samples).flat_map(|s| (0..len).map(move |i| (i + 7 * s) % len)).map(|i| case.input[i]).collect();
        let weights = Weights { main: &case.weights, pointwise: &case.pointwise };
        for &kernels in sets() {
            let layer = Layer::prepare(case.spec.clone(), weights, kernels)?;
            let mut scratch = Scratch::default();
            let out_len = case.spec.tile.len();
            let mut run = |data: &[u8], samples: usize| -> Result<(Vec<u8>, Vec<i32>), TestCaseError> {
                let view = View::batch(data, shape, samples)?;
                let mut out = (vec![7; out_len * samples], vec![7; out_len * samples]);
                let output = if bytes { Output::Bytes(&mut out.0) } else { Output::Words(&mut out.1) };
                layer.run(&view, &mut scratch, output)?;
                Ok(out)
            };
            let whole = run(&input, samples)?;
            for (s, sample) in input.chunks_exact(len).enumerate() {
                let one = run(sample, 1)?;
                let range = s * out_len..(s + 1) * out_len;
                prop_assert!(whole.0[range.clone()] == one.0 && whole.1[range] == one.1, "{} {s}", kernels.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn layers_equal_the_formulas(case in cases()) {
        let expected = naive::layer(&case);
        for &kernels in sets() {
            prop_assert_eq!(&run(&case, kernels)?, &expected, "{}", kernels.name());
        }
    }

    /// What is said to be never negative is not, and taking it without a sign changes nothing.
    #[test]
    fn signs_that_nothing_has_are_left_out(case in prop_oneof![large(), cases()], absolute: bool) {
        let mut case = case;
        if absolute {
            let weights = case.weights.iter_mut().chain(&mut case.pointwise);
            weights.for_each(|w| *w = w.saturating_abs());
            case.spec.finish.bias.iter_mut().for_each(|b| *b = b.saturating_abs());
        }
        if case.spec.input_signed {
            let positive = (1u8 << (case.spec.input_bits - 1)) - 1;
            case.input.iter_mut().for_each(|b| *b &= positive);
        }
        let expected = naive::layer(&case);
        let weights = Weights { main: &case.weights, pointwise: &case.pointwise };
        for &kernels in sets() {
            let layer = Layer::prepare(case.spec.clone(), weights, kernels)?;
            prop_assert!(!layer.never_negative() || expected.iter().all(|y| *y >= 0), "{}", kernels.name());
        }
        let (signed, bits) = (case.spec.input_signed, case.spec.input_bits);
        case.spec = case.spec.never_negative_in();
        let padded = case.spec.pad_value.iter().any(|p| *p != 0);
        prop_assert_eq!(case.spec.input_signed, signed && (padded || bits == 1));
        for &kernels in sets() {
            prop_assert_eq!(&run(&case, kernels)?, &expected, "{}", kernels.name());
        }
    }

    #[test]
    fn sums_equal_the_formulas(
        positions in 1usize..90, channels in 1usize..9, seed: u64, signed: [bool; 2], wide: bool, chip: bool, small: bool,
    ) {
        let mut values = Values::new(seed, false);
        let (a, b) = (values.bytes(positions * channels), values.bytes(positions * channels));
        // Small shifts are summed in 16 bits where kernels have a way to.
        let most = if small { 7 } else { 32 };
        let shifts = |v: &mut Values| -> Vec<u8> { v.bytes(channels).into_iter().map(|s| s % most).collect() };
        let (a_shift, b_shift) = (shifts(&mut values), shifts(&mut values));
        let k: Vec<i8> = values.bytes(channels).into_iter().map(|s| if small { s as i8 & 15 } else { (s % 64) as i8 - 31 }).collect();
        let arithmetic = if chip { Arithmetic::Chip { accumulator_bits: 32 } } else { Arithmetic::Graph };
        let bits = if wide { 32 } else { 8 };
        let add = Add::prepare(
            a_shift.clone(), b_shift.clone(), (!wide).then(|| k.clone()), signed, bits, arithmetic,
        )?;
        let value = |x: u8, signed| if signed { i128::from(x as i8) } else { i128::from(x) };
        let expected: Vec<i32> = (0..a.len()).map(|i| {
            let c = i % channels;
            let mut sum = value(a[i], signed[0]) * (1 << a_shift[c]) + value(b[i], signed[1]) * (1 << b_shift[c]);
            if chip || wide { sum = sum.clamp(i32::MIN.into(), i32::MAX.into()); }
            if wide { sum as i32 } else { naive::scale(sum, 1, k[c], 8, true, chip) as i32 }
        }).collect();
        if wide {
            let mut out = vec![0; a.len()];
            add.run(&a, &b, Output::Words(&mut out))?;
            prop_assert_eq!(out, expected);
        } else {
            let mut out = vec![0; a.len()];
            add.run(&a, &b, Output::Bytes(&mut out))?;
            prop_assert_eq!(out, expected.into_iter().map(|y| y as u8).collect::<Vec<_>>());
        }
    }
}

#[test]
fn channels_are_joined_and_frames_kept_in_order() {
    let mut out = [0; 10];
    concat(&[1, 2, 3, 4], 2, &[5, 6, 7, 8, 9, 10], 3, &mut out).expect("shapes agree");
    assert_eq!(out, [1, 2, 5, 6, 7, 3, 4, 8, 9, 10]);
    assert!(concat(&[1, 2, 3], 2, &[5, 6, 7, 8, 9, 10], 3, &mut out).is_err());

    let mut fifo = Fifo::new(3, [1, 2, 2]);
    assert_eq!(fifo.push(&[1, 2, 3, 4]).expect("a frame"), [0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3, 4]);
    fifo.push(&[5, 6, 7, 8]).expect("a frame");
    fifo.push(&[9, 9, 9, 9]).expect("a frame");
    assert_eq!(fifo.push(&[0, 1, 2, 3]).expect("a frame"), [5, 6, 9, 9, 0, 1, 7, 8, 9, 9, 2, 3]);
    assert!(fifo.push(&[0; 5]).is_err());
    fifo.reset();
    assert_eq!(fifo.push(&[1, 1, 1, 1]).expect("a frame"), [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]);
}

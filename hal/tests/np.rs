//! The encoding of NP layers: what goes in comes out, what does not fit is named, any words are answered.

use akida_hal::np::fields::{self, Known};
use akida_hal::np::registers::{COUNT, ENCODING, WRITTEN};
use akida_hal::np::*;
use proptest::prelude::*;

fn span(limit: u16) -> impl Strategy<Value = Span> {
    (0..limit).prop_flat_map(move |origin| (1..=limit - origin).prop_map(move |len| Span { origin, len }))
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![Just(Source::Input), (1..=MAX_LAYER).prop_map(Source::Layer)]
}

fn pool() -> impl Strategy<Value = Pool> {
    prop_oneof![
        Just(Pool::None),
        Just(Pool::Global),
        ([1u8..=7, 1u8..=7], [1u8..=7, 1u8..=7], [0u8..=1, 0u8..=1]).prop_map(|(size, stride, pad)| Pool::Max {
            size,
            stride,
            pad
        }),
    ]
}

const OPS: [Op; 7] =
    [Op::Conv, Op::Depthwise, Op::Separable, Op::Transposed, Op::DepthwiseTransposed, Op::Dense, Op::Merge];
const ACTIVATIONS: [Activation; 5] =
    [Activation::None, Activation::Relu, Activation::ReluClipped, Activation::Lut, Activation::Steps];
const WIDTHS: [u8; 4] = [1, 2, 4, 8];

/// What several rules depend on: operation and input shape.
fn stems() -> impl Strategy<Value = (Op, [u16; 3])> {
    prop_oneof![
        [1u16..=40, 1u16..=40, 1u16..=40].prop_map(|input| (Op::Dense, input)),
        (prop::sample::select(&OPS[..]), [1u16..=2048, 1u16..=2048, 1u16..=2047])
            .prop_map(|(op, input)| { (if op == Op::Dense { Op::Conv } else { op }, input) }),
    ]
}

fn geometries() -> impl Strategy<Value = NpLayer> {
    stems().prop_flat_map(|(op, input)| {
        let inputs = if op == Op::Dense { input.iter().product() } else { 1 };
        let filters = if matches!(op, Op::Depthwise | Op::DepthwiseTransposed | Op::Merge) { input[2] } else { 2047 };
        (
            (span(input[0]), span(input[1]), span(inputs), span(filters)),
            ([1u8..=15, 1u8..=15], [1u8..=15, 1u8..=15], [0u8..=15, 0u8..=15], [1u16.., 1u16..]),
            (pool(), span(4095), span(4095), any::<[u16; 2]>()),
            prop::option::of(1u8..=15),
        )
            .prop_map(
                move |((in_rows, in_columns, inputs, filters), (kernel, stride, pad, conv), out, fifo)| {
                    let (pool, mut out_rows, mut out_columns, crop) = out;
                    let pool = if matches!(op, Op::Dense | Op::Merge) { Pool::None } else { pool };
                    let mut crop = [crop[0] % (out_rows.origin + 1), crop[1] % (out_columns.origin + 1)];
                    if op == Op::Dense || pool == Pool::Global {
                        let one = Span { origin: 0, len: 1 };
                        (out_rows, out_columns, crop) = (one, one, [0, 0]);
                    }
                    let inputs = if op == Op::Dense { inputs } else { Span { origin: 0, len: 0 } };
                    let fifo = fifo.filter(|_| matches!(op, Op::Conv | Op::Depthwise)).unwrap_or(0);
                    let (kernel, stride, pad) = if fifo > 0 { ([1, 1], [1, 1], [0, 0]) } else { (kernel, stride, pad) };
                    NpLayer {
                        op,
                        input,
                        in_rows,
                        in_columns,
                        inputs,
                        kernel,
                        stride,
                        pad,
                        conv,
                        pool,
                        out_rows,
                        out_columns,
                        crop,
                        filters,
                        fifo,
                        ..plain()
                    }
                },
            )
    })
}

prop_compose! {
    fn layers()(
        geometry in geometries(),
        layer in 1..=MAX_LAYER,
        inbound in prop_oneof![
            source().prop_map(Inbound::One),
            (source(), source()).prop_map(|(a, b)| Inbound::Add(a, b)),
            (source(), source()).prop_map(|(a, b)| Inbound::Concat(a, b)),
        ],
        destination in prop_oneof![
            (1..=MAX_LAYER).prop_map(Destination::Layer),
            Just(Destination::Output(OutputFormat::Dense)),
            Just(Destination::Output(OutputFormat::Events)),
        ],
        widths in prop::array::uniform3(prop::sample::select(&WIDTHS[..])),
        output_bits in prop::sample::select(&[1u8, 2, 4, 8, 32][..]),
        signs in any::<[bool; 2]>(),
        pad_value in any::<[u8; 3]>(),
        external in prop::option::of(0u8..16),
        activation in prop::sample::select(&ACTIVATIONS[..]),
        accumulator_bits in 8u8..=32,
    ) -> NpLayer {
        let op = geometry.op;
        NpLayer {
            layer,
            inbound,
            destination,
            input_bits: widths[0],
            input_signed: signs[0],
            pad_value,
            weight_bits: widths[1],
            pointwise_bits: if op == Op::Separable { widths[2] } else { 0 },
            external: external.filter(|_| op == Op::Dense),
            activation,
            output_bits,
            output_signed: signs[1],
            accumulator_bits,
            ..geometry
        }
    }
}

fn read(words: [u32; WRITTEN]) -> Result<Option<NpLayer>, NpError> {
    let mut all = [0; COUNT];
    all[..WRITTEN].copy_from_slice(&words);
    // The identity is whatever the NP has there.
    all[0] = 0x0302_1080;
    NpLayer::from_registers(&all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn layers_round_trip(layer in layers()) {
        let words = layer.to_registers()?;
        prop_assert_eq!(words[0], 0);
        prop_assert_eq!(words[WRITTEN - 1], ENCODING);
        prop_assert_eq!(read(words)?, Some(layer));
    }

    /// Whatever decodes encodes to a layer that decodes the same.
    #[test]
    fn any_words_are_a_layer_nothing_or_an_error(layer in layers(), at in 0usize..WRITTEN, word: u32, mask: u32) {
        let mut words = layer.to_registers()?;
        words[at] = words[at] & !mask | word & mask;
        if let Ok(Some(decoded)) = read(words) {
            prop_assert_eq!(read(decoded.to_registers()?)?, Some(decoded));
        }
    }

    #[test]
    fn weights_round_trip(bits in prop::sample::select(&WIDTHS[..]), row in 1usize..80, rows in 1usize..6, seed: u64) {
        let (low, high) = sram::weight_range(bits);
        let span = i64::from(high) - i64::from(low) + 1;
        let weights: Vec<i8> = (0..rows * row)
            .map(|i| (i64::from(low) + (seed.rotate_left(i as u32 * 7) as i64).rem_euclid(span)) as i8)
            .collect();
        let words = sram::pack_weights(&weights, row, bits)?;
        prop_assert_eq!(words.len(), rows * (row * usize::from(bits)).div_ceil(32));
        prop_assert_eq!(sram::unpack_weights(&words, rows, row, bits)?, weights);
    }

    #[test]
    fn records_round_trip(words: [u32; 4], merge: u32) {
        let [bias, maximum, factors, _] = words;
        prop_assert_eq!(ScaleRecord::from_words(words).to_words(), [bias, maximum, factors, 0]);
        prop_assert_eq!(ThresholdRecord::from_words([bias, maximum]).to_words(), [bias, maximum]);
        prop_assert_eq!(MergeRecord::from_word(merge).to_word(), merge & 0x00FF_FFFF);
    }

    #[test]
    fn tables_round_trip(table in prop::collection::vec(any::<i16>(), sram::LUT_ENTRIES)) {
        prop_assert_eq!(sram::unpack_lut(&sram::pack_lut(&table)?)?, table);
    }
}

fn plain() -> NpLayer {
    let all = |len| Span { origin: 0, len };
    NpLayer {
        layer: 1,
        inbound: Inbound::One(Source::Input),
        destination: Destination::Output(OutputFormat::Dense),
        op: Op::Conv,
        input: [8, 8, 3],
        input_bits: 8,
        input_signed: true,
        in_rows: all(8),
        in_columns: all(8),
        inputs: all(0),
        kernel: [3, 3],
        stride: [1, 1],
        pad: [1, 1],
        pad_value: [0; 3],
        conv: [8, 8],
        pool: Pool::None,
        out_rows: all(8),
        out_columns: all(8),
        crop: [0, 0],
        filters: all(4),
        fifo: 0,
        weight_bits: 4,
        pointwise_bits: 0,
        external: None,
        activation: Activation::Relu,
        output_bits: 8,
        output_signed: true,
        accumulator_bits: 28,
    }
}

#[test]
fn fields_share_no_bit_and_ours_lie_where_nothing_is_public() {
    let mut taken = [0u32; COUNT];
    for field in fields::ALL {
        let word = &mut taken[(field.offset / 4) as usize];
        assert_eq!(*word & field.bits.mask(), 0, "{} lies on another field", field.name);
        *word |= field.bits.mask();
        let public = akida_hal::regs::np::FIELDS
            .iter()
            .find(|(offset, _, bits)| *offset == field.offset && bits.mask() & field.bits.mask() != 0);
        assert_eq!(field.known == Known::Public, public.is_some(), "{}: {public:?}", field.name);
    }
    assert_eq!(taken[0], 0, "the identity is read-only");
    assert_eq!(taken[COUNT - 1], 0, "the soft reset is no configuration");
}

/// docs/np-program.md names every field, its place and whether it is public.
#[test]
fn the_page_has_every_field() {
    let page = include_str!("../../docs/np-program.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| 0x")).collect();
    assert_eq!(rows.len(), fields::ALL.len());
    for (field, row) in fields::ALL.iter().zip(rows) {
        let mask = field.bits.mask();
        let (high, low) = (31 - mask.leading_zeros(), mask.trailing_zeros());
        let bits = if high == low { format!("{high}") } else { format!("{high}..{low}") };
        let known = if field.known == Known::Public { "public" } else { "ours" };
        let expected = format!("| 0x{:02X} | {bits} | {} | {known} |", field.offset, field.name);
        assert!(row.starts_with(&expected), "{expected}\n{row}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    type Change = fn(&mut NpLayer);
    let table: [(&str, Change); 22] = [
        ("\"layer id\" takes 1..=253, not 0", |l| l.layer = 0),
        ("\"layer id\" takes 1..=253, not 254", |l| l.layer = 254),
        ("\"first source\" takes 1..=253, not 255", |l| l.inbound = Inbound::One(Source::Layer(255))),
        ("\"spike destination layer\" takes 1..=253, not 254", |l| l.destination = Destination::Layer(254)),
        ("\"inbound bit width\" takes 1..=8, not 3", |l| l.input_bits = 3),
        ("\"outbound width\" takes 1..=8, not 16", |l| l.output_bits = 16),
        ("\"kernel height\" takes 1..=15, not 0", |l| l.kernel[0] = 0),
        ("\"stride horizontal\" takes 1..=15, not 16", |l| l.stride[1] = 16),
        ("\"padding top\" takes 0..=15, not 16", |l| l.pad[0] = 16),
        ("\"i size cut\" takes 1..=2048, not 3000", |l| {
            l.input[0] = 3000;
            l.in_rows.len = 3000;
        }),
        ("\"filter total\" takes 1..=2048, not 2049", |l| l.filters.len = 2049),
        ("\"accumulator bits\" takes 8..=32, not 33", |l| l.accumulator_bits = 33),
        ("\"pool size\" takes 1..=7, not 8", |l| l.pool = Pool::Max { size: [8, 2], stride: [1, 1], pad: [0, 0] }),
        ("\"pad top\" takes 0..=1, not 2", |l| l.pool = Pool::Max { size: [2, 2], stride: [1, 1], pad: [2, 0] }),
        ("input rows 4..4+8 are not inside 0..8", |l| l.in_rows.origin = 4),
        ("filters 2..2+2 are not inside 0..3", |l| (l.op, l.filters) = (Op::Depthwise, Span { origin: 2, len: 2 })),
        ("filters 0..0+0", |l| l.filters.len = 0),
        ("output rows and columns start before the crop", |l| l.crop = [1, 0]),
        ("temporal kernels are 1x1", |l| l.fifo = 3),
        ("only an FNP2 has external weights", |l| l.external = Some(0)),
        ("global pooling and dense layers make one position", |l| l.pool = Pool::Global),
        ("pointwise weights belong to separable layers", |l| l.op = Op::Separable),
    ];
    for (expected, change) in table {
        let mut layer = plain();
        change(&mut layer);
        let message = layer.to_registers().expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn words_that_mean_nothing_are_refused() {
    let good = plain().to_registers().expect("a plain layer");
    let spoilt = |field: &fields::NpField, stored: u32| {
        let mut words = good;
        let word = &mut words[(field.offset / 4) as usize];
        *word = field.bits.set(*word, stored);
        read(words)
    };
    assert_eq!(spoilt(&fields::LAYER, 0), Ok(None));
    assert_eq!(spoilt(&fields::TAG, 7), Err(NpError::Foreign { found: 7, expected: ENCODING }));
    for (field, stored, expected) in [
        (&fields::KERNEL_TYPE, 7, "\"kernel type\" holds 7"),
        (&fields::MERGE, 3, "\"merge\" holds 3"),
        (&fields::OUTBOUND_TYPE, 3, "\"outbound type\" holds 3"),
        (&fields::OUTBOUND_TYPE, 0, "outbound type and destination layer disagree"),
        (&fields::ACTIVATION, 6, "\"activation\" holds 6"),
        (&fields::FNP_MODE, 1, "FNP mode goes with"),
        (&fields::SEPARABLE, 1, "the separable bit goes with"),
        (&fields::WEIGHTS_SIGNED, 0, "1-bit weights are unsigned"),
        (&fields::KERNEL_WIDTH, 0, "\"kernel width\" takes 1..=15, not 0"),
        (&fields::POOL_SIZE, 2, "\"pool size horizontal\" takes 1..=7, not 0"),
        (&fields::HEIGHT, 0, "\"input height\" takes 1..=65535, not 0"),
    ] {
        let message = spoilt(field, stored).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn sizes_are_those_of_what_is_packed() {
    let mut layer = plain();
    // 27 weights of 4 bits: 4 words a kernel.
    assert_eq!((layer.filter_words(), layer.filter_bytes()), (16, 64));
    assert_eq!(layer.packet_bytes(), 8 * 8 * 3);
    assert_eq!((layer.parameter_bytes(2), layer.parameter_bytes(1)), (64, 0));
    layer.activation = Activation::Steps;
    assert_eq!(layer.parameter_bytes(1), 32);
    layer.activation = Activation::Lut;
    assert_eq!(layer.hrc_words(2), 16 + 16 + sram::LUT_WORDS);
    layer.inbound = Inbound::Add(Source::Layer(1), Source::Layer(2));
    layer.fifo = 2;
    assert_eq!((layer.merge_words(), layer.packet_bytes()), (3, (3 + 2 * 48) * 4));

    let separable = NpLayer { op: Op::Separable, pointwise_bits: 2, ..plain() };
    // Three depthwise kernels of 9 weights, 2 words each, then from word 16 four rows of one word.
    assert_eq!((separable.pointwise_start(), separable.filter_words()), (16, 20));

    let dense = NpLayer { op: Op::Dense, inputs: Span { origin: 4, len: 100 }, external: Some(0), ..plain() };
    assert_eq!((dense.filter_words(), dense.filter_bytes(), dense.parameter_bytes(2)), (4 * 13, 0, 0));
    assert_eq!(dense.packet_bytes(), 100);
}

#[test]
fn contents_out_of_range_are_refused() {
    for (weights, bits) in [(&[0, 2][..], 1), (&[0, -1], 1), (&[2], 2), (&[-9], 4)] {
        assert!(matches!(sram::pack_weights(weights, 1, bits), Err(NpError::Range { field: "weight", .. })));
    }
    assert!(matches!(sram::pack_weights(&[1, 2, 3], 2, 8), Err(NpError::Contents { value: 3, expected: 2, .. })));
    assert!(matches!(sram::unpack_weights(&[0], 2, 4, 8), Err(NpError::Contents { value: 1, expected: 2, .. })));
    assert!(sram::pack_lut(&[0; 100]).is_err());
    assert!(sram::unpack_lut(&[0; 100]).is_err());
}

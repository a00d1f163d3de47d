//! Every documented limit, one step inside and one step outside: the rule that refuses is named.

use std::collections::BTreeSet;

use akida_runtime::mapping::geometry::{Axis, Misfit, PoolAxis, Wanted};
use akida_runtime::mapping::limits::{Class, Facts, RULES, check};
use akida_runtime::model::{Activation, Lut, Pool, ScaleOut};

/// A layer that breaks no rule.
fn plain(generation: u8, class: Class) -> Facts<'static> {
    const STEPS: &Activation = &Activation::Steps { threshold: Vec::new(), step_16ths: Vec::new() };
    let first = class == Class::InputConv;
    let eight = first || (generation == 2);
    let transposed = class == Class::Transposed;
    Facts {
        generation,
        class,
        input: if first { [32, 32, 3] } else { [8, 8, 16] },
        second: Some(([8, 8, 16], if eight { 8 } else { 4 }, generation == 2)),
        input_bits: if eight { 8 } else { 4 },
        input_signed: generation == 2 && !first,
        output_bits: if generation == 2 { 8 } else { 4 },
        kernel: [3, 3],
        stride: if transposed { [2, 2] } else { [1, 1] },
        axes: [Ok(Axis::point()), Ok(Axis::point())],
        conv: [8, 8],
        pool: Pool::None,
        filters: 16,
        weight_bits: if eight { 8 } else { 4 },
        pointwise_bits: (class == Class::Separable).then_some(4),
        activation: Some(if generation == 1 { STEPS } else { &Activation::Relu }),
        bias: false,
        last: false,
        fifo: if class == Class::Temporal { 4 } else { 0 },
        pointwise_stride_2: false,
    }
}

fn max(size: usize, stride: usize) -> Pool {
    Pool::Max { size: [size; 2], stride: [stride; 2], pads: [0; 4] }
}

fn leak(activation: Activation) -> Option<&'static Activation> {
    Some(Box::leak(Box::new(activation)))
}

fn steps(threshold: i32, step: u32) -> Option<&'static Activation> {
    leak(Activation::Steps { threshold: vec![0, threshold], step_16ths: vec![16, step] })
}

fn lut() -> Option<&'static Activation> {
    let scale = ScaleOut { m: vec![1], k: vec![0] };
    leak(Activation::Lut(Box::new(Lut { table: vec![0; 2048], scale })))
}

type Change = fn(&mut Facts<'static>);
const SAME: Change = |_| {};
const OFF_GRID: Change = |f| f.axes[1] = Err(Misfit::Padding { same: [0, 1] });

use Class::{Add, Concat, Conv, Dense, Depthwise, InputConv, Separable, Temporal, Transposed};

/// (rule, layer, one step inside, one step outside).
const CASES: &[(&str, Class, Change, Change)] = &[
    ("akida1.input_conv.rows", InputConv, |f| f.input[0] = 5, |f| f.input[0] = 4),
    ("akida1.input_conv.columns", InputConv, |f| f.input[1] = 5, |f| f.input[1] = 4),
    ("akida1.input_conv.columns", InputConv, |f| f.input[1] = 256, |f| f.input[1] = 257),
    ("akida1.input_conv.channels", InputConv, |f| f.input[2] = 1, |f| f.input[2] = 2),
    ("akida1.input_conv.input_bits", InputConv, SAME, |f| f.input_bits = 4),
    ("akida1.input_conv.input_bits", InputConv, SAME, |f| f.input_signed = true),
    ("akida1.input_conv.kernel", InputConv, |f| f.kernel = [7, 7], |f| f.kernel = [4, 4]),
    ("akida1.input_conv.kernel", InputConv, SAME, |f| f.kernel = [3, 5]),
    ("akida1.input_conv.stride", InputConv, |f| f.stride = [3, 3], |f| f.stride = [4, 4]),
    ("akida1.input_conv.padding", InputConv, SAME, OFF_GRID),
    ("akida1.input_conv.filters", InputConv, |f| f.filters = 192, |f| f.filters = 193),
    (
        "akida1.input_conv.filters",
        InputConv,
        |f| (f.kernel, f.filters) = ([5, 5], 64),
        |f| (f.kernel, f.filters) = ([5, 5], 65),
    ),
    (
        "akida1.input_conv.filters",
        InputConv,
        |f| (f.kernel, f.filters) = ([7, 7], 32),
        |f| (f.kernel, f.filters) = ([7, 7], 33),
    ),
    (
        "akida1.input_conv.filters",
        InputConv,
        |f| (f.input[2], f.filters) = (1, 512),
        |f| (f.input[2], f.filters) = (1, 513),
    ),
    ("akida1.input_conv.pool", InputConv, |f| f.pool = max(2, 2), |f| f.pool = max(2, 1)),
    ("akida1.input_conv.pool", InputConv, SAME, |f| f.pool = Pool::Global),
    ("akida1.input_conv.weight_bits", InputConv, |f| f.weight_bits = 4, |f| f.weight_bits = 1),
    ("akida1.layer.kind", Conv, SAME, |f| f.class = Add),
    ("akida1.layer.kind", Conv, SAME, |f| f.class = Transposed),
    ("akida1.depthwise.fused", Separable, SAME, |f| f.class = Depthwise),
    ("akida1.conv.input_size", Conv, |f| f.input = [4096, 4096, 2048], |f| f.input[0] = 4097),
    ("akida1.conv.input_size", Conv, SAME, |f| f.input[2] = 2049),
    ("akida1.conv.filters", Conv, |f| f.filters = 2048, |f| f.filters = 2049),
    ("akida1.conv.input_bits", Conv, |f| f.input_bits = 1, |f| f.input_bits = 8),
    ("akida1.conv.kernel", Conv, |f| f.kernel = [1, 1], |f| f.kernel = [2, 2]),
    ("akida1.separable.kernel", Separable, |f| f.kernel = [5, 5], |f| f.kernel = [1, 1]),
    ("akida1.conv.stride", Conv, |f| f.stride = [2, 2], |f| (f.stride, f.kernel) = ([2, 2], [5, 5])),
    ("akida1.conv.stride", Conv, SAME, |f| f.stride = [3, 3]),
    ("akida1.conv.padding", Conv, SAME, OFF_GRID),
    ("akida1.conv.max_pool", Conv, |f| f.pool = max(2, 1), |f| f.pool = max(3, 2)),
    (
        "akida1.conv.global_pool.columns",
        Conv,
        |f| (f.pool, f.conv) = (Pool::Global, [3, 32]),
        |f| (f.pool, f.conv) = (Pool::Global, [3, 33]),
    ),
    (
        "akida1.conv.global_pool.rows",
        Conv,
        |f| (f.pool, f.conv) = (Pool::Global, [3, 8]),
        |f| (f.pool, f.conv) = (Pool::Global, [2, 8]),
    ),
    ("akida1.conv.weight_bits", Conv, |f| f.weight_bits = 1, |f| f.weight_bits = 8),
    ("akida1.separable.weight_bits", Separable, |f| f.weight_bits = 2, |f| f.weight_bits = 1),
    ("akida1.separable.weight_bits", Separable, SAME, |f| f.pointwise_bits = Some(8)),
    ("akida1.dense.inputs", Dense, |f| f.input = [1, 1, 57334], |f| f.input = [1, 1, 57335]),
    ("akida1.dense.units", Dense, |f| f.filters = 65535, |f| f.filters = 65536),
    ("akida1.dense.input_bits", Dense, |f| f.input_bits = 2, |f| f.input_bits = 8),
    ("akida1.dense.weight_bits", Dense, |f| f.weight_bits = 1, |f| f.weight_bits = 8),
    (
        "akida1.activation.kind",
        Dense,
        |f| (f.activation, f.last, f.output_bits) = (Some(&Activation::None), true, 32),
        |f| f.activation = Some(&Activation::None),
    ),
    ("akida1.bias", Dense, SAME, |f| f.bias = true),
    ("akida1.bias", InputConv, SAME, |f| f.bias = true),
    ("akida1.activation.kind", Conv, SAME, |f| f.activation = Some(&Activation::Relu)),
    ("akida1.activation.bits", Conv, |f| f.output_bits = 1, |f| f.output_bits = 8),
    (
        "akida1.activation.threshold",
        Conv,
        |f| f.activation = steps((1 << 19) - 1, 1),
        |f| f.activation = steps(1 << 19, 1),
    ),
    (
        "akida1.activation.threshold",
        InputConv,
        |f| f.activation = steps(-(1 << 23), 1),
        |f| f.activation = steps(-(1 << 23) - 1, 1),
    ),
    ("akida1.activation.step", Conv, |f| f.activation = steps(0, (1 << 20) - 1), |f| f.activation = steps(0, 1 << 20)),
    ("akida1.activation.step", InputConv, |f| f.activation = steps(0, 1), |f| f.activation = steps(0, 0)),
    ("akida2.separable.split", Depthwise, SAME, |f| f.class = Separable),
    ("akida2.input_conv.rows", InputConv, |f| f.input[0] = 5, |f| f.input[0] = 4),
    ("akida2.input_conv.columns", InputConv, |f| f.input[1] = 384, |f| f.input[1] = 385),
    ("akida2.input_conv.channels", InputConv, |f| f.input[2] = 1, |f| f.input[2] = 4),
    ("akida2.input_conv.input_bits", InputConv, SAME, |f| f.input_signed = true),
    ("akida2.input_conv.kernel", InputConv, |f| f.kernel = [4, 4], |f| f.kernel = [6, 6]),
    ("akida2.input_conv.stride", InputConv, |f| f.stride = [3, 3], |f| f.stride = [4, 4]),
    (
        "akida2.input_conv.stride",
        InputConv,
        |f| (f.kernel, f.stride) = ([7, 7], [6, 6]),
        |f| (f.kernel, f.stride) = ([7, 7], [7, 7]),
    ),
    ("akida2.input_conv.padding", InputConv, SAME, OFF_GRID),
    ("akida2.input_conv.filters", InputConv, |f| f.filters = 512, |f| f.filters = 513),
    ("akida2.input_conv.pool", InputConv, |f| f.pool = max(3, 2), |f| f.pool = max(3, 1)),
    (
        "akida2.input_conv.pool",
        InputConv,
        |f| f.pool = Pool::Max { size: [3; 2], stride: [2; 2], pads: [1; 4] },
        |f| f.pool = Pool::Max { size: [3; 2], stride: [2; 2], pads: [2, 0, 0, 0] },
    ),
    ("akida2.input_conv.weight_bits", InputConv, SAME, |f| f.weight_bits = 4),
    ("akida2.conv.input_size", Conv, |f| f.input = [4096, 4096, 2048], |f| f.input[1] = 4097),
    ("akida2.conv.filters", Conv, |f| f.filters = 2048, |f| f.filters = 2049),
    ("akida2.conv.input_bits", Conv, |f| f.input_bits = 4, |f| f.input_bits = 2),
    ("akida2.conv.kernel", Conv, |f| f.kernel = [7, 7], |f| f.kernel = [9, 9]),
    ("akida2.depthwise.kernel", Depthwise, |f| f.kernel = [7, 7], |f| f.kernel = [1, 1]),
    (
        "akida2.conv.stride",
        Conv,
        |f| (f.kernel, f.stride, f.pointwise_stride_2) = ([1, 1], [2, 2], true),
        |f| (f.kernel, f.stride) = ([1, 1], [2, 2]),
    ),
    ("akida2.conv.padding", Conv, SAME, OFF_GRID),
    ("akida2.conv.max_pool", Conv, |f| f.pool = max(2, 2), |f| f.pool = max(3, 2)),
    (
        "akida2.conv.global_pool.columns",
        Conv,
        |f| (f.pool, f.conv) = (Pool::Global, [2, 64]),
        |f| (f.pool, f.conv) = (Pool::Global, [2, 65]),
    ),
    (
        "akida2.conv.global_pool.area",
        Conv,
        |f| (f.pool, f.conv) = (Pool::Global, [12, 12]),
        |f| (f.pool, f.conv) = (Pool::Global, [5, 29]),
    ),
    ("akida2.conv.weight_bits", Conv, |f| f.weight_bits = 4, |f| f.weight_bits = 2),
    ("akida2.transposed.kernel", Transposed, |f| f.kernel = [4, 4], |f| f.kernel = [2, 2]),
    ("akida2.transposed.stride", Transposed, SAME, |f| f.stride = [1, 1]),
    ("akida2.transposed.padding", Transposed, SAME, OFF_GRID),
    ("akida2.transposed.pool", Transposed, SAME, |f| f.pool = max(2, 2)),
    ("akida2.transposed.bits", Transposed, SAME, |f| f.weight_bits = 4),
    ("akida2.temporal.fifo", Temporal, |f| f.fifo = 10, |f| f.fifo = 11),
    ("akida2.temporal.fifo", Temporal, |f| f.fifo = 2, |f| f.fifo = 1),
    ("akida2.temporal.bits", Temporal, SAME, |f| f.input_bits = 4),
    ("akida2.dense.inputs", Dense, |f| f.input = [1, 1, 2048], |f| f.input = [1, 1, 2049]),
    ("akida2.dense.units", Dense, |f| f.filters = 65535, |f| f.filters = 65536),
    ("akida2.dense.input_bits", Dense, |f| f.input_bits = 4, |f| f.input_bits = 1),
    ("akida2.dense.weight_bits", Dense, |f| f.weight_bits = 4, |f| f.weight_bits = 2),
    (
        "akida2.activation.lut_with_max_pool",
        Conv,
        |f| f.activation = lut(),
        |f| (f.activation, f.pool) = (lut(), max(2, 2)),
    ),
    ("akida2.activation.lut", Dense, SAME, |f| f.activation = lut()),
    ("akida2.activation.kind", Conv, |f| f.activation = Some(&Activation::None), |f| f.activation = steps(0, 1)),
    ("akida2.activation.bits", Dense, |f| (f.output_bits, f.last) = (32, true), |f| f.output_bits = 32),
    ("akida2.activation.bits", Conv, |f| f.output_bits = 4, |f| f.output_bits = 2),
    ("akida2.activation.bits_8", Add, |f| (f.output_bits, f.last) = (32, true), |f| f.output_bits = 4),
    ("akida2.add.operands", Add, SAME, |f| f.second = Some(([8, 8, 15], 8, true))),
    (
        "akida2.concat.operands",
        Concat,
        |f| f.second = Some(([8, 8, 3], 8, true)),
        |f| f.second = Some(([8, 7, 16], 8, true)),
    ),
    ("akida2.add.bits", Add, SAME, |f| (f.input_bits, f.second) = (4, Some(([8, 8, 16], 4, true)))),
    ("akida2.concat.operands", Concat, SAME, |f| f.second = Some(([8, 8, 16], 8, false))),
];

#[test]
fn each_limit_holds_from_one_step_to_the_next() {
    let mut covered = BTreeSet::new();
    for (i, (rule, class, inside, outside)) in CASES.iter().enumerate() {
        let generation = if rule.starts_with("akida1") { 1 } else { 2 };
        let facts = |change: &Change| {
            let mut facts = plain(generation, *class);
            change(&mut facts);
            facts
        };
        assert_eq!(check(&facts(inside)), Ok(()), "case {i}: {rule} inside");
        let reason = check(&facts(outside)).expect_err(rule);
        assert_eq!(reason.rule, *rule, "case {i}: {reason}");
        assert!(!reason.value.is_empty() && !reason.limit.is_empty() && !reason.remedy.is_empty(), "{reason}");
        covered.insert(*rule);
    }
    let all: BTreeSet<_> = RULES.iter().map(|r| r.id).collect();
    assert_eq!(all.len(), RULES.len(), "a rule id is used twice");
    assert_eq!(all, covered, "every rule has a case");
    assert!(RULES.iter().all(|r| !r.source.is_empty()));
}

/// Paddings of PyTorch users, and what becomes of them.
#[test]
fn paddings_that_are_part_of_same_and_those_that_are_not() {
    let axis = |input, kernel, stride, pads: [usize; 2], upper| {
        let output = (input + pads[0] + pads[1] - kernel) / stride + 1;
        Axis::convolution(&Wanted { input, kernel, stride, pads, pool: PoolAxis::None, output }, upper, false)
            .map(|a| (a.pad, a.first, a.len))
    };
    // VALID, stride 1: the inner part.
    assert_eq!(axis(28, 5, 1, [0, 0], false), Ok((2, 2, 24)));
    // VALID, stride 2, even: SAME without its last position.
    assert_eq!(axis(14, 3, 2, [0, 0], false), Ok((0, 0, 6)));
    // VALID, stride 2, odd: SAME has its windows elsewhere.
    assert_eq!(axis(15, 3, 2, [0, 0], false), Err(Misfit::Padding { same: [1, 1] }));
    // padding=1, stride 2, even: the odd row before. 2.0 only.
    assert_eq!(axis(14, 3, 2, [1, 0], true), Ok((1, 0, 7)));
    assert_eq!(axis(14, 3, 2, [1, 1], true), Ok((1, 0, 7)));
    assert_eq!(axis(14, 3, 2, [1, 1], false), Err(Misfit::Padding { same: [0, 1] }));
    // Larger than SAME.
    assert_eq!(axis(14, 3, 1, [2, 2], true), Err(Misfit::Padding { same: [1, 1] }));
}

//! Networks of Akida 2.0 programmed by packets: cutting a layer changes nothing, weights come from where registers say,
//! and what cannot be computed is refused by name.

mod programs;

use akida_hal::format::InputEvents;
use akida_hal::mesh::Mesh as Topology;
use akida_hal::np::*;
use akida_hal::packet::{PacketHeader, Target, Uid};
use akida_simulator::mesh::{Inputs, MeshError, MeshInput};
use proptest::prelude::*;

use programs::{Board, Records, Whole, conv};

/// Reproducible values.
struct Values(u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn weights(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| self.next() as i8).collect()
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    fn scales(&mut self, n: usize) -> Records {
        let mut record = || ScaleRecord {
            bias: self.next() as i32 % 4096 - 2048,
            max_value: self.next() as i32 % 60_000,
            scale: self.next() as u8,
            shift: 8 + (self.next() % 8) as i8,
            lut_scale: self.next() as u8,
            lut_shift: 8 + (self.next() % 6) as i8,
        };
        Records::Scales((0..n).map(|_| record()).collect())
    }

    fn merge(&mut self, n: usize) -> Vec<MergeRecord> {
        let mut small = || (self.next() % 4) as u8;
        (0..n).map(|_| MergeRecord { a_shift: small(), b_shift: small(), shift: small() as i8 }).collect()
    }

    fn layer(&mut self, np: NpLayer) -> Whole {
        let rows = np.weights();
        let weights = self.weights(rows.map_or(0, |r| r.rows * r.row));
        let records = if np.op == Op::Merge { Records::None } else { self.scales(np.filters.len.into()) };
        let lut =
            if np.activation == Activation::Lut { (0..2048).map(|_| self.next() as i16 / 4).collect() } else { vec![] };
        let merge = if matches!(np.inbound, Inbound::Add(..)) { self.merge(np.input[2].into()) } else { vec![] };
        Whole { lut, merge, ..Whole::new(np, weights, records) }
    }
}

const ACTIVATIONS: [Activation; 4] = [Activation::None, Activation::Relu, Activation::ReluClipped, Activation::Lut];

/// A residual network with every kind of layer that Akida 2.0 has: the first layer on the HRC, a branch that is added, one
/// that is concatenated, depthwise, transposed, temporal, dense.
fn network(v: &mut Values, activation: Activation) -> Vec<Whole> {
    let layer = Source::Layer;
    let mut first = conv(1, [17, 14, 3], [8, 7, 10]);
    (first.input_signed, first.pad_value) = (false, [7, 8, 9]);
    (first.kernel, first.conv, first.accumulator_bits) = ([5, 3], [17, 14], 32);
    first.pad = [2, 1];
    first.pool = Pool::Max { size: [2, 2], stride: [2, 2], pad: [0, 0] };
    first.activation = Activation::Relu;

    let mut second = conv(2, [8, 7, 10], [8, 7, 10]);
    (second.activation, second.destination) = (activation, Destination::Layer(3));

    // The sum is needed twice: by the next convolution and by the concatenation.
    let mut sum = conv(3, [8, 7, 10], [8, 7, 10]);
    (sum.op, sum.inbound, sum.destination) = (Op::Merge, Inbound::Add(layer(1), layer(2)), Destination::Layer(4));

    let mut depthwise = conv(4, [8, 7, 10], [4, 4, 10]);
    (depthwise.op, depthwise.stride, depthwise.conv) = (Op::Depthwise, [2, 2], [4, 4]);
    depthwise.activation = Activation::Relu;

    let mut up = conv(5, [4, 4, 10], [8, 8, 12]);
    (up.op, up.kernel, up.stride, up.pad, up.conv) = (Op::Transposed, [3, 3], [2, 2], [0, 0], [8, 8]);
    up.activation = activation;

    // The inner part of a SAME convolution.
    let mut inner = conv(6, [8, 8, 12], [6, 5, 9]);
    (inner.crop, inner.conv) = ([1, 2], [8, 8]);

    let mut temporal = conv(7, [6, 5, 9], [6, 5, 9]);
    (temporal.kernel, temporal.pad, temporal.fifo, temporal.conv) = ([1, 1], [0, 0], 3, [6, 5]);
    temporal.activation = Activation::Relu;

    let mut depthwise_temporal = conv(8, [6, 5, 9], [6, 5, 9]);
    (depthwise_temporal.op, depthwise_temporal.kernel, depthwise_temporal.pad) = (Op::Depthwise, [1, 1], [0, 0]);
    (depthwise_temporal.fifo, depthwise_temporal.conv) = (2, [6, 5]);

    // Takes 8x7 of a 6x5 map: the rest is 0.
    let mut joined = conv(9, [8, 7, 19], [1, 1, 16]);
    (joined.inbound, joined.pool, joined.activation) =
        (Inbound::Concat(layer(3), layer(8)), Pool::Global, Activation::Relu);
    depthwise_temporal.destination = Destination::Layer(9);

    let mut dense = conv(10, [1, 1, 16], [1, 1, 11]);
    (dense.op, dense.kernel, dense.pad, dense.conv) = (Op::Dense, [1, 1], [0, 0], [1, 1]);
    dense.inputs = Span { origin: 0, len: 16 };
    (dense.output_bits, dense.destination) = (32, Destination::Output(OutputFormat::Dense));

    [first, second, sum, depthwise, up, inner, temporal, depthwise_temporal, joined, dense]
        .map(|np| v.layer(np))
        .into_iter()
        .enumerate()
        .map(|(i, whole)| Whole { hrc: i == 0, ..whole })
        .collect()
}

fn board(layers: &[Whole], cuts: &[[u16; 3]]) -> Result<Board, MeshError> {
    // Two meshes in one would hold any cut; a six-node mesh holds moderate ones.
    let mut board = Board::new(Topology::akida2_six_nodes());
    for (layer, cut) in layers.iter().zip(cuts) {
        let cut = [0, 1, 2].map(|a| cut[a].min(layer.output[a]));
        board.place(&Whole { cut, ..layer.clone() })?;
    }
    Ok(board)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames are fed in order, so that the temporal layers' memory is compared too.
    #[test]
    fn cutting_changes_nothing(seed: u64, cut in prop::collection::vec((1u16..=3, 1u16..=2, 1u16..=3), 9), one in 1usize..9) {
        let v = &mut Values(seed);
        let layers = network(v, ACTIVATIONS[seed as usize % 4]);
        // One layer is cut as drawn, its neighbours a little: 24 NPs do not hold more.
        let cuts: Vec<[u16; 3]> = (0..layers.len())
            .map(|i| match i {
                0 => [1; 3],
                9 => [1, 1, 2],
                _ if i == one => [cut[i - 1].0, cut[i - 1].1, 1],
                _ if i == one % 8 + 1 => [1, 1, cut[i - 1].2],
                _ => [1; 3],
            })
            .collect();
        let mut whole = board(&layers, &vec![[1; 3]; layers.len()])?;
        let mut cut = board(&layers, &cuts)?;
        let (whole_network, cut_network) = (whole.mesh.network()?, cut.mesh.network()?);
        for _ in 0..4 {
            let x = v.bytes(17 * 14 * 3);
            let expected = whole.job(&whole_network, &x)?;
            prop_assert_eq!(expected.len(), 11);
            prop_assert_eq!(cut.job(&cut_network, &x)?, expected);
        }
    }

    /// No words make a mesh panic.
    #[test]
    fn any_registers_are_answered(words in prop::collection::vec(any::<u32>(), 62), layer: u8, ours: bool, mask in any::<[u32; 8]>()) {
        let v = &mut Values(1);
        let mut board = board(&network(v, Activation::Relu), &[[1; 3]; 10])?;
        let np = board.used[0];
        let header = |start, len| PacketHeader { target: np.into(), uid: Uid::Registers, start, len };
        let now = board.mesh.read(&header(0, 64))?;
        // Some words as they are, some with random bits.
        let mut words: Vec<u32> =
            words.iter().zip(&now[1..63]).enumerate().map(|(i, (w, n))| n ^ (w & mask[i % 8] & mask[(i / 8) % 8])).collect();
        words[0] = words[0] & !0xFF00 | u32::from(layer) << 8;
        if ours {
            words[61] = registers::ENCODING;
        }
        board.mesh.write(&header(1, 62), &words)?;
        let _ = board.run(&v.bytes(17 * 14 * 3));
    }
}

fn two_layers() -> Vec<Whole> {
    let v = &mut Values(9);
    let first = conv(1, [6, 6, 4], [6, 6, 8]);
    let mut dense = conv(2, [6, 6, 8], [1, 1, 5]);
    (dense.op, dense.kernel, dense.pad, dense.conv) = (Op::Dense, [1, 1], [0, 0], [1, 1]);
    (dense.inputs, dense.destination) = (Span { origin: 0, len: 288 }, Destination::Output(OutputFormat::Dense));
    vec![v.layer(first), v.layer(dense)]
}

#[test]
fn external_weights_are_those_in_memory_now() {
    let mut layers = two_layers();
    let x = Values(3).bytes(144);
    let expected = board(&layers, &[[1; 3]; 2]).and_then(|mut b| b.run(&x)).expect("a network");

    layers[1].np.external = Some(0);
    let mut outside = board(&layers, &[[1; 3]; 2]).expect("a network");
    let network = outside.mesh.network().expect("a network");
    assert_eq!(outside.job(&network, &x).expect("a job"), expected);
    let held = outside.memory.words.clone();
    outside.memory.words.iter_mut().for_each(|w| *w ^= 0x0101_0101);
    assert_ne!(outside.job(&network, &x).expect("a job"), expected, "other weights");
    outside.memory.words = held;
    assert_eq!(outside.job(&network, &x).expect("a job"), expected);
    outside.memory.words.pop();
    assert!(matches!(outside.job(&network, &x), Err(MeshError::External { .. })));
}

/// Jobs computed together are the jobs one by one: layers whole and cut, and networks whose layers remember; with inputs that are
/// there, and with those that are fetched.
#[test]
fn a_batch_is_its_jobs() {
    let v = &mut Values(5);
    let layers = network(v, Activation::Relu);
    let small: Vec<[u16; 3]> = vec![[1; 3]; 2];
    let cases = [
        (board(&two_layers(), &small), board(&two_layers(), &small), 144),
        (board(&two_layers(), &[[2, 1, 2], [1, 1, 2]]), board(&two_layers(), &small), 144),
        (board(&layers, &[[1; 3]; 10]), board(&layers, &[[1; 3]; 10]), 17 * 14 * 3),
    ];
    for (together, apart, len) in cases {
        let (mut together, mut apart) = (together.expect("a network"), apart.expect("a network"));
        let (batch, single) = (together.mesh.network().expect("a network"), apart.mesh.network().expect("a network"));
        let inputs: Vec<Vec<u8>> = (0..7).map(|_| v.bytes(len)).collect();
        let mut fetch = |job: usize, into: &mut [u8]| {
            into.copy_from_slice(&inputs[job]);
            Ok(())
        };
        let all = inputs.concat();
        // One after the other: frames of those before are seen by those behind.
        for given in [Inputs::<MeshError>::Here(&all), Inputs::Fetched(inputs.len(), &mut fetch)] {
            let mut made = Vec::new();
            let taken = batch.run_batch(given, &together.memory, |job, output| made.push((job, output.values())));
            assert_eq!(taken, Ok(()));
            let expected = inputs.iter().map(|x| apart.job(&single, x).expect("a job")).enumerate();
            assert!(made.into_iter().eq(expected));
        }
        let short = &inputs[..2].concat()[1..];
        assert!(matches!(
            batch.run_batch(Inputs::<MeshError>::Here(short), &together.memory, |_, _| {}),
            Err(MeshError::InputLength { expected, .. }) if expected == 2 * len
        ));
        let mut refuse = |job: usize, _: &mut [u8]| {
            if job == 3 { Err(MeshError::InputLength { unit: "bytes", got: 1, expected: 2 }) } else { Ok(()) }
        };
        let refused = batch.run_batch(Inputs::Fetched(inputs.len(), &mut refuse), &together.memory, |_, _| {});
        assert!(matches!(refused, Err(MeshError::InputLength { got: 1, expected: 2, .. })));
    }
}

/// Slices of a dense layer along its inputs are units of their own; adding them gives the layer.
#[test]
fn slices_of_a_dense_layer_add_up() {
    let mut layers = two_layers();
    let (dense, units) = (&mut layers[1], 5);
    dense.records = Records::Scales(vec![ScaleRecord::default(); units]);
    dense.np.output_bits = 32;
    let x = Values(4).bytes(144);
    let expected = board(&layers, &[[1; 3]; 2]).and_then(|mut b| b.run(&x)).expect("a network");

    let mut sliced = Board::new(Topology::akida2_six_nodes());
    sliced.place(&layers[0]).expect("room");
    for (i, inputs) in [Span { origin: 0, len: 100 }, Span { origin: 100, len: 188 }].into_iter().enumerate() {
        let mut slice = layers[1].clone();
        slice.np.inputs = inputs;
        slice.np.filters.origin = (i * units) as u16;
        // The weights of this slice as those of a layer with twice as many units, of which the other half is not placed.
        slice.weights = layers[1].weights.repeat(2);
        slice.records = Records::Scales(vec![ScaleRecord::default(); 2 * units]);
        place_slice(&mut sliced, slice, i * units, units);
    }
    let got = sliced.run(&x).expect("a network");
    assert_eq!(got.len(), 2 * units);
    let added: Vec<i32> = got[..units].iter().zip(&got[units..]).map(|(a, b)| a + b).collect();
    assert_eq!(added, expected);
}

fn place_slice(board: &mut Board, slice: Whole, first: usize, units: usize) {
    // `Whole` counts filters from 0: a whole of all units, of which one piece is placed.
    let np = NpLayer { filters: Span { origin: first as u16, len: units as u16 }, ..slice.np.clone() };
    board.place_piece(&Whole { output: [1, 1, 2 * units as u16], ..slice }, &np).expect("room");
}

#[test]
fn a_write_makes_a_new_network() {
    let layers = two_layers();
    let mut board = board(&layers, &[[1; 3]; 2]).expect("a network");
    let x = Values(5).bytes(144);
    let before = board.run(&x).expect("a job");
    let np = Target::from(board.used[1]);
    let records =
        board.mesh.read(&PacketHeader { target: np, uid: Uid::Thresholds, start: 0, len: 4 }).expect("records");
    let record = ScaleRecord { bias: 30_000, ..ScaleRecord::from_words(records.try_into().expect("four words")) };
    board.send(np, Uid::Thresholds, 0, &record.to_words()).expect("a write");
    let after = board.run(&x).expect("a job");
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);

    board.mesh.reset();
    assert_eq!(board.run(&x), Err(MeshError::NothingConfigured));
}

#[test]
fn events_are_the_same_job_as_bytes() {
    let layers = two_layers();
    let mut board = board(&layers, &[[1; 3]; 2]).expect("a network");
    let x: Vec<u8> = Values(6).bytes(144).iter().map(|b| if b % 3 == 0 { *b } else { 0 }).collect();
    let network = board.mesh.network().expect("a network");
    let expected = board.job(&network, &x).expect("a job");
    let shape = [6, 6, 4];
    for (words, fnp) in [
        (InputEvents::cnp(shape, &x).expect("events").all(), false),
        (InputEvents::fnp(shape, &x).expect("events").all(), true),
    ] {
        let input = if fnp { MeshInput::FnpEvents(&words) } else { MeshInput::CnpEvents(&words) };
        assert_eq!(network.run(input, &board.memory, |output| output.values()), Ok(expected.clone()));
    }
    // Nothing but the dummy event outside the shape.
    let words = InputEvents::cnp(shape, &[0; 144]).expect("events").all();
    let silent = network.run(MeshInput::CnpEvents(&words), &board.memory, |output| output.values());
    assert_eq!(silent, Ok(board.job(&network, &[0; 144]).expect("a job")));
}

#[test]
fn what_a_job_gets_wrong_is_named() {
    let mut board = board(&two_layers(), &[[1; 3]; 2]).expect("a network");
    assert_eq!(board.run(&[0; 143]), Err(MeshError::InputLength { unit: "bytes", got: 143, expected: 144 }));
    let network = board.mesh.network().expect("a network");
    assert!(matches!(
        network.run(MeshInput::CnpEvents(&[1]), &board.memory, |output| output.values()),
        Err(MeshError::InputLength { got: 1, .. })
    ));
}

#[test]
fn broken_networks_are_refused_by_name() {
    type Break = fn(&mut Vec<Whole>);
    let table: [(&str, Break); 13] = [
        ("sends to layer 7", |l| l[0].np.destination = Destination::Layer(7)),
        ("takes from layer 9, which no NP has", |l| l[1].np.inbound = Inbound::One(Source::Layer(9))),
        ("takes from layer 2, which runs later", |l| {
            l[0].np.inbound = Inbound::One(Source::Layer(2));
        }),
        ("no layer sends to the output DMA", |l| l[1].np.destination = Destination::Layer(1)),
        ("already sends to the output DMA", |l| l[0].np.destination = l[1].np.destination),
        ("is sent 6x6x8 of 8 signed bits", |l| l[1].np.input_signed = false),
        ("takes 7 channels and is sent 8", |l| {
            l[1].np.input = [6, 6, 7];
            l[1].np.inputs.len = 252;
            l[1].weights.truncate(252 * 5);
        }),
        ("Akida 2.0 has no stepped activations", |l| l[0].np.activation = Activation::Steps),
        ("inputs and weights of Akida 2.0", |l| {
            l[0].np.weight_bits = 2;
            l[0].weights.iter_mut().for_each(|w| *w = 0);
        }),
        ("takes another job input (6x6x8 of 8 signed bits) than layer 1", |l| {
            l[1].np.inbound = Inbound::Add(Source::Layer(1), Source::Input);
        }),
        ("packet SRAM needs 51984 bytes and has 32768", |l| {
            let v = &mut Values(1);
            let mut wide = conv(1, [64, 64, 16], [6, 6, 8]);
            (wide.stride, wide.conv) = ([11, 11], [6, 6]);
            wide.destination = Destination::Layer(2);
            l[0] = v.layer(wide);
        }),
        ("shift of a scale is 100", |l| {
            l[0].records = Records::Scales(vec![ScaleRecord { shift: 100, ..ScaleRecord::default() }; 8]);
        }),
        ("a merge layer gives what it takes", |l| {
            l[0].np.op = Op::Merge;
            l[0].np.filters.len = 4;
            l[0].output = [6, 6, 4];
            l[0].np.output_bits = 4;
        }),
    ];
    let mut missed = Vec::new();
    for (expected, spoil) in table {
        let mut layers = two_layers();
        spoil(&mut layers);
        let result = board(&layers, &[[1; 3]; 2]).and_then(|mut b| b.run(&[0; 144]));
        match result {
            Err(e) if e.to_string().contains(expected) => {}
            other => missed.push(format!(
                "{expected}: {other:?} {}",
                other.as_ref().err().map_or(String::new(), |e| e.to_string())
            )),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn tiles_must_cover_the_output_once() {
    let layers = two_layers();
    let rows = |origin, len| NpLayer { out_rows: Span { origin, len }, ..layers[0].np.clone() };
    for (pieces, error) in [
        ([rows(0, 3), rows(4, 2)], "its NPs make 240 of 288 outputs"),
        ([rows(0, 3), rows(2, 4)], "make the same outputs"),
        (
            [rows(0, 3), NpLayer { in_rows: Span { origin: 3, len: 3 }, ..rows(3, 3) }],
            "needs input rows 2..6 and holds 3..6",
        ),
        ([rows(0, 3), NpLayer { activation: Activation::Relu, ..rows(3, 3) }], "do not describe the same layer"),
    ] {
        let mut board = Board::new(Topology::akida2_six_nodes());
        for piece in &pieces {
            board.place_piece(&layers[0], piece).expect("room");
        }
        board.place(&layers[1]).expect("room");
        let message = board.run(&[0; 144]).expect_err(error).to_string();
        assert!(message.contains(error), "{message}");
    }
}

#[test]
fn packets_reach_what_they_name_and_nothing_else() {
    let mut board = Board::new(Topology::akd1000());
    let node = |nps| Target::Node { column: 2, row: 3, nps };
    let header = |target, uid, start, len| PacketHeader { target, uid, start, len };
    // Identity: row, column, index, CNP and FNP installed (hardware.md 10 and 11); writes do not change it.
    board.send(node(0b1111), Uid::Registers, 0, &[u32::MAX, 7]).expect("a write");
    for (nps, identity) in [(0b0001, 0x0302_0070), (0b0010, 0x0302_1080), (0b1000, 0x0302_3080)] {
        let words = board.mesh.read(&header(node(nps), Uid::Registers, 0, 2)).expect("a read");
        assert_eq!(words, [identity, 7], "NPs {nps:#06b}");
    }
    // A broadcast reaches all, an address unit of the filter SRAM is 16 words.
    board.send(node(0b0110), Uid::CnpFilter, 16, &[1, 2, 3]).expect("a write");
    for nps in [0b0010, 0b0100] {
        assert_eq!(board.mesh.read(&header(node(nps), Uid::CnpFilter, 1, 3)).expect("a read"), [1, 2, 3]);
    }
    assert_eq!(board.mesh.read(&header(node(1), Uid::CnpFilter, 1, 3)).expect("a read"), [0, 0, 0]);

    for (target, uid, start, len, error) in [
        (Target::Node { column: 1, row: 1, nps: 1 }, Uid::Registers, 0, 1, "NP(1,1,0) does not exist"),
        // The event DMA.
        (Target::Node { column: 3, row: 1, nps: 1 }, Uid::Registers, 0, 1, "NP(3,1,0) does not exist"),
        (node(1), Uid::Lut, 0, 1, "NP(2,3,0) has no memory for packets of kind Lut"),
        (node(2), Uid::FnpWeights, 0, 1, "NP(2,3,1) has no memory for packets of kind FnpWeights"),
        (Target::Hrc, Uid::Thresholds, 0, 1, "HRC has no memory"),
        (node(1), Uid::Registers, 63, 2, "registers of NP(2,3,0): words 63..63+2 are not inside 0..64"),
        (node(1), Uid::CnpFilter, 1024, 1, "filter SRAM of NP(2,3,0): words 16384..16384+1"),
        (node(3), Uid::Thresholds, 2048, 1, "parameter SRAM of NP(2,3,0)"),
    ] {
        let header = header(target, uid, start, len);
        let result = board.mesh.write(&header, &vec![1; len as usize]);
        let message = result.expect_err(error).to_string();
        assert!(message.contains(error), "{message}");
    }
    let short = board.mesh.write(&header(node(1), Uid::Registers, 1, 3), &[1]);
    assert_eq!(short, Err(MeshError::Payload { expected: 3, got: 1 }));
    let two = board.mesh.read(&header(node(3), Uid::Registers, 0, 1));
    assert_eq!(two, Err(MeshError::ReadOfSeveral { target: node(3) }));
    // The soft reset clears registers and itself.
    board.send(node(1), Uid::Registers, 63, &[1]).expect("a write");
    let words = board.mesh.read(&header(node(1), Uid::Registers, 0, 64)).expect("a read");
    assert_eq!((words[0], &words[1..]), (0x0302_0070, &[0; 63][..]));
    assert_eq!(board.run(&[]), Err(MeshError::NothingConfigured));
    // A program in another encoding is not taken for one of ours.
    board.send(node(1), Uid::Registers, 0, &[0, 0x0100, 0, 0x80]).expect("a write");
    let foreign = board.run(&[]).expect_err("no network of ours").to_string();
    assert!(foreign.contains("made for other hardware"), "{foreign}");
    assert!(board.mesh.network().is_err());
}

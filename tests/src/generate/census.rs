//! What was drawn, counted: the proof that random networks cover what a model can have.

use std::collections::BTreeMap;
use std::fmt;

use akida_runtime::model::{Activation, Conv, ConvKind, LayerKind, Model, Pool, Target, Tensor};

/// How often each thing was drawn, and how often it ran on a board.
#[derive(Clone, Debug, Default)]
pub struct Census {
    counts: BTreeMap<String, [u64; 2]>,
}

impl Census {
    /// Adds the layers of a model; `on_board` says of a layer's index whether a board computes it.
    pub fn add(&mut self, model: &Model, on_board: impl Fn(usize) -> bool) {
        for (index, layer) in model.layers.iter().enumerate() {
            let input = model.tensor(layer.inputs[0]);
            for feature in features(&layer.kind, input, &layer.output) {
                self.count(feature, on_board(index));
            }
        }
        let [height, width, _] = model.input.tensor.shape;
        let any = (0..model.layers.len()).any(&on_board);
        self.count(format!("input {}{}", sign(&model.input.tensor), model.input.tensor.bits), any);
        self.count(format!("outputs {}", model.outputs.len().min(4)), any);
        let map = match [height, width] {
            [1, 1] => "one pixel",
            [1, _] | [_, 1] => "one row or column",
            _ if height == width => "square",
            _ => "not square",
        };
        self.count(format!("map {map}"), any);
        let users = |id| model.layers.iter().filter(|layer| layer.inputs.contains(&id)).count();
        if (0..=model.layers.len()).any(|id| users(id) > 1) {
            self.count("branches".into(), any);
        }
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (feature, counts) in &other.counts {
            let own = self.counts.entry(feature.clone()).or_default();
            own[0] += counts[0];
            own[1] += counts[1];
        }
    }

    /// Operators of a target that were never drawn, or never ran on a board.
    pub fn missing(&self, target: Target) -> Vec<&'static str> {
        let wanted: &[&str] = if target == Target::Akida2 {
            &[
                "op Input",
                "op Standard",
                "op Depthwise",
                "op Transposed",
                "op DepthwiseTransposed",
                "op Temporal",
                "op DepthwiseTemporal",
                "op Dense",
                "op Add",
                "op Concat",
                "activation Lut",
                "activation ReluClipped",
                "pool global",
                "pool max",
                "input u8",
                "input i8",
                "branches",
                "outputs 2",
                "map one pixel",
            ]
        } else {
            &[
                "op Input",
                "op Standard",
                "op Separable",
                "op Dense",
                "activation Steps",
                "pool global",
                "pool max",
                "weights 1",
                "weights 2",
                "weights 4",
                "output u1",
                "output u2",
                "output u4",
                "input u8",
                "input u4",
            ]
        };
        wanted.iter().copied().filter(|feature| self.counts.get(*feature).is_none_or(|counts| counts[1] == 0)).collect()
    }

    fn count(&mut self, feature: String, on_board: bool) {
        let counts = self.counts.entry(feature).or_default();
        counts[0] += 1;
        counts[1] += u64::from(on_board);
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44} {:>8} {:>8}", "drawn", "times", "on board")?;
        self.counts.iter().try_for_each(|(feature, [all, board])| writeln!(f, "{feature:<44} {all:>8} {board:>8}"))
    }
}

fn sign(tensor: &Tensor) -> char {
    if tensor.signed { 'i' } else { 'u' }
}

/// What is worth counting of a layer.
fn features(kind: &LayerKind, input: &Tensor, output: &Tensor) -> Vec<String> {
    let mut found = match kind {
        LayerKind::Conv(conv) => conv_features(conv, input),
        LayerKind::Dense(_) => vec!["op Dense".into()],
        LayerKind::Add(_) => vec!["op Add".into()],
        LayerKind::Concat => vec!["op Concat".into()],
    };
    let activation = match kind.activation() {
        Activation::None => "None",
        Activation::Relu => "Relu",
        Activation::ReluClipped(_) => "ReluClipped",
        Activation::Lut(_) => "Lut",
        Activation::Steps { .. } => "Steps",
    };
    found.push(format!("activation {activation}"));
    found.push(format!("output {}{}", sign(output), output.bits));
    found.extend(kind.weights().next().map(|weights| format!("weights {}", weights.bits)));
    if kind.scale().is_some_and(|scale| scale.k.iter().any(|&k| !(0..=24).contains(&k))) {
        found.push("scale beyond 2^0..2^24".into());
    }
    found
}

fn conv_features(conv: &Conv, input: &Tensor) -> Vec<String> {
    let [rows, columns] = conv.weights.kernel();
    let kind = conv.kind;
    let mut found = vec![format!("op {kind:?}")];
    if !kind.temporal() {
        let kernel = if rows == columns { format!("{rows}x{columns}") } else { "not square".into() };
        found.push(format!("{kind:?} kernel {kernel}"));
        let stride = if conv.stride[0] == conv.stride[1] { conv.stride[0].to_string() } else { "not square".into() };
        found.push(format!("{kind:?} stride {stride}"));
        let [top, left, bottom, right] = conv.pads;
        let pads = match () {
            () if conv.pads == [0; 4] => "none",
            () if top == bottom && left == right => "even",
            () if top <= bottom && left <= right => "more after",
            () => "any",
        };
        found.push(format!("{kind:?} padding {pads}"));
    }
    match conv.pool {
        Pool::None => {}
        Pool::Global => found.extend(["pool global".into(), format!("{kind:?} pool global")]),
        Pool::Max { size, stride, pads } => {
            let usual = size[0] == size[1] && stride[0] == stride[1] && pads == [0; 4];
            let shape = if usual { format!("{}/{}", size[0], stride[0]) } else { "of any shape".into() };
            found.extend(["pool max".into(), format!("{kind:?} pool max {shape}")]);
        }
    }
    if kind == ConvKind::Standard && input.shape[..2] == [1, 1] {
        found.push("Standard on one pixel".into());
    }
    found
}

//! Names of fused operators: what they say about a node (quantization.md 2.2).

/// What a fused operator is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedOp {
    pub base: Base,
    pub flatten: bool,
    pub biased: bool,
    pub pool: FusedPool,
    pub activation: FusedActivation,
    pub scaled: bool,
}

/// The operator before its suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    InputConv2D,
    Conv2D,
    Depthwise2D,
    Conv2DTranspose,
    Depthwise2DTranspose,
    Dense1D,
    Add,
    Concat,
    BufferTempConv,
    DepthwiseBufferTempConv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusedPool {
    None,
    Max,
    Global,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusedActivation {
    None,
    Relu,
    ReluClipped,
    Lut,
}

/// Longer names before those they begin with.
const BASES: [(&str, Base); 10] = [
    ("QuantizedInputConv2D", Base::InputConv2D),
    ("QuantizedConv2DTranspose", Base::Conv2DTranspose),
    ("QuantizedConv2D", Base::Conv2D),
    ("QuantizedDepthwise2DTranspose", Base::Depthwise2DTranspose),
    ("QuantizedDepthwise2D", Base::Depthwise2D),
    ("QuantizedDense1D", Base::Dense1D),
    ("QuantizedAdd", Base::Add),
    ("QuantizedConcat", Base::Concat),
    ("QuantizedBufferTempConv", Base::BufferTempConv),
    ("QuantizedDepthwiseBufferTempConv", Base::DepthwiseBufferTempConv),
];

impl FusedOp {
    /// The operator of this name; None when there is no such operator.
    pub fn parse(name: &str) -> Option<Self> {
        let (mut rest, base) = BASES.iter().find_map(|(prefix, base)| Some((name.strip_prefix(prefix)?, *base)))?;
        let mut take = |suffix: &str| {
            let found = rest.strip_prefix(suffix);
            rest = found.unwrap_or(rest);
            found.is_some()
        };
        let flatten = take("Flatten");
        let biased = take("Biased");
        let pool = match () {
            () if take("MaxPool") => FusedPool::Max,
            () if take("GlobalAvgPool") => FusedPool::Global,
            () => FusedPool::None,
        };
        let activation = match () {
            () if take("ReLUClipped") => FusedActivation::ReluClipped,
            () if take("ReLU") => FusedActivation::Relu,
            () if take("LUT") => FusedActivation::Lut,
            () => FusedActivation::None,
        };
        let scaled = take("Scaled");
        let op = Self { base, flatten, biased, pool, activation, scaled };
        (rest.is_empty() && op.exists()).then_some(op)
    }

    /// Whether a base can have these suffixes.
    fn exists(self) -> bool {
        let plain = self.pool == FusedPool::None && !self.flatten;
        match self.base {
            Base::InputConv2D => self.biased && self.scaled && !self.flatten,
            Base::Conv2D | Base::Depthwise2D => self.scaled && !self.flatten,
            Base::Conv2DTranspose | Base::Depthwise2DTranspose => self.scaled && plain,
            Base::BufferTempConv | Base::DepthwiseBufferTempConv => self.scaled && plain,
            Base::Dense1D => self.pool == FusedPool::None && self.activation != FusedActivation::Lut,
            Base::Add => plain && !self.biased && self.activation == FusedActivation::None,
            Base::Concat => plain && !self.biased && self.activation == FusedActivation::None && !self.scaled,
        }
    }

    /// Names of the inputs of the function that defines it, in order (quantization.md 2.5).
    pub fn inputs(self) -> Vec<&'static str> {
        let mut names = match self.base {
            Base::InputConv2D => vec!["X", "x_pad_value", "W"],
            Base::Add => vec!["X", "Y", "Xs", "Ys"],
            Base::Concat => vec!["X", "Y"],
            _ => vec!["X", "W"],
        };
        if self.biased {
            names.push("bias");
        }
        if matches!(self.base, Base::InputConv2D | Base::Conv2D | Base::Depthwise2D) {
            names.push("pads");
        }
        match self.activation {
            FusedActivation::None | FusedActivation::Relu => {}
            FusedActivation::ReluClipped => names.push("max_value"),
            FusedActivation::Lut => names.extend(["ActScale", "ActShift", "LUT_values"]),
        }
        if self.scaled {
            names.extend(if self.base == Base::Add { &["Shift"][..] } else { &["Scale", "Shift"] });
        }
        names
    }

    /// Whether there may be fewer than 8 bits (targets.md 2.1-2.4).
    pub fn narrows(self) -> bool {
        matches!(self.base, Base::InputConv2D | Base::Conv2D | Base::Depthwise2D | Base::Dense1D)
    }

    /// Operators of the function that defines it, in order, without those that change types (quantization.md 5).
    pub fn body(self) -> Vec<&'static str> {
        let mut ops = match self.base {
            Base::InputConv2D => vec!["Sub", "Pad", "Add", "Conv"],
            Base::Conv2D | Base::Depthwise2D => vec!["Pad", "Conv"],
            Base::Conv2DTranspose | Base::Depthwise2DTranspose => vec!["ConvTranspose"],
            Base::Dense1D if self.flatten => vec!["Flatten", "Gemm"],
            Base::Dense1D => vec!["Gemm"],
            Base::Add => vec!["Mul", "Mul", "Add"],
            Base::Concat => vec!["Concat"],
            Base::BufferTempConv => vec!["BufferTempConv"],
            Base::DepthwiseBufferTempConv => vec!["DepthwiseBufferTempConv"],
        };
        if self.pool == FusedPool::Max {
            ops.push("MaxPool");
        }
        match self.activation {
            FusedActivation::None => {}
            FusedActivation::Relu => ops.push("Relu"),
            FusedActivation::ReluClipped => ops.extend(["Relu", "Min"]),
            FusedActivation::Lut => ops.extend(["Div", "Mul", "Add", "Floor", "Clip", "Gather"]),
        }
        if self.pool == FusedPool::Global {
            ops.push("ReduceSum");
        }
        if self.scaled {
            let product: &[&str] = if self.base == Base::Add { &[] } else { &["Mul"] };
            ops.push("Div");
            ops.extend(product);
            ops.extend(["Add", "Floor", "Clip"]);
        }
        ops
    }

    /// Attributes that say something about the arithmetic.
    pub fn attributes(self) -> Vec<&'static str> {
        let mut names = match self.base {
            Base::InputConv2D | Base::Conv2D => vec!["strides"],
            Base::Depthwise2D => vec!["strides", "groups"],
            Base::Conv2DTranspose => vec!["strides", "pads"],
            Base::Depthwise2DTranspose => vec!["strides", "pads", "groups"],
            Base::BufferTempConv | Base::DepthwiseBufferTempConv => vec!["fifo_size"],
            Base::Dense1D | Base::Add | Base::Concat => vec![],
        };
        if self.pool == FusedPool::Max {
            names.extend(["pool_size", "pool_strides", "pool_pads"]);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_to_their_end() {
        let op = FusedOp::parse("QuantizedInputConv2DBiasedMaxPoolReLUClippedScaled").expect("an operator");
        assert_eq!(
            (op.base, op.pool, op.activation),
            (Base::InputConv2D, FusedPool::Max, FusedActivation::ReluClipped)
        );
        assert_eq!(op.inputs(), ["X", "x_pad_value", "W", "bias", "pads", "max_value", "Scale", "Shift"]);
        assert_eq!(op.attributes(), ["strides", "pool_size", "pool_strides", "pool_pads"]);

        let op = FusedOp::parse("QuantizedDepthwise2DTransposeScaled").expect("an operator");
        assert_eq!((op.base, op.inputs()), (Base::Depthwise2DTranspose, vec!["X", "W", "Scale", "Shift"]));
        let op = FusedOp::parse("QuantizedDense1DFlattenBiased").expect("an operator");
        assert!(op.flatten && op.biased && !op.scaled);
        assert_eq!(
            FusedOp::parse("QuantizedAddScaled").expect("an operator").inputs(),
            ["X", "Y", "Xs", "Ys", "Shift"]
        );
        assert_eq!(FusedOp::parse("QuantizedConcat").expect("an operator").inputs(), ["X", "Y"]);
    }

    #[test]
    fn other_names_are_no_operators() {
        for name in [
            "QuantizedFooBar",
            "QuantizedConv2D",
            "QuantizedInputConv2DScaled",
            "QuantizedConv2DReLUBiasedScaled",
            "QuantizedConv2DScaledScaled",
            "QuantizedConv2DMaxPoolGlobalAvgPoolScaled",
            "QuantizedDense1DLUTScaled",
            "QuantizedAddReLUScaled",
            "QuantizedConcatScaled",
            "QuantizedConv2DFlattenScaled",
            "Dequantizer",
            "",
        ] {
            assert_eq!(FusedOp::parse(name), None, "{name}");
        }
    }
}

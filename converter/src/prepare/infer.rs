//! Shapes of all tensors of a graph, for the operators of convolutional networks.
//!
//! An operator that is not known here leaves its outputs without a shape: the graph stays usable, and whoever needs the
//! shape says what is missing.

use crate::onnx::{DType, Dim, Graph, Node, ValueType};

/// A node whose operands do not fit.
#[derive(Debug, thiserror::Error)]
#[error("node '{node}' ({op}): {reason}")]
pub struct ShapeError {
    /// Name of the node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What does not fit, with the sizes.
    pub reason: String,
}

/// Largest dimension, and largest number in an attribute that sizes are computed from: far beyond any tensor, and far
/// enough below 2^63 that no size of two of them overflows.
const LARGEST: usize = 1 << 30;

/// Fills in `graph.values` and the types of the outputs from those of the inputs. What was there is forgotten.
pub fn infer(graph: &mut Graph) -> Result<(), ShapeError> {
    let mut values = indexmap::IndexMap::new();
    std::mem::swap(&mut values, &mut graph.values);
    values.clear();
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        let types: Vec<Option<ValueType>> =
            node.inputs.iter().map(|name| if name.is_empty() { None } else { graph.value_type(name) }).collect();
        let dtype = dtype(node, &types);
        let shapes: Vec<Option<Vec<Dim>>> = types.into_iter().map(|ty| ty?.shape).collect();
        let inference = Inference { graph, node, shapes: &shapes };
        let shape = inference.check().and_then(|()| inference.shape()).and_then(|shape| {
            shape.iter().try_for_each(|shape| check_dims(shape))?;
            Ok(shape)
        });
        let shape = shape.map_err(|reason| ShapeError { node: node.name.clone(), op: node.op.clone(), reason })?;
        for (index, output) in node.outputs.clone().into_iter().enumerate() {
            let shape = if index == 0 { shape.clone() } else { None };
            graph.values.insert(output, ValueType { dtype, shape });
        }
    }
    let graph_outputs: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
    for (output, name) in graph.outputs.iter_mut().zip(graph_outputs) {
        if let Some(ty) = graph.values.shift_remove(&name) {
            output.ty = ty;
        }
    }
    Ok(())
}

fn check_dims(shape: &[Dim]) -> Result<(), String> {
    match shape.iter().filter_map(Dim::fixed).find(|&size| size > LARGEST) {
        None => Ok(()),
        Some(size) => Err(format!("a tensor with a dimension of {size}; the limit is {LARGEST}")),
    }
}

fn dtype(node: &Node, types: &[Option<ValueType>]) -> Option<DType> {
    match node.op.as_str() {
        "Cast" => node.int("to").and_then(|to| DType::from_onnx(to as i32)),
        "Shape" | "ArgMax" | "Size" => Some(DType::I64),
        "Constant" => node.tensor("value").map(|tensor| tensor.dtype()),
        "ConstantOfShape" => Some(node.tensor("value").map_or(DType::F32, |tensor| tensor.dtype())),
        "Equal" | "Less" | "Greater" | "Not" | "And" | "Or" => Some(DType::Bool),
        _ => types.first().and_then(|ty| ty.as_ref()?.dtype),
    }
}

type Shape = Option<Vec<Dim>>;

struct Inference<'a> {
    graph: &'a Graph,
    node: &'a Node,
    shapes: &'a [Shape],
}

impl Inference<'_> {
    /// Every number that a size is computed from is small enough to compute with.
    fn check(&self) -> Result<(), String> {
        self.shapes.iter().flatten().try_for_each(|shape| check_dims(shape))?;
        for name in ["strides", "dilations", "pads", "kernel_shape", "output_padding", "group"] {
            let one = self.node.int(name);
            let numbers = one.as_slice().iter().chain(self.node.ints(name).unwrap_or(&[]));
            if let Some(value) = numbers.copied().find(|value| value.unsigned_abs() > LARGEST as u64) {
                return Err(format!("attribute {name} holds {value}; the limit is {LARGEST}"));
            }
        }
        let least = match self.node.op.as_str() {
            "Conv" | "ConvTranspose" => 3,
            "Gemm" => 2,
            _ => return Ok(()),
        };
        match self.shapes.get(1).and_then(Option::as_ref).map(Vec::len) {
            Some(rank) if rank < least => Err(format!("weights of {rank} dimensions; there are at least {least}")),
            _ => Ok(()),
        }
    }

    fn shape(&self) -> Result<Shape, String> {
        let node = self.node;
        let Some(first) = self.shapes.first().cloned() else {
            return Ok(node.tensor("value").map(|tensor| tensor.dims().iter().map(|&d| d.into()).collect()));
        };
        match node.op.as_str() {
            "Conv" => self.conv(),
            "ConvTranspose" => self.conv_transpose(),
            "MaxPool" | "AveragePool" => self.pool(),
            "GlobalAveragePool" | "GlobalMaxPool" => {
                Ok(first.map(|s| s.into_iter().enumerate().map(|(i, d)| if i < 2 { d } else { 1.into() }).collect()))
            }
            "Add" | "Sub" | "Mul" | "Div" | "Min" | "Max" | "Pow" | "PRelu" | "Sum" => self.broadcast(),
            "Flatten" => Ok(first.and_then(|s| flatten(&s, node.int("axis").unwrap_or(1)))),
            "Gemm" => self.gemm(),
            "MatMul" => self.matmul(),
            "Concat" => self.concat(),
            "Transpose" => self.transpose(),
            "Reshape" => Ok(self.reshape()),
            "Squeeze" | "Unsqueeze" => Ok(self.squeeze()),
            "Pad" | "BRNPad" => self.pad(),
            "ReduceMean" => Ok(self.reduce()),
            "Resize" => Ok(self.resize()),
            "Cast"
            | "Relu"
            | "Clip"
            | "LeakyRelu"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Erf"
            | "Tanh"
            | "Softmax"
            | "LogSoftmax"
            | "Identity"
            | "Dropout"
            | "BatchNormalization"
            | "Gelu"
            | "Swish"
            | "Elu"
            | "Sqrt"
            | "Exp"
            | "Neg"
            | "Abs"
            | "Floor"
            | "Round"
            | "activation"
            | "InstanceNormalization"
            | "LayerNormalization"
            | "Softplus"
            | "Mish"
            | "Celu"
            | "Selu"
            | "ThresholdedRelu"
            | "Softsign"
            | "Log"
            | "LRN" => Ok(first),
            "BufferTempConv" => Ok(self.channels_from_weight(first)),
            "DepthwiseBufferTempConv" => Ok(first),
            _ => Ok(None),
        }
    }

    /// Size of spatial windows: kernel, stride, dilation, begin and end pads of each spatial axis.
    fn windows(&self, spatial: usize, kernel: &[usize]) -> Result<Vec<Window>, String> {
        let list = |name: &str, default: usize| -> Result<Vec<usize>, String> {
            let Some(values) = self.node.ints(name) else { return Ok(vec![default; spatial]) };
            if values.len() != spatial {
                return Err(format!("attribute {name} has {} values for {spatial} axes", values.len()));
            }
            let bad = |v: &i64| format!("attribute {name} holds {v}");
            values.iter().map(|v| usize::try_from(*v).ok().filter(|&v| v > 0).ok_or_else(|| bad(v))).collect()
        };
        let (strides, dilations) = (list("strides", 1)?, list("dilations", 1)?);
        let pads = self.node.ints("pads").unwrap_or(&[]);
        if !pads.is_empty() && pads.len() != 2 * spatial {
            return Err(format!("attribute pads has {} values for {spatial} axes", pads.len()));
        }
        let pad = |index: usize| pads.get(index).copied().unwrap_or(0);
        Ok((0..spatial)
            .map(|axis| Window {
                kernel: kernel[axis],
                stride: strides[axis],
                dilation: dilations[axis],
                pads: [pad(axis), pad(axis + spatial)],
            })
            .collect())
    }

    fn conv(&self) -> Result<Shape, String> {
        let (Some(x), Some(w)) = (&self.shapes[0], self.shapes.get(1).cloned().flatten()) else { return Ok(None) };
        if x.len() != w.len() || x.len() < 3 {
            return Err(format!("input of rank {} with a kernel of rank {}", x.len(), w.len()));
        }
        let group = self.node.int("group").unwrap_or(1).max(1) as usize;
        if let (Some(channels), Some(per_group)) = (x[1].fixed(), w[1].fixed())
            && channels != per_group * group
        {
            return Err(format!("input of {channels} channels, the kernel takes {}", per_group * group));
        }
        let kernel: Option<Vec<usize>> = w[2..].iter().map(Dim::fixed).collect();
        let Some(kernel) = kernel else { return Ok(None) };
        let windows = self.windows(kernel.len(), &kernel)?;
        let mut shape = vec![x[0].clone(), w[0].clone()];
        shape.extend(self.slide(&x[2..], &windows, false)?);
        Ok(Some(shape))
    }

    fn pool(&self) -> Result<Shape, String> {
        let Some(x) = &self.shapes[0] else { return Ok(None) };
        let kernel: Vec<usize> =
            self.node.ints("kernel_shape").unwrap_or(&[]).iter().map(|&k| k.max(0) as usize).collect();
        if x.len() != kernel.len() + 2 {
            return Err(format!("input of rank {} with a window of rank {}", x.len(), kernel.len()));
        }
        let windows = self.windows(kernel.len(), &kernel)?;
        let mut shape = x[..2].to_vec();
        shape.extend(self.slide(&x[2..], &windows, self.node.int("ceil_mode") == Some(1))?);
        Ok(Some(shape))
    }

    fn slide(&self, sizes: &[Dim], windows: &[Window], ceil: bool) -> Result<Vec<Dim>, String> {
        let same = self.node.string("auto_pad").is_some_and(|mode| mode.starts_with("SAME"));
        let one = |(size, window): (&Dim, &Window)| {
            let Some(size) = size.fixed() else { return Ok(Dim::Unknown) };
            if same {
                return Ok(Dim::Fixed(size.div_ceil(window.stride)));
            }
            let reach = (window.kernel.max(1) - 1) * window.dilation + 1;
            let room = size as i64 + window.pads[0] + window.pads[1] - reach as i64;
            if room < 0 {
                return Err(format!("a window of {reach} does not fit into {size} with pads {:?}", window.pads));
            }
            let steps = if ceil { (room as usize).div_ceil(window.stride) } else { room as usize / window.stride };
            Ok(Dim::Fixed(steps + 1))
        };
        sizes.iter().zip(windows).map(one).collect()
    }

    fn conv_transpose(&self) -> Result<Shape, String> {
        let (Some(x), Some(w)) = (&self.shapes[0], self.shapes.get(1).cloned().flatten()) else { return Ok(None) };
        if x.len() != w.len() || x.len() < 3 {
            return Err(format!("input of rank {} with a kernel of rank {}", x.len(), w.len()));
        }
        if let (Some(channels), Some(takes)) = (x[1].fixed(), w[0].fixed())
            && channels != takes
        {
            return Err(format!("input of {channels} channels, the kernel takes {takes}"));
        }
        let kernel: Option<Vec<usize>> = w[2..].iter().map(Dim::fixed).collect();
        let (Some(kernel), Some(filters)) = (kernel, w[1].fixed()) else { return Ok(None) };
        let group = self.node.int("group").unwrap_or(1).max(1) as usize;
        let windows = self.windows(kernel.len(), &kernel)?;
        let same = self.node.string("auto_pad").is_some_and(|mode| mode.starts_with("SAME"));
        let extra = self.node.ints("output_padding").unwrap_or(&[]);
        let mut shape = vec![x[0].clone(), Dim::Fixed(filters * group)];
        for (axis, (size, window)) in x[2..].iter().zip(&windows).enumerate() {
            shape.push(match size.fixed() {
                None => Dim::Unknown,
                Some(size) if same => Dim::Fixed(size * window.stride),
                Some(size) => {
                    let full = (size.max(1) - 1) * window.stride + (window.kernel.max(1) - 1) * window.dilation + 1;
                    let full = full as i64 + extra.get(axis).copied().unwrap_or(0) - window.pads[0] - window.pads[1];
                    Dim::Fixed(usize::try_from(full).map_err(|_| format!("its output would have size {full}"))?)
                }
            });
        }
        Ok(Some(shape))
    }

    fn broadcast(&self) -> Result<Shape, String> {
        let Some(shapes) = self.shapes.iter().cloned().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
        let mut result = vec![Dim::Fixed(1); rank];
        for shape in &shapes {
            for (out, dim) in result[rank - shape.len()..].iter_mut().zip(shape) {
                match (&*out, dim) {
                    (_, Dim::Fixed(1)) => {}
                    (Dim::Fixed(1), _) => *out = dim.clone(),
                    (Dim::Fixed(a), Dim::Fixed(b)) if a != b => {
                        return Err(format!("operands of sizes {a} and {b} on one axis"));
                    }
                    (Dim::Fixed(_), _) => {}
                    (_, Dim::Fixed(_)) => *out = dim.clone(),
                    _ => {}
                }
            }
        }
        Ok(Some(result))
    }

    fn gemm(&self) -> Result<Shape, String> {
        let (Some(a), Some(b)) = (&self.shapes[0], self.shapes.get(1).cloned().flatten()) else { return Ok(None) };
        if a.len() != 2 || b.len() != 2 {
            return Err(format!("operands of rank {} and {}, 2 is needed", a.len(), b.len()));
        }
        let (ta, tb) = (self.node.int("transA") == Some(1), self.node.int("transB") == Some(1));
        let (rows, inner) = if ta { (&a[1], &a[0]) } else { (&a[0], &a[1]) };
        let (takes, columns) = if tb { (&b[1], &b[0]) } else { (&b[0], &b[1]) };
        match (inner.fixed(), takes.fixed()) {
            (Some(inner), Some(takes)) if inner != takes => {
                Err(format!("input of {inner} values, the weights take {takes}"))
            }
            _ => Ok(Some(vec![rows.clone(), columns.clone()])),
        }
    }

    fn matmul(&self) -> Result<Shape, String> {
        let (Some(a), Some(b)) = (&self.shapes[0], self.shapes.get(1).cloned().flatten()) else { return Ok(None) };
        if a.len() < 2 || b.len() < 2 {
            return Ok(None);
        }
        if let (Some(inner), Some(takes)) = (a[a.len() - 1].fixed(), b[b.len() - 2].fixed())
            && inner != takes
        {
            return Err(format!("input of {inner} values, the weights take {takes}"));
        }
        let longer = if a.len() >= b.len() { a } else { &b };
        let mut shape = longer[..longer.len() - 2].to_vec();
        shape.extend([a[a.len() - 2].clone(), b[b.len() - 1].clone()]);
        Ok(Some(shape))
    }

    fn concat(&self) -> Result<Shape, String> {
        let Some(shapes) = self.shapes.iter().cloned().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let mut result = shapes[0].clone();
        let Some(axis) = axis(self.node.int("axis").unwrap_or(0), result.len()) else {
            return Err("its axis is outside the tensors".into());
        };
        for shape in &shapes[1..] {
            if shape.len() != result.len() {
                return Err(format!("operands of rank {} and {}", result.len(), shape.len()));
            }
            for (at, (out, dim)) in result.iter_mut().zip(shape).enumerate() {
                match (out.fixed(), dim.fixed()) {
                    (Some(a), Some(b)) if at == axis => *out = Dim::Fixed(a + b),
                    (Some(a), Some(b)) if a != b => return Err(format!("operands of sizes {a} and {b} on axis {at}")),
                    _ if at == axis => *out = Dim::Unknown,
                    _ => {}
                }
            }
        }
        Ok(Some(result))
    }

    fn transpose(&self) -> Result<Shape, String> {
        let Some(x) = &self.shapes[0] else { return Ok(None) };
        let Some(perm) = self.node.ints("perm") else { return Ok(Some(x.iter().rev().cloned().collect())) };
        let shape: Option<Vec<Dim>> = perm.iter().map(|&p| x.get(usize::try_from(p).ok()?).cloned()).collect();
        shape.filter(|s| s.len() == x.len()).map(Some).ok_or_else(|| format!("perm {perm:?} on rank {}", x.len()))
    }

    fn constant_ints(&self, input: usize) -> Option<Vec<i64>> {
        let name = self.node.input(input)?;
        self.graph.initializers.get(name)?.values::<i64>(name).ok()
    }

    fn reshape(&self) -> Shape {
        let (x, target) = (self.shapes[0].as_ref()?, self.constant_ints(1)?);
        let zero_is_zero = self.node.int("allowzero") == Some(1);
        let mut shape: Vec<Dim> = Vec::with_capacity(target.len());
        for (at, &size) in target.iter().enumerate() {
            shape.push(match size {
                0 if !zero_is_zero => x.get(at)?.clone(),
                -1 => Dim::Unknown,
                _ => Dim::Fixed(usize::try_from(size).ok()?),
            });
        }
        if let Some(at) = target.iter().position(|&size| size == -1) {
            // Symbolic dimensions present on both sides cancel out.
            let mut from: Vec<&Dim> = x.iter().collect();
            let mut known = 1usize;
            for (_, dim) in shape.iter().enumerate().filter(|&(index, _)| index != at) {
                match dim {
                    Dim::Fixed(size) => known = known.checked_mul(*size)?,
                    named => {
                        let same = from.iter().position(|d| *d == named)?;
                        from.remove(same);
                    }
                }
            }
            let symbols: Vec<&&Dim> = from.iter().filter(|d| d.fixed().is_none()).collect();
            let total = from.iter().filter_map(|d| d.fixed()).try_fold(1usize, usize::checked_mul)?;
            shape[at] = match symbols.as_slice() {
                [] if known > 0 && total.is_multiple_of(known) => Dim::Fixed(total / known),
                [symbol] if total == known => (**symbol).clone(),
                _ => Dim::Unknown,
            };
        }
        Some(shape)
    }

    fn squeeze(&self) -> Shape {
        let x = self.shapes[0].as_ref()?;
        let axes = self.node.ints("axes").map(<[i64]>::to_vec).or_else(|| self.constant_ints(1))?;
        if self.node.op == "Squeeze" {
            let axes: Vec<usize> = axes.iter().map(|&a| axis(a, x.len())).collect::<Option<_>>()?;
            return Some((0..x.len()).filter(|at| !axes.contains(at)).map(|at| x[at].clone()).collect());
        }
        let rank = x.len() + axes.len();
        let axes: Vec<usize> = axes.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?;
        let mut rest = x.iter().cloned();
        (0..rank).map(|at| if axes.contains(&at) { Some(Dim::Fixed(1)) } else { rest.next() }).collect()
    }

    fn pad(&self) -> Result<Shape, String> {
        let Some(x) = &self.shapes[0] else { return Ok(None) };
        let pads = match self.node.ints("pads") {
            Some(pads) => Some(pads.to_vec()),
            None => self.constant_ints(1),
        };
        let Some(mut pads) = pads else { return Ok(None) };
        if self.node.op == "BRNPad" && pads.len() + 4 == 2 * x.len() {
            let half = pads.len() / 2;
            pads = [&[0, 0], &pads[..half], &[0, 0], &pads[half..]].concat();
        }
        let axes: Vec<usize> = match self.constant_ints(3) {
            Some(axes) => axes.iter().filter_map(|&a| axis(a, x.len())).collect(),
            None => (0..x.len()).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
        }
        let mut shape = x.clone();
        for (index, &at) in axes.iter().enumerate() {
            let total = pads[index].saturating_add(pads[index + axes.len()]);
            if let Some(size) = shape[at].fixed() {
                let size = (size as i64).saturating_add(total);
                shape[at] = Dim::Fixed(usize::try_from(size).map_err(|_| format!("axis {at} would have size {size}"))?);
            }
        }
        Ok(Some(shape))
    }

    fn reduce(&self) -> Shape {
        let x = self.shapes[0].as_ref()?;
        let axes = self.node.ints("axes").map(<[i64]>::to_vec).or_else(|| self.constant_ints(1));
        let axes: Vec<usize> = match axes {
            Some(axes) => axes.iter().map(|&a| axis(a, x.len())).collect::<Option<_>>()?,
            None => (0..x.len()).collect(),
        };
        let keep = self.node.int("keepdims").unwrap_or(1) == 1;
        let dims = x.iter().enumerate().filter(|(at, _)| keep || !axes.contains(at));
        Some(dims.map(|(at, dim)| if axes.contains(&at) { Dim::Fixed(1) } else { dim.clone() }).collect())
    }

    fn resize(&self) -> Shape {
        let x = self.shapes[0].as_ref()?;
        if let Some(sizes) = self.constant_ints(3) {
            let sizes: Option<Vec<Dim>> = sizes.iter().map(|&s| Some(Dim::Fixed(usize::try_from(s).ok()?))).collect();
            let mut sizes = sizes.filter(|s| s.len() == x.len())?;
            sizes[0] = x[0].clone();
            return Some(sizes);
        }
        let name = self.node.input(2)?;
        let scales = self.graph.initializers.get(name)?.values::<f32>(name).ok()?;
        if scales.len() != x.len() {
            return None;
        }
        let scaled = |(dim, scale): (&Dim, &f32)| match dim {
            Dim::Fixed(size) => Dim::Fixed((*size as f32 * scale).floor() as usize),
            other if *scale == 1.0 => other.clone(),
            _ => Dim::Unknown,
        };
        Some(x.iter().zip(&scales).map(scaled).collect())
    }

    fn channels_from_weight(&self, first: Shape) -> Shape {
        let mut shape = first?;
        *shape.get_mut(1)? = self.shapes.get(1)?.as_ref()?.first()?.clone();
        Some(shape)
    }
}

struct Window {
    kernel: usize,
    stride: usize,
    dilation: usize,
    pads: [i64; 2],
}

/// An axis counted from the end when negative; None when it is outside.
pub(crate) fn axis(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}

fn flatten(shape: &[Dim], axis: i64) -> Shape {
    let at = if axis < 0 { axis + shape.len() as i64 } else { axis };
    let at = usize::try_from(at).ok().filter(|&at| at <= shape.len())?;
    let join = |dims: &[Dim]| match dims {
        [one] => one.clone(),
        _ => {
            let size = dims.iter().try_fold(1usize, |size, dim| size.checked_mul(dim.fixed()?));
            size.map_or(Dim::Unknown, Dim::Fixed)
        }
    };
    Some(vec![join(&shape[..at]), join(&shape[at..])])
}

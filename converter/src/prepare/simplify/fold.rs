//! Nodes that read constants only are computed now. Exporters describe pads and shapes with such nodes.

use bytes::Bytes;

use crate::onnx::{DType, Dim, Graph, Node, Tensor};
use crate::prepare::{StepError, axis, edit};

/// Bytes a folded constant may take: shape arithmetic is small, and a hostile graph must not unfold.
const MAX_BYTES: usize = 64 << 20;

/// Folds until nothing more can be.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let node = &graph.nodes[number];
        let value = if node.domain.is_empty() && node.outputs.len() == 1 { evaluate(graph, node) } else { None };
        match value.filter(|_| !graph.is_output(graph.nodes[number].output())) {
            Some(value) => {
                let node = graph.nodes.remove(number);
                graph.initializers.insert(node.outputs[0].clone(), value);
                changed = true;
            }
            None => number += 1,
        }
    }
    Ok(changed)
}

/// The node's value; None when it is not constant or its operator is not one of shape arithmetic.
fn evaluate(graph: &Graph, node: &Node) -> Option<Tensor> {
    if node.is("Shape") {
        let shape = edit::dims(graph, node.input(0)?)?;
        let sizes: Vec<i64> = shape.iter().map(|d| Dim::fixed(d).map(|d| d as i64)).collect::<Option<_>>()?;
        let start = node.int("start").unwrap_or(0).clamp(0, sizes.len() as i64) as usize;
        return Some(Tensor::new([sizes.len() - start], &sizes[start..]));
    }
    let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(|name| graph.initializers.get(name)).collect();
    if inputs.is_empty() || node.inputs.iter().zip(&inputs).any(|(name, t)| !name.is_empty() && t.is_none()) {
        return None;
    }
    let first = inputs[0]?;
    let constant_ints = |index: usize| inputs.get(index).copied().flatten().and_then(|t| t.values::<i64>("").ok());
    match node.op.as_str() {
        "Identity" => Some(first.clone()),
        "ConstantOfShape" => {
            let dims: Vec<usize> = sizes(&first.values::<i64>("").ok()?)?;
            let value = node.tensor("value").cloned().unwrap_or(Tensor::new([1], &[0f32]));
            let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
            if count.checked_mul(value.dtype().size())? > MAX_BYTES {
                return None;
            }
            Tensor::from_bytes(value.dtype(), dims, value.bytes().ok()?.repeat(count).into())
        }
        "Reshape" => {
            let mut dims = constant_ints(1)?;
            for (at, dim) in dims.iter_mut().enumerate().filter(|(_, dim)| **dim == 0) {
                *dim = *first.dims().get(at)? as i64;
            }
            let known = dims.iter().filter(|&&d| d != -1).try_fold(1i64, |n, &d| n.checked_mul(d))?;
            for dim in dims.iter_mut().filter(|dim| **dim == -1) {
                *dim = (first.len() as i64).checked_div(known)?;
            }
            first.reshaped(sizes(&dims)?)
        }
        "Unsqueeze" | "Squeeze" => {
            let axes = node.ints("axes").map(<[i64]>::to_vec).or_else(|| constant_ints(1))?;
            let mut dims = first.dims().to_vec();
            if node.op == "Squeeze" {
                let axes: Vec<usize> = axes.iter().map(|&a| axis(a, dims.len())).collect::<Option<_>>()?;
                let mut at = 0;
                dims.retain(|_| {
                    at += 1;
                    !axes.contains(&(at - 1))
                });
            } else {
                let mut axes: Vec<usize> =
                    axes.iter().map(|&a| axis(a, dims.len() + axes.len())).collect::<Option<_>>()?;
                axes.sort_unstable();
                axes.iter().for_each(|&a| dims.insert(a.min(dims.len()), 1));
            }
            first.reshaped(dims)
        }
        "Concat" => {
            let tensors: Vec<&Tensor> = inputs.iter().copied().collect::<Option<_>>()?;
            let at = axis(node.int("axis")?, first.dims().len())?;
            let mut dims = first.dims().to_vec();
            dims[at] = tensors.iter().map(|t| t.dims().get(at).copied().unwrap_or(0)).sum();
            let outer: usize = dims[..at].iter().product();
            let mut bytes = Vec::new();
            let parts: Vec<Bytes> = tensors.iter().map(|t| t.bytes().ok()).collect::<Option<_>>()?;
            for row in 0..outer {
                for part in &parts {
                    let len = part.len() / outer.max(1);
                    bytes.extend_from_slice(part.get(row * len..(row + 1) * len)?);
                }
            }
            Tensor::from_bytes(first.dtype(), dims, bytes.into())
        }
        "Transpose" => {
            let rank = first.dims().len();
            let perm: Vec<usize> = match node.ints("perm") {
                Some(perm) => perm.iter().map(|&p| axis(p, rank)).collect::<Option<_>>()?,
                None => (0..rank).rev().collect(),
            };
            if perm.len() != rank || (0..rank).any(|axis| !perm.contains(&axis)) {
                return None;
            }
            let dims: Vec<usize> = perm.iter().map(|&p| first.dims()[p]).collect();
            let strides = strides(first.dims());
            gather(first, &dims, |index| perm.iter().zip(index).map(|(&p, i)| strides[p] * i).sum())
        }
        "Slice" => slice(first, &constant_ints(1)?, &constant_ints(2)?, constant_ints(3), constant_ints(4)),
        "Gather" => {
            let indices = inputs.get(1).copied().flatten()?;
            let at = axis(node.int("axis").unwrap_or(0), first.dims().len())?;
            let chosen: Vec<usize> =
                indices.values::<i64>("").ok()?.iter().map(|&i| axis(i, first.dims()[at])).collect::<Option<_>>()?;
            let mut dims = first.dims()[..at].to_vec();
            dims.extend(indices.dims());
            dims.extend(&first.dims()[at + 1..]);
            let (inner, source) = (first.dims()[at + 1..].iter().product::<usize>(), first.dims()[at]);
            let flat = [first.dims()[..at].iter().product(), chosen.len(), inner];
            let tensor = gather(first, &flat, |i| (i[0] * source + chosen[i[1]]) * inner + i[2])?;
            tensor.reshaped(dims)
        }
        "Cast" => cast(first, DType::from_onnx(node.int("to")? as i32)?),
        "Add" | "Sub" | "Mul" | "Div" => arithmetic(&node.op, first, inputs.get(1).copied().flatten()?),
        _ => None,
    }
}

fn sizes(values: &[i64]) -> Option<Vec<usize>> {
    values.iter().map(|&v| usize::try_from(v).ok()).collect()
}

fn strides(dims: &[usize]) -> Vec<usize> {
    (0..dims.len()).map(|axis| dims[axis + 1..].iter().product()).collect()
}

/// A tensor of shape `dims` whose element at an index is element `source(index)` of `from`.
fn gather(from: &Tensor, dims: &[usize], source: impl Fn(&[usize]) -> usize) -> Option<Tensor> {
    let (size, bytes) = (from.dtype().size(), from.bytes().ok()?);
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| n * size <= MAX_BYTES)?;
    let strides = strides(dims);
    let mut out = Vec::with_capacity(count * size);
    for element in 0..count {
        let index: Vec<usize> = strides.iter().zip(dims).map(|(stride, dim)| element / stride % dim).collect();
        let at = source(&index) * size;
        out.extend_from_slice(bytes.get(at..at + size)?);
    }
    Tensor::from_bytes(from.dtype(), dims.to_vec(), out.into())
}

fn slice(
    from: &Tensor,
    starts: &[i64],
    ends: &[i64],
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
) -> Option<Tensor> {
    let rank = from.dims().len();
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    let mut ranges: Vec<(i64, i64, usize)> = from.dims().iter().map(|&d| (0, 1, d)).collect();
    for (n, &a) in axes.iter().enumerate() {
        let at = axis(a, rank)?;
        let (dim, step) = (from.dims()[at] as i64, *steps.get(n)?);
        let (lowest, highest) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
        let place = |v: i64| (if v < 0 { v.saturating_add(dim) } else { v }).clamp(lowest, highest);
        let (start, end) = (place(*starts.get(n)?), place(*ends.get(n)?));
        let count = match step {
            0 | i64::MIN => return None,
            _ if step > 0 => (end - start).max(0).div_euclid(step) + i64::from((end - start).max(0) % step != 0),
            _ => (start - end).max(0).div_euclid(-step) + i64::from((start - end).max(0) % -step != 0),
        };
        ranges[at] = (start, step, count as usize);
    }
    let dims: Vec<usize> = ranges.iter().map(|r| r.2).collect();
    let strides = strides(from.dims());
    gather(from, &dims, |index| {
        let at = |n: usize| (ranges[n].0 + ranges[n].1 * index[n] as i64) as usize;
        (0..index.len()).map(|n| at(n) * strides[n]).sum()
    })
}

fn cast(from: &Tensor, to: DType) -> Option<Tensor> {
    let dims = from.dims().to_vec();
    let values: Vec<f64> = match from.dtype() {
        DType::F32 => from.values::<f32>("").ok()?.into_iter().map(f64::from).collect(),
        DType::F64 => from.values::<f64>("").ok()?,
        DType::I32 => from.values::<i32>("").ok()?.into_iter().map(f64::from).collect(),
        DType::I64 if to == DType::I64 => return Some(from.clone()),
        DType::I64 => from.values::<i64>("").ok()?.into_iter().map(|v| v as f64).collect(),
        DType::U8 => from.values::<u8>("").ok()?.into_iter().map(f64::from).collect(),
        DType::I8 => from.values::<i8>("").ok()?.into_iter().map(f64::from).collect(),
        _ => return None,
    };
    Some(match to {
        DType::F32 => Tensor::new(dims, &values.iter().map(|&v| v as f32).collect::<Vec<_>>()),
        DType::F64 => Tensor::new(dims, &values),
        DType::I64 => Tensor::new(dims, &values.iter().map(|&v| v as i64).collect::<Vec<_>>()),
        DType::I32 => Tensor::new(dims, &values.iter().map(|&v| v as i32).collect::<Vec<_>>()),
        _ => return None,
    })
}

fn arithmetic(op: &str, a: &Tensor, b: &Tensor) -> Option<Tensor> {
    if a.dtype() == DType::I64 && b.dtype() == DType::I64 {
        let (x, y) = (a.values::<i64>("").ok()?, b.values::<i64>("").ok()?);
        let (longer, dims) = if x.len() >= y.len() { (x.len(), a.dims()) } else { (y.len(), b.dims()) };
        if (x.len() != longer && x.len() != 1) || (y.len() != longer && y.len() != 1) {
            return None;
        }
        let at = |v: &[i64], n: usize| if v.len() == 1 { v[0] } else { v[n] };
        let one = |n: usize| match op {
            "Add" => at(&x, n).checked_add(at(&y, n)),
            "Sub" => at(&x, n).checked_sub(at(&y, n)),
            "Mul" => at(&x, n).checked_mul(at(&y, n)),
            _ => at(&x, n).checked_div(at(&y, n)),
        };
        let values: Vec<i64> = (0..longer).map(one).collect::<Option<_>>()?;
        return Some(Tensor::new(dims.to_vec(), &values));
    }
    // Two long tensors may span a much larger one.
    if a.dims() != b.dims() && a.len().checked_mul(b.len())? > MAX_BYTES {
        return None;
    }
    let array = |t: &Tensor| ndarray::ArrayD::from_shape_vec(t.dims().to_vec(), t.values::<f32>("").ok()?).ok();
    let result = edit::broadcast(&array(a)?, &array(b)?, |x, y| match op {
        "Add" => x + y,
        "Sub" => x - y,
        "Mul" => x * y,
        _ => x / y,
    })?;
    Some(edit::tensor(&result))
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::graph;

    #[test]
    fn pads_that_pytorch_computes() {
        // What torch.onnx writes for F.pad(x, (1, 2, 3, 4)).
        let mut g = graph(
            "x: N,1,8,8 -> y\n\
             z = ConstantOfShape[](#n:i:1=4)\n\
             c = Concat[axis=0](#p:i:4=1,2,3,4, z)\n\
             r = Reshape(c, #s:i:2=-1,2)\n\
             l = Slice(r, #st:i:1=-1, #en:i:1=-9223372036854775807, #ax:i:1=0, #sp:i:1=-1)\n\
             t = Transpose[perm=1,0](l)\n\
             q = Reshape(t, #m:i:1=-1)\n\
             k = Cast[to=7](q)\n\
             y = Pad(x, k)",
        );
        // ConstantOfShape without a value gives floats; what follows needs integers.
        let value = crate::onnx::Tensor::new([1], &[0i64]);
        g.nodes[0].attributes.insert("value".into(), value.into());
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(g.nodes.len(), 1);
        assert_eq!(g.initializers["k"].values::<i64>("k").unwrap(), [0, 0, 3, 1, 0, 0, 4, 2]);
    }

    /// Of hostile files: left as they are, without a panic and without the memory.
    #[test]
    fn what_is_too_large_is_not_unfolded() {
        for node in [
            "z = ConstantOfShape[](#n:i:2=1000000,1000000)",
            "z = Reshape(#c:2=1, #s:i:3=9223372036854775807,9223372036854775807,-1)",
            "z = Slice(#c:2=1, #st:i:1=0, #en:i:1=2, #ax:i:1=0, #sp:i:1=-9223372036854775808)",
            "z = Transpose[perm=0,0,0](#c:300x300x300=1)",
            "z = Add(#c:100000x1=1, #d:1x100000=1)",
        ] {
            let mut g = graph(&format!("x: N,1 -> y\ny = Relu(x)\n{node}"));
            assert!(!super::apply(&mut g).unwrap(), "{node}");
        }
    }
}

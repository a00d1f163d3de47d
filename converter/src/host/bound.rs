//! How large the tensors of a float graph get. The float runtime takes the memory it is asked for, and a process without
//! memory ends: sizes are known before it is asked.

use akida_runtime::hybrid::{HostError, HostValues};

use crate::onnx::{Dim, Graph, Node};

/// Elements of the largest tensor on the host, for one inference: 256 MiB of floats.
const LARGEST: usize = 1 << 26;
/// Operators that make more of little, where inference does not know how much.
const GROWING: [&str; 8] = ["ConstantOfShape", "Expand", "Tile", "Pad", "Range", "OneHot", "Resize", "Upsample"];

/// Gives the values of tensors by name.
type Look<'a> = dyn FnMut(&[&str]) -> Result<Vec<HostValues>, HostError> + 'a;

/// That the outputs of `node` are of a size one would want. `look` runs what is before the node, which is bounded
/// already, and gives the values of tensors.
pub(super) fn bounded(graph: &Graph, node: &Node, look: &mut Look) -> Result<(), HostError> {
    let refuse = |what: String| {
        let (name, op) = (&node.name, &node.op);
        Err(HostError(format!("node '{name}' ({op}) makes {what}; more than {LARGEST} elements are not computed")))
    };
    let mut known = true;
    for output in node.outputs.iter().filter(|output| !output.is_empty()) {
        let shape = graph.value_type(output).and_then(|ty| ty.shape);
        match shape.and_then(|dims| dims.iter().map(Dim::fixed).collect::<Option<Vec<usize>>>()) {
            Some(dims) if product(dims.iter().map(|&dim| dim as f64)) > LARGEST as f64 => {
                return refuse(format!("'{output}' of {dims:?}"));
            }
            found => known &= found.is_some(),
        }
    }
    if known || !GROWING.contains(&node.op.as_str()) {
        return Ok(());
    }
    let names: Vec<&str> = node.inputs.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let values = look(&names)?;
    let input = |at: usize| names.iter().position(|name| Some(*name) == node.input(at)).map(|found| &values[found]);
    match made(node, &input) {
        Some(elements) if elements <= LARGEST as f64 => Ok(()),
        Some(elements) => refuse(format!("{elements} elements")),
        None => refuse("what cannot be told from its inputs".into()),
    }
}

/// Elements a node makes of these inputs, or more; None when its inputs are not what its operator takes.
fn made<'a>(node: &Node, input: &dyn Fn(usize) -> Option<&'a HostValues>) -> Option<f64> {
    let first = input(0)?;
    let dims: Vec<f64> = first.dims().iter().map(|&dim| dim as f64).collect();
    let factors = |at: usize| Some(product(numbers(input(at)?).into_iter().map(f64::abs)));
    match node.op.as_str() {
        "ConstantOfShape" => factors(0),
        "Tile" => Some(product(dims) * factors(1)?),
        "OneHot" => Some(product(dims) * factors(1)?),
        "Expand" => {
            let sizes = numbers(input(1)?);
            let (mut from, mut to) = (dims.iter().rev(), sizes.iter().rev());
            Some(product(
                (0..dims.len().max(sizes.len()))
                    .map(|_| from.next().copied().unwrap_or(1.0).max(to.next().copied().unwrap_or(1.0))),
            ))
        }
        "Pad" => {
            // Which axes they are for matters little: every one may grow by the largest.
            let pads = numbers(input(1)?);
            let most = pads.iter().fold(0.0, |most: f64, pad| most.max(pad.abs()));
            let grown = |axis: usize, dim: f64| match (pads.get(axis), pads.get(axis + dims.len())) {
                (Some(before), Some(after)) if pads.len() == 2 * dims.len() => dim + before.abs() + after.abs(),
                _ => dim + 2.0 * most,
            };
            Some(product(dims.iter().enumerate().map(|(axis, &dim)| grown(axis, dim))))
        }
        "Range" => {
            let [start, limit, step] = [0, 1, 2].map(|at| input(at).and_then(|v| numbers(v).first().copied()));
            Some(((limit? - start?) / step?).abs())
        }
        "Resize" | "Upsample" => {
            let scales = if node.op == "Upsample" { 1 } else { 2 };
            match (input(scales).map(numbers), input(3).map(numbers)) {
                (_, Some(sizes)) if !sizes.is_empty() => Some(product(sizes)),
                (Some(scales), _) => Some(product(dims) * product(scales.into_iter().map(f64::abs))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The values as numbers; those that are none count as beyond all bounds.
fn numbers(values: &HostValues) -> Vec<f64> {
    match values {
        HostValues::F32(array) => {
            array.iter().map(|&v| if v.is_nan() { f64::INFINITY } else { f64::from(v) }).collect()
        }
        HostValues::I64(array) => array.iter().map(|&v| v as f64).collect(),
    }
}

/// The product, at least of ones: an empty axis does not make the others small.
fn product(factors: impl IntoIterator<Item = f64>) -> f64 {
    factors.into_iter().map(|factor| factor.max(1.0)).product()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::ArrayD;

    fn floats(dims: &[usize]) -> HostValues {
        HostValues::F32(ArrayD::zeros(dims))
    }

    fn integers(values: &[i64]) -> HostValues {
        HostValues::I64(ArrayD::from_shape_vec(vec![values.len()], values.to_vec()).unwrap())
    }

    #[test]
    fn what_grows_is_counted_before_it_is_made() {
        let scales = HostValues::F32(ArrayD::from_shape_vec(vec![4], vec![1.0, 1.0, 2.0, 3.0]).unwrap());
        let nothing = integers(&[]);
        let cases: &[(&str, Vec<HostValues>, Option<f64>)] = &[
            ("ConstantOfShape", vec![integers(&[3, 0, 5])], Some(15.0)),
            ("Tile", vec![floats(&[2, 3]), integers(&[4, 5])], Some(120.0)),
            ("Expand", vec![floats(&[3, 1]), integers(&[2, 1, 7])], Some(42.0)),
            ("Expand", vec![floats(&[2, 3, 4]), integers(&[1])], Some(24.0)),
            ("Pad", vec![floats(&[1, 2]), integers(&[0, 1, 0, 1])], Some(4.0)),
            ("Pad", vec![floats(&[1, 2]), integers(&[1, 1])], Some(12.0)),
            ("Pad", vec![floats(&[1, 2]), integers(&[0, i64::MAX, 0, 0])], Some(i64::MAX as f64 + 2.0)),
            ("Range", vec![integers(&[0]), integers(&[10]), integers(&[-1])], Some(10.0)),
            ("OneHot", vec![integers(&[1, 2]), integers(&[50])], Some(100.0)),
            ("Resize", vec![floats(&[1, 1, 2, 2]), nothing.clone(), scales], Some(24.0)),
            (
                "Resize",
                vec![floats(&[1, 1, 2, 2]), nothing.clone(), nothing.clone(), integers(&[1, 1, 9, 9])],
                Some(81.0),
            ),
            ("Resize", vec![floats(&[1, 1, 2, 2])], None),
            ("Tile", vec![floats(&[2])], None),
        ];
        for (op, inputs, expected) in cases {
            let found = made(&Node::new(op, &["a", "b", "c", "d"], "out"), &|at| inputs.get(at));
            assert_eq!(found, *expected, "{op} of {inputs:?}");
        }
        let step = [integers(&[0]), integers(&[1]), integers(&[0])];
        assert_eq!(made(&Node::new("Range", &["a", "b", "c"], "out"), &|at| step.get(at)), Some(f64::INFINITY));
    }
}

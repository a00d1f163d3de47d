//! The operators behind the input come in one order: Cast, Transpose, Add, Mul (quantization.md 1.4, 18).

use ndarray::{ArrayD, IxDyn};

use super::affine_chain::Affine;
use super::{StepError, edit};
use crate::onnx::{DType, Dim, Graph, Node, Tensor};
use crate::prepare::axis;

/// Puts them in order, then moves Add and Mul behind a Flatten.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let ordered = reorder(graph).is_some();
    let mut moved = false;
    while behind_flatten(graph).is_some() {
        moved = true;
    }
    Ok(ordered || moved)
}

fn reorder(graph: &mut Graph) -> Option<()> {
    let input = graph.inputs.first()?.clone();
    let rank = input.ty.shape.as_ref()?.len();
    let (mut chain, mut tensor) = (Vec::new(), input.name.clone());
    let (mut affine, mut cast, mut perm) = (Affine::identity(), false, None);
    while let Some(next) = edit::only_consumer(graph, &tensor) {
        let node = &graph.nodes[next];
        match node.op.as_str() {
            "Cast" if node.int("to") == Some(DType::F32 as i64) && !cast => cast = true,
            "Transpose" if perm.is_none() => {
                let axes: Vec<usize> = node.ints("perm")?.iter().map(|&p| axis(p, rank)).collect::<Option<_>>()?;
                affine.offset = permuted(&affine.offset, &axes)?;
                affine.scale = permuted(&affine.scale, &axes)?;
                perm = Some(axes);
            }
            "Add" | "Mul" => match affine.then(graph, next) {
                Some(next) => affine = next,
                None => break,
            },
            _ => break,
        }
        tensor = node.output().to_owned();
        chain.push(next);
    }
    let ops: Vec<&str> = chain.iter().map(|&n| graph.nodes[n].op.as_str()).collect();
    let rank_of = |op: &str| ["Cast", "Transpose", "Add", "Mul"].iter().position(|&o| o == op);
    let constants = ops.iter().any(|op| matches!(*op, "Add" | "Mul"));
    if !constants || (ops.is_sorted_by_key(|op| rank_of(op)) && ops.len() <= 4 && done_before(graph, &chain)) {
        return None;
    }
    let mut nodes = Vec::new();
    let mut x = input.name.clone();
    if cast {
        let y = format!("{}/cast", input.name);
        nodes.push(Node::new("Cast", &[&x], &y).with("to", DType::F32 as i64));
        x = y;
    }
    if let Some(perm) = perm {
        let y = format!("{}/transposed", input.name);
        let perm: Vec<i64> = perm.iter().map(|&p| p as i64).collect();
        nodes.push(Node::new("Transpose", &[&x], &y).with("perm", perm));
        x = y;
    }
    let arithmetic = affine.nodes(graph, &x, &tensor);
    let ends_in_arithmetic = !arithmetic.is_empty();
    nodes.extend(arithmetic);
    let last = chain.last().copied()?;
    graph.nodes.splice(last..=last, nodes);
    edit::remove(graph, &chain[..chain.len() - 1]);
    if !ends_in_arithmetic {
        if graph.is_output(&tensor) {
            graph.nodes.push(Node::new("Identity", &[&x], &tensor));
        } else {
            edit::redirect(graph, &tensor, &x);
        }
    }
    Some(())
}

/// Whether this step has been here before: a second time there is nothing to reorder.
fn done_before(graph: &Graph, chain: &[usize]) -> bool {
    let input = &graph.inputs[0].name;
    chain.iter().all(|&n| {
        let node = &graph.nodes[n];
        match node.op.as_str() {
            "Cast" => node.output() == format!("{input}/cast"),
            "Transpose" => node.output() == format!("{input}/transposed"),
            _ => true,
        }
    })
}

/// A constant with its axes in another order, as it would broadcast after a Transpose.
fn permuted(values: &ArrayD<f32>, perm: &[usize]) -> Option<ArrayD<f32>> {
    if values.ndim() > perm.len() {
        return None;
    }
    if values.len() == 1 {
        return Some(values.clone());
    }
    let mut shape = vec![1; perm.len() - values.ndim()];
    shape.extend(values.shape());
    let full = values.clone().into_shape_with_order(IxDyn(&shape)).ok()?;
    Some(full.permuted_axes(IxDyn(perm)).as_standard_layout().into_owned())
}

/// Moves one Add or Mul with a constant behind the Flatten that follows it.
fn behind_flatten(graph: &mut Graph) -> Option<()> {
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        if !(node.is("Add") || node.is("Mul")) {
            continue;
        }
        let Some(operand) = edit::constant_operand(graph, node) else { continue };
        let Some(flatten) = edit::only_consumer(graph, node.output())
            .filter(|&n| graph.nodes[n].is("Flatten") && graph.nodes[n].int("axis").unwrap_or(1) == 1)
        else {
            continue;
        };
        let source = node.inputs[1 - operand].clone();
        let Some(dims) = edit::dims(graph, &source).filter(|dims| dims.len() == 4) else { continue };
        let Some(shape) = dims[1..].iter().map(Dim::fixed).collect::<Option<Vec<usize>>>() else { continue };
        let constant = edit::array(graph, &node.inputs[operand])?;
        let full: Vec<usize> = [1].iter().chain(&shape).copied().collect();
        let expanded: Vec<f32> = constant.broadcast(IxDyn(&full))?.iter().copied().collect();
        edit::replace_constant(graph, number, operand, Tensor::new([1, expanded.len()], &expanded));
        let between = graph.nodes[number].output().to_owned();
        let output = std::mem::replace(&mut graph.nodes[flatten].outputs[0], between.clone());
        graph.nodes[flatten].inputs[0] = source;
        let node = &mut graph.nodes[number];
        node.inputs[1 - operand] = between;
        node.outputs[0] = output;
        graph.nodes.swap(number, flatten);
        return Some(());
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn transpose_goes_first() {
        let mut g = graph(
            "x: N,4,4,3 -> y\nm = Mul(x, #s:3=2,4,8)\na = Add(m, #o:=8)\nt = Transpose[perm=0,3,1,2](a)\ny = Relu(t)",
        );
        assert!(super::apply(&mut g).unwrap());
        let expected = "x/transposed = Transpose[perm = [0, 3, 1, 2]](x)\nt/offset = Add(x/transposed, t_offset)\n\
                        t = Mul(t/offset, t_scale)\ny = Relu(t)";
        assert_eq!(text(&g), expected);
        assert_eq!(g.initializers["t_scale"].dims(), [1, 3, 1, 1]);
        assert_eq!((constant(&g, "t_scale"), constant(&g, "t_offset")), (vec![2.0, 4.0, 8.0], vec![4.0, 2.0, 1.0]));
        crate::prepare::infer(&mut g).unwrap();
        assert!(!super::apply(&mut g).unwrap());
    }

    #[test]
    fn constants_move_behind_flatten() {
        let mut g = graph("x: N,2,1,2 -> y\nm = Mul(x, #s:2x1x1=2,3)\nf = Flatten[axis=1](m)\ny = Relu(f)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "m = Flatten[axis = 1](x)\nf = Mul(m, s)\ny = Relu(f)");
        assert_eq!(constant(&g, "s"), [2.0, 2.0, 3.0, 3.0]);
    }
}

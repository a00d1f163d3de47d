//! Activations that become look-up tables get one form: an `activation` node that names its function
//! (quantization.md 1.4, 20).

use super::{StepError, edit};
use crate::onnx::{Attribute, BRAINCHIP, Graph, Node};

/// Recognises Swish, HardSwish, Gelu and LeakyRelu in the forms exporters write them.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let Some((function, source)) = recognise(graph, number) else {
            number += 1;
            continue;
        };
        let output = graph.nodes[number].output().to_owned();
        let mut node = Node { domain: BRAINCHIP.to_owned(), ..Node::new("activation", &[&source], &output) };
        node.name = graph.nodes[number].name.clone();
        for (name, value) in function {
            node.attributes.insert(name.to_owned(), value);
        }
        graph.nodes[number] = node;
        graph.opsets.insert(BRAINCHIP.to_owned(), 1);
        // What only this node read goes now, so that it does not stand in the way of another match.
        number -= sweep_before(graph, number);
        changed = true;
    }
    Ok(changed)
}

/// Removes nodes nothing reads any more; returns how many of them stood before `number`.
fn sweep_before(graph: &mut Graph, number: usize) -> usize {
    let name = graph.nodes[number].output().to_owned();
    edit::sweep(graph);
    number - graph.producer(&name).unwrap_or(number)
}

type Function = Vec<(&'static str, Attribute)>;

/// The activation that node `number` ends, and what it is of.
fn recognise(graph: &Graph, number: usize) -> Option<(Function, String)> {
    let node = &graph.nodes[number];
    if !node.domain.is_empty() {
        return None;
    }
    let named = |name: &str| vec![("main_op_type", Attribute::from(name))];
    let source = node.inputs.first()?.clone();
    match node.op.as_str() {
        "HardSwish" => Some((named("HardSwish"), source)),
        "Swish" if node.float("alpha").unwrap_or(1.0) == 1.0 => Some((named("Swish"), source)),
        "Gelu" if node.string("approximate").unwrap_or("none") == "none" => Some((gelu_attributes(), source)),
        "LeakyRelu" => Some((leaky(node.float("alpha").unwrap_or(0.01)), source)),
        "PRelu" => {
            let slopes = edit::floats(graph, node.input(1)?)?;
            let first = *slopes.first()?;
            slopes.iter().all(|&s| s == first).then(|| (leaky(first), source))
        }
        "Mul" => gated(graph, number).or_else(|| Some((gelu_attributes(), gelu(graph, number)?))),
        _ => None,
    }
}

fn leaky(alpha: f32) -> Function {
    vec![("alpha", alpha.into()), ("main_op_type", "LeakyRelu".into())]
}

fn gelu_attributes() -> Function {
    vec![("approximate", "none".into()), ("main_op_type", "Gelu".into())]
}

/// x * sigmoid(x) and x * hardsigmoid(x).
fn gated(graph: &Graph, number: usize) -> Option<(Function, String)> {
    let node = &graph.nodes[number];
    [0, 1].into_iter().find_map(|index| {
        let (x, gate) = (node.input(index)?, &graph.nodes[edit::only_producer(graph, number, 1 - index)?]);
        if gate.input(0) != Some(x) {
            return None;
        }
        let name = match gate.op.as_str() {
            "Sigmoid" => "Swish",
            "HardSigmoid" => {
                let (alpha, beta) = (gate.float("alpha").unwrap_or(0.2), gate.float("beta").unwrap_or(0.5));
                ((alpha, beta) == (1.0 / 6.0, 0.5)).then_some("HardSwish")?
            }
            _ => return None,
        };
        Some((vec![("main_op_type", Attribute::from(name))], x.to_owned()))
    })
}

/// The x of which node `number` is 0.5 * (x * (erf(x / sqrt 2) + 1)), with the half at the end or on x.
pub fn gelu(graph: &Graph, number: usize) -> Option<String> {
    graph.nodes.get(number).filter(|node| node.is("Mul"))?;
    let half = |number: usize| -> Option<(usize, String)> {
        let node = graph.nodes.get(number).filter(|node| node.is("Mul"))?;
        let operand = edit::constant_operand(graph, node)?;
        (edit::floats(graph, node.input(operand)?)? == [0.5]).then(|| (1 - operand, node.inputs[1 - operand].clone()))
    };
    // The half last.
    if let Some((index, _)) = half(number)
        && let Some(product) = edit::only_producer(graph, number, index).filter(|&n| graph.nodes[n].is("Mul"))
    {
        let node = &graph.nodes[product];
        return [0, 1].into_iter().find_map(|index| {
            let x = node.input(index)?;
            (one_plus_erf(graph, product, 1 - index)? == x).then(|| x.to_owned())
        });
    }
    // The half on x.
    [0, 1].into_iter().find_map(|index| {
        let (_, x) = half(edit::only_producer(graph, number, index)?)?;
        (one_plus_erf(graph, number, 1 - index)? == x).then_some(x)
    })
}

/// The x of `erf(x / sqrt 2) + 1`, when that is input `index` of node `number`.
fn one_plus_erf(graph: &Graph, number: usize, index: usize) -> Option<String> {
    let add = edit::only_producer(graph, number, index).filter(|&n| graph.nodes[n].is("Add"))?;
    let one = edit::constant_operand(graph, &graph.nodes[add])?;
    if edit::floats(graph, graph.nodes[add].input(one)?)? != [1.0] {
        return None;
    }
    let erf = edit::only_producer(graph, add, 1 - one).filter(|&n| graph.nodes[n].is("Erf"))?;
    let scaled = edit::only_producer(graph, erf, 0)?;
    let node = &graph.nodes[scaled];
    let operand = edit::constant_operand(graph, node)?;
    let &[value] = edit::floats(graph, node.input(operand)?)?.as_slice() else { return None };
    let root_half = match node.op.as_str() {
        "Mul" => value,
        "Div" if operand == 1 => 1.0 / value,
        _ => return None,
    };
    ((root_half - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-6).then(|| node.inputs[1 - operand].clone())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn forms_of_each() {
        let gelu = "approximate = 'none', main_op_type = 'Gelu'";
        for (nodes, expected) in [
            ("s = Sigmoid(x)\ny = Mul(x, s)", "main_op_type = 'Swish'"),
            ("s = Sigmoid(x)\ny = Mul(s, x)", "main_op_type = 'Swish'"),
            ("y = HardSwish(x)", "main_op_type = 'HardSwish'"),
            ("h = HardSigmoid[alpha=0.16666667 beta=0.5](x)\ny = Mul(x, h)", "main_op_type = 'HardSwish'"),
            ("d = Div(x, #q:=1.4142135)\ne = Erf(d)\na = Add(e, #o:=1)\nm = Mul(x, a)\ny = Mul(m, #h:=0.5)", gelu),
            ("b = Mul(x, #h:=0.5)\nd = Mul(x, #q:=0.70710677)\ne = Erf(d)\na = Add(#o:=1, e)\ny = Mul(b, a)", gelu),
            ("y = LeakyRelu[alpha=0.5](x)", "alpha = 0.5, main_op_type = 'LeakyRelu'"),
            ("y = PRelu(x, #s:3=0.25)", "alpha = 0.25, main_op_type = 'LeakyRelu'"),
        ] {
            let before = graph(&format!("x: N,3 -> y\n{nodes}"));
            assert_eq!(after(super::apply, before), format!("y = activation[{expected}](x)"), "{nodes}");
        }
    }

    #[test]
    fn different_slopes_stay() {
        assert_eq!(after(super::apply, graph("x: N,2 -> y\ny = PRelu(x, #s:2=1,2)")), "y = PRelu(x, s)");
    }
}

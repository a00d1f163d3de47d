//! A chain of Add, Sub, Mul and Div with constants becomes (x + offset) * scale (quantization.md 1.4, 4).

use ndarray::ArrayD;

use super::{StepError, edit};
use crate::onnx::{Graph, Node};

/// `(x + offset) * scale`, in `f32`.
pub struct Affine {
    /// Offset.
    pub offset: ArrayD<f32>,
    /// Scale.
    pub scale: ArrayD<f32>,
}

impl Affine {
    /// x itself.
    pub fn identity() -> Self {
        Self { offset: ndarray::arr0(0.0).into_dyn(), scale: ndarray::arr0(1.0).into_dyn() }
    }

    /// What node `number` does after this; None when it is not an operation with a constant.
    pub fn then(&self, graph: &Graph, number: usize) -> Option<Self> {
        let node = &graph.nodes[number];
        let operand = edit::constant_operand(graph, node)?;
        let value = edit::array(graph, node.input(operand)?)?;
        let shift = |sign: f32| {
            let step = edit::broadcast(&value, &self.scale, |v, s| v / s)?;
            edit::broadcast(&self.offset, &step, |o, d| o + sign * d)
        };
        let (offset, scale) = match (node.op.as_str(), operand) {
            ("Mul", _) => (self.offset.clone(), edit::broadcast(&self.scale, &value, |s, v| s * v)?),
            ("Div", 1) => (self.offset.clone(), edit::broadcast(&self.scale, &value, |s, v| s / v)?),
            ("Add", _) => (shift(1.0)?, self.scale.clone()),
            ("Sub", 1) => (shift(-1.0)?, self.scale.clone()),
            ("Sub", 0) => (shift(-1.0)?, self.scale.mapv(|s| -s)),
            _ => return None,
        };
        let finite = offset.iter().chain(&scale).all(|v| v.is_finite());
        finite.then_some(Self { offset, scale })
    }

    /// Whether something is added.
    pub fn adds(&self) -> bool {
        self.offset.iter().any(|&o| o != 0.0)
    }

    /// Whether something is multiplied.
    pub fn multiplies(&self) -> bool {
        self.scale.iter().any(|&s| s != 1.0)
    }

    /// The nodes that do this to `source`, ending in `output`; none when nothing is left to do.
    pub fn nodes(&self, graph: &mut Graph, source: &str, output: &str) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut x = source.to_owned();
        if self.adds() {
            let y = if self.multiplies() { format!("{output}/offset") } else { output.to_owned() };
            let name = edit::add_constant(graph, &format!("{output}_offset"), edit::tensor(&self.offset));
            nodes.push(Node::new("Add", &[&x, &name], &y));
            x = y;
        }
        if self.multiplies() {
            let name = edit::add_constant(graph, &format!("{output}_scale"), edit::tensor(&self.scale));
            nodes.push(Node::new("Mul", &[&x, &name], output));
        }
        nodes
    }
}

/// Rewrites all chains that are not in this form.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let next = number + 1;
        if let Some(chain) = chain(graph, number) {
            changed |= rewrite(graph, &chain);
        }
        number = next;
    }
    Ok(changed)
}

fn is_affine(graph: &Graph, number: usize) -> bool {
    Affine::identity().then(graph, number).is_some() && graph.nodes[number].domain.is_empty()
}

/// The chain that starts at a node; None when the node is inside one or none.
fn chain(graph: &Graph, first: usize) -> Option<Vec<usize>> {
    if !is_affine(graph, first) {
        return None;
    }
    let operand = edit::constant_operand(graph, &graph.nodes[first])?;
    if edit::only_producer(graph, first, 1 - operand).is_some_and(|before| is_affine(graph, before)) {
        return None;
    }
    let mut chain = vec![first];
    while let Some(next) = edit::only_consumer(graph, graph.nodes[chain[chain.len() - 1]].output()) {
        if !is_affine(graph, next) {
            break;
        }
        chain.push(next);
    }
    Some(chain)
}

fn rewrite(graph: &mut Graph, chain: &[usize]) -> bool {
    let ops: Vec<&str> = chain.iter().map(|&n| graph.nodes[n].op.as_str()).collect();
    if matches!(ops.as_slice(), ["Add"] | ["Mul"] | ["Add", "Mul"]) {
        return false;
    }
    let mut affine = Affine::identity();
    for &number in chain {
        match affine.then(graph, number) {
            Some(next) => affine = next,
            None => return false, // constants that do not fit, or a scale of zero
        }
    }
    let (first, last) = (chain[0], chain[chain.len() - 1]);
    let operand = edit::constant_operand(graph, &graph.nodes[first]).unwrap_or(1);
    let source = graph.nodes[first].inputs[1 - operand].clone();
    let output = graph.nodes[last].output().to_owned();
    let mut nodes = affine.nodes(graph, &source, &output);
    if nodes.is_empty() {
        nodes.push(Node::new("Identity", &[&source], &output));
    }
    graph.nodes.splice(last..=last, nodes);
    edit::remove(graph, &chain[..chain.len() - 1]);
    true
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn normalisation_is_offset_then_scale() {
        let mut g = graph("x: N,3 -> y\na = Sub(x, #m:3=1,2,3)\nb = Div(a, #s:=4)\ny = Relu(b)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "b/offset = Add(x, b_offset)\nb = Mul(b/offset, b_scale)\ny = Relu(b)");
        assert_eq!(constant(&g, "b_offset"), [-1.0, -2.0, -3.0]);
        assert_eq!(constant(&g, "b_scale"), [0.25]);
    }

    #[test]
    fn a_constant_minus_x() {
        let mut g = graph("x: N,1 -> y\na = Mul(x, #s:=2)\ny = Sub(#c:=6, a)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!((constant(&g, "y_offset"), constant(&g, "y_scale")), (vec![-3.0], vec![-2.0]));
    }

    #[test]
    fn two_tensors_are_no_chain() {
        let mut g = graph("x: N,1 -> y\na = Div(x, #s:=2)\ny = Mul(a, x)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "a = Mul(x, a_scale)\ny = Mul(a, x)");
    }
}

//! An offset before the first, padded convolution: the offset goes into the bias, and what the padding stands for is
//! written down in a Pad of our own (quantization.md 1.4, 19; 4.5).

use super::align::{add_offset, per_channel};
use super::{StepError, edit};
use crate::onnx::{BRAINCHIP, Graph, Node, Tensor};

/// Rewrites the first convolution.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    Ok(rewrite(graph).is_some())
}

fn rewrite(graph: &mut Graph) -> Option<()> {
    let mut tensor = graph.inputs.first()?.name.clone();
    for op in ["Cast", "Transpose"] {
        if let Some(next) = edit::only_consumer(graph, &tensor).filter(|&n| graph.nodes[n].is(op)) {
            tensor = graph.nodes[next].output().to_owned();
        }
    }
    let add = edit::only_consumer(graph, &tensor).filter(|&n| graph.nodes[n].is("Add"))?;
    let operand = edit::constant_operand(graph, &graph.nodes[add])?;
    let conv = edit::only_consumer(graph, graph.nodes[add].output()).filter(|&n| graph.nodes[n].is("Conv"))?;
    let pads = graph.nodes[conv].ints("pads")?.to_vec();
    let &[top, left, bottom, right] = pads.as_slice() else { return None };
    let kernel = edit::array(graph, graph.nodes[conv].input(1)?)?;
    if pads.iter().all(|&p| p == 0) || graph.nodes[conv].int("group").unwrap_or(1) != 1 {
        return None;
    }
    let offset = per_channel(&edit::array(graph, graph.nodes[add].input(operand)?)?, kernel.shape()[1], 4)?;
    add_offset(graph, conv, &kernel, &offset)?;

    let mut names = edit::Names::default();
    let full = Tensor::new([8], &[0, 0, top, left, 0, 0, bottom, right]);
    let full = edit::add_constant(graph, &format!("{tensor}/pads"), full);
    let values: Vec<f32> = offset.iter().map(|o| -o).collect();
    let values = Tensor::new([values.len()], &values);
    let values = edit::add_constant(graph, &format!("{tensor}/constant_value"), values);
    let padded = names.value(graph);
    let pad = Node {
        name: names.node(graph, "BRNPad"),
        domain: BRAINCHIP.to_owned(),
        ..Node::new("BRNPad", &[&tensor, &full, &values], &padded)
    };
    let name = names.node(graph, "Conv");
    let node = &mut graph.nodes[conv];
    node.name = name;
    node.inputs[0] = padded;
    node.attributes.shift_remove("pads");
    graph.nodes[add] = pad;
    graph.opsets.insert(BRAINCHIP.to_owned(), 1);
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn the_padding_keeps_its_value() {
        let mut g =
            graph("x: N,2,4,4 -> y\na = Add(x, #o:1x2x1x1=1,2)\ny = Conv[pads=1,1,0,0](a, #w:1x2x1x1=3,4, #b:1=7)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "val_0 = BRNPad(x, x/pads, x/constant_value)\ny = Conv(val_0, w, b)");
        assert_eq!((constant(&g, "x/constant_value"), constant(&g, "b")), (vec![-1.0, -2.0], vec![18.0]));
        assert_eq!(g.initializers["x/pads"].values::<i64>("").unwrap(), [0, 0, 1, 1, 0, 0, 0, 0]);
    }
}

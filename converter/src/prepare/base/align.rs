//! Constant factors and offsets around Conv and Gemm go into their weights (quantization.md 1.4, 19).

use ndarray::{ArrayD, Axis};

use super::{StepError, edit};
use crate::onnx::{Graph, Tensor};
use crate::prepare::simplify::scale_axis;

/// Fuses until none is left.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut names = edit::Names::default();
    let mut changed = false;
    let mut number = 0;
    while number < graph.nodes.len() {
        let fused = match graph.nodes[number].op.as_str() {
            "Conv" | "Gemm" => before(graph, number, &mut names),
            "Mul" | "Add" => after(graph, number, &mut names),
            _ => None,
        };
        match fused {
            Some(next) => {
                changed = true;
                number = next; // the node that replaced both is looked at again
            }
            None => number += 1,
        }
    }
    Ok(changed)
}

/// A constant as one value per channel, where axis 1 of a tensor with `rank` dimensions has `channels`.
pub fn per_channel(constant: &ArrayD<f32>, channels: usize, rank: usize) -> Option<Vec<f32>> {
    if constant.len() == 1 {
        return Some(vec![*constant.first()?; channels]);
    }
    let mut shape = vec![1; rank.checked_sub(constant.ndim())?];
    shape.extend(constant.shape());
    let only_channels = shape.iter().enumerate().all(|(at, &len)| if at == 1 { len == channels } else { len == 1 });
    only_channels.then(|| constant.iter().copied().collect())
}

/// Whether a node is a Conv or Gemm whose weights may change.
fn is_main(graph: &Graph, number: usize) -> bool {
    let node = &graph.nodes[number];
    let plain_gemm = node.is("Gemm") && node.int("transB") == Some(1) && node.int("transA").unwrap_or(0) == 0;
    (node.is("Conv") || plain_gemm) && node.input(1).is_some_and(|name| graph.initializers.contains_key(name))
}

/// A Mul or Add right before node `main`.
fn before(graph: &mut Graph, main: usize, names: &mut edit::Names) -> Option<usize> {
    if !is_main(graph, main) {
        return None;
    }
    let number = edit::only_producer(graph, main, 0)?;
    let node = &graph.nodes[number];
    let operand = edit::constant_operand(graph, node)?;
    let kernel = edit::array(graph, graph.nodes[main].input(1)?)?;
    let group = graph.nodes[main].int("group").unwrap_or(1) as usize;
    let channels = kernel.shape()[1] * if graph.nodes[main].is("Conv") { group } else { 1 };
    let constant = per_channel(&edit::array(graph, node.input(operand)?)?, channels, kernel.ndim())?;
    let source = node.inputs[1 - operand].clone();
    if node.is("Mul") {
        let scaled = match group {
            1 => scale_axis(&kernel, 1, &constant)?,
            _ if kernel.shape()[0] == channels && kernel.shape()[1] == 1 => scale_axis(&kernel, 0, &constant)?,
            _ if constant.iter().all(|&c| c == constant[0]) => kernel.mapv(|w| w * constant[0]),
            _ => return None,
        };
        edit::replace_constant(graph, main, 1, edit::tensor(&scaled));
    } else if node.is("Add") {
        let padded = graph.nodes[main].ints("pads").is_some_and(|pads| pads.iter().any(|&p| p != 0));
        if padded || group != 1 {
            return None;
        }
        add_offset(graph, main, &kernel, &constant)?;
    } else {
        return None;
    }
    graph.nodes[main].inputs[0] = source;
    graph.nodes[main].name = names.node(graph, &graph.nodes[main].op);
    graph.nodes.remove(number);
    Some(main - usize::from(number < main))
}

/// Adds to the bias of node `main` what a constant offset of its input adds to the sums: in `f32`, summed as numpy does.
pub fn add_offset(graph: &mut Graph, main: usize, kernel: &ArrayD<f32>, offset: &[f32]) -> Option<()> {
    let shifted = scale_axis(kernel, 1, offset)?;
    let sums: Vec<f32> =
        shifted.axis_iter(Axis(0)).map(|f| pairwise_sum(&f.iter().copied().collect::<Vec<_>>())).collect();
    let bias = match graph.nodes[main].input(2) {
        Some(name) => edit::floats(graph, name).filter(|b| b.len() == sums.len())?,
        None => vec![0.0; sums.len()],
    };
    let bias: Vec<f32> = bias.iter().zip(&sums).map(|(b, s)| b + s).collect();
    set_bias(graph, main, &bias);
    Some(())
}

fn set_bias(graph: &mut Graph, main: usize, bias: &[f32]) {
    let tensor = Tensor::new([bias.len()], bias);
    if graph.nodes[main].input(2).is_some() {
        edit::replace_constant(graph, main, 2, tensor);
    } else {
        let name = edit::add_constant(graph, &format!("{}/bias", graph.nodes[main].inputs[0]), tensor);
        graph.nodes[main].inputs.truncate(2);
        graph.nodes[main].inputs.push(name);
    }
}

/// A Mul or Add right after a Conv or Gemm.
fn after(graph: &mut Graph, number: usize, names: &mut edit::Names) -> Option<usize> {
    let operand = edit::constant_operand(graph, &graph.nodes[number])?;
    let main = edit::only_producer(graph, number, 1 - operand).filter(|&n| is_main(graph, n))?;
    let kernel = edit::array(graph, graph.nodes[main].input(1)?)?;
    let filters = kernel.shape()[0];
    let constant = edit::array(graph, graph.nodes[number].input(operand)?)?;
    let constant = per_channel(&constant, filters, kernel.ndim())?;
    let bias = match graph.nodes[main].input(2) {
        Some(name) => Some(edit::floats(graph, name).filter(|b| b.len() == filters)?),
        None => None,
    };
    if graph.nodes[number].is("Mul") {
        let scaled = edit::tensor(&scale_axis(&kernel, 0, &constant)?);
        edit::replace_constant(graph, main, 1, scaled);
        if let Some(bias) = bias {
            set_bias(graph, main, &bias.iter().zip(&constant).map(|(b, c)| b * c).collect::<Vec<_>>());
        }
    } else {
        let bias = bias.unwrap_or_else(|| vec![0.0; filters]);
        set_bias(graph, main, &bias.iter().zip(&constant).map(|(b, c)| b + c).collect::<Vec<_>>());
    }
    let name = names.node(graph, &graph.nodes[main].op);
    let output = graph.nodes[number].output().to_owned();
    let mut node = graph.nodes[main].clone();
    node.name = name;
    node.outputs[0] = output;
    graph.nodes[number] = node;
    graph.nodes.remove(main);
    Some(number - 1)
}

/// numpy's sum of contiguous `f32`: pairwise, in blocks of 128 with eight running sums.
fn pairwise_sum(values: &[f32]) -> f32 {
    let n = values.len();
    if n < 8 {
        return values.iter().fold(0.0, |sum, v| sum + v);
    }
    if n > 128 {
        let half = n / 2 - (n / 2) % 8;
        return pairwise_sum(&values[..half]) + pairwise_sum(&values[half..]);
    }
    let (blocks, rest) = values.as_chunks::<8>();
    let mut sums = blocks[0];
    for block in &blocks[1..] {
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum += value;
        }
    }
    let total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    rest.iter().fold(total, |sum, v| sum + v)
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{constant, graph, text};

    #[test]
    fn before_a_convolution() {
        let mut g =
            graph("x: N,2,4,4 -> y\na = Add(x, #o:1x2x1x1=1,2)\nm = Mul(a, #s:=10)\ny = Conv(m, #w:1x2x1x1=3,4)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Conv(x, w, a/bias)");
        assert_eq!((constant(&g, "w"), constant(&g, "a/bias")), (vec![30.0, 40.0], vec![110.0]));
        assert_eq!(g.nodes[0].name, "node_Conv_1");
    }

    #[test]
    fn after_a_fully_connected_layer() {
        let mut g =
            graph("x: N,2 -> y\ng = Gemm[transB=1](x, #w:2x2=1,2,3,4)\nm = Mul(g, #s:2=2,3)\ny = Add(m, #o:2=5,6)");
        assert!(super::apply(&mut g).unwrap());
        assert_eq!(text(&g), "y = Gemm[transB = 1](x, w, x/bias)");
        assert_eq!((constant(&g, "w"), constant(&g, "x/bias")), (vec![2.0, 4.0, 9.0, 12.0], vec![5.0, 6.0]));
    }

    #[test]
    fn an_offset_before_padding_stays() {
        let mut g = graph("x: N,2,4,4 -> y\na = Add(x, #o:=1)\ny = Conv[pads=1,1,1,1](a, #w:1x2x3x3=3)");
        assert!(!super::apply(&mut g).unwrap());
    }
}

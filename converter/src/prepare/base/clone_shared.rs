//! Every node gets constants of its own (quantization.md 1.4, 1), so that later steps may change them.

use std::collections::HashMap;

use super::StepError;
use crate::onnx::Graph;

/// Duplicates constants that several nodes read.
pub fn apply(graph: &mut Graph) -> Result<bool, StepError> {
    let mut readers: HashMap<String, usize> = HashMap::new();
    let mut changed = false;
    for number in 0..graph.nodes.len() {
        let mut seen: HashMap<String, String> = HashMap::new();
        for index in 0..graph.nodes[number].inputs.len() {
            let name = graph.nodes[number].inputs[index].clone();
            let Some(tensor) = graph.initializers.get(&name).cloned() else { continue };
            if let Some(own) = seen.get(&name) {
                graph.nodes[number].inputs[index].clone_from(own);
                continue;
            }
            let count = readers.entry(name.clone()).or_default();
            *count += 1;
            let own = match *count {
                1 => name.clone(),
                n => format!("{name}_duplicate_{}", n - 2),
            };
            if *count > 1 {
                graph.initializers.insert(own.clone(), tensor);
                graph.nodes[number].inputs[index].clone_from(&own);
                changed = true;
            }
            seen.insert(name, own);
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use crate::prepare::testing::{after, graph};

    #[test]
    fn the_second_reader_gets_a_copy() {
        let before = graph("x: N,2 -> y\na = Mul(x, #c:=2)\ny = Add(a, c)");
        assert_eq!(after(super::apply, before), "a = Mul(x, c)\ny = Add(a, c_duplicate_0)");
    }
}

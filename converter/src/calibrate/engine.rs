//! Float networks, run by a pure-Rust ONNX runtime: what calibration observes and comparison compares with.

use std::sync::Arc;

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;

use super::CalibrateError;
use super::plain::{Memory, Plain, plain};
use crate::contained::contained;
use crate::onnx::{DType, Graph};

/// A float tensor of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatTensor {
    /// Its name in the graph.
    pub name: String,
    /// Dimensions, the batch of one first.
    pub dims: Vec<usize>,
    /// Elements, row by row.
    pub values: Vec<f32>,
}

/// A loaded float graph and what it remembers between samples.
pub struct FloatNetwork {
    model: Arc<Model>,
    /// Threads of its own; none for those all of the process share.
    threads: Option<Arc<ThreadPool>>,
    input: NodeId,
    /// Dimensions of the input without the batch.
    shape: Vec<usize>,
    /// Tensors that are given back.
    names: Vec<String>,
    ids: Vec<NodeId>,
    memories: Vec<(Memory, Vec<NodeId>, Vec<Vec<f32>>)>,
}

impl FloatNetwork {
    /// Loads a graph with one input of known size: a prepared one, or one of standard operators.
    ///
    /// # Errors
    /// When the runtime does not take the graph.
    pub fn new(prepared: &Graph) -> Result<Self, CalibrateError> {
        let Plain { graph, memories } = plain(prepared)?;
        let fail = |action| move |reason: String| CalibrateError::Runtime { action, reason };
        let bytes = graph.to_bytes()?;
        let load = || ModelOptions::with_all_ops().enable_optimization(false).load(bytes).map_err(|e| e.to_string());
        let model = contained(load).map_err(fail("load"))?;
        let id = |name: &str| model.node_id(name).map_err(|e| fail("find a tensor of")(e.to_string()));
        let input = id(&graph.inputs[0].name)?;
        let shape = prepared.inputs[0].ty.without_batch().unwrap_or_default();
        let names = floats(prepared, &graph);
        let ids = names.iter().map(|name| id(name)).collect::<Result<_, _>>()?;
        let memories = memories
            .into_iter()
            .map(|memory| {
                let ids = memory.inputs.iter().map(|name| id(name)).collect::<Result<Vec<_>, _>>()?;
                let zeros = vec![vec![0.0; memory.shape.iter().product()]; ids.len()];
                Ok((memory, ids, zeros))
            })
            .collect::<Result<_, CalibrateError>>()?;
        Ok(Self { input, shape, names, ids, memories, model: Arc::new(model), threads: None })
    }

    /// The same network for another thread, computed on one thread; None when a sample's result depends on the samples
    /// before it.
    pub fn twin(&self) -> Option<Self> {
        self.memories.is_empty().then(|| Self {
            model: Arc::clone(&self.model),
            threads: Some(Arc::new(ThreadPool::with_num_threads(1))),
            input: self.input,
            shape: self.shape.clone(),
            names: self.names.clone(),
            ids: self.ids.clone(),
            memories: Vec::new(),
        })
    }

    /// Runs the next sample, in the layout of the graph's input, and gives all its float tensors, the input first.
    ///
    /// # Errors
    /// When the sample has another size, or the runtime fails.
    pub fn run(&mut self, sample: Vec<f32>) -> Result<Vec<FloatTensor>, CalibrateError> {
        let fail = |reason: String| CalibrateError::Runtime { action: "run", reason };
        let value = |shape: &[usize], values: Vec<f32>| {
            let dims: Vec<usize> = [1].iter().chain(shape).copied().collect();
            Value::from_shape(dims, values).map_err(|e| fail(e.to_string()))
        };
        let mut inputs: Vec<(NodeId, ValueOrView)> = vec![(self.input, value(&self.shape, sample)?.into())];
        for (memory, ids, frames) in &self.memories {
            for (id, frame) in ids.iter().zip(frames) {
                inputs.push((*id, value(&memory.shape, frame.clone())?.into()));
            }
        }
        let options = self.threads.as_ref().map(|pool| RunOptions::default().with_thread_pool(Some(Arc::clone(pool))));
        let run = || self.model.run(inputs, &self.ids, options).map_err(|e| e.to_string());
        let outputs = contained(run).map_err(fail)?;
        let mut tensors = Vec::with_capacity(outputs.len());
        for (name, output) in self.names.iter().zip(outputs) {
            let Some(tensor) = output.into_tensor::<f32>() else { continue };
            let dims = tensor.shape().to_vec();
            let values = tensor.into_data();
            for (_, _, frames) in self.memories.iter_mut().filter(|(memory, _, _)| memory.tensor == *name) {
                frames.rotate_right(1);
                if let Some(latest) = frames.first_mut() {
                    latest.clone_from(&values);
                }
            }
            tensors.push(FloatTensor { name: name.clone(), dims, values });
        }
        Ok(tensors)
    }
}

/// Names of the float tensors: those of the prepared graph, not those of its spelled-out form.
fn floats(prepared: &Graph, plain: &Graph) -> Vec<String> {
    let float = |name: &String| {
        let ty = prepared.value_type(name).unwrap_or_default();
        ty.dtype.is_none_or(|dtype| dtype == DType::F32) && ty.shape.is_none_or(|shape| !shape.is_empty())
    };
    let made = prepared.nodes.iter().flat_map(|node| &node.outputs).filter(|name| float(name));
    let input = &plain.inputs[0].name;
    [input].into_iter().chain(made.filter(|name| *name != input)).cloned().collect()
}

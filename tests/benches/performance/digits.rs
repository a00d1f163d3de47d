//! The network of the tutorial (tests/data/conformance/mnist_cnn), its digits, and the float runtime beside it.

use std::path::PathBuf;
use std::sync::Arc;

use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx;
use akida_runtime::model::Model;
use akida_tests::conformance::Case;
use ndarray::{ArrayD, Axis, Slice};
use rten::{RunOptions, ThreadPool, Value};

/// Digits of a batch.
pub const BATCH: usize = 64;

/// The case.
pub fn case() -> Case {
    Case::find("mnist_cnn").expect("the case mnist_cnn is in tests/data/conformance")
}

/// The float network as torch.onnx wrote it.
pub fn float_file() -> PathBuf {
    case().path("model.onnx")
}

/// The quantized graph.
pub fn quantized_file() -> PathBuf {
    case().path("quantized.onnx")
}

/// Its model.
pub fn model() -> Arc<Model> {
    let graph = onnx::load(&quantized_file()).expect("the quantized graph");
    Arc::new(import(&graph, ImportOptions::default()).expect("a model").model)
}

/// Pixels of the first [`BATCH`] digits, in (height, width, channels) order.
pub fn pixels() -> Vec<Vec<u8>> {
    let pixels = case().npz("inputs.npz").expect("inputs.npz").integers("x_u8");
    pixels.axis_iter(Axis(0)).take(BATCH).map(|digit| digit.iter().map(|&v| v as u8).collect()).collect()
}

/// The same digits as the float network takes them.
pub fn floats() -> ArrayD<f32> {
    case().inputs().slice_axis(Axis(0), Slice::from(..BATCH)).to_owned()
}

/// The float network in rten, with everything rten does for speed, on one thread.
pub struct Float {
    model: rten::Model,
    pool: Arc<ThreadPool>,
}

impl Float {
    pub fn load() -> Self {
        let model = rten::Model::load_file(float_file()).expect("rten takes the float network");
        Self { model, pool: Arc::new(ThreadPool::with_num_threads(1)) }
    }

    /// Does work on the thread that rten computes on: handing each run over to another thread would be measured too.
    pub fn on_its_thread(&self, work: impl FnOnce() + Send) {
        self.pool.run(work);
    }

    /// A batch of digits for [`run`](Self::run).
    pub fn input(digits: &ArrayD<f32>, count: usize) -> Value {
        let values: Vec<f32> = digits.iter().take(count * 28 * 28).copied().collect();
        Value::from_shape(vec![count, 1, 28, 28], values).expect("as many values as the shape has")
    }

    /// Scores of a batch.
    pub fn run(&self, input: &Value) -> Value {
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        self.model.run_one(input.into(), Some(options)).expect("rten runs the float network")
    }
}

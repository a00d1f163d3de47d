//! Small float networks for tests, made node by node, with weights from a seed.

use akida_converter::onnx::{Attribute, DType, Dim, Graph, Node, Tensor, Value, ValueType};

use akida_tests::generate::Random;

/// A network that grows from its input on.
pub struct Net {
    /// What there is of it.
    pub graph: Graph,
    random: Random,
    made: usize,
}

impl Net {
    /// A network that takes `dims` behind a batch.
    pub fn new(name: &str, seed: u64, dims: &[usize]) -> Self {
        let mut graph = Graph { name: name.to_owned(), ir_version: 8, ..Graph::default() };
        graph.opsets.insert(String::new(), 18);
        let dims: Vec<Dim> = [Dim::Named("N".into())].into_iter().chain(dims.iter().map(|&d| d.into())).collect();
        graph.inputs = vec![Value { name: "x".into(), ty: ValueType::new(DType::F32, dims) }];
        Self { graph, random: Random::new(seed), made: 0 }
    }

    /// A float in [-1, 1), always the same for a seed.
    fn float(&mut self) -> f32 {
        (self.random.between(0, (1 << 20) - 1) as f32) / (1 << 19) as f32 - 1.0
    }

    /// A constant of the given size around zero.
    pub fn weights(&mut self, dims: &[usize], size: f32) -> String {
        let values: Vec<f32> = (0..dims.iter().product::<usize>()).map(|_| self.float() * size).collect();
        self.constant(Tensor::new(dims, &values))
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> String {
        self.made += 1;
        let name = format!("c{}", self.made);
        self.graph.initializers.insert(name.clone(), tensor);
        name
    }

    /// A node with one output, whose name comes back.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.made += 1;
        let name = format!("{}_{}", op.to_lowercase(), self.made);
        let mut node =
            attributes.iter().fold(Node::new(op, inputs, &name), |n, (key, value)| n.with(key, value.clone()));
        if matches!(op, "Conv" | "ConvTranspose") {
            // The float runtime wants them spelled out.
            let spatial = self.graph.initializers[inputs[1]].dims().len() - 2;
            for (key, values) in
                [("strides", vec![1; spatial]), ("dilations", vec![1; spatial]), ("pads", vec![0; 2 * spatial])]
            {
                node.attributes.entry(key.to_owned()).or_insert(values.into());
            }
        }
        self.graph.nodes.push(node);
        name
    }

    /// A convolution with bias: `channels` to `filters`.
    pub fn conv(
        &mut self,
        x: &str,
        [channels, filters]: [usize; 2],
        kernel: [usize; 2],
        stride: [i64; 2],
        pads: [i64; 4],
    ) -> String {
        let size = (2.0 / (channels * kernel[0] * kernel[1]) as f32).sqrt() * 1.7;
        let weights = self.weights(&[filters, channels, kernel[0], kernel[1]], size);
        let bias = self.weights(&[filters], 0.2);
        let ints = |values: &[i64]| Attribute::Ints(values.to_vec());
        let shape = [kernel[0] as i64, kernel[1] as i64];
        self.node(
            "Conv",
            &[x, &weights, &bias],
            &[("kernel_shape", ints(&shape)), ("strides", ints(&stride)), ("pads", ints(&pads))],
        )
    }

    /// A 3x3 convolution that keeps the size, or halves it with stride 2, and its Relu.
    pub fn block(&mut self, x: &str, channels: [usize; 2], stride: i64) -> String {
        let y = self.conv(x, channels, [3, 3], [stride; 2], [1; 4]);
        self.node("Relu", &[&y], &[])
    }

    /// Global average, Flatten, and a dense layer.
    pub fn head(&mut self, x: &str, channels: usize, classes: usize) -> String {
        let y = self.node("GlobalAveragePool", &[x], &[]);
        let y = self.node("Flatten", &[&y], &[("axis", 1.into())]);
        self.dense(&y, channels, classes)
    }

    /// A dense layer.
    pub fn dense(&mut self, x: &str, inputs: usize, units: usize) -> String {
        let (w, b) = (self.weights(&[units, inputs], (3.0 / inputs as f32).sqrt()), self.weights(&[units], 0.2));
        self.node("Gemm", &[x, &w, &b], &[("transB", 1.into())])
    }

    /// The network with these outputs.
    pub fn done(mut self, outputs: &[&str]) -> Graph {
        let value =
            |name: &&str| Value { name: (*name).to_owned(), ty: ValueType { dtype: Some(DType::F32), shape: None } };
        self.graph.outputs = outputs.iter().map(value).collect();
        self.graph
    }

    /// Samples of the network's input, batch first: smooth enough to be like data.
    pub fn samples(dims: &[usize], count: usize, seed: u64) -> ndarray::ArrayD<f32> {
        let mut random = Random::new(seed);
        let shape: Vec<usize> = [count].iter().chain(dims).copied().collect();
        let len: usize = shape.iter().product();
        let values = (0..len).map(|_| random.between(0, (1 << 16) - 1) as f32 / (1 << 15) as f32 - 0.5).collect();
        ndarray::ArrayD::from_shape_vec(shape, values).expect("as many values as the shape has")
    }
}

//! From a request's tensor to what enters a network. Checked in two steps: what the head of the request says, at once and
//! before anything is queued ([`Plan::new`]); its values, when the input is made ([`Plan::prepare`]).

use std::io::Cursor;

use akida_runtime::edge::{self, EdgeError};
use akida_runtime::model::Model;
use akida_tools::samples::{Expected, ImageLimits, pixels};
use bytes::Bytes;
use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::model::Served;
use crate::error::{Kind, ServeError};
use crate::request::{DataType, NamedTensor};

/// Largest image a client may send, by its side and by what its decoder takes: a small file must not become a large one.
const IMAGES: ImageLimits = ImageLimits { side: 8192, bytes: 256 << 20 };

/// Samples of a network, ready to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Integers of the first layer, (height, width, channels), one sample after another: the bytes of the request itself where
    /// they can enter the layer as they came.
    Integers {
        /// Of all samples.
        bytes: Bytes,
        /// Of one.
        each: usize,
    },
    /// Floats, batch first, for networks that begin on the host.
    Floats(ArrayD<f32>),
}

/// What is to be made of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Samples.
    pub samples: usize,
    form: Form,
    data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Floats,
    Raw,
    Images,
}

fn invalid(message: impl Into<String>) -> ServeError {
    ServeError::new(Kind::Invalid, message)
}

impl Plan {
    /// Checks name, type, shape and length.
    ///
    /// # Errors
    /// [`Kind::Invalid`], with what the model takes.
    pub fn new(served: &Served, inputs: &[NamedTensor]) -> Result<Self, ServeError> {
        let network = &served.network;
        let name = &network.input.name;
        let [tensor] = inputs else {
            return Err(invalid(format!(
                "{} inputs were sent; model {} takes one, {name:?}",
                inputs.len(),
                served.name
            )));
        };
        if tensor.name != *name {
            return Err(invalid(format!(
                "there is no input {:?}; the input of model {} is {name:?}",
                tensor.name, served.name
            )));
        }
        let form = form(served, tensor)?;
        let samples = tensor.shape.first().copied().unwrap_or(0);
        if samples == 0 {
            return Err(invalid(format!("input {name:?} has no samples: its shape is {:?}", tensor.shape)));
        }
        let most = served.options.max_batch;
        if samples > most {
            return Err(invalid(format!(
                "input {name:?} has {samples} samples; model {} takes {most} in a request (max_batch): send several",
                served.name
            )));
        }
        if let Some(size) = tensor.datatype.size() {
            let elements = tensor.shape.iter().try_fold(1usize, |all, &d| all.checked_mul(d));
            let expected = elements.and_then(|e| e.checked_mul(size));
            if expected != Some(tensor.data.len()) {
                return Err(invalid(format!(
                    "input {name:?} has {} bytes; {} {:?} takes {}",
                    tensor.data.len(),
                    tensor.datatype,
                    tensor.shape,
                    expected.map_or_else(|| "more than there are".to_owned(), |e| e.to_string())
                )));
            }
        }
        Ok(Self { samples, form, data: tensor.data.clone() })
    }

    /// Bytes the request brought.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Whether making the input takes long enough to be done elsewhere than where requests come in.
    pub fn heavy(&self) -> bool {
        self.form == Form::Images || self.data.len() > 256 << 10
    }

    /// Makes the input: quantizes floats, checks integers, decodes images.
    ///
    /// # Errors
    /// [`Kind::Invalid`], naming sample and element.
    pub fn prepare(&self, served: &Served) -> Result<Input, ServeError> {
        let network = &served.network;
        match (served.first_board(), self.form) {
            (Some(model), Form::Floats) => {
                let each = model.input.tensor.elements();
                let mut bytes = Vec::with_capacity(each * self.samples);
                for (sample, data) in self.data.chunks_exact(each * 4).enumerate() {
                    let floats = floats(sample, data)?;
                    let quantized = edge::quantize_sample(&model.input, &floats);
                    bytes.extend(quantized.map_err(|e| wrong_sample(sample, &e))?);
                }
                Ok(Input::Integers { bytes: bytes.into(), each })
            }
            (Some(model), Form::Raw) => {
                let each = model.input.tensor.elements();
                let samples = self.data.chunks_exact(each).enumerate();
                let bytes = match model.input.layout.is_turned() {
                    true => {
                        samples.map(|(n, data)| raw(model, n, data)).collect::<Result<Vec<_>, _>>()?.concat().into()
                    }
                    false => {
                        samples.into_iter().try_for_each(|(sample, data)| in_range(model, sample, data))?;
                        self.data.clone()
                    }
                };
                Ok(Input::Integers { bytes, each })
            }
            (Some(model), Form::Images) => {
                let expected = Expected::of(network);
                let mut bytes = Vec::new();
                for (sample, encoded) in strings(&self.data, self.samples)?.into_iter().enumerate() {
                    let pixels = image(served, &expected, sample, encoded)?;
                    bytes.extend(match &served.options.normalize {
                        None => raw(model, sample, pixels.as_slice().unwrap_or_default())?,
                        Some(normalize) => {
                            let floats = normalize.apply(&pixels, &expected).map_err(|e| invalid(e.message))?;
                            let floats: Vec<f32> = floats.iter().copied().collect();
                            edge::quantize_sample(&model.input, &floats).map_err(|e| wrong_sample(sample, &e))?
                        }
                    });
                }
                Ok(Input::Integers { bytes: bytes.into(), each: model.input.tensor.elements() })
            }
            (None, Form::Floats) => {
                let one = network.input.len() * 4;
                let mut all = Vec::with_capacity(self.data.len() / 4);
                for (sample, bytes) in self.data.chunks_exact(one).enumerate() {
                    all.extend(floats(sample, bytes)?);
                }
                self.batch(network.input.dims[1..].to_vec(), all)
            }
            (None, Form::Images) => {
                let expected = Expected::of(network);
                let mut all = Vec::new();
                for (sample, encoded) in strings(&self.data, self.samples)?.into_iter().enumerate() {
                    let pixels = image(served, &expected, sample, encoded)?;
                    let Some(normalize) = &served.options.normalize else {
                        return Err(invalid("images need mean and std in model.toml: the network begins on the host"));
                    };
                    all.extend(normalize.apply(&pixels, &expected).map_err(|e| invalid(e.message))?);
                }
                self.batch(network.input.dims[1..].to_vec(), all)
            }
            (None, Form::Raw) => Err(invalid("the network begins on the host: give FP32")),
        }
    }

    fn batch(&self, dims: Vec<usize>, values: Vec<f32>) -> Result<Input, ServeError> {
        let dims: Vec<usize> = [self.samples].into_iter().chain(dims).collect();
        let array = ArrayD::from_shape_vec(IxDyn(&dims), values);
        array.map(Input::Floats).map_err(|e| invalid(format!("the input is no batch of {dims:?}: {e}")))
    }
}

/// Which of the forms a model takes a tensor has.
fn form(served: &Served, tensor: &NamedTensor) -> Result<Form, ServeError> {
    let network = &served.network;
    let name = &tensor.name;
    let dims = &network.input.dims[1..];
    let shape = tensor.shape.get(1..).unwrap_or_default();
    let wrong = || {
        let info = served.info(Vec::new(), &[]);
        let mut taken = Vec::new();
        for input in info.inputs {
            taken.push(format!("{} {:?}", input.datatype, input.shape));
            taken.extend(input.also.iter().map(|(datatype, shape)| format!("{datatype} {shape:?}")));
        }
        let (datatype, shape) = (tensor.datatype, &tensor.shape);
        invalid(format!("input {name:?} is {datatype} {shape:?}; model {} takes {}", served.name, taken.join(" or ")))
    };
    let model = served.first_board();
    match tensor.datatype {
        DataType::Fp32 => match model {
            Some(m) if m.input.quantizer.is_none() => Err(wrong()),
            _ if shape == dims => Ok(Form::Floats),
            _ => Err(wrong()),
        },
        DataType::Uint8 | DataType::Int8 => {
            let Some(m) = model else { return Err(wrong()) };
            let [h, w, c] = m.input.tensor.shape;
            let fits = shape == [h, w, c]
                || (c == 1 && (shape == [h, w] || shape == [1, h, w]))
                || ([h, w] == [1, 1] && shape == [c]);
            let signed = tensor.datatype == DataType::Int8;
            if fits && signed == m.input.tensor.signed { Ok(Form::Raw) } else { Err(wrong()) }
        }
        DataType::Bytes => {
            let info = served.info(Vec::new(), &[]);
            let takes = info.inputs.iter().flat_map(|i| &i.also).any(|(datatype, _)| *datatype == DataType::Bytes);
            if takes && matches!(shape, [] | [1]) { Ok(Form::Images) } else { Err(wrong()) }
        }
        _ => Err(wrong()),
    }
}

fn wrong_sample(sample: usize, error: &EdgeError) -> ServeError {
    invalid(format!("sample {sample}: {error}"))
}

fn floats(sample: usize, bytes: &[u8]) -> Result<Vec<f32>, ServeError> {
    let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(at) => Err(invalid(format!("sample {sample}: element {at} is {}, not a finite number", values[at]))),
    }
}

/// Integers of a first layer, in its order.
fn raw(model: &Model, sample: usize, bytes: &[u8]) -> Result<Vec<u8>, ServeError> {
    in_range(model, sample, bytes)?;
    Ok(edge::chip_order(&model.input, bytes.to_vec()))
}

/// Checks integers of a first layer, which may be of fewer than 8 bits.
fn in_range(model: &Model, sample: usize, bytes: &[u8]) -> Result<(), ServeError> {
    let tensor = &model.input.tensor;
    let (min, max) = tensor.range();
    let value = |b: u8| if tensor.signed { i32::from(b.cast_signed()) } else { i32::from(b) };
    if tensor.bits < 8
        && let Some(at) = bytes.iter().position(|&b| !(min..=max).contains(&value(b)))
    {
        let found = value(bytes[at]);
        return Err(invalid(format!("sample {sample}: element {at} is {found}; the input goes from {min} to {max}")));
    }
    Ok(())
}

fn image(served: &Served, expected: &Expected, sample: usize, encoded: &[u8]) -> Result<ArrayD<u8>, ServeError> {
    let what = format!("image {sample}");
    let [h, w, c] = expected.shape;
    let bytes = pixels(&what, Cursor::new(encoded), expected, served.options.resize, IMAGES).map_err(|e| {
        let help = match e.help.contains("--resize") {
            true => "scale it, or set resize in the [image] part of the model's model.toml",
            false => e.help.as_str(),
        };
        invalid(format!("{}: {help}", e.message))
    })?;
    ArrayD::from_shape_vec(IxDyn(&[1, h, w, c]), bytes).map_err(|e| invalid(format!("{what}: {e}")))
}

/// The elements of a BYTES tensor: each with its length before it.
pub fn strings(mut data: &[u8], count: usize) -> Result<Vec<&[u8]>, ServeError> {
    let mut all = Vec::new();
    while !data.is_empty() {
        let element = data.split_first_chunk::<4>().and_then(|(len, rest)| {
            let len = u32::from_le_bytes(*len) as usize;
            rest.split_at_checked(len)
        });
        let Some((element, rest)) = element else {
            let at = all.len();
            return Err(invalid(format!(
                "element {at} of the BYTES tensor is cut short: 4 bytes of length, then as many"
            )));
        };
        all.push(element);
        if all.len() > count {
            break;
        }
        data = rest;
    }
    match all.len() == count {
        true => Ok(all),
        false => Err(invalid(format!("the BYTES tensor has {} elements, its shape says {count}", all.len()))),
    }
}

impl Input {
    /// The floats, where a network takes them.
    pub fn floats(&self) -> Option<ArrayViewD<'_, f32>> {
        match self {
            Input::Floats(array) => Some(array.view()),
            Input::Integers { .. } => None,
        }
    }

    /// The integers of each sample.
    pub fn samples(&self) -> impl Iterator<Item = &[u8]> {
        let (bytes, each) = match self {
            Input::Integers { bytes, each } => (&bytes[..], *each),
            Input::Floats(_) => (&[][..], 1),
        };
        bytes.chunks_exact(each.max(1))
    }
}

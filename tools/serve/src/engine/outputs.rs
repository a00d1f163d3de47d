//! From a batch's results to the tensors a request asked for.

use akida_runtime::hybrid::{HostValues, HybridModel, HybridOutputs, Part, PartResults};
use bytes::Bytes;

use super::model::Served;
use crate::error::{Kind, ServeError};
use crate::request::{DataType, NamedTensor, RequestedOutput};

/// Behind an output's name: its integers before the dequantizer, INT32.
pub const RAW: &str = ":raw";

/// An output that is asked for, found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    name: String,
    from: From,
    /// The best classes instead of the numbers; 0: the numbers.
    classes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// An output of the network.
    Port(usize),
    /// Integers of a board part's output.
    Raw { part: usize, output: usize },
}

/// Finds what is asked for; nothing asked for is every output.
///
/// # Errors
/// [`Kind::Invalid`] for an output that is not there, or is asked for twice.
pub fn find(served: &Served, asked: &[RequestedOutput]) -> Result<Vec<Wanted>, ServeError> {
    let network = &served.network;
    if asked.is_empty() {
        let all = network.outputs.iter().enumerate();
        return Ok(all.map(|(i, p)| Wanted { name: p.name.clone(), from: From::Port(i), classes: 0 }).collect());
    }
    let mut wanted: Vec<Wanted> = Vec::with_capacity(asked.len());
    for output in asked {
        let port = network.outputs.iter().position(|p| p.name == output.name).map(From::Port);
        let Some(from) = port.or_else(|| raw(network, &output.name)) else {
            let names: Vec<&str> = network.outputs.iter().map(|p| p.name.as_str()).collect();
            return Err(ServeError::new(
                Kind::Invalid,
                format!(
                    "there is no output {:?}; model {} has {names:?}, and {RAW} behind a name gives a board's integers",
                    output.name, served.name
                ),
            ));
        };
        if wanted.iter().any(|w| w.name == output.name) {
            return Err(ServeError::new(Kind::Invalid, format!("output {:?} is asked for twice", output.name)));
        }
        wanted.push(Wanted { name: output.name.clone(), from, classes: output.classification });
    }
    Ok(wanted)
}

/// `NAME:raw`, where a board part makes output NAME.
fn raw(network: &HybridModel, name: &str) -> Option<From> {
    let name = name.strip_suffix(RAW)?;
    network.outputs.iter().find(|p| p.name == name)?;
    network.parts.iter().enumerate().find_map(|(part, p)| match p {
        Part::Board(model) => {
            model.outputs.iter().position(|o| o.name == name).map(|output| From::Raw { part, output })
        }
        Part::Host(_) => None,
    })
}

/// The tensors of the request whose samples are `first..first + count` of the batch.
///
/// # Errors
/// [`Kind::Internal`] when the results are not those of the network.
pub fn encode(
    served: &Served,
    results: &HybridOutputs,
    wanted: &[Wanted],
    first: usize,
    count: usize,
) -> Result<Vec<NamedTensor>, ServeError> {
    wanted.iter().map(|w| tensor(served, results, w, first, count)).collect()
}

/// Numbers of one request.
enum Numbers<'a> {
    F32(&'a [f32]),
    I32(&'a [i32]),
    I64(&'a [i64]),
}

fn tensor(
    served: &Served,
    results: &HybridOutputs,
    wanted: &Wanted,
    first: usize,
    count: usize,
) -> Result<NamedTensor, ServeError> {
    let lost = || ServeError::new(Kind::Internal, format!("output {:?} is missing in the results", wanted.name));
    let (shape, numbers) = match wanted.from {
        From::Port(port) => match results.outputs.get(port) {
            Some(HostValues::F32(array)) => (array.shape(), array.as_slice().map(Numbers::F32)),
            Some(HostValues::I64(array)) => (array.shape(), array.as_slice().map(Numbers::I64)),
            None => return Err(lost()),
        },
        From::Raw { part, output } => match results.parts.get(part) {
            Some(PartResults::Board { outputs, .. }) => {
                let array = outputs.raw.get(output).ok_or_else(lost)?;
                (array.shape(), array.as_slice().map(Numbers::I32))
            }
            _ => return Err(lost()),
        },
    };
    let one: usize = shape[1..].iter().product();
    let range = first * one..(first + count) * one;
    let numbers = match numbers.ok_or_else(lost)? {
        Numbers::F32(all) => Numbers::F32(all.get(range).ok_or_else(lost)?),
        Numbers::I32(all) => Numbers::I32(all.get(range).ok_or_else(lost)?),
        Numbers::I64(all) => Numbers::I64(all.get(range).ok_or_else(lost)?),
    };
    if wanted.classes > 0 {
        return Ok(classes(wanted, &numbers, one, count, &served.options.labels));
    }
    let (datatype, data) = match numbers {
        Numbers::F32(values) => (DataType::Fp32, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()),
        Numbers::I32(values) => (DataType::Int32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Numbers::I64(values) => (DataType::Int64, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    let shape = [count].into_iter().chain(shape[1..].iter().copied()).collect();
    Ok(NamedTensor { name: wanted.name.clone(), datatype, shape, data: data.into() })
}

/// The best classes of each sample as `score:index[:label]`, the best first; of equal scores the smaller index.
fn classes(wanted: &Wanted, numbers: &Numbers, one: usize, count: usize, labels: &[String]) -> NamedTensor {
    let best = wanted.classes.min(one);
    let mut data = Vec::new();
    for sample in 0..count {
        let at = |i: usize| match numbers {
            Numbers::F32(v) => f64::from(v[sample * one + i]),
            Numbers::I32(v) => f64::from(v[sample * one + i]),
            Numbers::I64(v) => v[sample * one + i] as f64,
        };
        let mut order: Vec<usize> = (0..one).collect();
        order.sort_by(|&a, &b| at(b).total_cmp(&at(a)).then(a.cmp(&b)));
        for &index in &order[..best] {
            let mut text = format!("{:.6}:{index}", at(index));
            if let Some(label) = labels.get(index) {
                text.push(':');
                text.push_str(label);
            }
            data.extend((text.len() as u32).to_le_bytes());
            data.extend(text.as_bytes());
        }
    }
    NamedTensor {
        name: wanted.name.clone(),
        datatype: DataType::Bytes,
        shape: vec![count, best],
        data: Bytes::from(data),
    }
}

//! Constants of one node, checked as they are taken.

use akida_runtime::model::{Lut, ScaleOut};

use super::ImportError;
use crate::onnx::{Element, Graph, Node, Tensor};

/// A node, its graph, and what each of its inputs is for.
pub struct Constants<'a> {
    pub graph: &'a Graph,
    pub node: &'a Node,
    /// Role of each input, as [`super::op::FusedOp::inputs`] lists them.
    pub roles: &'a [&'static str],
}

impl<'a> Constants<'a> {
    /// The initializer with a role, and its name.
    pub fn tensor(&self, role: &str) -> Result<(&'a str, &'a Tensor), ImportError> {
        let index = self.roles.iter().position(|r| *r == role);
        let Some(name) = index.and_then(|index| self.node.input(index)) else {
            return Err(ImportError::node(self.node, format!("input {role} is missing")));
        };
        match self.graph.initializers.get(name) {
            Some(tensor) => Ok((name, tensor)),
            None => Err(ImportError::node(self.node, format!("input {role} is '{name}', not an initializer"))),
        }
    }

    /// All values of an initializer, and its name and dimensions.
    pub fn values<T: Element>(&self, role: &str) -> Result<(&'a str, &'a [usize], Vec<T>), ImportError> {
        let (name, tensor) = self.tensor(role)?;
        if tensor.dtype() != T::DTYPE {
            let reason = format!("{role} has elements of type {}, not {}", tensor.dtype(), T::DTYPE);
            return Err(ImportError::constant(self.node, name, reason));
        }
        Ok((name, tensor.dims(), tensor.values(name)?))
    }

    /// One value for each of `count` channels, or one for all.
    pub fn per_channel<T: Element>(&self, role: &str, count: usize) -> Result<Vec<T>, ImportError> {
        let (name, dims, values) = self.values::<T>(role)?;
        // Channels are axis 1 of an activation, or the only axis, or axis 0 of (channels, 1, 1).
        let along_channels = match dims {
            [n] | [1, n] | [1, n, 1, 1] | [n, 1, 1] => *n == count,
            _ => false,
        };
        if along_channels || (values.len() == 1 && dims.len() <= 4) {
            return Ok(values);
        }
        let reason = format!(
            "{role} has shape {dims:?}; {count} channels need [{count}], [1, {count}], [1, {count}, 1, 1] or one value"
        );
        Err(ImportError::constant(self.node, name, reason))
    }

    /// One value for each of `count` channels, repeated when the initializer has one for all.
    pub fn every_channel<T: Element>(&self, role: &str, count: usize) -> Result<Vec<T>, ImportError> {
        let values = self.per_channel(role, count)?;
        Ok(if values.len() == 1 { vec![values[0]; count] } else { values })
    }

    /// Exponents of powers of two.
    pub fn exponents(&self, role: &str, count: usize) -> Result<Vec<i8>, ImportError> {
        let (name, ..) = self.tensor(role)?;
        let exponent = |value: f32| {
            power_of_two(value).ok_or_else(|| {
                let reason = format!("{role} holds {value}, not a power of two from 2^-31 to 2^32");
                ImportError::constant(self.node, name, reason)
            })
        };
        self.per_channel::<f32>(role, count)?.into_iter().map(exponent).collect()
    }

    /// An output scale: mantissas and exponents, equally many.
    pub fn scale_out(&self, mantissa: &str, shift: &str, count: usize) -> Result<ScaleOut, ImportError> {
        let mut m = self.per_channel::<u8>(mantissa, count)?;
        let mut k = self.exponents(shift, count)?;
        if m.len() != k.len() {
            if m.len() == 1 {
                m = vec![m[0]; count];
            } else {
                k = vec![k[0]; count];
            }
        }
        Ok(ScaleOut { m, k })
    }

    /// A look-up table and the scale that leads to it.
    pub fn lut(&self, count: usize) -> Result<Lut, ImportError> {
        let (name, dims, values) = self.values::<i32>("LUT_values")?;
        if dims != [Lut::ENTRIES] {
            let reason = format!("the look-up table has shape {dims:?}, not [{}]", Lut::ENTRIES);
            return Err(ImportError::constant(self.node, name, reason));
        }
        let entry = |value: i32| {
            i16::try_from(value).map_err(|_| {
                let reason = format!("the look-up table holds {value}, which has more than 16 bits");
                ImportError::constant(self.node, name, reason)
            })
        };
        let table = values.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Lut { table, scale: self.scale_out("ActScale", "ActShift", count)? })
    }

    /// An attribute of `N` sizes.
    pub fn sizes<const N: usize>(&self, attribute: &str) -> Result<[usize; N], ImportError> {
        let wrong = |found: &dyn std::fmt::Debug| {
            let reason = format!("attribute {attribute} is {found:?}, not {N} non-negative integers");
            ImportError::node(self.node, reason)
        };
        let Some(values) = self.node.ints(attribute) else {
            return Err(wrong(&self.node.attributes.get(attribute)));
        };
        let sizes: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
        sizes.and_then(|sizes| sizes.try_into().ok()).ok_or_else(|| wrong(&values))
    }

    /// [top, left, bottom, right] out of ONNX pads over (batch, channel, height, width).
    pub fn pads(&self) -> Result<[usize; 4], ImportError> {
        let (name, _, pads) = self.values::<i64>("pads")?;
        let wrong = || {
            let reason = format!(
                "pads are {pads:?}, not 8 integers of which those of batch and channels are 0 and none negative"
            );
            ImportError::constant(self.node, name, reason)
        };
        let &[0, 0, top, left, 0, 0, bottom, right] = pads.as_slice() else { return Err(wrong()) };
        let mut sizes = [0; 4];
        for (size, pad) in sizes.iter_mut().zip([top, left, bottom, right]) {
            *size = usize::try_from(pad).map_err(|_| wrong())?;
        }
        Ok(sizes)
    }
}

/// k of 2^k.
fn power_of_two(value: f32) -> Option<i8> {
    const MANTISSA: u32 = (1 << 23) - 1;
    let bits = value.to_bits();
    // The sign is 0, the number normal and finite; what remains is the exponent.
    let exponent = i32::from((bits >> 23) as u16) - 127;
    (bits & MANTISSA == 0 && (-31..=32).contains(&exponent)).then_some(exponent as i8)
}

#[cfg(test)]
mod tests {
    use super::power_of_two;

    #[test]
    fn powers_of_two() {
        for k in -31..=32 {
            assert_eq!(power_of_two(2f32.powi(k)), Some(k as i8));
        }
        for value in
            [0.0, -0.0, -2.0, 3.0, 1.5, 2f32.powi(33), 2f32.powi(-32), f32::INFINITY, f32::NAN, f32::MIN_POSITIVE / 2.0]
        {
            assert_eq!(power_of_two(value), None, "{value}");
        }
    }
}

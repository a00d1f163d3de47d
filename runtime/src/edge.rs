//! The edges of a network: floats to integers at its input, integers to floats at its outputs, and the order of their
//! elements.
//!
//! All arithmetic is f32 in the order of the quantized ONNX graph (quantization.md 3.4 and 5.4), so that results are
//! the same bits.

use std::borrow::Cow;

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use crate::model::{DequantizeBy, Input, Model, OnnxLayout, Output, Shape};

/// Why floats are no input of a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EdgeError {
    /// The model takes integers.
    #[error("{name} has no quantizer: the model takes integers, not floats")]
    NoQuantizer {
        /// Name of the model's input.
        name: String,
    },
    /// An array that is no batch of samples.
    #[error("the input has shape {found:?}; {name} takes {} after the batch", show(.sample))]
    Shape {
        /// Name of the model's input.
        name: String,
        /// Shape of the array.
        found: Vec<usize>,
        /// Dimensions of one sample.
        sample: Vec<usize>,
    },
    /// Not a number.
    #[error("element {index} of the input of {name} is not a number")]
    NotANumber {
        /// Name of the model's input.
        name: String,
        /// Position in the sample, row-major.
        index: usize,
    },
}

fn show(dims: &[usize]) -> String {
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")
}

/// Quantizes a batch of floats in the layout of the ONNX graph, (batch, ...): for each sample the bytes that enter the
/// first layer, in (height, width, channels) order, two's complement when the input is signed.
///
/// `q = sat(round_half_even(x / scale) + zero_point)`, a division in f32 and not a product with the reciprocal.
///
/// # Errors
/// When the model has no quantizer, the shape is wrong, or there is a NaN. Infinities saturate.
pub fn quantize_input(model: &Model, batch: ArrayViewD<'_, f32>) -> Result<Vec<Vec<u8>>, EdgeError> {
    let input = &model.input;
    let sample = input.layout.dims(input.tensor.shape);
    if batch.ndim() == 0 || batch.shape()[1..] != sample {
        return Err(EdgeError::Shape { name: input.name.clone(), found: batch.shape().to_vec(), sample });
    }
    batch.outer_iter().map(|view| quantize_sample(input, &row_major(view))).collect()
}

/// The elements of a view, row-major, where they lie if they lie so.
pub(crate) fn row_major<T: Copy>(view: ArrayViewD<'_, T>) -> Cow<'_, [T]> {
    match view.to_slice() {
        Some(values) => Cow::Borrowed(values),
        None => view.iter().copied().collect(),
    }
}

/// Raw integers of one sample, (height, width, channels) whatever the layout of the ONNX input, in the order in which
/// they enter the first layer: turned by 180 degrees where the model is.
pub fn chip_order(input: &Input, values: Vec<u8>) -> Vec<u8> {
    if input.layout.is_turned() && values.len() == input.tensor.elements() {
        OnnxLayout::NhwcTurned.to_chip(&values, input.tensor.shape)
    } else {
        values
    }
}

/// [`f32::round_ties_even`] of what is below 2^22, as an integer. Where the unit in the last place is 1 a sum is rounded to whole numbers,
/// and so the way all of f32 is, and its bits count them: an addition and a subtraction, which can be done for many at once.
fn round_ties_even(x: f32) -> i32 {
    const ONES: f32 = 12_582_912.0; // 1.5 * 2^23
    (x + ONES).to_bits().wrapping_sub(ONES.to_bits()).cast_signed()
}

/// One element, as [`quantize_input`].
fn quantize(x: f32, (scale, zero_point): (f32, i32), (min, max): (i32, i32)) -> u8 {
    // Far beyond any element and well within i32: the sum with a zero point saturates to the same.
    let rounded = round_ties_even((x / scale).clamp(-65_536.0, 65_536.0));
    (rounded + zero_point).max(min).min(max) as u8
}

/// Quantizes one sample, row-major in the layout of the ONNX graph; as [`quantize_input`].
///
/// # Errors
/// As [`quantize_input`].
pub fn quantize_sample(input: &Input, sample: &[f32]) -> Result<Vec<u8>, EdgeError> {
    let Some(quantizer) = &input.quantizer else { return Err(EdgeError::NoQuantizer { name: input.name.clone() }) };
    let shape = input.tensor.shape;
    if sample.len() != input.tensor.elements() {
        let dims = input.layout.dims(shape);
        return Err(EdgeError::Shape { name: input.name.clone(), found: vec![sample.len()], sample: dims });
    }
    // All are looked at, many at once; where one is found, once more one by one.
    if sample.iter().fold(false, |nan, x| nan | x.is_nan())
        && let Some(index) = sample.iter().position(|x| x.is_nan())
    {
        return Err(EdgeError::NotANumber { name: input.name.clone(), index });
    }
    let [height, width, channels] = shape;
    let bounds = input.tensor.range();
    let by_channel = || quantizer.scale.iter().copied().zip(quantizer.zero_point.iter().copied());
    let mut bytes = Vec::with_capacity(sample.len());
    match (quantizer.scale.as_slice(), quantizer.zero_point.as_slice()) {
        (&[scale], &[zero_point, ..]) => bytes.extend(sample.iter().map(|&x| quantize(x, (scale, zero_point), bounds))),
        _ if input.layout.is_channels_first() => {
            for (plane, by) in sample.chunks_exact((height * width).max(1)).zip(by_channel()) {
                bytes.extend(plane.iter().map(|&x| quantize(x, by, bounds)));
            }
        }
        _ => {
            for pixel in sample.chunks_exact(channels.max(1)) {
                bytes.extend(pixel.iter().zip(by_channel()).map(|(&x, by)| quantize(x, by, bounds)));
            }
        }
    }
    assert_eq!(bytes.len(), sample.len(), "a scale and a zero point for every channel");
    // Bytes are put in order, a quarter of what floats would be.
    Ok(if input.layout.is_plain() { bytes } else { input.layout.to_chip(&bytes, shape) })
}

/// Turns the integers of an output, in (height, width, channels) order, into the floats of the ONNX graph, in its
/// layout, without the batch. An output without dequantizer gives its integers as floats.
///
/// # Panics
/// When `values` has not as many elements as the output's tensor.
pub fn dequantize(model: &Model, output: &Output, values: &[i32]) -> ArrayD<f32> {
    let tensor = model.tensor(output.tensor);
    let mut floats = Vec::with_capacity(values.len());
    dequantize_into(model, output, values, &mut floats);
    ArrayD::from_shape_vec(IxDyn(&tensor.layout.dims(tensor.shape)), floats).expect("a layout keeps every element")
}

/// As [`dequantize`], appended to `into`, row-major.
///
/// # Panics
/// As [`dequantize`].
pub fn dequantize_into(model: &Model, output: &Output, values: &[i32], into: &mut Vec<f32>) {
    let tensor = model.tensor(output.tensor);
    let channels = tensor.shape[2];
    let float = |(index, &value): (usize, &i32)| {
        let Some(dequantizer) = &output.dequantizer else { return value as f32 };
        let at = |len: usize| if len == 1 { 0 } else { index % channels };
        let scale = dequantizer.scale[at(dequantizer.scale.len())];
        let offset = dequantizer.offset.get(at(dequantizer.offset.len())).copied().unwrap_or(0);
        // The difference of two i32 fits 33 bits; one conversion, one operation, each rounded once.
        let difference = (i64::from(value) - i64::from(offset)) as f32;
        match dequantizer.by {
            DequantizeBy::Multiply => difference * scale,
            DequantizeBy::Divide => difference / scale,
        }
    };
    let floats = values.iter().enumerate().map(float);
    if tensor.layout.is_plain() {
        assert_eq!(values.len(), tensor.elements(), "values and shape differ");
        into.extend(floats);
    } else {
        into.extend(tensor.layout.to_onnx(&floats.collect::<Vec<_>>(), tensor.shape));
    }
}

/// Values in (height, width, channels) order as an array in ONNX layout, without the batch.
///
/// # Panics
/// When `values` has not as many elements as `shape`.
pub fn onnx_array<T: Copy>(layout: OnnxLayout, shape: Shape, values: &[T]) -> ArrayD<T> {
    ArrayD::from_shape_vec(IxDyn(&layout.dims(shape)), layout.to_onnx(values, shape))
        .expect("a layout keeps every element")
}

#[cfg(test)]
mod tests {
    use ndarray::Array;

    use super::*;
    use crate::model::{Dequantizer, InputQuantizer, Target, Tensor, sample};

    fn input(signed: bool, scale: f32, zero_point: i32) -> Input {
        let tensor = Tensor::new("q", [1, 1, 1], 8, signed);
        let quantizer = InputQuantizer { name: "q".into(), scale: vec![scale], zero_point: vec![zero_point] };
        Input { name: "x".into(), layout: OnnxLayout::Nchw, tensor, quantizer: Some(quantizer) }
    }

    #[test]
    fn rounds_half_to_even_then_saturates() {
        for (x, scale, zero_point, signed, expected) in [
            (0.5, 1.0, 0, false, 0),
            (1.5, 1.0, 0, false, 2),
            (2.5, 1.0, 0, false, 2),
            (-0.5, 1.0, 128, false, 128),
            (-1.5, 1.0, 128, false, 126),
            (127.5, 1.0, 128, false, 255),
            (-1e30, 1e-30, 128, false, 0),
            (f32::INFINITY, 1.0, 3, true, 127),
            (f32::NEG_INFINITY, 1.0, 3, true, 0x80),
            // The product with the reciprocal would give 2.5000002 and 3 here.
            (0.75, 0.3, 0, true, (0.75f32 / 0.3).round_ties_even() as u8),
        ] {
            let bytes = quantize_sample(&input(signed, scale, zero_point), &[x]).expect("one number");
            assert_eq!(bytes, [expected], "{x} / {scale} + {zero_point}");
        }
    }

    #[test]
    fn rounding_is_that_of_the_standard_library() {
        let halves = (-131_072..=131_072).map(|n| n as f32 / 2.0);
        let near = halves.clone().flat_map(|x| [x.next_up(), x.next_down()]);
        let small = (0..4096).map(|n| f32::from_bits(n * 0x000f_0001));
        for x in halves.chain(near).chain(small).filter(|x| x.abs() <= 65_536.0) {
            assert_eq!(round_ties_even(x), x.round_ties_even() as i32, "{x}");
        }
    }

    #[test]
    fn samples_enter_in_the_order_of_the_chip() {
        let mut model = sample::akida2();
        model.input.quantizer =
            Some(InputQuantizer { name: "q".into(), scale: vec![1.0, 2.0, 4.0], zero_point: vec![0, 1, 2] });
        let batch = Array::from_shape_fn((2, 3, 8, 8), |(n, c, h, w)| (n * 100 + c * 16 + h + w) as f32).into_dyn();
        let bytes = quantize_input(&model, batch.view()).expect("two samples");
        assert_eq!(bytes.len(), 2);
        // Channels of the first pixel of the second sample: 100, 116 / 2 + 1, 132 / 4 + 2.
        assert_eq!(bytes[1][..3], [100, 59, 35]);
        // Any strides give the same.
        let turned = Array::from_shape_fn((8, 8, 3, 2), |(w, h, c, n)| (n * 100 + c * 16 + h + w) as f32);
        assert_eq!(quantize_input(&model, turned.view().reversed_axes().into_dyn()).expect("two samples"), bytes);
    }

    #[test]
    fn every_channel_has_its_scale_in_every_layout() {
        let shape = [3, 5, 4];
        let quantizer =
            InputQuantizer { name: "q".into(), scale: vec![1.0, 0.5, 2.0, 0.3], zero_point: vec![0, 7, -3, 100] };
        for layout in
            [OnnxLayout::Nchw, OnnxLayout::NchwTurned, OnnxLayout::Nhwc, OnnxLayout::NhwcTurned, OnnxLayout::Flat]
        {
            let shape = if layout == OnnxLayout::Flat { [1, 1, 4] } else { shape };
            let tensor = Tensor::new("q", shape, 8, true);
            let input = Input { name: "x".into(), layout, tensor, quantizer: Some(quantizer.clone()) };
            let chip: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32 * 1.37 - 30.0).collect();
            let expected: Vec<u8> = chip
                .iter()
                .enumerate()
                .map(|(i, x)| {
                    let (scale, zero_point) = (quantizer.scale[i % 4], quantizer.zero_point[i % 4]);
                    ((x / scale).round_ties_even() as i32 + zero_point).clamp(-128, 127) as u8
                })
                .collect();
            let sample = layout.to_onnx(&chip, shape);
            assert_eq!(quantize_sample(&input, &sample).expect("numbers"), expected, "{layout:?}");
        }
    }

    #[test]
    fn what_is_no_input_is_refused() {
        let model = sample::akida2();
        let shape =
            |dims: &[usize]| quantize_input(&model, ArrayD::zeros(IxDyn(dims)).view()).expect_err("wrong shape");
        for dims in [&[3, 8, 8][..], &[1, 8, 8, 3], &[], &[1]] {
            assert!(matches!(shape(dims), EdgeError::Shape { .. }), "{dims:?}");
        }
        assert!(shape(&[1]).to_string().contains("3 x 8 x 8"));
        let nan = quantize_sample(&input(true, 1.0, 0), &[f32::NAN]);
        assert!(matches!(nan, Err(EdgeError::NotANumber { index: 0, .. })));
        let integers = Input { quantizer: None, ..input(true, 1.0, 0) };
        assert!(matches!(quantize_sample(&integers, &[0.0]), Err(EdgeError::NoQuantizer { .. })));
    }

    #[test]
    fn dequantizes_by_product_and_by_quotient() {
        let mut model = sample::akida1();
        assert_eq!(model.target, Target::Akd1000);
        let by = |model: &Model| dequantize(model, &model.outputs[0], &[3, -20]).into_raw_vec_and_offset().0;
        // (3 - -4) / 3.5 and (-20 - 9) / 2.25
        assert_eq!(by(&model), [2.0, -29.0 / 2.25]);
        let dequantizer =
            Dequantizer { name: "d".into(), scale: vec![0.5], offset: vec![], by: DequantizeBy::Multiply };
        model.outputs[0].dequantizer = Some(dequantizer);
        assert_eq!(by(&model), [1.5, -10.0]);
        model.outputs[0].dequantizer = None;
        assert_eq!(by(&model), [3.0, -20.0]);
        let last = model.outputs[0].tensor;
        assert_eq!(model.tensor(last).layout, OnnxLayout::Flat);
        assert_eq!(dequantize(&model, &model.outputs[0], &[0, 0]).shape(), [2]);
    }
}

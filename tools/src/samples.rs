//! Samples for a network, from whatever people keep them in: `.npy`, `.npz`, `.png`, `.jpg`, raw bytes, a directory.
//!
//! Two roads lead into a network, and they differ where the input quantizer rounds ties:
//!
//! - **floats**: `float32` in the layout of the ONNX input; they pass the model's input quantizer;
//! - **pixels**: `uint8` in (batch, height, width, channels); they enter the first layer as they are.
//!
//! [`Normalize`] turns pixels into floats the way the network was trained: `(pixel / 255 - mean) / std`, in float32
//! and in this order (what torchvision's `ToTensor` and `Normalize` do).

mod directory;
mod images;
mod labels;
mod normalize;

use std::path::Path;

use akida_runtime::hybrid::HybridModel;
use akida_runtime::model::OnnxLayout;
use ndarray::{ArrayD, IxDyn};

pub use images::{ImageLimits, pixels};
pub use labels::{Labels, read_labels, read_names};
pub use normalize::Normalize;

use crate::arrays::{Archive, Array, read_file, shape_text};
use crate::exit::{Exit, Failure};

/// What a network takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// (height, width, channels).
    pub shape: [usize; 3],
    /// Layout of the float input.
    pub layout: OnnxLayout,
    /// Whether the first layer's integers are signed (then raw input is `int8`, not `uint8`).
    pub signed: bool,
}

impl Expected {
    /// Shape of one float sample in ONNX layout.
    pub fn float_shape(&self) -> Vec<usize> {
        self.layout.dims(self.shape)
    }

    /// What a network takes.
    pub fn of(network: &HybridModel) -> Self {
        if let Some(model) = crate::run::first_board(network) {
            let tensor = &model.input.tensor;
            return Self { shape: tensor.shape, layout: model.input.layout, signed: tensor.signed };
        }
        // The host computes first: floats as they are, whatever their number of dimensions.
        let (layout, shape) = match network.input.dims[1..] {
            [c, h, w] => (OnnxLayout::Nchw, [h, w, c]),
            _ => (OnnxLayout::Flat, [1, 1, network.input.len()]),
        };
        Self { shape, layout, signed: false }
    }

    fn text(&self) -> String {
        let with_batch =
            |dims: &[usize]| format!("(N, {})", dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", "));
        format!(
            "float32 {} or {} {}",
            with_batch(&self.float_shape()),
            if self.signed { "int8" } else { "uint8" },
            with_batch(&self.shape)
        )
    }
}

/// The numbers, batch first.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// (batch, ONNX dimensions ...).
    Floats(ArrayD<f32>),
    /// (batch, height, width, channels).
    Pixels(ArrayD<u8>),
    /// The same for models whose first layer takes signed integers.
    Integers(ArrayD<i8>),
}

impl Data {
    /// How many samples.
    pub fn len(&self) -> usize {
        self.shape()[0]
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Extents, batch first.
    pub fn shape(&self) -> &[usize] {
        match self {
            Data::Floats(a) => a.shape(),
            Data::Pixels(a) => a.shape(),
            Data::Integers(a) => a.shape(),
        }
    }

    /// NumPy's name of the element type.
    pub fn dtype(&self) -> &'static str {
        match self {
            Data::Floats(_) => "float32",
            Data::Pixels(_) => "uint8",
            Data::Integers(_) => "int8",
        }
    }
}

/// Samples with what was found beside them.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// The numbers.
    pub data: Data,
    /// The array `labels` of a `.npz` file.
    pub labels: Option<Labels>,
    /// File names, where every sample is a file.
    pub names: Option<Vec<String>>,
}

/// How images and pixels are prepared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preparation {
    /// Makes floats of pixels.
    pub normalize: Option<Normalize>,
    /// Images of another size are scaled to the network's size.
    pub resize: bool,
}

/// Reads floats for calibration: batch first, in the layout of the graph's input, whose dimensions without the batch are
/// `dims` where they are known. `bytes` says that the graph itself takes uint8.
pub fn read_floats(
    path: &Path,
    dims: Option<&[usize]>,
    bytes: bool,
    preparation: &Preparation,
) -> Result<ArrayD<f32>, Failure> {
    let expected = dims.and_then(|dims| match *dims {
        [c] => Some(Expected { shape: [1, 1, c], layout: OnnxLayout::Flat, signed: false }),
        // Images have 1 or 3 channels; whichever end has them says which layout it is.
        [h, w, c] if matches!(c, 1 | 3) && !matches!(h, 1 | 3) => {
            Some(Expected { shape: [h, w, c], layout: OnnxLayout::Nhwc, signed: false })
        }
        [c, h, w] => Some(Expected { shape: [h, w, c], layout: OnnxLayout::Nchw, signed: false }),
        _ => None,
    });
    let help = "calibration takes float32 in the layout of the ONNX input; images and uint8 need --mean and --std";
    if let Some(expected) = expected.filter(|_| !bytes) {
        return match read(path, &expected, preparation)?.data {
            Data::Floats(floats) => Ok(floats),
            data => {
                let message = format!("{} holds {}, the network takes floats", path.display(), data.dtype());
                Err(Failure::new(Exit::Data, message, help))
            }
        };
    }
    let array = match path.extension().and_then(|e| e.to_str()) {
        Some("npz") => from_archive(path)?.0,
        _ => read_file(path)?,
    };
    match array {
        Array::F32(floats) => Ok(floats),
        Array::U8(pixels) if bytes => Ok(pixels.mapv(f32::from)),
        array => {
            let message = format!("{} holds {} {}", path.display(), array.dtype(), shape_text(array.shape()));
            Err(Failure::new(Exit::Data, message, help))
        }
    }
}

/// Reads samples for a network.
pub fn read(path: &Path, expected: &Expected, preparation: &Preparation) -> Result<Samples, Failure> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let (array, labels, names) = if path.is_dir() {
        let (pixels, names) = directory::read(path, expected, preparation.resize)?;
        (Array::U8(pixels), None, Some(names))
    } else {
        match extension.as_str() {
            "npy" => (read_file(path)?, None, None),
            "npz" => {
                let (array, labels) = from_archive(path)?;
                (array, labels, None)
            }
            "png" | "jpg" | "jpeg" => {
                let pixels = images::read(path, expected, preparation.resize)?;
                (Array::U8(pixels), None, Some(vec![file_name(path)]))
            }
            "raw" | "bin" => (raw(path, expected)?, None, None),
            _ => {
                // Whether the file is there at all comes first.
                std::fs::File::open(path).map_err(|e| Failure::input(path, &e))?;
                return Err(Failure::new(
                    Exit::Usage,
                    format!(
                        "{}: the ending .{extension} is not one of npy, npz, png, jpg, jpeg, raw, bin",
                        path.display()
                    ),
                    "name the file after its format",
                ));
            }
        }
    };
    let data = take(array, expected, preparation.normalize.as_ref(), path)?;
    if data.is_empty() {
        return Err(Failure::new(
            Exit::Data,
            format!("{} holds no samples", path.display()),
            "name a file with at least one",
        ));
    }
    Ok(Samples { data, labels, names })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The array `samples`, or `x`, or the only one beside `labels`.
fn from_archive(path: &Path) -> Result<(Array, Option<Labels>), Failure> {
    let mut archive = Archive::open(path)?;
    let names = archive.names().to_vec();
    let others: Vec<&String> = names.iter().filter(|n| *n != "labels").collect();
    let name = ["samples", "x"].into_iter().find(|n| names.iter().any(|m| m == n)).or(match others[..] {
        [only] => Some(only),
        _ => None,
    });
    let Some(array) = name.map(|n| archive.get(n)).transpose()?.flatten() else {
        return Err(Failure::new(
            Exit::Data,
            format!("{} has no array `samples` or `x`, but {:?}", path.display(), names),
            "save the samples under the name `samples`: numpy.savez(file, samples=x)",
        ));
    };
    let labels = match archive.get("labels")? {
        Some(labels) => Some(Labels::from_array(labels, &format!("labels of {}", path.display()))?),
        None => None,
    };
    Ok((array, labels))
}

/// Samples back to back, one byte per element.
fn raw(path: &Path, expected: &Expected) -> Result<Array, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::input(path, &e))?;
    let [h, w, c] = expected.shape;
    let one = h * w * c;
    if one == 0 || bytes.len() % one != 0 {
        return Err(Failure::new(
            Exit::Data,
            format!(
                "{} has {} bytes, not a multiple of the {one} bytes of a sample ({h}, {w}, {c})",
                path.display(),
                bytes.len()
            ),
            "raw files hold samples back to back, one byte per element, as (height, width, channels)",
        ));
    }
    let shape = IxDyn(&[bytes.len() / one, h, w, c]);
    let wrong = |e| Failure::because(Exit::Internal, path.display(), &e, "please report this");
    Ok(if expected.signed {
        let signed = bytes.into_iter().map(|b| b as i8).collect();
        Array::I8(ArrayD::from_shape_vec(shape, signed).map_err(wrong)?)
    } else {
        Array::U8(ArrayD::from_shape_vec(shape, bytes).map_err(wrong)?)
    })
}

/// Checks type and shape against what the network takes, and normalizes.
fn take(array: Array, expected: &Expected, normalize: Option<&Normalize>, path: &Path) -> Result<Data, Failure> {
    let (dtype, shape) = (array.dtype(), array.shape().to_vec());
    let wrong = |help: &str| {
        let what =
            format!("{} holds {dtype} {}, the model takes {}", path.display(), shape_text(&shape), expected.text());
        Err(Failure::new(Exit::Data, what, help))
    };
    match array {
        Array::F32(a) => {
            if normalize.is_some() {
                return wrong("--mean and --std are for uint8 samples and images; leave them out for float32 arrays");
            }
            if shape.len() < 2 || shape[1..] != expected.float_shape() {
                return wrong("float32 arrays have the layout of the ONNX input, the batch first");
            }
            // All are looked at, many at once; where one is found, once more one by one.
            let finite = a.as_slice().is_some_and(|all| all.iter().fold(true, |finite, v| finite & v.is_finite()));
            if !finite && let Some((at, value)) = a.indexed_iter().find(|(_, v)| !v.is_finite()) {
                let at = shape_text(ndarray::Dimension::slice(&at));
                let what = format!("{} has the value {value} at {at}", path.display());
                return Err(Failure::new(Exit::Data, what, "replace values that are not finite"));
            }
            Ok(Data::Floats(a))
        }
        Array::U8(a) => {
            let Some(a) = as_nhwc(a, expected, normalize.is_some()) else {
                return wrong("uint8 arrays are pixels, (batch, height, width, channels)");
            };
            match normalize {
                Some(normalize) => Ok(Data::Floats(normalize.apply(&a, expected)?)),
                None if expected.signed => wrong("the first layer takes signed integers: give int8, or floats"),
                None => Ok(Data::Pixels(a)),
            }
        }
        Array::I8(a) if expected.signed && normalize.is_none() => match as_nhwc(a, expected, false) {
            Some(a) => Ok(Data::Integers(a)),
            None => wrong("int8 arrays are (batch, height, width, channels)"),
        },
        Array::F64(_) => wrong("convert the array: x.astype('float32')"),
        _ => wrong("float32 passes the input quantizer, uint8 enters the first layer as it is"),
    }
}

/// (N, H, W, C) as it is; (N, H, W) where the network has one channel; (N, C, H, W) where that is the network's layout
/// and `channels_first` or it is the same bytes.
fn as_nhwc<T: Clone>(array: ArrayD<T>, expected: &Expected, channels_first: bool) -> Option<ArrayD<T>> {
    let [h, w, c] = expected.shape;
    let nchw = expected.layout.is_channels_first() && (channels_first || c == 1);
    match *array.shape() {
        [_, ah, aw, ac] if [ah, aw, ac] == [h, w, c] => Some(array),
        [_, ac, ah, aw] if nchw && [ah, aw, ac] == [h, w, c] => {
            Some(array.permuted_axes(IxDyn(&[0, 2, 3, 1])).as_standard_layout().into_owned())
        }
        [_, ah, aw] if [ah, aw, 1] == [h, w, c] => Some(array.insert_axis(ndarray::Axis(3))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrays::write_npz;
    use std::fs;

    const GRAY: Expected = Expected { shape: [4, 3, 1], layout: OnnxLayout::Nchw, signed: false };

    fn zeros<T: Clone + num_like::Zero>(shape: &[usize]) -> ArrayD<T> {
        ArrayD::from_elem(IxDyn(shape), T::ZERO)
    }

    mod num_like {
        pub trait Zero {
            const ZERO: Self;
        }
        impl Zero for f32 {
            const ZERO: f32 = 0.0;
        }
        impl Zero for u8 {
            const ZERO: u8 = 0;
        }
        impl Zero for i8 {
            const ZERO: i8 = 0;
        }
    }

    #[test]
    fn shapes_and_types_that_fit_and_that_do_not() {
        let half = Normalize::new(&[0.5], &[0.5]).unwrap();
        let rgb = Expected { shape: [4, 3, 3], ..GRAY };
        let signed = Expected { signed: true, ..GRAY };
        let flat = Expected { shape: [1, 1, 6], layout: OnnxLayout::Flat, signed: true };
        type Case<'a> = (&'a Expected, Array, Option<&'a Normalize>, Result<(&'a str, &'a [usize]), &'a str>);
        let cases: Vec<Case> = vec![
            (&GRAY, Array::F32(zeros(&[2, 1, 4, 3])), None, Ok(("float32", &[2, 1, 4, 3]))),
            (&GRAY, Array::F32(zeros(&[2, 4, 3, 1])), None, Err("(N, 1, 4, 3) or uint8 (N, 4, 3, 1)")),
            (&GRAY, Array::F32(zeros(&[1, 4, 3])), None, Err("holds float32 (1, 4, 3)")),
            (&GRAY, Array::F32(zeros(&[2, 1, 4, 3])), Some(&half), Err("holds float32")),
            (&GRAY, Array::U8(zeros(&[2, 4, 3, 1])), None, Ok(("uint8", &[2, 4, 3, 1]))),
            (&GRAY, Array::U8(zeros(&[2, 4, 3])), None, Ok(("uint8", &[2, 4, 3, 1]))),
            (&GRAY, Array::U8(zeros(&[2, 4, 3])), Some(&half), Ok(("float32", &[2, 1, 4, 3]))),
            (&GRAY, Array::U8(zeros(&[2, 1, 4, 3])), None, Ok(("uint8", &[2, 4, 3, 1]))),
            (&rgb, Array::U8(zeros(&[2, 3, 4, 3])), None, Err("holds uint8 (2, 3, 4, 3)")),
            (&rgb, Array::U8(zeros(&[2, 3, 4, 3])), Some(&half), Ok(("float32", &[2, 3, 4, 3]))),
            (&GRAY, Array::I8(zeros(&[2, 4, 3, 1])), None, Err("holds int8")),
            (&rgb, Array::U8(zeros(&[2, 4, 3])), None, Err("holds uint8 (2, 4, 3)")),
            (&rgb, Array::U8(zeros(&[1, 4, 3, 3])), Some(&half), Ok(("float32", &[1, 3, 4, 3]))),
            (&signed, Array::I8(zeros(&[2, 4, 3, 1])), None, Ok(("int8", &[2, 4, 3, 1]))),
            (&signed, Array::U8(zeros(&[2, 4, 3, 1])), None, Err("or int8 (N, 4, 3, 1)")),
            (&flat, Array::F32(zeros(&[2, 6])), None, Ok(("float32", &[2, 6]))),
            (&flat, Array::F32(zeros(&[6])), None, Err("holds float32 (6,)")),
        ];
        for (expected, array, normalize, want) in cases {
            let name = format!("{} {}", array.dtype(), shape_text(array.shape()));
            match (take(array, expected, normalize, Path::new("x.npy")), want) {
                (Ok(data), Ok((dtype, shape))) => assert_eq!((data.dtype(), data.shape()), (dtype, shape), "{name}"),
                (Err(e), Err(part)) => {
                    assert_eq!(e.exit, Exit::Data);
                    assert!(e.message.contains(part), "{name}: {e}");
                }
                (got, want) => panic!("{name}: {got:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_are_named() {
        let mut a: ArrayD<f32> = zeros(&[2, 1, 4, 3]);
        a[[1, 0, 3, 2]] = f32::NAN;
        let e = take(Array::F32(a), &GRAY, None, Path::new("x.npy")).unwrap_err();
        assert!(e.message.contains("NaN at (1, 0, 3, 2)"), "{e}");
    }

    #[test]
    fn archives_name_their_samples() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let (image, labels) = (Array::U8(zeros(&[2, 4, 3])), Array::U8(zeros(&[2])));
        for (names, ok) in [
            (&["samples"][..], true),
            (&["x", "labels"], true),
            (&["x_u8", "labels"], true),
            (&["other"], true),
            (&["samples", "x"], true),
            (&["one", "two"], false),
            (&["labels"], false),
        ] {
            let arrays = names.iter().map(|&n| (n.to_string(), if n == "labels" { &labels } else { &image }));
            write_npz(&path, arrays).unwrap();
            let got = read(&path, &GRAY, &Preparation::default());
            assert_eq!(got.is_ok(), ok, "{names:?}");
            if let Ok(samples) = got {
                assert_eq!(samples.labels.is_some(), names.contains(&"labels"), "{names:?}");
            }
        }
    }

    #[test]
    fn raw_bytes_are_samples_back_to_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.raw");
        fs::write(&path, [9u8; 24]).unwrap();
        assert_eq!(read(&path, &GRAY, &Preparation::default()).unwrap().data.shape(), [2, 4, 3, 1]);
        for len in [23, 0] {
            fs::write(&path, vec![0u8; len]).unwrap();
            assert_eq!(read(&path, &GRAY, &Preparation::default()).unwrap_err().exit, Exit::Data);
        }
    }
}

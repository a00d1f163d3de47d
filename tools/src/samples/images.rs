//! PNG and JPEG files.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, Limits};
use ndarray::{ArrayD, IxDyn};

use super::Expected;
use crate::exit::{Exit, Failure};

/// How large an image may be that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Widest and highest image, in pixels.
    pub side: u32,
    /// Memory its decoder may take, in bytes.
    pub bytes: u64,
}

impl Default for ImageLimits {
    /// For files of the one who asks.
    fn default() -> Self {
        Self { side: 16_384, bytes: 1 << 30 }
    }
}

/// Reads an image as pixels (1, height, width, channels): one channel is luma, three are RGB.
pub fn read(path: &Path, expected: &Expected, resize: bool) -> Result<ArrayD<u8>, Failure> {
    let [h, w, c] = expected.shape;
    check_channels(&path.display(), expected)?;
    let file = File::open(path).map_err(|e| Failure::input(path, &e))?;
    let bytes = pixels(&path.display(), BufReader::new(file), expected, resize, ImageLimits::default())?;
    ArrayD::from_shape_vec(IxDyn(&[1, h, w, c]), bytes)
        .map_err(|e| Failure::because(Exit::Internal, path.display(), &e, "please report this with the image"))
}

fn check_channels(what: &dyn Display, expected: &Expected) -> Result<(), Failure> {
    match expected.shape[2] {
        1 | 3 => Ok(()),
        c => {
            let message = format!("{what} is an image, the model takes {c} channels");
            Err(Failure::new(Exit::Data, message, "give the samples as .npy or .npz"))
        }
    }
}

/// Decodes an image to the pixels a network takes, (height, width, channels): one channel is luma, three are RGB. `what`
/// names it in errors; an image of another size is scaled with `resize` and refused without.
pub fn pixels(
    what: &dyn Display,
    from: impl BufRead + Seek,
    expected: &Expected,
    resize: bool,
    limits: ImageLimits,
) -> Result<Vec<u8>, Failure> {
    let [h, w, c] = expected.shape;
    check_channels(what, expected)?;
    let image = decode(from, limits).map_err(|e| {
        let what = format!("{what} cannot be decoded");
        Failure::because(Exit::Data, what, &e, "check the file in an image viewer; PNG and JPEG are read")
    })?;
    let size = (image.width() as usize, image.height() as usize);
    let image = match (size == (w, h), resize) {
        (true, _) => image,
        // The network's extents come from a model file: bounded before a buffer of that size is made.
        (false, true) if h.max(w) <= limits.side as usize => {
            image.resize_exact(w as u32, h as u32, FilterType::Triangle)
        }
        _ => {
            return Err(Failure::new(
                Exit::Data,
                format!("{what} is {} x {} pixels, the model takes {w} x {h} (width x height)", size.0, size.1),
                "scale the image, or let --resize do it",
            ));
        }
    };
    Ok(if c == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() })
}

fn decode(from: impl BufRead + Seek, limits: ImageLimits) -> image::ImageResult<DynamicImage> {
    let mut reader = ImageReader::new(from).with_guessed_format()?;
    let mut bounds = Limits::default();
    bounds.max_image_width = Some(limits.side);
    bounds.max_image_height = Some(limits.side);
    bounds.max_alloc = Some(limits.bytes);
    reader.limits(bounds);
    reader.decode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use akida_runtime::model::OnnxLayout;

    const GRAY: Expected = Expected { shape: [2, 3, 1], layout: OnnxLayout::Nchw, signed: false };

    #[test]
    fn gray_and_colour_sizes_and_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        image::GrayImage::from_raw(3, 2, (0..6).collect()).unwrap().save(&path).unwrap();
        assert_eq!(read(&path, &GRAY, false).unwrap().into_raw_vec_and_offset().0, [0, 1, 2, 3, 4, 5]);

        let rgb = Expected { shape: [2, 3, 3], ..GRAY };
        let colour = read(&path, &rgb, false).unwrap();
        assert_eq!(colour.shape(), [1, 2, 3, 3]);
        assert_eq!(colour.as_slice().unwrap()[..6], [0, 0, 0, 1, 1, 1]);

        let bigger = Expected { shape: [4, 6, 1], ..GRAY };
        let refused = read(&path, &bigger, false).unwrap_err();
        assert!(refused.message.contains("3 x 2 pixels, the model takes 6 x 4"), "{refused}");
        assert_eq!(read(&path, &bigger, true).unwrap().shape(), [1, 4, 6, 1]);

        let five = Expected { shape: [2, 3, 5], ..GRAY };
        assert_eq!(read(&path, &five, false).unwrap_err().exit, Exit::Data);

        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert_eq!(read(&path, &GRAY, false).unwrap_err().exit, Exit::Data);
        assert_eq!(read(Path::new("/nonexistent.png"), &GRAY, false).unwrap_err().exit, Exit::NoInput);
    }
}

//! An input as a small picture, in the terminal or as a PNG file.

use std::fmt::Write;

use akida_runtime::model::OnnxLayout;
use ndarray::{ArrayViewD, Axis};

use super::Colours;

/// Pixels of a sample, RGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// From pixels (height, width, channels); None unless there are 1 or 3 channels and something to see.
    pub fn from_pixels(sample: ArrayViewD<'_, u8>) -> Option<Self> {
        let &[height, width, channels] = sample.shape() else { return None };
        if !matches!(channels, 1 | 3) || height < 2 || width < 2 {
            return None;
        }
        let pixel = |y, x| [0, 1, 2].map(|c| sample[[y, x, c.min(channels - 1)]]);
        let pixels = (0..height * width).map(|i| pixel(i / width, i % width)).collect();
        Some(Self { width, height, pixels })
    }

    /// From signed integers, (height, width, channels).
    pub fn from_integers(sample: ArrayViewD<'_, i8>) -> Option<Self> {
        Self::from_pixels(sample.map(|&v| (i16::from(v) + 128) as u8).view())
    }

    /// From floats in ONNX layout (without batch), the sample's own range spread from black to white.
    pub fn from_floats(sample: ArrayViewD<'_, f32>, layout: OnnxLayout) -> Option<Self> {
        if sample.ndim() != 3 {
            return None;
        }
        let low = sample.iter().copied().fold(f32::INFINITY, f32::min);
        let high = sample.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = 255.0 / (high - low).max(f32::MIN_POSITIVE);
        let mut bytes = sample.map(|&v| ((v - low) * scale).round() as u8);
        if layout.is_channels_first() {
            bytes.swap_axes(0, 1);
            bytes.swap_axes(1, 2);
        }
        Self::from_pixels(bytes.view())
    }

    /// Sample `index` of samples as they are given to a network.
    pub fn of(data: &crate::samples::Data, layout: OnnxLayout, index: usize) -> Option<Self> {
        use crate::samples::Data;
        match data {
            Data::Floats(a) => Self::from_floats(a.index_axis(Axis(0), index), layout),
            Data::Pixels(a) => Self::from_pixels(a.index_axis(Axis(0), index)),
            Data::Integers(a) => Self::from_integers(a.index_axis(Axis(0), index)),
        }
    }

    /// The picture as lines of text, at most `columns` wide. Every character stands for two pixels, one above the other.
    pub fn render(&self, columns: usize, colours: Colours) -> String {
        let small = self.shrunk(columns.max(1));
        let mut text = String::new();
        for y in (0..small.height).step_by(2) {
            for x in 0..small.width {
                let upper = small.pixels[y * small.width + x];
                let lower = small.pixels.get((y + 1) * small.width + x).copied();
                match colours {
                    Colours::None => text.push(shade(upper, lower.unwrap_or(upper))),
                    _ => {
                        let _ = write!(text, "\x1b[38;{}m", code(upper, colours));
                        if let Some(lower) = lower {
                            let _ = write!(text, "\x1b[48;{}m", code(lower, colours));
                        }
                        text.push('▀');
                        text.push_str("\x1b[0m");
                    }
                }
            }
            text.push('\n');
        }
        text
    }

    /// The picture as a PNG file.
    pub fn png(&self) -> image::ImageResult<Vec<u8>> {
        use image::ImageEncoder;
        let mut bytes = Vec::new();
        let flat: Vec<u8> = self.pixels.iter().flatten().copied().collect();
        image::codecs::png::PngEncoder::new(&mut bytes).write_image(
            &flat,
            self.width as u32,
            self.height as u32,
            image::ExtendedColorType::Rgb8,
        )?;
        Ok(bytes)
    }

    /// Averages blocks of pixels until the width fits.
    fn shrunk(&self, columns: usize) -> Self {
        let n = self.width.div_ceil(columns);
        if n == 1 {
            return self.clone();
        }
        let (width, height) = (self.width.div_ceil(n), self.height.div_ceil(n));
        let block = |by: usize, bx: usize| {
            let rows = by * n..((by + 1) * n).min(self.height);
            let mut sum = [0usize; 3];
            let mut count = 0;
            for y in rows {
                for x in bx * n..((bx + 1) * n).min(self.width) {
                    for (s, v) in sum.iter_mut().zip(self.pixels[y * self.width + x]) {
                        *s += usize::from(v);
                    }
                    count += 1;
                }
            }
            sum.map(|s| (s / count.max(1)) as u8)
        };
        let pixels = (0..width * height).map(|i| block(i / width, i % width)).collect();
        Self { width, height, pixels }
    }
}

fn luma([r, g, b]: [u8; 3]) -> usize {
    (usize::from(r) * 299 + usize::from(g) * 587 + usize::from(b) * 114) / 1000
}

fn shade(upper: [u8; 3], lower: [u8; 3]) -> char {
    // Two pixels that differ much keep their edge; else their mean becomes a shade.
    let (u, l) = (luma(upper), luma(lower));
    match (u.abs_diff(l) > 127, u > l) {
        (true, true) => '▀',
        (true, false) => '▄',
        _ => [' ', '░', '▒', '▓', '█'][(u + l) / 2 * 5 / 256],
    }
}

fn code(rgb: [u8; 3], colours: Colours) -> String {
    let [r, g, b] = rgb;
    match colours {
        Colours::True => format!("2;{r};{g};{b}"),
        // The grays 232..=255 are 8, 18, ..., 238; the cube 16..=231 has six steps a side.
        _ if r == g && g == b => format!("5;{}", 232 + usize::from(r) * 24 / 256),
        _ => {
            let step = |v: u8| usize::from(v) * 6 / 256;
            format!("5;{}", 16 + 36 * step(r) + 6 * step(g) + step(b))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, array};

    #[test]
    fn plain_characters_where_there_are_no_colours() {
        let sample = array![[[0u8], [255], [255]], [[0], [255], [0]], [[0], [130], [255]]].into_dyn();
        let picture = Picture::from_pixels(sample.view()).unwrap();
        assert_eq!(picture.render(80, Colours::None), " █▀\n ▒█\n");
    }

    #[test]
    fn colours_are_two_pixels_a_character() {
        let sample = array![[[255u8, 0, 0], [0, 0, 0]], [[0, 0, 255], [255, 255, 255]]].into_dyn();
        let picture = Picture::from_pixels(sample.view()).unwrap();
        let text = picture.render(80, Colours::True);
        assert!(text.starts_with("\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m▀\x1b[0m"), "{text:?}");
        let text = picture.render(80, Colours::Palette);
        assert!(text.contains("\x1b[38;5;196m\x1b[48;5;21m▀"), "{text:?}");
        assert!(text.contains("\x1b[38;5;232m\x1b[48;5;255m▀"), "{text:?}");
    }

    #[test]
    fn floats_and_pixels_of_one_image_look_alike() {
        let bytes = ArrayD::from_shape_vec(vec![2, 3, 1], vec![0u8, 51, 102, 153, 204, 255]).unwrap();
        let floats = bytes.map(|&b| (f32::from(b) / 255.0 - 0.5) / 0.5).into_shape_with_order(vec![1, 2, 3]).unwrap();
        let one = Picture::from_pixels(bytes.view()).unwrap();
        assert_eq!(Picture::from_floats(floats.view(), OnnxLayout::Nchw), Some(one));
    }

    #[test]
    fn large_pictures_shrink_and_strange_ones_are_not_shown() {
        let big = Picture::from_pixels(ArrayD::from_elem(vec![100, 300, 3], 9u8).view()).unwrap();
        let text = big.render(64, Colours::None);
        assert_eq!((text.lines().count(), text.lines().next().unwrap().chars().count()), (10, 60));
        for shape in [vec![4, 4, 2], vec![1, 40, 1], vec![40, 1, 3], vec![4, 4]] {
            assert_eq!(Picture::from_pixels(ArrayD::from_elem(shape, 0u8).view()), None);
        }
        let constant = ArrayD::from_elem(vec![3, 4, 4], 0.5f32);
        assert!(Picture::from_floats(constant.view(), OnnxLayout::Nchw).is_some());
    }

    #[test]
    fn a_png_comes_back() {
        let sample = ArrayD::from_shape_vec(vec![2, 2, 1], vec![0u8, 85, 170, 255]).unwrap();
        let png = Picture::from_pixels(sample.view()).unwrap().png().unwrap();
        let back = image::load_from_memory(&png).unwrap().into_luma8().into_raw();
        assert_eq!(back, [0, 85, 170, 255]);
    }
}

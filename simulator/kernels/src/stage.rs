//! A layer's input as kernels take it: padded, bytes unsigned. Where it is that already, it is not copied.

use std::ops::Range;

use crate::isa::Kernels;
use crate::{Bytes, Geometry, View};

/// Bytes behind the last element: a quad may end behind its run.
pub(crate) const SLACK: usize = 64;

/// How an input gets ready.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// Row and column of the input that come first; negative in padding.
    origin: [isize; 2],
    /// Rows and columns.
    size: [usize; 2],
    /// Rows and columns of the input that weights meet.
    needed: [Range<usize>; 2],
    channels: usize,
    signed: bool,
    pad: Pad,
    /// Whether the input can be read where it is.
    direct: bool,
}

/// What padding is made of, as it is staged.
#[derive(Clone, Debug)]
enum Pad {
    Byte(u8),
    Pixel(Vec<u8>),
}

impl Pad {
    fn new(pixel: &[u8], signed: bool) -> Self {
        let pixel: Vec<u8> = pixel.iter().map(|p| if signed { p ^ 0x80 } else { *p }).collect();
        match pixel.as_slice() {
            [first, rest @ ..] if rest.iter().all(|p| p == first) => Self::Byte(*first),
            _ => Self::Pixel(pixel),
        }
    }

    /// Whole pixels.
    fn fill(&self, pixels: &mut [u8]) {
        match self {
            Self::Byte(byte) => pixels.fill(*byte),
            Self::Pixel(pad) => pixels.chunks_exact_mut(pad.len().max(1)).for_each(|pixel| pixel.copy_from_slice(pad)),
        }
    }
}

/// An input that is ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged<'a> {
    /// From the first byte of the origin on.
    pub data: &'a [u8],
    /// Bytes from a row to the next.
    pub row_step: usize,
}

impl Stage {
    /// For rows and columns `conv` of the convolution. `whole_quads`: runs of the kernel end with a quad, or nothing is
    /// read behind them.
    pub(crate) fn new(
        geometry: &Geometry,
        transposed: bool,
        conv: &[Range<usize>; 2],
        signed: bool,
        pad_pixel: &[u8],
        whole_quads: bool,
    ) -> Self {
        let place = [0, 1].map(|a| {
            let (kernel, stride, pad) = (geometry.kernel[a], geometry.stride[a], geometry.pad[a]);
            let (first, last) = (conv[a].start, conv[a].end.max(conv[a].start + 1) - 1);
            if transposed {
                let origin = ((first + pad) / stride + 1) as isize - kernel.div_ceil(stride) as isize;
                (origin, (((last + pad) / stride) as isize - origin + 1) as usize)
            } else {
                ((first * stride) as isize - pad as isize, (last - first) * stride + kernel)
            }
        });
        let origin = place.map(|(origin, _)| origin);
        let size = place.map(|(_, size)| size);
        let needed = [0, 1].map(|a| geometry.input_range(a, &conv[a], transposed));
        let inside =
            |a: usize| origin[a] >= needed[a].start as isize && origin[a] + size[a] as isize <= needed[a].end as isize;
        let direct = !signed && whole_quads && inside(0) && inside(1);
        let pad = Pad::new(pad_pixel, signed);
        Self { origin, size, needed, channels: geometry.input[2], signed, pad, direct }
    }

    /// Gets an input ready, in `buffer` if need be. The view has all that the layer needs.
    pub(crate) fn ready<'a>(&self, input: &View<'a>, kernels: &dyn Kernels, buffer: &'a mut Bytes) -> Staged<'a> {
        let channels = self.channels;
        if self.direct {
            let (data, row_step) = input.from(self.origin[0] as usize, self.origin[1] as usize);
            return Staged { data, row_step };
        }
        let [rows, columns] = self.size;
        let [needed_rows, needed_columns] = &self.needed;
        // Columns of the map among those staged.
        let start = (needed_columns.start as isize - self.origin[1]).clamp(0, columns as isize) as usize;
        let end = (needed_columns.end as isize - self.origin[1]).clamp(start as isize, columns as isize) as usize;
        // Padding behind a row is the padding before the next, so that fewer positions lie between those of two rows.
        let shared = start.min(columns - end);
        let row_step = (columns - shared) * channels;
        let staged = rows * row_step + shared * channels;
        let buffer = buffer.at_least(staged + SLACK);
        for r in 0..rows {
            let row = &mut buffer[r * row_step..][..columns * channels];
            let y = self.origin[0] + r as isize;
            let there = y >= 0 && needed_rows.contains(&(y as usize));
            let (start, end) = if there { (start, end) } else { (0, 0) };
            self.pad.fill(&mut row[..start * channels]);
            if end > start {
                let from = input.pixels(y as usize, (self.origin[1] + start as isize) as usize, end - start);
                let into = &mut row[start * channels..end * channels];
                if self.signed { kernels.offset(from, into) } else { into.copy_from_slice(from) }
            }
            self.pad.fill(&mut row[end * channels..]);
        }
        Staged { data: buffer, row_step }
    }
}

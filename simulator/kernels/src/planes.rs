//! A depthwise layer's input as kernels take it: for every tap of the kernel, what it meets at all positions of a row lies
//! together. Columns that lie a stride apart, or frames, get planes of their own.

use std::ops::Range;

use crate::isa::Columns;
use crate::stage::SLACK;
use crate::{Bytes, Geometry, View};

/// How an input gets ready.
#[derive(Clone, Debug)]
pub(crate) struct Planes {
    /// Row and column of the input that come first; negative in padding.
    origin: [isize; 2],
    /// Rows and columns.
    size: [usize; 2],
    /// Rows of the input that weights meet, and the first column.
    needed: (Range<usize>, usize),
    /// Columns that are not padding.
    inside: Range<usize>,
    /// Rows of the kernel.
    kernel: usize,
    channels: usize,
    signed: bool,
    /// What padding is made of, one pixel, as it comes.
    pad: Vec<u8>,
    /// Which planes a column goes to.
    split: Split,
    /// Whether rows are met where they lie; then nothing gets ready.
    in_place: bool,
    /// First channel, and how many.
    first: usize,
    filters: usize,
}

#[derive(Clone, Copy, Debug)]
enum Split {
    /// Column c goes to plane c modulo so many.
    Columns(usize),
    /// Every column goes to all of so many planes, channels so far apart.
    Frames(usize, usize),
}

/// An input that gets ready as its rows are met. They lie in a ring, so that a first-level cache still has them when kernels meet
/// them; where that has all of them, so does the ring.
#[derive(Debug)]
pub(crate) struct Planar<'a> {
    planes: &'a Planes,
    view: View<'a>,
    data: &'a mut [u8],
    row_step: usize,
    plane_step: usize,
    /// Rows that there is room for, and those that are there.
    ring: usize,
    there: Range<usize>,
}

/// Bytes of a ring, unless a kernel meets more.
const RING: usize = 16 << 10;

impl Planar<'_> {
    /// Gets some rows ready, no more than a kernel that moves by one meets in two places; those before them may be lost.
    pub(crate) fn meet(&mut self, rows: Range<usize>) {
        debug_assert!(rows.len() <= self.ring, "{} rows in a ring of {}", rows.len(), self.ring);
        if !(self.there.start..=self.there.end).contains(&rows.start) {
            self.there = rows.start..rows.start;
        }
        for row in self.there.end..rows.end {
            let into = &mut self.data[row % self.ring * self.row_step..][..self.row_step];
            self.planes.ready_row(&self.view, row, self.plane_step, into);
        }
        let end = self.there.end.max(rows.end);
        self.there = self.there.start.max(end.saturating_sub(self.ring))..end;
    }

    /// Some rows, at most four, as columns `stride` apart; none where columns are parted. Rows that are met next go as far as to `next`.
    pub(crate) fn columns(&mut self, rows: Range<usize>, next: usize, stride: usize) -> Option<Columns<'_>> {
        let (planes, top, len) = (self.planes, rows.start, rows.len());
        let pad = &planes.pad[planes.first..][..planes.filters];
        if planes.in_place {
            let row = |r: usize| planes.pixels(&self.view, top + r).filter(|_| r < len);
            let there = planes.inside.len();
            return Some(Columns {
                rows: std::array::from_fn(|r| row(r).map(|row| &row[planes.first..])),
                step: planes.channels,
                before: planes.inside.start,
                there,
                stride,
                pad,
                next: planes.between(&self.view, rows.end..next),
            });
        }
        if !matches!(planes.split, Split::Columns(1)) {
            return None;
        }
        self.meet(rows);
        let (row, there) = (|r: usize| (r < len).then(|| self.row(top + r)), planes.size[1]);
        Some(Columns { rows: std::array::from_fn(row), step: planes.filters, before: 0, there, stride, pad, next: &[] })
    }

    /// Everything from a row on, which was met.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        &self.data[row % self.ring * self.row_step..]
    }

    /// Bytes from the begin of a row to a column of a plane.
    pub(crate) fn place(&self, plane: usize, column: usize) -> usize {
        plane * self.plane_step + column * self.planes.filters
    }
}

impl Planes {
    /// For rows and columns `conv` of the convolution and the channels of `filters`. `frames` lie in the channels, 1 where
    /// there are none.
    pub(crate) fn new(
        geometry: &Geometry,
        conv: &[Range<usize>; 2],
        filters: Range<usize>,
        frames: usize,
        signed: bool,
        pad_pixel: &[u8],
    ) -> Self {
        let place = [0, 1].map(|a| {
            let (kernel, stride, pad) = (geometry.kernel[a], geometry.stride[a], geometry.pad[a]);
            let (first, last) = (conv[a].start, conv[a].end.max(conv[a].start + 1) - 1);
            ((first * stride) as isize - pad as isize, (last - first) * stride + kernel)
        });
        let channels = geometry.input[2];
        let split =
            if frames > 1 { Split::Frames(frames, channels / frames) } else { Split::Columns(geometry.stride[1]) };
        let [needed_rows, needed_columns] = [0, 1].map(|a| geometry.input_range(a, &conv[a], false));
        let (origin, columns) = place[1];
        let start = (needed_columns.start as isize - origin).clamp(0, columns as isize) as usize;
        let end = (needed_columns.end as isize - origin).clamp(start as isize, columns as isize) as usize;
        Self {
            origin: place.map(|(origin, _)| origin),
            size: place.map(|(_, size)| size),
            needed: (needed_rows, (origin + start as isize).max(0) as usize),
            inside: start..end,
            kernel: geometry.kernel[0],
            channels,
            signed,
            pad: pad_pixel.to_vec(),
            split,
            in_place: false,
            first: filters.start,
            filters: filters.len(),
        }
    }

    /// The same with rows that are met where they lie, if bytes are taken as they are.
    pub(crate) fn in_place(mut self) -> Self {
        self.in_place = !self.signed;
        self
    }

    /// An input of which no row is ready yet. The view has all that the layer needs.
    pub(crate) fn ready<'a>(&'a self, input: &View<'a>, buffer: &'a mut Bytes) -> Planar<'a> {
        let [rows, columns] = self.size;
        let (planes, across) = match self.split {
            Split::Columns(stride) => (stride, columns.div_ceil(stride)),
            Split::Frames(frames, _) => (frames, columns),
        };
        let plane_step = across * self.filters;
        let row_step = planes * plane_step;
        let ring = if self.in_place { 0 } else { rows.min((self.kernel + 1).max(RING / row_step.max(1))) };
        let data = buffer.at_least(ring * row_step + SLACK);
        Planar { planes: self, view: input.clone(), data, row_step, plane_step, ring, there: 0..0 }
    }

    /// What there is of a row; none where all of it is padding.
    fn pixels<'a>(&self, input: &View<'a>, row: usize) -> Option<&'a [u8]> {
        let (y, (rows, first)) = (self.origin[0] + row as isize, &self.needed);
        let there = y >= 0 && rows.contains(&(y as usize)) && !self.inside.is_empty();
        there.then(|| input.pixels(y as usize, *first, self.inside.len()))
    }

    /// All bytes of some rows, as far as they are there.
    fn between<'a>(&self, input: &View<'a>, rows: Range<usize>) -> &'a [u8] {
        let row = |row: usize| {
            ((self.origin[0] + row as isize).max(0) as usize).clamp(self.needed.0.start, self.needed.0.end)
        };
        let (rows, start) = (row(rows.start)..row(rows.end), self.needed.1);
        if rows.is_empty() || self.inside.is_empty() {
            return &[];
        }
        let (bytes, row_step) = input.from(rows.start, start);
        &bytes[..bytes.len().min(rows.len() * row_step)]
    }

    fn ready_row(&self, input: &View<'_>, row: usize, plane_step: usize, into: &mut [u8]) {
        let pixels = self.pixels(input, row);
        let (there, inside) = (pixels.is_some(), if pixels.is_some() { self.inside.clone() } else { 0..0 });
        let pixels = pixels.unwrap_or_default();
        if matches!(self.split, Split::Columns(1)) && self.filters == self.channels {
            // As it comes.
            let (before, rest) = into.split_at_mut(inside.start * self.channels);
            let (middle, behind) = rest.split_at_mut(pixels.len());
            middle.copy_from_slice(pixels);
            for pad in [before, behind] {
                pad.chunks_exact_mut(self.channels.max(1)).for_each(|pixel| pixel.copy_from_slice(&self.pad));
            }
        } else {
            self.fill(into, 0..inside.start, plane_step);
            if there {
                self.copy(pixels, into, inside.start, plane_step);
            }
            self.fill(into, inside.end..self.size[1], plane_step);
        }
        if self.signed {
            into.iter_mut().for_each(|b| *b ^= 0x80);
        }
    }

    /// Columns of padding.
    fn fill(&self, row: &mut [u8], columns: Range<usize>, plane_step: usize) {
        for column in columns {
            self.copy(&self.pad, row, column, plane_step);
        }
    }

    /// Pixels, which go to columns from `column` on.
    fn copy(&self, pixels: &[u8], row: &mut [u8], column: usize, plane_step: usize) {
        let count = pixels.len() / self.channels.max(1);
        match self.split {
            Split::Columns(stride) => {
                for i in 0..stride.min(count) {
                    let to = (column + i) % stride * plane_step + (column + i) / stride * self.filters;
                    let from = &pixels[i * self.channels + self.first..];
                    spread(from, stride * self.channels, &mut row[to..], self.filters, (count - i).div_ceil(stride));
                }
            }
            Split::Frames(frames, apart) => {
                for frame in 0..frames {
                    let to = frame * plane_step + column * self.filters;
                    let from = &pixels[frame * apart + self.first..];
                    spread(from, self.channels, &mut row[to..], self.filters, count);
                }
            }
        }
    }
}

/// `count` pieces of `len` bytes, `step` apart, one behind the other.
fn spread(from: &[u8], step: usize, to: &mut [u8], len: usize, count: usize) {
    match len {
        8 => pieces::<8>(from, step, to, count),
        16 => pieces::<16>(from, step, to, count),
        32 => pieces::<32>(from, step, to, count),
        64 => pieces::<64>(from, step, to, count),
        _ => {
            let pairs = from.chunks(step).zip(to.chunks_exact_mut(len.max(1))).take(count);
            pairs.for_each(|(from, to)| to.copy_from_slice(&from[..len]));
        }
    }
}

/// Copies of known length are one instruction.
fn pieces<const N: usize>(from: &[u8], step: usize, to: &mut [u8], count: usize) {
    let pairs = from.chunks(step).zip(to.as_chunks_mut::<N>().0).take(count);
    pairs.for_each(|(from, to)| to.copy_from_slice(&from[..N]));
}

//! Convolutions of 3x3 that move by one with a quarter of the products: Winograd's minimal filtering, 4x4 outputs from 6x6 inputs, by
//! integers and therefore exactly.
//!
//! A tile d of the input becomes B'd B, a kernel g becomes G g G', products of both, value by value and summed over channels, are 36
//! products of matrices, and A'm A of their sums are 16 outputs. With the points 0, 1, -1, 2, -2 and infinity B' is of integers, G is after
//! its rows are multiplied by 24, 6, 6, 24, 24 and 6, and rows of A' then give 24, 12, 6 and 6 times what they should: along both axes outputs
//! come out 9 * 2^s times too large, s of 2 to 6.
//!
//! Of bytes and kernels of bytes all that is multiplied fits 16 bits: B'd B is between -50 * 255 and 68 * 255, since positive coefficients of
//! a row sum to 5 at most and negative ones to 8, and G g G' to 49 * 128 at most. What is made of products is of 32 bits that wrap: an
//! output times 9 * 2^s is known modulo 2^32, so times 2^6 by the inverse of 9 and a power of two, and itself by a shift, if it is within
//! 2^25 of 0.

#[cfg(target_arch = "x86_64")]
pub(super) mod tiles;

use super::pack::{BLOCK, Line, Packed, Panel};

/// Outputs of a tile's side, and its inputs.
pub(crate) const SIDE: usize = 4;
pub(crate) const ACROSS: usize = SIDE + 2;
/// Products of a tile.
pub(crate) const POINTS: usize = ACROSS * ACROSS;
/// What makes an output 2^6 times what it should be, by row and column: the inverse of 9 modulo 2^32 times a power of two.
pub(crate) const FACTORS: [[i32; SIDE]; SIDE] = factors();
/// And back.
pub(crate) const SHIFT: i32 = 6;
/// Channels that are transformed at once.
pub(crate) const CHANNELS: usize = 16;

/// What an output is less than, up and down.
const LARGEST: u64 = 1 << (31 - SHIFT);
/// Tiles that are worth reading kernels for, which are eight times as many bytes as weights.
const LEAST: usize = 4;
/// Bytes of kernels of which more take longer to read than what is spared.
const MOST: usize = 8 << 20;
/// Rows and columns of a kernel.
const KERNEL: usize = 3;

const fn factors() -> [[i32; SIDE]; SIDE] {
    const NINTH: i32 = 0x38e3_8e39;
    // Powers of two that an output lacks along an axis to be 2^3 * 3 times too large.
    const LACKS: [i32; SIDE] = [0, 1, 2, 2];
    let mut all = [[NINTH; SIDE]; SIDE];
    let mut i = 0;
    while i < SIDE * SIDE {
        all[i / SIDE][i % SIDE] <<= LACKS[i / SIDE] + LACKS[i % SIDE];
        i += 1;
    }
    all
}

/// Kernels that are transformed.
#[derive(Clone, Debug)]
pub(crate) struct Winograd {
    /// By block, point and two channels: those of a filter next to each other, in 16 bits.
    pub(crate) lines: Vec<Line>,
    /// Lines of a point.
    pub(crate) pairs: usize,
}

/// G g along an axis, by filter.
#[inline(always)]
fn along(g: [[i16; BLOCK]; KERNEL]) -> [[i16; BLOCK]; ACROSS] {
    let each = |value: fn([i16; KERNEL]) -> i16| std::array::from_fn(|f| value(g.map(|g| g[f])));
    [
        each(|[a, _, _]| 6 * a),
        each(|[a, b, c]| -a - b - c),
        each(|[a, b, c]| b - a - c),
        each(|[a, b, c]| a + 2 * b + 4 * c),
        each(|[a, b, c]| a - 2 * b + 4 * c),
        each(|[_, _, c]| 6 * c),
    ]
}

/// The same along both axes, of a kernel (row, column, filter): (row, column, filter).
#[inline(always)]
fn transformed(kernel: [[[i16; BLOCK]; KERNEL]; KERNEL]) -> [[[i16; BLOCK]; ACROSS]; ACROSS] {
    let rows = kernel.map(along);
    let columns: [_; ACROSS] = std::array::from_fn(|c| along([rows[0][c], rows[1][c], rows[2][c]]));
    std::array::from_fn(|r| std::array::from_fn(|c| columns[c][r]))
}

impl Winograd {
    /// Of lines that are kernels of 3x3, of `blocks` blocks, and inputs up to `most`; none where channels do not fill vectors, outputs
    /// may be too large or kernels are too many.
    pub(super) fn new(lines: &[Line], blocks: usize, most: u8) -> Option<Self> {
        let per_block = lines.len() / blocks.max(1);
        let channels = per_block * 4 / (KERNEL * KERNEL);
        if channels == 0 || !channels.is_multiple_of(CHANNELS) || channels * KERNEL * KERNEL != per_block * 4 {
            return None;
        }
        if !lines.chunks_exact(per_block).all(|block| sums(block) * u64::from(most) < LARGEST) {
            return None;
        }
        let pairs = channels / 2;
        if blocks * POINTS * pairs * size_of::<Line>() > MOST {
            return None;
        }
        let mut all = vec![Line([[0; 4]; BLOCK]); blocks * POINTS * pairs];
        for (block, out) in lines.chunks_exact(per_block).zip(all.chunks_exact_mut(POINTS * pairs)) {
            let weights = |row: usize, column: usize, channel: usize| {
                let at = (row * KERNEL + column) * channels + channel;
                block[at / 4].0.map(|quad| i16::from(quad[at % 4]))
            };
            for channel in 0..channels {
                let kernel = std::array::from_fn(|r| std::array::from_fn(|c| weights(r, c, channel)));
                for (point, values) in transformed(kernel).as_flattened().iter().enumerate() {
                    let line = &mut out[point * pairs + channel / 2];
                    for (two, value) in line.0.iter_mut().zip(values) {
                        let [low, high] = value.to_ne_bytes().map(u8::cast_signed);
                        let at = channel % 2 * 2;
                        [two[at], two[at + 1]] = [low, high];
                    }
                }
            }
        }
        Some(Self { lines: all, pairs })
    }
}

/// The largest sum of a filter's weights of one sign.
fn sums(block: &[Line]) -> u64 {
    let [mut above, mut below] = [[0u64; BLOCK]; 2];
    for (filter, quad) in block.iter().flat_map(|line| line.0.iter().enumerate()) {
        for &w in quad {
            let sum = if w > 0 { &mut above[filter] } else { &mut below[filter] };
            *sum += u64::from(w.unsigned_abs());
        }
    }
    above.into_iter().chain(below).fold(0, u64::max)
}

impl Panel<'_> {
    /// Whether positions are those of a kernel of 3x3 that moves by one: a run is three positions, and the next begins a row further.
    fn is_square(&self, w: &Packed) -> bool {
        w.runs() == KERNEL && self.run_step == self.row_step && w.quads() * 4 == KERNEL * self.step
    }

    /// Kernels for products of tiles, where these are fewer than those of positions, of so many channels at least.
    pub(super) fn squares<'w>(&self, w: &'w Packed, channels: usize) -> Option<&'w Winograd> {
        if !self.is_square(w) || self.step < channels || !self.step.is_multiple_of(CHANNELS) {
            return None;
        }
        let tiles = self.rows.div_ceil(SIDE) * self.count.div_ceil(SIDE);
        let positions = self.rows * self.count;
        // What tiles have behind the last row and column is for nothing.
        if tiles < LEAST || tiles * SIDE * SIDE * 2 > positions * 3 {
            return None;
        }
        w.winograd()
    }
}

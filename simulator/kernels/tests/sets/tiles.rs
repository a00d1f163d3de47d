//! Tile registers and what instructions do with them. Source: Intel's manual, volume 1, chapter 18, and volume 2.

/// Rows of a register, and bytes of a row.
const ROWS: usize = 16;
const BYTES: usize = 64;

/// The registers of a thread.
pub struct Tiles {
    /// Rows and bytes of a row, by register; no rows until configured.
    shapes: [(usize, usize); 8],
    bytes: [[[u8; BYTES]; ROWS]; 8],
}

impl Tiles {
    /// Not configured.
    pub const fn new() -> Self {
        Self { shapes: [(0, 0); 8], bytes: [[[0; BYTES]; ROWS]; 8] }
    }

    /// `tilerelease`.
    pub fn release(&mut self) {
        *self = Self::new();
    }

    /// `ldtilecfg`; None where a processor refuses.
    pub fn configure(&mut self, bytes: &[u8; 64]) -> Option<()> {
        self.release();
        match bytes[0] {
            0 => return Some(()),
            1 => {}
            _ => return None,
        }
        let reserved = bytes[2..16].iter().chain(&bytes[32..48]).chain(&bytes[56..]).any(|b| *b != 0);
        // A row to begin with is what an interrupted load leaves behind.
        if reserved || bytes[1] != 0 {
            return None;
        }
        for (t, shape) in self.shapes.iter_mut().enumerate() {
            let row = usize::from(u16::from_le_bytes([bytes[16 + 2 * t], bytes[17 + 2 * t]]));
            let rows = usize::from(bytes[48 + t]);
            if rows > ROWS || row > BYTES || (rows == 0) != (row == 0) {
                return None;
            }
            *shape = (rows, row);
        }
        Some(())
    }

    /// Shape of a register that has one.
    pub fn shape(&self, t: u8) -> Option<(usize, usize)> {
        self.shapes.get(usize::from(t)).copied().filter(|shape| shape.0 > 0)
    }

    /// `tilezero`.
    pub fn zero(&mut self, t: u8) -> Option<()> {
        self.shape(t)?;
        self.bytes[usize::from(t)] = [[0; BYTES]; ROWS];
        Some(())
    }

    /// Where row `r` of a register that has a shape is kept.
    pub fn row(&mut self, t: u8, r: usize) -> &mut [u8] {
        let bytes = self.shapes[usize::from(t)].1;
        &mut self.bytes[usize::from(t)][r][..bytes]
    }

    /// `tdpbusd`: `c += a * b`, bytes of `a` unsigned, those of `b` signed; None where a processor refuses.
    pub fn products(&mut self, c: u8, a: u8, b: u8) -> Option<()> {
        let ((rows, width), (a_rows, a_bytes), (quads, b_bytes)) = (self.shape(c)?, self.shape(a)?, self.shape(b)?);
        let distinct = c != a && c != b && a != b;
        let fit = rows == a_rows && width == b_bytes && a_bytes == 4 * quads && width.is_multiple_of(4);
        if !distinct || !fit {
            return None;
        }
        let [a, b] = [a, b].map(|t| self.bytes[usize::from(t)]);
        let sums = &mut self.bytes[usize::from(c)];
        for (sums, a) in sums.iter_mut().zip(&a).take(rows) {
            for (x, b) in a.chunks_exact(4).zip(&b).take(quads) {
                for (sum, w) in sums.chunks_exact_mut(4).zip(b.chunks_exact(4)).take(width / 4) {
                    let old = i32::from_le_bytes(sum.try_into().expect("four bytes"));
                    sum.copy_from_slice(&dot(old, x, w).to_le_bytes());
                }
            }
        }
        Some(())
    }
}

/// Four products of unsigned and signed bytes, added.
pub fn dot(sum: i32, x: &[u8], w: &[u8]) -> i32 {
    x.iter().zip(w).fold(sum, |sum, (x, w)| sum.wrapping_add(i32::from(*x) * i32::from(*w as i8)))
}

/// Two products of signed 16 bits, added.
pub fn dot_of_pairs(sum: i32, x: &[u8], w: &[u8]) -> i32 {
    let word = |pair: &[u8; 2]| i32::from(i16::from_le_bytes(*pair));
    let words = x.as_chunks().0.iter().zip(w.as_chunks().0);
    words.fold(sum, |sum, (x, w)| sum.wrapping_add(word(x) * word(w)))
}

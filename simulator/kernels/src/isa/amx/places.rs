//! Where the positions of some tiles lie: their bytes, their sums, and their outputs.

use super::super::Panel;
use super::tiles::Tiling;

/// Positions that are ended together.
pub const FOUR: usize = 4;

/// Up to [`FOUR`] positions whose outputs lie one behind the other.
#[derive(Clone, Copy, Default)]
pub struct Piece {
    /// The first of them among the positions of the tiles.
    pub sum: u32,
    pub count: u32,
    /// The first of them among all positions that have outputs.
    pub output: usize,
}

/// The positions of some tiles in pieces, of at most four tiles: of a row of five positions, the fewest, there are two.
#[derive(Clone, Copy, Default)]
pub struct Pieces {
    pieces: [Piece; 32],
    len: usize,
}

impl Pieces {
    pub fn all(&self) -> &[Piece] {
        &self.pieces[..self.len]
    }

    /// `count` positions that lie one behind the other, the last four overlapping with those before.
    fn add(&mut self, sum: usize, output: usize, count: usize) {
        let mut len = self.len;
        let mut first = 0;
        while first < count {
            let at = first.min(count.saturating_sub(FOUR));
            let some = (count - at).min(FOUR);
            self.pieces[len] = Piece { sum: (sum + at) as u32, count: some as u32, output: output + at };
            len += 1;
            first += FOUR;
        }
        self.len = len;
    }
}

/// The tiles of a panel, one after the other.
pub struct Places {
    tiling: Tiling,
    step: usize,
    row_step: usize,
    /// Positions with outputs of a row, and positions from a row to the next.
    count: usize,
    pitch: usize,
    /// The next tile: how many come before it in its row of tiles, ...
    before: usize,
    /// ... and the row and column of its first position.
    row: usize,
    column: usize,
}

impl Places {
    /// Rows one by one; or, if those are fewer tiles, all rows as one with the positions between them, which have no outputs.
    pub fn of(panel: &Panel<'_>) -> Self {
        let Panel { step, row_step, count, rows, .. } = *panel;
        let tiling = Tiling::of(panel);
        let by_rows = Self { tiling, step, row_step, count, pitch: count, before: 0, row: 0, column: 0 };
        let pitch = row_step.checked_div(step).unwrap_or(0);
        if rows > 1 && row_step.is_multiple_of(step) && pitch > count {
            let tiling = Tiling::of(&Panel { count: (rows - 1) * pitch + count, rows: 1, ..*panel });
            if tiling.tiles < by_rows.tiling.tiles {
                return Self { tiling, pitch, ..by_rows };
            }
        }
        by_rows
    }

    pub fn tiles(&self) -> usize {
        self.tiling.tiles
    }

    /// Positions of a tile.
    pub fn rows(&self) -> usize {
        self.tiling.rows
    }

    /// The next tiles: where their bytes begin, and their outputs.
    pub fn next(&mut self, begin: &mut [usize], pieces: &mut Pieces) {
        pieces.len = 0;
        let rows = self.rows();
        // Positions that go on.
        let (mut from, mut to, mut count) = (0, 0, 0);
        for (i, begin) in begin.iter_mut().enumerate() {
            *begin = self.row * self.row_step + self.column * self.step;
            let (mut row, mut column, mut done) = (self.row, self.column, 0);
            while done < rows {
                let some = (rows - done).min(self.count.saturating_sub(column));
                let next = row * self.count + column;
                if (from + count, to + count) == (i * rows + done, next) {
                    count += some;
                } else if some > 0 {
                    pieces.add(from, to, count);
                    (from, to, count) = (i * rows + done, next, some);
                }
                done += self.pitch - column;
                (row, column) = (row + 1, 0);
            }
            self.advance();
        }
        pieces.add(from, to, count);
    }

    fn advance(&mut self) {
        self.before += 1;
        if self.before == self.tiling.across {
            // The next row of tiles, if there is one, is the next row.
            (self.before, self.row, self.column) = (0, self.row + 1, 0);
            return;
        }
        // The last tile of a row ends with it.
        let [at, last] = [self.before - 1, self.before].map(|tile| self.tiling.first(tile));
        self.column += last - at;
        while self.column >= self.pitch {
            (self.row, self.column) = (self.row + 1, self.column - self.pitch);
        }
    }
}

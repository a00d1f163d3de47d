//! Where the positions of some tiles lie: their bytes, their sums, and their outputs.

use super::super::Panel;
use super::ended::FOUR;
use super::tiles::Tiling;

/// Positions whose outputs lie one behind the other, as their sums do.
#[derive(Clone, Copy, Default)]
pub struct Stretch {
    /// The first of them among the positions of the tiles.
    pub sum: usize,
    /// The first of them among all positions that have outputs.
    pub output: usize,
    pub count: usize,
}

/// The outputs of at most four tiles: of rows of five positions, the fewest, with one between them, there are up to twelve.
#[derive(Clone, Copy, Default)]
pub struct Stretches {
    stretches: [Stretch; 16],
    len: usize,
    /// Positions, those of each stretch counted as whole fours.
    pub fours: usize,
}

impl Stretches {
    pub fn all(&self) -> &[Stretch] {
        &self.stretches[..self.len]
    }

    /// More positions: they go on with those before, or begin anew.
    fn add(&mut self, sum: usize, output: usize, count: usize) {
        if let Some(last) = self.stretches[..self.len].last_mut()
            && (last.sum + last.count, last.output + last.count) == (sum, output)
        {
            self.fours -= last.count.div_ceil(FOUR);
            last.count += count;
            self.fours += last.count.div_ceil(FOUR);
            return;
        }
        self.stretches[self.len] = Stretch { sum, output, count };
        self.fours += count.div_ceil(FOUR);
        self.len += 1;
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
    pub fn next(&mut self, begin: &mut [usize], stretches: &mut Stretches) {
        (stretches.len, stretches.fours) = (0, 0);
        let rows = self.rows();
        for (i, begin) in begin.iter_mut().enumerate() {
            *begin = self.row * self.row_step + self.column * self.step;
            let (mut row, mut column, mut done) = (self.row, self.column, 0);
            while done < rows {
                let some = (rows - done).min(self.count.saturating_sub(column));
                if some > 0 {
                    stretches.add(i * rows + done, row * self.count + column, some);
                }
                done += self.pitch - column;
                (row, column) = (row + 1, 0);
            }
            self.advance();
        }
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

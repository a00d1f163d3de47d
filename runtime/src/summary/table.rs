//! Tables of text.

/// Cells in columns as wide as their widest cell, aligned left, two spaces apart.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: impl IntoIterator<Item = &'static str>) -> Self {
        Self { header: header.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.chain([&self.header[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..self.header.len()).map(width).collect()
    }

    /// Width of its rules: two for each column more than the columns together.
    pub fn width(&self) -> usize {
        self.widths().iter().map(|width| width + 2).sum()
    }

    /// A line of one character.
    pub fn rule(&self, character: char) -> String {
        format!("{}\n", character.to_string().repeat(self.width()))
    }

    /// The header line.
    pub fn header(&self) -> String {
        line(&self.header, &self.widths())
    }

    /// A line for each row.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let widths = self.widths();
        self.rows.iter().map(move |row| line(row, &widths))
    }

    /// All of it under a centred title, with a rule of `=` under the header.
    pub fn titled(&self, title: &str) -> String {
        let free = self.width().saturating_sub(title.chars().count());
        let (left, right) = (" ".repeat(free / 2), " ".repeat(free - free / 2));
        format!("{left}{title}{right}\n{}", self.untitled())
    }

    /// All of it, with a rule of `=` under the header.
    pub fn untitled(&self) -> String {
        let mut text = format!("{}{}{}", self.rule('_'), self.header(), self.rule('='));
        for line in self.lines() {
            text.push_str(&line);
            text.push_str(&self.rule('_'));
        }
        text
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    format!("{}\n", padded.join("  "))
}

/// A title between `=`, over `width`; the odd one is on the left.
pub fn banner(title: &str, width: usize) -> String {
    // Of `width - len` columns two are spaces; when that is odd, one of the rest goes left.
    let free = width.saturating_sub(title.chars().count() + 2);
    format!("{} {title} {}", "=".repeat(free.div_ceil(2)), "=".repeat(free / 2))
}

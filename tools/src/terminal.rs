//! What a person sees: progress, pictures, plots, tables. Machines get none of it unless they ask.

mod picture;
mod plot;
mod progress;

use std::io::IsTerminal;

use comfy_table::{ContentLineStyle, LineStyle, TableStyle};

pub use picture::Picture;
pub use plot::bars;
pub use progress::progress;

/// When something meant for eyes is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// On a terminal.
    #[default]
    Auto,
    /// Wherever standard output goes.
    Always,
    /// Not at all.
    Never,
}

impl When {
    /// Whether to show it on standard output.
    pub fn on_stdout(self) -> bool {
        match self {
            When::Auto => std::io::stdout().is_terminal(),
            When::Always => true,
            When::Never => false,
        }
    }
}

/// What colours standard output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// 24 bits.
    True,
    /// The 256 colours of xterm.
    Palette,
    /// None: shades made of characters.
    None,
}

impl Colours {
    /// Of standard output: none when it is no terminal or `NO_COLOR` is set, 24 bits when `COLORTERM` says so.
    pub fn of_stdout() -> Self {
        let var = |name| std::env::var(name).unwrap_or_default();
        if !std::io::stdout().is_terminal() || !var("NO_COLOR").is_empty() || matches!(&*var("TERM"), "dumb" | "") {
            Colours::None
        } else if matches!(&*var("COLORTERM"), "truecolor" | "24bit") {
            Colours::True
        } else {
            Colours::Palette
        }
    }
}

const PLAIN: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::new(' ', ' ', ' '))
    .header_separator(LineStyle::new(' ', '─', ' ', ' '))
    .content_lines(ContentLineStyle::new(' ', ' ', ' '));

/// A table without a frame: columns two blanks apart, a line under the header.
pub fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(PLAIN).set_header(header.to_vec());
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table
}

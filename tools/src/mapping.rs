//! Arguments that decide how a model is put on a mesh; the same for `akida-convert map` and `akida-run`.

use akida_runtime::mapping::{InputRoad, MapOptions, Mode, OutputForm, Sequences};
use clap::ValueEnum;

/// How to map.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "Mapping")]
pub struct MappingArgs {
    /// Refuse a network of which a part would run on the host
    #[arg(long)]
    pub hw_only: bool,
    /// How many NPs to use
    #[arg(long, alias = "mapping-mode", default_value = "all", value_name = "HOW")]
    pub nps: Nps,
    /// Which layers go to the board where the host could compute them as well
    #[arg(long, default_value = "auto", value_name = "HOW")]
    pub sequences: Which,
    /// How inputs enter the board
    #[arg(long, default_value = "auto", value_name = "HOW")]
    pub input_as: InputAs,
    /// How outputs leave the board; results are the same
    #[arg(long, default_value = "dense", value_name = "HOW")]
    pub output_as: OutputAs,
}

/// `--input-as`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InputAs {
    /// Images and what a layer has made dense, everything else as events where these can say where an element is
    #[default]
    Auto,
    /// Every element
    Dense,
    /// Only what is not 0, as events; an image for the HRC has to be dense
    Events,
}

/// `--output-as`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputAs {
    /// Every element
    #[default]
    Dense,
    /// Only what is not 0, as events
    Events,
}

/// `--nps`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Nps {
    /// As many as are useful
    #[default]
    All,
    /// As few as possible
    Minimal,
    /// As many as are useful, in as many passes as are worth reprogramming the mesh for every sample
    #[value(name = "hwpr")]
    HwPr,
}

/// `--sequences`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Those for which programming the board anew is worth it
    #[default]
    Auto,
    /// All that can
    All,
}

impl MappingArgs {
    /// As the mapper takes them.
    pub fn options(&self) -> MapOptions {
        MapOptions {
            hw_only: self.hw_only,
            mode: match self.nps {
                Nps::All => Mode::AllNps,
                Nps::Minimal => Mode::Minimal,
                Nps::HwPr => Mode::HwPr,
            },
            sequences: match self.sequences {
                Which::Auto => Sequences::Auto,
                Which::All => Sequences::All,
            },
            input: match self.input_as {
                InputAs::Auto => InputRoad::Auto,
                InputAs::Dense => InputRoad::Dense,
                InputAs::Events => InputRoad::Events,
            },
            output: match self.output_as {
                OutputAs::Dense => OutputForm::Dense,
                OutputAs::Events => OutputForm::Events,
            },
            ..MapOptions::default()
        }
    }
}

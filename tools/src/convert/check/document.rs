//! The report as data: what text, JSON and HTML are made of.

use akida_runtime::mapping;
use serde::Serialize;

/// Version of the JSON document. It changes when a key changes its meaning or goes; new keys may come at any time.
pub const SCHEMA: &str = "akida-check/1";

/// The report.
#[derive(Debug, Serialize)]
pub struct Document {
    /// `akida-check/1`.
    pub schema: &'static str,
    /// The file.
    pub file: String,
    /// What it was checked for.
    pub target: String,
    /// `hardware`: all of it; `partly`: with layers on the host; `refused`: a part runs nowhere.
    pub verdict: &'static str,
    /// What runs on the board, of all operations.
    pub share: Share,
    /// Nodes of the graph, each after those it reads: layers, and operators that are in no layer.
    pub nodes: Vec<Node>,
    /// Every layer; empty when there is no model.
    pub layers: Vec<Verdict>,
    /// What stands in the way of running all of it on the board.
    pub refusals: Vec<Refusal>,
    /// Operations that no layer is made of, and other warnings of the quantizer.
    pub warnings: Vec<String>,
}

/// What runs on the board.
#[derive(Debug, Default, Serialize)]
pub struct Share {
    /// Multiply-adds of one sample on the board, also of layers the host finishes.
    pub board_macs: u64,
    /// Multiply-adds of one sample, as far as shapes are known.
    pub macs: u64,
    /// Nodes that the board computes alone.
    pub board_nodes: usize,
    /// All nodes.
    pub nodes: usize,
}

/// Where a node is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Fate {
    /// On the board.
    #[serde(rename = "board")]
    Board,
    /// Sums on the board, the rest on the host.
    #[serde(rename = "board and host")]
    BoardAndHost,
    /// On the host, in the board's integers.
    #[serde(rename = "host")]
    Host,
    /// On the host, in floating point.
    #[serde(rename = "host float")]
    HostFloat,
    /// Nowhere.
    #[serde(rename = "refused")]
    Refused,
    /// Not known, because the check ended at another node.
    #[serde(rename = "unknown")]
    Unknown,
}

impl Fate {
    /// All, in the order of legends.
    pub const ALL: [Fate; 6] =
        [Fate::Board, Fate::BoardAndHost, Fate::Host, Fate::HostFloat, Fate::Refused, Fate::Unknown];

    /// As in the JSON document.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Board => "board",
            Fate::BoardAndHost => "board and host",
            Fate::Host => "host",
            Fate::HostFloat => "host float",
            Fate::Refused => "refused",
            Fate::Unknown => "unknown",
        }
    }
}

/// A node.
#[derive(Debug, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Where it is computed.
    pub runs_on: Fate,
    /// Positions in the list of those it reads.
    pub inputs: Vec<usize>,
    /// Shape of what it makes, in ONNX order without the batch; empty when it is not known.
    pub shape: Vec<usize>,
    /// Multiply-adds of one sample.
    pub macs: u64,
}

/// A layer.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Its name.
    pub layer: String,
    /// Its operator.
    pub op: String,
    /// `board`, `board and host`, `host`.
    pub runs_on: Fate,
    /// Rule, limit, value and remedy where the host has a part.
    pub reason: Option<mapping::Reason>,
}

/// A rule that is broken.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// Name of the node; empty when it is about the whole graph.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Rule id: `akida1.` and `akida2.` as in docs/mapping.md, `onnx.` as in docs/converter.md.
    pub rule: String,
    /// What the rule allows.
    pub limit: String,
    /// What was found.
    pub value: String,
    /// What to do.
    pub remedy: String,
    /// Where the node is computed instead.
    pub runs_on: Fate,
}

impl Document {
    /// Sets verdict and share from the nodes.
    pub fn sum_up(&mut self) {
        let all = |fate: Fate| self.nodes.iter().all(|n| n.runs_on == fate);
        let none = |fate: Fate| self.nodes.iter().all(|n| n.runs_on != fate);
        self.verdict = match (all(Fate::Board), none(Fate::Refused) && none(Fate::Unknown)) {
            _ if self.refusals.iter().any(|r| r.runs_on == Fate::Refused) => "refused",
            (true, _) => "hardware",
            (false, true) => "partly",
            (false, false) => "refused",
        };
        let on = |fate: &[Fate]| self.nodes.iter().filter(|n| fate.contains(&n.runs_on)).collect::<Vec<_>>();
        self.share = Share {
            board_macs: on(&[Fate::Board, Fate::BoardAndHost]).iter().map(|n| n.macs).sum(),
            macs: self.nodes.iter().map(|n| n.macs).sum(),
            board_nodes: on(&[Fate::Board]).len(),
            nodes: self.nodes.len(),
        };
    }

    /// The verdict as a sentence.
    pub fn sentence(&self) -> &'static str {
        match self.verdict {
            "hardware" => "all of it runs on the board",
            "partly" => "it runs, with layers on the host",
            _ => "REFUSED: a part of it runs nowhere",
        }
    }
}

impl Share {
    /// As a sentence.
    pub fn sentence(&self) -> String {
        let percent = |part: u64, all: u64| if all == 0 { 0.0 } else { 100.0 * part as f64 / all as f64 };
        format!(
            "on the board: {:.1} % of the multiply-adds ({} of {}), {:.1} % of the nodes ({} of {})",
            percent(self.board_macs, self.macs),
            self.board_macs,
            self.macs,
            percent(self.board_nodes as u64, self.nodes as u64),
            self.board_nodes,
            self.nodes
        )
    }
}

//! The report for a terminal.

use super::document::Document;
use crate::terminal::table;

/// Layers, refusals, warnings.
pub fn text(document: &Document) -> String {
    let mut text = format!("{} on {}: {}\n", document.file, document.target, document.sentence());
    text.push_str(&format!("{}\n\n", document.share.sentence()));
    let mut layers = table(&["node", "operator", "runs on", "because"]);
    for node in &document.nodes {
        let refusal = document.refusals.iter().find(|r| r.node == node.name && r.op == node.op);
        let because =
            refusal.map_or(String::new(), |r| format!("{}: {} (limit: {}); {}", r.rule, r.value, r.limit, r.remedy));
        layers.add_row([node.name.as_str(), &node.op, node.runs_on.name(), &because]);
    }
    text.push_str(&format!("{}\n", layers.trim_fmt()));
    for r in document.refusals.iter().filter(|r| document.nodes.iter().all(|n| n.name != r.node)) {
        text.push_str(&format!("refused: {}: {} (limit: {}); {}\n", r.rule, r.value, r.limit, r.remedy));
    }
    for warning in &document.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

//! The report as one page: no script, no font, nothing from a network. It is well-formed XML, too.

use std::fmt::Write;

use super::document::{Document, Fate, Node, Refusal};
use crate::drawing::escape;
use crate::drawing::svg::{Shape, draw};

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:78rem;padding:0 1rem;color:#1c2330}\
h1{font-size:1.35rem}h2{font-size:1.1rem;margin-top:2rem}\
.verdict{padding:.7rem 1rem;border-radius:6px;font-weight:600}\
.hardware{background:#dcf3e3}.partly{background:#fdf0cd}.refused-verdict{background:#fbdcdc}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;\
border-bottom:1px solid #dde1e8;overflow-wrap:anywhere}th{background:#f3f4f6}code{font-size:.92em}\
td[class]{white-space:nowrap;overflow-wrap:normal}.key{display:inline-block;width:.9em;height:.9em;border:1px solid #5b6472;margin:0 .3em 0 1em;vertical-align:-.1em}\
.strip{display:flex;height:22px;margin:.6rem 0;border:1px solid #c4cad4}.strip a{flex:1 1 0;min-width:0}\
.strip a:hover{outline:2px solid #1c2330}\
.picture{overflow:auto;border:1px solid #dde1e8;text-align:center}\
.graph text{font:12px system-ui,sans-serif;text-anchor:middle;fill:#1c2330}.graph .title{font-weight:600}\
.graph rect{stroke:#5b6472}.graph .edge{fill:none;stroke:#8a93a1;stroke-width:1.3}.graph marker path{fill:#8a93a1}\
.graph g:target rect{stroke:#1c2330;stroke-width:4}\
.f-board{fill:#bfe6cb;background:#bfe6cb}.f-both{fill:#dbe7a3;background:#dbe7a3}.f-host{fill:#fbe0a2;background:#fbe0a2}\
.f-float{fill:#c9d9f5;background:#c9d9f5}.f-refused{fill:#f3a6a6;background:#f3a6a6}\
.f-unknown{fill:#e3e6eb;background:#e3e6eb}";

fn class(fate: Fate) -> &'static str {
    match fate {
        Fate::Board => "f-board",
        Fate::BoardAndHost => "f-both",
        Fate::Host => "f-host",
        Fate::HostFloat => "f-float",
        Fate::Refused => "f-refused",
        Fate::Unknown => "f-unknown",
    }
}

/// The whole page.
pub fn page(document: &Document) -> String {
    let title = escape(&format!("{} on {}", document.file, document.target));
    let verdict = if document.verdict == "refused" { "refused-verdict" } else { document.verdict };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" \
         content=\"width=device-width\"/><title>{title}</title><style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n\
         <p class=\"verdict {verdict}\">{}</p>\n<p>{}. Checked by rule; nothing ran on a board.</p>\n",
        escape(document.sentence()),
        escape(&document.share.sentence()),
    );
    refusals(document, &mut out);
    out.push_str("<h2>Graph</h2>\n<p>");
    for fate in Fate::ALL {
        let count = document.nodes.iter().filter(|n| n.runs_on == fate).count();
        if count > 0 {
            let _ = write!(out, "<span class=\"key {}\"></span>{}: {count}", class(fate), fate.name());
        }
    }
    out.push_str("</p>\n<div class=\"strip\">");
    for (n, node) in document.nodes.iter().enumerate() {
        let name = escape(&node.name);
        let _ = write!(out, "<a href=\"#n{n}\" class=\"{}\" title=\"{name}\"></a>", class(node.runs_on));
    }
    out.push_str("</div>\n<div class=\"picture\">\n");
    let refusal = |node: &Node| document.refusals.iter().find(|r| !r.node.is_empty() && r.node == node.name);
    let shapes: Vec<Shape> = document.nodes.iter().map(|node| shape(node, refusal(node))).collect();
    let edges: Vec<(usize, usize)> =
        document.nodes.iter().enumerate().flat_map(|(to, n)| n.inputs.iter().map(move |&from| (from, to))).collect();
    out.push_str(&draw(&shapes, &edges));
    out.push_str("</div>\n");
    if !document.warnings.is_empty() {
        out.push_str("<h2>Warnings</h2>\n<ul>\n");
        for warning in &document.warnings {
            let _ = writeln!(out, "<li>{}</li>", escape(warning));
        }
        out.push_str("</ul>\n");
    }
    nodes(document, &mut out);
    out.push_str("</body></html>\n");
    out
}

fn shape(node: &Node, refusal: Option<&Refusal>) -> Shape {
    let dims: Vec<String> = node.shape.iter().map(usize::to_string).collect();
    let why = refusal.map_or(String::new(), |r| format!("; {}: {} (limit: {})", r.rule, r.value, r.limit));
    let hint = format!(
        "{} ({}): {}; output {}; {} multiply-adds{why}",
        node.name,
        node.op,
        node.runs_on.name(),
        dims.join(" x "),
        node.macs
    );
    // What nearly every fused operator is says nothing in a small box.
    let op = match node.op.strip_prefix("Quantized") {
        Some(op) => op.replace("Biased", "").replace("Scaled", ""),
        None => node.op.clone(),
    };
    Shape { title: op, line: node.name.clone(), hint, class: class(node.runs_on) }
}

fn refusals(document: &Document, out: &mut String) {
    if document.refusals.is_empty() {
        return;
    }
    out.push_str(
        "<h2>What stands in the way</h2>\n<table><tr><th>node</th><th>operator</th><th>runs on</th><th>rule</th>\
         <th>limit</th><th>value</th><th>remedy</th></tr>\n",
    );
    for r in &document.refusals {
        let name = if r.node.is_empty() { "the whole graph" } else { &r.node };
        let name = match document.nodes.iter().position(|n| n.name == r.node) {
            Some(n) => format!("<a href=\"#n{n}\">{}</a>", escape(name)),
            None => escape(name),
        };
        let _ = writeln!(
            out,
            "<tr><td>{name}</td><td>{}</td><td class=\"{}\">{}</td><td><code>{}</code></td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            escape(&r.op),
            class(r.runs_on),
            r.runs_on.name(),
            escape(&r.rule),
            escape(&r.limit),
            escape(&r.value),
            escape(&r.remedy)
        );
    }
    out.push_str("</table>\n");
}

fn nodes(document: &Document, out: &mut String) {
    out.push_str(
        "<h2>Nodes</h2>\n<table><tr><th>node</th><th>operator</th><th>runs on</th><th>output</th>\
         <th>multiply-adds</th></tr>\n",
    );
    for (n, node) in document.nodes.iter().enumerate() {
        let dims: Vec<String> = node.shape.iter().map(usize::to_string).collect();
        let _ = writeln!(
            out,
            "<tr><td><a href=\"#n{n}\">{}</a></td><td>{}</td><td class=\"{}\">{}</td><td>{}</td><td>{}</td></tr>",
            escape(&node.name),
            escape(&node.op),
            class(node.runs_on),
            node.runs_on.name(),
            dims.join(" x "),
            node.macs
        );
    }
    out.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::super::document::{SCHEMA, Share};
    use super::*;

    /// A chain of `count` nodes with skips; every seventh is on the host, with hostile names.
    fn document(count: usize) -> Document {
        let node = |n: usize| Node {
            name: format!("/layer<{n}>&\"x\"/Conv"),
            op: "QuantizedConv2D".into(),
            runs_on: if n % 7 == 3 { Fate::Host } else { Fate::Board },
            inputs: [n.checked_sub(1), n.checked_sub(5)].into_iter().flatten().collect(),
            shape: vec![8, 4, 4],
            macs: 100,
        };
        let mut document = Document {
            schema: SCHEMA,
            file: "a<b>.onnx".into(),
            target: "akida2".into(),
            verdict: "",
            share: Share::default(),
            nodes: (0..count).map(node).collect(),
            layers: Vec::new(),
            refusals: Vec::new(),
            warnings: vec!["a & b < c".into()],
        };
        for n in (0..count).filter(|n| n % 7 == 3) {
            document.refusals.push(Refusal {
                node: document.nodes[n].name.clone(),
                op: "QuantizedConv2D".into(),
                rule: "akida2.conv.kernel".into(),
                limit: "7".into(),
                value: "<9>".into(),
                remedy: "smaller & better".into(),
                runs_on: Fate::Host,
            });
        }
        document.sum_up();
        document
    }

    #[test]
    fn pages_are_well_formed_whole_and_load_nothing() {
        for count in [0, 1, 3, 10, 500] {
            let report = document(count);
            let page = page(&report);
            let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
            let xml = roxmltree::Document::parse_with_options(&page, options).unwrap();
            let with = |name: &str, value: &str| {
                xml.descendants().filter(|n| n.attribute(name).is_some_and(|v| v.contains(value))).count()
            };
            let tags = |tag: &str| xml.descendants().filter(|n| n.tag_name().name() == tag).count();
            let skips = count.saturating_sub(1) + count.saturating_sub(5);
            assert_eq!((with("class", "node f-"), with("class", "edge")), (count, skips), "{count} nodes");
            assert_eq!(with("class", "node f-host"), report.refusals.len());
            // Every link leads to a node, each node's id is there once.
            for link in xml.descendants().filter_map(|n| n.attribute("href")) {
                let id = link.strip_prefix('#').expect("links stay on the page");
                assert_eq!(xml.descendants().filter(|n| n.attribute("id") == Some(id)).count(), 1, "{link}");
            }
            assert_eq!(["script", "link", "img", "iframe", "object"].map(tags), [0; 5]);
            assert_eq!(with("src", ""), 0);
            assert!(!page.contains("url(http") && !page.contains("@import"));
            let cells = xml.descendants().filter(|n| n.is_element() && n.text() == Some("smaller & better")).count();
            assert_eq!(cells, report.refusals.len());
        }
    }

    #[test]
    fn the_share_counts_what_the_board_does() {
        let report = document(10);
        assert_eq!((report.verdict, report.share.board_macs, report.share.macs), ("partly", 900, 1000));
        assert_eq!((report.share.board_nodes, report.share.nodes), (9, 10));
        assert_eq!(document(3).verdict, "hardware");
    }
}

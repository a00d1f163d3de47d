//! Pictures of graphs and tables of numbers as SVG, without a browser or Python to make them.
//!
//! A layered layout (longest path from the inputs, order by barycentres, long edges bent around what they pass) of our
//! own: what networks need of one is small, and the crates at hand draw to files or need Graphviz.

pub mod layout;
pub mod plot;
pub mod svg;

/// Text that stands for itself in HTML and SVG. Characters that XML does not have become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The end of a long text, which in names says more than the beginning, in at most `most` characters.
pub fn tail(text: &str, most: usize) -> String {
    let len = text.chars().count();
    if len <= most {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(len + 1 - most)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts_cannot_leave_their_place() {
        assert_eq!(super::escape("a<b> & \"c\"\n'\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;\u{fffd}");
        assert_eq!(super::tail("/features/0/Conv", 7), "…0/Conv");
        assert_eq!(super::tail("Conv", 4), "Conv");
    }
}

//! The trace context of OpenTelemetry (W3C `traceparent`): taken when it is valid, carried to logs.

use http::HeaderMap;

/// The `traceparent` of a request; none when it is missing or not valid, since anything else would end up in logs.
pub fn parent(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    is_valid(value).then_some(value)
}

/// `VERSION-TRACE-PARENT-FLAGS`: 2, 32, 16 and 2 lower-case hexadecimal digits. Trace and parent are not all zero. Versions
/// after 00 may have more behind a further dash; `ff` is none.
pub fn is_valid(value: &str) -> bool {
    let hex = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let some = |s: &str| s.bytes().any(|b| b != b'0');
    let mut parts = value.splitn(5, '-');
    let mut part = || parts.next().unwrap_or("");
    let (version, trace, parent, flags) = (part(), part(), part(), part());
    let sized = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let rest = parts.next();
    sized && version != "ff" && some(trace) && some(parent) && (rest.is_none() || version != "00") && value.len() <= 256
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn only_what_the_standard_allows() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (value, valid) in [
            (format!("00-{trace}-00f067aa0ba902b7-01"), true),
            (format!("cc-{trace}-00f067aa0ba902b7-01-what-comes"), true),
            (format!("00-{trace}-00f067aa0ba902b7-01-more"), false),
            (format!("ff-{trace}-00f067aa0ba902b7-01"), false),
            (format!("00-{trace}-0000000000000000-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()), false),
            (format!("00-{trace}-00f067aa0ba902b7"), false),
            (format!("00-{trace}x-00f067aa0ba902b7-01"), false),
            ("00-\" onerror=-00f067aa0ba902b7-01".into(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_valid(&value), valid, "{value}");
        }
    }
}

//! Logs on standard error: a line of text, or a JSON object a line. Request ids and other pairs come with them.

use std::io::Write;

use log::kv::{Key, Value, VisitSource};
use log::{LevelFilter, Record};
use serde_json::Map;

use crate::config::LogFormat;
use akida_tools::command::Common;

/// Starts logging. What is done is logged unless less is asked for: operators want to see what happened.
pub fn start(common: &Common, format: LogFormat) {
    let level = match common.verbose {
        _ if common.quiet => LevelFilter::Warn,
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = env_logger::Builder::new();
    // Others' crates say little of use below warnings.
    builder.filter_level(level.min(LevelFilter::Warn));
    for module in ["akida_serve", "akida_runtime", "akida_hal", "akida_tools", "akida_converter", "akida_simulator"] {
        builder.filter_module(module, if module == "akida_serve" { level } else { level.min(LevelFilter::Debug) });
    }
    builder.parse_env(env_logger::Env::default().filter("RUST_LOG"));
    if format == LogFormat::Json {
        builder.format(|out, record| writeln!(out, "{}", line(record)));
    } else {
        builder.format_timestamp_micros();
    }
    builder.init();
}

/// One record as JSON.
fn line(record: &Record<'_>) -> String {
    let mut pairs = Pairs(Map::new());
    let mut put = |key: &str, value: String| pairs.0.insert(key.to_owned(), value.into());
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    put("level", record.level().as_str().to_lowercase());
    put("target", record.target().to_owned());
    put("message", record.args().to_string());
    pairs.0.insert("unix_seconds".to_owned(), since.as_secs_f64().into());
    // Visiting a map does not fail.
    let _ = record.key_values().visit(&mut pairs);
    serde_json::Value::Object(pairs.0).to_string()
}

struct Pairs(Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let value = match (value.to_u64(), value.to_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            _ => value.to_string().into(),
        };
        // What the record says of itself is not replaced.
        self.0.entry(key.as_str().to_owned()).or_insert(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_json_with_its_pairs() {
        let pairs = [("request", Value::from("a\"\n")), ("samples", Value::from(3u64)), ("level", Value::from("no"))];
        let text = line(
            &Record::builder()
                .args(format_args!("said\n\"so\""))
                .level(log::Level::Warn)
                .target("t")
                .key_values(&&pairs[..])
                .build(),
        );
        assert!(!text.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["message"], "said\n\"so\"");
        assert_eq!((&value["request"], &value["samples"]), (&"a\"\n".into(), &3.into()));
        assert_eq!((&value["level"], &value["target"]), (&"warn".into(), &"t".into()));
        assert!(value["unix_seconds"].as_f64().is_some_and(|s| s > 1e9));
    }
}

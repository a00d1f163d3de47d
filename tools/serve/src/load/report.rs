//! What a measurement has to say.

use std::collections::BTreeMap;
use std::fmt::Write;

use akida_tools::exit::{Exit, Failure};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::args::{Args, Arrivals};
use super::workers::Seen;

/// The document; units are in the names of keys.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: &'static str,
    version: &'static str,
    url: String,
    model: String,
    input: String,
    batch: u32,
    concurrency: u16,
    /// Open loop: what was asked for.
    rate_per_s: Option<f64>,
    arrivals: Option<&'static str>,
    seconds: f64,
    requests: u64,
    failures: u64,
    /// Reasons and how often, the first hundred.
    failed: BTreeMap<String, u64>,
    throughput_per_s: f64,
    samples_per_s: f64,
    /// From when a request was due (open loop) or sent (closed loop) to its whole answer.
    latency_us: Percentiles,
    /// From when it was sent: without the wait for a free client.
    service_us: Percentiles,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    min: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Percentiles {
    fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self {
            min: times.min(),
            mean: times.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: times.max(),
        }
    }
}

impl Report {
    /// Of what clients saw in `seconds`.
    pub fn new(args: &Args, input: &str, seen: &Seen, seconds: f64) -> Self {
        let requests = seen.latency.len();
        let throughput_per_s = requests as f64 / seconds;
        let arrivals = match args.arrivals {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
        };
        Self {
            schema: "akida-bench/1",
            version: env!("CARGO_PKG_VERSION"),
            url: args.url.clone(),
            model: args.model.clone(),
            input: input.to_string(),
            batch: args.batch,
            concurrency: args.concurrency,
            rate_per_s: args.rate,
            arrivals: args.rate.map(|_| arrivals),
            seconds,
            requests,
            failures: seen.failures.values().sum(),
            failed: seen.failures.iter().take(100).map(|(why, count)| (why.clone(), *count)).collect(),
            throughput_per_s,
            samples_per_s: throughput_per_s * f64::from(args.batch),
            latency_us: Percentiles::of(&seen.latency),
            service_us: Percentiles::of(&seen.service),
        }
    }

    /// Whether there is nothing to tell but failures.
    pub fn nothing_succeeded(&self) -> bool {
        self.requests == 0
    }

    /// One reason of failure.
    pub fn first_failure(&self) -> &str {
        self.failed.keys().next().map_or("none was answered in time", String::as_str)
    }

    /// One JSON document.
    pub fn json(&self) -> Result<String, Failure> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|e| Failure::because(Exit::Internal, "cannot write the report", &e, "please report this"))
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{} {}: {}\n", self.url, self.model, self.input);
        let loop_kind = match (self.rate_per_s, self.arrivals) {
            (Some(rate), Some(arrivals)) => format!("open loop, {rate} requests/s ({arrivals})"),
            _ => "closed loop".into(),
        };
        let _ = writeln!(text, "{loop_kind}, {} clients, {:.1} s", self.concurrency, self.seconds);
        let _ = writeln!(
            text,
            "{} requests ({:.1}/s, {:.1} samples/s), {} failed",
            self.requests, self.throughput_per_s, self.samples_per_s, self.failures
        );
        for (what, p) in [("latency", &self.latency_us), ("service", &self.service_us)] {
            let ms = |us: u64| us as f64 / 1000.0;
            let _ = writeln!(
                text,
                "{what} ms: p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2}",
                ms(p.p50),
                ms(p.p90),
                ms(p.p99),
                ms(p.p999),
                ms(p.max)
            );
        }
        for (why, count) in self.failed.iter().take(5) {
            let _ = writeln!(text, "failed {count} times: {why}");
        }
        text
    }
}

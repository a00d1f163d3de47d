//! Counters and distributions in the exposition format of OpenMetrics, in base units: seconds, bytes. No board reports its
//! temperature or power, so there are no such metrics.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::model::Served;
use crate::error::{Kind, ServeError};
use crate::request::InferResponse;

type Labels = Vec<(&'static str, String)>;
type Seconds = Counter<f64, AtomicU64>;
type Times = Family<Labels, Histogram, fn() -> Histogram>;

/// All metrics of an engine.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    samples: Family<Labels, Counter>,
    duration: Times,
    queue: Times,
    batch: Times,
    refused: Family<Labels, Counter>,
    waiting: Family<Labels, Gauge>,
    held_requests: Gauge,
    held_bytes: Gauge,
    batches: Family<Labels, Counter>,
    busy: Family<Labels, Seconds>,
    device: Family<Labels, Seconds>,
    programming: Family<Labels, Seconds>,
    programmed: Family<Labels, Counter>,
    dma: Family<Labels, Counter>,
    resets: Family<Labels, Counter>,
    quarantines: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
    healthy: Family<Labels, Gauge>,
    loads: Family<Labels, Counter>,
}

/// From 100 µs to 26 s, each bound twice the one before.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 19))
}

/// Batch sizes by powers of two.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 13))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("akida");
        let r = &mut registry;
        macro_rules! metric {
            ($make:expr, $name:literal, $help:literal) => {{
                let metric = $make;
                r.register($name, $help, metric.clone());
                metric
            }};
            ($make:expr, $name:literal, $unit:expr, $help:literal) => {{
                let metric = $make;
                r.register_with_unit($name, $help, $unit, metric.clone());
                metric
            }};
        }
        let seconds = || Unit::Seconds;
        Self {
            requests: metric!(Family::default(), "requests", "Requests that ended, by how"),
            samples: metric!(Family::default(), "samples", "Samples of requests that were answered"),
            duration: metric!(
                Family::new_with_constructor(times as fn() -> Histogram),
                "request_duration",
                seconds(),
                "From hand-over to answer"
            ),
            queue: metric!(
                Family::new_with_constructor(times as fn() -> Histogram),
                "queue_duration",
                seconds(),
                "From hand-over until a board began"
            ),
            batch: metric!(
                Family::new_with_constructor(sizes as fn() -> Histogram),
                "batch_samples",
                "Samples of a batch"
            ),
            refused: metric!(Family::default(), "refused", "Requests refused because queues were full"),
            waiting: metric!(Family::default(), "waiting_samples", "Samples that wait for a board"),
            held_requests: metric!(Gauge::default(), "held_requests", "Requests that are taken and not answered"),
            held_bytes: metric!(
                Gauge::default(),
                "held_inputs",
                Unit::Bytes,
                "Inputs of requests that are taken and not answered"
            ),
            batches: metric!(Family::default(), "board_batches", "Batches a board ran"),
            busy: metric!(Family::default(), "board_busy", seconds(), "Time a board's thread worked, tests included"),
            device: metric!(Family::default(), "board_device", seconds(), "Time of batches, programming included"),
            programming: metric!(Family::default(), "board_programming", seconds(), "Time programming took"),
            programmed: metric!(Family::default(), "board_switches", "Times a board was given another model"),
            dma: metric!(Family::default(), "board_dma", Unit::Bytes, "Bytes moved to a board and from it"),
            resets: metric!(Family::default(), "board_resets", "Resets of a board"),
            quarantines: metric!(Family::default(), "board_quarantines", "Times a board was put into quarantine"),
            retries: metric!(
                Family::default(),
                "board_retries",
                "Requests that were queued again because a board failed at them"
            ),
            healthy: metric!(Family::default(), "board_healthy", "1 when a board takes work, else 0"),
            loads: metric!(Family::default(), "model_loads", "Versions of models that were loaded, by outcome"),
            registry,
        }
    }
}

fn model(served: &Served) -> Labels {
    vec![("model", served.name.to_string()), ("version", served.version.to_string())]
}

fn board(name: &str) -> Labels {
    vec![("board", name.to_owned())]
}

/// What `result` is called.
fn outcome(result: &Result<InferResponse, ServeError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(e) => match e.kind {
            Kind::Invalid => "invalid",
            Kind::NotFound => "not_found",
            Kind::TooLarge => "too_large",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Forbidden => "forbidden",
            Kind::Busy => "busy",
            Kind::Unavailable => "unavailable",
            Kind::Deadline => "deadline",
            Kind::Cancelled => "cancelled",
            Kind::Internal => "internal",
        },
    }
}

impl Metrics {
    /// A request of a model ended.
    pub fn request(
        &self,
        served: &Served,
        result: &Result<InferResponse, ServeError>,
        total: Duration,
        queue: Duration,
    ) {
        let labels = model(served);
        if result.is_ok() {
            self.duration.get_or_create(&labels).observe(total.as_secs_f64());
            self.queue.get_or_create(&labels).observe(queue.as_secs_f64());
        }
        if matches!(result, Err(e) if e.kind == Kind::Busy) {
            self.refused.get_or_create(&labels).inc();
        }
        let with = |mut labels: Labels| {
            labels.push(("result", outcome(result).to_owned()));
            labels
        };
        self.requests.get_or_create(&with(labels)).inc();
    }

    /// A batch was answered.
    pub fn batch(&self, served: &Served, samples: usize) {
        let labels = model(served);
        self.batch.get_or_create(&labels).observe(samples as f64);
        self.samples.get_or_create(&labels).inc_by(samples as u64);
    }

    /// A board ran a batch.
    pub fn ran(&self, name: &str, time: Duration, programming: Duration, switched: bool) {
        let labels = board(name);
        self.batches.get_or_create(&labels).inc();
        self.device.get_or_create(&labels).inc_by(time.as_secs_f64());
        self.programming.get_or_create(&labels).inc_by(programming.as_secs_f64());
        self.programmed.get_or_create(&labels).inc_by(u64::from(switched));
    }

    /// A board's thread worked.
    pub fn busy(&self, name: &str, time: Duration) {
        self.busy.get_or_create(&board(name)).inc_by(time.as_secs_f64());
    }

    /// What a device counted since it was last asked.
    pub fn device(&self, name: &str, bytes: u64, resets: u64) {
        self.dma.get_or_create(&board(name)).inc_by(bytes);
        self.resets.get_or_create(&board(name)).inc_by(resets);
    }

    /// A board was put into quarantine.
    pub fn quarantined(&self, name: &str) {
        self.quarantines.get_or_create(&board(name)).inc();
    }

    /// Requests were queued again.
    pub fn retried(&self, name: &str, requests: usize) {
        self.retries.get_or_create(&board(name)).inc_by(requests as u64);
    }

    /// A version was loaded, or refused.
    pub fn loaded(&self, name: &str, version: u32, ok: bool) {
        let result = if ok { "ok" } else { "refused" };
        let labels = vec![("model", name.to_owned()), ("version", version.to_string()), ("result", result.to_owned())];
        self.loads.get_or_create(&labels).inc();
    }

    /// A board's state as a gauge.
    pub fn healthy(&self, name: &str, healthy: bool) {
        self.healthy.get_or_create(&board(name)).set(i64::from(healthy));
    }

    /// What waits for a model.
    pub fn waiting(&self, served: &Served, samples: usize) {
        self.waiting.get_or_create(&model(served)).set(samples as i64);
    }

    /// What a version that is gone had waiting.
    pub fn no_waiting(&self, served: &Served) {
        self.waiting.remove(&model(served));
    }

    /// What is held.
    pub fn held(&self, requests: usize, bytes: usize) {
        self.held_requests.set(requests as i64);
        self.held_bytes.set(bytes as i64);
    }

    /// Appends all of them, without the mark of the end, so that others can follow.
    pub fn render(&self, text: &mut String) {
        // Writing to a string does not fail.
        let _ = encode_registry(text, &self.registry);
    }
}

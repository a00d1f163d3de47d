//! What a version of a model counted since it was loaded.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::service::{BatchStatistics, ModelStatistics, Tally};

/// Counters of the statistics extension, and those of the status page.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Those of the extension; name and version are filled in by whoever reports them.
    pub all: ModelStatistics,
    batches: BTreeMap<u64, BatchStatistics>,
    /// Requests that were refused because the queue was full.
    pub refused: u64,
}

/// Where the time of one request went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// From hand-over to answer.
    pub total: Duration,
    /// Waiting for a board.
    pub queue: Duration,
    /// Making the board's input.
    pub input: Duration,
    /// On the board.
    pub infer: Duration,
    /// Making the answer.
    pub output: Duration,
}

fn add(tally: &mut Tally, time: Duration) {
    tally.count += 1;
    tally.ns += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Stats {
    /// A request was answered.
    pub fn success(&mut self, samples: usize, times: &Times) {
        self.all.last_inference_ms = unix_ms();
        self.all.inference_count += samples as u64;
        add(&mut self.all.success, times.total);
        add(&mut self.all.queue, times.queue);
        add(&mut self.all.compute_input, times.input);
        add(&mut self.all.compute_infer, times.infer);
        add(&mut self.all.compute_output, times.output);
    }

    /// A request failed.
    pub fn fail(&mut self, total: Duration) {
        add(&mut self.all.fail, total);
    }

    /// A client went away.
    pub fn cancel(&mut self, total: Duration) {
        add(&mut self.all.cancel, total);
    }

    /// A board ran a batch.
    pub fn batch(&mut self, samples: usize, input: Duration, infer: Duration, output: Duration) {
        self.all.execution_count += 1;
        let size = samples as u64;
        let batch = self.batches.entry(size).or_insert(BatchStatistics { batch_size: size, ..Default::default() });
        add(&mut batch.compute_input, input);
        add(&mut batch.compute_infer, infer);
        add(&mut batch.compute_output, output);
    }

    /// What is reported.
    pub fn report(&self, name: &str, version: u32) -> ModelStatistics {
        let batches = self.batches.values().copied().collect();
        ModelStatistics { name: name.to_owned(), version, batches, ..self.all.clone() }
    }
}

//! What a run has to say: one document, printed as JSON or as text.

use std::time::Duration;

use akida_runtime::hybrid::Boundary;
use akida_runtime::session::CallStatistics;
use ndarray::{ArrayD, Axis};
use serde::Serialize;

use super::activity::Activity;
use crate::samples::Labels;

/// Version of the JSON document. It changes when a key changes its meaning or goes; new keys may come at any time.
pub const SCHEMA: &str = "akida-run/1";

/// The JSON document. Units are in the names of keys.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Version of this software.
    pub version: &'static str,
    /// Who computed.
    pub board: Board,
    /// What was computed.
    pub model: Model,
    /// From what.
    pub input: Input,
    /// What came out.
    pub outputs: Vec<Output>,
    /// The samples that were asked for with `--show`.
    pub samples: Vec<Sample>,
    /// Null without labels.
    pub accuracy: Option<Accuracy>,
    /// How fast.
    pub throughput: Throughput,
    /// Null without `--statistics`.
    pub statistics: Option<Statistics>,
    /// Null without `--verify`.
    pub verify: Option<Verify>,
}

/// Who computed.
#[derive(Clone, Debug, Serialize)]
pub struct Board {
    /// `0000:03:00.0`, `sim:akida2`.
    pub name: String,
    /// Whether no silicon was involved.
    pub simulated: bool,
    /// Hardware version, `BC.A1.003.009`. Null when a service ran it.
    pub hardware_version: Option<String>,
    /// Neural processors on the mesh. Null when a service ran it.
    pub nps: Option<usize>,
    /// The service that ran it, with `--server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// What was computed.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// File.
    pub file: String,
    /// Name of the graph.
    pub name: String,
    /// What it was made for.
    pub target: String,
    /// Sequences in the order in which they run.
    pub sequences: Vec<Sequence>,
    /// What crosses at the edges of its board parts for one inference.
    pub boundaries: Vec<Boundary>,
}

/// A part of the network that runs in one place.
#[derive(Clone, Debug, Serialize)]
pub struct Sequence {
    /// `hardware` or `host`.
    pub place: &'static str,
    /// Number of the part of the network it belongs to.
    pub part: usize,
    /// Whether it computes in floating point: a host segment.
    pub float: bool,
    /// Layers in it.
    pub layers: Vec<String>,
    /// On the host: why, one entry for each.
    pub because: Vec<String>,
    /// Neural processors it takes; 0 on the host.
    pub nps: usize,
    /// Times the mesh is configured anew for one inference.
    pub passes: usize,
    /// Bytes moved to the board to program it; 0 on the host.
    pub program_bytes: usize,
    /// How inputs enter the board: `dense`, `CNP events`, `FNP events`; null on the host.
    pub input_as: Option<&'static str>,
    /// How outputs leave it, `HRC events` too.
    pub output_as: Option<&'static str>,
}

/// Where samples came from and how they entered.
#[derive(Clone, Debug, Serialize)]
pub struct Input {
    /// File or directory.
    pub file: String,
    /// How many samples ran.
    pub samples: usize,
    /// Type of an element.
    pub dtype: &'static str,
    /// Extents of a sample.
    pub shape: Vec<usize>,
    /// Whether they passed the input quantizer.
    pub quantized: bool,
}

/// An output of the network.
#[derive(Clone, Debug, Serialize)]
pub struct Output {
    /// Name of the ONNX tensor.
    pub name: String,
    /// Extents of one sample's output.
    pub shape: Vec<usize>,
}

/// One sample's result.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Number among the samples, from 0.
    pub index: usize,
    /// File name, where it had one.
    pub name: Option<String>,
    /// True class, where known.
    pub label: Option<usize>,
    /// Best classes of the first output, best first; empty if that is no list of scores.
    pub top: Vec<Score>,
}

/// A class and its score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Number of the class.
    pub class: usize,
    /// Its name, with `--class-names`.
    pub name: Option<String>,
    /// Value of the output.
    pub score: f32,
}

/// How many samples were classified as labelled.
#[derive(Clone, Debug, Serialize)]
pub struct Accuracy {
    /// Right ones.
    pub correct: usize,
    /// All.
    pub samples: usize,
    /// The first by the second.
    pub top1_fraction: f64,
}

/// Wall-clock speed, host work included.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// From the first sample in to the last result out.
    pub elapsed_ns: u64,
    /// Samples by that time.
    pub samples_per_second: f64,
}

impl Throughput {
    /// Of this many samples in this time.
    pub fn new(samples: usize, elapsed: Duration) -> Self {
        let samples_per_second = samples as f64 / elapsed.as_secs_f64().max(1e-9);
        Self { elapsed_ns: nanoseconds(elapsed), samples_per_second }
    }
}

/// Where the time went, by sequence.
#[derive(Clone, Debug, Serialize)]
pub struct Statistics {
    /// Whose clock measured copies and completions: `host`, or `simulated` where time is virtual.
    pub board_clock: &'static str,
    /// In the order in which they run.
    pub sequences: Vec<SequenceStatistics>,
    /// Times the board was reset and programmed again after a failure.
    pub recoveries: usize,
    /// Sparsity, measured, and cycles and energy, estimated, of each board part.
    pub activity: Vec<Activity>,
}

/// Where the time of one sequence went.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SequenceStatistics {
    /// Samples that passed it.
    pub samples: usize,
    /// Times the board was programmed for it.
    pub programmed: usize,
    /// Host time that took, all together.
    pub programming_ns: u64,
    /// Input to the device, mean of a sample, by the board's clock.
    pub copy_in_mean_ns: u64,
    /// From the doorbell until the end was noticed, mean of a sample, by the board's clock; jobs overlap, so this
    /// includes waiting for those before.
    pub doorbell_to_completion_mean_ns: u64,
    /// Output to the host, mean of a sample, by the board's clock.
    pub copy_out_mean_ns: u64,
    /// Layers on the host, mean of a sample.
    pub host_computing_mean_ns: u64,
}

impl Statistics {
    /// Sums up the calls of a session.
    pub fn new(calls: &[CallStatistics], virtual_time: bool) -> Self {
        let count = calls.iter().map(|c| c.sequences.len()).max().unwrap_or(0);
        let sum = |sequence: usize| {
            let all = || calls.iter().filter_map(|c| c.sequences.get(sequence));
            let samples: usize = all().map(|s| s.samples).sum();
            let mean = |time: Duration| nanoseconds(time) / (samples as u64).max(1);
            SequenceStatistics {
                samples,
                programmed: all().map(|s| s.programmed).sum(),
                programming_ns: nanoseconds(all().map(|s| s.programming).sum()),
                copy_in_mean_ns: mean(all().map(|s| s.jobs.copy_in).sum()),
                doorbell_to_completion_mean_ns: mean(all().map(|s| s.jobs.run).sum()),
                copy_out_mean_ns: mean(all().map(|s| s.jobs.copy_out).sum()),
                host_computing_mean_ns: mean(all().map(|s| s.computing).sum()),
            }
        };
        Self {
            board_clock: if virtual_time { "simulated" } else { "host" },
            sequences: (0..count).map(sum).collect(),
            recoveries: calls.iter().map(|c| c.recoveries).sum(),
            activity: Vec::new(),
        }
    }
}

/// Comparison with the reference.
#[derive(Clone, Debug, Serialize)]
pub struct Verify {
    /// Samples that were compared.
    pub samples: usize,
    /// Integers that were compared.
    pub elements: u64,
    /// Those that differ.
    pub differences: u64,
    /// The first of them.
    pub first: Option<Difference>,
}

/// An integer that is not the reference's.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Name of the tensor.
    pub tensor: String,
    /// Sample and position in the layout of the ONNX tensor.
    pub index: Vec<usize>,
    /// What the board said.
    pub board: i64,
    /// What the reference says.
    pub reference: i64,
}

/// Whole nanoseconds, at most 584 years.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Classes by score of one sample's output, best first; of equal scores the lower class first, as `numpy.argmax` has it.
/// `None` when the output is no list of scores (more than one element in height or width).
pub fn ranking(output: &ArrayD<f32>, sample: usize) -> Option<Vec<(usize, f32)>> {
    let one = output.index_axis(Axis(0), sample);
    if one.shape().iter().filter(|&&d| d > 1).count() > 1 {
        return None;
    }
    let mut scores: Vec<(usize, f32)> = one.iter().copied().enumerate().collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    Some(scores)
}

/// Accuracy of the first output, None when it is no list of scores.
pub fn accuracy(output: &ArrayD<f32>, labels: &Labels) -> Option<Accuracy> {
    let mut correct = 0;
    for (sample, label) in labels.0.iter().enumerate() {
        correct += usize::from(ranking(output, sample)?.first().map(|s| s.0) == Some(*label));
    }
    let samples = labels.0.len();
    Some(Accuracy { correct, samples, top1_fraction: correct as f64 / samples.max(1) as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_best_class_is_the_first_of_the_highest() {
        let scores = array![[0.5f32, 2.0, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0]].into_dyn();
        let order = |sample| ranking(&scores, sample).unwrap().iter().map(|s| s.0).collect::<Vec<_>>();
        assert_eq!(order(0), [1, 2, 0, 3]);
        assert_eq!(order(1), [0, 1, 2, 3]);
        let a = accuracy(&scores, &Labels(vec![1, 3])).unwrap();
        assert_eq!((a.correct, a.samples, a.top1_fraction), (1, 2, 0.5));
    }

    #[test]
    fn a_map_has_no_best_class() {
        assert!(ranking(&ArrayD::zeros(vec![1, 5, 4, 4]), 0).is_none());
        assert_eq!(ranking(&ArrayD::zeros(vec![1, 5, 1, 1]), 0).unwrap().len(), 5);
    }

    #[test]
    fn speed_of_nothing_is_no_division_by_zero() {
        assert!(Throughput::new(1, Duration::ZERO).samples_per_second.is_finite());
    }
}

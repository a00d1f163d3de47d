//! One hardware sequence over many samples, several jobs in flight. No thread of its own: the board works while the caller
//! makes the next inputs and takes outputs, and a call of one sample costs no more than its job.

use std::borrow::Cow;
use std::time::Duration;

use akida_hal::device::{Device, JobTiming, OutputValues};

use super::error::SessionError;
use super::values::Values;

/// A finished job.
pub struct Done {
    /// The output.
    pub values: Values,
    /// Where its time went.
    pub timing: JobTiming,
}

/// How a run ended. What was taken before a failure is right and stays.
pub enum End {
    /// All samples.
    Complete,
    /// The device failed.
    Device(akida_hal::Error),
    /// Something else did, on the way in or out.
    Other(SessionError),
}

/// How long a single fetch waits; the device has its own deadline, after which it says so.
const FETCH: Duration = Duration::from_secs(1);

/// What goes through a board, sample by sample.
pub trait Samples {
    /// The input of a sample: asked for in order, and from one on again after a recovery.
    fn input(&mut self, sample: usize) -> Result<Cow<'_, [u8]>, SessionError>;
    /// Takes the output of a sample, in order.
    fn output(&mut self, sample: usize, done: Done) -> Result<(), SessionError>;
}

/// Runs some samples. When an input cannot be made or an output not be taken, jobs in flight are fetched all the same, so that the
/// next run starts clean; outputs of samples before an input that could not be made are taken.
pub fn run(device: &mut Device, jobs: usize, range: std::ops::Range<usize>, samples: &mut impl Samples) -> End {
    let (mut given, mut end, mut next) = (range.start, range.end, range.start);
    let (mut not_made, mut not_taken) = (None, None);
    loop {
        while device.pending() < jobs.max(1) && not_taken.is_none() && given < end {
            let more = given + 1 < end && device.pending() + 1 < jobs;
            let input = match samples.input(given) {
                Ok(input) => input,
                Err(error) => {
                    end = given;
                    not_made = Some(error);
                    break;
                }
            };
            let taken = if more { device.enqueue_of_several(&input) } else { device.enqueue(&input) };
            match taken {
                Ok(Some(_)) => given += 1,
                Ok(None) => break,
                Err(error) => return End::Device(error),
            }
        }
        if device.pending() == 0 && (not_taken.is_some() || given == end) {
            return not_taken.or(not_made).map_or(End::Complete, End::Other);
        }
        let mut values = OutputValues::U8(Vec::new());
        match device.fetch_into(FETCH, &mut values) {
            Ok(Some((_, timing))) if not_taken.is_none() => {
                not_taken = samples.output(next, Done { values: values.into(), timing }).err();
                next += 1;
            }
            Ok(_) => {}
            Err(error) => return End::Device(error),
        }
    }
}

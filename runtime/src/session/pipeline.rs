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

/// Runs samples `from..to`: `make` gives each input, `take` gets each output, in order. When one of them fails, jobs in
/// flight are fetched all the same, so that the next run starts clean; outputs of samples before an input that could not
/// be made are taken.
pub fn run<'a>(
    device: &mut Device,
    jobs: usize,
    mut samples: std::ops::Range<usize>,
    make: impl Fn(usize) -> Result<Cow<'a, [u8]>, SessionError>,
    mut take: impl FnMut(usize, Done) -> Result<(), SessionError>,
) -> End {
    let mut next = samples.start;
    let mut held: Option<Cow<'a, [u8]>> = None;
    let (mut not_made, mut not_taken) = (None, None);
    loop {
        while device.pending() < jobs.max(1) && not_taken.is_none() {
            let input = match held.take() {
                Some(input) => input,
                None => match samples.next().map(&make) {
                    Some(Ok(input)) => input,
                    Some(Err(error)) => {
                        samples.start = samples.end;
                        not_made = Some(error);
                        break;
                    }
                    None => break,
                },
            };
            let more = !samples.is_empty() && device.pending() + 1 < jobs;
            let taken = if more { device.enqueue_of_several(&input) } else { device.enqueue(&input) };
            match taken {
                Ok(Some(_)) => {}
                Ok(None) => {
                    held = Some(input);
                    break;
                }
                Err(error) => return End::Device(error),
            }
        }
        if device.pending() == 0 && (not_taken.is_some() || held.is_none()) {
            return not_taken.or(not_made).map_or(End::Complete, End::Other);
        }
        let mut values = OutputValues::U8(Vec::new());
        match device.fetch_into(FETCH, &mut values) {
            Ok(Some((_, timing))) if not_taken.is_none() => {
                not_taken = take(next, Done { values: values.into(), timing }).err();
                next += 1;
            }
            Ok(_) => {}
            Err(error) => return End::Device(error),
        }
    }
}

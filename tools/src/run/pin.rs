//! Processors that a measurement is held to.

use std::fmt;
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::exit::{Exit, Failure};

/// By number, as the kernel counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processors(Vec<usize>);

impl Processors {
    /// Those this process may run on.
    fn now() -> nix::Result<Self> {
        let set = sched_getaffinity(Pid::from_raw(0))?;
        Ok(Self((0..CpuSet::count()).filter(|&p| set.is_set(p).unwrap_or(false)).collect()))
    }

    /// Holds this thread to them, and every thread that it makes from now on.
    pub fn hold(&self) -> Result<(), Failure> {
        let there = Self::now().map_err(|e| Failure::new(Exit::Os, format!("which processors there are: {e}"), ""))?;
        if let Some(missing) = self.0.iter().find(|p| !there.0.contains(p)) {
            let message = format!("--pin {self}: this process may not run on processor {missing}");
            return Err(Failure::new(Exit::Usage, message, format!("name some of {there}")));
        }
        let mut set = CpuSet::new();
        // Numbers were found in such a set.
        self.0
            .iter()
            .try_for_each(|&p| set.set(p))
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
            .map_err(|e| Failure::new(Exit::Os, format!("--pin {self}: {e}"), "leave it out to run on all processors"))
    }
}

impl FromStr for Processors {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        let mut all = Vec::new();
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| -> Result<usize, String> {
                let number = text.trim().parse().map_err(|_| format!("`{text}` is no processor's number"))?;
                let limit = CpuSet::count();
                if number < limit {
                    Ok(number)
                } else {
                    Err(format!("processor {number}: numbers end at {}", limit - 1))
                }
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("`{part}` ends before it begins"));
            }
            all.extend(first..=last);
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self(all))
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Processors;

    #[test]
    fn lists_are_those_of_taskset() {
        for (list, all, shown) in
            [("0", vec![0], "0"), ("1,0", vec![0, 1], "0-1"), ("3,0-1,5,1", vec![0, 1, 3, 5], "0-1,3,5")]
        {
            let processors: Processors = list.parse().expect(list);
            assert_eq!((&processors.0, processors.to_string().as_str()), (&all, shown), "{list}");
        }
        for (list, why) in
            [("", "`` is no"), ("a", "`a` is no"), ("1-", "`` is no"), ("2-1", "ends before"), ("0,99999", "end at")]
        {
            let error = list.parse::<Processors>().expect_err(list);
            assert!(error.contains(why), "{list}: {error}");
        }
    }
}

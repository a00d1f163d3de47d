//! Events of a dense input: one for each element that is not 0 (hardware.md section 12.1).

use super::vectors;
use super::{CNP_CHANNEL, CNP_FIRST, CNP_SECOND, CNP_VALUE, CnpEvent, FNP_INDEX, FnpEvent, FormatError};

/// The events of a dense input, some of its rows at a time. An input without any becomes one dummy event outside the shape, which the
/// AKD1000 needs.
#[derive(Clone, Debug)]
pub struct InputEvents<'a> {
    shape: [u32; 3],
    /// In (height, width, channels) order, those that are left.
    values: &'a [u8],
    fnp: bool,
    row: u32,
    /// What stands for an input without events; none once there was one.
    dummy: Option<[u32; 2]>,
}

/// The event of one channel after the other at a position: its words, what they grow by from channel to channel, and where in the second
/// the value goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub words: [u32; 2],
    pub step: [u32; 2],
    pub value_shift: u32,
}

impl<'a> InputEvents<'a> {
    /// As a CNP takes them. `values` in (height, width, channels) order.
    ///
    /// # Errors
    /// [`FormatError::Input`] where a dimension does not fit an event, or the number of values is not that of the shape.
    pub fn cnp(shape: [u32; 3], values: &'a [u8]) -> Result<Self, FormatError> {
        let [height, width, channels] = shape;
        // The dummy event lies one past the end, so every dimension must leave room for it.
        for (what, value, limit) in [
            ("height", height, CNP_FIRST.max()),
            ("width", width, CNP_SECOND.max()),
            ("channel count", channels, CNP_CHANNEL.max()),
        ] {
            if value > limit {
                return Err(FormatError::Input { what, value, limit });
            }
        }
        check_len(shape, values.len())?;
        let dummy = CnpEvent { first: height as u16, second: width as u16, channel: channels as u16, value: 1 };
        Ok(Self { shape, values, fnp: false, row: 0, dummy: Some(dummy.encode()) })
    }

    /// As an FNP takes them: a (1, 1, n) shape is indexed by channel, others column-major.
    ///
    /// # Errors
    /// As [`cnp`](Self::cnp).
    pub fn fnp(shape: [u32; 3], values: &'a [u8]) -> Result<Self, FormatError> {
        check_len(shape, values.len())?;
        let [d0, d1, d2] = shape.map(u64::from);
        let outside = d0 + d0 * (d1 + d1 * d2);
        if outside > u64::from(FNP_INDEX.max()) {
            let value = u32::try_from(outside).unwrap_or(u32::MAX);
            return Err(FormatError::Input { what: "event index", value, limit: FNP_INDEX.max() });
        }
        let dummy = FnpEvent { index: outside as u32, value: 1 };
        Ok(Self { shape, values, fnp: true, row: 0, dummy: Some(dummy.encode()) })
    }

    /// The events of the next row, made in `words`, whose memory can so be used again; `None` behind the last row.
    pub fn next_row<'w>(&mut self, words: &'w mut Vec<u32>) -> Option<&'w [u32]> {
        let [_, width, channels] = self.shape.map(|d| d as usize);
        let Some((values, left)) = self.values.split_at_checked(width * channels).filter(|(v, _)| !v.is_empty()) else {
            words.clear();
            words.extend(self.dummy.take()?);
            return Some(words);
        };
        let room = 2 * (values.len() + vectors::BLOCK);
        if words.len() < room {
            words.resize(room, 0);
        }
        let (events, _) = words.as_chunks_mut::<2>();
        let mut count = 0;
        for (column, values) in (0..).zip(values.chunks_exact(channels)) {
            count += vectors::events(values, self.position(column), &mut events[count..]);
        }
        (self.values, self.row) = (left, self.row + 1);
        if count > 0 {
            self.dummy = None;
        }
        Some(&words[..2 * count])
    }

    /// All that are left.
    pub fn all(mut self) -> Vec<u32> {
        let (mut all, mut words) = (Vec::new(), Vec::new());
        while let Some(row) = self.next_row(&mut words) {
            all.extend_from_slice(row);
        }
        all
    }

    fn position(&self, column: u32) -> Position {
        let ([d0, d1, _], row) = (self.shape, self.row);
        if self.fnp {
            let FnpEvent { index, value } = FnpEvent { index: row + d0 * column, value: 0 };
            return Position { words: FnpEvent { index, value }.encode(), step: [d0 * d1, 0], value_shift: 0 };
        }
        let first = CnpEvent { first: row as u16, second: column as u16, channel: 0, value: 0 };
        Position { words: first.encode(), step: [0, CNP_CHANNEL.of(1)], value_shift: CNP_VALUE.mask().trailing_zeros() }
    }
}

fn check_len(shape: [u32; 3], len: usize) -> Result<(), FormatError> {
    let elements = shape.iter().try_fold(1u32, |n, d| n.checked_mul(*d)).unwrap_or(u32::MAX);
    if elements == 0 || elements as usize != len {
        let value = u32::try_from(len).unwrap_or(u32::MAX);
        return Err(FormatError::Input { what: "number of elements", value, limit: elements });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the formulas, one element after another.
    fn expected(shape: [u32; 3], values: &[u8], fnp: bool) -> Vec<u32> {
        let [height, width, channels] = shape;
        let mut events = Vec::new();
        for (i, &value) in (0..).zip(values) {
            let (row, column, channel) = (i / channels / width, i / channels % width, i % channels);
            let cnp = CnpEvent { first: row as u16, second: column as u16, channel: channel as u16, value };
            let linear = FnpEvent { index: row + height * (column + width * channel), value: value.into() };
            if value != 0 {
                events.extend(if fnp { linear.encode() } else { cnp.encode() });
            }
        }
        events
    }

    proptest! {
        #[test]
        fn each_element_that_is_not_0_has_its_event(
            shape in [1u32..4, 1u32..5, 1u32..40], density in 0u8..=4, seed: u64,
        ) {
            let n: u32 = shape.iter().product();
            let hash = |i: u32| (u64::from(i) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
            let mut values: Vec<u8> = (0..n).map(|i| if hash(i) % 4 < density.into() { (hash(i) >> 8) as u8 } else { 0 }).collect();
            values[n as usize - 1] = 255;
            prop_assert_eq!(InputEvents::cnp(shape, &values)?.all(), expected(shape, &values, false));
            prop_assert_eq!(InputEvents::fnp(shape, &values)?.all(), expected(shape, &values, true));
        }
    }

    #[test]
    fn an_input_without_events_sends_one_outside() {
        let dummy = |events: Result<InputEvents<'_>, FormatError>| events.map(InputEvents::all);
        assert_eq!(dummy(InputEvents::cnp([2, 3, 4], &[0; 24])), Ok(vec![3 << 16 | 2, 1 << 16 | 4]));
        assert_eq!(dummy(InputEvents::fnp([1, 1, 5], &[0; 5])), Ok(vec![1 + 1 + 5, 0x8000_0001]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error =
            |events: Result<InputEvents<'_>, FormatError>| events.map(InputEvents::all).unwrap_err().to_string();
        for (events, message) in [
            (InputEvents::cnp([4096, 1, 1], &[0; 4096]), "height 4096 does not fit an input event (at most 4095)"),
            (
                InputEvents::cnp([1, 1, 2048], &[0; 2048]),
                "channel count 2048 does not fit an input event (at most 2047)",
            ),
            (InputEvents::cnp([2, 2, 2], &[0; 7]), "number of elements 7 does not fit an input event (at most 8)"),
            (
                InputEvents::fnp([512, 512, 1], &vec![0; 512 * 512]),
                "event index 524800 does not fit an input event (at most 262143)",
            ),
        ] {
            assert_eq!(error(events), message);
        }
    }
}

//! Random numbers: a function of the seed on every machine.

use akida_runtime::model::{Tensor, Weights};

/// SplitMix64: small, seedable, good enough for test data.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xA5A5_5A5A_1234_5678)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low + 1) as u64) as i64
    }

    /// A size in `low..=high`.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        self.between(low as i64, high as i64) as usize
    }

    /// One of them.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.size(0, of.len() - 1)]
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.size(1, n) == 1
    }

    /// Bytes of one input sample. One in eight is as large, as small or as uneven as it can be.
    pub fn sample(&mut self, tensor: &Tensor) -> Vec<u8> {
        let (low, high) = tensor.range();
        let extreme = self.once_in(8).then(|| self.one(&[[high, high], [low, low], [low, high]]));
        let value = |random: &mut Self| match extreme {
            Some(ends) => random.one(&ends) as u8,
            // Many zeros, as after a ReLU: zeros are not sent as events.
            None if random.once_in(4) => 0,
            None => random.between(low.into(), high.into()) as u8,
        };
        (0..tensor.elements()).map(|_| value(self)).collect()
    }

    /// Weights of all values; one set in twelve has the largest or the smallest value everywhere, one in twelve few that
    /// are not 0.
    pub fn weights(&mut self, bits: u8, shape: [usize; 4]) -> Weights {
        let (low, high) = Weights::range(bits);
        let (low, high): (i64, i64) = (low.into(), high.into());
        let kind = self.size(0, 11);
        let end = self.one(&[low, high]);
        let value = |random: &mut Self| match kind {
            0 => end,
            1 if !random.once_in(8) => 0,
            _ => random.between(low, high),
        };
        let values: Vec<i8> = (0..shape.iter().product()).map(|_| value(self) as i8).collect();
        Weights::new(bits, shape, &values)
    }
}

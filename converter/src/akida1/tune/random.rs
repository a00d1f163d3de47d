//! Numbers that are the same on every run.

/// SplitMix64: every seed gives a full-period sequence of well mixed words.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for every pair of numbers.
    pub fn new(a: u64, b: u64) -> Self {
        let mut random = Self(a.wrapping_mul(0xd134_2543_de82_ef95) ^ b);
        random.0 = random.word();
        random
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f32 {
        (self.word() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// From -1 to below 1.
    pub fn around(&mut self) -> f32 {
        self.unit() * 2.0 - 1.0
    }

    /// Below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        (self.word() % count.max(1) as u64) as usize
    }

    /// About normal, deviation 1: a sum of four.
    pub fn normal(&mut self) -> f32 {
        (self.around() + self.around() + self.around() + self.around()) * 0.866_025_4
    }
}

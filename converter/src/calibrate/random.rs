//! Samples when there are none.

use ndarray::{ArrayD, IxDyn};

/// `count` samples of the given shape, uniform in [0, 1). Always the same ones.
pub fn random_samples(count: usize, shape: &[usize]) -> ArrayD<f32> {
    let dims: Vec<usize> = [count].iter().chain(shape).copied().collect();
    let mut state = 0u64;
    let mut next = || {
        // SplitMix64: every seed gives a full-period sequence of well mixed words.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    };
    ArrayD::from_shape_simple_fn(IxDyn(&dims), &mut next)
}

#[cfg(test)]
mod tests {
    #[test]
    fn they_fill_the_unit_interval_and_repeat() {
        let a = super::random_samples(4, &[3, 100]);
        assert_eq!(a.shape(), [4, 3, 100]);
        assert!(a.iter().all(|v| (0.0..1.0).contains(v)));
        assert!((a.mean().unwrap() - 0.5).abs() < 0.03);
        assert_eq!(a, super::random_samples(4, &[3, 100]));
    }
}

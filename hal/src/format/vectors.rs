//! The inner loop over the channels of a position. About half of activations are 0, which no processor foresees: so an event is made of each
//! element, and kept by moving on or not. With AVX-512 eight are made and packed at once.
#![allow(unsafe_code)] // One vector instruction that stores, and the call of the function that may use it.

use super::events::Position;

/// Events that are made at once.
pub const BLOCK: usize = 8;

/// Events of the values that are not 0, of channels from 0 on, at the beginning of `events`, which has room for all and a block more; how
/// many.
pub fn events(values: &[u8], position: Position, events: &mut [[u32; 2]]) -> usize {
    assert!(events.len() >= values.len() + BLOCK, "room for {} events of {} values", events.len(), values.len());
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions.
        return unsafe { packed(values, position, events) };
    }
    one_by_one(values, position, events)
}

fn one_by_one(values: &[u8], position: Position, events: &mut [[u32; 2]]) -> usize {
    let Position { mut words, step, value_shift } = position;
    let mut count = 0;
    for &value in values {
        events[count] = [words[0], words[1] | u32::from(value) << value_shift];
        count += usize::from(value != 0);
        words = [words[0].wrapping_add(step[0]), words[1].wrapping_add(step[1])];
    }
    count
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn packed(values: &[u8], position: Position, events: &mut [[u32; 2]]) -> usize {
    use std::arch::x86_64::{
        __m512i, _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm512_add_epi64, _mm512_cvtepu8_epi64,
        _mm512_maskz_compress_epi64, _mm512_or_si512, _mm512_set_epi64, _mm512_set1_epi64, _mm512_sll_epi64,
        _mm512_storeu_si512, _mm512_test_epi64_mask,
    };

    let Position { words, step, value_shift } = position;
    // An event is a word of 64 bits; neither of its halves grows beyond 32.
    let wide = |[low, high]: [u32; 2]| i64::from(low) | (u64::from(high) << 32).cast_signed();
    let channel = |n: i64| wide(words).wrapping_add(n.wrapping_mul(wide(step)));
    let mut places = _mm512_set_epi64(
        channel(7),
        channel(6),
        channel(5),
        channel(4),
        channel(3),
        channel(2),
        channel(1),
        channel(0),
    );
    let next = _mm512_set1_epi64(wide(step).wrapping_mul(BLOCK as i64));
    let shift = _mm_cvtsi32_si128(32 + value_shift.cast_signed());
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    let mut count = 0;
    for block in blocks {
        let values = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(i64::from_le_bytes(*block)));
        let kept = _mm512_test_epi64_mask(values, values);
        let made = _mm512_or_si512(places, _mm512_sll_epi64(values, shift));
        let Some(room) = events[count..].first_chunk_mut::<BLOCK>() else { return count };
        // SAFETY: `room` is eight events of eight bytes; the store needs no alignment.
        unsafe { _mm512_storeu_si512(room.as_mut_ptr().cast::<__m512i>(), _mm512_maskz_compress_epi64(kept, made)) };
        count += kept.count_ones() as usize;
        places = _mm512_add_epi64(places, next);
    }
    let first = (blocks.len() * BLOCK) as u32;
    let words = [0, 1].map(|i| words[i].wrapping_add(first.wrapping_mul(step[i])));
    count + one_by_one(rest, Position { words, step, value_shift }, &mut events[count..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_make_what_the_loop_makes() {
        let position = |words, step, value_shift| Position { words, step, value_shift };
        for place in [position([7 << 16 | 5, 0], [0, 1], 16), position([3, 1 << 31], [12, 0], 0)] {
            for len in 0..70 {
                let values: Vec<u8> = (0..len).map(|i| ((i * i * 37) >> 3) as u8 & 0xf3).collect();
                let mut made = [vec![[9; 2]; 80], vec![[9; 2]; 80]];
                let [loops, vectors] = &mut made;
                let counts = [one_by_one(&values, place, loops), events(&values, place, vectors)];
                assert_eq!(counts[0], values.iter().filter(|v| **v != 0).count());
                assert_eq!((counts[1], &vectors[..counts[1]]), (counts[0], &loops[..counts[0]]), "{len} values");
            }
        }
    }
}

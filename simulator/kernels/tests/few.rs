//! Products of few positions, whose weights of few bits lie several to a byte, against those of plain loops.

mod sets;

use akida_kernels::isa::{BLOCK, Packed, Panel};
use akida_kernels::scalar;

use sets::sets;

/// Reproducible values.
fn random(state: &mut u64) -> u8 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as u8
}

#[test]
fn sets_multiply_few_positions_as_plain_loops_do() {
    // Positions, bytes of a run, runs, filters: weights that a first-level cache does not hold, and some it does; lines that are not full.
    let cases = [
        (1, 2304, 1, 512),
        (2, 2048, 1, 1000),
        (3, 1024, 3, 40),
        (1, 516, 3, 200),
        (1, 4096, 1, 16),
        (2, 8192, 1, 10),
        (3, 520, 2, 130),
        (4, 1024, 1, 80),
        (5, 1024, 1, 64),
        (1, 64, 1, 32),
        // 16 times the largest sum does not fit 32 bits.
        (1, 65_808, 1, 16),
    ];
    let (mut state, mut compared) = (3, 0);
    for (count, run, runs, filters) in cases {
        for (bits, extreme) in [1, 2, 3, 4, 8].into_iter().flat_map(|bits| [(bits, false), (bits, true)]) {
            let most = 1i16 << (bits - 1);
            // All weights there are, or those farthest from 0.
            let weights: Vec<i8> = (0..filters * runs * run)
                .map(|_| if extreme { -most } else { i16::from(random(&mut state)) % (2 * most) - most } as i8)
                .collect();
            let packed = Packed::new(&weights, filters, runs).for_few_positions();
            let (step, run_step) = (run + 3, run + 64);
            let bytes = (count - 1) * step + (runs - 1) * run_step + run.next_multiple_of(4);
            let data: Vec<u8> = (0..bytes).map(|_| if extreme { 255 } else { random(&mut state) }).collect();
            let panel = Panel { data: &data, step, count, row_step: 0, rows: 1, run_step };
            let (start, width) = (packed.start(128), packed.width());
            for blocks in [0..width / BLOCK, width / BLOCK / 2..width / BLOCK] {
                let step = blocks.len() * BLOCK + 16;
                let mut expected = vec![7; count * step];
                scalar().multiply(&panel, &packed, blocks.clone(), &start, &mut expected, step);
                // Up to the last filter.
                let told = filters - blocks.start * BLOCK;
                for kernels in sets() {
                    let mut out = vec![7; count * step];
                    kernels.multiply(&panel, &packed, blocks.clone(), &start, &mut out, step);
                    let mut rows = out.chunks(step).zip(expected.chunks(step));
                    assert!(
                        rows.all(|(out, expected)| out[..told] == expected[..told]),
                        "{}: {count} x {runs} x {run} x {filters}, {bits} bits",
                        kernels.name()
                    );
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, cases.len() * 5 * 2 * 2 * sets().len());
}

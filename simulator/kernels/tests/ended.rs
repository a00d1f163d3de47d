//! Products that kernel sets end at once, against sums by plain loops and their ends one after the other.

mod sets;

use akida_kernels::isa::{Affine, BLOCK, End, Packed, Panel, Slope, Wide};
use akida_kernels::{Aligned, scalar};

use sets::sets;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// An end in which every part of the rule matters.
fn end(random: &mut Random, filters: usize, signed: bool) -> Affine {
    let width = filters.next_multiple_of(BLOCK);
    let mut some =
        |below: usize, less: i32| -> Aligned<i32> { (0..width).map(|_| random.below(below) as i32 - less).collect() };
    let (low, m, add, k) = (some(4000, 6000), some(40, 0), some(4000, 2000), some(12, 0));
    let high = low.iter().map(|l| l + 8000).collect();
    Affine { low, high, m, add, k, signed, ceiling: if filters.is_multiple_of(2) { 255 } else { 127 }, limited: true }
}

/// The same in 64 bits, between two limits of its own, and something like it in floating point.
fn others(narrow: &Affine) -> (Wide, Slope) {
    let long = |v: &[i32]| v.iter().map(|&v| i64::from(v)).collect();
    let some = |v: &[i32], unit: f32| v.iter().map(|&v| v as f32 * unit).collect();
    let each = |value: i32| narrow.low.iter().map(|_| value).collect();
    let wide = Wide {
        low: narrow.low.clone(),
        high: narrow.high.clone(),
        m: narrow.m.clone(),
        add: long(&narrow.add),
        k: long(&narrow.k),
        floor: each(3),
        ceiling: each(100),
    };
    // Ceilings matter where they are lower than where bytes saturate.
    let limited = narrow.ceiling == 255;
    let ceiling = narrow.low.iter().map(|_| if limited { 15.0 } else { 127.0 }).collect();
    (wide, Slope { a: some(&narrow.m, 0.001), b: some(&narrow.add, 0.01), ceiling, most: 127, limited })
}

#[test]
fn sets_end_sums_as_plain_loops_do() {
    let mut random = Random(11);
    // Positions, filters of a layer, and which of them.
    let cases = [
        (1, 1, 0..1),
        (7, 16, 0..16),
        (33, 40, 0..40),
        (5, 40, 32..40),
        (4, 37, 32..37),
        (9, 100, 16..100),
        (3, 77, 48..70),
        (2, 8, 0..8),
        (64, 24, 16..24),
    ];
    for (positions, all, filters) in cases {
        for (signed, limited) in [(false, false), (false, true), (true, false), (true, true)] {
            let narrow = Affine { limited, ..end(&mut random, all, signed) };
            let (wide, slope) = others(&narrow);
            // Sums of the filters and, sometimes, of what fills their blocks; without limits, sums that have not come near them.
            let step = filters.len() + [0, (16 - filters.len() % 16) % 16][random.below(2)];
            let spread = if limited { 20_000 } else { 2000 };
            let middle = |f: usize| narrow.low[filters.start + f.min(filters.len() - 1)] + 4000;
            let sums: Vec<i32> = (0..positions * step)
                .map(|i| middle(i % step) + random.below(spread) as i32 - spread as i32 / 2)
                .collect();
            let made = |set: &dyn akida_kernels::Kernels| {
                let mut made = [(); 3].map(|()| vec![0xA5; (positions - 1) * all + filters.len()]);
                set.affine(&sums, step, &narrow, filters.clone(), &mut made[0], all);
                set.slope(&sums, step, &slope, filters.clone(), &mut made[1], all);
                set.wide(&sums, step, &wide, filters.clone(), &mut made[2], all);
                made
            };
            let expected = made(scalar());
            for set in sets() {
                assert!(
                    made(*set) == expected,
                    "{}: {positions} x {filters:?} of {all}, {signed} {limited}",
                    set.name()
                );
            }
        }
    }
}

/// Products of a panel of inputs up to `most`, with random weights, ended by all sets that do that at once; gives how often that was.
fn compare(
    panel: &Panel<'_>,
    (runs, run, filters): (usize, usize, usize),
    most: u8,
    signed: bool,
    random: &mut Random,
) -> usize {
    let weights: Vec<i8> = (0..filters * runs * run).map(|_| random.byte() as i8).collect();
    let packed = Packed::new(&weights, filters, runs).for_inputs_up_to(most);
    let start = packed.start(if signed { 128 } else { 0 });
    let narrow = end(random, filters, signed);
    let (wide, slope) = others(&narrow);
    let far = |limit: i32| narrow.low.iter().map(|_| limit).collect();
    let free = Affine { low: far(-(1 << 30)), high: far(1 << 30), limited: false, ..narrow.clone() };
    let (positions, width) = (panel.rows * panel.count, packed.width());
    let mut sums = vec![0; positions * width];
    scalar().multiply(panel, &packed, 0..width / BLOCK, &start, &mut sums, width);
    let mut at_once = 0;
    let ends = [
        ("line", End::Affine(&narrow)),
        ("line without limits", End::Affine(&free)),
        ("slope", End::Slope(&slope)),
        ("long line", End::Wide(&wide)),
    ];
    for (name, end) in ends {
        let mut expected = vec![0; positions * filters];
        match end {
            End::Affine(end) => scalar().affine(&sums, width, end, 0..filters, &mut expected, filters),
            End::Slope(end) => scalar().slope(&sums, width, end, 0..filters, &mut expected, filters),
            End::Wide(end) => scalar().wide(&sums, width, end, 0..filters, &mut expected, filters),
        }
        for set in sets() {
            let mut made = vec![0xA5; positions * filters];
            if set.ended(panel, &packed, &start, end, &mut made) {
                at_once += 1;
                let case =
                    format!("{} x {} positions, {runs} x {run} bytes, {filters} filters", panel.rows, panel.count);
                assert!(made == expected, "{}: {case}, {name}", set.name());
            } else {
                assert!(made.iter().all(|b| *b == 0xA5), "{}: nothing is done", set.name());
            }
        }
    }
    at_once
}

#[test]
fn sets_end_products_as_plain_loops_do() {
    // Rows, positions of a row, bytes of a run, runs, filters: odd ones, whole tiles, more weights than a cache holds.
    let cases = [
        (1, 5, 4, 1, 1),
        (1, 16, 64, 1, 16),
        (1, 17, 64, 1, 32),
        (3, 33, 36, 3, 40),
        (2, 14, 192, 3, 48),
        (1, 49, 512, 1, 100),
        (4, 7, 100, 2, 33),
        (1, 40, 1024, 1, 32),
        (1, 100, 2048, 1, 40),
        (1, 300, 1024, 1, 72),
        (1, 70, 512, 3, 40),
        (1, 66, 512, 2, 70),
        (5, 28, 768, 3, 64),
        (1, 5, 2304, 1, 17),
        (9, 6, 640, 2, 16),
        (28, 28, 192, 3, 24),
        (8, 5, 64, 3, 40),
        (13, 7, 8, 1, 12),
        (20, 5, 8, 1, 16),
        (30, 9, 16, 3, 16),
    ];
    let (mut random, mut at_once) = (Random(7), 0);
    for (rows, count, run, runs, filters) in cases {
        for (signed, step) in [false, true].into_iter().flat_map(|s| [(s, 0), (s, run), (s, 2 * run), (s, run / 3)]) {
            // Positions that overlap, some by two thirds, that do not, and with bytes between them that no filter meets.
            let step = if step == 0 { random.below(run) + 1 } else { step };
            // Rows that follow each other as positions do, or not.
            let between = if random.below(2) == 0 { random.below(4) * step } else { random.below(64) };
            let (row_step, run_step) = (count * step + between, run + random.below(64));
            let bytes = (rows - 1) * row_step + (count - 1) * step + (runs - 1) * run_step + run + 64;
            let data: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
            let panel = Panel { data: &data, step, count, row_step, rows, run_step };
            at_once += compare(&panel, (runs, run, filters), 255, signed, &mut random);
        }
    }
    // Rows, columns, channels and filters of convolutions of 3x3 that move by one: whole tiles of 4x4 and parts of them, blocks of which
    // filters are missing.
    let squares = [
        (8, 8, 16, 16),
        (7, 11, 32, 5),
        (14, 15, 48, 13),
        (8, 12, 16, 33),
        (11, 8, 16, 1),
        (9, 30, 16, 40),
        (4, 17, 64, 24),
        (13, 3, 16, 33),
        (20, 20, 96, 32),
        (8, 8, 64, 64),
        (16, 16, 32, 80),
        (6, 7, 48, 75),
        (12, 39, 32, 36),
    ];
    for (rows, count, channels, filters) in squares {
        for (signed, most) in [(false, 127), (false, 255), (true, 255), (false, 15)] {
            let row_step = (count + 2 + random.below(2)) * channels;
            let data: Vec<u8> = (0..(rows + 2) * row_step).map(|_| random.below(most + 1) as u8).collect();
            let panel = Panel { data: &data, step: channels, count, row_step, rows, run_step: row_step };
            at_once += compare(&panel, (3, 3 * channels, filters), most as u8, signed, &mut random);
        }
    }
    if at_once == 0 {
        println!("SKIP: no kernel set of this machine ends products at once (AVX2, AVX-512 VNNI and AMX do)");
    } else {
        assert!(at_once >= 40, "{at_once}");
    }
}

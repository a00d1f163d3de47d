//! The methods of a kernel set of x86-64, by way of functions that are compiled for its instructions.

/// Loops that compilers vectorise, compiled for an instruction set.
macro_rules! loops_with {
    ($features:literal, $($name:ident($($arg:ident: $type:ty),*)),* $(,)?) => {
        $(
            #[target_feature(enable = $features)]
            fn $name($($arg: $type),*) {
                loops::$name($($arg),*);
            }
        )*
    };
    ($features:literal) => {
        loops_with!(
            $features,
            looked_up(sums: &[i32], step: usize, lookup: &Lookup, filters: Range<usize>, values: &mut [i32]),
            steps(
                sums: &[i32], step: usize, edges: (&[i32], usize), filters: Range<usize>, out: &mut [u8], out_step: usize
            ),
            totals(sums: &[i32], step: usize, terms: &Terms, filters: Range<usize>, totals: &mut [i32]),
            largest(held: &mut [u8], new: &[u8], signed: bool),
            pool(row: &[u8], windows: Windows, out: &mut [u8]),
            offset(bytes: &[u8], out: &mut [u8]),
            bytewise(x: &[u8], rule: &Bytewise, out: &mut [u8]),
        );
    };
    ($features:literal, all) => {
        loops_with!($features);
        loops_with!(
            $features,
            wide(sums: &[i32], step: usize, end: &Wide, filters: Range<usize>, out: &mut [u8], out_step: usize),
            depthwise_sums(x: &[&[u8]], w: &Taps, out: &mut [i32]),
            add(a: &[u8], b: &[u8], shifts: &Shifts, out: &mut [u8]),
        );
    };
}
pub(super) use loops_with;

/// A set's methods, by way of the functions of its module; more than those all sets have stand in braces.
macro_rules! kernels {
    ($set:ty, $name:literal) => {
        kernels!($set, $name, {});
    };
    ($set:ty, $name:literal, { $($more:item)* }) => {
        impl Kernels for $set {
            $($more)*

            fn name(&self) -> &'static str {
                $name
            }

            fn multiply(
                &self,
                x: &Panel<'_>,
                w: &Packed,
                blocks: Range<usize>,
                start: &[i32],
                out: &mut [i32],
                out_step: usize,
            ) {
                // SAFETY: a value of this type exists only where its instructions were detected.
                unsafe { multiply(x, w, blocks, start, out, out_step) }
            }

            fn peak(&self, rounds: u64) -> u64 {
                // SAFETY: as above.
                unsafe { peak(rounds) }
            }

            fn depthwise(&self, x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]) {
                check_depthwise(x, w, out.len());
                // SAFETY: as above; lengths were checked.
                unsafe { depthwise(x, w, end, out) }
            }

            fn depthwise_sums(&self, x: &[&[u8]], w: &Taps, out: &mut [i32]) {
                check_depthwise(x, w, out.len());
                // SAFETY: as above; lengths were checked.
                unsafe { depthwise_sums(x, w, out) }
            }

            fn affine(
                &self,
                sums: &[i32],
                step: usize,
                end: &Affine,
                f: Range<usize>,
                out: &mut [u8],
                out_step: usize,
            ) {
                check_ending(sums, step, end.low.len(), &f, out, out_step);
                // SAFETY: as above; lengths were checked.
                unsafe { affine(sums, step, end, f, out, out_step) }
            }

            fn slope(&self, sums: &[i32], step: usize, end: &Slope, f: Range<usize>, out: &mut [u8], out_step: usize) {
                check_ending(sums, step, end.a.len(), &f, out, out_step);
                // SAFETY: as above; lengths were checked.
                unsafe { slope(sums, step, end, f, out, out_step) }
            }

            fn wide(&self, sums: &[i32], step: usize, end: &Wide, f: Range<usize>, out: &mut [u8], out_step: usize) {
                check_ending(sums, step, end.low.len(), &f, out, out_step);
                // SAFETY: as above; lengths were checked.
                unsafe { wide(sums, step, end, f, out, out_step) }
            }

            fn looked_up(&self, sums: &[i32], step: usize, lookup: &Lookup, f: Range<usize>, values: &mut [i32]) {
                // SAFETY: as above.
                unsafe { looked_up(sums, step, lookup, f, values) }
            }

            fn steps(
                &self,
                sums: &[i32],
                step: usize,
                edges: (&[i32], usize),
                f: Range<usize>,
                out: &mut [u8],
                out_step: usize,
            ) {
                check_ending(sums, step, edges.1, &f, out, out_step);
                // SAFETY: as above.
                unsafe { steps(sums, step, edges, f, out, out_step) }
            }

            fn totals(&self, sums: &[i32], step: usize, terms: &Terms, filters: Range<usize>, all: &mut [i32]) {
                // SAFETY: as above.
                unsafe { totals(sums, step, terms, filters, all) }
            }

            fn add(&self, a: &[u8], b: &[u8], shifts: &Shifts, out: &mut [u8]) {
                // SAFETY: as above.
                unsafe { add(a, b, shifts, out) }
            }

            fn largest(&self, held: &mut [u8], new: &[u8], signed: bool) {
                // SAFETY: as above.
                unsafe { largest(held, new, signed) }
            }

            fn pool(&self, row: &[u8], windows: Windows, out: &mut [u8]) {
                // SAFETY: as above.
                unsafe { pool(row, windows, out) }
            }

            fn offset(&self, bytes: &[u8], out: &mut [u8]) {
                // SAFETY: as above.
                unsafe { offset(bytes, out) }
            }

            fn bytewise(&self, x: &[u8], rule: &Bytewise, out: &mut [u8]) {
                // SAFETY: as above.
                unsafe { bytewise(x, rule, out) }
            }
        }
    };
}
pub(super) use kernels;

/// An expression in which a name stands for the `Line` of an [`Affine`](super::Affine) end: by its sign, and whether limits matter.
macro_rules! by_line {
    ($end:expr, $rule:ident => $run:expr) => {
        match ($end.signed, $end.limited) {
            (false, false) => {
                type $rule = Line<false, false>;
                $run
            }
            (false, true) => {
                type $rule = Line<false, true>;
                $run
            }
            (true, false) => {
                type $rule = Line<true, false>;
                $run
            }
            (true, true) => {
                type $rule = Line<true, true>;
                $run
            }
        }
    };
}
pub(super) use by_line;

/// An expression in which a name stands for the `Sloping` of a [`Slope`](super::Slope): by whether ceilings matter.
macro_rules! by_slope {
    ($end:expr, $rule:ident => $run:expr) => {
        if $end.limited {
            type $rule = Sloping<true>;
            $run
        } else {
            type $rule = Sloping<false>;
            $run
        }
    };
}
pub(super) use by_slope;

//! Inner loops, one set per instruction set.
//!
//! The only way to have a value of a kernel set is its constructor, which succeeds where the machine has the
//! instructions: holding the value proves that they may be used. Every set gives the same bits as [`Scalar`].

#[cfg(target_arch = "x86_64")]
mod avx2;
mod scalar;

use std::fmt::Debug;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
pub use scalar::Scalar;

/// Weights in the order a kernel set wants them: `rows` filters of `depth` weights, padded with zeros.
#[derive(Clone, Debug)]
pub struct Packed {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) data: Vec<i16>,
}

impl Packed {
    /// Filters.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of one input row: the weights of a filter rounded up to what the kernel set wants.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// The inner loops of one instruction set. Sums are exact: the caller sees to it that they fit 32 bits.
pub trait Kernels: Debug + Send + Sync {
    /// `ARCHITECTURE-TYPES-VARIANT`, for logs and benchmarks.
    fn name(&self) -> &'static str;

    /// Packs `rows` filters of `weights.len() / rows` weights each.
    fn pack(&self, weights: &[i8], rows: usize) -> Packed;

    /// `out[p][f] = sum over i of x[p][i] * w[f][i]`, for as many rows p of [`depth`](Packed::depth) values as `x` has.
    /// `w` comes from the same set's `pack`.
    fn multiply(&self, x: &[i16], w: &Packed, out: &mut [i32]);

    /// `acc[c] += x[c] * w[c]`, all of one length.
    fn multiply_add_unsigned(&self, x: &[u8], w: &[i16], acc: &mut [i32]);

    /// The same for signed inputs.
    fn multiply_add_signed(&self, x: &[i8], w: &[i16], acc: &mut [i32]);
}

/// The oracle.
pub fn scalar() -> &'static dyn Kernels {
    static SCALAR: Scalar = Scalar::new();
    &SCALAR
}

/// The fastest set this machine has.
pub fn best() -> &'static dyn Kernels {
    #[cfg(target_arch = "x86_64")]
    {
        static AVX2: std::sync::OnceLock<Option<Avx2>> = std::sync::OnceLock::new();
        if let Some(avx2) = AVX2.get_or_init(Avx2::new) {
            return avx2;
        }
    }
    scalar()
}

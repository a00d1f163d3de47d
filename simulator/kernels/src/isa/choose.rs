//! Which kernel set is used.

use std::sync::OnceLock;

use super::{Kernels, Scalar};

/// Names the kernel set to be used instead of the fastest, by the last part of its name: `scalar`, `avx2`, `avxvnni`,
/// `avx512vnni`, `amx`, `neon`.
pub const VARIABLE: &str = "AKIDA_KERNELS";

/// A kernel set was asked for that this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE}={asked}: this machine has the kernel sets {}", .available.join(", "))]
pub struct UnknownKernels {
    /// What was asked for.
    pub asked: String,
    /// What there is.
    pub available: Vec<&'static str>,
}

/// The oracle.
pub fn scalar() -> &'static dyn Kernels {
    static SCALAR: Scalar = Scalar::new();
    &SCALAR
}

/// Every set this machine has, the fastest first; the last is [`scalar`].
pub fn available() -> &'static [&'static dyn Kernels] {
    static AVAILABLE: OnceLock<Vec<&'static dyn Kernels>> = OnceLock::new();
    AVAILABLE.get_or_init(|| {
        let mut sets: Vec<&'static dyn Kernels> = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            #[cfg(target_os = "linux")]
            {
                static AMX: OnceLock<Option<super::Amx>> = OnceLock::new();
                sets.extend(AMX.get_or_init(super::Amx::new).as_ref().map(|k| k as &dyn Kernels));
            }
            static SETS: OnceLock<(Option<super::Avx512Vnni>, Option<super::AvxVnni>, Option<super::Avx2>)> =
                OnceLock::new();
            let (avx512, avxvnni, avx2) =
                SETS.get_or_init(|| (super::Avx512Vnni::new(), super::AvxVnni::new(), super::Avx2::new()));
            sets.extend(avx512.as_ref().map(|k| k as &dyn Kernels));
            sets.extend(avxvnni.as_ref().map(|k| k as &dyn Kernels));
            sets.extend(avx2.as_ref().map(|k| k as &dyn Kernels));
        }
        #[cfg(target_arch = "aarch64")]
        {
            static NEON: OnceLock<Option<super::Neon>> = OnceLock::new();
            sets.extend(NEON.get_or_init(super::Neon::new).as_ref().map(|k| k as &dyn Kernels));
        }
        sets.push(scalar());
        sets
    })
}

fn variant(kernels: &dyn Kernels) -> &'static str {
    kernels.name().rsplit('-').next().unwrap_or_default()
}

/// The set that the environment asks for, if it asks for one.
///
/// # Errors
/// When this machine does not have it.
pub fn forced() -> Result<Option<&'static dyn Kernels>, UnknownKernels> {
    let Some(asked) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) else { return Ok(None) };
    match available().iter().find(|k| asked == variant(**k)) {
        Some(kernels) => Ok(Some(*kernels)),
        None => Err(UnknownKernels {
            asked: asked.to_string_lossy().into_owned(),
            available: available().iter().map(|k| variant(*k)).collect(),
        }),
    }
}

/// The set the environment asks for, else the fastest this machine has. What the environment cannot have ([`forced`]
/// says so) is as if it had not asked.
pub fn best() -> &'static dyn Kernels {
    static BEST: OnceLock<&'static dyn Kernels> = OnceLock::new();
    *BEST.get_or_init(|| forced().ok().flatten().unwrap_or(available()[0]))
}

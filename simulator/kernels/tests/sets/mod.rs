//! The kernel sets that tests compare: those the machine has, and those whose few missing instructions are executed for it.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod emulator;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod instruction;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;

use std::sync::OnceLock;

use akida_kernels::{Kernels, available};

/// Every set, the emulated ones first. What is emulated, and what is missing for it, is said once.
pub fn sets() -> &'static [&'static dyn Kernels] {
    static SETS: OnceLock<Vec<&'static dyn Kernels>> = OnceLock::new();
    SETS.get_or_init(|| {
        let there = available();
        let mut sets = emulated(there);
        sets.extend(there);
        sets
    })
}

/// Sets that the machine lacks a few instructions for.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn emulated(there: &[&dyn Kernels]) -> Vec<&'static dyn Kernels> {
    fn one<K: Kernels + 'static>(set: Option<K>, name: &str, needs: &str) -> Option<&'static dyn Kernels> {
        match &set {
            Some(_) => println!("emulated: instructions of {name} that this machine lacks"),
            None => println!("SKIP: {name} cannot be emulated here, it needs {needs}"),
        }
        Some(Box::leak(Box::new(set?)))
    }
    let missing = |variant: &str| !there.iter().any(|set| set.name().ends_with(variant));
    let mut sets = Vec::new();
    if missing("-amx") {
        sets.extend(one(emulator::amx(), "AMX", "AVX-512 VNNI"));
    }
    if missing("-avxvnni") {
        sets.extend(one(emulator::avxvnni(), "AVX-VNNI", "AVX2"));
    }
    sets
}

/// None elsewhere.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn emulated(_: &[&dyn Kernels]) -> Vec<&'static dyn Kernels> {
    Vec::new()
}

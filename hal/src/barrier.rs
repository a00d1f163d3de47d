//! What orders accesses to memory that a device shares with those to its registers.
//!
//! x86-64 keeps stores before later stores to registers, and loads behind earlier loads from registers, so there only the compiler is
//! told. Arm64 keeps no such order: registers are device memory, a device is in the outer shareable domain, and Linux's own
//! `writel` and `readl` have the same barriers.
#![allow(unsafe_code)] // An instruction that has no name in the language.

/// What was written to and read from memory before happens before a register is written.
#[inline(always)]
pub fn before_register_write() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier changes nothing.
    unsafe {
        std::arch::asm!("dmb osh", options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// What is read from memory after happens after what was read before: a register, or a word of memory that the device writes last.
#[inline(always)]
pub fn after_read() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier changes nothing.
    unsafe {
        std::arch::asm!("dmb oshld", options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

//! The ioctls that vfio-ioctls 0.10 does not offer, or whose failure it does not report (see the table in
//! [`vfio`](super)), as safe functions that return the kernel's errno.
#![allow(unsafe_code)] // ioctl takes raw pointers; each block says why the pointer is good.

use std::io;
use std::ops::{Range, RangeInclusive};
use std::os::fd::{AsRawFd, BorrowedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DEVICE_FLAGS_RESET, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, VFIO_TYPE, vfio_device_info,
    vfio_iommu_type1_info, vfio_irq_info, vfio_irq_set, vfio_region_info,
};

/// The number of a VFIO ioctl.
pub const fn code(number: u32) -> nix::libc::Ioctl {
    // _IO(';', 100 + number): VFIO ioctls carry neither a direction nor a size, the structures say their own.
    (((VFIO_TYPE as u32) << 8) | (VFIO_BASE + number)) as nix::libc::Ioctl
}

mod raw {
    use super::code;
    nix::ioctl_readwrite_bad!(get_info, code(7), super::vfio_device_info);
    nix::ioctl_readwrite_bad!(get_region_info, code(8), u8);
    nix::ioctl_readwrite_bad!(get_irq_info, code(9), super::vfio_irq_info);
    nix::ioctl_write_ptr_bad!(set_irqs, code(10), u8);
    nix::ioctl_none_bad!(device_reset, code(11));
    nix::ioctl_readwrite_bad!(iommu_get_info, code(12), u8);
}

/// One region of a VFIO device: a BAR or configuration space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Bytes, 0 where the device has no such region.
    pub size: u64,
    /// Where the region starts in the device's file.
    pub offset: u64,
    /// May be read.
    pub readable: bool,
    /// May be written.
    pub writable: bool,
    /// Parts that may be mapped, as offsets in the region.
    pub mappable: Vec<Range<u64>>,
}

/// Lends the descriptor of anything that has one. (vfio-ioctls still speaks of raw descriptors.)
pub fn lend<T: AsRawFd>(owner: &T) -> BorrowedFd<'_> {
    // SAFETY: `owner` keeps its descriptor open at least as long as it is borrowed here.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}

/// `VFIO_DEVICE_GET_REGION_INFO` with its capabilities.
pub fn region(device: BorrowedFd<'_>, index: u32) -> io::Result<Region> {
    let fixed = size_of::<vfio_region_info>();
    let answer = sized_query(fixed, |bytes| {
        bytes[8..12].copy_from_slice(&index.to_ne_bytes());
        // SAFETY: the buffer is as long as its `argsz` says, and the kernel writes no more than `argsz` bytes.
        unsafe { raw::get_region_info(device.as_raw_fd(), bytes.as_mut_ptr()) }.map(drop)
    })?;
    let flags = u32_at(&answer, 4);
    let mut region = Region {
        size: u64_at(&answer, 16),
        offset: u64_at(&answer, 24),
        readable: flags & VFIO_REGION_INFO_FLAG_READ != 0,
        writable: flags & VFIO_REGION_INFO_FLAG_WRITE != 0,
        mappable: Vec::new(),
    };
    if flags & VFIO_REGION_INFO_FLAG_MMAP != 0 {
        let sparse = (flags & VFIO_REGION_INFO_FLAG_CAPS != 0)
            .then(|| capability(&answer, u32_at(&answer, 12), VFIO_REGION_INFO_CAP_SPARSE_MMAP))
            .flatten();
        region.mappable = match sparse {
            Some(body) => pairs(body).map(|(offset, size)| offset..offset.saturating_add(size)).collect(),
            None => std::iter::once(0..region.size).collect(),
        };
        region.mappable.retain(|r| r.start < r.end && r.end <= region.size);
    }
    Ok(region)
}

/// `VFIO_DEVICE_GET_IRQ_INFO`: number of vectors of an interrupt index.
pub fn vectors(device: BorrowedFd<'_>, index: u32) -> io::Result<u32> {
    let mut info = vfio_irq_info { argsz: size_of::<vfio_irq_info>() as u32, index, ..Default::default() };
    // SAFETY: a structure of the type this ioctl takes.
    unsafe { raw::get_irq_info(device.as_raw_fd(), &mut info) }?;
    Ok(info.count)
}

/// `VFIO_DEVICE_SET_IRQS`: vector 0 of an index signals `event` from now on, or nothing any more.
pub fn signal(device: BorrowedFd<'_>, index: u32, event: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let header = size_of::<vfio_irq_set>();
    let (data, count) = match event {
        Some(_) => (VFIO_IRQ_SET_DATA_EVENTFD, 1u32),
        None => (VFIO_IRQ_SET_DATA_NONE, 0),
    };
    let mut bytes = Vec::with_capacity(header + 4);
    let argsz = header as u32 + 4 * count;
    for word in [argsz, data | VFIO_IRQ_SET_ACTION_TRIGGER, index, 0, count] {
        bytes.extend(word.to_ne_bytes());
    }
    if let Some(event) = event {
        bytes.extend(event.as_raw_fd().to_ne_bytes());
    }
    // SAFETY: a `vfio_irq_set` of `argsz` bytes, all of which are there; the kernel only reads it.
    unsafe { raw::set_irqs(device.as_raw_fd(), bytes.as_ptr()) }?;
    Ok(())
}

/// `VFIO_DEVICE_GET_INFO`: whether the device offers [`reset`].
pub fn resettable(device: BorrowedFd<'_>) -> io::Result<bool> {
    let mut info = vfio_device_info { argsz: size_of::<vfio_device_info>() as u32, ..Default::default() };
    // SAFETY: a structure of the type this ioctl takes.
    unsafe { raw::get_info(device.as_raw_fd(), &mut info) }?;
    Ok(info.flags & VFIO_DEVICE_FLAGS_RESET != 0)
}

/// `VFIO_DEVICE_RESET`.
pub fn reset(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no argument.
    unsafe { raw::device_reset(device.as_raw_fd()) }?;
    Ok(())
}

/// `VFIO_IOMMU_GET_INFO`: the ranges a type 1 container may map. Kernels before 5.4 do not say; then everything below the
/// x86 interrupt window, which every IOMMU driver of that time reserved itself.
pub fn iova_ranges(container: BorrowedFd<'_>) -> io::Result<Vec<RangeInclusive<u64>>> {
    let answer = sized_query(size_of::<vfio_iommu_type1_info>(), |bytes| {
        // SAFETY: as in `region`.
        unsafe { raw::iommu_get_info(container.as_raw_fd(), bytes.as_mut_ptr()) }.map(drop)
    })?;
    const INFO_CAPS: u32 = 1 << 1; // VFIO_IOMMU_INFO_CAPS, a macro that the bindings leave out
    let found = (u32_at(&answer, 4) & INFO_CAPS != 0)
        .then(|| capability(&answer, u32_at(&answer, 16), VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE))
        .flatten();
    Ok(match found {
        Some(body) => pairs(body).map(|(first, last)| first..=last).collect(),
        None => std::iter::once(0..=0xfedf_ffff).collect(),
    })
}

/// Runs a query whose answer grows with its capabilities: once to learn the size, once more to get them.
fn sized_query(fixed: usize, mut call: impl FnMut(&mut [u8]) -> nix::Result<()>) -> io::Result<Vec<u8>> {
    const LIMIT: usize = 1 << 16; // no kernel structure of this kind comes near
    let mut len = fixed;
    loop {
        // Whole u64 words, so that the kernel's 64-bit fields are aligned.
        let mut words = vec![0u64; len.div_ceil(8)];
        let bytes = zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice());
        bytes[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        call(bytes)?;
        let wanted = u32_at(bytes, 0) as usize;
        if wanted <= len {
            return Ok(bytes[..len].to_vec());
        }
        if wanted > LIMIT {
            return Err(io::Error::other(format!("the kernel asks for {wanted} bytes of capabilities")));
        }
        len = wanted;
    }
}

/// The body (after the 8-byte header) of one capability in a chain that starts at byte `first`.
fn capability(answer: &[u8], first: u32, id: u32) -> Option<&[u8]> {
    let mut at = first as usize;
    // Each step must go on by at least a header, in either direction: bound the steps, not the direction.
    for _ in 0..answer.len() / 8 {
        let header = answer.get(at..at.checked_add(8)?)?;
        if at == 0 {
            return None;
        }
        if u32::from(u16::from_ne_bytes([header[0], header[1]])) == id {
            return answer.get(at + 8..);
        }
        at = u32_at(header, 4) as usize;
    }
    None
}

/// A count, a reserved word, then that many pairs of 64-bit numbers; short lists end early.
fn pairs(body: &[u8]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let count = if body.len() >= 4 { u32_at(body, 0) as usize } else { 0 };
    body.get(8..).unwrap_or_default().chunks_exact(16).take(count).map(|p| (u64_at(p, 0), u64_at(p, 8)))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of linux/vfio.h; a wrong one would reach another ioctl of the same file.
    #[test]
    fn ioctl_numbers() {
        for (number, value) in [(7, 0x3b6b), (8, 0x3b6c), (9, 0x3b6d), (10, 0x3b6e), (11, 0x3b6f), (12, 0x3b70)] {
            assert_eq!(code(number), value);
        }
    }

    fn words(list: &[u32]) -> Vec<u8> {
        list.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    #[test]
    fn capability_chains() {
        // Two capabilities: id 7 at 8, id 1 at 16 with one pair.
        let good = words(&[0, 0, 7 | 1 << 16, 16, 1 | 1 << 16, 0, 1, 0, 0x1000, 0, 0x2000, 0]);
        let body = capability(&good, 8, 1).expect("second of the chain");
        assert_eq!(pairs(body).collect::<Vec<_>>(), [(0x1000, 0x2000)]);
        assert_eq!(capability(&good, 8, 9), None, "ends at next = 0");
        let cases: [(&str, Vec<u8>, u32); 3] = [
            ("points at itself", words(&[0, 0, 7, 8]), 8),
            ("points outside", words(&[0, 0, 7, 4096]), 8),
            ("starts outside", words(&[0, 0]), 4_000_000),
        ];
        for (what, bytes, first) in cases {
            assert_eq!(capability(&bytes, first, 1), None, "{what}");
        }
        assert_eq!(pairs(&words(&[1000, 0, 1, 0, 2, 0])).count(), 1, "a count that lies is cut");
        assert_eq!(pairs(&[]).count(), 0);
    }

    #[test]
    fn sized_queries_grow_and_refuse_absurd_sizes() {
        let mut sizes = Vec::new();
        let answer = sized_query(32, |bytes| {
            sizes.push(bytes.len());
            bytes[..4].copy_from_slice(&64u32.to_ne_bytes());
            Ok(())
        });
        assert_eq!((answer.expect("fits in the second round").len(), sizes), (64, vec![32, 64]));
        let absurd = sized_query(32, |bytes| {
            bytes[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
            Ok(())
        });
        assert!(absurd.is_err());
    }
}

//! The instruction set that kernels run on.

use pulp::{Arch, Simd, WithSimd};

use crate::memory::LINE;

/// An instruction set of this processor.
#[derive(Clone, Copy, Debug)]
pub struct Cpu(Arch);

impl Cpu {
    /// The widest that this processor has.
    pub fn best() -> Self {
        Self(Arch::new())
    }

    /// All that this processor has, the widest first. The last one is portable code, without vectors.
    pub fn all() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            found.extend(pulp::x86::V4::try_new().map(Arch::V4));
            found.extend(pulp::x86::V3::try_new().map(Arch::V3));
        }
        #[cfg(target_arch = "aarch64")]
        found.extend(pulp::aarch64::Neon::try_new().map(Arch::Neon));
        found.push(Arch::Scalar);
        found.into_iter().map(Self).collect()
    }

    /// The same, or narrower vectors where `channels` would leave the greater part of a wide one empty.
    pub(crate) fn fitting(self, channels: usize) -> Self {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Arch::V4(wide) = self.0
            && (1..=8).contains(&(channels % 16))
        {
            return Self(Arch::V3(*wide));
        }
        let _ = channels;
        self
    }

    /// Floats of a vector.
    pub(crate) fn lanes(self) -> usize {
        match self.0 {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V4(_) => 16,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V3(_) => 8,
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(_) => 4,
            _ => 1,
        }
    }

    /// Runs plain loops compiled for this instruction set: as wide vectors as it has, where the compiler finds any. Nothing is fused or
    /// reordered, so the results are the same bits on all of them.
    pub fn vectorised<T>(self, work: impl FnOnce() -> T) -> T {
        self.0.dispatch(work)
    }

    /// Runs `task` compiled for this instruction set.
    pub(crate) fn run<T: WithSimd>(self, task: T) -> T::Output {
        self.0.dispatch(task)
    }
}

/// Loads a vector from memory that need not be aligned.
///
/// # Safety
/// A whole vector from `from` on must be readable.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: the caller promises the memory; a vector of floats has no invalid bits.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// Stores a vector to memory that need not be aligned.
///
/// # Safety
/// A whole vector from `to` on must be writable.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(to: *mut f32, value: S::f32s) {
    // SAFETY: the caller promises the memory.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}

/// Loads `count` floats, at most a vector; the rest is zero.
///
/// # Safety
/// `count` floats from `from` on must be readable.
#[inline(always)]
pub(crate) unsafe fn load_part<S: Simd>(simd: S, from: *const f32, count: usize) -> S::f32s {
    // SAFETY: the caller promises the memory.
    unsafe {
        match count >= S::F32_LANES {
            true => load::<S>(from),
            false => simd.partial_load_f32s(std::slice::from_raw_parts(from, count)),
        }
    }
}

/// Stores the first `count` floats of a vector, at most all.
///
/// # Safety
/// `count` floats from `to` on must be writable. They may be uninitialised.
#[inline(always)]
pub(crate) unsafe fn store_part<S: Simd>(to: *mut f32, value: S::f32s, count: usize) {
    // SAFETY: the caller promises the memory; the vector's bytes lie in `value`.
    unsafe {
        match count >= S::F32_LANES {
            true => store::<S>(to, value),
            false => std::ptr::copy_nonoverlapping((&raw const value).cast::<f32>(), to, count),
        }
    }
}

/// Floats of a cache line.
const LINE_FLOATS: usize = LINE / size_of::<f32>();

/// Floats that are asked for ahead of time, at most.
const MOST_AHEAD: usize = 1 << 15;

/// What is to be read after the work at hand, and is asked for bit by bit meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    from: *const f32,
    len: usize,
}

impl Ahead {
    /// The first `len` floats of `values`, or as many as there are; none if they would drive out what is worked on.
    pub fn new(values: &[f32], len: usize) -> Self {
        let len = if len <= MOST_AHEAD { values.len().min(len) } else { 0 };
        Self { from: values.as_ptr(), len }
    }

    /// Asks for part number `part` of so many equal `parts`.
    #[inline(always)]
    pub fn ask(self, part: usize, parts: usize) {
        let lines = self.len.div_ceil(LINE_FLOATS).div_ceil(parts);
        for line in part * lines..(part + 1) * lines {
            prefetch(self.from.wrapping_add(line * LINE_FLOATS));
        }
    }
}

/// Asks for the memory at `from`, which need not exist.
#[inline(always)]
pub(crate) fn prefetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it faults on no address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(from.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

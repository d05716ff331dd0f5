//! The allocator of programs that train.
//!
//! Fast kernels leave page faults as the next cost of a training step. This allocator gives freed tensors to the next step, if it is
//! told to hold on to them for longer than a step takes: a step of a PreAct-ResNet18 takes seconds, and memory that goes back to the
//! system in between is paid for page by page.
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: theriac_nn::allocator::Allocator = theriac_nn::allocator::ALLOCATOR;
//!
//! theriac_nn::allocator::hold_memory();
//! ```

pub use mimalloc::MiMalloc as Allocator;

/// The one to declare as the program's own.
pub const ALLOCATOR: Allocator = Allocator;

/// Milliseconds for which freed memory is held.
const HELD: i64 = 20_000;
/// The number of `mi_option_purge_delay` in mimalloc 2 and 3, for which the bindings have no name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Lets the allocator hold freed memory; to be called when the program starts.
pub fn hold_memory() {
    // SAFETY: sets a number, which the allocator reads when memory is freed.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, HELD as core::ffi::c_long) };
}

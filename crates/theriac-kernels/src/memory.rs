//! Memory that is aligned to cache lines, and writing it from several threads.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Bytes of a cache line, and of the widest vector.
pub const LINE: usize = 64;

/// Floats on the heap, aligned to cache lines and not initialised.
#[derive(Debug)]
pub struct Block {
    start: NonNull<f32>,
    capacity: usize,
}

// SAFETY: a block owns plain floats and has no interior state.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

impl Block {
    /// Room for `capacity` floats, whose values are arbitrary.
    pub fn new(capacity: usize) -> Self {
        let layout = Self::layout(capacity);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) }.cast::<f32>();
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, capacity }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity.max(1) * size_of::<f32>(), LINE)
            .expect("a tensor is smaller than the address space")
    }

    /// How many floats there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The first float.
    pub fn as_ptr(&self) -> *mut f32 {
        self.start.as_ptr()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with the same layout.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.capacity)) }
    }
}

/// Floats on the heap, aligned to cache lines.
#[derive(Debug)]
pub struct Floats {
    block: Block,
    len: usize,
}

impl Floats {
    /// Takes memory for `len` floats and lets `write` fill it.
    ///
    /// # Safety
    /// `write` must write all of them. Every kernel writes the whole of its result.
    pub unsafe fn written(len: usize, write: impl FnOnce(Out)) -> Self {
        let block = Block::new(len);
        // SAFETY: the block has this size, and nobody else knows it yet.
        write(unsafe { Out::uninitialised(block.as_ptr(), len) });
        Self { block, len }
    }

    /// The same for several results at once, of which only those are taken that are wanted.
    ///
    /// # Safety
    /// `write` must write all floats of those that are.
    pub unsafe fn written_if<const N: usize>(
        wanted: [(bool, usize); N],
        write: impl FnOnce([Option<Out>; N]),
    ) -> [Option<Self>; N] {
        let floats = wanted.map(|(wanted, len)| wanted.then(|| Self { block: Block::new(len), len }));
        // SAFETY: the blocks have these sizes, and nobody else knows them yet.
        let out = |floats: &Self| unsafe { Out::uninitialised(floats.block.as_ptr(), floats.len) };
        write(floats.each_ref().map(|floats| floats.as_ref().map(out)));
        floats
    }
}

impl std::ops::Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: all were written when the memory was taken.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the block belongs to these floats alone.
        unsafe { std::slice::from_raw_parts_mut(self.block.as_ptr(), self.len) }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Lends `count` floats of this thread's working memory to `work`. They hold whatever was written last.
///
/// The memory stays with the thread, so that the steady state of a training loop allocates nothing.
pub(crate) fn scratch<T>(count: usize, work: impl FnOnce(*mut f32) -> T) -> T {
    let block = SCRATCH.with_borrow_mut(Vec::pop);
    let block = block.filter(|block| block.capacity >= count).unwrap_or_else(|| Block::new(count));
    let result = work(block.as_ptr());
    SCRATCH.with_borrow_mut(|blocks| blocks.push(block));
    result
}

/// A result under construction: floats that several threads write, each its own part.
///
/// It is not `Copy`: a kernel takes it over, so that no two kernels write the same memory.
pub struct Out<'a> {
    start: *mut f32,
    len: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the kernels that share an `Out` between threads write disjoint parts of it.
unsafe impl Send for Out<'_> {}
// SAFETY: as above.
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    /// A result that replaces the values of a slice.
    pub fn new(values: &'a mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), life: PhantomData }
    }

    /// A result in memory that is not initialised. Every kernel writes the whole of its result.
    ///
    /// # Safety
    /// `len` floats from `start` on must be writable, and by nobody else for the lifetime `'a`.
    pub unsafe fn uninitialised(start: *mut f32, len: usize) -> Self {
        Self { start, len, life: PhantomData }
    }

    /// Number of floats.
    #[expect(clippy::len_without_is_empty, reason = "a result has the size its shape says")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where float number `index` lies.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> *mut f32 {
        debug_assert!(index <= self.len);
        // SAFETY: within the memory, or one past its end.
        unsafe { self.start.add(index) }
    }
}

//! Memory that is used again: buffers for results and scratch space, and the allocator that keeps large blocks.
//!
//! A training step asks for the same large blocks again and again. The system takes them back and hands out
//! cleared pages each time, which costs as much as a tenth of a step; [`Recycler`] keeps them instead.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;

/// A buffer of `len` numbers whose values are not set: for results that are written in full.
#[must_use]
pub fn buffer<T: Number>(len: usize) -> Vec<T> {
    let mut data = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`; every bit pattern is a number, and kernels write all of a result before
    // anything reads it (miri checks that).
    #[allow(clippy::uninit_vec)]
    unsafe {
        data.set_len(len);
    }
    data
}

/// Types of which every bit pattern is a value.
pub trait Number: Copy + Send + Sync + Default + 'static {}
impl Number for f32 {}
impl Number for u32 {}
impl Number for i8 {}
impl Number for bf16 {}

/// One cache line, so that scratch space starts at one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Lends scratch space of `len` words, aligned to a cache line, with values of its last use. It is the
/// thread's own and is kept for the next use.
pub fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [u32]) -> R) -> R {
    let mut lines = SCRATCH.with(|stack| stack.borrow_mut().pop()).unwrap_or_default();
    let needed = len.div_ceil(16);
    if lines.len() < needed {
        lines.resize(needed, Line([0; 16]));
    }
    // SAFETY: a line is sixteen words without padding, and the slice covers whole lines.
    let words = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<u32>(), lines.len() * 16) };
    let result = f(&mut words[..len]);
    SCRATCH.with(|stack| stack.borrow_mut().push(lines));
    result
}

/// [`with_scratch`] as `f32`.
pub fn with_scratch_f32<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    with_scratch(len, |words| f(as_f32(words)))
}

/// The same words as `f32`.
#[must_use]
pub fn as_f32(words: &mut [u32]) -> &mut [f32] {
    // SAFETY: `u32` and `f32` have the same size and alignment, and every bit pattern is a value of both.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<f32>(), words.len()) }
}

/// The same values as words.
#[must_use]
pub fn as_words(values: &mut [f32]) -> &mut [u32] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u32>(), values.len()) }
}

/// The same values as words, to read.
#[must_use]
pub fn words_of(values: &[f32]) -> &[u32] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u32>(), values.len()) }
}

/// Asks for the line of value `at`, if there is one, to be in a core's cache soon.
#[inline(always)]
pub fn prefetch<T>(data: &[T], at: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(value) = data.get(at) {
        // SAFETY: an instruction of every processor of this kind, that reads nothing.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (data, at);
}

/// A global allocator that keeps freed blocks of 64 KiB and more for the next request of about the same size.
///
/// Smaller requests go to the system's allocator. Sizes are rounded up to an eighth of their power of two, so
/// that a block serves requests that differ a little. What is kept and what is in use together never exceed
/// what was in use at the peak: keeping blocks costs no memory that the program did not need before.
#[derive(Debug)]
pub struct Recycler {
    kept: [Mutex<Vec<usize>>; CLASSES],
    kept_bytes: AtomicUsize,
    used_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
}

const SMALLEST: usize = 1 << 16;
/// Eight sizes a power of two, from 2¹⁶ to 2⁴⁰.
const CLASSES: usize = 8 * 24;
/// Blocks start at a page, large ones at a huge page.
const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

impl Recycler {
    /// An allocator that keeps nothing yet.
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            kept: [const { Mutex::new(Vec::new()) }; CLASSES],
            kept_bytes: AtomicUsize::new(0),
            used_bytes: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
        }
    }

    /// The class of a size and the size of its blocks.
    fn class(size: usize) -> Option<(usize, usize)> {
        if size < SMALLEST {
            return None;
        }
        let power = (size - 1).max(SMALLEST).ilog2();
        let step = 1usize << (power - 3);
        let eighths = (size - 1).max(SMALLEST) / step - 8;
        let index = (power as usize - 16) * 8 + eighths;
        (index < CLASSES).then(|| (index, Self::size(index)))
    }

    fn size(index: usize) -> usize {
        (index % 8 + 9) << (index / 8 + 13)
    }

    fn block(size: usize) -> Layout {
        let align = if size >= 2 * HUGE_PAGE { HUGE_PAGE } else { PAGE };
        Layout::from_size_align(size, align).expect("a class's size is far below isize::MAX")
    }

    fn pop(&self, index: usize, size: usize) -> Option<*mut u8> {
        let address = self.kept[index].try_lock().ok()?.pop()?;
        self.kept_bytes.fetch_sub(size, Ordering::Relaxed);
        Some(std::ptr::with_exposed_provenance_mut(address))
    }

    /// A kept block of the class, or a new one.
    fn take(&self, index: usize, size: usize) -> *mut u8 {
        let kept = self.pop(index, size);
        let used = self.used_bytes.fetch_add(size, Ordering::Relaxed) + size;
        self.peak_bytes.fetch_max(used, Ordering::Relaxed);
        kept.unwrap_or_else(|| {
            self.evict();
            // SAFETY: the layout's size is not zero.
            let pointer = unsafe { System.alloc(Self::block(size)) };
            if size >= 2 * HUGE_PAGE && !pointer.is_null() {
                prefer_huge_pages(pointer, size);
            }
            pointer
        })
    }

    fn beyond_peak(&self) -> bool {
        let [used, kept, peak] =
            [&self.used_bytes, &self.kept_bytes, &self.peak_bytes].map(|n| n.load(Ordering::Relaxed));
        used + kept > peak
    }

    /// Gives kept blocks back to the system, the largest first, until no more is held than at the peak.
    fn evict(&self) {
        for index in (0..CLASSES).rev() {
            let size = Self::size(index);
            while self.beyond_peak() {
                let Some(pointer) = self.pop(index, size) else { break };
                // SAFETY: the block came from the system's allocator with this layout.
                unsafe { System.dealloc(pointer, Self::block(size)) }
            }
        }
    }

    fn give(&self, index: usize, size: usize, pointer: *mut u8) {
        self.used_bytes.fetch_sub(size, Ordering::Relaxed);
        self.kept_bytes.fetch_add(size, Ordering::Relaxed);
        if !self.beyond_peak()
            && let Ok(mut kept) = self.kept[index].try_lock()
            && kept.len() < 4096
        {
            // Growing this list stays below 64 KiB, so it does not come back here.
            kept.push(pointer.expose_provenance());
            return;
        }
        self.kept_bytes.fetch_sub(size, Ordering::Relaxed);
        // SAFETY: the block came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, Self::block(size)) }
    }
}

/// Asks for pages of 2 MiB: a matrix needs hundreds of times fewer entries of the address cache then.
#[cfg(all(target_os = "linux", not(miri)))]
fn prefer_huge_pages(pointer: *mut u8, size: usize) {
    // SAFETY: the range is a block of ours; the advice changes no contents, and a refusal is no loss.
    unsafe { libc::madvise(pointer.cast(), size, libc::MADV_HUGEPAGE) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn prefer_huge_pages(_: *mut u8, _: usize) {}

// SAFETY: blocks are at least as large and as aligned as asked for, and belong to one owner at a time: a block
// is either in use, in one list, or back with the system.
unsafe impl GlobalAlloc for Recycler {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Self::class(layout.size()).filter(|_| layout.align() <= PAGE) {
            Some((index, size)) => self.take(index, size),
            // SAFETY: the caller's contract is the system's.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Self::class(layout.size()).filter(|_| layout.align() <= PAGE) {
            Some((index, size)) => {
                let pointer = self.take(index, size);
                if !pointer.is_null() {
                    // SAFETY: the block is at least this large.
                    unsafe { pointer.write_bytes(0, layout.size()) };
                }
                pointer
            }
            // SAFETY: the caller's contract is the system's.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match Self::class(layout.size()).filter(|_| layout.align() <= PAGE) {
            Some((index, size)) => self.give(index, size, pointer),
            // SAFETY: the caller's contract is the system's.
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let old = Self::class(layout.size()).filter(|_| layout.align() <= PAGE);
        let new = Self::class(new_size).filter(|_| layout.align() <= PAGE);
        match (old, new) {
            // SAFETY: both are the system's; the caller's contract is its own.
            (None, None) => unsafe { System.realloc(pointer, layout, new_size) },
            (Some(old), Some(new)) if old == new => pointer,
            _ => {
                // SAFETY: the caller gives a size that is not zero and fits the alignment.
                let moved =
                    unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
                if !moved.is_null() {
                    // SAFETY: both blocks are at least this large and differ; the old one is the caller's to free.
                    unsafe {
                        std::ptr::copy_nonoverlapping(pointer, moved, layout.size().min(new_size));
                        self.dealloc(pointer, layout);
                    }
                }
                moved
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_their_sizes_and_waste_little() {
        let mut last = 0;
        for size in (SMALLEST..1 << 22).step_by(1000).chain([1 << 30, (1 << 34) + 1]) {
            let (index, block) = Recycler::class(size).expect("a class");
            assert!(block >= size && block - size <= size / 8 + 8, "{size} {block}");
            assert_eq!(Recycler::class(block), Some((index, block)), "{size} {block}");
            assert!(index >= last, "{size}");
            last = index;
        }
        assert_eq!(Recycler::class(SMALLEST - 1), None);
    }

    #[test]
    fn blocks_come_back_and_keep_their_values_when_they_grow() {
        let recycler = Recycler::new();
        let layout = Layout::from_size_align(100_000, 8).expect("a layout");
        // SAFETY: blocks are used within their layouts and freed once.
        unsafe {
            let first = recycler.alloc(layout);
            first.write_bytes(7, 100_000);
            recycler.dealloc(first, layout);
            let second = recycler.alloc_zeroed(layout);
            assert_eq!(first, second);
            assert!(std::slice::from_raw_parts(second, 100_000).iter().all(|b| *b == 0));
            second.write_bytes(9, 100_000);
            let grown = recycler.realloc(second, layout, 1_000_000);
            assert!(std::slice::from_raw_parts(grown, 100_000).iter().all(|b| *b == 9));
            let shrunk =
                recycler.realloc(grown, Layout::from_size_align(1_000_000, 8).expect("a layout"), 1000);
            assert!(std::slice::from_raw_parts(shrunk, 1000).iter().all(|b| *b == 9));
            recycler.dealloc(shrunk, Layout::from_size_align(1000, 8).expect("a layout"));
        }
        assert_eq!(recycler.used_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn scratch_nests() {
        with_scratch(10, |outer| {
            outer.fill(1);
            with_scratch_f32(1000, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|v| *v == 1));
        });
    }
}

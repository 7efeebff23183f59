//! The C library's allocator: it has few arenas, and gives back what the start has left.
//!
//! It makes up to eight for each processor, and what one thread freed in one of them serves no other. Over 300,000 pages
//! the agent grew from 63 to 95 MB so, while its heap (heaptrack) stayed at 22; with four arenas it does not grow.

/// For small things each thread has its own cache anyway.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 4;

/// Before any thread is started.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the C library has no other way to it from within")]
pub fn bound() {
    // SAFETY: it sets a number and takes no pointer; what it returns says whether the number was taken.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

/// Gives back what is free. To parse a labelset's patterns takes some megabytes, once: an idle agent had 27 MB with them,
/// and has 19 without.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the C library has no other way to it from within")]
pub fn trim() {
    // SAFETY: it takes no pointer, and touches what is free alone.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators are as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn bound() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn trim() {}

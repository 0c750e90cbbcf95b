//! Randomness and time in the hands of the seed, for everything in this process that asks the system for either: hash maps, tokio's
//! choices between branches, the spread of waits, the wall clock.
//!
//! The program defines `getrandom` and `clock_gettime` itself, in place of the C library's. On a thread that was put under control they
//! answer from the seed and from simulated time; on any other thread they ask the kernel. [`take_control`] checks that this works, so that
//! no run looks deterministic without being so.

#![expect(
    unsafe_code,
    reason = "two functions of the C library are replaced, which is the only way to reach every library's randomness"
)]

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;

/// When simulated time begins, in seconds since the Unix epoch: 2026-01-01.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// What the monotonic clock shows at that moment. Far from 0, because clocks subtract.
const UPTIME: Duration = Duration::from_secs(1_000_000);

// Plain cells that are never dropped, so that they can be asked at any moment of a thread's life.
thread_local! {
    static CONTROLLED: Cell<bool> = const { Cell::new(false) };
    static STATE: Cell<u64> = const { Cell::new(0) };
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Puts this thread under control for the rest of its life. Must come before anything on it asks for randomness.
///
/// # Errors
/// If the program was linked so that the standard library or others still ask the system.
pub fn take_control(seed: u64) -> anyhow::Result<()> {
    STATE.set(seed);
    CONTROLLED.set(true);
    let expected = {
        let state = STATE.get();
        let first = next();
        STATE.set(state);
        first
    };
    let mut bytes = [0; 8];
    fill(&mut bytes);
    ensure!(
        u64::from_le_bytes(bytes) == expected,
        "the source of randomness does not follow its seed"
    );
    let asked = STATE.get();
    let map: HashMap<u8, u8> = HashMap::new();
    let _hash = map.hasher().hash_one(1);
    ensure!(
        STATE.get() != asked,
        "hash maps ask the system for randomness, so that runs cannot be repeated"
    );
    let asked = STATE.get();
    let _random: u64 = rand::random();
    ensure!(
        STATE.get() != asked,
        "random numbers come from the system, so that runs cannot be repeated"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    ensure!(
        now == EPOCH,
        "the wall clock is the system's, so that runs cannot be repeated"
    );
    STATE.set(seed);
    Ok(())
}

/// Sets how much simulated time has gone by on this thread.
pub fn set_elapsed(elapsed: Duration) {
    ELAPSED.set(elapsed);
}

/// How much simulated time has gone by on this thread, as last set.
#[must_use]
pub fn elapsed() -> Duration {
    ELAPSED.get()
}

/// The next number of the sequence called SplitMix64 (Steele, Lea and Flood, 2014).
fn next() -> u64 {
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn fill(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        let random = next().to_le_bytes();
        for (byte, random) in chunk.iter_mut().zip(random) {
            *byte = random;
        }
    }
}

/// A moment, as the C library writes it on 64-bit Linux.
#[repr(C)]
#[derive(Debug)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn __errno_location() -> *mut i32;
}

fn fail(error: rustix::io::Errno) {
    // SAFETY: the C library gives the address of this thread's own error number.
    unsafe { *__errno_location() = error.raw_os_error() };
}

/// In place of the C library's function of this name.
///
/// # Safety
/// `buffer` must be valid for writing `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe { std::ptr::write_bytes(buffer, 0, length) };
    // SAFETY: as above, and the bytes have just been set.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    if CONTROLLED.get() {
        fill(bytes);
        return isize::try_from(length).unwrap_or(isize::MAX);
    }
    let flags = rustix::rand::GetRandomFlags::from_bits_retain(flags);
    match rustix::rand::getrandom(bytes, flags) {
        Ok(got) => isize::try_from(got).unwrap_or(isize::MAX),
        Err(error) => {
            fail(error);
            -1
        }
    }
}

/// In place of the C library's function of this name.
///
/// # Safety
/// `time` must be valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    use rustix::time::ClockId;
    let id = match clock {
        0 => ClockId::Realtime,
        1 => ClockId::Monotonic,
        2 => ClockId::ProcessCPUTime,
        3 => ClockId::ThreadCPUTime,
        4 => ClockId::MonotonicRaw,
        5 => ClockId::RealtimeCoarse,
        6 => ClockId::MonotonicCoarse,
        7 => ClockId::Boottime,
        _ => {
            fail(rustix::io::Errno::INVAL);
            return -1;
        }
    };
    let (seconds, nanoseconds) = match (CONTROLLED.get(), id) {
        (false, _) | (true, ClockId::ProcessCPUTime | ClockId::ThreadCPUTime) => {
            let now = rustix::time::clock_gettime(id);
            (now.tv_sec, now.tv_nsec)
        }
        (true, ClockId::Realtime | ClockId::RealtimeCoarse) => parts(EPOCH + ELAPSED.get()),
        (true, _) => parts(UPTIME + ELAPSED.get()),
    };
    // SAFETY: the caller's promise.
    unsafe {
        time.write(Timespec {
            seconds,
            nanoseconds,
        });
    };
    0
}

fn parts(time: Duration) -> (i64, i64) {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    (seconds, i64::from(time.subsec_nanos()))
}

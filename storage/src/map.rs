//! Windows: a bounded run of a source file in memory, mapped or read.
//!
//! The workspace's only unsafe code is here. Two things make a mapped window safe to hand out:
//! - A page that cannot be had any more (the file was truncated, the network file system failed) raises SIGBUS.
//!   Every mapped window stands in a table; the handler puts a page of zeros in the place of one that is missing
//!   from a window, and marks it. Who hashed a window asks [`Window::faulted`] before the bytes count for anything.
//!   A SIGBUS from anywhere else goes to whoever handled it before.
//! - Bytes of a mapped file may change under the reader. Rust calls that undefined for a `&[u8]`; for the plain
//!   loads that hashing and `write(2)` are, it means bytes that may be old or new. The fence, checked after the last
//!   window, and the destination, which hashes what arrives, turn that into an error and never into a wrong image.

use std::fs::File;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::statfs::fstatfs;

use crate::source::IoMode;

/// How much of a file is mapped at a time, in bytes: with the default four lanes and up to three windows of each in
/// flight, 48 MiB.
pub(crate) const WINDOW: usize = 4 << 20;

/// How much is read at a time where files are not mapped.
pub(crate) const READ_WINDOW: usize = 1 << 20;

/// Windows that may be mapped at the same time; one more is read instead.
const SLOTS: usize = 512;

/// A run of a file in memory. Dropping the last reference to its bytes unmaps it.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Bytes,
    slot: Option<usize>,
}

impl Window {
    /// The bytes; slices of them keep the window mapped.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether a page of the window was missing when it was touched: its bytes are not the file's.
    pub(crate) fn faulted(&self) -> bool {
        self.slot.is_some_and(|slot| TABLE[slot].faulted.load(Ordering::Acquire))
    }
}

/// Whether files on this file system are better read than mapped: those whose server may fail or change the file
/// behind the kernel's back.
pub(crate) fn prefers_read(file: &File, mode: IoMode) -> bool {
    match mode {
        IoMode::Mmap => false,
        IoMode::Read => true,
        IoMode::Auto => fstatfs(file).map_or(true, |stat| REMOTE.contains(&stat.filesystem_type().0)),
    }
}

/// statfs(2) magic numbers of network and FUSE file systems.
const REMOTE: [libc::__fsword_t; 9] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x6573_5546, // FUSE
    0x00c3_6400, // Ceph
    0x0bd0_0bd0, // Lustre
    0x0102_1997, // 9P
    0x4750_4653, // GPFS
];

/// Brings `len` bytes at `offset` into memory; the caller knows that the file is at least that long.
///
/// # Errors
/// Those of mmap(2) and pread(2); `UnexpectedEof` where the file is shorter.
pub(crate) fn window(file: &File, offset: u64, len: usize, read: bool) -> io::Result<Window> {
    if !read && let Some(slot) = claim() {
        return map(file, offset, len, slot);
    }
    read_window(file, offset, len)
}

/// Asks the kernel to have the next window ready.
pub(crate) fn prefetch(file: &File, offset: u64, len: usize) {
    let (Ok(offset), Ok(len)) = (libc::off_t::try_from(offset), libc::off_t::try_from(len)) else { return };
    // Advice only: where it is not taken, the bytes come all the same.
    let _ = posix_fadvise(file, offset, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
}

fn read_window(file: &File, offset: u64, len: usize) -> io::Result<Window> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(Window { bytes: buffer.into(), slot: None })
}

#[expect(unsafe_code, reason = "mapping a file is unsafe: another process may write to it")]
fn map(file: &File, offset: u64, len: usize, slot: usize) -> io::Result<Window> {
    // Held before the call that may fail, so that the slot goes back in any case.
    let slot = Claimed(slot);
    // SAFETY: the map is private to this module and read-only; what a change or truncation of the file by another
    // process means for its readers is said at the head of this file.
    let map = unsafe { MmapOptions::new().offset(offset).len(len).populate().map(file)? };
    let entry = &TABLE[slot.0];
    // The map may begin in the middle of a page; the handler works by pages.
    let start = map.as_ptr() as usize;
    let first = start & !(page_size() - 1);
    entry.end.store(start + map.len(), Ordering::Release);
    entry.start.store(first, Ordering::Release);
    let index = slot.0;
    Ok(Window { bytes: Bytes::from_owner(Mapped { map, _slot: slot }), slot: Some(index) })
}

/// What the bytes of a mapped window are owned by. Field order matters: unmapped first, then out of the table.
struct Mapped {
    map: Mmap,
    _slot: Claimed,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// A row of the table that is ours until dropped.
struct Claimed(usize);

impl Drop for Claimed {
    fn drop(&mut self) {
        let entry = &TABLE[self.0];
        entry.start.store(0, Ordering::Release);
        entry.end.store(0, Ordering::Release);
        entry.faulted.store(false, Ordering::Release);
        entry.taken.store(false, Ordering::Release);
    }
}

/// A mapped window as the signal handler sees it: atomics only, so that it may look at any time.
struct Row {
    taken: AtomicBool,
    faulted: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
}

static TABLE: [Row; SLOTS] = [const {
    Row {
        taken: AtomicBool::new(false),
        faulted: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
    }
}; SLOTS];

fn claim() -> Option<usize> {
    if !install_handler() {
        return None;
    }
    TABLE
        .iter()
        .position(|row| row.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok())
}

static PREVIOUS: OnceLock<Option<SigAction>> = OnceLock::new();
static PAGE_SIZE: OnceLock<usize> = OnceLock::new();

fn page_size() -> usize {
    *PAGE_SIZE.get_or_init(|| {
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(4096)
    })
}

/// Installs the handler once; `false` where the kernel refuses it, and then nothing is mapped.
#[expect(unsafe_code, reason = "a signal handler is the one way to survive a truncated file that is mapped")]
fn install_handler() -> bool {
    PREVIOUS
        .get_or_init(|| {
            // Asked for now: in the handler it is only looked up.
            page_size();
            let action = SigAction::new(
                SigHandler::SigAction(on_sigbus),
                SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK,
                SigSet::empty(),
            );
            // SAFETY: the handler is async-signal-safe: it reads atomics, calls mmap(2) and sigaction(2).
            unsafe { sigaction(Signal::SIGBUS, &action) }.ok()
        })
        .is_some()
}

#[expect(unsafe_code, reason = "a signal handler gets raw pointers, and mends the window with mmap(2)")]
extern "C" fn on_sigbus(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t.
    let address = unsafe { (*info).si_addr() } as usize;
    let row = TABLE.iter().find(|row| {
        let start = row.start.load(Ordering::Acquire);
        start != 0 && start <= address && address < row.end.load(Ordering::Acquire)
    });
    let (Some(row), Some(page)) = (row, PAGE_SIZE.get()) else {
        return give_back();
    };
    row.faulted.store(true, Ordering::Release);
    let start = address & !(page - 1);
    // SAFETY: the page belongs to a window of ours that is still mapped, for somebody is reading it: replacing it
    // by zeros touches no other mapping. The window's owner unmaps it with the rest.
    let mended = unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            *page,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if mended == libc::MAP_FAILED {
        give_back();
    }
}

/// Puts the former handler back and returns to the faulting instruction, which raises the signal again for it.
#[expect(unsafe_code, reason = "see on_sigbus")]
fn give_back() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    let previous = PREVIOUS.get().copied().flatten().unwrap_or(default);
    // SAFETY: sigaction(2) is async-signal-safe, and the action was valid before ours.
    let _ = unsafe { sigaction(Signal::SIGBUS, &previous) };
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file_of(len: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn mapped_and_read_windows_have_the_same_bytes_at_any_offset() {
        let file = file_of(3 * 4096 + 17);
        for offset in [0u64, 1, 4095, 4096, 5000] {
            let len = 3 * 4096 + 17 - usize::try_from(offset).unwrap();
            let mapped = window(&file, offset, len, false).unwrap();
            let read = window(&file, offset, len, true).unwrap();
            assert_eq!(mapped.bytes(), read.bytes(), "at {offset}");
            assert!(!mapped.faulted());
        }
    }

    #[test]
    fn a_page_that_is_gone_is_a_mark_and_not_a_crash() {
        let file = file_of(8 * 4096);
        let window = window(&file, 100, 8 * 4096 - 100, false).unwrap();
        assert!(window.slot.is_some(), "the window is mapped");
        file.set_len(4096).unwrap();
        let sum: u64 = window.bytes().iter().map(|b| u64::from(*b)).sum();
        assert!(sum > 0, "the first page is still there");
        assert!(window.faulted());
    }

    #[test]
    fn a_row_is_free_again_when_the_last_slice_is_gone() {
        let file = file_of(4096);
        let window = window(&file, 0, 4096, false).unwrap();
        let slot = window.slot.unwrap();
        let slice = window.bytes().slice(10..20);
        drop(window);
        assert!(TABLE[slot].taken.load(Ordering::Relaxed));
        drop(slice);
        // Another test may have claimed the row since; either way it is not this window's any more.
        assert!(!TABLE[slot].faulted.load(Ordering::Relaxed));
    }

    #[test]
    fn a_file_shorter_than_the_window_is_an_error_when_read() {
        let error = window(&file_of(10), 0, 11, true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

//! What is in the place of weights and is none: pointers of Git LFS, and pickles, which are programs.

use super::look::{FIRST, Look};

/// A pointer is shorter, by the specification: <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>.
pub(super) const MAX_POINTER: u64 = 1024;

/// The shortest has a version, a digest and a size.
const MIN_POINTER: u64 = 100;

const BEGINNING: &str = "version https://git-lfs";

/// What a pointer of Git LFS stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// Bytes of the file itself, where the pointer says so.
    pub size: Option<u64>,
}

/// Whether a file of this length may be a pointer.
pub(super) fn may_point(len: u64) -> bool {
    (MIN_POINTER..MAX_POINTER).contains(&len)
}

/// The pointer that a file is.
pub fn pointer(file: &mut dyn Look) -> Option<Pointer> {
    if !may_point(file.len()) {
        return None;
    }
    let bytes = file.read(0, usize::try_from(MAX_POINTER).unwrap_or_default())?;
    let text = std::str::from_utf8(&bytes).ok().filter(|text| text.starts_with(BEGINNING))?;
    let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
    Some(Pointer { size })
}

/// Whether a file begins as Python's pickles do (protocol 2 and later), or is a ZIP archive of `torch.save`, which has one.
pub fn is_pickle(file: &mut dyn Look) -> bool {
    const ZIP: &[u8] = b"PK\x03\x04";
    const PICKLED: &[u8] = b"data.pkl";
    // The list of what is in a ZIP archive stands at its end; a program of TorchScript has its pickle behind the weights.
    const LIST: usize = 64 << 10;
    let Some(bytes) = file.read(0, FIRST) else { return false };
    match bytes.as_slice() {
        [0x80, 2..=5, ..] => true,
        bytes if bytes.starts_with(ZIP) => {
            let has = |bytes: &[u8]| bytes.windows(PICKLED.len()).any(|part| part == PICKLED);
            let list = file.len().saturating_sub(LIST as u64);
            has(bytes) || file.read(list, LIST).is_some_and(|bytes| has(&bytes))
        }
        _ => false,
    }
}

//! The SHA-256 that something beside a file says of it: hints, which cost nothing and which nobody has checked. A file that is
//! downloaded anew has another one, where its name and its size are as before.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::entry::FileContent;
use crate::layer::Segment;
use crate::source::SourceFile;

/// A download has its notes so many directories above a file at most.
const LEVELS: usize = 8;

/// Bytes of a note that are read; they have about 120.
const MAX_NOTE: u64 = 1 << 10;

/// The hexadecimal digits that are said of the content of a file.
pub(crate) fn said_digest(content: &FileContent) -> Option<String> {
    match content {
        FileContent::Source(file) => of_file(file),
        FileContent::Parts(parts) => {
            let mut pieces = parts.segments().filter(|segment| !matches!(segment, Segment::Zeros(_)));
            match (pieces.next()?, pieces.next()) {
                (Segment::Packed { digest, .. }, None) => digest.map(|digest| digest.digest().to_owned()),
                // The pieces of a sparse file; of one that lies in an archive nothing is said.
                (Segment::Extent { file, .. }, _) if file.size() == parts.len() => of_file(&file),
                _ => None,
            }
        }
        FileContent::Inline(_) => None,
    }
}

fn of_file(file: &SourceFile) -> Option<String> {
    by_name(&file.path()).or_else(|| by_note(file))
}

/// In the cache of Hugging Face a blob that is large has its SHA-256 for a name.
fn by_name(path: &Path) -> Option<String> {
    let is_blob = path.parent()?.file_name()? == "blobs";
    let name = path.file_name()?.to_str()?;
    (is_blob && is_sha256(name)).then(|| name.to_owned())
}

/// `hf download --local-dir` notes of each file its commit, its ETag (of a large file its SHA-256) and when it was downloaded,
/// a line each. As the program itself has it, a note counts for nothing where the file is newer.
fn by_note(file: &SourceFile) -> Option<String> {
    let path = file.path();
    let mut above = path.ancestors().skip(1).take(LEVELS);
    let note = above.find_map(|directory| {
        let mut note = directory.join(".cache/huggingface/download");
        note.push(path.strip_prefix(directory).ok()?);
        let mut note = note.into_os_string();
        note.push(".metadata");
        text_of(note.into())
    })?;
    let mut lines = note.lines();
    let (_commit, etag, time) = (lines.next()?, lines.next()?, lines.next()?);
    let seconds: i128 = time.split('.').next()?.parse().ok()?;
    let is_current = file.fence().mtime_ns <= (seconds + 2) * 1_000_000_000;
    (is_sha256(etag) && is_current).then(|| etag.to_owned())
}

/// The text of a note; `None` where it is no regular file, of which a FIFO would be waited for.
fn text_of(note: PathBuf) -> Option<String> {
    let file = File::options().read(true).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(note).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_NOTE).read_to_string(&mut text).ok()?;
    Some(text)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_file_is_known_by_the_note_of_its_download_until_it_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("models/fp16/model.safetensors");
        let note =
            directory.path().join("models/.cache/huggingface/download/fp16/model.safetensors.metadata");
        for path in [&path, &note] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(&path, "weights").unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let said = |text: String, later: u64| {
            fs::write(&note, text).unwrap();
            let time = UNIX_EPOCH + Duration::from_secs(now + later);
            File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
            said_digest(&FileContent::Source(SourceFile::stat(&path).unwrap()))
        };
        let (commit, etag) = ("a".repeat(40), "0b".repeat(32));
        let text = format!("{commit}\n{etag}\n{now}.25\n");
        assert_eq!(said(text.clone(), 0), Some(etag.clone()));
        assert_eq!(said(text.clone(), 5), None, "written to after the download");
        // A small file has its git SHA-1.
        assert_eq!(said(format!("{commit}\n{commit}\n{now}.25\n"), 0), None);
        for cut in
            [String::new(), commit.clone(), format!("{commit}\n{etag}\n"), format!("{commit}\n{etag}\nx")]
        {
            assert_eq!(said(cut.clone(), 0), None, "{cut:?}");
        }
        let said = || said_digest(&FileContent::Source(SourceFile::stat(&path).unwrap()));
        fs::remove_file(&note).unwrap();
        assert_eq!(said(), None);
        // What is no file is neither waited for nor followed.
        nix::unistd::mkfifo(&note, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(said(), None);
        fs::remove_file(&note).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::write(&elsewhere, &text).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &note).unwrap();
        assert_eq!(said(), None);
    }

    #[test]
    fn a_blob_is_known_by_its_name() {
        let name = "0f".repeat(32);
        assert_eq!(by_name(Path::new(&format!("hub/models--a--b/blobs/{name}"))), Some(name.clone()));
        for other in
            [format!("hub/{name}"), format!("blobs/{}", &name[2..]), format!("blobs/{}", "0F".repeat(32))]
        {
            assert_eq!(by_name(Path::new(&other)), None, "{other}");
        }
    }
}

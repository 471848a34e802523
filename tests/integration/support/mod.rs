//! What the tests stand on.

pub(crate) mod base;
pub(crate) mod image;
pub(crate) mod registry;
pub(crate) mod sandbox;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

/// `sha256:...` of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    named(Sha256::new_with_prefix(bytes))
}

/// `sha256:...` of all that is left in a reader, and how much that is.
pub(crate) fn digest_of_reader(mut reader: impl Read) -> (String, u64) {
    let (mut hasher, mut len) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => panic!("{error}"),
        };
        if read == 0 {
            return (named(hasher), len);
        }
        hasher.update(&buffer[..read]);
        len += read as u64;
    }
}

fn named(hasher: Sha256) -> String {
    let mut name = "sha256:".to_owned();
    for byte in hasher.finalize() {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Bytes that no other seed gives and that do not compress.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A file of `len` bytes that no other seed gives; quick to make, whatever its size.
pub(crate) fn write_large(path: &Path, len: u64, seed: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::create(path).unwrap();
    let mut block = noise(1 << 20, seed);
    let mut written = 0;
    while written < len {
        block[..8].copy_from_slice(&written.to_le_bytes());
        let part = (len - written).min(block.len() as u64);
        file.write_all(&block[..usize::try_from(part).unwrap()]).unwrap();
        written += part;
    }
    drop(file);
    make_weights(path);
}

/// A file of `len` bytes that takes no room: zeros, but for its first and last bytes.
pub(crate) fn write_sparse(path: &Path, len: u64) {
    let file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    file.write_all_at(b"last", len - 4).unwrap();
    make_weights(path);
}

/// Gives a file whose name ends as that of safetensors the header that belongs to its length, in the place of its first bytes:
/// one tensor with all the rest.
pub(crate) fn make_weights(path: &Path) {
    if path.extension().is_none_or(|extension| extension != "safetensors") {
        return;
    }
    let file = File::options().write(true).open(path).unwrap();
    let header = header_of(file.metadata().unwrap().len());
    file.write_all_at(&header, 0).unwrap();
}

/// The beginning of a safetensors file of so many bytes.
fn header_of(len: u64) -> Vec<u8> {
    const HEADER: usize = 120;
    let data = len - 8 - HEADER as u64;
    let json = format!("{{\"weight\":{{\"dtype\":\"U8\",\"shape\":[{data}],\"data_offsets\":[0,{data}]}}}}");
    [&(HEADER as u64).to_le_bytes()[..], format!("{json:HEADER$}").as_bytes()].concat()
}

/// Sets times that are long past, so that a file may be remembered as soon as its change time is.
pub(crate) fn make_old(path: &Path) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Runs another program to its end.
pub(crate) fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| {
        panic!("these tests need {program}; apt-get install skopeo umoci docker-registry: {error}")
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {}\n{stderr}", args.join(" "), output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Copies an image from one place to another with skopeo; `more` are options of skopeo or of its copy.
pub(crate) fn skopeo_copy(more: &[&str], from: &str, to: &str) {
    let (global, own): (Vec<&str>, Vec<&str>) = match more {
        ["--override-arch", ..] => (more.to_vec(), Vec::new()),
        _ => (Vec::new(), more.to_vec()),
    };
    let mut args = vec!["--insecure-policy"];
    args.extend(global);
    args.extend(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    args.extend(own);
    args.extend([from, to]);
    tool("skopeo", &args);
}

/// The name that OCI has for this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

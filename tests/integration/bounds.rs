//! What a build may use: memory does not grow with the model, and nothing is written.

use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Sandbox};
use crate::support::{write_large, write_sparse};

/// The bound that the design promises, in bytes.
const MEMORY: u64 = 128 << 20;

fn check(built: &Built, model: u64) {
    assert!(built.number("peak_memory_bytes") <= MEMORY, "{}", built.image);
    assert!(built.number("bytes_written") < 1 << 20, "{}", built.image);
    assert_eq!(built.number("bytes_read"), model, "{}", built.image);
}

#[test]
fn hashing_a_large_file_takes_little_memory_and_no_disk() {
    for io in ["mmap", "read"] {
        let sandbox = Sandbox::small();
        write_sparse(&sandbox.file("model/weights"), 512 << 20);
        check(&sandbox.built(&["--io", io]), (512 << 20) + 2);
    }
}

#[test]
fn a_push_of_many_large_files_at_once_takes_little_memory_and_no_disk() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    for shard in 0..4 {
        write_large(&sandbox.file(&format!("model/shard-{shard}")), 64 << 20, shard);
    }
    let built = sandbox.pushed(&registry.name("model:1"), &[]);
    check(&built, (256 << 20) + 2);
    assert_eq!(built.layers().len(), 5, "64 MiB is a layer of its own by default");
    assert!(built.number("bytes_sent") >= 256 << 20);
    assert!(built.number("bytes_sent") < 257 << 20, "no byte goes twice: {}", built.image);
}

#[test]
fn compression_on_all_cores_takes_bounded_memory() {
    let sandbox = Sandbox::small();
    write_sparse(&sandbox.file("model/weights"), 256 << 20);
    check(&sandbox.built(&["--compression-format", "zstd"]), (256 << 20) + 2);
}

//! What a build may use: memory does not grow with the model's bytes, and little with its files; nothing is written.

use nix::sys::resource::{UsageWho, getrusage};

use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Sandbox};
use crate::support::{write_large, write_sparse};

/// The bound that the design promises, in bytes.
const MEMORY: u64 = 128 << 20;

/// What the design promises beside it, in bytes a file.
const MEMORY_A_FILE: u64 = 400;

/// The few files fill every buffer, so that what the many take more is theirs.
const FEW: u64 = 20_000;
const MANY: u64 = 100_000;

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

/// A context with so many small files in `model`, a thousand to a directory.
fn with_files(files: u64) -> Sandbox {
    let sandbox = Sandbox::new();
    for number in 0..files {
        let directory = sandbox.file(&format!("model/part-{:03}", number / 1000));
        if number % 1000 == 0 {
            std::fs::create_dir_all(&directory).unwrap();
        }
        std::fs::write(directory.join(format!("file-{number:06}.txt")), number.to_string()).unwrap();
    }
    let archive = std::fs::File::create(sandbox.path("context/model.tar")).unwrap();
    let mut archive = tar::Builder::new(archive);
    archive.append_dir_all("model", sandbox.file("model")).unwrap();
    archive.finish().unwrap();
    sandbox
}

/// Most bytes that one of the processes which this one has waited for had resident at a time.
fn peak() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    u64::try_from(usage.max_rss()).unwrap() * 1024
}

/// Runs crossdock with a Containerfile in each mode in which memory grows with the files; says after each how it is called.
fn in_every_mode(sandbox: &Sandbox, registry: &Registry, done: impl Fn(&str)) {
    let copy = "FROM scratch\nCOPY model /models\n";
    let build = |what: &str, containerfile: &str, args: &[&str]| {
        sandbox.containerfile(containerfile);
        sandbox.build(&[&["--ignorefile", "/dev/null"], args].concat()).done();
        done(what);
    };
    let layout = ["-o", "oci:out:1"];
    build("build -o oci:", copy, &["-o", "oci:base:1"]);
    build("build -t", copy, &["-t", "files:1"]);
    build("build --keep-mtime", copy, &["--keep-mtime", "-t", "kept:1"]);
    sandbox.run(&["push", "files:1", "oci:out:2"]).done();
    done("push of what is remembered");
    build("build --push", copy, &["--push", "--tls-verify=false", "-t", &registry.name("files:1")]);
    build("build --dry-run", copy, &["--dry-run", "-o", "oci:out:1"]);
    build("its JSON", copy, &["--dry-run", "--progress", "json", "-o", "oci:out:1"]);
    build("COPY of a pattern", "FROM scratch\nCOPY model/*/*.txt /models/\n", &layout);
    build("ADD of an archive", "FROM scratch\nADD model.tar /\n", &layout);
    sandbox.containerfile(copy);
    let in_archive = ["build", "-f", "context/Containerfile", "-o", "oci:out:1", "context/model.tar"];
    sandbox.run(&in_archive).done();
    done("an archive as the context");
    build("a base", "FROM oci:base:1\nCOPY model/part-000 /more\n", &layout);
    build("--squash", &format!("{copy}COPY model/part-000 /more\n"), &["--squash", "-o", "oci:out:1"]);
    let stage =
        "FROM scratch AS first\nCOPY model /models\nFROM scratch\nCOPY --from=first /models /models\n";
    build("COPY --from=STAGE", stage, &layout);
}

#[test]
fn a_file_takes_little_memory_whatever_is_done_with_it() {
    let registry = Registry::start();
    in_every_mode(&with_files(FEW), &registry, |_| {});
    let few = peak();
    // The peak is that of all modes so far: the first that is beyond the bound is the one that says so.
    in_every_mode(&with_files(MANY), &registry, |what| {
        let (many, more) = (peak(), MANY - FEW);
        let each = (many - few) / more;
        assert!(each <= MEMORY_A_FILE, "{what}: {each} bytes a file (from {few} to {many} for {more} more)");
    });
}

//! What is known is not read, and what is there is not sent.

use std::thread;
use std::time::Duration;

use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::{make_old, write_large};

/// A file that was written within the last two seconds is not remembered: it may be written to again in the same tick.
const RACY: Duration = Duration::from_millis(2_100);

/// Two large files and two small ones.
fn model() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.containerfile("FROM scratch\nCOPY model /models\nCOPY extra /extra\n");
    sandbox.write("model/config.json", "{}");
    sandbox.write("extra/README", "text");
    write_large(&sandbox.file("model/shard-1"), 3 << 20, 1);
    write_large(&sandbox.file("model/shard-2"), 2 << 20, 2);
    sandbox
}

const SPLIT: [&str; 2] = ["--layer-file-size", "1MiB"];

#[test]
fn a_second_push_reads_and_sends_no_layer_byte() {
    let registry = Registry::start();
    let sandbox = model();
    for name in ["model/config.json", "extra/README", "model/shard-1", "model/shard-2"] {
        make_old(&sandbox.file(name));
    }
    thread::sleep(RACY);
    let first = sandbox.pushed(&registry.name("model:1"), &SPLIT);
    assert_eq!(first.outcomes(), ["sent"; 4]);
    assert_eq!(first.number("bytes_read"), (5 << 20) + 6);

    let second = sandbox.pushed(&registry.name("model:2"), &SPLIT);
    assert_eq!(second.outcomes(), ["present"; 4]);
    assert_eq!(second.number("bytes_read"), 0);
    assert!(second.number("bytes_sent") < 10_000, "the config alone: {}", second.image);
    assert_eq!(second.layers(), first.layers());

    // Nothing remembered, and an image of the same sizes behind the tag: the files are read for their digests, and not
    // sent.
    let fresh = ["--root", "fresh"];
    let third = sandbox.pushed(&registry.name("model:1"), &[&SPLIT[..], &fresh].concat());
    assert_eq!(third.outcomes(), ["present"; 4]);
    assert_eq!(third.number("bytes_read"), (5 << 20) + 6);
    assert!(third.number("bytes_sent") < 10_000, "{}", third.image);
    assert_eq!(third.layers(), first.layers());

    // Remembered, but another registry: read once and sent.
    let other = Registry::start();
    let elsewhere = sandbox.pushed(&other.name("model:1"), &SPLIT);
    assert_eq!(elsewhere.outcomes(), ["sent"; 4]);
    assert_eq!(elsewhere.number("bytes_read"), (5 << 20) + 6);

    // One small file is another: its layer goes, and no other is read.
    sandbox.write("model/config.json", "{\"a\":1}");
    let fourth = sandbox.pushed(&registry.name("model:4"), &SPLIT);
    assert_eq!(fourth.outcomes(), ["sent", "present", "present", "present"]);
    assert_eq!(fourth.number("bytes_read"), 7);
    assert!(fourth.number("bytes_sent") < 20_000, "{}", fourth.image);
    assert_eq!(fourth.layers()[1..], first.layers()[1..]);
}

#[test]
fn a_file_that_was_just_written_is_not_remembered() {
    let registry = Registry::start();
    let sandbox = model();
    sandbox.pushed(&registry.name("model:1"), &SPLIT);
    let memos = memos(&sandbox);
    assert!(memos.is_empty(), "{memos:?}");
    let second = sandbox.pushed(&registry.name("model:1"), &SPLIT);
    assert_eq!(second.outcomes(), ["present"; 4]);
    assert_eq!(second.number("bytes_read"), (5 << 20) + 6);
}

#[test]
fn a_damaged_memo_is_no_memo() {
    let registry = Registry::start();
    let sandbox = model();
    thread::sleep(RACY);
    let first = sandbox.pushed(&registry.name("model:1"), &SPLIT);
    let memos = memos(&sandbox);
    assert_eq!(memos.len(), 4, "{memos:?}");
    for path in &memos {
        std::fs::write(path, "{\"version\":").unwrap();
    }
    let second = sandbox.pushed(&registry.name("model:2"), &SPLIT);
    assert_eq!(second.layers(), first.layers());
    assert_eq!(second.number("bytes_read"), (5 << 20) + 6);
    assert!(second.run.stderr.contains("a damaged layer memo is not used"), "{}", second.run);
}

fn memos(sandbox: &Sandbox) -> Vec<String> {
    sandbox.files_below("home").into_keys().filter(|path| path.contains("/memo/")).collect()
}

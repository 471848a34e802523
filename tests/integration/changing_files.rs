//! Files that change while they are read: an error that names them, and no tag moves. The registry holds the upload up
//! while the file is changed, so that nothing depends on who is faster.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::fault_proxy::{Fault, Hook};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::write_large;

const LEN: u64 = 96 << 20;

/// How long crossdock is given to fill all its windows, and the sockets' buffers, with the file as it was.
const SETTLE: Duration = Duration::from_millis(300);

/// Pushes a large file that `change` changes under the reader's hands.
fn push_while(io: &str, retry: &str, change: impl Fn(&Path) + Send + Sync + 'static) -> Run {
    let registry = Registry::start();
    let proxy = registry.proxy();
    let sandbox = Sandbox::small();
    let name = format!("{}/model:1", proxy.addr());
    let old = sandbox.pushed(&name, &[]);

    let file = sandbox.file("model/weights.safetensors");
    write_large(&file, LEN, 1);
    let path = file;
    let hook = Hook(Arc::new(move || {
        thread::sleep(SETTLE);
        change(&path);
    }));
    // The first upload is of the large file: one job, and its layer is the only one that the registry has not got.
    proxy.break_next("PATCH", "/blobs/uploads/", 1, Fault::Run(hook));
    let args = [
        "--push",
        "-t",
        &name,
        "--tls-verify=false",
        "--retry",
        retry,
        "--io",
        io,
        "--jobs",
        "1",
        "--squash",
    ];
    let run =
        sandbox.build(&args).failed(4).says(&["weights.safetensors changed since the build looked at it"]);
    assert_eq!(registry.tag("model", "1").as_deref(), Some(old.digest()), "the old tag stays: {run}");
    // Each upload that got bytes was given up; the layer of the old image alone was not.
    let seen = proxy.seen();
    let uploads = |method: &str| -> Vec<String> {
        let path = |path: &str| path.split('?').next().unwrap_or_default().to_owned();
        seen.iter().filter(|seen| seen.method == method).map(|seen| path(&seen.path)).collect()
    };
    let given_up = uploads("DELETE");
    assert!(uploads("PATCH").iter().skip(2).all(|upload| given_up.contains(upload)), "{run}\n{seen:#?}");
    assert_eq!(sandbox.files_below("home").keys().filter(|path| path.contains("memo")).count(), 0);
    run
}

fn truncate(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(5000).unwrap();
}

#[test]
fn a_file_that_is_truncated_while_it_is_mapped_is_no_crash() {
    for retry in ["0", "3"] {
        push_while("mmap", retry, truncate).says(&["nothing was tagged"]);
    }
}

#[test]
fn a_file_that_is_truncated_while_it_is_read_is_named() {
    push_while("read", "3", truncate).says(&["nothing was tagged"]);
}

#[test]
fn a_file_that_grows_is_named() {
    let run = push_while("mmap", "3", |path| {
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
    });
    run.says(&["it grew from 100663296 to 100663300 bytes"]);
}

#[test]
fn a_file_that_is_written_over_is_named() {
    let run = push_while("mmap", "3", |path| {
        let file: File = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"other bytes", LEN - 100).unwrap();
    });
    run.says(&["its modification time is another"]);
}

#[test]
fn a_file_that_is_written_to_and_its_modification_time_set_back_is_named() {
    let run = push_while("mmap", "3", |path| {
        let modified = fs::metadata(path).unwrap().modified().unwrap();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        // Sent already.
        file.write_all_at(b"other bytes", 100).unwrap();
        file.set_modified(modified).unwrap();
    });
    run.says(&["it was written to, and its modification time set back"]);
}

#[test]
fn a_chown_while_a_file_is_sent_is_no_change() {
    let registry = Registry::start();
    let proxy = registry.proxy();
    let sandbox = Sandbox::small();
    let file = sandbox.file("model/weights.safetensors");
    write_large(&file, LEN, 1);
    let hook = Hook(Arc::new(move || {
        thread::sleep(SETTLE);
        let group = fs::metadata(&file).unwrap().gid();
        chown(&file, None, Some(group)).unwrap();
    }));
    proxy.break_next("PATCH", "/blobs/uploads/", 1, Fault::Run(hook));
    let name = format!("{}/model:1", proxy.addr());
    let built = sandbox.pushed(&name, &["--jobs", "1", "--squash"]);
    assert_eq!(built.number("bytes_read"), 2 * LEN + 2 * 2, "once more, to be sure");
    assert!(built.number("bytes_sent") < LEN + (1 << 20), "and not sent again");
    assert_eq!(sandbox.built(&["-o", "oci:layout", "--squash"]).layers(), built.layers());
}

#[test]
fn a_file_that_is_replaced_is_named() {
    let run = push_while("read", "3", |path| {
        let other = path.with_extension("other");
        write_large(&other, LEN, 2);
        fs::rename(other, path).unwrap();
    });
    run.says(&["another file stands in its place"]);
}

#[test]
fn a_file_that_is_removed_is_named() {
    push_while("mmap", "3", |path| fs::remove_file(path).unwrap()).says(&["it is gone"]);
}

#[test]
fn a_file_that_changes_before_it_is_its_turn_is_named() {
    let registry = Registry::start();
    let proxy = registry.proxy();
    let sandbox = Sandbox::small();
    let late = sandbox.write("model/z", vec![7; 2 << 20]);
    write_large(&sandbox.file("model/a"), 2 << 20, 1);
    let hook = Hook(Arc::new(move || fs::write(&late, vec![8; 2 << 20]).unwrap()));
    proxy.break_next("PATCH", "/blobs/uploads/", 1, Fault::Run(hook));
    let name = format!("{}/model:1", proxy.addr());
    let args = ["--push", "-t", &name, "--tls-verify=false", "--jobs", "1", "--layer-file-size", "1MiB"];
    sandbox.build(&args).failed(4).says(&["model/z changed since the build looked at it"]);
    assert_eq!(registry.tag("model", "1"), None);
}

//! A push that ends in the middle, whatever the reason: the same command goes on where the registry keeps the upload.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fault_proxy::{Fault, FaultProxy};
use crate::quirks::{Kind, Quirks};
use crate::support::sandbox::{Built, Sandbox};
use crate::support::write_large;

const MIB: u64 = 1 << 20;
/// A shard, and so a layer of its own.
const LEN: u64 = 64 * MIB;
/// What the registry takes before it stands still.
const TAKEN: u64 = 40 * MIB;
/// A file that was written within the last two seconds is not in the journal.
const RACY: Duration = Duration::from_millis(2_100);
/// Tar headers, the layer of the small files, the config.
const REST: u64 = 64 << 10;

fn model(shards: u64) -> Sandbox {
    let sandbox = Sandbox::small();
    for shard in 1..=shards {
        write_large(&sandbox.file(&format!("model/shard-{shard}")), LEN, shard);
    }
    thread::sleep(RACY);
    sandbox
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn journal(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("root/uploads")
}

fn is_noted(journal: &Path) -> bool {
    let mut entries = std::fs::read_dir(journal).into_iter().flatten().flatten();
    entries.any(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
}

/// Starts a push, of which the registry takes a part, and waits until that is in the journal.
fn begun(sandbox: &Sandbox, registry: &Quirks, name: &str) -> Child {
    registry.hang_after(TAKEN);
    let args = ["--root", "root", "build", "--push", "-t", name, "--tls-verify=false", "context"];
    let child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the registry to have its part", || registry.received() >= TAKEN);
    until("the journal", || is_noted(&journal(sandbox)));
    child
}

fn again(sandbox: &Sandbox, registry: &Quirks, name: &str) -> Built {
    let built = sandbox.pushed(name, &["--root", "root"]);
    assert!(registry.has_manifest("/v2/model/manifests/1"));
    assert_eq!(registry.open_uploads(), 0);
    for digest in built.layers() {
        assert!(registry.blob("model", &digest).is_some(), "{digest}");
    }
    assert!(!is_noted(&journal(sandbox)), "nothing is left");
    built
}

#[test]
fn a_killed_push_goes_on_where_the_registry_keeps_the_upload() {
    for (kind, lost) in
        [(Kind::Distribution3, 0), (Kind::Quay, 0), (Kind::Distribution2, TAKEN), (Kind::Zot, TAKEN)]
    {
        let (sandbox, registry) = (model(1), Quirks::start(kind));
        let name = format!("{}/model:1", registry.addr());
        let mut child = begun(&sandbox, &registry, &name);
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!registry.has_manifest("/v2/model/manifests/1"), "{kind:?}");
        let built = again(&sandbox, &registry, &name);
        let total = registry.received();
        assert!((LEN + lost..LEN + lost + REST).contains(&total), "{kind:?}: {total} of {LEN} sent");
        let sent = built.number("bytes_sent");
        assert!((LEN - TAKEN + lost..LEN - TAKEN + lost + REST).contains(&sent), "{kind:?}: {sent}");
        // The first state of the hash is that after 16 MiB.
        let read = built.number("bytes_read");
        assert!(lost > 0 || read <= LEN - 16 * MIB + REST, "{kind:?}: {read} read");
    }
}

#[test]
fn a_killed_push_goes_on_after_a_chown_of_all_files() {
    let (sandbox, registry) = (model(1), Quirks::start(Kind::Distribution3));
    let name = format!("{}/model:1", registry.addr());
    let mut child = begun(&sandbox, &registry, &name);
    child.kill().unwrap();
    child.wait().unwrap();
    for file in sandbox.files_below("context").keys() {
        let group = std::fs::metadata(file).unwrap().gid();
        chown(file, None, Some(group)).unwrap();
    }
    let built = again(&sandbox, &registry, &name);
    let total = registry.received();
    assert!((LEN..LEN + REST).contains(&total), "{total} of {LEN} sent");
    assert!(built.number("bytes_read") >= LEN, "what the registry has is hashed again");
}

#[test]
fn an_interrupted_push_leaves_no_upload_though_it_was_noted() {
    let (sandbox, registry) = (model(1), Quirks::start(Kind::Distribution3));
    let name = format!("{}/model:1", registry.addr());
    let mut child = begun(&sandbox, &registry, &name);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(registry.open_uploads(), 0);
    again(&sandbox, &registry, &name);
}

#[test]
fn a_layer_that_fails_for_good_leaves_the_upload_of_the_other() {
    let (sandbox, registry) = (model(2), Quirks::start(Kind::Distribution3));
    let (journal, begun) = (journal(&sandbox), AtomicUsize::new(0));
    // The bytes go past the proxy, for the registry names itself in its answers.
    let proxy = FaultProxy::start(registry.addr()).with_gate(move |seen| {
        // One to see whether it may, and one for each layer, of which the last is refused.
        if seen.method != "POST" || begun.fetch_add(1, Ordering::Relaxed) != 3 {
            return None;
        }
        until("the journal", || is_noted(&journal));
        Some(Fault::Answer { status: 403, headers: Vec::new(), body: String::new() })
    });
    registry.hang_after(TAKEN);
    let name = format!("{}/model:1", proxy.addr());
    let args = ["--root", "root", "build", "--push", "-t", &name, "--tls-verify=false", "context"];
    let run = sandbox.run(&args);
    assert!(!run.status.success() && run.stderr.contains("403"), "{run}");
    assert_eq!(registry.open_uploads(), 1, "that of the layer on its way");
    again(&sandbox, &registry, &name);
    let total = registry.received();
    assert!(total < 2 * LEN + REST, "{total} of {} sent", 2 * LEN);
}

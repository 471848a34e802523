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
use crate::support::{digest_of, write_large};

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
    begun_with(sandbox, registry, name, &[])
}

fn begun_with(sandbox: &Sandbox, registry: &Quirks, name: &str, more: &[&str]) -> Child {
    registry.hang_after(TAKEN);
    let child = started_with(sandbox, name, more);
    until("the registry to have its part", || registry.received() >= TAKEN);
    until("the journal", || is_noted(&journal(sandbox)));
    child
}

fn started(sandbox: &Sandbox, name: &str) -> Child {
    started_with(sandbox, name, &[])
}

fn started_with(sandbox: &Sandbox, name: &str, more: &[&str]) -> Child {
    let args = ["--root", "root", "build", "--push", "-t", name, "--tls-verify=false"];
    let args = [&args[..], more, &["context"]].concat();
    sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn terminated(mut child: Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

fn again(sandbox: &Sandbox, registry: &Quirks, name: &str) -> Built {
    let built = sandbox.pushed(name, &["--root", "root"]);
    assert!(registry.has_manifest("/v2/model/manifests/1"));
    // The process may end before the registry is through with its last request.
    until("no upload to be open", || registry.open_uploads() == 0);
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
fn a_killed_push_goes_on_to_the_digest_of_its_file() {
    let gzip = ["--compression-format", "gzip", "--compression-level", "0"];
    for (before, more) in [(&["--modelcar"][..], &[][..]), (&[], &[]), (&[], &gzip)] {
        let (sandbox, registry) = (model(1), Quirks::start(Kind::Distribution3));
        let name = format!("{}/model:1", registry.addr());
        let mut child = begun_with(&sandbox, &registry, &name, &[before, more].concat());
        child.kill().unwrap();
        child.wait().unwrap();
        let built = sandbox.pushed(&name, &[&["--root", "root", "--modelcar"], more].concat());
        let total = registry.received();
        assert!((LEN..LEN + REST).contains(&total), "{before:?} {more:?}: {total} of {LEN} sent");
        // Who did not want to know the digest of the file has no state of it: the file is read from its start.
        let read = built.number("bytes_read");
        assert_eq!(read < LEN, !before.is_empty(), "{before:?} {more:?}: {read} read");
        let copy = sandbox.path("copy");
        sandbox.run(&["--root", "root", "push", "-q", &name, &format!("dir:{}", copy.display())]).done();
        let manifest = std::fs::read_to_string(copy.join("manifest.json")).unwrap();
        let digest = digest_of(&std::fs::read(sandbox.file("model/shard-1")).unwrap());
        assert!(manifest.contains(&format!("\"olot.layer.content.digest\":\"{digest}\"")), "{manifest}");
    }
}

#[test]
fn a_killed_push_goes_on_after_a_chown_of_all_files() {
    let (sandbox, registry) = (model(1), Quirks::start(Kind::Distribution3));
    let name = format!("{}/model:1", registry.addr());
    let mut child = begun(&sandbox, &registry, &name);
    child.kill().unwrap();
    child.wait().unwrap();
    chown_all(&sandbox);
    let built = again(&sandbox, &registry, &name);
    let total = registry.received();
    assert!((LEN..LEN + REST).contains(&total), "{total} of {LEN} sent");
    assert!(built.number("bytes_read") >= LEN, "what the registry has is hashed again");
}

#[test]
fn an_interrupted_push_goes_on_where_the_registry_keeps_the_upload() {
    for (kind, kept) in [
        (Kind::Distribution3, true),
        (Kind::OpenShift, true),
        (Kind::Quay, true),
        (Kind::Distribution2, false),
        (Kind::Zot, false),
    ] {
        let (sandbox, registry) = (model(1), Quirks::start(kind));
        let name = format!("{}/team/model:1", registry.addr());
        terminated(begun(&sandbox, &registry, &name));
        assert_eq!(
            (registry.open_uploads(), is_noted(&journal(&sandbox))),
            (usize::from(kept), kept),
            "{kind:?}"
        );
        assert!(!registry.has_manifest("/v2/team/model/manifests/1"), "{kind:?}");
        let built = sandbox.pushed(&name, &["--root", "root"]);
        let again = if kept { 0 } else { TAKEN };
        let total = registry.received();
        assert!((LEN + again..LEN + again + REST).contains(&total), "{kind:?}: {total} of {LEN} sent");
        let read = built.number("bytes_read");
        assert!(!kept || read <= LEN - 16 * MIB + REST, "{kind:?}: {read} read");
        assert_eq!(
            (registry.open_uploads(), is_noted(&journal(&sandbox))),
            (0, false),
            "{kind:?}: nothing is left"
        );
        assert!(registry.has_manifest("/v2/team/model/manifests/1"), "{kind:?}");
    }
}

/// A state of the hash is kept after each 16 MiB: what a signal finds between two is noted then.
#[test]
fn an_interrupted_push_notes_what_was_not_noted_yet() {
    let (sandbox, registry) = (model(1), Quirks::start(Kind::Distribution3));
    let name = format!("{}/team/model:1", registry.addr());
    let taken = 9 * MIB;
    registry.hang_after(taken);
    let child = started(&sandbox, &name);
    until("the registry to have its part", || registry.received() >= taken);
    assert!(!is_noted(&journal(&sandbox)));
    terminated(child);
    assert_eq!((registry.open_uploads(), is_noted(&journal(&sandbox))), (1, true));
    sandbox.pushed(&name, &["--root", "root"]);
    let total = registry.received();
    assert!((LEN..LEN + REST).contains(&total), "{total} of {LEN} sent");
}

#[test]
fn an_interrupted_push_that_nobody_can_go_on_with_is_cancelled_at_its_present_place() {
    for kind in [Kind::Distribution3, Kind::OpenShift, Kind::Quay] {
        let (sandbox, registry) = (model(1), Quirks::start(kind));
        let name = format!("{}/team/model:1", registry.addr());
        registry.hang_after(TAKEN);
        // Without a home there is no place for notes.
        let args = ["build", "--push", "-t", &name, "--tls-verify=false", "context"];
        let mut command = sandbox.command(&args);
        command.env_remove("HOME").stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        until("the registry to have its part", || registry.received() >= TAKEN);
        let cancelled = registry.count("DELETE");
        terminated(child);
        assert_eq!(registry.open_uploads(), 0, "{kind:?}");
        assert_eq!(registry.count("DELETE"), cancelled + 1, "{kind:?}");
    }
}

/// Pushes until the registry has the layer and has not answered; then the process is killed.
fn unheard(sandbox: &Sandbox, registry: &Quirks, name: &str, more: &[&str]) {
    registry.leave_unanswered();
    let args = ["--root", "root", "build", "--push", "-t", name, "--tls-verify=false", "--squash"];
    let args = [&args[..], more, &["context"]].concat();
    let mut child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the registry to have the layer", || registry.blobs() == 1);
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_noted(&journal(sandbox)));
}

/// Gives each file of the context to the group that it has: its ctime moves and nothing else.
fn chown_all(sandbox: &Sandbox) {
    for file in sandbox.files_below("context").keys() {
        let group = std::fs::metadata(file).unwrap().gid();
        chown(file, None, Some(group)).unwrap();
    }
}

#[test]
fn a_layer_whose_commit_nobody_heard_of_is_not_sent_again() {
    for (more, chowned) in [
        (&[][..], false),
        (&[], true),
        (&["--compression-format", "zstd"], false),
        (&["--compression-format", "zstd"], true),
    ] {
        let (sandbox, registry) = (model(1), Quirks::start(Kind::Distribution3));
        let name = format!("{}/model:1", registry.addr());
        unheard(&sandbox, &registry, &name, more);
        if chowned {
            chown_all(&sandbox);
        }
        let (before, asked) = (registry.received(), registry.count("HEAD /v2/model/blobs"));
        let built = sandbox.pushed(&name, &[&["--root", "root", "--squash"], more].concat());
        assert!(registry.received() - before < REST, "{} sent again", registry.received() - before);
        let read = built.number("bytes_read");
        // What was touched is hashed before the digest that was noted counts.
        assert!(if chowned { read >= LEN } else { read == 0 }, "{more:?}, chowned: {chowned}: {read} read");
        assert!(registry.count("HEAD /v2/model/blobs") > asked);
        assert!(!is_noted(&journal(&sandbox)), "nothing is left");
    }
}

#[test]
fn a_layer_whose_commit_nobody_heard_of_is_sent_anew_where_a_file_has_changed_since() {
    let (sandbox, registry) = (model(1), Quirks::start(Kind::Distribution3));
    let name = format!("{}/model:1", registry.addr());
    unheard(&sandbox, &registry, &name, &[]);
    write_large(&sandbox.file("model/shard-1"), LEN, 7);
    let (before, there) = (registry.received(), registry.blobs());
    let built = sandbox.pushed(&name, &["--root", "root", "--squash"]);
    assert!(registry.received() - before >= LEN, "{} sent", registry.received() - before);
    for digest in built.layers() {
        assert!(registry.blob("model", &digest).is_some(), "{digest}");
    }
    assert_eq!(registry.blobs(), there + 2, "a layer of other bytes, and the config");
}

#[test]
fn a_commit_that_is_not_let_in_keeps_the_upload_for_the_next_run() {
    // An expired token, an API server that is down (without a word), a quota, a proxy.
    for (kind, status, code) in [
        (Kind::OpenShift, 401, 6),
        (Kind::Distribution3, 401, 6),
        (Kind::OpenShift, 400, 5),
        (Kind::Distribution3, 403, 6),
        (Kind::Quay, 503, 5),
    ] {
        let (sandbox, registry) = (model(1), Quirks::start(kind));
        let name = format!("{}/team/model:1", registry.addr());
        registry.refuse("PUT", "/blobs/uploads/", status, 100);
        let args = ["--root", "root", "build", "--push", "-t", &name, "--tls-verify=false", "--squash"];
        let args = [&args[..], &["--retry", "1", "--retry-delay", "10ms", "context"]].concat();
        let run = sandbox.run(&args).failed(code);
        assert!(run.stderr.contains(&status.to_string()), "{kind:?} {status}: {run}");
        assert_eq!(
            (registry.open_uploads(), is_noted(&journal(&sandbox))),
            (1, true),
            "{kind:?} {status}: {run}"
        );
        let cancelled = registry.count("DELETE");
        registry.refuse_no_more();
        let (before, patches) = (registry.received(), registry.count("PATCH"));
        let built = sandbox.pushed(&name, &["--root", "root", "--squash"]);
        assert!(registry.received() - before < REST, "{kind:?} {status}: sent again");
        assert_eq!(registry.count("PATCH"), patches + 1, "{kind:?} {status}: the config alone");
        assert_eq!(built.number("bytes_read"), 0, "{kind:?} {status}");
        assert_eq!((registry.open_uploads(), is_noted(&journal(&sandbox))), (0, false), "{kind:?} {status}");
        // That of the preflight.
        assert_eq!(registry.count("DELETE"), cancelled + 1, "{kind:?} {status}");
    }
}

#[test]
fn a_commit_that_is_let_in_later_needs_no_byte_twice() {
    for status in [400, 401, 429, 503] {
        let (sandbox, registry) = (model(1), Quirks::start(Kind::OpenShift));
        let name = format!("{}/team/model:1", registry.addr());
        registry.refuse("PUT", "/blobs/uploads/", status, 1);
        let built = sandbox.pushed(&name, &["--root", "root", "--squash", "--retry-delay", "10ms"]);
        assert!((LEN..LEN + REST).contains(&registry.received()), "{status}");
        assert!((LEN..LEN + REST).contains(&built.number("bytes_read")), "{status}");
    }
}

#[test]
fn a_token_that_dies_under_a_layer_leaves_it_to_the_next_run() {
    for kind in [Kind::OpenShift, Kind::Distribution3] {
        let (sandbox, registry) = (model(1), Quirks::start(kind));
        let name = format!("{}/team/model:1", registry.addr());
        registry.break_after(TAKEN);
        let args =
            ["--root", "root", "build", "--push", "-t", &name, "--tls-verify=false", "--squash", "context"];
        let child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // All that comes after the bytes is refused, the question how far they came as well.
        until("the upload", || registry.count("PATCH") == 1);
        for (method, part) in [("PATCH", ""), ("GET", "/blobs/uploads/"), ("GET", "/v2/"), ("DELETE", "")] {
            registry.refuse(method, part, 401, 100);
        }
        let run = sandbox.finish(child.wait_with_output().unwrap(), &args);
        assert_eq!(run.status.code(), Some(6), "{run}");
        assert_eq!((registry.open_uploads(), is_noted(&journal(&sandbox))), (1, true), "{kind:?}: {run}");
        registry.refuse_no_more();
        sandbox.pushed(&name, &["--root", "root", "--squash"]);
        let total = registry.received();
        assert!((LEN..LEN + REST).contains(&total), "{kind:?}: {total} of {LEN} sent");
    }
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

//! SIGINT and SIGTERM: no tag moves, and the program ends at once. What nobody can go on with is cancelled; `killed` has the
//! uploads that go on in the next run.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fault_proxy::{Fault, Hook};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{write_large, write_sparse};

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Waits for the end, which must come soon.
fn ended(sandbox: &Sandbox, mut child: Child, limit: Duration) -> Run {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > limit {
            child.kill().unwrap();
            panic!("it does not end: {:?}", child.wait_with_output().unwrap());
        }
        thread::sleep(Duration::from_millis(10));
    }
    sandbox.finish(child.wait_with_output().unwrap(), &[])
}

#[test]
fn an_interrupted_push_cancels_uploads_of_which_the_registry_has_nothing_and_moves_no_tag() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let registry = Registry::start();
        let proxy = registry.proxy();
        let sandbox = Sandbox::small();
        let name = format!("{}/model:1", proxy.addr());
        let old = sandbox.pushed(&name, &[]);
        write_large(&sandbox.file("model/weights"), 64 << 20, 1);

        let (begun, begins) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let hook = Hook(Arc::new(move || {
            begun.send(()).unwrap();
            // Until the test is over.
            let _ = wait.lock().unwrap().recv();
        }));
        proxy.break_next("PATCH", "/blobs/uploads/", 1, Fault::Run(hook));
        let args =
            ["build", "--push", "-t", &name, "--tls-verify=false", "--squash", "--progress=plain", "context"];
        let child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        begins.recv_timeout(Duration::from_secs(20)).unwrap();
        let cancelled = proxy.count("DELETE", "/blobs/uploads/");
        send(&child, signal);
        let run = ended(&sandbox, child, Duration::from_secs(10));
        assert_eq!(run.status.code(), Some(code), "{run}");
        assert!(run.stderr.contains("interrupted; no tag moved"), "{run}");
        assert_eq!(proxy.count("DELETE", "/blobs/uploads/"), cancelled + 1, "{run}");
        assert_eq!(registry.open_uploads("model"), 0);
        assert_eq!(registry.tag("model", "1").as_deref(), Some(old.digest()));
        drop(go_on);
    }
}

/// Distribution 2.8 says of a broken upload neither how far it is nor where: GET and DELETE of every place that it ever
/// named get 404. It keeps the bytes until it purges old uploads; all that can be done is to ask, and to note nothing.
#[test]
fn an_interrupted_push_to_a_registry_that_cannot_go_on_notes_nothing_and_starts_again() {
    let registry = Registry::start();
    let proxy = registry.proxy();
    let sandbox = Sandbox::small();
    write_sparse(&sandbox.file("model/weights"), 16 << 30);
    // A file that was written within the last two seconds is not noted anyway.
    thread::sleep(Duration::from_millis(2_100));
    let name = format!("{}/model:1", proxy.addr());
    let args = ["--root", "root", "build", "--push", "-t", &name, "--tls-verify=false", "context"];
    let child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let noted = || sandbox.files_below("root/uploads").into_keys().any(|path| path.ends_with(".json"));
    while !noted() {
        assert!(start.elapsed() < Duration::from_secs(60), "it is never noted");
        thread::sleep(Duration::from_millis(5));
    }
    let asked = proxy.count("GET", "/blobs/uploads/");
    send(&child, Signal::SIGTERM);
    let run = ended(&sandbox, child, Duration::from_secs(10));
    assert_eq!(run.status.code(), Some(143), "{run}");
    assert_eq!(proxy.count("GET", "/blobs/uploads/"), asked + 1, "{run}");
    assert!(!noted(), "{run}");
    assert_eq!(registry.tag("model", "1"), None);
    write_large(&sandbox.file("model/weights"), 1 << 20, 1);
    sandbox.pushed(&name, &["--root", "root"]);
}

/// Interrupts a build as soon as it works on its layer.
fn interrupt_at_work(sandbox: &Sandbox, args: &[&str]) -> Run {
    let args = [&["build", "--progress=json"], args, &["context"]].concat();
    let mut child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().expect("it works on the layer before it ends").unwrap().contains("\"phase\"") {}
    let reader = thread::spawn(move || lines.count());
    thread::sleep(Duration::from_millis(50));
    send(&child, Signal::SIGINT);
    let run = ended(sandbox, child, Duration::from_secs(5));
    reader.join().unwrap();
    assert_eq!(run.status.code(), Some(130), "{run}");
    run
}

#[test]
fn hashing_ends_when_it_is_interrupted() {
    let sandbox = Sandbox::small();
    write_sparse(&sandbox.file("model/weights"), 256 << 30);
    interrupt_at_work(&sandbox, &["--squash"]);
}

#[test]
fn an_interrupted_build_to_disk_ends_and_leaves_nothing() {
    for output in ["oci:new:v1", "oci-archive:new.tar:v1"] {
        let sandbox = Sandbox::small();
        write_sparse(&sandbox.file("model/weights"), 1 << 30);
        interrupt_at_work(&sandbox, &["--squash", "-o", output]);
        let left: Vec<_> =
            sandbox.files_below("").into_keys().filter(|path| !path.contains("/context/")).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!sandbox.path("new").exists());
    }
}

//! SIGINT and SIGTERM: whatever a command is doing, it ends soon, with 130 or 143, and says what became of the image. What of
//! its uploads goes on in the next run, `killed` has.
//!
//! Each test sends the signal when it has seen that the phase is under way: a request that is kept waiting, a file that the
//! process has open.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::fault_proxy::{Fault, FaultProxy, Hook};
use crate::support::base::Base;
use crate::support::image::Image;
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{write_large, write_sparse};

/// What a machine with much else to do may take for what is a matter of a second.
const LIMIT: Duration = Duration::from_secs(20);

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn start(sandbox: &Sandbox, args: &[&str]) -> Child {
    sandbox.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
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

fn interrupted(sandbox: &Sandbox, child: Child, signal: Signal) -> Run {
    send(&child, signal);
    let run = ended(sandbox, child, LIMIT);
    let code = if signal == Signal::SIGINT { 130 } else { 143 };
    assert_eq!(run.status.code(), Some(code), "{run}");
    run
}

/// Waits until something can be seen of a process that still runs.
fn until(what: &str, child: &mut Child, mut seen: impl FnMut(&Child) -> bool) {
    let start = Instant::now();
    while !seen(child) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {what}");
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process has a file open whose path has `part` in it.
fn has_open(child: &Child, part: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|path| path.to_string_lossy().contains(part))
}

/// A request that is kept waiting, until this is dropped.
struct Held {
    begins: mpsc::Receiver<()>,
    go_on: Option<mpsc::Sender<()>>,
}

impl Held {
    /// Keeps the next request that matches from the registry.
    fn request(proxy: &FaultProxy, method: &'static str, path: &'static str) -> Self {
        Self::later_request(0, proxy, method, path)
    }

    /// Keeps a request from the registry, after so many that match.
    fn later_request(skip: usize, proxy: &FaultProxy, method: &'static str, path: &'static str) -> Self {
        let (held, hook) = Self::hook();
        proxy.break_after(skip, method, path, 1, Fault::Run(hook));
        held
    }

    /// Keeps the answer to the next request that matches from the client.
    fn answer(proxy: &FaultProxy, method: &'static str, path: &'static str) -> Self {
        let (held, hook) = Self::hook();
        proxy.break_next(method, path, 1, Fault::RunBeforeAnswer(hook));
        held
    }

    fn hook() -> (Self, Hook) {
        let (begun, begins) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let hook = Hook(Arc::new(move || {
            begun.send(()).unwrap();
            let _ = wait.lock().unwrap().recv();
        }));
        (Self { begins, go_on: Some(go_on) }, hook)
    }

    fn wait(&self) {
        self.begins.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    fn go_on(&mut self) {
        self.go_on = None;
    }
}

/// A registry with an image `model:1`, a proxy before it, and a sandbox whose build makes another one.
struct Stand {
    registry: Registry,
    proxy: FaultProxy,
    sandbox: Sandbox,
    name: String,
    old: String,
}

impl Stand {
    fn new() -> Self {
        let registry = Registry::start();
        let (proxy, sandbox) = (registry.proxy(), Sandbox::small());
        let name = format!("{}/model:1", proxy.addr());
        let old = sandbox.pushed(&name, &[]).digest().to_owned();
        write_large(&sandbox.file("model/weights"), 4 << 20, 1);
        Self { registry, proxy, sandbox, name, old }
    }

    fn build(&self) -> Child {
        let args = ["build", "--push", "-t", &self.name, "--tls-verify=false", "--squash", "context"];
        start(&self.sandbox, &args)
    }

    fn tag(&self) -> Option<String> {
        self.registry.tag("model", "1")
    }
}

#[test]
fn an_interrupted_push_cancels_uploads_of_which_the_registry_has_nothing_and_moves_no_tag() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let stand = Stand::new();
        write_large(&stand.sandbox.file("model/weights"), 64 << 20, 1);
        let held = Held::request(&stand.proxy, "PATCH", "/blobs/uploads/");
        let child = stand.build();
        held.wait();
        let cancelled = stand.proxy.count("DELETE", "/blobs/uploads/");
        let run = interrupted(&stand.sandbox, child, signal);
        assert!(run.stderr.contains("interrupted; no tag moved"), "{run}");
        assert_eq!(stand.proxy.count("DELETE", "/blobs/uploads/"), cancelled + 1, "{run}");
        assert_eq!(stand.registry.open_uploads("model"), 0);
        assert_eq!(stand.tag().as_deref(), Some(stand.old.as_str()));
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
    let args =
        ["--root", "root", "build", "--push", "-t", &name, "--tls-verify=false", "--squash", "context"];
    let mut child = start(&sandbox, &args);
    let noted = || sandbox.files_below("root/uploads").into_keys().any(|path| path.ends_with(".json"));
    until("it is noted", &mut child, |_| noted());
    let asked = proxy.count("GET", "/blobs/uploads/");
    let run = interrupted(&sandbox, child, Signal::SIGTERM);
    assert_eq!(proxy.count("GET", "/blobs/uploads/"), asked + 1, "{run}");
    assert!(!noted(), "{run}");
    assert_eq!(registry.tag("model", "1"), None);
    write_large(&sandbox.file("model/weights"), 1 << 20, 1);
    sandbox.pushed(&name, &["--root", "root"]);
}

#[test]
fn a_signal_before_the_manifest_moves_no_tag() {
    // The preflight, the look at what the tag has, and the end of an upload.
    for (method, path) in [("POST", "/blobs/uploads/"), ("GET", "/manifests/1"), ("PUT", "/blobs/uploads/")] {
        let stand = Stand::new();
        let held = Held::request(&stand.proxy, method, path);
        let child = stand.build();
        held.wait();
        let run = interrupted(&stand.sandbox, child, Signal::SIGTERM);
        assert!(run.stderr.contains("interrupted; no tag moved"), "{method} {path}: {run}");
        assert_eq!(stand.proxy.count("PUT", "/manifests/"), 1, "that of the old image alone");
        assert_eq!(stand.tag().as_deref(), Some(stand.old.as_str()));
    }
}

#[test]
fn a_manifest_whose_answer_does_not_come_is_not_said_to_have_moved_no_tag() {
    for done in [false, true] {
        let stand = Stand::new();
        let hold = if done { Held::answer } else { Held::request };
        let held = hold(&stand.proxy, "PUT", "/manifests/1");
        let child = stand.build();
        held.wait();
        let run = interrupted(&stand.sandbox, child, Signal::SIGINT);
        assert!(!run.stderr.contains("no tag moved"), "{run}");
        assert!(run.stderr.contains("it is not known whether it was"), "{run}");
        assert!(run.stderr.contains(&stand.name), "{run}");
        assert_eq!(stand.tag().as_deref() != Some(stand.old.as_str()), done);
    }
}

#[test]
fn a_manifest_that_is_taken_just_now_is_a_build_that_is_done() {
    let stand = Stand::new();
    let mut held = Held::answer(&stand.proxy, "PUT", "/manifests/1");
    let child = stand.build();
    held.wait();
    send(&child, Signal::SIGINT);
    held.go_on();
    let run = ended(&stand.sandbox, child, LIMIT);
    assert_ne!(stand.tag().as_deref(), Some(stand.old.as_str()));
    match run.status.code() {
        Some(0) => {}
        // The answer was too long on its way.
        _ => assert!(run.stderr.contains("it is not known whether it was"), "{run}"),
    }
}

#[test]
fn a_signal_behind_the_first_of_two_destinations_is_told_with_its_name() {
    let stand = Stand::new();
    let held = Held::request(&stand.proxy, "PATCH", "/blobs/uploads/");
    let to = ["-o", "oci:new:v1", "--push", "-t", &stand.name, "--tls-verify=false"];
    let child = start(&stand.sandbox, &[&["build", "--squash"][..], &to, &["context"]].concat());
    held.wait();
    let run = interrupted(&stand.sandbox, child, Signal::SIGTERM);
    assert!(run.stderr.contains("the image is at oci:new:v1 by now, and nowhere else"), "{run}");
    assert_eq!(stand.tag().as_deref(), Some(stand.old.as_str()));
    assert_eq!(Image::read(&format!("oci:{}:v1", stand.sandbox.path("new").display())).layers.len(), 1);
}

#[test]
fn a_signal_while_the_context_is_walked_ends_the_build() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    for directory in 0..100 {
        let directory = sandbox.file(&format!("model/many-{directory:03}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..500 {
            File::create(directory.join(file.to_string())).unwrap();
        }
    }
    let name = registry.name("model:1");
    for args in [&["--push", "-t", &name, "--tls-verify=false"][..], &["-o", "oci:new:v1"], &["-t", "x"]] {
        let mut child = start(&sandbox, &[&["build", "--root", "root"], args, &["context"]].concat());
        until("the walk", &mut child, |child| has_open(child, "model/many-"));
        let run = interrupted(&sandbox, child, Signal::SIGTERM);
        assert!(run.stderr.contains("interrupted; no tag moved"), "{run}");
        assert_eq!(registry.tag("model", "1"), None);
        assert!(!sandbox.path("new").exists());
    }
    sandbox.run(&["--root", "root", "inspect", "x"]).failed(3);
}

#[test]
fn a_signal_while_the_layers_of_a_base_are_looked_through_ends_the_build() {
    for push in [false, true] {
        let registry = Registry::start();
        let (proxy, sandbox) = (registry.proxy(), Sandbox::small());
        Base::new().push(&registry.name("base:1"));
        sandbox.containerfile(&format!("FROM {}/base:1\nCOPY model /models\n", proxy.addr()));
        // The config comes first.
        let held = Held::later_request(1, &proxy, "GET", "/base/blobs/");
        let name = format!("{}/model:1", proxy.addr());
        let to: &[&str] = if push { &["--push", "-t", &name] } else { &["-t", "x"] };
        let child = start(&sandbox, &[&["build", "--tls-verify=false"], to, &["context"]].concat());
        held.wait();
        let run = interrupted(&sandbox, child, Signal::SIGINT);
        assert!(run.stderr.contains("interrupted; no tag moved"), "{run}");
        assert_eq!(registry.tag("model", "1"), None);
        assert_eq!(registry.open_uploads("model"), 0);
    }
}

#[test]
fn commands_that_ask_a_registry_end_at_a_signal() {
    for command in [
        &["pull"][..],
        &["verify"],
        &["auth"],
        &["manifest", "inspect"],
        &["manifest", "create", "list"],
        &["login", "-u", "user", "-p", "password"],
    ] {
        let (registry, sandbox) = (Registry::start(), Sandbox::small());
        let proxy = registry.proxy();
        let host = proxy.addr().to_string();
        let image = if command[0] == "login" { host } else { format!("{host}/model:1") };
        let held = Held::request(&proxy, "GET", "/v2/");
        let child = start(&sandbox, &[command, &["--tls-verify=false", &image]].concat());
        held.wait();
        let run = interrupted(&sandbox, child, Signal::SIGINT);
        assert!(run.stderr.contains("interrupted"), "{run}");
    }
}

#[test]
fn a_containerfile_that_does_not_come_is_not_waited_for() {
    let sandbox = Sandbox::small();
    let fifo = sandbox.path("fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut child = start(&sandbox, &["build", "-f", "fifo", "context"]);
    let mut writer = None;
    until("the Containerfile is opened", &mut child, |_| {
        writer = open_for_writing(&fifo);
        writer.is_some()
    });
    interrupted(&sandbox, child, Signal::SIGTERM);
}

/// A FIFO can be opened for writing when somebody has it open for reading.
fn open_for_writing(fifo: &Path) -> Option<File> {
    File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(fifo).ok()
}

#[test]
fn what_waits_to_be_written_down_is_not_written_after_a_signal() {
    let sandbox = Sandbox::small();
    sandbox.run(&["--root", "root", "build", "-t", "old", "context"]).done();
    sandbox.write("model/config.json", "{\"new\": true}");
    let records = || {
        let files = sandbox.files_below("root").into_keys();
        files
            .filter(|path| ["/images/", "/names/", "/lists/"].iter().any(|part| path.contains(part)))
            .collect()
    };
    let before: Vec<String> = records();
    let lock = File::options().append(true).open(sandbox.path("root/records.lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    for command in [&["build", "-t", "new", "context"][..], &["tag", "old", "new"], &["rmi", "old"]] {
        let mut child = start(&sandbox, &[&["--root", "root"], command].concat());
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(stderr.any(|line| line.unwrap().contains("holds this lock")), "{command:?}");
        send(&child, Signal::SIGTERM);
        if stderr.any(|line| line.unwrap().contains("a second signal ends it at once")) {
            // The first one says how it ended.
            send(&child, Signal::SIGINT);
        }
        let run = ended(&sandbox, child, LIMIT);
        assert_eq!(run.status.code(), Some(143), "{command:?}: {run}");
        assert!(stderr.any(|line| line.unwrap().contains("interrupted")), "{command:?}");
        assert_eq!(records(), before, "{command:?}");
    }
    drop(lock);
}

/// Interrupts a build as soon as it works on its layer.
fn interrupt_at_work(sandbox: &Sandbox, args: &[&str]) -> Run {
    let args = [&["build", "--progress=json"], args, &["context"]].concat();
    let mut child = start(sandbox, &args);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().expect("it works on the layer before it ends").unwrap().contains("\"phase\"") {}
    let reader = thread::spawn(move || lines.count());
    let run = interrupted(sandbox, child, Signal::SIGINT);
    reader.join().unwrap();
    run
}

#[test]
fn hashing_ends_when_it_is_interrupted() {
    let sandbox = Sandbox::small();
    write_sparse(&sandbox.file("model/weights"), 256 << 30);
    interrupt_at_work(&sandbox, &["--squash"]);
    interrupt_at_work(&sandbox, &["--squash", "--compression-format", "zstd"]);
}

#[test]
fn an_interrupted_build_to_disk_ends_and_leaves_nothing() {
    for output in ["oci:new:v1", "oci-archive:new.tar:v1", "dir:new"] {
        let sandbox = Sandbox::small();
        write_sparse(&sandbox.file("model/weights"), 1 << 30);
        interrupt_at_work(&sandbox, &["--squash", "-o", output]);
        let of_sandbox = |path: &String| path.contains("/context/") || path.ends_with("/storage.conf");
        let left: Vec<_> = sandbox.files_below("").into_keys().filter(|path| !of_sandbox(path)).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!sandbox.path("new").exists());
    }
}

/// A layout with an image whose layers come out of FIFOs, and what is to be written into each.
fn layout_of_fifos(sandbox: &Sandbox) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let layout = sandbox.path("base");
    Base::new().write_layout(&layout);
    let image = Image::read(&format!("oci:{}:latest", layout.display()));
    let digests = image.manifest["layers"].as_array().unwrap().iter().map(|l| l["digest"].as_str().unwrap());
    let fifo = |digest: &str| {
        let path = layout.join("blobs").join(digest.replace(':', "/"));
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        (path, bytes)
    };
    digests.map(fifo).collect()
}

#[test]
fn layers_are_read_and_written_side_by_side() {
    // Without a COPY the layers are copied, with one they are looked through first.
    for instruction in ["LABEL a=b", "COPY model /models"] {
        let sandbox = Sandbox::small();
        let fifos = layout_of_fifos(&sandbox);
        sandbox.containerfile(&format!("FROM oci:base:latest\n{instruction}\n"));
        let mut child = start(&sandbox, &["build", "--jobs", "2", "-o", "oci:new:v1", "context"]);
        // Each lane waits for its file, and nothing is written before all of them do.
        let mut writers: Vec<Option<File>> = fifos.iter().map(|_| None).collect();
        until("all layers are opened", &mut child, |_| {
            for (writer, (path, _)) in writers.iter_mut().zip(&fifos) {
                if writer.is_none() {
                    *writer = open_for_writing(path);
                }
            }
            writers.iter().all(Option::is_some)
        });
        if instruction.starts_with("COPY") {
            // That is enough of it: they would be read once more for the copy.
            interrupted(&sandbox, child, Signal::SIGINT);
            continue;
        }
        for (writer, (_, bytes)) in writers.into_iter().zip(&fifos) {
            writer.unwrap().write_all(bytes).unwrap();
        }
        ended(&sandbox, child, LIMIT).done();
        assert_eq!(
            Image::read(&format!("oci:{}:v1", sandbox.path("new").display())).layers.len(),
            fifos.len()
        );
    }
}

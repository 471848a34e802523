//! The root directory: several processes at once, processes that are killed, and directories that cannot be written to.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use crate::support::image::{Image, Node};
use crate::support::sandbox::Sandbox;
use crate::support::{make_old, noise, write_sparse};

fn root(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("home/.local/share/crossdock")
}

/// What is remembered, of which nothing is damaged.
fn images(sandbox: &Sandbox) -> Vec<Value> {
    let run = sandbox.run(&["images", "--json", "--no-trunc"]).done();
    assert_eq!(run.stderr, "", "{run}");
    serde_json::from_str::<Value>(&run.stdout).unwrap().as_array().unwrap().clone()
}

/// How many builds are killed.
const ATTEMPTS: u32 = 60;

#[test]
fn a_build_that_is_killed_leaves_a_root_that_can_be_used() {
    let sandbox = Sandbox::small();
    for file in 0..20 {
        sandbox.write(&format!("model/{file}"), noise(20_000, file));
    }
    let begun = SystemTime::now();
    sandbox.build(&["-q", "-t", "whole"]).done();
    let whole = begun.elapsed().unwrap();
    let root = root(&sandbox);
    let files = || ["images", "names"].map(|name| fs::read_dir(root.join(name)).unwrap().count());
    for attempt in 0..ATTEMPTS {
        sandbox.write("model/config.json", attempt.to_string());
        let before = files();
        let mut build =
            sandbox.command(&["build", "-q", "-t", "killed", "-t", &format!("{attempt}"), "context"]);
        let mut child = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if attempt % 2 == 0 {
            thread::sleep(whole * attempt / ATTEMPTS);
        } else {
            // Where it writes what it remembers: as soon as a file appears, or the second.
            let mut appeared = 0;
            let mut seen = before;
            while appeared <= attempt / 2 % 4 && child.try_wait().unwrap().is_none() {
                let now = files();
                appeared += u32::from(now != seen);
                seen = now;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        images(&sandbox);
    }
    for image in images(&sandbox) {
        sandbox.run(&["inspect", "-f", "{{.FromImageDigest}}", image["id"].as_str().unwrap()]).done();
    }
    sandbox.build(&["-q", "-t", "killed"]).done();
    sandbox.run(&["push", "-q", "killed", "oci:layout:1"]).done();
    let image = Image::read(&format!("oci:{}:1", sandbox.path("layout").display()));
    assert_eq!(*image.node("models/config.json"), Node::file(b"59", 0o644));
    sandbox.run(&["prune"]).done();
}

#[test]
fn builds_at_the_same_time_are_all_remembered() {
    let sandboxes: Vec<_> = (0..8).map(|_| Sandbox::small()).collect();
    let shared = Sandbox::new();
    let root = shared.path("root").display().to_string();
    let children: Vec<_> = sandboxes
        .iter()
        .enumerate()
        .map(|(at, sandbox)| {
            sandbox.write("model/config.json", format!("{at}"));
            let own = format!("own:{at}");
            let args = ["--root", &root, "build", "-q", "-t", "same", "-t", &own, "context"];
            sandbox.command(&args).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let ids: Vec<_> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            format!("sha256:{}", String::from_utf8(output.stdout).unwrap().trim_end())
        })
        .collect();

    let run = shared.run(&["--root", &root, "images", "--json", "--no-trunc"]).done();
    assert_eq!(run.stderr, "");
    let listed: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(listed.len(), 8);
    let mut same = 0;
    for (at, id) in ids.iter().enumerate() {
        let image = listed.iter().find(|image| image["id"] == **id).unwrap();
        let names: Vec<_> =
            image["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(names.contains(&format!("localhost/own:{at}").as_str()), "{image}");
        same += names.iter().filter(|name| **name == "localhost/same:latest").count();
        let target = format!("oci:out-{at}:1");
        shared.run(&["--root", &root, "push", "-q", &format!("own:{at}"), &target]).done();
        let read = Image::read(&format!("oci:{}:1", shared.path(&format!("out-{at}")).display()));
        assert_eq!(*read.node("models/config.json"), Node::file(at.to_string().as_bytes(), 0o644));
    }
    assert_eq!(same, 1, "one of them has the name that all were given");
}

#[test]
fn an_image_with_a_name_must_be_remembered() {
    let sandbox = Sandbox::small();
    sandbox.write("model/large", noise(1 << 20, 1));
    fs::write(sandbox.path("file"), "").unwrap();
    let at = sandbox.path("file").display().to_string();
    // Said before anything is read.
    let run =
        sandbox.run(&["--root", &at, "build", "-t", "model", "--progress", "json", "context"]).failed(1);
    assert_eq!(run.stdout, "");
    let run = run.says(&["the image cannot be remembered", &at]);
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
    // Nobody asked for a name: its digests are what is wanted.
    sandbox
        .run(&["--root", &at, "build", "-q", "context"])
        .done()
        .says(&["the image is not remembered", &at]);
    // A disk that takes no byte more.
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    let mut full = sandbox.command_of("sh");
    full.args(["-c", script, "sh", env!("CARGO_BIN_EXE_crossdock"), "build", "-q", "-t", "model", "context"]);
    let run = sandbox.finish(full.output().unwrap(), &["build", "on a full disk"]);
    run.failed(1).says(&["the image cannot be remembered", &root(&sandbox).display().to_string()]);
    // Nothing at all to write to.
    let mut homeless = sandbox.command(&["build", "-q", "-t", "model", "context"]);
    let run = sandbox.finish(homeless.env_remove("HOME").output().unwrap(), &["build", "without a home"]);
    run.failed(1).says(&["give --root DIR, or set HOME"]);
}

#[test]
fn what_nobody_needed_for_long_is_pruned_and_what_is_locked_stays() {
    let sandbox = Sandbox::small();
    make_old(&sandbox.file("model/config.json"));
    thread::sleep(Duration::from_millis(2_100));
    sandbox.build(&["-q", "-t", "model"]).done();
    sandbox.build(&["-q", "--label", "a=b"]).done();
    let root = root(&sandbox);
    let uploads = root.join("uploads");
    fs::create_dir(&uploads).unwrap();
    let mut locks = Vec::new();
    for name in ["old.json", "locked.json", "new.json"] {
        fs::write(uploads.join(name), "{}").unwrap();
        let lock = File::create(uploads.join(format!("{name}.lock"))).unwrap();
        if name == "locked.json" {
            locks.push(Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap());
        }
    }
    fs::write(root.join("images/.tmpOld"), "half").unwrap();
    fs::write(root.join("images/.tmpNew"), "half").unwrap();
    for old in ["uploads/old.json", "uploads/old.json.lock", "uploads/locked.json", "images/.tmpOld"] {
        make_old(&root.join(old));
    }
    let memos = || sandbox.files_below("home").keys().filter(|path| path.contains("/memo/")).count();
    assert_eq!(memos(), 1);

    let run = sandbox.run(&["prune", "--force"]).done();
    let last = run.stdout.lines().last().unwrap();
    assert!(last.starts_with("Total reclaimed space: "), "{run}");
    assert!(last.ends_with(": 1 image, 1 note of an upload (2 B), 1 half-written file (4 B)"), "{run}");
    assert_eq!(images(&sandbox).len(), 1);
    let left = |name: &str| root.join(name).exists();
    assert!(!left("uploads/old.json") && !left("uploads/old.json.lock") && !left("images/.tmpOld"));
    assert!(left("uploads/locked.json") && left("uploads/new.json") && left("images/.tmpNew"));
    assert_eq!(memos(), 1);

    let run = sandbox.run(&["prune", "--memos"]).done();
    assert!(run.stdout.contains("1 layer digest ("), "{run}");
    assert_eq!(memos(), 0);
    assert!(left("uploads/locked.json") && !left("uploads/new.json"));
    drop(locks);

    let run = sandbox.run(&["prune", "-a"]).done();
    assert!(run.stdout.starts_with("untagged: localhost/model:latest\n"), "{run}");
    assert_eq!(images(&sandbox).len(), 0);
}

#[test]
fn a_memo_that_is_used_is_not_old() {
    let sandbox = Sandbox::small();
    thread::sleep(Duration::from_millis(2_100));
    sandbox.build(&["-q", "-t", "model"]).done();
    let memo = || {
        let files = sandbox.files_below("home").into_keys();
        files.filter(|path| path.contains("/memo/")).map(PathBuf::from).next()
    };
    make_old(&memo().unwrap());
    sandbox.build(&["-q", "-t", "model"]).done();
    sandbox.run(&["prune"]).done();
    make_old(&memo().unwrap());
    sandbox.run(&["prune"]).done();
    assert_eq!(memo(), None);
}

#[test]
fn building_upon_a_remembered_image_reads_no_byte_of_it() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.file("model")).unwrap();
    write_sparse(&sandbox.file("model/weights"), 1 << 30);
    sandbox.containerfile("FROM scratch\nCOPY model /models\n");
    let first = sandbox.built(&["-t", "weights:1"]);
    assert_eq!(first.number("bytes_read"), 1 << 30);
    sandbox.write("extra/config.json", "{}");
    sandbox.containerfile("FROM weights:1\nCOPY extra /models/\n");
    let second = sandbox.built(&["--no-memo", "-t", "model:1"]);
    assert_eq!(second.number("bytes_read"), 2);
    assert_eq!(second.layers()[..first.layers().len()], first.layers()[..]);
}

#[test]
fn what_a_remembered_image_holds_is_known_to_a_build_upon_it() {
    let sandbox = Sandbox::small();
    sandbox.write("model/sub/weights", "weights");
    sandbox.mode("model/sub", 0o700);
    std::os::unix::fs::symlink("sub", sandbox.file("model/link")).unwrap();
    sandbox.containerfile("FROM scratch\nCOPY --chown=5:6 model /models\n");
    sandbox.build(&["-q", "-t", "weights:1"]).done();
    sandbox.write("extra/more.json", "{}");
    sandbox.containerfile("FROM weights:1\nCOPY extra /models/link/\n");
    sandbox.build(&["-q", "-t", "model:1"]).done();
    sandbox.run(&["push", "-q", "model:1", "oci:layout:1"]).done();
    // The link in the base is followed, and its directory not written again: it has the mode and owner it had.
    let image = Image::read(&format!("oci:{}:1", sandbox.path("layout").display()));
    assert_eq!(image.layers.last().unwrap().paths(), ["models/sub/more.json"]);
    let directory = image.node("models/sub");
    assert_eq!((directory.mode, directory.owner), (0o700, (5, 6)));
}

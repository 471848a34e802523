//! Several processes at once in one place: none of them loses what another one did.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::base::Base;
use crate::support::image::{Image, Node, check_layout};
use crate::support::sandbox::{Run, Sandbox};
use crate::support::write_sparse;

const AT_ONCE: usize = 12;

/// A base, a file that all images share, and one that says which image it is.
fn images() -> Sandbox {
    let sandbox = Sandbox::new();
    Base::new().write_layout(&sandbox.path("base"));
    sandbox.containerfile("FROM oci:base:latest\nARG N\nCOPY shared /shared\nENV N=$N\n");
    sandbox.write("shared", "the same in all");
    sandbox
}

fn start(sandbox: &Sandbox, args: &[&str]) -> Child {
    sandbox.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn wait(sandbox: &Sandbox, children: Vec<Child>) -> Vec<Run> {
    children.into_iter().map(|child| sandbox.finish(child.wait_with_output().unwrap(), &[])).collect()
}

/// The names in a layout that is whole.
fn names(layout: &Path) -> Vec<String> {
    let mut names: Vec<String> = check_layout(layout)
        .iter()
        .map(|image| image["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Whether there is anything of ours that belongs to no image.
fn is_clean(directory: &Path) -> bool {
    let mut entries = fs::read_dir(directory).unwrap();
    entries.all(|entry| !entry.unwrap().file_name().to_str().unwrap().starts_with(".crossdock"))
}

#[test]
fn twelve_builds_into_one_layout_leave_twelve_images_and_readers_see_whole_ones() {
    let sandbox = images();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut read = 0;
            while !done.load(Ordering::Relaxed) {
                let Ok(bytes) = fs::read(sandbox.path("layout/index.json")) else { continue };
                let index: Value = serde_json::from_slice(&bytes).unwrap();
                for manifest in index["manifests"].as_array().unwrap() {
                    let digest = manifest["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
                    let manifest = fs::read(sandbox.path("layout/blobs/sha256").join(digest)).unwrap();
                    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
                    for layer in manifest["layers"].as_array().unwrap() {
                        let digest = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
                        let layer_size = fs::metadata(sandbox.path("layout/blobs/sha256").join(digest));
                        assert_eq!(layer_size.unwrap().len(), layer["size"].as_u64().unwrap());
                    }
                    read += 1;
                }
            }
            read
        });
        let builds = (0..AT_ONCE).map(|n| {
            let (output, number) = (format!("oci:layout:t{n}"), format!("N={n}"));
            start(&sandbox, &["build", "--build-arg", &number, "-o", &output, "context"])
        });
        let builds = builds.collect();
        for run in wait(&sandbox, builds) {
            run.done();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    let mut expected: Vec<_> = (0..AT_ONCE).map(|n| format!("t{n}")).collect();
    expected.sort();
    assert_eq!(names(&sandbox.path("layout")), expected);
    assert!(is_clean(&sandbox.path("layout")));
    let image = Image::read(&format!("oci:{}:t7", sandbox.path("layout").display()));
    assert!(image.config["config"]["Env"].as_array().unwrap().contains(&"N=7".into()));
}

#[test]
fn pushes_of_images_and_lists_into_one_layout_leave_all_of_them() {
    let sandbox = images();
    sandbox.built(&["-t", "m"]);
    sandbox.run(&["manifest", "create", "list", "m"]).done();
    let mut expected = Vec::new();
    let mut children = Vec::new();
    for n in 0..4 {
        let (image, list, build) = (format!("image{n}"), format!("list{n}"), format!("build{n}"));
        let at = |name: &str| format!("oci:layout:{name}");
        children.push(start(&sandbox, &["push", "m", &at(&image)]));
        children.push(start(&sandbox, &["manifest", "push", "--all", "list", &at(&list)]));
        children.push(start(&sandbox, &["build", "-o", &at(&build), "context"]));
        expected.extend([image, list, build]);
    }
    for run in wait(&sandbox, children) {
        run.done();
    }
    expected.sort();
    assert_eq!(names(&sandbox.path("layout")), expected);
}

#[test]
fn builds_that_fail_take_nothing_from_those_that_go_well() {
    let sandbox = images();
    // They fail at the end, of a file in the base that is not what its digest says.
    Base::new().write_layout(&sandbox.path("damaged"));
    let blobs = sandbox.path("damaged/blobs/sha256");
    let is_layer = |path: &std::path::PathBuf| fs::read(path).unwrap().starts_with(&[0x1f, 0x8b]);
    let layer = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).find(is_layer).unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    // The header's extra flags: gunzip does not mind.
    bytes[8] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let damaged = "FROM oci:damaged:latest\nCOPY shared /shared\n";
    fs::write(sandbox.path("Damaged"), damaged).unwrap();
    let mut children = Vec::new();
    for n in 0..AT_ONCE {
        let output = format!("oci:layout:t{n}");
        let mut args = vec!["build", "-o", &output, "--no-memo"];
        if n % 2 == 1 {
            args.extend(["-f", "Damaged", "--jobs", "1"]);
        }
        args.push("context");
        children.push(start(&sandbox, &args));
    }
    let mut expected = Vec::new();
    for (n, run) in wait(&sandbox, children).into_iter().enumerate() {
        // A damaged layer that another build has brought whole is not read.
        if n % 2 == 1 && !run.status.success() {
            run.failed(5);
            continue;
        }
        run.done();
        expected.push(format!("t{n}"));
    }
    expected.sort();
    assert_eq!(names(&sandbox.path("layout")), expected);
    assert!(is_clean(&sandbox.path("layout")));
}

#[test]
fn one_image_of_several_written_to_one_directory_is_there_whole() {
    let sandbox = images();
    let builds = (0..6).map(|n| {
        let number = format!("N={n}");
        start(&sandbox, &["build", "--build-arg", &number, "-o", "dir:image", "context"])
    });
    let builds = builds.collect();
    for run in wait(&sandbox, builds) {
        run.done();
    }
    let image = Image::read(&format!("dir:{}", sandbox.path("image").display()));
    assert_eq!(*image.node("shared"), Node::file(b"the same in all", 0o644));
    assert!(is_clean(&sandbox.path("image")));
}

#[test]
fn what_a_killed_build_leaves_is_removed_by_the_next_one() {
    let sandbox = images();
    sandbox.built(&["-o", "oci:layout:before"]);
    let layout = sandbox.path("layout");
    let before = sandbox.files_below("layout");
    write_sparse(&sandbox.file("shard"), 8 << 30);
    fs::write(sandbox.path("Large"), "FROM scratch\nCOPY shard /shard\n").unwrap();
    let args = ["build", "-f", "Large", "-o", "oci:layout:killed", "--io", "read", "context"];
    let mut child = start(&sandbox, &args);
    let begun = Instant::now();
    while sandbox.files_below("layout").values().sum::<u64>() < before.values().sum::<u64>() + (1 << 20) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the layer is not written");
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        thread::sleep(Duration::from_millis(2));
    }
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!is_clean(&layout));
    assert_eq!(names(&layout), ["before"]);

    sandbox.built(&["-o", "oci:layout:after"]);
    assert_eq!(names(&layout), ["after", "before"]);
    assert!(is_clean(&layout));
}

#[test]
fn a_build_into_a_layout_that_another_process_changes_waits_and_can_be_interrupted() {
    use nix::fcntl::{Flock, FlockArg};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let sandbox = images();
    sandbox.built(&["-o", "oci:layout:v1"]);
    let lock = fs::File::create(sandbox.path("layout/.crossdock.lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    let mut child = start(&sandbox, &["build", "-o", "oci:layout:v2", "context"]);
    let mut text = String::new();
    let mut stderr = child.stderr.take().unwrap();
    while !text.contains("waiting for another process") {
        let mut byte = [0];
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{text}");
        text.push(char::from(byte[0]));
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    drop(lock);
    assert_eq!(names(&sandbox.path("layout")), ["v1"]);
    sandbox.built(&["-o", "oci:layout:v2"]);
    assert_eq!(names(&sandbox.path("layout")), ["v1", "v2"]);
}

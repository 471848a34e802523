//! Contexts that hold more than is meant: what the run writes itself, what a clone left, files that nobody may read; and file
//! systems that have less than others.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::XattrFlags;

use crate::support::image::{Image, Kind};
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{make_weights, noise};

/// The files of the image that a run wrote to `oci:out:v1`, as the sandbox has it.
fn files(sandbox: &Sandbox, layout: &str) -> Vec<String> {
    Image::read(&format!("oci:{}:v1", sandbox.path(layout).display())).files.into_keys().collect()
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.containerfile("FROM scratch\nCOPY . /m/\n");
    sandbox.write(".containerignore", "Containerfile\n.containerignore\n");
    sandbox.write("weights", noise(4096, 1));
    sandbox
}

const ALL: [&str; 2] = ["m", "m/weights"];

#[test]
fn the_root_directory_is_no_part_of_its_own_context() {
    let sandbox = sandbox();
    // By its name, by a link to it, and by a name that is written in another way.
    fs::create_dir(sandbox.file("state")).unwrap();
    symlink("context/state", sandbox.path("link")).unwrap();
    for root in ["context/state", "link", "context/../context/state/."] {
        for _ in 0..2 {
            let args = ["--root", root, "build", "-q", "-t", "model:1", "context"];
            sandbox.run(&args).done();
            let args = ["--root", root, "build", "-q", "-o", "oci:out:v1", "context"];
            let run = sandbox.run(&args).done();
            run.says(&[r#"left out of the build context context: "state" (the directory of --root)"#]);
            assert_eq!(files(&sandbox, "out"), ALL, "{root}");
        }
    }
    assert!(sandbox.file("state/images").is_dir());
    // A default root is one, too.
    fs::remove_dir_all(sandbox.file("state")).unwrap();
    fs::rename(sandbox.path("home"), sandbox.file("home")).unwrap();
    let mut command = sandbox.command(&["build", "-q", "-t", "model:1", "context"]);
    sandbox.finish(command.env("HOME", sandbox.file("home")).output().unwrap(), &["home"]).done();
    let mut command = sandbox.command(&["build", "-q", "-o", "oci:out:v1", "context"]);
    let run = sandbox.finish(command.env("HOME", sandbox.file("home")).output().unwrap(), &["home"]).done();
    run.says(&[r#""home/.local/share/crossdock" (the directory of --root)"#]);
    assert!(!files(&sandbox, "out").iter().any(|path| path.contains("crossdock")));
}

/// Under the name buildah the root directory is one in the store, all of which is the program's.
#[test]
fn the_store_that_buildah_is_given_is_no_part_of_the_context() {
    let sandbox = sandbox();
    sandbox.write("store/vfs-images/images.json", "[]");
    for _ in 0..2 {
        let store = "--root=context/store";
        sandbox.buildah(&[store, "bud", "-q", "-t", "model:1", "context"]).done();
        let run = sandbox.buildah(&[store, "push", "-q", "model:1", "oci:out:v1"]).done();
        assert_eq!(files(&sandbox, "out"), ALL, "{run}");
    }
    assert!(sandbox.file("store/crossdock/images").is_dir());
}

#[test]
fn what_stands_at_a_bind_mount_of_the_root_directory_is_left_out() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.path("state")).unwrap();
    fs::create_dir(sandbox.file("bound")).unwrap();
    let script = "mount --bind state context/bound && exec \"$@\"";
    let mount = ["--mount", "--map-root-user", "sh", "-c", script, "sh"];
    if !sandbox.command_of("unshare").args(mount).arg("true").status().unwrap().success() {
        skip("nothing can be mounted here");
        return;
    }
    for _ in 0..2 {
        let program = sandbox.command(&[
            "--root",
            "state",
            "build",
            "-q",
            "-t",
            "model:1",
            "-o",
            "oci:out:v1",
            "context",
        ]);
        let mut command = sandbox.command_of("unshare");
        command.args(mount).arg(program.get_program()).args(program.get_args());
        let run = sandbox.finish(command.output().unwrap(), &["bind mount"]).done();
        run.says(&[r#""bound" (the directory of --root)"#]);
        assert_eq!(files(&sandbox, "out"), ALL);
    }
}

#[test]
fn outputs_of_the_run_are_no_part_of_its_context() {
    let sandbox = sandbox();
    let outputs = ["--digestfile", "context/digest", "--iidfile", "context/iid", "--logfile", "context/log"];
    for output in [
        "oci:context/out:v1",
        "oci-archive:context/out.tar:v1",
        "docker-archive:context/docker.tar:v1",
        "dir:context/dir",
    ] {
        let mut digests = Vec::new();
        for _ in 0..2 {
            sandbox.build(&[&["--timestamp=0", "-o", output], &outputs[..]].concat()).done();
            digests.push(fs::read_to_string(sandbox.file("digest")).unwrap());
        }
        assert_eq!(digests[0], digests[1], "{output}: the second build packed what the first one wrote");
        for name in ["out", "out.tar", "docker.tar", "dir"] {
            let path = sandbox.file(name);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
    // What another run left is a file like others.
    sandbox.build(&["-q", "-o", "oci:out:v1"]).done();
    assert_eq!(files(&sandbox, "out"), ["m", "m/digest", "m/iid", "m/log", "m/weights"]);
}

#[test]
fn a_log_that_a_shell_writes_into_the_context_is_left_out() {
    let sandbox = sandbox();
    fs::write(sandbox.file("build.log"), "old").unwrap();
    let log = fs::File::options().append(true).open(sandbox.file("build.log")).unwrap();
    let mut command = sandbox.command(&["build", "--progress=plain", "-o", "oci:out:v1", "context"]);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let status = command.status().unwrap();
    let text = fs::read_to_string(sandbox.file("build.log")).unwrap();
    assert!(status.success() && text.contains(r#""build.log" (standard "#), "{text}");
    assert_eq!(files(&sandbox, "out"), ALL);
}

#[test]
fn a_clone_is_packed_under_the_names_of_its_files_and_its_history_told() {
    let sandbox = sandbox();
    sandbox.write("clone/.git/lfs/objects/ab/cd", noise(8192, 2));
    fs::hard_link(sandbox.file("clone/.git/lfs/objects/ab/cd"), sandbox.file("clone/model.safetensors"))
        .unwrap();
    make_weights(&sandbox.file("clone/model.safetensors"));
    sandbox.write("clone/config.json", "{}");
    sandbox.write("clone/.git/HEAD", "ref: refs/heads/main\n");
    let built = sandbox.built(&["--layer-file-size=8KiB", "-o", "oci:out:v1"]);
    let told = "Containerfile:2:8: COPY takes the history of a git clone into the image: /m/clone/.git, 2 files of 21 bytes, add the line **/.git to .containerignore";
    assert!(built.run.stderr.contains(told), "{}", built.run);
    assert_eq!(built.titles()[1], "/m/clone/model.safetensors");
    sandbox.write(".containerignore", "Containerfile\n.containerignore\n**/.git\n");
    let built = sandbox.built(&["--layer-file-size=8KiB", "-o", "oci:out:v1"]);
    assert_eq!(built.run.stderr.matches("WARN").count(), 0, "{}", built.run);
    assert_eq!(
        files(&sandbox, "out"),
        ["m", "m/clone", "m/clone/config.json", "m/clone/model.safetensors", "m/weights"]
    );
}

#[test]
fn quiet_hides_progress_and_no_warning() {
    let sandbox = sandbox();
    sandbox.mode("weights", 0o600);
    let told = "cannot read what COPY adds: /m/weights, write COPY --chmod=a+rX";
    for quiet in [&["--quiet"][..], &[]] {
        let run = sandbox.build(&[quiet, &["-o", "oci:out:v1"]].concat()).done().says(&[told]);
        assert_eq!(run.stderr.matches(told).count(), 1, "{run}");
        assert_eq!(run.stdout.lines().count() == 1, !quiet.is_empty(), "{run}");
    }
    // As is said there.
    sandbox.containerfile("FROM scratch\nCOPY --chmod=a+rX . /m/\n");
    let run = sandbox.build(&["-q", "-o", "oci:out:v1"]).done();
    assert_eq!(run.stderr, "", "{run}");
}

/// A directory that bindfs shows at another place; taken away when it is dropped.
struct Bindfs(PathBuf);

impl Bindfs {
    fn mount(options: &[&str], from: &Path, at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let done = Command::new("bindfs").args(options).args([from, at]).output().ok()?;
        done.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Bindfs {
    fn drop(&mut self) {
        let _ = Command::new("fusermount").arg("-u").arg(&self.0).status();
    }
}

#[test]
fn a_file_system_of_a_program_that_has_no_attributes_is_copied_from() {
    let sandbox = sandbox();
    let build = || -> Run { sandbox.build(&["-q", "-o", "oci:out:v1"]).done() };
    let Some(mount) = Bindfs::mount(&["--xattr-none"], &sandbox.path("run"), &sandbox.file("mounted")) else {
        skip("nothing can be mounted with FUSE here");
        return;
    };
    fs::write(sandbox.path("run/config.json"), "{}").unwrap();
    // Where the directory for temporary files has them, the mount still has none.
    let _ = rustix::fs::setxattr(sandbox.path("run/config.json"), "user.a", b"b", XattrFlags::empty());
    let run = build();
    assert_eq!(run.stderr, "", "nothing is lost where there is nothing: {run}");
    let image = Image::read(&format!("oci:{}:v1", sandbox.path("out").display()));
    assert!(matches!(image.node("m/mounted/config.json").kind, Kind::File { len: 2, .. }));
    drop(mount);
}

#[expect(clippy::print_stderr, reason = "nobody shall believe that it was tried")]
pub(crate) fn skip(why: &str) {
    eprintln!("not tried: {why}");
}

//! What stands at the path of an output: a regular file, or nothing, is replaced as a whole; everything else stays what it
//! is and is written into. All of it in a private directory.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

use crate::support::base::Base;
use crate::support::image::{Image, Kind, Node};
use crate::support::sandbox::{Run, Sandbox};
use crate::support::write_large;

/// A base of two gzip layers, a small file and a large one.
fn model() -> Sandbox {
    let sandbox = Sandbox::new();
    Base::new().write_layout(&sandbox.path("base"));
    sandbox.containerfile("FROM oci:base:latest\nCOPY model /models\n");
    sandbox.write("model/config.json", "{}");
    write_large(&sandbox.file("model/shard"), 3 << 20, 1);
    sandbox
}

/// Fails where it is not the image of [`model`].
#[track_caller]
fn check(archive: &Path, transport: &str) -> Image {
    let image = Image::read(&format!("{transport}:{}", archive.display()));
    assert_eq!(*image.node("models/config.json"), Node::file(b"{}", 0o644));
    assert_eq!(image.node("usr/bin/serve").mode, 0o755);
    assert!(matches!(image.node("models/shard").kind, Kind::File { len: 3_145_728, .. }));
    image
}

/// Runs with bytes on standard output, which come back beside what was said.
fn with_bytes(sandbox: &Sandbox, args: &[&str]) -> (Run, Vec<u8>) {
    let mut output = sandbox.command(args).output().unwrap();
    let bytes = std::mem::take(&mut output.stdout);
    (sandbox.finish(output, args), bytes)
}

fn split() -> [&'static str; 2] {
    ["--layer-file-size", "1MiB"]
}

#[test]
fn an_archive_goes_into_a_fifo_which_stays_one() {
    let sandbox = model();
    let fifo = sandbox.path("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    symlink("fifo", sandbox.path("link")).unwrap();
    for (transport, path, more) in [
        ("oci-archive", "fifo", &[][..]),
        ("oci-archive", "link", &["--compression-format", "zstd", "--no-memo"]),
        // The digests are remembered.
        ("oci-archive", "fifo", &["--compression-format", "zstd"]),
        ("docker-archive", "link", &[]),
        ("docker-archive", "fifo", &["--squash"]),
    ] {
        let reader = thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo).unwrap()
        });
        let output = format!("{transport}:{path}");
        sandbox.built(&[&split()[..], &["-o", &output], more].concat());
        let archive = sandbox.path("copy.tar");
        fs::write(&archive, reader.join().unwrap()).unwrap();
        check(&archive, transport);
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo(), "{output}");
        assert!(fs::symlink_metadata(sandbox.path("link")).unwrap().is_symlink(), "{output}");
    }
}

#[test]
fn standard_output_has_the_archive_alone() {
    let sandbox = model();
    symlink("/proc/self/fd/1", sandbox.path("stdout")).unwrap();
    let archive = sandbox.path("copy.tar");
    let mut digests = Vec::new();
    for (transport, output, more) in [
        ("docker-archive", "docker-archive:stdout", &[][..]),
        ("oci-archive", "oci-archive:stdout:v1", &["--progress", "plain"]),
        ("docker-archive", "-", &["--progress", "json"]),
        ("docker-archive", "docker-archive:-", &[]),
        ("oci-archive", "oci-archive:-:v1", &[]),
        ("docker-archive", "type=docker", &["-q"]),
        ("oci-archive", "type=oci,dest=-", &["--progress", "none"]),
    ] {
        let args =
            [&["build", "-t", "example.com/model:v1", "--timestamp", "0", "-o", output], more, &["context"]];
        let (run, bytes) = with_bytes(&sandbox, &args.concat());
        let run = run.done();
        fs::write(&archive, bytes).unwrap();
        digests.push((transport, check(&archive, transport).digest));
        assert!(run.stderr.contains("sha256:"), "the report is on standard error\n{run}");
        if more.contains(&"json") {
            let last: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
            assert_eq!(last["event"], "image");
        }
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 2, "the same image each time");

    // A push too.
    sandbox.built(&["-t", "m"]);
    let (run, bytes) = with_bytes(&sandbox, &["push", "m", "docker-archive:stdout:example.com/m:v2"]);
    run.done();
    fs::write(&archive, bytes).unwrap();
    check(&archive, "docker-archive");
    let (run, bytes) = with_bytes(&sandbox, &["push", "m", "docker-archive:-"]);
    run.done();
    fs::write(&archive, bytes).unwrap();
    check(&archive, "docker-archive");
    sandbox.run(&["manifest", "create", "list", "m"]).done();
    let (run, bytes) = with_bytes(&sandbox, &["manifest", "push", "--all", "list", "oci-archive:stdout"]);
    run.done();
    fs::write(&archive, bytes).unwrap();
    check(&archive, "oci-archive");
    assert!(!sandbox.path("-").exists(), "`-` is standard output, and no file");
    assert!(fs::symlink_metadata(sandbox.path("stdout")).unwrap().is_symlink());
}

#[test]
fn an_open_file_is_written_behind_what_is_in_it() {
    let sandbox = model();
    let script = "printf 'twelve bytes' > file\n\
                  exec 3>>file\n\
                  \"$CROSSDOCK\" build -o oci-archive:/proc/self/fd/3 context\n\
                  { printf 'twelve bytes'; \"$CROSSDOCK\" build -q -o oci-archive:/proc/self/fd/1 context; } > other\n\
                  { printf 'twelve bytes'; \"$CROSSDOCK\" build -q -o - context; printf end; } > third\n";
    let mut command = sandbox.command_of("bash");
    command.args(["-euc", script]).env("CROSSDOCK", env!("CARGO_BIN_EXE_crossdock"));
    sandbox.finish(command.output().unwrap(), &["bash"]).done();
    for (file, transport) in [("file", "oci-archive"), ("other", "oci-archive"), ("third", "docker-archive")]
    {
        let bytes = fs::read(sandbox.path(file)).unwrap();
        let archive = bytes.strip_prefix(b"twelve bytes").unwrap();
        let archive = archive.strip_suffix(b"end").unwrap_or(archive);
        fs::write(sandbox.path("copy.tar"), archive).unwrap();
        check(&sandbox.path("copy.tar"), transport);
    }
}

#[test]
fn what_a_link_leads_to_is_replaced_whole_and_the_link_stays() {
    let sandbox = model();
    fs::create_dir(sandbox.path("elsewhere")).unwrap();
    for target in ["elsewhere/there.tar", "elsewhere/missing.tar"] {
        let link = sandbox.path("link.tar");
        symlink(target, &link).unwrap();
        if target.contains("there") {
            fs::write(sandbox.path(target), "of yesterday").unwrap();
        }
        let before = fs::metadata(sandbox.path(target)).map(|metadata| metadata.ino()).ok();
        sandbox.built(&["-o", "oci-archive:link.tar"]);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        let metadata = fs::symlink_metadata(sandbox.path(target)).unwrap();
        assert!(metadata.is_file() && Some(metadata.ino()) != before);
        check(&sandbox.path(target), "oci-archive");
        assert_eq!(fs::read_dir(sandbox.path("elsewhere")).unwrap().count(), 1, "no temporary file stays");
        fs::remove_file(link).unwrap();
        fs::remove_file(sandbox.path(target)).unwrap();
    }
}

#[test]
fn a_device_stays_a_device() {
    use nix::sys::stat::{SFlag, makedev, mknod};
    let sandbox = model();
    // A null device of our own.
    let device = sandbox.path("null");
    if mknod(&device, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).is_err()
        || File::options().write(true).open(&device).is_err()
    {
        crate::left_out::skip("devices cannot be made here");
        return;
    }
    symlink("null", sandbox.path("link")).unwrap();
    for output in ["docker-archive:null", "oci-archive:link", "type=oci,dest=null"] {
        sandbox.built(&["-o", output]);
        assert!(fs::symlink_metadata(&device).unwrap().file_type().is_char_device(), "{output}");
    }
    sandbox.built(&["-o", "oci:o:v1", "--digestfile", "null", "--iidfile", "link"]);
    assert!(fs::symlink_metadata(&device).unwrap().file_type().is_char_device());
}

#[test]
fn a_file_that_is_mounted_by_itself_is_written_into() {
    let sandbox = model();
    let mounts = |script: &str| {
        let mut command = sandbox.command_of("unshare");
        command.args(["--mount", "--map-root-user", "bash", "-euc", script]);
        command.env("CROSSDOCK", env!("CARGO_BIN_EXE_crossdock")).output()
    };
    fs::write(sandbox.path("outer.tar"), "of yesterday").unwrap();
    fs::write(sandbox.path("inner of it.tar"), "").unwrap();
    let mount = "mount --bind outer.tar 'inner of it.tar'\n";
    if !mounts(mount).is_ok_and(|output| output.status.success()) {
        crate::left_out::skip("nothing can be mounted here");
        return;
    }
    let inode = fs::metadata(sandbox.path("outer.tar")).unwrap().ino();
    let script = format!("{mount}\"$CROSSDOCK\" build -o 'oci-archive:inner of it.tar' context\n");
    sandbox.finish(mounts(&script).unwrap(), &["unshare"]).done();
    check(&sandbox.path("outer.tar"), "oci-archive");
    assert_eq!(fs::metadata(sandbox.path("outer.tar")).unwrap().ino(), inode);
}

#[test]
fn a_socket_a_directory_and_a_terminal_are_refused_by_name() {
    let sandbox = model();
    let _socket = UnixListener::bind(sandbox.path("socket")).unwrap();
    fs::create_dir(sandbox.path("directory")).unwrap();
    symlink("circle", sandbox.path("circle")).unwrap();
    sandbox.build(&["-o", "oci-archive:socket"]).failed(1).says(&["socket", "it is a socket"]);
    sandbox.build(&["-o", "docker-archive:directory"]).failed(3).says(&["directory is a directory"]);
    sandbox.build(&["-o", "docker-archive:circle"]).failed(1).says(&["circle"]);
    assert!(fs::symlink_metadata(sandbox.path("socket")).unwrap().file_type().is_socket());

    sandbox.built(&["-t", "m"]);
    for args in [
        &["build", "-o", "-", "context"][..],
        &["build", "-o", "docker-archive:/proc/self/fd/1", "context"],
        &["build", "-o", "type=docker", "context"],
        &["push", "m", "oci-archive:/proc/self/fd/1"],
    ] {
        let pty = openpty(None, None).unwrap();
        let child = sandbox.command(args).stdout(Stdio::from(pty.slave)).stderr(Stdio::piped()).spawn();
        let run = sandbox.finish(child.unwrap().wait_with_output().unwrap(), args);
        run.failed(2).says(&["standard output is a terminal"]);
    }
    let both = ["-o", "-", "-o", "type=oci"];
    sandbox.build(&both).failed(2).says(&["two outputs"]);
}

#[test]
fn a_reader_that_goes_away_is_an_error_that_says_so() {
    let sandbox = model();
    symlink("/proc/self/fd/1", sandbox.path("stdout")).unwrap();
    for output in ["docker-archive:stdout", "oci-archive:stdout", "-"] {
        let args = ["build", "-o", output, "context"];
        let mut child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 512]).unwrap();
        drop(stdout);
        let run = sandbox.finish(child.wait_with_output().unwrap(), &args);
        run.failed(1).says(&["its reader went away"]);
    }
}

#[test]
fn a_fifo_that_nobody_reads_is_waited_for_until_a_signal() {
    let sandbox = model();
    for (read, name) in [(false, "unread"), (true, "full")] {
        let fifo = sandbox.path(name);
        mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        let output = format!("oci-archive:{name}");
        let args = ["build", "-o", &output, "context"];
        let mut child = sandbox.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // A reader that opens it and reads no more than the beginning.
        let reader = read.then(|| {
            let mut reader = File::open(&fifo).unwrap();
            reader.read_exact(&mut [0; 512]).unwrap();
            reader
        });
        thread::sleep(Duration::from_secs(1));
        assert!(child.try_wait().unwrap().is_none(), "it waits");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let since = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(143), "{name}");
        assert!(since.elapsed() < Duration::from_secs(4), "{name}: {:?}", since.elapsed());
        drop(reader);
    }
}

#[test]
fn small_files_that_are_asked_for_go_into_what_stands_there() {
    let sandbox = model();
    let fifo = sandbox.path("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    symlink("/proc/self/fd/1", sandbox.path("stdout")).unwrap();
    for option in ["--digestfile", "--iidfile", "--logfile"] {
        let reader = thread::spawn({
            let fifo = fifo.clone();
            move || fs::read_to_string(fifo).unwrap()
        });
        sandbox.build(&["-o", "oci:o:v1", option, "fifo"]).done();
        assert!(reader.join().unwrap().contains("sha256:"), "{option}");
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        // The shell's file, which was written to before.
        let mut log = File::create(sandbox.path("log")).unwrap();
        log.write_all(b"before\n").unwrap();
        let args = ["build", "-q", "-o", "oci:o:v1", option, "stdout", "context"];
        let status = sandbox.command(&args).stdout(log).status().unwrap();
        assert!(status.success());
        let text = fs::read_to_string(sandbox.path("log")).unwrap();
        assert!(text.starts_with("before\n") && text.contains("sha256:"), "{option}: {text}");
        assert!(fs::symlink_metadata(sandbox.path("stdout")).unwrap().is_symlink());
    }
    // A file keeps its mode and its other names.
    fs::write(sandbox.path("digest"), "of yesterday").unwrap();
    fs::hard_link(sandbox.path("digest"), sandbox.path("second")).unwrap();
    let built = sandbox.built(&["-o", "oci:o:v1", "--digestfile", "digest"]);
    assert_eq!(fs::read_to_string(sandbox.path("second")).unwrap(), built.digest());
}

#[test]
fn a_completion_goes_wherever_standard_output_goes() {
    let sandbox = model();
    let printed = sandbox.run(&["completion", "bash"]).done().stdout;
    let status = Command::new("bash")
        .args(["-euc", "\"$0\" completion bash | cat > \"$1\""])
        .arg(env!("CARGO_BIN_EXE_crossdock"))
        .arg(sandbox.path("written"))
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(sandbox.path("written")).unwrap(), printed);
}

//! Where a context comes from: archives in files, on standard input and out of pipes, links into the cache of Hugging Face,
//! and what is not downloaded. And `--strict`, which takes warnings for errors.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::image::{Image, Kind};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{make_weights, noise, write_sparse};

/// A sandbox whose context is in `ctx.tar` beside it, made by GNU tar.
fn packed(more: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.containerfile("FROM scratch\nCOPY model /models\n");
    sandbox.write(".dockerignore", "**/*.md\n");
    sandbox.write("model/weights.bin", noise(100_000, 1));
    sandbox.write("model/README.md", "no part of it");
    sandbox.write(&format!("model/{}/config.json", "long".repeat(40)), "{}");
    fs::hard_link(sandbox.file("model/weights.bin"), sandbox.file("model/same.bin")).unwrap();
    symlink("weights.bin", sandbox.file("model/link.bin")).unwrap();
    let hole = File::create(sandbox.file("model/sparse")).unwrap();
    hole.set_len(1 << 20).unwrap();
    sandbox.mode("model/weights.bin", 0o644);
    tar(&sandbox, more);
    sandbox
}

fn tar(sandbox: &Sandbox, more: &[&str]) {
    let mut command = Command::new("tar");
    command.arg("-C").arg(sandbox.context()).args(more).arg("-cf").arg(sandbox.path("ctx.tar")).arg(".");
    assert!(command.status().unwrap().success());
}

fn layout(sandbox: &Sandbox) -> Image {
    Image::read(&format!("oci:{}:v1", sandbox.path("out").display()))
}

fn paths(sandbox: &Sandbox) -> Vec<String> {
    layout(sandbox).files.into_keys().collect()
}

const TO_LAYOUT: [&str; 5] = ["build", "-q", "--timestamp=0", "-o", "oci:out:v1"];

/// Builds with `context` in the place of the directory, and `input` on standard input.
fn build(sandbox: &Sandbox, more: &[&str], context: &str, input: impl Into<Stdio>) -> Run {
    let args = [&TO_LAYOUT[..], more, &[context]].concat();
    sandbox.finish(sandbox.command(&args).stdin(input).output().unwrap(), &args)
}

/// As [`build`], with a pipe for standard input.
fn pipe(sandbox: &Sandbox, args: &[&str], bytes: &[u8]) -> Run {
    let mut command = sandbox.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    // Who refuses a context does not read all of it.
    let writer = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    sandbox.finish(output, args)
}

#[test]
fn an_archive_is_the_same_context_as_the_directory_that_it_was_made_of() {
    for more in [
        &["--format=gnu", "--sparse"][..],
        &["--format=pax", "--sparse"],
        &["--format=ustar", "--exclude=*long*"],
        &["--gzip"],
        &["--zstd", "--sparse"],
        &["--bzip2"],
        &["--xz"],
    ] {
        let sandbox = packed(more);
        if more.contains(&"--exclude=*long*") {
            fs::remove_dir_all(sandbox.file(&format!("model/{}", "long".repeat(40)))).unwrap();
        }
        let run = sandbox.build(&["-q", "--timestamp=0", "-o", "oci:out:v1"]).done();
        let (plain, expected) =
            (more.iter().all(|flag| flag.contains("format") || *flag == "--sparse"), run.stdout);
        let files = layout(&sandbox).files;
        assert!(!files.contains_key("models/README.md") && files.contains_key("models/sparse"), "{files:?}");
        // Files of a compressed archive stand in the layer in the order of its stream: that one has another digest.
        let same = |run: &Run| {
            assert!(!plain || run.stdout == expected, "{more:?}: {run}");
            assert_eq!(layout(&sandbox).files, files, "{more:?}");
        };
        let file = build(&sandbox, &[], "ctx.tar", Stdio::null()).done();
        assert_eq!(file.stderr, "", "{more:?}");
        same(&file);
        let redirected = build(&sandbox, &[], "-", File::open(sandbox.path("ctx.tar")).unwrap()).done();
        assert_eq!((redirected.stderr.as_str(), &redirected.stdout), ("", &file.stdout), "{more:?}");
        let bytes = fs::read(sandbox.path("ctx.tar")).unwrap();
        let piped = pipe(&sandbox, &[&TO_LAYOUT[..], &["-"]].concat(), &bytes).done();
        assert_eq!(piped.stdout, file.stdout, "{more:?}");
        same(&piped.says(&[&format!(
            "comes through a pipe: its {} bytes are in a file without a name",
            bytes.len()
        )]));
    }
}

#[test]
fn nothing_of_an_archive_is_unpacked() {
    let sandbox = Sandbox::small();
    write_sparse(&sandbox.file("model/weights"), 300 << 20);
    tar(&sandbox, &[]);
    sandbox.run(&["build", "--progress=json", "-t", "model:1", "ctx.tar"]).done();
    assert!(sandbox.files_below("home").values().sum::<u64>() < 1 << 20);
    assert_eq!(sandbox.files_below("tmp").len(), 0);
    // The image that is remembered is read from the archive where it lies.
    sandbox.run(&["push", "-q", "model:1", "oci:out:v1"]).done();
    assert!(
        matches!(layout(&sandbox).node("models/weights").kind, Kind::File { len, .. } if len == 300 << 20)
    );
    fs::write(sandbox.path("ctx.tar"), "another").unwrap();
    sandbox.run(&["push", "-q", "model:1", "oci:again:v1"]).failed(4).says(&["ctx.tar"]);
}

#[test]
fn an_image_whose_files_came_through_a_pipe_is_sent_and_not_remembered() {
    let registry = Registry::start();
    let sandbox = packed(&[]);
    let bytes = fs::read(sandbox.path("ctx.tar")).unwrap();
    let run = pipe(&sandbox, &["build", "-t", "model:1", "-"], &bytes).failed(3);
    run.says(&["the image cannot be remembered: its files came through a pipe", "add --push or --output"]);
    let name = registry.name("models/piped:1");
    let push = ["build", "-q", "--push", "--tls-verify=false", "-t", &name, "-"];
    pipe(&sandbox, &push, &bytes).done().says(&["not remembered here: its files came through a pipe"]);
    assert!(Image::pull(&name).files.contains_key("models/weights.bin"));
    // One that has no file of the context can be remembered.
    let text = b"FROM scratch\nCOPY <<EOF /note\nhello\nEOF\n";
    pipe(&sandbox, &["build", "-q", "-t", "text:1", "-"], text).done();
    sandbox.run(&["push", "-q", "text:1", "oci:out:v1"]).done();
    assert_eq!(paths(&sandbox), ["note"]);
    assert_eq!(sandbox.files_below("tmp").len(), 0);
}

#[test]
fn a_containerfile_alone_is_built_without_a_context() {
    let sandbox = Sandbox::new();
    let to_layout = [&TO_LAYOUT[..], &["-"]].concat();
    pipe(&sandbox, &to_layout, b"FROM scratch\nLABEL a=b\nCOPY <<EOF /note\nhello\nEOF\n").done();
    assert_eq!(paths(&sandbox), ["note"]);
    let run = pipe(&sandbox, &to_layout, b"FROM scratch\nCOPY model /m\n").failed(3);
    run.says(&["-:2:6: COPY source \"model\" is not in the build context -, which is a Containerfile alone"]);
    // In a file, too, that a shell has redirected.
    sandbox.containerfile("FROM scratch\nLABEL a=b\n");
    build(&sandbox, &[], "-", File::open(sandbox.file("Containerfile")).unwrap()).done();
    pipe(&sandbox, &to_layout, b"\x00\x01binary")
        .failed(3)
        .says(&["neither a tar archive nor a Containerfile"]);
    let with_file = [&TO_LAYOUT[..], &["-f", "context/Containerfile", "-"]].concat();
    pipe(&sandbox, &with_file, b"FROM scratch\n").failed(2).says(&["two of them are one too many"]);
    // As buildah, too.
    let mut command = sandbox.buildah_command(&["bud", "-q", "-t", "text:1", "-"]);
    command.stdin(File::open(sandbox.file("Containerfile")).unwrap());
    sandbox.finish(command.output().unwrap(), &["bud"]).done();
}

#[test]
fn the_containerfile_of_an_archive_is_in_it_or_beside_it() {
    let sandbox = packed(&[]);
    sandbox.write("other/File", "FROM scratch\nLABEL which=inside\nCOPY . /c\n");
    sandbox.write("other/File.containerignore", "model\nother\n");
    tar(&sandbox, &[]);
    fs::remove_dir_all(sandbox.file("other")).unwrap();
    build(&sandbox, &["-f", "other/File"], "ctx.tar", Stdio::null()).done();
    assert_eq!(paths(&sandbox), ["c", "c/.dockerignore", "c/Containerfile"]);
    // One that lies here is taken first, and one on standard input.
    fs::write(sandbox.path("Here"), "FROM scratch\nCOPY model/weights.bin /h/\n").unwrap();
    build(&sandbox, &["-f", "Here"], "ctx.tar", Stdio::null()).done();
    assert_eq!(paths(&sandbox), ["h", "h/weights.bin"]);
    let from_input = [&TO_LAYOUT[..], &["-f", "-", "ctx.tar"]].concat();
    pipe(&sandbox, &from_input, b"FROM scratch\nCOPY model/link.bin /i/\n").done();
    assert_eq!(paths(&sandbox), ["i", "i/link.bin"]);
    fs::write(sandbox.path("none"), "*\n!model/same.bin\n").unwrap();
    build(&sandbox, &["--ignorefile", "none"], "ctx.tar", Stdio::null()).done();
    assert_eq!(paths(&sandbox), ["models", "models/same.bin"]);
    build(&sandbox, &["-f", "Nowhere"], "ctx.tar", Stdio::null())
        .failed(2)
        .says(&["--file Nowhere: no such file, neither here nor in ctx.tar"]);
    build(&sandbox, &["-f", "-"], "-", Stdio::null())
        .failed(2)
        .says(&["standard input is the build context already"]);
    // An archive for COPY --from.
    sandbox.containerfile("FROM scratch\nCOPY --from=more model/same.bin /f/\n");
    build(&sandbox, &["--build-context", "more=ctx.tar"], "context", Stdio::null()).done();
    assert_eq!(paths(&sandbox), ["f", "f/same.bin"]);
    let run = build(&sandbox, &["--build-context", "more=context/Containerfile"], "context", Stdio::null());
    run.failed(3).says(&["context/Containerfile is no directory and no tar archive"]);
}

#[test]
fn an_archive_comes_out_of_what_a_shell_opens_for_it() {
    let sandbox = packed(&[]);
    let crossdock = env!("CARGO_BIN_EXE_crossdock");
    for context in [
        "<(tar -C context -cf - .)",
        "/dev/stdin < ctx.tar",
        "/dev/stdin < <(cat ctx.tar)",
        "- < <(cat ctx.tar)",
    ] {
        let line = format!("{crossdock} {} {context}", TO_LAYOUT.join(" "));
        let mut command = sandbox.command_of("bash");
        sandbox.finish(command.args(["-euc", &line]).output().unwrap(), &[&line]).done();
        assert!(layout(&sandbox).files.contains_key("models/weights.bin"), "{context}");
    }
}

#[test]
fn an_archive_without_a_containerfile_at_its_root_is_told() {
    let sandbox = Sandbox::small();
    let mut command = Command::new("tar");
    command.arg("-C").arg(sandbox.path("")).arg("-cf").arg(sandbox.path("ctx.tar")).arg("context");
    assert!(command.status().unwrap().success());
    build(&sandbox, &[], "ctx.tar", Stdio::null())
        .failed(2)
        .says(&["no Containerfile or Dockerfile at the root of ctx.tar: name one with --file"]);
    fs::write(sandbox.path("cut.tar"), &fs::read(sandbox.path("ctx.tar")).unwrap()[..700]).unwrap();
    build(&sandbox, &[], "cut.tar", Stdio::null()).failed(3).says(&["cannot use the build context cut.tar"]);
    let cut = fs::read(sandbox.path("cut.tar")).unwrap();
    let run = pipe(&sandbox, &[&TO_LAYOUT[..], &["-"]].concat(), &cut).failed(3);
    run.says(&[
        "cannot use the build context -: what came through the pipe is not a tar archive that can be read",
    ]);
    let over = ["build", "-o", "oci-archive:ctx.tar:1", "ctx.tar"];
    sandbox
        .run(&over)
        .failed(2)
        .says(&["the build context ctx.tar is the output of this build, which this run writes itself"]);
}

#[test]
fn standard_input_that_is_no_context_is_told() {
    let sandbox = Sandbox::small();
    for (context, file) in [("-", None), ("context", Some("-"))] {
        let more: &[&str] = if file.is_some() { &["-f", "-"] } else { &[] };
        let run = build(&sandbox, more, context, Stdio::null()).failed(2);
        run.says(&["standard input is empty"]);
    }
    pipe(&sandbox, &[&TO_LAYOUT[..], &["-"]].concat(), b"").failed(2).says(&["standard input is empty"]);
    let directory = File::open(sandbox.path("context")).unwrap();
    build(&sandbox, &[], "-", directory).failed(2).says(&["standard input is a directory: name it"]);
}

#[test]
fn an_archive_that_ends_without_its_end_is_built_with_a_warning() {
    let sandbox = packed(&[]);
    let whole = fs::read(sandbox.path("ctx.tar")).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(512);
    fs::write(sandbox.path("ctx.tar"), &whole[..end]).unwrap();
    let run = build(&sandbox, &[], "ctx.tar", Stdio::null()).done();
    run.says(&["the build context ctx.tar ends without the blocks of zeros"]);
    build(&sandbox, &["--strict"], "ctx.tar", Stdio::null()).failed(3);
}

#[test]
fn a_named_context_without_a_place_is_told_with_the_forms() {
    let sandbox = Sandbox::small();
    for (value, says) in [
        ("m", "there is nothing behind the name: write NAME=DIR"),
        ("m=", "there is nothing behind the name: write NAME=DIR"),
        ("m=docker-image://", "no image is named behind docker-image://"),
        ("m=docker://", "no image is named behind docker://"),
        ("m=oci:", "no image is named behind oci:"),
        ("m=context:ro", "\"context\" is there, and takes no option \"ro\""),
    ] {
        let run = build(&sandbox, &["--build-context", value], "context", Stdio::null());
        run.failed(2).says(&["--build-context m", says]);
    }
}

#[test]
fn what_would_be_downloaded_is_refused_by_name_with_the_way_out() {
    let sandbox = Sandbox::small();
    for (context, what, instead) in [
        ("https://me:secret@host/x.tar.gz", "a URL", "curl -fsSL URL | crossdock build -"),
        ("http://host/Containerfile", "a URL", "curl -fsSL URL | crossdock build -"),
        ("https://host/model.git", "a git repository", "git clone --depth 1 URL DIR"),
        ("https://host/model.git#main:sub", "a git repository", "git clone --depth 1 URL DIR"),
        ("git@host:org/model.git", "a git repository", "git clone --depth 1 URL DIR"),
        ("git://host/model", "a git repository", "git clone --depth 1 URL DIR"),
        ("ssh://git@host/model", "a git repository", "git clone --depth 1 URL DIR"),
        ("github.com/org/model", "a git repository", "git clone --depth 1 URL DIR"),
        ("gitlab.com/org/model", "a git repository", "git clone --depth 1 URL DIR"),
        ("host:8080/model.git", "a git repository", "git clone --depth 1 URL DIR"),
        ("s3://bucket/model", "a place that is not on this machine", "download it and name the directory"),
        ("hf://org/model", "a place that is not on this machine", "download it and name the directory"),
    ] {
        let run = build(&sandbox, &[], context, Stdio::null()).failed(2);
        assert!(!run.stderr.contains("secret"), "{run}");
        run.says(&["the build context ", &format!("{what} is not downloaded"), instead]);
        // Only the build context itself can be piped in.
        let instead = if what == "a URL" { "download it and name the file" } else { instead };
        let run = build(&sandbox, &["--build-context", &format!("x={context}")], "context", Stdio::null());
        run.failed(2).says(&["--build-context x=", &format!("{what} is not downloaded"), instead]);
    }
    for (context, says) in [
        ("file:///context", "it is a file: URL and no path: name the path alone"),
        ("docker://host/image", "it is an image and no path: name it with FROM"),
        ("nowhere", "does not exist"),
        ("sub/nowhere.git", "does not exist"),
    ] {
        build(&sandbox, &[], context, Stdio::null()).failed(2).says(&["the build context ", says]);
    }
    // What is there is what it is.
    fs::create_dir_all(sandbox.path("s3:/bucket")).unwrap();
    build(&sandbox, &["-f", "context/Containerfile"], "s3://bucket", Stdio::null()).failed(3);
    // Called as buildah, too.
    sandbox.buildah(&["bud", "-t", "x", "git@host:org/model.git"]).failed(125).says(&["is not downloaded"]);
}

/// The cache of `huggingface_hub`: `models--ORG--NAME` with `blobs`, `refs` and `snapshots`, whose files are links.
fn cache(sandbox: &Sandbox) -> String {
    let repository = sandbox.path("hub/models--org--name");
    let snapshot = repository.join("snapshots/c0ffee");
    fs::create_dir_all(repository.join("blobs")).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::create_dir_all(snapshot.join("onnx")).unwrap();
    fs::write(repository.join("refs/main"), "c0ffee").unwrap();
    fs::write(repository.join("blobs/1111"), "{}").unwrap();
    let weights = sandbox.path("weights.safetensors");
    fs::write(&weights, noise(100_000, 2)).unwrap();
    make_weights(&weights);
    fs::rename(weights, repository.join("blobs/2222")).unwrap();
    fs::set_permissions(repository.join("blobs/2222"), fs::Permissions::from_mode(0o644)).unwrap();
    symlink("../../blobs/1111", snapshot.join("config.json")).unwrap();
    symlink("../../blobs/2222", snapshot.join("model.safetensors")).unwrap();
    symlink("../../../blobs/2222", snapshot.join("onnx/model.onnx")).unwrap();
    snapshot.display().to_string()
}

#[test]
fn a_snapshot_of_hugging_face_is_built_from_with_its_links_followed() {
    let sandbox = Sandbox::new();
    sandbox.containerfile("FROM scratch\nCOPY . /models/\nUSER 1001\n");
    let snapshot = cache(&sandbox);
    let containerfile = ["-f", "context/Containerfile"];
    let run = build(&sandbox, &containerfile, &snapshot, Stdio::null()).done();
    run.says(&[
        "3 symlinks lead nowhere in the image: /models/config.json -> ../../blobs/1111",
        "build with --follow-links",
    ]);
    let strict = build(&sandbox, &[&containerfile[..], &["--strict"]].concat(), &snapshot, Stdio::null());
    strict.failed(3).says(&["3 symlinks lead nowhere", "--strict takes warnings for errors"]);
    let following = [&containerfile[..], &["--follow-links", "--strict"]].concat();
    let run = build(&sandbox, &following, &snapshot, Stdio::null()).done();
    assert_eq!(run.stderr, "", "{run}");
    let image = layout(&sandbox);
    assert_eq!(
        paths(&sandbox),
        ["models", "models/config.json", "models/model.safetensors", "models/onnx", "models/onnx/model.onnx"]
    );
    assert!(matches!(image.node("models/model.safetensors").kind, Kind::File { len: 100_000, .. }));
    // The cache itself as the context, and a snapshot as a further one.
    sandbox.containerfile("FROM scratch\nCOPY models--org--name/snapshots/c0ffee /models\n");
    build(&sandbox, &following, "hub", Stdio::null()).done();
    assert_eq!(layout(&sandbox).files.len(), 5);
    sandbox.containerfile("FROM scratch\nCOPY --from=hf . /models\n");
    let further = format!("hf={snapshot}");
    build(&sandbox, &[&following[..], &["--build-context", &further]].concat(), "context", Stdio::null())
        .done();
    assert_eq!(layout(&sandbox).files.len(), 5);
    // A flag of COPY that nobody has is told the way.
    sandbox.containerfile("FROM scratch\nCOPY --link-follow . /models\n");
    build(&sandbox, &[], "context", Stdio::null()).failed(3).says(&["crossdock build --follow-links"]);
}

/// The snapshot that the real `huggingface_hub` makes, where that is installed: its cache without its network.
#[test]
fn the_cache_that_huggingface_hub_makes_is_as_it_is_taken_to_be() {
    let sandbox = Sandbox::new();
    let script = "
import os, sys
from pathlib import Path
from huggingface_hub import file_download
folder = Path(sys.argv[1]) / file_download.repo_folder_name(repo_id='org/name', repo_type='model')
blob = folder / 'blobs' / 'abcd'
pointer = Path(file_download._get_pointer_path(str(folder), 'c0ffee', 'config.json'))
blob.parent.mkdir(parents=True)
pointer.parent.mkdir(parents=True)
blob.write_text('{}')
file_download._create_symlink(str(blob), str(pointer))
print(pointer.parent)
";
    let hub = sandbox.path("hub").display().to_string();
    let output = Command::new("python3").args(["-c", script, &hub]).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        crate::left_out::skip("huggingface_hub is not installed");
        return;
    };
    let snapshot = String::from_utf8(output.stdout).unwrap();
    sandbox.containerfile("FROM scratch\nCOPY . /models/\n");
    let args = ["-f", "context/Containerfile", "--follow-links", "--strict"];
    build(&sandbox, &args, snapshot.trim(), Stdio::null()).done();
    assert_eq!(paths(&sandbox), ["models", "models/config.json"]);
}

#[test]
fn strict_ends_a_build_with_warnings_before_a_byte_is_sent() {
    let registry = Registry::start();
    let base = registry.name("base:1");
    crate::support::base::Base::new().push(&base);
    let sandbox = Sandbox::new();
    sandbox.write("weights", noise(4096, 1));
    sandbox.mode("weights", 0o600);
    symlink("nowhere", sandbox.file("link")).unwrap();
    sandbox.containerfile(&format!("FROM {base}\nARG unknown\nLABEL a=$none\nCOPY . /m/\nUSER 1001\n"));
    sandbox.write(".containerignore", "Containerfile\n.containerignore\n");
    let name = registry.name("models/strict:1");
    let push = ["build", "--push", "--tls-verify=false", "-t", &name, "context"];
    let before = blobs(&registry);
    for more in [&["--strict"][..], &["--strict", "-q"], &["--strict", "--squash", "--progress=none"]] {
        let run = sandbox.run(&[&push[..5], more, &push[5..]].concat()).failed(3).says(&[
            "the variable none is not set",
            "USER 1001 cannot read what COPY adds: /m/weights, write COPY --chmod=a+rX",
            "1 symlink leads nowhere in the image: /m/link -> nowhere",
            "there are 3 warnings, and --strict takes warnings for errors: nothing was sent",
        ]);
        assert_eq!(run.stdout, "", "{run}");
        assert_eq!((blobs(&registry), registry.tag("models/strict", "1")), (before, None), "{run}");
        assert_eq!(registry.open_uploads("models/strict"), 0);
    }
    sandbox
        .run(&["build", "--strict", "--dry-run", "--tls-verify=false", "-t", "x", "context"])
        .failed(3)
        .says(&["3 warnings"]);
    // Without it they are warnings, with -q too, and standard output is the digest alone.
    let run = sandbox.run(&[&push[..5], &["-q", "context"]].concat()).done();
    assert_eq!(run.stderr.matches("WARN").count(), 3, "{run}");
    assert!(run.stdout.starts_with("sha256:") && run.stdout.lines().count() == 1, "{run}");
    fs::remove_file(sandbox.file("link")).unwrap();
    sandbox.containerfile(&format!("FROM {base}\nCOPY --chmod=a+rX . /m/\nUSER 1001\n"));
    sandbox.run(&[&push[..5], &["--strict", "context"]].concat()).done();
    assert!(registry.tag("models/strict", "1").is_some());
}

/// How many blobs a registry has.
fn blobs(registry: &Registry) -> usize {
    fn files(directory: &Path) -> usize {
        let Ok(entries) = fs::read_dir(directory) else { return 0 };
        let entries = entries.map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
    }
    let some = registry.blob("sha256:00");
    // blobs/sha256/00/00/data
    some.ancestors().nth(3).map_or(0, files)
}

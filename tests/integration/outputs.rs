//! Images on disk, and the options that shape an image.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::support::base::Base;
use crate::support::image::{Image, Kind, Node, check_layout};
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::{digest_of, noise, write_large};

/// A base of two gzip layers, two small files and a large one.
fn model() -> Sandbox {
    let sandbox = Sandbox::new();
    Base::new().write_layout(&sandbox.path("base"));
    sandbox.containerfile("FROM oci:base:latest\nCOPY model /models\nCOPY extra /extra\n");
    sandbox.write("model/config.json", "{}");
    sandbox.write("extra/README", "text");
    write_large(&sandbox.file("model/shard"), 1 << 20, 1);
    sandbox
}

const SPLIT: [&str; 2] = ["--layer-file-size", "1MiB"];

fn check_model(image: &Image) {
    assert_eq!(*image.node("models/config.json"), Node::file(b"{}", 0o644));
    assert_eq!(*image.node("extra/README"), Node::file(b"text", 0o644));
    assert_eq!(image.node("tmp").mode, 0o1777);
    assert_eq!(image.node("usr/bin/serve").mode, 0o755);
    assert!(matches!(image.node("models/shard").kind, Kind::File { len: 1_048_576, .. }));
}

fn read(sandbox: &Sandbox, transport: &str, path: &str) -> Image {
    let (path, reference) = path.split_once(':').map_or((path, String::new()), |(p, r)| (p, format!(":{r}")));
    Image::read(&format!("{transport}:{}{reference}", sandbox.path(path).display()))
}

#[test]
fn an_oci_layout_is_made_and_added_to() {
    let sandbox = model();
    let first = sandbox.built(&[&SPLIT[..], &["-o", "oci:layout:v1"]].concat());
    let image = read(&sandbox, "oci", "layout:v1");
    check_model(&image);
    assert_eq!(image.digest, first.digest());
    assert_eq!(first.outcomes(), ["written"; 5]);

    sandbox.write("extra/README", "other");
    let second = sandbox.built(&[&SPLIT[..], &["-o", "oci:layout:v2"]].concat());
    assert_eq!(second.outcomes()[..2], ["present", "present"]);
    assert_eq!(*read(&sandbox, "oci", "layout:v2").node("extra/README"), Node::file(b"other", 0o644));
    assert_eq!(read(&sandbox, "oci", "layout:v1").digest, first.digest());
    let names = |images: &[Value]| -> Vec<String> {
        let name = |image: &Value| {
            image["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned)
        };
        images.iter().filter_map(name).collect()
    };
    assert_eq!(names(&check_layout(&sandbox.path("layout"))), ["v1", "v2"]);

    // A name that is there is moved.
    let third = sandbox.built(&[&SPLIT[..], &["-o", "oci:layout:v1"]].concat());
    assert_eq!(names(&check_layout(&sandbox.path("layout"))), ["v2", "v1"]);
    assert_eq!(read(&sandbox, "oci", "layout:v1").digest, third.digest());
}

#[test]
fn a_directory_that_is_no_layout_is_left_alone() {
    let sandbox = model();
    fs::create_dir(sandbox.path("full")).unwrap();
    fs::write(sandbox.path("full/precious"), "p").unwrap();
    let before = sandbox.files_below("full");
    sandbox.build(&["-o", "oci:full:v1"]).failed(3).says(&["full is not empty and not an OCI layout"]);
    assert_eq!(sandbox.files_below("full"), before);
}

#[test]
fn archives_are_read_by_skopeo() {
    let sandbox = model();
    let built = sandbox.built(&[&SPLIT[..], &["-o", "oci-archive:oci.tar:v1"]].concat());
    let image = read(&sandbox, "oci-archive", "oci.tar:v1");
    check_model(&image);
    assert_eq!(image.digest, built.digest());

    sandbox.built(&[&SPLIT[..], &["-o", "docker-archive:docker.tar:example.com/model:v1"]].concat());
    check_model(&read(&sandbox, "docker-archive", "docker.tar:example.com/model:v1"));
    let mut names = None;
    let mut archive = tar::Archive::new(fs::File::open(sandbox.path("docker.tar")).unwrap());
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        if entry.path_bytes().as_ref() == b"manifest.json" {
            let manifest: Value = serde_json::from_reader(entry).unwrap();
            names = Some(manifest[0]["RepoTags"].clone());
        }
    }
    assert_eq!(names, Some(json!(["example.com/model:v1"])));
}

#[test]
fn a_docker_archive_of_compressed_layers_is_not_compressed() {
    let sandbox = model();
    sandbox.built(&["--compression-format", "gzip", "-o", "docker-archive:docker.tar:model:v1"]);
    check_model(&read(&sandbox, "docker-archive", "docker.tar:model:v1"));
}

#[test]
fn how_an_archive_stores_layers_says_nothing_of_other_places() {
    let sandbox = model();
    let gzip = ["--compression-format", "gzip", "--timestamp", "0"];
    let archive = ["-o", "docker-archive:docker.tar:model:v1"];
    // A file that was written within the last two seconds is not remembered.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    sandbox.built(&[&gzip[..], &archive].concat());
    sandbox.built(&[&gzip[..], &archive, &["-o", "oci:both:v1"]].concat());
    sandbox.built(&[&gzip[..], &["-t", "m"]].concat());
    sandbox.run(&["push", "m", "oci:pushed:v1"]).done();
    let both = read(&sandbox, "oci", "both:v1");
    assert_eq!(read(&sandbox, "oci", "pushed:v1").digest, both.digest);
    check_model(&both);
    for layer in &both.layers {
        assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    check_layout(&sandbox.path("pushed"));
}

/// Everything outside the context, so that nothing can be left over unseen.
fn outside(sandbox: &Sandbox) -> BTreeMap<String, u64> {
    let mut files = sandbox.files_below("");
    files.retain(|path, _| !path.contains("/context/"));
    files
}

#[test]
fn a_build_that_fails_leaves_no_output() {
    let sandbox = model();
    sandbox.built(&["-o", "oci:there:v1"]);
    fs::write(sandbox.path("there.tar"), "the archive of yesterday").unwrap();
    let before = outside(&sandbox);
    // The base's first layer is not what its digest says: noticed when all else is under way or done.
    let blobs = sandbox.path("base/blobs/sha256");
    let layer = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        fs::read(path).unwrap().starts_with(&[0x1f, 0x8b]) && fs::metadata(path).unwrap().len() > 150
    });
    let layer = layer.unwrap();
    let sound = fs::read(&layer).unwrap();
    let mut damaged = sound.clone();
    damaged[8] ^= 1;
    // The header's extra flags: gunzip does not mind, and the tree can be read.
    fs::write(&layer, damaged).unwrap();
    for output in [
        "oci:new:v1",
        "oci:deep/new:v1",
        "oci:there:v2",
        "oci-archive:new.tar:v1",
        "docker-archive:new.tar:a:b",
        "oci-archive:there.tar",
    ] {
        for jobs in ["1", "4"] {
            let root = ["--root", "no-memos", "--digestfile", "digest", "--iidfile", "iid"];
            sandbox
                .build(&[&["-o", output, "--jobs", jobs], &root[..]].concat())
                .failed(5)
                .says(&["expected sha256:"]);
            let mut after = outside(&sandbox);
            after.retain(|path, _| !path.contains("/no-memos/"));
            assert_eq!(after, before, "{output}");
            assert!(!sandbox.path("new").exists() && !sandbox.path("deep").exists(), "{output}");
        }
    }
    fs::write(&layer, sound).unwrap();
    sandbox.built(&["-o", "oci:there:v2"]);
    check_layout(&sandbox.path("there"));
}

#[test]
fn layers_are_compressed_when_asked() {
    let sandbox = model();
    sandbox.write("model/text", "0123456789".repeat(100_000));
    for (format, level) in [("zstd", "19"), ("gzip", "1")] {
        let output = format!("oci:{format}:v1");
        let args = ["--compression-format", format, "--compression-level", level, "-o", &output];
        let built = sandbox.built(&[&SPLIT[..], &args].concat());
        let image = read(&sandbox, "oci", &format!("{format}:v1"));
        check_model(&image);
        for layer in &image.layers[2..] {
            assert_eq!(layer.media_type, format!("application/vnd.oci.image.layer.v1.tar+{format}"));
        }
        let size = built.image["layers"][2]["size"].as_u64().unwrap();
        assert!(size < 100_000, "{format}: {size}");
    }
}

#[test]
fn the_docker_format_has_dockers_media_types() {
    let registry = Registry::start();
    let sandbox = model();
    sandbox.pushed(&registry.name("model:1"), &["--format", "docker"]);
    let image = Image::pull(&registry.name("model:1"));
    check_model(&image);
    assert_eq!(image.manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(image.manifest["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    let types: Vec<_> = image.layers.iter().map(|layer| layer.media_type.as_str()).collect();
    let plain = "application/vnd.docker.image.rootfs.diff.tar";
    assert_eq!(types, [&format!("{plain}.gzip"), &format!("{plain}.gzip"), plain, plain]);
}

#[test]
fn squash_makes_one_layer_of_all_that_is_new() {
    let sandbox = model();
    sandbox.built(&[&SPLIT[..], &["--squash", "-o", "oci:layout:v1"]].concat());
    let image = read(&sandbox, "oci", "layout:v1");
    check_model(&image);
    assert_eq!(image.layers.len(), 3, "the base's two, and one");
}

#[test]
fn a_later_copy_wins_squashed_or_not() {
    let sandbox = Sandbox::new();
    sandbox.write("a/x", "first");
    sandbox.write("b/x", "second");
    sandbox.containerfile("FROM scratch\nCOPY a /m\nCOPY b /m\n");
    for squash in [&["-o", "oci:plain:v1"][..], &["--squash", "-o", "oci:squashed:v1"]] {
        sandbox.built(squash);
    }
    for name in ["plain:v1", "squashed:v1"] {
        assert_eq!(*read(&sandbox, "oci", name).node("m/x"), Node::file(b"second", 0o644));
    }
}

#[test]
fn labels_and_annotations_are_where_they_belong() {
    let sandbox = model();
    sandbox.built(&[
        "--annotation",
        "org.example.b=2",
        "--annotation",
        "a=x=y",
        "--label",
        "l=1",
        "--label",
        "empty",
        "-o",
        "oci:o:v1",
    ]);
    let image = read(&sandbox, "oci", "o:v1");
    let mut annotations = image.manifest["annotations"].clone();
    annotations.as_object_mut().unwrap().retain(|name, _| !name.starts_with("org.opencontainers.image."));
    assert_eq!(annotations, json!({"a": "x=y", "org.example.b": "2"}));
    assert_eq!(image.config["config"]["Labels"], json!({"empty": "", "from": "base", "l": "1"}));
}

#[test]
fn digests_are_written_without_a_newline() {
    let sandbox = model();
    let built = sandbox.built(&["-o", "oci:o:v1", "--digestfile", "digest", "--iidfile", "iid"]);
    let image = read(&sandbox, "oci", "o:v1");
    assert_eq!(fs::read_to_string(sandbox.path("digest")).unwrap(), image.digest);
    assert_eq!(fs::read_to_string(sandbox.path("iid")).unwrap(), image.manifest["config"]["digest"]);
    assert_eq!(built.image["image_id"], image.manifest["config"]["digest"]);
}

#[test]
fn quiet_prints_the_digest_alone() {
    let sandbox = model();
    let run = sandbox.build(&["-q", "-o", "oci:o:v1"]).done();
    assert_eq!(run.stdout, format!("{}\n", read(&sandbox, "oci", "o:v1").digest));
    assert_eq!(run.stderr, "");
}

#[test]
fn a_containerfile_comes_from_anywhere() {
    let sandbox = Sandbox::new();
    sandbox.write("data", "d");
    sandbox.write("Dockerfile", "FROM scratch\nCOPY data /from-dockerfile\n");
    sandbox.write("sub/other", "FROM scratch\nCOPY data /from-sub\n");
    fs::write(sandbox.path("outside"), "FROM scratch\nCOPY data /from-outside\n").unwrap();
    let path = |args: &[&str]| {
        sandbox.built(&[args, &["-o", "oci:o:v1"]].concat());
        let files = read(&sandbox, "oci", "o:v1").files;
        fs::remove_dir_all(sandbox.path("o")).unwrap();
        files.into_keys().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(path(&[]), "from-dockerfile");
    assert_eq!(path(&["-f", "sub/other"]), "from-sub");
    assert_eq!(path(&["--file=outside"]), "from-outside");
    sandbox.containerfile("FROM scratch\nCOPY data /from-containerfile\n");
    assert_eq!(path(&[]), "from-containerfile");

    let args = ["build", "-q", "-f", "-", "-o", "oci:stdin:v1", "context"];
    sandbox.run_with_input(&args, "FROM scratch\nCOPY data /from-stdin\n").done();
    assert!(read(&sandbox, "oci", "stdin:v1").files.contains_key("from-stdin"));
}

#[test]
fn the_target_is_built_and_no_stage_that_it_does_not_need() {
    let sandbox = Sandbox::new();
    sandbox.write("data", "d");
    sandbox.containerfile(
        "FROM scratch AS one\nCOPY data /one\nFROM scratch AS two\nRUN make\nFROM one AS three\nCOPY data /three\n",
    );
    for (target, files) in [("one", vec!["one"]), ("THREE", vec!["one", "three"]), ("0", vec!["one"])] {
        sandbox.built(&["--target", target, "-o", "oci:o:v1"]);
        assert_eq!(read(&sandbox, "oci", "o:v1").files.into_keys().collect::<Vec<_>>(), files);
    }
    sandbox.build(&["--target", "two"]).failed(3).says(&["RUN is not carried out"]);
}

#[test]
fn build_args_come_from_the_command_line_the_environment_and_the_default() {
    let sandbox = Sandbox::new();
    sandbox.write("v1", "1");
    sandbox.write("v2", "2");
    sandbox.containerfile("ARG BASE=nothing\nFROM $BASE\nARG VERSION=v1\nARG FROM_ENV=none\nLABEL v=$VERSION e=$FROM_ENV\nCOPY $VERSION /data\n");
    let labels = |args: &[&str]| {
        let args =
            [&["build", "-q", "--build-arg", "BASE=scratch", "-o", "oci:o:v1"], args, &["context"]].concat();
        let output = sandbox.command(&args).env("FROM_ENV", "the environment").output().unwrap();
        sandbox.finish(output, &args).done();
        read(&sandbox, "oci", "o:v1").config["config"]["Labels"].clone()
    };
    assert_eq!(labels(&[]), json!({"v": "v1", "e": "none"}));
    assert_eq!(
        labels(&["--build-arg=VERSION=v2", "--build-arg", "FROM_ENV"]),
        json!({"v": "v2", "e": "the environment"})
    );
    assert_eq!(labels(&["--build-arg", "NOT_THERE", "--build-arg="]), json!({"v": "v1", "e": "none"}));
}

#[test]
fn what_the_ignore_file_names_stays_out() {
    let sandbox = Sandbox::new();
    for name in [
        "model/keep",
        "model/a.tmp",
        "model/deep/b.tmp",
        "model/deep/important.tmp",
        ".git/config",
        "notes.md",
    ] {
        sandbox.write(name, noise(10, 1));
    }
    sandbox.containerfile("FROM scratch\nCOPY . /c\n");
    sandbox.write(
        ".containerignore",
        "# what is made anew\n**/*.tmp\n!**/important.tmp\n.git\nContainerfile\n.containerignore\n",
    );
    let files = |args: &[&str]| {
        sandbox.built(&[args, &["-o", "oci:o:v1"]].concat());
        let files = read(&sandbox, "oci", "o:v1").files;
        files
            .into_iter()
            .filter(|(_, node)| node.kind != Kind::Directory)
            .map(|(path, _)| path)
            .collect::<Vec<_>>()
    };
    assert_eq!(files(&[]), ["c/model/deep/important.tmp", "c/model/keep", "c/notes.md"]);
    fs::write(sandbox.path("other"), "*\n!notes.md\n").unwrap();
    assert_eq!(files(&["--ignorefile", "other"]), ["c/notes.md"]);
}

#[test]
fn without_a_destination_there_are_digests_and_nothing_else() {
    let sandbox = model();
    let before = outside(&sandbox);
    let built = sandbox.built(&["--timestamp", "1", "--root", "no-memos"]);
    assert_eq!(built.image["names"], json!([]));
    sandbox.built(&["--timestamp", "1", "-o", "oci:o:v1"]);
    assert_eq!(read(&sandbox, "oci", "o:v1").digest, built.digest());
    assert_ne!(built.digest(), digest_of(b""));
    let mut after = outside(&sandbox);
    after.retain(|path, _| !path.contains("/no-memos/") && !path.contains("/o/") && !path.contains("/home/"));
    assert_eq!(after, before);
}

#[test]
fn an_image_goes_to_a_registry_and_to_disk_in_one_build() {
    let registry = Registry::start();
    let sandbox = model();
    let built = sandbox.pushed(&registry.name("model:1"), &["-o", "oci:o:v1"]);
    assert_eq!(read(&sandbox, "oci", "o:v1").digest, built.digest());
    assert_eq!(Image::pull(&registry.name("model:1")).digest, built.digest());
}

//! `build` and `push` as two processes: what is remembered between them, and that it is not trusted blindly.

use std::fs;

use crate::support::base::Base;
use crate::support::image::{Image, Kind, Node};
use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Sandbox};
use crate::support::{make_old, write_large};

const MODEL: u64 = 3 << 20;

/// A model of one large file and one small, on a base of the registry.
fn model(registry: &Registry) -> Sandbox {
    Base::new().push(&registry.name("base:1"));
    let sandbox = Sandbox::new();
    sandbox.containerfile(&format!("FROM {}\nCOPY model /models\nUSER 1001\n", registry.name("base:1")));
    sandbox.write("model/config.json", "{}");
    write_large(&sandbox.file("model/weights"), MODEL, 1);
    sandbox
}

const SPLIT: [&str; 2] = ["--layer-file-size", "1MiB"];

fn push(sandbox: &Sandbox, args: &[&str]) -> Built {
    let run = sandbox.run(&[&["push", "--progress", "json", "--tls-verify=false"], args].concat());
    Built::of(run.done())
}

#[test]
fn an_image_is_built_by_one_process_and_pushed_by_another() {
    let registry = Registry::start();
    let sandbox = model(&registry);
    let name = registry.name("team/model:1");
    let built = sandbox.built(&[&SPLIT[..], &["-t", &name, "--iidfile", "iid"]].concat());
    assert_eq!(built.image["recorded"], true);
    assert_eq!(built.number("bytes_read"), MODEL + 2);
    assert_eq!(registry.tag("team/model", "1"), None);
    let remembered: u64 = sandbox.files_below("home").values().sum();
    assert!(remembered < 16 << 10, "{:?}", sandbox.files_below("home"));

    let pushed = push(&sandbox, &[&name, "--digestfile", "digest"]);
    assert_eq!(pushed.digest(), built.digest());
    assert_eq!(pushed.layers(), built.layers());
    assert_eq!(pushed.number("bytes_read"), MODEL + 2);
    assert_eq!(fs::read_to_string(sandbox.path("digest")).unwrap(), built.digest());
    let image = Image::pull(&name);
    assert_eq!(image.digest, built.digest());
    assert_eq!(image.node("models/config.json"), &Node::file(b"{}", 0o644));
    assert!(matches!(image.node("models/weights").kind, Kind::File { len: MODEL, .. }));
    assert_eq!(image.node("tmp").mode, 0o1777);
    assert_eq!(fs::read_to_string(sandbox.path("iid")).unwrap(), image.manifest["config"]["digest"]);

    // By the beginning of its ID, to another place of the same registry: nothing is read and nothing sent.
    let id = &built.image["image_id"].as_str().unwrap()["sha256:".len()..][..12];
    let again = push(&sandbox, &[id, &format!("docker://{}", registry.name("other:2"))]);
    assert_eq!((again.digest(), again.number("bytes_read")), (built.digest(), 0));
    assert!(again.outcomes().iter().all(|outcome| outcome == "mounted"), "{}", again.image);
    assert_eq!(registry.tag("other", "2").as_deref(), Some(built.digest()));
}

#[test]
fn a_file_that_changed_since_the_build_is_named_where_its_bytes_are_needed() {
    let registry = Registry::start();
    let sandbox = model(&registry);
    let name = registry.name("model:1");
    let built = sandbox.built(&[&SPLIT[..], &["-t", &name]].concat());
    push(&sandbox, &[&name]);

    let weights = sandbox.file("model/weights");
    let bytes = fs::read(&weights).unwrap();
    let elsewhere = Registry::start();
    let refused = |reason: &str| {
        let to = format!("docker://{}", elsewhere.name("model:1"));
        let run = sandbox.run(&["push", "--tls-verify=false", &name, &to]).failed(4);
        run.says(&["model/weights changed since the build looked at it", reason]);
        assert_eq!(elsewhere.tag("model", "1"), None);
        assert_eq!(elsewhere.open_uploads("model"), 0);
        // Found before the other layer is sent.
        sandbox.run(&["push", &name, "oci:layout"]).failed(4).says(&[reason]);
        assert!(!sandbox.path("layout").exists());
        // The registry has all of the image as it was built: no file is needed.
        let again = push(&sandbox, &[&name, &format!("docker://{}", registry.name("model:2"))]);
        assert_eq!((again.digest(), again.number("bytes_read")), (built.digest(), 0));
    };
    fs::write(&weights, &bytes).unwrap();
    refused("its modification time is another");
    fs::write(&weights, &bytes[1..]).unwrap();
    refused("it shrank from 3145728 to 3145727 bytes");
    // Made while the old one has its inode, or it might get that.
    let other = sandbox.path("other");
    fs::write(&other, &bytes).unwrap();
    fs::remove_file(&weights).unwrap();
    refused("it is gone");
    fs::rename(&other, &weights).unwrap();
    refused("another file stands in its place");
    // Built again, it goes.
    sandbox.built(&[&SPLIT[..], &["-t", &name]].concat());
    push(&sandbox, &[&name, &format!("docker://{}", elsewhere.name("model:1"))]);
}

#[test]
fn an_image_is_pushed_in_another_form_with_the_same_id() {
    let registry = Registry::start();
    let sandbox = model(&registry);
    let built = sandbox.built(&[&SPLIT[..], &["-t", "model:1"]].concat());
    let files = |image: &Image| {
        assert_eq!(image.manifest["config"]["digest"], built.image["image_id"]);
        assert_eq!(image.node("models/config.json"), &Node::file(b"{}", 0o644));
        image.node("models/weights").clone()
    };
    push(&sandbox, &["model:1", "oci:as-it-is:1"]);
    let as_it_is = Image::read(&format!("oci:{}:1", sandbox.path("as-it-is").display()));
    assert_eq!(as_it_is.digest, built.digest());

    for (compression, media_type) in [
        ("zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ] {
        let name = registry.name(&format!("{compression}:1"));
        push(&sandbox, &["model:1", &name, "--compression-format", compression]);
        let image = Image::pull(&name);
        assert_eq!(image.layers.last().unwrap().media_type, media_type);
        assert_eq!(files(&image), files(&as_it_is));
    }

    let name = registry.name("docker:1");
    push(&sandbox, &["model:1", &name, "--format", "v2s2"]);
    let image = Image::pull(&name);
    assert_eq!(image.manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(files(&image), files(&as_it_is));

    let run = sandbox.run(&["push", "model:1", &name, "--format", "docker", "--compression-format", "zstd"]);
    run.failed(3).says(&["the docker format has no media type for zstd layers"]);
}

#[test]
fn an_image_that_was_built_here_is_a_base() {
    let registry = Registry::start();
    let sandbox = model(&registry);
    let parent = sandbox.built(&[&SPLIT[..], &["-t", "parent:1"]].concat());
    sandbox
        .containerfile("FROM parent:1\nCOPY model/config.json /models/more/\nCOPY model/config.json /tmp/\n");
    let child = sandbox.built(&["-t", "child"]);
    assert_eq!(child.number("bytes_read"), 4, "of the base's files, none");
    let layers = parent.layers();
    assert_eq!(child.layers()[..layers.len()], layers);

    let name = registry.name("child:1");
    push(&sandbox, &["child", &name]);
    let image = Image::pull(&name);
    assert_eq!(image.digest, child.digest());
    assert_eq!(image.node("models/more/config.json"), &Node::file(b"{}", 0o644));
    assert!(matches!(image.node("models/weights").kind, Kind::File { len: MODEL, .. }));
    assert_eq!(image.node("tmp").mode, 0o1777, "the base of the base has it");
    assert_eq!(image.config["config"]["User"], "1001");

    // It is the base's file that changed.
    fs::write(sandbox.file("model/weights"), "other").unwrap();
    let run = sandbox.build(&["-t", "child"]).failed(4);
    run.says(&["model/weights changed since the build looked at it"]);
}

#[test]
fn what_no_image_is_called_is_an_error_that_says_what_there_is() {
    let registry = Registry::start();
    let sandbox = model(&registry);
    let to = format!("docker://{}", registry.name("x:1"));
    sandbox
        .run(&["push", "nothing", &to])
        .failed(3)
        .says(&["no image nothing here", "nothing was built or pulled"]);
    sandbox.built(&["-t", "one"]);
    sandbox.run(&["push", "two", &to]).failed(3).says(&["no image two here: there are localhost/one:latest"]);
    sandbox.run(&["push", "one"]).failed(2).says(&["one: it names no registry to push to"]);
    // Of 17 IDs two begin alike.
    let mut firsts = Vec::new();
    let twice = (0..17).find_map(|n| {
        let built = sandbox.built(&["--label", &format!("n={n}")]);
        let first = built.image["image_id"].as_str().unwrap()["sha256:".len()..][..1].to_owned();
        let there = firsts.contains(&first);
        firsts.push(first.clone());
        there.then_some(first)
    });
    let run = sandbox.run(&["push", &twice.unwrap(), &to]).failed(3);
    run.says(&["is the beginning of the IDs of"]);
}

#[test]
fn digests_that_are_remembered_can_be_distrusted() {
    let registry = Registry::start();
    let sandbox = model(&registry);
    for name in ["model/config.json", "model/weights"] {
        make_old(&sandbox.file(name));
    }
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    assert_eq!(sandbox.built(&["-t", "model"]).number("bytes_read"), MODEL + 2);
    assert_eq!(sandbox.built(&["-t", "model"]).number("bytes_read"), 0);
    assert_eq!(sandbox.built(&["-t", "model", "--no-memo"]).number("bytes_read"), MODEL + 2);
}

#[test]
fn a_second_destination_takes_the_digests_from_the_first() {
    let registry = Registry::start();
    let sandbox = model(&registry);
    // Written just now, so nothing is remembered of them.
    let args = ["-t", &registry.name("one:1"), "-t", &registry.name("two:1"), "--push", "-o", "oci:layout:1"];
    let built = sandbox.built(&[&SPLIT[..], &args].concat());
    assert_eq!(built.number("bytes_read"), 2 * (MODEL + 2), "once for the layout, once for the registry");
    assert_eq!(built.outcomes(), ["mounted"; 4]);
    for repository in ["one", "two"] {
        assert_eq!(registry.tag(repository, "1").as_deref(), Some(built.digest()));
    }
}

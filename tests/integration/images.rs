//! Files out of images: `COPY --from` an image, `--build-context`, and archives that ADD unpacks.

use std::fs;
use std::process::Command;

use crate::support::base::Base;
use crate::support::image::{Image, Kind, Node};
use crate::support::noise;
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;

const SERVE: &[u8] = b"#!/bin/sh\n";

#[test]
fn files_are_copied_out_of_images_wherever_they_are() {
    let registry = Registry::start();
    let large = noise(3 << 20, 5);
    let base = Base::new().with_file("usr/large", &large);
    base.push(&registry.name("tools:1"));
    let sandbox = Sandbox::new();
    base.write_layout(&sandbox.path("layout"));
    // The third one is remembered here, with a layer that is made of files.
    sandbox.write("large", &large);
    let tools = registry.name("tools:1");
    sandbox.containerfile(&format!("FROM {tools}\nCOPY --chmod=644 large /usr/large\n"));
    sandbox.built(&["-t", "mine"]);
    fs::remove_file(sandbox.file("Containerfile")).unwrap();
    for from in [tools.as_str(), "oci:layout:latest", "mine"] {
        sandbox.containerfile(&format!(
            "FROM scratch\nCOPY --from={from} /usr/bin/serve usr/large /bin/\nCOPY --from={from} /var/run /etc /e/\n"
        ));
        let built = sandbox.pushed(&registry.name("model:1"), &[]);
        assert!(built.number("bytes_written") < 1 << 20, "{from}: {}", built.image);
        let image = Image::pull(&registry.name("model:1"));
        assert_eq!(image.node("bin/serve").kind, Node::file(SERVE, 0o755).kind, "{from}");
        assert_eq!(image.node("bin/serve").mode, 0o755);
        assert_eq!(image.node("bin/large").kind, Node::file(&large, 0o644).kind, "{from}");
        assert!(image.files.contains_key("e/passwd"), "{from}: {:?}", image.files.keys());
    }
}

#[test]
fn a_stage_gives_the_files_of_its_base_away() {
    let registry = Registry::start();
    Base::new().push(&registry.name("tools:1"));
    let sandbox = Sandbox::small();
    sandbox.containerfile(&format!(
        "FROM {} AS tools\nCOPY model /m\nFROM scratch\nCOPY --from=tools /usr /m /all/\n",
        registry.name("tools:1")
    ));
    // The second run has the index from the first.
    for name in ["model:1", "model:2"] {
        sandbox.pushed(&registry.name(name), &[]);
        let image = Image::pull(&registry.name(name));
        assert_eq!(image.node("all/bin/serve").kind, Node::file(SERVE, 0o755).kind);
        assert_eq!(*image.node("all/config.json"), Node::file(b"{}", 0o644));
    }
}

#[test]
fn a_record_with_files_of_an_image_is_pushed_later() {
    let registry = Registry::start();
    Base::new().push(&registry.name("tools:1"));
    let sandbox = Sandbox::new();
    let tar =
        Command::new("tar").args(["-C", "/", "-czf"]).arg(sandbox.file("a.tgz")).arg("etc/hostname").output();
    assert!(tar.unwrap().status.success());
    sandbox.containerfile(&format!(
        "FROM scratch\nCOPY --from={} /usr/bin/serve /serve\nADD a.tgz /\n",
        registry.name("tools:1")
    ));
    sandbox.built(&["-t", "mine"]);
    let name = registry.name("model:1");
    sandbox.run(&["push", "--tls-verify=false", "mine", &format!("docker://{name}")]).done();
    let image = Image::pull(&name);
    assert_eq!(image.node("serve").kind, Node::file(SERVE, 0o755).kind);
    let hostname = fs::read("/etc/hostname").unwrap();
    assert_eq!(image.node("etc/hostname").kind, Node::file(&hostname, 0o644).kind);
}

#[test]
fn build_contexts_are_directories_and_images() {
    let registry = Registry::start();
    Base::new().push(&registry.name("tools:1"));
    let sandbox = Sandbox::small();
    Base::new().write_layout(&sandbox.path("layout"));
    fs::create_dir(sandbox.path("more")).unwrap();
    fs::write(sandbox.path("more/file"), "more").unwrap();
    sandbox.containerfile(
        "FROM scratch AS taken\nRUN never\nFROM image\nCOPY --from=dir file /more/\nCOPY --from=layout /usr/bin/serve /more/\n\
         COPY --from=taken file /more/second\n",
    );
    let image = format!("image=docker://{}", registry.name("tools:1"));
    let args = ["image", "dir", "layout", "taken"].map(|name| match name {
        "image" => format!("--build-context={image}"),
        "layout" => "--build-context=layout=oci:layout:latest".to_owned(),
        name => format!("--build-context={name}=more"),
    });
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    sandbox.pushed(&registry.name("model:1"), &args);
    let image = Image::pull(&registry.name("model:1"));
    assert_eq!(image.node("more/file").kind, Node::file(b"more", 0o644).kind);
    assert_eq!(image.node("more/second").kind, Node::file(b"more", 0o644).kind);
    assert_eq!(image.node("more/serve").kind, Node::file(SERVE, 0o755).kind);
    assert_eq!(image.node("var/run").kind, Kind::Symlink("/run".to_owned()));

    let name = registry.name("model:2");
    let fails = |context: &str, code: i32, says: &[&str]| {
        let args = ["--tls-verify=false", "--push", "-t", &name, "--build-context", context];
        sandbox.build(&args).failed(code).says(says);
    };
    fails(
        "image=more",
        3,
        &["Containerfile:3:6", "the build context image is no image but the files of more"],
    );
    fails("image=https://example.org/x.tar", 2, &["a URL is not downloaded: download it"]);
    fails("image=none", 2, &["\"none\" is no directory"]);
}

#[test]
fn an_archive_is_unpacked_into_the_layer_and_not_to_disk() {
    let registry = Registry::start();
    let sandbox = Sandbox::new();
    let large = noise(70 << 20, 3);
    fs::create_dir_all(sandbox.path("in/d")).unwrap();
    fs::write(sandbox.path("in/d/large"), &large).unwrap();
    fs::write(sandbox.path("in/small"), "small").unwrap();
    fs::hard_link(sandbox.path("in/small"), sandbox.path("in/d/hard")).unwrap();
    let mut digests = Vec::new();
    for flag in ["-c", "-cz"] {
        let archive = sandbox.file("a.tar");
        let mut tar = Command::new("tar");
        tar.args(["--owner=7", "--group=8", "--sort=name", flag, "-f"]).arg(&archive);
        assert!(tar.arg("-C").arg(sandbox.path("in")).arg(".").status().unwrap().success());
        sandbox.containerfile("FROM scratch\nADD a.tar /m\n");
        let built = sandbox.pushed(&registry.name("model:1"), &[]);
        assert!(built.number("bytes_written") < 1 << 20, "{flag}: {}", built.image);
        assert!(built.number("bytes_read") < 75 << 20, "{flag}: {}", built.image);
        let image = Image::pull(&registry.name("model:1"));
        assert_eq!(image.node("m/d/large").kind, Node::file(&large, 0o644).kind, "{flag}");
        assert_eq!(image.node("m/d/large").owner, (7, 8));
        assert_eq!(image.node("m/small"), image.node("m/d/hard"));
        digests.push(image.files);
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn extended_attributes_of_files_are_carried_but_not_those_of_the_machine() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    sandbox.write("model/tool", "tool");
    let set = |name: &str, value: &str| {
        let file = sandbox.file("model/tool");
        let mut set = Command::new("python3");
        set.args(["-c", "import os,sys; os.setxattr(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]))"]);
        set.arg(file).args([name, value]).output().is_ok_and(|output| output.status.success())
    };
    // A file system without them, or a build without the right to, has nothing to show.
    if !set("user.note", "620aff00") {
        return;
    }
    let capability = set("security.capability", "0100000200040000000000000000000000000000");
    set("trusted.other", "00");
    sandbox.containerfile(
        "FROM scratch AS one\nCOPY model /m\nFROM scratch\nCOPY --chown=5 --from=one /m /n\nCOPY model/tool /x\n",
    );
    sandbox.pushed(&registry.name("model:1"), &[]);
    let image = Image::pull(&registry.name("model:1"));
    assert_eq!(image.node("n/tool").kind, Node::file(b"tool", 0o644).kind);
    let layout = sandbox.path("pulled");
    let (from, to) =
        (format!("docker://{}", registry.name("model:1")), format!("oci:{}:x", layout.display()));
    crate::support::skopeo_copy(&["--src-tls-verify=false"], &from, &to);
    // Read by a tar reader that is not ours.
    let script = "import glob,sys,tarfile
for blob in sorted(glob.glob(sys.argv[1] + '/blobs/sha256/*')):
    try: archive = tarfile.open(blob)
    except tarfile.ReadError: continue
    for entry in archive:
        for name, value in sorted(entry.pax_headers.items()):
            print(entry.name, name, value.encode('utf-8', 'surrogateescape').hex())";
    let output = Command::new("python3").args(["-c", script]).arg(&layout).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let mut expected = vec!["n/tool SCHILY.xattr.user.note 620aff00", "x SCHILY.xattr.user.note 620aff00"];
    if capability {
        expected.push("n/tool SCHILY.xattr.security.capability 0100000200040000000000000000000000000000");
        expected.push("x SCHILY.xattr.security.capability 0100000200040000000000000000000000000000");
    }
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

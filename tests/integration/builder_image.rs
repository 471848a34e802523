//! The builder image: `make image` builds it with crossdock itself, and its users find in it what they need.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::image::{Image, Kind, Node, is_root};
use crate::support::sandbox::Sandbox;
use crate::support::{skopeo_copy, tool};

#[test]
fn the_builder_image_has_what_a_tekton_step_needs_for_any_user() {
    let sandbox = Sandbox::new();
    let target = sandbox.path("target");
    let mut make = sandbox.command_of("bash");
    make.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/image"))
        .env("CROSSDOCK", env!("CARGO_BIN_EXE_crossdock"))
        .env("CARGO_TARGET_DIR", &target);
    sandbox.finish(make.output().unwrap(), &["image"]).done();

    // The archive has the name that it is loaded as.
    let version = env!("CARGO_PKG_VERSION");
    let archive = target.join("image/crossdock.tar").display().to_string();
    let inspected = tool("skopeo", &["inspect", &format!("oci-archive:{archive}:crossdock:{version}")]);
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let labels = &inspected["Labels"];
    let label = |name: &str| labels[format!("org.opencontainers.image.{name}")].as_str().unwrap_or_default();
    assert_eq!(
        (label("title"), label("version"), label("licenses")),
        ("crossdock", version, env!("CARGO_PKG_LICENSE"))
    );
    assert_eq!(label("source"), env!("CARGO_PKG_REPOSITORY"));
    // A checkout with changes has no revision.
    assert!(matches!(label("revision").len(), 0 | 40), "{labels}");
    if is_root() {
        let store = sandbox.path("store").display().to_string();
        let podman = ["--root", &store, "--runroot", &store, "--storage-driver", "vfs"];
        let loaded =
            sandbox.command_of("podman").args(podman).args(["load", "-q", "-i", &archive]).output().unwrap();
        let loaded = String::from_utf8_lossy(&loaded.stdout).into_owned();
        assert!(loaded.contains(&format!("localhost/crossdock:{version}")), "{loaded}");
    }

    let layout = sandbox.path("image").display().to_string();
    skopeo_copy(&[], &format!("oci-archive:{archive}"), &format!("oci:{layout}:latest"));
    let image = Image::read(&format!("oci:{layout}:latest"));
    for program in ["bash", "cat", "find", "mkdir", "printf", "tee", "xargs"] {
        let node = image.node(&format!("usr/bin/{program}"));
        assert!(matches!(node.kind, Kind::File { .. }) && node.mode & 0o111 == 0o111, "{program}: {node:?}");
    }
    let program = fs::read(env!("CARGO_BIN_EXE_crossdock")).unwrap();
    assert_eq!(image.node("usr/bin/crossdock"), &Node::file(&program, 0o755));
    assert_eq!(image.node("usr/bin/buildah").kind, Kind::Symlink("crossdock".to_owned()));
    assert_eq!(image.node("bin").kind, Kind::Symlink("usr/bin".to_owned()));
    assert_eq!(image.node("tmp").mode, 0o1777);
    let certificates = &image.node("etc/ssl/certs/ca-certificates.crt").kind;
    assert!(matches!(certificates, Kind::File { len: 100_000.., .. }), "{certificates:?}");
    assert_eq!(image.config["config"]["User"], "1001:0");

    // As a user that nobody knows, in the image's own root directory.
    let bundle = sandbox.path("bundle").display().to_string();
    let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
    tool("umoci", &[&["unpack"], rootless, &["--image", &format!("{layout}:latest"), &bundle]].concat());
    let enter: &[&str] = if is_root() {
        &["chroot", "--userspec=1000690000:0"]
    } else {
        &["unshare", "--map-root-user", "chroot"]
    };
    let script = "set -e; cd /home/crossdock; mkdir context; echo '{}' >context/config.json
        printf 'FROM scratch\\nCOPY config.json /models/\\n' >context/Containerfile
        crossdock build --quiet --tag model:1 context
        echo /var/lib/crossdock/images/*";
    let mut inside = sandbox.command_of(enter[0]);
    inside.args(&enter[1..]).arg(format!("{bundle}/rootfs")).args(["/bin/bash", "-c", script]);
    inside.env("PATH", "/usr/bin:/usr/sbin").env("HOME", "/home/crossdock").env("XDG_DATA_HOME", "/var/lib");
    let run = sandbox.finish(inside.output().unwrap(), &["in the image"]).done();
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines[0].len(), 64, "the image ID: {run}");
    assert!(lines[1].ends_with(".jsonl.zst"), "the record: {run}");
}

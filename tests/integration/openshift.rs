//! Lists of images on OpenShift's registry, where a manifest is there only once a tag names it; and the formats that
//! manifests are converted to on their way.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::quirks::{Kind, Quirks};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{digest_of, skopeo_copy, tool, write_large};

const BOTH: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn model() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox
        .containerfile("FROM scratch\nARG TARGETARCH\nCOPY model /models\nCOPY bin/$TARGETARCH /bin/serve\n");
    write_large(&sandbox.file("model/shard"), 3 << 20, 5);
    for name in ["amd64", "arm64"] {
        sandbox.write(&format!("bin/{name}"), name);
    }
    sandbox
}

fn document(name: &str) -> Value {
    let raw = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&raw).unwrap()
}

fn entries(index: &Value) -> Vec<Value> {
    index["manifests"].as_array().unwrap_or_else(|| panic!("no list: {index}")).clone()
}

/// All of a list of two images is there, as skopeo and `verify` see it.
#[track_caller]
fn is_whole(sandbox: &Sandbox, name: &str) {
    assert_eq!(entries(&document(name)).len(), 2);
    let copy = sandbox.path(&format!("copy-{}", name.replace(['/', ':'], "-")));
    skopeo_copy(&["--all"], &format!("docker://{name}"), &format!("dir:{}", copy.display()));
    sandbox.run(&["verify", "--all", "--deep", "--tls-verify=false", name]).done();
}

/// The model is right where a real client works with it, and meets what the real registry does.
#[test]
fn skopeo_copies_a_list_to_openshifts_registry() {
    let (sandbox, registry) = (model(), Quirks::start(Kind::OpenShift));
    sandbox.build(&[&BOTH[..], &["-o", "oci:layout:1"]].concat()).done();
    let name = format!("{}/team/model:1", registry.addr());
    let layout = format!("oci:{}:1", sandbox.path("layout").display());
    skopeo_copy(&["--all"], &layout, &format!("docker://{name}"));
    is_whole(&sandbox, &name);
}

#[test]
fn lists_are_pushed_to_openshifts_registry() {
    let (sandbox, registry) = (model(), Quirks::start(Kind::OpenShift));
    let name = |rest: &str| format!("{}/team/{rest}", registry.addr());
    let insecure = "--tls-verify=false";

    sandbox.build(&[&BOTH[..], &["--push", insecure, "-t", &name("build:1")]].concat()).done();
    is_whole(&sandbox, &name("build:1"));
    // Where there is an ImageStream and the tag names another list.
    sandbox.write("bin/arm64", "other");
    sandbox.build(&[&BOTH[..], &["--push", insecure, "-t", &name("build:1")]].concat()).done();
    is_whole(&sandbox, &name("build:1"));

    sandbox.build(&[&BOTH[..], &["-t", "llama"]].concat()).done();
    sandbox.run(&["manifest", "push", "--all", insecure, "llama", &name("list:1")]).done();
    is_whole(&sandbox, &name("list:1"));
    sandbox.run(&["push", "--all", insecure, "llama", &name("push:1")]).done();
    is_whole(&sandbox, &name("push:1"));
    // The images can be read by now, so that the list alone is enough.
    sandbox.run(&["manifest", "push", insecure, "llama", &name("push:2")]).done();
    is_whole(&sandbox, &name("push:2"));

    assert_eq!(
        registry.count("HEAD /v2/team/build/manifests"),
        0,
        "nothing is asked for that cannot be read"
    );
}

#[test]
fn a_list_whose_images_are_not_there_is_refused_at_once_by_name() {
    let (sandbox, registry) = (model(), Quirks::start(Kind::OpenShift));
    sandbox.build(&[&BOTH[..], &["-t", "llama"]].concat()).done();
    let name = format!("{}/team/model:1", registry.addr());
    // No ImageStream (500 there), and one that does not know the images (404).
    for first in [true, false] {
        if !first {
            sandbox
                .run(&["push", "--tls-verify=false", "llama", &format!("{}/team/model:0", registry.addr())])
                .done();
            sandbox.write("bin/arm64", "other");
            sandbox.write("bin/amd64", "other");
            sandbox.build(&[&BOTH[..], &["-t", "other"]].concat()).done();
        }
        let list = if first { "llama" } else { "other" };
        let start = Instant::now();
        let args = ["manifest", "push", "--tls-verify=false", "--retry-delay", "60s", list, &name];
        sandbox.run(&args).failed(3).says(&["is not there", "--all"]);
        assert!(start.elapsed() < Duration::from_secs(30), "it was tried again");
    }
    let digest = format!("{}/team/none@sha256:{}", registry.addr(), "0".repeat(64));
    let verified = sandbox.run(&["verify", "--tls-verify=false", "--retry-delay", "60s", &digest]);
    assert!(!verified.status.success() && verified.stderr.contains("not found"), "{verified}");
}

#[test]
fn an_image_that_its_index_gives_no_platform_has_that_of_its_config_in_a_list() {
    let (sandbox, registry, theirs) = (model(), Quirks::start(Kind::OpenShift), Registry::start());
    sandbox.build(&["-o", "oci:layout:1"]).done();
    let layout = sandbox.path("layout");
    let mut index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let image = index["manifests"][0].as_object_mut().unwrap();
    image.retain(|name, _| !matches!(name.as_str(), "platform" | "annotations"));
    // An index in the layout that says no more than what it must.
    let media_type = "application/vnd.oci.image.index.v1+json";
    let bare = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [image]}).to_string();
    let digest = digest_of(bare.as_bytes());
    fs::write(layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:")), &bare).unwrap();
    let annotations = json!({"org.opencontainers.image.ref.name": "bare"});
    index["manifests"] = json!([
        {"mediaType": media_type, "digest": digest, "size": bare.len(), "annotations": annotations}
    ]);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let bare = format!("docker://{}", theirs.name("bare:1"));
    skopeo_copy(&["--all"], &format!("oci:{}:bare", layout.display()), &bare);

    sandbox.run(&["manifest", "create", "list"]).done();
    let name = format!("{}/team/model:1", registry.addr());
    for (more, architecture) in [(&[][..], "amd64"), (&["--os", "linux", "--arch", "s390x"], "s390x")] {
        let args = [&["manifest", "add", "--all", "--tls-verify=false"], more, &["list", &bare]].concat();
        sandbox.run(&args).done();
        sandbox.run(&["manifest", "push", "--all", "--tls-verify=false", "list", &name]).done();
        let platform = json!({"architecture": architecture, "os": "linux"});
        assert_eq!(entries(&document(&name))[0]["platform"], platform);
    }
}

fn annotated(sandbox: &Sandbox) -> Run {
    sandbox.build(&["--annotation", "org.example.a=1", "-t", "annotated"]).done()
}

#[test]
fn annotations_are_dropped_with_a_warning_where_the_format_has_none() {
    let (registry, sandbox) = (Registry::start(), Sandbox::small());
    annotated(&sandbox);
    let insecure = "--tls-verify=false";
    let warns = ["docker format has no annotations", "org.example.a"];

    let name = registry.name("pushed:1");
    sandbox.run(&["push", "--format", "docker", insecure, "annotated", &name]).done().says(&warns);
    let manifest = document(&name);
    assert_eq!((&manifest["mediaType"], &manifest["annotations"]), (&json!(DOCKER_MANIFEST), &Value::Null));

    let name = registry.name("built:1");
    let args = ["--format", "docker", "--annotation", "org.example.a=1", "--push", insecure, "-t", &name];
    sandbox.build(&args).done().says(&warns);
    assert_eq!(document(&name)["annotations"], Value::Null);

    sandbox.run(&["manifest", "create", "list"]).done();
    sandbox.run(&["manifest", "add", "--annotation", "org.example.b=2", "list", "annotated"]).done();
    let name = registry.name("list:1");
    let warns = [warns[0], "org.example.a", "org.example.b"];
    let args = ["manifest", "push", "--all", "--format", "v2s2", insecure, "list", &name];
    sandbox.run(&args).done().says(&warns);
    let list = document(&name);
    assert_eq!(list["mediaType"], DOCKER_LIST);
    assert_eq!(entries(&list)[0]["annotations"], Value::Null);
    // The images are there, and the list goes alone.
    let args = ["manifest", "push", "--format", "v2s2", insecure, "list", &registry.name("pushed:2")];
    sandbox.run(&["push", insecure, "annotated", &registry.name("pushed:3")]).done();
    sandbox.run(&args).done().says(&["org.example.b"]);
    assert_eq!(entries(&document(&registry.name("pushed:2")))[0]["annotations"], Value::Null);

    // In OCI's format all of it stays, without a word.
    let name = registry.name("oci:1");
    let run = sandbox.run(&["manifest", "push", "--all", insecure, "list", &name]).done();
    assert!(!run.stderr.contains("annotations"), "{run}");
    assert_eq!(entries(&document(&name))[0]["annotations"], json!({"org.example.b": "2"}));
}

/// buildah 1.28 refuses it too ("zstd compression is not supported for type ...").
#[test]
fn zstd_layers_have_no_place_in_dockers_format() {
    let (registry, sandbox) = (Registry::start(), Sandbox::small());
    sandbox.build(&["--compression-format", "zstd", "-t", "zstd"]).done();
    let name = registry.name("zstd:1");
    let args = ["push", "--format", "docker", "--tls-verify=false", "zstd", &name];
    sandbox.run(&args).failed(3).says(&["zstd", "--compression-format gzip"]);
    assert_eq!(registry.tag("zstd", "1"), None);
    sandbox.run(&[&args[..1], &["--compression-format", "gzip"], &args[1..]].concat()).done();
    let types = document(&name)["layers"][0]["mediaType"].clone();
    assert_eq!(types, "application/vnd.docker.image.rootfs.diff.tar.gzip");
}

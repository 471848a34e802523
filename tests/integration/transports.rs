//! Places on disk that are named with their transport, for every command that takes an image.

use serde_json::Value;

use crate::support::image::{Image, Node};
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::tool;

/// A layout `lay` with an image `v1`, and `lists/both` with a list `v1`.
fn layouts() -> Sandbox {
    let sandbox = Sandbox::small();
    sandbox.build(&["-q", "-o", "oci:./lay:v1"]).done();
    let both = ["--platform", "linux/amd64,linux/arm64"];
    sandbox.build(&[&["-q", "-o", "oci:lists/both:v1", "--label", "of=both"], &both[..]].concat()).done();
    sandbox
}

#[test]
fn a_layout_is_named_by_whatever_path_leads_to_it() {
    let sandbox = layouts();
    let id = sandbox.run(&["pull", "-q", "oci:lay:v1"]).done().stdout;
    let absolute = sandbox.path("lay").display().to_string();
    for place in [
        "oci:./lay",
        "oci:lay",
        "oci:./lay:v1",
        "oci:lay/",
        "oci:./context/../lay:v1",
        &format!("oci:{absolute}"),
        &format!("oci:{absolute}:v1"),
    ] {
        let sandbox_of_it = sandbox.run(&["pull", "-q", place]).done();
        assert_eq!(sandbox_of_it.stdout, id, "{place}");
        sandbox.buildah(&["pull", "-q", place]).done();
        sandbox.build(&["-q", "--from", place, "-t", "upon"]).done();
        sandbox
            .build(&["-q", "--build-context", &format!("model={place}"), "--from", "model", "-t", "upon"])
            .done();
    }
    sandbox.containerfile("FROM oci:./lay:v1 AS base\nFROM scratch\nCOPY --from=oci:./lay /models /copied\n");
    sandbox.build(&["-q", "-t", "copied"]).done();
    sandbox.run(&["push", "-q", "copied", "oci:./out/put:1"]).done();
    let out = Image::read(&format!("oci:{}:1", sandbox.path("out/put").display()));
    assert_eq!(*out.node("copied/config.json"), Node::file(b"{}", 0o644));
    for archive in ["oci-archive:./out/a.tar:1", "docker-archive:./out/b.tar:x:1", "dir:./out/c"] {
        sandbox.run(&["push", "-q", "copied", archive]).done();
    }
}

#[test]
fn images_of_layouts_come_onto_lists() {
    let registry = Registry::start();
    let sandbox = layouts();
    sandbox.run(&["manifest", "create", "list", "oci:./lay:v1"]).done();
    sandbox.run(&["manifest", "add", "--all", "list", "oci:lists/both:v1"]).done();
    let list = |name: &str| -> Vec<String> {
        let shown: Value =
            serde_json::from_str(&sandbox.run(&["manifest", "inspect", name]).done().stdout).unwrap();
        let digests = shown["manifests"].as_array().unwrap().iter();
        digests.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
    };
    let both = list("oci:./lists/both:v1");
    assert_eq!(both.len(), 2);
    assert_eq!(list("list")[1..], both);
    // One of a list, for another platform than this machine's too.
    sandbox.run(&["manifest", "create", "arm"]).done();
    sandbox.run(&["manifest", "add", "--arch", "arm64", "arm", "oci:lists/both:v1"]).done();
    assert!(both.contains(&list("arm")[0]));
    let name = registry.name("ns/list:1");
    sandbox.run(&["manifest", "push", "-q", "--all", "--tls-verify=false", "list", &name]).done();
    let raw: Value = serde_json::from_str(&tool(
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")],
    ))
    .unwrap();
    assert_eq!(raw["manifests"].as_array().unwrap().len(), 3);
}

#[test]
fn what_no_image_can_be_had_from_is_refused_by_name() {
    let sandbox = layouts();
    sandbox.run(&["manifest", "create", "list"]).done();
    for (args, code, says) in [
        (
            &["pull", "oci-archive:./x.tar"][..],
            2,
            &["oci-archive: is not supported", "skopeo copy oci-archive:./x.tar oci:DIR"][..],
        ),
        (&["pull", "docker-archive:/tmp/x.tar:a/b"], 2, &["docker-archive: is not supported"]),
        (&["pull", "dir:./lay"], 2, &["dir: is not supported", "skopeo copy dir:./lay oci:DIR"]),
        (&["pull", "docker-daemon:x/y"], 2, &["docker-daemon: is not supported"]),
        (&["pull", "oci:./nowhere"], 3, &["there is no directory ./nowhere"]),
        (&["pull", "oci:./lay:v2"], 3, &["no image \"v2\" in ./lay: it has v1"]),
        (
            &["inspect", "oci:./lay:v1"],
            3,
            &["oci:./lay:v1: image not known", "`crossdock pull oci:./lay:v1`"],
        ),
        (&["push", "oci:./lay:v1", "dir:x"], 3, &["`crossdock pull oci:./lay:v1`"]),
        (&["tag", "oci:./lay", "x"], 3, &["`crossdock pull oci:./lay`"]),
        (&["rmi", "oci:./lay"], 3, &["`crossdock pull oci:./lay`"]),
        (&["verify", "oci:./lay:v1"], 2, &["verify looks at images on registries, and not at oci: places"]),
        (&["manifest", "add", "list", "dir:./lay"], 3, &["an image of dir: cannot be added to a list"]),
        (&["manifest", "inspect", "dir:./lay"], 2, &["not in dir:"]),
        (&["manifest", "inspect", "oci:./lay"], 1, &["oci:./lay is one image and not a list of images"]),
        (
            &["build", "--from", "dir:./lay", "context"],
            3,
            &["the transport dir: is not supported for a base"],
        ),
    ] {
        sandbox.run(args).failed(code).says(says);
    }
}

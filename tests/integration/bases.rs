//! Where FROM leads, and how a base's layers come to the destination.

use crate::support::base::{Base, push_index};
use crate::support::image::{Image, Kind, Node};
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::{architecture, noise};

/// A base with a layer large enough to be noticed where it goes.
fn heavy() -> Base {
    Base::new().with_file("usr/large", &noise(6 << 20, 9))
}

fn on(base: &str) -> Sandbox {
    let sandbox = Sandbox::small();
    sandbox.containerfile(&format!("FROM {base}\nCOPY model /models\n"));
    sandbox
}

#[test]
fn a_base_of_the_same_registry_is_mounted() {
    let registry = Registry::start();
    heavy().push(&registry.name("team/base:1"));
    let sandbox = on(&registry.name("team/base:1"));
    let built = sandbox.pushed(&registry.name("team/model:1"), &[]);
    assert_eq!(built.outcomes(), ["mounted", "mounted", "mounted", "sent"]);
    assert!(built.number("bytes_sent") < 100_000, "{}", built.image);
    let image = Image::pull(&registry.name("team/model:1"));
    assert_eq!(*image.node("models/config.json"), Node::file(b"{}", 0o644));
    assert_eq!(image.node("usr/large").mode, 0o644);
}

#[test]
fn what_a_base_holds_is_asked_for_once() {
    let registry = Registry::start();
    heavy().push(&registry.name("base:1"));
    let sandbox = on(&registry.name("base:1"));
    assert!(sandbox.pushed(&registry.name("model:1"), &[]).number("bytes_received") > 6 << 20);
    sandbox.write("model/config.json", "{\"now\": \"other\"}");
    assert!(sandbox.pushed(&registry.name("model:2"), &[]).number("bytes_received") < 100_000);
}

#[test]
fn a_base_of_another_registry_is_streamed_across_and_not_stored() {
    let (here, there) = (Registry::start(), Registry::start());
    heavy().push(&there.name("base:1"));
    let sandbox = on(&there.name("base:1"));
    let built = sandbox.pushed(&here.name("model:1"), &[]);
    assert_eq!(built.outcomes(), ["sent"; 4]);
    assert!(built.number("bytes_sent") > 6 << 20);
    // What it holds was learnt on the way: it comes once, and goes once.
    assert!(built.number("bytes_received") < 7 << 20, "{}", built.image);
    assert!(built.number("bytes_sent") < 7 << 20, "{}", built.image);
    assert!(built.number("bytes_written") < 1 << 20, "{}", built.image);
    let stored: u64 =
        ["home", "tmp", "run"].iter().flat_map(|name| sandbox.files_below(name).into_values()).sum();
    assert!(stored < 100_000, "{:?}", sandbox.files_below("home"));
    let image = Image::pull(&here.name("model:1"));
    assert_eq!(image.node("usr/large").kind, Node::file(&noise(6 << 20, 9), 0o644).kind);
}

#[test]
fn a_plan_that_fails_after_the_base_was_sent_leaves_no_upload_and_no_tag() {
    let (here, there) = (Registry::start(), Registry::start());
    heavy().push(&there.name("base:1"));
    let sandbox = on(&there.name("base:1"));
    sandbox.containerfile(&format!("FROM {}\nCOPY model missing /models/\n", there.name("base:1")));
    sandbox
        .build(&["--push", "--tls-verify=false", "-t", &here.name("model:1")])
        .failed(3)
        .says(&["\"missing\" is not in"]);
    assert_eq!((here.open_uploads("model"), here.tag("model", "1")), (0, None));
    // The right one has nothing of the base to send.
    sandbox.containerfile(&format!("FROM {}\nCOPY model /models/\n", there.name("base:1")));
    let built = sandbox.pushed(&here.name("model:1"), &[]);
    assert_eq!(built.outcomes(), ["present", "present", "present", "sent"]);
    assert!(built.number("bytes_received") < 100_000, "{}", built.image);
}

#[test]
fn a_base_in_a_layout_is_sent() {
    let registry = Registry::start();
    let sandbox = on("oci:layout:latest");
    heavy().write_layout(&sandbox.path("layout"));
    let built = sandbox.pushed(&registry.name("model:1"), &[]);
    assert_eq!(built.outcomes(), ["sent"; 4]);
    let image = Image::pull(&registry.name("model:1"));
    assert_eq!(image.node("tmp").mode, 0o1777);
    assert_eq!(image.node("var/run").kind, Kind::Symlink("/run".to_owned()));
}

#[test]
fn a_base_without_anything_new_is_the_base() {
    let registry = Registry::start();
    Base::new().push(&registry.name("base:1"));
    let sandbox = Sandbox::new();
    sandbox.containerfile(&format!("FROM {}\nUSER 5\n", registry.name("base:1")));
    sandbox.pushed(&registry.name("model:1"), &[]);
    let (base, image) = (Image::pull(&registry.name("base:1")), Image::pull(&registry.name("model:1")));
    assert_eq!(image.layer_digests(), base.layer_digests());
    assert_eq!(image.files, base.files);
    assert_eq!(image.config["config"]["User"], "5");
}

#[test]
fn the_platform_chooses_from_an_index() {
    let registry = Registry::start();
    let bases = ["amd64", "arm64", "s390x"].map(|name| Base::new().for_architecture(name));
    push_index(&bases, &registry.name("base:1"));
    let sandbox = on(&registry.name("base:1"));
    for (args, expected) in [
        (vec![], architecture()),
        (vec!["--platform", "linux/s390x"], "s390x"),
        (vec!["--platform=linux/arm64"], "arm64"),
    ] {
        let name = registry.name(&format!("model:{expected}"));
        sandbox.pushed(&name, &args);
        let image = Image::pull_for(&name, expected);
        assert_eq!(image.config["architecture"], expected);
        assert_eq!(
            *image.node("etc/arch"),
            Node { mtime: 1_000_000_000, ..Node::file(expected.as_bytes(), 0o644) }
        );
        let variables = image.config["config"]["Env"].as_array().unwrap();
        assert!(variables.contains(&format!("MADE_FOR={expected}").into()), "{variables:?}");
    }
}

#[test]
fn a_platform_that_the_base_lacks_is_an_error_that_lists_those_it_has() {
    let registry = Registry::start();
    push_index(
        &[Base::new().for_architecture("amd64"), Base::new().for_architecture("arm64")],
        &registry.name("base:1"),
    );
    let sandbox = on(&registry.name("base:1"));
    let args =
        ["--tls-verify=false", "--platform", "linux/riscv64", "--push", "-t", &registry.name("model:1")];
    sandbox.build(&args).failed(3).says(&[
        "Containerfile:1:6",
        "linux/riscv64",
        "linux/amd64",
        "linux/arm64",
    ]);
    assert_eq!(registry.tag("model", "1"), None);
}

#[test]
fn a_docker_base_becomes_an_oci_image() {
    let registry = Registry::start();
    Base::new().push_docker(&registry.name("base:1"));
    let base = Image::pull(&registry.name("base:1"));
    assert_eq!(base.manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    let sandbox = on(&registry.name("base:1"));
    sandbox.pushed(&registry.name("model:1"), &[]);
    let image = Image::pull(&registry.name("model:1"));
    assert_eq!(image.manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let types: Vec<_> = image.layers.iter().map(|layer| layer.media_type.as_str()).collect();
    let (gzip, plain) =
        ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(types, [gzip, gzip, plain]);
    assert_eq!(image.layer_digests()[..2], base.layer_digests(), "the base's blobs are the same");
}

#[test]
fn a_stage_builds_upon_another_and_takes_files_from_it() {
    let registry = Registry::start();
    let sandbox = Sandbox::new();
    sandbox.write("model/weights", "w");
    sandbox.containerfile(
        "FROM scratch AS files\nCOPY model /in\nFROM scratch AS base\nENV A=1\nLABEL l=1\nFROM base\nCOPY --from=files \
         /in/weights /models/w\n",
    );
    sandbox.pushed(&registry.name("model:1"), &[]);
    let image = Image::pull(&registry.name("model:1"));
    assert_eq!(image.files.keys().collect::<Vec<_>>(), ["models", "models/w"]);
    assert_eq!(image.config["config"]["Env"][1], "A=1");
}

#[test]
fn owners_are_looked_up_in_what_the_base_holds() {
    let registry = Registry::start();
    let base = Base::new().with_file("etc/group", b"wheel:x:10:model\n");
    base.push(&registry.name("base:1"));
    base.clone().with_file("etc/passwd", b"model:x:7:8::/:\n").push(&registry.name("base:replaced"));
    base.clone().with_file("etc/.wh.passwd", b"").push(&registry.name("base:taken"));
    base.with_linked("etc/passwd", "store/etc", b"model:x:5:6::/:\n").push(&registry.name("base:linked"));
    let sandbox = Sandbox::small();
    for (tag, chown, expected) in [
        ("1", "model", (77, 78)),
        ("1", "model:wheel", (77, 10)),
        ("1", "3:wheel", (3, 10)),
        ("replaced", "model", (7, 8)),
        ("linked", "model:wheel", (5, 10)),
    ] {
        let base = registry.name(&format!("base:{tag}"));
        // The second build has it from the remembered index.
        for name in ["model:1", "model:2"] {
            sandbox.containerfile(&format!("FROM {base}\nCOPY --chown={chown} model /models\n"));
            sandbox.pushed(&registry.name(name), &[]);
            let image = Image::pull(&registry.name(name));
            let node = image.node("models/config.json");
            assert_eq!(node.owner, expected, "{tag} {chown}");
        }
    }
    for (tag, chown, says) in [
        ("1", "nobody", "\"nobody\" is not known: it is not in the image's /etc/passwd"),
        ("1", "model:staff", "\"staff\" is not known: it is not in the image's /etc/group"),
        ("taken", "model", "the image has no /etc/passwd"),
    ] {
        let base = registry.name(&format!("base:{tag}"));
        sandbox.containerfile(&format!("FROM {base}\nCOPY --chown={chown} model /models\n"));
        let args = ["--tls-verify=false", "--push", "-t", &registry.name("model:3")];
        sandbox.build(&args).failed(3).says(&["Containerfile:2:", says]);
    }
}

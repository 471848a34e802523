//! A push, read back: every byte, mode, owner and line of the config is where it belongs.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::base::Base;
use crate::support::image::{Image, Kind, Node, is_root, unpack};
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::{noise, write_large};

/// Longer than a tar header has room for.
fn long_name() -> String {
    format!("model/{}/{}.bin", "d".repeat(140), "f".repeat(200))
}

/// A directory with all that file systems have and images can carry.
fn write_model(sandbox: &Sandbox) {
    sandbox.write("model/config.json", "{}");
    sandbox.write("model/empty", "");
    sandbox.write("model/sub/deeper/vocab.txt", noise(70_000, 3));
    sandbox.write("model/gewichte-größe-模型.txt", "größe");
    sandbox.write("model/with space and \\ in it", "s");
    sandbox.write(&long_name(), "long");
    sandbox.write("model/tool", "#!/bin/sh\n");
    sandbox.mode("model/tool", 0o4755);
    sandbox.mode("model/config.json", 0o600);
    sandbox.mode("model/sub", 0o2750);
    sandbox.mode("model/empty", 0o444);
    symlink("sub/deeper/vocab.txt", sandbox.file("model/vocab")).unwrap();
    symlink("/nowhere/at/all", sandbox.file("model/dangling")).unwrap();
    fs::hard_link(sandbox.file("model/config.json"), sandbox.file("model/hard")).unwrap();
    write_large(&sandbox.file("model/shard-1.safetensors"), 3 << 20, 1);
    write_large(&sandbox.file("model/shard-2.safetensors"), (2 << 20) + 17, 2);
    fs::create_dir(sandbox.file("model/void")).unwrap();
}

const INSTRUCTIONS: &str = r#"
LABEL of="the file" "with space"="a b"
ENV MODEL=/models NAME="x y"
COPY model /models
COPY --chown=77:5 --chmod=640 model/tool /var/run/x/tool
EXPOSE 8080 53/udp
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD ["/bin/check"]
SHELL ["/bin/bash", "-c"]
ONBUILD COPY . /later
WORKDIR $MODEL
USER 1001:2
ENTRYPOINT ["/bin/serve"]
CMD ["--model", "/models"]
"#;

#[test]
fn an_image_is_read_back_byte_for_byte_by_skopeo_and_umoci() {
    let registry = Registry::start();
    let base = Base::new();
    base.push(&registry.name("base:1"));
    let sandbox = Sandbox::new();
    write_model(&sandbox);
    sandbox.containerfile(&format!("FROM {}\n{INSTRUCTIONS}", registry.name("base:1")));

    let name = registry.name("team/model:v1");
    let built = sandbox.pushed(&name, &["--layer-file-size", "2MiB"]);
    let image = Image::pull(&name);
    assert_eq!(built.digest(), image.digest);
    assert_eq!(registry.tag("team/model", "v1").as_deref(), Some(image.digest.as_str()));
    assert_eq!(built.layers(), image.layer_digests());

    // Contents, modes, owners, times.
    let deep = noise(70_000, 3);
    for (path, node) in [
        ("models", Node::directory(0o755)),
        ("models/config.json", Node::file(b"{}", 0o600)),
        ("models/hard", Node::file(b"{}", 0o600)),
        ("models/empty", Node::file(b"", 0o444)),
        // As buildah does, set-id bits of the context are left behind.
        ("models/sub", Node::directory(0o750)),
        ("models/sub/deeper", Node::directory(0o755)),
        ("models/sub/deeper/vocab.txt", Node::file(&deep, 0o644)),
        ("models/gewichte-größe-模型.txt", Node::file("größe".as_bytes(), 0o644)),
        ("models/with space and \\ in it", Node::file(b"s", 0o644)),
        ("models/tool", Node::file(b"#!/bin/sh\n", 0o755)),
        ("models/vocab", Node::symlink("sub/deeper/vocab.txt")),
        ("models/dangling", Node::symlink("/nowhere/at/all")),
        ("models/void", Node::directory(0o755)),
        (&long_name().replacen("model", "models", 1), Node::file(b"long", 0o644)),
        ("run/x/tool", Node { owner: (77, 5), ..Node::file(b"#!/bin/sh\n", 0o640) }),
    ] {
        assert_eq!(*image.node(path), node, "{path}");
    }
    for (name, bytes) in [("shard-1.safetensors", 3 << 20), ("shard-2.safetensors", (2 << 20) + 17)] {
        let content = fs::read(sandbox.file(&format!("model/{name}"))).unwrap();
        assert_eq!(content.len(), bytes);
        assert_eq!(*image.node(&format!("models/{name}")), Node::file(&content, 0o644), "{name}");
    }

    // What the base has is as it was: neither /tmp nor the link in the destination's path is written over.
    assert_eq!(image.node("tmp").mode, 0o1777);
    assert_eq!(image.node("var/run").kind, Kind::Symlink("/run".to_owned()));
    assert_eq!(image.node("run/x").kind, Kind::Directory);

    // umoci, an unpacker with ideas of its own, sees the same.
    let mut expected = image.files;
    let mut unpacked = unpack(&name);
    for (path, node) in expected.iter_mut().chain(unpacked.iter_mut()) {
        if !is_root() {
            node.owner = (0, 0);
        }
        // Directories that the base has get a new time when something is put into them.
        if node.kind == Kind::Directory && !path.starts_with("models") {
            node.mtime = 0;
        }
    }
    assert_eq!(unpacked, expected);
}

#[test]
fn each_large_file_has_a_layer_and_the_small_ones_share_one() {
    let registry = Registry::start();
    let sandbox = Sandbox::new();
    write_model(&sandbox);
    sandbox.containerfile("FROM scratch\nCOPY model /models\n");
    let name = registry.name("model:1");
    let built = sandbox.pushed(&name, &["--layer-file-size", "2MiB"]);
    let image = Image::pull(&name);
    assert_eq!(
        built.titles(),
        ["COPY model /models", "/models/shard-1.safetensors", "/models/shard-2.safetensors"]
    );
    assert_eq!(image.layers.len(), 3);
    assert!(image.layers[0].paths().contains(&"models/config.json"));
    assert!(!image.layers[0].paths().contains(&"models/shard-1.safetensors"));
    assert_eq!(image.layers[1].paths(), ["models", "models/shard-1.safetensors"]);
    assert_eq!(image.layers[2].paths(), ["models", "models/shard-2.safetensors"]);
    let hard_links = |layer: usize| {
        let entries = &image.layers[layer].entries;
        entries.iter().filter(|(_, node)| matches!(node.kind, Kind::HardLink(_))).count()
    };
    assert_eq!(hard_links(0), 1, "config.json is stored once");
    for layer in &image.layers {
        assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar");
    }
    let lines = image.config["history"].as_array().unwrap();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["comment"], "layer 2 of 3");
}

#[test]
fn the_config_has_what_the_instructions_say() {
    let registry = Registry::start();
    let base = Base::new();
    base.push(&registry.name("base:1"));
    let sandbox = Sandbox::new();
    sandbox.write("model/tool", "t");
    sandbox.containerfile(&format!("FROM {}\n{INSTRUCTIONS}", registry.name("base:1")));
    let name = registry.name("model:1");
    sandbox.pushed(&name, &["--label", "of=the command line"]);
    let image = Image::pull(&name);
    assert_eq!(
        image.config["config"],
        json!({
            "Cmd": ["--model", "/models"],
            "Entrypoint": ["/bin/serve"],
            "Env": ["PATH=/usr/bin", "MODEL=/models", "NAME=x y"],
            "ExposedPorts": {"53/udp": {}, "8080/tcp": {}},
            "Healthcheck": {"Interval": 5_000_000_000_u64, "Retries": 2, "Test": ["CMD", "/bin/check"]},
            "Labels": {"from": "base", "of": "the command line", "with space": "a b"},
            "OnBuild": ["COPY . /later"],
            "Shell": ["/bin/bash", "-c"],
            "StopSignal": "SIGINT",
            "User": "1001:2",
            "Volumes": {"/data": {}},
            "WorkingDir": "/models",
        })
    );
    let history = image.config["history"].as_array().unwrap();
    assert_eq!(history[0], json!({"created_by": "base 1"}), "the base's lines come first, as they were");
    assert!(history.len() > base.len());
    assert!(image.config["created"].as_str().unwrap() > "2020");
}

#[test]
fn all_tags_name_the_image() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let built = sandbox.pushed(
        &registry.name("model:1"),
        &["-t", &registry.name("model:latest"), "-t", &registry.name("other/model:1")],
    );
    for (repository, tag) in [("model", "1"), ("model", "latest"), ("other/model", "1")] {
        assert_eq!(registry.tag(repository, tag).as_deref(), Some(built.digest()), "{repository}:{tag}");
    }
}

#[test]
fn equal_files_are_stored_once() {
    let registry = Registry::start();
    let sandbox = Sandbox::new();
    write_large(&sandbox.file("a/weights"), 2 << 20, 7);
    fs::create_dir(sandbox.file("b")).unwrap();
    fs::copy(sandbox.file("a/weights"), sandbox.file("b/weights")).unwrap();
    // The first one makes the directory.
    sandbox.containerfile("FROM scratch\nCOPY a/weights /m/\nCOPY b /m\nCOPY a /m\n");
    let built = sandbox.pushed(&registry.name("model:1"), &["--jobs", "4"]);
    let layers = built.layers();
    assert_eq!(layers[1], layers[2]);
    assert_ne!(layers[0], layers[1]);
    assert_eq!(Image::pull(&registry.name("model:1")).layers.len(), 3);
}

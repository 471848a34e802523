//! Bases as they are in the world: histories that do not fit the layers, nulls, several variants of a platform, images for
//! another one, and layers that stay at their URLs.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::fault_proxy::FaultProxy;
use crate::support::architecture;
use crate::support::base::{Base, alter_layout, push_index_with, push_layout, write_index_layout_with};
use crate::support::image::{Image, check_layout, is_root};
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::tool;

const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

/// A small context upon the layout `base`, an image of two layers.
fn on_a_layout(alter: impl FnOnce(&mut Value, &mut Value)) -> Sandbox {
    let sandbox = Sandbox::small();
    Base::new().write_layout(&sandbox.path("base"));
    alter_layout(&sandbox.path("base"), alter);
    sandbox.containerfile("FROM oci:base\nCOPY model /models\n");
    sandbox
}

fn layout(sandbox: &Sandbox, name: &str) -> Image {
    Image::read(&format!("oci:{}:1", sandbox.path(name).display()))
}

/// The lines of a history: what made each, and whether it made a layer.
fn history(image: &Image) -> Vec<(String, bool)> {
    let lines = image.config["history"].as_array().unwrap();
    let line = |line: &Value| {
        let text = line["created_by"].as_str().unwrap();
        (text.split(" which").next().unwrap().to_owned(), line["empty_layer"] != true)
    };
    lines.iter().map(line).collect()
}

#[test]
fn a_history_always_fits_the_layers() {
    let made = |text: &str| (text.to_owned(), true);
    let empty = |text: &str| (text.to_owned(), false);
    let (first, second) = (made("layer 1 of the base,"), made("layer 2 of the base,"));
    let line = |text: &str| json!({"created_by": text});
    let without = |text: &str| json!({"created_by": text, "empty_layer": true});
    for (of_base, expected) in [
        (None, vec![first.clone(), second.clone()]),
        (Some(json!([])), vec![first.clone(), second.clone()]),
        (Some(Value::Null), vec![first.clone(), second.clone()]),
        (Some(json!([without("a")])), vec![empty("a"), first, second.clone()]),
        (Some(json!([line("a"), without("b")])), vec![made("a"), empty("b"), second]),
        (Some(json!([line("a"), line("b"), line("c")])), vec![made("a"), made("b"), empty("c")]),
    ] {
        let sandbox = on_a_layout(|config, _| match of_base.clone() {
            Some(history) => config["history"] = history,
            None => drop(config.as_object_mut().unwrap().remove("history")),
        });
        // `Image` counts lines and layers by itself.
        sandbox.built(&["-o", "oci:out:1"]);
        let lines = history(&layout(&sandbox, "out"));
        assert_eq!(lines[..lines.len() - 1], expected, "{of_base:?}");
    }
}

#[test]
fn the_history_of_a_base_fits_in_every_form_of_the_image() {
    let sandbox = on_a_layout(|config, _| drop(config.as_object_mut().unwrap().remove("history")));
    for containerfile in [
        "FROM oci:base\nCOPY model /models\n",
        "FROM oci:base\nLABEL a=1\n",
        "FROM oci:base AS one\nCOPY model /one\nFROM one\nENV A=1\nCOPY model /two\n",
    ] {
        sandbox.containerfile(containerfile);
        sandbox.built(&["-o", "oci:out:1"]);
        assert_eq!(history(&layout(&sandbox, "out"))[..2].len(), 2);
        for args in [
            &["-o", "dir:out-dir", "--format", "docker"][..],
            &["-o", "docker-archive:out.tar:x:1"],
            &["-o", "oci-archive:out-oci.tar:1", "--squash"],
        ] {
            sandbox.built(args);
        }
        Image::of_directory(&sandbox.path("out-dir"), true);
        Image::read(&format!("docker-archive:{}", sandbox.path("out.tar").display()));
        Image::read(&format!("oci-archive:{}", sandbox.path("out-oci.tar").display()));
        sandbox.build(&["--omit-history", "-o", "oci:bare:1"]).done();
        assert_eq!(layout(&sandbox, "bare").config["history"], Value::Null);
    }
    let platform = format!("linux/{}", architecture());
    let (list, both) = (["--manifest", "list"], ["--platform", &platform, "--platform", "linux/s390x"]);
    sandbox.build(&[&list[..], &both].concat()).done();
    sandbox.run(&["manifest", "push", "-q", "--all", "list", "oci:listed:1"]).done();
    layout(&sandbox, "listed");
}

#[test]
fn buildah_builds_upon_an_image_whose_base_had_no_history() {
    if !is_root() {
        return;
    }
    let sandbox =
        on_a_layout(|config, _| config["history"] = json!([{"created_by": "x", "empty_layer": true}]));
    sandbox.built(&["-o", "oci:out:1"]);
    sandbox.containerfile("FROM oci:out:1\nCOPY model /again\n");
    fs::write(sandbox.path("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    let mut command = sandbox.command_of("buildah");
    command.args(["--storage-driver", "vfs", "--root"]).arg(sandbox.path("store"));
    command.arg("--runroot").arg(sandbox.path("store-run")).args(["bud", "-q", "--isolation", "chroot"]);
    command.arg("--signature-policy").arg(sandbox.path("policy.json")).args(["-t", "dir:theirs", "context"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Image::of_directory(&sandbox.path("theirs"), true);
}

/// Nulls wherever Go has a pointer, a slice or a map.
fn put_nulls(config: &mut Value, manifest: &mut Value) {
    for name in ["architecture", "os", "variant", "created", "author", "os.version"] {
        config[name] = Value::Null;
    }
    config["config"] = json!({
        "User": null, "Env": null, "Cmd": null, "Entrypoint": null, "OnBuild": null, "Shell": null, "StopSignal": null,
        "WorkingDir": null, "Healthcheck": null, "Volumes": {"/x": null}, "ExposedPorts": {"80/tcp": null},
        "Labels": {"a": null, "b": "c"},
    });
    for line in config["history"].as_array_mut().unwrap() {
        for name in ["created", "author", "comment", "empty_layer"] {
            line[name] = Value::Null;
        }
    }
    for name in ["annotations", "subject", "artifactType"] {
        manifest[name] = Value::Null;
    }
    for layer in manifest["layers"].as_array_mut().unwrap() {
        (layer["urls"], layer["annotations"], layer["platform"]) = (Value::Null, Value::Null, Value::Null);
    }
}

#[test]
fn null_is_absent_in_a_base() {
    let registry = Registry::start();
    let sandbox = on_a_layout(put_nulls);
    push_layout(&sandbox.path("base"), &registry.name("base:1"));
    // The entry of a layout, and of an index.
    let path = sandbox.path("base/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["annotations"] = Value::Null;
    index["mediaType"] = Value::Null;
    index["manifests"][0]["platform"] = json!({"architecture": architecture(), "os": null, "variant": null});
    index["manifests"][0]["urls"] = Value::Null;
    fs::write(&path, index.to_string()).unwrap();
    for base in ["oci:base".to_owned(), registry.name("base:1")] {
        sandbox.containerfile(&format!(
            "FROM {base}\nCOPY model /models\nCOPY --from={base} etc/passwd /copied\n"
        ));
        sandbox.built(&["--tls-verify=false", "-o", "oci:out:1"]);
        let image = layout(&sandbox, "out");
        assert_eq!(
            (&image.config["architecture"], &image.config["os"]),
            (&json!(architecture()), &json!("linux"))
        );
        let inner = &image.config["config"];
        assert_eq!(inner["Volumes"], json!({"/x": {}}));
        assert_eq!(inner["ExposedPorts"], json!({"80/tcp": {}}));
        assert_eq!(inner["Labels"], json!({"a": "", "b": "c"}));
        assert_eq!((&inner["User"], &inner["Cmd"]), (&Value::Null, &Value::Null));
        assert_eq!(image.node("copied").mode, 0o644);
    }
    for (config, manifest) in [
        (json!({"config": null, "rootfs": null, "history": null}), json!(null)),
        (json!({"rootfs": {"type": null, "diff_ids": null}}), json!([])),
        (json!({}), json!(null)),
    ] {
        alter_layout(&sandbox.path("base"), |of_config, of_manifest| {
            (*of_config, of_manifest["layers"]) = (config, manifest);
        });
        sandbox.containerfile("FROM oci:base\nCOPY model /models\n");
        sandbox.built(&["-o", "oci:out:1"]);
        assert_eq!(layout(&sandbox, "out").layers.len(), 1);
    }
}

/// Bases of a list on a registry, in a layout, and remembered here.
fn three_places(sandbox: &Sandbox, registry: &Registry, images: &[Base]) -> [String; 3] {
    three_places_with(sandbox, registry, images, &|_, _| {})
}

/// The same; the entries of the list are altered.
fn three_places_with(
    sandbox: &Sandbox,
    registry: &Registry,
    images: &[Base],
    alter: &dyn Fn(usize, &mut Value),
) -> [String; 3] {
    write_index_layout_with(&sandbox.path("index"), images, alter);
    push_index_with(images, alter, &registry.name("index:1"));
    let add = ["manifest", "create", "--tls-verify=false", "--all", "list"];
    sandbox.run(&[&add[..], &[&format!("docker://{}", registry.name("index:1"))]].concat()).done();
    ["oci:index".to_owned(), registry.name("index:1"), "localhost/list".to_owned()]
}

#[test]
fn one_rule_chooses_from_a_list_wherever_it_is() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let of = |architecture: &str| Base::new().for_architecture(architecture);
    let images = [
        of("amd64").for_variant("v3"),
        of("amd64"),
        of("arm").for_variant("v6"),
        of("arm").for_variant("v7"),
        of("arm64").for_variant("v8"),
    ];
    let places = three_places(&sandbox, &registry, &images);
    for (platform, expected) in [
        ("linux/amd64", "MADE_FOR=amd64"),
        ("linux/amd64/v2", "MADE_FOR=amd64"),
        ("linux/amd64/v3", "MADE_FOR_VARIANT=v3"),
        ("linux/amd64/v4", "MADE_FOR_VARIANT=v3"),
        ("linux/arm", "MADE_FOR_VARIANT=v7"),
        ("linux/arm/v6", "MADE_FOR_VARIANT=v6"),
        ("linux/arm64", "MADE_FOR_VARIANT=v8"),
    ] {
        for place in &places {
            sandbox.containerfile(&format!("FROM {place}\nLABEL a=1\n"));
            let args = ["--tls-verify=false", "--platform", platform, "-o", "dir:out"];
            let built = sandbox.built(&args);
            assert!(!built.run.stderr.contains("expected platform"), "{}", built.run);
            let env = Image::of_directory(&sandbox.path("out"), true).config["config"]["Env"].clone();
            assert_eq!(env.as_array().unwrap().last().unwrap(), expected, "{platform} in {place}: {env}");
        }
    }
    for (place, name) in places.iter().zip(["oci:index", &places[1], "localhost/list:latest"]) {
        sandbox.containerfile(&format!("FROM {place}\nLABEL a=1\n"));
        let there = "linux/amd64/v3, linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64";
        let run = sandbox.build(&["--tls-verify=false", "--platform", "linux/riscv64", "-o", "dir:none"]);
        run.failed(3).says(&[&format!("image {name} is not offered for linux/riscv64; there is: {there}")]);
    }
}

#[test]
fn configs_say_what_an_index_does_not() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let images = ["arm64", "s390x", "amd64"].map(|architecture| Base::new().for_architecture(architecture));
    let places = three_places_with(&sandbox, &registry, &images, &|at, entry| match at {
        1 => entry["platform"] = json!({"architecture": "", "os": null}),
        _ => drop(entry.as_object_mut().unwrap().remove("platform")),
    });
    for place in &places {
        sandbox.containerfile(&format!("FROM {place}\nLABEL a=1\n"));
        for architecture in ["amd64", "arm64", "s390x"] {
            let platform = format!("linux/{architecture}");
            let built = sandbox.built(&["--tls-verify=false", "--platform", &platform, "-o", "dir:out"]);
            assert!(!built.run.stderr.contains("expected platform"), "{}", built.run);
            let config = Image::of_directory(&sandbox.path("out"), true).config;
            assert_eq!(config["architecture"], architecture, "{place}");
            let env = config["config"]["Env"].as_array().unwrap();
            assert_eq!(env.last().unwrap(), &format!("MADE_FOR={architecture}"), "{place}");
        }
        let run = sandbox.build(&["--tls-verify=false", "--platform", "linux/riscv64", "-o", "dir:none"]);
        run.failed(3)
            .says(&["not offered for linux/riscv64; there is: linux/arm64, linux/s390x, linux/amd64"]);
    }
    // Whoever makes a list of them says what they are for.
    let shown = sandbox.run(&["manifest", "inspect", "list"]).done().stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let platforms: Vec<_> = shown["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["platform"]["architecture"])
        .collect();
    assert_eq!(platforms, ["arm64", "s390x", "amd64"]);
    let verified = ["verify", "--tls-verify=false", "--platform", "linux/amd64", &places[1]];
    sandbox.run(&verified).done();
}

#[test]
fn a_variant_that_only_the_index_names_is_kept() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let images = ["arm", "s390x"].map(|architecture| Base::new().for_architecture(architecture));
    let places = three_places_with(&sandbox, &registry, &images, &|at, entry| {
        if at == 0 {
            entry["platform"]["variant"] = json!("v6");
        }
    });
    for place in &places {
        sandbox.containerfile(&format!("FROM {place}\nCOPY model /models\n"));
        // v7 runs what is for v6.
        for platform in ["linux/arm/v6", "linux/arm"] {
            let built = sandbox.built(&["--tls-verify=false", "--platform", platform, "-o", "dir:out"]);
            assert!(!built.run.stderr.contains("expected platform"), "{}", built.run);
            let config = Image::of_directory(&sandbox.path("out"), true).config;
            assert_eq!(
                (&config["architecture"], &config["variant"]),
                (&json!("arm"), &json!("v6")),
                "{place}"
            );
        }
        let both = ["--platform", "linux/arm/v6", "--platform", "linux/s390x", "--manifest", "both"];
        sandbox.build(&[&["--tls-verify=false"][..], &both].concat()).done();
        let shown = sandbox.run(&["manifest", "inspect", "both"]).done().stdout;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let arm = &shown["manifests"][0]["platform"];
        assert_eq!((&arm["architecture"], &arm["variant"]), (&json!("arm"), &json!("v6")), "{place}");
        sandbox.run(&["manifest", "rm", "both"]).done();
    }
}

/// As Go reads them: buildah takes the empty text for a null in a list of texts, and an empty line for one in the history.
#[test]
fn null_in_a_list_has_its_place() {
    let sandbox = on_a_layout(|config, _| {
        config["config"]["Cmd"] = json!(["a", null, "b"]);
        config["history"] = json!([null, {"created_by": "second"}]);
    });
    sandbox.built(&["-o", "oci:out:1"]);
    let image = layout(&sandbox, "out");
    assert_eq!(image.config["config"]["Cmd"], json!(["a", "", "b"]));
    let lines = image.config["history"].as_array().unwrap();
    assert_eq!(
        (lines.len(), &lines[0]["created_by"], &lines[1]["created_by"]),
        (3, &Value::Null, &json!("second"))
    );
    for (list, of_manifest) in [("layers", true), ("diff_ids", false)] {
        let sandbox = on_a_layout(|config, manifest| {
            let list = if of_manifest { &mut manifest["layers"] } else { &mut config["rootfs"]["diff_ids"] };
            list.as_array_mut().unwrap().push(Value::Null);
        });
        let run = sandbox.build(&["-o", "oci:out:1"]).failed(3);
        run.says(&["oci:base", &format!("an entry of {list} is null")]);
    }
}

#[test]
fn one_image_for_another_platform_is_used_with_one_warning_wherever_it_is() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let other = if architecture() == "amd64" { "arm64" } else { "amd64" };
    let base = Base::new().for_architecture(other);
    base.write_layout(&sandbox.path("base"));
    base.push(&registry.name("base:1"));
    sandbox.run(&["pull", "-q", "oci:base"]).done().says(&["expected platform"]);
    sandbox.run(&["pull", "-q", "--tls-verify=false", &registry.name("base:1")]).done();
    let is = format!(
        "image platform (linux/{other}) does not match the expected platform (linux/{})",
        architecture()
    );
    for (place, args) in [
        ("oci:base", &[][..]),
        ("localhost/base", &[]),
        ("localhost/base", &["--pull=never"]),
        (&registry.name("base:1"), &[]),
        (&registry.name("base:1"), &["--pull=always"]),
        (&registry.name("base:1"), &["--pull=never"]),
    ] {
        sandbox.containerfile(&format!("FROM {place}\nCOPY model /models\n"));
        let built = sandbox.built(&[&["--tls-verify=false", "-o", "dir:out"], args].concat());
        let stderr = &built.run.stderr;
        assert!(stderr.contains(&format!("{is}: {place} is used as it is")), "{}", built.run);
        assert_eq!(stderr.matches("expected platform").count(), 1, "{}", built.run);
        assert_eq!(Image::of_directory(&sandbox.path("out"), true).config["architecture"], other);
    }
    // For what it is for, there is nothing to say.
    let platform = format!("linux/{other}");
    let built = sandbox.built(&["--tls-verify=false", "--platform", &platform, "-o", "dir:out"]);
    assert!(!built.run.stderr.contains("expected platform"), "{}", built.run);
}

/// A layout `base` whose first layer is at a URL alone, the server there, and the layer's digest and URL.
fn on_a_foreign_layer() -> (Sandbox, Registry, FaultProxy, String, String) {
    let shop = Registry::start();
    Base::new().push(&shop.name("shop:1"));
    let proxy = shop.proxy();
    let (mut digest, mut url) = (String::new(), String::new());
    let sandbox = on_a_layout(|_, manifest| {
        let layer = &mut manifest["layers"][0];
        layer["digest"].as_str().unwrap().clone_into(&mut digest);
        url = format!("http://{}/v2/shop/blobs/{digest}", proxy.addr());
        (layer["mediaType"], layer["urls"]) = (json!(FOREIGN), json!(["http://127.0.0.1:9/none", url]));
    });
    fs::remove_file(blob(&sandbox.path("base"), &digest)).unwrap();
    (sandbox, shop, proxy, digest, url)
}

fn blob(layout: &Path, digest: &str) -> std::path::PathBuf {
    layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

fn raw_manifest(place: &str) -> Value {
    let raw = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", place]);
    serde_json::from_str(&raw).unwrap()
}

#[test]
fn a_foreign_layer_is_not_pushed_and_keeps_its_urls() {
    let (sandbox, _shop, urls, digest, url) = on_a_foreign_layer();
    let registry = Registry::that_takes_urls();
    let proxy = registry.proxy();
    let docker = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    for (format, media_type) in [("oci", FOREIGN), ("docker", docker)] {
        let name = format!("{}/model:{format}", proxy.addr());
        let built = sandbox.pushed(&name, &["--format", format]);
        let outcomes = built.outcomes();
        assert_eq!((outcomes[0].as_str(), outcomes.len()), ("foreign", 3), "{outcomes:?}");
        let layer = raw_manifest(&format!("docker://{name}"))["layers"][0].clone();
        assert_eq!(layer["mediaType"], media_type);
        assert_eq!((&layer["digest"], &layer["urls"][1]), (&json!(digest), &json!(url)));
        let run = sandbox.run(&["verify", "--deep", "--tls-verify=false", &name]).done();
        assert!(run.stdout.contains(&format!("the layer {digest} is not looked at")), "{run}");
        // As a base on a registry, of the other format.
        let other = if format == "oci" { "docker" } else { "oci" };
        sandbox.containerfile(&format!("FROM {name}\nCOPY model /again\n"));
        let built = sandbox.pushed(&format!("{}/again:{format}", proxy.addr()), &["--format", other]);
        assert_eq!(built.outcomes()[0], "foreign");
        sandbox.containerfile("FROM oci:base\nCOPY model /models\n");
    }
    let asked: Vec<_> = proxy.seen().into_iter().filter(|seen| seen.path.contains(&digest)).collect();
    assert!(asked.is_empty(), "{asked:?}");
    assert!(!registry.blob(&digest).exists());
    // What the layer holds was looked up once, and is remembered.
    assert_eq!(urls.count("GET", &digest), 1);
    // A whole image as others see it, the layer fetched from its URL.
    let image = Image::pull(&registry.name("model:oci"));
    assert_eq!(image.node("tmp").mode, 0o1777);
    let strict = Registry::start();
    let run = sandbox.build(&["--tls-verify=false", "--retry=0", "--push", "-t", &strict.name("model:1")]);
    run.failed(5).says(&["layers that stay at their URLs", "validation.manifests.urls.allow"]);
    let run = sandbox.build(&["--dry-run", "--tls-verify=false", "-t", &registry.name("model:2"), "--push"]);
    assert!(run.stdout.contains("to be left at its URLs"), "{run}");
}

#[test]
fn a_foreign_layer_keeps_its_urls_in_every_place() {
    let (sandbox, _shop, _urls, digest, url) = on_a_foreign_layer();
    sandbox.build(&["-q", "-t", "mine"]).done();
    sandbox.build(&["-q", "-o", "oci:built:1"]).done();
    sandbox.run(&["push", "-q", "mine", "oci:sent:1"]).done();
    for layout in ["built", "sent"] {
        assert_eq!(check_layout(&sandbox.path(layout)).len(), 1);
        let layer = &raw_manifest(&format!("oci:{}:1", sandbox.path(layout).display()))["layers"][0];
        assert_eq!((&layer["mediaType"], &layer["urls"][1]), (&json!(FOREIGN), &json!(url)), "{layout}");
        assert!(!blob(&sandbox.path(layout), &digest).exists(), "{layout}");
    }
    sandbox.run(&["push", "-q", "mine", "oci-archive:sent.tar:1"]).done();
    let layer = &raw_manifest(&format!("oci-archive:{}", sandbox.path("sent.tar").display()))["layers"][0];
    assert_eq!(layer["urls"][1], json!(url));
    sandbox.run(&["push", "-q", "mine", "dir:sent-dir"]).done();
    let manifest: Value =
        serde_json::from_slice(&fs::read(sandbox.path("sent-dir/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["layers"][0]["urls"][1], json!(url));
    assert!(!sandbox.path("sent-dir").join(digest.strip_prefix("sha256:").unwrap()).exists());
    // `docker load` wants all layers.
    sandbox.run(&["push", "-q", "mine", "docker-archive:sent-docker.tar:mine:1"]).done();
    let image = Image::read(&format!("docker-archive:{}", sandbox.path("sent-docker.tar").display()));
    assert_eq!((image.layers.len(), image.node("tmp").mode), (3, 0o1777));
    // A list of such images.
    sandbox.run(&["manifest", "create", "list", "mine"]).done();
    sandbox.run(&["manifest", "push", "-q", "--all", "list", "oci:listed:1"]).done();
    assert!(!blob(&sandbox.path("listed"), &digest).exists());
}

#[test]
fn what_is_in_a_foreign_layer_is_read_from_its_url_without_a_credential() {
    let (sandbox, shop, urls, digest, _) = on_a_foreign_layer();
    sandbox.containerfile("FROM scratch\nCOPY --from=oci:base etc/passwd /copied\n");
    let args = ["--tls-verify=false", "--creds", "me:secret", "-o", "oci:out:1"];
    sandbox.built(&args);
    let (image, theirs) = (layout(&sandbox, "out"), Image::pull(&shop.name("shop:1")));
    assert_eq!(image.node("copied").kind, theirs.node("etc/passwd").kind);
    assert!(urls.count("GET", &digest) >= 1);
    assert!(urls.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(urls.count("GET", "/v2/ "), 0, "nothing but the layer is asked for");
}

#[test]
fn a_foreign_layer_that_nobody_has_is_kept_and_what_is_in_it_cannot_be_copied() {
    let (sandbox, shop, _urls, digest, url) = on_a_foreign_layer();
    drop(shop);
    let built = sandbox.built(&["-o", "oci:out:1"]);
    let told = "what oci:base holds is not known, for its layer";
    assert!(built.run.stderr.contains(told) && built.run.stderr.contains(&digest), "{}", built.run);
    let layer = &raw_manifest(&format!("oci:{}:1", sandbox.path("out").display()))["layers"][0];
    assert_eq!(layer["urls"][1], json!(url));
    sandbox.containerfile("FROM scratch\nCOPY --from=oci:base etc/passwd /copied\n");
    sandbox.build(&["-o", "oci:none:1"]).failed(5).says(&[
        &digest,
        &url,
        "no place gives it",
        "cannot be copied",
    ]);
    sandbox.containerfile("FROM oci:base\nCOPY model /models\n");
    sandbox.build(&["-o", "docker-archive:none.tar:x"]).failed(5).says(&[&digest, "no place gives it"]);
}

//! A build with an empty root directory for a registry that has the layers already: they are hashed and not sent, or with
//! `--trust-layers-of` not even read. And what somebody who lies in a manifest comes to.

mod trusted;

use std::fs;
use std::os::unix::fs::FileExt as _;

use serde_json::Value;

use crate::fault_proxy::{Fault, FaultProxy};
use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Run, Sandbox};
use crate::support::{digest_of, make_old, write_large, write_sparse};

/// So large that it is worth asking the repository what it has.
const WEIGHTS: u64 = 17 << 20;
const ALL: u64 = WEIGHTS + 2;
const KEY: &str = "io.crossdock.layer.key";
const CONTENT: &str = "io.crossdock.layer.content";

/// The weights in a layer of their own, and always the same manifest.
const SPLIT: [&str; 4] = ["--layer-file-size", "1MiB", "--timestamp", "0"];

fn model() -> Sandbox {
    let sandbox = Sandbox::small();
    write_large(&sandbox.file("model/weights"), WEIGHTS, 1);
    // An upload of what has not just been written is noted in the root directory.
    make_old(&sandbox.file("model/weights"));
    sandbox
}

/// Builds and pushes with a root directory that nothing is in yet.
fn pushed(sandbox: &Sandbox, name: &str, more: &[&str]) -> Built {
    Built::of(push(sandbox, name, more).done())
}

fn push(sandbox: &Sandbox, name: &str, more: &[&str]) -> Run {
    let root = sandbox.path("root").display().to_string();
    let _ = fs::remove_dir_all(&root);
    let args = ["--root", &root, "--progress", "json", "--tls-verify=false", "--push", "-t", name];
    sandbox.build(&[&args[..], &SPLIT, more].concat())
}

fn all(outcome: &str) -> Vec<String> {
    vec![outcome.to_owned(); 2]
}

/// The manifest that a registry keeps.
fn manifest(registry: &Registry, digest: &str) -> Value {
    serde_json::from_slice(&fs::read(registry.blob(digest)).unwrap()).unwrap()
}

fn annotations(manifest: &Value) -> Vec<&Value> {
    manifest["layers"].as_array().unwrap().iter().map(|layer| &layer["annotations"]).collect()
}

/// Bytes of blobs that came to the registry.
fn sent(proxy: &FaultProxy) -> u64 {
    proxy.seen().iter().filter(|seen| seen.path.contains("/blobs/uploads/")).map(|seen| seen.body).sum()
}

/// How an image is trusted.
fn trusting(image: &str) -> [&str; 2] {
    ["--trust-layers-of", image]
}

#[test]
fn the_next_tag_of_an_unchanged_model_is_read_once_and_not_sent() {
    for form in [&[][..], &["--compression-format", "zstd"], &["--compression-format", "gzip"], &["--squash"]]
    {
        let registry = Registry::start();
        let proxy = registry.proxy();
        let sandbox = model();
        let name = |tag: &str| format!("{}/model:{tag}", proxy.addr());
        let first = pushed(&sandbox, &name("3f1c"), form);
        let before = sent(&proxy);
        // Another commit: another label, and so another config.
        let second = pushed(&sandbox, &name("a977"), &[form, &["--label", "commit=a977"]].concat());
        assert_eq!(second.layers(), first.layers(), "{form:?}");
        assert!(second.outcomes().iter().all(|outcome| outcome == "present"), "{form:?} {}", second.image);
        assert_eq!(second.number("bytes_read"), ALL, "{form:?}");
        assert!(second.number("bytes_sent") < 10_000, "{form:?} {}", second.image);
        assert!(sent(&proxy) - before < 5_000, "{form:?}: the config, and no layer");
        assert_ne!(second.digest(), first.digest());
    }
}

#[test]
fn a_model_whose_bytes_changed_is_sent_and_one_of_another_size_is_not_even_hashed_first() {
    let registry = Registry::start();
    let sandbox = model();
    let first = pushed(&sandbox, &registry.name("model:1"), &[]);
    // The same names and sizes: it may well be the same, and is read twice.
    write_large(&sandbox.file("model/weights"), WEIGHTS, 2);
    let changed = pushed(&sandbox, &registry.name("model:2"), &[]);
    assert_eq!(changed.outcomes(), ["present", "sent"], "{}", changed.image);
    assert_ne!(changed.layers()[1], first.layers()[1]);
    assert_eq!(changed.number("bytes_read"), ALL + WEIGHTS);
    // No key is the same: read once.
    write_large(&sandbox.file("model/weights"), WEIGHTS + 512, 3);
    let larger = pushed(&sandbox, &registry.name("model:3"), &[]);
    assert_eq!(larger.number("bytes_read"), ALL + 512);
    fs::rename(sandbox.file("model/weights"), sandbox.file("model/renamed")).unwrap();
    let renamed = pushed(&sandbox, &registry.name("model:4"), &[]);
    assert_eq!((renamed.outcomes()[1].as_str(), renamed.number("bytes_read")), ("sent", ALL + 512));
}

/// A model that was trained again has shards of the old names and sizes.
#[test]
fn not_every_shard_of_a_model_that_was_trained_again_is_read_twice() {
    const SHARD: u64 = 65 << 20;
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let shards = ["model/a", "model/b", "model/c"];
    shards.iter().for_each(|shard| write_sparse(&sandbox.file(shard), SHARD));
    pushed(&sandbox, &registry.name("model:1"), &["--jobs", "1"]);
    for (at, shard) in shards.iter().enumerate() {
        let file = fs::File::options().write(true).open(sandbox.file(shard)).unwrap();
        file.write_all_at(&[1, 2, u8::try_from(at).unwrap()], 1 << 20).unwrap();
    }
    let built = pushed(&sandbox, &registry.name("model:2"), &["--jobs", "1"]);
    assert_eq!(built.outcomes()[1..], ["sent"; 3]);
    assert_eq!(built.number("bytes_read"), 4 * SHARD + 2, "{}", built.image);
}

#[test]
fn without_keys_the_size_alone_tells_where_it_is_large() {
    for (len, outcome) in [(WEIGHTS, "sent"), (65 << 20, "present")] {
        for form in [["--layer-keys=false"], ["--format=docker"]] {
            let registry = Registry::start();
            let sandbox = Sandbox::small();
            fs::create_dir_all(sandbox.file("model")).unwrap();
            write_sparse(&sandbox.file("model/weights"), len);
            let first = pushed(&sandbox, &registry.name("model:1"), &form);
            assert!(annotations(&manifest(&registry, first.digest())).iter().all(|said| said.is_null()));
            let second = pushed(&sandbox, &registry.name("model:2"), &form);
            assert_eq!(second.outcomes()[1], outcome, "{len} {form:?}");
        }
    }
}

#[test]
fn a_repository_that_lists_no_tags_is_pushed_to_all_the_same() {
    for status in [401, 403, 404, 405, 500] {
        let registry = Registry::start();
        let sandbox = model();
        pushed(&sandbox, &registry.name("model:1"), &[]);
        let proxy = registry.proxy();
        proxy.break_next(
            "GET",
            "/tags/list",
            99,
            Fault::Answer { status, headers: Vec::new(), body: String::new() },
        );
        let name = |tag: &str| format!("{}/model:{tag}", proxy.addr());
        let built = pushed(&sandbox, &name("2"), &[]);
        assert_eq!(proxy.count("GET", "/tags/list"), 1, "{status}: asked once, and no more");
        // The small layer goes first, or last; the weights are not known to be there until their digest is.
        assert_eq!(built.number("bytes_read"), ALL, "{status}");
        assert_eq!(registry.tag("model", "2").as_deref(), Some(built.digest()));
        // A tag that is named needs no list.
        let named = pushed(&sandbox, &name("3"), &["--reuse-from", "1"]);
        assert_eq!(named.outcomes(), all("present"), "{status}");
        assert_eq!(proxy.count("GET", "/tags/list"), 1, "{status}");
    }
}

#[test]
fn all_pages_of_tags_are_read_and_none_of_another_host() {
    let registry = Registry::start();
    let sandbox = model();
    pushed(&sandbox, &registry.name("model:1"), &[]);
    for (link, pages, outcome) in [
        ("</v2/model/tags/list?last=0&n=1>; rel=\"next\"", 2, "present"),
        ("<http://127.0.0.1:1/v2/model/tags/list?n=1>; rel=\"next\"", 1, "sent"),
    ] {
        let proxy = registry.proxy();
        let headers = vec![("Link".to_owned(), link.to_owned())];
        let body = r#"{"name":"model","tags":["0"]}"#.to_owned();
        proxy.break_next("GET", "/tags/list", 1, Fault::Answer { status: 200, headers, body });
        let built = pushed(&sandbox, &format!("{}/model:new-{pages}", proxy.addr()), &[]);
        assert_eq!(built.outcomes()[1], outcome, "{link}");
        assert_eq!(proxy.count("GET", "/tags/list"), pages, "{link}");
    }
}

/// Registries take manifests of 4 MiB.
#[test]
fn annotations_of_layers_count_for_the_largest_manifest() {
    const MOST: usize = 4 << 20;
    let registry = Registry::start();
    let sandbox = model();
    let config = sandbox.path("config.toml");
    let name = registry.name("model:1");
    let build = |len: usize, keys: &str| {
        let long = "x".repeat(len);
        fs::write(&config, format!("[build]\nannotation = [\"a={long}\"]\n")).unwrap();
        let args = ["build", "--push", "-t", &name, "--tls-verify=false", "--created-annotation=false", keys];
        let mut command = sandbox.command(&[&args[..], &SPLIT, &["context"]].concat());
        sandbox.finish(command.env("CROSSDOCK_CONFIG", &config).output().unwrap(), &["build"])
    };
    // Two layers, the config and what is around them take some hundreds.
    let lengths = (MOST - 2_000..MOST).step_by(100);
    let fits = lengths.rev().find(|len| build(*len, "--layer-keys=false").status.success()).unwrap();
    assert!(fits < MOST - 100, "there is a limit");
    build(fits, "--layer-keys").failed(3).says(&["the manifest would have more than"]);
    build(fits - 400, "--layer-keys").done();
}

#[test]
fn a_tag_to_reuse_from_that_is_not_there_is_warned_of() {
    let registry = Registry::start();
    let sandbox = model();
    let run = push(&sandbox, &registry.name("model:1"), &["--reuse-from", "nowhere"]).done();
    run.says(&["--reuse-from nowhere: its layers are not known"]);
    let run = push(&sandbox, &registry.name("model:1"), &["--reuse-from", "a/b:c"]).failed(2);
    run.says(&["--reuse-from a/b:c: write a tag of the destination's repository"]);
}

#[test]
fn no_more_than_the_last_ten_tags_are_looked_at_and_none_where_all_is_remembered() {
    let registry = Registry::start();
    let sandbox = model();
    let small = Sandbox::small();
    let tags: Vec<_> = (10..40).map(|n| registry.name(&format!("model:{n}"))).collect();
    let tags: Vec<_> = tags.iter().flat_map(|name| ["-t", name]).collect();
    pushed(&small, &registry.name("model:9"), &[&tags[..], &["--label", "x=y"]].concat());
    pushed(&sandbox, &registry.name("model:1"), &[]);
    let proxy = registry.proxy();
    let name = |tag: &str| format!("{}/model:{tag}", proxy.addr());
    let built = pushed(&sandbox, &name("new"), &[]);
    let looked = |tag: u32| proxy.count("GET", &format!("/manifests/{tag}"));
    assert_eq!((10..40).filter(|tag| looked(*tag) > 0).collect::<Vec<_>>(), (30..40).collect::<Vec<_>>());
    assert_eq!(built.number("bytes_read"), ALL);
    // Small images are sent sooner than asked for.
    pushed(&small, &name("small"), &[]);
    assert_eq!(proxy.count("GET", "/tags/list"), 1);
}

/// The key by docs/virtual-layer.md, of an archive whose files all came from files.
fn key_of(archive: &[u8]) -> String {
    let (mut text, mut known, mut at) = ("io.crossdock.layer 1\nstored none\n".to_owned(), Vec::new(), 0);
    let number = |field: &[u8]| {
        let text = std::str::from_utf8(field).unwrap().trim_matches(['\0', ' ']);
        usize::from_str_radix(text, 8).unwrap()
    };
    while at < archive.len() {
        let header = &archive[at..at + 512];
        known.extend_from_slice(header);
        at += 512;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        let (size, kind) = (number(&header[124..136]), header[156]);
        let padded = size.next_multiple_of(512);
        if kind == b'0' && size > 0 {
            text += &format!("file {at} {size}\n");
            known.extend_from_slice(&archive[at + size..at + padded]);
        } else {
            known.extend_from_slice(&archive[at..at + padded]);
        }
        at += padded;
    }
    text += &format!("length {}\nknown {}\n", archive.len(), digest_of(&known));
    format!("v1:{}", digest_of(text.as_bytes()))
}

#[test]
fn the_key_is_what_the_documentation_says_and_the_same_on_another_machine() {
    let build = |prepare: &dyn Fn(&Sandbox)| {
        let registry = Registry::start();
        let sandbox = model();
        prepare(&sandbox);
        let built = pushed(&sandbox, &registry.name("model:1"), &[]);
        let said = manifest(&registry, built.digest());
        let keys: Vec<String> =
            annotations(&said).iter().map(|said| said[KEY].as_str().unwrap().to_owned()).collect();
        for (key, layer) in keys.iter().zip(built.layers()) {
            assert_eq!(*key, key_of(&fs::read(registry.blob(&layer)).unwrap()));
        }
        keys
    };
    let long = |sandbox: &Sandbox| drop(sandbox.write(&format!("model/{}file", "long/".repeat(30)), "text"));
    let plain = build(&long);
    let same = build(&|sandbox: &Sandbox| {
        long(sandbox);
        // Other bytes, another inode, another time; holes in the place of zeros.
        fs::remove_file(sandbox.file("model/weights")).unwrap();
        write_sparse(&sandbox.file("model/weights"), WEIGHTS);
        make_old(&sandbox.file("model/weights"));
    });
    assert_eq!(plain, same);
    let other = build(&|sandbox: &Sandbox| {
        long(sandbox);
        sandbox.mode("model/weights", 0o600);
    });
    assert_eq!((&plain[0], plain[1] == other[1]), (&other[0], false));
}

#[test]
fn keys_follow_an_image_that_is_sent_on_and_are_left_out_where_there_is_no_place() {
    let registry = Registry::start();
    let sandbox = model();
    let name = registry.name("model:1");
    sandbox.pushed(&name, &SPLIT);
    let said = |tag: &str| manifest(&registry, &registry.tag("model", tag).unwrap());
    let send = |tag: &str, more: &[&str]| {
        let to = format!("docker://{}", registry.name(&format!("model:{tag}")));
        sandbox.run(&[&["push", "--tls-verify=false", &name, &to], more].concat()).done();
        said(tag)
    };
    let as_it_was = send("same", &[]);
    assert_eq!(as_it_was, said("1"));
    let keys =
        |manifest: &Value| annotations(manifest).iter().map(|said| said[KEY].clone()).collect::<Vec<_>>();
    let zstd = send("zstd", &["--compression-format", "zstd"]);
    assert!(keys(&zstd).iter().zip(keys(&as_it_was)).all(|(new, old)| new.is_string() && *new != old));
    let docker = send("docker", &["--format", "v2s2"]);
    assert!(annotations(&docker).iter().all(|said| said.is_null()), "{docker}");
    // Upon a base with keys.
    let upon = |more: &[&str]| {
        sandbox.containerfile(&format!("FROM {name}\nCOPY model/config.json /more\n"));
        let built = pushed(&sandbox, &registry.name("upon:1"), more);
        manifest(&registry, built.digest())
    };
    assert!(keys(&upon(&[])).iter().all(Value::is_string));
    assert!(annotations(&upon(&["--format", "docker"])).iter().all(|said| said.is_null()));
    assert!(annotations(&upon(&["--layer-keys=false"])).iter().all(|said| said.is_null()));
}

#[test]
fn under_the_name_buildah_there_are_no_keys_unless_they_are_asked_for() {
    let registry = Registry::start();
    let sandbox = model();
    let name = registry.name("model:1");
    for (more, has) in [(&[][..], false), (&["--layer-keys"], true)] {
        sandbox.buildah(&[&["bud", "-t", &name], more, &["context"]].concat()).done();
        sandbox.buildah(&["push", "--tls-verify=false", &name]).done();
        let said = manifest(&registry, &registry.tag("model", "1").unwrap());
        assert!(annotations(&said).iter().all(|said| said.is_object() == has), "{said}");
    }
}

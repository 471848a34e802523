//! A build with an empty root directory for a registry that has the layers already: they are hashed and not sent, or with
//! `--trust-layers-of` not even read. And what somebody who lies in a manifest comes to.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::fault_proxy::{Fault, FaultProxy};
use crate::support::image::Image;
use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Run, Sandbox};
use crate::support::{digest_of, make_old, noise, skopeo_copy, tool, write_large, write_sparse};

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

#[test]
fn layers_of_a_trusted_image_are_not_read_and_the_manifest_is_that_of_a_full_build() {
    for form in [&[][..], &["--compression-format", "zstd"], &["--compression-format", "gzip"], &["--squash"]]
    {
        let registry = Registry::start();
        let sandbox = model();
        let first = pushed(&sandbox, &registry.name("model:1"), form);
        let image = registry.name(&format!("model@{}", first.digest()));
        for check in [false, true] {
            let more: Vec<&str> = check.then_some("--check-reused").into_iter().collect();
            let more = [form, &trusting(&image), &more].concat();
            let built = pushed(&sandbox, &registry.name("model:2"), &more);
            assert_eq!(built.digest(), first.digest(), "{more:?}");
            assert!(built.number("bytes_read") < 1 << 10, "{more:?} {}", built.image);
            assert!(built.number("bytes_sent") < 10_000, "{more:?} {}", built.image);
            assert_eq!(built.number("bytes_received") >= WEIGHTS, check, "{more:?} {}", built.image);
            let layers = built.image["layers"].as_array().unwrap();
            assert!(layers.iter().all(|layer| layer["trusted"] == json!(image)), "{}", built.image);
            assert_eq!(built.number("layers_trusted"), layers.len() as u64);
            assert!((ALL..ALL + 20_000).contains(&built.number("bytes_trusted")));
        }
        assert_eq!(registry.tag("model", "2").as_deref(), Some(first.digest()));
        // What people read.
        let root = sandbox.path("empty").display().to_string();
        let name = registry.name("model:3");
        let args = ["--root", &root, "--push", "--tls-verify=false", "-t", &name];
        let run = sandbox.build(&[&args[..], &SPLIT, form, &trusting(&image)].concat()).done();
        assert!(run.stdout.contains("trusted  ") && run.stdout.contains("were not read"), "{run}");
        // Nothing of it is remembered: without the flag, the files are read.
        let args = ["--root", &root, "--no-preflight"];
        let read = sandbox.pushed(&registry.name("model:4"), &[&args[..], &SPLIT, form].concat());
        assert_eq!((read.number("bytes_read"), read.number("layers_trusted")), (ALL, 0), "{form:?}");
    }
}

/// Beside the digests, no later command takes the files for what the trusted layers are.
#[test]
fn an_image_with_trusted_layers_is_remembered_with_the_blobs_and_not_with_the_files() {
    let registry = Registry::start();
    let sandbox = model();
    let first = pushed(&sandbox, &registry.name("model:1"), &[]);
    let image = registry.name(&format!("model@{}", first.digest()));
    // Other bytes: what trusting cannot know.
    write_large(&sandbox.file("model/weights"), WEIGHTS, 2);
    let name = registry.name("model:2");
    let built = pushed(&sandbox, &name, &trusting(&image));
    assert_eq!(built.digest(), first.digest(), "the size is the same: docs/records.md says so");
    fs::remove_file(sandbox.file("model/weights")).unwrap();
    let root = sandbox.path("root").display().to_string();
    let to = format!("docker://{}", registry.name("elsewhere:1"));
    let args = ["--root", &root, "push", "--progress", "json", "--tls-verify=false", &name, &to];
    let again = Built::of(sandbox.run(&args).done());
    assert_eq!((again.digest(), again.number("bytes_read")), (first.digest(), 0));
}

#[test]
fn a_layer_of_another_size_or_name_is_never_taken_from_a_trusted_image() {
    let registry = Registry::start();
    let sandbox = model();
    let first = pushed(&sandbox, &registry.name("model:1"), &[]);
    let image = registry.name(&format!("model@{}", first.digest()));
    let weights = sandbox.file("model/weights");
    type Change = fn(&Path);
    let changes: [(&str, Change); 4] = [
        ("a byte more", |weights| write_large(weights, WEIGHTS + 1, 1)),
        // The archive has the same length.
        ("a byte less", |weights| write_large(weights, WEIGHTS - 1, 1)),
        ("another mode", |weights| {
            write_large(weights, WEIGHTS, 1);
            tool("chmod", &["0600", &weights.display().to_string()]);
        }),
        ("another name", |weights| fs::rename(weights, weights.with_file_name("other")).unwrap()),
    ];
    for (what, change) in changes {
        change(&weights);
        let built = pushed(&sandbox, &registry.name("model:2"), &trusting(&image));
        assert_eq!(built.outcomes(), ["present", "sent"], "{what}");
        assert_eq!(built.number("layers_trusted"), 1, "{what}: the small files");
        assert!(built.number("bytes_read") >= WEIGHTS - 1, "{what}");
    }
    // What the build itself makes is known to the byte.
    sandbox.containerfile("FROM scratch\nCOPY <<EOF /etc/port\n1\nEOF\n");
    let one = pushed(&sandbox, &registry.name("made:1"), &[]);
    sandbox.containerfile("FROM scratch\nCOPY <<EOF /etc/port\n2\nEOF\n");
    let image = registry.name(&format!("made@{}", one.digest()));
    let two = pushed(&sandbox, &registry.name("made:2"), &trusting(&image));
    assert_eq!((two.outcomes(), two.number("layers_trusted")), (vec!["sent".to_owned()], 0));
}

#[test]
fn a_trusted_image_elsewhere_is_mounted_from_or_of_no_use() {
    let registry = Registry::start();
    let sandbox = model();
    let first = pushed(&sandbox, &registry.name("model:1"), &[]);
    let image = registry.name(&format!("model@{}", first.digest()));
    let mounted = pushed(&sandbox, &registry.name("other:1"), &trusting(&image));
    assert_eq!((mounted.outcomes(), mounted.number("bytes_read")), (all("mounted"), 0));
    assert_eq!(mounted.digest(), first.digest());
    // Another registry has to be sent the layers: from the files, which are near.
    let away = Registry::start();
    let built = pushed(&sandbox, &away.name("model:1"), &trusting(&image));
    assert_eq!((built.outcomes(), built.number("bytes_read")), (all("sent"), ALL));
    assert_eq!((built.digest(), built.number("bytes_received")), (first.digest(), 0));
    // So it is on disk.
    let root = sandbox.path("other-root").display().to_string();
    let out = format!("oci:{}", sandbox.path("out").display());
    let written = sandbox.built(&[&["--root", &root, "-o", &out], &SPLIT[..], &trusting(&image)].concat());
    assert_eq!((written.digest(), written.number("layers_trusted")), (first.digest(), 0));
    Image::read(&out);
}

#[test]
fn a_list_trusts_the_image_of_each_platform() {
    let registry = Registry::start();
    let sandbox = model();
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let args = |root: &str, name: &str| {
        let root = sandbox.path(root).display().to_string();
        ["--root", &root, "--progress", "json", "--tls-verify=false", "--push", "-t", name].map(str::to_owned)
    };
    let list = |root: &str, name: &str, more: &[&str]| -> Value {
        let args = args(root, name);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = sandbox.build(&[&args[..], &SPLIT, &platforms, more].concat()).done();
        serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap()
    };
    let first = list("a", &registry.name("model:1"), &[]);
    let image = registry.name(&format!("model@{}", first["digest"].as_str().unwrap()));
    let second = list("b", &registry.name("model:2"), &trusting(&image));
    assert_eq!((&second["digest"], &second["bytes_read"]), (&first["digest"], &json!(0)));
    // Layers that both images have are put once, and trusted in both.
    assert_eq!(second["layers_trusted"], 4);
    // Its tag moved by commit: the images of a list are looked through too.
    let third = list("c", &registry.name("model:3"), &[]);
    let outcomes = third["images"].as_array().unwrap().iter().flat_map(|image| {
        image["layers"].as_array().unwrap().iter().map(|layer| layer["outcome"].as_str().unwrap())
    });
    assert_eq!(outcomes.collect::<Vec<_>>(), ["present"; 4]);
}

#[test]
fn an_image_that_says_no_keys_is_named_and_read() {
    let registry = Registry::start();
    let sandbox = model();
    let first = pushed(&sandbox, &registry.name("model:1"), &["--format", "docker"]);
    let image = registry.name(&format!("model@{}", first.digest()));
    let run = push(&sandbox, &registry.name("model:2"), &trusting(&image)).done();
    let run = run.says(&["none of its layers has a key", "docker format"]);
    assert_eq!(Built::of(run).number("bytes_read"), ALL);
    // The other way round a docker image takes the digests of an OCI one.
    let keyed = pushed(&sandbox, &registry.name("model:3"), &[]);
    let image = registry.name(&format!("model@{}", keyed.digest()));
    let built =
        pushed(&sandbox, &registry.name("model:4"), &[&["--format=docker"], &trusting(&image)[..]].concat());
    assert_eq!((built.digest(), built.number("bytes_read")), (first.digest(), 0));
}

#[test]
fn a_tag_is_trusted_with_a_warning_and_what_is_not_there_is_an_error() {
    let registry = Registry::start();
    let sandbox = model();
    let first = pushed(&sandbox, &registry.name("model:1"), &[]);
    let tag = registry.name("model:1");
    let run = push(&sandbox, &registry.name("model:2"), &trusting(&tag)).done();
    let run = run.says(&["whoever may push to that tag decides", "name the image by its digest"]);
    let built = Built::of(run);
    assert_eq!((built.digest(), built.number("bytes_read")), (first.digest(), 0));
    let missing = registry.name("model:missing");
    push(&sandbox, &registry.name("model:3"), &trusting(&missing)).failed(5).says(&["--trust-layers-of"]);
    assert_eq!(registry.tag("model", "3"), None);
    for (args, part) in [
        (vec!["--trust-layers-of", &tag, "--no-memo"], "cannot be used with"),
        (vec!["--check-reused"], "--trust-layers-of"),
        (vec!["--trust-layers-of", "UPPER/case"], "--trust-layers-of UPPER/case"),
    ] {
        push(&sandbox, &tag, &args).failed(2).says(&[part]);
    }
}

/// An image in the registry whose manifest says the key of a layer of `image` of the layer of `other` in its place: what somebody
/// does who may push and lies.
fn poisoned(sandbox: &Sandbox, registry: &Registry, image: &Built, other: &Built, at: usize) -> String {
    let directory = sandbox.path("poison");
    let _ = fs::remove_dir_all(&directory);
    let place = format!("dir:{}", directory.display());
    skopeo_copy(&[], &format!("docker://{}", registry.name(&format!("model@{}", other.digest()))), &place);
    let mut lie = manifest(registry, other.digest());
    lie["layers"][at]["annotations"] =
        manifest(registry, image.digest())["layers"][at]["annotations"].clone();
    fs::write(directory.join("manifest.json"), lie.to_string()).unwrap();
    skopeo_copy(&[], &place, &format!("docker://{}", registry.name("model:poison")));
    let digest = registry.tag("model", "poison").unwrap();
    assert_eq!(manifest(registry, &digest)["layers"][at]["annotations"], lie["layers"][at]["annotations"]);
    registry.name(&format!("model@{digest}"))
}

#[test]
fn a_poisoned_key_does_nothing_without_the_flag_and_is_found_where_the_archive_is_another() {
    for form in [&[][..], &["--compression-format", "gzip"]] {
        let registry = Registry::start();
        let sandbox = model();
        let good = pushed(&sandbox, &registry.name("model:good"), form);
        fs::rename(sandbox.file("model/weights"), sandbox.file("model/malware")).unwrap();
        let bad = pushed(&sandbox, &registry.name("model:bad"), form);
        fs::rename(sandbox.file("model/malware"), sandbox.file("model/weights")).unwrap();
        let poison = poisoned(&sandbox, &registry, &good, &bad, 1);

        // Every image of the repository is looked at, this one too: what is there is asked for by the digest of the files.
        let safe = pushed(&sandbox, &registry.name("model:safe"), form);
        assert_eq!((safe.digest(), safe.outcomes()), (good.digest(), all("present")));
        let also =
            pushed(&sandbox, &registry.name("model:also"), &[form, &["--reuse-from", "poison"]].concat());
        assert_eq!((also.digest(), also.number("bytes_read")), (good.digest(), ALL));

        // Who trusts the image has what it says.
        let fooled = pushed(&sandbox, &registry.name("model:fooled"), &[form, &trusting(&poison)].concat());
        assert_eq!((&fooled.layers()[1], fooled.number("bytes_read")), (&bad.layers()[1], 0));
        assert_ne!(fooled.digest(), good.digest());

        let checked = [form, &trusting(&poison), &["--check-reused"]].concat();
        let run = push(&sandbox, &registry.name("model:checked"), &checked).failed(3);
        run.says(&[
            "layer /models/weights",
            "is another layer than its key says",
            "build without --trust-layers-of",
        ]);
        assert_eq!(registry.tag("model", "checked"), None);

        // Other bytes below the same headers: the check does not read the files here, and cannot know.
        write_large(&sandbox.file("model/weights"), WEIGHTS, 7);
        let retrained = pushed(&sandbox, &registry.name("model:retrained"), form);
        write_large(&sandbox.file("model/weights"), WEIGHTS, 1);
        let image = registry.name(&format!("model@{}", retrained.digest()));
        let old = pushed(
            &sandbox,
            &registry.name("model:old"),
            &[form, &trusting(&image), &["--check-reused"]].concat(),
        );
        assert_eq!(old.layers(), retrained.layers());
    }
}

#[test]
fn a_layer_whose_size_or_diff_id_is_another_is_not_taken_whatever_its_key_says() {
    let registry = Registry::start();
    let sandbox = model();
    let good = pushed(&sandbox, &registry.name("model:good"), &[]);
    let compressed = pushed(&sandbox, &registry.name("model:gzip"), &["--compression-format", "gzip"]);
    let poison = poisoned(&sandbox, &registry, &good, &compressed, 1);
    let built = pushed(&sandbox, &registry.name("model:1"), &trusting(&poison));
    assert_eq!((built.digest(), built.number("bytes_read")), (good.digest(), ALL));
    write_large(&sandbox.file("model/weights"), WEIGHTS + 512, 1);
    let longer = pushed(&sandbox, &registry.name("model:longer"), &[]);
    write_large(&sandbox.file("model/weights"), WEIGHTS, 1);
    let poison = poisoned(&sandbox, &registry, &good, &longer, 1);
    let built = pushed(&sandbox, &registry.name("model:2"), &trusting(&poison));
    assert_eq!((built.digest(), built.number("layers_trusted")), (good.digest(), 1), "{}", built.image);
    // A blob that rots in the registry is found by reading it.
    let image = registry.name(&format!("model@{}", good.digest()));
    let mut bytes = fs::read(registry.blob(&good.layers()[1])).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    bytes[2_000_000] ^= 1;
    fs::write(registry.blob(&good.layers()[1]), bytes).unwrap();
    let checked = [&trusting(&image)[..], &["--check-reused", "--retry", "0"]].concat();
    let run = push(&sandbox, &registry.name("model:3"), &checked);
    assert!(run.status.code().is_some_and(|code| code != 0), "{run}");
    assert_eq!(registry.tag("model", "3"), None);
}

/// In the cache of Hugging Face a blob has its SHA-256 for a name: where both sides say one, it must be the same.
#[test]
fn blobs_of_the_hugging_face_cache_are_told_apart_by_their_names() {
    let registry = Registry::start();
    let sandbox = Sandbox::new();
    sandbox.containerfile("FROM scratch\nCOPY hub/models--a--b/snapshots/main /models\n");
    let snapshot = sandbox.file("hub/models--a--b/snapshots/main");
    fs::create_dir_all(&snapshot).unwrap();
    let place = |seed: u64| {
        let bytes = noise(2 << 20, seed);
        let name = digest_of(&bytes).replace("sha256:", "");
        sandbox.write(&format!("hub/models--a--b/blobs/{name}"), bytes);
        let link = snapshot.join("model.onnx");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(format!("../../blobs/{name}"), link).unwrap();
    };
    place(1);
    let first = pushed(&sandbox, &registry.name("model:1"), &["--follow-links"]);
    let said = manifest(&registry, first.digest());
    assert!(said["layers"][0]["annotations"][CONTENT].as_str().unwrap().starts_with("v1:sha256:"), "{said}");
    let image = registry.name(&format!("model@{}", first.digest()));
    let follow = [&["--follow-links"], &trusting(&image)[..]].concat();
    assert_eq!(pushed(&sandbox, &registry.name("model:2"), &follow).number("bytes_read"), 0);
    place(2);
    let other = pushed(&sandbox, &registry.name("model:3"), &follow);
    assert_eq!((other.number("layers_trusted"), other.number("bytes_read")), (0, 2 << 20), "{}", other.image);
    assert_ne!(other.layers(), first.layers());
}

/// `hf download --local-dir` says beside a file what it downloaded.
#[test]
fn a_model_that_is_downloaded_anew_is_told_apart_by_the_notes_of_the_download() {
    let registry = Registry::start();
    let sandbox = Sandbox::new();
    sandbox.containerfile("FROM scratch\nCOPY model/*.onnx /models/\n");
    let download = |seed: u64| {
        let bytes = noise(2 << 20, seed);
        let digest = digest_of(&bytes).replace("sha256:", "");
        sandbox.write("model/a.onnx", bytes);
        let note = format!("{}\n{digest}\n4000000000.5\n", "c".repeat(40));
        sandbox.write("model/.cache/huggingface/download/a.onnx.metadata", note);
    };
    download(1);
    let first = pushed(&sandbox, &registry.name("model:1"), &[]);
    let image = registry.name(&format!("model@{}", first.digest()));
    download(1);
    let same = pushed(&sandbox, &registry.name("model:2"), &trusting(&image));
    assert_eq!((same.digest(), same.number("bytes_read")), (first.digest(), 0));
    download(2);
    let other = pushed(&sandbox, &registry.name("model:3"), &trusting(&image));
    assert_eq!((other.number("layers_trusted"), other.number("bytes_read")), (0, 2 << 20), "{}", other.image);
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

#[test]
fn a_dry_run_says_what_would_be_trusted() {
    let registry = Registry::start();
    let sandbox = model();
    let first = pushed(&sandbox, &registry.name("model:1"), &[]);
    let image = registry.name(&format!("model@{}", first.digest()));
    let root = sandbox.path("dry").display().to_string();
    let name = registry.name("model:2");
    let args =
        ["--root", &root, "--dry-run", "--progress", "json", "--tls-verify=false", "--push", "-t", &name];
    let run = sandbox.build(&[&args[..], &SPLIT, &trusting(&image)].concat()).done();
    let foreseen: Value = serde_json::from_str(&run.stdout).unwrap();
    let destination = &foreseen["destinations"][0];
    assert_eq!(
        (&destination["bytes_read"], &destination["bytes_sent"]),
        (&json!(0), &json!(0)),
        "{foreseen}"
    );
    assert_eq!(registry.tag("model", "2"), None);
}

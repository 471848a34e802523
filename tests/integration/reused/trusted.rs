//! Layers whose digests another image says: what is trusted, what is not, and what of it is remembered.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{ALL, CONTENT, SPLIT, WEIGHTS, all, manifest, model, push, pushed, trusting};
use crate::support::image::Image;
use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Sandbox};
use crate::support::{digest_of, noise, skopeo_copy, tool, write_large};

/// As [`pushed`], at the time that it is.
fn timed(sandbox: &Sandbox, name: &str, more: &[&str]) -> Built {
    let root = sandbox.path("root").display().to_string();
    let _ = fs::remove_dir_all(&root);
    let args = ["--root", &root, "--progress", "json", "--tls-verify=false", "--push", "-t", name];
    Built::of(sandbox.build(&[&args[..], &SPLIT[..2], more].concat()).done())
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
    let first = timed(&sandbox, &registry.name("model:1"), &["--follow-links"]);
    let said = manifest(&registry, first.digest());
    assert!(said["layers"][0]["annotations"][CONTENT].as_str().unwrap().starts_with("v1:sha256:"), "{said}");
    let image = registry.name(&format!("model@{}", first.digest()));
    let follow = [&["--follow-links"], &trusting(&image)[..]].concat();
    assert_eq!(timed(&sandbox, &registry.name("model:2"), &follow).number("bytes_read"), 0);
    place(2);
    let other = timed(&sandbox, &registry.name("model:3"), &follow);
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
    let first = timed(&sandbox, &registry.name("model:1"), &[]);
    let image = registry.name(&format!("model@{}", first.digest()));
    download(1);
    let same = timed(&sandbox, &registry.name("model:2"), &trusting(&image));
    assert_eq!((same.layers(), same.number("bytes_read")), (first.layers(), 0));
    download(2);
    let other = timed(&sandbox, &registry.name("model:3"), &trusting(&image));
    assert_eq!((other.number("layers_trusted"), other.number("bytes_read")), (0, 2 << 20), "{}", other.image);
}

/// The same files make the same manifest where the time is set, wherever they came from.
#[test]
fn what_is_said_beside_files_changes_no_manifest_of_a_set_time() {
    let sandbox = Sandbox::new();
    sandbox.containerfile("FROM scratch\nCOPY model/*.onnx /models/\n");
    let bytes = noise(2 << 20, 1);
    let note = format!("{}\n{}\n4000000000.5\n", "c".repeat(40), digest_of(&bytes).replace("sha256:", ""));
    sandbox.write("model/a.onnx", bytes);
    let built = || sandbox.built(&["-o", "oci:out:1", "--timestamp", "0"]);
    let bare = built();
    let note = sandbox.write("model/.cache/huggingface/download/a.onnx.metadata", note);
    assert_eq!(built().digest(), bare.digest());
    // A FIFO is not waited for.
    fs::remove_file(&note).unwrap();
    tool("mkfifo", &[note.to_str().unwrap()]);
    assert_eq!(sandbox.built(&["-o", "oci:out:2"]).layers(), bare.layers());
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

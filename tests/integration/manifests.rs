//! Lists of images: made by hand or by a build, sent, and read by others.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::base::{Base, push_index};
use crate::support::image::{Image, Node};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{architecture, digest_of, skopeo_copy, tool, write_large};

const BOTH: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A model of 3 MiB in a layer of its own, and what differs between the platforms in another.
fn model() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox
        .containerfile("FROM scratch\nARG TARGETARCH\nCOPY model /models\nCOPY bin/$TARGETARCH /bin/serve\n");
    write_large(&sandbox.file("model/shard"), 3 << 20, 5);
    for name in ["amd64", "arm64", "s390x"] {
        sandbox.write(&format!("bin/{name}"), name);
    }
    sandbox
}

/// The bytes that a registry has under a name.
fn raw(name: &str) -> String {
    tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
}

fn index_of(name: &str) -> Value {
    serde_json::from_str(&raw(name)).unwrap()
}

fn platforms(index: &Value) -> Vec<String> {
    let entries = index["manifests"].as_array().unwrap();
    entries.iter().map(|entry| entry["platform"]["architecture"].as_str().unwrap().to_owned()).collect()
}

/// The last object of a run with `--progress json`.
#[track_caller]
fn report(run: Run) -> Value {
    let run = run.done();
    let report: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(report["event"], "list");
    report
}

fn outcomes(image: &Value) -> Vec<&str> {
    image["layers"].as_array().unwrap().iter().map(|layer| layer["outcome"].as_str().unwrap()).collect()
}

/// `manifest` with these arguments, which works.
#[track_caller]
fn manifest(sandbox: &Sandbox, args: &[&str]) -> String {
    sandbox.run(&[&["manifest"], args].concat()).done().stdout
}

#[test]
fn a_build_for_two_platforms_sends_what_they_share_once() {
    let registry = Registry::start();
    let sandbox = model();
    let name = registry.name("team/model:1");
    let args =
        ["--push", "--tls-verify=false", "--progress", "json", "--layer-file-size", "2MiB", "-t", &name];
    let report = report(sandbox.build(&[&BOTH[..], &args].concat()));

    // Three layers are sent of which the first is the model; the second image has that one already.
    let read = report["bytes_read"].as_u64().unwrap();
    assert_eq!(read, (3 << 20) + "amd64arm64".len() as u64);
    let sent = report["bytes_sent"].as_u64().unwrap();
    assert!((3 << 20..(3 << 20) + 20_000).contains(&sent), "{sent}");
    assert_eq!(outcomes(&report["images"][0]), ["sent", "sent"]);
    assert_eq!(outcomes(&report["images"][1]), ["present", "sent"]);

    let text = raw(&name);
    assert_eq!(report["digest"], digest_of(text.as_bytes()));
    let index: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(index["mediaType"], OCI_INDEX);
    assert_eq!(platforms(&index), ["amd64", "arm64"]);
    let mut models = Vec::new();
    for (at, platform) in ["amd64", "arm64"].iter().enumerate() {
        let image = Image::pull_for(&name, platform);
        assert_eq!(image.digest, index["manifests"][at]["digest"]);
        assert_eq!(image.config["architecture"], *platform);
        assert_eq!(*image.node("bin/serve"), Node::file(platform.as_bytes(), 0o644));
        models.push(image.layer_digests().remove(0));
    }
    assert_eq!(models[0], models[1]);
}

#[test]
fn a_list_of_a_build_is_remembered_pushed_and_read_by_others() {
    let registry = Registry::start();
    let sandbox = model();
    let digests = |text: &str| -> Vec<String> {
        let list: Value = serde_json::from_str(text).unwrap();
        let entries = list["manifests"].as_array().unwrap();
        entries.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
    };
    let list = ["--manifest", "llama", "--iidfile", "id", "--timestamp", "0", "--layer-file-size", "2MiB"];
    let report = report(sandbox.build(&[&BOTH[..], &list, &["--progress", "json"]].concat()));
    assert_eq!(report["names"], json!(["localhost/llama:latest"]));
    assert_eq!(report["recorded"], true);
    assert_eq!(report["bytes_sent"], 0);
    assert_eq!(report["bytes_read"], (3 << 20) + "amd64arm64".len(), "what they share is hashed once");
    assert_eq!(report["list_id"], fs::read_to_string(sandbox.path("id")).unwrap());
    let first = digests(&manifest(&sandbox, &["inspect", "llama"]));

    // Built again for one platform: its image takes the place of the old one, the other stays.
    sandbox.write("bin/arm64", "other");
    let args = [&["--platform", "linux/arm64"][..], &list, &["--progress", "json"]].concat();
    let last: Value =
        serde_json::from_str(sandbox.build(&args).done().stdout.lines().last().unwrap()).unwrap();
    let second = digests(&manifest(&sandbox, &["inspect", "llama"]));
    assert_eq!(second.len(), 2);
    assert_eq!(second[0], first[0]);
    assert_ne!(second[1], first[1]);

    let name = registry.name("team/llama:1");
    let destination = format!("docker://{name}");
    let args = ["push", "--all", "--tls-verify=false", "--digestfile", "digest", "llama", &destination];
    manifest(&sandbox, &args);
    let text = raw(&name);
    assert_eq!(digests(&text), second, "the images are as they were built");
    assert_eq!(last["digest"], digest_of(text.as_bytes()), "the build said what the list will be");
    assert_eq!(fs::read_to_string(sandbox.path("digest")).unwrap(), digest_of(text.as_bytes()));
    assert_eq!(*Image::pull_for(&name, "arm64").node("bin/serve"), Node::file(b"other", 0o644));

    // skopeo takes all of it, buildah and podman read it as a list.
    let copy = sandbox.path("copy");
    skopeo_copy(&["--all"], &destination, &format!("dir:{}", copy.display()));
    assert_eq!(fs::read_to_string(copy.join("manifest.json")).unwrap(), text);
    let conf = insecure(&sandbox, &registry);
    let mut inspect = sandbox.command_of("buildah");
    inspect.args(["--storage-driver=vfs", "--root", "store", "--runroot", "run", "--registries-conf", &conf]);
    let output = inspect.args(["manifest", "inspect", &name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(digests(&String::from_utf8(output.stdout).unwrap()), second);
    let mut inspect = sandbox.command_of("podman");
    inspect.args(["--storage-driver=vfs", "--root", "store", "--runroot", "run"]);
    inspect.args(["manifest", "inspect", &name]).env("CONTAINERS_REGISTRIES_CONF", &conf);
    let output = inspect.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(digests(&String::from_utf8(output.stdout).unwrap()), second);
}

/// A registries.conf that allows plain http.
fn insecure(sandbox: &Sandbox, registry: &Registry) -> String {
    let path = sandbox.path("registries.conf");
    let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.addr());
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_list_goes_to_disk_and_in_dockers_format() {
    let registry = Registry::start();
    let sandbox = model();
    sandbox.build(&[&BOTH[..], &["-t", "llama"]].concat()).done();
    for destination in ["oci:layout:1", "oci-archive:file.tar:1"] {
        manifest(&sandbox, &["push", "--quiet", "--all", "llama", destination]);
        let (transport, rest) = destination.split_once(':').unwrap();
        let from = format!("{transport}:{}", sandbox.path(rest).display());
        let copy = registry.name(&format!("copy/{transport}:1"));
        skopeo_copy(&["--all"], &from, &format!("docker://{copy}"));
        assert_eq!(platforms(&index_of(&copy)), ["amd64", "arm64"]);
        assert_eq!(*Image::pull_for(&copy, "arm64").node("bin/serve"), Node::file(b"arm64", 0o644));
    }
    let name = registry.name("docker:1");
    let args = ["push", "--all", "--tls-verify=false", "--format", "v2s2", "llama"];
    manifest(&sandbox, &[&args[..], &[&format!("docker://{name}")]].concat());
    let list = index_of(&name);
    assert_eq!(list["mediaType"], DOCKER_LIST);
    let image = Image::pull_for(&name, "arm64");
    assert_eq!(image.manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");

    // A place for one image alone is refused before anything is written.
    let refused = sandbox.run(&["manifest", "push", "--all", "llama", "docker-archive:x.tar"]).failed(3);
    refused.says(&["docker-archive", "oci-archive"]);
    assert!(!sandbox.path("x.tar").exists());
    sandbox.build(&[&BOTH[..], &["-o", "docker-archive:x.tar"]].concat()).failed(2).says(&["docker-archive"]);
}

#[test]
fn a_list_is_put_together_of_images_here_and_on_registries() {
    let registry = Registry::start();
    let sandbox = model();
    let built = sandbox.built(&["-t", "mine", "--platform", "linux/arm64"]);
    let theirs = registry.name("base:1");
    push_index(&[Base::new().for_architecture("amd64"), Base::new().for_architecture("s390x")], &theirs);

    let id = manifest(&sandbox, &["create", "llama"]);
    assert_eq!(id.trim().len(), 64);
    sandbox.run(&["manifest", "create", "llama"]).failed(3).says(&["localhost/llama:latest", "--amend"]);
    assert_eq!(manifest(&sandbox, &["create", "--amend", "llama"]), id);
    let added = manifest(&sandbox, &["add", "--variant", "v8", "--annotation", "a=b", "llama", "mine"]);
    assert_eq!(added, format!("{}: {}\n", id.trim(), built.digest()));
    manifest(&sandbox, &["add", "--tls-verify=false", "--all", "llama", &format!("docker://{theirs}")]);
    let args = ["--annotation", "c=d", "--os-version", "6", "--features", "x,y", "--os-features", "z"];
    manifest(&sandbox, &[&["annotate"], &args[..], &["llama", built.digest()]].concat());
    // The tag moves on; the list stands for the images that were added.
    Base::new().push(&theirs);

    let name = registry.name("team/llama:1");
    manifest(&sandbox, &["push", "--all", "--tls-verify=false", "llama", &format!("docker://{name}")]);
    let index = index_of(&name);
    assert_eq!(platforms(&index), ["arm64", "amd64", "s390x"]);
    assert_eq!(
        index["manifests"][0]["platform"],
        json!({
            "architecture": "arm64", "os": "linux", "variant": "v8", "os.version": "6", "os.features": ["z"],
            "features": ["x", "y"],
        })
    );
    assert_eq!(index["manifests"][0]["annotations"], json!({"a": "b", "c": "d"}));
    let foreign = Image::pull_for(&name, "s390x");
    assert_eq!(*foreign.node("etc/arch"), Node { mtime: 1_000_000_000, ..Node::file(b"s390x", 0o644) });

    // Taken off, and forgotten; the images stay.
    manifest(&sandbox, &["remove", "llama", built.digest()]);
    sandbox.run(&["manifest", "remove", "llama", built.digest()]).failed(3).says(&[built.digest()]);
    let shown: Value = serde_json::from_str(&manifest(&sandbox, &["inspect", "llama"])).unwrap();
    assert_eq!(platforms(&shown), ["amd64", "s390x"]);
    let exists = |code| {
        let run = sandbox.run(&["manifest", "exists", "llama"]);
        assert_eq!((run.status.code(), run.stderr.as_str()), (Some(code), ""));
    };
    exists(0);
    let said = manifest(&sandbox, &["rm", "llama"]);
    assert_eq!(said, format!("untagged: localhost/llama:latest\n{id}"));
    exists(1);
    sandbox.run(&["push", "mine", "oci:left"]).done();
}

#[test]
fn a_list_is_not_pushed_without_its_images() {
    let registry = Registry::start();
    let sandbox = model();
    sandbox.build(&[&BOTH[..], &["-t", "llama"]].concat()).done();
    let destination = format!("docker://{}", registry.name("team/llama:1"));
    let alone = ["manifest", "push", "--tls-verify=false", "llama", &destination];
    sandbox.run(&alone).failed(3).says(&["is not there", "--all"]);
    assert_eq!(registry.tag("team/llama", "1"), None);
    sandbox.run(&["manifest", "push", "llama", "oci:layout"]).failed(3).says(&["--all"]);
    assert!(!sandbox.path("layout").exists());
    // Where they are, the list alone is enough; and then it may be forgotten.
    let all = ["push", "--all", "--rm", "--tls-verify=false", "llama", &destination];
    sandbox.run(&["manifest", "push", "--all", "--tls-verify=false", "llama", &destination]).done();
    let before = registry.tag("team/llama", "1");
    sandbox.run(&alone).done();
    assert_eq!(registry.tag("team/llama", "1"), before);
    manifest(&sandbox, &all);
    sandbox.run(&["manifest", "inspect", "llama"]).failed(3).says(&["no list llama here"]);
}

#[test]
fn a_file_that_changed_keeps_the_list_from_being_pushed() {
    let registry = Registry::start();
    let sandbox = model();
    sandbox.build(&[&BOTH[..], &["-t", "llama"]].concat()).done();
    sandbox.write("bin/arm64", "changed since");
    let destination = format!("docker://{}", registry.name("team/llama:1"));
    let args = ["manifest", "push", "--all", "--tls-verify=false", "llama", &destination];
    sandbox.run(&args).failed(4).says(&["bin/arm64"]);
    assert_eq!(registry.tag("team/llama", "1"), None);
}

#[test]
fn push_of_a_list_sends_the_image_for_this_machine_or_all() {
    let registry = Registry::start();
    let sandbox = model();
    sandbox.build(&[&BOTH[..], &["-t", "llama"]].concat()).done();
    let (one, all) = (registry.name("one:1"), registry.name("all:1"));
    sandbox.run(&["push", "--tls-verify=false", "llama", &one]).done();
    assert_eq!(Image::pull(&one).config["architecture"], architecture());
    assert!(index_of(&one)["manifests"].is_null());
    sandbox.run(&["push", "--all", "--tls-verify=false", "llama", &all]).done();
    assert_eq!(platforms(&index_of(&all)), ["amd64", "arm64"]);
}

#[test]
fn bases_are_found_for_each_platform() {
    let registry = Registry::start();
    let sandbox = model();
    let base = registry.name("base:1");
    push_index(&[Base::new().for_architecture("amd64"), Base::new().for_architecture("s390x")], &base);
    sandbox.containerfile(&format!("FROM {base}\nARG TARGETARCH\nCOPY bin/$TARGETARCH /srv/serve\n"));
    let name = registry.name("team/model:1");
    sandbox.build(&["--push", "--tls-verify=false", "--all-platforms", "-t", &name]).done();
    for platform in ["amd64", "s390x"] {
        let image = Image::pull_for(&name, platform);
        let variables = image.config["config"]["Env"].as_array().unwrap();
        assert!(variables.contains(&json!(format!("MADE_FOR={platform}"))), "{variables:?}");
        assert_eq!(*image.node("srv/serve"), Node::file(platform.as_bytes(), 0o644));
    }

    // A list that is remembered here is a base as well.
    sandbox.build(&["--tls-verify=false", "--all-platforms", "-t", "mine"]).done();
    sandbox.containerfile("FROM mine\nCOPY model /models\n");
    let name = registry.name("team/model:2");
    let platforms = ["--platform", "linux/s390x"];
    sandbox.build(&[&["--push", "--tls-verify=false", "-t", &name][..], &platforms].concat()).done();
    assert_eq!(*Image::pull_for(&name, "s390x").node("srv/serve"), Node::file(b"s390x", 0o644));
    let lacks = sandbox.build(&["--platform", "linux/arm64", "-t", "x"]).failed(3);
    lacks.says(&["mine", "linux/arm64", "linux/amd64, linux/s390x"]);
}

#[test]
fn processes_that_add_at_the_same_time_lose_nothing() {
    let sandbox = model();
    manifest(&sandbox, &["create", "llama"]);
    let names: Vec<_> = (0..8).map(|n| format!("m{n}")).collect();
    for name in &names {
        sandbox.write("bin/amd64", name);
        sandbox.build(&["--platform", "linux/amd64", "-t", name]).done();
    }
    let add = |name: &String| {
        let mut command = sandbox.command(&["manifest", "add", "llama", name]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = names.iter().map(add).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let shown: Value = serde_json::from_str(&manifest(&sandbox, &["inspect", "llama"])).unwrap();
    assert_eq!(shown["manifests"].as_array().unwrap().len(), 8);
}

#[test]
fn lists_that_cannot_be_used_are_refused_by_name() {
    let sandbox = model();
    sandbox.build(&["-t", "image"]).done();
    manifest(&sandbox, &["create", "llama"]);
    for (args, code, says) in [
        (&["create", "image"][..], 3, &["image", "choose another"][..]),
        (&["add", "nosuch", "image"], 3, &["no list nosuch here"]),
        (&["add", "image", "image"], 3, &["is an image and not a list"]),
        (&["add", "llama", "dir:layout"], 3, &["dir:"]),
        (&["add", "--annotation", "x", "llama", "image"], 2, &["KEY=VALUE"]),
        (&["annotate", "llama", "image"], 3, &["has no image sha256:"]),
        (&["remove", "llama", "image"], 2, &["digest"]),
        (&["rm", "llama", "image"], 3, &["is an image and not a list"]),
        (&["push", "llama"], 2, &["names no registry"]),
    ] {
        sandbox.run(&[&["manifest"], args].concat()).failed(code).says(says);
    }
    assert!(sandbox.run(&["manifest", "exists", "llama"]).status.success(), "nothing is forgotten by halves");
    sandbox
        .run(&["build", "--platform", "linux/amd64,linux/arm64", "context"])
        .failed(2)
        .says(&["--manifest"]);
}

#[test]
fn a_list_is_listed_shown_tagged_and_forgotten_as_an_image_is() {
    let sandbox = Sandbox::small();
    sandbox.run(&["build", "-q", "--platform", "linux/amd64,linux/arm64", "-t", "both:1", "context"]).done();
    sandbox.run(&["tag", "both:1", "both:2"]).done();
    let rows = || {
        let format = "{{.Name}}:{{.Tag}}";
        let run = sandbox.run(&["images", "--noheading", "--format", format]).done();
        let mut rows: Vec<_> = run.stdout.lines().map(|line| line.trim().to_owned()).collect();
        rows.sort();
        rows
    };
    let members = ["<none>:<none>", "<none>:<none>"];
    assert_eq!(rows(), [&members[..], &["localhost/both:1", "localhost/both:2"]].concat());
    assert_eq!(sandbox.run(&["images", "-q", "both:1"]).done().stdout.lines().count(), 1);
    let shown = sandbox.run(&["inspect", "--type", "manifest", "both:2"]).done().stdout;
    assert_eq!(shown, sandbox.run(&["manifest", "inspect", "both:1"]).done().stdout);
    let shown = sandbox.run(&["inspect", "--format", "{{.OCIv1.OS}}", "both:1"]).done().stdout;
    assert_eq!(shown.trim(), "linux");

    // What a list needs is not left over.
    sandbox.run(&["prune", "--force"]).done();
    sandbox.run(&["rmi", "--prune"]).done();
    sandbox.run(&["push", "--all", "both:1", "oci:both:1"]).done();
    sandbox.run(&["rmi", "both:1"]).done();
    assert_eq!(rows(), [&members[..], &["localhost/both:2"]].concat());
    sandbox.run(&["rmi", "both:2"]).done();
    assert_eq!(rows(), members);
    sandbox.run(&["prune", "--force"]).done();
    assert_eq!(rows(), [] as [&str; 0]);
}

//! An image that was sent somewhere is remembered as one that was not: it can be listed, inspected, tagged and sent on.

use std::fs;

use serde_json::Value;

use crate::support::image::{Image, Node};
use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Sandbox};

const INSECURE: &str = "--tls-verify=false";

#[test]
fn an_image_that_was_pushed_has_its_names_here_too() {
    let (registry, second) = (Registry::start(), Registry::start());
    let sandbox = Sandbox::small();
    let (name, tag) = (registry.name("ns/model:1"), registry.name("ns/model:latest"));
    let pushed = sandbox.pushed(&name, &["-t", &tag]);
    assert_eq!(pushed.image["recorded"], false, "it is sent");
    let names = sandbox.run(&["images", "--format", "{{.Name}}:{{.Tag}} {{.Digest}}"]).done().stdout;
    let lines: Vec<_> = names.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines, [[&*name, pushed.digest()], [&*tag, pushed.digest()]]);
    let id = sandbox.run(&["inspect", "-f", "{{.FromImageID}}", &name]).done().stdout;
    assert_eq!(pushed.image["image_id"], format!("sha256:{id}"));

    // A second registry gets it from the files, which are read once more and not built again.
    let other = second.name("copy:2");
    sandbox.run(&["tag", &name, &other]).done();
    let sent = Built::of(sandbox.run(&["push", "--progress", "json", INSECURE, &other]).done());
    assert_eq!(sent.digest(), pushed.digest());
    assert_eq!(*Image::pull(&other).node("models/config.json"), Node::file(b"{}", 0o644));

    // Where they are gone, from the first registry.
    fs::remove_dir_all(sandbox.context()).unwrap();
    // A third one has no blob of it.
    let elsewhere = Registry::start();
    let third = elsewhere.name("third:3");
    sandbox.run(&["push", "-q", INSECURE, &name, &third]).failed(4).says(&["model/config.json"]);
    sandbox.run(&["pull", "-q", "--policy=always", INSECURE, &name]).done();
    sandbox.run(&["push", "-q", INSECURE, &name, &third]).done();
    assert_eq!(Image::pull(&third).digest, pushed.digest());
}

#[test]
fn an_image_on_disk_and_a_list_that_was_pushed_are_remembered_too() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    sandbox.build(&["-q", "-o", "oci:layout:1", "-t", "model"]).done();
    sandbox.run(&["inspect", "model"]).done();
    // What has no name is wanted nowhere but there.
    let before = sandbox.run(&["images", "-aq"]).done().stdout;
    sandbox.build(&["-q", "-o", "oci:layout:2", "--label", "a=1"]).done();
    assert_eq!(sandbox.run(&["images", "-aq"]).done().stdout, before);

    let (name, copy) = (registry.name("ns/list:1"), registry.name("ns/copy:1"));
    let both = ["--platform", "linux/amd64,linux/arm64"];
    sandbox.build(&[&["-q", "--push", INSECURE, "-t", &name], &both[..]].concat()).done();
    let shown: Value =
        serde_json::from_str(&sandbox.run(&["manifest", "inspect", &name]).done().stdout).unwrap();
    assert_eq!(shown["manifests"].as_array().unwrap().len(), 2);
    sandbox.run(&["manifest", "push", "-q", "--all", INSECURE, &name, &copy]).done();
    assert_eq!(registry.tag("ns/copy", "1"), registry.tag("ns/list", "1"));
}

#[test]
fn a_push_does_not_fail_because_it_cannot_be_remembered() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    fs::write(sandbox.path("file"), "").unwrap();
    let at = sandbox.path("file").display().to_string();
    let name = registry.name("ns/model:1");
    for more in [&["--push", "-t", &name][..], &["-o", "oci:layout:1", "-t", "model"]] {
        let run =
            sandbox.run(&[&["--root", &at, "build", "-q", INSECURE], more, &["context"]].concat()).done();
        run.says(&["WARN the image was sent, but is not remembered here", &at]);
    }
    assert!(registry.tag("ns/model", "1").is_some());
    let mut homeless = sandbox.command(&["build", "-q", "--push", INSECURE, "-t", &name, "context"]);
    let run =
        sandbox.finish(homeless.env_remove("HOME").output().unwrap(), &["build", "without a home"]).done();
    run.says(&["is not remembered here", "give --root DIR, or set HOME"]);
}

/// What redhat-actions/buildah-build runs for one image with two tags, and for one of two architectures; `--push`
/// is among its `extra-args`.
const ACTION: &str = r#"
    buildah version >/dev/null
    buildah bud --platform linux/amd64 -f $PWD/Containerfile --label a=b --build-arg X=1 --format docker \
      --tls-verify=false --layers=true $EXTRA_ARGS -t $IMAGE:v1 $PWD/
    buildah inspect --type image --format '{{.OCIv1.architecture}}' $IMAGE:v1 || true
    buildah tag $IMAGE:v1 $IMAGE:v1 $IMAGE:latest
    buildah images --format '{{.Digest}}' $IMAGE:v1 >$TMPDIR/digest
    for arch in amd64 arm64; do
      buildah bud --arch $arch -f $PWD/Containerfile --format oci --tls-verify=false -t $IMAGE:both-$arch $PWD/
      buildah inspect --type image --format '{{.OCIv1.Architecture}}' $IMAGE:both-$arch | grep -x $arch
    done
    buildah manifest rm $IMAGE:both || true
    buildah manifest create $IMAGE:both
    for arch in amd64 arm64; do buildah manifest add $IMAGE:both $IMAGE:both-$arch; done
    buildah images --format '{{.Digest}}' $IMAGE:both
"#;

#[test]
fn the_steps_of_the_github_action_run_as_they_are() {
    let registry = Registry::start();
    let image = registry.name("ns/model");
    for extra in ["", "--push"] {
        let sandbox = Sandbox::small();
        let variables = [("IMAGE", image.as_str()), ("EXTRA_ARGS", extra)];
        sandbox.pipeline(ACTION, &variables).done();
        let digest = fs::read_to_string(sandbox.path("tmp/digest")).unwrap();
        // One line for each name, all of the same image.
        let mut digests: Vec<_> = digest.lines().collect();
        digests.dedup();
        assert_eq!(digests.len(), 1, "{digest}");
        if extra == "--push" {
            assert_eq!(registry.tag("ns/model", "v1").as_deref(), Some(digests[0]));
        }
        let push = "buildah push --tls-verify=false $IMAGE:latest
            buildah manifest push --all --tls-verify=false $IMAGE:both docker://$IMAGE:both";
        sandbox.pipeline(push, &variables).done();
        assert_eq!(registry.tag("ns/model", "latest").as_deref(), Some(digests[0]));
        assert!(registry.tag("ns/model", "both").is_some());
    }
}

#[test]
fn a_name_of_this_machine_is_verified_where_the_image_belongs() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    sandbox.build(&["-q", "-t", "model"]).done();
    // No registry is asked: Docker Hub's model is another image.
    for text in ["model", "model:latest", "localhost/model", "docker://model"] {
        let run = sandbox.run(&["verify", text]).failed(2);
        let run = run.says(&["is remembered here, and no name of it says on which registry it is"]);
        assert!(!run.stderr.contains("docker.io"), "{run}");
    }
    let name = registry.name("ns/model:1");
    sandbox.run(&["tag", "model", &name]).done();
    sandbox.run(&["push", "-q", INSECURE, &name]).done();
    for text in ["model", "localhost/model:latest", &name] {
        let run = sandbox.run(&["verify", INSECURE, text]).done();
        assert!(run.stdout.starts_with(&format!("image    {name}")), "{run}");
    }
    sandbox.run(&["tag", "model", &registry.name("ns/model:2")]).done();
    sandbox.run(&["verify", INSECURE, "model"]).failed(2).says(&["under several names, write which", &name]);
}

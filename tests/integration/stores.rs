//! Where `buildah` remembers images: in its store's place, so that steps which share the store share them.

use std::fs;

use crate::support::image::{Image, Node};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};

/// A step of a task: with a home of its own.
fn step(sandbox: &Sandbox, home: &str, conf: &str, args: &[&str]) -> Run {
    fs::create_dir_all(sandbox.path(home)).unwrap();
    let mut command = sandbox.buildah_command(args);
    command.env("HOME", sandbox.path(home)).env("CONTAINERS_STORAGE_CONF", sandbox.path(conf));
    sandbox.finish(command.output().unwrap(), args)
}

#[test]
fn steps_that_share_only_buildahs_store_share_the_image() {
    let registry = Registry::start();
    let name = registry.name("ns/model:1");
    let sandbox = Sandbox::small();
    sandbox.store("shared.conf", "shared");
    let root = sandbox.path("root").display().to_string();
    for (store, global) in [("shared", &[][..]), ("root", &["--root", &root, "--storage-driver=vfs"])] {
        let run = |home: &str, args: &[&str]| step(&sandbox, home, "shared.conf", &[global, args].concat());
        let id = run("first", &["bud", "-q", "--no-cache", "-t", &name, "context"]).done().stdout;
        run("second", &["push", "-q", "--tls-verify=false", &name, &format!("docker://{name}")]).done();
        let image = Image::pull(&name);
        assert_eq!(image.manifest["config"]["digest"], format!("sha256:{}", id.trim_end()));
        assert_eq!(*image.node("models/config.json"), Node::file(b"{}", 0o644));
        // All of it in one directory, so that a store of buildah's can stand beside.
        let there: Vec<_> =
            fs::read_dir(sandbox.path(store)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(there, ["crossdock"]);
        for home in ["first", "second"] {
            assert!(sandbox.files_below(home).is_empty(), "{home}: {:?}", sandbox.files_below(home));
        }
        // Under its own name it finds them where they are.
        let place = sandbox.path(store).join("crossdock").display().to_string();
        let run = sandbox.run(&["--root", &place, "images", "--format", "{{.Name}}"]).done();
        assert_eq!(run.stdout.trim_end(), registry.name("ns/model"));
    }
}

#[test]
fn an_image_that_is_not_there_is_missed_by_the_place_that_was_looked_at() {
    let sandbox = Sandbox::small();
    sandbox.store("other.conf", "other");
    step(&sandbox, "first", "storage.conf", &["bud", "-q", "-t", "model", "context"]).done();
    let other = sandbox.path("other/crossdock").display().to_string();
    for args in [
        &["push", "model", "oci:out"][..],
        &["inspect", "--type", "image", "model"],
        &["tag", "model", "x"],
        &["rmi", "model"],
        &["images", "model"],
    ] {
        let run = step(&sandbox, "second", "other.conf", args).failed(125);
        run.says(&["model: image not known: no image was built or pulled below", &other]);
    }
    fs::write(sandbox.path("other.conf"), "[storage\n").unwrap();
    let run = step(&sandbox, "second", "other.conf", &["images"]).failed(125);
    run.says(&["cannot tell where buildah's store is", "other.conf"]);
}

#[test]
fn a_root_in_the_config_file_is_taken_as_it_is() {
    let sandbox = Sandbox::small();
    let config = sandbox.path("config.toml");
    fs::write(&config, format!("root = {:?}\n", sandbox.path("ours").display().to_string())).unwrap();
    let mut built = sandbox.buildah_command(&["bud", "-q", "-t", "model", "context"]);
    sandbox.finish(built.env("CROSSDOCK_CONFIG", &config).output().unwrap(), &["bud"]).done();
    let ours = sandbox.path("ours").display().to_string();
    sandbox.run(&["--root", &ours, "inspect", "model"]).done();
}

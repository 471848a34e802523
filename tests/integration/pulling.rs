//! `pull`: manifest and config are remembered, layers stay where they are, and FROM and push find them there.

use crate::support::architecture;
use crate::support::base::{Base, push_index};
use crate::support::image::{Image, Node};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};

const INSECURE: &str = "--tls-verify=false";

fn pull(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.run(&[&["pull", INSECURE, "--retry=0"], args].concat())
}

#[test]
fn a_pulled_image_is_built_upon_and_pushed_from_its_registry() {
    let registry = Registry::start();
    let name = registry.name("team/base:1");
    Base::new().push(&name);
    let before = Image::pull(&name);
    let sandbox = Sandbox::small();

    let run = pull(&sandbox, &[&format!("docker://{name}")]).done().says(&[
        &format!("Trying to pull {name}...\n"),
        &format!("Remembered {name} by its manifest and config; its 2 layers ("),
        &format!("stay in docker://{}\n", registry.name("team/base")),
    ]);
    let id = run.stdout.trim_end();
    let config = before.manifest["config"]["digest"].as_str().unwrap();
    assert_eq!(format!("sha256:{id}"), config);
    let stored: u64 = sandbox.files_below("home").values().sum();
    assert!(stored < 4096, "{stored}");
    assert_eq!(sandbox.run(&["images", "-q", "--no-trunc", &name]).done().stdout.trim_end(), config);

    // The tag moves on: what was pulled stays what it was.
    Base::new().with_file("etc/later", b"later").push(&name);
    sandbox.run(&["push", INSECURE, "-q", &name, &format!("docker://{}", registry.name("copy:1"))]).done();
    assert_eq!(Image::pull(&registry.name("copy:1")).digest, before.digest);
    sandbox.containerfile(&format!("FROM {name}\nCOPY model /models\n"));
    sandbox.pushed(&registry.name("model:1"), &[]);
    let image = Image::pull(&registry.name("model:1"));
    assert_eq!(image.layers.len(), 3);
    assert_eq!(*image.node("models/config.json"), Node::file(b"{}", 0o644));
    assert!(!image.files.contains_key("etc/later"));

    // Known here, nobody is asked; asked always, the tag is another image.
    let known = pull(&sandbox, &[&name]).done();
    assert_eq!((known.stdout.trim_end(), known.stderr.as_str()), (id, ""));
    let newer = pull(&sandbox, &["--policy", "always", "-q", &name]).done();
    assert_ne!(newer.stdout.trim_end(), id);
    assert_eq!(newer.stderr, "");
    let listed = sandbox.run(&["images", "-q"]).done().stdout;
    assert_eq!(
        listed.lines().count(),
        3,
        "the image that lost its name is there still, and what was pushed: {listed}"
    );
}

#[test]
fn the_platform_that_is_asked_for_is_pulled() {
    let registry = Registry::start();
    let name = registry.name("multi:1");
    let other = if architecture() == "arm64" { "amd64" } else { "arm64" };
    push_index(&[Base::new(), Base::new().for_architecture(other)], &name);
    let sandbox = Sandbox::new();
    let made_for = |run: Run| {
        let id = run.done().stdout;
        sandbox.run(&["inspect", "-f", "{{.OCIv1.Architecture}}", id.trim_end()]).done().stdout
    };
    assert_eq!(made_for(pull(&sandbox, &[&name])), architecture());
    // What is known is for another platform, and so is asked for.
    assert_eq!(made_for(pull(&sandbox, &["--platform", &format!("linux/{other}"), &name])), other);
    assert_eq!(made_for(pull(&sandbox, &["--arch", architecture(), "--os", "linux", &name])), architecture());
    pull(&sandbox, &["--arch", "s390x", &name]).failed(5).says(&["linux/s390x"]);
}

#[test]
fn a_layout_is_pulled_where_it_stays() {
    let sandbox = Sandbox::small();
    Base::new().write_layout(&sandbox.path("base"));
    let run = pull(&sandbox, &["oci:base:latest"]).done();
    assert!(run.stderr.contains(&format!("stay in oci:{}", sandbox.path("base").display())), "{run}");
    sandbox.containerfile("FROM base\nCOPY model /models\n");
    sandbox.built(&["-o", "oci:out:1"]);
    let image = Image::read(&format!("oci:{}:1", sandbox.path("out").display()));
    assert_eq!(image.node("usr/bin/serve").mode, 0o755);
    // From another directory, too.
    let mut command = sandbox.command(&["push", "-q", "localhost/base:latest", "oci:copy:1"]);
    assert!(command.current_dir(sandbox.path("tmp")).status().unwrap().success());
}

#[test]
fn layers_are_had_as_registries_conf_says() {
    let registry = Registry::start();
    Base::new().push(&registry.name("mirror/base:1"));
    let sandbox = Sandbox::new();
    let conf = format!(
        "[[registry]]\nprefix = \"quay.invalid\"\nlocation = \"quay.invalid\"\n\
         [[registry.mirror]]\nlocation = \"{0}/mirror\"\ninsecure = true\n\
         [[registry]]\nlocation = \"{0}\"\ninsecure = true\n",
        registry.addr()
    );
    std::fs::write(sandbox.path("registries.conf"), conf).unwrap();
    let with = ["--registries-conf", "registries.conf"];
    sandbox.run(&[&with[..], &["pull", "--retry=0", "-q", "quay.invalid/base:1"]].concat()).done();
    assert!(sandbox.run(&["images"]).done().stdout.contains("quay.invalid/base   1 "));
    sandbox.run(&[&with[..], &["push", "-q", "quay.invalid/base:1", "oci:out:1"]].concat()).done();
    let image = Image::read(&format!("oci:{}:1", sandbox.path("out").display()));
    assert_eq!(image.node("usr/bin/serve").mode, 0o755);
}

#[test]
fn what_cannot_be_pulled_is_said() {
    let registry = Registry::start();
    let sandbox = Sandbox::new();
    let name = registry.name("nothing:1");
    pull(&sandbox, &[&name]).failed(5).says(&[&name]);
    pull(&sandbox, &["--policy", "never", &name])
        .failed(3)
        .says(&["with --policy never no registry is asked"]);
    pull(&sandbox, &["--policy", "newer", &name]).failed(2).says(&["--policy newer is not supported"]);
    pull(&sandbox, &["--all-tags", &name]).failed(2).says(&["--all-tags", "pull them by name"]);
    pull(&sandbox, &["docker-archive:x.tar"]).failed(2).says(&["docker-archive: is not supported"]);
    pull(&sandbox, &["oci:nowhere"]).failed(3).says(&["there is no directory nowhere"]);
    assert_eq!(sandbox.run(&["images", "-n"]).done().stdout, "");
}

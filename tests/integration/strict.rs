//! `--strict`: which warnings end a build, and that they do before a byte is sent.

use std::fs;

use crate::support::base::Base;
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{architecture, write_sparse};

/// That a strict build and its dry run end with this warning, which is shown whatever the level of the log, and that the
/// build without `--strict` ends well with it.
#[track_caller]
fn counts(sandbox: &Sandbox, args: &[&str], warning: &str) -> Run {
    let args = [&["--tls-verify=false", "--retry=0"], args].concat();
    for more in [&["--strict"][..], &["--strict", "--dry-run"], &["--strict", "--log-level=error"]] {
        let run = sandbox.build(&[&args[..], more].concat()).failed(3);
        assert_eq!((run.stderr.matches(warning).count(), run.stdout.as_str()), (1, ""), "{run}");
        run.says(&["there is a warning, and --strict takes warnings for errors: nothing was sent"]);
    }
    sandbox.build(&args).done().says(&[warning])
}

#[test]
fn a_base_for_another_platform_counts_wherever_it_is() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let other = if architecture() == "amd64" { "arm64" } else { "amd64" };
    let name = registry.name("base:1");
    let base = Base::new().for_architecture(other).with_file("etc/base", b"b");
    base.write_layout(&sandbox.path("base"));
    base.push(&name);
    sandbox.run(&["pull", "-q", "oci:base"]).done();
    let warning = format!("image platform (linux/{other}) does not match the expected platform");
    for from in ["oci:base", "localhost/base", &name] {
        sandbox.containerfile(&format!("FROM {from}\nCOPY model /models\n"));
        let push = registry.name("models/strict:1");
        let run = sandbox.build(&["--tls-verify=false", "--strict", "--push", "-t", &push]).failed(3);
        assert_eq!(
            (registry.tag("models/strict", "1"), registry.open_uploads("models/strict")),
            (None, 0),
            "{run}"
        );
        counts(&sandbox, &["-o", "dir:out"], &warning);
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    // One that is only copied from counts too.
    sandbox.containerfile("FROM scratch\nCOPY --from=oci:base /etc/base /base\nCOPY model /models\n");
    counts(&sandbox, &["-o", "dir:out"], &warning);
}

#[test]
fn what_the_format_has_no_place_for_counts_before_any_destination_has_a_byte() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let name = registry.name("models/docker:1");
    let warning = "the docker format has no annotations: the image goes without team";
    let args = ["--format=docker", "--annotation=team=models", "-o", "dir:out", "--push", "-t", &name];
    let run =
        sandbox.build(&[&args[..], &["--strict", "--tls-verify=false"]].concat()).failed(3).says(&[warning]);
    assert!(!sandbox.path("out").exists(), "{run}");
    assert_eq!(
        (registry.tag("models/docker", "1"), registry.open_uploads("models/docker")),
        (None, 0),
        "{run}"
    );
    counts(&sandbox, &args, warning);
    assert!(registry.tag("models/docker", "1").is_some());
}

#[test]
fn a_layer_that_the_registry_may_not_take_counts() {
    let sandbox = Sandbox::small();
    write_sparse(&sandbox.file("model/huge"), 100_000 << 20);
    let name = "image-registry.openshift-image-registry.svc:5000/models/huge:1";
    // Nothing of the file is read and nobody is asked.
    let args = ["--retry=0", "--dry-run", "--push", "-t", name];
    let warning = "in a layer; the push may fail at its end";
    sandbox.build(&[&args[..], &["--strict"]].concat()).failed(3).says(&[warning, "there is a warning"]);
    sandbox.build(&args).done().says(&[warning]);
    let run = sandbox.build(&[&args[..], &["--strict", "--no-preflight"]].concat()).done();
    assert!(!run.stderr.contains(warning), "{run}");
}

#[test]
fn a_base_that_could_not_be_renewed_counts() {
    let sandbox = Sandbox::small();
    // Nobody listens there.
    let name = "127.0.0.1:9/team/base:1";
    sandbox.build(&["-q", "-t", name]).done();
    sandbox.containerfile(&format!("FROM {name}\nLABEL a=1\n"));
    counts(&sandbox, &["--pull=newer", "-o", "dir:out"], &format!("{name} is taken from this machine"));
}

#[test]
fn what_is_wrong_with_this_machine_alone_does_not_count() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    // Default files that cannot be read, by root neither.
    fs::create_dir_all(sandbox.path("home/.docker/config.json")).unwrap();
    fs::create_dir_all(sandbox.path("home/.config/crossdock/config.toml")).unwrap();
    let run =
        sandbox.build(&["--strict", "--tls-verify=false", "--push", "-t", &registry.name("m:1")]).done();
    assert_eq!(run.stderr.matches("cannot be read, and is left out").count(), 2, "{run}");
    assert!(registry.tag("m", "1").is_some());
}

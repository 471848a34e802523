//! registries.conf beside podman's own programs: on the same file, the same places are asked, in the same order.
//!
//! skopeo asks for images by their whole names and pushes, buildah resolves short names. All hosts stand behind one
//! proxy that lets no TLS through and has no image, so that whoever is asked says no and the next one is tried.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fault_proxy::{Fault, FaultProxy};
use crate::support::sandbox::Sandbox;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

const TABLES: &str = r#"
[[registry]]
location = "safe.example"
[[registry]]
location = "open.example"
insecure = true

# A prefix and its location; a location is not looked up again.
[[registry]]
prefix = "pre.example/ns"
location = "loc.example/real"
insecure = true
[[registry]]
prefix = "pre.example/ns/deep"
location = "deep.example/"
insecure = true
[[registry]]
prefix = "loc.example"
location = "further.example"
insecure = true

# A mirror has `insecure` of its own.
[[registry]]
location = "mirrored.example"
insecure = true
[[registry.mirror]]
location = "m1.example/m"
[[registry.mirror]]
location = "m2.example"
insecure = true
[[registry]]
location = "m1.example"
insecure = true

[[registry]]
location = "digests.example"
insecure = true
mirror-by-digest-only = true
[[registry.mirror]]
location = "m2.example"
insecure = true
[[registry]]
location = "each.example"
insecure = true
[[registry.mirror]]
location = "all.example"
insecure = true
pull-from-mirror = "all"
[[registry.mirror]]
location = "digest.example"
insecure = true
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tag.example"
insecure = true
pull-from-mirror = "tag-only"

[[registry]]
prefix = "*.wild.example"
insecure = true
[[registry]]
prefix = "*.sub.wild.example"
location = "wildloc.example/ns"
insecure = true

[[registry]]
location = "blocked.example"
blocked = true
[[registry]]
location = "blocked2.example"
blocked = true
[[registry.mirror]]
location = "m2.example"
insecure = true
[[registry]]
location = "half.example"
insecure = true
[[registry.mirror]]
location = "blocked.example/half"
[[registry]]
prefix = "toblocked.example"
location = "blocked.example/n"
[[registry]]
prefix = "blockedprefix.example"
location = "free.example"
blocked = true
insecure = true

[[registry]]
prefix = "docker.io/library/one"
location = "hub.example/one"
insecure = true
[[registry]]
prefix = "tagged.example/a:1"
location = "tagloc.example/a"
insecure = true
[[registry]]
prefix = "tagged.example"
location = "tagged.example"
insecure = true
[[registry]]
prefix = "odd.example"
location = "nohost"
"#;

/// A name, an option, and who is asked for it: `HOST/REPOSITORY:TAG` where plain http is spoken, `HOST?` where
/// TLS is all that is tried.
const PULLS: &[(&str, &str, &str)] = &[
    ("unknown.example/x:1", "", "unknown.example?"),
    ("safe.example/x:1", "", "safe.example?"),
    ("open.example/x:1", "", "open.example/x:1"),
    ("open.example:5000/x:1", "", "open.example:5000/x:1"),
    ("open.example/x@D", "", "open.example/x@D"),
    // What is said on the command line counts, whatever the file says.
    ("safe.example/x:1", "--tls-verify=false", "safe.example/x:1"),
    ("open.example/x:1", "--tls-verify=true", "open.example?"),
    ("mirrored.example/x:1", "--tls-verify=true", "m1.example? m2.example? mirrored.example?"),
    ("mirrored.example/x:1", "--tls-verify=false", "m1.example/m/x:1 m2.example/x:1 mirrored.example/x:1"),
    ("mirrored.example/x:1", "", "m1.example? m2.example/x:1 mirrored.example/x:1"),
    ("pre.example/ns/x:1", "", "loc.example/real/x:1"),
    ("pre.example/nsx/x:1", "", "pre.example?"),
    ("pre.example/ns/deep/x:1", "", "deep.example/x:1"),
    ("digests.example/x:1", "", "digests.example/x:1"),
    ("digests.example/x@D", "", "m2.example/x@D digests.example/x@D"),
    ("each.example/x:1", "", "all.example/x:1 tag.example/x:1 each.example/x:1"),
    ("each.example/x@D", "", "all.example/x@D digest.example/x@D each.example/x@D"),
    ("a.wild.example/x:1", "", "a.wild.example/x:1"),
    ("a.b.wild.example:5000/x:1", "", "a.b.wild.example:5000/x:1"),
    ("wild.example/x:1", "", "wild.example?"),
    ("a.sub.wild.example/x:1", "", "wildloc.example/ns/x:1"),
    ("blocked.example/x:1", "", ""),
    ("blocked.example:5000/x:1", "", ""),
    ("blocked2.example/x:1", "", "m2.example/x:1"),
    ("half.example/x:1", "", "half.example/x:1"),
    ("toblocked.example/x:1", "", ""),
    ("docker.io/one:1", "", "hub.example/one:1"),
    ("docker.io/two:1", "", "registry-1.docker.io?"),
    ("odd.example/x:1", "", ""),
    // A prefix with a tag is for nothing.
    ("tagged.example/a:1", "", "tagged.example/a:1"),
];

/// Where crossdock asks others than skopeo does: docs/registries.md says why.
const OTHERWISE: &[(&str, &str, &str)] = &[
    // The name, whom skopeo asks, whom crossdock asks.
    ("blockedprefix.example/x:1", "free.example/x:1", ""),
];

/// A push, and where it goes.
const PUSHES: &[(&str, &str, &str)] = &[
    ("open.example/x:1", "", "open.example/x"),
    ("open.example/x:1", "--tls-verify=true", "open.example?"),
    ("safe.example/x:1", "--tls-verify=false", "safe.example/x"),
    ("pre.example/ns/x:1", "", "pre.example/ns/x"),
    ("mirrored.example/x:1", "", "mirrored.example/x"),
    ("blocked.example/x:1", "", ""),
    ("blockedprefix.example/x:1", "", ""),
    ("blocked2.example/x:1", "", ""),
    ("a.wild.example/x:1", "", "a.wild.example/x"),
];

/// What stands before the tables, a short name, and whom it is asked of.
const SHORT_NAMES: &[(&str, &str, &str)] = &[
    ("unqualified-search-registries = [\"open.example\"]", "x:1", "open.example/x:1"),
    ("unqualified-search-registries = [\"open.example\"]", "ns/x", "open.example/ns/x:latest"),
    (
        "unqualified-search-registries = [\"open.example\", \"each.example\"]",
        "x:1",
        "open.example/x:1 all.example/x:1 tag.example/x:1 each.example/x:1",
    ),
    ("unqualified-search-registries = [\"blocked.example\", \"open.example\"]", "x:1", "open.example/x:1"),
    ("unqualified-search-registries = []", "x:1", ""),
    (
        "short-name-mode = \"enforcing\"\nunqualified-search-registries = [\"open.example\"]",
        "x:1",
        "open.example/x:1",
    ),
    (
        "short-name-mode = \"enforcing\"\nunqualified-search-registries = [\"open.example\", \"each.example\"]",
        "x:1",
        "",
    ),
    (
        "short-name-mode = \"permissive\"\nunqualified-search-registries = [\"open.example\", \"a.wild.example\"]",
        "x:1",
        "open.example/x:1 a.wild.example/x:1",
    ),
    (
        "short-name-mode = \"disabled\"\nunqualified-search-registries = [\"open.example\", \"a.wild.example\"]",
        "x:1",
        "open.example/x:1 a.wild.example/x:1",
    ),
    ("aliases = { x = \"pre.example/ns/y\" }", "x:1", "loc.example/real/y:1"),
    ("aliases = { x = \"pre.example/ns/y\" }", "x@D", "loc.example/real/y@D"),
    ("aliases = { x = \"\" }\nunqualified-search-registries = [\"open.example\"]", "x:1", "open.example/x:1"),
];

/// Says no to whoever asks, and remembers who that was.
struct Everyone(FaultProxy);

impl Everyone {
    fn new() -> Self {
        let nobody = ([127, 0, 0, 1], 9).into();
        Self(FaultProxy::start(nobody).with_gate(|seen| {
            let status = match seen.method.as_str() {
                "CONNECT" => 403,
                _ if seen.path.ends_with("/v2/") => 200,
                _ => 404,
            };
            Some(Fault::Answer { status, headers: Vec::new(), body: String::new() })
        }))
    }

    /// Runs a program that fails, and says whom it asked. A push is seen by the upload that it begins.
    fn asked(&self, mut command: Command) -> String {
        let before = self.0.seen().len();
        let proxy = format!("http://{}", self.0.addr());
        let output =
            command.env("http_proxy", &proxy).env("https_proxy", &proxy).output().unwrap_or_else(|error| {
                panic!("these tests need skopeo and buildah; apt-get install skopeo buildah: {error}")
            });
        assert!(!output.status.success(), "{command:?}");
        let mut places: Vec<String> = Vec::new();
        for seen in &self.0.seen()[before..] {
            let place = match seen.path.strip_prefix("http://").and_then(|url| url.split_once("/v2/")) {
                None => format!("{}?", seen.path.trim_end_matches(":443")),
                Some((host, path)) => {
                    match (path.split_once("/manifests/"), path.split_once("/blobs/uploads")) {
                        (Some((repository, reference)), _) => {
                            let mark = if reference.contains(':') { '@' } else { ':' };
                            format!("{host}/{repository}{mark}{}", reference.replace(DIGEST, "D"))
                        }
                        (_, Some((repository, _))) => format!("{host}/{repository}"),
                        _ => continue,
                    }
                }
            };
            // Plain http is spoken after TLS was tried.
            let host = place.split('/').next().unwrap_or_default();
            if places.last().is_some_and(|last| last.strip_suffix('?') == Some(host)) {
                places.pop();
            }
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
        places.join(" ")
    }
}

/// What a row's programs share.
struct Bench {
    everyone: Everyone,
    sandbox: Sandbox,
}

impl Bench {
    fn new(conf: &str) -> Self {
        let sandbox = Sandbox::small();
        fs::write(sandbox.path("registries.conf"), conf).unwrap();
        Self { everyone: Everyone::new(), sandbox }
    }

    fn skopeo(&self, args: &[&str]) -> String {
        let mut command = self.sandbox.command_of("skopeo");
        command.args(["--insecure-policy", "--registries-conf"]).arg(self.sandbox.path("registries.conf"));
        command.args(args.iter().filter(|arg| !arg.is_empty()));
        self.everyone.asked(command)
    }

    fn skopeo_pull(&self, name: &str, option: &str) -> String {
        self.skopeo(&[
            "inspect",
            "--raw",
            option,
            &format!("docker://{}", name.replace("@D", &format!("@{DIGEST}"))),
        ])
    }

    fn buildah_pull(&self, name: &str) -> String {
        let mut command = self.sandbox.command_of("buildah");
        let own = |option: &str, name: &str| format!("--{option}={}", self.sandbox.path(name).display());
        command
            .arg("--storage-driver=vfs")
            .args([own("root", "store"), own("runroot", "run"), own("registries-conf", "registries.conf")])
            .args([own("short-name-alias-conf", "aliases.conf")])
            .args(["pull", &name.replace("@D", &format!("@{DIGEST}"))]);
        self.everyone.asked(command)
    }

    fn crossdock(&self, args: &[&str]) -> String {
        let args = [&["build", "--retry", "0"], args, &["context"]].concat();
        let args: Vec<&str> = args.into_iter().filter(|arg| !arg.is_empty()).collect();
        let mut command = self.sandbox.command(&args);
        command.env("CONTAINERS_REGISTRIES_CONF", self.sandbox.path("registries.conf"));
        self.everyone.asked(command)
    }

    fn crossdock_pull(&self, name: &str, option: &str) -> String {
        self.sandbox.containerfile(&format!("FROM {}\n", name.replace("@D", &format!("@{DIGEST}"))));
        self.crossdock(&[option])
    }
}

#[test]
fn images_are_pulled_from_where_skopeo_pulls_them() {
    let bench = Bench::new(TABLES);
    for (name, option, asked) in PULLS {
        assert_eq!(bench.skopeo_pull(name, option), *asked, "skopeo, {name} {option}");
        assert_eq!(bench.crossdock_pull(name, option), *asked, "crossdock, {name} {option}");
    }
    for (name, theirs, ours) in OTHERWISE {
        assert_eq!(bench.skopeo_pull(name, ""), *theirs, "skopeo, {name}");
        assert_eq!(bench.crossdock_pull(name, ""), *ours, "crossdock, {name}");
    }
}

#[test]
fn pushes_go_where_skopeo_pushes() {
    let bench = Bench::new(TABLES);
    bench.sandbox.built(&["-o", "oci:layout:1"]);
    for (name, option, asked) in PUSHES {
        let theirs = bench.skopeo(&[
            "copy",
            &option.replace("--tls", "--dest-tls"),
            "oci:layout:1",
            &format!("docker://{name}"),
        ]);
        assert_eq!(theirs, *asked, "skopeo, {name} {option}");
        assert_eq!(bench.crossdock(&["--push", "-t", name, option]), *asked, "crossdock, {name} {option}");
    }
    // Short names: of Docker Hub for podman's programs, refused here.
    assert_eq!(bench.skopeo(&["copy", "oci:layout:1", "docker://x:1"]), "registry-1.docker.io?");
    assert_eq!(bench.crossdock(&["--push", "-t", "x:1"]), "");
}

#[test]
fn short_names_are_looked_for_where_buildah_looks() {
    for (conf, name, asked) in SHORT_NAMES {
        let bench = Bench::new(&format!("{conf}\n{TABLES}"));
        assert_eq!(bench.buildah_pull(name), *asked, "buildah, {name}, {conf}");
        assert_eq!(bench.crossdock_pull(name, ""), *asked, "crossdock, {name}, {conf}");
    }
    // Without a list: Docker Hub here, nowhere with buildah.
    let bench = Bench::new(TABLES);
    assert_eq!(bench.buildah_pull("x:1"), "");
    assert_eq!(bench.crossdock_pull("x:1", ""), "registry-1.docker.io?");
    assert_eq!(bench.crossdock_pull("one:1", ""), "hub.example/one:1");
}

#[test]
fn what_the_file_forbids_is_not_the_registrys_failure() {
    let bench = Bench::new(&format!("unqualified-search-registries = []\n{TABLES}"));
    let (option, conf) = ("--registries-conf", &*bench.sandbox.path("registries.conf").display().to_string());
    for (name, says) in [
        ("blocked.example/x:1", "[[registry]] blocked.example"),
        ("x:1", "unqualified-search-registries is empty"),
    ] {
        bench.sandbox.containerfile(&format!("FROM {name}\n"));
        bench.sandbox.build(&[option, conf]).failed(3).says(&["Containerfile:1:6", says, "registries.conf"]);
    }
    bench.sandbox.containerfile("FROM scratch\nCOPY model /models\n");
    let push = [option, conf, "--push", "-t", "blocked.example/x:1"];
    bench.sandbox.build(&push).failed(2).says(&["blocked.example/x:1 is blocked", "registries.conf"]);
}

#[test]
fn drop_in_files_are_laid_over_the_file_as_buildah_lays_them() {
    let bench = Bench::new("");
    let table = |name: &str| {
        format!("[[registry]]\nprefix = \"d.example\"\nlocation = \"{name}.example\"\ninsecure = true\n")
    };
    let user = "home/.config/containers/registries.conf.d";
    let write = |path: &str, name: &str| {
        let path = bench.sandbox.path(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, table(name)).unwrap();
    };
    // Each is written after those before it.
    for (path, name, asked) in [
        // The user's file is not read where one is named.
        ("home/.config/containers/registries.conf", "user", "d.example?"),
        ("registries.conf", "named", "named.example/x:1"),
        (&format!("{user}/20.conf"), "user20", "user20.example/x:1"),
        (&format!("{user}/10.conf"), "user10", "user20.example/x:1"),
        (&format!("{user}/30.conf/30.conf"), "below", "user20.example/x:1"),
        (&format!("{user}/40.conf.off"), "off", "user20.example/x:1"),
        (&format!("{user}/50.conf"), "user50", "user50.example/x:1"),
    ] {
        write(path, name);
        assert_eq!(bench.buildah_pull("d.example/x:1"), asked, "buildah, {path}");
        assert_eq!(bench.crossdock_pull("d.example/x:1", ""), asked, "crossdock, {path}");
    }
}

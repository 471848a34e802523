//! What the manifest says of an image beside its layers, and the times of the files in these.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::base::{Base, push_index};
use crate::support::image::Image;
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::tool;

const DIGEST: &str = "org.opencontainers.image.base.digest";
const NAME: &str = "org.opencontainers.image.base.name";
const CREATED: &str = "org.opencontainers.image.created";

/// What a layout's image has.
fn annotations(sandbox: &Sandbox) -> Value {
    Image::read(&format!("oci:{}:1", sandbox.path("out").display())).manifest["annotations"].clone()
}

fn build(sandbox: &Sandbox, containerfile: &str, args: &[&str]) -> Value {
    sandbox.containerfile(containerfile);
    let common = ["--tls-verify=false", "--timestamp", "0", "-o", "oci:out:1"];
    let run = sandbox.build(&[&common[..], args].concat()).done();
    assert!(!run.stderr.contains("annotation"), "{run}");
    annotations(sandbox)
}

#[test]
fn the_manifest_names_the_base_and_the_time_of_the_build() {
    let registry = Registry::start();
    Base::new().push(&registry.name("base:1"));
    Base::new().push(&registry.name("base:latest"));
    push_index(&["amd64", "arm64"].map(|name| Base::new().for_architecture(name)), &registry.name("index:1"));
    let digest = registry.tag("base", "1").unwrap();
    let sandbox = Sandbox::small();
    let created = "1970-01-01T00:00:00Z";
    let base = |name: &str| json!({DIGEST: digest, NAME: registry.name(name), CREATED: created});
    let from = |name: &str| format!("FROM {}\nCOPY model /models\n", registry.name(name));

    assert_eq!(build(&sandbox, &from("base:1"), &[]), base("base:1"));
    assert_eq!(build(&sandbox, &from("base"), &[]), base("base:latest"));
    // A digest is what counts, as with buildah.
    let by_digest = format!("base@{digest}");
    assert_eq!(build(&sandbox, &from(&by_digest), &[]), base(&by_digest));
    assert_eq!(build(&sandbox, &from(&format!("base:1@{digest}")), &[]), base(&by_digest));
    assert_eq!(build(&sandbox, &format!("FROM docker://{}\n", registry.name("base:1")), &[]), base("base:1"));
    let stages = from("base:1").replace("\n", " AS one\n").replace("models AS one", "models");
    assert_eq!(build(&sandbox, &format!("{stages}FROM one\nUSER 5\n"), &[]), base("base:1"));
    assert_eq!(build(&sandbox, "FROM scratch\nCOPY model /models\n", &[]), json!({CREATED: created}));
    let layout = format!("oci:{}:1", sandbox.path("layout").display());
    tool(
        "skopeo",
        &["copy", "--src-tls-verify=false", &format!("docker://{}", registry.name("base:1")), &layout],
    );
    let of_layout = build(&sandbox, &format!("FROM {layout}\n"), &[]);
    assert_eq!(of_layout, json!({DIGEST: digest, CREATED: created}), "a path is nobody else's name");

    // Of an index it is the image of the platform.
    let index: Value = serde_json::from_str(&tool(
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", registry.name("index:1"))],
    ))
    .unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let platform = format!("linux/{}", entry["platform"]["architecture"].as_str().unwrap());
        let annotations = build(&sandbox, &from("index:1"), &["--platform", &platform]);
        assert_eq!(annotations[DIGEST], entry["digest"], "{platform}");
        assert_eq!(annotations[NAME], registry.name("index:1"));
    }

    // What was said counts more, in buildah's order.
    let text = from("base:1");
    let own = build(&sandbox, &text, &["--annotation", &format!("{CREATED}=mine"), "--annotation", "a=b"]);
    assert_eq!(own, json!({DIGEST: digest, NAME: registry.name("base:1"), CREATED: "mine", "a": "b"}));
    let unset = build(&sandbox, &text, &["--unsetannotation", &format!("{DIGEST},a"), "--annotation=a=b"]);
    assert_eq!(unset, json!({NAME: registry.name("base:1"), CREATED: created, "a": "b"}));
    assert_eq!(build(&sandbox, &text, &["--inherit-annotations=false"]), json!({CREATED: created}));
    assert_eq!(
        build(&sandbox, &text, &["--created-annotation=false", "--inherit-annotations=false"]),
        Value::Null
    );
    assert_eq!(build(&sandbox, &text, &["--omit-history"]), base("base:1"));

    // Docker's format has no place for any: nobody asked for these.
    sandbox.build(&["--tls-verify=false", "--timestamp=0", "-t", "files:1"]).done();
    for args in [
        &["push", "--tls-verify=false", "--format=docker", "files:1", "dir:docker"][..],
        &["build", "--tls-verify=false", "--format=docker", "-o", "dir:built", "context"],
    ] {
        let run = sandbox.run(args).done();
        assert!(!run.stderr.contains("annotation"), "{run}");
        let place = args.iter().find_map(|arg| arg.strip_prefix("dir:")).unwrap();
        assert_eq!(
            Image::of_directory(&sandbox.path(place), true).manifest.get("annotations"),
            None,
            "{place}"
        );
    }
}

#[test]
fn annotations_of_the_base_are_taken_over_but_for_those_that_say_what_it_is() {
    let registry = Registry::start();
    Base::new().push(&registry.name("base:1"));
    let sandbox = Sandbox::small();
    sandbox.containerfile(&format!("FROM {}\nCOPY model /models\n", registry.name("base:1")));
    let args = ["--annotation", "org.example.a=1", "--annotation", "org.example.b=2"];
    let first = sandbox.pushed(&registry.name("model:1"), &args);
    let text = format!("FROM {}\nUSER 5\n", registry.name("model:1"));
    let mut expected = json!({
        "org.example.a": "1",
        "org.example.b": "2",
        DIGEST: first.digest(),
        NAME: registry.name("model:1"),
        CREATED: "1970-01-01T00:00:00Z",
    });
    // Where it was sent to it has its name, and the one of this machine is the same.
    for policy in ["--pull=always", "--pull=never"] {
        assert_eq!(build(&sandbox, &text, &[policy]), expected, "{policy}");
    }
    expected.as_object_mut().unwrap().remove("org.example.b");
    expected["org.example.a"] = json!("3");
    let args = ["--unsetannotation=org.example.b", "--annotation=org.example.a=3"];
    assert_eq!(build(&sandbox, &text, &args), expected);

    // A name without its registry is named in full; a mirror is no name.
    sandbox.build(&["--tls-verify=false", "-t", "local"]).done();
    assert_eq!(build(&sandbox, "FROM local\n", &[])[NAME], "localhost/local:latest");
    let conf = format!(
        "[[registry]]\nlocation = \"models.example.com\"\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        registry.addr()
    );
    fs::write(sandbox.path("registries.conf"), conf).unwrap();
    let mirrored =
        build(&sandbox, "FROM models.example.com/base:1\n", &["--registries-conf", "registries.conf"]);
    assert_eq!(mirrored[NAME], "models.example.com/base:1");
}

/// Sets the modification time of what is at a path, in seconds since the epoch.
fn set_time(path: &Path, seconds: u64) {
    File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// The times of what an image has, by path.
fn times(image: &Image) -> BTreeMap<&str, u64> {
    image.files.iter().map(|(path, node)| (path.as_str(), node.mtime)).collect()
}

/// A model whose files have times of their own, in the context and in an archive.
fn timed() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("model/sub/a.py", "a");
    sandbox.write("model/large.bin", vec![7; 3 << 20]);
    std::os::unix::fs::symlink("large.bin", sandbox.file("model/link")).unwrap();
    fs::hard_link(sandbox.file("model/large.bin"), sandbox.file("model/twin")).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for (path, time) in [("in", 1_111_111_111), ("early", 0)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        header.set_mtime(time);
        archive.append_data(&mut header, path, &b"in"[..]).unwrap();
    }
    sandbox.write("x.tar", archive.into_inner().unwrap());
    set_time(&sandbox.file("model/large.bin"), 1_234_567_890);
    set_time(&sandbox.file("model/sub/a.py"), 1_600_000_000);
    set_time(&sandbox.file("model/sub"), 1_500_000_000);
    tool("touch", &["-h", "-d", "@1400000000", sandbox.file("model/link").to_str().unwrap()]);
    sandbox
}

const TIMED: &str = "FROM scratch AS one\nCOPY model /m/\nFROM scratch\nCOPY model /models/\nADD x.tar /x/\n\
                     COPY --from=one /m/sub/a.py /stage/\nCOPY <<EOF /note\ntext\nEOF\n";

#[test]
fn files_keep_their_times_where_that_is_asked_for() {
    let sandbox = timed();
    sandbox.containerfile(TIMED);
    let layer_size = ["--layer-file-size", "2MiB"];
    let expected = BTreeMap::from([
        ("models", 0),
        ("models/large.bin", 1_234_567_890),
        ("models/link", 1_400_000_000),
        ("models/sub", 1_500_000_000),
        ("models/sub/a.py", 1_600_000_000),
        ("models/twin", 1_234_567_890),
        ("note", 0),
        ("stage", 0),
        ("stage/a.py", 1_600_000_000),
        ("x", 0),
        ("x/early", 1),
        ("x/in", 1_111_111_111),
    ]);
    for more in [&[][..], &["--squash"], &["--compression-format", "zstd"]] {
        for place in ["oci:oci:1", "oci-archive:archive:1", "docker-archive:docker", "dir:dir"] {
            if place.starts_with("docker") && !more.is_empty() {
                continue;
            }
            sandbox.build(&[&["--keep-mtime", "-o", place], &layer_size[..], more].concat()).done();
            let (transport, rest) = place.split_once(':').unwrap();
            let image = Image::read(&format!("{transport}:{}", sandbox.path(rest).display()));
            assert_eq!(times(&image), expected, "{place} {more:?}");
        }
    }
    sandbox.build(&["-o", "oci:plain:1"]).done();
    let plain = Image::read(&format!("oci:{}:1", sandbox.path("plain").display()));
    assert!(times(&plain).values().all(|time| *time == 0), "{:?}", times(&plain));

    // What is remembered goes on with the times that it had, as a base does.
    let registry = Registry::start();
    sandbox.build(&["--keep-mtime", "-t", "model:1"]).done();
    sandbox.run(&["push", "--tls-verify=false", "model:1", &registry.name("model:1")]).done();
    assert_eq!(times(&Image::pull(&registry.name("model:1"))), expected);
    for from in ["model:1", &registry.name("model:1")] {
        sandbox.containerfile(&format!("FROM scratch\nCOPY --from={from} /models/sub /s/\n"));
        sandbox.build(&["--keep-mtime", "--tls-verify=false", "-o", "oci:again:1"]).done();
        let image = Image::read(&format!("oci:{}:1", sandbox.path("again").display()));
        assert_eq!(times(&image), BTreeMap::from([("s", 0), ("s/a.py", 1_600_000_000)]), "{from}");
    }

    let args = ["--keep-mtime", "--timestamp=0", "-o", "oci:no:1"];
    sandbox.build(&args).failed(2).says(&["--keep-mtime", "--timestamp"]);
}

#[test]
fn a_time_at_or_before_1970_is_no_missing_one() {
    let sandbox = Sandbox::new();
    sandbox.write("model/early", "e");
    sandbox.write("model/epoch", "e");
    tool("touch", &["-d", "@-86400", sandbox.file("model/early").to_str().unwrap()]);
    set_time(&sandbox.file("model/epoch"), 0);
    sandbox.containerfile("FROM scratch\nCOPY model /models/\nCOPY <<EOF /note\ntext\nEOF\n");
    for more in [&["--rewrite-timestamp", "--source-date-epoch=1450000000"][..], &[]] {
        sandbox.build(&[&["--keep-mtime", "-o", "oci:out:1"], more].concat()).done();
        let image = Image::read(&format!("oci:{}:1", sandbox.path("out").display()));
        let times = times(&image);
        assert_eq!((times["models/early"], times["models/epoch"]), (1, 1), "{more:?}");
        assert_eq!(times["note"], if more.is_empty() { 0 } else { 1_450_000_000 }, "{more:?}");
    }
}

#[test]
fn another_time_is_another_layer_where_times_are_kept() {
    let sandbox = timed();
    sandbox.containerfile("FROM scratch\nCOPY model/large.bin /models/\n");
    let built = || sandbox.built(&["--keep-mtime", "--trust-mtime", "-o", "oci:out:1"]);
    let first = built();
    assert_eq!(first.number("bytes_read"), 3 << 20);
    let again = built();
    assert_eq!((again.layers(), again.number("bytes_read")), (first.layers(), 0), "it is remembered");
    set_time(&sandbox.file("model/large.bin"), 1_234_567_891);
    let touched = built();
    assert_ne!(touched.layers(), first.layers());
    let image = Image::read(&format!("oci:{}:1", sandbox.path("out").display()));
    assert_eq!(image.node("models/large.bin").mtime, 1_234_567_891);
    let plain = sandbox.built(&["-o", "oci:out:1"]);
    assert_ne!(plain.layers(), touched.layers());
    set_time(&sandbox.file("model/large.bin"), 5);
    assert_eq!(sandbox.built(&["-o", "oci:out:1"]).layers(), plain.layers(), "no time is kept");
}

#[test]
fn files_that_keep_their_times_may_have_a_latest_one() {
    let sandbox = timed();
    sandbox.containerfile("FROM scratch\nCOPY model /models/\n");
    let epoch = 1_450_000_000;
    let kept = [1_234_567_890, 1_400_000_000, 1_500_000_000, 1_600_000_000, 1_234_567_890];
    for (args, latest) in
        [(&["--keep-mtime"][..], u64::MAX), (&["--keep-mtime", "--rewrite-timestamp"], epoch)]
    {
        let args = [&["build", "-o", "oci:out:1"], args, &["context"]].concat();
        let output = sandbox.command(&args).env("SOURCE_DATE_EPOCH", epoch.to_string()).output().unwrap();
        sandbox.finish(output, &args).done();
        let image = Image::read(&format!("oci:{}:1", sandbox.path("out").display()));
        let times: Vec<u64> =
            image.files.iter().filter(|(path, _)| path.contains('/')).map(|(_, node)| node.mtime).collect();
        assert_eq!(times, kept.map(|time| time.min(latest)), "{args:?}");
        let created = "2015-12-13T09:46:40Z";
        assert_eq!(
            (&image.config["created"], &image.manifest["annotations"][CREATED]),
            (&json!(created), &json!(created))
        );
        assert_eq!(image.config["history"][0]["created"], created);
    }
    // What is typed counts more than what the file of settings says.
    fs::write(sandbox.path("config.toml"), "[build]\nkeep-mtime = true\n").unwrap();
    let args = ["build", "--timestamp=7", "-o", "oci:out:1", "context"];
    let output =
        sandbox.command(&args).env("CROSSDOCK_CONFIG", sandbox.path("config.toml")).output().unwrap();
    sandbox.finish(output, &args).done();
    let image = Image::read(&format!("oci:{}:1", sandbox.path("out").display()));
    assert!(image.files.values().all(|node| node.mtime == 7), "{:?}", image.files);
}

//! Rows, and how one is carried out: both programs build, both images are read, the facts compared.

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::archives::gnu_tar;
use crate::context::Context;
use crate::deviations::{DEVIATIONS, Deviation, How};
use crate::seen::Seen;
use crate::support::base::{Base, LayerBuilder, alter_layout, push_index, push_layout};
use crate::support::image::Image;
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::write_sparse;

/// Adds to a context.
type Fill = for<'a, 'b> fn(&'a Context<'b>) -> &'a Context<'b>;

/// A context and a Containerfile.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    containerfile: &'static str,
    context: Fill,
    args: &'static [&'static str],
    /// Whether the context comes on standard input, as an archive.
    archived: bool,
    expected: Expected,
}

#[derive(Clone, Copy)]
enum Expected {
    Image,
    /// Both fail; part of what each says, and our exit code.
    Failure {
        ours: &'static str,
        theirs: &'static str,
        code: i32,
    },
}

/// A row that both build, upon the standard context.
pub(crate) fn row(name: &'static str, containerfile: &'static str) -> Row {
    Row {
        name,
        containerfile,
        context: |context| context,
        args: &[],
        archived: false,
        expected: Expected::Image,
    }
}

impl Row {
    /// With more in the context.
    pub(crate) fn with(self, context: Fill) -> Self {
        Self { context, ..self }
    }

    /// With options that both have.
    pub(crate) fn args(self, args: &'static [&'static str]) -> Self {
        Self { args, ..self }
    }

    /// With the context as an archive on standard input.
    pub(crate) fn archived(self) -> Self {
        Self { archived: true, ..self }
    }

    /// In Docker's format: buildah writes Healthcheck, Shell and OnBuild there alone.
    pub(crate) fn docker(self) -> Self {
        self.args(&["--format", "docker"])
    }

    /// Both fail: crossdock with exit code 3 and `ours` in its error, buildah with `theirs`.
    pub(crate) fn fails(self, ours: &'static str, theirs: &'static str) -> Self {
        Self { expected: Expected::Failure { ours, theirs, code: 3 }, ..self }
    }

    /// As [`fails`](Self::fails); the command line is to blame.
    pub(crate) fn misused(self, ours: &'static str, theirs: &'static str) -> Self {
        Self { expected: Expected::Failure { ours, theirs, code: 2 }, ..self }
    }
}

/// buildah with a store of its own, and a base image that both can read as `oci:base:latest`.
pub(crate) struct Oracle {
    directory: TempDir,
    registry: OnceLock<Bases>,
}

/// A registry with images to build upon: `base`, `index` of two architectures, `variants` of one, `nulls`, `special` with a FIFO
/// and a device, `sparse` with files that have holes, `lacking` without its WORKDIR, and in Docker's format `docker`, and
/// `triggers` with ONBUILD.
struct Bases {
    registry: Registry,
    /// Of `base`.
    digest: String,
}

/// What a program made of a row.
enum Outcome {
    Image(Seen),
    Failure { code: Option<i32>, text: String },
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("oracle").tempdir().unwrap();
        base().write_layout(&directory.path().join("base"));
        fs::write(
            directory.path().join("policy.json"),
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        Self { directory, registry: OnceLock::new() }
    }

    /// Carries out a row; what is not as it should be is the error.
    pub(crate) fn compare(&self, row: &Row) -> Result<(), String> {
        let sandbox = Sandbox::new();
        let outcomes = catch_unwind(AssertUnwindSafe(|| {
            (row.context)(&Context::standard(&sandbox));
            let mut args: Vec<String> = row.args.iter().map(|&arg| arg.to_owned()).collect();
            let mut text = row.containerfile.to_owned();
            let texts = || std::iter::once(row.containerfile).chain(row.args.iter().copied());
            if texts().any(|text| text.contains("[REGISTRY]")) {
                let Bases { registry, digest } = self.registry.get_or_init(Bases::start);
                for text in args.iter_mut().chain([&mut text]) {
                    let registry = registry.addr().to_string();
                    *text = text.replace("[REGISTRY]", &registry).replace("[DIGEST]", digest);
                }
                args.push("--tls-verify=false".to_owned());
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            sandbox.containerfile(&text);
            symlink(self.path("base"), sandbox.path("base")).unwrap();
            let archive = row.archived.then(|| sandbox.path("context.tar"));
            if let Some(archive) = &archive {
                let mut tar = sandbox.command_of("tar");
                tar.arg("-C").arg(sandbox.context()).arg("-cf").arg(archive).arg(".");
                assert!(tar.status().unwrap().success());
            }
            let archive = archive.as_deref();
            (self.buildah_with_its_reason(&sandbox, &args, archive), crossdock(&sandbox, &args, archive))
        }));
        let result = match outcomes {
            Ok((theirs, ours)) => judge(row, theirs, ours),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
                Err(vec![format!("cannot be made or read: {text}")])
            }
        };
        result.map_err(|lines| {
            let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
            format!("{}\n{lines}", row.name)
        })
    }

    /// Writes the Containerfile, beside which the base is.
    pub(crate) fn containerfile(&self, sandbox: &Sandbox, text: &str) {
        sandbox.containerfile(text);
        if !sandbox.path("base").exists() {
            symlink(self.path("base"), sandbox.path("base")).unwrap();
        }
    }

    /// What buildah makes of it, in one layer.
    pub(crate) fn squashed_by_buildah(&self, sandbox: &Sandbox) -> Image {
        let _ = fs::remove_dir_all(sandbox.path("theirs"));
        match self.buildah(sandbox, &["--squash"], None) {
            Outcome::Image(_) => Image::of_directory(&sandbox.path("theirs"), true),
            Outcome::Failure { text, .. } => panic!("{text}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs buildah again where it lost the reason of its failure. Its copier is a process of its own: when that ends before buildah
    /// has written the whole request or read the answer, buildah says so and not what the copier refused.
    fn buildah_with_its_reason(&self, sandbox: &Sandbox, args: &[&str], archive: Option<&Path>) -> Outcome {
        const LOST: [&str; 2] = [
            "error encoding request for copier subprocess",
            "error decoding response from copier subprocess",
        ];
        let lost = |outcome: &Outcome| match outcome {
            Outcome::Failure { text, .. } => LOST.iter().any(|lost| text.contains(lost)),
            Outcome::Image(_) => false,
        };
        let mut outcome = self.buildah(sandbox, args, archive);
        for _ in 0..5 {
            if !lost(&outcome) {
                break;
            }
            outcome = self.buildah(sandbox, args, archive);
        }
        outcome
    }

    fn buildah(&self, sandbox: &Sandbox, args: &[&str], archive: Option<&Path>) -> Outcome {
        let mut command = sandbox.command_of("buildah");
        command
            .env("CONTAINERS_REGISTRIES_CONF", "/dev/null")
            .env("CONTAINERS_CONF", "/dev/null")
            .args(["--storage-driver", "vfs", "--root"])
            .arg(self.path("store"))
            .arg("--runroot")
            .arg(self.path("run"))
            .args(["bud", "--isolation", "chroot", "--signature-policy"])
            .arg(self.path("policy.json"))
            .args(["-q", "-t"])
            .arg(format!("dir:{}", sandbox.path("theirs").display()))
            .args(args);
        with_context(&mut command, archive);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("these tests need buildah; apt-get install buildah: {error}"));
        let run = sandbox.finish(output, args);
        outcome(sandbox, &run, || Image::of_directory(&sandbox.path("theirs"), true))
    }
}

/// The context: the directory, or an archive on standard input.
fn with_context(command: &mut Command, archive: Option<&Path>) {
    match archive {
        Some(archive) => command.arg("-").stdin(fs::File::open(archive).unwrap()),
        None => command.arg("context"),
    };
}

fn crossdock(sandbox: &Sandbox, args: &[&str], archive: Option<&Path>) -> Outcome {
    // Names of weights stand for any files, and what buildah copies is copied.
    let ours =
        ["build", "--progress", "none", "-o", "dir:ours", "--model-check=off", "--keep-download-cache"];
    let args = [&ours, args].concat();
    let mut command = sandbox.command(&args);
    with_context(&mut command, archive);
    let run = sandbox.finish(command.output().unwrap(), &args);
    outcome(sandbox, &run, || Image::of_directory(&sandbox.path("ours"), true))
}

fn outcome(sandbox: &Sandbox, run: &Run, image: impl Fn() -> Image) -> Outcome {
    match run.status.code() {
        Some(0) => Outcome::Image(Seen::of(&image())),
        code => Outcome::Failure { code, text: sandbox.shown(run.stderr.trim_end(), &[]) },
    }
}

/// What is wrong with a row, if something is.
fn judge(row: &Row, theirs: Outcome, ours: Outcome) -> Result<(), Vec<String>> {
    let listed = DEVIATIONS.iter().find(|deviation| deviation.row == row.name);
    match (listed, theirs, ours) {
        (Some(deviation), theirs, ours) => deviates(deviation, theirs, ours),
        (None, Outcome::Image(theirs), Outcome::Image(ours)) => {
            let mut lines = Seen::differences(&theirs, &ours);
            if matches!(row.expected, Expected::Failure { .. }) {
                lines.push("both build it, and were to fail".to_owned());
            }
            if lines.is_empty() { Ok(()) } else { Err(lines) }
        }
        (None, Outcome::Failure { text: theirs, .. }, Outcome::Failure { code, text: ours }) => {
            let expected = match row.expected {
                Expected::Image => None,
                Expected::Failure { ours, theirs, code } => Some((ours, theirs, code)),
            };
            if expected.is_some_and(|expected| {
                ours.contains(expected.0) && theirs.contains(expected.1) && code == Some(expected.2)
            }) {
                return Ok(());
            }
            Err(vec![format!("both fail, crossdock with {code:?}"), theirs, ours])
        }
        (None, Outcome::Image(_), Outcome::Failure { text, .. }) => {
            Err(vec!["crossdock alone fails".to_owned(), text])
        }
        (None, Outcome::Failure { text, .. }, Outcome::Image(ours)) => {
            Err([vec!["buildah alone fails".to_owned(), text], ours.lines()].concat())
        }
    }
}

/// A listed deviation has to be exactly what the list says.
fn deviates(deviation: &Deviation, theirs: Outcome, ours: Outcome) -> Result<(), Vec<String>> {
    let (expected, seen) = match (&deviation.how, theirs, ours) {
        (How::Refused(part), Outcome::Image(_), Outcome::Failure { code: Some(3), text })
            if text.contains(part) =>
        {
            return Ok(());
        }
        (How::Builds(lines), Outcome::Failure { .. }, Outcome::Image(ours)) => (*lines, ours.lines()),
        (How::Differs(lines), Outcome::Image(theirs), Outcome::Image(ours)) => {
            (*lines, Seen::differences(&theirs, &ours))
        }
        (_, theirs, ours) => {
            let show = |name: &str, outcome: Outcome| match outcome {
                Outcome::Image(seen) => format!("{name} builds {:#?}", seen.lines()),
                Outcome::Failure { code, text } => format!("{name} fails with {code:?}: {text}"),
            };
            return Err(vec![
                format!("does not deviate as listed: {:?}", deviation.how),
                show("buildah", theirs),
                show("crossdock", ours),
            ]);
        }
    };
    if expected == seen {
        return Ok(());
    }
    Err([vec![format!("deviates in another way than listed: {expected:#?}")], seen].concat())
}

impl Bases {
    fn start() -> Self {
        let registry = Registry::start();
        for tag in ["1", "latest"] {
            base().push(&registry.name(&format!("base:{tag}")));
        }
        let digest = registry.tag("base", "1").unwrap();
        let images = ["amd64", "arm64"].map(|name| Base::new().for_architecture(name));
        push_index(&images, &registry.name("index:1"));
        let images =
            [Base::new().for_architecture("amd64").for_variant("v3"), Base::new().for_architecture("amd64")];
        push_index(&images, &registry.name("variants:1"));
        let layout = tempfile::tempdir().unwrap();
        base().write_layout(layout.path());
        alter_layout(layout.path(), |config, manifest| {
            (config["created"], config["author"]) = (Value::Null, Value::Null);
            config["history"][0]["empty_layer"] = Value::Null;
            manifest["annotations"] = Value::Null;
            config["config"] = json!({
                "Cmd": null, "Entrypoint": null, "Env": ["PATH=/bin"], "ExposedPorts": {"80/tcp": null},
                "Labels": {"a": null, "b": "c"}, "User": null, "Volumes": {"/x": null}, "WorkingDir": null,
            });
        });
        push_layout(layout.path(), &registry.name("nulls:1"));
        let config = json!({
            "Cmd": ["base-cmd"],
            "Healthcheck": {"Test": ["CMD", "check"], "Retries": 2},
            "Shell": ["/bin/bash", "-c"],
            "WorkingDir": "/src",
        });
        Base::of(LayerBuilder::default(), &["PATH=/bin"], config).push_docker(&registry.name("docker:1"));
        let mut layer = LayerBuilder::default();
        layer.directory("dev", 0o755).fifo("dev/pipe", 0o620, (5, 6)).device("dev/null", 0o666, (1, 3));
        Base::of(layer, &["PATH=/bin"], json!({})).push(&registry.name("special:1"));
        let mut layer = LayerBuilder::default();
        layer.directory("etc", 0o755);
        Base::of(layer, &["PATH=/bin"], json!({"WorkingDir": "/src/deep", "User": "7:8"}))
            .push(&registry.name("lacking:1"));
        let holes = tempfile::tempdir().unwrap();
        for format in ["gnu", "pax"] {
            write_sparse(&holes.path().join(format), 3 << 20);
            let tar = gnu_tar(holes.path(), &["--format", format], &[format]);
            let base = Base::of(LayerBuilder::default(), &["PATH=/bin"], json!({})).with_tar(tar);
            base.push(&registry.name(&format!("sparse:{format}")));
        }
        let config = json!({
            "OnBuild": ["ARG W=2", "ENV V=$W", "COPY a.txt .", "COPY [\"dir\", \"/tmp/d\"]", "CMD own $V"],
            "WorkingDir": "/src",
        });
        let mut layer = LayerBuilder::default();
        layer.directory("tmp", 0o1777);
        Base::of(layer, &["PATH=/bin"], config).push_docker(&registry.name("triggers:1"));
        Self { registry, digest }
    }
}

/// What distributions look like, and what they had better not.
fn base() -> Base {
    let mut layer = LayerBuilder::default();
    layer
        .directory("etc", 0o755)
        .file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nmodel:x:77:78::/home:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nmodel:x:78:\nshared:x:79:model\n")
        .file("etc/conf", 0o600, b"base\n")
        .link("etc/conf.link", "conf")
        .directory("run", 0o755)
        .directory("run/lock", 0o1777)
        .owned_directory("srv", 0o750, (5, 6))
        .owned_file("srv/owned", 0o640, (5, 6), b"owned\n")
        .owned_hard_link("srv/twin", "srv/owned", 0o640, (5, 6))
        .directory("tmp", 0o1777)
        .directory("usr", 0o755)
        .directory("usr/bin", 0o755)
        .file("usr/bin/tool", 0o4755, b"tool\n")
        .link("bin", "usr/bin")
        .directory("var", 0o755)
        .link("var/run", "/run")
        .link("var/lock", "../run/lock")
        .link("var/up", "../../../../run")
        .link("var/gone", "/nowhere/at/all")
        .link("var/gone.rel", "missing")
        .link("loop", "pool")
        .link("pool", "loop")
        .directory("data", 0o755)
        .file("data/old", 0o644, b"old\n");
    let config = json!({
        "Cmd": ["base-cmd"],
        "Entrypoint": ["base-entrypoint"],
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"from": "base", "kept": "yes"},
        "StopSignal": "SIGINT",
        "User": "77:78",
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
    });
    Base::of(layer, &["PATH=/usr/bin", "HOME=/home/base", "NAME=base"], config)
}

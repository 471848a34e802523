//! What people get wrong: each case ends with its exit code, one error that says what to do, the tag where it was and
//! nothing left behind. The snapshots hold every text as it is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::base::Base;
use crate::support::image::is_root;
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};

/// Cases of one kind, and what became of them.
struct Table {
    registry: Registry,
    text: String,
}

impl Table {
    fn new() -> Self {
        let registry = Registry::start();
        Sandbox::small().pushed(&registry.name("model:1"), &[]);
        Self { registry, text: String::new() }
    }

    /// A context that could be pushed, as the image behind the tag was.
    fn case(&self) -> Case<'_> {
        Case { table: self, sandbox: Sandbox::small() }
    }

    /// Adds a case: a Containerfile after which the push fails.
    fn containerfile(&mut self, title: &str, text: &str, code: i32) {
        let case = self.case();
        case.sandbox.containerfile(&text.replace("[REGISTRY]", &self.registry.addr().to_string()));
        let run = case.push();
        self.add(title, text.trim_end(), &run, code);
    }

    fn add(&mut self, title: &str, input: &str, run: &(Run, String), code: i32) {
        let (run, shown) = run;
        assert_eq!(run.status.code(), Some(code), "{title}: {run}");
        let host = self.registry.addr().to_string();
        let _ = write!(
            self.text,
            "## {title}: exit code {code}\n{}\n{}\n\n",
            input.replace(&host, "[REGISTRY]"),
            shown.trim_end()
        );
    }
}

struct Case<'a> {
    table: &'a Table,
    sandbox: Sandbox,
}

impl Case<'_> {
    /// Pushes the context.
    fn push(&self) -> (Run, String) {
        let name = self.table.registry.name("model:1");
        let args = ["--push", "-t", &name, "--tls-verify=false", "--retry=0", "--progress=none", "context"];
        self.run(&[&["build"], &args[..]].concat())
    }

    /// Runs crossdock as told; whatever it is, the tag stays and nothing is written.
    fn run(&self, args: &[&str]) -> (Run, String) {
        let registry = &self.table.registry;
        let (tag, before) = (registry.tag("model", "1"), self.files());
        let run = self.sandbox.run(args);
        assert_eq!(registry.tag("model", "1"), tag, "{run}");
        assert_eq!(self.files(), before, "{run}");
        assert_eq!(registry.open_uploads("model"), 0, "{run}");
        assert_eq!(run.stdout, "", "{run}");
        let shown = self.sandbox.shown(&run.stderr, &[(&registry.addr().to_string(), "[REGISTRY]")]);
        (run, shown)
    }

    fn files(&self) -> BTreeMap<String, u64> {
        let mut files = self.sandbox.files_below("");
        files.retain(|path, _| !path.contains("/index/"));
        files
    }
}

#[test]
fn containerfiles_that_cannot_be_carried_out() {
    let mut table = Table::new();
    Base::new().push(&table.registry.name("base:1"));
    for (title, text) in [
        ("empty", ""),
        ("only comments", "# nothing\n\n"),
        ("no FROM", "COPY model /models\n"),
        ("unknown instruction", "FROM scratch\nCOPPY model /models\n"),
        ("unknown flag", "FROM scratch\nCOPY --chwon=1 model /models\n"),
        ("COPY without a destination", "FROM scratch\nCOPY model\n"),
        ("unterminated quote", "FROM scratch\nLABEL a=\"b\n"),
        ("unterminated here-document", "FROM scratch\nCOPY <<EOF /x\ntext\n"),
        ("bad variable", "FROM scratch\nENV A=${B\n"),
        ("required variable", "FROM scratch\nARG B\nLABEL a=\"${B:?say which}\"\n"),
        ("base without a name", "ARG BASE\nFROM $BASE\nCOPY model /models\n"),
        ("RUN", "FROM scratch\nCOPY model /models\nRUN chmod -R a+r /models\n"),
        ("ADD of a URL", "FROM scratch\nADD https://example.com/model.bin /models/\n"),
        ("ADD of a repository", "FROM scratch\nADD git@example.com:model.git /models/\n"),
        ("COPY from an image", "FROM scratch\nCOPY --from=oci:nowhere:1 /bin/sh /bin/sh\n"),
        (
            "COPY from a later stage",
            "FROM scratch AS a\nCOPY --from=b /x /y\nFROM scratch AS b\nCOPY --from=a / /\n",
        ),
        ("missing source", "FROM scratch\nCOPY modle /models\n"),
        ("pattern without a match", "FROM scratch\nCOPY *.safetensors /models/\n"),
        ("source above the context", "FROM scratch\nCOPY ../outside /models\n"),
        ("owner that is not known", "FROM scratch\nCOPY --chown=model model /models\n"),
        ("bad mode", "FROM scratch\nCOPY --chmod=999 model /models\n"),
        ("bad port", "FROM scratch\nEXPOSE 70000\n"),
        ("bad platform", "FROM --platform=linux scratch\nFROM --platform=a/b/c/d [REGISTRY]/base:1\n"),
        ("bad reference", "FROM [REGISTRY]/UPPER:1\n"),
        ("missing layout", "FROM oci:nowhere:1\n"),
        ("unsupported transport", "FROM docker-daemon:busybox:latest\n"),
        ("missing base", "FROM [REGISTRY]/missing:1\nCOPY model /models\n"),
        ("missing tag", "FROM [REGISTRY]/base:2\nCOPY model /models\n"),
    ] {
        table.containerfile(title, text, 3);
    }
    insta::assert_snapshot!(table.text);
}

#[test]
fn contexts_that_cannot_be_used() {
    let mut table = Table::new();

    let case = table.case();
    case.sandbox.write(".containerignore", "*.json\nmodel/config.json\n");
    case.sandbox.containerfile("FROM scratch\nCOPY model/config.json /models/\n");
    let run = case.push();
    table.add("ignored source", "COPY model/config.json /models/", &run, 3);

    let case = table.case();
    case.sandbox.write(".dockerignore", "model/[\n");
    let run = case.push();
    table.add("malformed ignore file", ".dockerignore: model/[", &run, 3);

    let case = table.case();
    fs::write(case.sandbox.path("secret"), "s").unwrap();
    symlink("../../secret", case.sandbox.file("model/way-out")).unwrap();
    case.sandbox.containerfile("FROM scratch\nCOPY model/way-out /models/\n");
    let run = case.push();
    table.add("symlink outside", "model/way-out -> ../../secret", &run, 3);

    let case = table.case();
    symlink("/etc/passwd", case.sandbox.file("users")).unwrap();
    case.sandbox.containerfile("FROM scratch\nCOPY users /models/\n");
    let run = case.push();
    table.add("absolute symlink outside", "users -> /etc/passwd", &run, 3);

    let case = table.case();
    symlink("round", case.sandbox.file("round")).unwrap();
    case.sandbox.containerfile("FROM scratch\nCOPY round /models/\n");
    let run = case.push();
    table.add("symlink in a circle", "round -> round", &run, 3);

    let case = table.case();
    let socket = UnixListener::bind(case.sandbox.file("model/socket")).unwrap();
    case.sandbox.containerfile("FROM scratch\nCOPY model/socket /models/\n");
    let run = case.push();
    table.add("socket", "model/socket", &run, 3);
    drop(socket);

    let case = table.case();
    case.sandbox.write("layer.tar", tar_of_a_whiteout());
    case.sandbox.containerfile("FROM scratch\nADD layer.tar /models/\n");
    let run = case.push();
    table.add("ADD of an archive", "ADD layer.tar /models/", &run, 3);

    let case = table.case();
    fs::remove_file(case.sandbox.file("Containerfile")).unwrap();
    let run = case.push();
    table.add("no Containerfile", "crossdock build context", &run, 2);

    let case = table.case();
    let run = case.run(&["build", "nowhere"]);
    table.add("no context", "crossdock build nowhere", &run, 2);

    let case = table.case();
    let run = case.run(&["build", "-f", "context/Containerfile", "nowhere"]);
    table.add(
        "no context, with a Containerfile",
        "crossdock build -f context/Containerfile nowhere",
        &run,
        2,
    );

    let case = table.case();
    let run = case.run(&["build", "context/Containerfile"]);
    table.add("a file as context", "crossdock build context/Containerfile", &run, 2);

    let case = table.case();
    let run = case.run(&["build", "-f", "context/Containerfile", "context/Containerfile"]);
    table.add(
        "a file as context, with -f",
        "crossdock build -f context/Containerfile context/Containerfile",
        &run,
        2,
    );

    insta::assert_snapshot!(table.text);
}

/// Whoever opened the FIFO would wait for ever. A device is root's alone to make.
#[test]
fn fifos_and_devices_of_the_context_are_not_opened() {
    use nix::sys::stat::{SFlag, makedev, mknod};
    let sandbox = Sandbox::small();
    mkfifo(&sandbox.file("model/pipe"), Mode::S_IRWXU).unwrap();
    let _ = mknod(&sandbox.file("model/device"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3));
    sandbox.build(&[]).done();
}

fn tar_of_a_whiteout() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_path("a/.wh.b").unwrap();
    header.set_size(0);
    header.set_cksum();
    archive.append(&header, &b""[..]).unwrap();
    archive.into_inner().unwrap()
}

#[test]
fn command_lines_that_cannot_be_understood() {
    let mut table = Table::new();
    let host = table.registry.addr().to_string();
    let name = table.registry.name("model:1");
    let cases: &[(&[&str], i32)] = &[
        (&["build", "--push", "context"], 2),
        (&["build", "-t", "Model:1", "context"], 2),
        (&["build", "-t", &format!("model@sha256:{}", "0".repeat(64)), "context"], 2),
        (&["push", "model:1"], 3),
        (&["push", &format!("sha256:{}", "0".repeat(64)), "docker://x/y"], 3),
        (&["build", "--push", "-t", "model:1", "context"], 2),
        (&["build", "--push", "-t", &format!("{host}/Model:1"), "context"], 2),
        (&["build", "--push", "-t", &format!("{host}/model:"), "context"], 2),
        (&["build", "--push", "-t", &format!("{host}/model@sha256:{}", "0".repeat(64)), "context"], 2),
        (&["build", "-o", "layout", "context"], 2),
        (&["build", "-o", "oci:", "context"], 2),
        (&["build", "-o", "docker://x/y", "context"], 2),
        (&["build", "-o", "docker-archive:a.tar:Bad Name", "context"], 2),
        (&["build", "--no-such-flag", "context"], 2),
        (&["build", "context", "another"], 2),
        (&["biuld"], 2),
        (&["build", "--platform", "linux/amd64,linux/arm64", "context"], 2),
        (&["build", "--platform", "linux", "context"], 2),
        (&["build", "--format", "v2s1", "context"], 2),
        (&["build", "--compression-format", "xz", "context"], 2),
        (&["build", "--compression-format", "gzip", "--compression-level", "12", "context"], 2),
        (&["build", "--layer-file-size", "big", "context"], 2),
        (&["build", "--jobs", "65", "context"], 2),
        (&["build", "--io", "dma", "context"], 2),
        (&["build", "--timestamp", "now", "context"], 2),
        (&["build", "--tls-verify=maybe", "context"], 2),
        (&["build", "--annotation", "=a", "context"], 2),
        (&["build", "--label", "=a", "context"], 2),
        (&["build", "--creds", "user", "context"], 2),
        (&["build", "--creds", ":password", "context"], 2),
        (&["build", "--digestfile", "no/such/digest", "context"], 2),
        (&["build", "-f", "missing", "context"], 2),
        (&["build", "-f", "context", "context"], 2),
        (&["build", "--quiet", "--progress=json", "context"], 2),
        (&["build", "--target", "missing", "context"], 3),
        (&["build", "--ignorefile", "missing", "context"], 3),
        (&["build", "--cert-dir", "missing", "--push", "-t", &name, "context"], 2),
        (&["build", "--format", "docker", "--compression-format", "zstd", "context"], 3),
    ];
    for (args, code) in cases {
        let case = table.case();
        let run = case.run(args);
        table.add("crossdock", &args.join(" "), &run, *code);
    }
    insta::assert_snapshot!(table.text);
}

/// Root may read everything, so the program is run as nobody in particular.
#[test]
fn a_file_that_must_not_be_read_is_named_before_anything_is_sent() {
    use std::os::unix::fs::PermissionsExt;
    let table = Table::new();
    let case = table.case();
    let sandbox = &case.sandbox;
    sandbox.write("model/private", "p");
    sandbox.mode("model/private", 0o000);
    fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    // Where it was built nobody else may go.
    let binary = sandbox.path("crossdock");
    fs::copy(env!("CARGO_BIN_EXE_crossdock"), &binary).unwrap();
    let name = table.registry.name("model:1");
    let mut command = sandbox.command_of(if is_root() { "setpriv" } else { "env" });
    if is_root() {
        command.args(["--reuid", "65534", "--clear-groups", "--"]);
    }
    let args = ["build", "--progress=none", "--push", "-t", &name, "--tls-verify=false", "context"];
    let output = command.arg(&binary).args(args).stdout(Stdio::piped()).output().unwrap();
    let before = table.registry.tag("model", "1");
    let run = sandbox.finish(output, &args).failed(3);
    assert_eq!(table.registry.tag("model", "1"), before);
    insta::assert_snapshot!(sandbox.shown(&run.stderr, &[]));
}

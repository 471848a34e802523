//! A place for one test: a build context, and an environment that knows nothing of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Sandbox {
    directory: TempDir,
}

impl Sandbox {
    /// An empty context, home and root.
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("sandbox").tempdir().unwrap();
        for name in ["context", "home", "tmp", "run"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let sandbox = Self { directory };
        sandbox.store("storage.conf", "containers");
        sandbox
    }

    /// Writes a storage.conf that says where buildah's store is, in the sandbox too.
    pub(crate) fn store(&self, conf: &str, directory: &str) -> PathBuf {
        let conf = self.path(conf);
        let graph = self.path(directory).display().to_string();
        let text = format!("[storage]\ndriver = \"vfs\"\ngraphroot = {graph:?}\nrunroot = \"{graph}-run\"\n");
        fs::write(&conf, text).unwrap();
        conf
    }

    /// A context with a Containerfile and one small file `model/config.json`.
    pub(crate) fn small() -> Self {
        let sandbox = Self::new();
        sandbox.containerfile("FROM scratch\nCOPY model /models\n");
        sandbox.write("model/config.json", "{}");
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.path("context")
    }

    /// A path inside the context.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.context().join(name)
    }

    /// Writes a file of the context.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn containerfile(&self, text: &str) {
        self.write("Containerfile", text);
    }

    pub(crate) fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Any program with the sandbox's environment, in the sandbox's directory.
    pub(crate) fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("TMPDIR", self.path("tmp"))
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// crossdock; what this machine's registries.conf, its drop-in files and root's cache of aliases say is nothing to it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.command_of(env!("CARGO_BIN_EXE_crossdock"));
        command
            .env("CONTAINERS_REGISTRIES_CONF", "/dev/null")
            .arg("--registries-conf-dir")
            .arg(self.path("conf.d"))
            .arg("--short-name-alias-conf")
            .arg(self.path("aliases.conf"))
            .args(args);
        command
    }

    /// Makes crossdock the `buildah` of this sandbox, and says in which directory.
    pub(crate) fn drop_in(&self) -> PathBuf {
        let directory = self.path("bin");
        if !directory.exists() {
            fs::create_dir(&directory).unwrap();
            symlink(env!("CARGO_BIN_EXE_crossdock"), directory.join("buildah")).unwrap();
        }
        directory
    }

    /// crossdock, called as buildah.
    pub(crate) fn buildah_command(&self, args: &[&str]) -> Command {
        let mut command = self.command_of(&self.drop_in().join("buildah").display().to_string());
        command.args(args);
        command
    }

    /// Runs crossdock, called as buildah.
    pub(crate) fn buildah(&self, args: &[&str]) -> Run {
        self.finish(self.buildah_command(args).output().unwrap(), args)
    }

    /// Runs a script of a pipeline with bash, where `buildah` is crossdock, as a step of a Tekton task does.
    pub(crate) fn pipeline(&self, script: &str, variables: &[(&str, &str)]) -> Run {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.command_of("bash");
        command
            .args(["-euo", "pipefail", "-c", script])
            .envs(variables.iter().copied())
            .env("PATH", format!("{}:{path}", self.drop_in().display()))
            .current_dir(self.context());
        self.finish(command.output().unwrap(), &[script])
    }

    /// Runs crossdock.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.finish(self.command(args).output().unwrap(), args)
    }

    /// Runs crossdock with a text on its standard input.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Run {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        self.finish(child.wait_with_output().unwrap(), args)
    }

    /// Builds the context.
    pub(crate) fn build(&self, args: &[&str]) -> Run {
        self.run(&[&["build"], args, &["context"]].concat())
    }

    /// Builds the context, which works; plain http is allowed.
    pub(crate) fn built(&self, args: &[&str]) -> Built {
        let run = self.build(&[&["--progress", "json", "--tls-verify=false"], args].concat());
        Built::of(run.done())
    }

    /// Builds the context and pushes it to `name`, which works.
    pub(crate) fn pushed(&self, name: &str, args: &[&str]) -> Built {
        self.built(&[&["--push", "-t", name], args].concat())
    }

    /// What a run came to.
    pub(crate) fn finish(&self, output: Output, args: &[&str]) -> Run {
        let run = Run {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            status: output.status,
        };
        assert!(!run.stderr.contains("panicked"), "{run}");
        run
    }

    /// A text without what differs from run to run.
    pub(crate) fn shown(&self, text: &str, names: &[(&str, &str)]) -> String {
        let mut text = text.replace(&self.directory.path().display().to_string(), "[SANDBOX]");
        for (from, to) in names {
            text = text.replace(from, to);
        }
        text
    }

    /// Every file below a directory of the sandbox with its length, by path.
    pub(crate) fn files_below(&self, name: &str) -> BTreeMap<String, u64> {
        fn walk(directory: &Path, files: &mut BTreeMap<String, u64>) {
            for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    walk(&entry.path(), files);
                } else {
                    files.insert(entry.path().display().to_string(), metadata.len());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(&self.path(name), &mut files);
        files
    }
}

/// A crossdock that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) args: Vec<String>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: ExitStatus,
}

impl Run {
    /// It worked.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.status.code(), Some(0), "{self}");
        self
    }

    /// It failed with this code, and said why.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        assert!(self.stderr.lines().any(|line| line.to_lowercase().starts_with("error: ")), "{self}");
        self
    }

    /// It said all of this.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing\n{self}");
        }
        self
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {signal:?}"),
        };
        write!(f, "crossdock {}\n{status}\n{}\n{}", self.args.join(" "), self.stdout, self.stderr)
    }
}

/// A build that worked, by what `--progress json` says of it.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) run: Run,
    pub(crate) events: Vec<Value>,
    /// The last object.
    pub(crate) image: Value,
}

impl Built {
    #[track_caller]
    pub(crate) fn of(run: Run) -> Self {
        let mut events: Vec<Value> =
            run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let image = events.pop().unwrap();
        assert_eq!(image["event"], "image");
        Self { run, events, image }
    }

    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.image[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {}", self.image))
    }

    pub(crate) fn digest(&self) -> &str {
        self.image["digest"].as_str().unwrap()
    }

    fn layer_field(&self, name: &str) -> Vec<String> {
        let layers = self.image["layers"].as_array().unwrap();
        layers.iter().map(|layer| layer[name].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn layers(&self) -> Vec<String> {
        self.layer_field("digest")
    }

    pub(crate) fn titles(&self) -> Vec<String> {
        self.layer_field("title")
    }

    /// What happened to each layer, from the bottom up.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        self.layer_field("outcome")
    }
}

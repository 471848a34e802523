//! The tasks under tekton/: their scripts, run with what Tekton would put in the place of its variables.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use saphyr::{LoadableYamlNode as _, Yaml};

use crate::support::image::{Image, Kind, Node};
use crate::support::registry::{PASSWORD, Registry};
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{make_old, write_large};

/// Takes the place of the cluster for one task.
struct Task {
    text: String,
    sandbox: Sandbox,
    /// What stands for a variable.
    values: BTreeMap<String, String>,
    arrays: BTreeMap<String, Vec<String>>,
}

impl Task {
    /// A file of tekton/, with the defaults of its parameters, in a sandbox with crossdock on its PATH.
    fn new(file: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tekton").join(file);
        let text = fs::read_to_string(path).unwrap();
        let sandbox = Sandbox::new();
        for directory in ["bin", "results", "root"] {
            fs::create_dir(sandbox.path(directory)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_crossdock"), sandbox.path("bin/crossdock")).unwrap();
        let mut task = Self { text, sandbox, values: BTreeMap::new(), arrays: BTreeMap::new() };
        let text = task.text.clone();
        let yaml = &Yaml::load_from_str(&text).unwrap()[0];
        for param in list(yaml, &["spec", "params"]) {
            let name = format!("params.{}", string(&param["name"]));
            if let Some(default) = param.as_mapping_get("default") {
                match default.as_vec() {
                    Some(values) => drop(task.arrays.insert(name, values.iter().map(string).collect())),
                    None => drop(task.values.insert(name, string(default))),
                }
            }
        }
        for workspace in list(yaml, &["spec", "workspaces"]) {
            let name = string(&workspace["name"]);
            task.set(&format!("workspaces.{name}.bound"), "false");
            task.set(&format!("workspaces.{name}.path"), "");
        }
        for result in list(yaml, &["spec", "results"]) {
            let name = string(&result["name"]);
            let path = task.sandbox.path("results").join(&name).display().to_string();
            task.set(&format!("results.{name}.path"), &path);
            task.set(&format!("step.results.{name}.path"), &path);
        }
        let context = task.sandbox.context().display().to_string();
        task.bind("source", &context);
        task
    }

    fn set(&mut self, variable: &str, value: &str) {
        self.values.insert(variable.to_owned(), value.to_owned());
    }

    fn bind(&mut self, workspace: &str, path: &str) {
        self.set(&format!("workspaces.{workspace}.bound"), "true");
        self.set(&format!("workspaces.{workspace}.path"), path);
    }

    fn result(&self, name: &str) -> String {
        fs::read_to_string(self.sandbox.path("results").join(name)).unwrap()
    }

    /// A text with the variables' values; one that has none is an error of the task.
    fn substituted(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("$(") {
            let (name, after) = after.split_once(')').unwrap();
            let value = self.values.get(name).unwrap_or_else(|| panic!("nothing stands for $({name})"));
            out.push_str(before);
            out.push_str(value);
            rest = after;
        }
        out + rest
    }

    /// Runs the only step.
    fn run(&self) -> Run {
        let yaml = &Yaml::load_from_str(&self.text).unwrap()[0];
        let step = match list(yaml, &["spec", "steps"]).first() {
            Some(step) => (*step).clone(),
            None => yaml["spec"].clone(),
        };
        let security = step
            .as_mapping_get("securityContext")
            .unwrap_or_else(|| &yaml["spec"]["stepTemplate"]["securityContext"]);
        assert_eq!(security["runAsNonRoot"].as_bool(), Some(true));
        assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true));
        let script = string(&step["script"]);
        assert!(!script.contains("$(params."), "values of parameters are no part of a script");
        fs::write(
            self.sandbox.path("script"),
            ["/var/lib/crossdock", "/tekton/home/crossdock"].iter().fold(script, |script, place| {
                script.replace(place, &self.sandbox.path("root").display().to_string())
            }),
        )
        .unwrap();
        let mut command = self.sandbox.command_of("bash");
        command.arg(self.sandbox.path("script"));
        for arg in list(&step, &["args"]).into_iter().map(string) {
            let name = arg.strip_prefix("$(").and_then(|arg| arg.strip_suffix("[*])"));
            match name {
                Some(name) => command.args(&self.arrays[name]),
                None => command.arg(self.substituted(&arg)),
            };
        }
        for variable in list(&step, &["env"]) {
            command.env(string(&variable["name"]), self.substituted(&string(&variable["value"])));
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.sandbox.path("bin").display()));
        command.current_dir(self.sandbox.context());
        self.sandbox.finish(command.output().unwrap(), &["the step's script"])
    }
}

fn string(yaml: &Yaml<'_>) -> String {
    yaml.as_str().unwrap_or_else(|| panic!("no text: {yaml:?}")).to_owned()
}

/// A list somewhere below; none where there is nothing.
fn list<'a, 'y>(yaml: &'a Yaml<'y>, path: &[&str]) -> Vec<&'a Yaml<'y>> {
    let found = path.iter().try_fold(yaml, |yaml, name| yaml.as_mapping_get(name));
    found.and_then(Yaml::as_vec).into_iter().flatten().collect()
}

fn write_model(sandbox: &Sandbox) {
    sandbox.write("Containerfile", "FROM scratch\nARG TAG\nLABEL tag=$TAG\nCOPY models /models\nUSER 1001\n");
    sandbox.write("models/config.json", "{}");
    write_large(&sandbox.file("models/model.safetensors"), 2 << 20, 1);
}

fn write_credentials(sandbox: &Sandbox, name: &str, registry: &Registry) {
    let auth = STANDARD.encode(format!("builder:{PASSWORD}"));
    let text = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{auth}\"}}}}}}", registry.addr());
    fs::create_dir(sandbox.path("secret")).unwrap();
    fs::write(sandbox.path("secret").join(name), text).unwrap();
}

#[test]
fn the_task_builds_and_pushes_with_the_credentials_of_its_workspace() {
    for name in ["config.json", ".dockerconfigjson"] {
        let registry = Registry::locked(&["builder"]);
        let mut task = Task::new("task.yaml");
        write_model(&task.sandbox);
        write_credentials(&task.sandbox, name, &registry);
        let image = registry.name("team/model:1");
        task.set("params.IMAGE", &image);
        task.set("params.TLSVERIFY", "false");
        task.set("params.BUILD_EXTRA_ARGS", "--label 'a b=c d' --layer-file-size=1MiB");
        task.set("params.PUSH_EXTRA_ARGS", "--retry 2");
        task.arrays.insert("params.BUILD_ARGS".to_owned(), vec!["TAG=x y; exit 1".to_owned()]);
        let secret = task.sandbox.path("secret").display().to_string();
        task.bind("dockerconfig", &secret);
        task.run().done();

        assert_eq!(task.result("IMAGE_URL"), image);
        assert_eq!(Some(task.result("IMAGE_DIGEST")), registry.tag("team/model", "1"));
        let authfile = format!("--authfile={secret}/{name}");
        let copied = format!("oci:{}:1", task.sandbox.path("copied").display());
        crate::support::skopeo_copy(&[&authfile], &format!("docker://{image}"), &copied);
        let image = Image::read(&copied);
        assert_eq!(image.node("models/config.json"), &Node::file(b"{}", 0o644));
        assert!(matches!(image.node("models/model.safetensors").kind, Kind::File { len: 0x20_0000, .. }));
        let labels = &image.config["config"]["Labels"];
        assert_eq!((&labels["tag"], &labels["a b"]), (&"x y; exit 1".into(), &"c d".into()));
    }
}

#[test]
fn a_second_run_on_the_same_volume_reads_nothing_and_the_image_has_nothing_of_the_first() {
    let registry = Registry::start();
    for (file, context) in [("task.yaml", "task"), ("stepaction.yaml", "step")] {
        let mut task = Task::new(file);
        write_model(&task.sandbox);
        task.sandbox.containerfile("FROM scratch\nCOPY . /all\n");
        for name in ["models/config.json", "models/model.safetensors", "Containerfile"] {
            make_old(&task.sandbox.file(name));
        }
        // A file that changed just now is not remembered.
        std::thread::sleep(std::time::Duration::from_millis(2_100));
        for name in ["params.BUILD_EXTRA_ARGS", "params.extra-args"] {
            task.set(name, "--timestamp 0 --strict");
        }
        let mut lines = Vec::new();
        for tag in ["1", "2", "elsewhere"] {
            if tag == "elsewhere" {
                let cache = task.sandbox.path("tmp").display().to_string();
                task.bind("cache", &cache);
                task.set("params.root", &cache);
            }
            let image = registry.name(&format!("team/{context}:{tag}"));
            for (name, value) in [("IMAGE", image.as_str()), ("TLSVERIFY", "false")] {
                task.set(&format!("params.{name}"), value);
            }
            for (name, value) in [("image", image.as_str()), ("tls-verify", "false")] {
                task.set(&format!("params.{name}"), value);
            }
            let run = task.run().done();
            assert!(!run.stderr.contains("warning"), "{run}");
            lines.push(run.stdout.lines().find(|line| line.starts_with("read ")).unwrap().to_owned());
            let copied = format!("oci:{}:1", task.sandbox.path(&format!("copied-{tag}")).display());
            crate::support::skopeo_copy(&[], &format!("docker://{image}"), &copied);
            let image = Image::read(&copied);
            assert!(image.files.contains_key("all/models/config.json"), "{context}");
            assert!(!image.files.keys().any(|path| path.contains(".crossdock")), "{context}");
        }
        assert!(task.sandbox.file(".crossdock/memo").is_dir(), "{context}");
        assert!(lines[0].contains("MiB") && lines[1].contains(" 0 B "), "{context}: {lines:?}");
    }
}

#[test]
fn a_read_only_source_workspace_is_warned_of_and_built_from() {
    let registry = Registry::start();
    for file in ["task.yaml", "stepaction.yaml"] {
        let mut task = Task::new(file);
        write_model(&task.sandbox);
        // Root may write into any directory, and not make one below a file.
        task.sandbox.write(".crossdock", "");
        let image = registry.name("team/model:1");
        task.set("params.IMAGE", &image);
        task.set("params.TLSVERIFY", "false");
        task.set("params.image", &image);
        task.set("params.tls-verify", "false");
        let run = task.run().done();
        run.says(&["warning: ", "/.crossdock cannot be written, so that the next run reads all files again"]);
        assert!(registry.tag("team/model", "1").is_some(), "{file}");
        assert!(task.sandbox.path("root/images").is_dir(), "{file}");
    }
}

#[test]
fn the_task_fails_without_credentials_and_says_what_to_do() {
    let registry = Registry::locked(&["builder"]);
    let mut task = Task::new("task.yaml");
    write_model(&task.sandbox);
    task.set("params.IMAGE", &registry.name("team/model:1"));
    task.set("params.TLSVERIFY", "false");
    task.run().failed(6);
    assert_eq!(registry.tag("team/model", "1"), None);
    assert!(!task.sandbox.path("results/IMAGE_URL").exists());
}

#[test]
fn the_task_can_leave_the_push_out() {
    let mut task = Task::new("task.yaml");
    write_model(&task.sandbox);
    task.set("params.IMAGE", "registry.example.com/team/model:1");
    task.set("params.SKIP_PUSH", "true");
    let cache = task.sandbox.path("tmp").display().to_string();
    task.bind("cache", &cache);
    task.run().done();
    assert!(task.result("IMAGE_DIGEST").starts_with("sha256:"));
    assert!(task.sandbox.path("tmp/images").is_dir(), "what is remembered is in the cache");
}

#[test]
fn the_step_action_pushes_and_the_other_task_verifies() {
    let registry = Registry::start();
    let mut step = Task::new("stepaction.yaml");
    write_model(&step.sandbox);
    let image = registry.name("team/model:1");
    step.set("params.image", &image);
    step.set("params.tls-verify", "false");
    let root = step.sandbox.path("root").display().to_string();
    step.set("params.root", &root);
    step.run().done();
    assert_eq!(step.result("url"), image);
    assert_eq!(Some(step.result("digest")), registry.tag("team/model", "1"));

    let mut verify = Task::new("verify.yaml");
    verify.set("params.IMAGE", &format!("{image}@{}", step.result("digest")));
    verify.set("params.TLSVERIFY", "false");
    verify.set("params.DEEP", "true");
    verify.run().done();
    let other = format!("sha256:{}", "0".repeat(64));
    verify.set("params.IMAGE", &format!("{image}@{other}"));
    verify.run().failed(5);
}

#[test]
fn the_task_sends_parts_and_then_makes_the_image() {
    let registry = Registry::start();
    let mut task = Task::new("task.yaml");
    write_model(&task.sandbox);
    let image = registry.name("team/model:1");
    task.set("params.IMAGE", &image);
    task.set("params.TLSVERIFY", "false");
    task.set("params.BUILD_EXTRA_ARGS", "--layer-file-size=1MiB");
    let cache = task.sandbox.path("tmp").display().to_string();
    task.bind("cache", &cache);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tekton/parts-pipeline.yaml");
    let text = fs::read_to_string(path).unwrap();
    let pipeline = &Yaml::load_from_str(&text).unwrap()[0];
    let params = list(pipeline, &["spec", "params"]);
    let parts = params.iter().find(|param| string(&param["name"]) == "PARTS").unwrap();
    let parts: Vec<_> = list(parts, &["default"]).into_iter().map(string).collect();
    assert_eq!(parts, ["1/4", "2/4", "3/4", "4/4"]);
    for part in parts {
        task.set("params.PART", &part);
        task.run().done();
        assert_eq!(registry.tag("team/model", "1"), None);
        assert!(!task.sandbox.path("results/IMAGE_URL").exists(), "a part has no results");
    }
    task.set("params.PART", "");
    let run = task.run().done();
    assert!(run.stdout.contains("read     0 B of the context's files"), "{run}");
    assert_eq!(Some(task.result("IMAGE_DIGEST")), registry.tag("team/model", "1"));
    assert_eq!(task.result("IMAGE_URL"), image);
}

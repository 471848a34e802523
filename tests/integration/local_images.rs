//! The commands over images that are remembered here, as they are shown; what buildah shows of the same image.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::support::architecture;
use crate::support::sandbox::{Run, Sandbox};

/// What was typed, and what came of it.
struct Transcript {
    sandbox: Sandbox,
    text: String,
}

const CONTAINERFILE: &str = "\
FROM scratch
LABEL a=1 b=two
ENV X=1 Y=\"a b\"
EXPOSE 8080
VOLUME /data
COPY model /models
USER 1001
ENTRYPOINT [\"/bin/serve\"]
CMD [\"--model\", \"/models\"]
";

fn one_image() -> Sandbox {
    let sandbox = Sandbox::small();
    sandbox.containerfile(CONTAINERFILE);
    sandbox.build(&["--timestamp", "0", "-q", "-t", "llama:1", "-t", "quay.io/models/llama:1"]).done();
    sandbox
}

impl Transcript {
    /// Two images: `localhost/llama:1` is `quay.io/models/llama:1` too, `localhost/other:latest` has another file.
    fn new() -> Self {
        let sandbox = one_image();
        sandbox.write("model/config.json", "{\"other\": true}");
        sandbox.build(&["--timestamp", "86400", "-q", "--label", "c=3", "-t", "other"]).done();
        Self { sandbox, text: String::new() }
    }

    fn run(&mut self, args: &[&str]) -> Run {
        let run = self.sandbox.run(args);
        let shown: Vec<_> = args
            .iter()
            .map(|arg| if arg.contains(' ') { format!("'{arg}'") } else { (*arg).to_owned() })
            .collect();
        let _ = write!(self.text, "$ crossdock {}\n{}{}", shown.join(" "), run.stdout, run.stderr);
        if !run.stdout.ends_with('\n') && run.stderr.is_empty() {
            self.text.push('\n');
        }
        match run.status.code() {
            Some(0) => {}
            code => {
                let _ = writeln!(self.text, "exit code {}", code.unwrap_or(-1));
            }
        }
        self.text.push('\n');
        run
    }

    /// The text without what differs from run to run: an ID or digest is the letter of its first appearance.
    fn shown(&self) -> String {
        let text = self.sandbox.shown(&self.text, &[(architecture(), "[ARCH]")]);
        let mut letters: HashMap<String, char> = HashMap::new();
        let mut shown = String::new();
        let mut rest = text.as_str();
        while let Some(c) = rest.chars().next() {
            let hex = rest.find(|c: char| !c.is_ascii_hexdigit() || c.is_uppercase()).unwrap_or(rest.len());
            if hex == 12 || hex == 64 {
                let next = (b'A' + u8::try_from(letters.len()).unwrap()) as char;
                let letter = *letters.entry(rest[..12].to_owned()).or_insert(next);
                shown.extend(std::iter::repeat_n(letter, hex));
                rest = &rest[hex..];
            } else {
                let word = hex.max(c.len_utf8());
                shown.push_str(&rest[..word]);
                rest = &rest[word..];
            }
        }
        // Years pass.
        let words: Vec<_> = shown.split(" years ago").collect();
        let words: Vec<_> = words
            .iter()
            .enumerate()
            .map(|(at, word)| {
                if at + 1 < words.len() { word.trim_end_matches(|c: char| c.is_ascii_digit()) } else { word }
            })
            .collect();
        words.join("[N] years ago")
    }
}

/// The ID, and the digest, of an image.
fn id(sandbox: &Sandbox, name: &str) -> String {
    sandbox.run(&["inspect", "-f", "{{.FromImageID}}", name]).done().stdout
}

#[test]
fn images_are_listed() {
    let mut transcript = Transcript::new();
    for args in [
        &["images"][..],
        &["images", "--digests", "--no-trunc"],
        &["images", "-n"],
        &["images", "-q"],
        &["images", "--json"],
        &["images", "--json", "--no-trunc", "other"],
        &["images", "llama:1"],
        &["images", "--format", "{{.Name}}:{{.Tag}} {{.ID}}"],
        &["images", "--format", "table {{.ID}}\\t{{.CreatedAtRaw}} {{.History}}|{{.ReadOnly}}|{{.Created}}"],
        &["images", "--format", "{{range .Name}}{{end}}"],
        &["images", "--format", "json"],
        &["images", "--filter", "label=a=1", "-q"],
        &["images", "--filter", "label=c", "-q"],
        &["images", "-f", "label!=c", "-q"],
        &["images", "-f", "since=llama:1", "-q"],
        &["images", "-f", "before=other", "-q"],
        &["images", "-f", "reference=models/*", "-q"],
        &["images", "-f", "reference=llama:2", "-q"],
        &["images", "-f", "dangling=true"],
        &["images", "-f", "dangling=maybe"],
        &["images", "-f", "reference=nope", "-f", "reference=other", "-q"],
        &["images", "-f", "readonly=false", "-f", "intermediate=false", "-f", "manifest=false", "-q"],
        &["images", "-f", "readonly=true", "-q"],
        &["images", "-f", "id=zzz", "-q"],
        &["images", "-f", "digest=x"],
        &["images", "--format", "{{.Repository}}"],
        &["images", "--format", "{{json .}}", "other"],
        &["images", "-f", "since=nope"],
        &["images", "-f", "colour=red"],
        &["images", "-f", "label"],
        &["images", "nope"],
        &["images", "-q", "--format", "{{.ID}}"],
    ] {
        transcript.run(args);
    }
    insta::assert_snapshot!(transcript.shown());
}

#[test]
fn an_image_is_inspected() {
    let mut transcript = Transcript::new();
    for args in [
        &["inspect", "llama:1"][..],
        &["inspect", "--type", "manifest", "llama:1"],
        &["inspect", "--format", "{{.FromImage}} {{.FromImageDigest}}", "quay.io/models/llama:1"],
        &["inspect", "--format", "{{.OCIv1.Config.Env}} {{.Docker.Config.Labels}}", "llama:1"],
        &["inspect", "--format", "{{range .OCIv1.Config.Env}}{{println .}}{{end}}", "llama:1"],
        &["inspect", "--format", "{{json .OCIv1.Config}}", "llama:1"],
        &[
            "inspect",
            "--format",
            "{{join .Docker.Config.Cmd \",\"}} {{.ContainerID}}",
            "--type=image",
            "llama:1",
        ],
        &["inspect", "--format", "{{.Nope}}", "llama:1"],
        &["inspect", "--format", "{{if}}", "llama:1"],
        &["inspect", "--type", "container", "llama:1"],
        &["inspect", "nope"],
    ] {
        transcript.run(args);
    }
    insta::assert_snapshot!(transcript.shown());
}

#[test]
fn names_come_and_go() {
    let mut transcript = Transcript::new();
    let llama = id(&transcript.sandbox, "llama:1");
    for args in [
        &["tag", "llama:1", "llama:2", "quay.io/models/llama"][..],
        &["tag", "other", "llama:1"],
        &["images"],
        &["tag", "nope", "x"],
        &["tag", "other"],
        &["tag", "other", "x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
        &["tag", "other", "UPPER"],
        &["rmi", "nope", "llama:2", "nothing"],
        &["rmi", &llama],
        &["rmi", "--force", &llama[..12]],
        &["rmi", "other", "llama:1"],
        &["images"],
        &["rmi"],
        &["rmi", "-a", "x"],
        &["rmi", "-a"],
    ] {
        transcript.run(args);
    }
    insta::assert_snapshot!(transcript.shown());
}

#[test]
fn images_without_a_name_are_pruned() {
    let mut transcript = Transcript::new();
    transcript.sandbox.build(&["--timestamp", "1", "-q", "-t", "other"]).done();
    for args in [&["images"][..], &["rmi", "--prune"], &["rmi", "--prune"], &["rmi", "--all"], &["images"]] {
        transcript.run(args);
    }
    insta::assert_snapshot!(transcript.shown());
}

#[test]
fn a_damaged_record_is_named_and_the_others_are_listed() {
    let mut transcript = Transcript::new();
    let root = transcript.sandbox.path("home/.local/share/crossdock");
    let digest = transcript.sandbox.run(&["inspect", "-f", "{{.FromImageDigest}}", "other"]).done().stdout;
    let record = root.join("images").join(format!("{}.jsonl.zst", digest.strip_prefix("sha256:").unwrap()));
    fs::write(&record, "not a record").unwrap();
    fs::write(root.join("names/x.json"), "{").unwrap();
    transcript.run(&["images"]);
    transcript.run(&["prune"]);
    transcript.run(&["inspect", "other"]);
    transcript.run(&["rmi", "llama:1"]);
    insta::assert_snapshot!(transcript.shown());
}

#[test]
fn the_machine_and_the_version_are_shown() {
    let sandbox = Transcript::new().sandbox;
    let version: Value = serde_json::from_str(&sandbox.run(&["version", "--json"]).done().stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let words = sandbox.run(&["version"]).done().stdout;
    assert!(words.starts_with(&format!("Version:         {}\n", env!("CARGO_PKG_VERSION"))), "{words}");
    let info: Value = serde_json::from_str(&sandbox.run(&["info"]).done().stdout).unwrap();
    assert_eq!(info["store"]["ImageStore"]["number"], 2);
    assert_eq!(info["store"]["ImageStore"]["names"], 3);
    assert_eq!(info["host"]["arch"], architecture());
    assert!(info["host"]["MemTotal"].as_u64().unwrap() > 0);
    let files: u64 = sandbox.files_below("home").values().sum();
    assert_eq!(info["store"]["DiskUsed"]["bytes"], files);
    let root = sandbox.run(&["info", "--format", "{{.store.GraphRoot}}"]).done().stdout;
    assert_eq!(root.trim(), sandbox.path("home/.local/share/crossdock").display().to_string());
}

/// What Go's own templates make of Go's own structs.
#[test]
fn buildah_shows_the_same_of_the_same_image() {
    let sandbox = one_image();
    sandbox.run(&["push", "-q", "llama:1", "oci:layout:localhost/llama:1"]).done();
    let buildah = |args: &[&str]| {
        let mut command = sandbox.command_of("buildah");
        let (root, run) = (sandbox.path("buildah"), sandbox.path("buildah-run"));
        command.args(["--storage-driver", "vfs", "--root"]).arg(root).arg("--runroot").arg(run).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let theirs = buildah(&["pull", "-q", "oci:layout:localhost/llama:1"]);
    let ours = id(&sandbox, "llama:1");
    assert_eq!(theirs.trim(), ours);
    buildah(&["tag", &ours, "llama:1"]);
    // It names what it pulls after the directory.
    assert_eq!(buildah(&["rmi", "layout"]), "untagged: localhost/layout:latest\n");

    let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let theirs = json(&buildah(&["inspect", "--type", "image", "llama:1"]));
    let ours = json(&sandbox.run(&["inspect", "llama:1"]).done().stdout);
    let names = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(names(&ours), names(&theirs));
    for name in names(&theirs) {
        // What there is of a container is not ours to say.
        if !["FromImage", "NamespaceOptions", "IDMappingOptions"].contains(&name.as_str()) {
            assert_eq!(ours[&name], theirs[&name], "{name}");
        }
    }
    for template in [
        "{{.FromImageDigest}}",
        "{{.OCIv1.Config}}|{{.OCIv1.History}}|{{.OCIv1.RootFS}}|{{.ImageAnnotations}}",
        "{{.Docker.Config}}|{{.Docker.Created}}|{{.Docker.Config.ExposedPorts}}|{{.Docker.Config.Healthcheck}}",
        "{{range $i, $e := .OCIv1.Config.Env}}{{$i}}={{$e}};{{end}}{{len .OCIv1.Config.Env}}",
        "{{range $k, $v := .OCIv1.Config.Labels}}{{$k}}={{$v}} {{end}}{{index .OCIv1.Config.Labels \"b\"}}",
        "{{.OCIv1.Config.Labels.nope}}{{index .OCIv1.Config.Labels \"nope\"}}",
        "{{range .OCIv1.History}}{{.CreatedBy}};{{.EmptyLayer}}{{println}}{{end}}",
        "{{if .OCIv1.Config.User}}U{{else}}N{{end}}{{with .ContainerID}}c{{else}}none{{end}}",
        "{{printf \"%s-%d-%v-%q-%5d|%-6s|%x|%v\" .FromImageID 3 true \"a\" 7 \"a\" 255 .OCIv1.Config.Cmd}}",
        "{{eq .OCIv1.OS \"linux\"}} {{ .OCIv1.Config.Env | len }} {{$x := .Docker}}{{$x.OS}} {{print \"a\" 1 2 \"b\"}}",
        "{{(index .OCIv1.History 0).CreatedBy}} {{and true .OCIv1.OS}} {{or \"\" \"z\"}} {{not true}}",
        "{{slice .FromImageID 0 12}} a {{- /* c */ -}} b {{- .OCIv1.OS -}} c",
        "{{.Capabilities}}{{.Docker.Config.OnBuild}}{{.Docker.Parent}}",
    ] {
        let ours = sandbox.run(&["inspect", "--format", template, "llama:1"]).done().stdout;
        assert_eq!(
            ours,
            buildah(&["inspect", "--type", "image", "--format", template, "llama:1"]),
            "{template}"
        );
    }

    // Tables are the same, but for a column that names what the bytes are and not where they would be.
    let layout = "{{.Name}} {{.Tag}} {{.ID}} {{.Digest}} {{.CreatedAtRaw}} {{.Created}} {{.ReadOnly}} end";
    let ours = sandbox.run(&["rmi", "quay.io/models/llama:1"]).done().stdout;
    assert_eq!(ours, "untagged: quay.io/models/llama:1\n");
    let ours = sandbox.run(&["images", "--format", layout, "llama:1"]).done().stdout;
    assert_eq!(ours, buildah(&["images", "--format", layout, "llama:1"]));
    let whole = id(&sandbox, "llama:1");
    for filter in [
        &format!("id={whole}"),
        "id=0000000000000000000000000000000000000000000000000000000000000000",
        "dangling=true",
        "dangling=false",
        "dangling!=true",
        "label=b=two",
        "label=b=three",
        "reference=llama",
        "reference=nope*",
        "readonly=true",
        "readonly=false",
        "containers=true",
    ] {
        for more in [&["-q"][..], &["-q", "--no-trunc"], &["--noheading", "--format", layout]] {
            let args = [&["images", "--filter", filter], more].concat();
            assert_eq!(sandbox.run(&args).done().stdout, buildah(&args), "{args:?}");
        }
    }
    let mut listed = json(&buildah(&["images", "-q", "--json", "--no-trunc"]));
    let mut ours = json(&sandbox.run(&["images", "-q", "--json", "--no-trunc"]).done().stdout);
    for image in [&mut listed[0], &mut ours[0]] {
        image["size"].take();
    }
    assert_eq!(ours, listed);
    assert_eq!(sandbox.run(&["rmi", "llama:1"]).done().stdout, buildah(&["rmi", "llama:1"]));
    for args in [
        &["rmi", "nope"][..],
        &["inspect", "--type", "image", "nope"],
        &["tag", "nope", "x"],
        &["images", "nope"],
    ] {
        sandbox.buildah(args).failed(125).says(&["nope: image not known"]);
    }
}

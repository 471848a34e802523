//! Every command line of README.md, docs/ and `--help` is typed as it stands, and works. Hosts are a registry of the test's,
//! words in capitals are what they stand for; all else is the text's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::support::base::{Base, push_index};
use crate::support::registry::{PASSWORD, Registry};
use crate::support::sandbox::{Run, Sandbox};

/// A line as it is written, and where.
#[derive(Debug)]
struct Line {
    place: String,
    text: String,
}

/// A registry for what is documented, with what the lines expect to be there.
struct Place {
    sandbox: Sandbox,
    open: Registry,
    locked: Registry,
}

const USER: &str = "model";

impl Place {
    fn new() -> Self {
        let (open, locked) = (Registry::start(), Registry::locked(&[USER]));
        let sandbox = Sandbox::new();
        let base = open.name("ubi9/ubi-micro");
        push_index(&[Base::new(), Base::new().for_architecture("arm64")], &base);
        sandbox.containerfile(&format!("FROM {base}\nCOPY model /models\nUSER 1001\n"));
        sandbox.write("model/config.json", "{}");
        sandbox.write("model/README.md", "# Llama\n");
        // A context of its own in one of the examples.
        sandbox.write("model/Containerfile", "FROM scratch\nCOPY config.json /models/\n");
        let insecure = [&open, &locked]
            .map(|registry| format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.addr()));
        fs::write(sandbox.path("registries.conf"), insecure.concat()).unwrap();
        let bin = sandbox.drop_in();
        symlink(env!("CARGO_BIN_EXE_crossdock"), bin.join("crossdock")).unwrap();
        // A context in an archive, and a snapshot in the cache of Hugging Face.
        let mut tar = sandbox.command_of("tar");
        tar.arg("-C").arg(sandbox.file("model")).arg("-cf").arg(sandbox.file("model.tar")).arg(".");
        assert!(tar.status().unwrap().success());
        let snapshot = sandbox.path("home/.cache/huggingface/hub/models--org--name/snapshots/main");
        fs::create_dir_all(snapshot.join("../../blobs")).unwrap();
        fs::write(snapshot.join("../../blobs/1"), "FROM scratch\nCOPY . /models\n").unwrap();
        symlink("../../blobs/1", snapshot.join("Containerfile")).unwrap();
        // There is no Docker here: skopeo reads what it would load.
        let docker = "#!/bin/sh\ntest \"$*\" = load && cat >\"$TMPDIR/loaded\" && skopeo inspect \"docker-archive:$TMPDIR/loaded\" >/dev/null\n";
        fs::write(bin.join("docker"), docker).unwrap();
        fs::set_permissions(bin.join("docker"), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Self { sandbox, open, locked };
        place.run(&place.both()).done();
        let name = place.open.name("models/llama");
        for arch in ["amd64", "arm64"] {
            place.run(&format!("crossdock build -q --push --arch {arch} -t {name}:1-{arch} .")).done();
        }
        place.run("crossdock build -q -o oci:./layout:v1 ./model").done();
        place
    }

    /// Runs a line with bash, in the build context; what goes to its standard input is a password.
    fn run(&self, line: &str) -> Run {
        let path =
            format!("{}:{}", self.sandbox.drop_in().display(), std::env::var("PATH").unwrap_or_default());
        let mut command = self.sandbox.command_of("bash");
        command
            .args(["-euo", "pipefail", "-c", line])
            .env("PATH", path)
            .env("CONTAINERS_REGISTRIES_CONF", self.sandbox.path("registries.conf"))
            .env("IMAGE", self.open.name("models/llama:1"))
            .current_dir(self.sandbox.context());
        self.sandbox.finish(command.output().unwrap(), &[line])
    }

    /// What a line expects to be there.
    fn prepare(&self, line: &str) {
        for directory in ["DIR", "llama.tar"] {
            let path = self.sandbox.context().join(directory);
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
        let name = self.open.name("models/llama");
        let login =
            format!("echo {PASSWORD} | crossdock login -u {USER} --password-stdin {}", self.locked.addr());
        let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
        let lines = if has(&["--get-login", "logout", "login HOST "]) {
            vec![login]
        } else if has(&["manifest create"]) {
            vec!["crossdock rmi --all".to_owned()]
        } else if has(&[" manifest "]) {
            let create = format!("crossdock manifest create llama {name}:1-amd64 {name}:1-arm64");
            vec!["crossdock rmi --all".to_owned(), create]
        } else if has(&["--platform linux/arm64"]) {
            vec![self.both(), "crossdock rmi --all".to_owned()]
        } else if has(&["buildah push"]) {
            vec!["buildah bud -q -t \"$IMAGE\" .".to_owned()]
        } else if has(&[" push ", "inspect", " tag ", " rmi ", "verify"]) {
            vec![
                "crossdock rmi --all".to_owned(),
                format!("crossdock build -q --push -t {name}:1 . && crossdock tag {name}:1 llama"),
            ]
        } else {
            Vec::new()
        };
        for line in lines {
            self.run(&line).done();
        }
    }

    /// The line that pushes a list for two platforms.
    fn both(&self) -> String {
        format!(
            "crossdock build -q --push --platform linux/amd64,linux/arm64 -t {} .",
            self.open.name("models/llama:1")
        )
    }

    /// A line with what its words stand for.
    fn typed(&self, text: &str) -> String {
        let is_login = text.contains("login") || text.contains("logout");
        let host = if is_login { self.locked.addr() } else { self.open.addr() }.to_string();
        // A synopsis: what may be left out is typed, one of several is chosen.
        let mut text = text.replace("HOST[:PORT][/NAMESPACE]", "HOST").replace(" | --all", "");
        for optional in ["[--pull]", "[--json]"] {
            text = text.replace(optional, optional.trim_matches(['[', ']']));
        }
        for named in [
            "image-registry.openshift-image-registry.svc:5000",
            "registry.access.redhat.com",
            "registry.example.com",
            "quay.io",
            "HOST",
        ] {
            text = text.replace(named, &host);
        }
        for (word, is) in [
            ("PROJECT/NAME:TAG", "models/llama:1"),
            ("NAMESPACE/llama", "models/llama"),
            ("REPOSITORY:TAG", "models/llama:1"),
            ("REPOSITORY", "models/llama"),
            (" IMAGE", " \"$IMAGE\""),
            (" CONTEXT", " ."),
            (" LIST", " llama"),
            ("-u NAME", &format!("-u {USER}")),
            ("/tmp/", "$TMPDIR/"),
            ("/etc/bash_completion.d/", "$TMPDIR/"),
            ("/usr/local/share/man/", "$TMPDIR/"),
        ] {
            text = text.replace(word, is);
        }
        if text.contains("--password-stdin") { format!("echo {PASSWORD} | {text}") } else { text }
    }
}

/// The lines of a text that begin with one of our names, with those that they go on in.
fn lines(place: &str, text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        let words = line.trim().trim_start_matches("$ ");
        let (words, more) = match words.strip_suffix('\\') {
            Some(words) => (words.trim_end(), true),
            None => (words, false),
        };
        match found.last_mut() {
            Some(last) if goes_on => last.text = format!("{} {words}", last.text),
            _ if wanted(line)
                && (words.starts_with("crossdock ")
                    || words.starts_with("buildah ")
                    || words.contains("| crossdock ")) =>
            {
                found.push(Line { place: place.to_owned(), text: words.to_owned() });
            }
            _ => {
                goes_on = false;
                continue;
            }
        }
        goes_on = more;
    }
    found
}

/// Those in blocks of code: fenced as shell or console, or indented.
fn of_page(place: &str, text: &str) -> Vec<Line> {
    let mut code = String::new();
    let mut fence: Option<bool> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), fence) {
            (Some(kind), None) => fence = Some(matches!(kind, "sh" | "console")),
            (Some(_), Some(_)) => fence = None,
            (None, Some(true)) => code += &format!("{line}\n"),
            (None, None) if line.starts_with("    ") => code += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    lines(place, &code, |_| true)
}

/// Those below `Examples:` in the help of a command, and of all commands in it.
fn of_help(place: &Place, command: &str, found: &mut Vec<Line>) {
    // Wide enough for no line to be broken.
    let help = place.run(&format!("COLUMNS=1000 crossdock {command} --help")).done().stdout;
    found.extend(lines(&format!("crossdock {command} --help"), &help, |line| line.starts_with("  ")));
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "));
    let names: BTreeSet<_> =
        commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    for name in names {
        of_help(place, format!("{command} {name}").trim(), found);
    }
}

#[test]
fn every_command_line_of_the_documentation_works_as_it_is_written() {
    let place = Place::new();
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<_> =
        fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.push(root.join("README.md"));
    pages.sort();
    for page in pages {
        found.extend(of_page(&page.display().to_string(), &fs::read_to_string(&page).unwrap()));
    }
    let written = found.len();
    of_help(&place, "", &mut found);
    // The extraction itself works.
    assert!(written > 20 && found.len() > written + 20, "{found:#?}");
    assert!(found.iter().any(|line| line.text == "crossdock pull oci:./layout:v1"), "{found:#?}");
    let mut failed = Vec::new();
    for Line { place: written, text } in &found {
        let typed = place.typed(text);
        assert!(!typed.contains(" /etc") && !typed.contains(" /usr"), "{written}: {typed} would write there");
        place.prepare(text);
        let run = place.run(&typed);
        if !run.status.success() {
            failed.push(format!("{written}: {text}\n{run}"));
        }
    }
    assert!(failed.is_empty(), "{} of {} fail:\n{}", failed.len(), found.len(), failed.join("\n"));
}

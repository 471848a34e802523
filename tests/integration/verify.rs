//! An image on a registry held against the files that it was built of.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use serde_json::Value;

use crate::fault_proxy::{Fault, FaultProxy};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::write_large;

const LARGE: u64 = 5 << 20;

/// A model of small files and a large one, built, pushed, and its registry.
struct Pushed {
    sandbox: Sandbox,
    registry: Registry,
    layers: Vec<String>,
}

impl Pushed {
    fn new(more: &[&str]) -> Self {
        let (sandbox, registry) = (Sandbox::small(), Registry::start());
        sandbox.write("model/nested/tokenizer.json", "tokens");
        std::os::unix::fs::symlink("config.json", sandbox.file("model/link")).unwrap();
        write_large(&sandbox.file("model/weights"), LARGE, 1);
        let built = sandbox.pushed(&registry.name("m:1"), more);
        let layers = built.layers();
        Self { sandbox, registry, layers }
    }

    fn verify(&self, more: &[&str]) -> Report {
        self.verify_at(&self.registry.name("m:1"), more)
    }

    fn verify_at(&self, name: &str, more: &[&str]) -> Report {
        let args = ["verify", "--tls-verify=false", "--json", "--against", "context/model:/models"];
        let run = self.sandbox.run(&[&args, more, &[name]].concat());
        let report = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"));
        Report { run, report }
    }
}

struct Report {
    run: Run,
    report: Value,
}

impl Report {
    #[track_caller]
    fn well(self) -> Value {
        assert_eq!(self.report["mismatches"], Value::Array(Vec::new()), "{}", self.run);
        self.run.done();
        self.report
    }

    /// There is this mismatch alone: a part of its problem, the end of its file's name, and its offset.
    #[track_caller]
    fn other(self, problem: &str, file: &str, offset: Option<u64>) -> Value {
        let mismatches = self.report["mismatches"].as_array().unwrap();
        let found = mismatches.iter().find(|m| m["problem"].as_str().unwrap().contains(problem));
        let Some(found) = found else { panic!("{problem}: {}", self.run) };
        assert!(found["file"].as_str().unwrap_or_default().ends_with(file), "{found}");
        assert_eq!(found["offset"].as_u64(), offset, "{found}");
        let found = found.clone();
        self.run.failed(1);
        found
    }
}

const BOTH: [&str; 2] = ["--deep=sample", "--deep"];

#[test]
fn what_was_built_is_what_is_there() {
    let pushed = Pushed::new(&["--layer-file-size", "1MiB"]);
    for deep in BOTH {
        let report = pushed.verify(&[deep]).well();
        let files = &report["files"];
        assert_eq!((files["count"].as_u64(), files["size"].as_u64()), (Some(5), Some(LARGE + 8)), "{report}");
        let whole = files["compared"] == files["size"];
        assert_eq!(whole, deep == "--deep", "{report}");
        assert_eq!(report["notes"], Value::Array(Vec::new()));
        assert_eq!(report["seed"].is_u64(), deep == "--deep=sample");
    }
    let one =
        ["verify", "--tls-verify=false", "--json", "--against", "context/model/weights:/models/weights"];
    let run = pushed.sandbox.run(&[&one[..], &[&pushed.registry.name("m:1")]].concat()).done();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&report["files"]["count"], &report["files"]["size"]), (&1.into(), &LARGE.into()), "{run}");
    let run = pushed.sandbox.run(&["verify", "--deep=sample", &pushed.registry.name("m:1")]);
    run.failed(2).says(&["--against"]);
    let missing = ["verify", "--tls-verify=false", "--against", "gone:/models", &pushed.registry.name("m:1")];
    pushed.sandbox.run(&missing).failed(4).says(&["cannot open gone"]);
}

#[test]
fn a_sample_reads_a_part_and_the_same_part_with_the_same_seed() {
    let pushed = Pushed::new(&["--layer-file-size", "1MiB"]);
    let proxy = pushed.registry.proxy();
    let name = format!("{}/m:1", proxy.addr());
    let mut runs = Vec::new();
    for _ in 0..2 {
        let before = proxy.seen().len();
        let report = pushed.verify_at(&name, &["--samples=4", "--seed=7"]).well();
        assert_eq!(report["seed"], 7);
        assert!(report["bytes_received"].as_u64().unwrap() < LARGE / 2, "{report}");
        let mut ranges: Vec<_> = proxy.seen()[before..]
            .iter()
            .filter_map(|seen| Some(format!("{} {}", seen.path, seen.header("range")?)))
            .collect();
        ranges.sort();
        runs.push(ranges);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].len() >= 5, "{runs:?}");
    let before = proxy.seen().len();
    pushed.verify_at(&name, &["--samples=4", "--seed=8"]).well();
    let other: Vec<_> = proxy.seen()[before..]
        .iter()
        .filter_map(|seen| Some(format!("{} {}", seen.path, seen.header("range")?)))
        .collect();
    assert!(!other.iter().all(|range| runs[0].contains(range)), "{other:?}");
}

#[test]
fn a_byte_that_the_registry_lost_is_named_with_its_file_and_place() {
    let pushed = Pushed::new(&["--layer-file-size", "1MiB"]);
    let large = pushed.layers.last().unwrap();
    // Behind the headers of the directory and of the file.
    let data = File::options().write(true).open(pushed.registry.blob(large)).unwrap();
    let start = data.metadata().unwrap().len() - 1024 - LARGE;
    let mut was = fs::read(pushed.sandbox.file("model/weights")).unwrap()[3_000_000];
    was ^= 1;
    data.write_all_at(&[was], start + 3_000_000).unwrap();
    for how in [&["--samples=32"][..], &["--deep"]] {
        let found = pushed.verify(how).other("/models/weights", "model/weights", Some(3_000_000));
        assert_eq!(found["digest"].as_str(), Some(large.as_str()));
    }
    // What is hashed says so too.
    pushed.verify(&["--deep"]).other("its bytes are those of", "", None);
    // A header that is damaged is no error of this program.
    data.write_all_at(b"?", start - 500).unwrap();
    for deep in BOTH {
        pushed.verify(&[deep]).other(
            if deep == "--deep" { "bytes are those" } else { "tar archive" },
            "",
            None,
        );
    }
    data.set_len(start + 10).unwrap();
    for deep in BOTH {
        pushed.verify(&[deep]).other("bytes, and the manifest says", "", None);
    }
}

#[test]
fn files_that_are_other_here_are_named() {
    for compression in ["none", "zstd", "gzip"] {
        let pushed = Pushed::new(&["--compression-format", compression]);
        let file = |name: &str| pushed.sandbox.file(&format!("model/{name}"));
        for deep in BOTH {
            let report = pushed.verify(&[deep]).well();
            let notes = report["notes"].to_string();
            assert_eq!(notes.contains("compressed"), compression != "none" && deep != "--deep", "{notes}");
        }
        fs::write(file("config.json"), "[]").unwrap();
        fs::write(file("nested/extra"), "x").unwrap();
        fs::remove_file(file("nested/tokenizer.json")).unwrap();
        fs::remove_file(file("link")).unwrap();
        std::os::unix::fs::symlink("weights", file("link")).unwrap();
        File::options().write(true).open(file("weights")).unwrap().set_len(LARGE - 1).unwrap();
        for deep in BOTH {
            pushed.verify(&[deep]).other("/models/config.json in the image", "model/config.json", Some(0));
            pushed.verify(&[deep]).other("the image has no /models/nested/extra", "nested/extra", None);
            pushed.verify(&[deep]).other("/models/nested/tokenizer.json is in the image", "", None);
            pushed.verify(&[deep]).other("leads to config.json in the image", "model/link", None);
            pushed.verify(&[deep]).other(&format!("{LARGE} bytes in the image"), "model/weights", None);
        }
    }
}

#[test]
fn what_upper_layers_replace_and_what_links_share_is_seen_as_a_container_sees_it() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    sandbox.containerfile("FROM scratch\nCOPY old /models\nCOPY model /models\n");
    sandbox.write("old/config.json", "old");
    sandbox.write("model/config.json", "new");
    sandbox.write("model/a", "shared");
    fs::hard_link(sandbox.file("model/a"), sandbox.file("model/b")).unwrap();
    let built = sandbox.pushed(&registry.name("m:1"), &[]);
    let pushed = Pushed { sandbox, registry, layers: built.layers() };
    for deep in BOTH {
        pushed.verify(&[deep]).well();
    }
    fs::remove_file(pushed.sandbox.file("model/b")).unwrap();
    fs::write(pushed.sandbox.file("model/b"), "others").unwrap();
    for deep in BOTH {
        pushed.verify(&[deep]).other("/models/b has the bytes of /models/a", "model/b", None);
    }
}

#[test]
fn a_registry_without_ranges_is_read_through_and_says_so() {
    let pushed = Pushed::new(&["--layer-file-size", "1MiB"]);
    let proxy = FaultProxy::start(pushed.registry.addr());
    proxy.break_next("GET", "/blobs/", usize::MAX, Fault::DropHeader("range"));
    let report = pushed.verify_at(&format!("{}/m:1", proxy.addr()), &[]).well();
    assert!(report["notes"].to_string().contains("gives no ranges"), "{report}");
    assert_eq!(report["files"]["compared"], report["files"]["size"]);
}

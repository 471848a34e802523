//! One image sent by several builds: `build --part I/N`, and the build after them that makes the image.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::Value;

use crate::fault_proxy::{Fault, Hook};
use crate::support::base::Base;
use crate::support::image::{Image, Node};
use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Run, Sandbox};
use crate::support::{make_old, noise, skopeo_copy, write_large};

const MIB: u64 = 1 << 20;

/// What a build reads that finds all layers: nothing of any weight.
const SMALL: u64 = 1024;

/// Shards of these sizes in MiB, and a small file: each shard is a layer of its own.
const SHARDS: [u64; 8] = [9, 8, 7, 6, 5, 4, 3, 2];

const SPLIT: [&str; 4] = ["--layer-file-size", "1MiB", "--timestamp", "0"];

fn model() -> Sandbox {
    let sandbox = Sandbox::small();
    for (shard, mib) in SHARDS.into_iter().enumerate() {
        let path = sandbox.file(&format!("model/shard-{shard}"));
        write_large(&path, mib * MIB, shard as u64);
        make_old(&path);
    }
    make_old(&sandbox.file("model/config.json"));
    sandbox
}

fn args<'a>(root: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["--root", root, "build", "--push", "-t", name, "--tls-verify=false", "--progress", "json"];
    [&args[..], &SPLIT, more, &["context"]].concat()
}

/// The report of a part that was sent.
fn report(run: Run) -> Value {
    let run = run.done();
    let report: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(report["event"], "part", "{run}");
    report
}

fn part(sandbox: &Sandbox, root: &str, name: &str, part: &str, more: &[&str]) -> Value {
    report(sandbox.run(&args(root, name, &[&["--part", part], more].concat())))
}

/// The build after the parts.
fn rest(sandbox: &Sandbox, root: &str, name: &str, more: &[&str]) -> Built {
    Built::of(sandbox.run(&args(root, name, more)).done())
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {report}"))
}

fn titles(report: &Value) -> Vec<String> {
    let layers = report["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["title"].as_str().unwrap().to_owned()).collect()
}

fn copied(sandbox: &Sandbox, name: &str, to: &str) -> Image {
    let copied = format!("oci:{}:1", sandbox.path(to).display());
    skopeo_copy(&[], &format!("docker://{name}"), &copied);
    Image::read(&copied)
}

#[test]
fn four_parts_of_which_one_was_killed_make_the_image_that_one_build_makes() {
    let (sandbox, registry) = (model(), Registry::start());
    // The second layer of a part is kept waiting, so that the kill comes in the middle.
    let (go_on, waits) = mpsc::channel::<()>();
    let waits = Arc::new(Mutex::new(waits));
    let hook = Hook(Arc::new(move || {
        let _ = waits.lock().unwrap().recv();
    }));
    let proxy = registry.proxy();
    proxy.break_after(1, "PATCH", "", 1, Fault::Run(hook));
    let name = format!("{}/team/model:1", proxy.addr());
    let start = |part: &str, more: &[&str]| -> Child {
        let args = args("root", &name, &[&["--part", part], more].concat());
        sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut killed = start("2/4", &["--jobs", "1"]);
    let began = Instant::now();
    while proxy.count("PATCH", "") < 2 {
        assert!(killed.try_wait().unwrap().is_none(), "it ended before the second layer");
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain for the second layer");
        thread::sleep(Duration::from_millis(10));
    }
    // SIGKILL.
    killed.kill().unwrap();
    killed.wait().unwrap();
    drop(go_on);
    let dry = sandbox.run(&args("root", &name, &["--dry-run"])).done();
    let said = dry.says(&["part 2 of 4 was begun and has not come to its end", "with --part 2/4"]);
    assert!(
        said.stderr.contains("part 1 of 4 did not run") && said.stderr.contains("2 layers, 11."),
        "{said}"
    );

    let running: Vec<_> = (1..=4).map(|part| start(&format!("{part}/4"), &[])).collect();
    let reports: Vec<_> = running
        .into_iter()
        .map(|child| report(sandbox.finish(child.wait_with_output().unwrap(), &["a part"])))
        .collect();
    let sent: Vec<_> = reports.iter().flat_map(titles).collect();
    assert_eq!(sent.len(), SHARDS.len() + 1);
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), sent.len(), "each layer is in one part: {sent:?}");
    let bytes: Vec<_> = reports.iter().map(|report| number(report, "bytes")).collect();
    assert!(bytes.iter().max().unwrap() - bytes.iter().min().unwrap() <= 9 * MIB + 2048, "{bytes:?}");
    // One layer was there; of the other the registry may keep what came.
    assert!(number(&reports[1], "bytes_found") >= 4 * MIB, "{}", reports[1]);
    assert!(number(&reports[1], "bytes_sent") < bytes[1] - 4 * MIB + 4096, "{}", reports[1]);
    assert_eq!(registry.tag("team/model", "1"), None);
    assert!(!sandbox.path("root/images").exists() && !sandbox.path("root/names").exists());

    let built = rest(&sandbox, "root", &name, &[]);
    assert_eq!(built.run.stderr, "", "nothing to warn of");
    assert!(built.number("bytes_read") < SMALL, "{}", built.image);
    assert!(built.outcomes().iter().all(|outcome| outcome == "present"), "{}", built.image);
    assert!(built.number("bytes_sent") < 10_000, "the config alone: {}", built.image);
    assert_eq!(sandbox.files_below("root/parts").len(), 0, "the notes are needed no more");
    let single = rest(&sandbox, "fresh", &registry.name("single:1"), &[]);
    assert_eq!(built.digest(), single.digest());
    let image = copied(&sandbox, &name, "copied");
    assert_eq!(image.node("models/config.json"), &Node::file(b"{}", 0o644));
    let shard = fs::read(sandbox.file("model/shard-3")).unwrap();
    assert_eq!(image.node("models/shard-3"), &Node::file(&shard, 0o644));
}

#[test]
fn a_part_that_is_missing_is_named_and_sent_by_the_build_after() {
    for with_files in [false, true] {
        let (sandbox, registry) = (model(), Registry::start());
        let name = registry.name("model:1");
        let more: &[&str] = if with_files { &["--part-file", "parts"] } else { &[] };
        // With files, each machine has a root directory of its own.
        let root = |of: &str| if with_files { format!("root-{of}") } else { "root".to_owned() };
        let missing = part(&sandbox, "elsewhere", &registry.name("other:1"), "2/3", &[]);
        for number in ["1/3", "3/3"] {
            part(&sandbox, &root(&number[..1]), &name, number, more);
        }
        let what = if with_files { "has left no file" } else { "did not run" };
        let said = [&format!("part 2 of 3 {what}")[..], "3 layers, 1", "with --part 2/3"];
        let strict = args("root", &name, &[more, &["--strict"]].concat()).into_iter().map(str::to_owned);
        let strict: Vec<_> = strict.map(|arg| if arg == "root" { root("final") } else { arg }).collect();
        let strict: Vec<_> = strict.iter().map(String::as_str).collect();
        sandbox.run(&strict).failed(3).says(&said);
        assert_eq!(registry.tag("model", "1"), None);
        let built = rest(&sandbox, &root("final"), &name, more);
        for part in said {
            assert!(built.run.stderr.contains(part), "{part:?} is missing\n{}", built.run);
        }
        let read: u64 = number(&missing, "bytes");
        assert!(built.number("bytes_read") <= read, "the missing part alone: {}", built.image);
        assert_eq!(built.outcomes().iter().filter(|outcome| *outcome == "sent").count(), 3);
        let single = rest(&sandbox, "fresh", &registry.name("single:1"), &[]);
        assert_eq!(built.digest(), single.digest());
        // What is done is not warned of again.
        if !with_files {
            assert_eq!(rest(&sandbox, "root", &name, &["--strict"]).run.stderr, "");
        }
    }
}

/// `--strict` is for what is to be mended, and notes of earlier parts are not.
#[test]
fn notes_of_earlier_parts_are_no_fault_of_a_strict_build() {
    let registry = Registry::start();
    let sandbox = model();
    let name = registry.name("model:1");
    let run = |more: &[&str]| sandbox.run(&args("root", &name, more));
    // Begun with another number of parts.
    run(&["--part", "1/3"]).done();
    run(&["--part", "1/2"]).done();
    run(&["--part", "2/2"]).done();
    run(&["--strict"]).done();
    // Parts of files that have changed since, and a build that is about no parts.
    run(&["--part", "1/2"]).done();
    sandbox.write("model/config.json", "{\"changed\": true}");
    make_old(&sandbox.file("model/config.json"));
    run(&["--strict"]).done().says(&["is of another plan"]);
}

#[test]
fn what_cannot_be_sent_in_parts_is_refused_by_name() {
    let sandbox = Sandbox::small();
    let name = "127.0.0.1:9/model:1";
    for (part, reason) in [
        ("0/4", "counted from 1 to 4"),
        ("5/4", "counted from 1 to 4"),
        ("4", "write I/N"),
        ("a/b", "write I/N"),
        ("1/0", "N is at least 1"),
        ("1/2000", "1000 parts at most"),
    ] {
        sandbox
            .run(&args("root", name, &["--part", part]))
            .failed(2)
            .says(&[reason, &format!("--part {part}")]);
    }
    for more in [
        &["--output", "oci:layout"][..],
        &["--digestfile", "digest"],
        &["--iidfile", "id"],
        &["--iidfile-raw", "id"],
        &["--no-memo"],
        &["--trust-layers-of", "127.0.0.1:9/model:1"],
    ] {
        let more = [&["--part", "1/2"], more].concat();
        sandbox.run(&args("root", name, &more)).failed(2).says(&["--part 1/2", more[2]]);
    }
    for more in [&["--part", "1/2"], &["--part-file", "tmp"]] {
        sandbox.build(&[&["-t", "model"], &more[..]].concat()).failed(2).says(&["add --push", more[0]]);
    }
    for (directory, reason) in [
        ("nowhere", "there is no such directory"),
        ("storage.conf", "no directory"),
        ("context", "build context"),
    ] {
        sandbox.run(&args("root", name, &["--part-file", directory])).failed(2).says(&[reason, directory]);
    }
    let more = ["--part-file", "tmp", "--no-memo"];
    sandbox.run(&args("root", name, &more)).failed(2).says(&["--part-file tmp and --no-memo"]);
    let no_home = sandbox
        .command(&["build", "--push", "-t", name, "--part", "1/2", "context"])
        .env_remove("HOME")
        .output();
    sandbox.finish(no_home.unwrap(), &["without a home"]).failed(2).says(&["--part-file"]);
    assert!(!sandbox.path("root").exists() && !sandbox.path("layout").exists());
}

#[test]
fn files_that_came_through_a_pipe_are_no_part() {
    let (sandbox, registry) = (Sandbox::small(), Registry::start());
    let piped =
        "tar -C context -cf - . | \"$CROSSDOCK\" build --push --part 1/2 --tls-verify=false -t \"$NAME\" -";
    let mut command = sandbox.command_of("bash");
    command
        .args(["-c", piped])
        .env("CROSSDOCK", env!("CARGO_BIN_EXE_crossdock"))
        .env("NAME", registry.name("model:1"));
    sandbox
        .finish(command.output().unwrap(), &[piped])
        .failed(3)
        .says(&["came through a pipe", "--part 1/2"]);
}

#[test]
fn a_file_that_changed_since_its_part_is_read_again_and_right() {
    for with_files in [false, true] {
        let (sandbox, registry) = (model(), Registry::start());
        let name = registry.name("model:1");
        let more: &[&str] = if with_files { &["--part-file", "parts"] } else { &[] };
        for number in ["1/2", "2/2"] {
            part(&sandbox, "root", &name, number, more);
        }
        let changed = noise(3 << 20, 77);
        sandbox.write("model/shard-4", &changed);
        let built = rest(&sandbox, if with_files { "fresh" } else { "root" }, &name, more);
        assert!(built.run.stderr.contains("is of another plan"), "{}", built.run);
        assert_eq!(built.number("bytes_read"), 3 * MIB, "that file alone: {}", built.image);
        let image = copied(&sandbox, &name, "copied");
        assert_eq!(image.node("models/shard-4"), &Node::file(&changed, 0o644));
        let single = rest(&sandbox, "other", &registry.name("single:1"), &[]);
        assert_eq!(built.digest(), single.digest());
    }
}

#[test]
fn part_files_that_are_of_something_else_are_named() {
    let (sandbox, registry) = (model(), Registry::start());
    let name = registry.name("model:1");
    let files = ["--part-file", "parts"];
    for number in ["1/2", "2/2"] {
        part(&sandbox, "root", &name, number, &files);
    }
    part(&sandbox, "root", &name, "3/3", &files);
    let path = |name: &str| sandbox.path("parts").join(name);
    fs::copy(path("part-1-of-2.json"), path("part-1-of-2 (1).json")).unwrap();
    fs::write(path("part-4-of-4.json"), "{\"version\":1,").unwrap();
    let built = rest(&sandbox, "fresh", &name, &files);
    for said in [
        "part-3-of-3.json is of 3 parts, and the others are of 2",
        "part-1-of-2 (1).json says that it is part 1 of 2",
        "part-4-of-4.json is not used: it is damaged",
    ] {
        assert!(built.run.stderr.contains(said), "{said:?} is missing\n{}", built.run);
    }
    assert!(built.number("bytes_read") < SMALL, "{}", built.image);

    // To another repository: the registry is asked, and what it knows is taken over.
    let other = registry.name("other:1");
    let built = rest(&sandbox, "fresh-2", &other, &files);
    assert!(built.run.stderr.contains("is of a push to"), "{}", built.run);
    let single = rest(&sandbox, "root-3", &registry.name("single:1"), &[]);
    assert_eq!(built.digest(), single.digest());

    fs::remove_dir_all(sandbox.path("parts")).unwrap();
    fs::create_dir(sandbox.path("parts")).unwrap();
    let built = rest(&sandbox, "fresh-4", &registry.name("third:1"), &files);
    assert!(built.run.stderr.contains("there is no part file that can be used in parts"), "{}", built.run);
}

#[test]
fn a_layer_that_the_registry_lost_is_sent_again_and_said() {
    for more in [&[][..], &["--part-file", "parts"]] {
        let (sandbox, registry) = (model(), Registry::start());
        let name = registry.name("model:1");
        let first = part(&sandbox, "root", &name, "1/2", more);
        part(&sandbox, "root", &name, "2/2", more);
        let lost = &first["layers"][1];
        fs::remove_file(registry.blob(lost["digest"].as_str().unwrap())).unwrap();
        let built = rest(&sandbox, "root", &name, more);
        let said = "the registry no longer had 1 layer that part 1/2 had sent";
        assert!(built.run.stderr.contains(said), "{}", built.run);
        assert_eq!(built.outcomes().iter().filter(|outcome| *outcome == "sent").count(), 1);
        assert_eq!(built.run.stderr.lines().count(), 1, "{}", built.run);
        let image = copied(&sandbox, &name, "copied");
        let shard = fs::read(sandbox.file("model/shard-0")).unwrap();
        assert_eq!(image.node("models/shard-0"), &Node::file(&shard, 0o644));
    }
}

/// Sends a context in `of` parts, each from a root directory of its own, and compares with one build.
fn in_parts(sandbox: &Sandbox, registry: &Registry, of: u32, more: &[&str]) -> Vec<Value> {
    let (name, files) = (registry.name("model:1"), ["--part-file", "parts"]);
    let more = [&files[..], more].concat();
    let reports: Vec<_> = (1..=of)
        .map(|number| part(sandbox, &format!("root-{number}"), &name, &format!("{number}/{of}"), &more))
        .collect();
    let run = sandbox.run(&args("fresh", &name, &more)).done();
    assert_eq!(run.stderr, "", "{more:?}");
    let built: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    assert!(number(&built, "bytes_read") < SMALL, "{more:?}: {built}");
    assert!(number(&built, "bytes_sent") < 20_000, "{more:?}: {built}");
    let single = sandbox.run(&args("single", &registry.name("single:1"), &more[2..])).done();
    let single: Value = serde_json::from_str(single.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(built["digest"], single["digest"], "{more:?}");
    reports
}

#[test]
fn compressed_layers_are_sent_in_parts() {
    for compression in ["zstd", "gzip"] {
        let (sandbox, registry) = (model(), Registry::start());
        let reports = in_parts(&sandbox, &registry, 3, &["--compression-format", compression]);
        assert!(reports.iter().all(|report| number(report, "bytes_sent") > MIB));
    }
}

#[test]
fn parts_that_have_no_layer_end_at_once() {
    let (sandbox, registry) = (model(), Registry::start());
    let reports = in_parts(&sandbox, &registry, 3, &["--squash"]);
    assert_eq!(reports.iter().map(|report| titles(report).len()).collect::<Vec<_>>(), [1, 0, 0]);
    assert_eq!(reports[1..].iter().map(|report| number(report, "bytes_read")).sum::<u64>(), 0);
    let name = registry.name("model:2");
    let text = ["--root", "root", "build", "--push", "--tls-verify=false", "-t", &name, "--squash", "--part"];
    let run = sandbox.run(&[&text[..], &["2/3", "context"]].concat()).done();
    assert!(run.stdout.contains("part     2 of 3 has no layers: the image has 1 in all"), "{run}");
    let run = sandbox.run(&[&text[..], &["1/3", "context"]].concat()).done();
    for said in ["part     1 of 3: 1 of 1 layers", "run the same command without --part 1/3", "no tag moved"]
    {
        assert!(run.stdout.contains(said), "{said:?} is missing\n{run}");
    }
    assert_eq!(sandbox.run(&[&text[..], &["1/3", "-q", "context"]].concat()).done().stdout, "");
}

#[test]
fn layers_of_bases_and_of_all_platforms_are_in_one_part_each() {
    let (sandbox, elsewhere, registry) = (model(), Registry::start(), Registry::start());
    let base = elsewhere.name("base:1");
    let base_of = |seed: u64| Base::new().with_file("opt/large", &noise(2 << 20, seed));
    let bases = [base_of(1), base_of(2).for_architecture("arm64")];
    crate::support::base::push_index(&bases, &base);
    sandbox.containerfile(&format!("FROM {base}\nCOPY model /models\n"));
    let reports = in_parts(&sandbox, &registry, 3, &["--platform", "linux/amd64,linux/arm64"]);
    let digests = |report: &Value| -> Vec<String> {
        let layers = report["layers"].as_array().unwrap();
        layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    };
    let all: Vec<_> = reports.iter().flat_map(digests).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
    let from_base = reports.iter().flat_map(|report| report["layers"].as_array().unwrap());
    assert!(from_base.filter(|layer| layer["from_base"] == true && layer["outcome"] == "sent").count() >= 2);
    assert_eq!(number(&reports[0], "image_layers"), all.len() as u64);
}

#[test]
fn a_dry_run_shows_the_share_whatever_order_the_files_came_in() {
    let registry = Registry::start();
    let name = registry.name("model:1");
    let shares = |reversed: bool| -> Vec<Vec<(String, u64)>> {
        let sandbox = Sandbox::new();
        sandbox.containerfile("FROM scratch\nCOPY model /models\n");
        let mut shards: Vec<_> = (0..12_u64).collect();
        if reversed {
            shards.reverse();
        }
        for shard in shards {
            write_large(&sandbox.file(&format!("model/{shard}")), (1 + shard / 3) * MIB, shard);
        }
        let of = |part: &str| {
            let run = sandbox.run(&args("root", &name, &["--dry-run", "--part", part])).done();
            let plan: Value = serde_json::from_str(&run.stdout).unwrap();
            let layers = plan["destinations"][0]["layers"][0].as_array().unwrap();
            let bytes: u64 = layers
                .iter()
                .filter(|layer| layer["part"] == plan["part"])
                .map(|layer| layer["bytes_read"].as_u64().unwrap())
                .sum();
            assert_eq!(plan["destinations"][0]["bytes_read"], bytes, "{plan}");
            let named = |layer: &Value| {
                (layer["title"].as_str().unwrap().to_owned(), layer["part"].as_u64().unwrap())
            };
            layers.iter().map(named).collect::<Vec<_>>()
        };
        let shares = ["1/3", "2/3"].map(of).to_vec();
        assert!(!sandbox.path("root/parts").exists(), "nothing is written");
        let text = ["--root", "root", "build", "--push", "--dry-run", "--tls-verify=false", "-t", &name];
        let run = sandbox.run(&[&text[..], &SPLIT, &["--part", "2/3", "context"]].concat()).done();
        assert!(run.stdout.contains("part     2 of 3: 4 of 12 layers"), "{run}");
        shares
    };
    let shares = [shares(false), shares(true)].concat();
    assert!(shares.iter().all(|share| *share == shares[0]), "{shares:?}");
}

#[test]
fn notes_that_nobody_came_back_for_are_pruned() {
    let (sandbox, registry) = (model(), Registry::start());
    part(&sandbox, "root", &registry.name("model:1"), "1/2", &[]);
    assert_eq!(sandbox.files_below("root/parts").len(), 1);
    sandbox.run(&["--root", "root", "prune"]).done();
    assert_eq!(sandbox.files_below("root/parts").len(), 1, "it is new");
    sandbox.run(&["--root", "root", "prune", "--memos"]).done();
    assert_eq!(sandbox.files_below("root/parts").len(), 0);
    assert!(Path::new(&sandbox.path("root")).exists());
}

/// The Jobs of docs/kubernetes.md, in the order in which they are run.
fn documented_jobs(text: &str) -> Vec<Yaml<'_>> {
    let blocks = text.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap());
    let documents = blocks.flat_map(|block| Yaml::load_from_str(block).unwrap());
    documents.filter(|document| document["kind"].as_str() == Some("Job")).collect()
}

#[test]
fn the_documented_jobs_send_the_parts_and_make_the_image() {
    let (sandbox, registry) = (model(), Registry::start());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kubernetes.md");
    let text = fs::read_to_string(page).unwrap();
    let jobs = documented_jobs(&text);
    assert_eq!(jobs.len(), 2);
    let conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.addr());
    fs::write(sandbox.path("registries.conf"), conf).unwrap();
    let crossdock = format!("exec {}", env!("CARGO_BIN_EXE_crossdock"));
    let mut last = String::new();
    for job in &jobs {
        let pod = &job["spec"]["template"]["spec"];
        // What the pod security standard `restricted` asks for.
        assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"].as_str(), Some("RuntimeDefault"));
        let container = &pod["containers"][0];
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false));
        assert_eq!(security["capabilities"]["drop"][0].as_str(), Some("ALL"));
        assert_eq!(pod["restartPolicy"].as_str(), Some("Never"));
        let mounts = container["volumeMounts"].as_vec().unwrap();
        let volumes: BTreeSet<_> =
            pod["volumes"].as_vec().unwrap().iter().map(|volume| volume["name"].as_str()).collect();
        assert!(mounts.iter().all(|mount| volumes.contains(&mount["name"].as_str())));
        let script = container["args"][0].as_str().unwrap();
        let script = script
            .replace("exec crossdock", &crossdock)
            .replace("/cache", &sandbox.path("cache").display().to_string())
            .replace("/source", &sandbox.context().display().to_string())
            .replace("--push", "--push --layer-file-size 1MiB");
        let indexes =
            job["spec"].as_mapping_get("completions").map_or(1, |number| number.as_integer().unwrap());
        for index in 0..indexes {
            let mut command = sandbox.command_of("/bin/sh");
            command
                .args(["-c", &script])
                .env("CONTAINERS_REGISTRIES_CONF", sandbox.path("registries.conf"))
                .env("IMAGE", registry.name("models/large:1"))
                .env("JOB_COMPLETION_INDEX", index.to_string());
            assert_eq!(registry.tag("models/large", "1"), None);
            last = sandbox.finish(command.output().unwrap(), &[&script]).done().stdout;
        }
    }
    assert!(last.contains("read     0 B of the context's files"), "{last}");
    assert!(registry.tag("models/large", "1").is_some());
}

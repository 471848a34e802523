//! What `--dry-run` says, and that it does nothing.

use serde_json::Value;

use crate::support::base::Base;
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::{architecture, make_old, write_large, write_sparse};

fn plan(sandbox: &Sandbox, args: &[&str]) -> Value {
    let args = [&["--dry-run", "--progress", "json", "--tls-verify=false"], args].concat();
    let run = sandbox.build(&args).done();
    assert_eq!(run.stderr, "");
    let plan: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(plan["event"], "plan");
    plan
}

fn column(plan: &Value, image: usize, name: &str) -> Vec<Value> {
    let layers = plan["destinations"][0]["layers"][image].as_array().unwrap();
    layers.iter().map(|layer| layer[name].clone()).collect()
}

/// A base on a registry, a small file, and a large one of half a tebibyte that takes no room.
fn model(registry: &Registry) -> Sandbox {
    let sandbox = Sandbox::new();
    Base::new().push(&registry.name("base:1"));
    sandbox.containerfile(&format!(
        "FROM {} AS system\nFROM system\nCOPY model /models\nUSER 1001\n",
        registry.name("base:1")
    ));
    sandbox.write("model/config.json", "{}");
    write_sparse(&sandbox.file("model/shard"), 512 << 30);
    sandbox
}

/// Digests that depend on the machine taken out: words of 12 or 64 hexadecimal digits.
fn without_digests(text: &str) -> String {
    let hidden = |word: &str| {
        let digits = word.trim_matches([',', ')']).trim_start_matches("sha256:");
        let is = matches!(digits.len(), 12 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if is { word.replace(digits, "[DIGEST]") } else { word.to_owned() }
    };
    let line = |line: &str| line.split(' ').map(hidden).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_plan_of_a_huge_model_is_there_at_once_and_nothing_is_touched() {
    let registry = Registry::start();
    let sandbox = model(&registry);
    let name = registry.name("team/model:1");
    let text = sandbox.build(&["--dry-run", "--push", "--tls-verify=false", "-t", &name]).done().stdout;
    let addr = registry.addr().to_string();
    let names = [(addr.as_str(), "[REGISTRY]"), (architecture(), "[ARCH]")];
    insta::assert_snapshot!(without_digests(&sandbox.shown(&text, &names)));
    assert_eq!(registry.open_uploads("team/model"), 0);
    assert_eq!(registry.tag("team/model", "1"), None);
    for place in ["home", "tmp", "run"] {
        assert!(sandbox.files_below(place).is_empty(), "{:?}", sandbox.files_below(place));
    }
}

#[test]
fn nothing_but_questions_goes_to_the_registry() {
    let registry = Registry::start();
    let sandbox = model(&registry);
    let proxy = registry.proxy();
    let name = format!("{}/team/model:1", proxy.addr());
    sandbox.build(&["--dry-run", "--push", "--tls-verify=false", "-t", &name]).done();
    let methods: Vec<_> = proxy.seen().into_iter().map(|request| request.method).collect();
    assert!(!methods.is_empty());
    assert!(methods.iter().all(|method| method == "GET" || method == "HEAD"), "{methods:?}");
}

#[test]
fn the_plan_is_what_the_build_then_does() {
    let registry = Registry::start();
    let sandbox = Sandbox::new();
    Base::new().push(&registry.name("base:1"));
    sandbox.containerfile(&format!("FROM {}\nCOPY model /models\n", registry.name("base:1")));
    let small = sandbox.write("model/config.json", "{}");
    let large = sandbox.file("model/shard");
    write_large(&large, 2 << 20, 9);
    make_old(&small);
    make_old(&large);
    // What was written within the last two seconds is not remembered.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let name = registry.name("team/model:1");
    let args = ["--push", "-t", &name, "--layer-file-size", "1MiB"];
    for round in 0..2 {
        let planned = plan(&sandbox, &args);
        let built = sandbox.built(&args);
        let outcomes: Vec<_> = column(&planned, 0, "outcome");
        assert_eq!(outcomes, built.outcomes(), "round {round}");
        assert_eq!(column(&planned, 0, "title"), built.titles());
        let media_types =
            built.image["layers"].as_array().unwrap().iter().map(|layer| layer["media_type"].clone());
        assert_eq!(column(&planned, 0, "media_type"), media_types.collect::<Vec<_>>());
        let sizes: Vec<u64> = built.image["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| layer["size"].as_u64().unwrap())
            .collect();
        assert_eq!(column(&planned, 0, "bytes"), sizes);
        assert_eq!(planned["destinations"][0]["bytes_read"], built.number("bytes_read"));
        let known: Vec<_> = column(&planned, 0, "digest").iter().map(|digest| !digest.is_null()).collect();
        assert_eq!(known, if round == 0 { [true, true, false, false] } else { [true; 4] });
    }
}

#[test]
fn a_plan_for_several_platforms_counts_what_they_share_once() {
    let sandbox = Sandbox::new();
    sandbox.containerfile("FROM scratch\nCOPY model /models\n");
    write_large(&sandbox.file("model/shard"), 1 << 20, 9);
    let planned = plan(&sandbox, &["--platform", "linux/amd64,linux/arm64", "-t", "llama"]);
    assert_eq!(planned["list"], true);
    assert_eq!(planned["images"][1]["platform"], "linux/arm64");
    assert_eq!(column(&planned, 0, "shared"), [false]);
    assert_eq!(column(&planned, 1, "shared"), [true]);
    assert_eq!(planned["destinations"][0]["bytes_read"], 1 << 20);
    assert_eq!(planned["destinations"][0]["name"], "remembered as localhost/llama:latest");
    assert!(sandbox.files_below("home").is_empty());
}

#[test]
fn what_cannot_be_built_is_refused_as_the_build_refuses_it() {
    let sandbox = Sandbox::small();
    sandbox.containerfile("FROM scratch\nRUN make\n");
    sandbox.build(&["--dry-run"]).failed(3).says(&["RUN"]);
    sandbox.containerfile("FROM scratch\nCOPY nosuch /\n");
    sandbox.build(&["--dry-run"]).failed(3).says(&["nosuch"]);
}

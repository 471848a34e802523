//! The model check beside the libraries of the formats, as PyPI has them: what they read is whole, what they do not is broken;
//! and a model that people use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::sandbox::Sandbox;

/// A Python, and the directory with its packages; downloaded once.
fn libraries() -> (String, PathBuf) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-data");
    let output = Command::new(&script).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} downloads from PyPI: {stderr}", script.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let (python, packages) = text.trim_end().split_once('\n').unwrap();
    (python.to_owned(), packages.into())
}

/// The findings about a model, by the name of the file.
fn findings(sandbox: &Sandbox) -> BTreeMap<String, Vec<Value>> {
    let run = sandbox.build(&["--dry-run", "--model-check=warn", "--progress=json"]).done();
    let plan: Value = serde_json::from_str(&run.stdout).unwrap();
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for finding in plan["model"]["findings"].as_array().unwrap() {
        for path in finding["paths"].as_array().unwrap() {
            let name = path.as_str().unwrap().rsplit('/').next().unwrap();
            found.entry(name.to_owned()).or_default().push(finding.clone());
        }
    }
    found
}

#[test]
fn what_the_libraries_of_the_formats_read_is_whole_and_the_rest_is_broken() {
    let sandbox = Sandbox::small();
    let (python, packages) = libraries();
    // The package itself wants torch; its files are what is asked for.
    let data = packages.join("silero_vad/data");
    let paths = format!(
        "WEIGHTS = {:?}\nPROGRAM = {:?}\n",
        data.join("silero_vad_16k.safetensors"),
        data.join("silero_vad.jit")
    );
    fs::write(sandbox.path("tmp/silero_vad_data.py"), paths).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/data/models.py");
    let mut command = sandbox.command_of(&python);
    let places = std::env::join_paths([packages, sandbox.path("tmp")]).unwrap();
    command.env("PYTHONPATH", places).arg(script).arg(sandbox.file("model"));
    let run = sandbox.finish(command.output().unwrap(), &["models.py"]).done();
    let mut whole: BTreeMap<String, bool> = serde_json::from_str(&run.stdout).unwrap();
    whole.remove("config.json");
    assert!(whole.len() > 200 && whole.values().filter(|whole| **whole).count() > 40, "{whole:?}");

    let found = findings(&sandbox);
    let is_broken = |name: &String| {
        let of_file = |finding: &&Value| finding["severity"] == "broken";
        found.get(name).into_iter().flatten().find(of_file)
    };
    let wrong: Vec<_> = whole
        .iter()
        .filter(|(name, whole)| is_broken(name).is_none() != **whole)
        .map(|(name, whole)| format!("{name}: read by its library: {whole}; {:?}", is_broken(name)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // TorchScript is a program.
    assert!(found["silero.pt"].iter().any(|finding| finding["rule"] == "pickle"), "{:?}", found["silero.pt"]);
    assert!(!found.contains_key("split-00002-of-00003.gguf"), "{found:?}");
    fs::remove_file(sandbox.file("model/split-00002-of-00003.gguf")).unwrap();
    let found = findings(&sandbox);
    assert_eq!(found["split-00001-of-00003.gguf"][0]["rule"], "shards");
}

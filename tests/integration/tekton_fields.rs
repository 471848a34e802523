//! Our YAML held against what Tekton's custom resource definitions know: a wrong apiVersion or a misspelt field is refused
//! by a cluster, and by nothing that runs on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::Value;

/// The fields of the kinds, as the file says itself.
const FIELDS: &str = include_str!("data/tekton-fields.json");

/// What Kubernetes itself serves, of the kinds that we use.
const KUBERNETES: [(&str, &str); 11] = [
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    // Of docs/serving.md: `serving_fields` looks at them.
    ("serving.kserve.io/v1beta1", "InferenceService"),
    ("batch/v1", "Job"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
];

/// Runs of tasks have no table of fields: their apiVersion is checked.
const RUNS: [&str; 2] = ["TaskRun", "PipelineRun"];

/// A document of one of our files.
struct Document {
    place: String,
    text: String,
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below tekton/, and the YAML blocks in the docs that say which kind they are.
fn documents() -> Vec<Document> {
    let mut documents = Vec::new();
    for path in files("tekton", "yaml") {
        documents
            .push(Document { place: path.display().to_string(), text: fs::read_to_string(&path).unwrap() });
    }
    for path in files("docs", "md") {
        let text = fs::read_to_string(&path).unwrap();
        for (index, block) in text.split("```yaml\n").skip(1).enumerate() {
            let block = block.split("```").next().unwrap();
            if block.starts_with("apiVersion:") {
                let place = format!("{}, YAML block {}", path.display(), index + 1);
                documents.push(Document { place, text: block.to_owned() });
            }
        }
    }
    documents
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(checkout().join(directory)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

/// What is wrong with a text of YAML documents, each fault with its place in the document.
fn faults(text: &str) -> Vec<String> {
    let kinds: Value = serde_json::from_str(FIELDS).unwrap();
    let documents = Yaml::load_from_str(text).unwrap();
    documents.iter().flat_map(|document| faults_of(document, &kinds["kinds"])).collect()
}

fn faults_of(document: &Yaml<'_>, kinds: &Value) -> Vec<String> {
    let word = |name: &str| document.as_mapping_get(name).and_then(Yaml::as_str).unwrap_or_default();
    let (api, kind) = (word("apiVersion"), word("kind"));
    if KUBERNETES.contains(&(api, kind)) {
        return Vec::new();
    }
    if RUNS.contains(&kind) {
        let known = api == "tekton.dev/v1";
        return if known { Vec::new() } else { vec![format!("{api} {kind} is not served")] };
    }
    let Some(known) = kinds.get(kind) else { return vec![format!("{api} {kind} is no kind of Tekton's")] };
    let served = |version: &&str| {
        known["versions"].as_array().unwrap().iter().any(|served| served.as_str() == Some(version))
    };
    let group = format!("{}/", known["group"].as_str().unwrap());
    if api.strip_prefix(&group).filter(served).is_none() {
        return vec![format!("{api} {kind} is not served: {group}{} is", known["storage"].as_str().unwrap())];
    }
    let mut faults = Vec::new();
    for (name, _) in document.as_mapping().unwrap() {
        if !["apiVersion", "kind", "metadata", "spec"].contains(&name.as_str().unwrap_or_default()) {
            faults.push(format!("{kind} has no field {name:?}"));
        }
    }
    match document.as_mapping_get("spec") {
        Some(spec) => compare(spec, &known["spec"], "spec", kinds, &mut faults),
        None => faults.push(format!("{kind} has no spec")),
    }
    faults
}

/// Compares a value with the type that the definitions have for it.
fn compare(value: &Yaml<'_>, wanted: &Value, place: &str, kinds: &Value, faults: &mut Vec<String>) {
    // A task inside a pipeline is open in the definitions, and checked by Tekton as a task.
    if place.ends_with(".taskSpec") {
        return compare(value, &kinds["Task"]["spec"], &format!("{place}:"), kinds, faults);
    }
    match wanted {
        Value::Array(items) => match value.as_vec() {
            Some(values) => values
                .iter()
                .enumerate()
                .for_each(|(at, value)| compare(value, &items[0], &format!("{place}[{at}]"), kinds, faults)),
            None => faults.push(format!("{place} must be a list")),
        },
        Value::Object(fields) => {
            let Some(mapping) = value.as_mapping() else {
                return faults.push(format!("{place} must be a map"));
            };
            for (name, value) in mapping {
                let name = name.as_str().unwrap_or_default();
                let field = fields.get(name).or_else(|| fields.get(&format!("{name}!")));
                match field.or_else(|| fields.get("*")) {
                    Some(wanted) => compare(value, wanted, &format!("{place}.{name}"), kinds, faults),
                    None => faults.push(format!("{place} has no field {name}")),
                }
            }
            for required in fields.keys().filter_map(|name| name.strip_suffix('!')) {
                if value.as_mapping_get(required).is_none() {
                    faults.push(format!("{place} lacks the field {required}"));
                }
            }
        }
        Value::String(kind) => {
            let fits = match kind.as_str() {
                "string" => value.as_str().is_some(),
                "boolean" => value.as_bool().is_some(),
                "integer" => value.as_integer().is_some(),
                "string|integer" => value.as_str().is_some() || value.as_integer().is_some(),
                _ => true,
            };
            if !fits {
                faults.push(format!("{place} must be {kind}"));
            }
        }
        other => panic!("{place}: {other} in the table is no type"),
    }
}

#[test]
fn our_yaml_has_kinds_versions_and_fields_that_tekton_knows() {
    let documents = documents();
    assert!(documents.len() >= 5, "the files below tekton/ are read");
    for Document { place, text } in documents {
        assert_eq!(faults(&text), Vec::<String>::new(), "{place}");
    }
}

#[test]
fn what_a_cluster_would_refuse_is_a_fault() {
    let refused = [
        ("apiVersion: tekton.dev/v1\nkind: StepAction\nspec: {image: x}\n", "tekton.dev/v1beta1 is"),
        ("apiVersion: tekton.dev/v1\nkind: Taskk\nspec: {}\n", "is no kind"),
        (
            "apiVersion: tekton.dev/v1\nkind: Task\nspec: {steps: [{image: x, scrip: y}]}\n",
            "has no field scrip",
        ),
        ("apiVersion: tekton.dev/v1\nkind: Task\nspec: {params: [{default: y}]}\n", "lacks the field name"),
        ("apiVersion: tekton.dev/v1\nkind: Task\nspec: {steps: {image: x}}\n", "must be a list"),
        (
            "apiVersion: tekton.dev/v1\nkind: Task\nspec: {steps: [{env: [{name: a, value: 1}]}]}\n",
            "must be string",
        ),
        (
            "apiVersion: tekton.dev/v1\nkind: Pipeline\nspec: {tasks: [{name: a, taskSpec: {stepps: []}}]}\n",
            "has no field stepps",
        ),
        ("apiVersion: tekton.dev/v1beta1\nkind: TaskRun\nspec: {}\n", "is not served"),
    ];
    for (text, fault) in refused {
        let found = faults(text);
        assert!(found.iter().any(|found| found.contains(fault)), "{text}: {found:?}");
    }
}

/// Tekton writes the credentials of annotated secrets to $HOME, and fails where that is on a read-only root.
#[test]
fn every_step_with_a_read_only_root_has_a_writable_home() {
    let mut steps = 0;
    for path in files("tekton", "yaml") {
        let text = fs::read_to_string(&path).unwrap();
        for document in Yaml::load_from_str(&text).unwrap() {
            let Some(spec) = document.as_mapping_get("spec") else { continue };
            let of_task = spec.as_mapping_get("steps").and_then(Yaml::as_vec);
            let read_only = |step: &Yaml<'_>| {
                let security = step.as_mapping_get("securityContext");
                security.is_some_and(|security| security["readOnlyRootFilesystem"].as_bool() == Some(true))
            };
            let template = spec.as_mapping_get("stepTemplate").is_some_and(read_only);
            for step in of_task.map_or_else(|| vec![spec], |steps| steps.iter().collect()) {
                if !template && !read_only(step) {
                    continue;
                }
                steps += 1;
                let env = step.as_mapping_get("env").and_then(Yaml::as_vec);
                let home = env.and_then(|env| env.iter().find(|one| one["name"].as_str() == Some("HOME")));
                let home = home.and_then(|home| home["value"].as_str());
                assert_eq!(home, Some("/tekton/home"), "{}", path.display());
            }
        }
    }
    assert_eq!(steps, 3, "task, verify and stepaction");
}

//! The YAML of docs/serving.md held against what Kubernetes and KServe know: a misspelt field, or one in the wrong place, is
//! refused by a cluster, and by nothing that runs on this machine.

use std::fs;
use std::path::Path;

use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::{Map, Value};

/// The fields of the kinds, as the file says itself.
const FIELDS: &str = include_str!("data/serving-fields.json");

/// The blocks of the page that are YAML.
fn blocks() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/serving.md");
    let text = fs::read_to_string(page).unwrap();
    text.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// What is wrong with a text of YAML documents.
fn faults(text: &str) -> Vec<String> {
    let table: Value = serde_json::from_str(FIELDS).unwrap();
    let mut faults = Vec::new();
    for document in Yaml::load_from_str(text).unwrap() {
        let kind = document.as_mapping_get("kind").and_then(Yaml::as_str).unwrap_or_default().to_owned();
        let api = document.as_mapping_get("apiVersion").and_then(Yaml::as_str).unwrap_or_default();
        let served = match kind.as_str() {
            "Deployment" => "apps/v1",
            "InferenceService" => "serving.kserve.io/v1beta1",
            _ => "v1",
        };
        match table["kinds"].get(&kind) {
            Some(wanted) if api == served => compare(&document, wanted, &kind, &table, &mut faults),
            _ => faults.push(format!("{api} {kind} is not in the table")),
        }
    }
    faults
}

/// Compares a value with the type that the schemas have for it.
fn compare(value: &Yaml<'_>, wanted: &Value, place: &str, table: &Value, faults: &mut Vec<String>) {
    match wanted {
        Value::Array(items) => match value.as_vec() {
            Some(values) => {
                for (at, value) in values.iter().enumerate() {
                    compare(value, &items[0], &format!("{place}[{at}]"), table, faults);
                }
            }
            None => faults.push(format!("{place} must be a list")),
        },
        Value::Object(fields) => compare_fields(value, fields, place, table, faults),
        Value::String(kind) => match kind.strip_prefix('@') {
            Some(name) => compare(value, &table["definitions"][name], place, table, faults),
            None => {
                let (string, integer) = (value.as_str().is_some(), value.as_integer().is_some());
                let fits = match kind.as_str() {
                    "string" => string,
                    "boolean" => value.as_bool().is_some(),
                    "integer" => integer,
                    "number" => integer || value.as_floating_point().is_some(),
                    "string|integer" => string || integer,
                    "any" => true,
                    other => panic!("{place}: {other} in the table is no type"),
                };
                if !fits {
                    faults.push(format!("{place} must be {kind}"));
                }
            }
        },
        other => panic!("{place}: {other} in the table is no type"),
    }
}

fn compare_fields(
    value: &Yaml<'_>,
    fields: &Map<String, Value>,
    place: &str,
    table: &Value,
    faults: &mut Vec<String>,
) {
    let Some(mapping) = value.as_mapping() else { return faults.push(format!("{place} must be a map")) };
    for (name, value) in mapping {
        let name = name.as_str().unwrap_or_default();
        let field = fields.get(name).or_else(|| fields.get(&format!("{name}!"))).or_else(|| fields.get("*"));
        match field {
            Some(wanted) => compare(value, wanted, &format!("{place}.{name}"), table, faults),
            None => faults.push(format!("{place} has no field {name}")),
        }
    }
    for required in fields.keys().filter_map(|name| name.strip_suffix('!')) {
        if value.as_mapping_get(required).is_none() {
            faults.push(format!("{place} lacks the field {required}"));
        }
    }
}

#[test]
fn the_yaml_for_serving_has_kinds_and_fields_that_a_cluster_knows() {
    let blocks = blocks();
    assert!(blocks.len() >= 5, "the blocks of the page are found");
    for block in &blocks {
        assert_eq!(faults(block), Vec::<String>::new(), "{block}");
    }
    for word in ["oci://", "oci+native://", "oci+fetch://", "kind: Pod", "kind: Deployment"] {
        assert!(blocks.iter().any(|block| block.contains(word)), "{word}");
    }
}

#[test]
fn what_the_api_server_would_refuse_is_a_fault() {
    let pod = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    image: b\n";
    assert_eq!(faults(pod), Vec::<String>::new());
    let service = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec: {predictor: {model: ";
    for (text, fault) in [
        (format!("{pod}  volumes:\n  - name: m\n    image: {{referense: x}}\n"), "has no field referense"),
        (format!("{pod}  volumes:\n  - image: {{reference: x}}\n"), "lacks the field name"),
        (format!("{pod}  volumes: {{name: m}}\n"), "must be a list"),
        (format!("{pod}    volumeMounts: [{{name: m, mountPath: 1}}]\n"), "mountPath must be string"),
        (pod.replace("v1", "v2"), "is not in the table"),
        (format!("{service}{{modelFormat: {{version: x}}}}}}}}\n"), "lacks the field name"),
        (format!("{service}{{modelFormat: {{name: x}}, storageURI: x}}}}}}\n"), "has no field storageURI"),
    ] {
        let found = faults(&text);
        assert!(found.iter().any(|found| found.contains(fault)), "{text}: {found:?}");
    }
}

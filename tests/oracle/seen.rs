//! An image as rows compare it: one line for each fact.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::image::{Image, Kind, Node};

/// What the config says of a container.
const FIELDS: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
];

/// Facts by name: paths begin with `/`, fields of the config with a capital.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen(pub(crate) BTreeMap<String, String>);

impl Seen {
    pub(crate) fn of(image: &Image) -> Self {
        let mut facts = BTreeMap::new();
        for name in FIELDS {
            let mut value = image.config["config"][name].clone();
            if name == "Labels"
                && let Some(labels) = value.as_object_mut()
            {
                labels.remove("io.buildah.version");
            }
            // The order of variables means nothing, and buildah moves those that are set again.
            if name == "Env"
                && let Some(lines) = value.as_array_mut()
            {
                lines.sort_by_key(ToString::to_string);
            }
            add(&mut facts, name, &value);
        }
        for name in ["author", "architecture", "os", "variant"] {
            add(&mut facts, name, &image.config[name]);
        }
        let history = image.config["history"].as_array();
        facts.insert("history".to_owned(), format!("{} entries", history.map_or(0, Vec::len)));
        add(&mut facts, "mediaType", &image.manifest["mediaType"]);
        let mut annotations = image.manifest["annotations"].clone();
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.retain(|name, _| !name.starts_with("org.opencontainers.image.base."));
        }
        add(&mut facts, "annotations", &annotations);
        for (path, node) in image.files.iter().filter(|(path, _)| !path.is_empty() && *path != ".") {
            facts.insert(format!("/{path}"), line(node, image));
        }
        for names in &image.links {
            facts.insert(format!("{} are one file", names.join(" and ")), String::new());
        }
        Self(facts)
    }

    /// One line for each fact that differs: `name: theirs -> ours`.
    pub(crate) fn differences(theirs: &Self, ours: &Self) -> Vec<String> {
        let names = theirs.0.keys().chain(ours.0.keys());
        let mut lines: Vec<String> = names
            .filter(|name| theirs.0.get(*name) != ours.0.get(*name))
            .map(|name| {
                let shown = |seen: &Self| seen.0.get(name).map_or("-", String::as_str).to_owned();
                format!("{name}: {} -> {}", shown(theirs), shown(ours))
            })
            .collect();
        lines.sort();
        lines.dedup();
        lines
    }

    /// The facts without those that every image has.
    pub(crate) fn lines(&self) -> Vec<String> {
        let common = ["Env", "architecture", "history", "os", "mediaType"];
        self.0
            .iter()
            .filter(|(name, _)| !common.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {value}"))
            .collect()
    }
}

/// What is empty is as good as not there.
fn add(facts: &mut BTreeMap<String, String>, name: &str, value: &Value) {
    let empty = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    if !empty {
        facts.insert(name.to_owned(), value.to_string());
    }
}

fn line(node: &Node, image: &Image) -> String {
    let what = match &node.kind {
        Kind::Directory => "directory".to_owned(),
        Kind::Fifo => "FIFO".to_owned(),
        Kind::Device(letter, major, minor) => format!("device {letter} {major}:{minor}"),
        Kind::Symlink(target) => format!("link to {target}"),
        Kind::File { digest, len } => match image.texts.get(digest).map(|text| std::str::from_utf8(text)) {
            Some(Ok(text)) => format!("file {text:?}"),
            _ => format!("file of {len} bytes {digest}"),
        },
        Kind::HardLink(_) | Kind::Whiteout => panic!("{:?} in a tree", node.kind),
    };
    let (uid, gid) = node.owner;
    let mut line = format!("{:04o} {uid}:{gid} {what}", node.mode);
    for (name, value) in &node.xattrs {
        line.push_str(&format!(" {name}={}", value.escape_ascii()));
    }
    line
}

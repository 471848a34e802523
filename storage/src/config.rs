//! The image config, without loss.
//!
//! oci-spec's type has no room for Docker's `Healthcheck`, `OnBuild` and `Shell` and drops fields it does not know;
//! a base's config must come out of a build with everything it came in with. So these are our own types, with the
//! unknown fields kept, and sorted maps so that equal configs are equal bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::DiffId;
use crate::manifest_entry::EntryPlatform;
use crate::platform::Platform;

/// An image's config document (OCI image-spec, config.md; Docker's image.v1 config is a superset).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it: MAINTAINER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `GOARCH`.
    #[serde(default)]
    pub architecture: String,
    /// `GOOS`.
    #[serde(default)]
    pub os: String,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What a container of the image is run with.
    #[serde(default)]
    pub config: RuntimeConfig,
    /// The layers, by diff ID.
    #[serde(default)]
    pub rootfs: RootFs,
    /// A line for each instruction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// Fields that are not ours to understand.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ImageConfig {
    /// What the image is for; `None` where it does not say.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        EntryPlatform::of_config(self).said()
    }

    /// Takes over what an index says that the image is for, where the config does not say it. A variant that goes without
    /// saying, as `v8` of `arm64`, is left out.
    pub(crate) fn complete(&mut self, said: &EntryPlatform) {
        let plain = said.plain();
        if self.os.is_empty() {
            self.os.clone_from(&said.os);
        }
        if self.architecture.is_empty() {
            self.architecture.clone_from(&said.architecture);
        }
        let no_variant = self.variant.as_ref().is_none_or(String::is_empty);
        if no_variant && said.variant.is_some() && self.platform().is_some_and(|is| is.same_processor(&plain))
        {
            self.variant = plain.variant;
        }
    }
}

/// The execution parameters (`config` of the config document).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RuntimeConfig {
    /// USER.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// EXPOSE: `port/protocol` to an empty object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Map<String, Value>>,
    /// ENV: `NAME=value` in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// ENTRYPOINT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// CMD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// VOLUME: path to an empty object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Map<String, Value>>,
    /// WORKDIR.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// LABEL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// STOPSIGNAL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// HEALTHCHECK; Docker's, not in the OCI specification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// SHELL; Docker's, not in the OCI specification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// ONBUILD; Docker's, not in the OCI specification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Fields that are not ours to understand.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// HEALTHCHECK; durations are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", args...]` or `["CMD-SHELL", command]`.
    #[serde(default)]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// For one check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// For the container to start in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Between two checks while it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// Failures until the container is unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
}

/// The layers by diff ID.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// From the bottom up.
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// A line of the history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// MAINTAINER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the instruction made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields that are not ours to understand.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_comes_out_with_all_it_came_in_with() {
        let text = r#"{"architecture":"amd64","config":{"ArgsEscaped":true,"Cmd":["/bin/sh"],"Env":["A=1"],"Healthcheck":{"Interval":5,"Test":["NONE"]},"OnBuild":["RUN x"],"Shell":["/bin/bash","-c"]},"container":"abc","history":[{"created_by":"x","empty_layer":true,"odd":1}],"os":"linux","os.version":"1.2","rootfs":{"diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],"type":"layers"}}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(String::from_utf8(crate::canonical_json(&config)).unwrap(), text);
    }

    #[test]
    fn null_is_absent_wherever_it_stands() {
        let text = r#"{"architecture":null,"os":null,"variant":null,"created":null,"config":{"User":null,"Env":null,"Cmd":null,
            "Labels":{"a":null},"OnBuild":null,"Volumes":{"/x":null},"ExposedPorts":{"80/tcp":null},"WorkingDir":null,
            "Healthcheck":{"Test":null,"Interval":null}},"rootfs":{"type":null,"diff_ids":null},
            "history":[{"created_by":"x","empty_layer":null}]}"#;
        let config: ImageConfig = crate::from_json(text.as_bytes()).unwrap();
        assert_eq!((config.architecture.as_str(), config.config.user.as_str()), ("", ""));
        assert_eq!(config.config.labels["a"], "");
        assert!(config.config.volumes["/x"].is_empty() && config.config.exposed_ports["80/tcp"].is_empty());
        assert_eq!(config.rootfs, RootFs::default());
        assert_eq!(config.history.len(), 1);
        // In a list it has a place, and Go reads the empty value: of a text, and of a line of the history.
        let text = r#"{"config":{"Cmd":["a",null,"b"],"Env":[null]},"history":[null,{"created_by":"x"}],"odd":[null,1]}"#;
        let config: ImageConfig = crate::from_json(text.as_bytes()).unwrap();
        assert_eq!(config.config.cmd.as_deref(), Some(&["a".to_owned(), String::new(), "b".to_owned()][..]));
        assert_eq!(config.config.env, [""]);
        assert_eq!((config.history.len(), &config.history[0]), (2, &HistoryEntry::default()));
        assert_eq!(config.other["odd"], serde_json::json!([null, 1]));
        for text in ["{\"config\":null,\"rootfs\":null,\"history\":null}", "{}"] {
            assert_eq!(crate::from_json::<ImageConfig>(text.as_bytes()).unwrap(), ImageConfig::default());
        }
    }
    #[test]
    fn what_an_index_says_counts_where_the_config_does_not() {
        for (config, said, complete) in [
            ((Some("linux"), "arm", None), "linux/arm/v6", "linux/arm/v6"),
            ((Some("linux"), "arm", Some("")), "linux/arm/v5", "linux/arm/v5"),
            ((Some("linux"), "arm", Some("v7")), "linux/arm/v6", "linux/arm/v7"),
            ((Some("linux"), "amd64", None), "linux/amd64/v3", "linux/amd64/v3"),
            ((Some("linux"), "arm64", None), "linux/arm64/v8", "linux/arm64"),
            ((Some("linux"), "amd64", None), "linux/arm/v6", "linux/amd64"),
            ((None, "arm", None), "linux/arm/v6", "linux/arm/v6"),
            ((None, "", None), "linux/arm/v6", "linux/arm/v6"),
            ((None, "", None), "linux/arm64", "linux/arm64"),
        ] {
            let (os, architecture, variant) = config;
            let mut is = ImageConfig {
                os: os.unwrap_or_default().to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.map(str::to_owned),
                ..ImageConfig::default()
            };
            is.complete(&EntryPlatform::from(&said.parse::<Platform>().unwrap()));
            assert_eq!(is.platform().unwrap().to_string(), complete, "{config:?} listed as {said}");
            assert_ne!(is.variant.as_deref(), Some("v8"));
        }
    }
}

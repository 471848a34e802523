//! What the command line of a build says in the place of the Containerfile and its bases: flags of buildah's that few
//! builds need.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use crossdock_storage::Platform;

use crate::args::BoolArg as _;

/// The flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Instead of the Containerfile")]
pub(crate) struct Overrides {
    /// Image to build upon, in the place of the one that the first FROM names
    #[arg(long, value_name = "IMAGE")]
    pub(crate) from: Option<String>,

    /// Where bases come from: missing takes an image of this machine if there is one, newer the registry's where it
    /// answers, always only the registry's, never only one of this machine. --pull alone is newer
    #[arg(
        long,
        value_enum,
        value_name = "POLICY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "newer",
        default_value_t = PullPolicy::Missing
    )]
    pull: PullPolicy,

    /// As --pull=always
    #[arg(long, hide = true)]
    pull_always: bool,

    /// As --pull=never
    #[arg(long, hide = true, conflicts_with = "pull_always")]
    pull_never: bool,

    /// Architecture to build for, in the place of --platform
    #[arg(long, value_name = "ARCH", conflicts_with = "platforms")]
    arch: Option<String>,

    /// Operating system to build for, in the place of --platform
    #[arg(long, value_name = "OS", conflicts_with = "platforms")]
    os: Option<String>,

    /// Variant of the architecture to build for, in the place of --platform
    #[arg(long, conflicts_with = "platforms")]
    variant: Option<String>,

    /// Variable of the image's config, after the Containerfile's own; without a value, as it is in the environment
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Variable that the image's config is not to have; may be given several times, or with commas
    #[arg(long = "unsetenv", value_name = "NAME", value_delimiter = ',')]
    pub(crate) unset_env: Vec<String>,

    /// Label of the base that the image is not to have; may be given several times, or with commas
    #[arg(long = "unsetlabel", value_name = "KEY", value_delimiter = ',')]
    pub(crate) unset_labels: Vec<String>,

    /// Take over the labels of the base
    #[arg(long, bool_value(), default_value = "true")]
    pub(crate) inherit_labels: bool,

    /// Take over the annotations of the base's manifest, and name the base in that of the image
    #[arg(long, bool_value(), default_value = "true")]
    pub(crate) inherit_annotations: bool,

    /// Write the time of the build into the manifest as well, as org.opencontainers.image.created
    #[arg(long, bool_value(), default_value = "true")]
    pub(crate) created_annotation: bool,

    /// Annotation that the image's manifest is not to have; may be given several times, or with commas
    #[arg(long = "unsetannotation", value_name = "KEY", value_delimiter = ',')]
    pub(crate) unset_annotations: Vec<String>,

    /// Leave the history out of the image's config, that of the base too
    #[arg(long)]
    pub(crate) omit_history: bool,

    /// File with a NAME=VALUE for an ARG in each line; --build-arg goes before it
    #[arg(long = "build-arg-file", value_name = "FILE")]
    build_arg_files: Vec<PathBuf>,

    /// Write what is printed at the end to this file instead
    #[arg(long, value_name = "FILE")]
    pub(crate) logfile: Option<PathBuf>,
}

/// Where bases come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// This machine, else the registry
    #[default]
    #[value(alias = "false", alias = "ifmissing")]
    Missing,
    /// The registry, or where it has none, this machine
    #[value(alias = "true", alias = "ifnewer")]
    Newer,
    /// The registry
    Always,
    /// This machine
    Never,
}

impl Overrides {
    /// Where bases come from.
    pub(crate) const fn pull(&self) -> PullPolicy {
        match (self.pull_always, self.pull_never) {
            (true, _) => PullPolicy::Always,
            (_, true) => PullPolicy::Never,
            _ => self.pull,
        }
    }

    /// This machine's platform, but for what is said of it.
    ///
    /// # Errors
    /// Where that is no platform.
    pub(crate) fn platform(&self) -> Result<Platform> {
        Platform::host_but(self.os.as_deref(), self.arch.as_deref(), self.variant.as_deref())
            .context("--os, --arch, --variant")
    }

    /// The variables to set; `environment` looks up one.
    ///
    /// # Errors
    /// Where there is no name.
    pub(crate) fn env(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>> {
        let mut variables = Vec::new();
        for text in &self.env {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text.as_str(), environment(text)),
            };
            if name.is_empty() {
                bail!("--env {text:?}: there is no name before the =");
            }
            // One that is not there is not set, as with buildah.
            variables.extend(value.map(|value| (name.to_owned(), value)));
        }
        Ok(variables)
    }

    /// The build arguments in files.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is none.
    pub(crate) fn build_args(&self) -> Result<BTreeMap<String, Option<String>>> {
        let mut all = BTreeMap::new();
        for file in &self.build_arg_files {
            let at = || format!("--build-arg-file {}", file.display());
            let text = std::fs::read_to_string(file).with_context(at)?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
            {
                let Some((name, value)) = line.split_once('=') else {
                    bail!("{}: {line:?} is not NAME=VALUE", at());
                };
                all.insert(name.to_owned(), Some(value.to_owned()));
            }
        }
        Ok(all)
    }
}

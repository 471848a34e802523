//! Variables: which ARG and ENV a word sees.
//!
//! The rules are Docker's. ARGs before the first FROM, and the platform's, are seen by FROM lines; a stage sees one
//! only from where it declares the name. A value of `--build-arg` beats the default, ENV beats ARG.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossdock_storage::Platform;

use crate::containerfile::{ArgDeclaration, Containerfile, Diagnostic, Expanded, Expander, Source, Spanned};
use crate::plan::{PlanOptions, name_of, set_env};

/// ARGs that are there without a declaration once they are given (Dockerfile reference, "Predefined ARGs").
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The variables at a point of the Containerfile.
#[derive(Debug, Clone)]
pub(crate) struct Scope<'a> {
    source: &'a Arc<Source>,
    escape: char,
    build_args: &'a BTreeMap<String, Option<String>>,
    /// What a declaration without a default takes its value from.
    globals: BTreeMap<String, String>,
    args: BTreeMap<String, String>,
    env: Vec<String>,
}

impl<'a> Scope<'a> {
    /// The scope of FROM lines.
    pub(crate) fn global(file: &'a Containerfile, options: &'a PlanOptions) -> Result<Self, Diagnostic> {
        let mut args = platform_args("TARGET", &options.platform);
        args.extend(platform_args("BUILD", &options.build_platform));
        for (name, value) in &mut args {
            if let Some(Some(given)) = options.build_args.get(name) {
                value.clone_from(given);
            }
        }
        let globals = args.clone();
        let (source, escape) = (&file.source, file.directives.escape);
        let mut scope =
            Self { source, escape, build_args: &options.build_args, globals, args, env: Vec::new() };
        for declaration in &file.global_args {
            scope.declare(declaration)?;
        }
        scope.globals.extend(scope.args.clone());
        Ok(scope)
    }

    /// The scope at the head of a stage, given the global one and the base's environment.
    pub(crate) fn stage(&self, env: &[String]) -> Self {
        Self { args: BTreeMap::new(), env: env.to_vec(), globals: self.globals.clone(), ..*self }
    }

    /// What is asked for next stands in this text, which has this escape character.
    pub(crate) fn within(&mut self, source: &'a Arc<Source>, escape: char) {
        (self.source, self.escape) = (source, escape);
    }

    /// Carries out an ARG.
    pub(crate) fn declare(&mut self, declaration: &ArgDeclaration) -> Result<(), Diagnostic> {
        let name = &declaration.name.value;
        let value = match (self.build_args.get(name), &declaration.default) {
            (Some(Some(given)), _) => Some(given.clone()),
            (_, Some(default)) => Some(self.word(default)?.value),
            (_, None) => self.globals.get(name).cloned(),
        };
        if let Some(value) = value {
            self.args.insert(name.clone(), value);
        }
        Ok(())
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        set_env(&mut self.env, name, value);
    }

    pub(crate) fn env(&self) -> &[String] {
        &self.env
    }

    pub(crate) fn word(&self, word: &Spanned<String>) -> Result<Expanded, Diagnostic> {
        self.with(|expander| expander.word(word))
    }

    pub(crate) fn words(&self, word: &Spanned<String>) -> Result<Expanded<Vec<String>>, Diagnostic> {
        self.with(|expander| expander.words(word))
    }

    pub(crate) fn text(&self, text: &Spanned<String>) -> Result<Expanded, Diagnostic> {
        self.with(|expander| expander.text(text))
    }

    fn with<T>(&self, expand: impl FnOnce(&Expander<'_>) -> T) -> T {
        let lookup = |name: &str| self.get(name);
        expand(&Expander::new(self.source, self.escape, &lookup))
    }

    fn get(&self, name: &str) -> Option<String> {
        let env = self
            .env
            .iter()
            .find(|line| name_of(line) == name)
            .map(|line| line.split_once('=').map_or_else(String::new, |(_, value)| value.to_owned()));
        env.or_else(|| self.args.get(name).cloned()).or_else(|| match self.build_args.get(name) {
            Some(Some(given)) if is_proxy(name) => Some(given.clone()),
            _ => None,
        })
    }
}

/// The build arguments that none of `declared` takes.
pub(crate) fn unused<'a>(
    build_args: &BTreeMap<String, Option<String>>,
    declared: impl Iterator<Item = &'a ArgDeclaration>,
) -> Vec<String> {
    let declared: BTreeSet<&str> = declared.map(|declaration| declaration.name.value.as_str()).collect();
    build_args
        .keys()
        .filter(|name| !declared.contains(name.as_str()) && !is_proxy(name))
        .filter(|name| !name.is_empty() && !is_platform_arg(name))
        .cloned()
        .collect()
}

fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name.to_ascii_uppercase().as_str())
}

fn is_platform_arg(name: &str) -> bool {
    ["TARGET", "BUILD"].iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| ["PLATFORM", "OS", "ARCH", "VARIANT"].contains(&rest))
    })
}

fn platform_args(prefix: &str, platform: &Platform) -> BTreeMap<String, String> {
    [
        ("PLATFORM", platform.to_string()),
        ("OS", platform.os.clone()),
        ("ARCH", platform.architecture.clone()),
        ("VARIANT", platform.variant.clone().unwrap_or_default()),
    ]
    .into_iter()
    .map(|(name, value)| (format!("{prefix}{name}"), value))
    .collect()
}

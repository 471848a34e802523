//! Variables: which ARG and ENV a word sees.
//!
//! The rules are Docker's. ARGs before the first FROM, and the platform's, are seen by FROM lines; a stage sees one
//! only from where it declares the name. A value of `--build-arg` beats the default, ENV beats ARG.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use crossdock_storage::Platform;

use crate::containerfile::{
    ArgDeclaration, Containerfile, Diagnostic, Expanded, Expander, Source, Span, Spanned,
};
use crate::plan::{PlanOptions, name_of, set_env};

/// ARGs that are there without a declaration once they are given (Dockerfile reference, "Predefined ARGs").
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Variables that are put in, what comes of it, and what stages take over from one another: so many bytes in all for one
/// Containerfile, whatever it says. Without a limit `ENV B=$A$A`, a few dozen times, would fill any memory.
const MAX_SPENT: usize = 16 << 20;

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
    /// Of [`MAX_SPENT`], by all scopes of the Containerfile.
    spent: Rc<Cell<usize>>,
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
        let (build_args, spent) = (&options.build_args, Rc::default());
        let mut scope = Self { source, escape, build_args, globals, args, env: Vec::new(), spent };
        for declaration in &file.global_args {
            scope.declare(declaration)?;
        }
        scope.globals.extend(scope.args.clone());
        Ok(scope)
    }

    /// The scope at the head of a stage whose FROM is at `from`, given the global one and the base's environment.
    pub(crate) fn stage(&self, env: &[String], from: Span) -> Result<Self, Diagnostic> {
        let globals = self.globals.iter().map(|(name, value)| name.len() + value.len());
        self.spend(globals.sum::<usize>() + env.iter().map(String::len).sum::<usize>(), from)?;
        Ok(Self { args: BTreeMap::new(), env: env.to_vec(), ..self.clone() })
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
        self.with(word.span, |expander| expander.word(word), String::len)
    }

    pub(crate) fn words(&self, word: &Spanned<String>) -> Result<Expanded<Vec<String>>, Diagnostic> {
        let len = |words: &Vec<String>| words.iter().map(String::len).sum();
        self.with(word.span, |expander| expander.words(word), len)
    }

    pub(crate) fn text(&self, text: &Spanned<String>) -> Result<Expanded, Diagnostic> {
        self.with(text.span, |expander| expander.text(text), String::len)
    }

    fn with<T>(
        &self,
        span: Span,
        expand: impl FnOnce(&Expander<'_>) -> Result<Expanded<T>, Diagnostic>,
        len: impl FnOnce(&T) -> usize,
    ) -> Result<Expanded<T>, Diagnostic> {
        self.spend(0, span)?;
        let lookup = |name: &str| {
            let value = self.get(name)?;
            self.spent.set(self.spent.get().saturating_add(value.len()));
            // What is too much is told below; nothing more is put in until then.
            Some(if self.spent.get() > MAX_SPENT { String::new() } else { value })
        };
        let expanded = expand(&Expander::new(self.source, self.escape, &lookup))?;
        self.spend(len(&expanded.value), span)?;
        Ok(expanded)
    }

    /// Counts what something at `span` takes of the memory that a Containerfile may fill.
    pub(crate) fn spend(&self, bytes: usize, span: Span) -> Result<(), Diagnostic> {
        self.spent.set(self.spent.get().saturating_add(bytes));
        if self.spent.get() <= MAX_SPENT {
            return Ok(());
        }
        let message = format!("the values up to here come to more than {} MiB in all", MAX_SPENT >> 20);
        Err(Diagnostic::new(self.source, span, message)
            .with_help("use shorter variables, or use them less often"))
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

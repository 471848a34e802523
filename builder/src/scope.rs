//! Variables: which ARG and ENV a word sees.
//!
//! The rules are Docker's. ARGs before the first FROM, and the platform's, are seen by FROM lines; a stage sees one
//! only from where it, or the stage that it begins with, declares the name. A value of `--build-arg` beats the default, ENV
//! beats ARG.

use std::cell::{Cell, RefCell};
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

/// Says when the image is made, whether an ARG declares it or not.
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

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
    /// The names that an ARG declares, in any scope of the Containerfile.
    declared: Rc<RefCell<BTreeSet<String>>>,
}

impl<'a> Scope<'a> {
    /// The scope of FROM lines, and the variables that the ARGs before them use and that are not set.
    pub(crate) fn global(
        file: &'a Containerfile,
        options: &'a PlanOptions,
    ) -> Result<(Self, Vec<Spanned<String>>), Diagnostic> {
        let mut unset = Vec::new();
        let mut args = platform_args("TARGET", &options.platform);
        args.extend(platform_args("BUILD", &options.build_platform));
        for (name, value) in &mut args {
            if let Some(Some(given)) = options.build_args.get(name) {
                value.clone_from(given);
            }
        }
        let globals = args.clone();
        let (source, escape) = (&file.source, file.directives.escape);
        let (build_args, spent, declared) = (&options.build_args, Rc::default(), Rc::default());
        let mut scope = Self { source, escape, build_args, globals, args, env: Vec::new(), spent, declared };
        for declarations in &file.global_args {
            unset.extend(scope.declare(declarations)?);
        }
        scope.globals.extend(scope.args.clone());
        Ok((scope, unset))
    }

    /// The scope at the head of a stage whose FROM is at `from`, given the global one, and the environment of its base and the
    /// ARGs that a stage below it has declared.
    pub(crate) fn stage(
        &self,
        env: &[String],
        args: &BTreeMap<String, String>,
        from: Span,
    ) -> Result<Self, Diagnostic> {
        let pairs = self.globals.iter().chain(args).map(|(name, value)| name.len() + value.len());
        self.spend(pairs.sum::<usize>() + env.iter().map(String::len).sum::<usize>(), from)?;
        Ok(Self { args: args.clone(), env: env.to_vec(), ..self.clone() })
    }

    /// What is asked for next stands in this text, which has this escape character.
    pub(crate) fn within(&mut self, source: &'a Arc<Source>, escape: char) {
        (self.source, self.escape) = (source, escape);
    }

    /// Carries out an ARG, all of whose declarations see the variables as they were before it. Gives the variables that
    /// were used and are not set.
    pub(crate) fn declare(
        &mut self,
        declarations: &[ArgDeclaration],
    ) -> Result<Vec<Spanned<String>>, Diagnostic> {
        let mut unset = Vec::new();
        let declared = declarations.iter().map(|declaration| self.declared(declaration, &mut unset));
        let declared = declared.collect::<Result<Vec<_>, _>>()?;
        self.take(declared);
        Ok(unset)
    }

    /// Carries out those declarations of an ARG that can be told without the environment of the base.
    pub(crate) fn declare_known(&mut self, declarations: &[ArgDeclaration]) {
        let declared = declarations.iter().map(|declaration| self.declared(declaration, &mut Vec::new()));
        self.take(declared.filter_map(Result::ok).collect());
    }

    /// The name of an ARG, and its value if it has one.
    fn declared(
        &self,
        declaration: &ArgDeclaration,
        unset: &mut Vec<Spanned<String>>,
    ) -> Result<(String, Option<String>), Diagnostic> {
        let mut word = |word: &Spanned<String>| {
            let expanded = self.word(word)?;
            unset.extend(expanded.unset);
            Ok::<_, Diagnostic>(expanded.value)
        };
        let mut name = word(&declaration.name)?;
        // A quoted or expanded name may hold the value, or the head of it.
        let mut head = None;
        if let Some(equals) = name.find('=') {
            head = Some(name.split_off(equals + 1));
            name.truncate(equals);
        }
        if name.is_empty() {
            let message = "the name is empty once its variables are put in";
            return Err(Diagnostic::new(self.source, declaration.name.span, message)
                .with_help("set the variables, or write the name"));
        }
        let value = match (self.build_args.get(&name), &declaration.default, head) {
            (Some(Some(given)), _, _) => Some(given.clone()),
            (_, Some(default), None) => Some(word(default)?),
            (_, Some(default), Some(head)) => Some(format!("{head}={}", word(default)?)),
            (_, None, Some(head)) => Some(head),
            (_, None, None) => self.globals.get(&name).cloned(),
        };
        Ok((name, value))
    }

    fn take(&mut self, declared: Vec<(String, Option<String>)>) {
        self.declared.borrow_mut().extend(declared.iter().map(|(name, _)| name.clone()));
        self.args.extend(declared.into_iter().filter_map(|(name, value)| Some((name, value?))));
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        set_env(&mut self.env, name, value);
    }

    pub(crate) fn env(&self) -> &[String] {
        &self.env
    }

    /// The ARGs that are declared here, and those of the stages below.
    pub(crate) fn args(&self) -> &BTreeMap<String, String> {
        &self.args
    }

    /// The build arguments that no ARG has taken, in any scope so far.
    pub(crate) fn unused_build_args(&self) -> Vec<String> {
        let declared = self.declared.borrow();
        let known = |name: &String| {
            name.is_empty() || name == SOURCE_DATE_EPOCH || is_proxy(name) || is_platform_arg(name)
        };
        self.build_args.keys().filter(|name| !declared.contains(*name) && !known(name)).cloned().collect()
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

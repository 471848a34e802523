//! The first pass: which stages the target needs, and whether all in them can be carried out.
//!
//! Only text is looked at. The environment of base images is not known yet, so a word that needs it is left to
//! the second pass; what stages there are and what they are built on depends on ARGs alone.

use std::collections::BTreeMap;

use crossdock_storage::Platform;

use crate::containerfile::{
    AddInstruction, Containerfile, CopyInstruction, CopySource, Diagnostic, Instruction, Span, Spanned,
};
use crate::error::Error;
use crate::plan::PlanOptions;
use crate::scope::{Scope, unused};
use crate::triggers::refuse_from;

/// What a stage begins with.
#[derive(Debug, Clone)]
pub(crate) enum StageBase {
    Scratch { platform: Platform },
    Stage(usize),
    Image { reference: String, platform: Platform },
}

/// The stages that are needed.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) target: usize,
    pub(crate) unused_build_args: Vec<String>,
    stages: BTreeMap<usize, CheckedStage>,
}

#[derive(Debug)]
struct CheckedStage {
    base: StageBase,
    /// The stages behind `COPY --from`, by the place of its value.
    from: BTreeMap<Span, usize>,
    /// The variables that are set without the base's, for stages built on this one.
    env: Vec<String>,
    /// Whether something is copied onto this stage, or made in it.
    writes: bool,
}

impl Checked {
    /// The needed stages in order.
    pub(crate) fn needed(&self) -> impl Iterator<Item = usize> {
        self.stages.keys().copied()
    }

    pub(crate) fn base(&self, stage: usize) -> Option<&StageBase> {
        self.stages.get(&stage).map(|stage| &stage.base)
    }

    /// The stage that a `--from` at `span` names.
    pub(crate) fn copied_from(&self, stage: usize, span: Span) -> Option<usize> {
        self.stages.get(&stage)?.from.get(&span).copied()
    }

    /// Whether it matters what the image that this stage begins with holds: something is written onto it, or copied
    /// from a stage that is built on it.
    pub(crate) fn needs_tree(&self, image_stage: usize) -> bool {
        self.stages.iter().any(|(index, stage)| {
            let copied = self.stages.values().any(|other| other.from.values().any(|from| from == index));
            self.first(*index) == image_stage && (stage.writes || copied)
        })
    }

    /// The stage at the bottom of a stage.
    fn first(&self, stage: usize) -> usize {
        match self.base(stage) {
            Some(StageBase::Stage(base)) => self.first(*base),
            _ => stage,
        }
    }
}

/// Goes over the target and all it needs.
pub(crate) fn check_stages(file: &Containerfile, options: &PlanOptions) -> Result<Checked, Error> {
    let global = Scope::global(file, options).map_err(Error::Value)?;
    let target = target(file, options)?;
    let mut check = Check { file, options, global, stages: BTreeMap::new() };
    check.stage(target)?;
    let stages = check.stages;
    let declared = file.global_args.iter().chain(stages.keys().flat_map(|index| {
        file.stages[*index].instructions.iter().flat_map(|instruction| match &instruction.value {
            Instruction::Arg(declarations) => declarations.as_slice(),
            _ => &[],
        })
    }));
    Ok(Checked { target, unused_build_args: unused(&options.build_args, declared), stages })
}

fn target(file: &Containerfile, options: &PlanOptions) -> Result<usize, Error> {
    let Some(wanted) = &options.target else { return Ok(file.stages.len().saturating_sub(1)) };
    find_stage(file, wanted, file.stages.len()).ok_or_else(|| {
        let names: Vec<&str> = file
            .stages
            .iter()
            .filter_map(|stage| stage.from.name.as_ref())
            .map(|name| name.value.as_str())
            .collect();
        let known = match (names.as_slice(), file.stages.len()) {
            ([], 1) => "the Containerfile has one stage without a name: leave --target out".to_owned(),
            ([], count) => format!("the Containerfile has the stages 0 to {}", count - 1),
            (names, _) => format!("the Containerfile has {}", names.join(", ")),
        };
        Error::Target { wanted: wanted.clone(), known }
    })
}

/// A stage before `end` by name, or else by index.
fn find_stage(file: &Containerfile, name: &str, end: usize) -> Option<usize> {
    let lower = name.to_lowercase();
    let named = file.stages[..end]
        .iter()
        .rposition(|stage| stage.from.name.as_ref().is_some_and(|name| name.value == lower));
    named.or_else(|| name.parse().ok().filter(|index| *index < end))
}

struct Check<'a> {
    file: &'a Containerfile,
    options: &'a PlanOptions,
    global: Scope<'a>,
    stages: BTreeMap<usize, CheckedStage>,
}

impl Check<'_> {
    fn stage(&mut self, index: usize) -> Result<(), Error> {
        if self.stages.contains_key(&index) {
            return Ok(());
        }
        let base = self.base(index)?;
        let env = match base {
            StageBase::Stage(base) => {
                self.stage(base)?;
                self.stages.get(&base).map(|stage| stage.env.clone()).unwrap_or_default()
            }
            StageBase::Scratch { .. } | StageBase::Image { .. } => Vec::new(),
        };
        let mut scope = self.global.stage(&env);
        let file = self.file;
        let mut triggered = false;
        if let StageBase::Stage(base) = base {
            for instruction in &file.stages[base].instructions {
                if let Instruction::Onbuild(onbuild) = &instruction.value {
                    check_trigger(file, self.options, &onbuild.trigger, &scope)?;
                    triggered |= writes(&onbuild.trigger.value);
                }
            }
        }
        let mut checked = CheckedStage { base, from: BTreeMap::new(), env: Vec::new(), writes: triggered };
        for instruction in &file.stages[index].instructions {
            match &instruction.value {
                // Values that need the base's environment come out wrong here; the second pass has them right.
                Instruction::Arg(declarations) => {
                    for declaration in declarations {
                        let _ = scope.declare(declaration);
                    }
                }
                Instruction::Env(pairs) => {
                    let before = scope.clone();
                    for pair in pairs {
                        if let (Ok(name), Ok(value)) = (before.word(&pair.key), before.word(&pair.value)) {
                            scope.set_env(&name.value, &value.value);
                        }
                    }
                }
                Instruction::Copy(copy) => {
                    checked.writes = true;
                    self.copy(copy, &scope)?;
                    if let Some(from) = &copy.from {
                        let source = self.copied_from(index, from, &scope)?;
                        self.stage(source)?;
                        checked.from.insert(from.span, source);
                    }
                }
                Instruction::Add(add) => {
                    checked.writes = true;
                    self.add(add, &scope)?;
                }
                Instruction::Workdir(_) => checked.writes = true,
                Instruction::Run(_) => return Err(self.refuse_run(instruction)),
                _ => {}
            }
        }
        checked.env = scope.env().to_vec();
        self.stages.insert(index, checked);
        Ok(())
    }

    fn base(&self, index: usize) -> Result<StageBase, Error> {
        let from = &self.file.stages[index].from;
        let expanded = self.global.word(&from.image).map_err(Error::Value)?;
        let image = match &self.options.from {
            Some(instead) if index == 0 => instead.trim(),
            _ => expanded.value.trim(),
        };
        if image.is_empty() {
            let unset: Vec<String> = expanded.unset.iter().map(|name| format!("{:?}", name.value)).collect();
            let reason =
                if unset.is_empty() { String::new() } else { format!(": {} is not set", unset.join(", ")) };
            return Err(Error::Value(
                Diagnostic::new(&self.file.source, from.image.span, format!("FROM names no image{reason}"))
                    .with_help("give ARG a default before the first FROM, or pass --build-arg"),
            ));
        }
        let platform = match &from.platform {
            None => self.options.platform.clone(),
            Some(platform) => {
                let text = self.global.word(platform).map_err(Error::Value)?.value;
                text.parse().map_err(|error| {
                    Error::Value(Diagnostic::new(&self.file.source, platform.span, format!("{error}")))
                })?
            }
        };
        if image == "scratch" {
            return Ok(StageBase::Scratch { platform });
        }
        let lower = image.to_lowercase();
        let named = |stage: &crate::containerfile::Stage| {
            stage.from.name.as_ref().is_some_and(|name| name.value == lower)
        };
        if let Some(base) = self.file.stages[..index].iter().rposition(named) {
            return Ok(StageBase::Stage(base));
        }
        Ok(StageBase::Image { reference: image.to_owned(), platform })
    }

    fn copied_from(&self, index: usize, from: &Spanned<String>, scope: &Scope<'_>) -> Result<usize, Error> {
        let name = scope.word(from).map_err(Error::Value)?.value;
        if let Some(stage) = find_stage(self.file, &name, index) {
            return Ok(stage);
        }
        if let Some(later) = find_stage(self.file, &name, self.file.stages.len()) {
            let what = if later == index { "this stage itself" } else { "a later stage" };
            return Err(Error::Value(
                Diagnostic::new(&self.file.source, from.span, format!("COPY --from={name} names {what}"))
                    .with_help("copy from a stage that stands above"),
            ));
        }
        Err(self.refuse(
            from.span,
            &format!("COPY --from={name} names no stage above, and files are not taken out of images"),
            "put the files into the context in an earlier step of the pipeline and COPY them from there",
        ))
    }

    fn copy(&self, copy: &CopyInstruction, scope: &Scope<'_>) -> Result<(), Error> {
        if let Some(parents) = copy.parents.filter(|parents| parents.value) {
            return Err(self.refuse(
                parents.span,
                "COPY --parents is not carried out",
                "write a COPY with the full destination for each directory",
            ));
        }
        for source in &copy.sources {
            if let CopySource::Path(path) = source
                && let Ok(text) = scope.word(path)
                && remote(&text.value).is_some()
            {
                return Err(Error::Value(
                    Diagnostic::new(
                        &self.file.source,
                        path.span,
                        format!("COPY takes no URL: {}", text.value),
                    )
                    .with_help("download it into the context in an earlier step of the pipeline"),
                ));
            }
        }
        Ok(())
    }

    fn add(&self, add: &AddInstruction, scope: &Scope<'_>) -> Result<(), Error> {
        for source in &add.sources {
            if let CopySource::Path(path) = source
                && let Ok(text) = scope.word(path)
                && let Some(what) = remote(&text.value)
            {
                return Err(self.refuse(
                    path.span,
                    &format!("ADD of {what} is not carried out: {}", text.value),
                    "download it into the context in an earlier step of the pipeline and COPY it",
                ));
            }
        }
        if let Some(checksum) = &add.checksum {
            return Err(self.refuse(
                checksum.span,
                "ADD --checksum is not carried out: it is for downloads, which are not carried out either",
                "check the file where it is downloaded",
            ));
        }
        if let Some(keep) = add.keep_git_dir.filter(|keep| keep.value) {
            return Err(self.refuse(
                keep.span,
                "ADD --keep-git-dir is not carried out: it is for git sources, which are not carried out either",
                "clone into the context in an earlier step of the pipeline and COPY it",
            ));
        }
        if let Some(unpack) = add.unpack.filter(|unpack| unpack.value) {
            return Err(self.refuse(
                unpack.span,
                "ADD --unpack is not carried out: archives are not unpacked",
                "unpack it into the context in an earlier step of the pipeline and COPY the directory",
            ));
        }
        Ok(())
    }

    fn refuse_run(&self, instruction: &Spanned<Instruction>) -> Error {
        self.refuse(
            keyword_span(instruction, "RUN"),
            "RUN is not carried out: crossdock starts no containers",
            "do this step in an earlier task of the pipeline and COPY its result, or put it into the base image",
        )
    }

    fn refuse(&self, span: Span, message: &str, help: &str) -> Error {
        Error::Refused(Diagnostic::new(&self.file.source, span, message).with_help(help))
    }
}

/// Whether it may change the file system.
pub(crate) const fn writes(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::Add(_) | Instruction::Copy(_) | Instruction::Workdir(_))
}

/// Refuses an ONBUILD trigger that cannot be carried out; `file` holds its text.
pub(crate) fn check_trigger(
    file: &Containerfile,
    options: &PlanOptions,
    trigger: &Spanned<Instruction>,
    scope: &Scope<'_>,
) -> Result<(), Error> {
    let check = Check { file, options, global: scope.clone(), stages: BTreeMap::new() };
    match &trigger.value {
        Instruction::Copy(copy) => {
            check.copy(copy, scope)?;
            copy.from.as_ref().map_or(Ok(()), |from| Err(refuse_from(file, from)))
        }
        Instruction::Add(add) => check.add(add, scope),
        Instruction::Run(_) => Err(check.refuse_run(trigger)),
        _ => Ok(()),
    }
}

/// The place of the keyword alone, at the head of its instruction.
fn keyword_span(instruction: &Spanned<Instruction>, keyword: &str) -> Span {
    Span::new(instruction.span.start, instruction.span.start + keyword.len())
}

/// What kind of remote source it is, if it is one.
fn remote(source: &str) -> Option<&'static str> {
    let lower = source.to_ascii_lowercase();
    let git = lower.starts_with("git@") || lower.starts_with("git://") || lower.starts_with("ssh://");
    let url = ["http://", "https://", "ftp://"].iter().any(|scheme| lower.starts_with(scheme));
    let without_fragment = lower.split('#').next().unwrap_or_default();
    match (git || url && without_fragment.ends_with(".git"), url) {
        (true, _) => Some("a git repository"),
        (false, true) => Some("a URL"),
        (false, false) => None,
    }
}

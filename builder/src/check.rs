//! The first pass: which stages the target needs, and whether all in them can be carried out.
//!
//! Only text is looked at. The environment of base images is not known yet, so a word that needs it is left to
//! the second pass; what stages there are and what they are built on depends on ARGs alone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crossdock_storage::{Detail, Platform};

use crate::containerfile::{
    AddInstruction, Containerfile, CopyInstruction, CopySource, Diagnostic, Instruction, RunInstruction,
    Source, Span, Spanned, Trigger,
};
use crate::error::Error;
use crate::plan::{BuildContext, PlanOptions};
use crate::run_hints::instead;
use crate::scope::Scope;
use crate::stage_names::{Named, StageNames, lines};

/// A target needs at most so many stages: each keeps what it makes until the last one is done.
const MAX_STAGES: usize = 256;

/// The ONBUILD triggers that a stage carries out first.
pub(crate) type Triggers = Arc<[Trigger]>;

/// A place in the text of a stage: which text (`None` for the Containerfile, else the number of a trigger), and where.
pub(crate) type Place = (Option<usize>, Span);

/// What a stage begins with.
#[derive(Debug, Clone)]
pub(crate) enum StageBase {
    Scratch { platform: Platform },
    Stage(usize),
    Image(ImageKey),
}

/// What a COPY copies from, if not the build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopyFrom {
    Stage(usize),
    /// The directory of a `--build-context` of this name.
    Context(String),
    Image(ImageKey),
}

/// An image as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ImageKey {
    pub(crate) reference: String,
    pub(crate) platform: Platform,
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.reference, self.platform)
    }
}

/// The stages that are needed.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) target: usize,
    /// Of all stages, needed or not.
    names: StageNames,
    stages: BTreeMap<usize, CheckedStage>,
}

#[derive(Debug)]
struct CheckedStage {
    base: StageBase,
    /// The ONBUILD triggers of what it begins with.
    triggers: Triggers,
    /// What is behind `COPY --from`, by the place of its value.
    from: BTreeMap<Place, CopyFrom>,
    /// The variables that are set without the base's, for stages built on this one.
    env: Vec<String>,
    /// The ARGs, likewise.
    args: BTreeMap<String, String>,
    /// Whether something is copied onto this stage, or made in it.
    writes: bool,
}

impl Checked {
    /// The needed stages in order.
    pub(crate) fn needed(&self) -> impl Iterator<Item = usize> {
        self.stages.keys().copied()
    }

    /// The name of a stage, if it has one.
    pub(crate) fn name(&self, stage: usize) -> Option<&str> {
        self.names.of(stage)
    }

    /// The names of the stages above one.
    pub(crate) fn names_above(&self, stage: usize) -> Vec<&str> {
        self.names.before(stage)
    }

    pub(crate) fn base(&self, stage: usize) -> Option<&StageBase> {
        self.stages.get(&stage).map(|stage| &stage.base)
    }

    /// The triggers that a stage carries out before its own instructions.
    pub(crate) fn triggers(&self, stage: usize) -> &[Trigger] {
        self.stages.get(&stage).map_or(&[], |stage| &stage.triggers)
    }

    /// The needed stages that begin with an image.
    pub(crate) fn images(&self) -> impl Iterator<Item = (usize, &ImageKey)> {
        self.stages.iter().filter_map(|(index, stage)| match &stage.base {
            StageBase::Image(key) => Some((*index, key)),
            StageBase::Scratch { .. } | StageBase::Stage(_) => None,
        })
    }

    /// All that is copied from, with stage and place.
    pub(crate) fn copies(&self) -> impl Iterator<Item = (usize, Place, &CopyFrom)> {
        self.stages
            .iter()
            .flat_map(|(index, stage)| stage.from.iter().map(|(place, from)| (*index, *place, from)))
    }

    /// What a `--from` at `place` names.
    pub(crate) fn copied_from(&self, stage: usize, place: Place) -> Option<&CopyFrom> {
        self.stages.get(&stage)?.from.get(&place)
    }

    /// What matters of the image that this stage begins with: nothing, or what it holds where something is written onto it,
    /// and the contents where something is copied from a stage that is built on it.
    pub(crate) fn needs_tree(&self, image_stage: usize) -> Option<Detail> {
        let built_on_it = |stage: &usize| self.first(*stage) == image_stage;
        let copied =
            self.copies().any(|(_, _, from)| matches!(from, CopyFrom::Stage(stage) if built_on_it(stage)));
        let written = || self.stages.iter().any(|(index, stage)| stage.writes && built_on_it(index));
        if copied { Some(Detail::Contents) } else { written().then_some(Detail::Names) }
    }

    /// The image that the target begins with, be it through other stages.
    pub(crate) fn base_image(&self) -> Option<&ImageKey> {
        match self.base(self.first(self.target)) {
            Some(StageBase::Image(key)) => Some(key),
            _ => None,
        }
    }

    /// The stage at the bottom of a stage.
    fn first(&self, stage: usize) -> usize {
        match self.base(stage) {
            Some(StageBase::Stage(base)) => self.first(*base),
            _ => stage,
        }
    }
}

/// Goes over the target and all it needs. `triggers` are those of the images that stages begin with, by stage, as far as
/// they are known.
pub(crate) fn check_stages(
    file: &Containerfile,
    options: &PlanOptions,
    triggers: &BTreeMap<usize, Triggers>,
) -> Result<Checked, Error> {
    let (global, _) = Scope::global(file, options).map_err(Error::Value)?;
    let names = StageNames::new(file, &global);
    let target = target(file, options, &names)?;
    let mut check = Check {
        file,
        source: Arc::clone(&file.source),
        options,
        global,
        names,
        triggers,
        stages: BTreeMap::new(),
        entered: 0,
    };
    check.stage(target)?;
    Ok(Checked { target, names: check.names, stages: check.stages })
}

fn target(file: &Containerfile, options: &PlanOptions, names: &StageNames) -> Result<usize, Error> {
    let count = file.stages.len();
    let Some(wanted) = &options.target else { return Ok(count.saturating_sub(1)) };
    let known = match names.find(wanted, count) {
        Named::One(stage) => return Ok(stage),
        Named::Several(one, other) => format!("{} have this name", lines(file, one, other)),
        Named::None => match (names.before(count).as_slice(), count) {
            ([], 1) => "the Containerfile has one stage without a name: leave --target out".to_owned(),
            ([], count) => format!("the Containerfile has the stages 0 to {}", count - 1),
            (names, _) => format!("the Containerfile has {}", names.join(", ")),
        },
    };
    Err(Error::Target { wanted: wanted.clone(), known })
}

struct Check<'a> {
    file: &'a Containerfile,
    /// The text that is looked at: the file's, or a trigger's.
    source: Arc<Source>,
    options: &'a PlanOptions,
    global: Scope<'a>,
    names: StageNames,
    triggers: &'a BTreeMap<usize, Triggers>,
    stages: BTreeMap<usize, CheckedStage>,
    /// How many stages are looked at or wait for those they need.
    entered: usize,
}

impl Check<'_> {
    fn stage(&mut self, index: usize) -> Result<(), Error> {
        if self.stages.contains_key(&index) {
            return Ok(());
        }
        self.entered += 1;
        if self.entered > MAX_STAGES {
            let message = format!("the target needs more than {MAX_STAGES} stages");
            let from = &self.file.stages[index].from;
            return Err(Error::Value(
                Diagnostic::new(&self.file.source, from.span, message)
                    .with_help("put some of them into a base image"),
            ));
        }
        if let Some(error) = &self.file.stages[index].unreadable {
            return Err(error.clone().into());
        }
        self.check_name(index)?;
        let base = self.base(index)?;
        let (env, args) = match base {
            StageBase::Stage(base) => {
                self.stage(base)?;
                let below = self.stages.get(&base).map(|stage| (stage.env.clone(), stage.args.clone()));
                below.unwrap_or_default()
            }
            StageBase::Scratch { .. } | StageBase::Image(_) => Default::default(),
        };
        let triggers = self.triggers_of(index, &base);
        let from = self.file.stages[index].from.span;
        let mut scope = self.global.stage(&env, &args, from).map_err(Error::Value)?;
        let mut checked = CheckedStage {
            base,
            triggers: Arc::clone(&triggers),
            from: BTreeMap::new(),
            env: Vec::new(),
            args: BTreeMap::new(),
            writes: false,
        };
        let file = self.file;
        let of_triggers = triggers
            .iter()
            .enumerate()
            .map(|(number, trigger)| (Some(number), &trigger.source, trigger.escape, &trigger.instruction));
        let of_file = file.stages[index].instructions.iter();
        let of_file = of_file.map(|one| (None, &file.source, file.directives.escape, one));
        for (text, source, escape, instruction) in of_triggers.chain(of_file) {
            self.source = Arc::clone(source);
            scope.within(source, escape);
            match &instruction.value {
                // Values that need the base's environment come out wrong here; the second pass has them right.
                Instruction::Arg(declarations) => {
                    scope.declare_known(declarations);
                }
                Instruction::Env(pairs) => {
                    let expanded: Vec<_> =
                        pairs.iter().map(|pair| (scope.word(&pair.key), scope.word(&pair.value))).collect();
                    for (name, value) in expanded {
                        if let (Ok(name), Ok(value)) = (name, value) {
                            scope.set_env(&name.value, &value.value);
                        }
                    }
                }
                Instruction::Copy(copy) => {
                    checked.writes = true;
                    self.copy(copy, &scope)?;
                    if let Some(from) = &copy.from {
                        let source = self.copied_from(index, from, &scope)?;
                        if let CopyFrom::Stage(stage) = source {
                            self.stage(stage)?;
                        }
                        checked.from.insert((text, from.span), source);
                    }
                }
                Instruction::Add(add) => {
                    checked.writes = true;
                    self.add(add, &scope)?;
                }
                Instruction::Workdir(_) => checked.writes = true,
                Instruction::Run(run) => return Err(self.refuse_run(instruction, run, text.is_some())),
                _ => {}
            }
        }
        checked.env = scope.env().to_vec();
        checked.args = scope.args().clone();
        self.stages.insert(index, checked);
        Ok(())
    }

    /// A needed stage that has a name has one that it can be called by.
    fn check_name(&self, index: usize) -> Result<(), Error> {
        let Some(name) = &self.file.stages[index].from.name else { return Ok(()) };
        if !self.global.word(name).map_err(Error::Value)?.value.is_empty() {
            return Ok(());
        }
        let message = "the name of the stage is empty once its variables are put in";
        Err(Error::Value(
            Diagnostic::new(&self.file.source, name.span, message)
                .with_help("give ARG a default before the first FROM, or leave AS out"),
        ))
    }

    /// What names two stages names none.
    fn ambiguous(&self, name: &str, (one, other): (usize, usize), source: &Arc<Source>, span: Span) -> Error {
        let message = format!("{name:?} may mean either of {}", lines(self.file, one, other));
        Error::Value(Diagnostic::new(source, span, message).with_help("give each of them a name of its own"))
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
        let context = match self.options.build_contexts.get(image) {
            Some(BuildContext::Directory(path)) => {
                let message =
                    format!("the build context {image} is no image but the files of {}", path.display());
                return Err(Error::Value(
                    Diagnostic::new(&self.file.source, from.image.span, message)
                        .with_help("give an image with --build-context, or FROM scratch and COPY --from"),
                ));
            }
            Some(BuildContext::Image(reference)) => Some(reference.clone()),
            None => None,
        };
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
        if context.is_none() {
            match self.names.named(image, index) {
                Named::One(base) => return Ok(StageBase::Stage(base)),
                Named::Several(one, other) => {
                    return Err(self.ambiguous(image, (one, other), &self.file.source, from.image.span));
                }
                Named::None => {}
            }
        }
        let reference = context.unwrap_or_else(|| image.to_owned());
        Ok(StageBase::Image(ImageKey { reference, platform }))
    }

    /// Those of an image, where it was asked for already, or what an earlier stage says by ONBUILD.
    fn triggers_of(&self, index: usize, base: &StageBase) -> Triggers {
        match base {
            StageBase::Stage(base) => {
                let trigger = |instruction: &Spanned<Instruction>| match &instruction.value {
                    Instruction::Onbuild(onbuild) => Some(Trigger {
                        source: Arc::clone(&self.file.source),
                        escape: self.file.directives.escape,
                        instruction: (*onbuild.trigger).clone(),
                    }),
                    _ => None,
                };
                self.file.stages[*base].instructions.iter().filter_map(trigger).collect()
            }
            StageBase::Image(_) => self.triggers.get(&index).cloned().unwrap_or_default(),
            StageBase::Scratch { .. } => Triggers::default(),
        }
    }

    fn copied_from(
        &self,
        index: usize,
        from: &Spanned<String>,
        scope: &Scope<'_>,
    ) -> Result<CopyFrom, Error> {
        let name = scope.word(from).map_err(Error::Value)?.value;
        let platform = self.options.platform.clone();
        let found = self.names.find(&name, index);
        // A build context takes the place of a stage of its name, whether that is named or counted.
        let of_stage = if let Named::One(stage) = found { self.names.of(stage) } else { None };
        let contexts = &self.options.build_contexts;
        for name in [Some(name.as_str()), of_stage].into_iter().flatten() {
            match contexts.get(name) {
                Some(BuildContext::Directory(_)) => return Ok(CopyFrom::Context(name.to_owned())),
                Some(BuildContext::Image(reference)) => {
                    return Ok(CopyFrom::Image(ImageKey { reference: reference.clone(), platform }));
                }
                None => {}
            }
        }
        match found {
            Named::One(stage) => return Ok(CopyFrom::Stage(stage)),
            Named::Several(one, other) => {
                return Err(self.ambiguous(&name, (one, other), &self.source, from.span));
            }
            Named::None => {}
        }
        if let Named::One(later) | Named::Several(later, _) = self.names.find(&name, self.file.stages.len()) {
            let what = if later == index { "this stage itself" } else { "a later stage" };
            return Err(Error::Value(
                Diagnostic::new(&self.source, from.span, format!("COPY --from={name} names {what}"))
                    .with_help("copy from a stage that stands above"),
            ));
        }
        if name.trim().is_empty() || name.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::Value(
                Diagnostic::new(&self.source, from.span, format!("COPY --from={name} names no stage above"))
                    .with_help("name a stage, an image or a --build-context"),
            ));
        }
        Ok(CopyFrom::Image(ImageKey { reference: name, platform }))
    }

    fn copy(&self, copy: &CopyInstruction, scope: &Scope<'_>) -> Result<(), Error> {
        for source in &copy.sources {
            if let CopySource::Path(path) = source
                && let Ok(text) = scope.word(path)
                && remote(&text.value).is_some()
            {
                return Err(Error::Value(
                    Diagnostic::new(&self.source, path.span, format!("COPY takes no URL: {}", text.value))
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
        Ok(())
    }

    fn refuse_run(&self, instruction: &Spanned<Instruction>, run: &RunInstruction, triggered: bool) -> Error {
        let instead = if triggered { None } else { instead(run) };
        let help = if let Some(instead) = &instead {
            instead
        } else if triggered {
            "choose a base without this trigger, or do what it does in an earlier task of the pipeline and put the \
             result into a base image"
        } else {
            "do this step in an earlier task of the pipeline and COPY its result, or put it into the base image"
        };
        let span = keyword_span(instruction, "RUN");
        self.refuse(span, "RUN is not carried out: crossdock starts no containers", help)
    }

    fn refuse(&self, span: Span, message: &str, help: &str) -> Error {
        Error::Refused(Diagnostic::new(&self.source, span, message).with_help(help))
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

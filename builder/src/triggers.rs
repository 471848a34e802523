//! ONBUILD: the instructions that an image or a stage keeps for those built on it.
//!
//! They stand in the config as text, so each is parsed as a file of its own, and errors point into that. What they
//! copy comes from the context: an image cannot know the stages of the file that will name it.

use std::sync::Arc;

use crossdock_storage::ImageConfig;

use crate::check::{check_trigger, writes};
use crate::containerfile::{Containerfile, Diagnostic, Directives, Instruction, Spanned, Trigger};
use crate::error::Error;
use crate::plan::PlanOptions;
use crate::scope::Scope;

/// A trigger that can be carried out.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The trigger's own text, with the stages of the file that triggers it.
    pub(crate) file: Containerfile,
    pub(crate) instruction: Spanned<Instruction>,
}

impl Parsed {
    /// Whether it may change the file system.
    pub(crate) const fn writes(&self) -> bool {
        writes(&self.instruction.value)
    }
}

/// The triggers of `config`, in order; `name` is what FROM calls it.
pub(crate) fn triggers(
    file: &Containerfile,
    options: &PlanOptions,
    name: &str,
    config: &ImageConfig,
) -> Result<Vec<Parsed>, Error> {
    let mut parsed = Vec::with_capacity(config.config.on_build.len());
    for text in &config.config.on_build {
        let trigger = Trigger::parse(format!("ONBUILD of {name}"), text)?;
        let file = Containerfile {
            source: Arc::clone(&trigger.source),
            directives: Directives { escape: trigger.escape, ..Directives::default() },
            global_args: Vec::new(),
            stages: file.stages.clone(),
            warnings: Vec::new(),
        };
        parsed.push(Parsed { file, instruction: trigger.instruction });
    }
    let scope = Scope::global(file, options).map_err(Error::Value)?.stage(&config.config.env);
    for trigger in &parsed {
        check_trigger(&trigger.file, options, &trigger.instruction, &scope.of_file(&trigger.file))?;
    }
    Ok(parsed)
}

/// The refusal of a source that is no part of the context.
pub(crate) fn refuse_from(file: &Containerfile, from: &Spanned<String>) -> Error {
    Error::Refused(
        Diagnostic::new(
            &file.source,
            from.span,
            "COPY --from in an ONBUILD trigger is not carried out".to_owned(),
        )
        .with_help("write this COPY into the Containerfile that is built on the image"),
    )
}

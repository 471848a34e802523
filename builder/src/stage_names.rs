//! What stages are called, and which of them a name means.
//!
//! A stage may have any name, and several may have one: that is an error only where somebody asks for them by it. buildah takes
//! one of them then, without a word.

use crate::containerfile::{Containerfile, Spanned};
use crate::scope::Scope;

/// The names of all stages, variables put in, in lower case: as with Docker they have no case.
#[derive(Debug)]
pub(crate) struct StageNames(Vec<Option<String>>);

/// The stages of a name.
pub(crate) enum Named {
    None,
    One(usize),
    /// The first two of them.
    Several(usize, usize),
}

impl StageNames {
    /// A name that cannot be expanded is an error only where its stage is needed; here it is as written.
    pub(crate) fn new(file: &Containerfile, global: &Scope<'_>) -> Self {
        let name = |name: &Spanned<String>| {
            let expanded = global.word(name).map_or_else(|_| name.value.clone(), |expanded| expanded.value);
            expanded.to_lowercase()
        };
        Self(file.stages.iter().map(|stage| stage.from.name.as_ref().map(name)).collect())
    }

    /// The name of a stage, if it has one.
    pub(crate) fn of(&self, stage: usize) -> Option<&str> {
        self.0.get(stage)?.as_deref()
    }

    /// The names of the stages before `end`.
    pub(crate) fn before(&self, end: usize) -> Vec<&str> {
        self.0[..end].iter().flatten().map(String::as_str).collect()
    }

    /// The stages before `end` of this name.
    pub(crate) fn named(&self, name: &str, end: usize) -> Named {
        let lower = name.to_lowercase();
        Named::of((0..end).filter(|stage| self.0[*stage].as_ref() == Some(&lower)))
    }

    /// The stages before `end` of this name or number.
    pub(crate) fn find(&self, name: &str, end: usize) -> Named {
        let number = name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok()).flatten();
        let number = number.filter(|number| *number < end);
        match (self.named(name, end), number) {
            (Named::One(named), Some(number)) => Named::of([named, number].into_iter()),
            (Named::None, Some(number)) => Named::One(number),
            (named, _) => named,
        }
    }
}

impl Named {
    fn of(mut stages: impl Iterator<Item = usize>) -> Self {
        let Some(first) = stages.next() else { return Self::None };
        stages.find(|stage| *stage != first).map_or(Self::One(first), |second| Self::Several(first, second))
    }
}

/// The lines of two stages' FROM.
pub(crate) fn lines(file: &Containerfile, one: usize, other: usize) -> String {
    let line = |stage: usize| file.source.position(file.stages[stage].from.span.start).line;
    format!("the stages of lines {} and {}", line(one), line(other))
}

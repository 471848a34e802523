//! `--filter` of `images`, in buildah's words.

use anyhow::{Context as _, Result, anyhow};
use crossdock_storage::Records;
use jiff::Timestamp;

use super::{Listed, split_name};
use crate::args::parse_bool;
use crate::exit::UsageError;
use crate::local::LocalImages;

/// What a list is filtered by.
pub(super) struct Filters {
    /// All of these must hold.
    all: Vec<(Filter, bool)>,
    /// And one of these, where there are some.
    references: Vec<String>,
}

enum Filter {
    Id(String),
    Digest(String),
    Dangling(bool),
    Label {
        key: String,
        value: Option<String>,
    },
    Since(Timestamp),
    Before(Timestamp),
    Reference(String),
    List(bool),
    /// What all images are, or none is.
    Constant(bool),
}

impl Filters {
    /// # Errors
    /// A filter that is not understood, by its text; an image that is not here.
    pub(super) fn parse(texts: &[String], local: &LocalImages) -> Result<Self> {
        let mut filters = Self { all: Vec::new(), references: Vec::new() };
        for text in texts {
            let (wanted, parts) = match text.split_once("!=") {
                Some(parts) => (false, Some(parts)),
                None => (true, text.split_once('=')),
            };
            let Some((name, value)) = parts else {
                return Err(usage(text, "write FILTER=VALUE or FILTER!=VALUE"));
            };
            match Filter::parse(text, name, value, local)? {
                Filter::Reference(pattern) if wanted => filters.references.push(pattern),
                filter => filters.all.push((filter, wanted)),
            }
        }
        Ok(filters)
    }

    pub(super) fn accepts(&self, image: &Listed) -> bool {
        self.all.iter().all(|(filter, wanted)| filter.accepts(image) == *wanted)
            && (self.references.is_empty() || self.references.iter().any(|pattern| is_called(image, pattern)))
    }
}

fn usage(text: &str, reason: &str) -> anyhow::Error {
    UsageError(anyhow!("--filter {text}: {reason}")).into()
}

impl Filter {
    fn parse(text: &str, name: &str, value: &str, local: &LocalImages) -> Result<Self> {
        let created = || -> Result<Timestamp> {
            let image = local.find(value).with_context(|| format!("--filter {text}"))?;
            Ok(Listed::new(&image, &Records::default())?.created)
        };
        let truth =
            || parse_bool(value).map_err(|reason| usage(text, &format!("{name} is true or false: {reason}")));
        match name {
            "id" => Ok(Self::Id(value.strip_prefix("sha256:").unwrap_or(value).to_owned())),
            "digest" if value.starts_with("sha256:") => Ok(Self::Digest(value.to_owned())),
            "digest" => Err(usage(text, "write digest=sha256:...")),
            "dangling" => truth().map(Self::Dangling),
            "label" => {
                let (key, value) =
                    value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value)));
                Ok(Self::Label { key: key.to_owned(), value: value.map(str::to_owned) })
            }
            "since" | "after" => created().map(Self::Since),
            "before" => created().map(Self::Before),
            "reference" => Ok(Self::Reference(value.to_owned())),
            "manifest" => truth().map(Self::List),
            // There are no containers, no intermediate images and no stores that are only read.
            "containers" | "intermediate" | "readonly" => truth().map(|wanted| Self::Constant(!wanted)),
            _ => Err(usage(
                text,
                &format!(
                    "unsupported image filter {name:?}: there are after, before, containers, dangling, digest, id, \
                     intermediate, label, manifest, readonly, reference and since"
                ),
            )),
        }
    }

    fn accepts(&self, image: &Listed) -> bool {
        match self {
            Self::Id(beginning) => image.id.digest().starts_with(beginning),
            Self::Digest(beginning) => image.digest.to_string().starts_with(beginning),
            Self::Dangling(wanted) => image.names.is_empty() == *wanted,
            Self::Label { key, value } => {
                image.labels.get(key).is_some_and(|has| value.as_ref().is_none_or(|value| value == has))
            }
            Self::Since(time) => image.created > *time,
            Self::Before(time) => image.created < *time,
            Self::Reference(pattern) => is_called(image, pattern),
            Self::List(wanted) => image.is_list == *wanted,
            Self::Constant(holds) => *holds,
        }
    }
}

fn is_called(image: &Listed, pattern: &str) -> bool {
    image.names.iter().any(|name| refers(pattern, name))
}

/// Whether a pattern with `*` and `?` is the end of a name, with its tag or without.
fn refers(pattern: &str, name: &str) -> bool {
    let (repository, tag) = split_name(name);
    let with_tag = format!("{repository}:{tag}");
    [repository, with_tag].iter().any(|whole| {
        let starts = std::iter::once(0).chain(whole.match_indices('/').map(|(at, _)| at + 1));
        starts.into_iter().any(|start| matches(pattern.as_bytes(), &whole.as_bytes()[start..]))
    })
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], text) => {
            matches(rest, text)
                || text.split_first().is_some_and(|(c, after)| *c != b'/' && matches(pattern, after))
        }
        ([b'?', rest @ ..], [c, after @ ..]) => *c != b'/' && matches(rest, after),
        ([a, rest @ ..], [b, after @ ..]) => a == b && matches(rest, after),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_the_end_of_a_name() {
        for (pattern, refers_to) in [
            ("model", true),
            ("team/model", true),
            ("quay.io/team/model:1", true),
            ("model:*", true),
            ("mod*", true),
            ("model:2", false),
            ("odel", false),
            ("quay.io/*", false),
            ("quay.io/*/model", true),
            ("m?del:?", true),
        ] {
            assert_eq!(refers(pattern, "quay.io/team/model:1"), refers_to, "{pattern}");
        }
    }
}

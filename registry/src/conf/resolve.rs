//! Where a name leads: short names to whole ones, whole ones to the places they are pulled from.
//!
//! A whole name always names the image; only where its bytes are asked for is changed. Pushes go where the name says, as
//! with containers/image: neither mirrors nor locations have a part in them, `insecure` and `blocked` do.

use std::path::Path;

use super::{PullFrom, RegistriesConf, ShortNameMode, Table};
use crate::error::{Error, Result};
use crate::reference::Reference;

/// A place that an image may be had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The image's name there.
    pub reference: Reference,
    /// Whether certificates are not verified there, and plain http is spoken if need be.
    pub insecure: bool,
    /// Whether it is on another registry than the one that was named: a credential given for that one is not for this.
    pub elsewhere: bool,
}

impl RegistriesConf {
    /// The images that a name may stand for, in the order they are to be looked for: one, where the name has a host.
    ///
    /// A short name is looked up among the aliases, then on each of `unqualified-search-registries`; where no file says
    /// which these are, it is Docker Hub's, as docker has it.
    ///
    /// # Errors
    /// [`Error::Reference`] where it is no name; [`Error::ShortName`] where a file says that there is nowhere to look, or
    /// that someone has to choose.
    pub fn names(&self, text: &str) -> Result<Vec<Reference>> {
        // Of whatever is wrong with it, the error is about what was written.
        let as_on_docker_hub: Reference = text.parse()?;
        if !is_short(text) {
            return Ok(vec![as_on_docker_hub]);
        }
        if let Some(reference) = self.alias(text)? {
            return Ok(vec![reference]);
        }
        let refused = |path: &Path, reason: String| Error::ShortName {
            name: text.to_owned(),
            path: path.to_path_buf(),
            reason,
        };
        let Some((hosts, path)) = &self.search else {
            return Ok(vec![as_on_docker_hub]);
        };
        if hosts.is_empty() {
            return Err(refused(
                path,
                "unqualified-search-registries is empty, and there is no alias".to_owned(),
            ));
        }
        let names = hosts
            .iter()
            .map(|host| whole(host, &format!("/{text}")).map_err(|reason| refused(path, reason)))
            .collect::<Result<Vec<_>>>()?;
        if names.len() > 1 && self.mode == Some(ShortNameMode::Enforcing) {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            return Err(refused(
                path,
                format!("short-name-mode is enforcing, and it may be any of {}", names.join(", ")),
            ));
        }
        Ok(names)
    }

    /// What an alias makes of a short name; none, where there is no alias or the name is not short.
    ///
    /// # Errors
    /// [`Error::Reference`] where the tag or digest after the name is none.
    fn alias(&self, text: &str) -> Result<Option<Reference>> {
        if !is_short(text) {
            return Ok(None);
        }
        let (name, rest) = text.split_at(text.find(['@', ':']).unwrap_or(text.len()));
        match self.aliases.get(name) {
            Some((Some(target), path)) => {
                tracing::debug!(name, target, path = %path.display(), "a short name with an alias");
                format!("{target}{rest}").parse().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The places to pull an image from, in the order they are to be tried: mirrors, then the location itself. Those that
    /// are blocked are left out, unless it is all.
    ///
    /// # Errors
    /// [`Error::Blocked`] where it may not be pulled from anywhere; [`Error::Conf`] where a rewritten name is none.
    pub fn places(&self, reference: &Reference) -> Result<Vec<Place>> {
        let name = reference.to_string();
        let Some((table, matched)) = self.find(reference) else {
            return Ok(vec![Place { reference: reference.clone(), insecure: false, elsewhere: false }]);
        };
        let digested = reference.digest().is_some();
        let rest = &name[matched..];
        let mut places = Vec::new();
        for mirror in &table.mirrors {
            let asked = match mirror.pull {
                PullFrom::All => true,
                PullFrom::DigestOnly => digested,
                PullFrom::TagOnly => !digested,
            };
            if asked {
                places.push((table.rewritten(&mirror.location, rest)?, mirror.insecure, false));
            }
        }
        let itself = match &table.location {
            Some(location) if *location != name[..matched] => table.rewritten(location, rest)?,
            _ => reference.clone(),
        };
        places.push((itself, table.insecure, table.blocked));
        let mut blocked = None;
        let mut open = Vec::new();
        for (physical, insecure, closed) in places {
            let by = self.find(&physical).map(|(table, _)| table).filter(|table| table.blocked);
            match by.or(closed.then_some(table)) {
                Some(by) => blocked = Some(by),
                None => {
                    let elsewhere = physical.registry() != reference.registry();
                    open.push(Place { reference: physical, insecure, elsewhere });
                }
            }
        }
        match blocked {
            Some(by) if open.is_empty() => Err(by.blocks(reference)),
            _ => Ok(open),
        }
    }

    /// Whether a registry is spoken to without verified certificates in a push to `reference`.
    ///
    /// # Errors
    /// [`Error::Blocked`].
    pub fn push(&self, reference: &Reference) -> Result<bool> {
        match self.find(reference) {
            Some((table, _)) if table.blocked => Err(table.blocks(reference)),
            found => Ok(found.is_some_and(|(table, _)| table.insecure)),
        }
    }

    /// The table with the longest prefix, and how many bytes of the name it matches. Tag and digest have no part in it:
    /// the manual page lets a prefix have them, but containers/image never finds one that has.
    fn find(&self, reference: &Reference) -> Option<(&Table, usize)> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        self.registries
            .iter()
            .filter_map(|table| matched(&name, &table.prefix).map(|bytes| (table, bytes)))
            .max_by_key(|(table, _)| table.prefix.len())
    }
}

impl Table {
    fn rewritten(&self, location: &str, rest: &str) -> Result<Reference> {
        whole(location, rest).map_err(|reason| Error::Conf {
            path: self.path.clone(),
            reason: format!("[[registry]] {}: {reason}", self.prefix),
        })
    }

    fn blocks(&self, reference: &Reference) -> Error {
        Error::Blocked { image: reference.to_string(), prefix: self.prefix.clone(), path: self.path.clone() }
    }
}

/// How many bytes of a name a prefix matches. `example.com` is for `example.com:5000` too, as containers/image has it.
fn matched(name: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(domain) => {
            let at = name.find(domain)?;
            if name[..at].contains('/') {
                return None;
            }
            at + domain.len()
        }
        None if name.starts_with(prefix) => prefix.len(),
        None => return None,
    };
    let next = name[end..].chars().next();
    next.is_none_or(|c| matches!(c, ':' | '/')).then_some(end)
}

/// A name at a location, which must still be one with that host.
fn whole(location: &str, rest: &str) -> Result<Reference, String> {
    let text = format!("{location}{rest}");
    let host = location.split('/').next().unwrap_or_default();
    if !has_host(&format!("{host}/")) {
        return Err(format!(
            "{location} has no host that can be told from a repository: it needs a dot or a port"
        ));
    }
    text.parse::<Reference>().map_err(|error| error.to_string())
}

/// The target of an alias, whole and without tag and digest.
pub(super) fn alias_target(text: &str) -> Result<String, &'static str> {
    if !has_host(text) {
        return Err("write HOST[:PORT]/REPOSITORY");
    }
    let path = text.split_once('/').map_or("", |(_, path)| path);
    if path.contains(['@', ':']) {
        return Err("an alias has neither tag nor digest");
    }
    let reference: Reference = text.parse().map_err(|_| "that is not the name of an image")?;
    Ok(format!("{}/{}", reference.registry(), reference.repository()))
}

/// Whether a name lacks a host.
pub(super) fn is_short(name: &str) -> bool {
    !has_host(name)
}

fn has_host(name: &str) -> bool {
    name.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost")
}

/// Without slashes at the end.
pub(super) fn without_slash(text: &str) -> &str {
    text.trim_end_matches('/')
}

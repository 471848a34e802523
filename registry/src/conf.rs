//! `RegistriesConf`: containers-registries.conf(5), version 2, read from its files and put together.
//!
//! The user's file takes the place of the system's; drop-in files are laid over it, a `[[registry]]` as a whole in the
//! place of one with the same prefix. What it says is in `resolve`: where a name leads.

mod resolve;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;

use crate::error::{Error, Result};
pub use resolve::Place;
use resolve::{alias_target, is_short, without_slash};

/// The directory of drop-in files, beside the file.
const DROP_INS: &str = "registries.conf.d";

/// Where the files are.
#[derive(Debug, Clone, Default)]
pub struct ConfPaths {
    /// A file that was named (by the command line or the environment): it must be there, and stands for
    /// `files`.
    pub explicit: Option<PathBuf>,
    /// The first of these that is there counts.
    pub files: Vec<PathBuf>,
    /// Directories of drop-in files, `*.conf`, later ones over earlier ones.
    pub drop_ins: Vec<PathBuf>,
    /// Where podman keeps the short names that were resolved before.
    pub aliases: Option<PathBuf>,
    /// Whether the first of `drop_ins` was named: then it must be readable where it is there. So must `aliases`, where
    /// `aliases_named` says so. What nobody named counts as absent where it cannot be read.
    pub drop_ins_named: bool,
    /// See `drop_ins_named`.
    pub aliases_named: bool,
}

/// What a command line names in the place of the usual paths.
#[derive(Debug, Clone, Default)]
pub struct ConfGiven {
    /// The file.
    pub file: Option<PathBuf>,
    /// The directory of the system's drop-in files; the user's own count beside it.
    pub drop_ins: Option<PathBuf>,
    /// The short names that were resolved before.
    pub aliases: Option<PathBuf>,
}

impl ConfPaths {
    /// The paths of containers/image. `lookup` is `std::env::var_os` in a program; empty variables count as unset.
    #[must_use]
    pub fn from_lookup(given: ConfGiven, lookup: impl Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        let path = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let user = home.as_ref().map(|home| home.join(".config/containers"));
        let system = Path::new("/etc/containers");
        let directories = || user.iter().map(PathBuf::as_path);
        let cache = if uid == 0 {
            Some(PathBuf::from("/var/cache"))
        } else {
            path("XDG_CACHE_HOME").or_else(|| home.as_ref().map(|home| home.join(".cache")))
        };
        Self {
            drop_ins_named: given.drop_ins.is_some(),
            aliases_named: given.aliases.is_some(),
            explicit: given
                .file
                .or_else(|| path("CONTAINERS_REGISTRIES_CONF"))
                // The older name, which podman and buildah read as well.
                .or_else(|| path("REGISTRIES_CONFIG_PATH")),
            files: directories().chain([system]).map(|d| d.join("registries.conf")).collect(),
            drop_ins: [given.drop_ins.unwrap_or_else(|| system.join(DROP_INS))]
                .into_iter()
                .chain(directories().map(|d| d.join(DROP_INS)))
                .collect(),
            aliases: given
                .aliases
                .or_else(|| cache.map(|cache| cache.join("containers/short-name-aliases.conf"))),
        }
    }
}

/// What the files say; the default is that of no file at all.
#[derive(Debug, Clone, Default)]
pub struct RegistriesConf {
    registries: Vec<Table>,
    /// Hosts to look for a short name, and the file that lists them.
    search: Option<(Vec<String>, PathBuf)>,
    mode: Option<ShortNameMode>,
    /// An alias that a file resets has no target.
    aliases: BTreeMap<String, (Option<String>, PathBuf)>,
}

/// What is done where a short name may be one of several images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ShortNameMode {
    /// Someone has to choose.
    Enforcing,
    /// Someone is asked, if someone is there.
    Permissive,
    /// Nobody is asked.
    Disabled,
}

/// A `[[registry]]`, checked.
#[derive(Debug, Clone)]
struct Table {
    prefix: String,
    /// None, where a name stays as it is.
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
    /// The file it is from.
    path: PathBuf,
}

#[derive(Debug, Clone)]
struct Mirror {
    location: String,
    insecure: bool,
    pull: PullFrom,
}

/// For which references a mirror is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PullFrom {
    All,
    DigestOnly,
    TagOnly,
}

/// A file as it is written. Keys that are not known are passed over, as containers/image does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<String>,
    #[serde(default)]
    registry: Vec<RawTable>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Version 1.
    registries: Option<toml::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawTable {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    pull_from_mirror: Option<String>,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

impl RegistriesConf {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Conf`] where a file that was named is not there or cannot be read, or one that is there is not TOML, is of
    /// version 1, or contradicts itself. A file that nobody named and that cannot be read is warned of.
    pub fn load(paths: &ConfPaths) -> Result<Self> {
        let mut conf = Self::default();
        match &paths.explicit {
            Some(path) => match read(path, true)? {
                Some(text) => conf.lay(path, &text)?,
                None => return Err(wrong(path, "there is no such file")),
            },
            None => {
                for path in &paths.files {
                    if let Some(text) = read(path, false)? {
                        conf.lay(path, &text)?;
                        break;
                    }
                }
            }
        }
        for (at, directory) in paths.drop_ins.iter().enumerate() {
            let named = at == 0 && paths.drop_ins_named;
            for path in drop_ins(directory, named)? {
                if let Some(text) = read(&path, named)? {
                    conf.lay(&path, &text)?;
                }
            }
        }
        // Of this file only the aliases count, and they count first.
        if let Some(path) = &paths.aliases
            && let Some(text) = read(path, paths.aliases_named)?
        {
            let aliases = Self::parse(path, &text)?.aliases;
            conf.aliases.extend(aliases);
        }
        conf.check()?;
        Ok(conf)
    }

    /// The same without any `insecure = true`: for a command line that asks for verified certificates in so many words.
    #[must_use]
    pub fn with_all_secure(mut self) -> Self {
        for table in &mut self.registries {
            table.insecure = false;
            for mirror in &mut table.mirrors {
                mirror.insecure = false;
            }
        }
        self
    }

    /// Where short names are looked for (`unqualified-search-registries`), in order.
    #[must_use]
    pub fn search_registries(&self) -> &[String] {
        self.search.as_ref().map_or(&[], |(hosts, _)| hosts)
    }

    /// Lays a file over what there is.
    fn lay(&mut self, path: &Path, text: &str) -> Result<()> {
        let over = Self::parse(path, text)?;
        for table in over.registries {
            // The same prefix twice in one file: the last counts too.
            match self.registries.iter_mut().find(|there| there.prefix == table.prefix) {
                Some(there) => *there = table,
                None => self.registries.push(table),
            }
        }
        self.search = over.search.or(self.search.take());
        self.mode = over.mode.or(self.mode);
        self.aliases.extend(over.aliases);
        Ok(())
    }

    /// One file.
    fn parse(path: &Path, text: &str) -> Result<Self> {
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or_else(String::new, |span| place_in(text, span.start));
            wrong(path, &format!("{at}{}", error.message()))
        })?;
        if raw.registries.is_some() {
            return Err(wrong(
                path,
                "it has the old format, version 1 ([registries.search], [registries.insecure], [registries.block]): \
                 write it anew as unqualified-search-registries and [[registry]], see containers-registries.conf(5)",
            ));
        }
        let search = raw
            .unqualified_search_registries
            .map(|hosts| hosts.iter().map(|host| search_host(path, host)).collect::<Result<Vec<_>>>())
            .transpose()?
            .map(|hosts| (hosts, path.to_path_buf()));
        let mode = match raw.short_name_mode.as_deref() {
            None | Some("") => None,
            Some("enforcing") => Some(ShortNameMode::Enforcing),
            Some("permissive") => Some(ShortNameMode::Permissive),
            Some("disabled") => Some(ShortNameMode::Disabled),
            Some(other) => {
                return Err(wrong(
                    path,
                    &format!("short-name-mode is {other:?}: enforcing, permissive and disabled are known"),
                ));
            }
        };
        let mut aliases = BTreeMap::new();
        for (name, target) in raw.aliases {
            if !is_short(&name) || name.contains(['@', ':']) || name.is_empty() {
                return Err(wrong(
                    path,
                    &format!("the alias {name:?} has a registry, a tag or a digest in its name"),
                ));
            }
            let target = match target.as_str() {
                "" => None,
                text => Some(alias_target(text).map_err(|reason| {
                    wrong(path, &format!("the alias {name} leads to {text:?}: {reason}"))
                })?),
            };
            aliases.insert(name, (target, path.to_path_buf()));
        }
        let registries =
            raw.registry.into_iter().map(|table| Table::new(path, table)).collect::<Result<_>>()?;
        Ok(Self { registries, search, mode, aliases })
    }

    /// What no single table shows.
    fn check(&self) -> Result<()> {
        for (at, one) in self.registries.iter().enumerate() {
            for other in &self.registries[..at] {
                if one.location.is_none() || one.location != other.location {
                    continue;
                }
                let conflict =
                    [("insecure", one.insecure != other.insecure), ("blocked", one.blocked != other.blocked)];
                if let Some((key, _)) = conflict.iter().find(|(_, differs)| *differs) {
                    let location = one.location.as_deref().unwrap_or_default();
                    return Err(wrong(
                        &one.path,
                        &format!(
                            "the location {location} is in two [[registry]] tables (prefixes {} and {}) that differ in \
                             {key}",
                            other.prefix, one.prefix
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Table {
    fn new(path: &Path, raw: RawTable) -> Result<Self> {
        let location = location(path, &raw.location)?;
        let prefix = match (location_or_prefix(path, &raw.prefix)?, &location) {
            (Some(prefix), _) => prefix,
            (None, Some(location)) => location.clone(),
            (None, None) => return Err(wrong(path, "a [[registry]] has neither prefix nor location")),
        };
        let named = |what: &str| wrong(path, &format!("[[registry]] {prefix}: {what}"));
        if prefix.contains('*') && (!prefix.starts_with("*.") || prefix[1..].contains(['*', '/', '@'])) {
            return Err(named("a wildcard stands for the first part of a host, as in *.example.com"));
        }
        if location.is_none() && !prefix.starts_with("*.") {
            return Err(named("it has no location, and its prefix is not of the form *.example.com"));
        }
        if prefix.contains('@') || prefix.split_once('/').is_some_and(|(_, path)| path.contains(':')) {
            tracing::warn!(path = %path.display(), prefix, "a [[registry]] whose prefix has a tag or digest counts for no image");
        }
        if raw.pull_from_mirror.is_some_and(|value| !value.is_empty()) {
            return Err(named("pull-from-mirror is for a [[registry.mirror]]"));
        }
        let mut mirrors = Vec::new();
        for mirror in raw.mirror {
            let place = self::location(path, &mirror.location)?
                .ok_or_else(|| named("one of its mirrors has no location"))?;
            let pull = match mirror.pull_from_mirror.as_str() {
                "" if raw.mirror_by_digest_only => PullFrom::DigestOnly,
                _ if raw.mirror_by_digest_only => {
                    return Err(named("mirror-by-digest-only and pull-from-mirror do not go together"));
                }
                "" | "all" => PullFrom::All,
                "digest-only" => PullFrom::DigestOnly,
                "tag-only" => PullFrom::TagOnly,
                other => {
                    return Err(named(&format!(
                        "pull-from-mirror of {place} is {other:?}: all, digest-only and tag-only are known"
                    )));
                }
            };
            mirrors.push(Mirror { location: place, insecure: mirror.insecure, pull });
        }
        Ok(Self {
            prefix,
            location,
            insecure: raw.insecure,
            blocked: raw.blocked,
            mirrors,
            path: path.to_path_buf(),
        })
    }
}

/// A file's text; `None` where it is not there, or nobody named it and it cannot be read.
fn read(path: &Path, named: bool) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => absent(path, named, &error).map(|()| None),
    }
}

/// The drop-in files of a directory in the order of their names.
fn drop_ins(directory: &Path, named: bool) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return absent(directory, named, &error).map(|()| Vec::new()),
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "conf") && path.is_file())
        .collect();
    files.sort();
    Ok(files)
}

/// Takes what cannot be read for what is not there, unless somebody named it.
fn absent(path: &Path, named: bool, error: &io::Error) -> Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
        _ if named => Err(wrong(path, &format!("it cannot be read: {error}"))),
        // It was read, and is something else than it is called.
        io::ErrorKind::InvalidData => Err(wrong(path, "it is not UTF-8")),
        _ => {
            tracing::warn!("{} cannot be read, and is left out: {error}", path.display());
            Ok(())
        }
    }
}

fn location(path: &Path, text: &str) -> Result<Option<String>> {
    let Some(text) = location_or_prefix(path, text)? else { return Ok(None) };
    if text.contains(['*', '@']) {
        return Err(wrong(path, &format!("the location {text:?} is not HOST[:PORT][/NAMESPACE]")));
    }
    Ok(Some(text))
}

fn location_or_prefix(path: &Path, text: &str) -> Result<Option<String>> {
    if text.contains("://") {
        return Err(wrong(path, &format!("{text:?} is a URL: leave the scheme out")));
    }
    let trimmed = without_slash(text);
    if trimmed.is_empty() && !text.is_empty() {
        return Err(wrong(path, &format!("{text:?} is not a location")));
    }
    Ok(Some(trimmed.to_owned()).filter(|text| !text.is_empty()))
}

fn search_host(path: &Path, text: &str) -> Result<String> {
    match location_or_prefix(path, text)? {
        Some(host) if !host.contains(['/', '@', '*']) => Ok(host),
        _ => Err(wrong(path, &format!("unqualified-search-registries: {text:?} is not HOST[:PORT]"))),
    }
}

/// `LINE:COLUMN: ` of a byte of a text.
fn place_in(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}: ")
}

fn wrong(path: &Path, reason: &str) -> Error {
    Error::Conf { path: path.to_path_buf(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;

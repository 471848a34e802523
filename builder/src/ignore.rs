//! Ignore files: what of the context a build does not see.
//!
//! The rules are buildah's (`fileutils.PatternMatcher.Matches` of containers/storage, in 1.45 as in 1.28): patterns are relative
//! to the context root, the last one that matches decides, `!` takes back, and a pattern that matches a directory
//! matches all below it, with `!` as well. moby/patternmatcher differs there: a `!` that matches a directory which is not
//! ignored says nothing of what is in it. See [`pattern`](crate::pattern) for why no crate does this.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::pattern::{Dialect, Pattern};

/// The patterns of an ignore file, or none.
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    /// As errors name it; empty where there is no file.
    name: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    line: usize,
    exception: bool,
    pattern: Pattern,
    /// The cleaned pattern's components, to tell whether an exception may match below a directory.
    components: Vec<String>,
}

/// What each pattern said of a directory; its children need it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ParentMatch(Vec<bool>);

/// What an ignore file says of a path.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// The line of the pattern that ignores the path, if it is ignored.
    pub(crate) ignored_by: Option<usize>,
    /// For the children of the path.
    pub(crate) matched: ParentMatch,
}

impl IgnoreFile {
    /// No file: nothing is ignored.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The ignore file that holds for a build, if there is one: `given` (`--ignorefile`), else
    /// `<Containerfile>.containerignore` or `.dockerignore` beside the Containerfile where that is a file, else
    /// `.containerignore` or `.dockerignore` in the context root.
    ///
    /// # Errors
    /// A file that cannot be read, `given` that does not exist, or a pattern that is malformed.
    pub fn find(context: &Path, containerfile: Option<&Path>, given: Option<&Path>) -> Result<Self, Error> {
        if let Some(path) = given {
            return match read(path)? {
                Some(text) => Self::parse(path.display().to_string(), &text),
                None => {
                    Err(Error::IgnoreFile { path: path.to_owned(), source: io::ErrorKind::NotFound.into() })
                }
            };
        }
        let extensions = [".containerignore", ".dockerignore"];
        let beside = containerfile.filter(|path| path.is_file()).into_iter().flat_map(|path| {
            extensions.map(|extension| {
                let mut name = OsString::from(path);
                name.push(extension);
                let path = PathBuf::from(name);
                let shown = path.display().to_string();
                (path, shown)
            })
        });
        let inside = extensions.map(|name| (context.join(name), name.to_owned()));
        for (path, shown) in beside.chain(inside) {
            if let Some(text) = read(&path)? {
                return Self::parse(shown, &text);
            }
        }
        Ok(Self::none())
    }

    /// Reads patterns, one a line; errors and messages call the file `name`.
    ///
    /// # Errors
    /// A pattern that is malformed.
    pub fn parse(name: impl Into<String>, text: &str) -> Result<Self, Error> {
        let name = name.into();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // moby looks for the comment before it trims: ` #x` is a pattern.
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let rule = Rule::new(line, index + 1).map_err(|reason| Error::IgnorePattern {
                name: name.clone(),
                line: index + 1,
                pattern: line.trim().to_owned(),
                reason,
            })?;
            rules.push(rule);
        }
        Ok(Self { name, rules })
    }

    /// Patterns that are given one by one, as `--exclude` does.
    pub(crate) fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let rules = patterns
            .into_iter()
            .filter(|pattern| !pattern.trim().is_empty())
            .enumerate()
            .map(|(index, pattern)| Rule::new(pattern, index + 1))
            .collect::<Result<_, _>>()?;
        Ok(Self { name: "--exclude".to_owned(), rules })
    }

    /// How errors name the file; empty where there is none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The line that ignores `path`, which is relative to the context root and has no `.`, `..` or empty parts.
    #[must_use]
    pub fn ignored_by(&self, path: impl AsRef<[u8]>) -> Option<usize> {
        self.verdict(path.as_ref()).ignored_by
    }

    /// As [`ignored_by`](Self::ignored_by), from the topmost directory down.
    pub(crate) fn verdict(&self, path: &[u8]) -> Verdict {
        let mut verdict = Verdict { ignored_by: None, matched: ParentMatch::default() };
        if path.is_empty() || self.rules.is_empty() {
            return verdict;
        }
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            verdict = self.child(&path[..end], &verdict.matched);
        }
        verdict
    }

    /// What is said of `path`, whose directory got `parent`.
    pub(crate) fn child(&self, path: &[u8], parent: &ParentMatch) -> Verdict {
        let mut ignored_by = None;
        let mut matched = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.iter().enumerate() {
            let inherited = parent.0.get(index).copied().unwrap_or(false);
            // Each is asked, also one that changes nothing here: what a `!` says of a directory holds for what is in it, where
            // another pattern may ignore something.
            let hit = inherited || rule.pattern.matches(path);
            matched.push(hit);
            if hit {
                ignored_by = (!rule.exception).then_some(rule.line);
            }
        }
        Verdict { ignored_by, matched: ParentMatch(matched) }
    }

    /// Whether an exception may match something below the directory `path`.
    pub(crate) fn may_except_below(&self, path: &[u8]) -> bool {
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        self.rules.iter().filter(|rule| rule.exception).any(|rule| {
            for (index, component) in rule.components.iter().enumerate() {
                if component.contains("**") {
                    return true;
                }
                let Some(part) = parts.get(index) else { return true };
                let fits = Pattern::new(component, Dialect::Component).map_or(true, |p| p.matches(part));
                if !fits {
                    return false;
                }
            }
            false
        })
    }
}

impl Rule {
    fn new(line: &str, number: usize) -> Result<Self, String> {
        let text = line.trim();
        let (exception, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        if text.is_empty() {
            return Err("there is nothing behind the !".to_owned());
        }
        let text = clean(text);
        let text = if text.len() > 1 { text.strip_prefix('/').unwrap_or(&text) } else { &text };
        let pattern = Pattern::new(text, Dialect::Ignore).map_err(|bad| bad.to_string())?;
        let components = text.split('/').map(str::to_owned).collect();
        Ok(Self { line: number, exception, pattern, components })
    }
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(Error::IgnoreFile { path: path.to_owned(), source }),
    }
}

/// Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&"..") => parts.push(part),
                Some(_) => {
                    parts.pop();
                }
                None if rooted => {}
                None => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str, path: &str) -> Option<usize> {
        IgnoreFile::parse(".containerignore", text).unwrap().ignored_by(path)
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        for (text, path, expected) in [
            ("*.go", "f.go", Some(1)),
            ("*.go\n!f.go", "f.go", None),
            ("!f.go\n*.go", "f.go", Some(2)),
            ("docs\n!docs/README.md", "docs/README.md", None),
            ("docs\n!docs/README.md", "docs/a.md", Some(1)),
            ("docs/\n!docs/README.md", "docs/README.md", None),
            ("docs/*\n!docs/README.md", "docs/README.md", None),
            ("**\n!util/docker/web", "util/docker/web/foo", None),
            ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", Some(3)),
            ("# comment\n\n  a  ", "a", Some(3)),
            (" #a", "#a", Some(1)),
            ("/a/", "a/b/c", Some(1)),
            ("./a/../b", "b", Some(1)),
            (".", "a", None),
            ("/", "a", None),
            ("..", "a", None),
            ("../a", "a", None),
            ("\u{feff}a", "a", Some(1)),
            ("! a", "a", None),
            ("*\n! a", "a", None),
            ("a\r\n", "a", Some(1)),
            ("*\n!*.bin\n", "models/x.bin", Some(1)),
            ("*\n!**/*.bin\n", "models/x.bin", None),
            ("**/*.safetensors\n!m/sub", "m/sub/x.safetensors", None),
            ("**/*.safetensors\n!m/sub", "m/x.safetensors", Some(1)),
            ("**/*.safetensors\n!m", "m/sub/x.safetensors", None),
            ("**/*.safetensors\n!m/sub/*", "m/sub/x.safetensors", None),
            ("**/file1\n!dir", "dir/file1", None),
            ("**/file1\n!dir", "file1", Some(1)),
            ("*/*.safetensors\n!m", "m/x.safetensors", None),
            ("!m\n**/*.safetensors", "m/x.safetensors", Some(2)),
            ("**/*.safetensors\n!m\nm/sub", "m/sub/x.safetensors", Some(3)),
        ] {
            assert_eq!(ignored(text, path), expected, "{text:?} {path}");
        }
    }

    #[test]
    fn malformed_lines_are_told_by_line() {
        for (text, expected) in [
            ("a\n!", ".dockerignore:2: invalid pattern \"!\", there is nothing behind the !"),
            (
                "[a",
                ".dockerignore:1: invalid pattern \"[a\", a [ is not closed, a class is empty or reversed, or the \
                 pattern ends with a backslash",
            ),
        ] {
            assert_eq!(IgnoreFile::parse(".dockerignore", text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_directory_is_entered_only_for_an_exception() {
        let file = IgnoreFile::parse("x", "*\n!a/b/c\n!d*/e\n!**/z").unwrap();
        assert!(file.may_except_below(b"a"));
        assert!(file.may_except_below(b"q"), "**/z");
        let file = IgnoreFile::parse("x", "*\n!a/b/c\n!d*/e").unwrap();
        for (path, expected) in [
            ("a", true),
            ("a/b", true),
            ("a/x", false),
            ("q", false),
            ("data", true),
            ("data/e", false),
            ("a/b/c", false),
        ] {
            assert_eq!(file.may_except_below(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn the_containerfiles_own_file_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let containerfile = dir.path().join("Build.file");
        fs::write(&containerfile, "").unwrap();
        let find = || IgnoreFile::find(dir.path(), Some(&containerfile), None).unwrap();
        assert!(find().is_empty());
        for name in
            [".dockerignore", ".containerignore", "Build.file.dockerignore", "Build.file.containerignore"]
        {
            fs::write(dir.path().join(name), "x").unwrap();
            assert!(find().name().ends_with(name), "{}", find().name());
        }
        let given = dir.path().join(".dockerignore");
        let file = IgnoreFile::find(dir.path(), Some(&containerfile), Some(&given)).unwrap();
        assert_eq!(file.name(), given.display().to_string());
        let missing = dir.path().join("none");
        assert!(IgnoreFile::find(dir.path(), None, Some(&missing)).is_err());
    }
}

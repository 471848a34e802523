//! The rules, one after the other, over all the files of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossdock_storage::{Cancel, Counters, LayerPath, escape_line, in_parallel};

use super::files::{self, Contents, File, Files, INDEX};
use super::finding::{Finding, ModelReport, Rule, Severity, are, count, named};
use super::index::Index;
use super::look::{Fault, quoted};
use super::numbered::Numbered;
use super::safetensors::Header;
use super::twice::{self, Twice};
use crate::containerfile::{Diagnostic, Source, Span};
use crate::error::Error;
use crate::size::size;
use crate::tree::{FileTree, Node, NodeKind, State};

/// What an instruction brought into the image.
#[derive(Debug)]
pub(crate) struct Brought<'a> {
    pub(crate) keyword: &'static str,
    pub(crate) source: &'a Arc<Source>,
    pub(crate) span: Span,
    /// The directory that it copied into.
    pub(crate) into: Option<&'a LayerPath>,
    /// Whether `--exclude` leaves files out.
    pub(crate) excludes: bool,
    pub(crate) files: &'a FileTree,
}

/// The configs that programs look for beside weights: of transformers, Mistral, PEFT, diffusers, and others.
const CONFIGS: [&str; 6] =
    ["config.json", "params.json", "adapter_config.json", "model_index.json", "config.yaml", "config.yml"];

/// A set of so many files, of which one is there, is none.
const MAX_SHARDS: u32 = 100_000;

/// Looks at what the instructions of the target have brought into the image, whose files are those of `tree`.
///
/// # Errors
/// [`Error::Interrupted`] where `cancel` says so.
pub(crate) fn check(tree: &FileTree, brought: &[Brought<'_>], cancel: &Cancel) -> Result<ModelReport, Error> {
    let mut files = files::of(tree, brought.iter().map(|one| one.files));
    let counters = Arc::new(Counters::default());
    let mut all: Vec<&mut File> = files.values_mut().flatten().collect();
    in_parallel(&mut all, |file| {
        cancel.check().map_err(|_| Error::Interrupted)?;
        file.look(&counters);
        Ok::<_, Error>(())
    })?;
    let looked = files.values().flatten().filter(|file| file.seen.is_some()).count();
    let mut check = Check { tree, brought, files: &files, findings: Vec::new(), told: BTreeSet::new() };
    check.single_files();
    check.indexes();
    check.numbers();
    check.twice();
    check.configs();
    check.empty();
    check.pickles();
    let mut findings = check.findings;
    findings.sort_by(|a, b| (a.severity, &a.paths).cmp(&(b.severity, &b.paths)));
    Ok(ModelReport { findings, files: looked, bytes_read: counters.read() })
}

struct Check<'a> {
    tree: &'a FileTree,
    brought: &'a [Brought<'a>],
    files: &'a Files,
    findings: Vec<Finding>,
    /// Files that are not there, and are told of.
    told: BTreeSet<LayerPath>,
}

/// What the names of numbered files have in common: before the numbers, behind, and how many there are.
type Set = (String, String, String);

/// What stands at a path of the image.
enum There {
    Yes,
    No,
    /// The base may have it.
    Unknown,
    /// A symlink that leads nowhere.
    Dangling(String),
}

impl<'a> Check<'a> {
    /// Adds what was found of some files, of which there is one.
    fn add(&mut self, rule: Rule, severity: Severity, paths: Vec<LayerPath>, message: String, help: String) {
        let at = paths.first().and_then(|path| self.brought_by(path));
        let diagnostic =
            at.map(|one| Diagnostic::new(one.source, one.span, message.clone()).with_help(help.clone()));
        self.findings.push(Finding { rule, severity, paths, message, help, bytes: None, diagnostic });
    }

    /// The last instruction that wrote a file, or something in a directory.
    fn brought_by(&self, path: &LayerPath) -> Option<&'a Brought<'a>> {
        self.brought.iter().rev().find(|one| one.files.get(path).is_some())
    }

    fn there(&self, path: &LayerPath) -> There {
        match self.tree.lookup(path, true) {
            Ok(lookup) => match lookup.state {
                State::Found(_) => There::Yes,
                State::Unknown => There::Unknown,
                State::Missing => match self.tree.get(path).map(|node| &node.kind) {
                    Some(NodeKind::Symlink(target)) => {
                        There::Dangling(String::from_utf8_lossy(target).into_owned())
                    }
                    _ => There::No,
                },
            },
            Err(_) => There::No,
        }
    }

    /// What is wrong with a file by itself.
    fn single_files(&mut self) {
        for file in self.files.values().flatten() {
            let broken = |rule, message: String, help: &str| (rule, message, help.to_owned());
            let again = "download it again";
            let (rule, message, help) = match file.seen.as_deref() {
                Some(Contents::Pointer(pointer)) => {
                    let stands_for =
                        pointer.size.map(|bytes| format!(" ({})", size(bytes))).unwrap_or_default();
                    let message = format!(
                        "{} is a pointer of Git LFS, {} long, and not the file itself{stands_for}",
                        file.path,
                        size(file.len)
                    );
                    broken(Rule::LfsPointer, message, "run `git lfs pull` where the model was cloned")
                }
                Some(Contents::Safetensors(Err(Fault(what)))) => {
                    broken(Rule::Safetensors, format!("{} {what}", file.path), again)
                }
                Some(Contents::Gguf(Err(Fault(what)))) => {
                    broken(Rule::Gguf, format!("{} {what}", file.path), again)
                }
                Some(Contents::Index(Err(Fault(what)))) => {
                    broken(Rule::Index, format!("{} {what}", file.path), again)
                }
                _ => continue,
            };
            self.add(rule, Severity::Broken, vec![file.path.clone()], message, help);
        }
    }

    /// The shards that an index names are there, and have the tensors.
    fn indexes(&mut self) {
        for (directory, files) in self.files {
            let by_path: BTreeMap<_, _> = files.iter().map(|file| (&file.path, file)).collect();
            for file in files {
                if let Some(Contents::Index(Ok(index))) = file.seen.as_deref() {
                    self.index(directory, file, index.inner(), &by_path);
                }
            }
        }
    }

    fn index(
        &mut self,
        directory: &LayerPath,
        file: &File,
        index: &Index,
        by_path: &BTreeMap<&LayerPath, &'a File>,
    ) {
        let (mut missing, mut links, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
        let mut outside = false;
        for (shard, tensors) in &index.shards {
            let Ok(path) = directory.join(shard.as_bytes()) else {
                missing.push(quoted(shard));
                outside = true;
                continue;
            };
            match self.there(&path) {
                There::Yes => {}
                There::Unknown => continue,
                There::No => {
                    missing.push(escape_line(&path.to_string()).into_owned());
                    self.told.insert(path);
                    continue;
                }
                There::Dangling(target) => {
                    links.push(escape_line(&format!("{path} -> {target}")).into_owned());
                    self.told.insert(path);
                    continue;
                }
            }
            let header: Option<&Header> = match by_path.get(&path).and_then(|file| file.seen.as_deref()) {
                Some(Contents::Safetensors(Ok(header))) => header.whole(),
                _ => None,
            };
            let Some(header) = header else { continue };
            let absent: Vec<_> = tensors.iter().filter(|tensor| !header.has(tensor)).collect();
            if let Some(first) = absent.first() {
                lacking.push((path, quoted(first), absent.len(), header.count()));
            }
        }
        let name = &file.path;
        if missing.len() == index.shards.len() && !missing.is_empty() && !outside {
            // None of them was to come along, as where another form of the model is packed.
            let message = format!(
                "{name} names {}, and none of them is in the image: {}",
                count(index.shards.len(), "file"),
                named(&missing)
            );
            let help = "leave the index out too, or copy the files that it names".to_owned();
            self.add(Rule::Index, Severity::Wasteful, vec![name.clone()], message, help);
        } else if !missing.is_empty() {
            let message = format!(
                "{name} names {}, and {} of them {} not in the image: {}",
                count(index.shards.len(), "file"),
                missing.len(),
                are(missing.len()),
                named(&missing)
            );
            let help =
                "download them, or take the line that leaves them out of the ignore file or of --exclude";
            self.add(Rule::Index, Severity::Broken, vec![name.clone()], message, help.to_owned());
        }
        if !links.is_empty() {
            let message =
                format!("{name} names files that are symlinks to nowhere in the image: {}", named(&links));
            let help = "build with --follow-links to copy what they point to".to_owned();
            self.add(Rule::Index, Severity::Broken, vec![name.clone()], message, help);
        }
        for (path, tensor, absent, has) in lacking {
            let more = if absent == 1 { String::new() } else { format!(" and {} more", absent - 1) };
            let message = format!(
                "{path} has {}, and {absent} that {name} looks for there {} not among them: {tensor}{more}",
                count(has, "tensor"),
                are(absent)
            );
            let help = "download the shard and the index of one revision".to_owned();
            self.add(Rule::Index, Severity::Broken, vec![path, name.clone()], message, help);
        }
    }

    /// Of numbered files all are there, and a part of a split GGUF file is the part that its name says.
    fn numbers(&mut self) {
        for (directory, files) in self.files {
            let mut sets: BTreeMap<Set, Vec<(u32, &File)>> = BTreeMap::new();
            for file in files.iter().filter(|file| is_shard(file)) {
                let name = file.name();
                let numbered = Numbered::parse(&name);
                self.split(file, numbered.as_ref());
                if let Some(it) = &numbered {
                    let set = (it.before.to_owned(), it.behind.to_owned(), it.of.to_owned());
                    sets.entry(set).or_default().push((it.number(), file));
                }
            }
            for set in sets.into_values() {
                self.set(directory, &set);
            }
        }
    }

    fn set(&mut self, directory: &LayerPath, set: &[(u32, &File)]) {
        let Some((_, first)) = set.first() else { return };
        let name = first.name();
        let Some(numbered) = Numbered::parse(&name) else { return };
        let count = numbered.count();
        // A checkpoint of an epoch or a piece of a data set has such a name, too: a set is one where that is how models are
        // called.
        let certain = first.ends(".gguf") || is_set_of_shards(numbered.before);
        if !certain && (set.len() == 1 || !first.ends(".safetensors")) {
            return;
        }
        let severity = if certain { Severity::Broken } else { Severity::Wasteful };
        // Some count from 0, and of these some to the last number.
        let begin = u32::from(set.iter().all(|(number, _)| *number > 0));
        let counts_to_last = begin == 1 || set.iter().any(|(number, _)| *number == count);
        let end = if counts_to_last { count } else { count.saturating_sub(1) };
        let beyond: Vec<_> =
            set.iter().filter(|(number, _)| *number > end).map(|(_, file)| file.path.clone()).collect();
        let help = "download it again, all files of one revision";
        if let Some(path) = beyond.first() {
            let message = format!("{path} has a number beyond the {count} that its name says there are");
            self.add(Rule::Shards, severity, beyond.clone(), message, help.to_owned());
            return;
        }
        let there: BTreeSet<_> = set.iter().map(|(number, _)| *number).collect();
        let mut missing = Vec::new();
        let mut count_missing = 0_usize;
        if count > MAX_SHARDS {
            count_missing = usize::try_from(count).unwrap_or(usize::MAX) - there.len();
        } else {
            for number in (begin..=end).filter(|number| !there.contains(number)) {
                let Ok(path) = directory.join(numbered.sibling(number)) else { continue };
                if self.told.contains(&path) || !matches!(self.there(&path), There::No | There::Dangling(_)) {
                    continue;
                }
                count_missing += 1;
                missing.push(path);
            }
        }
        if count_missing > 0 {
            let names = if missing.is_empty() { String::new() } else { format!(": {}", named(&missing)) };
            let message = format!(
                "{} is one of {count} files, and {count_missing} of them {} not in the image{names}",
                first.path,
                are(count_missing)
            );
            let help = "download what is missing, or take the line that leaves it out of the ignore file or of --exclude";
            self.add(Rule::Shards, severity, vec![first.path.clone()], message, help.to_owned());
        }
    }

    /// What a GGUF file says of its place among others.
    fn split(&mut self, file: &File, numbered: Option<&Numbered<'_>>) {
        let Some(Contents::Gguf(Ok(gguf))) = file.seen.as_deref() else { return };
        let gguf = gguf.inner();
        let Some(count) = gguf.split_count.filter(|count| *count > 1) else { return };
        let path = &file.path;
        let no = gguf.split_no.map(|no| no + 1);
        let said = match no {
            Some(no) => format!("part {no} of {count}"),
            None => format!("a part of {count}"),
        };
        let is_it = numbered.is_some_and(|it| {
            u64::from(it.count()) == count && no.is_none_or(|no| no == u64::from(it.number()))
        });
        if !is_it {
            let message = format!("{path} is {said} by its header, and not by its name");
            let help = format!("call it NAME-{:05}-of-{count:05}.gguf, beside the others", no.unwrap_or(1));
            self.add(Rule::Shards, Severity::Broken, vec![path.clone()], message, help);
        }
    }

    fn twice(&mut self) {
        for Twice { kept, spare } in twice::find(self.files) {
            let mut ids = BTreeSet::new();
            let bytes = spare.iter().filter(|file| ids.insert(file.id)).map(|file| file.len).sum();
            let directory = spare[0].path.parent().unwrap_or_default();
            let names = |files: &[&File]| named(files.iter().map(|file| file.path.to_string()));
            let message = format!(
                "the same weights are in the image twice, by their names: {} beside {}",
                names(&spare),
                names(&kept)
            );
            let help = match self.excluding(&directory, &spare) {
                Some(excluding) => format!("write {excluding} to leave {} out", size(bytes)),
                None => format!("leave out what is not loaded: {}", size(bytes)),
            };
            let paths = spare.iter().map(|file| file.path.clone()).collect();
            self.add(Rule::Twice, Severity::Wasteful, paths, message, help);
            self.findings.iter_mut().last().into_iter().for_each(|last| last.bytes = Some(bytes));
        }
    }

    /// The instruction that leaves files of one directory out, with the index that names them.
    fn excluding(&self, directory: &LayerPath, spare: &[&File]) -> Option<String> {
        let mut by: Vec<(&Brought<'_>, Vec<&File>)> = Vec::new();
        for file in spare {
            let one = self.brought_by(&file.path)?;
            match by.iter_mut().find(|(other, _)| std::ptr::eq(*other, one)) {
                Some((_, files)) => files.push(file),
                None => by.push((one, vec![file])),
            }
        }
        let mut lines = Vec::new();
        for (one, files) in by {
            let below = |path: &LayerPath| {
                let into = one.into.filter(|into| one.excludes && path.starts_with(into))?;
                let path = path.as_bytes().strip_prefix(into.as_bytes())?;
                let path = path.strip_prefix(b"/").unwrap_or(path);
                Some(String::from_utf8_lossy(path).into_owned())
            };
            let names: Vec<_> = files.iter().map(|file| file.name().into_owned()).collect();
            let others = self.files.get(directory).into_iter().flatten();
            let others: Vec<_> =
                others.map(|file| file.name().into_owned()).filter(|name| !names.contains(name)).collect();
            let mut patterns = pattern(&names, &others)
                .map_or_else(|| names.iter().map(|name| escaped(name)).collect(), |it| vec![it]);
            // An index without its shards would be a broken one.
            let of_index = |index: &&File| {
                let index = index.name();
                let stem = index.trim_end_matches(INDEX);
                files.iter().all(|file| file.name().starts_with(stem) && file.ends(".safetensors"))
            };
            let indexes = self.files.get(directory).into_iter().flatten().filter(|file| file.ends(INDEX));
            let stays = |index: &&File| {
                !others.iter().any(|other| {
                    other.ends_with(".safetensors") && other.starts_with(index.name().trim_end_matches(INDEX))
                })
            };
            patterns.extend(indexes.filter(of_index).filter(stays).map(|index| escaped(&index.name())));
            let directory = below(directory)?;
            let directory =
                if directory.is_empty() { String::new() } else { format!("{}/", escaped(&directory)) };
            let options: Vec<_> =
                patterns.iter().map(|pattern| format!("--exclude={directory}{pattern}")).collect();
            // A flag ends at a blank.
            if options.iter().any(|option| option.contains(char::is_whitespace)) {
                return None;
            }
            lines.push(format!("{} {}", one.keyword, options.join(" ")));
        }
        Some(lines.join(" and "))
    }

    fn configs(&mut self) {
        let mut bare = Vec::new();
        for (directory, files) in self.files {
            let needs = |file: &&File| file.ends(".safetensors") || file.is_pytorch();
            let Some(weights) = files.iter().find(needs) else { continue };
            let has = CONFIGS.iter().any(|name| {
                directory
                    .join(name)
                    .is_ok_and(|path| matches!(self.there(&path), There::Yes | There::Unknown))
            });
            if !has {
                bare.push(weights.path.clone());
            }
        }
        if !bare.is_empty() {
            let message = format!("there is no config.json beside {}", named(&bare));
            let help = "most programs that serve models load none without: copy it too".to_owned();
            self.add(Rule::Config, Severity::Wasteful, bare, message, help);
        }
    }

    fn empty(&mut self) {
        const MEANT: [&[u8]; 2] = [b"__init__.py", b"py.typed"];
        // A header that is not there is told of already.
        let is_told = |file: &File| {
            matches!(
                file.seen.as_deref(),
                Some(Contents::Safetensors(Err(_)) | Contents::Gguf(Err(_)) | Contents::Index(Err(_)))
            )
        };
        let mut empty = BTreeSet::new();
        for (directory, files) in self.files {
            empty.extend(files.iter().filter(|file| file.len == 0).map(|file| file.path.clone()));
            let node = self.tree.get(directory).filter(|_| files.iter().any(File::is_weights));
            for (name, child) in node.into_iter().flat_map(Node::children) {
                let NodeKind::File(file) = &child.kind else { continue };
                let is_meant = name.starts_with(b".") || MEANT.contains(&name);
                if !is_meant && file.content().is_some_and(|content| content.is_empty()) {
                    empty.extend(directory.join(name));
                }
            }
            for file in files.iter().filter(|file| is_told(file)) {
                empty.remove(&file.path);
            }
        }
        let empty = Vec::from_iter(empty);
        if !empty.is_empty() {
            let what = if empty.len() == 1 { "a file of the model has" } else { "files of the model have" };
            let message = format!("{what} no bytes: {}", named(&empty));
            let help = "download it again, or leave out what is not needed".to_owned();
            self.add(Rule::Empty, Severity::Wasteful, empty, message, help);
        }
    }

    fn pickles(&mut self) {
        let is = |file: &&File| matches!(file.seen.as_deref(), Some(Contents::Pickle));
        let pickles: Vec<_> =
            self.files.values().flatten().filter(is).map(|file| file.path.clone()).collect();
        if !pickles.is_empty() {
            let (are, run) =
                if pickles.len() == 1 { ("is a pickle", "runs") } else { ("are pickles", "run") };
            let message = format!("{} {are}, which {run} code when loaded", named(&pickles));
            let help = "load nothing that you do not trust; safetensors has no code".to_owned();
            self.add(Rule::Pickle, Severity::Note, pickles, message, help);
        }
    }
}

/// Whether what is called so is a set of shards: the names of transformers, diffusers, Mistral and Meta, with what their
/// variants have before them.
fn is_set_of_shards(before: &str) -> bool {
    let lower = before.to_ascii_lowercase();
    ["model", "pytorch_model", "consolidated"].iter().any(|name| {
        lower.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with(['_', '-', '.']))
    })
}

/// Whether its name may have numbers that count.
fn is_shard(file: &File) -> bool {
    file.ends(".safetensors") || file.ends(".gguf") || files::PICKLES.iter().any(|ending| file.ends(ending))
}

/// A pattern that some names match and others do not; `None` where there is none, or one name.
fn pattern(names: &[String], others: &[String]) -> Option<String> {
    let (first, rest) = names.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let common = |a: &str, b: &str| {
        a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum::<usize>()
    };
    let begin = rest.iter().map(|name| common(first, name)).min()?;
    let backwards = |text: &str| text.chars().rev().collect::<String>();
    let end = rest.iter().map(|name| common(&backwards(first), &backwards(name))).min()?;
    let begin = first[..begin].trim_end_matches(|c: char| c.is_ascii_digit());
    let shortest = names.iter().map(String::len).min()?;
    let end = end.min(shortest - begin.len());
    let end = &first[first.len() - end..];
    let matches = |name: &String| {
        name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
    };
    (names.iter().all(matches) && !others.iter().any(matches))
        .then(|| format!("{}*{}", escaped(begin), escaped(end)))
}

/// A name as a pattern that it alone matches.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_some_names_and_no_others() {
        for (names, others, expected) in [
            (vec!["consolidated.safetensors"], vec![], None),
            (vec!["a-00001-of-00002.bin", "a-00002-of-00002.bin"], vec!["a.bin"], Some("a-*-of-00002.bin")),
            (vec!["a.bin", "a-00001-of-00001.bin"], vec!["b.bin"], Some("a*.bin")),
            (vec!["a.bin", "a-00001-of-00001.bin"], vec!["ab.bin"], None),
            (vec!["x[1].bin", "x[1]b.bin"], vec![], Some("x\\[1\\]*.bin")),
        ] {
            let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(pattern(&owned(names), &owned(others)).as_deref(), expected);
        }
    }
}

//! COPY and ADD.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{Cancel, LayerPath, SourceArchive, Xattrs};

use super::Stage;
use super::destination::{Made, Sources, Target, Writer, target};
use super::downloads::Watch;
use super::mode::Mode;
use super::notes::{Added, Ignore, Modes};
use super::owner::owner;
use super::unpack::unpack;
use crate::check::CopyFrom;
use crate::containerfile::{AddInstruction, CopyInstruction, CopySource, Heredoc, Span, Spanned};
use crate::error::{Error, Problem};
use crate::ignore::IgnoreFile;
use crate::origin::{Found, Item, ItemKind, Origin, join, shown};
use crate::stage_files::StageFiles;
use crate::tree::{FileNode, FileTree, draining};

/// A heredoc's file, as BuildKit and buildah make it.
const HEREDOC_MODE: u32 = 0o644;

/// Of so many files one message has the names.
const MAX_NAMED: usize = 20;

/// What COPY and ADD have in common, variables not yet put in.
pub(super) struct Request<'a> {
    pub(super) keyword: &'static str,
    sources: &'a [CopySource],
    pub(super) dest: &'a Spanned<String>,
    chown: Option<&'a Spanned<String>>,
    chmod: Option<&'a Spanned<String>>,
    exclude: &'a [Spanned<String>],
    /// `--parents`.
    parents: bool,
    /// Whether archives that are named are unpacked.
    unpack: bool,
}

/// A source and what it stands for.
pub(super) enum Resolved {
    Found(Span, Vec<Found>),
    Archive(Span, SourceArchive),
    Heredoc { name: String, content: Bytes },
}

/// How items change on their way.
struct Change {
    owner: Option<(u32, u32)>,
    mode: Option<Mode>,
    /// As it is written.
    mode_text: Option<String>,
    exclude: IgnoreFile,
    /// The context's owners and set-id bits are the build machine's: they stay there, as with buildah.
    from_context: bool,
}

impl Stage<'_> {
    pub(super) fn copy(&mut self, copy: &CopyInstruction) -> Result<FileTree, Error> {
        let request = Request {
            keyword: "COPY",
            sources: &copy.sources,
            dest: &copy.dest,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            exclude: &copy.exclude,
            parents: copy.parents.is_some_and(|parents| parents.value),
            unpack: false,
        };
        let Some(from) = &copy.from else {
            let ignore = Ignore::File(self.origins.context.ignore_file().to_owned());
            return self.transfer(&request, self.origins.context, true, ignore);
        };
        let origins = self.origins;
        match self.checked.copied_from(self.index, (self.trigger, from.span)) {
            Some(CopyFrom::Stage(source)) => {
                let built =
                    self.earlier.get(source).expect("a stage is evaluated after those it copies from");
                let name = match self.checked.name(*source) {
                    Some(name) => format!("stage {name:?}"),
                    None => format!("stage {source}"),
                };
                self.transfer(
                    &request,
                    &StageFiles { tree: &built.tree, name: &name },
                    false,
                    Ignore::Exclude,
                )
            }
            Some(CopyFrom::Context(name)) => {
                let context = origins.contexts.get(name).expect("it was opened before");
                self.transfer(&request, context, false, Ignore::Exclude)
            }
            Some(CopyFrom::Image(key)) => {
                let tree = origins.images.get(key).expect("it was read before");
                let name = format!("the image {}", key.reference);
                self.transfer(&request, &StageFiles { tree, name: &name }, false, Ignore::No)
            }
            None => unreachable!("the first pass looked at every COPY"),
        }
    }

    pub(super) fn add(&mut self, add: &AddInstruction) -> Result<FileTree, Error> {
        let request = Request {
            keyword: "ADD",
            sources: &add.sources,
            dest: &add.dest,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            exclude: &add.exclude,
            parents: false,
            unpack: add.unpack.is_none_or(|unpack| unpack.value),
        };
        let ignore = Ignore::File(self.origins.context.ignore_file().to_owned());
        self.transfer(&request, self.origins.context, true, ignore)
    }

    fn transfer(
        &mut self,
        request: &Request<'_>,
        origin: &dyn Origin,
        from_context: bool,
        ignore: Ignore,
    ) -> Result<FileTree, Error> {
        let change = self.change(request, from_context)?;
        let dest = self.word(request.dest)?;
        let path = self.absolute(&dest, request.dest.span)?;
        let sources = self.sources(request, origin, &change.exclude)?;
        let fail = |problem: Problem, span| problem.at(self.source, span, request.keyword);

        let count = sources
            .iter()
            .map(|source| if let Resolved::Found(_, found) = source { found.len() } else { 1 })
            .sum();
        let directory = |source: &Resolved| match source {
            Resolved::Found(_, found) => request.parents || found.iter().any(|one| one.directory),
            Resolved::Archive(..) => true,
            Resolved::Heredoc { .. } => false,
        };
        let working_dir = &self.built.config.config.working_dir;
        let need_directory = request.sources.len() > 1
            || sources.len() > 1
            || sources.iter().any(directory)
            || dest.is_empty()
            || dest.ends_with('/')
            || dest.rsplit('/').next().is_some_and(|last| last == "." || last == "..")
            || LayerPath::clean(working_dir).is_ok_and(|working_dir| working_dir == path);
        let special = |source: &Resolved| matches!(source, Resolved::Found(_, found) if found.iter().any(|one| one.special));
        let special = sources.iter().any(special);
        let archives = sources.iter().any(|source| matches!(source, Resolved::Archive(..)));
        let target = target(&self.built.tree, &path, Sources { need_directory, special, count })
            .map_err(|problem| fail(problem, request.dest.span))?;
        let unclear = matches!(target, Target::As { may_be_directory: true, .. });

        let mut writer = Writer::new(&mut self.built.tree, change.owner, change.mode.clone());
        if let Target::Into(directory) = &target {
            let made = writer.make_directories(directory);
            made.map_err(|problem| fail(problem, request.dest.span))?;
        }
        let written = request.sources.iter().filter_map(|source| match source {
            CopySource::Path(path) => Some(path.value.as_str()),
            CopySource::Heredoc(_) => None,
        });
        let downloads = origin.may_have_downloads().then(|| Watch::new(self.options.downloads, written));
        let mut copied = Copied { downloads, ..Copied::default() };
        let mut cut = Vec::new();
        let cancel = &self.options.cancel;
        // What is done with a source is done with what is known of it.
        for source in sources {
            match source {
                Resolved::Heredoc { name, content } => {
                    put_heredoc(&mut writer, &target, &name, &content)
                        .map_err(|problem| fail(problem, request.dest.span))?;
                }
                Resolved::Archive(span, archive) => {
                    let Target::Into(directory) = &target else {
                        unreachable!("an archive asks for a directory")
                    };
                    if archive.cut {
                        cut.push((span, archive.file().path()));
                    }
                    unpack(&mut writer, directory, archive).map_err(|problem| fail(problem, span))?;
                }
                Resolved::Found(span, found) => {
                    let mut some = false;
                    let mut first = None;
                    for one in draining(found) {
                        some |= put(&mut writer, origin, &one, &target, &change, &mut copied, cancel)
                            .map_err(|problem| fail(problem, span))?
                            || one.ignored_by.is_none();
                        first.get_or_insert(one);
                    }
                    if let (false, Some(first)) = (some, first) {
                        let ignored_by = first.ignored_by.as_deref().unwrap_or_default();
                        let message = format!(
                            "{} is not in {} (ignored by {ignored_by})",
                            shown(&first.path),
                            origin.name()
                        );
                        return Err(fail(Problem::source(message), span));
                    }
                }
            }
        }
        let Made { files: made, hidden, overlaps } = writer.into_made();
        self.hidden = hidden;
        for (span, path) in cut {
            let name = self.origins.context.relative(&path);
            self.warn_with_help(
                span,
                format!(
                    "the archive {} ends without the blocks of zeros that stand behind the last entry: there may have been more",
                    shown(name.as_os_str().as_encoded_bytes())
                ),
                "compare it with where it came from",
            );
        }
        self.warn_of_overlaps(request, origin, &change.exclude, &target, &overlaps);
        if !made.is_empty() {
            let written = request.sources.iter().filter_map(|source| match source {
                CopySource::Path(path) => Some(&path.value),
                CopySource::Heredoc(_) => None,
            });
            self.built.added.push(Added {
                layer: self.built.layers.len(),
                source: Arc::clone(self.source),
                span: request.dest.span,
                keyword: request.keyword,
                into: match target {
                    Target::Into(directory) => Some(directory),
                    Target::As { .. } => None,
                },
                named: written.flat_map(|path| path.split('/')).map(str::to_owned).collect(),
                modes: match (change.mode, change.mode_text) {
                    _ if archives => Modes::Archive,
                    (Some(Mode::Octal(_)), text) => Modes::Written(text.unwrap_or_default()),
                    (Some(Mode::Symbolic(_)) | None, text) => Modes::Files(text),
                },
                follow: origin.may_follow() && !archives,
                ignore: if archives { Ignore::No } else { ignore },
            });
        }
        let downloads = copied.downloads.take().and_then(|downloads| downloads.told(request.keyword));
        if let Some((message, help)) = downloads {
            self.warn_with_help(request.dest.span, message, &help);
        }
        if !copied.sockets.is_empty() {
            let count = copied.sockets.len();
            let (named, rest) = copied.sockets.split_at(count.min(MAX_NAMED));
            let mut names = named.iter().map(|path| shown(path)).collect::<Vec<_>>().join(", ");
            if !rest.is_empty() {
                names.push_str(&format!(" and {} more", rest.len()));
            }
            self.warn_with_help(
                request.dest.span,
                format!("sockets are left out: {names}"),
                "no image can have one: name them in .containerignore, or remove them",
            );
        }
        if unclear {
            self.warn_with_help(
                request.dest.span,
                format!("{path} is written as a file, though the base image might have a directory there"),
                "end the destination with / to copy into a directory",
            );
        }
        Ok(made)
    }

    pub(super) fn sources(
        &mut self,
        request: &Request<'_>,
        origin: &dyn Origin,
        exclude: &IgnoreFile,
    ) -> Result<Vec<Resolved>, Error> {
        let mut sources = Vec::with_capacity(request.sources.len());
        let mut without_match: Vec<String> = Vec::new();
        let mut first_without_match = None;
        for source in request.sources {
            let path = match source {
                CopySource::Heredoc(heredoc) => {
                    sources.push(self.heredoc(heredoc)?);
                    continue;
                }
                CopySource::Path(path) => path,
            };
            let text = self.source_text(path, request.keyword)?;
            let found = origin
                .find(&text, request.parents)
                .map_err(|problem| problem.at(self.source, path.span, request.keyword))?;
            if found.is_empty() {
                without_match.push(format!("{text:?}"));
                first_without_match.get_or_insert(path.span);
                continue;
            }
            let (archives, rest) =
                if request.unpack { self.archives(found, exclude, path.span)? } else { (Vec::new(), found) };
            let only_archives = rest.is_empty() && !archives.is_empty();
            sources.extend(archives.into_iter().map(|archive| Resolved::Archive(path.span, archive)));
            if !only_archives {
                sources.push(Resolved::Found(path.span, rest));
            }
        }
        // As with buildah: a pattern may match nothing where another source is there.
        match first_without_match {
            Some(span) if sources.is_empty() => {
                let place = origin.name();
                let problem = match without_match.as_slice() {
                    [only] => Problem::source(format!("{only} matches nothing in {place}")),
                    all => {
                        let all = all.join(", ");
                        Problem::new(format!("{} sources {all} match nothing in {place}", request.keyword))
                    }
                };
                Err(problem.at(self.source, span, request.keyword))
            }
            _ => Ok(sources),
        }
    }

    /// A source with its variables put in. One that is empty then would be the whole context, and so would `${unset}/` and
    /// `${unset}/*`.
    fn source_text(&mut self, path: &Spanned<String>, keyword: &str) -> Result<String, Error> {
        let expanded = self.scope.word(path).map_err(Error::Value)?;
        let (value, unset) = (&expanded.value, &expanded.unset);
        let is_all = value.split('/').all(|part| ["", ".", "*", "**"].contains(&part));
        if !value.is_empty() && (!is_all || unset.is_empty()) {
            return Ok(self.expanded(expanded));
        }
        let unset: Vec<&str> = unset.iter().map(|name| name.value.as_str()).collect();
        let reason = match unset.as_slice() {
            [] => String::new(),
            [name] => format!(": the variable {name} is not set"),
            names => format!(": the variables {} are not set", names.join(", ")),
        };
        let what = match value.as_str() {
            "" => "an empty source".to_owned(),
            value => format!("the source {value:?}, which is all there is"),
        };
        Err(self.invalid_with_help(
            path.span,
            &format!("{keyword} has {what}{reason}"),
            "name what is copied, or write . for all of it",
        ))
    }

    fn heredoc(&mut self, heredoc: &Heredoc) -> Result<Resolved, Error> {
        let content = if heredoc.expand {
            let expanded = self.scope.text(&heredoc.content).map_err(Error::Value)?;
            self.expanded(expanded)
        } else {
            heredoc.content.value.clone()
        };
        // `<<a/b` makes a file b, as in BuildKit.
        let name = heredoc.name.value.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Resolved::Heredoc { name, content: Bytes::from(content) })
    }

    fn change(&mut self, request: &Request<'_>, from_context: bool) -> Result<Change, Error> {
        let exclude = IgnoreFile::none();
        let mut change = Change { owner: None, mode: None, mode_text: None, exclude, from_context };
        if let Some(chown) = request.chown {
            let spec = self.word(chown)?;
            let owner = owner(&self.built.tree, &spec)
                .map_err(|problem| problem.at(self.source, chown.span, request.keyword))?;
            change.owner = Some(owner);
        } else if from_context {
            change.owner = Some((0, 0));
        }
        if let Some(chmod) = request.chmod {
            let text = self.word(chmod)?;
            change.mode = Some(Mode::parse(&text).ok_or_else(|| {
                self.invalid_with_help(
                    chmod.span,
                    &format!("--chmod={text} is no mode"),
                    "write three or four octal digits, such as 0644, or changes such as a+rX,go-w",
                )
            })?);
            change.mode_text = Some(text);
        }
        let mut patterns = Vec::with_capacity(request.exclude.len());
        for pattern in request.exclude {
            let text = self.word(pattern)?;
            if text.trim().is_empty() {
                return Err(self.invalid(pattern.span, "--exclude needs a pattern"));
            }
            IgnoreFile::from_patterns([text.as_str()]).map_err(|reason| {
                self.invalid_with_help(pattern.span, &format!("--exclude={text} is no pattern"), &reason)
            })?;
            patterns.push(text);
        }
        change.exclude = IgnoreFile::from_patterns(patterns.iter().map(String::as_str)).unwrap_or_default();
        Ok(change)
    }
}

fn put_heredoc(writer: &mut Writer<'_>, target: &Target, name: &str, content: &Bytes) -> Result<(), Problem> {
    let item = Item {
        path: b"",
        kind: ItemKind::File(FileNode::Inline(Arc::new(content.clone()))),
        mode: HEREDOC_MODE,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: Xattrs::default(),
        leaf: None,
    };
    match target {
        Target::Into(directory) => writer.put(directory, name.as_bytes(), item),
        Target::As { path, .. } => writer.put(&LayerPath::root(), path.as_bytes(), item),
    }
}

/// What is kept in mind of what was copied.
#[derive(Default)]
struct Copied {
    /// Sockets in a copied directory, as the origin has them.
    sockets: Vec<Vec<u8>>,
    /// The directories that `--parents` has kept, below the destination.
    parents: BTreeSet<Vec<u8>>,
    /// What a download has left.
    downloads: Option<Watch>,
}

/// Copies what was found, and the directories that are kept above it; says whether there was anything.
fn put(
    writer: &mut Writer<'_>,
    origin: &dyn Origin,
    found: &Found,
    target: &Target,
    change: &Change,
    copied: &mut Copied,
    cancel: &Cancel,
) -> Result<bool, Problem> {
    let mut some = false;
    let Copied { sockets, parents, downloads } = copied;
    let mut one = |mut item: Item<'_>| {
        if change.from_context {
            item.mode &= !0o6000;
        }
        match target {
            Target::As { path, .. } => writer.put(&LayerPath::root(), path.as_bytes(), item),
            Target::Into(directory) => {
                let below = item.path.to_vec();
                writer.put(directory, &below, item)
            }
        }
    };
    origin.walk(found, &change.exclude, &mut |item| {
        Problem::check(cancel)?;
        if matches!(item.kind, ItemKind::Socket) {
            if !found.directory {
                return Err(Problem::new(format!(
                    "{} is a socket, which an image cannot have",
                    shown(&found.path)
                ))
                .with_help("leave it out"));
            }
            sockets.push(join(&found.path, inside(found, item.path)));
            return Ok(());
        }
        let mut keep = |item: Item<'_>| {
            // Above what is left out nothing is kept.
            if !some {
                for (named, below) in found.parents() {
                    if parents.insert(below.to_vec()) {
                        origin.directory(named, below, &mut one)?;
                    }
                }
            }
            some = true;
            one(item)
        };
        match downloads {
            Some(watch) if watch.minds(&found.named, item.path) => {
                let path = match inside(found, item.path) {
                    b"" => found.named.to_vec(),
                    below => join(&found.named, below),
                };
                watch.offer(&path, item, &mut keep)
            }
            _ => keep(item),
        }
    })?;
    if let Some(watch) = downloads {
        watch.end(None, &mut one)?;
    }
    Ok(some)
}

/// The path of what a directory holds, relative to that directory.
pub(super) fn inside<'p>(found: &Found, path: &'p [u8]) -> &'p [u8] {
    let inside = &path[found.below().len()..];
    inside.strip_prefix(b"/").unwrap_or(inside)
}

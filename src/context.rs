//! Where the build context comes from: a directory; a tar archive in a file, on standard input or out of a pipe; or nothing
//! but a Containerfile on standard input.

use std::fs::{self, File, Metadata};
use std::io::{IsTerminal as _, Read, Seek as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use crossdock_builder::containerfile::Containerfile;
use crossdock_builder::{BuildContext, Context, IgnoreFile};
use crossdock_storage::{Cancel, Error as StorageError, Fence, SourceFile, is_archive, redact_urls, spool};

use crate::exit::UsageError;
use crate::options::{BuildOptions, ContainerfileAt};

/// The beginning of a file that tells what it is, in bytes.
const HEAD: u64 = 512;

/// A Containerfile that comes without a file of its own has at most so many bytes.
const MAX_CONTAINERFILE: u64 = 16 << 20;

/// Where the context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContextAt {
    Directory(PathBuf),
    /// An archive in a file; or a FIFO that one comes out of.
    File(PathBuf),
    StandardInput,
}

impl ContextAt {
    /// What the command line names.
    ///
    /// # Errors
    /// Where that is not there, or would have to be downloaded.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let text = path.to_string_lossy();
        if path == Path::new("-") {
            return Ok(Self::StandardInput);
        }
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        if path.exists() {
            return Ok(Self::File(path.to_owned()));
        }
        if let Some((what, instead)) = remote(&text) {
            let pipe = match what {
                "a file: URL" | "an image" => {
                    bail!("the build context {}: it is {what} and no path: {instead}", redact_urls(&text))
                }
                "a URL" => "pipe it in, as with `curl -fsSL URL | crossdock build -`, or ",
                _ => "",
            };
            bail!("the build context {}: {what} is not downloaded: {pipe}{instead}", redact_urls(&text));
        }
        bail!("the build context {text} does not exist: name the directory that holds what COPY copies")
    }
}

/// What kind of remote source a context would be, and what to do instead.
pub(crate) fn remote(text: &str) -> Option<(&'static str, &'static str)> {
    const GIT: (&str, &str) =
        ("a git repository", "clone it, as with `git clone --depth 1 URL DIR`, and name the directory");
    const URL: (&str, &str) = ("a URL", "download it and name the file");
    let lower = text.to_ascii_lowercase();
    let begins = |schemes: &[&str]| schemes.iter().any(|scheme| lower.starts_with(scheme));
    let path = lower.split(['#', '?']).next().unwrap_or_default();
    // As ssh and scp have it: user@host:path.
    let scp = path
        .split_once('@')
        .and_then(|(user, rest)| rest.split_once(':').map(|(host, _)| (user, host)))
        .is_some_and(|(user, host)| !user.contains(['/', ':']) && !host.is_empty() && !host.contains('/'));
    let scheme = lower.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| is_scheme(scheme));
    let url = scheme.is_some();
    let forge =
        path.contains("://github.com/") && !path.contains("/archive/") && !path.contains("/releases/");
    // `HOST/PATH.git`, and what is known to be a host of repositories.
    let host = path.split_once('/').map_or("", |(host, _)| host);
    let hosted = host.contains(['.', ':']) && !host.starts_with('.') && path.ends_with(".git");
    if begins(&[
        "git://",
        "git@",
        "ssh://",
        "git+",
        "github.com/",
        "gitlab.com/",
        "bitbucket.org/",
        "codeberg.org/",
    ]) || url && (path.ends_with(".git") || forge)
        || scp
        || hosted
    {
        return Some(GIT);
    }
    match scheme? {
        "http" | "https" | "ftp" | "ftps" => Some(URL),
        "file" => Some(("a file: URL", "name the path alone")),
        "docker" | "docker-image" | "container-image" | "oci" | "oci-layout" => {
            Some(("an image", "name it with FROM, or with --build-context NAME=docker://IMAGE"))
        }
        _ => Some(("a place that is not on this machine", "download it and name the directory")),
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// A context that is no directory.
enum Opened {
    Archive(Context),
    /// A Containerfile alone.
    Text(Vec<u8>),
}

/// Reads the Containerfile; an archive that is the context is opened for it, and comes along.
pub(crate) fn containerfile(
    options: &BuildOptions,
    cancel: &Cancel,
) -> Result<(Containerfile, Option<Context>)> {
    let opened = match &options.context {
        ContextAt::Directory(_) => None,
        ContextAt::File(path) => Some(of_file(path, options, cancel)?),
        ContextAt::StandardInput => Some(of_standard_input(options, cancel)?),
    };
    let (name, text, context) = match (&options.containerfile, opened) {
        (ContainerfileAt::InContext(None), Some(Opened::Text(text))) => {
            ("-".to_owned(), text, Some(Context::empty("-, which is a Containerfile alone")))
        }
        (_, Some(Opened::Text(_))) => {
            return Err(UsageError(anyhow!(
                "--file: standard input is a Containerfile and no tar archive, and two of them are one too many; leave --file out, or name a directory"
            ))
            .into());
        }
        (ContainerfileAt::InContext(wanted), Some(Opened::Archive(context))) => {
            let (name, text) = inside(&context, wanted.as_deref(), &options.context)?;
            let ignore = match IgnoreFile::find_beside(None, options.ignorefile.as_deref())? {
                Some(given) => given,
                None => IgnoreFile::find_inside(&context, Some(&name))?,
            };
            (name, text, Some(context.ignoring(ignore)))
        }
        (at, opened) => {
            let (path, (name, text)) = match at {
                ContainerfileAt::File(path) => (Some(path), of_path(path)?),
                ContainerfileAt::StandardInput => {
                    let text = standard_input("the Containerfile")?;
                    if text.is_empty() {
                        return Err(UsageError(anyhow!(
                            "--file -: standard input is empty; send a Containerfile into it"
                        ))
                        .into());
                    }
                    (None, ("-".to_owned(), text))
                }
                ContainerfileAt::InContext(_) => bail!("the build context is no archive"),
            };
            let context = match opened {
                Some(Opened::Archive(context)) => {
                    let given = options.ignorefile.as_deref();
                    let ignore = match IgnoreFile::find_beside(path.map(PathBuf::as_path), given)? {
                        Some(found) => found,
                        None => IgnoreFile::find_inside(&context, None)?,
                    };
                    Some(context.ignoring(ignore))
                }
                _ => None,
            };
            (name, text, context)
        }
    };
    let file = Containerfile::parse(name, &text).map_err(crossdock_builder::Error::from)?;
    Ok((file, context))
}

/// The build context, without what its ignore file leaves out; `archive` is one that is open already.
pub(crate) fn open(options: &BuildOptions, archive: Option<Context>, cancel: &Cancel) -> Result<Context> {
    let context = match (archive, &options.context) {
        (Some(archive), _) => archive,
        (None, ContextAt::Directory(directory)) => {
            let given = match &options.containerfile {
                ContainerfileAt::File(path) => Some(path.as_path()),
                ContainerfileAt::StandardInput | ContainerfileAt::InContext(_) => None,
            };
            Context::open(directory, IgnoreFile::find(directory, given, options.ignorefile.as_deref())?)?
        }
        (None, _) => bail!("the build context was not opened"),
    };
    let context = context.without(options.own.clone()).with_cancel(cancel.clone());
    if !options.follow_links {
        return Ok(context);
    }
    let more = options.build_contexts.values().filter_map(|context| match context {
        BuildContext::Directory(path) if path.is_dir() => Some(path.clone()),
        BuildContext::Directory(_) | BuildContext::Image(_) => None,
    });
    Ok(context.following_links(&more.collect::<Vec<_>>())?)
}

/// The Containerfile in an archive, with its path there.
fn inside(context: &Context, wanted: Option<&str>, at: &ContextAt) -> Result<(String, Vec<u8>)> {
    let names = wanted.map_or_else(|| vec!["Containerfile", "Dockerfile"], |name| vec![name]);
    for name in &names {
        if let Some(text) = context.file_inside(name, MAX_CONTAINERFILE)? {
            return Ok(((*name).to_owned(), text));
        }
    }
    let archive = match at {
        ContextAt::File(path) | ContextAt::Directory(path) => path.display().to_string(),
        ContextAt::StandardInput => "the archive on standard input".to_owned(),
    };
    Err(UsageError(match wanted {
        Some(name) => anyhow!("--file {name}: no such file, neither here nor in {archive}"),
        None => anyhow!("no Containerfile or Dockerfile at the root of {archive}: name one with --file"),
    })
    .into())
}

fn of_path(path: &Path) -> Result<(String, Vec<u8>)> {
    let name = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok((name, fs::read(path).with_context(|| format!("cannot read {}", path.display()))?))
}

fn standard_input(what: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut text);
    read.with_context(|| format!("cannot read {what} from standard input"))?;
    Ok(text)
}

fn of_file(path: &Path, options: &BuildOptions, cancel: &Cancel) -> Result<Opened> {
    let name = path.display().to_string();
    let failed = || format!("cannot open the build context {name}");
    let metadata = fs::metadata(path).with_context(failed)?;
    // `<(tar ...)` of a shell.
    if !metadata.is_file() {
        let opened = File::open(path).with_context(failed)?;
        return match of_pipe(opened, &name, options, cancel)? {
            Opened::Text(_) => Err(no_archive(&name)),
            archive @ Opened::Archive(_) => Ok(archive),
        };
    }
    not_ours(options, &name, &metadata)?;
    let real = fs::canonicalize(path).with_context(failed)?;
    let file = SourceFile::new(real, Fence::of(&metadata));
    Context::open_archive(&file, &name, cancel)?.map(Opened::Archive).ok_or_else(|| no_archive(&name))
}

/// An archive that this run writes itself would be read while it is written.
fn not_ours(options: &BuildOptions, name: &str, metadata: &Metadata) -> Result<()> {
    match options.own.names(metadata) {
        Some(what) => Err(UsageError(anyhow!(
            "the build context {name} is {what}, which this run writes itself: write to another file"
        ))
        .into()),
        None => Ok(()),
    }
}

fn no_archive(name: &str) -> anyhow::Error {
    UsageError(anyhow!(
        "the build context {name} is no directory and no tar archive: name the directory that holds what COPY copies; a Containerfile is named with --file"
    ))
    .into()
}

fn of_standard_input(options: &BuildOptions, cancel: &Cancel) -> Result<Opened> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(UsageError(anyhow!(
            "the build context -: standard input is a terminal; send a tar archive or a Containerfile into it"
        ))
        .into());
    }
    let open = stdin.as_fd().try_clone_to_owned().context("cannot open standard input")?;
    let mut file = File::from(open);
    let metadata = file.metadata().context("cannot open standard input")?;
    if metadata.is_dir() {
        return Err(UsageError(anyhow!(
            "the build context -: standard input is a directory: name it, as with crossdock build DIR"
        ))
        .into());
    }
    // A file that a shell has redirected is read where it lies, as one that is named.
    if !metadata.is_file() || file.stream_position().is_ok_and(|position| position != 0) {
        return of_pipe(file, "-", options, cancel);
    }
    let by_number = PathBuf::from("/proc/self/fd/0");
    not_ours(options, "-", &metadata)?;
    let fence = Fence::of(&metadata);
    let named = fs::read_link(&by_number).ok().filter(|path| {
        fs::metadata(path).is_ok_and(|metadata| fence.breach(&Fence::of(&metadata)).is_none())
    });
    let source = SourceFile::new(named.unwrap_or(by_number), fence);
    match Context::open_archive(&source, "-", cancel)? {
        Some(context) => Ok(Opened::Archive(context)),
        None => text_of(Vec::new(), file, "-"),
    }
}

/// What comes through a pipe is written down, where it is an archive: it is needed more than once.
fn of_pipe(mut pipe: File, name: &str, options: &BuildOptions, cancel: &Cancel) -> Result<Opened> {
    let mut head = Vec::new();
    let read = pipe.by_ref().take(HEAD).read_to_end(&mut head);
    read.with_context(|| format!("cannot read the build context {name}"))?;
    if !is_archive(&head) {
        return text_of(head, pipe, name);
    }
    let temporary = std::env::temp_dir();
    let directories: Vec<_> = options.spool.iter().chain([&temporary]).map(PathBuf::as_path).collect();
    let (file, directory) = spool(&head, pipe, &directories, cancel)
        .with_context(|| format!("cannot keep the build context {name}, which comes through a pipe"))?;
    tracing::warn!(
        "the build context {name} comes through a pipe: its {} bytes are in a file without a name in {} until this build ends; name a file, or redirect one, and nothing is written",
        file.size(),
        directory.display()
    );
    Context::open_archive(&file, name, cancel)?.map(Opened::Archive).ok_or_else(|| no_archive(name))
}

fn text_of(mut text: Vec<u8>, rest: File, name: &str) -> Result<Opened> {
    let read = rest.take(MAX_CONTAINERFILE).read_to_end(&mut text);
    read.with_context(|| format!("cannot read the build context {name}"))?;
    if text.is_empty() {
        let source = if name == "-" { "standard input" } else { "the pipe" };
        return Err(UsageError(anyhow!(
            "the build context {name}: {source} is empty; send a tar archive or a Containerfile into it"
        ))
        .into());
    }
    if text.len() as u64 >= MAX_CONTAINERFILE || text.contains(&0) {
        let text =
            "the build context -: standard input is neither a tar archive nor a Containerfile".to_owned();
        return Err(StorageError::Unusable(text).into());
    }
    Ok(Opened::Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_downloaded_is_known() {
        for text in [
            "git@github.com:a/b.git",
            "git://host/a",
            "ssh://git@host/a",
            "https://host/a.git",
            "https://host/a.git#main:sub",
            "HTTPS://github.com/a/b",
            "github.com/a/b",
            "me@host:models",
            "git+https://host/a",
        ] {
            assert_eq!(remote(text).map(|(what, _)| what), Some("a git repository"), "{text}");
        }
        for text in [
            "https://host/x.tar.gz",
            "http://host/",
            "https://github.com/a/b/archive/refs/heads/main.tar.gz",
            "ftp://host/x.tar",
        ] {
            assert_eq!(remote(text).map(|(what, _)| what), Some("a URL"), "{text}");
        }
        for text in ["model", "./git", "a/b.git", "x@y", "dir/x@y:z", "-"] {
            assert_eq!(remote(text), None, "{text}");
        }
    }
}

//! What a Containerfile says, as typed values: the result of parsing and the input of planning.
//!
//! Strings in here are as written: variables are not expanded and quotes are not removed, except where a
//! field says so. Each of them carries its place, so that whoever expands or refuses it can point at it.
//! Values in which no variable is ever expanded are parsed already. The meaning follows the
//! [Dockerfile reference](https://docs.docker.com/reference/dockerfile/).

use std::sync::Arc;
use std::time::Duration;

use super::error::{Diagnostic, ParseError};
use super::source::{Source, Span, Spanned};

/// A parsed Containerfile. It has at least one stage.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Containerfile {
    /// The text all spans point into.
    pub source: Arc<Source>,
    /// Parser directives at the head of the file.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`, in order, each with its declarations.
    ///
    /// They are in scope in `FROM` lines; a stage sees one only after it declares the name again.
    pub global_args: Vec<Vec<ArgDeclaration>>,
    /// The stages in order of declaration.
    pub stages: Vec<Stage>,
    /// What parses but is most likely not what was meant, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// The parser directives (`# name=value`) at the head of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Directives {
    /// `# syntax=`: the frontend image a BuildKit would fetch. Kept for information only.
    pub syntax: Option<Spanned<String>>,
    /// `# escape=`: the character that escapes and that continues a line, `\` or `` ` ``.
    pub escape: char,
    /// Where `# escape=` has its value, if it is given.
    pub escape_span: Option<Span>,
    /// `# check=`: the settings of BuildKit's linter. Kept for information only.
    pub check: Option<Spanned<String>>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', escape_span: None, check: None }
    }
}

/// A build stage: a `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The `FROM` that opens the stage.
    pub from: FromInstruction,
    /// From the `FROM` to the end of the stage's last instruction.
    pub span: Span,
    /// The instructions in order, without the `FROM` and without those that cannot be read.
    pub instructions: Vec<Spanned<Instruction>>,
    /// The first instruction of the stage that cannot be read, the `FROM` included. It is an error where the stage is
    /// needed.
    pub unreadable: Option<ParseError>,
}

/// `FROM [--platform=..] image [AS name]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromInstruction {
    /// The image, or the name of an earlier stage, or `scratch`; unexpanded.
    pub image: Spanned<String>,
    /// The value of `--platform`, unexpanded.
    pub platform: Option<Spanned<String>>,
    /// The name of the stage, unexpanded. Whether it can be one matters only where a stage is named by it.
    pub name: Option<Spanned<String>>,
    /// The whole line.
    pub span: Span,
}

/// An instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`.
    Add(AddInstruction),
    /// `ARG`, one or more declarations.
    Arg(Vec<ArgDeclaration>),
    /// `CMD`.
    Cmd(CommandForm),
    /// `COPY`.
    Copy(CopyInstruction),
    /// `ENTRYPOINT`.
    Entrypoint(CommandForm),
    /// `ENV`, one or more pairs. Both key and value are to be expanded as words.
    Env(Vec<KeyValue>),
    /// `EXPOSE`, one or more words. Each is to be expanded as *words*: a variable may hold several ports.
    Expose(Vec<Spanned<String>>),
    /// `HEALTHCHECK`.
    Healthcheck(HealthcheckInstruction),
    /// `LABEL`, one or more pairs. Both key and value are to be expanded as words.
    Label(Vec<KeyValue>),
    /// `MAINTAINER`, the text behind the keyword. Nothing in it is expanded.
    Maintainer(Spanned<String>),
    /// `ONBUILD`.
    Onbuild(OnbuildInstruction),
    /// `RUN`.
    Run(RunInstruction),
    /// `SHELL`, the words of its JSON array; at least one, nothing in them is expanded.
    Shell(Vec<Spanned<String>>),
    /// `STOPSIGNAL`, to be expanded as a word.
    Stopsignal(Spanned<String>),
    /// `USER`, to be expanded as a word.
    User(Spanned<String>),
    /// `VOLUME`, one or more paths, each to be expanded as a word.
    Volume(Vec<Spanned<String>>),
    /// `WORKDIR`, to be expanded as a word.
    Workdir(Spanned<String>),
}

impl Instruction {
    /// The keyword in capitals, such as `COPY`.
    #[must_use]
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// A command as `CMD`, `ENTRYPOINT`, `RUN` and `HEALTHCHECK CMD` take it. No variable in it is expanded by
/// a builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandForm {
    /// A JSON array of words, run without a shell. May be empty: `CMD []` clears the base's command.
    Exec(Vec<Spanned<String>>),
    /// Text for the shell, continued lines joined. Also what looked like JSON and is not.
    Shell(Spanned<String>),
}

/// A name and its value, both unexpanded and with their quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The name; never empty.
    pub key: Spanned<String>,
    /// The value; may be empty.
    pub value: Spanned<String>,
}

/// `ARG name` or `ARG name=default`, unexpanded and with quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name; never empty.
    pub name: Spanned<String>,
    /// The default; `None` for `ARG name`, empty for `ARG name=`.
    pub default: Option<Spanned<String>>,
}

/// `COPY [flags] source.. dest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInstruction {
    /// What to copy, at least one, in order.
    pub sources: Vec<CopySource>,
    /// Where to, unexpanded.
    pub dest: Spanned<String>,
    /// `--from`: a stage, an image or a named context; unexpanded.
    pub from: Option<Spanned<String>>,
    /// `--chown`: `user[:group]`, unexpanded.
    pub chown: Option<Spanned<String>>,
    /// `--chmod`: an octal or a symbolic mode, unexpanded.
    pub chmod: Option<Spanned<String>>,
    /// `--link`.
    pub link: Option<Spanned<bool>>,
    /// `--parents`: keep the parent directories of the sources.
    pub parents: Option<Spanned<bool>>,
    /// `--exclude`, any number of patterns, unexpanded.
    pub exclude: Vec<Spanned<String>>,
}

/// `ADD [flags] source.. dest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddInstruction {
    /// What to add, at least one, in order; a path may be a URL or a git address.
    pub sources: Vec<CopySource>,
    /// Where to, unexpanded.
    pub dest: Spanned<String>,
    /// `--chown`: `user[:group]`, unexpanded.
    pub chown: Option<Spanned<String>>,
    /// `--chmod`: an octal or a symbolic mode, unexpanded.
    pub chmod: Option<Spanned<String>>,
    /// `--checksum`: the digest of a remote source, unexpanded.
    pub checksum: Option<Spanned<String>>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `--link`.
    pub link: Option<Spanned<bool>>,
    /// `--exclude`, any number of patterns, unexpanded.
    pub exclude: Vec<Spanned<String>>,
    /// `--unpack`: whether archives are unpacked, whatever the default for their kind.
    pub unpack: Option<Spanned<bool>>,
}

/// A source of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path or pattern (for `ADD` also a URL), unexpanded.
    Path(Spanned<String>),
    /// A file whose content stands in the Containerfile; its name is the heredoc's.
    Heredoc(Heredoc),
}

impl CopySource {
    /// Where the source is written; for a heredoc its `<<NAME`.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Path(path) => path.span,
            Self::Heredoc(heredoc) => heredoc.name.span,
        }
    }
}

/// A heredoc: `<<NAME`, then lines up to one that is only `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; its place is the whole word, `<<` included.
    pub name: Spanned<String>,
    /// The number before `<<`, as in `3<<EOF`.
    pub fd: Option<u32>,
    /// Whether variables in the content are expanded: the delimiter has no quotes.
    ///
    /// For `RUN` that is left to the shell; `COPY` and `ADD` expand it as *text*, in which quotes mean nothing.
    pub expand: bool,
    /// Whether it was `<<-`; the leading tabs are gone from `content` already.
    pub strip_tabs: bool,
    /// The lines with their endings, unexpanded.
    pub content: Spanned<String>,
}

/// `RUN [flags] command`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    /// The command; with heredocs it still holds their `<<NAME`.
    pub command: CommandForm,
    /// The heredocs of the command in order; none in exec form.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, any number, unexpanded.
    pub mounts: Vec<Spanned<String>>,
    /// `--network`.
    pub network: Option<Spanned<String>>,
    /// `--security`.
    pub security: Option<Spanned<String>>,
    /// `--device`, any number.
    pub devices: Vec<Spanned<String>>,
}

/// `HEALTHCHECK [flags] CMD command` or `HEALTHCHECK NONE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthcheckInstruction {
    /// The check itself.
    pub check: Healthcheck,
    /// `--interval`; zero or at least a millisecond.
    pub interval: Option<Spanned<Duration>>,
    /// `--timeout`; zero or at least a millisecond.
    pub timeout: Option<Spanned<Duration>>,
    /// `--start-period`; zero or at least a millisecond.
    pub start_period: Option<Spanned<Duration>>,
    /// `--start-interval`; zero or at least a millisecond.
    pub start_interval: Option<Spanned<Duration>>,
    /// `--retries`.
    pub retries: Option<Spanned<u32>>,
}

/// What a `HEALTHCHECK` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: the check of the base image is switched off.
    None,
    /// `CMD`.
    Command(CommandForm),
}

/// `ONBUILD instruction`: kept in the image for the build that is based on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnbuildInstruction {
    /// The instruction; never `ONBUILD` or `MAINTAINER`.
    pub trigger: Box<Spanned<Instruction>>,
    /// The instruction as the image configuration keeps it: continued lines joined, heredocs behind it.
    pub text: Spanned<String>,
}

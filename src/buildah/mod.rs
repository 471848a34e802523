//! buildah's command line, made into ours: each of its flags is honoured, taken without effect, or refused by name
//! (`flags`). There is one implementation of each command; this only says in our words what was asked for. See
//! docs/drop-in.md.

mod flags;
mod habits;
mod missing;
mod scope;
#[cfg(test)]
mod tests;
mod words;

use std::any::TypeId;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, anyhow};
use clap::builder::{NonEmptyStringValueParser, StyledStr};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};

use self::flags::{Flag, Kind, Treatment};
use self::scope::{Meant, Scope};
use self::words::Word;
use crate::args::{BuildArgs, Cli, Command};
use crate::exit::{self, UsageError};
use crate::model::ModelCheck;
use crate::{settings, version};

/// By which name this program was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CalledAs {
    #[default]
    Crossdock,
    /// The drop-in: it ends and reports as buildah does.
    Buildah,
}

impl CalledAs {
    pub(crate) fn of(program: &OsStr) -> Self {
        let name = Path::new(program).file_name();
        if name == Some(OsStr::new("buildah")) { Self::Buildah } else { Self::Crossdock }
    }

    /// The exit code of what ended with ours: buildah has one for all that goes wrong.
    pub(crate) const fn exit_code(self, ours: u8) -> u8 {
        const BUILDAHS: u8 = 125;
        match (self, ours) {
            (Self::Crossdock, _) | (Self::Buildah, exit::SUCCESS | 128..) => ours,
            (Self::Buildah, _) => BUILDAHS,
        }
    }
}

/// A command line in our words.
#[derive(Debug, Default, PartialEq, Eq)]
struct CommandLine {
    /// The words of the command.
    command: Vec<OsString>,
    /// What follows them.
    args: Vec<OsString>,
    /// Our own flags that take no value and were given as `false`.
    off: Vec<String>,
    /// The flags that have no effect, as they are written in full.
    ignored: BTreeSet<String>,
}

/// A command line that cannot be carried out. The first four are worded as buildah does.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    UnknownFlag(String),
    UnknownCommand(String),
    NoValue(String),
    NoBool { flag: String, value: String },
    Refused { flag: String, instead: &'static str },
    Missing { command: String, instead: &'static str },
}

impl Problem {
    /// Whether the line is not understood at all: then clap has more to say of what may have been meant.
    const fn is_syntax(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Missing { .. })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFlag(flag) if flag.starts_with("--") => write!(f, "unknown flag: {flag}"),
            Self::UnknownFlag(flag) => write!(f, "unknown shorthand flag: {flag}"),
            Self::UnknownCommand(command) => {
                write!(f, "unknown command {command:?} for \"buildah\": see `buildah --help`")
            }
            Self::NoValue(flag) => write!(f, "flag needs an argument: {flag}"),
            Self::NoBool { flag, value } => {
                write!(f, "invalid argument {value:?} for \"{flag}\" flag: write true or false")
            }
            Self::Refused { flag, instead } => write!(f, "{flag} is not carried out: {instead}"),
            Self::Missing { command, instead } => {
                write!(f, "{command} is not carried out here: {instead}")
            }
        }
    }
}

impl std::error::Error for Problem {}

/// Reads the command line, `args` with the program's name first, in buildah's words or ours; and says which flags have
/// no effect, and what is to be warned of once there is a log.
///
/// # Errors
/// What cannot be understood, or is refused by name. An error of clap's may be no more than `--help`.
pub(crate) fn command_line(
    called: CalledAs,
    args: &[OsString],
) -> Result<(Cli, BTreeSet<String>, Option<String>)> {
    let (program, words) = match args {
        [] => ("crossdock".into(), args),
        [program, words @ ..] => (program.clone(), words),
    };
    let (mut commands, warning) = settings::with_defaults(Cli::command()).map_err(UsageError)?;
    if called == CalledAs::Buildah {
        commands = dressed(commands);
    }
    let mut ours = commands.clone();
    ours.build();
    let mut line = match translate(words, &ours) {
        Ok(line) => line,
        Err(problem) if called == CalledAs::Crossdock && problem.is_syntax() => {
            CommandLine { args: words.to_vec(), ..CommandLine::default() }
        }
        Err(problem) => return Err(UsageError(problem.into()).into()),
    };
    if called == CalledAs::Buildah && line.command.is_empty() && line.args.is_empty() {
        line.args.push("--help".into());
    }
    let commands = without_empty_names(without_defaults(commands, &line.command, &line.off));
    let words = std::iter::once(program).chain(line.command).chain(line.args);
    let matches = commands.clone().try_get_matches_from(words);
    let matches = matches
        .map_err(|error| not_text(&error, args).unwrap_or_else(|| settings::told(error, &commands)))?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    cli.called = called;
    cli.root_typed = matches.value_source("root") == Some(ValueSource::CommandLine);
    if let (Command::Build(build), Some((_, matches))) = (&mut cli.command, matches.subcommand()) {
        one_time(build, matches)?;
    }
    if called == CalledAs::Buildah {
        match &mut cli.command {
            Command::Push(push) => push.send.report_on_stderr = true,
            Command::Manifest(manifest) => manifest.report_on_stderr(),
            Command::Build(build) if build.outputs.iter().any(|output| output == "-") => {
                return Err(UsageError(anyhow!(
                    "--output -: that of buildah is a tar of the image's files, and images are not unpacked here; write \
                     docker-archive:/dev/stdout for the image"
                ))
                .into());
            }
            Command::Build(build) => {
                build.as_buildah = true;
                build.model_check.get_or_insert(ModelCheck::Warn);
                // buildah's manifests have no annotations of layers.
                build.reuse.layer_keys.get_or_insert(false);
            }
            Command::Version(version) => version.as_buildah = true,
            _ => {}
        }
    }
    Ok((cli, line.ignored, warning))
}

/// A name that is empty is a variable that a script did not set, and is no name of anything.
fn without_empty_names(command: clap::Command) -> clap::Command {
    let is_name =
        |arg: &clap::Arg| arg.is_positional() && arg.get_value_parser().type_id() == TypeId::of::<String>();
    let names: Vec<_> =
        command.get_arguments().filter(|arg| is_name(arg)).map(|arg| arg.get_id().clone()).collect();
    let command = names.into_iter().fold(command, |command, id| {
        command.mut_arg(id, |arg| arg.value_parser(NonEmptyStringValueParser::new()))
    });
    command.mut_subcommands(without_empty_names)
}

/// clap says only that some argument is not UTF-8.
fn not_text(error: &clap::Error, args: &[OsString]) -> Option<anyhow::Error> {
    if error.kind() != ErrorKind::InvalidUtf8 {
        return None;
    }
    let wrong: Vec<_> =
        args.iter().filter(|arg| arg.to_str().is_none()).map(|arg| format!("{arg:?}")).collect();
    let error = anyhow!(
        "{} is not UTF-8, as names and settings are; only paths of files may be anything",
        wrong.join(", ")
    );
    Some(UsageError(error).into())
}

/// Of `--timestamp` and `--source-date-epoch` the one that is typed holds: the other may come from the environment or the file of
/// settings. What is not typed is no time of files that keep theirs.
fn one_time(build: &mut BuildArgs, matches: &clap::ArgMatches) -> Result<()> {
    let typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
    match (build.timestamp, build.source_date_epoch) {
        (Some(_), Some(_)) if typed("timestamp") && typed("source_date_epoch") => {
            return Err(UsageError(anyhow!(
                "--timestamp and --source-date-epoch: give one of them; --timestamp is the time of files too"
            ))
            .into());
        }
        (Some(_), Some(_)) if typed("source_date_epoch") => build.timestamp = None,
        (Some(_), Some(_)) => build.source_date_epoch = None,
        _ => {}
    }
    match build.timestamp {
        Some(_) if build.keep_mtime && typed("timestamp") && typed("keep_mtime") => {
            return Err(UsageError(anyhow!(
                "--keep-mtime and --timestamp, which is the time of files too: give one of them, or --source-date-epoch"
            ))
            .into());
        }
        Some(_) if build.keep_mtime && typed("timestamp") => build.keep_mtime = false,
        Some(seconds) if build.keep_mtime => {
            (build.timestamp, build.source_date_epoch) = (None, Some(seconds));
        }
        _ => {}
    }
    Ok(())
}

/// Our own command line under buildah's name: its version, its exit codes, and examples that can be typed as they are.
fn dressed(commands: clap::Command) -> clap::Command {
    commands
        .name("buildah")
        .bin_name("buildah")
        .version(version::AS_BUILDAH)
        .mut_subcommands(in_its_name)
        .after_help(
            "Exit codes:
  0    done
  1    only manifest exists: there is no such list
  125  failed
  130, 143  interrupted by SIGINT, SIGTERM

This is crossdock in buildah's place: docs/drop-in.md says what it does of each of buildah's flags.",
        )
}

fn in_its_name(command: clap::Command) -> clap::Command {
    let renamed = |text: Option<&StyledStr>| {
        let text = text.map(ToString::to_string).unwrap_or_default();
        // Those of one command; here all have the same.
        let text = text.split("\n\nExit codes:").next().unwrap_or_default().to_owned();
        text.replace("crossdock ", "buildah ")
    };
    let short = renamed(command.get_after_help());
    let long = renamed(command.get_after_long_help());
    let command = if short.is_empty() { command } else { command.after_help(short) };
    let command = if long.is_empty() { command } else { command.after_long_help(long) };
    command.mut_subcommands(in_its_name)
}

/// What is typed as `false` counts more than the config file.
fn without_defaults(mut commands: clap::Command, path: &[OsString], off: &[String]) -> clap::Command {
    let Some((first, rest)) = path.split_first() else {
        for name in off {
            let arg = commands.get_arguments().find(|arg| scope::has_long(arg, name));
            if let Some(id) = arg.map(|arg| arg.get_id().clone()) {
                commands = commands.mut_arg(id, |arg| arg.default_value("false"));
            }
        }
        return commands;
    };
    let name = first.to_string_lossy();
    if off.is_empty() || commands.find_subcommand(&*name).is_none() {
        return commands;
    }
    commands.mut_subcommand(name, |command| without_defaults(command, rest, off))
}

/// Makes buildah's words ours. `ours` is our own command line, built; its flags are taken too.
///
/// # Errors
/// The first thing that cannot be carried out.
fn translate(args: &[OsString], ours: &clap::Command) -> Result<CommandLine, Problem> {
    let (scope, command, args) = Scope::of(args, ours)?;
    let mut settings: Vec<(Meant<'_>, Option<OsString>)> = Vec::new();
    let mut operands = Vec::new();
    let mut rest = args.as_slice();
    while !rest.is_empty() {
        for word in words::next(&mut rest, &scope)? {
            match word {
                Word::Plain(word) => operands.push(word),
                Word::End => operands.extend(std::mem::take(&mut rest).iter().cloned()),
                Word::Flag { flag, value } => {
                    if flag.kind() != Kind::List {
                        settings.retain(|(earlier, _)| earlier.name() != flag.name());
                    }
                    settings.push((flag, value));
                }
            }
        }
    }
    let mut line = CommandLine { command, ..CommandLine::default() };
    for (flag, value) in settings {
        match flag {
            Meant::Buildah(flag) => line.add(flag, value, &scope)?,
            Meant::Ours { written, kind, .. } => line.add_ours(&written, kind, value.as_deref())?,
        }
    }
    if !operands.is_empty() {
        line.args.push("--".into());
        line.args.append(&mut operands);
    }
    Ok(line)
}

impl CommandLine {
    /// Adds a flag of buildah's, as the table has it.
    fn add(&mut self, flag: &Flag, value: Option<OsString>, scope: &Scope<'_>) -> Result<(), Problem> {
        let name = format!("--{}", flag.name);
        // An empty value is none, as the flags of Go have it, whose default is empty.
        let given = match flag.kind {
            Kind::Bool => is_true(&name, value.as_deref())?,
            Kind::Value | Kind::List => value.as_deref().is_some_and(|value| !value.is_empty()),
            Kind::Optional(_) => true,
        };
        let nothing = |value: &OsStr| habits::asks_for_nothing(flag.name, &value.to_string_lossy());
        let given = given && !value.as_deref().is_some_and(nothing);
        match (flag.treatment, flag.kind) {
            (Treatment::Ignored, _) => {
                self.ignored.insert(name);
            }
            (Treatment::Refused, _) if given => {
                return Err(Problem::Refused { flag: name, instead: flag.note });
            }
            (Treatment::Honoured, Kind::Bool) if scope.takes_value(flag.name) => {
                self.args.push(format!("{name}={given}").into());
            }
            (Treatment::Honoured, Kind::Optional(default)) => {
                self.push(&name, Some(&value.unwrap_or_else(|| default.into())));
            }
            (Treatment::Honoured, Kind::Bool) if given => self.push(&name, None),
            (Treatment::Honoured, Kind::Bool) => self.off.push(flag.name.to_owned()),
            (Treatment::Honoured, _) if given => self.push(&name, value.as_deref()),
            (Treatment::Honoured | Treatment::Refused, _) => {}
        }
        Ok(())
    }

    /// Adds a flag that only we have.
    fn add_ours(&mut self, written: &str, kind: Kind, value: Option<&OsStr>) -> Result<(), Problem> {
        match kind {
            Kind::Bool if is_true(written, value)? => self.push(written, None),
            Kind::Bool => self.off.push(written.trim_start_matches('-').to_owned()),
            _ => self.push(written, value),
        }
        Ok(())
    }

    fn push(&mut self, flag: &str, value: Option<&OsStr>) {
        let mut text = OsString::from(flag);
        if let Some(value) = value {
            text.push("=");
            text.push(value);
        }
        self.args.push(text);
    }
}

/// The words of Go's `strconv.ParseBool`; a flag without a value is true.
fn is_true(flag: &str, value: Option<&OsStr>) -> Result<bool, Problem> {
    match value.map(OsStr::as_bytes) {
        None | Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => Ok(true),
        Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => Ok(false),
        Some(other) => {
            Err(Problem::NoBool { flag: flag.to_owned(), value: String::from_utf8_lossy(other).into_owned() })
        }
    }
}

//! Which command a command line means, and which flags are known there.

use std::ffi::OsString;

use clap::{Arg, ArgAction};

use super::Problem;
use super::flags::{self, COMMANDS, Flag, GLOBAL, Kind};
use super::habits::habits;
use super::missing::missing;
use super::words::{self, Known, Typed, Word};

/// A flag of the table, or one that only we have.
#[derive(Debug, Clone)]
pub(super) enum Meant<'a> {
    Buildah(&'static Flag),
    Ours { id: &'a str, written: String, kind: Kind },
}

impl Meant<'_> {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Buildah(flag) => flag.name,
            Self::Ours { id, .. } => id,
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Buildah(flag) => flag.kind,
            Self::Ours { kind, .. } => *kind,
        }
    }
}

/// The flags that are known: those of the command, ours of the same name, and the global ones; all that there are where
/// the command is not known yet, for buildah takes a command's flags before it too.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    root: &'a clap::Command,
    command: Option<&'static flags::Command>,
    ours: Option<&'a clap::Command>,
    /// Whether the command is known.
    known: bool,
}

impl<'a> Scope<'a> {
    /// The scope of a command line, the words of its command as our own command line has them, and all other words.
    pub(super) fn of(
        args: &[OsString],
        root: &'a clap::Command,
    ) -> Result<(Self, Vec<OsString>, Vec<OsString>), Problem> {
        let mut scope = Self { root, command: None, ours: None, known: false };
        let mut path: Vec<String> = Vec::new();
        let mut others = Vec::new();
        let mut rest = args;
        while !rest.is_empty() && !scope.known {
            let before = rest;
            let parts = words::next(&mut rest, &scope)?;
            match parts.as_slice() {
                [Word::Plain(word)] => {
                    path.push(word.to_string_lossy().into_owned());
                    scope.enter(&mut path)?;
                }
                [Word::End] => {
                    rest = before;
                    break;
                }
                _ => others.extend_from_slice(&before[..before.len() - rest.len()]),
            }
        }
        others.extend_from_slice(rest);
        // A group of buildah's or docker's alone; clap has to say what is in ours.
        if let (false, Some(group), None) = (scope.known, path.first(), scope.ours) {
            return Err(unknown(group.clone()));
        }
        Ok((scope, path.into_iter().map(OsString::from).collect(), others))
    }

    /// Takes the last word of `path` for a command, or for the first word of one.
    fn enter(&mut self, path: &mut Vec<String>) -> Result<(), Problem> {
        let words = path.join(" ");
        self.command = flags::command(&words);
        if let Some(command) = self.command {
            *path = command.name.split(' ').map(str::to_owned).collect();
        }
        let last = path.last().map_or("", String::as_str);
        let above = if path.len() > 1 { self.ours } else { Some(self.root) };
        self.ours = above.and_then(|above| above.find_subcommand(last));
        let prefix = format!("{words} ");
        let begins = |command: &flags::Command| {
            std::iter::once(&command.name).chain(command.aliases).any(|name| name.starts_with(&prefix))
        };
        let is_group = COMMANDS.iter().any(begins) || self.ours.is_some_and(clap::Command::has_subcommands);
        if self.command.is_none() && self.ours.is_none() && !is_group {
            return Err(unknown(words));
        }
        self.known = !is_group;
        Ok(())
    }

    /// Whether our own flag of this name takes a value, or may.
    pub(super) fn takes_value(&self, name: &str) -> bool {
        let mut args = self.ours.unwrap_or(self.root).get_arguments();
        args.any(|arg| has_long(arg, name) && kind_of(arg) != Kind::Bool)
    }
}

impl<'a> Known for Scope<'a> {
    type Flag = Meant<'a>;

    fn find(&self, typed: Typed<'_>) -> Option<Meant<'a>> {
        let own =
            self.command.into_iter().flat_map(|command| command.flags.iter().chain(habits(command.name)));
        let global = || GLOBAL.iter().find(|flag| is(flag, typed)).map(Meant::Buildah);
        let anywhere = || {
            let buildahs = COMMANDS.iter().flat_map(|command| command.flags);
            let found = buildahs.into_iter().find(|flag| is(flag, typed)).map(Meant::Buildah);
            found.or_else(|| self.root.get_subcommands().find_map(|command| ours(command, typed)))
        };
        own.into_iter()
            .find(|flag| is(flag, typed))
            .map(Meant::Buildah)
            .or_else(|| ours(self.ours.unwrap_or(self.root), typed))
            .or_else(global)
            .or_else(|| if self.known { None } else { anywhere() })
    }

    fn kind(&self, flag: &Meant<'a>) -> Kind {
        flag.kind()
    }
}

fn unknown(words: String) -> Problem {
    match missing(&words) {
        Some(missing) => Problem::Missing { command: words, instead: missing.instead },
        None => Problem::UnknownCommand(words),
    }
}

fn is(flag: &Flag, typed: Typed<'_>) -> bool {
    match typed {
        Typed::Long(name) => flag.name == name,
        Typed::Short(short) => flag.short == Some(short),
    }
}

fn ours<'a>(command: &'a clap::Command, typed: Typed<'_>) -> Option<Meant<'a>> {
    let is = |arg: &&Arg| match typed {
        Typed::Long(name) => has_long(arg, name),
        Typed::Short(short) => arg.get_short() == Some(short),
    };
    let arg = command.get_arguments().find(is)?;
    // `-h` is not quite `--help`; all others are written in full.
    let as_typed = matches!(arg.get_action(), ArgAction::Help | ArgAction::Version);
    let written = match arg.get_long().filter(|_| !as_typed) {
        Some(long) => format!("--{long}"),
        None => typed.to_string(),
    };
    Some(Meant::Ours { id: arg.get_id().as_str(), written, kind: kind_of(arg) })
}

pub(super) fn has_long(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

/// What one of our own flags takes.
pub(super) fn kind_of(arg: &Arg) -> Kind {
    match arg.get_action() {
        ArgAction::Append => Kind::List,
        ArgAction::Set if arg.get_num_args().is_some_and(|range| range.min_values() == 0) => {
            Kind::Optional("")
        }
        ArgAction::Set => Kind::Value,
        _ => Kind::Bool,
    }
}

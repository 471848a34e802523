//! The config file: defaults of options, under their own names. It is laid under the command line before that is read,
//! so that `--help` shows what holds here, and whatever is typed counts more.
//!
//! ```toml
//! root = "/var/lib/crossdock"     # an option of all commands
//!
//! [build]
//! jobs = 8
//! label = ["team=models"]
//!
//! [manifest.push]                 # a command of two words
//! retry = 10
//! ```

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

use crate::environment;
use crate::exit::UsageError;

/// Names another file. `/dev/null` is one without settings.
const VARIABLE: &str = "CROSSDOCK_CONFIG";

/// Options that have no place in a file which others may read, or that say what one run is for.
const REFUSED: [(&str, &str); 5] = [
    ("creds", "keep credentials with `crossdock login`"),
    ("username", "keep credentials with `crossdock login`"),
    ("password", "keep credentials with `crossdock login`"),
    ("help", "it is no setting"),
    ("version", "it is no setting"),
];

/// The commands with the defaults of the user's config file, and what is to be warned of: a file in the default place that
/// cannot be read is left out. Variables that are empty are none to any option.
///
/// # Errors
/// Where a file that was named cannot be read, or one has a setting that is no option; with the file's name and the
/// setting's.
pub(crate) fn with_defaults(commands: Command) -> Result<(Command, Option<String>)> {
    let commands = without_empty_variables(commands, &|name| environment::var_os(name).is_none());
    match text(environment::var_os)? {
        Found::Text(file, text) => {
            Ok((apply(commands, &text).with_context(|| file.display().to_string())?, None))
        }
        Found::Unreadable(warning) => Ok((commands, Some(warning))),
        Found::Nothing => Ok((commands, None)),
    }
}

/// What there is of a config file.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Text(PathBuf, String),
    /// In the default place; with the words to warn of it.
    Unreadable(String),
    Nothing,
}

/// The config file's text, where there is one. `env` gives no empty values.
fn text(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Found> {
    if let Some(named) = env(VARIABLE).map(PathBuf::from) {
        let text = std::fs::read_to_string(&named)
            .with_context(|| format!("{VARIABLE}={}: cannot read the file", named.display()))?;
        return Ok(Found::Text(named, text));
    }
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let Some(file) = directory.map(|directory| directory.join("crossdock/config.toml")) else {
        return Ok(Found::Nothing);
    };
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(Found::Text(file, text)),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Ok(Found::Nothing),
            // It was read, and is something else than it is called.
            ErrorKind::InvalidData => bail!("{}: it is not UTF-8", file.display()),
            _ => {
                Ok(Found::Unreadable(format!("{} cannot be read, and is left out: {error}", file.display())))
            }
        },
    }
}

/// Options do not look at a variable that is empty, which clap takes for a value.
fn without_empty_variables(mut command: Command, is_empty: &dyn Fn(&str) -> bool) -> Command {
    let variable = |arg: &Arg| arg.get_env().and_then(|name| name.to_str()).is_some_and(is_empty);
    let ids: Vec<_> =
        command.get_arguments().filter(|arg| variable(arg)).map(|arg| arg.get_id().clone()).collect();
    for id in ids {
        command = command.mut_arg(id, |arg| arg.env(Resettable::Reset));
    }
    command.mut_subcommands(|below| without_empty_variables(below, is_empty))
}

/// An error of clap's; where the value at fault is that of a variable, it names the variable.
pub(crate) fn told(error: clap::Error, commands: &Command) -> anyhow::Error {
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if let (Some(option), Some(value)) = (said(ContextKind::InvalidArg), said(ContextKind::InvalidValue))
        && let Some(name) = variable_of(commands, option, value)
    {
        let reason = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
        // As clap words it where the value was typed.
        let error =
            anyhow::anyhow!("invalid value '{value}' for '{name}' (the variable of '{option}'){reason}");
        return UsageError(error).into();
    }
    error.into()
}

/// The variable that an option of any command takes this value from.
fn variable_of(command: &Command, option: &str, value: &str) -> Option<String> {
    let of_this = |arg: &&Arg| {
        arg.get_long().is_some_and(|long| option.split(' ').next() == Some(&format!("--{long}")))
    };
    let here = command.get_arguments().filter(of_this).find_map(|arg| {
        let name = arg.get_env()?.to_str()?;
        (environment::var(name).as_deref() == Some(value)).then(|| name.to_owned())
    });
    here.or_else(|| command.get_subcommands().find_map(|below| variable_of(below, option, value)))
}

fn apply(commands: Command, text: &str) -> Result<Command> {
    settle(commands, text.parse()?, "")
}

/// Sets the options of a command, and of those below it that have a table; `path` is what its own table is called.
fn settle(mut command: Command, settings: Table, path: &str) -> Result<Command> {
    for (name, value) in settings {
        let Value::Table(below) = value else {
            let done = set(command, &name, value);
            command = if path.is_empty() { done? } else { done.with_context(|| format!("[{path}]"))? };
            continue;
        };
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if command.find_subcommand(&name).is_none() {
            bail!("[{path}]: there is no such command");
        }
        let mut failed = None;
        let changed = command.mut_subcommand(&name, |command| {
            settle(command.clone(), below, &path).unwrap_or_else(|error| {
                failed = Some(error);
                command
            })
        });
        match failed {
            Some(error) => return Err(error),
            None => command = changed,
        }
    }
    Ok(command)
}

/// Sets the default of an option.
fn set(command: Command, option: &str, value: Value) -> Result<Command> {
    if let Some((_, reason)) = REFUSED.iter().find(|(name, _)| *name == option) {
        bail!("{option}: {reason}");
    }
    let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(option)) else {
        bail!("{option}: {} has no option --{option}", command.get_name());
    };
    let id = arg.get_id().clone();
    let values = texts(arg, value).with_context(|| option.to_owned())?;
    Ok(command.mut_arg(id, |arg| arg.default_values(values)))
}

fn texts(arg: &Arg, value: Value) -> Result<Vec<String>> {
    let several = matches!(arg.get_action(), ArgAction::Append);
    match value {
        Value::Array(values) if several => values.into_iter().map(value_text).collect(),
        Value::Array(_) => bail!("it takes one value"),
        value => Ok(vec![value_text(value)?]),
    }
}

fn value_text(value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Boolean(yes) => Ok(yes.to_string()),
        other => bail!("a {} is no value of an option", other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::args::{Cli, Command as Chosen};

    fn parse(text: &str, args: &[&str]) -> Result<Cli> {
        let matches = apply(Cli::command(), text)?.try_get_matches_from([&["crossdock"], args].concat())?;
        Ok(Cli::from_arg_matches(&matches)?)
    }

    #[test]
    fn a_setting_is_an_options_default_and_what_is_typed_counts_more() {
        let text = "root = \"/r\"\n[build]\njobs = 8\nlabel = [\"a=1\", \"b=2\"]\ntls-verify = false\nsquash = true\n";
        let Cli { root, command: Chosen::Build(args), .. } = parse(text, &["build"]).unwrap() else {
            panic!()
        };
        assert_eq!(root, Some(PathBuf::from("/r")));
        assert_eq!((args.work.jobs(), args.squash, args.registry.tls_verify), (8, true, Some(false)));
        assert_eq!(args.labels, ["a=1", "b=2"]);

        let typed = ["--root=/t", "build", "--jobs=2", "--label=c=3", "--tls-verify"];
        let Cli { root, command: Chosen::Build(args), .. } = parse(text, &typed).unwrap() else { panic!() };
        assert_eq!(root, Some(PathBuf::from("/t")));
        assert_eq!((args.work.jobs(), args.registry.tls_verify), (2, Some(true)));
        assert_eq!(args.labels, ["c=3"]);
    }

    #[test]
    fn a_command_of_two_words_has_settings_too() {
        let text = "[manifest.push]\nretry = 10\nformat = \"v2s2\"\n[manifest.create]\nall = true\n";
        let shown = |args: &[&str]| format!("{:?}", parse(text, args).unwrap());
        let push = shown(&["manifest", "push", "list"]);
        assert!(push.contains("retry: 10") && push.contains("format: Some(\"v2s2\")"), "{push}");
        let typed = shown(&["manifest", "push", "--retry=2", "list"]);
        assert!(typed.contains("retry: 2") && typed.contains("format: Some(\"v2s2\")"), "{typed}");
        assert!(shown(&["manifest", "create", "list"]).contains("all: true"));
        assert!(shown(&["push", "image"]).contains("retry: 3"), "another command");
    }

    #[test]
    fn what_is_no_setting_is_refused_by_name() {
        for (text, expected) in [
            ("[manifest.psuh]\nall = true", "[manifest.psuh]: there is no such command"),
            ("[manifest.push]\njobs = 8\nal = true", "[manifest.push]: al: push has no option --al"),
            ("[manifest]\nretry = 1", "[manifest]: retry: manifest has no option --retry"),
            ("[manifest.push]\ncreds = \"a:b\"", "[manifest.push]: creds: keep credentials with"),
            ("[build.push]\njobs = 8", "[build.push]: there is no such command"),
            ("jobs = 8", "jobs: crossdock has no option --jobs"),
            ("[biuld]\njobs = 8", "[biuld]: there is no such command"),
            ("[build]\njob = 8", "[build]: job: build has no option --job"),
            ("[build]\njobs = [8]", "[build]: jobs: it takes one value"),
            ("[build]\njobs = 1.5", "[build]: jobs: a float is no value"),
            ("[build]\njobs = 65", "invalid value '65' for '--jobs <N>'"),
            ("[build]\ncreds = \"a:b\"", "[build]: creds: keep credentials with `crossdock login`"),
            ("[build\n", "TOML parse error at line 1"),
        ] {
            let error = format!("{:#}", parse(text, &["build"]).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_file_is_found_where_the_xdg_specification_has_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".config/crossdock/config.toml");
        let found = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            text(move |name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.into()))
        };
        let home_text = home.path().display().to_string();
        assert_eq!(found(&[("HOME", &home_text)]).unwrap(), Found::Nothing);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "x = 1").unwrap();
        let there = Found::Text(path.clone(), "x = 1".to_owned());
        assert_eq!(found(&[("HOME", &home_text)]).unwrap(), there);
        assert_eq!(found(&[("HOME", &home_text), ("XDG_CONFIG_HOME", "/nowhere")]).unwrap(), Found::Nothing);
        let null = Found::Text("/dev/null".into(), String::new());
        assert_eq!(found(&[("HOME", &home_text), (VARIABLE, "/dev/null")]).unwrap(), null);
        let error = found(&[("HOME", &home_text), (VARIABLE, "/nowhere")]).unwrap_err();
        assert!(format!("{error:#}").contains("CROSSDOCK_CONFIG=/nowhere"), "{error:#}");
        // What cannot be read counts for nothing in the default place alone.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let Found::Unreadable(warning) = found(&[("HOME", &home_text)]).unwrap() else { panic!() };
        assert!(warning.contains("config.toml") && warning.contains("left out"), "{warning}");
        assert!(found(&[(VARIABLE, &path.display().to_string())]).is_err());
    }

    #[test]
    fn an_empty_variable_is_no_value_of_any_option() {
        fn read(command: &Command) -> Vec<String> {
            let own = command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned()));
            own.chain(command.get_subcommands().flat_map(read)).collect()
        }
        let all = read(&Cli::command());
        assert!(!all.is_empty());
        assert!(read(&without_empty_variables(Cli::command(), &|_| true)).is_empty());
        assert_eq!(read(&without_empty_variables(Cli::command(), &|_| false)), all);
    }
}

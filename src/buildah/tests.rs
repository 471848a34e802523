//! The table held against the real buildah, against our own definitions and against docs/drop-in.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use super::flags::{self, COMMANDS, Flag, GLOBAL, Kind, Treatment};
use super::habits::HABITS;
use super::missing::{self, MISSING, Missing, missing};
use super::scope::{has_long, kind_of};
use super::*;

/// Our own command line.
fn ours() -> clap::Command {
    let mut ours = Cli::command();
    ours.build();
    ours
}

fn find<'a>(ours: &'a clap::Command, name: &str) -> Option<&'a clap::Command> {
    name.split(' ').try_fold(ours, |command, word| command.find_subcommand(word))
}

/// What `buildah COMMAND --help` lists: name, short name, and whether it takes a value.
fn real(command: &str) -> Vec<(String, Option<char>, bool)> {
    let output = Command::new("buildah").args(command.split_whitespace()).arg("--help").output();
    let output =
        output.unwrap_or_else(|error| panic!("this test needs buildah; apt-get install buildah: {error}"));
    assert!(output.status.success(), "buildah {command} --help");
    let text = String::from_utf8(output.stdout).unwrap();
    let flags = text.lines().skip_while(|line| *line != "Flags:").skip(1);
    flags
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let short = line.trim_start().strip_prefix('-').and_then(|rest| rest.chars().next());
            let (_, long) = line.split_once("--").unwrap();
            let name = long.split([' ', '[']).next().unwrap();
            // Names of values stand one space after the flag, descriptions further off.
            let value = long[name.len()..].strip_prefix(' ').is_some_and(|rest| !rest.starts_with(' '));
            (name.to_owned(), short.filter(|short| *short != '-'), value)
        })
        .filter(|(name, ..)| name != "help")
        .collect()
}

fn check_real(command: &str, flags: &[Flag]) {
    for (name, short, value) in real(command) {
        let flag = flags.iter().find(|flag| flag.name == name);
        let flag = flag.unwrap_or_else(|| panic!("buildah {command} --{name} is not in the table"));
        assert_eq!(flag.short, short, "the short name of buildah {command} --{name}");
        assert_eq!(flag.kind != Kind::Bool, value, "whether buildah {command} --{name} takes a value");
    }
}

#[test]
fn the_table_has_all_that_the_installed_buildah_has() {
    check_real("", GLOBAL);
    let output = Command::new("buildah").arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().skip_while(|line| *line != "Available Commands:").skip(1);
    let names: Vec<_> =
        names.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()).collect();
    for name in &names {
        let group = COMMANDS.iter().any(|command| command.name.starts_with(&format!("{name} ")));
        let known = group || flags::command(name).is_some() || missing(name).is_some();
        assert!(known || *name == "help", "buildah {name} is not in the table");
    }
    let installed =
        |command: &&flags::Command| command.name.split(' ').next().is_some_and(|name| names.contains(&name));
    for command in COMMANDS.iter().filter(installed) {
        check_real(command.name, command.flags);
    }
}

#[test]
fn the_table_has_all_that_the_manual_pages_have() {
    let text = include_str!("manual_pages.txt");
    let mut command = "";
    let mut seen = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (head, names) = line.split_once(':').unwrap_or((command, line));
        command = head;
        let flags = if command.is_empty() { GLOBAL } else { flags::command(command).unwrap().flags };
        for name in names.split_whitespace() {
            assert!(
                flags.iter().any(|flag| flag.name == name),
                "buildah {command} --{name} is not in the table"
            );
            seen += 1;
        }
    }
    assert!(seen > 200, "{seen}");
}

/// What others call otherwise has one meaning here.
#[test]
fn a_habit_is_no_flag_of_buildahs_and_no_command_of_ours() {
    for (command, habits) in HABITS {
        let known = flags::command(command).unwrap();
        let own = find(&ours(), command).unwrap().clone();
        for habit in *habits {
            let clash = known
                .flags
                .iter()
                .any(|flag| flag.name == habit.name || (habit.short.is_some() && flag.short == habit.short));
            assert!(!clash, "{command} --{}", habit.name);
            assert!(!own.get_arguments().any(|arg| has_long(arg, habit.name)), "{command} --{}", habit.name);
        }
    }
    let mut names: Vec<_> = MISSING
        .iter()
        .chain(missing::HABITS)
        .flat_map(|command| [&[command.name], command.aliases].concat())
        .collect();
    for name in &names {
        assert!(flags::command(name).is_none() && find(&ours(), name).is_none(), "{name} is carried out");
    }
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn each_flag_is_there_once_and_says_why() {
    let all = COMMANDS.iter().map(|command| (command.name, command.flags)).chain([("", GLOBAL)]);
    let all = all.chain(HABITS.iter().copied());
    for (command, flags) in all {
        for (at, flag) in flags.iter().enumerate() {
            let others = || flags[..at].iter();
            assert!(others().all(|other| other.name < flag.name), "buildah {command} --{}", flag.name);
            assert!(flag.short.is_none() || others().all(|other| other.short != flag.short), "{}", flag.name);
            assert!(
                flag.treatment == Treatment::Honoured || !flag.note.is_empty(),
                "buildah {command} --{} has no reason",
                flag.name
            );
        }
    }
}

/// Where our own command line does not have a command, clap says so.
#[test]
fn what_is_honoured_is_a_flag_of_ours_and_nothing_else_is() {
    let ours = ours();
    let mut wrong = Vec::new();
    for command in COMMANDS {
        let Some(own) = find(&ours, command.name) else { continue };
        for flag in command.flags {
            let name = format!("{} --{}", command.name, flag.name);
            let arg = own.get_arguments().find(|arg| has_long(arg, flag.name));
            if arg.is_some() != (flag.treatment == Treatment::Honoured) {
                wrong.push(name);
                continue;
            }
            let Some(arg) = arg else { continue };
            let kind = kind_of(arg);
            let fits = match flag.kind {
                Kind::Bool => !matches!(kind, Kind::Value | Kind::List),
                Kind::Optional(_) => matches!(kind, Kind::Optional(_)),
                // One value where buildah takes several is for clap to refuse, and not for us to choose from.
                Kind::Value | Kind::List => kind != Kind::Bool,
            };
            assert!(fits, "{name}: {:?} is {kind:?} here", flag.kind);
            assert!(flag.short.is_none_or(|short| arg.get_short() == Some(short)), "{name}: the short name");
        }
    }
    for flag in GLOBAL {
        let is_ours = ours.get_arguments().any(|arg| has_long(arg, flag.name));
        if is_ours != (flag.treatment == Treatment::Honoured) {
            wrong.push(format!("--{}", flag.name));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

fn table(text: &mut String, flags: &[Flag]) {
    text.push_str("| flag | | |\n|---|---|---|\n");
    for flag in flags {
        let short = flag.short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let treatment = match flag.treatment {
            Treatment::Honoured => "honoured",
            Treatment::Ignored => "no effect",
            Treatment::Refused => "refused",
        };
        let _ = writeln!(text, "| {short}`--{}` | {treatment} | {} |", flag.name, flag.note);
    }
}

fn missing_table(text: &mut String, all: &[Missing]) {
    text.push_str("| command | instead |\n|---|---|\n");
    for missing in all {
        let names: Vec<_> =
            std::iter::once(&missing.name).chain(missing.aliases).map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {} | {} |", names.join(", "), missing.instead);
    }
}

/// `UPDATE_DOCS=1 cargo test` writes it.
#[test]
#[allow(clippy::disallowed_methods, reason = "no part of the program")]
fn the_page_has_the_table() {
    let mut text = String::from("### buildah\n\n");
    table(&mut text, GLOBAL);
    for command in COMMANDS {
        let names = [&[command.name], command.aliases].concat().join(", ");
        let _ = write!(text, "\n### {names}\n\n");
        match command.flags {
            [] => text.push_str("No flags but those of buildah itself.\n"),
            flags => table(&mut text, flags),
        }
    }
    text.push_str("\n### Commands that are not carried out\n\n");
    missing_table(&mut text, MISSING);
    text.push_str("\n## From habit\n\nFlags and commands of docker and podman that buildah has not.\n\n");
    for (command, flags) in HABITS {
        let _ = write!(text, "### {command} of docker or podman\n\n");
        table(&mut text, flags);
        text.push('\n');
    }
    text.push_str("### Commands of docker or podman\n\n");
    missing_table(&mut text, missing::HABITS);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/drop-in.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (above, below) = page.split_once("## Every flag\n\n").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{above}## Every flag\n\n{text}")).unwrap();
    } else {
        assert!(
            below == text,
            "docs/drop-in.md is not what the table says: write it again with UPDATE_DOCS=1"
        );
    }
}

fn translated(line: &str) -> Result<(String, String), String> {
    let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let line = translate(&args, &ours()).map_err(|problem| problem.to_string())?;
    let args: Vec<_> = line.command.iter().chain(&line.args).map(|arg| arg.to_string_lossy()).collect();
    Ok((args.join(" "), Vec::from_iter(line.ignored).join(" ")))
}

#[test]
fn buildahs_words_become_ours() {
    for (line, ours, ignored) in [
        // Flags of a command before it, and the global ones after it.
        (
            "--storage-driver=vfs --tls-verify=false bud --squash -t x --root /r .",
            "build --tls-verify=false --squash --tag=x --root=/r -- .",
            "--storage-driver",
        ),
        ("--cert-dir /c push a b", "push --cert-dir=/c -- a b", ""),
        ("--tls-verify=0 push a", "push --tls-verify=false -- a", ""),
        ("--tls-verify tag a b", "tag -- a b", "--tls-verify"),
        // The last one of a flag that counts once; all of those that do not.
        (
            "bud --squash --squash=false -t a -t b --format oci --format=docker",
            "build --tag=a --tag=b --format=docker",
            "",
        ),
        (
            "bud --layers=false --no-cache -D -qv /a:/b",
            "build --quiet",
            "--disable-compression --layers --no-cache --volume",
        ),
        ("bud --build-arg= --build-arg A --authfile= --sign-by= --stdin=false", "build --build-arg=A", ""),
        ("bud --pull --pull-never", "build --pull=true --pull-never", ""),
        ("bud --memory-swap -1 -f - -- -x", "build --file=- -- -x", "--memory-swap"),
        // What only we have.
        (
            "bud --push --no-memo --layer-file-size 1G .",
            "build --push --no-memo --layer-file-size=1G -- .",
            "",
        ),
        ("verify --deep --all=false x", "verify --deep -- x", ""),
        // Of docker: what asks for nothing is taken.
        (
            "buildx build --builder x --provenance=false --sbom=false --attest=type=sbom,disabled=true --load=false .",
            "build -- .",
            "--builder",
        ),
        ("image ls -q", "images --quiet", ""),
        ("image rm x", "rmi -- x", ""),
        ("system prune -af --volumes", "prune --all --force", "--volumes"),
        (
            "build --progress=plain --cache-from x --secret id=a,src=b .",
            "build --progress=plain -- .",
            "--cache-from --secret",
        ),
        ("build --mount type=secret,id=x .", "build -- .", "--mount"),
        ("bud -h", "build -h", ""),
        ("-v", "--version", ""),
        ("manifest --root /r rm a", "manifest rm --root=/r -- a", ""),
        ("help build", "help build", ""),
        ("", "", ""),
    ] {
        assert_eq!(translated(line), Ok((ours.to_owned(), ignored.to_owned())), "{line}");
    }
}

#[test]
fn what_cannot_be_carried_out_is_named() {
    for (line, problem) in [
        ("bud --nope .", "unknown flag: --nope"),
        ("--nope bud", "unknown flag: --nope"),
        ("bud --squash=maybe", "invalid argument \"maybe\" for \"--squash\" flag: write true or false"),
        ("bud -t", "flag needs an argument: -t"),
        ("nope", "unknown command \"nope\" for \"buildah\": see `buildah --help`"),
        ("manifest nope", "unknown command \"manifest nope\" for \"buildah\": see `buildah --help`"),
        ("bud --stdin", "--stdin is not carried out: there is no RUN to read it"),
        (
            "push --sign-by x a",
            "--sign-by is not carried out: images are not signed: use cosign on the digest",
        ),
        (
            "--root /r from alpine",
            "from is not carried out here: write FROM in a Containerfile and use build",
        ),
        (
            "save x",
            "save is not carried out here: push NAME oci-archive:FILE or docker-archive:FILE writes an archive",
        ),
        (
            "image save x",
            "image save is not carried out here: push NAME oci-archive:FILE or docker-archive:FILE writes an archive",
        ),
        ("system", "system is not carried out here: system prune is prune, and system info is info"),
        (
            "image nope",
            "image nope is not carried out here: image ls is images; build, history, inspect, prune, pull, push, rm and tag go by these words alone",
        ),
        ("logs x", "logs is not carried out here: there are no containers here, only images"),
        (
            "bud --provenance=mode=max .",
            "--provenance is not carried out: attestations are not made: use cosign attest on the digest",
        ),
        (
            "bud --sbom=true .",
            "--sbom is not carried out: images are not scanned: run the scanner on the digest",
        ),
    ] {
        assert_eq!(translated(line).unwrap_err(), problem, "{line}");
    }
}

#[test]
fn the_program_is_the_drop_in_by_its_name() {
    for (program, name) in [
        ("buildah", CalledAs::Buildah),
        ("/usr/bin/buildah", CalledAs::Buildah),
        ("./crossdock", CalledAs::Crossdock),
        ("buildah/crossdock", CalledAs::Crossdock),
    ] {
        assert_eq!(CalledAs::of(OsStr::new(program)), name, "{program}");
    }
    let codes = BTreeMap::from([(0, 0), (1, 125), (6, 125), (130, 130), (143, 143)]);
    for (ours, buildahs) in codes {
        assert_eq!(CalledAs::Buildah.exit_code(ours), buildahs);
        assert_eq!(CalledAs::Crossdock.exit_code(ours), ours);
    }
}

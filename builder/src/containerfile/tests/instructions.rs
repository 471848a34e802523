//! Each instruction with its forms and flags.

use std::time::Duration;

use super::super::{CommandForm, CopySource, Healthcheck, Instruction, KeyValue, Spanned};
use super::{one, parse, values};

fn command(form: &CommandForm) -> String {
    match form {
        CommandForm::Exec(words) => format!("exec {:?}", values(words)),
        CommandForm::Shell(text) => format!("shell {}", text.value),
    }
}

fn pairs(pairs: &[KeyValue]) -> Vec<(&str, &str)> {
    pairs.iter().map(|pair| (pair.key.value.as_str(), pair.value.value.as_str())).collect()
}

fn paths(sources: &[CopySource]) -> Vec<&str> {
    sources
        .iter()
        .map(|source| match source {
            CopySource::Path(path) => path.value.as_str(),
            CopySource::Heredoc(heredoc) => heredoc.name.value.as_str(),
        })
        .collect()
}

fn text(value: &Option<Spanned<String>>) -> Option<&str> {
    value.as_ref().map(|value| value.value.as_str())
}

#[test]
fn commands_have_an_exec_and_a_shell_form() {
    let cases = [
        ("CMD [\"a\", \"b c\"]", "exec [\"a\", \"b c\"]"),
        ("cmd []", "exec []"),
        ("ENTRYPOINT  [ \"\\u0061\" ] ", "exec [\"a\"]"),
        ("CMD a  b", "shell a  b"),
        ("CMD ['a']", "shell ['a']"),
        ("CMD [\"a\",]", "shell [\"a\",]"),
        ("CMD [\"a\"] b", "exec [\"a\"]"),
        ("ENTRYPOINT [\"a\", \"#\"]  # [\"b\"]", "exec [\"a\", \"#\"]"),
        ("CMD [ -f x ] && y", "shell [ -f x ] && y"),
        ("ENTRYPOINT exec $x \"y", "shell exec $x \"y"),
        ("CMD -- --flag", "shell --flag"),
        ("CMD [\"a\", \\\n  \"b\"]", "exec [\"a\", \"b\"]"),
    ];
    for (line, expected) in cases {
        let (Instruction::Cmd(form) | Instruction::Entrypoint(form)) = one(line) else { panic!("{line}") };
        assert_eq!(command(&form), expected, "{line}");
    }
}

#[test]
fn copy_and_add_take_paths_and_flags() {
    let Instruction::Copy(copy) = one(
        "COPY --from=build --chown=\"$U\":0 --chmod=u=rwX --link --parents=FALSE --exclude=*.a --exclude=b a $b /c/",
    ) else {
        panic!("no COPY")
    };
    assert_eq!(paths(&copy.sources), ["a", "$b"]);
    assert_eq!(copy.dest.value, "/c/");
    assert_eq!(text(&copy.from), Some("build"));
    assert_eq!(text(&copy.chown), Some("$U:0"));
    assert_eq!(text(&copy.chmod), Some("u=rwX"));
    assert_eq!(copy.link.map(|link| link.value), Some(true));
    assert_eq!(copy.parents.map(|parents| parents.value), Some(false));
    assert_eq!(values(&copy.exclude), ["*.a", "b"]);

    let Instruction::Add(add) = one(
        "ADD --checksum=sha256:0 --keep-git-dir=true --unpack=false --chown=1 --chmod=644 --link --exclude=x [\"a b\", \"/c d\"]",
    ) else {
        panic!("no ADD")
    };
    assert_eq!(paths(&add.sources), ["a b"]);
    assert_eq!(add.dest.value, "/c d");
    assert_eq!(text(&add.checksum), Some("sha256:0"));
    assert_eq!(add.keep_git_dir.map(|keep| keep.value), Some(true));
    assert_eq!(add.unpack.map(|unpack| unpack.value), Some(false));
    assert_eq!((text(&add.chown), text(&add.chmod)), (Some("1"), Some("644")));
    assert_eq!(values(&add.exclude), ["x"]);
}

#[test]
fn pairs_are_written_with_an_equals_sign_or_a_blank() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("ENV a=b", &[("a", "b")]),
        (
            "ENV a=b c=\"d e\" f=g\\ h i='$j' k=",
            &[("a", "b"), ("c", "\"d e\""), ("f", "g\\ h"), ("i", "'$j'"), ("k", "")],
        ),
        ("ENV a b  c=d", &[("a", "b  c=d")]),
        ("ENV a=b=c", &[("a", "b=c")]),
        ("ENV a=b \\\n  c=d", &[("a", "b"), ("c", "d")]),
        ("LABEL \"a b\"=\"c\" d.e=f", &[("\"a b\"", "\"c\""), ("d.e", "f")]),
        ("LABEL a b", &[("a", "b")]),
        ("LABEL a=\"b\\\n c\"", &[("a", "\"b c\"")]),
    ];
    for (line, expected) in cases {
        let (Instruction::Env(found) | Instruction::Label(found)) = one(line) else { panic!("{line}") };
        assert_eq!(pairs(&found), *expected, "{line}");
    }
}

#[test]
fn arg_declares_several_names() {
    let Instruction::Arg(args) = one("ARG a b= c=\"d e\" f=${g:-h}") else { panic!("no ARG") };
    let args: Vec<_> = args.iter().map(|arg| (arg.name.value.as_str(), text(&arg.default))).collect();
    assert_eq!(args, [("a", None), ("b", Some("")), ("c", Some("\"d e\"")), ("f", Some("${g:-h}"))]);
}

#[test]
fn lists_are_words_or_json() {
    let cases: &[(&str, &[&str])] = &[
        ("EXPOSE 80 443/tcp 1000-1010/udp $PORTS", &["80", "443/tcp", "1000-1010/udp", "$PORTS"]),
        ("VOLUME /a /b", &["/a", "/b"]),
        ("VOLUME [\"/a b\", \"/c\"]", &["/a b", "/c"]),
        ("SHELL [\"/bin/bash\", \"-c\"]", &["/bin/bash", "-c"]),
    ];
    for (line, expected) in cases {
        let (Instruction::Expose(found) | Instruction::Volume(found) | Instruction::Shell(found)) = one(line)
        else {
            panic!("{line}")
        };
        assert_eq!(values(&found), *expected, "{line}");
    }
}

#[test]
fn single_arguments_reach_to_the_end_of_the_line() {
    for (line, expected) in [
        ("WORKDIR /a b", "/a b"),
        ("USER $u:0", "$u:0"),
        ("STOPSIGNAL SIGTERM ", "SIGTERM"),
        ("MAINTAINER It's me <me@example.com>", "It's me <me@example.com>"),
    ] {
        let (Instruction::Workdir(found)
        | Instruction::User(found)
        | Instruction::Stopsignal(found)
        | Instruction::Maintainer(found)) = one(line)
        else {
            panic!("{line}")
        };
        assert_eq!(found.value, expected, "{line}");
    }
}

#[test]
fn run_keeps_its_flags() {
    let Instruction::Run(run) = one(
        "RUN --mount=type=cache,target=/x --mount=type=tmpfs,target=/y --network=none --security=sandbox --device=d=e [\"a\"]",
    ) else {
        panic!("no RUN")
    };
    assert_eq!(command(&run.command), "exec [\"a\"]");
    assert_eq!(values(&run.mounts), ["type=cache,target=/x", "type=tmpfs,target=/y"]);
    assert_eq!((text(&run.network), text(&run.security)), (Some("none"), Some("sandbox")));
    assert_eq!(values(&run.devices), ["d=e"]);
}

#[test]
fn healthcheck_reads_its_times() {
    let Instruction::Healthcheck(check) = one(
        "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0 --start-interval=2s --retries=3 \\\n CMD curl -f x",
    ) else {
        panic!("no HEALTHCHECK")
    };
    let Healthcheck::Command(form) = &check.check else { panic!("no command") };
    assert_eq!(command(form), "shell curl -f x");
    let time = |time: Option<Spanned<Duration>>| time.map(|time| time.value);
    assert_eq!(time(check.interval), Some(Duration::from_secs(90)));
    assert_eq!(time(check.timeout), Some(Duration::from_millis(500)));
    assert_eq!(time(check.start_period), Some(Duration::ZERO));
    assert_eq!(time(check.start_interval), Some(Duration::from_secs(2)));
    assert_eq!(check.retries.map(|retries| retries.value), Some(3));
    let Instruction::Healthcheck(check) = one("healthcheck none") else { panic!("no HEALTHCHECK") };
    assert_eq!(check.check, Healthcheck::None);
}

#[test]
fn every_instruction_knows_its_keyword() {
    let lines = [
        "ADD a b",
        "ARG a",
        "CMD a",
        "COPY a b",
        "ENTRYPOINT a",
        "ENV a=b",
        "EXPOSE 1",
        "HEALTHCHECK NONE",
        "LABEL a=b",
        "MAINTAINER a",
        "ONBUILD RUN a",
        "RUN a",
        "SHELL [\"a\"]",
        "STOPSIGNAL a",
        "USER a",
        "VOLUME a",
        "WORKDIR a",
    ];
    for line in lines {
        assert_eq!(Some(one(line).keyword()), line.split(' ').next(), "{line}");
        assert_eq!(one(&line.to_lowercase()).keyword(), one(line).keyword(), "{line}");
    }
}

#[test]
fn doubtful_lines_are_warned_about() {
    let file = parse(
        "FROM a AS scratch\nMAINTAINER me\nENV a b\nCMD ['a']\nRUN a \\\n\n\n b\nHEALTHCHECK --retries=1 NONE\nCMD [ x ]\n",
    );
    let warnings: Vec<_> = file.warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(warnings.join("\n"), @r##"
    Containerfile:1:11: stage name scratch has a meaning of its own, choose another name
    Containerfile:2:1: MAINTAINER is deprecated, write LABEL org.opencontainers.image.authors=..
    Containerfile:3:5: ENV with a blank for =, write NAME=value
    Containerfile:4:5: CMD looks like a JSON array and is none, use double quotes and no comma at the end
    Containerfile:6:1: empty line inside of a continued instruction, remove it or make it a comment
    Containerfile:9:13: HEALTHCHECK NONE makes no use of flags, remove them
    "##);
}

//! What the user sees when a file is wrong.

use super::super::{Containerfile, ParseError, Trigger};
use super::parse;

/// What is wrong with the text as a whole, or with its first stage that has an instruction that cannot be read.
fn error(name: &str, text: &[u8]) -> ParseError {
    match Containerfile::parse(name, text) {
        Err(error) => error,
        Ok(file) => file.stages.into_iter().find_map(|stage| stage.unreadable).expect("an error"),
    }
}

fn rendered(text: &[u8]) -> String {
    error("Containerfile", text).render()
}

fn all(texts: &[&str]) -> String {
    texts.iter().map(|text| rendered(text.as_bytes())).collect::<Vec<_>>().join("\n")
}

fn behind_from(lines: &[&str]) -> String {
    let texts: Vec<_> = lines.iter().map(|line| format!("FROM a\n{line}")).collect();
    all(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn keywords_and_flags() {
    insta::assert_snapshot!(behind_from(&[
        "COPPY a b",
        "include common",
        "RUN a \\\n b\n c",
        "\n\nCOPY --chwon=1:1 a /b",
        "COPY --checksum=x a b",
        "COPY --from=a --from=b c d",
        "COPY --chown a b",
        "COPY --link=maybe a b",
        "CMD --help",
        "HEALTHCHECK --interval=5 CMD x",
        "HEALTHCHECK --interval=5us CMD x",
        "HEALTHCHECK --retries=-1 CMD x",
        "ONBUILD COPY --form=x a b",
        "COPY --chown=\"a b c",
    ]), @r##"
    Containerfile:2:1: unknown instruction COPPY, did you mean COPY?
      |
    2 | COPPY a b
      | ^^^^^
    Containerfile:2:1: unknown instruction include, continue the line above with its escape character if this belongs to it
      |
    2 | include common
      | ^^^^^^^
    Containerfile:4:2: unknown instruction c, continue the line above with its escape character if this belongs to it
      |
    4 |  c
      |  ^
    Containerfile:4:6: unknown flag --chwon for COPY, did you mean --chown?
      |
    4 | COPY --chwon=1:1 a /b
      |      ^^^^^^^
    Containerfile:2:6: unknown flag --checksum for COPY, COPY takes --from, --chown, --chmod, --link, --parents, --exclude
      |
    2 | COPY --checksum=x a b
      |      ^^^^^^^^^^
    Containerfile:2:15: duplicate flag --from for COPY, give it once
      |
    2 | COPY --from=a --from=b c d
      |               ^^^^^^
    Containerfile:2:6: flag --chown for COPY has no value, write --chown=VALUE
      |
    2 | COPY --chown a b
      |      ^^^^^^^
    Containerfile:2:6: flag --link for COPY is `maybe`, it can be true or false
      |
    2 | COPY --link=maybe a b
      |      ^^^^^^^^^^^^
    Containerfile:2:5: unknown flag --help for CMD, CMD takes no flags; put -- before an argument that begins with dashes
      |
    2 | CMD --help
      |     ^^^^^^
    Containerfile:2:24: --interval for HEALTHCHECK is `5`, not a duration, write one like 30s, 1m30s or 500ms
      |
    2 | HEALTHCHECK --interval=5 CMD x
      |                        ^
    Containerfile:2:24: --interval for HEALTHCHECK is `5us`, too short, use at least 1ms, or 0 for the default
      |
    2 | HEALTHCHECK --interval=5us CMD x
      |                        ^^^
    Containerfile:2:23: --retries for HEALTHCHECK is `-1`, write a number from 0
      |
    2 | HEALTHCHECK --retries=-1 CMD x
      |                       ^^
    Containerfile:2:14: unknown flag --form for COPY, did you mean --from?
      |
    2 | ONBUILD COPY --form=x a b
      |              ^^^^^^
    Containerfile:2:14: quote " is not closed, close it
      |
    2 | COPY --chown="a b c
      |              ^
    "##);
}

#[test]
fn arguments() {
    insta::assert_snapshot!(behind_from(&[
        "COPY",
        "COPY a",
        "COPY <<EOF\nEOF",
        "COPY a <<EOF\nEOF",
        "COPY \"a b\" c",
        "COPY [\"a\", 1]",
        "RUN",
        "RUN []",
        "CMD",
        "ENTRYPOINT [{}]",
        "SHELL",
        "SHELL bash -c",
        "SHELL []",
        "USER",
        "WORKDIR 'a",
        "VOLUME []",
        "VOLUME [\" \"]",
        "EXPOSE",
        "ENV",
        "ENV a",
        "ENV a=b c",
        "ENV =b",
        "ENV a=\"b",
        "LABEL \"\"=x",
        "ARG",
        "ARG =x",
        "HEALTHCHECK",
        "HEALTHCHECK CMD",
        "HEALTHCHECK NONE x",
        "HEALTHCHECK curl x",
        "ONBUILD",
        "STOPSIGNAL",
    ]), @r##"
    Containerfile:2:1: COPY has no source and no destination, write COPY source.. dest
      |
    2 | COPY
      | ^^^^
    Containerfile:2:6: COPY has only one argument, so a source or the destination is missing, write COPY source.. dest
      |
    2 | COPY a
      |      ^
    Containerfile:2:6: COPY has only one argument, so a source or the destination is missing, write COPY source.. dest
      |
    2 | COPY <<EOF
      |      ^^^^^
    Containerfile:2:8: a heredoc cannot be the destination of COPY, write a path behind it
      |
    2 | COPY a <<EOF
      |        ^^^^^
    Containerfile:2:6: quote " is not closed, a path with blanks or quotes needs the JSON form ["a b", "dest"]
      |
    2 | COPY "a b" c
      |      ^
    Containerfile:2:6: COPY has a JSON array with something else than strings, put each element in double quotes
      |
    2 | COPY ["a", 1]
      |      ^^^^^^^^
    Containerfile:2:1: RUN has no argument, it takes a command
      |
    2 | RUN
      | ^^^
    Containerfile:2:1: RUN has no command, write one into the array
      |
    2 | RUN []
      | ^^^^^^
    Containerfile:2:1: CMD has no argument, it takes a command; CMD [] clears the base's
      |
    2 | CMD
      | ^^^
    Containerfile:2:12: ENTRYPOINT has a JSON array with something else than strings, put each element in double quotes
      |
    2 | ENTRYPOINT [{}]
      |            ^^^^
    Containerfile:2:1: SHELL has no argument, write SHELL ["executable", "parameter"]
      |
    2 | SHELL
      | ^^^^^
    Containerfile:2:7: SHELL takes a JSON array of strings only, write SHELL ["executable", "parameter"]
      |
    2 | SHELL bash -c
      |       ^^^^^^^
    Containerfile:2:1: SHELL has no command, write SHELL ["executable", "parameter"]
      |
    2 | SHELL []
      | ^^^^^^^^
    Containerfile:2:1: USER has no argument, it takes a user
      |
    2 | USER
      | ^^^^
    Containerfile:2:9: quote ' is not closed, close it, or escape it to mean the character
      |
    2 | WORKDIR 'a
      |         ^
    Containerfile:2:1: VOLUME has no argument, it takes one or more paths
      |
    2 | VOLUME []
      | ^^^^^^^^^
    Containerfile:2:10: VOLUME has an empty path, write the path or remove it
      |
    2 | VOLUME [" "]
      |          ^
    Containerfile:2:1: EXPOSE has no argument, it takes one or more ports
      |
    2 | EXPOSE
      | ^^^^^^
    Containerfile:2:1: ENV has no argument, it takes NAME=value
      |
    2 | ENV
      | ^^^
    Containerfile:2:5: ENV a has no value, write NAME=value
      |
    2 | ENV a
      |     ^
    Containerfile:2:9: ENV has the word c without =, write NAME=value, with quotes around a value that has blanks
      |
    2 | ENV a=b c
      |         ^
    Containerfile:2:5: ENV has an empty name, write NAME=value
      |
    2 | ENV =b
      |     ^^
    Containerfile:2:7: quote " is not closed, close it, or escape it to mean the character
      |
    2 | ENV a="b
      |       ^
    Containerfile:2:7: LABEL has an empty name, write NAME=value
      |
    2 | LABEL ""=x
      |       ^^^^
    Containerfile:2:1: ARG has no argument, it takes NAME or NAME=default
      |
    2 | ARG
      | ^^^
    Containerfile:2:5: ARG has an empty name, write NAME=value
      |
    2 | ARG =x
      |     ^^
    Containerfile:2:1: HEALTHCHECK has no argument, it takes CMD and a command, or NONE
      |
    2 | HEALTHCHECK
      | ^^^^^^^^^^^
    Containerfile:2:1: HEALTHCHECK CMD has no command, write one behind it
      |
    2 | HEALTHCHECK CMD
      | ^^^^^^^^^^^^^^^
    Containerfile:2:18: HEALTHCHECK NONE takes no arguments, write HEALTHCHECK CMD command or HEALTHCHECK NONE
      |
    2 | HEALTHCHECK NONE x
      |                  ^
    Containerfile:2:13: unknown kind of HEALTHCHECK curl, write HEALTHCHECK CMD command or HEALTHCHECK NONE
      |
    2 | HEALTHCHECK curl x
      |             ^^^^
    Containerfile:2:1: ONBUILD has no instruction, write one behind it
      |
    2 | ONBUILD
      | ^^^^^^^
    Containerfile:2:1: STOPSIGNAL has no argument, it takes a signal
      |
    2 | STOPSIGNAL
      | ^^^^^^^^^^
    "##);
}

#[test]
fn structure() {
    insta::assert_snapshot!(all(&[
        "",
        "# only a comment\n",
        "ARG a\n",
        "ARG a\nRUN b\nFROM c",
        "FROM",
        "FROM a b",
        "FROM a AS",
        "FROM a AS b c",
        "FROM --plattform=x a",
        "FROM a\nONBUILD ONBUILD RUN x",
        "FROM a\nonbuild from x",
        "FROM a\nONBUILD MAINTAINER x",
        "FROM a\nRUN <<EOF\nFROM b\n",
        "# escape=x\nFROM a",
        "# escape=\\\n# escape=`\nFROM a",
        "# syntax=a\n# Syntax=b\nFROM a",
    ]), @r##"
    Containerfile:1:1: the file has no instructions, begin a stage with FROM and an image, or FROM scratch
      |
    1 |
      | ^
    Containerfile:1:1: the file has no instructions, begin a stage with FROM and an image, or FROM scratch
      |
    1 | # only a comment
      | ^
    Containerfile:1:6: the file has no FROM, begin a stage with FROM and an image, or FROM scratch
      |
    1 | ARG a
      |      ^
    Containerfile:2:1: RUN stands before the first FROM, only ARG can
      |
    2 | RUN b
      | ^^^
    Containerfile:1:1: FROM has no image, write FROM image or FROM image AS name
      |
    1 | FROM
      | ^^^^
    Containerfile:1:8: FROM has more than an image, write FROM image or FROM image AS name
      |
    1 | FROM a b
      |        ^
    Containerfile:1:8: FROM has no stage name behind AS, write FROM image or FROM image AS name
      |
    1 | FROM a AS
      |        ^^
    Containerfile:1:13: FROM has more than an image and a name, write FROM image or FROM image AS name
      |
    1 | FROM a AS b c
      |             ^
    Containerfile:1:6: unknown flag --plattform for FROM, did you mean --platform?
      |
    1 | FROM --plattform=x a
      |      ^^^^^^^^^^^
    Containerfile:2:9: ONBUILD cannot be an ONBUILD trigger, use another instruction
      |
    2 | ONBUILD ONBUILD RUN x
      |         ^^^^^^^
    Containerfile:2:9: FROM cannot be an ONBUILD trigger, use another instruction
      |
    2 | onbuild from x
      |         ^^^^
    Containerfile:2:9: MAINTAINER cannot be an ONBUILD trigger, use another instruction
      |
    2 | ONBUILD MAINTAINER x
      |         ^^^^^^^^^^
    Containerfile:2:5: heredoc EOF is not closed, end it with a line that is only EOF
      |
    2 | RUN <<EOF
      |     ^^^^^
    Containerfile:1:10: invalid escape character `x`, it can be \ or ` (a backtick)
      |
    1 | # escape=x
      |          ^
    Containerfile:2:1: a second escape directive, keep one of them
      |
    2 | # escape=`
      | ^^^^^^^^^^
    Containerfile:2:1: a second syntax directive, keep one of them
      |
    2 | # Syntax=b
      | ^^^^^^^^^^
    "##);
}

#[test]
fn bytes_that_are_no_text() {
    let texts: [&[u8]; 3] = [b"FROM a\nRUN \xff\n", b"\xef\xbb\xbfFROM \xc3", b"FROM a\0b"];
    insta::assert_snapshot!(texts.map(rendered).join("\n"), @r##"
    Containerfile:2:5: bytes that are not UTF-8, save the file as UTF-8
      |
    2 | RUN �
      |     ^
    Containerfile:1:6: bytes that are not UTF-8, save the file as UTF-8
      |
    1 | FROM �
      |      ^
    Containerfile:1:7: a NUL byte, a Containerfile is plain text
      |
    1 | FROM a\u{0}b
      |       ^^^^^
    "##);
}

#[test]
fn tabs_and_wide_characters_are_underlined_where_they_stand() {
    insta::assert_snapshot!(behind_from(&[
        "\tCOPY\t--chwon=1 a b",
        "LABEL 名前=\"日本語\" 語 c=d",
        "LABEL e\u{301}=x é z",
        "COPY --li\\\nnk=x a b",
        "COPY --lin\\\nkk a b",
    ]), @r##"
    Containerfile:2:7: unknown flag --chwon for COPY, did you mean --chown?
      |
    2 |     COPY    --chwon=1 a b
      |             ^^^^^^^
    Containerfile:2:16: LABEL has the word 語 without =, write NAME=value, with quotes around a value that has blanks
      |
    2 | LABEL 名前="日本語" 語 c=d
      |                     ^^
    Containerfile:2:12: LABEL has the word é without =, write NAME=value, with quotes around a value that has blanks
      |
    2 | LABEL é=x é z
      |           ^
    Containerfile:2:6: flag --link for COPY is `x`, it can be true or false
      |
    2 | COPY --li\
      |      ^^^^^
    Containerfile:2:6: unknown flag --linkk for COPY, did you mean --link?
      |
    2 | COPY --lin\
      |      ^^^^^^
    "##);
}

#[test]
fn the_line_number_sets_the_margin() {
    let text = "FROM a\n".to_owned() + &"\n".repeat(98) + "X y";
    insta::assert_snapshot!(rendered(text.as_bytes()), @r##"
    Containerfile:100:1: unknown instruction X, continue the line above with its escape character if this belongs to it
        |
    100 | X y
        | ^
    "##);
}

#[test]
fn triggers_of_a_base_image() {
    let errors: Vec<_> = ["", "RUN a\nRUN b", "FROM x", "NOPE"]
        .iter()
        .map(|text| Trigger::parse("ONBUILD of base", text).expect_err(text).render())
        .collect();
    insta::assert_snapshot!(errors.join("\n"), @r##"
    ONBUILD of base:1:1: an ONBUILD trigger of 0 instructions, it has to be exactly one
      |
    1 |
      | ^
    ONBUILD of base:2:1: an ONBUILD trigger of 2 instructions, it has to be exactly one
      |
    2 | RUN b
      | ^^^^^
    ONBUILD of base:1:1: FROM cannot be an ONBUILD trigger, use another instruction
      |
    1 | FROM x
      | ^^^^
    ONBUILD of base:1:1: unknown instruction NOPE, did you mean COPY?
      |
    1 | NOPE
      | ^^^^
    "##);
}

#[test]
fn an_error_is_one_line_and_tells_its_kind() {
    let error = error("x/Containerfile", b"FROM a\nCOPPY b");
    assert!(matches!(error, ParseError::UnknownInstruction(_)));
    assert_eq!(error.to_string(), "x/Containerfile:2:1: unknown instruction COPPY, did you mean COPY?");
    assert_eq!(parse("FROM a").warnings, []);
}

#[test]
fn results_may_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Containerfile>();
    crosses::<ParseError>();
    crosses::<Trigger>();
}

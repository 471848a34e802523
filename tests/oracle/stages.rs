//! Stages: what they inherit, and what is copied out of them.

use crate::harness::{Row, row};

#[test]
fn stages_give_what_they_give_with_buildah() {
    crate::check("stages");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("stage-inherits", "FROM scratch AS one\nENV A=1\nCOPY a.txt /d/\nUSER 7\nWORKDIR /w\nFROM one\nCOPY b.txt .\nENV B=$A\n"),
        row("stage-name-in-capitals", "FROM scratch AS One\nCOPY a.txt /a\nFROM one\nCOPY --from=ONE /a /b\n"),
        row("stage-by-name", "FROM scratch AS one\nCOPY dir /d\nFROM scratch\nCOPY --from=one /d/c.txt /c\nCOPY --from=one /d /e\n"),
        row("stage-by-index", "FROM scratch\nCOPY dir /d\nFROM scratch\nCOPY --from=0 d/c.txt /c\n"),
        row("stage-with-an-index-as-name", "FROM scratch AS x\nCOPY a.txt /x\nFROM scratch AS y\nCOPY b.txt /x\nFROM scratch\nCOPY --from=1 /x /x\n"),
        row("stage-keeps-owners-and-modes", "FROM scratch AS one\nCOPY --chown=7:8 --chmod=4751 a.txt /o/a\nCOPY --chown=9 dir /o/d\nFROM scratch\nCOPY --from=one /o /p\nCOPY --from=one /o/a /q\n"),
        row("stage-and-chown", "FROM scratch AS one\nCOPY --chown=7:8 dir /o\nFROM scratch\nCOPY --from=one --chown=5 /o /p\n"),
        row("stage-and-chmod", "FROM scratch AS one\nCOPY dir /o\nFROM scratch\nCOPY --from=one --chmod=751 /o /p\n"),
        row("stage-pattern", "FROM scratch AS one\nCOPY a.txt b.txt dir /o/\nFROM scratch\nCOPY --from=one /o/*.txt /p/\n"),
        row("stage-changed-behind", "FROM scratch AS one\nCOPY a.txt /x\nCOPY b.txt /x\nFROM scratch\nCOPY --from=one /x /x\n"),
        row("stage-of-a-stage", "FROM scratch AS one\nCOPY a.txt /a\nFROM one AS two\nCOPY b.txt /a\nCOPY b.txt /b\nFROM scratch\nCOPY --from=one /a /1\nCOPY --from=two /a /b /2/\n"),
        row("stage-links", "FROM scratch AS one\nCOPY l /l\nFROM scratch\nCOPY --from=one /l /m\nCOPY --from=one /l/dir/x /x\nCOPY --from=one /l/abs /y\nCOPY --from=one /l/dir /z\n")
            .with(|context| context.files(&["l/d/x"]).link("l/dir", "d").link("l/abs", "/l/d/x")),
        row("stage-hard-links", "FROM scratch AS one\nCOPY h /h\nFROM scratch\nCOPY --from=one /h /i\n").with(|context| context.files(&["h/one"]).hard_link("h/two", "h/one")),
        row("stage-whole", "FROM scratch AS one\nCOPY dir /d\nWORKDIR /w\nFROM scratch\nCOPY --from=one / /\n"),
        row("stage-workdir-is-no-matter", "FROM scratch AS one\nWORKDIR /w\nCOPY a.txt .\nFROM scratch\nCOPY --from=one w/a.txt /a\n"),
        row("stage-ignores-the-ignore-file", "FROM scratch AS one\nCOPY dir /dir\nFROM scratch\nCOPY --from=one /dir /d\n")
            .with(|context| context.file(".containerignore", "dir/c.txt\n")),
        row("stage-that-is-not-needed", "FROM scratch AS one\nCOPY none /x\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-unreadable-instruction-that-is-not-needed", "FROM scratch AS x\nNOSUCH x\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-unknown-flag-that-is-not-needed", "FROM scratch AS x\nCOPY --bogus a b\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-missing-argument-that-is-not-needed", "FROM scratch AS x\nUSER\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-unreadable-check-that-is-not-needed", "FROM scratch AS x\nHEALTHCHECK foo\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-unreadable-trigger-that-is-not-needed", "FROM scratch AS x\nONBUILD NOSUCH x\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-unreadable-name-that-is-not-needed", "FROM scratch AS \"a b\"\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-unreadable-from-that-is-not-needed", "FROM --bogus scratch\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-from-of-nothing-that-is-not-needed", "FROM\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-behind-the-target-that-is-unreadable", "FROM scratch AS x\nCOPY a.txt /a\nFROM scratch\nNOSUCH x\n").args(&["--target", "x"]),
        row("stage-unreadable-below-the-target", "FROM scratch AS x\nNOSUCH x\nFROM x\nCOPY a.txt /a\n").fails("unknown instruction NOSUCH", "NOSUCH"),
        row("stage-unreadable-copied-from", "FROM scratch AS x\nCOPY a.txt /a\nNOSUCH x\nFROM scratch\nCOPY --from=x /a /a\n").fails("unknown instruction NOSUCH", "NOSUCH"),
        row("stage-heredoc", "FROM scratch AS one\nCOPY a.txt /x/y\nFROM scratch\nCOPY --from=one /x /x\n"),
        row("stage-over-the-base", "FROM oci:base:latest AS one\nCOPY a.txt /new/a\nFROM scratch\nCOPY --from=one /new /n\n"),
        row("stage-file-of-the-base", "FROM oci:base:latest AS one\nFROM scratch\nCOPY --from=one /etc/conf /c\n"),
        row("stage-directory-of-the-base", "FROM oci:base:latest AS one\nFROM scratch\nCOPY --from=one /tmp /t\nCOPY --from=one /run /r\n"),
        row("stage-from-the-base-to-the-base", "FROM oci:base:latest AS one\nCOPY a.txt /tmp/x\nFROM oci:base:latest\nCOPY --from=one /tmp/x /var/run/\n"),
        row(
            "stage-directory-with-files-of-the-base",
            "FROM oci:base:latest AS one\nCOPY a.txt /etc/own\nFROM scratch\nCOPY --from=one /etc /e\n",
        ),
        row("stage-hard-links-of-the-base", "FROM oci:base:latest AS one\nFROM scratch\nCOPY --from=one /srv /s\n"),
        row("stage-link-of-the-base", "FROM oci:base:latest AS one\nFROM scratch\nCOPY --from=one /etc/conf.link /c\nCOPY --from=one /bin/tool /t\n"),
        row("stage-pattern-of-the-base", "FROM oci:base:latest AS one\nFROM scratch\nCOPY --from=one /etc/*o* /e/\n"),
        row("stage-all-of-the-base", "FROM oci:base:latest AS one\nFROM scratch\nCOPY --from=one / /\n"),
        row("stage-all-of-the-base-with-another-owner", "FROM oci:base:latest AS one\nFROM scratch\nCOPY --from=one --chown=7:8 /srv /s\n"),
        row("image-directory", "FROM scratch\nCOPY --from=oci:base:latest /srv /s\n"),
        row("image-pattern", "FROM scratch\nCOPY --from=oci:base:latest /etc/conf* /e/\n"),
        row("image-with-sparse-files", "FROM [REGISTRY]/sparse:pax AS one\nFROM scratch\nCOPY --from=one /pax /d/\nCOPY --from=[REGISTRY]/sparse:pax / /e/\n"),
        row("image-with-sparse-files-of-gnu-tar", "FROM scratch\nCOPY --from=[REGISTRY]/sparse:gnu / /e/\n"),
        row("image-missing-file", "FROM scratch\nCOPY --from=oci:base:latest /none /n\n").fails("oci:base:latest", "none"),
        row("image-below-a-link", "FROM scratch\nCOPY --from=oci:base:latest /bin/tool /t\n"),
        row("image-over-the-base", "FROM oci:base:latest\nCOPY --from=oci:base:latest /etc/conf /tmp/x/\n"),
        row("stage-from-an-image", "FROM scratch\nCOPY --from=oci:base:latest /etc/conf /c\n"),
        row(
            "stage-platform",
            "FROM --platform=linux/arm64 scratch AS one\nCOPY a.txt /a\nFROM one\nLABEL a=1\n",
        ),
        row("stage-missing", "FROM scratch\nCOPY --from=1 /x /x\n").fails("names no stage above", "1"),
        row("context-by-name-of-an-image", "FROM more\nCOPY --from=more /etc/conf /c\n")
            .args(&["--build-context", "more=docker://[REGISTRY]/base:1"]),
        row("context-by-name-as-docker-has-it", "FROM more\nCOPY --from=more /etc/conf /c\n")
            .args(&["--build-context", "more=docker-image://[REGISTRY]/base:1"]),
        row("context-by-name-of-a-layout", "FROM more AS one\nFROM scratch\nCOPY --from=one /etc/conf /c\n")
            .args(&["--build-context", "more=oci:base:latest"]),
        row("context-by-name-of-a-layout-copied", "FROM scratch\nCOPY --from=more /etc/conf /c\n")
            .args(&["--build-context", "more=oci:base:latest"]),
        row("context-by-name-before-a-stage", "FROM scratch AS more\nCOPY a.txt /c.txt\nFROM scratch\nCOPY --from=more c.txt /c\n")
            .args(&["--build-context", "more=context/dir"]),
        row("context-by-name-that-is-missing", "FROM scratch\nCOPY --from=more c.txt /c\n")
            .args(&["--build-context", "more=context/none"])
            .misused("none", "none"),
        row("stage-mistyped", "FROM scratch AS one\nCOPY a.txt /a\nFROM scratch AS two\nCOPY --from=[REGISTRY]/oen /a /a\n")
            .fails("the stages above are one", "oen"),
        row("image-missing", "FROM scratch\nCOPY --from=[REGISTRY]/none:1 /x /x\n").fails("none:1", "none:1"),
        row(
            "stage-of-a-trigger",
            "FROM scratch AS one\nCOPY a.txt /a\nFROM one AS two\nONBUILD COPY --from=one /a /b\nFROM two\nLABEL a=1\n",
        )
        .docker(),
        row("context-by-name", "FROM scratch\nCOPY --from=more c.txt /c\n")
            .args(&["--build-context", "more=context/dir"]),
        row("stage-missing-file", "FROM scratch AS one\nCOPY a.txt /a\nFROM scratch\nCOPY --from=one /b /b\n").fails("/b", "b"),
        row("stage-above-its-root", "FROM scratch AS one\nCOPY a.txt /a\nFROM scratch\nCOPY --from=one ../a /b\n"),
        row("stage-itself", "FROM scratch AS one\nCOPY --from=one /a /b\n").fails("one", "one"),
        row("stage-later", "FROM scratch AS one\nCOPY --from=two /a /b\nFROM scratch AS two\nCOPY a.txt /a\nFROM one\n").fails("two", "two"),
        row("stage-name-bad", "FROM scratch AS 1x\nCOPY a.txt /a\n"),
        row("stage-name-odd-and-not-needed", "FROM scratch AS x-arm/v7\nRUN x\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-name-odd", "FROM scratch AS x-arm/v7\nCOPY a.txt /a\nFROM x-arm/v7\nCOPY b.txt /b\n"),
        row("stage-name-odd-copied-from", "FROM scratch AS _x+1\nCOPY a.txt /a\nFROM scratch\nCOPY --from=_x+1 /a /b\n"),
        row("stage-name-odd-as-target", "FROM scratch AS x/y\nCOPY a.txt /a\nFROM scratch\nCOPY b.txt /b\n")
            .args(&["--target", "x/y"]),
        row("stage-name-of-a-variable", "ARG A=x\nFROM scratch AS s-$A\nCOPY a.txt /a\nFROM scratch\nCOPY --from=s-x /a /b\n"),
        row("stage-name-twice-and-nobody-asks", "FROM scratch AS x\nCOPY none /a\nFROM scratch AS x\nCOPY none /b\nFROM scratch\nCOPY a.txt /a\n"),
        row("stage-name-twice", "FROM scratch AS x\nCOPY a.txt /a\nFROM scratch AS x\nCOPY b.txt /b\nFROM x\nLABEL a=1\n"),
        row("stage-named-scratch", "FROM scratch AS base\nCOPY a.txt /a\nFROM base\nFROM scratch\nCOPY --from=base /a /b\n"),
        row("stage-from-is-a-variable", "ARG S=one\nFROM scratch AS one\nCOPY a.txt /a\nFROM $S\nCOPY b.txt /b\n"),
        row("stage-add-has-no-from", "FROM scratch AS one\nCOPY a.txt /a\nFROM scratch\nADD --from=one /a /a\n").fails("unknown flag --from", "only supports"),
    ]
}

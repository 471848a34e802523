//! COPY and ADD: where things go.

use crate::harness::{Row, row};

#[test]
fn copies_land_where_buildah_puts_them() {
    crate::check("copying");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("copy-file-to-a-name", "FROM scratch\nCOPY a.txt /new/deep/name\n"),
        row("copy-file-into-a-directory", "FROM scratch\nCOPY a.txt /new/deep/\n"),
        row("copy-file-to-the-root", "FROM scratch\nCOPY a.txt /\nCOPY b.txt .\n"),
        row("copy-file-to-dot-with-workdir", "FROM scratch\nWORKDIR /w\nCOPY a.txt .\nCOPY b.txt ./\n"),
        row("copy-file-to-the-workdir", "FROM scratch\nWORKDIR /w\nCOPY a.txt /w\n"),
        row("copy-files-into-a-directory", "FROM scratch\nCOPY a.txt b.txt /d/\n"),
        row("copy-files-without-a-slash", "FROM scratch\nCOPY a.txt b.txt /d\n"),
        row("copy-directory", "FROM scratch\nCOPY dir /d\n"),
        row("copy-directory-with-slashes", "FROM scratch\nCOPY dir/ /d/\n"),
        row("copy-directory-to-the-root", "FROM scratch\nCOPY dir /\n"),
        row("copy-directory-over-a-directory", "FROM scratch\nCOPY dir /d\nCOPY dir/sub /d\n"),
        row("copy-directory-and-file", "FROM scratch\nCOPY dir a.txt /d/\n"),
        row("copy-directories", "FROM scratch\nCOPY dir dir/sub /d/\n"),
        row("copy-dot", "FROM scratch\nCOPY . /all\n"),
        row("copy-dot-to-dot", "FROM scratch\nWORKDIR /w\nCOPY . .\n"),
        row("copy-slash", "FROM scratch\nCOPY / /all/\n"),
        row("copy-absolute-source", "FROM scratch\nCOPY /dir/c.txt /x\n"),
        row("copy-dots-in-the-source", "FROM scratch\nCOPY ./dir/../a.txt /x\nCOPY dir//sub/./d.txt /y\n"),
        row("copy-dots-in-the-destination", "FROM scratch\nCOPY a.txt /x/../y/./z\nCOPY b.txt /../up\n"),
        row("copy-pattern", "FROM scratch\nCOPY *.txt /d/\n"),
        row("copy-pattern-of-one", "FROM scratch\nCOPY a*.txt /name\n"),
        row("copy-pattern-question", "FROM scratch\nCOPY ?.txt /d/\n"),
        row("copy-pattern-class", "FROM scratch\nCOPY [a-b].txt /d/\n"),
        row("copy-pattern-negated", "FROM scratch\nCOPY [^a].txt /d/\n"),
        row("copy-pattern-in-a-directory", "FROM scratch\nCOPY d*/s*/*.txt /d/\n"),
        row("copy-pattern-of-a-directory", "FROM scratch\nCOPY di* /d/\n"),
        row("copy-pattern-of-both", "FROM scratch\nCOPY d* /d/\n")
            .with(|context| context.files(&["d.txt", "deep/x"])),
        row("copy-pattern-of-both-without-a-slash", "FROM scratch\nCOPY d* /e\n")
            .with(|context| context.files(&["d.txt"])),
        row("copy-pattern-of-files-to-a-file", "FROM scratch\nCOPY *.txt /d\n"),
        row("copy-pattern-of-dotfiles", "FROM scratch\nCOPY * /d/\nCOPY .h* /e/\n")
            .with(|context| context.files(&[".hidden", ".git/config"])),
        row("copy-patterns-of-which-one-matches", "FROM scratch\nCOPY *.none *.txt /d/\n"),
        row("copy-pattern-without-a-match-and-a-file", "FROM scratch\nCOPY *.none a.txt /d\n"),
        row("copy-patterns-without-a-match", "FROM scratch\nCOPY *.none no?ne /d/\n")
            .fails("match nothing", ""),
        row("copy-pattern-and-a-missing-file", "FROM scratch\nCOPY *.txt none /d/\n")
            .fails("\"none\" is not in", "none"),
        row("copy-pattern-of-what-is-ignored-and-a-file", "FROM scratch\nCOPY *.txt dir/c.txt /d/\n")
            .with(|context| context.file(".dockerignore", "*.txt\n"))
            .fails("matches only what is ignored", ""),
        row("copy-two-stars", "FROM scratch\nCOPY **/*.txt /d/\n"),
        row("copy-two-stars-at-the-end", "FROM scratch\nCOPY dir/** /d/\n"),
        row("add-two-stars", "FROM scratch\nADD dir/**/*.txt *.none /d/\n"),
        row("copy-pattern-without-a-match", "FROM scratch\nCOPY *.bin /d/\n")
            .fails("matches nothing", "no such file"),
        row("copy-brackets-in-a-name", "FROM scratch\nCOPY x[[]1].txt /d/\n")
            .with(|context| context.file("x[1].txt", "x\n")),
        row("copy-name-with-brackets", "FROM scratch\nCOPY x[1].txt /d/\n")
            .with(|context| context.file("x[1].txt", "x\n")),
        row("copy-strange-names", "FROM scratch\nCOPY odd /odd\n").with(|context| {
            context.files(&["odd/ü ", "odd/new\nline", "odd/-dash", "odd/back\\slash", "odd/star*"])
        }),
        row("copy-file-over-a-file", "FROM scratch\nCOPY a.txt /x\nCOPY b.txt /x\n"),
        row("copy-file-over-a-file-of-the-base", "FROM oci:base:latest\nCOPY a.txt /etc/conf\n"),
        row("copy-file-onto-a-directory", "FROM scratch\nCOPY dir /d\nCOPY a.txt /d\n"),
        row(
            "copy-file-onto-a-directory-of-the-base",
            "FROM oci:base:latest\nCOPY a.txt /tmp\nCOPY b.txt /srv\n",
        ),
        row("copy-directory-onto-a-file", "FROM scratch\nCOPY a.txt /x\nCOPY dir /x\n").fails("/x", "x"),
        row("copy-into-a-file", "FROM scratch\nCOPY a.txt /x\nCOPY b.txt /x/y\n").fails("/x", ""),
        row("copy-into-a-file-with-a-slash", "FROM scratch\nCOPY a.txt /x\nCOPY b.txt /x/\n").fails("/x", ""),
        row("copy-directory-with-a-file-over-a-directory", "FROM scratch\nCOPY one /d\nCOPY two /d\n")
            .with(|context| context.files(&["one/name/x", "two/name"])),
        row("copy-directory-with-a-directory-over-a-file", "FROM scratch\nCOPY two /d\nCOPY one /d\n")
            .with(|context| context.files(&["one/name/x", "two/name"])),
        row(
            "copy-below-the-base",
            "FROM oci:base:latest\nCOPY a.txt /tmp/x/\nCOPY a.txt /srv/x\nCOPY dir /usr/bin/\n",
        ),
        row("copy-directory-over-one-of-the-base", "FROM oci:base:latest\nCOPY tree /\n").with(|context| {
            context
                .files(&["tree/tmp/x", "tree/srv/y", "tree/etc/z"])
                .mode("tree/tmp", 0o700)
                .mode("tree/srv", 0o711)
        }),
        row(
            "copy-to-what-the-workdir-of-the-base-is",
            "FROM oci:base:latest\nCOPY a.txt .\nCOPY b.txt x/\nCOPY b.txt /srv\n",
        ),
        row("copy-empty-directory", "FROM scratch\nCOPY empty /e\nCOPY holds /h\n")
            .with(|context| context.directory("empty").directory("holds/empty")),
        row("copy-empty-directory-onto-nothing", "FROM scratch\nCOPY empty /e/f/\n")
            .with(|context| context.directory("empty")),
        row("copy-empty-file", "FROM scratch\nCOPY nothing /n\n").with(|context| context.file("nothing", "")),
        row("copy-twice", "FROM scratch\nCOPY a.txt /x\nCOPY a.txt /x\nCOPY a.txt a.txt /d/\n"),
        row("copy-same-name-twice", "FROM scratch\nCOPY a.txt dir/a.txt /d/\n")
            .with(|context| context.file("dir/a.txt", "other\n")),
        row("copy-case", "FROM scratch\nCOPY a.txt /A.txt\nCOPY A.TXT /b\n").fails("A.TXT", "A.TXT"),
        row("copy-trailing-dot", "FROM scratch\nCOPY dir/. /d\nCOPY dir/sub/.. /e\n"),
        row("copy-destination-dot-dot", "FROM scratch\nWORKDIR /a/b\nCOPY a.txt ..\nCOPY b.txt ../\n"),
        row("copy-destination-slash-dot", "FROM scratch\nCOPY a.txt /d/.\n"),
        row("copy-file-with-a-slash-behind", "FROM scratch\nCOPY a.txt/ /d/\n"),
        row("add-file", "FROM scratch\nADD a.txt /x\nADD a.txt b.txt /d/\n"),
        row("add-directory", "FROM scratch\nADD dir /d\n"),
        row("add-pattern", "FROM scratch\nADD *.txt /d/\n"),
    ]
}

//! The context as a tar archive on standard input.

use crate::archives::gnu_tar;
use crate::harness::{Row, row};

#[test]
fn an_archive_on_standard_input_is_the_context_that_it_is_with_buildah() {
    crate::check("contexts");
}

pub(crate) fn rows() -> Vec<Row> {
    let rows = vec![
        row("archived", "FROM scratch\nCOPY . /c/\n"),
        row("archived-file-and-pattern", "FROM scratch\nCOPY a.txt b.* dir/c.txt /c/\n"),
        row("archived-directory-modes", "FROM scratch\nCOPY --chown=7:8 dir /d\n"),
        row("archived-links", "FROM scratch\nCOPY l /l\nCOPY out /o\nCOPY l/rel /r\n").with(|context| {
            context
                .files(&["l/f", "l/d/x"])
                .link("l/rel", "f")
                .link("l/dir", "d")
                .link("l/abs", "/a.txt")
                .link("l/gone", "none")
                .link("out", "/dir/c.txt")
        }),
        row("archived-ignore-file", "FROM scratch\nCOPY . /c/\n")
            .with(|context| context.files(&["m/a.md", "m/b"]).file(".containerignore", "*.md\n**/b\nContainerfile\n")),
        row("archived-containerfile-elsewhere", "FROM scratch\nCOPY a.txt /wrong\n")
            .with(|context| context.file("sub/File", "FROM scratch\nLABEL a=b\nCOPY b.txt /right\n"))
            .args(&["-f", "sub/File"]),
        row("archived-source-that-is-not-there", "FROM scratch\nCOPY nothing /x\n").fails("is not in", "nothing"),
        row("archived-archive", "FROM scratch\nCOPY in.tar /t/\n")
            .with(|context| context.bytes("in.tar", &gnu_tar(&context.0.context(), &[], &["a.txt"]))),
        row("archived-special-names", "FROM scratch\nCOPY names /n/\n").with(|context| {
            context.files(&["names/white space", "names/\u{fc}ml\u{e4}ut", "names/-dash"]).file(
                "names/a-name-so-long-that-a-header-of-an-archive-has-no-room-for-it-and-another-record-must-hold-it-for-it-is-longer",
                "x",
            )
        }),
    ];
    rows.into_iter().map(Row::archived).collect()
}

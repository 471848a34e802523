//! Ignore files.

use crate::harness::{Row, row};

#[test]
fn what_buildah_ignores_is_ignored() {
    crate::check("ignoring");
}

const ALL: &str = "FROM scratch\nCOPY . /c\n";

const WEIGHTS: &[&str] = &[
    "top.safetensors",
    "m/x.safetensors",
    "m/x.json",
    "m/sub/y.safetensors",
    "m/sub/deep/z.safetensors",
    "n/sub/v.safetensors",
];

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("ignore-names", ALL).with(|context| context.file(".dockerignore", "a.txt\ndir/sub\n")),
        row("ignore-containerignore-first", ALL)
            .with(|context| context.file(".dockerignore", "a.txt\n").file(".containerignore", "b.txt\n")),
        row("ignore-patterns", ALL)
            .with(|context| context.file(".dockerignore", "*.txt\n*/*.txt\ndir/s?b\n")),
        row("ignore-pattern-is-not-deep", ALL).with(|context| context.file(".dockerignore", "*.txt\n")),
        row("ignore-double-star", ALL).with(|context| context.file(".dockerignore", "**/*.txt\n")),
        row("ignore-double-star-in-the-middle", ALL).with(|context| {
            context.files(&["x/1/f", "x/1/2/f", "x/f", "y/f"]).file(".dockerignore", "x/**/f\n")
        }),
        row("ignore-double-star-at-the-end", ALL).with(|context| context.file(".dockerignore", "dir/**\n")),
        row("ignore-exception", ALL).with(|context| context.file(".dockerignore", "*.txt\n!b.txt\n")),
        row("ignore-exception-then-pattern", ALL)
            .with(|context| context.file(".dockerignore", "!b.txt\n*.txt\n")),
        row("ignore-exception-in-a-directory", ALL)
            .with(|context| context.file(".dockerignore", "dir\n!dir/c.txt\n")),
        row("ignore-exception-of-a-directory", ALL)
            .with(|context| context.file(".dockerignore", "*\n!dir\n")),
        row("ignore-exception-deep", ALL)
            .with(|context| context.file(".dockerignore", "dir\n!dir/sub/d.txt\n")),
        row("ignore-all-but-one", ALL).with(|context| context.file(".dockerignore", "*\n!a.txt\n")),
        row("ignore-all-but-deep", ALL).with(|context| context.file(".dockerignore", "**\n!**/*.txt\n")),
        row("ignore-deep-but-a-directory", ALL)
            .with(|context| context.files(WEIGHTS).file(".dockerignore", "**/*.safetensors\n!m/sub\n")),
        row("ignore-deep-but-a-directory-above", ALL)
            .with(|context| context.files(WEIGHTS).file(".dockerignore", "**/*.safetensors\n!m\n")),
        row("ignore-deep-but-what-is-in-a-directory", ALL)
            .with(|context| context.files(WEIGHTS).file(".dockerignore", "**/*.safetensors\n!m/sub/*\n")),
        row("ignore-deep-but-a-directory-of-such-names", ALL).with(|context| {
            context.files(&["file1", "dir/file1", "o/file1"]).file(".dockerignore", "**/file1\n!dir\n")
        }),
        row("ignore-one-level-but-a-directory", ALL)
            .with(|context| context.files(WEIGHTS).file(".dockerignore", "*/*.safetensors\n!m\n")),
        row("ignore-what-an-exception-brings-back-again", ALL)
            .with(|context| context.files(WEIGHTS).file(".dockerignore", "**/*.safetensors\n!m\nm/sub\n")),
        row("ignore-double-star-without-a-slash", ALL)
            .with(|context| context.files(WEIGHTS).file(".dockerignore", "**.safetensors\n")),
        row("ignore-comments-and-blanks", ALL).with(|context| {
            context.files(&["#x", "x"]).file(".dockerignore", "# comment\n\n  a.txt  \n#x\n")
        }),
        row("ignore-slashes", ALL)
            .with(|context| context.file(".dockerignore", "/a.txt\ndir/sub/\n./b.txt\n")),
        row("ignore-dots", ALL).with(|context| context.file(".dockerignore", "dir/../a.txt\n../b.txt\n.\n")),
        row("ignore-parent-of-a-match", ALL)
            .with(|context| context.files(&["p/1/2/3/f", "p/1/2/g"]).file(".dockerignore", "p/*/2/3\n")),
        row("ignore-directory-far-above", ALL)
            .with(|context| context.files(&["p/1/2/3/f", "p/1/g"]).file(".dockerignore", "p/1\n")),
        row("ignore-pattern-for-a-directory-far-above", ALL)
            .with(|context| context.files(&["p/1/2/3/f", "q/g"]).file(".dockerignore", "p*\n")),
        row("ignore-the-ignore-file", ALL)
            .with(|context| context.file(".dockerignore", ".dockerignore\nContainerfile\n")),
        row("ignore-git", ALL).with(|context| {
            context.files(&[".git/config", "sub/.git/config"]).file(".dockerignore", ".git\n")
        }),
        row("ignore-crlf", ALL).with(|context| context.file(".dockerignore", "a.txt\r\ndir\r\n")),
        row("ignore-byte-order-mark", ALL).with(|context| context.file(".dockerignore", "\u{feff}a.txt\n")),
        row("ignore-escaped", ALL)
            .with(|context| context.files(&["*x", "yx", "!z"]).file(".dockerignore", "\\*x\n\\!z\n")),
        row("ignore-class", ALL)
            .with(|context| context.files(&["f1", "f2", "f3"]).file(".dockerignore", "f[1-2]\n")),
        row("ignore-negated-class", ALL)
            .with(|context| context.files(&["f1", "f2", "f3"]).file(".dockerignore", "f[^1]\n")),
        row("ignore-link-by-name", ALL)
            .with(|context| context.link("l", "a.txt").link("m", "dir").file(".dockerignore", "l\nm\n")),
        row("ignore-target-of-a-link", "FROM scratch\nCOPY l /x\n")
            .with(|context| context.link("l", "a.txt").file(".dockerignore", "a.txt\n"))
            .fails("ignored by .dockerignore:1", ""),
        row("ignore-empty-file", ALL).with(|context| context.file(".dockerignore", "")),
        row("ignore-and-directory", "FROM scratch\nCOPY dir /d\n")
            .with(|context| context.file(".dockerignore", "dir/c.txt\nsub\n")),
        row("ignore-and-pattern", "FROM scratch\nCOPY *.txt /d/\n")
            .with(|context| context.file(".dockerignore", "a.txt\n")),
        row("ignore-makes-a-directory-empty", "FROM scratch\nCOPY dir /d\n")
            .with(|context| context.file(".dockerignore", "dir/*\n")),
        row("ignore-named-source", "FROM scratch\nCOPY a.txt /a\n")
            .with(|context| context.file(".dockerignore", "a.txt\n"))
            .fails("ignored by .dockerignore:1", ""),
        row("ignore-named-directory", "FROM scratch\nCOPY dir /d\n")
            .with(|context| context.file(".dockerignore", "dir\n"))
            .fails("ignored by .dockerignore:1", ""),
        row("ignore-one-of-two", "FROM scratch\nCOPY a.txt b.txt /d/\n")
            .with(|context| context.file(".dockerignore", "a.txt\n"))
            .fails("ignored by .dockerignore:1", ""),
        row("ignore-named-directory-but-one", "FROM scratch\nCOPY dir /d\n")
            .with(|context| context.file(".dockerignore", "dir\n!dir/c.txt\n")),
        row("ignore-malformed", ALL)
            .with(|context| context.file(".dockerignore", "[a\n"))
            .fails(".dockerignore:1", "syntax error in pattern"),
        row("ignore-file-given", ALL)
            .with(|context| context.file(".dockerignore", "a.txt\n").file("other", "b.txt\n"))
            .args(&["--ignorefile", "context/other"]),
        row("ignore-file-of-the-containerfile", "FROM scratch\nCOPY none /c\n")
            .with(|context| {
                context
                    .file("Build.file", ALL)
                    .file("Build.file.dockerignore", "a.txt\n")
                    .file(".dockerignore", "b.txt\n")
            })
            .args(&["-f", "context/Build.file"]),
        row("ignore-containerignore-of-the-containerfile", "FROM scratch\nCOPY none /c\n")
            .with(|context| {
                context.file("Build.file", ALL).file("Build.file.containerignore", "a.txt\n");
                context.file("Build.file.dockerignore", "b.txt\n")
            })
            .args(&["-f", "context/Build.file"]),
    ]
}

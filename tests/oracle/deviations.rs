//! Where crossdock differs from Debian's buildah 1.28.2, and why: the one list of it, by topic.
//! docs/containerfile.md has it in words.

/// A row that differs.
#[derive(Debug)]
pub(crate) struct Deviation {
    pub(crate) row: &'static str,
    pub(crate) how: How,
    /// For whoever reads the list.
    #[expect(dead_code, reason = "read by people")]
    pub(crate) why: &'static str,
}

/// In which way.
#[derive(Debug)]
pub(crate) enum How {
    /// buildah builds; crossdock ends with 3 and says this.
    Refused(&'static str),
    /// buildah fails; crossdock builds this.
    Builds(&'static [&'static str]),
    /// Both build; `fact: buildah's -> crossdock's`.
    Differs(&'static [&'static str]),
}

const fn refused(row: &'static str, says: &'static str, why: &'static str) -> Deviation {
    Deviation { row, how: How::Refused(says), why }
}

const fn builds(row: &'static str, lines: &'static [&'static str], why: &'static str) -> Deviation {
    Deviation { row, how: How::Builds(lines), why }
}

const fn differs(row: &'static str, lines: &'static [&'static str], why: &'static str) -> Deviation {
    Deviation { row, how: How::Differs(lines), why }
}

pub(crate) const DEVIATIONS: &[Deviation] = &[
    // Bases.
    differs(
        "docker-base-and-commands",
        &["/src: 0755 0:0 directory -> -", r#"Cmd: ["/bin/sh","-c","own"] -> ["/bin/bash","-c","own"]"#],
        MADE,
    ),
    differs(
        "docker-base-in-oci",
        &[r#"Healthcheck: - -> {"Retries":2,"Test":["CMD","check"]}"#, r#"Shell: - -> ["/bin/bash","-c"]"#],
        KEPT,
    ),
    differs(
        "workdir-of-the-base-and-no-copy",
        &["/src/deep: 0755 7:8 directory -> -", "/src: 0755 7:8 directory -> -"],
        MADE,
    ),
    // Config.
    differs(
        "expose-forms",
        &[
            r#"ExposedPorts: {"80/tcp":{},"81/tcp":{},"82/udp":{},"83/sctp":{}} -> {"80/tcp":{},"80/udp":{},"81/tcp":{},"82/udp":{},"83/sctp":{}}"#,
        ],
        "buildah forgets 80/udp when 80 follows",
    ),
    differs(
        "expose-upper-case",
        &[r#"ExposedPorts: {"80/UDP":{}} -> {"80/udp":{}}"#],
        "runtimes know protocols in lower case; Docker writes them so",
    ),
    differs(
        "expose-range",
        &[r#"ExposedPorts: {"90-92/tcp":{}} -> {"90/tcp":{},"91/tcp":{},"92/tcp":{}}"#],
        RANGES,
    ),
    differs(
        "expose-range-of-udp",
        &[r#"ExposedPorts: {"90-91/udp":{}} -> {"90/udp":{},"91/udp":{}}"#],
        RANGES,
    ),
    refused("fail-expose-a-word", "\"http\" is not a port", "buildah writes anything; Docker refuses it too"),
    refused(
        "fail-expose-too-large",
        "\"70000\" is not a port",
        "buildah writes anything; Docker refuses it too",
    ),
    differs("healthcheck-in-oci", &[r#"Healthcheck: - -> {"Test":["CMD-SHELL","a"]}"#], KEPT),
    builds(
        "healthcheck-zero",
        &[r#"Healthcheck: {"Test":["CMD-SHELL","a"]}"#],
        "zero is the default, as with BuildKit",
    ),
    builds(
        "healthcheck-start-interval",
        &[r#"Healthcheck: {"StartInterval":3000000000,"Test":["CMD-SHELL","a"]}"#],
        NEWER,
    ),
    differs("onbuild-own-in-oci", &[r#"OnBuild: - -> ["COPY . /src"]"#], KEPT),
    differs(
        "onbuild-triggered-in-oci",
        &[
            "/on/build: - -> 0640 0:0 file \"a\\n\"",
            "/on: - -> 0755 0:0 directory",
            "history: 2 entries -> 3 entries",
        ],
        KEPT,
    ),
    differs(
        "shell-and-cmd",
        &[
            r#"Cmd: ["/bin/sh","-c","a b"] -> ["/bin/bash","-c","a b"]"#,
            r#"Entrypoint: ["/bin/sh","-c","c"] -> ["/bin/bash","-c","c"]"#,
        ],
        SHELL,
    ),
    differs(
        "shell-and-cmd-in-oci",
        &[r#"Cmd: ["/bin/sh","-c","a b"] -> ["/bin/bash","-c","a b"]"#, r#"Shell: - -> ["/bin/bash","-c"]"#],
        SHELL,
    ),
    differs("shell-again", &[r#"Cmd: ["/bin/sh","-c","x"] -> ["b","-c","x"]"#], SHELL),
    differs("shell-of-the-stage-below", &[r#"Cmd: ["/bin/sh","-c","x"] -> ["a","-c","x"]"#], SHELL),
    differs(
        "volume-at-the-end",
        &["/v: 0755 0:0 directory -> -"],
        "buildah makes it where VOLUME comes last alone; whoever runs the container makes it in any case",
    ),
    differs("env-in-workdir", &[r#"WorkingDir: "/deep/er//x" -> "/deep/er/x""#], "the same directory"),
    refused("fail-workdir-is-a-file", "/etc/conf is not a directory", "no container could start there"),
    refused("fail-workdir-of-nothing", "WORKDIR needs a path", SLIP),
    refused("fail-user-of-nothing", "USER needs a user", SLIP),
    refused("fail-cmd-alone", "CMD has no argument", SLIP),
    refused("fail-entrypoint-alone", "ENTRYPOINT has no argument", SLIP),
    refused("fail-env-no-name", "ENV has an empty name", "no process can have it; Docker refuses it too"),
    refused("flag-of-label", "unknown flag --x for LABEL", "a slip; Docker refuses it too"),
    // Variables and lines.
    refused("arg-name-of-nothing", "the name is empty", SLIP),
    differs("arg-of-the-stage-below", &[r#"Labels: {"a":"[]","x":"1"} -> {"a":"[1]","x":"1"}"#], NEWER),
    refused("source-of-nothing", "COPY has an empty source: the variable NONE is not set", WHOLE),
    refused("source-of-nothing-of-add", "ADD has an empty source: the variable NONE is not set", WHOLE),
    refused("source-of-nothing-beside-another", "COPY has an empty source", WHOLE),
    refused("source-of-nothing-in-json", "COPY has an empty source", WHOLE),
    refused("source-of-all-of-a-variable-without-a-value", "the source \"/\", which is all there is", WHOLE),
    refused("source-of-nothing-of-a-stage", "COPY has an empty source", WHOLE),
    refused("chown-of-nothing", "\"\" names no user", "most likely a slip; today's buildah refuses it too"),
    builds("env-modifiers-without-colon", &[r#"Labels: {"a":"1","b":"x","c":"[]","d":"[y]"}"#], NEWER),
    builds("env-modifier-required", &[r#"Labels: {"a":"1"}"#], NEWER),
    builds("env-trim", &[r#"Labels: {"a":"barbaz","b":"foobar","c":"az","d":"foo-baz"}"#], NEWER),
    builds("env-in-from-flag", &[r#"/b: 0640 0:0 file "a\n""#], NEWER),
    differs(
        "line-escaped-backslash-at-its-end",
        &[r#"Labels: {"a":"xLABEL","b":"2"} -> {"a":"x\\","b":"2"}"#, "history: 1 entries -> 2 entries"],
        "an escape that is escaped continues no line, as with BuildKit",
    ),
    builds(
        "escape-directive",
        &[r#"/a: 0640 0:0 file "a\n""#, r#"Labels: {"a":"1","b":"x\\y","c":"$d","e":"\""}"#],
        "buildah joins lines by it and does not escape with it",
    ),
    builds(
        "heredoc-copy",
        &[
            "/h: 0755 0:0 directory",
            r#"/h/one: 0644 0:0 file "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n""#,
            r#"/h/two: 0644 0:0 file "$PATH\n""#,
        ],
        NEWER,
    ),
    builds(
        "heredoc-copy-to-a-file",
        &[
            "/etc: 0755 0:0 directory",
            r#"/etc/conf: 0644 0:0 file "value=1 x $A\n  kept\n""#,
            r#"Labels: {"a":"1"}"#,
        ],
        NEWER,
    ),
    builds(
        "heredoc-backslashes",
        &[r#"/start.sh: 0644 0:0 file "exec serve \\\n  --port $A1 \\\n  'a\\nb\\'\n""#],
        "buildah 1.28 knows no heredocs; today's keeps each backslash, also one before $, and BuildKit keeps none",
    ),
    builds("heredoc-tabs", &[r#"/x: 0644 0:0 file "a\nb\n""#], NEWER),
    builds("heredoc-with-flags", &[r#"/x: 0600 7:8 file "a\n""#], NEWER),
    builds(
        "heredoc-and-file",
        &["/x: 0755 0:0 directory", r#"/x/EOF: 0644 0:0 file "h\n""#, r#"/x/a.txt: 0640 0:0 file "a\n""#],
        NEWER,
    ),
    builds("heredoc-add", &[r#"/x: 0644 0:0 file "a\n""#], NEWER),
    builds("heredoc-empty", &[r#"/x: 0644 0:0 file """#], NEWER),
    // Sources and destinations.
    refused(
        "fail-copy-above-and-back",
        "leads outside the build context",
        "what is above the context is none of the build's business",
    ),
    refused(
        "link-relative-out-and-in",
        "leads outside the build context",
        "it means another file than it says",
    ),
    refused(
        "copy-pattern-of-files-to-a-file",
        "cannot copy 2 files to the one path /d",
        "content would be lost; Docker refuses it too",
    ),
    refused("copy-directory-with-a-file-over-a-directory", "/d/name is a directory", DIRECTORY),
    refused("link-over-a-directory", "/srv is a directory", DIRECTORY),
    builds(
        "copy-pattern-of-both-without-a-slash",
        &[
            "/e: 0755 0:0 directory",
            r#"/e/c.txt: 0644 0:0 file "c\n""#,
            r#"/e/d.txt: 0644 0:0 file "d.txt\n""#,
            "/e/link: 0777 0:0 link to c.txt",
            "/e/sub: 0700 0:0 directory",
            r#"/e/sub/d.txt: 0600 0:0 file "d\n""#,
        ],
        "content would be lost; buildah ends with an internal error",
    ),
    differs(
        "copy-two-stars",
        &[
            r#"/d/a.txt: - -> 0640 0:0 file "a\n""#,
            r#"/d/b.txt: - -> 0644 0:0 file "b\n""#,
            r#"/d/d.txt: - -> 0600 0:0 file "d\n""#,
        ],
        NEWER,
    ),
    differs("add-two-stars", &[r#"/d/c.txt: - -> 0644 0:0 file "c\n""#], NEWER),
    differs(
        "copy-two-stars-at-the-end",
        &[
            r#"/d/d.txt: 0600 0:0 file "d\n" -> -"#,
            r#"/d/link: 0644 0:0 file "c\n" -> 0777 0:0 link to c.txt"#,
            r#"/d/sub/d.txt: - -> 0600 0:0 file "d\n""#,
            "/d/sub: - -> 0700 0:0 directory",
        ],
        "all that is in the directory, as it is there; today's buildah puts the files of each directory in it beside that once more",
    ),
    builds(
        "copy-brackets-in-a-name",
        &["/d: 0755 0:0 directory", r#"/d/x[1].txt: 0644 0:0 file "x\n""#],
        "the name is there",
    ),
    builds(
        "copy-name-with-brackets",
        &["/d: 0755 0:0 directory", r#"/d/x[1].txt: 0644 0:0 file "x\n""#],
        "the name is there",
    ),
    differs(
        "copy-destination-slash-dot",
        &[r#"/d/a.txt: - -> 0640 0:0 file "a\n""#, r#"/d: 0640 0:0 file "a\n" -> 0755 0:0 directory"#],
        "a path that ends with /. is a directory, as with Docker",
    ),
    differs(
        "directory-over-a-link-to-a-directory",
        &[
            r#"/bin/y: 0644 0:0 file "tree/bin/y\n" -> -"#,
            "/bin: 0755 0:0 directory -> 0777 0:0 link to usr/bin",
            r#"/run/x: - -> 0644 0:0 file "tree/var/run/x\n""#,
            r#"/usr/bin/y: - -> 0644 0:0 file "tree/bin/y\n""#,
            r#"/var/run/x: 0644 0:0 file "tree/var/run/x\n" -> -"#,
            "/var/run: 0755 0:0 directory -> 0777 0:0 link to /run",
        ],
        "all that is reached through the link would be gone: /bin/sh, for one",
    ),
    refused("fifo-over-a-directory", "/d/pipe is a directory", DIRECTORY),
    builds(
        "file-over-a-fifo",
        &["/d: 0755 0:0 directory", r#"/d/pipe: 0640 0:0 file "a\n""#],
        "as over any file; buildah takes what is no file for a directory, and fails",
    ),
    // Flags of COPY.
    builds("chown-root-by-name-without-passwd", &[r#"/a: 0640 0:0 file "a\n""#], "root is 0 everywhere"),
    refused("flag-of-copy-empty", "\"\" names no user", SLIP),
    refused("flag-of-copy-twice", "duplicate flag --chown", "a slip; Docker refuses it too"),
    builds(
        "flag-exclude",
        &["/d: 0755 0:0 directory", "/d/link: 0777 0:0 link to c.txt", "/d/sub: 0700 0:0 directory"],
        NEWER,
    ),
    builds(
        "flag-exclude-of-a-pattern",
        &["/d: 0755 0:0 directory", r#"/d/b.txt: 0644 0:0 file "b\n""#],
        NEWER,
    ),
    builds(
        "flag-exclude-deep",
        &[
            "/d: 0755 0:0 directory",
            r#"/d/Containerfile: 0644 0:0 file "FROM scratch\nCOPY --exclude=**/d.txt . /d/\n""#,
            r#"/d/a.txt: 0640 0:0 file "a\n""#,
            r#"/d/b.txt: 0644 0:0 file "b\n""#,
            "/d/dir: 0755 0:0 directory",
            r#"/d/dir/c.txt: 0644 0:0 file "c\n""#,
            "/d/dir/link: 0777 0:0 link to c.txt",
            "/d/dir/sub: 0700 0:0 directory",
        ],
        NEWER,
    ),
    builds("flag-build-arg-file", &[r#"Labels: {"a":"2","b":"3 4"}"#], NEWER),
    builds("chmod-symbolic", &[r#"/a: 0700 0:0 file "a\n""#], "as BuildKit"),
    builds(
        "chmod-symbolic-of-a-directory",
        &[
            "/d: 0755 0:0 directory",
            r#"/d/c.txt: 0644 0:0 file "c\n""#,
            "/d/link: 0777 0:0 link to c.txt",
            "/d/sub: 0755 0:0 directory",
            r#"/d/sub/d.txt: 0644 0:0 file "d\n""#,
        ],
        "as BuildKit",
    ),
    builds(
        "flag-parents",
        &[
            "/p: 0755 0:0 directory",
            r#"/p/a.txt: 0640 0:0 file "a\n""#,
            "/p/dir: 0755 0:0 directory",
            "/p/dir/sub: 0700 0:0 directory",
            r#"/p/dir/sub/d.txt: 0600 0:0 file "d\n""#,
        ],
        NEWER,
    ),
    builds(
        "flag-parents-behind-a-pivot",
        &["/p: 0755 0:0 directory", "/p/sub: 0700 0:0 directory", r#"/p/sub/d.txt: 0600 0:0 file "d\n""#],
        NEWER,
    ),
    builds(
        "flag-parents-deep",
        &[
            "/p: 0755 7:8 directory",
            r#"/p/a.txt: 0640 7:8 file "a\n""#,
            r#"/p/b.txt: 0644 7:8 file "b\n""#,
            "/p/dir: 0755 7:8 directory",
            r#"/p/dir/c.txt: 0644 7:8 file "c\n""#,
            "/p/dir/sub: 0700 7:8 directory",
            r#"/p/dir/sub/d.txt: 0600 7:8 file "d\n""#,
        ],
        NEWER,
    ),
    builds(
        "flag-parents-of-an-image",
        &[
            "/p: 0755 0:0 directory",
            r#"/p/owned: 0640 5:6 file "owned\n""#,
            "/p/run: 0755 0:0 directory",
            "/p/run/lock: 1777 0:0 directory",
        ],
        NEWER,
    ),
    builds("flag-link", &[r#"/a: 0640 0:0 file "a\n""#, r#"/b: 0644 0:0 file "b\n""#], NEWER),
    builds(
        "add-archive-of-sparse-files",
        &[
            "/d: 0755 0:0 directory",
            r#"/d/dense: 0644 5:6 file "dense\n""#,
            "/d/hole: 0644 5:6 file of 3145728 bytes sha256:3f105254ab97cdb0039c99b4423c74d4d7134d3fed398defa90f4c5bf13e0418",
            "/d/other: 0644 5:6 file of 100000 bytes sha256:5ea2dbf88b2bf66d42a7d43cd69c09d0ca0b904b33c112023f75f745b8cd0ed3",
        ],
        SPARSE,
    ),
    refused(
        "add-archive-of-a-hard-link-into-the-base",
        "/h in the archive is a hard link to /etc/conf.link, which is no file in it and none that ADD or COPY brought",
        "the bytes of a base's files stay where they are",
    ),
    builds(
        "add-archive-that-leads-to-nothing",
        &[
            "/d: 0755 0:0 directory",
            "/d/etc: 0755 0:0 directory",
            r#"/d/etc/x: 0640 5:6 file "x""#,
            "/d/l: 0777 5:6 link to /etc",
        ],
        "the archive may bring the directory later; what is missing is made, as for any destination",
    ),
    builds(
        "add-archive-of-a-hard-link-to-a-link-to-nothing",
        &["/d: 0755 0:0 directory", "/d/h: 0777 5:6 link to no", "/d/s: 0777 5:6 link to no"],
        "a name of a symlink is that symlink, as tar has it",
    ),
    differs(
        "flag-label",
        &["history: 5 entries -> 2 entries"],
        "buildah makes an instruction of each --label; the history shows the Containerfile",
    ),
    differs("flag-squash-over-the-base", &["history: 2 entries -> 3 entries"], SQUASH),
    differs("flag-timestamp-and-squash", &["history: 2 entries -> 3 entries"], SQUASH),
    differs(
        "flag-arch",
        &[r#"Labels: {"a":"amd64"} -> {"a":"arm64"}"#],
        "the image is for arm64, and is said to be",
    ),
    // Stages.
    builds("context-by-name-of-a-layout", &[r#"/c: 0600 0:0 file "base\n""#], LAYOUT),
    builds("context-by-name-of-a-layout-copied", &[r#"/c: 0600 0:0 file "base\n""#], LAYOUT),
    builds(
        "image-with-sparse-files-of-gnu-tar",
        &[
            "/e: 0755 0:0 directory",
            "/e/gnu: 0644 5:6 file of 3145728 bytes sha256:3f105254ab97cdb0039c99b4423c74d4d7134d3fed398defa90f4c5bf13e0418",
        ],
        SPARSE,
    ),
    builds("flag-target-in-capitals", &[r#"/a: 0640 0:0 file "a\n""#], CASE),
    builds("stage-name-in-capitals", &[r#"/a: 0640 0:0 file "a\n""#, r#"/b: 0640 0:0 file "a\n""#], CASE),
    builds("stage-from-is-a-variable", &[r#"/a: 0640 0:0 file "a\n""#, r#"/b: 0644 0:0 file "b\n""#], NEWER),
    builds("stage-name-of-a-variable", &[r#"/b: 0640 0:0 file "a\n""#], NEWER),
    refused(
        "stage-name-twice",
        "\"x\" may mean either of the stages of lines 1 and 3",
        "which of them is meant is not clear",
    ),
    refused("stage-above-its-root", "leads above the root", "it means another file than it says"),
    // Ignore files.
    differs(
        "ignore-double-star-without-a-slash",
        &[
            r#"/c/m/sub/deep/z.safetensors: 0644 0:0 file "m/sub/deep/z.safetensors\n" -> -"#,
            r#"/c/m/sub/y.safetensors: 0644 0:0 file "m/sub/y.safetensors\n" -> -"#,
            r#"/c/m/x.safetensors: 0644 0:0 file "m/x.safetensors\n" -> -"#,
            r#"/c/n/sub/v.safetensors: 0644 0:0 file "n/sub/v.safetensors\n" -> -"#,
            r#"/c/top.safetensors: 0644 0:0 file "top.safetensors\n" -> -"#,
        ],
        "`**.x` is any name that ends so, at any depth, as with Docker; with buildah it matches the name .x alone",
    ),
    differs(
        "ignore-all-but-deep",
        &[
            r#"/c/dir/c.txt: - -> 0644 0:0 file "c\n""#,
            r#"/c/dir/sub/d.txt: - -> 0600 0:0 file "d\n""#,
            "/c/dir/sub: - -> 0755 0:0 directory",
            "/c/dir: - -> 0755 0:0 directory",
        ],
        "buildah does not look into a directory that ** ignores",
    ),
    differs(
        "ignore-file-of-the-containerfile",
        &[r#"/c/a.txt: 0640 0:0 file "a\n" -> -"#, r#"/c/b.txt: - -> 0644 0:0 file "b\n""#],
        NEWER,
    ),
    differs("ignore-containerignore-of-the-containerfile", &[r#"/c/a.txt: 0640 0:0 file "a\n" -> -"#], NEWER),
];

const MADE: &str = "where nothing is copied the base is not looked into; whoever runs the container makes its WORKDIR; and SHELL";
const RANGES: &str = "the image specification has no ranges; Docker writes them port by port";
const KEPT: &str = "buildah leaves it out of OCI images; what is written should be there";
const NEWER: &str = "buildah 1.28 is older than this; as today's buildah and BuildKit";
const SHELL: &str = "the Dockerfile reference applies SHELL to all shell forms; buildah to RUN alone";
const WHOLE: &str = "the whole context, or stage, would be copied, and who wrote it meant something else";
const SLIP: &str = "most likely a variable that is not set, or a slip";
const DIRECTORY: &str = "a slip would take away all that is in it; Docker refuses it too";
const SPARSE: &str = "GNU tar's own form is no other file than its PAX ones, which buildah takes";
const SQUASH: &str =
    "buildah puts the layers of the base into the one, too; here they stay, and so do their lines";
const LAYOUT: &str = "a layout is an image here as in FROM; buildah takes it for a directory, or a name";
const CASE: &str = "names of stages have no case, as with Docker";

//! Flags of instructions and of the command line.

use crate::harness::{Row, row};

#[test]
fn flags_do_what_they_do_with_buildah() {
    crate::check("flags");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("flag-label", "FROM oci:base:latest\nLABEL a=1 b=2\n")
            .args(&["--label", "b=3", "--label", "c=4=5", "--label", "from=cli"]),
        row("flag-label-without-a-value", "FROM scratch\n").args(&["--label", "a"]),
        row("flag-annotation", "FROM scratch\nCOPY a.txt /a\n").args(&[
            "--annotation",
            "a=1",
            "--annotation",
            "b=x=y",
        ]),
        row("flag-annotation-docker", "FROM scratch\nCOPY a.txt /a\n").args(&[
            "--annotation",
            "a=1",
            "--format",
            "docker",
        ]),
        row("flag-env", "FROM oci:base:latest\nENV A=in\nENV C=$A-$B\nLABEL a=\"[$A]\" b=\"[$B]\"\n")
            .args(&["--env", "A=1", "--env", "B=x=y", "--env", "NAME=cli"]),
        row("flag-env-empty", "FROM scratch\nENV A=in\n").args(&["--env", "A="]),
        row("flag-unsetenv", "FROM oci:base:latest\nENV A=1 B=2 C=3\nLABEL a=$A\n").args(&[
            "--unsetenv",
            "A,NAME",
            "--unsetenv",
            "B",
            "--unsetenv",
            "none",
        ]),
        row("flag-env-and-unsetenv", "FROM scratch\nCOPY a.txt /a\n").args(&[
            "--env",
            "A=1",
            "--unsetenv",
            "A",
        ]),
        row("flag-from", "FROM scratch\nCOPY a.txt /a\n").args(&["--from", "oci:base:latest"]),
        row(
            "flag-from-of-stages",
            "FROM none AS one\nCOPY a.txt /a\nFROM scratch\nCOPY --from=one /etc/conf /a /d/\n",
        )
        .args(&["--from", "oci:base:latest"]),
        row(
            "flag-from-of-two-images",
            "FROM scratch AS one\nCOPY a.txt /a\nFROM oci:base:latest\nCOPY b.txt /b\n",
        )
        .args(&["--from", "[REGISTRY]/index:1"]),
        row("flag-omit-history", "FROM oci:base:latest\nCOPY a.txt /a\nLABEL a=1\n")
            .args(&["--omit-history"]),
        row("flag-omit-history-docker", "FROM scratch\nCOPY a.txt /a\n").args(&[
            "--omit-history",
            "--format",
            "docker",
        ]),
        row("flag-identity-label", "FROM scratch\nLABEL a=1\n").args(&["--identity-label=false"]),
        row("flag-layers", "FROM oci:base:latest\nCOPY a.txt /a\nENV A=1\nCOPY b.txt /a\n")
            .args(&["--layers"]),
        row("flag-layers-off", "FROM oci:base:latest\nCOPY a.txt /a\nENV A=1\nCOPY b.txt /a\n")
            .args(&["--layers=false", "--no-cache"]),
        row("flag-arch", "FROM scratch\nARG TARGETARCH\nLABEL a=$TARGETARCH\n").args(&["--arch", "arm64"]),
        row("flag-os-arch-variant", "FROM scratch\nARG TARGETPLATFORM\nLABEL a=$TARGETPLATFORM\n").args(&[
            "--os",
            "linux",
            "--arch",
            "arm",
            "--variant",
            "v7",
        ]),
        row("flag-arch-of-an-index", "FROM [REGISTRY]/index:1\nCOPY a.txt /a\n").args(&["--arch", "arm64"]),
        row("flag-build-arg-twice", "FROM scratch\nARG A\nLABEL a=$A\n").args(&[
            "--build-arg",
            "A=1",
            "--build-arg",
            "A=2",
        ]),
        row("flag-build-arg-without-a-value", "FROM scratch\nARG A=1\nLABEL a=\"[$A]\"\n")
            .args(&["--build-arg", "A"]),
        row("flag-build-arg-file", "FROM scratch\nARG A=1\nARG B\nLABEL a=$A b=$B\n")
            .with(|context| context.file("args", "# comment\nA=2\nB=3 4\n"))
            .args(&["--build-arg-file", "context/args"]),
        row("flag-ignorefile", "FROM scratch\nCOPY . /c\n")
            .with(|context| context.file("other", "*\n!a.txt\n").file(".dockerignore", "a.txt\n"))
            .args(&["--ignorefile", "context/other"]),
        row("flag-timestamp-and-squash", "FROM oci:base:latest\nCOPY dir /d\nCOPY a.txt /d\n").args(&[
            "--timestamp",
            "1000",
            "--squash",
        ]),
        row("flag-squash", "FROM scratch\nCOPY a.txt /a\nCOPY dir /d\nCOPY b.txt /a\nENV A=1\n")
            .args(&["--squash"]),
        row("flag-squash-over-the-base", "FROM oci:base:latest\nCOPY a.txt /etc/conf\nCOPY dir /d\n")
            .args(&["--squash"]),
        row("flag-target", "FROM scratch AS one\nCOPY a.txt /a\nFROM scratch AS two\nCOPY b.txt /b\n")
            .args(&["--target", "one"]),
        row(
            "flag-target-in-capitals",
            "FROM scratch AS one\nCOPY a.txt /a\nFROM scratch AS two\nCOPY b.txt /b\n",
        )
        .args(&["--target", "ONE"]),
        row("flag-target-index", "FROM scratch\nCOPY a.txt /a\nFROM scratch\nCOPY b.txt /b\n")
            .args(&["--target", "0"]),
        row("flag-target-missing", "FROM scratch\nCOPY a.txt /a\n")
            .args(&["--target", "none"])
            .fails("none", "none"),
        row("flag-file", "FROM scratch\nCOPY none /x\n")
            .with(|context| context.file("sub/Other", "FROM scratch\nCOPY a.txt /a\n"))
            .args(&["-f", "context/sub/Other"]),
        row("flag-file-in-the-context", "FROM scratch\nCOPY none /x\n")
            .with(|context| context.file("Other", "FROM scratch\nCOPY a.txt /a\n"))
            .args(&["-f", "Other"]),
        row("flag-file-missing", "FROM scratch\n").args(&["-f", "none"]).misused("none", "none"),
        row("flag-platform", "FROM scratch\nCOPY a.txt /a\n").args(&["--platform", "linux/arm64"]),
        row("flag-platform-with-variant", "FROM scratch\nCOPY a.txt /a\n")
            .args(&["--platform", "linux/arm/v7"]),
        row("flag-timestamp", "FROM scratch\nCOPY dir /d\n").args(&["--timestamp", "0"]),
        row("flag-build-arg-unused", "FROM scratch\nCOPY a.txt /a\n").args(&["--build-arg", "NONE=1"]),
        row("flag-format-docker", "FROM scratch\nCOPY a.txt /a\n").args(&["--format", "docker"]),
        row("flag-format-oci", "FROM scratch\nCOPY a.txt /a\n").args(&["--format", "oci"]),
        row("flag-unknown", "FROM scratch\n")
            .args(&["--no-such-flag"])
            .misused("no-such-flag", "no-such-flag"),
        row("flag-exclude", "FROM scratch\nCOPY --exclude=*.txt --exclude=sub/d* dir /d\n"),
        row("flag-exclude-of-a-pattern", "FROM scratch\nCOPY --exclude=a* *.txt /d/\n"),
        row("flag-exclude-deep", "FROM scratch\nCOPY --exclude=**/d.txt . /d/\n"),
        row("flag-parents", "FROM scratch\nCOPY --parents dir/sub/d.txt a.txt /p\n"),
        row("flag-parents-behind-a-pivot", "FROM scratch\nCOPY --parents dir/./sub /p/\n"),
        row("flag-parents-deep", "FROM scratch\nCOPY --parents --chown=7:8 **/*.txt /p/\n"),
        row(
            "flag-parents-of-an-image",
            "FROM scratch\nCOPY --from=oci:base:latest --parents --exclude=etc/passwd /srv/./owned /etc/p* /run /p/\n",
        ),
        row("flag-parents-of-nothing", "FROM scratch\nCOPY --parents none /p/\n")
            .fails("none", "only supports"),
        row("flag-parents-of-add", "FROM scratch\nADD --parents a.txt /p/\n")
            .fails("--parents", "only supports"),
        row("flag-link", "FROM scratch\nCOPY --link a.txt /a\nADD --link b.txt /b\n"),
        row("flag-checksum", "FROM scratch\nADD --checksum=sha256:aa a.txt /a\n")
            .fails("--checksum", "checksum"),
        row("flag-of-copy-unknown", "FROM scratch\nCOPY --chwon=1 a.txt /a\n").fails("--chwon", "chwon"),
        row("flag-of-from-unknown", "FROM --pull scratch\n").fails("--pull", ""),
        row("flag-of-copy-empty", "FROM scratch\nCOPY --chown= a.txt /a\n"),
        row("flag-of-copy-quoted", "FROM scratch\nCOPY --chown=\"7:8\" a.txt /a\n"),
        row("flag-of-copy-twice", "FROM scratch\nCOPY --chown=7 --chown=8 a.txt /a\n"),
        row("flag-of-label", "FROM scratch\nLABEL --x=1 a=1\n"),
    ]
}

//! FROM: the forms of its argument, platforms, and what a base's config brings.

use crate::harness::{Row, row};

#[test]
fn bases_are_built_upon_as_with_buildah() {
    crate::check("bases");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("from-tag", "FROM [REGISTRY]/base:1\nLABEL a=1\n"),
        row("from-default-tag", "FROM [REGISTRY]/base\nLABEL a=1\n"),
        row("from-digest", "FROM [REGISTRY]/base@[DIGEST]\nLABEL a=1\n"),
        row("from-tag-and-digest", "FROM [REGISTRY]/base:1@[DIGEST]\nLABEL a=1\n"),
        row("from-docker-transport", "FROM docker://[REGISTRY]/base:1\nLABEL a=1\n"),
        row("from-with-a-name", "FROM [REGISTRY]/base:1 AS here\nLABEL a=1\n"),
        row("from-missing-tag", "FROM [REGISTRY]/base:2\nLABEL a=1\n").fails("base:2", "base:2"),
        row("from-missing-repository", "FROM [REGISTRY]/none:1\nLABEL a=1\n").fails("none:1", "none"),
        row("from-bad-name", "FROM [REGISTRY]/BASE:1\nLABEL a=1\n").fails("lower case", "lowercase"),
        row("from-index", "FROM [REGISTRY]/index:1\nCOPY a.txt /a\n"),
        row("from-index-for-another", "FROM --platform=linux/arm64 [REGISTRY]/index:1\nCOPY a.txt /a\n"),
        row("from-index-for-another-by-option", "FROM [REGISTRY]/index:1\nCOPY a.txt /a\n")
            .args(&["--platform", "linux/arm64"]),
        row(
            "from-index-for-the-builder",
            "FROM --platform=$BUILDPLATFORM [REGISTRY]/index:1 AS tools\nFROM [REGISTRY]/index:1\nCOPY a.txt /a\n",
        )
        .args(&["--platform", "linux/arm64"]),
        row("from-index-for-none", "FROM --platform=linux/s390x [REGISTRY]/index:1\nCOPY a.txt /a\n")
            .fails("s390x", "s390x"),
        row("from-index-with-variants", "FROM [REGISTRY]/variants:1\nCOPY a.txt /a\n").args(&["--platform", "linux/amd64"]),
        row("null-in-the-base", "FROM [REGISTRY]/nulls:1\nCOPY a.txt /a\n"),
        row("null-in-the-base-in-docker", "FROM [REGISTRY]/nulls:1\nCOPY a.txt /a\n").docker(),
        row("null-in-a-stage", "FROM [REGISTRY]/nulls:1 AS one\nFROM one\nLABEL a=1\n"),
        row("docker-base", "FROM [REGISTRY]/docker:1\nCOPY a.txt /a\n").docker(),
        row("docker-base-and-commands", "FROM [REGISTRY]/docker:1\nCMD own\nHEALTHCHECK NONE\n").docker(),
        row("docker-base-in-oci", "FROM [REGISTRY]/docker:1\nCOPY a.txt /a\n"),
        row("workdir-of-the-base-is-made", "FROM [REGISTRY]/lacking:1\nCOPY a.txt /a\n"),
        row("workdir-of-the-base-is-made-at-first", "FROM [REGISTRY]/lacking:1\nLABEL a=1\nCOPY a.txt .\n"),
        row("workdir-of-the-base-is-made-by-copy", "FROM [REGISTRY]/lacking:1\nCOPY a.txt .\n"),
        row("workdir-of-the-base-is-left", "FROM [REGISTRY]/lacking:1\nWORKDIR /other\n"),
        row("workdir-of-the-base-is-made-for-another", "FROM [REGISTRY]/lacking:1\nUSER 9\nWORKDIR x\n"),
        row("workdir-of-the-base-in-a-stage", "FROM [REGISTRY]/lacking:1 AS one\nENV A=1\nFROM scratch\nCOPY --from=one / /x/\n"),
        row("workdir-of-the-base-without-instructions", "FROM [REGISTRY]/lacking:1 AS one\nFROM scratch\nCOPY --from=one / /x/\n"),
        row("workdir-of-the-base-and-no-copy", "FROM [REGISTRY]/lacking:1\nENV A=1\n"),
        row("onbuild-base", "FROM [REGISTRY]/triggers:1\nCOPY b.txt /src/a.txt\nLABEL v=$V w=$W\n").docker(),
        row("onbuild-base-and-argument", "FROM [REGISTRY]/triggers:1\nLABEL v=$V\n")
            .args(&["--format", "docker", "--build-arg", "W=3"]),
        row("onbuild-base-of-a-stage", "FROM [REGISTRY]/triggers:1 AS one\nFROM one\nLABEL a=1\n").docker(),
        row("onbuild-base-in-oci", "FROM [REGISTRY]/triggers:1\nCOPY b.txt /b\n"),
    ]
}

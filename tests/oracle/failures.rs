//! What neither builds.

use crate::harness::{Row, row};

#[test]
fn what_buildah_does_not_build_is_not_built() {
    crate::check("failures");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("fail-empty", "").fails("", ""),
        row("fail-comments-alone", "# nothing\n\n").fails("", ""),
        row("fail-no-from", "COPY a.txt /a\n").fails("FROM", "FROM"),
        row("fail-args-alone", "ARG A=1\n").fails("FROM", ""),
        row("fail-from-nothing", "FROM\n").fails("FROM", "FROM"),
        row("fail-from-empty-variable", "ARG B\nFROM $B\n").fails("FROM names no image", ""),
        row("fail-from-two-images", "FROM scratch scratch\n").fails("FROM has more", "FROM"),
        row("fail-from-without-a-name", "FROM scratch AS\n").fails("no stage name", "FROM"),
        row("fail-from-missing-layout", "FROM oci:nowhere:1\n").fails("nowhere", "nowhere"),
        row("fail-from-missing-name", "FROM oci:base:none\nCOPY a.txt /a\n").fails("none", "none"),
        row("fail-copy-missing", "FROM scratch\nCOPY none /x\n").fails("\"none\" is not in", "none"),
        row("fail-copy-one-missing", "FROM scratch\nCOPY a.txt none /x/\n")
            .fails("\"none\" is not in", "none"),
        row("fail-copy-alone", "FROM scratch\nCOPY\n").fails("COPY", "COPY"),
        row("fail-copy-one-word", "FROM scratch\nCOPY a.txt\n").fails("COPY has only one argument", "COPY"),
        row("fail-copy-above", "FROM scratch\nCOPY ../secret /x\n").fails("leads outside", "secret"),
        row("fail-copy-above-and-back", "FROM scratch\nCOPY ../context/a.txt /x\n"),
        row("fail-copy-a-url", "FROM scratch\nCOPY https://example.org/x /x\n").fails("URL", "x"),
        row("fail-copy-bad-pattern", "FROM scratch\nCOPY [a /x/\n").fails("pattern", ""),
        row("fail-env-alone", "FROM scratch\nENV\n").fails("ENV", "ENV"),
        row("fail-env-name-alone", "FROM scratch\nENV A\n").fails("ENV", "ENV"),
        row("fail-env-no-name", "FROM scratch\nENV =1\n").fails("ENV", "ENV"),
        row("fail-env-mixed", "FROM scratch\nENV A=1 B\n").fails("without =", "find = in"),
        row("fail-label-alone", "FROM scratch\nLABEL\n").fails("LABEL", "LABEL"),
        row("fail-expose-a-word", "FROM scratch\nEXPOSE http\n").fails("EXPOSE http", "http"),
        row("fail-expose-too-large", "FROM scratch\nEXPOSE 70000\n").fails("EXPOSE 70000", "70000"),
        row("fail-expose-alone", "FROM scratch\nEXPOSE\n").fails("EXPOSE", "EXPOSE"),
        row("fail-volume-alone", "FROM scratch\nVOLUME\n").fails("VOLUME", "VOLUME"),
        row("fail-volume-empty", "FROM scratch\nVOLUME [\"\"]\n").fails("VOLUME", "VOLUME"),
        row("fail-user-alone", "FROM scratch\nUSER\n").fails("USER", "USER"),
        row("fail-workdir-alone", "FROM scratch\nWORKDIR\n").fails("WORKDIR", "WORKDIR"),
        row("fail-workdir-of-nothing", "FROM scratch\nWORKDIR $NONE\n"),
        row("fail-user-of-nothing", "FROM scratch\nUSER $NONE\n"),
        row("fail-onbuild-alone", "FROM scratch\nONBUILD\n").fails("ONBUILD", "ONBUILD"),
        row("fail-onbuild-onbuild", "FROM scratch\nONBUILD ONBUILD COPY a /a\n").fails("ONBUILD", "ONBUILD"),
        row("fail-onbuild-from", "FROM scratch\nONBUILD FROM scratch\n").fails("FROM", "FROM"),
        row("fail-platform-bad", "FROM --platform=a/b/c/d scratch\nCOPY a.txt /a\n")
            .fails("invalid platform", "invalid platform"),
        row("fail-workdir-is-a-file", "FROM oci:base:latest\nWORKDIR /etc/conf\n"),
        row("fail-workdir-below-a-file", "FROM oci:base:latest\nWORKDIR /etc/conf/x\n")
            .fails("/etc/conf", ""),
        row("fail-run", "FROM oci:base:latest\nRUN true\n").fails("RUN is not carried out", ""),
        row("fail-arg-alone", "FROM scratch\nARG\n").fails("ARG", ""),
        row("fail-add-missing", "FROM scratch\nADD none /x\n").fails("none", "none"),
        row("fail-cmd-alone", "FROM scratch\nCMD\n"),
        row("fail-entrypoint-alone", "FROM scratch\nENTRYPOINT\n"),
        row("fail-stopsignal-alone", "FROM scratch\nSTOPSIGNAL\n").fails("STOPSIGNAL", "STOPSIGNAL"),
        row("fail-stopsignal-two", "FROM scratch\nSTOPSIGNAL 9 15\n").fails("", ""),
    ]
}

//! Instructions that change the config alone.

use crate::harness::{Row, row};

#[test]
fn the_config_is_what_buildah_writes() {
    crate::check("config");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("from-scratch-alone", "FROM scratch\n"),
        row("from-scratch-with-platform", "FROM --platform=linux/arm64 scratch\nLABEL a=1\n"),
        row("from-with-platform", "FROM --platform=linux/amd64 oci:base:latest\nLABEL a=1\n"),
        row("label-forms", "FROM scratch\nLABEL a=1 \"b c\"=\"d e\" f='g h' i=\"\" j=\nLABEL k l m\nLABEL n=\"o\\\np\"\n"),
        row("label-over-the-base", "FROM oci:base:latest\nLABEL from=here\n"),
        row("label-again", "FROM scratch\nLABEL a=1\nLABEL a=2 b=1 b=3\n"),
        row("label-over-lines", "FROM scratch\nLABEL a=1 \\\n      b=2 \\\n      c=\"3 4\"\n"),
        row("label-escapes", "FROM scratch\nLABEL a=\"x\\ty\" b=\"q\\\"r\" c=s\\ t d='u\\v' e=\"w\\\\n\"\n"),
        row("label-unicode", "FROM scratch\nLABEL a=\"Grüße 日本\" ü=1\n"),
        row("maintainer", "FROM scratch\nMAINTAINER me <me@example.org>\n"),
        row("workdir-relative", "FROM scratch\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c/./d/\n"),
        row("workdir-relative-at-first", "FROM scratch\nWORKDIR a/b\n"),
        row("workdir-of-the-base", "FROM oci:base:latest\nWORKDIR new/er\n"),
        row("workdir-that-is-there", "FROM oci:base:latest\nWORKDIR /tmp\n"),
        row("workdir-root", "FROM oci:base:latest\nWORKDIR /\nWORKDIR x/..\n"),
        row("workdir-over-a-link", "FROM oci:base:latest\nWORKDIR /var/run/w\n"),
        row("workdir-at-a-link", "FROM oci:base:latest\nWORKDIR /var/run\n"),
        row("workdir-at-a-link-to-nothing", "FROM oci:base:latest\nWORKDIR /var/gone\n"),
        row("workdir-for-a-user", "FROM scratch\nUSER 7:8\nWORKDIR /w/x\n"),
        row("workdir-for-a-number", "FROM scratch\nUSER 7\nWORKDIR /w\n"),
        row("workdir-for-the-user-of-the-base", "FROM oci:base:latest\nWORKDIR /home/w\n"),
        row("workdir-for-a-name-of-the-base", "FROM oci:base:latest\nUSER model\nWORKDIR /home/w\n"),
        row("workdir-for-root", "FROM oci:base:latest\nUSER root\nWORKDIR /home/w\n"),
        row("workdir-quoted", "FROM scratch\nWORKDIR \"/a b\"\n"),
        row("workdir-with-blanks", "FROM scratch\nWORKDIR /a b\n"),
        row("workdir-and-copy", "FROM scratch\nWORKDIR /w\nCOPY a.txt .\nCOPY a.txt rel/\nCOPY a.txt ./x/../y\nCOPY b.txt ../up\n"),
        row("workdir-never-made", "FROM scratch\nWORKDIR /w\nLABEL a=1\n"),
        row("user-forms", "FROM scratch\nUSER nobody\nUSER a:b\n"),
        row("user-group-alone", "FROM scratch\nUSER :7\n"),
        row("expose-forms", "FROM scratch\nEXPOSE 80 81/tcp 82/udp 83/sctp\nEXPOSE 80/udp\nEXPOSE 80\n"),
        row("expose-upper-case", "FROM scratch\nEXPOSE 80/UDP\n"),
        row("expose-range", "FROM scratch\nEXPOSE 90-92\n"),
        row("expose-range-of-udp", "FROM scratch\nEXPOSE 90-91/udp\n"),
        row("expose-over-the-base", "FROM oci:base:latest\nEXPOSE 443\n"),
        row("volume-forms", "FROM scratch\nVOLUME /a /b\nVOLUME [\"/c\", \"/d e\"]\nVOLUME f\nLABEL a=1\n"),
        row("volume-over-the-base", "FROM oci:base:latest\nVOLUME /other\nLABEL a=1\n"),
        row("volume-at-the-end", "FROM scratch\nVOLUME /v\n"),
        row("volume-and-copy-before", "FROM scratch\nCOPY a.txt /v/\nVOLUME /v\n"),
        row("volume-and-copy-behind", "FROM scratch\nVOLUME /v\nCOPY a.txt /v/\n"),
        row("volume-and-copy-around", "FROM scratch\nCOPY a.txt /v/\nVOLUME /v\nCOPY b.txt /v/\nCOPY b.txt /v/a.txt\n"),
        row("volume-and-workdir", "FROM scratch\nVOLUME /v\nWORKDIR /v/w\n"),
        row("volume-of-the-base-and-copy", "FROM oci:base:latest\nCOPY a.txt /data/\nCOPY b.txt /data/old\n"),
        row("stopsignal-name", "FROM scratch\nSTOPSIGNAL SIGKILL\n"),
        row("stopsignal-short", "FROM scratch\nSTOPSIGNAL TERM\n"),
        row("stopsignal-number", "FROM scratch\nSTOPSIGNAL 9\n"),
        row("stopsignal-lower-case", "FROM scratch\nSTOPSIGNAL sigterm\n"),
        row("stopsignal-real-time", "FROM scratch\nSTOPSIGNAL RTMIN+3\n"),
        row("stopsignal-that-is-none", "FROM scratch\nSTOPSIGNAL SIGNONE\n").fails("is no signal", "Invalid signal"),
        row("onbuild-own", "FROM scratch\nONBUILD COPY . /src\nONBUILD LABEL a=$B\nONBUILD CMD [\"a\",   \"b\"]\n").docker(),
        row("onbuild-own-in-oci", "FROM scratch\nONBUILD COPY . /src\n"),
        row("onbuild-triggered", "FROM scratch AS one\nONBUILD COPY a.txt /on/build\nONBUILD LABEL on=build\nFROM one\nLABEL b=1\n").docker(),
        row(
            "onbuild-triggered-with-variables",
            "FROM scratch AS one\nENV V=1\nONBUILD ARG W=2\nONBUILD ENV X=$W\nONBUILD LABEL v=$V w=$W x=$X\nFROM one\nLABEL z=$W$X\n",
        )
        .docker(),
        row(
            "onbuild-triggered-before-the-stage",
            "FROM scratch AS one\nWORKDIR /w\nONBUILD COPY a.txt .\nONBUILD CMD [\"c\"]\nFROM one\nCOPY b.txt a.txt\nENTRYPOINT [\"e\"]\n",
        )
        .docker(),
        row(
            "onbuild-triggered-once",
            "FROM scratch AS one\nONBUILD COPY a.txt /a\nFROM one AS two\nONBUILD LABEL l=1\nFROM two\nCOPY b.txt /a\n",
        )
        .docker(),
        row("onbuild-triggered-in-oci", "FROM scratch AS one\nONBUILD COPY a.txt /on/build\nFROM one\nLABEL b=1\n"),
        row("config-of-the-base-kept", "FROM oci:base:latest\nCOPY a.txt /new/\n"),
        row("format-docker", "FROM oci:base:latest\nCOPY a.txt /new/\nLABEL a=1\n").docker(),
        row("history-is-no-matter", "FROM scratch\nENV A=1\nENV A=1\nCOPY a.txt /a\nENV A=1\n"),
    ]
}

//! ARG and ENV: scopes, predefined names, where they are expanded, and how.

use crate::harness::{Row, row};

#[test]
fn variables_are_expanded_where_buildah_expands_them() {
    crate::check("variables");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("arg-with-default", "FROM scratch\nARG A=1\nLABEL a=$A\n"),
        row("arg-given", "FROM scratch\nARG A=1\nLABEL a=$A\n").args(&["--build-arg", "A=2"]),
        row("arg-given-empty", "FROM scratch\nARG A=1\nLABEL a=\"[$A]\" b=\"[${A:-x}]\"\n")
            .args(&["--build-arg", "A="]),
        row("arg-given-without-default", "FROM scratch\nARG A\nLABEL a=$A\n").args(&["--build-arg", "A=2"]),
        row("arg-not-set", "FROM scratch\nARG A\nLABEL a=\"[$A]\" b=\"[${B}]\"\n"),
        row("arg-given-and-not-declared", "FROM scratch\nLABEL a=\"[$A]\"\n").args(&["--build-arg", "A=2"]),
        row("arg-before-its-declaration", "FROM scratch\nLABEL a=\"[$A]\"\nARG A=1\nLABEL b=$A\n"),
        row("arg-several-in-one", "FROM scratch\nARG A=1 B=2 C\nLABEL a=$A b=$B c=\"[$C]\"\n"),
        row("arg-of-an-arg", "FROM scratch\nARG A=1\nARG B=${A}2\nLABEL b=$B\n"),
        row("arg-again", "FROM scratch\nARG A=1\nARG A=2\nLABEL a=$A\n"),
        row("arg-again-without-default", "FROM scratch\nARG A=1\nARG A\nLABEL a=\"[$A]\"\n"),
        row("arg-quoted", "FROM scratch\nARG A=\"x y\"\nARG B='$A'\nLABEL a=\"$A\" b=\"$B\"\n"),
        row("arg-global", "ARG A=1\nFROM scratch\nARG A\nLABEL a=$A\n"),
        row("arg-global-not-declared-again", "ARG A=1\nFROM scratch\nLABEL a=\"[$A]\"\n"),
        row("arg-global-with-another-default", "ARG A=1\nFROM scratch\nARG A=2\nLABEL a=$A\n"),
        row("arg-global-given", "ARG A=1\nFROM scratch\nARG A\nLABEL a=$A\n").args(&["--build-arg", "A=3"]),
        row("arg-global-of-a-global", "ARG A=1\nARG B=$A-2\nFROM scratch\nARG B\nLABEL b=$B\n"),
        row("arg-in-from", "ARG BASE=base:latest\nFROM oci:${BASE}\nLABEL a=1\n"),
        row("arg-in-from-given", "ARG BASE=nothing\nFROM $BASE\nLABEL a=1\n").args(&["--build-arg", "BASE=scratch"]),
        row("arg-of-another-stage", "FROM scratch AS one\nARG A=1\nFROM scratch\nLABEL a=\"[$A]\"\n"),
        row("arg-of-the-stage-below", "FROM scratch AS one\nARG A=1\nLABEL x=1\nFROM one\nLABEL a=\"[$A]\"\n"),
        row("arg-and-env", "FROM scratch\nARG A=arg\nENV A=env\nLABEL a=$A\n"),
        row("env-and-arg", "FROM scratch\nENV A=env\nARG A=arg\nLABEL a=$A\n"),
        row("env-and-given-arg", "FROM scratch\nENV A=env\nARG A\nLABEL a=$A\n").args(&["--build-arg", "A=given"]),
        row("env-of-an-arg", "FROM scratch\nARG A=1\nENV A=${A:-2} B=$A\n"),
        row(
            "arg-platform",
            "FROM scratch\nARG TARGETPLATFORM\nARG TARGETOS TARGETARCH\nARG TARGETVARIANT\nARG BUILDPLATFORM BUILDOS BUILDARCH\n\
             LABEL t=$TARGETPLATFORM o=$TARGETOS a=$TARGETARCH v=\"[$TARGETVARIANT]\" b=$BUILDPLATFORM c=$BUILDOS d=$BUILDARCH\n",
        ),
        row("arg-platform-not-declared", "FROM scratch\nLABEL a=\"[$TARGETARCH]\"\n"),
        row("arg-platform-for-another", "FROM scratch\nARG TARGETPLATFORM\nARG TARGETARCH\nARG TARGETVARIANT\nLABEL t=$TARGETPLATFORM a=$TARGETARCH v=\"[$TARGETVARIANT]\"\n")
            .args(&["--platform", "linux/arm64"]),
        row("arg-platform-with-variant", "FROM scratch\nARG TARGETPLATFORM\nARG TARGETARCH\nARG TARGETVARIANT\nLABEL t=$TARGETPLATFORM a=$TARGETARCH v=\"[$TARGETVARIANT]\"\n")
            .args(&["--platform", "linux/arm/v7"]),
        row("arg-predefined", "FROM scratch\nLABEL p=\"[$HTTP_PROXY]\"\n").args(&["--build-arg", "HTTP_PROXY=p:1"]),
        row("arg-predefined-declared", "FROM scratch\nARG HTTPS_PROXY\nLABEL p=\"[$HTTPS_PROXY]\"\n")
            .args(&["--build-arg", "HTTPS_PROXY=p:1"]),
        row("env-pairs-see-what-was-before", "FROM scratch\nENV A=1\nENV A=2 B=$A\nLABEL b=$B\n"),
        row("env-of-the-base", "FROM oci:base:latest\nENV A=$HOME/x PATH=$PATH:/more NAME=${NAME}-2\nLABEL n=$NAME\n"),
        row("env-again", "FROM scratch\nENV B=1\nENV A=1\nENV B=2\n"),
        row("env-old-form", "FROM scratch\nENV A some words and $PATH\n"),
        row("env-quotes", "FROM scratch\nENV A=\"a b\" B='c d' C=e\\ f D=\"g'h\" E='i\"j' F=\"\\\"k\\\"\" G=l\\\\m\n"),
        row("env-quotes-and-variables", "FROM scratch\nENV A=1\nENV B=\"$A\" C='$A' D=\\$A E=\"\\$A\" F=${A}x$A G=$A$A H=\"${A}\"'${A}'\n"),
        row("env-empty", "FROM scratch\nENV A= B=\"\" C=''\nLABEL a=\"[$A$B$C]\"\n"),
        row("env-modifiers", "FROM scratch\nENV A=1 E=\nLABEL a=${A:-x} b=${N:-x} c=${E:-x} d=${A:+y} e=\"[${N:+y}]\" f=\"[${E:+y}]\"\n"),
        row("env-modifiers-nested", "FROM scratch\nENV A=1\nLABEL a=${N:-${M:-$A}} b=${N:-\"q $A\"} c=\"${N:-x y}\"\n"),
        row("env-modifiers-without-colon", "FROM scratch\nENV A=1 E=\nLABEL a=${A-x} b=${N-x} c=\"[${E-x}]\" d=\"[${E+y}]\"\n"),
        row("env-modifier-required", "FROM scratch\nENV A=1\nLABEL a=${A:?needed}\n"),
        row("env-modifier-required-and-missing", "FROM scratch\nLABEL a=${A:?needed}\n").fails("needed", "needed"),
        row("env-trim", "FROM scratch\nENV A=foobarbaz\nLABEL a=${A#foo} b=${A%baz} c=${A##*b} d=${A/bar/-}\n"),
        row("env-names", "FROM scratch\nENV A_1=1 a=2\nLABEL a=$A_1 b=$a.$a-$a c=${A_1}_x\n"),
        row("env-dollar-alone", "FROM scratch\nLABEL a=\"5$\" b=\"$ x\" c=$\n"),
        row("env-bad-substitution", "FROM scratch\nLABEL a=${A\n").fails("", ""),
        row("env-in-workdir", "FROM scratch\nENV D=/deep/er\nWORKDIR $D\nWORKDIR ${D}/$NONE/x\n"),
        row("env-in-user", "FROM scratch\nENV U=7 G=8\nUSER $U:${G}\n"),
        row("env-in-expose", "FROM scratch\nENV P=81 Q=\"82/udp 83\"\nEXPOSE $P ${P}0/tcp $Q\n"),
        row("env-in-volume", "FROM scratch\nENV V=/v\nVOLUME $V ${V}/x\nVOLUME [\"$V/json\"]\n"),
        row("env-in-stopsignal", "FROM scratch\nENV S=SIGTERM\nSTOPSIGNAL $S\n"),
        row("env-in-label-name", "FROM scratch\nENV K=key\nLABEL $K=1 x.${K}=2 \"q $K\"=3\n"),
        row("env-in-copy", "FROM scratch\nENV F=a D=/d\nCOPY ${F}.txt $D/\nADD $F.txt dir ${D}2/\n"),
        row("env-in-copy-json", "FROM scratch\nENV F=a D=/d\nCOPY [\"$F.txt\", \"$D/\"]\n"),
        row("env-in-chown", "FROM scratch\nARG U=7\nENV G=9\nCOPY --chown=$U:$G a.txt /a\n"),
        row("env-in-from-flag", "FROM scratch AS one\nCOPY a.txt /a\nFROM scratch\nARG S=one\nCOPY --from=$S /a /b\n"),
        row("env-not-in-commands", "FROM scratch\nENV A=1\nCMD echo $A\nENTRYPOINT [\"x\", \"$A\"]\n"),
        row("env-not-in-shell-healthcheck", "FROM scratch\nENV A=1\nSHELL [\"$A\"]\nHEALTHCHECK CMD test $A\n").docker(),
        row("env-with-equals", "FROM scratch\nENV A=b=c D=\"e=f\"\nLABEL a=$A\n"),
    ]
}

//! CMD, ENTRYPOINT, SHELL and HEALTHCHECK.

use crate::harness::{Row, row};

#[test]
fn commands_are_what_buildah_writes() {
    crate::check("commands");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("cmd-exec", "FROM scratch\nCMD [\"a\", \"b c\", \"\"]\n"),
        row("cmd-shell", "FROM scratch\nCMD a  b   \"c d\"\n"),
        row("cmd-single-quotes", "FROM scratch\nCMD ['a', 'b']\n"),
        row("cmd-json-with-escapes", "FROM scratch\nCMD [\"a\\\"b\", \"\\u00e9\", \"c\\\\d\"]\n"),
        row("cmd-empty-list", "FROM oci:base:latest\nCMD []\n"),
        row("cmd-again", "FROM scratch\nCMD a\nCMD [\"b\"]\n"),
        row("cmd-over-lines", "FROM scratch\nCMD a \\\n  b \\\n\\\n  c\n"),
        row("cmd-over-the-base", "FROM oci:base:latest\nCMD [\"own\"]\n"),
        row("entrypoint-exec", "FROM scratch\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\n"),
        row("entrypoint-shell", "FROM scratch\nENTRYPOINT e f\n"),
        row("entrypoint-drops-the-cmd-of-the-base", "FROM oci:base:latest\nENTRYPOINT [\"e\"]\n"),
        row("entrypoint-keeps-its-own-cmd", "FROM oci:base:latest\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n"),
        row("entrypoint-before-cmd", "FROM oci:base:latest\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\n"),
        row("entrypoint-empty-list", "FROM oci:base:latest\nENTRYPOINT []\n"),
        row("entrypoint-of-the-stage-below", "FROM scratch AS one\nCMD [\"c\"]\nFROM one\nENTRYPOINT [\"e\"]\n"),
        row("entrypoint-twice", "FROM oci:base:latest\nENTRYPOINT [\"e\"]\nENTRYPOINT [\"f\"]\n"),
        row("shell-and-cmd", "FROM scratch\nSHELL [\"/bin/bash\", \"-c\"]\nCMD a b\nENTRYPOINT c\n").docker(),
        row("shell-and-cmd-in-oci", "FROM scratch\nSHELL [\"/bin/bash\", \"-c\"]\nCMD a b\n"),
        row("shell-behind-cmd", "FROM scratch\nCMD a b\nSHELL [\"/bin/bash\", \"-c\"]\n").docker(),
        row("shell-and-exec", "FROM scratch\nSHELL [\"/bin/bash\", \"-c\"]\nCMD [\"a\"]\n").docker(),
        row("shell-again", "FROM scratch\nSHELL [\"a\"]\nSHELL [\"b\", \"-c\"]\nCMD x\n").docker(),
        row("shell-of-the-stage-below", "FROM scratch AS one\nSHELL [\"a\", \"-c\"]\nFROM one\nCMD x\n").docker(),
        row("healthcheck-shell", "FROM scratch\nHEALTHCHECK CMD curl -f  x || exit 1\n").docker(),
        row("healthcheck-exec", "FROM scratch\nHEALTHCHECK CMD [\"a\", \"b\"]\n").docker(),
        row(
            "healthcheck-options",
            "FROM scratch\nHEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2s --retries=3 CMD [\"a\"]\n",
        )
        .docker(),
        row("healthcheck-none", "FROM scratch\nHEALTHCHECK NONE\n").docker(),
        row("healthcheck-none-behind-another", "FROM scratch\nHEALTHCHECK CMD a\nHEALTHCHECK NONE\n").docker(),
        row("healthcheck-again", "FROM scratch\nHEALTHCHECK --retries=3 CMD a\nHEALTHCHECK CMD b\n").docker(),
        row("healthcheck-lower-case", "FROM scratch\nHEALTHCHECK --interval=5s cmd a\n").docker(),
        row("healthcheck-zero", "FROM scratch\nHEALTHCHECK --interval=0 --retries=0 CMD a\n").docker(),
        row("healthcheck-over-lines", "FROM scratch\nHEALTHCHECK --interval=5s \\\n  --timeout=3s \\\n  CMD a \\\n  b\n").docker(),
        row("healthcheck-in-oci", "FROM scratch\nHEALTHCHECK CMD a\n"),
        row("healthcheck-start-interval", "FROM scratch\nHEALTHCHECK --start-interval=3s CMD a\n").docker(),
        row("healthcheck-with-a-bad-time", "FROM scratch\nHEALTHCHECK --interval=soon CMD a\n").docker().fails("not a duration", "invalid duration"),
        row("healthcheck-without-a-command", "FROM scratch\nHEALTHCHECK CMD\n").docker().fails("HEALTHCHECK", "HEALTHCHECK"),
        row("healthcheck-of-nothing-known", "FROM scratch\nHEALTHCHECK MAYBE a\n").docker().fails("HEALTHCHECK", "HEALTHCHECK"),
        row("shell-that-is-no-list", "FROM scratch\nSHELL bash -c\n").docker().fails("JSON array", "JSON"),
        row("keywords-in-lower-case", "from scratch\nenv A=1\ncmd [\"a\"]\nlabel a=$A\ncopy a.txt /a\n"),
    ]
}

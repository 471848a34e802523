//! How the text is cut: continuations, comments, escapes, blanks, quotes, heredocs.

use crate::harness::{Row, row};

#[test]
fn lines_are_cut_as_buildah_cuts_them() {
    crate::check("lines");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("line-continued", "FROM scratch\nLABEL a=1 \\\n b=2\nCOPY a.txt \\\n  b.txt \\\n  /d/\n"),
        row(
            "line-comment-in-a-continuation",
            "FROM scratch\nLABEL a=1 \\\n# comment\n  # and another\n b=2\n",
        ),
        row("line-empty-in-a-continuation", "FROM scratch\nLABEL a=1 \\\n\n b=2\n"),
        row("line-continued-at-the-end", "FROM scratch\nLABEL a=1 \\\n"),
        row("line-continued-with-blanks-behind", "FROM scratch\nLABEL a=1 \\  \n b=2\n"),
        row("line-comments", "# first\nFROM scratch # no comment\n").fails("FROM has more than an image", ""),
        row(
            "line-comments-between",
            "# first\n\n  # indented\nFROM scratch\n\t# tab\nLABEL a=\"#1\" b=x#y\n",
        ),
        row("line-crlf", "FROM scratch\r\nLABEL a=1 \\\r\n b=2\r\nCOPY a.txt /a\r\n"),
        row("line-indented", "  FROM scratch\n\tLABEL a=1\n"),
        row("line-byte-order-mark", "\u{feff}FROM scratch\nLABEL a=1\n"),
        row("line-without-an-end", "FROM scratch\nLABEL a=1"),
        row("line-escaped-backslash-at-its-end", "FROM scratch\nLABEL a=x\\\\\nLABEL b=2\n"),
        row("line-in-the-middle-of-a-word", "FROM scratch\nLABEL a=on\\\ne b=2\n"),
        row(
            "escape-directive",
            "# escape=`\nFROM scratch\nLABEL a=1 `\n b=x\\y c=`$d e=\"`\"\"\nCOPY a.txt `\n /a\n",
        ),
        row("escape-directive-that-is-none", "# a comment\n# escape=`\nFROM scratch\nLABEL a=x\\ y\n"),
        row("escape-directive-bad", "# escape=x\nFROM scratch\n").fails("escape", "ESCAPE"),
        row("syntax-directive", "# syntax=docker/dockerfile:1\nFROM scratch\nLABEL a=1\n"),
        row("copy-json-with-blanks", "FROM scratch\nCOPY [\"a file\", \"b.txt\", \"/to here/\"]\n")
            .with(|context| context.file("a file", "blank\n")),
        row("copy-quoted-blanks", "FROM scratch\nCOPY \"a.txt\" /d/\n"),
        row("copy-escaped-blank", "FROM scratch\nCOPY a\\ file /d/\n")
            .with(|context| context.file("a file", "blank\n"))
            .fails("\"a\" is not in", "/a"),
        row("heredoc-copy", "FROM scratch\nCOPY <<one <<\"two\" /h/\n$PATH\none\n$PATH\ntwo\n"),
        row(
            "heredoc-copy-to-a-file",
            "FROM scratch\nENV A=1\nCOPY <<EOF /etc/conf\nvalue=$A ${B:-x} \\$A\n  kept\nEOF\nLABEL a=1\n",
        ),
        row(
            "heredoc-backslashes",
            "FROM scratch\nENV A=1\nCOPY <<EOF /start.sh\nexec serve \\\n  --port \\$A$A \\\n  'a\\nb\\\\'\nEOF\n",
        ),
        row(
            "json-and-a-comment",
            "FROM scratch\nCMD [\"a\", \"b\"] # comment\nENTRYPOINT [\"c\"]  # [\"d\"]\nVOLUME [\"/v\"] # x\nCOPY [\"a.txt\", \"/a\"] # y\n",
        ),
        row("json-and-more", "FROM scratch\nCMD [\"a\"] && b\nENTRYPOINT [\"c\"]d\n"),
        row(
            "json-and-a-comment-in-docker",
            "FROM scratch\nSHELL [\"/s\"] # x\nHEALTHCHECK CMD [\"h\"] # y\n",
        )
        .docker(),
        row("json-that-is-none", "FROM scratch\nCMD [ -f x ] # y\nENTRYPOINT [\"a\" b] # z\n"),
        row("json-of-numbers-and-a-comment", "FROM scratch\nCMD [1] # x\n")
            .fails("something else than strings", ""),
        row("heredoc-tabs", "FROM scratch\nCOPY <<-EOF /x\n\ta\n\t\tb\n\tEOF\n"),
        row("heredoc-with-flags", "FROM scratch\nCOPY --chown=7:8 --chmod=0600 <<EOF /x\na\nEOF\n"),
        row("heredoc-and-file", "FROM scratch\nCOPY a.txt <<EOF /x/\nh\nEOF\n"),
        row("heredoc-add", "FROM scratch\nADD <<EOF /x\na\nEOF\n"),
        row("heredoc-empty", "FROM scratch\nCOPY <<EOF /x\nEOF\n"),
        row("heredoc-not-closed", "FROM scratch\nCOPY <<EOF /x\na\n").fails("heredoc EOF is not closed", ""),
        row("instruction-unknown", "FROM scratch\nCOPPY a /a\n").fails("COPPY", "COPPY"),
        row("quote-not-closed", "FROM scratch\nLABEL a=\"b\n").fails("quote", ""),
    ]
}

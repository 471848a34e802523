//! What files keep on their way: modes, owners, kinds, names, attributes.

use crate::harness::{Row, row};

#[test]
fn files_keep_what_buildah_keeps() {
    crate::check("files");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("modes", "FROM scratch\nCOPY m /m\n").with(|context| {
            for mode in [0o400, 0o444, 0o555, 0o600, 0o666, 0o700, 0o755, 0o777, 0o001] {
                let name = format!("m/{mode:o}");
                context.file(&name, "x").mode(&name, mode);
            }
            context
        }),
        row("modes-of-directories", "FROM scratch\nCOPY m /m\n").with(|context| {
            for mode in [0o700, 0o711, 0o755, 0o775, 0o777, 0o1777, 0o2775] {
                let name = format!("m/{mode:o}");
                context.directory(&name).mode(&name, mode);
            }
            context.mode("m", 0o770)
        }),
        row("mode-set-id", "FROM scratch\nCOPY s /s\nCOPY s/u /u\n").with(|context| {
            context.files(&["s/u", "s/g", "s/t", "s/all"]);
            context.mode("s/u", 0o4755).mode("s/g", 0o2755).mode("s/t", 0o1755).mode("s/all", 0o7777)
        }),
        row("owners-of-the-context", "FROM scratch\nCOPY o /o\nCOPY o/f /f\n").with(|context| {
            context.files(&["o/f", "o/d/x"]).owner("o/f", 7, 8).owner("o/d", 9, 10).owner("o", 11, 12)
        }),
        row("owners-of-links", "FROM scratch\nCOPY o /o\n").with(|context| {
            context.files(&["o/f"]).link("o/l", "f");
            context.link_owner("o/l", 7, 8)
        }),
        row("chown-numbers", "FROM scratch\nCOPY --chown=7:8 a.txt dir /d/\n"),
        row("chown-user-alone", "FROM scratch\nCOPY --chown=7 a.txt /d/x\n"),
        row("chown-group-alone", "FROM scratch\nCOPY --chown=:8 a.txt /d/\n"),
        row("chown-to-a-name", "FROM scratch\nCOPY --chown=7:8 a.txt /new/deep/name\n"),
        row(
            "chown-over-the-base",
            "FROM oci:base:latest\nCOPY --chown=7:8 dir /srv/new\nCOPY --chown=9 dir /etc\n",
        ),
        row("chown-large", "FROM scratch\nCOPY --chown=1000680000:4000000000 a.txt /a\n"),
        row("chown-root-by-name-without-passwd", "FROM scratch\nCOPY --chown=root:root a.txt /a\n"),
        row("chown-root-by-name", "FROM oci:base:latest\nCOPY --chown=root:root a.txt /a\n"),
        row("chown-by-name", "FROM oci:base:latest\nCOPY --chown=model:shared a.txt /a\n"),
        row("chown-by-name-alone", "FROM oci:base:latest\nCOPY --chown=model a.txt /a\n"),
        row(
            "chown-by-name-and-number",
            "FROM oci:base:latest\nCOPY --chown=model:5 a.txt /a\nCOPY --chown=5:shared b.txt /b\n",
        ),
        row("chown-group-of-the-base", "FROM oci:base:latest\nCOPY --chown=5:model a.txt /new/a\n"),
        row(
            "chown-by-name-in-a-stage",
            "FROM oci:base:latest AS one\nCOPY a.txt /a\nFROM one\nCOPY --from=one --chown=model:shared /a /b\n",
        ),
        row(
            "chown-by-a-name-over-that-of-the-base",
            "FROM oci:base:latest\nCOPY passwd /etc/passwd\nCOPY --chown=model a.txt /a\n",
        )
        .with(|context| context.file("passwd", "root:x:0:0::/:\nmodel:x:100:200::/:\n")),
        row("chown-by-a-number-of-the-base", "FROM oci:base:latest\nCOPY --chown=77 a.txt /a\n"),
        row(
            "chown-by-a-name-of-the-stage",
            "FROM scratch\nCOPY passwd /etc/passwd\nCOPY --chown=app a.txt /a\n",
        )
        .with(|context| context.file("passwd", "root:x:0:0::/:\napp:x:100:200::/:\n")),
        row("chown-by-an-unknown-name", "FROM oci:base:latest\nCOPY --chown=nobody a.txt /a\n")
            .fails("nobody", "nobody"),
        row("chmod-octal", "FROM scratch\nCOPY --chmod=600 a.txt /a\nCOPY --chmod=0755 dir /d\n"),
        row("chmod-set-id", "FROM scratch\nCOPY --chmod=4711 a.txt /a\nCOPY --chmod=1777 dir /d\n"),
        row("chmod-and-made-directories", "FROM scratch\nCOPY --chmod=700 a.txt /new/deep/a\n"),
        row(
            "chmod-and-chown",
            "FROM scratch\nCOPY --chmod=640 --chown=7:8 dir /d\nADD --chmod=600 --chown=9 a.txt /a\n",
        ),
        row("chmod-symbolic", "FROM scratch\nCOPY --chmod=u+x,go-r a.txt /a\n"),
        row("chmod-symbolic-of-a-directory", "FROM scratch\nCOPY --chmod=a+rX,go-w dir /d\n"),
        row("chmod-bad", "FROM scratch\nCOPY --chmod=999 a.txt /a\n").fails("--chmod=999", "999"),
        row("hard-links", "FROM scratch\nCOPY h /h\n").with(|context| {
            context.files(&["h/one", "h/d/x"]).hard_link("h/two", "h/one").hard_link("h/d/three", "h/one")
        }),
        row("hard-links-by-name", "FROM scratch\nCOPY h/one h/two /h/\n")
            .with(|context| context.files(&["h/one"]).hard_link("h/two", "h/one")),
        row("hard-link-out-of-the-copied", "FROM scratch\nCOPY h /h\n")
            .with(|context| context.files(&["h/one"]).hard_link("out", "h/one")),
        row("hard-links-of-two-copies", "FROM scratch\nCOPY h/one /h/\nCOPY h/two /h/\n")
            .with(|context| context.files(&["h/one"]).hard_link("h/two", "h/one")),
        row("hard-link-of-the-base-replaced", "FROM oci:base:latest\nCOPY a.txt /srv/owned\n"),
        row("sparse", "FROM scratch\nCOPY hole /hole\n").with(|context| context.sparse("hole", 3 << 20)),
        row("fifo", "FROM scratch\nCOPY f /f\n").with(|context| context.directory("f").fifo("f/pipe")),
        row("fifo-by-name", "FROM scratch\nCOPY pipe /f\nCOPY pipe /g/\nADD pipe /h\nCOPY pip* /i\n")
            .with(|context| context.fifo("pipe")),
        row("fifo-and-file", "FROM scratch\nCOPY pipe a.txt /d/\n").with(|context| context.fifo("pipe")),
        row("fifo-over-a-file", "FROM scratch\nCOPY a.txt /f\nCOPY pipe /f\nCOPY a.txt /d/pipe\nCOPY pipe /d/\n")
            .with(|context| context.fifo("pipe")),
        row("fifo-over-a-directory", "FROM scratch\nCOPY dir /d/pipe\nCOPY pipe /d/\n")
            .with(|context| context.fifo("pipe")),
        row("file-over-a-fifo", "FROM scratch\nCOPY pipe /d/\nCOPY a.txt /d/pipe\n")
            .with(|context| context.fifo("pipe")),
        row("file-below-a-fifo", "FROM scratch\nCOPY pipe /d/\nCOPY a.txt /d/pipe/x\n")
            .with(|context| context.fifo("pipe"))
            .fails("/d/pipe", "not a directory"),
        row("fifo-and-flags", "FROM scratch\nCOPY --chown=7:8 --chmod=640 f /f\nCOPY f /g\n")
            .with(|context| context.directory("f").fifo("f/pipe").mode("f/pipe", 0o6777).owner("f/pipe", 5, 6)),
        row("fifo-with-two-names", "FROM scratch\nCOPY f /f\n")
            .with(|context| context.directory("f").fifo("f/pipe").hard_link("f/twin", "f/pipe")),
        row("fifo-of-a-stage", "FROM scratch AS one\nCOPY --chown=7 f /f\nFROM scratch\nCOPY --from=one /f /g\nCOPY --from=one /f/pipe /h\n")
            .with(|context| context.directory("f").fifo("f/pipe")),
        row("fifo-of-an-image", "FROM scratch\nCOPY --from=[REGISTRY]/special:1 /dev /d\n"),
        row("over-a-fifo-of-the-base", "FROM [REGISTRY]/special:1\nCOPY a.txt /dev/x\nCOPY pipe /dev/\n")
            .with(|context| context.fifo("pipe")),
        row("device", "FROM scratch\nCOPY f /f\nCOPY f/null /g\n")
            .with(|context| context.directory("f").device("f/null", 1, 3)),
        row("socket", "FROM scratch\nCOPY f /f\n")
            .with(|context| context.file("f/x", "x").socket("f/socket")),
        row("socket-by-name", "FROM scratch\nCOPY socket /f\n")
            .with(|context| context.socket("socket"))
            .fails("\"socket\" is a socket", "sockets not supported"),
        row("xattr-user", "FROM scratch\nCOPY x /x\n")
            .with(|context| context.files(&["x/f"]).xattr("x/f", "user.note", b"text")),
        row("xattr-of-a-directory", "FROM scratch\nCOPY x /x\n")
            .with(|context| context.files(&["x/d/f"]).xattr("x/d", "user.note", b"text")),
        row("xattr-capability", "FROM scratch\nCOPY x /x\n")
            .with(|context| context.files(&["x/f"]).xattr("x/f", "security.capability", CAP_NET_RAW)),
        row("times", "FROM scratch\nCOPY a.txt /a\n").args(&["--timestamp", "1000"]),
        row("long-names", "FROM scratch\nCOPY long /l\n").with(|context| {
            let part = "n".repeat(90);
            context.file(&format!("long/{part}/{part}/{part}"), "x").link("long/link", &"t/".repeat(120))
        }),
        row("file-of-a-mebibyte", "FROM scratch\nCOPY large /large\n")
            .with(|context| context.file("large", &"0123456789abcdef".repeat(65536))),
    ]
}

/// `cap_net_raw=ep`, as version 2 of `vfs_cap_data` has it.
const CAP_NET_RAW: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

//! Symlinks: of the context, on the way to a source, on the way to a destination, at it.

use crate::harness::{Row, row};

#[test]
fn links_lead_where_they_lead_with_buildah() {
    crate::check("links");
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("link-in-a-directory", "FROM scratch\nCOPY l /l\n").with(|context| {
            context
                .files(&["l/f", "l/d/x"])
                .link("l/rel", "f")
                .link("l/abs", "/l/f")
                .link("l/dir", "d")
                .link("l/gone", "none")
                .link("l/d/up", "../f")
                .link("l/loop", "loop")
        }),
        row("link-named", "FROM scratch\nCOPY l /x\n").with(|context| context.link("l", "a.txt")),
        row("link-named-into-a-directory", "FROM scratch\nCOPY l /d/\n")
            .with(|context| context.link("l", "a.txt")),
        row("link-named-to-a-directory", "FROM scratch\nCOPY l /d\nCOPY l/ /e/\n")
            .with(|context| context.link("l", "dir")),
        row("link-matched", "FROM scratch\nCOPY l* /d/\n")
            .with(|context| context.link("l1", "a.txt").link("l2", "dir")),
        row("link-on-the-way", "FROM scratch\nCOPY l/c.txt /x\n").with(|context| context.link("l", "dir")),
        row("link-chain", "FROM scratch\nCOPY l1 /x\n")
            .with(|context| context.link("l1", "l2").link("l2", "dir/../dir/link")),
        row("link-absolute", "FROM scratch\nCOPY l /x\n").with(|context| context.link("l", "/dir/c.txt")),
        row("link-absolute-out", "FROM scratch\nCOPY l /x\n")
            .with(|context| context.link("l", "/etc/passwd"))
            .fails("leads outside", "l"),
        row("link-relative-out", "FROM scratch\nCOPY l /x\n")
            .with(|context| context.link("l", "../../secret"))
            .fails("leads outside", "l"),
        row("link-relative-out-and-in", "FROM scratch\nCOPY l /x\n")
            .with(|context| context.link("l", "../a.txt")),
        row("link-to-nothing", "FROM scratch\nCOPY l /x\n")
            .with(|context| context.link("l", "none"))
            .fails("leads to nothing", "l"),
        row("link-loop", "FROM scratch\nCOPY l /x\n")
            .with(|context| context.link("l", "l"))
            .fails("loop", "l"),
        row("destination-below-a-link", "FROM oci:base:latest\nCOPY a.txt /var/run/x\nCOPY dir /var/run/d\n"),
        row(
            "destination-is-a-link-to-a-directory",
            "FROM oci:base:latest\nCOPY a.txt /var/run\nCOPY a.txt /bin/\n",
        ),
        row("destination-below-a-relative-link", "FROM oci:base:latest\nCOPY a.txt /var/lock/x/y\n"),
        row("destination-below-a-link-above-the-root", "FROM oci:base:latest\nCOPY a.txt /var/up/x\n"),
        row("destination-below-a-link-to-nothing", "FROM oci:base:latest\nCOPY a.txt /var/gone/x\n"),
        row("destination-is-a-link-to-nothing", "FROM oci:base:latest\nCOPY a.txt /var/gone\n"),
        row(
            "destination-is-a-link-to-nothing-with-a-slash",
            "FROM oci:base:latest\nCOPY a.txt /var/gone.rel/\n",
        ),
        row("destination-is-a-link-to-nothing-for-a-directory", "FROM oci:base:latest\nCOPY dir /var/gone\n"),
        row("destination-is-a-link-to-a-file", "FROM oci:base:latest\nCOPY a.txt /etc/conf.link\n"),
        row(
            "destination-is-a-link-to-a-file-with-a-slash",
            "FROM oci:base:latest\nCOPY a.txt /etc/conf.link/\n",
        )
        .fails("/etc/conf", "conf"),
        row("destination-is-a-loop", "FROM oci:base:latest\nCOPY a.txt /loop/x\n").fails("loop", ""),
        row("destination-is-a-loop-itself", "FROM oci:base:latest\nCOPY a.txt /loop\n").fails("loop", ""),
        row("workdir-is-a-loop", "FROM oci:base:latest\nWORKDIR /loop\n").fails("loop", ""),
        row("workdir-below-a-link", "FROM oci:base:latest\nWORKDIR /var/run\nCOPY a.txt .\nCOPY b.txt x/\n"),
        row("directory-over-a-link-to-a-directory", "FROM oci:base:latest\nCOPY tree /\n")
            .with(|context| context.files(&["tree/var/run/x", "tree/bin/y"])),
        row("file-over-a-link-to-a-file", "FROM oci:base:latest\nCOPY tree /\n")
            .with(|context| context.files(&["tree/etc/conf.link"])),
        row("file-over-a-link-to-a-directory", "FROM oci:base:latest\nCOPY tree /\n")
            .with(|context| context.files(&["tree/var/run"])),
        row("directory-over-a-link-to-a-file", "FROM oci:base:latest\nCOPY tree /\n")
            .with(|context| context.files(&["tree/etc/conf.link/x"])),
        row("directory-over-a-link-to-nothing", "FROM oci:base:latest\nCOPY tree /\n")
            .with(|context| context.files(&["tree/var/gone/x"])),
        row("link-over-a-file", "FROM oci:base:latest\nCOPY tree /\n")
            .with(|context| context.directory("tree/etc").link("tree/etc/conf", "passwd")),
        row("link-over-a-link", "FROM oci:base:latest\nCOPY tree /\n")
            .with(|context| context.directory("tree/var").link("tree/var/run", "/tmp")),
        row("link-over-a-directory", "FROM oci:base:latest\nCOPY tree /\n")
            .with(|context| context.directory("tree").link("tree/srv", "/tmp")),
        row("links-of-an-earlier-copy", "FROM scratch\nCOPY l /\nCOPY a.txt /dir/\nCOPY a.txt /file\n")
            .with(|context| context.files(&["l/real/x"]).link("l/dir", "real").link("l/file", "real/x")),
    ]
}

//! ADD of archives.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use crate::context::Context;
use crate::harness::{Oracle, Row, row};
use crate::seen::Seen;
use crate::support::image::{Image, is_root};
use crate::support::sandbox::Sandbox;

#[test]
fn archives_come_apart_as_with_buildah() {
    crate::check("archives");
}

/// What the layers take away must be gone for those who read the image, and not for us alone.
#[test]
fn buildah_finds_in_our_image_what_we_say_is_in_it() {
    if !is_root() {
        return;
    }
    let (oracle, sandbox) = (Oracle::new(), Sandbox::new());
    Context::standard(&sandbox).bytes("x.tar", &comes_back()).bytes(
        "y.tar",
        &made(&[
            ("etc", EntryType::Regular, "no directory"),
            ("bin/", EntryType::Directory, ""),
            ("bin/sh", EntryType::Regular, "sh"),
        ]),
    );
    for (number, squash) in [&[][..], &["--squash"], &["--layer-file-size", "2"]].into_iter().enumerate() {
        let layout = format!("ours-{number}");
        oracle.containerfile(&sandbox, "FROM oci:base:latest\nADD x.tar /\nADD y.tar /\nWORKDIR /\n");
        sandbox.build(&[&["-o", &format!("oci:{layout}:1")], squash].concat()).done();
        let ours = Image::read(&format!("oci:{}:1", sandbox.path(&layout).display()));
        oracle.containerfile(&sandbox, &format!("FROM oci:{layout}:1\n"));
        let theirs = oracle.squashed_by_buildah(&sandbox);
        let files = |image: &Image| {
            let seen = Seen::of(image).0.into_iter();
            seen.filter(|(name, _)| name.starts_with('/')).collect::<Vec<_>>()
        };
        assert_eq!(files(&theirs), files(&ours), "{squash:?}");
        assert!(ours.files.contains_key("data/new") && !ours.files.contains_key("data/old"), "{squash:?}");
    }
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("add-archive", "FROM scratch\nADD x.tar /d/\n")
            .with(|context| context.bytes("x.tar", &archive())),
        row("add-archive-without-a-slash", "FROM scratch\nADD x.tar /d\n")
            .with(|context| context.bytes("x.tar", &archive())),
        row("add-archive-to-the-root", "FROM scratch\nADD x.tar /\n")
            .with(|context| context.bytes("x.tar", &archive())),
        row("add-archive-to-the-workdir", "FROM scratch\nWORKDIR /w\nADD x.tar .\n")
            .with(|context| context.bytes("x.tar", &archive())),
        row("add-archive-over-the-base", "FROM oci:base:latest\nADD x.tar /srv/\n")
            .with(|context| context.bytes("x.tar", &archive())),
        row("add-archive-below-a-link", "FROM oci:base:latest\nADD x.tar /var/run/\n")
            .with(|context| context.bytes("x.tar", &archive())),
        row("add-archive-and-chown", "FROM scratch\nADD --chown=7:8 x.tar /d/\n")
            .with(|context| context.bytes("x.tar", &archive())),
        row("add-archive-and-chmod", "FROM scratch\nADD --chmod=700 x.tar /d/\n")
            .with(|context| context.bytes("x.tar", &archive())),
        row("add-archive-gzip", "FROM scratch\nADD x.tar.gz /d/\n")
            .with(|context| context.bytes("x.tar.gz", &gzip(&archive()))),
        row("add-archive-zstd", "FROM scratch\nADD x.tar.zst /d/\n")
            .with(|context| context.bytes("x.tar.zst", &zstd::encode_all(&archive()[..], 3).unwrap())),
        row("add-archive-by-another-name", "FROM scratch\nADD x /d/\n")
            .with(|context| context.bytes("x", &gzip(&archive()))),
        row("add-gzip-of-no-archive", "FROM scratch\nADD x.gz /d/\n")
            .with(|context| context.bytes("x.gz", &gzip(b"text"))),
        row("add-archive-and-file", "FROM scratch\nADD x.tar a.txt /d/\n")
            .with(|context| context.bytes("x.tar", &archive())),
        row("add-archive-by-pattern", "FROM scratch\nADD *.tar /d/\n")
            .with(|context| context.bytes("x.tar", &archive()).bytes("y.tar", &archive())),
        row("add-archive-inside-of-a-directory", "FROM scratch\nADD sub /d/\n")
            .with(|context| context.directory("sub").bytes("sub/x.tar", &archive())),
        // As no header comes out of it, it is taken for a file.
        row("add-archive-damaged-at-its-head", "FROM scratch\nADD x.tar.gz /d/\n")
            .with(|context| context.bytes("x.tar.gz", &gzip(&archive())[..40])),
        row("add-archive-cut-off", "FROM scratch\nADD x.tar /d/\n")
            .with(|context| context.bytes("x.tar", &archive()[..1026]))
            .fails("x.tar", "unexpected EOF"),
        row("add-archive-cut-off-in-gzip", "FROM scratch\nADD x.tar.gz /d/\n")
            .with(|context| context.bytes("x.tar.gz", &gzip(&archive()[..1026])))
            .fails("x.tar.gz", "unexpected EOF"),
        row("add-archive-of-fifos-and-devices", "FROM scratch\nADD --chown=9 x.tar /d/\n")
            .with(|context| context.bytes("x.tar", &specials())),
        row("add-archive-of-sparse-files", "FROM scratch\nADD x.tar /d/\n")
            .with(|context| sparse(context, &["--format=gnu"])),
        row("add-archive-of-sparse-files-in-pax-0.0", "FROM scratch\nADD x.tar /d/\n")
            .with(|context| sparse(context, &["--format=pax", "--sparse-version=0.0"])),
        row("add-archive-of-sparse-files-in-pax-0.1", "FROM scratch\nADD x.tar /d/\n")
            .with(|context| sparse(context, &["--format=pax", "--sparse-version=0.1"])),
        row("add-archive-of-sparse-files-in-pax-1.0", "FROM scratch\nADD x.tar /d/\n")
            .with(|context| sparse(context, &["--format=pax", "--sparse-version=1.0"])),
        // The links of an archive, and those in its way, lead nowhere but into the destination.
        row("add-archive-of-a-file-system", "FROM scratch\nADD root.tar /\n")
            .with(|context| context.bytes("root.tar", &file_system())),
        row("add-archive-of-a-file-system-below", "FROM scratch\nADD root.tar /d/\n")
            .with(|context| context.bytes("root.tar", &file_system())),
        row("add-archive-of-a-file-system-over-the-base", "FROM oci:base:latest\nADD root.tar /\n")
            .with(|context| context.bytes("root.tar", &file_system())),
        row("add-archive-that-leads-up", "FROM scratch\nADD up.tar /d/\n").with(|context| {
            context.bytes(
                "up.tar",
                &made(&[("u", EntryType::Symlink, ".."), ("u/etc/y", EntryType::Regular, "y")]),
            )
        }),
        row("add-archive-that-leads-elsewhere", "FROM scratch\nADD l.tar /d/\n").with(|context| {
            context.bytes(
                "l.tar",
                &made(&[
                    ("etc/", EntryType::Directory, ""),
                    ("l", EntryType::Symlink, "/etc"),
                    ("l/x", EntryType::Regular, "x"),
                ]),
            )
        }),
        row("add-archive-that-leads-to-nothing", "FROM scratch\nADD l.tar /d/\n").with(|context| {
            context
                .bytes("l.tar", &made(&[("l", EntryType::Symlink, "/etc"), ("l/x", EntryType::Regular, "x")]))
        }),
        row("add-archive-through-a-link-of-the-base", "FROM oci:base:latest\nADD l.tar /var/\n").with(
            |context| {
                context.bytes(
                    "l.tar",
                    &made(&[("run/", EntryType::Directory, ""), ("up/x", EntryType::Regular, "x")]),
                )
            },
        ),
        row("add-archive-with-names-that-lead-out", "FROM scratch\nADD x.tar /d/\n").with(|context| {
            context.bytes(
                "x.tar",
                &made(&[
                    ("/q", EntryType::Regular, "q"),
                    ("../w", EntryType::Regular, "w"),
                    ("a/../../v", EntryType::Regular, "v"),
                    ("hard", EntryType::Link, "../q"),
                    ("absolute", EntryType::Link, "/w"),
                ]),
            )
        }),
        row("add-archive-of-a-hard-link-to-a-link-to-nothing", "FROM scratch\nADD x.tar /d/\n").with(
            |context| {
                context.bytes("x.tar", &made(&[("s", EntryType::Symlink, "no"), ("h", EntryType::Link, "s")]))
            },
        ),
        row("add-archive-of-a-hard-link-into-the-base", "FROM oci:base:latest\nADD x.tar /\n")
            .with(|context| context.bytes("x.tar", &made(&[("h", EntryType::Link, "etc/conf.link")]))),
        row("add-archive-over-directories", "FROM oci:base:latest\nADD x.tar /\n").with(|context| {
            context.bytes(
                "x.tar",
                &made(&[("tmp", EntryType::Regular, "file"), ("etc", EntryType::Symlink, "nowhere")]),
            )
        }),
        row("add-archive-of-directories-over-files", "FROM oci:base:latest\nADD x.tar /\n").with(|context| {
            context.bytes(
                "x.tar",
                &made(&[
                    ("etc/conf/", EntryType::Directory, ""),
                    ("etc/conf/in", EntryType::Regular, "in"),
                    ("var/run/", EntryType::Directory, ""),
                    ("var/run/x", EntryType::Regular, "x"),
                ]),
            )
        }),
        row("add-archive-of-a-directory-that-comes-back", "FROM oci:base:latest\nADD x.tar /\n")
            .with(|context| context.bytes("x.tar", &comes_back())),
        row("add-archive-over-what-is-copied-beside-it", "FROM scratch\nADD dir x.tar /d/\n").with(
            |context| {
                context.bytes(
                    "x.tar",
                    &made(&[("c.txt", EntryType::Regular, "mine"), ("sub", EntryType::Regular, "")]),
                )
            },
        ),
        row("copy-archive", "FROM scratch\nCOPY x.tar /d/\nCOPY x.tar /y\n")
            .with(|context| context.bytes("x.tar", &archive())),
    ]
}

/// Directories, owners, set-ID bits and links of both kinds.
fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: EntryType, mode: u32, target: &str, bytes: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_uid(5);
        header.set_gid(6);
        header.set_mtime(1_000_000_000);
        if !target.is_empty() {
            header.set_link_name(target).unwrap();
        }
        header.set_cksum();
        archive.append(&header, bytes).unwrap();
    };
    add("x/", EntryType::Directory, 0o711, "", b"");
    add("x/in", EntryType::Regular, 0o4640, "", b"in\n");
    add("x/twin", EntryType::Link, 0o4640, "x/in", b"");
    add("x/link", EntryType::Symlink, 0o777, "in", b"");
    add("implied/deep", EntryType::Regular, 0o600, "", b"deep\n");
    archive.into_inner().unwrap()
}

/// Entries of these names and types, each with its text or its link's target.
fn made(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, kind, text) in entries {
        let mut header = Header::new_gnu();
        // As it is, `..` and a leading slash included.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        // Programs that write archives have no one mind about the mode of a symlink.
        header.set_mode(if *kind == EntryType::Directory { 0o751 } else { 0o640 });
        header.set_uid(5);
        header.set_gid(6);
        header.set_mtime(1_000_000_000);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.set_link_name(text).unwrap();
        }
        let text = if is_link { "" } else { text };
        header.set_size(text.len() as u64);
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// As a root file system is: a link among its directories, and hard links whose targets are behind it.
fn file_system() -> Vec<u8> {
    made(&[
        ("run/", EntryType::Directory, ""),
        ("var/", EntryType::Directory, ""),
        ("var/run", EntryType::Symlink, "/run"),
        ("run/a", EntryType::Regular, "a"),
        ("var/run/b", EntryType::Regular, "b"),
        ("c", EntryType::Link, "var/run/a"),
        ("var/run/d", EntryType::Link, "var/run/b"),
        ("s", EntryType::Symlink, "c"),
        ("of-a-link", EntryType::Link, "s"),
    ])
}

/// A file takes the place of a directory, and then a directory that of the file.
fn comes_back() -> Vec<u8> {
    made(&[
        ("data", EntryType::Regular, ""),
        ("data/", EntryType::Directory, ""),
        ("data/new", EntryType::Regular, "new"),
        ("srv/new", EntryType::Regular, "new"),
    ])
}

/// A FIFO with another name, and devices of both kinds.
fn specials() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, kind, target) in [
        ("pipe", EntryType::Fifo, ""),
        ("twin", EntryType::Link, "pipe"),
        ("null", EntryType::Char, ""),
        ("disk", EntryType::Block, ""),
    ] {
        let mut header = Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o640);
        header.set_uid(5);
        header.set_gid(6);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        if !target.is_empty() {
            header.set_link_name(target).unwrap();
        }
        header.set_cksum();
        archive.append(&header, &[][..]).unwrap();
    }
    archive.into_inner().unwrap()
}

/// What GNU tar makes of two files with holes, and of one without.
fn sparse<'a, 'b>(context: &'a Context<'b>, options: &[&str]) -> &'a Context<'b> {
    context
        .directory("in")
        .sparse("in/hole", 3 << 20)
        .file("in/dense", "dense\n")
        .sparse("in/other", 100_000);
    context.bytes("x.tar", &gnu_tar(&context.0.file("in"), options, &["dense", "hole", "other"]))
}

/// What GNU tar writes of these files of a directory.
pub(crate) fn gnu_tar(directory: &Path, options: &[&str], files: &[&str]) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.args(options)
        .args(["--sparse", "--owner=5", "--group=6", "-cf", "-", "-C"])
        .arg(directory)
        .args(files);
    let output = tar.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

//! ADD of local archives. What is expected is what buildah 1.28.2 makes of the same archives, but for what is refused.

use std::io::Write as _;
use std::sync::Arc;

use crossdock_builder::{FileTree, Node, NodeKind};
use flate2::Compression;
use flate2::write::GzEncoder;
use insta::assert_snapshot;
use serde_json::json;
use tar::{EntryType, Header};

use crate::harness::{Setup, path};

/// An entry: path, type, mode, owner, and a link's target, a device's numbers or a file's text.
type Made<'a> = (&'a str, EntryType, u32, u64, &'a str);

fn tar(entries: &[Made<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, mode, owner, text) in entries {
        let mut header = Header::new_gnu();
        // As it is, `..` and a leading slash included.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(*owner);
        header.set_gid(*owner + 1);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.set_link_name(text).unwrap();
        }
        let is_device = matches!(kind, EntryType::Char | EntryType::Block);
        if let (true, Some((major, minor))) = (is_device, text.split_once(':')) {
            header.set_device_major(major.parse().unwrap()).unwrap();
            header.set_device_minor(minor.parse().unwrap()).unwrap();
        }
        let text = if is_link || is_device { "" } else { text };
        header.set_size(text.len() as u64);
        header.set_cksum();
        builder.append(&header, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn setup(archives: &[(&str, Vec<u8>)]) -> Setup {
    let setup = Setup::new();
    for (name, bytes) in archives {
        std::fs::write(setup.context().join(name), bytes).unwrap();
    }
    setup
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;

#[test]
fn an_archive_is_unpacked_with_its_owners_and_modes() {
    let archive = tar(&[
        ("z", FILE, 0o644, 3, "zz"),
        ("d/", DIR, 0o3700, 11, ""),
        ("d/f", FILE, 0o4755, 11, "hello"),
        ("d/hard", EntryType::Link, 0o755, 12, "d/f"),
        ("d/soft", EntryType::Symlink, 0o777, 13, "../x"),
        ("made/on/way", FILE, 0o600, 0, ""),
        ("/abs", FILE, 0o644, 0, "abs"),
        ("../../up", FILE, 0o644, 0, "up"),
        ("tmp/", DIR, 0o711, 5, ""),
        ("twice", FILE, 0o644, 0, "one"),
        ("twice", FILE, 0o600, 0, "two"),
    ]);
    let setup = setup(&[("a.tar", archive.clone()), ("a.tgz", gzip(&archive))]);
    let unpacked = |name: &str| {
        let instructions = format!("COPY a.txt /new/tmp/\nADD --chown=5:6 --chmod=0400 {name} /new");
        setup.scratch(&instructions).replace(name, "ARCHIVE")
    };
    assert_snapshot!(unpacked("a.tar"), @r##"
COPY a.txt /new/tmp/:
  d 0755 0:0 /new
  d 0755 0:0 /new/tmp
  f 0640 0:0 /new/tmp/a.txt = a.txt
ADD --chown=5:6 --chmod=0400 ARCHIVE /new:
  f 0644 0:1 /new/abs = packed "abs"
  d 3700 11:12 /new/d
  f 0755 12:13 /new/d/f = packed "hello"
  h 0755 12:13 /new/d/hard -> /new/d/f
  l 0777 13:14 /new/d/soft -> ../x
  d 0755 5:6 /new/made
  d 0755 5:6 /new/made/on
  f 0600 0:1 /new/made/on/way = ""
  d 0711 5:6 /new/tmp
  f 0600 0:1 /new/twice = packed "two"
  f 0644 0:1 /new/up = packed "up"
  f 0644 3:4 /new/z = packed "zz"
"##);
    assert_eq!(unpacked("a.tgz"), unpacked("a.tar"));
}

#[test]
fn links_of_the_image_are_followed_on_the_way_and_replaced_by_directories() {
    let archive =
        tar(&[("lnk/", DIR, 0o750, 1, ""), ("lnk/x", FILE, 0o644, 1, "x"), ("lnk/y/z", FILE, 0o644, 1, "z")]);
    let through = tar(&[("other/in", FILE, 0o644, 1, "in")]);
    let setup = setup(&[("a.tar", archive), ("through.tar", through)])
        .link("links/lnk", "/real")
        .link("links/other", "real");
    assert_snapshot!(setup.scratch("COPY a.txt /real/\nCOPY links /\nADD a.tar /\nADD through.tar /"), @r##"
COPY a.txt /real/:
  d 0755 0:0 /real
  f 0640 0:0 /real/a.txt = a.txt
COPY links /:
  l 0777 0:0 /lnk -> /real
  l 0777 0:0 /other -> real
ADD a.tar /:
  d 0750 1:2 /lnk
  f 0644 1:2 /lnk/x = packed "x"
  d 0755 0:0 /lnk/y
  f 0644 1:2 /lnk/y/z = packed "z"
ADD through.tar /:
  f 0644 1:2 /real/in = packed "in"
"##);
}

#[test]
fn what_is_no_archive_or_not_named_stays_as_it_is() {
    let archive = tar(&[("f", FILE, 0o644, 0, "f")]);
    let setup = setup(&[
        ("text.gz", gzip(b"text")),
        ("odd.gz", b"\x1f\x8b\x08 and no more".to_vec()),
        ("empty.tar", vec![0; 10240]),
        ("dir/in.tar", archive.clone()),
        ("one.tar", archive),
    ]);
    assert_snapshot!(
        setup.scratch("ADD *.gz empty.tar dir /a/\nADD --unpack=false one.tar /b/\nCOPY one.tar /c/\nADD --exclude=one.* one.tar a.txt /d/\nADD one*.tar b.txt /e"),
        @r##"
ADD *.gz empty.tar dir /a/:
  d 0755 0:0 /a
  f 0644 0:0 /a/c.txt = dir/c.txt
  f 0644 0:0 /a/empty.tar = empty.tar
  f 0644 0:0 /a/in.tar = dir/in.tar
  l 0777 0:0 /a/inner -> c.txt
  f 0644 0:0 /a/odd.gz = odd.gz
  d 0700 0:0 /a/sub
  f 0600 0:0 /a/sub/d.txt = dir/sub/d.txt
  f 0644 0:0 /a/text.gz = text.gz
ADD --unpack=false one.tar /b/:
  d 0755 0:0 /b
  f 0644 0:0 /b/one.tar = one.tar
COPY one.tar /c/:
  d 0755 0:0 /c
  f 0644 0:0 /c/one.tar = one.tar
ADD --exclude=one.* one.tar a.txt /d/:
  d 0755 0:0 /d
  f 0640 0:0 /d/a.txt = a.txt
ADD one*.tar b.txt /e:
  d 0755 0:0 /e
  f 0644 0:0 /e/b.txt = b.txt
  f 0644 0:1 /e/f = packed "f"
"##
    );
}

#[test]
fn fifos_and_devices_come_out_of_an_archive() {
    let archive = tar(&[
        ("pipe", EntryType::Fifo, 0o1620, 4, ""),
        ("twin", EntryType::Link, 0o600, 5, "pipe"),
        ("null", EntryType::Char, 0o666, 0, "1:3"),
        ("disk", EntryType::Block, 0o660, 0, "259:1048575"),
    ]);
    let setup = setup(&[("x.tar", archive)]);
    assert_snapshot!(setup.scratch("ADD --chown=9 --chmod=777 x.tar /d"), @r"
    ADD --chown=9 --chmod=777 x.tar /d:
      d 0755 9:9 /d
      s 0660 0:1 /d/disk, the block device 259:1048575
      s 0666 0:1 /d/null, the character device 1:3
      s 0600 5:6 /d/pipe, a FIFO
      h 0600 5:6 /d/twin -> /d/pipe
    ");
}

#[test]
fn what_cannot_be_unpacked_is_refused_by_name() {
    let of = |entries: &[Made<'_>]| tar(entries);
    let whole = of(&[("f", FILE, 0o644, 0, &"f".repeat(5000))]);
    let setup = setup(&[
        ("wh.dev.tar", of(&[("etc/passwd", EntryType::Char, 0o644, 0, "0:0")])),
        ("wh.tar", of(&[("etc/.wh.passwd", FILE, 0o644, 0, "")])),
        ("hard.tar", of(&[("h", EntryType::Link, 0o644, 0, "nowhere")])),
        ("loop.tar", of(&[("h", EntryType::Link, 0o644, 0, "h")])),
        ("dot.tar", of(&[(".", FILE, 0o644, 0, "")])),
        ("below.tar", of(&[("f", FILE, 0o644, 0, ""), ("f/x", FILE, 0o644, 0, "")])),
        ("links.tar", of(&[("l", EntryType::Symlink, 0, 0, "l"), ("l/x", FILE, 0o644, 0, "")])),
        ("cut.tar", whole[..3000].to_vec()),
        ("cut.tgz", gzip(&whole[..3000])),
        ("damaged.tgz", gzip(&whole)[..100].to_vec()),
        ("garbage.tar", [&whole[..whole.len() - 1024], &[b'x'; 1024]].concat()),
        ("opaque.tar", of(&[("d/.wh..wh..opq", FILE, 0o644, 0, "")])),
        ("volume.tar", of(&[("backup", EntryType::new(b'V'), 0o644, 0, "")])),
        ("more.tar", of(&[("f", FILE, 0o644, 0, "f"), ("rest", EntryType::new(b'M'), 0o644, 0, "f")])),
        ("vendor.tar", of(&[("f", EntryType::new(b'Z'), 0o644, 0, "f")])),
        ("owner.tar", of(&[("f", FILE, 0o644, 1 << 32, "f")])),
        ("size.tar", with_record("size", "-1")),
        ("long.tar", with_record("size", "99999999999999999999999")),
        ("uid.tar", with_record("uid", "-7")),
        ("gid.tar", with_record("gid", "4294967296")),
    ]);
    let errors = [
        "ADD wh.dev.tar /",
        "ADD wh.tar /",
        "ADD hard.tar /",
        "ADD loop.tar /",
        "ADD dot.tar /d",
        "ADD below.tar /d",
        "ADD links.tar /d",
        "COPY a.txt /d\nADD dot.tar /d",
        "ADD cut.tar /",
        "ADD cut.tgz /",
        "ADD damaged.tgz /",
        "ADD garbage.tar /",
        "ADD opaque.tar /",
        "ADD volume.tar /",
        "ADD more.tar /",
        "ADD vendor.tar /",
        "ADD owner.tar /",
        "ADD size.tar /",
        "ADD long.tar /",
        "ADD uid.tar /",
        "ADD gid.tar /",
    ]
    .map(|instructions| setup.error(instructions))
    .join("\n");
    assert_snapshot!(errors, @r##"
Containerfile:2:5: /etc/passwd is the character device 0:0, which takes away what lower layers have there, as overlayfs reads it, leave it out
Containerfile:2:5: /etc/.wh.passwd in the archive has a name that begins with .wh., which in a layer takes files away, use COPY to keep it packed, or rename it in an earlier step of the pipeline
Containerfile:2:5: /h in the archive is a hard link to /nowhere, which is no file in it and none that ADD or COPY brought there, use COPY to keep it packed, or unpack it in an earlier step of the pipeline
Containerfile:2:5: /h in the archive is a hard link to /h, which is no file in it and none that ADD or COPY brought there, use COPY to keep it packed, or unpack it in an earlier step of the pipeline
Containerfile:2:5: the archive has no directory, but a file, for /d itself, pack the file under its name
Containerfile:2:5: cannot copy into /d/f: it is not a directory
Containerfile:2:5: cannot copy: /d/l is a loop of symbolic links
Containerfile:3:13: cannot copy into /d: it is there and not a directory
Containerfile:2:5: ADD cannot unpack "cut.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/cut.tar is not a tar archive that can be read: behind /f it is cut short
Containerfile:2:5: ADD cannot unpack "cut.tgz", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/cut.tgz is not a tar archive that can be read: behind /f it is cut short
Containerfile:2:5: ADD cannot unpack "damaged.tgz", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/damaged.tgz is not a tar archive that can be read: behind /f it is cut short
Containerfile:2:5: ADD cannot unpack "garbage.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/garbage.tar is not a tar archive that can be read: behind /f there is no header of an entry where one should be
Containerfile:2:5: /d/.wh..wh..opq in the archive has a name that begins with .wh., which in a layer takes files away, use COPY to keep it packed, or rename it in an earlier step of the pipeline
Containerfile:2:5: ADD cannot unpack "volume.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/volume.tar: backup is an entry of the type 'V', which stands for no file that an image can have
Containerfile:2:5: ADD cannot unpack "more.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/more.tar: rest is an entry of the type 'M', which stands for no file that an image can have
Containerfile:2:5: ADD cannot unpack "vendor.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/vendor.tar: f is an entry of the type 'Z', which stands for no file that an image can have
Containerfile:2:5: ADD cannot unpack "owner.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/owner.tar: f has an owner that no system has
Containerfile:2:5: ADD cannot unpack "size.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/size.tar: f has the PAX record size="-1", which is no number that an entry can have
Containerfile:2:5: ADD cannot unpack "long.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/long.tar: f has the PAX record size="99999999999999999999999", which is no number that an entry can have
Containerfile:2:5: ADD cannot unpack "uid.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/uid.tar: f has the PAX record uid="-7", which is no number that an entry can have
Containerfile:2:5: ADD cannot unpack "gid.tar", use COPY, or ADD --unpack=false, to keep it as it is: ./ctx/gid.tar: f has a group that no system has
"##);
}

/// An archive of one file with a PAX record.
fn with_record(key: &str, value: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([(key, value.as_bytes())]).unwrap();
    let mut header = Header::new_ustar();
    header.set_path("f").unwrap();
    header.set_size(1);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, &b"f"[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn an_archive_without_its_end_is_unpacked_with_a_warning() {
    let whole = tar(&[("f", FILE, 0o644, 0, "f"), ("g", FILE, 0o644, 0, "g")]);
    let cut = &whole[..1024];
    let setup = setup(&[("x.tar", whole.clone()), ("cut.tar", cut.to_vec()), ("cut.tgz", gzip(cut))]);
    let warnings = |archive: &str| {
        let image = setup.plan(&format!("FROM scratch\nADD {archive} /d/"));
        assert!(image.layers[0].entries.iter().any(|entry| entry.path == path("/d/f")));
        setup.warnings(&image)
    };
    assert_eq!(warnings("x.tar"), "");
    for archive in ["cut.tar", "cut.tgz"] {
        let expected = format!("the archive {archive:?} ends without the blocks of zeros");
        assert!(warnings(archive).contains(&expected), "{}", warnings(archive));
    }
}

#[test]
fn links_on_the_way_to_a_hard_links_target_are_followed() {
    let archive = tar(&[
        ("run/", DIR, 0o755, 0, ""),
        ("var/", DIR, 0o755, 0, ""),
        ("var/run", EntryType::Symlink, 0o644, 0, "/run"),
        ("run/a", FILE, 0o600, 0, "a"),
        ("b", EntryType::Link, 0o640, 3, "var/run/a"),
        ("s", EntryType::Symlink, 0o700, 0, "b"),
        ("of-a-link", EntryType::Link, 0o640, 4, "s"),
        ("absolute", EntryType::Link, 0o640, 4, "/run/a"),
        ("above", EntryType::Link, 0o640, 4, "../../run/a"),
        ("lost", EntryType::Symlink, 0o640, 0, "nowhere"),
        ("of-a-lost-link", EntryType::Link, 0o640, 0, "lost"),
    ]);
    let setup = setup(&[("x.tar", archive)]);
    // In a directory, links are followed as if that were the root, as with buildah.
    for (at, dest) in [("", "/"), ("/d", "/d/")] {
        let layers = setup.scratch(&format!("ADD x.tar {dest}")).replace(&format!(" {at}/"), " /");
        let layers = layers.lines().filter(|line| !line.ends_with(" /d")).collect::<Vec<_>>().join("\n");
        insta::allow_duplicates! {
            assert_snapshot!(layers.replace("ADD x.tar /d/:", "ADD x.tar /:"), @r##"
ADD x.tar /:
  f 0640 4:5 /above = packed "a"
  h 0640 4:5 /absolute -> /above
  h 0640 4:5 /b -> /above
  l 0777 0:1 /lost -> nowhere
  h 0640 4:5 /of-a-link -> /above
  l 0777 0:1 /of-a-lost-link -> nowhere
  d 0755 0:1 /run
  h 0640 4:5 /run/a -> /above
  l 0777 0:1 /s -> b
  d 0755 0:1 /var
  l 0777 0:1 /var/run -> /run
"##);
        }
    }
}

#[test]
fn nothing_is_unpacked_outside_of_the_destination() {
    let setup = setup(&[
        ("up.tar", tar(&[("u", EntryType::Symlink, 0, 0, ".."), ("u/etc/y", FILE, 0o644, 0, "y")])),
        ("abs.tar", tar(&[("l", EntryType::Symlink, 0, 0, "/etc"), ("l/x", FILE, 0o644, 0, "x")])),
        ("far.tar", tar(&[("f", EntryType::Symlink, 0, 0, "../../../../etc"), ("f/x", FILE, 0o644, 0, "x")])),
        ("l.tar", tar(&[("l/x", FILE, 0o644, 0, "x"), ("l/sub/", DIR, 0o700, 0, "")])),
        ("link.tar", tar(&[("h", EntryType::Link, 0o644, 0, "l/secret")])),
        ("names.tar", tar(&[("/../etc/z", FILE, 0o644, 0, "z"), ("a/../../w", FILE, 0o644, 0, "w")])),
    ])
    .link("links/l", "/etc");
    for archive in ["up.tar", "abs.tar", "far.tar", "names.tar"] {
        let layers = setup.scratch(&format!("ADD {archive} /d/"));
        assert!(layers.lines().skip(1).all(|line| line.contains(" /d")), "{layers}");
    }
    assert_snapshot!(setup.scratch("ADD up.tar abs.tar far.tar names.tar /d"), @r##"
ADD up.tar abs.tar far.tar names.tar /d:
  d 0755 0:0 /d
  d 0755 0:0 /d/etc
  f 0644 0:1 /d/etc/x = packed "x"
  f 0644 0:1 /d/etc/y = packed "y"
  f 0644 0:1 /d/etc/z = packed "z"
  l 0777 0:1 /d/f -> ../../../../etc
  l 0777 0:1 /d/l -> /etc
  l 0777 0:1 /d/u -> ..
  f 0644 0:1 /d/w = packed "w"
"##);
    // A link that an earlier instruction, or a base, has put there.
    assert_snapshot!(setup.scratch("COPY links /d/\nADD l.tar /d"), @r##"
COPY links /d/:
  d 0755 0:0 /d
  l 0777 0:0 /d/l -> /etc
ADD l.tar /d:
  d 0755 0:0 /d/etc
  d 0700 0:1 /d/etc/sub
  f 0644 0:1 /d/etc/x = packed "x"
"##);
    let secret = "COPY a.txt /etc/secret\nCOPY links /d/\nADD link.tar /d/";
    assert_snapshot!(setup.error(secret), @r##"Containerfile:4:5: /h in the archive is a hard link to /l/secret, which is no file in it and none that ADD or COPY brought there, use COPY to keep it packed, or unpack it in an earlier step of the pipeline"##);
    let mut tree = FileTree::empty();
    let link = NodeKind::Symlink(Arc::new("/etc".into()));
    tree.insert(&path("d/l"), Node { kind: link, mode: 0o777, ..Node::directory(0) });
    let setup = setup.base("base", json!({}), tree);
    let image = setup.plan("FROM base\nADD l.tar /d");
    assert_snapshot!(setup.layers(&image), @r##"
ADD l.tar /d:
  d 0755 0:0 /d/etc
  d 0700 0:1 /d/etc/sub
  f 0644 0:1 /d/etc/x = packed "x"
"##);
}

#[test]
fn what_an_archive_has_takes_the_place_of_what_the_image_has() {
    let setup = setup(&[
        ("file.tar", tar(&[("d", FILE, 0o644, 0, "file")])),
        ("link.tar", tar(&[("d", EntryType::Symlink, 0, 0, "/e"), ("d/in", FILE, 0o644, 0, "in")])),
        ("dir.tar", tar(&[("a.txt/", DIR, 0o700, 0, ""), ("a.txt/in", FILE, 0o644, 0, "in")])),
        ("again.tar", tar(&[("d/", DIR, 0o711, 0, ""), ("d/new", FILE, 0o644, 0, "new")])),
        (
            "back.tar",
            tar(&[("d", FILE, 0o644, 0, ""), ("d/", DIR, 0o750, 0, ""), ("d/!", FILE, 0o644, 0, "!")]),
        ),
    ]);
    assert_snapshot!(
        setup.scratch("COPY dir /d/\nADD file.tar /\nCOPY dir /d2/\nADD link.tar /\nCOPY a.txt /\nADD dir.tar /"),
        @r##"
COPY dir /d/:
  d 0755 0:0 /d
  f 0644 0:0 /d/c.txt = dir/c.txt
  l 0777 0:0 /d/inner -> c.txt
  d 0700 0:0 /d/sub
  f 0600 0:0 /d/sub/d.txt = dir/sub/d.txt
ADD file.tar /:
  f 0644 0:1 /d = packed "file"
COPY dir /d2/:
  d 0755 0:0 /d2
  f 0644 0:0 /d2/c.txt = dir/c.txt
  l 0777 0:0 /d2/inner -> c.txt
  d 0700 0:0 /d2/sub
  f 0600 0:0 /d2/sub/d.txt = dir/sub/d.txt
ADD link.tar /:
  l 0777 0:1 /d -> /e
  d 0755 0:0 /e
  f 0644 0:1 /e/in = packed "in"
COPY a.txt /:
  f 0640 0:0 /a.txt = a.txt
ADD dir.tar /:
  d 0700 0:1 /a.txt
  f 0644 0:1 /a.txt/in = packed "in"
"##
    );
    // A directory that comes back is empty: without the whiteout it would join the one below.
    assert_snapshot!(setup.scratch("COPY dir /d/\nADD back.tar /"), @r##"
COPY dir /d/:
  d 0755 0:0 /d
  f 0644 0:0 /d/c.txt = dir/c.txt
  l 0777 0:0 /d/inner -> c.txt
  d 0700 0:0 /d/sub
  f 0600 0:0 /d/sub/d.txt = dir/sub/d.txt
ADD back.tar /:
  d 0750 0:1 /d
  f 0644 0:1 /d/! = packed "!"
  f 0000 0:0 /d/.wh..wh..opq = ""
"##);
    let mut setup = setup;
    setup.options.squash = true;
    let squashed = |instructions: &str| setup.scratch(&format!("COPY b.txt /b\n{instructions}"));
    assert_snapshot!(squashed("COPY dir /d/\nADD back.tar /"), @r##"
squashed layers:
  f 0644 0:0 /b = b.txt
  d 0750 0:1 /d
  f 0644 0:1 /d/! = packed "!"
  f 0000 0:0 /d/.wh..wh..opq = ""
"##);
    assert_snapshot!(squashed("COPY dir /d/\nADD file.tar /\nADD again.tar /"), @r##"
squashed layers:
  f 0644 0:0 /b = b.txt
  d 0711 0:1 /d
  f 0000 0:0 /d/.wh..wh..opq = ""
  f 0644 0:1 /d/new = packed "new"
"##);
}

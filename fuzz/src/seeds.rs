//! The seeds that are archives, made here so that nobody has to trust bytes in a repository: by name, in the form that
//! `packing` reads.

use tar::{Builder, EntryType, Header};

use super::packing::{AS_IS, GZIP, PLAIN, ZSTD, stored};

/// An entry: path, type, mode, and a link's target or a file's text.
type Made<'a> = (&'a str, EntryType, u32, &'a str);

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

/// Seeds for the base index and for ADD's archives.
pub fn archives() -> Vec<(String, Vec<u8>)> {
    let base = tar(&[
        ("etc/", DIR, 0o755, ""),
        ("etc/passwd", FILE, 0o644, "root:x:0:0::/:/bin/sh\n"),
        ("etc/group", FILE, 0o644, "root:x:0:\n"),
        ("tmp/", DIR, 0o1777, ""),
        ("usr/bin/sh", FILE, 0o4755, "sh"),
        ("bin", LINK, 0o777, "usr/bin"),
        ("usr/bin/bash", HARD, 0o755, "usr/bin/sh"),
    ]);
    let changes = tar(&[
        ("etc/.wh.passwd", FILE, 0, ""),
        ("tmp/.wh..wh..opq", FILE, 0, ""),
        (".wh.", FILE, 0, ""),
        ("./dev/null", EntryType::Char, 0o666, ""),
        ("run/pipe", EntryType::Fifo, 0o600, ""),
    ]);
    let links = tar(&[
        ("d/", DIR, 0o755, ""),
        ("d/d", HARD, 0o755, "d"),
        ("d/loop", LINK, 0o777, "loop"),
        ("up", LINK, 0o777, "../../.."),
        ("up/x", FILE, 0o644, "x"),
        ("d", LINK, 0o777, "up"),
        ("late", HARD, 0o644, "later"),
        ("later", FILE, 0o644, "y"),
    ]);
    let names = tar(&[
        ("../out", FILE, 0o644, ""),
        ("/a//b/./c/", DIR, 0o755, ""),
        ("a", FILE, 0o644, ""),
        ("a/b", FILE, 0o644, ""),
    ]);
    let mut seeds = vec![("empty".to_owned(), vec![PLAIN]), ("text".to_owned(), b"=no archive".to_vec())];
    let all = [
        ("base", base),
        ("changes", changes),
        ("links", links),
        ("names", names),
        ("long_names", long_names()),
        ("pax", pax()),
        ("sparse", sparse()),
    ];
    for (name, tar) in &all {
        for (how, ending) in [(PLAIN, "tar"), (GZIP, "tar.gz"), (ZSTD, "tar.zst")] {
            seeds.push((format!("{name}.{ending}"), input(how, tar)));
        }
        // Compressed already, so that the decoders see what a fuzzer makes of their formats.
        for (how, ending) in [(GZIP, "gz"), (ZSTD, "zst")] {
            let bytes = stored(&input(how, tar)).unwrap_or_default();
            seeds.push((format!("{name}.{ending}"), input(AS_IS, &bytes)));
        }
    }
    let truncated = &all[0].1[..1500];
    seeds.push(("truncated.tar".to_owned(), input(PLAIN, truncated)));
    seeds
}

/// Where the environment names a directory, writes the seeds into it and ends the process: so the program that is going to
/// run them makes them, and nothing else has to be built for it.
pub fn write_archive_seeds() {
    write_seeds(archives());
}

/// As [`write_archive_seeds`], for the headers of weights.
pub fn write_model_seeds() {
    write_seeds(super::model_seeds().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)));
}

#[allow(clippy::disallowed_methods, reason = "no part of the program")]
fn write_seeds(seeds: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let Some(directory) = std::env::var_os("WRITE_SEEDS_TO") else { return };
    for (name, bytes) in seeds {
        std::fs::write(std::path::Path::new(&directory).join(name), bytes)
            .expect("the directory takes files");
    }
    std::process::exit(0);
}

fn input(how: u8, bytes: &[u8]) -> Vec<u8> {
    let mut input = vec![how];
    input.extend_from_slice(bytes);
    input
}

fn header(path: &str, kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    // As it is, `..` and a leading slash included.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(1);
    header.set_gid(2);
    header.set_mtime(0);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

fn built(put: impl FnOnce(&mut Builder<Vec<u8>>) -> std::io::Result<()>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    put(&mut builder).expect("memory takes it");
    builder.into_inner().expect("memory takes it")
}

fn tar(entries: &[Made<'_>]) -> Vec<u8> {
    built(|tar| {
        for (path, kind, mode, text) in entries {
            let content = if [LINK, HARD].contains(kind) { "" } else { text };
            let mut header = header(path, *kind, *mode, content.len());
            if content.len() < text.len() {
                header.set_link_name(text)?;
                header.set_cksum();
            }
            tar.append(&header, content.as_bytes())?;
        }
        Ok(())
    })
}

fn long_names() -> Vec<u8> {
    built(|tar| {
        let long = "long/".repeat(60);
        tar.append_data(&mut header("", FILE, 0o644, 1), format!("{long}file"), &b"x"[..])?;
        tar.append_link(&mut header("", LINK, 0o777, 0), format!("{long}link"), &long)?;
        tar.append_link(&mut header("", HARD, 0o644, 0), "hard", format!("{long}file"))
    })
}

fn pax() -> Vec<u8> {
    built(|tar| {
        let records: [(&str, &[u8]); 5] = [
            ("path", b"from/pax"),
            ("size", b"3"),
            ("SCHILY.xattr.user.a", b"b\nc"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
            ("uid", b"4000000000"),
        ];
        tar.append_pax_extensions(records)?;
        tar.append(&header("short", FILE, 0o644, 3), &b"abc"[..])?;
        tar.append(&header("pax_global_header", EntryType::XGlobalHeader, 0, 12), &b"12 comment=x"[..])?;
        tar.append_pax_extensions([("linkpath", b"from/pax".as_slice())])?;
        tar.append(&header("link", LINK, 0o777, 0), std::io::empty())
    })
}

/// A sparse file of GNU's old form, and one of each of its PAX forms: 1.0, 0.1 and 0.0.
fn sparse() -> Vec<u8> {
    built(|tar| {
        let mut old = header("old", EntryType::GNUSparse, 0o644, 512);
        if let Some(gnu) = old.as_gnu_mut() {
            gnu.set_is_extended(false);
            gnu.sparse[0].set_offset(1024);
            gnu.sparse[0].set_length(512);
            gnu.set_real_size(1536);
        }
        old.set_cksum();
        tar.append(&old, &[b'x'; 512][..])?;
        let records: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"new"),
            ("GNU.sparse.realsize", b"1536"),
        ];
        tar.append_pax_extensions(records)?;
        let mut content = [0; 1024];
        content[..11].copy_from_slice(b"1\n1024\n512\n");
        tar.append(&header("GNUSparseFile.0/new", FILE, 0o644, 1024), &content[..])?;
        let records: [(&str, &[u8]); 4] = [
            ("GNU.sparse.size", b"2000"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.name", b"listed"),
            ("GNU.sparse.map", b"5,3,1990,10"),
        ];
        tar.append_pax_extensions(records)?;
        tar.append(&header("GNUSparseFile.0/listed", FILE, 0o644, 13), &[b'y'; 13][..])?;
        let records: [(&str, &[u8]); 6] = [
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"4"),
            ("GNU.sparse.offset", b"90"),
            ("GNU.sparse.numbytes", b"10"),
        ];
        tar.append_pax_extensions(records)?;
        tar.append(&header("pairs", FILE, 0o644, 14), &[b'z'; 14][..])
    })
}

//! What `encode_entries` writes, read back by three other implementations: the tar crate, GNU tar and bsdtar.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use crossdock_storage::{
    Entry, EntryKind, FileContent, LayerPath, ReadOptions, SourceFile, Special, VirtualLayer, encode_entries,
};
use proptest::prelude::*;

/// An entry as any of the readers sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: char,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    link: String,
    content: Option<Vec<u8>>,
}

fn bytes_of(layer: &VirtualLayer) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in layer.bytes_from(0, &ReadOptions::default()) {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(bytes.len() as u64, layer.len(), "the length is known before a byte is read");
    bytes
}

fn expected(entries: &[Entry], contents: &BTreeMap<LayerPath, Vec<u8>>) -> BTreeMap<String, Seen> {
    entries
        .iter()
        .map(|entry| {
            let content = contents.get(&entry.path).cloned();
            let (kind, link) = match &entry.kind {
                EntryKind::Directory => ('d', String::new()),
                EntryKind::File(_) => ('-', String::new()),
                EntryKind::Symlink { target } => ('l', String::from_utf8(target.to_vec()).unwrap()),
                EntryKind::HardLink { target } => ('h', target.to_string()[1..].to_owned()),
                EntryKind::Special(special) => special_of(*special),
            };
            let size = content.as_ref().map_or(0, |c| c.len() as u64);
            let seen = Seen {
                kind,
                mode: entry.mode,
                uid: entry.uid.into(),
                gid: entry.gid.into(),
                size,
                link,
                content,
            };
            (entry.path.to_string()[1..].to_owned(), seen)
        })
        .collect()
}

/// A letter, as listers have it, and the numbers of a device.
fn special_of(special: Special) -> (char, String) {
    match special {
        Special::Fifo => ('p', String::new()),
        Special::Character(major, minor) => ('c', format!("{major},{minor}")),
        Special::Block(major, minor) => ('b', format!("{major},{minor}")),
    }
}

fn by_tar_crate(archive: &[u8]) -> BTreeMap<String, Seen> {
    let mut archive = tar::Archive::new(archive);
    let mut seen = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!(header.mtime().unwrap(), 7);
        let kind = match header.entry_type() {
            tar::EntryType::Directory => 'd',
            tar::EntryType::Regular => '-',
            tar::EntryType::Symlink => 'l',
            tar::EntryType::Link => 'h',
            tar::EntryType::Fifo => 'p',
            tar::EntryType::Char => 'c',
            tar::EntryType::Block => 'b',
            other => panic!("{other:?}"),
        };
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let numbers = || (header.device_major().unwrap().unwrap(), header.device_minor().unwrap().unwrap());
        let link = match (entry.link_name_bytes(), kind) {
            (Some(link), _) => String::from_utf8(link.into_owned()).unwrap(),
            (None, 'b' | 'c') => format!("{},{}", numbers().0, numbers().1),
            (None, _) => String::new(),
        };
        let value = Seen {
            kind,
            mode: header.mode().unwrap(),
            uid: header.uid().unwrap(),
            gid: header.gid().unwrap(),
            size: entry.size(),
            link,
            content: (kind == '-').then_some(content),
        };
        seen.insert(path.trim_end_matches('/').to_owned(), value);
    }
    seen
}

/// Names, types and owners as a lister prints them with `tv`: `-rw-r--r-- 0/0 12 date time name -> target`.
fn by_lister(program: &str, archive: &Path) -> Vec<String> {
    let output = Command::new(program)
        .args(["--numeric-owner", "-tvf"])
        .arg(archive)
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}: {error}; install it with apt-get install libarchive-tools tar")
        });
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-z][a-z0-9_.-]{0,12}",
        1 => "[a-z]{90,140}",
        1 => "[a-zäöü漢]{1,8}",
    ]
    .prop_filter("dots are not names", |name| name != "." && name != "..")
}

fn path() -> impl Strategy<Value = LayerPath> {
    prop::collection::vec(name(), 1..5).prop_map(|parts| LayerPath::clean(parts.join("/")).unwrap())
}

#[derive(Debug, Clone)]
enum Plan {
    Directory,
    Inline(Vec<u8>),
    Source(Vec<u8>),
    Symlink(String),
    HardLink,
    Special(Special),
}

fn plan() -> impl Strategy<Value = (Plan, u32, u32, u32)> {
    let content = prop::collection::vec(any::<u8>(), 0..2000);
    let numbers = (0..=Special::MAX_NUMBER, 0..=Special::MAX_NUMBER);
    let plan = prop_oneof![
        Just(Plan::Directory),
        content.clone().prop_map(Plan::Inline),
        content.prop_map(Plan::Source),
        prop_oneof!["[a-z/.]{1,20}", "[a-z/]{95,150}"].prop_map(Plan::Symlink),
        Just(Plan::HardLink),
        Just(Plan::Special(Special::Fifo)),
        numbers.clone().prop_map(|(major, minor)| Plan::Special(Special::Character(major, minor))),
        numbers.prop_map(|(major, minor)| Plan::Special(Special::Block(major, minor))),
    ];
    (plan, 0..=0o7777u32, prop_oneof![Just(0u32), any::<u32>()], prop_oneof![Just(0u32), any::<u32>()])
}

/// Makes entries of a drawn plan: source files are written to `directory`; a hard link goes to the first file.
fn entries_of(
    plans: &BTreeMap<LayerPath, (Plan, u32, u32, u32)>,
    directory: &Path,
) -> (Vec<Entry>, BTreeMap<LayerPath, Vec<u8>>) {
    let mut contents = BTreeMap::new();
    let mut entries = Vec::new();
    let mut first_file = None;
    for (index, (path, (plan, mode, uid, gid))) in plans.iter().enumerate() {
        let kind = match plan {
            Plan::Directory => EntryKind::Directory,
            Plan::Inline(bytes) => EntryKind::File(FileContent::Inline(bytes.clone().into())),
            Plan::Source(bytes) => {
                let at = directory.join(index.to_string());
                std::fs::write(&at, bytes).unwrap();
                EntryKind::File(FileContent::Source(SourceFile::stat(at).unwrap()))
            }
            Plan::Symlink(target) => EntryKind::Symlink { target: target.clone().into() },
            Plan::Special(special) => EntryKind::Special(*special),
            Plan::HardLink => match &first_file {
                Some(target) => EntryKind::HardLink { target: LayerPath::clone(target) },
                None => EntryKind::Directory,
            },
        };
        if let Plan::Inline(bytes) | Plan::Source(bytes) = plan {
            contents.insert(path.clone(), bytes.clone());
            first_file.get_or_insert_with(|| path.clone());
        }
        entries.push(Entry {
            path: path.clone(),
            kind,
            mode: *mode,
            uid: *uid,
            gid: *gid,
            mtime: 0,
            xattrs: crossdock_storage::Xattrs::default(),
        });
    }
    (entries, contents)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn other_readers_see_what_was_written(plans in prop::collection::btree_map(path(), plan(), 0..24)) {
        let directory = tempfile::tempdir().unwrap();
        let (entries, contents) = entries_of(&plans, directory.path());
        let layer = encode_entries(entries.clone(), 7).unwrap();
        let archive = bytes_of(&layer);
        prop_assert_eq!(by_tar_crate(&archive), expected(&entries, &contents));

        let at = directory.path().join("layer.tar");
        std::fs::write(&at, &archive).unwrap();
        for program in ["tar", "bsdtar"] {
            let lines = by_lister(program, &at);
            prop_assert_eq!(lines.len(), entries.len(), "{}: {:#?}", program, lines);
            let mut sorted = entries.clone();
            sorted.sort_by(|a, b| a.path.cmp(&b.path));
            for (line, entry) in lines.iter().zip(&sorted) {
                let name = &entry.path.to_string()[1..];
                if name.is_ascii() {
                    prop_assert!(line.contains(name), "{}: {} in {}", program, name, line);
                }
                let kind = match entry.kind {
                    EntryKind::Directory => 'd',
                    EntryKind::File(_) => '-',
                    EntryKind::Symlink { .. } => 'l',
                    EntryKind::HardLink { .. } => 'h',
                    EntryKind::Special(special) => {
                        let (kind, numbers) = special_of(special);
                        prop_assert!(line.contains(&numbers), "{}: {} in {}", program, numbers, line);
                        kind
                    }
                };
                prop_assert!(line.starts_with(kind), "{}: {} for {:?}", program, line, entry.kind);
                prop_assert!(line.contains(&entry.uid.to_string()), "{}: owner {} in {}", program, entry.uid, line);
            }
        }
    }

    #[test]
    fn a_layer_can_be_read_again_from_any_offset(
        plans in prop::collection::btree_map(path(), plan(), 1..40),
        at in any::<prop::sample::Index>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (entries, _) = entries_of(&plans, directory.path());
        let layer = encode_entries(entries, 7).unwrap();
        let whole = bytes_of(&layer);
        let offset = at.index(whole.len() + 1);
        let mut rest = Vec::new();
        for chunk in layer.bytes_from(offset as u64, &ReadOptions::default()) {
            rest.extend_from_slice(&chunk.unwrap());
        }
        prop_assert!(rest == whole[offset..], "from {}", offset);
    }
}

#[test]
fn a_size_from_8_gib_stands_in_the_header_itself() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("big");
    let size = (8u64 << 30) + 12345;
    // Sparse: no byte of it is on disk.
    std::fs::File::create(&at).unwrap().set_len(size).unwrap();
    let entry = Entry {
        path: LayerPath::clean("models/big").unwrap(),
        kind: EntryKind::File(FileContent::Source(SourceFile::stat(&at).unwrap())),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: crossdock_storage::Xattrs::default(),
    };
    let layer = encode_entries(vec![entry], 0).unwrap();
    assert_eq!(layer.len(), 512 + size.next_multiple_of(512) + 1024);
    let head = layer.bytes_from(0, &ReadOptions::default()).next().unwrap().unwrap();
    assert_eq!(head[124], 0x80, "base-256, not octal and not PAX");
    assert_eq!(u64::from_be_bytes(head[128..136].try_into().unwrap()), size);
    assert_eq!(head[156], b'0', "the first entry is the file itself");
    let last = layer.bytes_from(layer.len() - 1024, &ReadOptions::default()).next().unwrap().unwrap();
    assert!(last.iter().all(|b| *b == 0) && last.len() == 1024);
}

#[test]
fn one_path_twice_or_a_link_to_nothing_is_refused() {
    let file = |path: &str| Entry {
        path: LayerPath::clean(path).unwrap(),
        kind: EntryKind::File(FileContent::Inline("x".into())),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: crossdock_storage::Xattrs::default(),
    };
    let error = encode_entries(vec![file("a"), file("b"), file("a")], 0).unwrap_err();
    assert_eq!(error.to_string(), "cannot put /a into a layer: it is there twice");
    let link = Entry { kind: EntryKind::HardLink { target: LayerPath::clean("z").unwrap() }, ..file("b") };
    let error = encode_entries(vec![file("z"), link], 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot put /b into a layer: its link target /z is not earlier in the layer"
    );
}

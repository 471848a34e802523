//! Sparse files as GNU tar writes them, in all its forms: they come out with zeros in their holes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crossdock_storage::{
    Cancel, Compression, Error, FileContent, IndexKind, LayerReader, LayerWatch, ReadOptions, Segment,
    SourceArchive, SourceFile, VirtualLayer,
};
use tar::{Builder, EntryType, Header};

/// What GNU tar knows as sparse, by its options.
const FORMS: [&[&str]; 4] = [
    &["--format=gnu"],
    &["--format=pax", "--sparse-version=0.0"],
    &["--format=pax", "--sparse-version=0.1"],
    &["--format=pax", "--sparse-version=1.0"],
];

/// A file of `size` bytes with runs of others than zero at these places.
fn write(path: &Path, size: u64, runs: &[(u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (number, (at, len)) in runs.iter().enumerate() {
        file.write_all_at(&vec![b'a' + u8::try_from(number % 26).unwrap(); *len], *at).unwrap();
    }
}

fn archive(directory: &Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .args(options)
        .args(["--sparse", "-cf", "-", "-C"])
        .arg(directory)
        .args(["dense", "ends-in-a-hole", "many", "nothing", "small"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn read(path: &Path) -> Result<Option<SourceArchive>, Error> {
    SourceArchive::read(&SourceFile::stat(path).unwrap(), &Cancel::default())
}

fn parts(archive: &SourceArchive, name: &str) -> VirtualLayer {
    let named = |entry: &&crossdock_storage::IndexEntry| entry.path.to_string() == format!("/{name}");
    let entry = archive.entries.iter().find(named).unwrap();
    match archive.content(entry).unwrap() {
        FileContent::Parts(parts) => parts,
        other => panic!("{name}: {other:?}"),
    }
}

fn bytes_from(layer: &VirtualLayer, offset: u64) -> Vec<u8> {
    layer.bytes_from(offset, &ReadOptions::default()).flat_map(|chunk| chunk.unwrap().to_vec()).collect()
}

#[test]
fn every_form_comes_out_with_its_holes_filled() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    write(&at("dense"), 3000, &[(0, 3000)]);
    write(&at("ends-in-a-hole"), 5 << 20, &[(0, 4096), (1 << 20, 700_000)]);
    // More runs than there is room for in a header, and in one block behind it.
    let runs: Vec<_> = (0..60).map(|number| (number * 65_536 + 4096, 4096)).collect();
    write(&at("many"), 60 * 65_536, &runs);
    write(&at("nothing"), 2 << 20, &[]);
    write(&at("small"), 20_000, &[(8192, 100)]);
    for options in FORMS {
        let tar = archive(directory.path(), options);
        assert!(tar.len() < 2 << 20, "{options:?}: holes are not stored");
        fs::write(at("x.tar"), &tar).unwrap();
        fs::write(at("x.tar.zst"), zstd::encode_all(&tar[..], 1).unwrap()).unwrap();
        for name in ["x.tar", "x.tar.zst"] {
            let archive = read(&at(name)).unwrap().unwrap();
            for file in ["dense", "ends-in-a-hole", "many", "nothing", "small"] {
                let expected = fs::read(at(file)).unwrap();
                let parts = parts(&archive, file);
                assert_eq!(parts.len(), expected.len() as u64, "{options:?} {name} {file}");
                assert!(bytes_from(&parts, 0) == expected, "{options:?} {name} {file}");
                for offset in [1, 2900, expected.len() - 1] {
                    assert!(
                        bytes_from(&parts, offset as u64) == expected[offset..],
                        "{options:?} {name} {file} from {offset}"
                    );
                }
            }
        }
    }
}

#[test]
fn zeros_take_no_memory_and_can_be_told_apart() {
    let layer = VirtualLayer::new([
        Segment::Inline("head".into()),
        Segment::Zeros(3 << 20),
        Segment::Zeros(0),
        Segment::Inline("tail".into()),
    ]);
    assert_eq!(layer.segment_count(), 3);
    let mut expected = b"head".to_vec();
    expected.resize(4 + (3 << 20), 0);
    expected.extend_from_slice(b"tail");
    assert!(bytes_from(&layer, 0) == expected);
    assert!(bytes_from(&layer.part(2, 1_000_000).unwrap(), 0) == expected[2..1_000_002]);
    let read = LayerReader::new(&layer, Compression::None, &ReadOptions::default());
    let digested = read.drain(&LayerWatch::silent()).unwrap();
    assert_eq!(*digested.diff_id.as_digest(), crossdock_storage::Hasher::digest(&expected));
}

/// A sparse file in PAX form with these records and content.
fn pax(records: &[(&str, &str)], content: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_ustar();
    header.set_size(0);
    builder.append_data(&mut header, "first", std::io::empty()).unwrap();
    builder.append_pax_extensions(records.iter().map(|(name, value)| (*name, value.as_bytes()))).unwrap();
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "GNUSparseFile.0/x", content).unwrap();
    builder.into_inner().unwrap()
}

fn block(text: &str, content: &str) -> Vec<u8> {
    let mut block = text.as_bytes().to_vec();
    block.resize(text.len().next_multiple_of(512), 0);
    block.extend_from_slice(content.as_bytes());
    block
}

#[test]
fn maps_that_mean_harm_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = |tar: &[u8]| {
        let path = directory.path().join("x.tar");
        fs::write(&path, tar).unwrap();
        match read(&path) {
            Ok(archive) => format!("{:?}", archive.unwrap().entries[1].kind),
            Err(error) => error.to_string().replace(&path.display().to_string(), "it"),
        }
    };
    let form = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "x")];
    let first = |size, map: &str, content| {
        let size = [("GNU.sparse.realsize", size)];
        outcome(&pax(&[form.as_slice(), &size].concat(), &block(map, content)))
    };
    let damaged = "it: x is a sparse file whose map is damaged";
    assert_eq!(first("9", "2\n0\n2\n7\n2\n", "abcd"), format!("{:?}", IndexKind::File(9)));
    for (size, map, content) in [
        ("9", "2\n0\n4\n3\n2\n", "abcdef"),
        ("9", "2\n7\n2\n0\n2\n", "abcd"),
        ("8", "2\n0\n2\n7\n2\n", "abcd"),
        ("9", "1\n0\n4\n", "abc"),
        ("9", "1\n0\n4\n", "abcde"),
        ("9", "1\n18446744073709551615\n4\n", "abcd"),
        ("9", "1\nx\n4\n", "abcd"),
        ("9", "-1\n", "abcd"),
        ("-9", "0\n", ""),
    ] {
        assert_eq!(first(size, map, content), damaged, "{size} {map:?} {content}");
    }
    // A map that says it has more lines than there are bytes.
    assert!(first("9", "18446744073709551615\n", "abcd").contains("is not a tar archive that can be read"));
    let old = |map| {
        outcome(&pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", "9"), ("GNU.sparse.name", "x")], b"abcd"))
    };
    assert_eq!(old("0,2,7,2"), format!("{:?}", IndexKind::File(9)));
    for map in ["0,2,7", "0,2,1,2", "0,2,7,x", "0,2,8,2"] {
        assert_eq!(old(map), damaged, "{map}");
    }
    // A hole of a pebibyte is no more than a number, until it is to be filled.
    let hole = first("1125899906842624", "1\n1125899906842620\n4\n", "abcd");
    assert!(hole.contains("the size of its sparse files"), "{hole}");
    let mut long = "1048576\n".to_owned();
    long.push_str(&"0\n".repeat(1 << 20));
    let long = first("9", &long, "");
    assert!(long.contains("the map of a sparse file"), "{long}");
}

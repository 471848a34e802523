//! Layers that mean harm: each ends with an error that names the layer and the limit, before memory or time are gone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{self, Read};

use common::Source;
use crossdock_storage::{
    Descriptor, Detail, DiffId, Error, Hasher, Layer, LayerIndex, LayerWatch, MediaType, Result,
};
use tar::{Builder, EntryType, Header};

/// The index of a layer that is stored as `blob` and has this diff ID.
fn index(blob: Vec<u8>, diff_id: DiffId) -> Result<LayerIndex> {
    let digest = Hasher::digest(&blob);
    let descriptor = Descriptor::new(MediaType::ImageLayerZstd, blob.len() as u64, digest);
    let layer = Layer { descriptor, diff_id };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let source = Source { blob: blob.into(), chunk: 64 << 10 };
    runtime.block_on(LayerIndex::read(&source, &layer, Detail::Contents, &LayerWatch::silent()))
}

fn index_of_tar(tar: Vec<u8>) -> Result<LayerIndex> {
    let diff_id = DiffId::of_tar(Hasher::digest(&tar));
    index(tar, diff_id)
}

/// A layer that is refused long before its end: its diff ID need not be right.
fn index_of_zstd(tar: impl Read) -> Result<LayerIndex> {
    index(zstd::encode_all(tar, 1).unwrap(), DiffId::of_tar(Hasher::digest(b"")))
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path("x").unwrap();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

/// A header of an entry with so many zeros, in the place of a content.
fn zeros(kind: EntryType, size: u64) -> impl Read {
    io::Cursor::new(header(kind, size).as_bytes().to_vec()).chain(io::repeat(0).take(size))
}

fn with_entry(put: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    put(&mut builder);
    builder.into_inner().unwrap()
}

#[track_caller]
fn refused(result: Result<LayerIndex>, limited: &str, bytes: u64) {
    let error = result.unwrap_err();
    let Error::Limit { what, limit, most } = &error else { panic!("{error:?}") };
    assert!(what.starts_with("layer sha256:") && what.ends_with(" of some.example/base:1"), "{what}");
    assert_eq!((*limit, *most), (limited, bytes));
}

#[test]
fn a_path_may_be_as_long_as_linux_takes_it() {
    let named = |len: usize| {
        with_entry(|tar| {
            let mut header = header(EntryType::Regular, 0);
            tar.append_data(&mut header, "d/".repeat(len / 2), io::empty()).unwrap();
        })
    };
    assert_eq!(index_of_tar(named(4096)).unwrap().entries.len(), 1);
    refused(index_of_tar(named(4098)), "the length of a path", 4096);
    let linked = |kind, len: usize| {
        with_entry(|tar| {
            tar.append_link(&mut header(kind, 0), "link", "t/".repeat(len / 2)).unwrap();
        })
    };
    assert!(index_of_tar(linked(EntryType::Symlink, 4096)).is_ok());
    refused(index_of_tar(linked(EntryType::Symlink, 4098)), "the length of a link's target", 4096);
    refused(index_of_tar(linked(EntryType::Link, 4098)), "the length of a path", 4096);
}

#[test]
fn a_link_to_what_no_path_can_be_is_refused() {
    for record in ["path", "linkpath"] {
        let tar = with_entry(|tar| {
            tar.append_pax_extensions([(record, &b"a\0b"[..])]).unwrap();
            tar.append_link(&mut header(EntryType::Symlink, 0), "link", "target").unwrap();
        });
        let Err(Error::Unusable(message)) = index_of_tar(tar) else { panic!("{record} was taken") };
        assert!(message.ends_with("has a NUL byte"), "{message}");
    }
}

#[test]
fn what_describes_an_entry_is_not_read_without_end() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        refused(index_of_zstd(zeros(kind, 64 << 20)), "the metadata of an entry", 1 << 20);
    }
    // The same after an entry with a content, which does not count.
    let content = vec![1; 3 << 20];
    let tar = with_entry(|tar| tar.append(&header(EntryType::Regular, 3 << 20), content.as_slice()).unwrap());
    let entry = &tar[..tar.len() - 1024];
    let again = [entry, entry].concat();
    assert_eq!(index_of_tar(again).unwrap().entries.len(), 2);
    refused(
        index_of_zstd(entry.chain(zeros(EntryType::XHeader, 64 << 20))),
        "the metadata of an entry",
        1 << 20,
    );
    // Records of usual size, and a global header, which is passed over.
    let tar = with_entry(|tar| {
        tar.append_pax_extensions([("SCHILY.xattr.user.x", vec![b'x'; 500 << 10].as_slice())]).unwrap();
        tar.append(&header(EntryType::Regular, 0), io::empty()).unwrap();
        tar.append(&header(EntryType::XGlobalHeader, 2 << 20), io::repeat(b' ').take(2 << 20)).unwrap();
    });
    assert_eq!(index_of_tar(tar).unwrap().entries.len(), 1);
}

#[test]
fn a_layer_that_unpacks_to_far_more_than_its_size_is_refused() {
    refused(index_of_zstd(zeros(EntryType::Regular, 1200 << 20)), "its unpacked size", 1 << 30);
    // The same behind the end of the archive.
    refused(index_of_zstd(io::repeat(0).take(1200 << 20)), "its unpacked size", 1 << 30);
}

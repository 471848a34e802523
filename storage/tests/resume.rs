//! Reading and hashing that go on where they were left.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use crossdock_storage::{
    Checkpoint, Checkpoints, Compression, Entry, EntryKind, Error, FenceBreach, FileContent, Hasher, Layer,
    LayerPath, LayerReader, ReadOptions, Segment, SourceFile, VirtualLayer, Xattrs, encode_entries,
};
use proptest::prelude::*;

fn file(directory: &Path, name: &str, len: usize) -> SourceFile {
    let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i.wrapping_mul(31) >> 3 & 0xff).unwrap()).collect();
    fs::write(directory.join(name), bytes).unwrap();
    SourceFile::stat(directory.join(name)).unwrap()
}

fn layer(directory: &Path, lengths: &[usize]) -> VirtualLayer {
    VirtualLayer::new(lengths.iter().enumerate().flat_map(|(i, len)| {
        let file = file(directory, &i.to_string(), *len);
        let len = file.size();
        [Segment::Inline(Bytes::from(vec![b'h'; 100 + i])), Segment::Extent { file, offset: 0, len }]
    }))
}

fn read(mut reader: LayerReader) -> Result<(Vec<u8>, Layer), Error> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        all.extend_from_slice(&chunk);
    }
    Ok((all, reader.finish()?))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_resumed_digest_is_that_of_the_whole(
        lengths in prop::collection::vec(0_usize..400_000, 1..5),
        step in 1_u64..300_000,
        at in 0.0_f64..=1.0,
        kept in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let layer = layer(directory.path(), &lengths);
        let checkpoints = Checkpoints::every(step);
        let mut reader = LayerReader::new(&layer, Compression::None, &ReadOptions::default());
        let mut whole = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            whole.extend_from_slice(&chunk);
            checkpoints.keep(reader.checkpoint().unwrap());
        }
        let digested = reader.finish().unwrap();

        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "some place in it")]
        let offset = (layer.len() as f64 * at) as u64;
        let mut checkpoint = checkpoints.before(offset);
        prop_assert!(checkpoint.offset() <= offset);
        if kept {
            checkpoint = Checkpoint::from_state(checkpoint.offset(), &checkpoint.state()).unwrap();
        }
        let reader = LayerReader::resume(&layer, &checkpoint, offset, &ReadOptions::default());
        prop_assert_eq!(reader.stored_len(), Some(layer.len() - offset));
        let (rest, resumed) = read(reader).unwrap();
        prop_assert_eq!(&rest[..], &whole[usize::try_from(offset).unwrap()..]);
        prop_assert_eq!(resumed, digested);
    }
}

#[test]
fn a_file_that_was_read_before_and_changed_since_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(directory.path(), &[300_000, 300_000]);
    let mut reader = LayerReader::new(&layer, Compression::None, &ReadOptions::default());
    while reader.position() < 400_000 {
        reader.next_chunk().unwrap();
    }
    let checkpoint = reader.checkpoint().unwrap();
    fs::write(directory.path().join("0"), b"another").unwrap();
    let reader = LayerReader::resume(&layer, &checkpoint, checkpoint.offset(), &ReadOptions::default());
    let error = read(reader).unwrap_err();
    assert!(matches!(error, Error::Changed { breach: FenceBreach::Size { .. }, .. }), "{error:?}");
}

#[test]
fn a_resumed_digest_of_the_only_file_is_that_of_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let source = file(directory.path(), "weights", 1_300_000);
    let bytes = fs::read(directory.path().join("weights")).unwrap();
    let named = |path: &str, kind| Entry {
        path: LayerPath::clean(path).unwrap(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: Xattrs::default(),
    };
    let only = named("models/weights", EntryKind::File(FileContent::Source(source)));
    let entries = vec![named("models", EntryKind::Directory), only.clone()];
    let layer = encode_entries(entries, 0).unwrap();
    let expected = Some(Hasher::digest(&bytes));
    let content = ReadOptions { digest_content: true, ..ReadOptions::default() };
    for (options, expected) in [(&content, &expected), (&ReadOptions::default(), &None)] {
        for compression in [Compression::None, Compression::Gzip { level: 1 }] {
            let (_, read) = read(LayerReader::new(&layer, compression, options)).unwrap();
            assert_eq!(read.content_digest(), *expected, "{compression:?}");
        }
    }
    // From before the file, within it, behind it; by who wanted to know its digest and by who did not.
    for first in [&content, &ReadOptions::default()] {
        for stop in [1, 600_000, layer.len()] {
            let mut reader = LayerReader::new(&layer, Compression::None, first);
            while reader.position() < stop && reader.next_chunk().unwrap().is_some() {}
            let checkpoint = reader.checkpoint().unwrap();
            let kept = Checkpoint::from_state(checkpoint.offset(), &checkpoint.state()).unwrap();
            for checkpoint in [checkpoint, kept] {
                let offset = checkpoint.offset();
                let (rest, resumed) =
                    read(LayerReader::resume(&layer, &checkpoint, offset, &content)).unwrap();
                assert_eq!(rest.len() as u64, layer.len() - offset);
                assert_eq!(resumed.content_digest(), expected, "stopped at {offset}");
            }
        }
    }
    // A layer of two files has none, whatever they are.
    let two =
        encode_entries(vec![only, named("models/x", EntryKind::File(FileContent::Inline(Bytes::new())))], 0);
    let (_, read) = read(LayerReader::new(&two.unwrap(), Compression::None, &content)).unwrap();
    assert_eq!(read.content_digest(), None);
}

#[test]
fn a_state_of_another_place_is_none() {
    let state = Checkpoint::start().state();
    assert!(Checkpoint::from_state(0, &state).is_some());
    assert!(Checkpoint::from_state(64, &state).is_none());
    assert!(Checkpoint::from_state(0, &state[1..]).is_none());
    assert!(Checkpoint::from_state(0, &[]).is_none());
}

#[test]
fn old_checkpoints_go_and_the_start_stays() {
    let checkpoints = Checkpoints::every(64);
    let bytes = [7; 64];
    let directory = tempfile::tempdir().unwrap();
    let layer = VirtualLayer::new([Segment::Inline(Bytes::from(bytes.repeat(4096)))]);
    let _ = directory;
    let mut reader = LayerReader::new(&layer, Compression::None, &ReadOptions::default());
    reader.next_chunk().unwrap();
    checkpoints.keep(reader.checkpoint().unwrap());
    assert_eq!(checkpoints.before(1).offset(), 0);
    assert_eq!(checkpoints.before(u64::MAX).offset(), layer.len());
    assert_eq!(checkpoints.last(8).len(), 1);
}

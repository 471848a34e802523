//! No stale digest: a file that changes before, while or after it is read is an error that names it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crossdock_storage::{
    Cancel, Compression, Entry, EntryKind, Error, FenceBreach, FileContent, Hasher, IoMode, Layer, LayerPath,
    LayerReader, LayerWatch, MemoStore, NewLayer, ReadOptions, SourceFile, VirtualLayer, encode_entries,
    in_lanes,
};

const MIB: usize = 1 << 20;

fn entry(path: &str, file: &Path) -> Entry {
    Entry {
        path: LayerPath::clean(path).unwrap(),
        kind: EntryKind::File(FileContent::Source(SourceFile::stat(file).unwrap())),
        mode: 0o644,
        uid: 0,
        gid: 0,
        xattrs: crossdock_storage::Xattrs::default(),
    }
}

fn layer_of(file: &Path) -> VirtualLayer {
    encode_entries(&[entry("models/weights", file)], 0).unwrap()
}

fn options(io: IoMode) -> ReadOptions {
    ReadOptions { io, ..ReadOptions::default() }
}

/// Reads half of a layer, lets `change` do its work, and reads on until the error that must come.
fn changed_in_the_middle(io: IoMode, change: impl FnOnce(&Path)) -> (FenceBreach, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weights");
    fs::write(&file, vec![7; 16 * MIB]).unwrap();
    let layer = layer_of(&file);
    let mut reader = LayerReader::new(&layer, Compression::None, &options(io));
    while reader.position() < 6 * MIB as u64 {
        reader.next_chunk().unwrap().unwrap();
    }
    change(&file);
    let error = loop {
        match reader.next_chunk() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the change went unnoticed"),
            Err(error) => break error,
        }
    };
    assert!(matches!(reader.finish(), Err(Error::Interrupted)), "there is no digest of half a layer");
    match error {
        Error::Changed { path, breach } => (breach, path.strip_prefix(directory.path()).unwrap().to_owned()),
        other => panic!("{other}"),
    }
}

#[test]
fn a_file_that_is_truncated_while_it_is_mapped_is_named_and_does_not_kill_us() {
    for io in [IoMode::Mmap, IoMode::Read] {
        let (breach, path) = changed_in_the_middle(io, |file| {
            OpenOptions::new().write(true).open(file).unwrap().set_len(4096).unwrap();
        });
        assert_eq!(path, Path::new("weights"));
        match breach {
            FenceBreach::Size { expected, actual } => {
                assert_eq!((expected, actual), (16 * MIB as u64, 4096));
            }
            FenceBreach::Truncated { .. } => assert_eq!(io, IoMode::Read),
            other => panic!("{io:?}: {other}"),
        }
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_is_an_error() {
    for io in [IoMode::Mmap, IoMode::Read] {
        let (breach, _) = changed_in_the_middle(io, |file| {
            OpenOptions::new().append(true).open(file).unwrap().write_all(b"more").unwrap();
        });
        assert_eq!(breach, FenceBreach::Size { expected: 16 * MIB as u64, actual: 16 * MIB as u64 + 4 });
    }
}

#[test]
fn a_byte_written_in_place_while_it_is_read_is_an_error() {
    let (breach, _) = changed_in_the_middle(IoMode::Mmap, |file| {
        // The file system's clock has ticks: let one pass.
        std::thread::sleep(Duration::from_millis(30));
        OpenOptions::new().write(true).open(file).unwrap().write_all(b"x").unwrap();
    });
    assert_eq!(breach, FenceBreach::Modified);
}

#[test]
fn another_file_in_its_place_is_an_error_before_a_byte_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weights");
    fs::write(&file, vec![7; MIB]).unwrap();
    let layer = layer_of(&file);
    fs::write(directory.path().join("other"), vec![8; MIB]).unwrap();
    fs::rename(directory.path().join("other"), &file).unwrap();
    let options = ReadOptions::default();
    let error =
        LayerReader::new(&layer, Compression::None, &options).drain(&LayerWatch::silent()).unwrap_err();
    assert!(matches!(error, Error::Changed { breach: FenceBreach::Replaced, .. }), "{error}");
    assert_eq!(options.counters.read(), 0);

    fs::remove_file(&file).unwrap();
    let error =
        LayerReader::new(&layer, Compression::None, &options).drain(&LayerWatch::silent()).unwrap_err();
    assert!(
        error.to_string().contains("weights changed since the build looked at it: it is gone"),
        "{error}"
    );
}

/// Digests layers, so many at a time.
fn digest_all(
    layers: &[VirtualLayer],
    lanes: usize,
    compression: Compression,
    options: &ReadOptions,
) -> Vec<Layer> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cancel = Cancel::default();
    let digested = in_lanes(layers.to_vec(), lanes, &cancel, |_, layer| {
        let options = options.clone();
        async move {
            let layer = NewLayer { title: String::new(), layer, compression, known: None };
            layer.digest(&options, &LayerWatch::silent()).await
        }
    });
    runtime.block_on(digested).unwrap()
}

#[test]
fn digests_do_not_depend_on_how_bytes_come_in_or_on_the_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    let mut layers = Vec::new();
    for (name, len) in [("a", 0), ("b", 100), ("c", 128 << 10), ("d", 9 * MIB + 3)] {
        let file = directory.path().join(name);
        fs::write(&file, (0..len).map(|i| u8::try_from(i % 253).unwrap()).collect::<Vec<_>>()).unwrap();
        layers.push(layer_of(&file));
    }
    let reference: Vec<_> = layers
        .iter()
        .map(|layer| {
            let mut hasher = Hasher::new();
            for chunk in layer.bytes_from(0, &ReadOptions::default()) {
                hasher.update(&chunk.unwrap());
            }
            hasher.finish()
        })
        .collect();
    for io in [IoMode::Auto, IoMode::Mmap, IoMode::Read] {
        for lanes in [1, 8] {
            let hashed = digest_all(&layers, lanes, Compression::None, &options(io));
            let digests: Vec<_> = hashed.iter().map(|l| l.descriptor.digest().clone()).collect();
            assert_eq!(digests, reference, "{io:?} {lanes}");
            assert!(hashed.iter().zip(&layers).all(|(h, l)| h.descriptor.size() == l.len()));
        }
    }
}

#[test]
fn more_compressed_layers_than_threads_come_to_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weights");
    fs::write(&file, vec![7; 3 * MIB]).unwrap();
    // Each waits for pieces that the same pool compresses and windows that it maps.
    let lanes = 4 * std::thread::available_parallelism().map_or(8, |cores| cores.get().max(8));
    let layers = vec![layer_of(&file); lanes];
    for compression in [Compression::Gzip { level: 1 }, Compression::Zstd { level: 1 }] {
        let hashed = digest_all(&layers, lanes, compression, &ReadOptions::default());
        assert!(hashed.iter().all(|layer| layer == &hashed[0]));
        assert!(hashed[0].descriptor.size() < layers[0].len() / 10);
    }
}

#[test]
fn reading_ends_at_the_word_to_stop() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weights");
    // More than what is with the compressors at a time.
    fs::write(&file, vec![7; 24 * MIB]).unwrap();
    for compression in [Compression::None, Compression::Zstd { level: 1 }] {
        let options = ReadOptions::default();
        let mut reader = LayerReader::new(&layer_of(&file), compression, &options);
        assert!(reader.next_chunk().unwrap().is_some());
        options.cancel.cancel();
        let rest = std::iter::from_fn(|| reader.next_chunk().transpose()).find(Result::is_err);
        assert!(matches!(rest, Some(Err(Error::Interrupted))), "{compression:?}");
    }
}

#[test]
fn a_memo_holds_as_long_as_its_fence_and_not_for_files_written_just_now() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weights");
    fs::write(&file, vec![7; MIB]).unwrap();
    let layer = layer_of(&file);
    let digested = LayerReader::new(&layer, Compression::None, &ReadOptions::default())
        .drain(&LayerWatch::silent())
        .unwrap();
    let memos = MemoStore::new(directory.path());
    let now = SystemTime::now();
    assert!(!memos.remember(&layer, Compression::None, &digested, now).unwrap(), "written just now");
    assert_eq!(memos.recall(&layer, Compression::None), None);

    let later = now + Duration::from_secs(5);
    assert!(memos.remember(&layer, Compression::None, &digested, later).unwrap());
    assert_eq!(memos.recall(&layer, Compression::None), Some(digested.clone()));
    assert_eq!(memos.recall(&layer, Compression::Zstd { level: 3 }), None, "another way to store it");
    assert_eq!(memos.recall(&layer_of(&file), Compression::None), Some(digested), "looked at again");

    std::thread::sleep(Duration::from_millis(30));
    fs::write(&file, vec![8; MIB]).unwrap();
    assert_eq!(memos.recall(&layer_of(&file), Compression::None), None, "the file is another now");
}

#[test]
fn a_damaged_memo_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let layer = VirtualLayer::new([crossdock_storage::Segment::Inline("x".into())]);
    let digested = LayerReader::new(&layer, Compression::None, &ReadOptions::default())
        .drain(&LayerWatch::silent())
        .unwrap();
    let memos = MemoStore::new(directory.path());
    assert!(memos.remember(&layer, Compression::None, &digested, SystemTime::now()).unwrap());
    let mut damaged = 0;
    for group in fs::read_dir(directory.path().join("memo")).unwrap() {
        for memo in fs::read_dir(group.unwrap().path()).unwrap() {
            fs::write(memo.unwrap().path(), b"{").unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    assert_eq!(memos.recall(&layer, Compression::None), None);
}

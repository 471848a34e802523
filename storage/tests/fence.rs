//! No stale digest: a file that changes before, while or after it is read is an error that names it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crossdock_storage::{
    Cancel, Compression, Entry, EntryKind, Error, FenceBreach, FileContent, FileState, Hasher, IoMode, Layer,
    LayerPath, LayerReader, LayerWatch, MemoStore, NewLayer, ReadOptions, Recalled, SourceFile, VirtualLayer,
    encode_entries, in_lanes,
};

const MIB: usize = 1 << 20;

fn entry(path: &str, file: &Path) -> Entry {
    Entry {
        path: LayerPath::clean(path).unwrap(),
        kind: EntryKind::File(FileContent::Source(SourceFile::stat(file).unwrap())),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: crossdock_storage::Xattrs::default(),
    }
}

fn layer_of(file: &Path) -> VirtualLayer {
    encode_entries(vec![entry("models/weights", file)], 0).unwrap()
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
    // More than a compressor takes in before it gives something out.
    fs::write(&file, vec![7; 64 * MIB]).unwrap();
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
    let same = Some(Recalled { layer: digested, state: FileState::Same });
    assert_eq!(memos.recall(&layer, Compression::None), same);
    assert_eq!(memos.recall(&layer, Compression::Zstd { level: 3 }), None, "another way to store it");
    assert_eq!(memos.recall(&layer_of(&file), Compression::None), same, "looked at again");

    std::thread::sleep(Duration::from_millis(30));
    fs::write(&file, vec![8; MIB]).unwrap();
    assert_eq!(memos.recall(&layer_of(&file), Compression::None), None, "the file is another now");
}

/// Moves the change time of a file, and nothing else of its fence.
fn touch(file: &Path) {
    let before = fs::metadata(file).unwrap();
    // The file system's clock has ticks: let one pass.
    std::thread::sleep(Duration::from_millis(30));
    fs::set_permissions(file, before.permissions()).unwrap();
    let after = fs::metadata(file).unwrap();
    assert_eq!((before.ino(), before.size(), before.modified().unwrap()), {
        (after.ino(), after.size(), after.modified().unwrap())
    });
    assert_ne!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()));
}

/// Writes to a file and sets its modification time back.
fn rewrite(file: &Path, offset: u64) {
    let modified = fs::metadata(file).unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(b"other bytes", offset).unwrap();
    file.set_modified(modified).unwrap();
}

fn digest(layer: &VirtualLayer) -> Layer {
    LayerReader::new(layer, Compression::None, &ReadOptions::default()).drain(&LayerWatch::silent()).unwrap()
}

const LEN: u64 = 16 * MIB as u64;

/// Reads six mebibytes of a file of sixteen, lets `change` do its work, and reads to the end.
fn read_while(
    compression: Compression,
    known: bool,
    change: impl FnOnce(&Path),
) -> (Layer, Result<Layer, Error>, u64) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weights");
    fs::write(&file, vec![7; 16 * MIB]).unwrap();
    let layer = layer_of(&file);
    let before = LayerReader::new(&layer, compression, &ReadOptions::default());
    let before = before.drain(&LayerWatch::silent()).unwrap();
    let options = ReadOptions::default();
    let mut reader =
        LayerReader::new(&layer, compression, &options).with_known(Some(&before).filter(|_| known));
    while reader.position() < 6 * MIB as u64 {
        reader.next_chunk().unwrap().unwrap();
    }
    change(&file);
    let after = reader.drain(&LayerWatch::silent());
    (before, after, options.counters.read())
}

#[test]
fn a_change_time_that_moves_while_a_file_is_read_costs_another_reading_and_is_no_error() {
    for compression in [Compression::None, Compression::Gzip { level: 1 }] {
        let (before, after, read) = read_while(compression, false, touch);
        assert_eq!((after.unwrap(), read), (before, 2 * LEN), "{compression:?}");
        // A digest that is known is the other reading.
        let (before, after, read) = read_while(compression, true, touch);
        assert_eq!((after.unwrap(), read), (before, LEN), "{compression:?}");
    }
}

#[test]
fn bytes_written_while_a_file_is_read_are_found_though_its_modification_time_is_set_back() {
    for (known, offset) in [(false, 100), (true, LEN - 100)] {
        let (_, after, _) = read_while(Compression::None, known, |file| rewrite(file, offset));
        let error = after.unwrap_err();
        assert!(matches!(error, Error::Changed { breach: FenceBreach::Rewritten, .. }), "{known} {error}");
    }
}

#[test]
fn a_change_time_that_moves_before_a_file_is_read_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    for len in [100, MIB] {
        let file = directory.path().join("weights");
        fs::write(&file, vec![7; len]).unwrap();
        let layer = layer_of(&file);
        let before = digest(&layer);
        touch(&file);
        assert_eq!(digest(&layer), before);
        // What is hashed is what the file is now.
        rewrite(&file, 10);
        assert_ne!(digest(&layer), before);
        assert_eq!(digest(&layer), digest(&layer_of(&file)));
    }
}

#[test]
fn reading_that_goes_on_after_a_chown_reads_the_beginning_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weights");
    fs::write(&file, vec![7; 16 * MIB]).unwrap();
    let layer = layer_of(&file);
    let whole = digest(&layer);
    let mut reader = LayerReader::new(&layer, Compression::None, &ReadOptions::default());
    while reader.position() < 6 * MIB as u64 {
        reader.next_chunk().unwrap().unwrap();
    }
    let checkpoint = reader.checkpoint().unwrap();
    let resumed = || {
        let options = ReadOptions::default();
        let reader = LayerReader::resume(&layer, &checkpoint, checkpoint.offset(), &options);
        (reader.drain(&LayerWatch::silent()), options.counters.read())
    };
    let (layer_again, read) = resumed();
    assert_eq!(layer_again.unwrap(), whole);
    assert!(read < LEN, "{read}");
    touch(&file);
    let (layer_again, read) = resumed();
    assert_eq!(layer_again.unwrap(), whole);
    assert!(read > LEN, "{read}");
    rewrite(&file, 100);
    let error = resumed().0.unwrap_err();
    assert!(matches!(error, Error::Changed { breach: FenceBreach::Rewritten, .. }), "{error}");
}

#[test]
fn a_memo_says_whether_the_change_times_are_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weights");
    fs::write(&file, vec![7; MIB]).unwrap();
    let layer = layer_of(&file);
    let digested = digest(&layer);
    let memos = MemoStore::new(directory.path());
    let later = SystemTime::now() + Duration::from_secs(5);
    let recalled = |state| Some(Recalled { layer: digested.clone(), state });
    assert!(memos.remember(&layer, Compression::None, &digested, later).unwrap());
    assert_eq!(memos.recall(&layer, Compression::None), recalled(FileState::Same));
    touch(&file);
    assert_eq!(memos.recall(&layer_of(&file), Compression::None), recalled(FileState::Touched));

    // A change time of just now may hide a further change; a modification time that is old hides no writing.
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    fs::File::open(&file).unwrap().set_modified(old).unwrap();
    let layer = layer_of(&file);
    assert_eq!(memos.recall(&layer, Compression::None), None, "another modification time, another layer");
    assert!(memos.remember(&layer, Compression::None, &digested, SystemTime::now()).unwrap());
    assert_eq!(memos.recall(&layer, Compression::None), recalled(FileState::Touched));
    assert!(memos.remember(&layer, Compression::None, &digested, later).unwrap());
    assert_eq!(memos.recall(&layer, Compression::None), recalled(FileState::Same));
}

#[test]
fn a_memo_of_another_version_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let layer = VirtualLayer::new([crossdock_storage::Segment::Inline("x".into())]);
    let memos = MemoStore::new(directory.path());
    assert!(memos.remember(&layer, Compression::None, &digest(&layer), SystemTime::now()).unwrap());
    for group in fs::read_dir(directory.path().join("memo")).unwrap() {
        for memo in fs::read_dir(group.unwrap().path()).unwrap() {
            let path = memo.unwrap().path();
            let mut memo: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            memo["version"] = 1.into();
            memo.as_object_mut().unwrap().remove("change_times");
            fs::write(&path, memo.to_string()).unwrap();
        }
    }
    assert_eq!(memos.recall(&layer, Compression::None), None);
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

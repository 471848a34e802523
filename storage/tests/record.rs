//! Image records: written and read again, with names that move, damage that stands in nobody's way, and files that
//! must be what they were.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{
    Compression, DiffId, Entry, EntryKind, Error, FenceBreach, FileContent, FileState, Hasher, ImageRecord,
    Layer, LayerPath, LayerReader, MediaType, Packed, ReadOptions, RecordStore, RecordedLayer,
    RecordedOrigin, Segment, SourceFile, Special, VirtualLayer, Xattrs, encode_entries,
};
use serde_json::json;

fn nowhere(name: &str) -> Result<Arc<dyn crossdock_storage::ImageSource>, Error> {
    panic!("nothing is asked for, not {name}")
}

fn layer_of(file: &Path) -> (VirtualLayer, Layer) {
    let file = SourceFile::stat(file).unwrap();
    let layer = VirtualLayer::new([
        Segment::Inline(Bytes::from_static(b"head\0\xff")),
        Segment::Extent { len: file.size(), file, offset: 0 },
    ]);
    let mut reader = LayerReader::new(&layer, Compression::None, &ReadOptions::default());
    while reader.next_chunk().unwrap().is_some() {}
    (layer, reader.finish().unwrap())
}

/// An image with one layer of files and one that is elsewhere.
fn image(file: &Path, author: &str) -> (ImageRecord, Vec<RecordedLayer>) {
    let (files, layer) = layer_of(file);
    let other = Layer {
        descriptor: crossdock_storage::Descriptor::new(
            MediaType::ImageLayerGzip,
            7,
            Hasher::digest(b"gzipped"),
        ),
        diff_id: DiffId::of_tar(Hasher::digest(b"other")),
    };
    let config = json!({
        "architecture": "amd64", "os": "linux", "author": author,
        "rootfs": {"type": "layers", "diff_ids": [other.diff_id, layer.diff_id]},
    });
    let config = Bytes::from(config.to_string());
    let descriptor = crossdock_storage::Descriptor::new(
        MediaType::ImageConfig,
        config.len() as u64,
        Hasher::digest(&config),
    );
    let manifest = json!({
        "schemaVersion": 2, "config": descriptor, "layers": [other.descriptor, layer.descriptor],
    });
    let manifest = Bytes::from(manifest.to_string());
    let descriptor = crossdock_storage::Descriptor::new(
        MediaType::ImageManifest,
        manifest.len() as u64,
        Hasher::digest(&manifest),
    );
    let layers = vec![
        RecordedLayer {
            title: "base".to_owned(),
            layer: other,
            origin: RecordedOrigin::Image("docker://registry.example/base:1".to_owned()),
        },
        RecordedLayer {
            title: "model".to_owned(),
            layer,
            origin: RecordedOrigin::Files { layer: files, compression: Compression::None },
        },
    ];
    (ImageRecord::new(descriptor, manifest, config), layers)
}

struct Place {
    directory: tempfile::TempDir,
    store: RecordStore,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = RecordStore::new(&directory.path().join("root"));
        Self { directory, store }
    }

    fn file(&self, name: impl AsRef<Path>) -> std::path::PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, "weights").unwrap();
        path
    }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let place = Place::new();
    let path = place.file(std::ffi::OsStr::from_bytes(b"w\xe9ights"));
    let (image, layers) = image(&path, "me");
    place.store.put(&image, &layers, ["localhost/m:1", "localhost/m:2"]).unwrap();

    let digest = place.store.named("localhost/m:2").unwrap().unwrap();
    assert_eq!(&digest, image.manifest.digest());
    let found = place.store.image(&digest).unwrap().unwrap();
    assert_eq!(found, image);
    let read = place.store.layers(&found).unwrap();
    assert_eq!(
        read.iter().map(|l| &l.layer).collect::<Vec<_>>(),
        layers.iter().map(|l| &l.layer).collect::<Vec<_>>()
    );
    match (&read[0].origin, &read[1].origin, &layers[1].origin) {
        (
            RecordedOrigin::Image(name),
            RecordedOrigin::Files { layer, compression },
            RecordedOrigin::Files { layer: written, .. },
        ) => {
            assert_eq!(
                (name.as_str(), *compression),
                ("docker://registry.example/base:1", Compression::None)
            );
            assert_eq!(layer, written);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(place.store.named("localhost/m:3").unwrap(), None);
}

#[test]
fn names_move_and_go_with_their_image() {
    let place = Place::new();
    let path = place.file("w");
    let ((old, old_layers), (new, new_layers)) = (image(&path, "old"), image(&path, "new"));
    place.store.put(&old, &old_layers, ["localhost/m:1", "localhost/other:1"]).unwrap();
    place.store.put(&new, &new_layers, ["localhost/m:1"]).unwrap();
    let names = |image: &ImageRecord| {
        let records = place.store.list().unwrap();
        records.names_of(image.manifest.digest()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&old), names(&new)),
        (vec!["localhost/other:1".to_owned()], vec!["localhost/m:1".to_owned()])
    );

    place.store.tag(old.manifest.digest(), "localhost/third:1").unwrap();
    assert!(place.store.untag("localhost/other:1").unwrap());
    assert!(!place.store.untag("localhost/other:1").unwrap());
    assert!(place.store.remove(old.manifest.digest()).unwrap());
    assert!(!place.store.remove(old.manifest.digest()).unwrap());
    assert_eq!(place.store.named("localhost/third:1").unwrap(), None);
    assert!(place.store.tag(old.manifest.digest(), "localhost/m:1").is_err());
    let records = place.store.list().unwrap();
    assert_eq!((records.images, records.names.len(), records.damaged.len()), (vec![new], 1, 0));
}

#[test]
fn a_damaged_record_is_named_and_stands_in_nobodys_way() {
    let place = Place::new();
    let path = place.file("w");
    let ((good, good_layers), (bad, bad_layers)) = (image(&path, "good"), image(&path, "bad"));
    place.store.put(&good, &good_layers, ["localhost/good:1"]).unwrap();
    place.store.put(&bad, &bad_layers, ["localhost/bad:1"]).unwrap();
    let root = place.directory.path().join("root");
    let at =
        |image: &ImageRecord| root.join(format!("images/{}.jsonl.zst", image.manifest.digest().digest()));

    let whole = fs::read(at(&bad)).unwrap();
    for damage in
        [Vec::new(), b"no record".to_vec(), whole[..whole.len() / 2].to_vec(), fs::read(at(&good)).unwrap()]
    {
        fs::write(at(&bad), &damage).unwrap();
        fs::write(root.join("images/.tmp123"), "half").unwrap();
        let records = place.store.list().unwrap();
        // Half a record may still say which image it is of; its layers are gone.
        let usable = records.images.iter().any(|image| image == &bad);
        if usable {
            let error = place.store.layers(&bad).unwrap_err().to_string();
            assert!(error.contains(&at(&bad).display().to_string()), "{error}");
        } else {
            assert_eq!(records.damaged.len(), 1, "{records:?}");
            assert_eq!(records.damaged[0].0, at(&bad));
            assert!(matches!(place.store.image(bad.manifest.digest()), Err(Error::Unusable(_))));
        }
        assert!(records.images.contains(&good));
        assert!(place.store.layers(&good).is_ok());
    }
}

/// The layer that a record has of a layer.
fn recorded(place: &Place, file: &Path, layer: VirtualLayer) -> VirtualLayer {
    let (image, mut layers) = image(file, "me");
    layers[1].origin = RecordedOrigin::Files { layer, compression: Compression::None };
    place.store.put(&image, &layers, []).unwrap();
    let origin = place.store.layers(&image).unwrap().remove(1).origin;
    let RecordedOrigin::Files { layer, .. } = origin else { panic!("{origin:?}") };
    layer
}

#[test]
fn a_layer_of_entries_comes_back_with_all_there_is_of_each() {
    let place = Place::new();
    fs::create_dir(place.directory.path().join("d")).unwrap();
    let [first, second, third] = ["a", "d/b", "c"].map(|name| SourceFile::stat(place.file(name)).unwrap());
    let packed = Packed::of_file(third.clone());
    let parts = VirtualLayer::new([
        Segment::Extent { file: third.clone(), offset: 2, len: 3 },
        Segment::Zeros(600),
        Segment::Packed { packed, offset: 9, len: 4, digest: None },
    ]);
    let special = |special| EntryKind::Special(special);
    let target = |path: &str| LayerPath::clean(path).unwrap();
    let kinds = [
        ("m", EntryKind::Directory),
        ("m/0", EntryKind::File(FileContent::Source(first))),
        ("m/1", EntryKind::File(FileContent::Source(second))),
        ("m/2", EntryKind::File(FileContent::Source(third))),
        ("m/3", EntryKind::File(FileContent::Inline(Bytes::from_static(b"\0\xff")))),
        ("m/4", EntryKind::File(FileContent::Inline(Bytes::new()))),
        ("m/5", EntryKind::File(FileContent::Parts(parts))),
        ("m/6", EntryKind::Symlink { target: Bytes::from_static(b"../\xe9") }),
        ("m/7", EntryKind::HardLink { target: target("m/0") }),
        ("m/8", special(Special::Fifo)),
        ("m/9", special(Special::Block(7, 1))),
    ];
    let attribute = |name: &'static str| (Bytes::from(name), Bytes::from_static(b"\0=\n"));
    let entries = kinds.into_iter().zip(0..).map(|((path, kind), number)| Entry {
        path: target(path),
        xattrs: match kind {
            EntryKind::File(_) => Xattrs::new([attribute("user.b"), attribute("user.a")]),
            _ => Xattrs::default(),
        },
        kind,
        mode: 0o4750 + number % 8,
        uid: number,
        gid: u32::MAX - number,
        mtime: number % 3,
    });
    let layer = encode_entries(entries.collect(), 1_600_000_000).unwrap();
    let back = recorded(&place, &place.file("w"), layer.clone());
    assert_eq!(back, layer);
    assert_eq!(back.entries().unwrap().len(), 11);
    assert!(back.segments().eq(layer.segments()), "the archive is the same");
}

#[test]
fn a_record_of_the_first_version_is_read() {
    let place = Place::new();
    let path = place.file("w");
    let (image, layers) = image(&path, "me");
    place.store.put(&image, &layers, []).unwrap();
    let file = place.store.root().join(format!("images/{}.jsonl.zst", image.manifest.digest().digest()));
    let rewrite = |from: &str, to: &str| {
        let text = String::from_utf8(zstd::decode_all(fs::File::open(&file).unwrap()).unwrap()).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&file, zstd::encode_all(text.replace(from, to).as_bytes(), 3).unwrap()).unwrap();
    };
    // A layer that is no list of entries is written as the first version wrote all layers.
    rewrite("\"version\":2", "\"version\":1");
    assert_eq!(place.store.layers(&image).unwrap().len(), layers.len());
    rewrite("\"version\":1", "\"version\":3");
    let error = place.store.layers(&image).unwrap_err().to_string();
    assert!(error.contains("of version 3"), "{error}");
}

#[test]
fn a_layer_is_renewed_and_its_files_are_what_they_were_or_the_reader_is_told() {
    let place = Place::new();
    let path = place.file("w");
    let (image, layers) = image(&path, "me");
    place.store.put(&image, &layers, []).unwrap();
    let recorded = place.store.layers(&image).unwrap().remove(1).origin;
    let RecordedOrigin::Files { layer, .. } = recorded else { panic!("{recorded:?}") };
    let (renewed, state) = layer.clone().renewed(&nowhere).unwrap();
    assert_eq!((&renewed, state), (&layer, FileState::Same));

    // Another mount of the same volume.
    let moved = VirtualLayer::new(layer.segments().map(|segment| match segment {
        Segment::Extent { file, offset, len } => {
            let fence = crossdock_storage::Fence { device: file.fence().device + 1, ..file.fence() };
            Segment::Extent { file: SourceFile::new(file.path(), fence), offset, len }
        }
        other => other,
    }));
    let (renewed, state) = moved.clone().renewed(&nowhere).unwrap();
    assert_eq!((&renewed, state), (&layer, FileState::Same));

    // Nothing but its change time is another.
    std::thread::sleep(std::time::Duration::from_millis(30));
    fs::set_permissions(&path, fs::metadata(&path).unwrap().permissions()).unwrap();
    let (renewed, state) = moved.clone().renewed(&nowhere).unwrap();
    assert_eq!(state, FileState::Touched);
    assert_eq!(SourceFile::check_all(renewed.files()).unwrap(), FileState::Same);

    let breach = || match SourceFile::check_all(moved.clone().renewed(&nowhere).unwrap().0.files()) {
        Err(Error::Changed { path: at, breach }) => {
            assert_eq!(at, path);
            breach
        }
        other => panic!("{other:?}"),
    };
    fs::write(&path, "WEIGHTS").unwrap();
    assert_eq!(breach(), FenceBreach::Modified);
    fs::write(&path, "more weights").unwrap();
    assert_eq!(breach(), FenceBreach::Size { expected: 7, actual: 12 });
    fs::remove_file(&path).unwrap();
    assert_eq!(breach(), FenceBreach::Removed);
}

#[test]
fn processes_that_record_at_the_same_time_lose_nothing() {
    let place = Place::new();
    let path = place.file("w");
    let store = Arc::new(place.store.clone());
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (store, path) = (Arc::clone(&store), &path);
            scope.spawn(move || {
                for round in 0..8 {
                    let (image, layers) = image(path, &format!("{worker} {round}"));
                    store
                        .put(&image, &layers, [format!("localhost/w{worker}:1").as_str(), "localhost/all:1"])
                        .unwrap();
                    store.list().unwrap();
                    if round > 0 && round % 2 == 0 {
                        store.remove(image.manifest.digest()).unwrap();
                    }
                }
            });
        }
    });
    let records = place.store.list().unwrap();
    assert_eq!(records.damaged.len(), 0, "{:?}", records.damaged);
    assert_eq!(records.images.len(), 8 * 5);
    for (name, image) in &records.names {
        assert!(records.images.iter().any(|record| record.manifest.digest() == image), "{name}");
    }
}

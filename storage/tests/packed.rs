//! Files that come out of streams: read again from any place, once where that is enough, and never as other bytes.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_storage::{
    BlobStream, Cancel, Compression, Descriptor, Detail, DiffId, Entry, EntryKind, Error, Hasher,
    ImageSource, IndexKind, Layer, LayerIndex, LayerReader, LayerWatch, MediaType, Packed, Platform,
    ReadOptions, ResolvedImage, Result, Segment, SourceArchive, SourceFile, VirtualLayer, encode_entries,
};

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Small and large files, named against their order.
fn files() -> Vec<(String, Vec<u8>)> {
    let sizes = [700_000, 10, 0, 513, 1_300_000, 4096, 90_000];
    sizes.iter().enumerate().map(|(i, size)| (format!("{}", 9 - i), noise(*size, 7 + i as u64))).collect()
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// What a program makes of its input.
fn piped(program: &str, input: Vec<u8>) -> Vec<u8> {
    let mut child =
        Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn bytes_from(layer: &VirtualLayer, offset: u64) -> Vec<u8> {
    layer.bytes_from(offset, &ReadOptions::default()).flat_map(|chunk| chunk.unwrap().to_vec()).collect()
}

fn layer_of(archive: &SourceArchive) -> VirtualLayer {
    let entries: Vec<_> = archive
        .entries
        .iter()
        .map(|entry| Entry {
            path: entry.path.clone(),
            kind: EntryKind::File(archive.content(entry).unwrap()),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: crossdock_storage::Xattrs::default(),
        })
        .collect();
    encode_entries(entries, 0).unwrap()
}

fn contents(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let mut files: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_compression_gives_the_files_again_from_any_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = files();
    let tar = tar(&expected);
    expected.sort();
    for program in ["cat", "gzip", "bzip2", "xz", "zstd"] {
        let path = directory.path().join(program);
        let packed = match program {
            "cat" => tar.clone(),
            program => piped(program, tar.clone()),
        };
        fs::write(&path, packed).unwrap();
        let archive =
            SourceArchive::read(&SourceFile::stat(&path).unwrap(), &Cancel::default()).unwrap().unwrap();
        let stop = Cancel::default();
        stop.cancel();
        let stopped = SourceArchive::read(&SourceFile::stat(&path).unwrap(), &stop);
        assert!(matches!(stopped, Err(Error::Interrupted)), "{program}: {stopped:?}");
        let layer = layer_of(&archive);
        let whole = bytes_from(&layer, 0);
        assert_eq!(whole.len() as u64, layer.len(), "{program}");
        assert_eq!(contents(&whole), expected, "{program}");
        for offset in [1, 511, 512, 700_000, 1_000_000, whole.len() - 1] {
            assert_eq!(bytes_from(&layer, offset as u64), whole[offset..], "{program} from {offset}");
        }
        // Each file was decoded on the way to the next: the archive was read once.
        let options = ReadOptions::default();
        let size = fs::metadata(&path).unwrap().len();
        LayerReader::new(&layer, Compression::None, &options).drain(&LayerWatch::silent()).unwrap();
        let read = options.counters.read();
        assert!(read <= size, "{program}: {read} of {size}");
        fs::write(&path, "other").unwrap();
        let error =
            LayerReader::new(&layer, Compression::None, &options).drain(&LayerWatch::silent()).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{program}: {error}");
    }
}

/// An image of one layer that counts what is taken of it.
#[derive(Debug)]
struct Source {
    blob: Mutex<Bytes>,
    taken: Arc<AtomicU64>,
}

#[async_trait]
impl ImageSource for Source {
    fn name(&self) -> String {
        "example.org/image:1".to_owned()
    }

    fn image_name(&self) -> Option<String> {
        None
    }

    fn locator(&self) -> String {
        self.name()
    }

    async fn resolve(&self, _platform: &Platform) -> Result<ResolvedImage> {
        unreachable!("only the blob is asked for")
    }

    async fn blob(&self, _blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let rest = self.blob.lock().unwrap().slice(usize::try_from(offset).unwrap()..);
        let chunks: Vec<_> = rest.chunks(64 << 10).map(|chunk| rest.slice_ref(chunk)).collect();
        let taken = Arc::clone(&self.taken);
        let count = move |chunk: Bytes| {
            taken.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            Ok(chunk)
        };
        Ok(Box::pin(futures_util::StreamExt::map(futures_util::stream::iter(chunks), count)))
    }
}

fn image(blob: Vec<u8>, tar: &[u8]) -> (Arc<Source>, Layer) {
    let descriptor = Descriptor::new(MediaType::ImageLayer, blob.len() as u64, Hasher::digest(&blob));
    let layer = Layer { descriptor, diff_id: DiffId::of_tar(Hasher::digest(tar)) };
    (Arc::new(Source { blob: Mutex::new(blob.into()), taken: Arc::default() }), layer)
}

/// The files of a layer of an image, each by itself, in the order of the layer.
fn parts(source: &Arc<Source>, layer: &Layer, index: &LayerIndex) -> Vec<Segment> {
    let packed = Packed::of_layer(source.clone(), layer.clone()).unwrap();
    let part = |entry: &crossdock_storage::IndexEntry| {
        let IndexKind::File(len) = entry.kind else { unreachable!("there are files only") };
        let (offset, digest) = (entry.offset.unwrap(), entry.digest.as_deref().cloned());
        Segment::Packed { packed: packed.clone(), offset, len, digest }
    };
    index.entries.iter().map(part).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_of_images_are_read_by_range_or_decoded_and_checked() {
    let files = files();
    let tar = tar(&files);
    for (compressed, blob) in [(false, tar.clone()), (true, zstd::encode_all(tar.as_slice(), 1).unwrap())] {
        let (source, layer) = image(blob.clone(), &tar);
        let index =
            LayerIndex::read(&*source, &layer, Detail::Contents, &LayerWatch::silent()).await.unwrap();
        assert!(index.has(Detail::Contents));
        let names = LayerIndex::read(&*source, &layer, Detail::Names, &LayerWatch::silent()).await.unwrap();
        assert!(!names.has(Detail::Contents));
        let segments = parts(&source, &layer, &index);
        for (segment, (name, bytes)) in segments.iter().zip(&files) {
            let alone = VirtualLayer::new([segment.clone()]);
            let check = tokio::task::spawn_blocking(move || {
                [0, alone.len() / 2].map(|offset| bytes_from(&alone, offset))
            });
            let [whole, half] = check.await.unwrap();
            assert!(whole == *bytes && half == bytes[bytes.len() / 2..], "{name}");
        }
        // The last file of an uncompressed layer is had without what is before it.
        let last = VirtualLayer::new([segments.last().unwrap().clone()]);
        source.taken.store(0, Ordering::SeqCst);
        tokio::task::spawn_blocking(move || bytes_from(&last, 0)).await.unwrap();
        let taken = source.taken.load(Ordering::SeqCst);
        assert_eq!(taken < 500_000, !compressed, "{taken}");

        // Bytes that came by once as others are not given out to the end.
        let mut other = tar.clone();
        other[300_000] = !other[300_000];
        let other = if compressed { zstd::encode_all(other.as_slice(), 1).unwrap() } else { other };
        *source.blob.lock().unwrap() = other.into();
        for offset in [0, 600_000] {
            let layer = VirtualLayer::new([segments[0].clone()]);
            let read = move || layer.bytes_from(offset, &ReadOptions::default()).collect::<Result<Vec<_>>>();
            let error = tokio::task::spawn_blocking(read).await.unwrap().unwrap_err();
            assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        }
    }
}

#[test]
fn a_blob_that_ends_early_is_an_error() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tar = tar(&files());
        let (source, layer) = image(tar.clone(), &tar);
        let index =
            LayerIndex::read(&*source, &layer, Detail::Contents, &LayerWatch::silent()).await.unwrap();
        let first = VirtualLayer::new([parts(&source, &layer, &index)[0].clone()]);
        *source.blob.lock().unwrap() = tar[..100_000].to_vec().into();
        let read = move || first.bytes_from(0, &ReadOptions::default()).collect::<Result<Vec<_>>>();
        let error = tokio::task::spawn_blocking(read).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("cannot be unpacked"), "{error}");
    });
}

#[test]
fn an_archive_whose_checksum_does_not_fit_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path: &Path = &directory.path().join("file");
    let read = |bytes: &[u8]| {
        fs::write(path, bytes).unwrap();
        SourceArchive::read(&SourceFile::stat(path).unwrap(), &Cancel::default())
    };
    let tar = tar(&files());
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = piped(program, tar.clone());
        // What does not fit is a byte of the noise that stands in there as it is, the checksum, or the end.
        let mut byte = packed.clone();
        let middle = byte.len() / 2;
        byte[middle] ^= 0x10;
        let mut check = packed.clone();
        let behind = check.len() - 6;
        check[behind] ^= 0x10;
        let end = packed[..packed.len() - 3].to_vec();
        for (what, bytes) in [("byte", byte), ("check", check), ("end", end)] {
            let error = read(&bytes).unwrap_err();
            assert!(matches!(error, Error::Unusable(_)), "{program}, {what}: {error:?}");
        }
    }
    // Several members, and zeros behind the last, are one archive.
    let (one, two) = tar.split_at(700_123);
    let mut members = [piped("gzip", one.to_vec()), piped("gzip", two.to_vec())].concat();
    members.extend([0; 10_240]);
    assert_eq!(read(&members).unwrap().unwrap().entries.len(), files().len());
    members.push(b'x');
    assert!(matches!(read(&members), Err(Error::Unusable(_))));
}

#[test]
fn a_directory_of_before_posix_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in [("dir/", &b""[..]), ("dir/f", b"x")] {
        let mut header = tar::Header::new_old();
        header.set_path(name).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.as_mut_bytes()[156] = 0;
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }
    let path = directory.path().join("v7.tar");
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    let archive =
        SourceArchive::read(&SourceFile::stat(&path).unwrap(), &Cancel::default()).unwrap().unwrap();
    assert!(matches!(archive.entries[0].kind, IndexKind::Directory));
    assert!(matches!(archive.entries[1].kind, IndexKind::File(1)));
}

#[test]
fn what_is_no_archive_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let path: &Path = &directory.path().join("file");
    for bytes in [
        b"".as_slice(),
        b"text",
        &[0; 4096],
        b"\x1f\x8b\x08odd",
        b"BZhodd",
        b"\xfd7zXZ\0odd",
        b"\x28\xb5\x2f\xfdodd",
    ] {
        fs::write(path, bytes).unwrap();
        let file = SourceFile::stat(path).unwrap();
        assert!(SourceArchive::read(&file, &Cancel::default()).unwrap().is_none(), "{bytes:?}");
    }
}

//! What goes on where it broke beside plain layers: compressed ones, a base's blobs, and the other lanes of a failed push.

use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_registry::{RegistryOptions, RegistrySink};
use crossdock_storage::{
    Abort, BlobStream, Compression, Descriptor, Hasher, ImageSink as _, ImageSource, LayerWatch, MediaType,
    NewLayer, Outcome, Platform, ReadOptions, ResolvedImage, Result, SinkPlan, SourceFile,
};
use futures_util::stream;

use crate::harness::{Files, Recorder, layer_of, options, push, reference, sink};
use crate::quirks::{Kind, Quirks};
use crate::uploads::{bytes_of, killed, pushed};

const LEN: usize = 5 << 20;

/// A file that was written within the last two seconds is not in the journal.
const RACY: Duration = Duration::from_millis(2100);

fn with_root(root: &tempfile::TempDir) -> RegistryOptions {
    RegistryOptions {
        root: Some(root.path().to_owned()),
        journal_every: Duration::from_millis(20),
        checkpoint_step: 1 << 20,
        ..options()
    }
}

/// The same bytes, stored in each way that is not as they are. They do not compress.
fn compressed(files: &Files) -> [NewLayer; 2] {
    [("gzip", Compression::Gzip { level: 1 }), ("zstd", Compression::Zstd { level: 1 })]
        .map(|(name, compression)| NewLayer { compression, ..files.layer(name, LEN, 7) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_layer_is_compressed_again_and_goes_on() {
    let files = Files::new();
    for layer in compressed(&files) {
        for kind in [Kind::Distribution3, Kind::Quay, Kind::Ghcr] {
            for lost in [0, 700_000] {
                let registry = Quirks::start(kind);
                registry.break_after(3_000_001);
                registry.forget(lost);
                let (again, retries) = pushed(&registry, options(), &layer).await;
                assert!((lost..lost + 1000).contains(&again), "{kind:?}: {again} sent again");
                assert!(retries.len() == 1 && retries[0].contains("goes on at byte"), "{retries:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_layer_starts_again_where_the_registry_drops_it() {
    let files = Files::new();
    let [layer, _] = compressed(&files);
    let registry = Quirks::start(Kind::Distribution2);
    registry.break_after(3_000_000);
    let (again, retries) = pushed(&registry, options(), &layer).await;
    assert!((3_000_000..3_001_000).contains(&again), "{again} sent again");
    assert!(retries.len() == 1 && retries[0].contains("again from its start"), "{retries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_of_a_compressed_layer_goes_on_in_another_process() {
    let files = Files::new();
    let layers = compressed(&files);
    tokio::time::sleep(RACY).await;
    for layer in layers {
        let root = tempfile::tempdir().unwrap();
        let registry = Quirks::start(Kind::Distribution3);
        killed(&registry, &with_root(&root), &layer, 3_000_000).await;
        pushed(&registry, with_root(&root), &layer).await;
        let again = registry.received().saturating_sub(bytes_of(&layer).len() as u64);
        assert!(again < 1000, "{again} sent again");
    }
}

/// Bytes that were read from files for this push.
async fn read_by_push(registry: &Quirks, root: &tempfile::TempDir, layer: &NewLayer) -> u64 {
    let sink = sink(with_root(root), &reference(registry.addr(), "a/b:1"));
    sink.prepare(&SinkPlan::default()).await.unwrap();
    let read = ReadOptions::default();
    sink.put_layer(layer, &read, &LayerWatch::silent()).await.unwrap();
    read.counters.read()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_goes_on_after_a_chown_and_hashes_again_what_the_registry_has() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    let path = files.path("a");
    tokio::time::sleep(RACY).await;
    for touched in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let registry = Quirks::start(Kind::Distribution3);
        killed(&registry, &with_root(&root), &layer, 3_000_000).await;
        if touched {
            std::fs::set_permissions(&path, std::fs::metadata(&path).unwrap().permissions()).unwrap();
        }
        let now = layer_of(&SourceFile::stat(&path).unwrap());
        let read = read_by_push(&registry, &root, &now).await;
        assert_eq!(read == LEN as u64, touched, "{read}");
        assert!(registry.received() < now.layer.len() + 1000, "{} sent", registry.received());
        let digest = Hasher::digest(&bytes_of(&now)).to_string();
        assert!(registry.blob("a/b", &digest).unwrap() == bytes_of(&now), "byte for byte");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_of_a_file_written_to_meanwhile_becomes_the_blob_of_the_new_bytes() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    let path = files.path("a");
    tokio::time::sleep(RACY).await;
    let root = tempfile::tempdir().unwrap();
    let registry = Quirks::start(Kind::Distribution3);
    killed(&registry, &with_root(&root), &layer, 3_000_000).await;
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    // In what the registry has.
    file.write_all_at(b"other bytes", 100).unwrap();
    file.set_modified(modified).unwrap();
    let now = layer_of(&SourceFile::stat(&path).unwrap());
    let (again, retries) = pushed(&registry, with_root(&root), &now).await;
    assert_eq!(retries.len(), 1, "the registry refuses what came together: {retries:?}");
    assert!(again > 0, "all goes once more");
}

/// A blob in memory that writes down from where it was read.
#[derive(Debug)]
struct Memory {
    bytes: Bytes,
    /// What it gives from another offset than 0 is something else, so many times.
    lies: Mutex<usize>,
    opened: Mutex<Vec<u64>>,
}

impl Memory {
    fn new(lies: usize) -> Self {
        let bytes: Vec<u8> = (0..LEN as u64).map(|i| (i * i / 7).to_le_bytes()[0]).collect();
        Self { bytes: bytes.into(), lies: Mutex::new(lies), opened: Mutex::default() }
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::new(MediaType::ImageLayer, self.bytes.len() as u64, Hasher::digest(&self.bytes))
    }

    fn opened(&self) -> Vec<u64> {
        self.opened.lock().unwrap().clone()
    }

    async fn push(&self, sink: &RegistrySink, watch: &LayerWatch) -> Result<Outcome> {
        sink.prepare(&SinkPlan::default()).await?;
        sink.take_blob(&self.descriptor(), None, self, watch).await
    }
}

#[async_trait]
impl ImageSource for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn image_name(&self) -> Option<String> {
        None
    }

    fn locator(&self) -> String {
        self.name()
    }

    async fn resolve(&self, _platform: &Platform) -> Result<ResolvedImage> {
        unreachable!("only its blob is asked for")
    }

    async fn blob(&self, _blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        self.opened.lock().unwrap().push(offset);
        let mut rest = self.bytes.slice(usize::try_from(offset).unwrap()..);
        let mut lies = self.lies.lock().unwrap();
        if offset > 0 && *lies > 0 {
            *lies -= 1;
            rest = vec![0; rest.len()].into();
        }
        let chunks: Vec<_> = rest.chunks(100_000).map(|chunk| Ok(rest.slice_ref(chunk))).collect();
        Ok(Box::pin(stream::iter(chunks)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_the_base_goes_on_where_it_broke() {
    for kind in [Kind::Distribution3, Kind::Quay, Kind::Ghcr] {
        for lost in [0, 700_000] {
            let registry = Quirks::start(kind);
            let base = Memory::new(0);
            registry.break_after(3_000_001);
            registry.forget(lost);
            let mut options = options();
            if kind == Kind::Ghcr {
                options.upload = Some(crossdock_registry::UploadStyle::Stream { with_length: false });
            }
            let (recorder, watch) = Recorder::watch();
            let sink = sink(options, &reference(registry.addr(), "a/b:1"));
            assert_eq!(base.push(&sink, &watch).await.unwrap(), Outcome::Sent);
            assert_eq!(base.opened(), [0, 3_000_001 - lost], "{kind:?}");
            assert_eq!(registry.received(), LEN as u64 + lost);
            let digest = base.descriptor().digest().to_string();
            assert!(registry.blob("a/b", &digest).unwrap() == base.bytes, "byte for byte");
            assert_eq!((recorder.retries(), registry.open_uploads()), (1, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_came_together_wrong_is_sent_once_more_from_its_start() {
    let registry = Quirks::start(Kind::Distribution3);
    let base = Memory::new(1);
    registry.break_after(3_000_000);
    let sink = sink(options(), &reference(registry.addr(), "a/b:1"));
    assert_eq!(base.push(&sink, &LayerWatch::silent()).await.unwrap(), Outcome::Sent);
    assert_eq!(base.opened(), [0, 3_000_000, 0]);
    let digest = base.descriptor().digest().to_string();
    assert!(registry.blob("a/b", &digest).unwrap() == base.bytes, "byte for byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_the_base_goes_on_in_another_process() {
    for (kind, from) in [(Kind::Distribution3, 3_000_000), (Kind::Zot, 0)] {
        let root = tempfile::tempdir().unwrap();
        let registry = Quirks::start(kind);
        let base = Memory::new(0);
        registry.hang_after(3_000_000);
        let to = reference(registry.addr(), "a/b:1");
        let first = sink(with_root(&root), &to);
        let watch = LayerWatch::silent();
        tokio::time::timeout(Duration::from_millis(600), base.push(&first, &watch)).await.unwrap_err();
        drop(first);
        tokio::time::sleep(Duration::from_millis(200)).await;
        base.push(&sink(with_root(&root), &to), &watch).await.unwrap();
        assert_eq!(base.opened(), [0, from], "{kind:?}");
        assert_eq!(registry.open_uploads(), 0);
    }
}

/// Begins a push of two layers, of which one hangs; gives what an abort leaves of it.
async fn aborted(options: RegistryOptions, layer: &NewLayer, why: Abort) -> Quirks {
    let registry = Quirks::start(Kind::Distribution3);
    registry.hang_after(3_000_000);
    let sink = sink(options, &reference(registry.addr(), "a/b:1"));
    sink.prepare(&SinkPlan::default()).await.unwrap();
    let (read, watch) = (ReadOptions::default(), LayerWatch::silent());
    let put = sink.put_layer(layer, &read, &watch);
    tokio::time::timeout(Duration::from_millis(600), put).await.unwrap_err();
    sink.abort(why).await;
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_ended_leaves_the_uploads_of_its_lanes_to_the_next() {
    let files = Files::new();
    let layer = Arc::new(files.layer("a", LEN, 7));
    tokio::time::sleep(RACY).await;
    for why in [Abort::Failed, Abort::Interrupted] {
        // Noted on the way, and only at the end.
        for journal_every in [Duration::from_millis(20), Duration::from_secs(60)] {
            let root = tempfile::tempdir().unwrap();
            let options = RegistryOptions { journal_every, ..with_root(&root) };
            let registry = aborted(options.clone(), &layer, why).await;
            assert_eq!(registry.open_uploads(), 1);
            let (_, retries) = pushed(&registry, options, &layer).await;
            assert!(retries.is_empty(), "{retries:?}");
            assert!(registry.received() < layer.layer.len() + 1000, "nothing was sent twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_nobody_can_go_on_with_are_cancelled() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    for why in [Abort::Failed, Abort::Interrupted] {
        let registry = aborted(options(), &layer, why).await;
        assert_eq!(registry.open_uploads(), 0, "{why:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_fails_for_good_is_noted_at_its_last_place() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    tokio::time::sleep(RACY).await;
    let root = tempfile::tempdir().unwrap();
    let registry = Quirks::start(Kind::Distribution3);
    let mut once = RegistryOptions { journal_every: Duration::from_secs(60), ..with_root(&root) };
    once.retry.retries = 0;
    registry.break_after(3_000_000);
    let to = reference(registry.addr(), "a/b:1");
    push(&sink(once, &to), std::slice::from_ref(&layer)).await.unwrap_err();
    assert_eq!(registry.open_uploads(), 1);
    pushed(&registry, with_root(&root), &layer).await;
    assert!(registry.received() < layer.layer.len() + 1000, "nothing was sent twice");
}

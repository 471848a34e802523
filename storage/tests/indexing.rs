//! A layer is indexed while somebody reads it for another purpose, however that one goes about it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use common::Source;
use crossdock_storage::{
    Descriptor, Detail, DiffId, Error, Hasher, ImageSource, IndexedSource, Layer, LayerIndex, LayerWatch,
    MediaType, Result,
};
use futures_util::{FutureExt, StreamExt};

/// A layer of some files, gzipped.
fn layer() -> (Arc<Source>, Layer) {
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..50_u32 {
        let bytes = Hasher::digest(&number.to_le_bytes()).to_string();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("d/{number}"), bytes.as_bytes()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&tar).unwrap();
    let blob = Bytes::from(gzip.finish().unwrap());
    let descriptor = Descriptor::new(MediaType::ImageLayerGzip, blob.len() as u64, Hasher::digest(&blob));
    assert!(blob.len() > 2000, "several chunks");
    (
        Arc::new(Source { blob, chunk: 100 }),
        Layer { descriptor, diff_id: DiffId::of_tar(Hasher::digest(&tar)) },
    )
}

/// Reads some chunks from an offset on, as one attempt of an upload does.
async fn attempt(source: &IndexedSource, layer: &Layer, offset: u64, chunks: usize) -> Vec<u8> {
    let stream = source.blob(&layer.descriptor, offset).await.unwrap().take(chunks);
    stream.map(Result::unwrap).collect::<Vec<_>>().await.concat()
}

async fn expected(source: &Source, layer: &Layer) -> LayerIndex {
    LayerIndex::read(source, layer, Detail::Contents, &LayerWatch::silent()).await.unwrap()
}

#[tokio::test]
async fn attempts_that_overlap_give_the_index() {
    let (source, layer) = layer();
    let passing = IndexedSource::new(source.clone(), layer.clone(), Detail::Contents);
    assert_eq!(attempt(&passing, &layer, 0, 5).await, source.blob[..500]);
    // From the start again, then on from a place in the middle of what passed, then the rest.
    assert_eq!(attempt(&passing, &layer, 0, 3).await, source.blob[..300]);
    assert_eq!(attempt(&passing, &layer, 450, 4).await, source.blob[450..850]);
    assert_eq!(attempt(&passing, &layer, 850, usize::MAX).await, source.blob[850..]);
    assert_eq!(passing.index().await.unwrap(), Some(expected(&source, &layer).await));
}

#[tokio::test]
async fn what_was_not_read_from_its_first_byte_to_its_last_has_no_index() {
    for attempts in [vec![(1, usize::MAX)], vec![(0, 5), (600, usize::MAX)], vec![(0, 5)], vec![]] {
        let (source, layer) = layer();
        let passing = IndexedSource::new(source, layer.clone(), Detail::Names);
        for (offset, chunks) in &attempts {
            attempt(&passing, &layer, *offset, *chunks).await;
        }
        assert_eq!(passing.index().await.unwrap(), None, "{attempts:?}");
    }
}

#[tokio::test]
async fn another_layer_than_the_config_names_has_no_index() {
    let (source, layer) = layer();
    let wrong = Layer { diff_id: DiffId::of_tar(Hasher::digest(b"other")), ..layer };
    let passing = IndexedSource::new(source, wrong.clone(), Detail::Names);
    attempt(&passing, &wrong, 0, usize::MAX).await;
    assert!(matches!(passing.index().await, Err(Error::DigestMismatch { .. })));
}

#[test]
fn an_attempt_that_is_dropped_while_it_waits_has_given_nothing() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1).build().unwrap();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let (source, layer) = layer();
        let expected = expected(&source, &layer).await;
        // Nobody reads the archive while the one thread for it waits.
        tokio::task::spawn_blocking(move || wait.recv());
        let passing = IndexedSource::new(source.clone(), layer.clone(), Detail::Contents);
        assert!(attempt(&passing, &layer, 0, usize::MAX).now_or_never().is_none());
        go_on.send(()).unwrap();
        attempt(&passing, &layer, 0, usize::MAX).await;
        assert_eq!(passing.index().await.unwrap(), Some(expected));
    });
}

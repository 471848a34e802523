//! The same pushes against each kind of registry: whole, broken, and killed.

use std::time::Duration;

use crossdock_registry::{RegistryOptions, UploadStyle};
use crossdock_storage::{
    Compression, ImageSink as _, LayerReader, LayerWatch, NewLayer, Outcome, ReadOptions, SinkPlan,
    SourceFile,
};

use crate::docker_registry::DockerRegistry;
use crate::fault_proxy::{Fault, FaultProxy};
use crate::harness::{Files, Recorder, chain, layer_of, options, push, push_watched, reference, sink};
use crate::quirks::{Kind, Quirks};

const LEN: usize = 5 << 20;

const CHUNKED: UploadStyle = UploadStyle::Chunked { size: 1 << 20 };

/// How each kind takes blobs: the styles that work.
const KINDS: [(Kind, &[UploadStyle]); 7] = [
    (Kind::Distribution3, &[UploadStyle::Stream { with_length: true }, CHUNKED, UploadStyle::Monolithic]),
    (Kind::Distribution2, &[UploadStyle::Stream { with_length: true }, CHUNKED, UploadStyle::Monolithic]),
    (Kind::Quay, &[UploadStyle::Stream { with_length: true }, CHUNKED, UploadStyle::Monolithic]),
    (Kind::Zot, &[UploadStyle::Stream { with_length: true }, CHUNKED, UploadStyle::Monolithic]),
    (Kind::Ghcr, &[UploadStyle::Stream { with_length: false }, CHUNKED, UploadStyle::Monolithic]),
    (Kind::Ecr, &[UploadStyle::Monolithic]),
    (Kind::ArtifactRegistry, &[UploadStyle::Monolithic]),
];

fn styled(upload: UploadStyle) -> RegistryOptions {
    RegistryOptions { upload: Some(upload), ..options() }
}

pub(crate) fn bytes_of(layer: &NewLayer) -> Vec<u8> {
    let mut reader = LayerReader::new(&layer.layer, layer.compression, &ReadOptions::default());
    let mut all = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        all.extend_from_slice(&chunk);
    }
    all
}

/// Pushes a layer; gives the bytes sent in vain and the reasons for each retry.
pub(crate) async fn pushed(
    registry: &Quirks,
    options: RegistryOptions,
    layer: &NewLayer,
) -> (u64, Vec<String>) {
    let before = registry.received();
    let (recorder, watch) = Recorder::watch();
    let to = reference(registry.addr(), "a/b:1");
    let image = push_watched(&sink(options, &to), std::slice::from_ref(layer), &watch)
        .await
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let digest = image.layers[0].0.descriptor.digest().to_string();
    let stored = bytes_of(layer);
    assert!(registry.blob("a/b", &digest).unwrap() == stored, "byte for byte");
    assert!(registry.has_manifest("/v2/a/b/manifests/1"));
    assert_eq!(registry.open_uploads(), 0, "no upload is left open");
    // The config is some hundred bytes.
    ((registry.received() - before).saturating_sub(stored.len() as u64), recorder.reasons())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_registry_gets_the_same_bytes_in_its_own_way() {
    let files = Files::new();
    for (kind, styles) in KINDS {
        for (i, style) in styles.iter().enumerate() {
            for len in [1, 1 << 20, LEN] {
                let registry = Quirks::start(kind);
                let layer = files.layer(&format!("{i}-{len}"), len, 7);
                let (again, retries) = pushed(&registry, styled(*style), &layer).await;
                assert!(again < 1000 && retries.is_empty(), "{kind:?} {style:?} {again} {retries:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_layers_go_in_chunks_too() {
    let files = Files::new();
    let mut layer = files.layer("z", LEN, 7);
    layer.compression = Compression::Gzip { level: 1 };
    let registry = Quirks::start(Kind::Distribution3);
    let to = reference(registry.addr(), "a/b:1");
    let image = push(&sink(styled(CHUNKED), &to), &[layer]).await.unwrap();
    let digest = image.layers[0].0.descriptor.digest().to_string();
    assert!(registry.blob("a/b", &digest).is_some());
    assert!(registry.count("PATCH") > 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_goes_on_where_the_registry_keeps_it() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    for kind in [Kind::Distribution3, Kind::Quay, Kind::Ghcr] {
        for (style, at, lost) in [
            (UploadStyle::Stream { with_length: kind != Kind::Ghcr }, 3_000_001, 0),
            (UploadStyle::Stream { with_length: kind != Kind::Ghcr }, 3_000_001, 700_000),
            (CHUNKED, 500_000, 100_000),
        ] {
            let registry = Quirks::start(kind);
            registry.break_after(at);
            registry.forget(lost);
            let (again, retries) = pushed(&registry, styled(style), &layer).await;
            assert!((lost..lost + 1000).contains(&again), "{kind:?} {style:?}: {again} sent again");
            assert!(retries.len() == 1 && retries[0].contains("goes on at byte"), "{retries:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_starts_again_where_the_registry_drops_it() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    for kind in [Kind::Distribution2, Kind::Zot] {
        let registry = Quirks::start(kind);
        registry.break_after(3_000_000);
        let (again, retries) = pushed(&registry, options(), &layer).await;
        assert!((3_000_000..3_001_000).contains(&again), "{kind:?}: {again} sent again");
        assert!(retries.len() == 1 && retries[0].contains("again from its start"), "{retries:?}");
    }
    for kind in [Kind::Ecr, Kind::ArtifactRegistry] {
        let registry = Quirks::start(kind);
        registry.break_after(3_000_000);
        let (again, retries) = pushed(&registry, styled(UploadStyle::Monolithic), &layer).await;
        assert!((3_000_000..3_001_000).contains(&again), "{kind:?}: {again} sent again");
        assert_eq!(retries.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_often_comes_to_its_end() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    for kind in [Kind::Distribution3, Kind::Quay] {
        let registry = Quirks::start(kind);
        for _ in 0..3 {
            registry.break_after(1_000_000);
        }
        let (again, retries) = pushed(&registry, options(), &layer).await;
        assert!(again < 1000 && retries.len() == 3, "{again} {retries:?}");
        assert_eq!(registry.count("POST"), 3, "to see whether it may, for the layer and for the config");
    }
}

/// In the proportions of a push of 8 GiB through a proxy that breaks the connection every 500 MiB, each time with a
/// megabyte still in its memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_hours_through_a_bad_proxy_sends_little_twice() {
    const MIB: u64 = 1 << 20;
    let files = Files::new();
    std::fs::File::create(files.path("large")).unwrap().set_len(128 * MIB).unwrap();
    let plain = layer_of(&SourceFile::stat(files.path("large")).unwrap());
    for kind in [Kind::Distribution3, Kind::Quay] {
        let registry = Quirks::start(kind);
        for _ in 0..15 {
            registry.break_after(8 * MIB);
        }
        registry.forget(MIB / 2);
        let (again, retries) = pushed(&registry, options(), &plain).await;
        assert_eq!(retries.len(), 15, "{retries:?}");
        assert!(again <= plain.layer.len() / 10, "{kind:?}: {again} sent again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_layer_costs_at_most_four_requests() {
    let files = Files::new();
    let unknown: Vec<_> = (0..9).map(|i| files.layer(&i.to_string(), 1000, i)).collect();
    let mut known = unknown.clone();
    for layer in &mut known {
        let digested = layer.digest(&ReadOptions::default(), &LayerWatch::silent()).await.unwrap();
        layer.known = Some(digested);
    }
    for (layers, each) in [(unknown, 3), (known, 4)] {
        let mut requests = Vec::new();
        for some in [&layers[..1], &layers[..]] {
            let registry = Quirks::start(Kind::Distribution3);
            push(&sink(options(), &reference(registry.addr(), "a/b:1")), some).await.unwrap();
            requests.push(registry.count(""));
        }
        assert_eq!(requests[1] - requests[0], 8 * each, "POST, PATCH, PUT, and HEAD for a known one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_for_a_moment_is_asked_again_how_far_it_is() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    let registry = Quirks::start(Kind::Distribution3);
    registry.break_after(3_000_000);
    registry.refuse_asking(2);
    let (again, retries) = pushed(&registry, options(), &layer).await;
    assert!(again < 1000 && retries.len() == 2, "{again} {retries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_loses_chunks_is_found_out() {
    let files = Files::new();
    let registry = Quirks::start(Kind::Ecr);
    let to = reference(registry.addr(), "a/b:1");
    let error = push(&sink(styled(CHUNKED), &to), &[files.layer("a", LEN, 7)]).await.unwrap_err();
    assert!(chain(&error).contains("--upload monolithic"), "{}", chain(&error));
    assert!(!registry.has_manifest("/v2/a/b/manifests/1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_no_length_is_told_none_the_second_time() {
    let files = Files::new();
    let registry = Quirks::start(Kind::Ghcr);
    let (_, retries) = pushed(&registry, options(), &files.layer("a", LEN, 7)).await;
    assert_eq!(retries.len(), 1, "{retries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_behind_another_name_is_known_by_its_first_answer() {
    let files = Files::new();
    let registry = Quirks::start(Kind::Ghcr);
    let proxy = FaultProxy::start(registry.addr());
    let (name, value) = ("x-github-request-id".to_owned(), "D5D4:25D6".to_owned());
    proxy.break_next("GET", "/v2/", 1, Fault::ReplaceHeader { name, value });
    let (recorder, watch) = Recorder::watch();
    let sink = sink(options(), &reference(proxy.addr(), "a/b:1"));
    push_watched(&sink, &[files.layer("a", LEN, 7)], &watch).await.unwrap();
    assert_eq!(recorder.reasons(), [""; 0]);
}

/// Pushes until the registry takes no more, and is then gone without a word, as after `kill -9`.
pub(crate) async fn killed(registry: &Quirks, options: &RegistryOptions, layer: &NewLayer, at: u64) {
    registry.hang_after(at);
    let sink = sink(options.clone(), &reference(registry.addr(), "a/b:1"));
    sink.prepare(&SinkPlan::default()).await.unwrap();
    let (read, watch) = (ReadOptions::default(), LayerWatch::silent());
    let push = sink.put_layer(layer, &read, &watch);
    tokio::time::timeout(Duration::from_millis(600), push).await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_goes_on_in_another_process() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    // What was written just now is not put into the journal.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for (kind, style, sent_again) in [
        (Kind::Distribution3, UploadStyle::Stream { with_length: true }, 0),
        (Kind::Quay, UploadStyle::Stream { with_length: true }, 0),
        (Kind::Distribution2, UploadStyle::Stream { with_length: true }, 3_000_000),
        (Kind::Zot, UploadStyle::Stream { with_length: true }, 3_000_000),
    ] {
        let root = tempfile::tempdir().unwrap();
        let options = RegistryOptions {
            root: Some(root.path().to_owned()),
            journal_every: Duration::from_millis(20),
            checkpoint_step: 1 << 20,
            ..styled(style)
        };
        let registry = Quirks::start(kind);
        killed(&registry, &options, &layer, 3_000_000).await;
        let journal = |extension: &str| {
            let entries = std::fs::read_dir(root.path().join("uploads")).unwrap().flatten();
            entries
                .map(|e| e.path())
                .filter(|p| p.extension().is_some_and(|e| e == extension))
                .collect::<Vec<_>>()
        };
        let entries = journal("json");
        assert_eq!(entries.len(), 1, "{kind:?}");
        let metadata = std::fs::metadata(&entries[0]).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
        assert!(metadata.len() < 8192);
        let (rest, retries) = pushed(&registry, options.clone(), &layer).await;
        let _ = rest;
        let total = registry.received().saturating_sub(layer.layer.len());
        assert!((sent_again..sent_again + 1000).contains(&total), "{kind:?}: {total} sent again");
        assert!(retries.is_empty(), "{retries:?}");
        assert!(journal("json").is_empty() && journal("lock").is_empty(), "{kind:?}: nothing is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_another_layer_to_the_journal() {
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let root = tempfile::tempdir().unwrap();
    let options = RegistryOptions {
        root: Some(root.path().to_owned()),
        journal_every: Duration::from_millis(20),
        checkpoint_step: 1 << 20,
        ..options()
    };
    let registry = Quirks::start(Kind::Distribution3);
    killed(&registry, &options, &layer, 3_000_000).await;
    registry.drop_uploads();
    let changed = files.layer("a", LEN, 8);
    let before = registry.received();
    pushed(&registry, options, &changed).await;
    assert!(registry.received() - before >= changed.layer.len(), "all of it was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_registry_starts_a_killed_push_again() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr());
    let files = Files::new();
    let layer = files.layer("a", LEN, 7);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let root = tempfile::tempdir().unwrap();
    let mut options = RegistryOptions {
        root: Some(root.path().to_owned()),
        journal_every: Duration::from_millis(5),
        checkpoint_step: 1 << 20,
        ..options()
    };
    options.retry.delay = Some(Duration::from_secs(60));
    proxy.break_next("PATCH", "", 1, Fault::BreakBody(3_000_000));
    let to = reference(proxy.addr(), "a/b:1");
    let first = sink(options.clone(), &to);
    first.prepare(&SinkPlan::default()).await.unwrap();
    let (read, watch) = (ReadOptions::default(), LayerWatch::silent());
    let put = first.put_layer(&layer, &read, &watch);
    tokio::time::timeout(Duration::from_secs(1), put).await.unwrap_err();
    drop(first);
    let image = push(&sink(options, &to), &[layer]).await.unwrap();
    assert_eq!(image.layers[0].1, Outcome::Sent);
    assert!(registry.tag("a/b", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_an_earlier_push_is_mounted_from_its_repository() {
    let files = Files::new();
    let root = tempfile::tempdir().unwrap();
    let options = RegistryOptions { root: Some(root.path().to_owned()), ..options() };
    let registry = Quirks::start(Kind::Distribution3);
    let mut layer = files.layer("a", LEN, 7);
    let first = sink(options.clone(), &reference(registry.addr(), "a/b:1"));
    layer.known = Some(push(&first, std::slice::from_ref(&layer)).await.unwrap().layers[0].0.clone());
    let before = registry.received();
    let second = sink(options.clone(), &reference(registry.addr(), "c/d:1"));
    let image = push(&second, std::slice::from_ref(&layer)).await.unwrap();
    assert_eq!(image.layers[0].1, Outcome::Mounted { from: format!("{}/a/b", registry.addr()) });
    assert!(registry.received() - before < 1000);

    // What is remembered need not be true.
    registry.remove_blobs();
    let third = sink(options, &reference(registry.addr(), "e/f:1"));
    let image = push(&third, std::slice::from_ref(&layer)).await.unwrap();
    assert_eq!(image.layers[0].1, Outcome::Sent);
    assert_eq!(registry.open_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_went_during_a_long_push_are_missed_before_the_tag_moves() {
    let files = Files::new();
    let registry = Quirks::start(Kind::Quay);
    let options = RegistryOptions { ask_again_after: Duration::ZERO, ..options() };
    let layer = files.layer("a", 1000, 7);
    let sink = sink(options, &reference(registry.addr(), "a/b:1"));
    sink.prepare(&SinkPlan::default()).await.unwrap();
    let put = sink.put_layer(&layer, &ReadOptions::default(), &LayerWatch::silent()).await.unwrap();
    registry.remove_blobs();
    let error = crate::harness::finish(&sink, &[put]).await.unwrap_err();
    assert!(chain(&error).contains("the registry lost it"), "{}", chain(&error));
    assert!(!registry.has_manifest("/v2/a/b/manifests/1"));
}

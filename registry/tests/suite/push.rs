//! Pushes that meet no fault.

use std::sync::Arc;

use crossdock_registry::{Reference, Registry, RegistryOptions, UploadStyle};
use crossdock_storage::{Compression, Counters, ImageSink as _, LayerWatch, Outcome, ReadOptions, SinkPlan};

use crate::docker_registry::DockerRegistry;
use crate::fault_proxy::{Fault, FaultProxy};
use crate::harness::{Files, chain, finish, options, push, reference, sink};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_arrives_and_is_not_sent_again() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr());
    let files = Files::new();
    let layers = [files.layer("a", 3 << 20, 1), files.layer("b", 100, 2)];
    let to = reference(proxy.addr(), "team/model:v1");
    let first = push(&sink(options(), &to), &layers).await.unwrap();
    assert_eq!(registry.tag("team/model", "v1"), Some(first.manifest.digest().to_string()));
    assert_eq!(registry.open_uploads("team/model"), 0);
    assert!(first.layers.iter().all(|(_, outcome)| *outcome == Outcome::Sent));
    let patch = proxy.seen().into_iter().find(|s| s.method == "PATCH" && s.body > 1 << 20).unwrap();
    assert_eq!(patch.header("content-length"), Some(layers[0].layer.len().to_string().as_str()));
    assert_eq!(patch.header("content-type"), Some("application/octet-stream"));

    let patches = proxy.count("PATCH", "");
    let second = push(&sink(options(), &to), &layers).await.unwrap();
    assert!(second.layers.iter().all(|(_, outcome)| *outcome == Outcome::Present), "{:?}", second.layers);
    assert_eq!(proxy.count("PATCH", ""), patches, "nothing was sent again");
    assert_eq!(second.manifest.digest(), first.manifest.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_layer_that_is_there_is_not_read() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let mut layer = files.layer("a", 1 << 20, 1);
    let to = reference(registry.addr(), "m:1");
    let pushed = push(&sink(options(), &to), std::slice::from_ref(&layer)).await.unwrap();
    layer.known = Some(pushed.layers[0].0.clone());
    let counters = Arc::new(Counters::default());
    let read = ReadOptions { counters: Arc::clone(&counters), ..ReadOptions::default() };
    let (_, outcome) = sink(options(), &to).put_layer(&layer, &read, &LayerWatch::silent()).await.unwrap();
    assert_eq!((outcome, counters.read()), (Outcome::Present, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_read_once_and_sent_once() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let layer = files.layer("a", 5 << 20, 1);
    let counters = Arc::new(Counters::default());
    let mut options = options();
    options.counters = Arc::clone(&counters);
    let sink = sink(options, &reference(registry.addr(), "m:1"));
    let read = ReadOptions { counters: Arc::clone(&counters), ..ReadOptions::default() };
    sink.put_layer(&layer, &read, &LayerWatch::silent()).await.unwrap();
    assert_eq!((counters.read(), counters.sent()), (5 << 20, layer.layer.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_digest_that_is_not_the_layers_is_an_error() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let other = push(&sink(options(), &reference(registry.addr(), "o:1")), &[files.layer("o", 1 << 20, 9)])
        .await
        .unwrap();
    let mut layer = files.layer("a", 1 << 20, 1);
    layer.known = Some(other.layers[0].0.clone());
    let error = push(&sink(options(), &reference(registry.addr(), "m:1")), &[layer]).await.unwrap_err();
    assert!(chain(&error).contains("its layer has the digest"), "{error}");
    assert_eq!(registry.tag("m", "1"), None);
    assert_eq!(registry.open_uploads("m"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_layers_in_one_push_are_sent_once() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr());
    let files = Files::new();
    let layer = files.layer("a", 1 << 20, 1);
    let sink = sink(options(), &reference(proxy.addr(), "m:1"));
    let (read, watch) = (ReadOptions::default(), LayerWatch::silent());
    let put = || sink.put_layer(&layer, &read, &watch);
    let (a, b, c) = tokio::join!(put(), put(), put());
    let outcomes = [a.unwrap().1, b.unwrap().1, c.unwrap().1];
    assert_eq!(outcomes.iter().filter(|o| **o == Outcome::Sent).count(), 1, "{outcomes:?}");
    assert_eq!(proxy.count("PATCH", ""), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_layer_goes_in_chunks() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr());
    let files = Files::new();
    let mut layer = files.layer("a", 1 << 20, 1);
    layer.compression = Compression::Zstd { level: 3 };
    let pushed = push(&sink(options(), &reference(proxy.addr(), "m:1")), &[layer]).await.unwrap();
    assert!(registry.tag("m", "1").is_some());
    assert_ne!(pushed.layers[0].0.descriptor.digest(), pushed.layers[0].0.diff_id.as_digest());
    let patch = proxy.seen().into_iter().find(|s| s.method == "PATCH" && s.body > 1 << 19).unwrap();
    assert_eq!(patch.header("transfer-encoding"), Some("chunked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tags_are_moved() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let tags: Vec<Reference> = ["m:1", "m:latest"].map(|rest| reference(registry.addr(), rest)).into();
    let sink = Registry::new(options()).sink(&tags).unwrap();
    let pushed = push(&sink, &[files.layer("a", 10, 1)]).await.unwrap();
    for tag in ["1", "latest"] {
        assert_eq!(registry.tag("m", tag), Some(pushed.manifest.digest().to_string()));
    }
}

#[test]
fn a_sink_is_for_tags_of_one_repository() {
    let registry = Registry::new(options());
    let parse = |text: &str| text.parse::<Reference>().unwrap();
    let digest = format!("quay.io/a/b@sha256:{}", "a".repeat(64));
    for references in [vec![], vec![parse("quay.io/a/b:1"), parse("quay.io/a/c:1")], vec![parse(&digest)]] {
        assert!(registry.sink(&references).is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_layer_is_mounted_from_the_same_registry() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr());
    let files = Files::new();
    let base = reference(proxy.addr(), "base/os:1");
    let pushed = push(&sink(options(), &base), &[files.layer("a", 1 << 20, 1)]).await.unwrap();
    let registries = Registry::new(options());
    let to = reference(proxy.addr(), "team/model:1");
    let sink = registries.sink(std::slice::from_ref(&to)).unwrap();
    let source = registries.source(&base);
    let descriptor = &pushed.layers[0].0.descriptor;
    let patches = proxy.count("PATCH", "");
    sink.prepare(&SinkPlan::default()).await.unwrap();
    let outcome = sink.take_blob(descriptor, None, &source, &LayerWatch::silent()).await.unwrap();
    assert_eq!(outcome, Outcome::Mounted { from: format!("{}/base/os", proxy.addr()) });
    assert_eq!(proxy.count("PATCH", ""), patches);
    finish(&sink, &pushed.layers).await.unwrap();
    assert!(registry.tag("team/model", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_layer_is_streamed_from_another_registry() {
    let (from, to) = (DockerRegistry::start(), DockerRegistry::start());
    let files = Files::new();
    let base = reference(from.addr(), "base/os:1");
    let pushed = push(&sink(options(), &base), &[files.layer("a", 3 << 20, 1)]).await.unwrap();
    let counters = Arc::new(Counters::default());
    let mut options = options();
    options.counters = Arc::clone(&counters);
    let registries = Registry::new(options);
    let sink = registries.sink(&[reference(to.addr(), "m:1")]).unwrap();
    let source = registries.source(&base);
    let descriptor = &pushed.layers[0].0.descriptor;
    let outcome = sink.take_blob(descriptor, None, &source, &LayerWatch::silent()).await.unwrap();
    assert_eq!(outcome, Outcome::Sent);
    assert_eq!((counters.received(), counters.sent()), (descriptor.size(), descriptor.size()));
    assert_eq!(
        sink.take_blob(descriptor, None, &source, &LayerWatch::silent()).await.unwrap(),
        Outcome::Present
    );
    finish(&sink, &pushed.layers).await.unwrap();
    assert!(to.tag("m", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_layer_that_is_not_what_it_should_be_does_not_arrive() {
    let (from, to) = (DockerRegistry::start(), DockerRegistry::start());
    let files = Files::new();
    let base = reference(from.addr(), "base/os:1");
    let pushed = push(&sink(options(), &base), &[files.layer("a", 1000, 1)]).await.unwrap();
    let descriptor = &pushed.layers[0].0.descriptor;
    from.corrupt(descriptor.digest().as_ref(), &vec![7; usize::try_from(descriptor.size()).unwrap()]);
    let registries = Registry::new(options());
    let sink = registries.sink(&[reference(to.addr(), "m:1")]).unwrap();
    let error =
        sink.take_blob(descriptor, None, &registries.source(&base), &LayerWatch::silent()).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains(descriptor.digest().as_ref()) && text.contains("base/os"), "{text}");
    assert_eq!(to.open_uploads("m"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_no_chunks_gets_blobs_whole() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr());
    let files = Files::new();
    let mut layers = [files.layer("a", 1 << 20, 1), files.layer("b", 1 << 20, 2)];
    layers[1].compression = Compression::Gzip { level: 1 };
    let options = RegistryOptions { upload: Some(UploadStyle::Monolithic), ..options() };
    proxy.break_next("PUT", "uploads", 1, Fault::BreakBody(1000));
    push(&sink(options, &reference(proxy.addr(), "m:1")), &layers).await.unwrap();
    assert!(registry.tag("m", "1").is_some());
    assert_eq!((proxy.count("PATCH", ""), proxy.count("PUT", "uploads")), (0, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_dislikes_lengths_is_told_none() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr());
    let files = Files::new();
    let options = RegistryOptions { upload: Some(UploadStyle::Stream { with_length: false }), ..options() };
    push(&sink(options, &reference(proxy.addr(), "m:1")), &[files.layer("a", 1 << 20, 1)]).await.unwrap();
    assert!(registry.tag("m", "1").is_some());
    let patches = proxy.seen().into_iter().filter(|seen| seen.method == "PATCH");
    assert!(patches.into_iter().all(|seen| seen.header("content-length").is_none()));
}

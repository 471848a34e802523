//! Two sinks at work in one directory: neither takes away what the other counts on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use crossdock_storage::{
    Abort, Descriptor, Digest, DirSink, Hasher, ImageSink, LayoutSink, MediaType, Outcome, SinkPlan,
    canonical_json,
};
use serde_json::{Value, json};

const CONFIG: &[u8] = b"{\"shared\":true}";

fn config() -> Descriptor {
    Descriptor::new(MediaType::ImageConfig, CONFIG.len() as u64, Hasher::digest(CONFIG))
}

fn manifest(name: &str) -> (Descriptor, Bytes) {
    let bytes = canonical_json(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config(),
        "layers": [],
        "annotations": {"name": name},
    }));
    let descriptor = Descriptor::new(MediaType::ImageManifest, bytes.len() as u64, Hasher::digest(&bytes));
    (descriptor, bytes.into())
}

async fn put(sink: &dyn ImageSink) -> Outcome {
    sink.prepare(&SinkPlan::default()).await.unwrap();
    sink.put_config(&config(), Bytes::from_static(CONFIG)).await.unwrap()
}

async fn commit(sink: &dyn ImageSink, name: &str) {
    let (descriptor, bytes) = manifest(name);
    sink.commit(&descriptor, bytes).await.unwrap();
}

fn blob(layout: &Path, digest: &Digest) -> std::path::PathBuf {
    layout.join("blobs/sha256").join(digest.digest())
}

fn names(layout: &Path) -> Vec<Value> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let of = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].clone();
    index["manifests"].as_array().unwrap().iter().map(of).collect()
}

fn entries(directory: &Path) -> Vec<String> {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_abort_takes_no_blob_that_another_counts_on() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("deep/layout");
    let (a, b) =
        (LayoutSink::new(&layout, Some("a".to_owned())), LayoutSink::new(&layout, Some("b".to_owned())));
    assert_eq!((put(&a).await, put(&b).await), (Outcome::Written, Outcome::Written));
    a.abort(Abort::Failed).await;
    commit(&b, "b").await;
    assert_eq!(fs::read(blob(&layout, config().digest())).unwrap(), CONFIG);
    // The first one begins again, counts on what is there, and fails again.
    assert_eq!(put(&a).await, Outcome::Present);
    a.abort(Abort::Interrupted).await;
    assert_eq!(fs::read(blob(&layout, config().digest())).unwrap(), CONFIG);
    assert_eq!(entries(&layout), ["blobs", "index.json", "oci-layout"]);
}

#[tokio::test]
async fn the_last_one_to_give_up_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("deep/layout");
    let (a, b) = (LayoutSink::new(&layout, None), LayoutSink::new(&layout, None));
    put(&a).await;
    put(&b).await;
    b.abort(Abort::Failed).await;
    a.abort(Abort::Failed).await;
    assert!(entries(directory.path()).is_empty());
}

#[tokio::test]
async fn a_blob_that_another_program_removes_is_there_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let a = LayoutSink::new(&layout, Some("a".to_owned()));
    put(&a).await;
    commit(&a, "a").await;
    let b = LayoutSink::new(&layout, Some("b".to_owned()));
    assert_eq!(put(&b).await, Outcome::Present);
    // As `umoci gc` would where no image named it.
    fs::remove_file(blob(&layout, config().digest())).unwrap();
    commit(&b, "b").await;
    assert_eq!(fs::read(blob(&layout, config().digest())).unwrap(), CONFIG);
    assert_eq!(names(&layout), ["a", "b"]);
    assert_eq!(entries(&layout), ["blobs", "index.json", "oci-layout"]);
}

#[tokio::test]
async fn an_index_that_cannot_be_written_leaves_no_blob_behind() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    fs::create_dir(&layout).unwrap();
    let sink = LayoutSink::new(&layout, Some("a".to_owned()));
    put(&sink).await;
    fs::write(layout.join("index.json"), "not JSON").unwrap();
    let (descriptor, bytes) = manifest("a");
    let error = sink.commit(&descriptor, bytes).await.unwrap_err().to_string();
    assert!(error.contains("index.json"), "{error}");
    sink.abort(Abort::Failed).await;
    assert_eq!(entries(&layout), ["index.json"]);
    assert_eq!(fs::read(layout.join("index.json")).unwrap(), b"not JSON");
}

#[tokio::test]
async fn one_directory_has_the_image_of_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let (a, b) = (DirSink::new(&image), DirSink::new(&image));
    put(&a).await;
    put(&b).await;
    commit(&a, "a").await;
    let c = DirSink::new(&image);
    assert_eq!(put(&c).await, Outcome::Present);
    commit(&b, "b").await;
    c.abort(Abort::Failed).await;
    assert_eq!(entries(&image), [config().digest().digest(), "manifest.json", "version"]);
    assert_eq!(fs::read(image.join("manifest.json")).unwrap(), manifest("b").1);
}

//! An image on a registry: there, whole and unchanged; or not, and then what is wrong is named.

use std::sync::Arc;

use crossdock_registry::{Depth, Reference, Registry, RegistryOptions, Verified, VerifyOptions};
use crossdock_storage::NoProgress;

use crate::docker_registry::DockerRegistry;
use crate::fault_proxy::{Fault, FaultProxy};
use crate::harness::{Files, Pushed, chain, options, push, reference, sink, with_password};

struct There {
    registry: DockerRegistry,
    to: Reference,
    pushed: Pushed,
}

impl There {
    async fn new() -> Self {
        let registry = DockerRegistry::start();
        let files = Files::new();
        let to = reference(registry.addr(), "team/m:1");
        let layers = [files.layer("a", 1 << 20, 1), files.layer("b", 10, 2)];
        let pushed = push(&sink(options(), &to), &layers).await.unwrap();
        Self { registry, to, pushed }
    }

    fn digest(&self, layer: usize) -> String {
        self.pushed.layers[layer].0.descriptor.digest().to_string()
    }

    async fn verify(&self, depth: Depth) -> Verified {
        verify(options(), &self.to, depth).await.unwrap()
    }
}

async fn verify(
    options: RegistryOptions,
    image: &Reference,
    depth: Depth,
) -> Result<Verified, crossdock_registry::Error> {
    let how = VerifyOptions { platform: None, depth, jobs: 3, progress: Arc::new(NoProgress) };
    Registry::new(options).verify(image, &how).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_well_has_no_mismatch() {
    let there = There::new().await;
    for depth in [Depth::Presence, Depth::Full(Vec::new())] {
        let verified = there.verify(depth.clone()).await;
        assert_eq!(verified.mismatches, []);
        assert_eq!(verified.digest, *there.pushed.manifest.digest());
        assert_eq!(verified.manifests.len(), 1);
        assert_eq!(verified.manifests[0].platform.as_deref(), Some("linux/amd64"));
        assert_eq!(verified.blobs.len(), 3);
        let hashed = verified.blobs.iter().filter(|blob| blob.hashed).count();
        assert_eq!(hashed, if depth == Depth::Full(Vec::new()) { 3 } else { 1 }, "the config is always read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_another_size_is_found_without_reading_it() {
    let there = There::new().await;
    there.registry.corrupt(&there.digest(0), b"short");
    let verified = there.verify(Depth::Presence).await;
    let [mismatch] = verified.mismatches.as_slice() else { panic!("{verified:?}") };
    assert_eq!(mismatch.digest.to_string(), there.digest(0));
    assert!(mismatch.problem.contains("it has 5 bytes"), "{mismatch}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_bytes_are_found_by_reading_them() {
    let there = There::new().await;
    let size = there.pushed.layers[0].0.descriptor.size();
    there.registry.corrupt(&there.digest(0), &vec![b'x'; usize::try_from(size).unwrap()]);
    assert_eq!(there.verify(Depth::Presence).await.mismatches, []);
    let verified = there.verify(Depth::Full(Vec::new())).await;
    let [mismatch] = verified.mismatches.as_slice() else { panic!("{verified:?}") };
    assert_eq!(mismatch.digest.to_string(), there.digest(0));
    assert!(mismatch.to_string().contains("its bytes are those of sha256:"), "{mismatch}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_blobs_are_all_named() {
    let there = There::new().await;
    let proxy = FaultProxy::start(there.registry.addr()).with_gate(|seen| {
        (seen.path.contains("/blobs/") && seen.method == "HEAD").then(|| Fault::Answer {
            status: 404,
            headers: Vec::new(),
            body: String::new(),
        })
    });
    let verified =
        verify(options(), &reference(proxy.addr(), "team/m:1"), Depth::Full(Vec::new())).await.unwrap();
    let mut named: Vec<_> = verified.mismatches.iter().map(|m| m.digest.to_string()).collect();
    let mut layers = vec![there.digest(0), there.digest(1)];
    named.sort();
    layers.sort();
    assert_eq!(named, layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_in_the_storage_behind_is_asked_for_without_the_key() {
    let there = There::new().await;
    let storage = FaultProxy::start(there.registry.addr());
    let at = storage.addr();
    let proxy = FaultProxy::start(there.registry.addr()).with_gate(move |seen| {
        let answer = |status, name: &str, value: String| Fault::Answer {
            status,
            headers: vec![(name.to_owned(), value)],
            body: String::new(),
        };
        if seen.header("authorization").is_none() {
            return Some(answer(401, "www-authenticate", "Basic realm=x".to_owned()));
        }
        seen.path.contains("/blobs/").then(|| answer(307, "location", format!("http://{at}{}", seen.path)))
    });
    let to = reference(proxy.addr(), "team/m:1");
    for depth in [Depth::Presence, Depth::Full(Vec::new())] {
        let verified = verify(with_password("me", "hunter2"), &to, depth).await.unwrap();
        assert_eq!(verified.mismatches, []);
    }
    assert!(storage.seen().iter().any(|seen| seen.header("range") == Some("bytes=0-0")));
    assert!(storage.seen().iter().all(|seen| seen.header("authorization").is_none()));
    there.registry.corrupt(&there.digest(1), b"short");
    let verified = verify(with_password("me", "hunter2"), &to, Depth::Presence).await.unwrap();
    assert_eq!(verified.mismatches.len(), 1, "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_another_digest_is_a_mismatch() {
    let there = There::new().await;
    let proxy = FaultProxy::start(there.registry.addr());
    let body = r#"{"schemaVersion":2}"#.to_owned();
    proxy.break_next("GET", "/manifests/", 1, Fault::Answer { status: 200, headers: Vec::new(), body });
    let name = format!("team/m@{}", there.pushed.manifest.digest());
    let verified = verify(options(), &reference(proxy.addr(), &name), Depth::Presence).await.unwrap();
    assert_eq!(verified.mismatches.len(), 1, "{verified:?}");
    assert_eq!(verified.mismatches[0].digest, *there.pushed.manifest.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_at_is_an_error() {
    let there = There::new().await;
    let none = reference(there.registry.addr(), "team/m:none");
    let error = verify(options(), &none, Depth::Presence).await.unwrap_err();
    assert!(chain(&error).contains("not found"), "{error}");
    let proxy = FaultProxy::start(there.registry.addr());
    let gone = Fault::Answer { status: 503, headers: Vec::new(), body: String::new() };
    proxy.break_next("HEAD", "/blobs/", usize::MAX, gone);
    let error = verify(options(), &reference(proxy.addr(), "team/m:1"), Depth::Presence).await.unwrap_err();
    assert!(chain(&error).contains("503"), "{error}");
}

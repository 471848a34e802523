//! Base images: found, verified, and read on where a connection broke.

use bytes::Bytes;
use crossdock_registry::{Registry, RegistrySource};
use crossdock_storage::{BlobStream, Descriptor, Hasher, ImageSource as _, Platform};
use futures_util::StreamExt as _;

use crate::docker_registry::DockerRegistry;
use crate::fault_proxy::{Fault, FaultProxy};
use crate::harness::{Files, Pushed, chain, options, push, reference, sink};

struct Base {
    registry: DockerRegistry,
    proxy: FaultProxy,
    pushed: Pushed,
}

impl Base {
    async fn new() -> Self {
        let registry = DockerRegistry::start();
        let proxy = FaultProxy::start(registry.addr());
        let files = Files::new();
        let to = reference(registry.addr(), "base/os:1");
        let pushed = push(&sink(options(), &to), &[files.layer("a", 2 << 20, 5)]).await.unwrap();
        Self { registry, proxy, pushed }
    }

    fn source(&self, rest: &str) -> RegistrySource {
        Registry::new(options()).source(&reference(self.proxy.addr(), rest))
    }

    fn layer(&self) -> &Descriptor {
        &self.pushed.layers[0].0.descriptor
    }
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

async fn read(mut stream: BlobStream) -> Result<Vec<u8>, crossdock_storage::Error> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

/// Puts a document as a manifest by HTTP of its own.
fn put_manifest(registry: &DockerRegistry, path: &str, media_type: &str, body: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut connection = std::net::TcpStream::connect(registry.addr()).unwrap();
    let head = format!(
        "PUT /v2/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    Hasher::digest(body.as_bytes()).to_string()
}

fn index_of(entries: &[(&str, u64, &str, &str)]) -> String {
    let entries: Vec<_> = entries
        .iter()
        .map(|(digest, size, media_type, platform)| {
            format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}{platform}}}"#)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        entries.join(",")
    )
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_resolved_by_tag_and_by_digest() {
    let base = Base::new().await;
    for rest in ["base/os:1".to_owned(), format!("base/os@{}", base.pushed.manifest.digest())] {
        let image = base.source(&rest).resolve(&amd64()).await.unwrap();
        assert_eq!(image.descriptor.digest(), base.pushed.manifest.digest());
        assert_eq!(image.manifest.layers(), &[base.layer().clone()]);
        assert_eq!(image.config.config.env, ["A=1"]);
        assert_eq!(Hasher::digest(&image.config_bytes), *image.manifest.config().digest());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_followed_three_levels_deep_and_no_further() {
    let base = Base::new().await;
    let (digest, size) = (base.pushed.manifest.digest().to_string(), base.pushed.manifest.size());
    let platform = r#","platform":{"os":"linux","architecture":"amd64"}"#;
    let mut below = (digest, size, MANIFEST);
    for level in 1..=4 {
        let index = index_of(&[(below.0.as_str(), below.1, below.2, platform)]);
        let put = put_manifest(&base.registry, &format!("base/os/manifests/level{level}"), INDEX, &index);
        below = (put, index.len() as u64, INDEX);
        let result = base.source(&format!("base/os:level{level}")).resolve(&amd64()).await;
        match (level, result) {
            (1..=3, Ok(image)) => assert_eq!(image.descriptor.digest(), base.pushed.manifest.digest()),
            (4, Err(error)) => assert!(chain(&error).contains("nested"), "{error}"),
            (_, result) => panic!("level {level}: {result:?}"),
        }
    }
    let error = base.source("base/os:level1").resolve(&"linux/s390x".parse().unwrap()).await.unwrap_err();
    assert!(chain(&error).contains("not offered for linux/s390x; there is: linux/amd64"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_named() {
    let base = Base::new().await;
    for rest in ["base/os:none", "none:1"] {
        let text = chain(&base.source(rest).resolve(&amd64()).await.unwrap_err());
        assert!(
            text.contains(rest) && text.contains("not found") && text.contains("MANIFEST_UNKNOWN"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_another_digest_is_refused() {
    let base = Base::new().await;
    let body = r#"{"schemaVersion":2}"#.to_owned();
    let fault = Fault::Answer { status: 200, headers: Vec::new(), body };
    base.proxy.break_next("GET", "manifests", 1, fault);
    let rest = format!("base/os@{}", base.pushed.manifest.digest());
    let text = chain(&base.source(&rest).resolve(&amd64()).await.unwrap_err());
    assert!(
        text.contains(base.pushed.manifest.digest().as_ref()) && text.matches("sha256:").count() >= 3,
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_too_large_is_not_read() {
    let base = Base::new().await;
    let fault = Fault::Answer { status: 200, headers: Vec::new(), body: " ".repeat((4 << 20) + 1) };
    base.proxy.break_next("GET", "manifests", 1, fault);
    let text = chain(&base.source("base/os:1").resolve(&amd64()).await.unwrap_err());
    assert!(text.contains("larger than 4194304 bytes"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_is_read_on_where_it_broke() {
    let base = Base::new().await;
    let whole = read(base.source("base/os:1").blob(base.layer(), 0).await.unwrap()).await.unwrap();
    assert_eq!(Hasher::digest(&whole), *base.layer().digest());
    for cuts in [1, 3] {
        base.proxy.break_next("GET", "blobs", cuts, Fault::CutAnswer(300_000));
        let before = base.proxy.seen().len();
        let again = read(base.source("base/os:1").blob(base.layer(), 0).await.unwrap()).await.unwrap();
        assert!(again == whole);
        let ranges: Vec<_> = base.proxy.seen()[before..]
            .iter()
            .filter(|seen| seen.path.contains("blobs"))
            .map(|seen| seen.header("range").map(str::to_owned))
            .collect();
        let expected: Vec<_> =
            (0..=cuts).map(|n| (n > 0).then(|| format!("bytes={}-", n * 300_000))).collect();
        assert_eq!(ranges, expected);
    }
    let tail = read(base.source("base/os:1").blob(base.layer(), 1_000_000).await.unwrap()).await.unwrap();
    assert!(tail == whole[1_000_000..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_each_time_is_an_error() {
    let base = Base::new().await;
    base.proxy.break_next("GET", "blobs", usize::MAX, Fault::CutAnswer(10));
    let text = chain(&read(base.source("base/os:1").blob(base.layer(), 0).await.unwrap()).await.unwrap_err());
    assert!(text.contains(base.layer().digest().as_ref()), "{text}");
    assert_eq!(base.proxy.count("GET", "blobs"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_goes_without_the_credential() {
    let base = Base::new().await;
    // Another port is another origin.
    let storage = FaultProxy::start(base.registry.addr());
    let to = format!("http://{}/v2/base/os/blobs/{}", storage.addr(), base.layer().digest());
    let door = Fault::Answer {
        status: 401,
        headers: vec![("www-authenticate".to_owned(), "Basic realm=x".to_owned())],
        body: String::new(),
    };
    let redirect =
        Fault::Answer { status: 307, headers: vec![("location".to_owned(), to)], body: String::new() };
    let proxy =
        FaultProxy::start(base.registry.addr()).with_gate(move |seen| match seen.header("authorization") {
            None => Some(door.clone()),
            Some(_) if seen.path.contains("blobs") => Some(redirect.clone()),
            Some(_) => None,
        });
    let registries = Registry::new(crate::harness::with_password("me", "hunter2"));
    let source = registries.source(&reference(proxy.addr(), "base/os:1"));
    let all = read(source.blob(base.layer(), 0).await.unwrap()).await.unwrap();
    assert_eq!(Hasher::digest(&all), *base.layer().digest());
    assert_eq!(storage.count("GET", "blobs"), 1);
    assert!(storage.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_in_a_circle_end() {
    let base = Base::new().await;
    let to = format!("/v2/base/os/blobs/{}", base.layer().digest());
    let fault =
        Fault::Answer { status: 302, headers: vec![("location".to_owned(), to)], body: String::new() };
    base.proxy.break_next("GET", "blobs", usize::MAX, fault);
    let Err(error) = base.source("base/os:1").blob(base.layer(), 0).await else { panic!("it ended well") };
    assert!(chain(&error).contains("more than 10 redirects"), "{error}");
    assert_eq!(base.proxy.count("GET", "blobs"), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_no_ranges_is_read_from_the_start() {
    let base = Base::new().await;
    let whole =
        Bytes::from(read(base.source("base/os:1").blob(base.layer(), 0).await.unwrap()).await.unwrap());
    let proxy = FaultProxy::start(base.registry.addr()).with_gate(move |seen| {
        let range = seen.header("range").is_some();
        range.then(|| Fault::Answer {
            status: 200,
            headers: Vec::new(),
            body: "x".repeat(whole.len() - 7) + "the end",
        })
    });
    let source = Registry::new(options()).source(&reference(proxy.addr(), "base/os:1"));
    let tail = read(source.blob(base.layer(), base.layer().size() - 7).await.unwrap()).await.unwrap();
    assert_eq!(tail, b"the end");
}

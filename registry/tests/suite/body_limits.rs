//! A proxy before the registry that refuses bodies above its limit: blobs go in chunks that fit, and what fits is remembered.

use std::path::Path;

use crossdock_registry::{RegistryOptions, UploadStyle};
use crossdock_storage::Compression;

use crate::docker_registry::DockerRegistry;
use crate::fault_proxy::{Fault, FaultProxy, Seen};
use crate::harness::{Files, QUICK, Recorder, chain, options, push, push_watched, reference, sink};
use crate::quirks::{Kind, Quirks};

/// nginx's own page.
const PAGE: &str = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 Request \
                    Entity Too Large</h1></center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";

fn length(seen: &Seen) -> u64 {
    seen.header("content-length").and_then(|len| len.parse().ok()).unwrap_or_default()
}

/// Refuses bodies of more than so many bytes.
fn limited(to: std::net::SocketAddr, limit: u64) -> FaultProxy {
    FaultProxy::start(to).with_gate(move |seen| {
        let answer = || Fault::Answer { status: 413, headers: Vec::new(), body: PAGE.to_owned() };
        (length(seen) > limit).then(answer)
    })
}

fn refused(proxy: &FaultProxy, limit: u64) -> usize {
    proxy.seen().iter().filter(|seen| length(seen) > limit).count()
}

fn with_root(root: &Path) -> RegistryOptions {
    RegistryOptions { root: Some(root.to_path_buf()), ..options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_go_in_chunks_that_fit_and_the_size_is_remembered() {
    let registry = DockerRegistry::start();
    let limit = 1 << 20;
    let proxy = limited(registry.addr(), limit);
    let (files, root) = (Files::new(), Files::new());
    let (recorder, watch) = Recorder::watch();
    let layers = [files.layer("a", 7 << 20, 1), files.layer("b", 5 << 20, 2), files.layer("c", 10, 3)];
    let options = with_root(&root.path("root"));
    let all = crossdock_registry::Registry::new(options.clone());
    let to = reference(proxy.addr(), "m:1");
    let pushed = push_watched(&all.sink(&[to]).unwrap(), &layers, &watch).await.unwrap();
    for (layer, _) in &pushed.layers {
        let bytes = std::fs::read(registry.blob(layer.descriptor.digest().as_ref())).unwrap();
        assert_eq!(bytes.len() as u64, layer.descriptor.size());
    }
    assert_eq!(recorder.retries(), 0, "a limit is no trouble to wait for: {:?}", recorder.reasons());
    // The first is refused as it is, then halves of 100 MiB that are below it: 6.25, 3.1 and 1.6 MiB.
    assert_eq!(refused(&proxy, limit), 4);
    assert!(registry.tag("m", "1").is_some());

    // Other repositories of the host begin with it, in this run and in the next.
    let layer = [files.layer("d", 3 << 20, 4)];
    push(&all.sink(&[reference(proxy.addr(), "other:1")]).unwrap(), &layer).await.unwrap();
    let layer = [files.layer("e", 3 << 20, 5)];
    push(&sink(options, &reference(proxy.addr(), "third:1")), &layer).await.unwrap();
    assert_eq!(refused(&proxy, limit), 4);
    // Without a root directory it is learnt anew, and another host has no part in it.
    let direct = FaultProxy::start(registry.addr());
    let layer = [files.layer("f", 3 << 20, 6)];
    push(&sink(with_root(&root.path("root")), &reference(direct.addr(), "fourth:1")), &layer).await.unwrap();
    assert_eq!(direct.count("PATCH", "/v2/fourth/"), 2, "the layer and the config, whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_layer_and_a_size_of_ones_own_shrink_too() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let limit = 1 << 20;
    let proxy = limited(registry.addr(), limit);
    let options = RegistryOptions { upload: Some(UploadStyle::Chunked { size: 3 << 20 }), ..options() };
    push(&sink(options, &reference(proxy.addr(), "m:1")), &[files.layer("a", 4 << 20, 1)]).await.unwrap();
    assert_eq!(refused(&proxy, limit), 2, "3 and 1.5 MiB");

    // Nobody knows how long it becomes, so it comes without a length: the proxy counts.
    let counting = FaultProxy::start(registry.addr()).with_gate(|seen| {
        let answer = || Fault::Answer { status: 413, headers: Vec::new(), body: PAGE.to_owned() };
        let first = seen.method == "PATCH"
            && !seen.path.contains("chunks")
            && seen.header("content-length").is_none();
        first.then(answer)
    });
    let mut layer = files.layer("b", 300_000, 2);
    layer.compression = Compression::Zstd { level: 3 };
    let error = push(&sink(crate::harness::options(), &reference(counting.addr(), "z:1")), &[layer])
        .await
        .unwrap_err();
    let text = chain(&error);
    assert!(text.contains("client_max_body_size") && text.contains("413 Request Entity Too Large"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_chunks_goes_on_where_it_broke() {
    let registry = Quirks::start(Kind::Distribution3);
    let limit = 4 << 20;
    let proxy = limited(registry.addr(), limit);
    let files = Files::new();
    // Three requests are too large; of the chunks that fit, 3.1 MiB each, the fifth breaks.
    proxy.break_after(3 + 4, "PATCH", "/v2/m/", 1, Fault::BreakBody(1 << 20));
    let options = RegistryOptions { retry: QUICK, ..options() };
    let layer = [files.layer("a", 20 << 20, 1)];
    let pushed = push(&sink(options, &reference(proxy.addr(), "m:1")), &layer).await.unwrap();
    let digest = pushed.layers[0].0.descriptor.digest().to_string();
    assert_eq!(registry.blob("m", &digest).unwrap().len() as u64, pushed.layers[0].0.descriptor.size());
    let sent: u64 = proxy.seen().iter().filter(|seen| length(seen) <= limit).map(|seen| seen.body).sum();
    assert!(sent < 26 << 20, "{sent} bytes: it began anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_below_every_chunk_is_an_error_that_names_the_proxy() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let layer = [files.layer("a", 1 << 20, 1)];
    let proxy = limited(registry.addr(), 10_000);
    let text = chain(&push(&sink(options(), &reference(proxy.addr(), "m:1")), &layer).await.unwrap_err());
    for part in [
        "413",
        "a proxy before 127.0.0.1",
        "smaller requests than 64 KiB",
        "client_max_body_size",
        "nginx/1.22.1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("413 413"), "{text}");
    // A registry, or a user, that wants blobs whole.
    let proxy = limited(registry.addr(), 100_000);
    let whole = RegistryOptions { upload: Some(UploadStyle::Monolithic), ..options() };
    let text = chain(&push(&sink(whole, &reference(proxy.addr(), "m:1")), &layer).await.unwrap_err());
    assert!(text.contains("--upload monolithic") && text.contains("client_max_body_size"), "{text}");
    // A manifest cannot be cut.
    let proxy = FaultProxy::start(registry.addr());
    let answer = Fault::Answer { status: 413, headers: Vec::new(), body: PAGE.to_owned() };
    proxy.break_next("PUT", "/manifests/", 1, answer);
    let text = chain(&push(&sink(options(), &reference(proxy.addr(), "m:1")), &layer).await.unwrap_err());
    assert!(text.contains("takes no request of") && text.contains("client_max_body_size"), "{text}");
    assert_eq!(registry.tag("m", "1"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_no_layer_so_large_says_so_itself() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr());
    let body =
        r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"Uploaded blob is larger than allowed"}]}"#;
    let answer = Fault::Answer { status: 413, headers: Vec::new(), body: body.to_owned() };
    proxy.break_next("PATCH", "/v2/m/", 99, answer);
    let files = Files::new();
    let layer = [files.layer("a", 1 << 20, 1)];
    let text = chain(&push(&sink(options(), &reference(proxy.addr(), "m:1")), &layer).await.unwrap_err());
    assert!(text.contains("larger than allowed") && !text.contains("proxy before"), "{text}");
    assert_eq!(proxy.count("PATCH", "/v2/m/"), 1, "no smaller chunk helps");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_body_is_read_is_understood() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr()).with_gate(|seen| {
        let answer = || Fault::AnswerEarly { status: 413, headers: Vec::new(), body: PAGE.to_owned() };
        (length(seen) > 1 << 20).then(answer)
    });
    let files = Files::new();
    let layer = [files.layer("a", 3 << 20, 1)];
    push(&sink(options(), &reference(proxy.addr(), "m:1")), &layer).await.unwrap();
    assert!(registry.tag("m", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_in_the_words_of_who_refused() {
    let registry = DockerRegistry::start();
    let page = "<html><head><title>x</title></head><body><h1>Blocked by policy 7</h1>\x1b[2J</body></html>";
    for (body, words) in [
        (page.to_owned(), "Blocked by policy 7"),
        ("repository is read-only".to_owned(), "repository is read-only"),
        (r#"{"message":"no such plan"}"#.to_owned(), "no such plan"),
        (
            format!(r#"{{"errors":[{{"code":"DENIED","message":"{}"}}]}}"#, "long ".repeat(5000)),
            "DENIED: long long",
        ),
    ] {
        let files = Files::new();
        let layer = [files.layer("a", 10, 1)];
        let proxy = FaultProxy::start(registry.addr());
        proxy.break_next("POST", "/v2/m/", 99, Fault::Answer { status: 403, headers: Vec::new(), body });
        let text = chain(&push(&sink(options(), &reference(proxy.addr(), "m:1")), &layer).await.unwrap_err());
        assert!(text.contains(words) && text.contains("403") && text.len() < 1500, "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.contains("log in first"), "nothing was tried: {text}");
        // The registry asks for no credential, so none was sent and no login helps.
        let known = crate::harness::with_password("me", "hunter2");
        let text = chain(&push(&sink(known, &reference(proxy.addr(), "m:1")), &layer).await.unwrap_err());
        assert!(text.contains(words) && text.contains("asks for none"), "{text}");
        assert!(!text.contains("log in") && !text.contains("hunter2"), "{text}");
    }
    let locked =
        DockerRegistry::start_with(&crate::docker_registry::Setup { password: true, ..Default::default() });
    let proxy = FaultProxy::start(locked.addr());
    let answer = Fault::Answer { status: 403, headers: Vec::new(), body: page.to_owned() };
    proxy.break_next("POST", "/v2/m/", 99, answer);
    let known = crate::harness::with_password("user", "secret");
    let files = Files::new();
    let layer = [files.layer("a", 10, 1)];
    let text = chain(&push(&sink(known, &reference(proxy.addr(), "m:1")), &layer).await.unwrap_err());
    assert!(text.contains("Blocked by policy 7") && text.contains("--creds"), "{text}");
    assert!(!text.contains("log in"), "{text}");
    assert!(text.contains("that user lacks the right to push to m"), "{text}");
}

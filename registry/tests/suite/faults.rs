//! Pushes through a proxy that breaks things: each ends well, or with one error and the tag where it was.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use crossdock_registry::{RegistryOptions, RetryPolicy, UploadStyle};
use crossdock_storage::{Error, FenceBreach, Outcome};

use crate::docker_registry::DockerRegistry;
use crate::fault_proxy::{Fault, FaultProxy, Hook};
use crate::harness::{Files, Recorder, chain, options, push, push_watched, reference, sink};

fn answer(status: u16) -> Fault {
    Fault::Answer { status, headers: Vec::new(), body: String::new() }
}

fn answer_with(status: u16, name: &str, value: &str) -> Fault {
    Fault::Answer { status, headers: vec![(name.to_owned(), value.to_owned())], body: String::new() }
}

struct Stage {
    registry: DockerRegistry,
    proxy: FaultProxy,
    files: Files,
    old: String,
}

impl Stage {
    /// A registry whose tag `m:1` names an old image already.
    async fn new() -> Self {
        let registry = DockerRegistry::start();
        let proxy = FaultProxy::start(registry.addr());
        let files = Files::new();
        let pushed =
            push(&sink(options(), &reference(registry.addr(), "m:1")), &[files.layer("old", 500, 99)])
                .await
                .unwrap();
        Self { registry, proxy, files, old: pushed.manifest.digest().to_string() }
    }

    /// Pushes a new image of one layer of 4 MiB; gives the error's text, and how often the layer was tried again.
    async fn push(&self) -> (Result<(), String>, usize) {
        self.push_with(options()).await
    }

    async fn push_with(&self, options: RegistryOptions) -> (Result<(), String>, usize) {
        let layer = self.files.layer("new", 4 << 20, 1);
        let (recorder, watch) = Recorder::watch();
        let to = reference(self.proxy.addr(), "m:1");
        let result = push_watched(&sink(options, &to), &[layer], &watch).await;
        (result.map(|_| ()).map_err(|error| chain(&error)), recorder.retries())
    }

    #[track_caller]
    fn tag_moved(&self) -> bool {
        assert_eq!(self.registry.open_uploads("m"), 0, "no upload is left open");
        self.tag_moved_after_a_break()
    }

    /// Distribution 2.8 answers the DELETE of an upload whose last PATCH broke with 404, its offset being another than
    /// the client was told, and keeps the bytes until it purges old uploads. So here it is enough to have asked.
    #[track_caller]
    fn tag_moved_after_a_break(&self) -> bool {
        let (broken, deleted) = (self.registry.open_uploads("m"), self.proxy.count("DELETE", ""));
        assert!(deleted >= broken, "each is cancelled: {deleted} of {broken}");
        self.registry.tag("m", "1").unwrap() != self.old
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_a_body_is_made_again() {
    for bytes in [0, 1, 100_000, 4 << 20] {
        let stage = Stage::new().await;
        stage.proxy.break_next("PATCH", "", 1, Fault::BreakBody(bytes));
        let (result, retries) = stage.push().await;
        assert_eq!((result, retries), (Ok(()), 1), "after {bytes} bytes");
        assert_eq!(stage.proxy.count("PATCH", ""), 3, "twice the layer, once the config");
        assert!(stage.tag_moved_after_a_break());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_each_time_is_one_error() {
    let stage = Stage::new().await;
    stage.proxy.break_next("PATCH", "", usize::MAX, Fault::BreakBody(1 << 20));
    let (result, retries) = stage.push().await;
    let error = result.unwrap_err();
    assert!(error.contains("PATCH") && error.contains(&stage.proxy.addr().to_string()), "{error}");
    assert_eq!((retries, stage.proxy.count("PATCH", "")), (3, 4));
    assert!(!stage.tag_moved_after_a_break());
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_in_trouble_are_asked_again() {
    for (method, path) in
        [("GET", "/v2/"), ("POST", ""), ("HEAD", ""), ("PATCH", ""), ("PUT", "uploads"), ("PUT", "manifests")]
    {
        for status in [408, 429, 500, 502, 503, 504] {
            let stage = Stage::new().await;
            stage.proxy.break_next(method, path, 2, answer(status));
            let (result, _) = stage.push().await;
            assert_eq!(result, Ok(()), "{status} to {method} {path}");
            assert!(stage.tag_moved());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_stay_in_trouble_are_one_error() {
    for (method, path, status) in
        [("POST", "", 503), ("PATCH", "", 500), ("PUT", "uploads", 504), ("PUT", "manifests", 502)]
    {
        let stage = Stage::new().await;
        stage.proxy.break_next(method, path, usize::MAX, answer(status));
        let (result, _) = stage.push().await;
        let error = result.unwrap_err();
        assert!(error.contains(&status.to_string()) && error.contains(method), "{error}");
        assert!(!stage.tag_moved());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_will_not_pass_is_not_tried_again() {
    let stage = Stage::new().await;
    let body = r#"{"errors":[{"code":"DENIED","message":"quota exceeded"}]}"#.to_owned();
    stage.proxy.break_next(
        "PUT",
        "manifests",
        usize::MAX,
        Fault::Answer { status: 403, headers: Vec::new(), body },
    );
    let (result, _) = stage.push().await;
    let error = result.unwrap_err();
    assert!(error.contains("quota exceeded") && error.contains("push to m"), "{error}");
    assert_eq!(stage.proxy.count("PUT", "manifests"), 1);
    assert!(!stage.tag_moved());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_says_how_long_to_wait() {
    let stage = Stage::new().await;
    stage.proxy.break_next("POST", "", 1, answer_with(429, "retry-after", "1"));
    let start = std::time::Instant::now();
    assert_eq!(stage.push().await.0, Ok(()));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

/// A commit that worked and that nobody heard of: a broken connection, and proxies that waited no longer.
fn unheard() -> [Fault; 3] {
    [Fault::LoseAnswer, Fault::AnswerInstead(504), Fault::AnswerInstead(502)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_commit_of_a_blob_is_not_a_second_upload() {
    for fault in unheard() {
        let stage = Stage::new().await;
        stage.proxy.break_next("PUT", "uploads", 1, fault);
        assert_eq!(stage.push().await.0, Ok(()));
        assert_eq!(stage.proxy.count("PATCH", ""), 2, "the layer and the config, once each");
        assert_eq!(stage.proxy.count("PUT", "uploads"), 2);
        assert!(stage.tag_moved());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_last_attempt_at_a_commit_is_no_error() {
    let stage = Stage::new().await;
    let retry = RetryPolicy { retries: 0, ..options().retry };
    stage.proxy.break_next("PUT", "uploads", 2, Fault::AnswerInstead(504));
    assert_eq!(stage.push_with(RegistryOptions { retry, ..options() }).await.0, Ok(()));
    assert!(stage.tag_moved());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_blob_in_one_request_is_not_a_second_one() {
    for fault in unheard() {
        let stage = Stage::new().await;
        let upload = Some(UploadStyle::Monolithic);
        stage.proxy.break_next("PUT", "uploads", 1, fault);
        assert_eq!(stage.push_with(RegistryOptions { upload, ..options() }).await.0, Ok(()));
        assert_eq!(stage.proxy.count("PUT", "uploads"), 2, "the layer and the config, once each");
        assert!(stage.tag_moved());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_manifest_is_not_an_error() {
    let stage = Stage::new().await;
    stage.proxy.break_next("PUT", "manifests", 1, Fault::LoseAnswer);
    assert_eq!(stage.push().await.0, Ok(()));
    assert_eq!(stage.proxy.count("PUT", "manifests"), 1);
    assert!(stage.tag_moved());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_that_took_the_upload_with_it_sends_all_again() {
    // The registry is asked for the upload then: where it is still there, the commit alone is made again.
    for (gone, patches) in [(true, 3), (false, 2)] {
        let stage = Stage::new().await;
        stage.proxy.break_next("PUT", "uploads", 1, answer(502));
        stage.proxy.break_next("PUT", "uploads", 1, answer(404));
        if gone {
            stage.proxy.break_next("GET", "uploads", 1, answer(404));
        }
        assert_eq!(stage.push().await.0, Ok(()));
        assert_eq!(stage.proxy.count("PATCH", ""), patches);
        assert!(stage.tag_moved());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_digest_in_the_answer_is_an_error() {
    let other = format!("sha256:{}", "0".repeat(64));
    let stage = Stage::new().await;
    let fault = Fault::ReplaceHeader { name: "docker-content-digest".to_owned(), value: other.clone() };
    stage.proxy.break_next("PUT", "uploads", 1, fault);
    let error = stage.push().await.0.unwrap_err();
    assert!(error.contains(&other) && error.contains("no tag was moved"), "{error}");
    assert!(!stage.tag_moved());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manifest_behind_the_tag_is_an_error() {
    let stage = Stage::new().await;
    let body = r#"{"schemaVersion":2}"#.to_owned();
    // The first looks what is there, the second reads back.
    stage.proxy.break_after(
        1,
        "GET",
        "manifests",
        1,
        Fault::Answer { status: 200, headers: Vec::new(), body },
    );
    let error = stage.push().await.0.unwrap_err();
    assert!(error.contains("does not name the image") && error.matches("sha256:").count() == 2, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_counts_before_the_error_it_provokes() {
    let stage = Stage::new().await;
    let layer = stage.files.layer("new", 64 << 20, 1);
    let path = stage.files.path("new");
    let hook = Hook(Arc::new(move || {
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(63 << 20).unwrap();
    }));
    stage.proxy.break_next("PATCH", "", 1, Fault::Run(hook));
    let to = reference(stage.proxy.addr(), "m:1");
    let error = push(&sink(options(), &to), &[layer]).await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Changed { breach: FenceBreach::Size { .. } | FenceBreach::Truncated { .. }, .. }
        ),
        "{error:?}"
    );
    assert_eq!(stage.proxy.count("PATCH", ""), 1, "not tried again");
    assert_eq!(stage.proxy.count("PUT", ""), 0, "nothing committed");
    assert!(!stage.tag_moved_after_a_break());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_an_error_that_names_the_address() {
    let files = Files::new();
    let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = options();
    options.retry = RetryPolicy { retries: 1, ..options.retry };
    let error = push(&sink(options, &reference(addr, "m:1")), &[files.layer("a", 10, 1)]).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains(&addr.to_string()) && text.to_lowercase().contains("connection refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_refusal_of_a_body_is_told_as_it_is() {
    let stage = Stage::new().await;
    let body = r#"{"errors":[{"code":"SIZE_INVALID","message":"layer too large"}]}"#.to_owned();
    stage.proxy.break_next("PATCH", "", usize::MAX, Fault::Answer { status: 413, headers: Vec::new(), body });
    let error = stage.push().await.0.unwrap_err();
    assert!(error.contains("413") && error.contains("layer too large"), "{error}");
    assert!(!stage.tag_moved());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_push_can_be_made_again_and_sends_only_what_is_missing() {
    let stage = Stage::new().await;
    stage.proxy.break_next("PUT", "manifests", 1, answer(413));
    let layers = [stage.files.layer("new", 1 << 20, 1)];
    let to = reference(stage.proxy.addr(), "m:1");
    let mut known = layers[0].clone();
    push(&sink(options(), &to), &layers).await.unwrap_err();
    known.known = Some(push(&sink(options(), &to), &layers).await.unwrap().layers[0].0.clone());
    let again = push(&sink(options(), &to), &[known]).await.unwrap();
    assert_eq!(again.layers[0].1, Outcome::Present);
}

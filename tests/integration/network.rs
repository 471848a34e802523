//! Networks and registries that fail: what can be survived is, what cannot is one clear error, and the tag stays.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::fault_proxy::{Fault, FaultProxy, Seen};
use crate::support::image::{Image, Node};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::write_large;

/// An image behind a proxy that can break things, and a change to push.
struct Setup {
    registry: Registry,
    proxy: FaultProxy,
    sandbox: Sandbox,
    old: String,
}

impl Setup {
    fn new() -> Self {
        let registry = Registry::start();
        let proxy = registry.proxy();
        let sandbox = Sandbox::small();
        let old = sandbox.pushed(&registry.name("model:1"), &[]).digest().to_owned();
        write_large(&sandbox.file("model/weights"), 5 << 20, 1);
        Self { registry, proxy, sandbox, old }
    }

    fn push(&self, retry: &str) -> Run {
        let name = format!("{}/model:1", self.proxy.addr());
        self.sandbox.build(&["--push", "-t", &name, "--tls-verify=false", "--retry", retry])
    }

    /// The push works, and what arrived is right.
    fn survives(&self, retry: &str) -> Run {
        let run = self.push(retry).done();
        let image = Image::pull(&self.registry.name("model:1"));
        assert_ne!(image.digest, self.old);
        assert_eq!(*image.node("models/config.json"), Node::file(b"{}", 0o644));
        let weights = std::fs::read(self.sandbox.file("model/weights")).unwrap();
        assert_eq!(*image.node("models/weights"), Node::file(&weights, 0o644));
        run
    }

    /// The push fails with the registry's code, and the tag is where it was.
    fn fails(&self, retry: &str, parts: &[&str]) -> Run {
        let run = self.push(retry).failed(5).says(parts);
        assert_eq!(self.registry.tag("model", "1").as_deref(), Some(self.old.as_str()), "{run}");
        run
    }
}

fn answer(status: u16, headers: &[(&str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Answer { status, headers, body: String::new() }
}

#[test]
fn a_connection_that_breaks_once_is_survived() {
    let setup = Setup::new();
    setup.proxy.break_next("PATCH", "/blobs/uploads/", 1, Fault::BreakBody(1 << 20));
    let run = setup.survives("1");
    assert!(run.stderr.contains("attempt 2"), "{run}");
}

#[test]
fn a_connection_that_breaks_each_time_is_an_error() {
    let setup = Setup::new();
    setup.proxy.break_next("PATCH", "/blobs/uploads/", usize::MAX, Fault::BreakBody(1 << 20));
    setup.fails("1", &["the connection broke", "/v2/model/blobs/uploads/"]);
    assert_eq!(setup.proxy.count("PATCH", ""), 2);
}

#[test]
fn servers_in_trouble_are_asked_again() {
    for (method, path) in [
        ("POST", "/blobs/uploads/"),
        ("PATCH", "/blobs/uploads/"),
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/"),
    ] {
        let setup = Setup::new();
        setup.proxy.break_next(method, path, 1, answer(503, &[]));
        setup.survives("1");
    }
}

#[test]
fn servers_that_stay_in_trouble_are_an_error() {
    for (method, path) in [("PATCH", "/blobs/uploads/"), ("PUT", "/manifests/")] {
        let setup = Setup::new();
        setup.proxy.break_next(method, path, usize::MAX, answer(500, &[]));
        setup.fails("1", &["500", "/v2/model/"]);
        assert_eq!(setup.proxy.count(method, path), 2, "{method} {path}");
    }
}

#[test]
fn a_registry_that_is_read_only_is_an_error_before_any_layer_byte() {
    let setup = Setup::new();
    setup.proxy.break_next("POST", "/blobs/uploads/", usize::MAX, answer(405, &[]));
    setup.fails("3", &["405"]);
    assert_eq!(setup.proxy.count("POST", ""), 1, "it will not pass");
    assert_eq!(setup.proxy.count("PATCH", ""), 0);
}

#[test]
fn the_registry_says_how_long_to_wait() {
    let setup = Setup::new();
    setup.proxy.break_next("POST", "/blobs/uploads/", 1, answer(429, &[("retry-after", "2")]));
    let start = Instant::now();
    setup.survives("1");
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[test]
fn another_digest_in_the_answer_is_an_error() {
    let other = format!("sha256:{}", "0".repeat(64));
    for path in ["/blobs/uploads/", "/manifests/"] {
        let setup = Setup::new();
        let fault = Fault::ReplaceHeader { name: "docker-content-digest".to_owned(), value: other.clone() };
        setup.proxy.break_next("PUT", path, usize::MAX, fault);
        let run = setup.push("1").failed(5).says(&[&other]);
        if path != "/manifests/" {
            assert_eq!(setup.registry.tag("model", "1").as_deref(), Some(setup.old.as_str()), "{run}");
        }
    }
}

#[test]
fn a_lost_answer_to_the_manifest_is_not_an_error() {
    let setup = Setup::new();
    setup.proxy.break_next("PUT", "/manifests/", 1, Fault::LoseAnswer);
    setup.survives("1");
}

#[test]
fn a_push_after_a_failed_one_reads_and_sends_no_layer_again() {
    let setup = Setup::new();
    setup
        .sandbox
        .containerfile("FROM scratch\nCOPY model/weights /models/\nCOPY model/config.json /models/\n");
    // Files that were just written are not remembered.
    thread::sleep(Duration::from_millis(2_100));
    setup.proxy.break_next("PUT", "/manifests/", usize::MAX, answer(500, &[]));
    setup.fails("0", &["500"]);
    let built = setup.sandbox.pushed(&setup.registry.name("model:1"), &[]);
    assert_eq!(built.outcomes(), ["present", "present"]);
    assert_eq!(built.number("bytes_read"), 0);
    assert_eq!(setup.registry.tag("model", "1").as_deref(), Some(built.digest()));
}

#[test]
fn a_registry_that_is_down_is_an_error_that_names_it() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sandbox = Sandbox::small();
    let args = ["--push", "-t", &format!("{addr}/model:1"), "--tls-verify=false", "--retry", "0"];
    let run = sandbox.build(&args).failed(5);
    run.says(&[
        &format!("cannot connect to {addr}: Connection refused"),
        "is it up, and is the address right?",
    ]);
}

#[test]
fn a_host_without_an_address_is_an_error_that_names_it() {
    let sandbox = Sandbox::small();
    let run = sandbox.build(&["--push", "-t", "no-such-host.invalid/model:1", "--retry", "0"]).failed(5);
    run.says(&["cannot connect to no-such-host.invalid"]);
}

#[test]
fn plain_http_is_spoken_only_when_asked() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let run = sandbox.build(&["--push", "-t", &registry.name("model:1")]).failed(5);
    run.says(&["speaks plain http, not https: pass --tls-verify=false"]);
    assert_eq!(registry.tag("model", "1"), None);
}

#[test]
fn a_certificate_must_be_known() {
    let registry = Registry::with_tls();
    let sandbox = Sandbox::small();
    let name = registry.name("model:1");
    let run = sandbox.build(&["--push", "-t", &name]).failed(5);
    run.says(&["its certificate is signed by an unknown authority", "--cert-dir"]);
    assert_eq!(registry.tag("model", "1"), None);
    sandbox.build(&["--push", "-t", &name, "--tls-verify=false"]).done();
    let directory = registry.certificates().display().to_string();
    let other = registry.name("model:2");
    sandbox.build(&["--push", "-t", &other, "--cert-dir", &directory]).done();
    assert_eq!(registry.tag("model", "2").is_some(), registry.tag("model", "1").is_some());
}

#[test]
fn a_proxys_limit_is_said_in_one_line_and_the_next_push_begins_with_it() {
    let setup = Setup::new();
    write_large(&setup.sandbox.file("model/more"), 3 << 20, 2);
    let length = |seen: &Seen| {
        seen.header("content-length").and_then(|len| len.parse::<u64>().ok()).unwrap_or_default()
    };
    let limited = |to| {
        FaultProxy::start(to).with_gate(move |seen| {
            let page = "<html><body><h1>413 Request Entity Too Large</h1></body></html>".to_owned();
            let answer = Fault::Answer { status: 413, headers: Vec::new(), body: page };
            (length(seen) > 1 << 20).then_some(answer)
        })
    };
    let proxy = limited(setup.registry.addr());
    let said = |run: &Run| run.stderr.lines().filter(|line| line.contains("413")).count();
    let mut before = 0;
    for (tag, weights, refused) in [("2", 1, true), ("3", 3, false)] {
        write_large(&setup.sandbox.file("model/weights"), 5 << 20, weights);
        let name = format!("{}/model:{tag}", proxy.addr());
        let more = ["--push", "-t", &name, "--tls-verify=false", "--layer-file-size", "1MiB", "--retry", "0"];
        let run = setup.sandbox.build(&more).done();
        assert_eq!(said(&run), 1, "{run}");
        assert!(
            run.stderr.contains("chunks of 800 KiB") && run.stderr.contains("client_max_body_size"),
            "{run}"
        );
        let large = proxy.seen().iter().filter(|seen| length(seen) > 1 << 20).count();
        assert_eq!(large > before, refused, "{run}");
        before = large;
        Image::pull(&setup.registry.name(&format!("model:{tag}")));
    }
}

//! registries.conf against two registries: the next place is asked where one is down or has not the image.

use std::fs;
use std::net::SocketAddr;

use crossdock_registry::{ConfPaths, RegistriesConf, Registry, RegistryOptions};
use crossdock_storage::{ImageSource as _, Platform};

use crate::docker_registry::DockerRegistry;
use crate::fault_proxy::{Fault, FaultProxy};
use crate::harness::{Files, chain, options, push, reference, sink};

/// Nobody listens there.
const DOWN: &str = "127.0.0.1:9";

fn conf(text: &str) -> RegistriesConf {
    let files = Files::new();
    fs::write(files.path("registries.conf"), text).unwrap();
    let paths = ConfPaths { explicit: Some(files.path("registries.conf")), ..ConfPaths::default() };
    RegistriesConf::load(&paths).unwrap()
}

fn with(text: &str) -> RegistryOptions {
    RegistryOptions { conf: conf(text), ..options() }
}

/// `source.example` with these mirrors, each `LOCATION`, before the location itself.
fn mirrored(location: &str, mirrors: &[String]) -> String {
    let mut text = format!("[[registry]]\nprefix = \"source.example/ns\"\nlocation = \"{location}\"\n");
    for mirror in mirrors {
        text.push_str(&format!("[[registry.mirror]]\nlocation = \"{mirror}\"\n"));
    }
    text
}

async fn put(addr: SocketAddr, rest: &str, seed: u64) -> String {
    let files = Files::new();
    let pushed =
        push(&sink(options(), &reference(addr, rest)), &[files.layer("a", 1000, seed)]).await.unwrap();
    pushed.manifest.digest().to_string()
}

async fn get(options: RegistryOptions, name: &str) -> Result<(String, String), String> {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let image = Registry::new(options).image(name).map_err(|error| chain(&error))?;
    let resolved = image.resolve(&platform).await.map_err(|error| chain(&error))?;
    image.blob(&resolved.manifest.layers()[0], 0).await.map_err(|error| chain(&error)).map(drop)?;
    let from = image.repository().unwrap();
    Ok((resolved.descriptor.digest().to_string(), format!("{}/{}", from.registry, from.repository)))
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_in_order_and_then_the_location() {
    let (one, two) = (DockerRegistry::start(), DockerRegistry::start());
    let (first, second) = (put(one.addr(), "m/img:1", 1).await, put(two.addr(), "real/img:1", 2).await);
    let only_there = put(two.addr(), "real/other:1", 3).await;
    let mirrors = [DOWN.to_owned(), format!("{}/m", one.addr())];
    let text = mirrored(&format!("{}/real", two.addr()), &mirrors);
    // The first is down, the second has it.
    let (digest, from) = get(with(&text), "source.example/ns/img:1").await.unwrap();
    assert_eq!((digest, from), (first, format!("{}/m/img", one.addr())));
    // Neither mirror has it: the location, rewritten.
    let (digest, from) = get(with(&text), "source.example/ns/other:1").await.unwrap();
    assert_eq!((digest, from), (only_there, format!("{}/real/other", two.addr())));
    // By tag, mirrors for digests are passed over.
    let by_digest =
        text.replacen("[[registry.mirror]]", "mirror-by-digest-only = true\n[[registry.mirror]]", 1);
    assert_eq!(get(with(&by_digest), "source.example/ns/img:1").await.unwrap().0, second);
    // Nobody has it: each says why.
    let error = get(with(&text), "source.example/ns/none:1").await.unwrap_err();
    for part in [
        "source.example/ns/none:1 could not be had from any of 3 places".to_owned(),
        format!("{DOWN}/none:1: cannot connect"),
        format!("{}/m/none:1: image", one.addr()),
        format!("{}/real/none:1: image", two.addr()),
    ] {
        assert!(error.contains(&part), "{part}\n{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn short_names_are_looked_for_in_order() {
    let (one, two) = (DockerRegistry::start(), DockerRegistry::start());
    let there = put(two.addr(), "tool:1", 1).await;
    let text = format!("unqualified-search-registries = [\"{}\", \"{}\"]", one.addr(), two.addr());
    assert_eq!(get(with(&text), "tool:1").await.unwrap().0, there);
    let first = put(one.addr(), "tool:1", 2).await;
    assert_eq!(get(with(&text), "tool:1").await.unwrap().0, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_registry_is_not_asked() {
    let registry = DockerRegistry::start();
    let proxy = FaultProxy::start(registry.addr());
    let text = format!("[[registry]]\nlocation = \"{}\"\nblocked = true\n", proxy.addr());
    let error = get(with(&text), &format!("{}/img:1", proxy.addr())).await.unwrap_err();
    assert!(error.contains("is blocked") && error.contains("registries.conf"), "{error}");
    let error = Registry::new(with(&text)).sink(&[reference(proxy.addr(), "img:1")]).unwrap_err();
    assert!(chain(&error).contains("is blocked"), "{error}");
    assert!(proxy.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn insecure_is_for_its_location_alone() {
    let (one, two) = (DockerRegistry::start(), DockerRegistry::start());
    let there = put(one.addr(), "img:1", 1).await;
    put(two.addr(), "img:1", 1).await;
    let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", one.addr());
    let verified = RegistryOptions { tls_verify: true, ..with(&text) };
    assert_eq!(get(verified.clone(), &format!("{}/img:1", one.addr())).await.unwrap().0, there);
    let error = get(verified.clone(), &format!("{}/img:1", two.addr())).await.unwrap_err();
    assert!(error.contains("plain http"), "{error}");
    // A push to it as well; and not where the command line asks for TLS.
    let files = Files::new();
    let to = reference(one.addr(), "new:1");
    push(&sink(verified.clone(), &to), &[files.layer("a", 10, 1)]).await.unwrap();
    let strict = RegistryOptions { conf: conf(&text).with_all_secure(), ..verified };
    let error = get(strict, &format!("{}/img:1", one.addr())).await.unwrap_err();
    assert!(error.contains("plain http"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explicit_credentials_do_not_go_to_a_mirror() {
    let registry = DockerRegistry::start();
    put(registry.addr(), "m/img:1", 1).await;
    let door = Fault::Answer {
        status: 401,
        headers: vec![("www-authenticate".to_owned(), "Basic realm=x".to_owned())],
        body: String::new(),
    };
    let mirror = FaultProxy::start(registry.addr()).with_gate(move |_| Some(door.clone()));
    let text = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        registry.addr(),
        mirror.addr()
    );
    let options = RegistryOptions { conf: conf(&text), ..crate::harness::with_password("me", "hunter2") };
    get(options, &format!("{}/m/img:1", registry.addr())).await.unwrap();
    assert!(!mirror.seen().is_empty());
    assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

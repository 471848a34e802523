//! What a registry is known not to take is said before a layer is read.

use crate::fault_proxy::{Fault, FaultProxy, Seen};
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::write_sparse;

/// A registry that says it is GHCR, whatever its host is called.
fn ghcr(registry: &Registry) -> FaultProxy {
    let proxy = FaultProxy::start(registry.addr());
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"ghcr.io\"", proxy.addr());
    proxy.with_gate(move |seen: &Seen| {
        let answer =
            |status, headers, body: &str| Some(Fault::Answer { status, headers, body: body.to_owned() });
        if seen.path.starts_with("/token") {
            return answer(200, Vec::new(), r#"{"token":"t"}"#);
        }
        match seen.header("authorization") {
            Some(_) => None,
            None => answer(401, vec![("www-authenticate".to_owned(), challenge.clone())], ""),
        }
    })
}

#[test]
fn a_layer_beyond_what_the_registry_takes_is_named_before_it_is_read() {
    let registry = Registry::start();
    let proxy = ghcr(&registry);
    let sandbox = Sandbox::small();
    write_sparse(&sandbox.file("model/big.safetensors"), 10_000_000_001);
    let name = format!("{}/model:1", proxy.addr());
    let push = ["--push", "--tls-verify=false", "--retry", "0", "-t", &name];
    let run = sandbox.build(&push).failed(3);
    let run = run.says(&["models/big.safetensors", "GHCR takes at most 10000000000", "--no-preflight"]);
    assert!(!run.stderr.contains("warning"), "{run}");
    assert_eq!((proxy.count("PATCH", ""), proxy.count("HEAD", "/blobs/")), (0, 0));
    // A dry run says the same.
    let dry = [&push[..], &["--dry-run"]].concat();
    sandbox.build(&dry).failed(3).says(&["models/big.safetensors", "GHCR takes at most 10000000000"]);
    sandbox.build(&[&dry[..], &["--no-preflight"]].concat()).done();
    // Where it is not asked for, the registry has the last word.
    proxy.break_next(
        "POST",
        "/blobs/uploads/",
        10,
        Fault::Answer { status: 413, headers: Vec::new(), body: String::new() },
    );
    let run = sandbox.build(&[&push[..], &["--no-preflight"]].concat()).failed(5).says(&["413"]);
    assert!(!run.stderr.contains("GHCR"), "{run}");
}

//! Forward proxies: plain http through them in absolute form, https in a tunnel, and what is reached without.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crossdock_registry::{ProxyOptions, RegistryOptions, Secret};

use crate::docker_registry::DockerRegistry;
use crate::harness::{Files, QUICK, chain, options, push, reference, sink};

/// The first line of a request, and the proxy's password in it.
type Seen = (String, Option<String>);

/// A forward proxy that takes everybody to one place, and remembers the first lines and the passwords.
struct ForwardProxy {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ForwardProxy {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let seen = Arc::clone(&shared);
                // Connections break when the test is over.
                thread::spawn(move || serve(client, to, &seen));
            }
        });
        Self { addr, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(client: TcpStream, to: SocketAddr, seen: &Mutex<Vec<Seen>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut client = client;
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let password = head.iter().find_map(|line| {
        line.to_ascii_lowercase().starts_with("proxy-authorization:").then(|| line[20..].trim().to_owned())
    });
    seen.lock().unwrap().push((head[0].clone(), password));
    let mut upstream = TcpStream::connect(to)?;
    if head[0].starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    } else {
        // One request a connection, so that each is seen. The registry takes the absolute form.
        let kept = head.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let text: String = kept.map(|line| format!("{line}\r\n")).collect();
        upstream.write_all(format!("{text}connection: close\r\n\r\n").as_bytes())?;
    }
    let mut answers = upstream.try_clone()?;
    let back = thread::spawn(move || {
        let copied = io::copy(&mut answers, &mut client);
        client.shutdown(std::net::Shutdown::Both).and(copied.map(drop))
    });
    io::copy(&mut reader, &mut upstream)?;
    back.join().unwrap_or(Ok(()))
}

fn through(proxy: SocketAddr, no_proxy: Option<&str>) -> RegistryOptions {
    let url = Secret::new(format!("http://me:hunter2@{proxy}"));
    RegistryOptions {
        proxy: ProxyOptions {
            http: Some(url.clone()),
            https: Some(url),
            no_proxy: no_proxy.map(str::to_owned),
        },
        ..options()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_registry_is_reached_through_the_proxy() {
    let registry = DockerRegistry::start();
    let proxy = ForwardProxy::start(registry.addr());
    let files = Files::new();
    let to = "registry.test:5000/m:1".parse().unwrap();
    push(&sink(through(proxy.addr, None), &to), &[files.layer("a", 1 << 20, 1)]).await.unwrap();
    assert!(registry.tag("m", "1").is_some());
    let seen = proxy.seen();
    assert!(seen.iter().any(|(line, _)| line.starts_with("GET http://registry.test:5000/v2/ ")), "{seen:?}");
    assert!(
        seen.iter().any(|(line, _)| line.starts_with("PATCH http://registry.test:5000/v2/m/")),
        "{seen:?}"
    );
    assert!(
        seen.iter().all(|(_, password)| password.as_deref() == Some("Basic bWU6aHVudGVyMg==")),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_a_tunnel_and_is_verified_to_its_end() {
    let files = Files::new();
    let made = rcgen::generate_simple_self_signed(vec!["registry.test".to_owned()]).unwrap();
    std::fs::create_dir(files.path("certs")).unwrap();
    std::fs::write(files.path("certs/ca.crt"), made.cert.pem()).unwrap();
    std::fs::write(files.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let tls = Some((files.path("certs/ca.crt"), files.path("key.pem")));
    let registry = DockerRegistry::start_with(&crate::docker_registry::Setup { tls, ..Default::default() });
    let proxy = ForwardProxy::start(registry.addr());
    let options = RegistryOptions {
        tls_verify: true,
        cert_dir: Some(files.path("certs")),
        ..through(proxy.addr, None)
    };
    let to = "registry.test:5000/m:1".parse().unwrap();
    push(&sink(options.clone(), &to), &[files.layer("a", 1 << 20, 1)]).await.unwrap();
    let seen = proxy.seen();
    assert!(seen.iter().all(|(line, _)| line == "CONNECT registry.test:5000 HTTP/1.1"), "{seen:?}");
    // The name in the certificate is that of the registry.
    let other = "other.test:5000/m:1".parse().unwrap();
    let error = push(&sink(options, &other), &[files.layer("b", 10, 1)]).await.unwrap_err();
    assert!(chain(&error).contains("another name"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_names_hosts_domains_and_networks() {
    let registry = DockerRegistry::start();
    let nobody = ForwardProxy::start(SocketAddr::from(([127, 0, 0, 1], 9)));
    for no_proxy in ["127.0.0.1", "127.0.0.0/8", "example.com, 127.0.0.1", "*"] {
        let files = Files::new();
        let to = reference(registry.addr(), "m:1");
        push(&sink(through(nobody.addr, Some(no_proxy)), &to), &[files.layer("a", 10, 1)])
            .await
            .unwrap_or_else(|error| panic!("{no_proxy}: {}", chain(&error)));
    }
    assert!(nobody.seen().is_empty());
    for (no_proxy, host, passed_by) in [
        (".test", "a.test", true),
        ("a.test:1", "a.test", true),
        ("a.test:2", "a.test", false),
        ("*.test", "a.test", true),
        ("test", "a.test", true),
        ("a.test", "a.test", true),
        ("b.test", "a.test", false),
        ("est", "a.test", false),
        ("", "a.test", false),
    ] {
        let proxy = ForwardProxy::start(registry.addr());
        let files = Files::new();
        let to = format!("{host}:1/m:1").parse().unwrap();
        let result = push(&sink(through(proxy.addr, Some(no_proxy)), &to), &[files.layer("a", 10, 1)]).await;
        assert_eq!(result.is_err(), passed_by, "{no_proxy}");
        assert_eq!(proxy.seen().is_empty(), passed_by, "{no_proxy}");
    }
}

/// A proxy that answers everything with this, and counts.
fn refusing(answer: &'static str) -> (SocketAddr, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, count) = (listener.local_addr().unwrap(), Arc::<Mutex<usize>>::default());
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            *counted.lock().unwrap() += 1;
            // Who asked may have gone.
            let _ = client.write_all(answer.as_bytes());
        }
    });
    (addr, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_named_with_its_words_and_not_asked_again() {
    let forbidden = "HTTP/1.1 403 Forbidden\r\nContent-Length: 50\r\n\r\n<html><body>Blocked by <b>rule 7</b></body></html>";
    let who = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    let busy = "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n";
    for (answer, parts, attempts) in [
        (forbidden, &["403 Forbidden: Blocked by rule 7", "no_proxy"][..], 1),
        (
            who,
            &["407 Proxy Authentication Required", "does not take the user and the password in https_proxy"],
            1,
        ),
        (busy, &["503 Service Unavailable: busy"], 1 + usize::try_from(QUICK.retries).unwrap()),
    ] {
        let (addr, count) = refusing(answer);
        let files = Files::new();
        let to = "registry.test/m:1".parse().unwrap();
        let options = RegistryOptions { tls_verify: true, retry: QUICK, ..through(addr, None) };
        let text = chain(&push(&sink(options, &to), &[files.layer("a", 10, 1)]).await.unwrap_err());
        let proxy = format!("no connection to registry.test through the proxy http://{addr}/: ");
        assert!(text.contains(&proxy) && !text.contains("hunter2"), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        // Each attempt asks once more for the words.
        assert_eq!(*count.lock().unwrap(), 2 * attempts, "{text}");
    }
    // In plain http the answer may be the registry's: the proxy is named beside it, but for 407.
    for (answer, parts) in [
        (forbidden, ["403 Blocked by rule 7", "(through the proxy http://127.0.0.1"]),
        (who, ["through the proxy http://127.0.0.1", "407"]),
    ] {
        let (addr, _) = refusing(answer);
        let files = Files::new();
        let to = "registry.test/m:1".parse().unwrap();
        let text =
            chain(&push(&sink(through(addr, None), &to), &[files.layer("a", 10, 1)]).await.unwrap_err());
        assert!(parts.iter().all(|part| text.contains(part)) && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxys_password_is_not_shown() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = through(free, None);
    assert!(!format!("{options:?}").contains("hunter2"));
    let files = Files::new();
    let to = "registry.test/m:1".parse().unwrap();
    let error = push(&sink(options, &to), &[files.layer("a", 10, 1)]).await.unwrap_err();
    let text = format!("{} {error:?}", chain(&error));
    assert!(text.contains(&format!("through the proxy http://{free}/: Connection refused")), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("bWU6aHVudGVyMg"), "{text}");
}

//! A token server with a registry behind it, as small as can be: OAuth2's refresh grant with POST, user and password
//! with GET. Plain threads, one request a connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The token that opens the registry.
pub(crate) const ACCESS_TOKEN: &str = "Access-Kx7";

/// A running server; its threads end with the process.
pub(crate) struct TokenServer {
    addr: SocketAddr,
    forms: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    /// Starts one that takes `secret` as a password of anybody and as an identity token.
    pub(crate) fn start(secret: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let forms = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&forms);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A client that goes away is no concern of the server's.
                thread::spawn(move || serve(client, addr, secret, &kept).ok());
            }
        });
        Self { addr, forms }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bodies that were posted for a token.
    pub(crate) fn forms(&self) -> Vec<String> {
        self.forms.lock().unwrap().clone()
    }
}

fn serve(
    mut client: TcpStream,
    addr: SocketAddr,
    secret: &str,
    forms: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    if reader.fill_buf()?.first() == Some(&0x16) {
        return client.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    }
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => value.trim().clone_into(&mut authorization),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let token = format!(r#"{{"access_token":"{ACCESS_TOKEN}","expires_in":3600}}"#);
    let (status, header, text) = if path.starts_with("/token") {
        let good = if method == "POST" {
            forms.lock().unwrap().push(body.clone());
            body.ends_with(&format!("refresh_token={secret}"))
        } else {
            let basic = authorization.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
            basic.is_some_and(|basic| basic.ends_with(format!(":{secret}").as_bytes()))
        };
        if good { (200, String::new(), token) } else { (401, String::new(), String::new()) }
    } else if authorization != format!("Bearer {ACCESS_TOKEN}") {
        let header = format!("www-authenticate: Bearer realm=\"http://{addr}/token\",service=\"here\"\r\n");
        (401, header, String::new())
    } else {
        match method {
            "POST" => (202, "location: /v2/upload\r\n".to_owned(), String::new()),
            "HEAD" => (404, String::new(), String::new()),
            "DELETE" => (204, String::new(), String::new()),
            _ => (200, String::new(), "{}".to_owned()),
        }
    };
    let length = text.len();
    write!(
        client,
        "HTTP/1.1 {status} X\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n{text}"
    )
}

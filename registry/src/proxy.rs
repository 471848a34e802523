//! Proxies: which one is between, and what it says where it lets nothing through. The HTTP client tells neither, so a tunnel
//! that was refused is asked for once more, by hand, for the words of the refusal.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::client::ProxyOptions;
use crate::endpoint::{shown, split_port};
use crate::error::Error;
use crate::host::words_of;
use crate::no_proxy::NoProxy;
use crate::secret::Secret;
use crate::veil::Veil;

/// The words of a refusal are not waited for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer to CONNECT that are read.
const MAX_ANSWER: u64 = 64 << 10;

/// The proxies of the environment.
#[derive(Debug)]
pub(crate) struct Proxies {
    http: Option<Secret>,
    https: Option<Secret>,
    no_proxy: NoProxy,
}

/// The variable's value is not the URL of a proxy. Its text is not cited, for there may be a password in it.
#[derive(Debug, PartialEq)]
pub(crate) struct NotAProxy(pub(crate) &'static str);

impl Proxies {
    pub(crate) fn new(options: &ProxyOptions) -> Self {
        let no_proxy = NoProxy::parse(options.no_proxy.as_deref().unwrap_or_default());
        Self { http: options.http.clone(), https: options.https.clone(), no_proxy }
    }

    /// Covers the passwords.
    pub(crate) fn hide(&self, veil: &Veil) {
        for url in [&self.http, &self.https].into_iter().flatten() {
            if let Some(url) = proxy_url(url) {
                veil.hide_password(url.username(), url.password().unwrap_or_default());
            }
        }
    }

    /// The proxy before a host and port, for https or http; `None` where it is reached without.
    pub(crate) fn before(&self, authority: &str, https: bool) -> Result<Option<Url>, NotAProxy> {
        let (host, port) = split_port(authority);
        let (proxy, scheme_port, variable) = match https {
            true => (&self.https, 443, "https_proxy"),
            false => (&self.http, 80, "http_proxy"),
        };
        let Some(proxy) = proxy.as_ref().filter(|_| !self.no_proxy.covers(host, port.unwrap_or(scheme_port)))
        else {
            return Ok(None);
        };
        proxy_url(proxy).map(Some).ok_or(NotAProxy(variable))
    }

    /// Names the proxy in an error of a connection that goes through one.
    pub(crate) async fn named_in(&self, error: Error, authority: &str, https: bool, veil: &Veil) -> Error {
        let Error::Connect { host, reason } = error else { return error };
        let Ok(Some(proxy)) = self.before(authority, https) else { return Error::Connect { host, reason } };
        let name = named(&proxy);
        let (reason, transient) = if reason.starts_with("tunnel error") {
            match asked(&proxy, authority).await {
                Some(refusal) => refusal.told(&proxy, veil),
                None => (format!("it makes no tunnel there, and does not say why ({reason})"), true),
            }
        } else {
            (format!("{reason}; is the proxy up, and is its address right ({})?", variable(https)), true)
        };
        Error::Proxy { host, proxy: name, reason, transient }
    }
}

const fn variable(https: bool) -> &'static str {
    if https { "https_proxy" } else { "http_proxy" }
}

/// A proxy in errors: scheme, host and port alone.
pub(crate) fn named(proxy: &Url) -> String {
    let mut proxy = proxy.clone();
    proxy.set_path("");
    shown(&proxy)
}

/// The error where a proxy asks, in plain http, who we are.
pub(crate) fn unauthorized(proxy: &Url, host: &str, detail: &str) -> Error {
    let reason = who_we_are(proxy, &format!("407{detail}"), "http_proxy");
    Error::Proxy { host: host.to_owned(), proxy: named(proxy), reason, transient: false }
}

fn who_we_are(proxy: &Url, said: &str, variable: &str) -> String {
    if proxy.username().is_empty() {
        format!("{said}; it wants a user and a password: write {variable}=http://USER:PASSWORD@HOST:PORT")
    } else {
        format!("{said}; it does not take the user and the password in {variable}")
    }
}

/// A proxy's URL; without a scheme it is spoken to in http, as Go has it.
fn proxy_url(text: &Secret) -> Option<Url> {
    let is_web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if let Some(url) = Url::parse(text.expose()).ok().filter(is_web) {
        return Some(url);
    }
    // With a scheme it is a URL that is wrong, and a password would stand where nobody looks for it.
    let bare = Some(text.expose()).filter(|text| !text.contains("://"))?;
    Url::parse(&format!("http://{bare}")).ok().filter(is_web)
}

/// A proxy's answer to CONNECT.
#[derive(Debug, PartialEq)]
struct Refusal {
    status: u16,
    /// The status and the words behind it.
    line: String,
    body: Vec<u8>,
}

impl Refusal {
    /// What is shown of it, and whether it may pass.
    fn told(&self, proxy: &Url, veil: &Veil) -> (String, bool) {
        let words = words_of(&self.body, veil);
        let line = crossdock_storage::escape_controls(&self.line);
        let said = format!("{line}{}{words}", if words.is_empty() { "" } else { ":" });
        match self.status {
            200 => ("it makes a tunnel now, after it had refused one".to_owned(), true),
            407 => (who_we_are(proxy, &said, "https_proxy"), false),
            status @ (408 | 425 | 429 | 500..=599) => (said, status != 501),
            _ => (
                format!(
                    "{said}; let the proxy's administrator allow the host, or list it in no_proxy if it is reached without a \
                     proxy"
                ),
                false,
            ),
        }
    }

    fn parse(answer: &[u8]) -> Option<Self> {
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&answer[..end]);
        let mut lines = head.split("\r\n");
        let line = lines.next()?.strip_prefix("HTTP/1.")?.split_once(' ')?.1.trim().to_owned();
        let status = line.get(..3)?.parse().ok()?;
        let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        let header = |name: &str| {
            headers.iter().find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let rest = &answer[end + 4..];
        let body = match (header("transfer-encoding"), header("content-length")) {
            (Some(_), _) => unchunked(rest),
            (None, Some(len)) => rest[..rest.len().min(len.parse().unwrap_or(rest.len()))].to_vec(),
            (None, None) => rest.to_vec(),
        };
        Some(Self { status, line, body })
    }
}

/// The bytes of a chunked body, as far as they came.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|part| part == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]);
        let size = size.split(';').next().unwrap_or_default().trim();
        let Ok(size @ 1..) = usize::from_str_radix(size, 16) else { break };
        rest = &rest[end + 2..];
        let taken = size.min(rest.len());
        body.extend_from_slice(&rest[..taken]);
        rest = rest[taken..].strip_prefix(b"\r\n").unwrap_or_default();
    }
    body
}

/// Asks a proxy for a tunnel; `None` where it says nothing, or is spoken to in TLS.
async fn asked(proxy: &Url, authority: &str) -> Option<Refusal> {
    if proxy.scheme() != "http" {
        return None;
    }
    let mut answer = Vec::new();
    let asking = async {
        // An IPv6 address without its brackets.
        let host = proxy.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let mut stream = TcpStream::connect((host, proxy.port_or_known_default().unwrap_or(80))).await?;
        let (host, port) = split_port(authority);
        let to = format!("{host}:{}", port.unwrap_or(443));
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if !proxy.username().is_empty() {
            request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", password(proxy)));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut stream = stream.take(MAX_ANSWER);
        while stream.read_buf(&mut answer).await? > 0 {
            if is_whole(&answer) {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    // What came until then may do.
    let _ = tokio::time::timeout(PATIENCE, asking).await;
    Refusal::parse(&answer)
}

/// Whether nothing more is to come. A tunnel has no body.
fn is_whole(answer: &[u8]) -> bool {
    let Some(refusal) = Refusal::parse(answer) else { return false };
    let head = String::from_utf8_lossy(&answer[..answer.len() - answer.len().min(refusal.body.len())]);
    let head = head.to_ascii_lowercase();
    let announced = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
    let announced = announced.and_then(|len| len.trim().parse::<usize>().ok());
    refusal.status == 200
        || announced == Some(refusal.body.len())
        || (head.contains("transfer-encoding:") && answer.ends_with(b"0\r\n\r\n"))
}

fn password(proxy: &Url) -> String {
    let plain = |text: &str| -> Vec<u8> {
        url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
            .next()
            .map(|(_, value)| value.into_owned().into_bytes())
            .unwrap_or_default()
    };
    let mut both = plain(proxy.username());
    both.push(b':');
    both.extend(plain(proxy.password().unwrap_or_default()));
    STANDARD.encode(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_connect_is_read_with_its_body() {
        for (answer, status, line, body) in [
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno!", 403, "403 Forbidden", "no"),
            ("HTTP/1.0 503 X\r\n\r\nbusy", 503, "503 X", "busy"),
            (
                "HTTP/1.1 403 F\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
                403,
                "403 F",
                "abcde",
            ),
            ("HTTP/1.1 403 F\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc", 403, "403 F", "abc"),
            ("HTTP/1.1 407\r\n\r\n", 407, "407", ""),
        ] {
            // A status line without words has a space all the same, but for some.
            let answer = answer.replacen("407\r", "407 \r", 1);
            let expected = Refusal { status, line: line.to_owned(), body: body.as_bytes().to_vec() };
            assert_eq!(Refusal::parse(answer.as_bytes()), Some(expected), "{answer}");
        }
        for none in
            ["", "HTTP/1.1 403 F\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 40\r\n\r\n"]
        {
            assert_eq!(Refusal::parse(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn what_a_proxy_refuses_may_pass_or_not() {
        let proxy = |text: &str| Url::parse(text).unwrap();
        let told = |status: u16, proxy: &Url| {
            let refusal = Refusal { status, line: format!("{status} X\u{1b}"), body: b"by rule 7".to_vec() };
            refusal.told(proxy, &Veil::default())
        };
        let (plain, known) = (proxy("http://p:3128"), proxy("http://me:pw@p:3128"));
        for (status, transient) in
            [(403, false), (407, false), (501, false), (502, true), (503, true), (429, true)]
        {
            let (text, may_pass) = told(status, &plain);
            assert_eq!(may_pass, transient, "{text}");
            assert!(text.contains(&format!("{status} X\\u{{1b}}: by rule 7")), "{text}");
        }
        assert!(told(407, &plain).0.contains("https_proxy=http://USER"));
        assert!(told(407, &known).0.contains("does not take the user"));
        assert_eq!(password(&proxy("http://m%40e:p+%3a@p")), STANDARD.encode("m@e:p+:"));
    }
}

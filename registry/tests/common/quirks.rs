//! A registry in memory that uploads blobs as one of the known kinds does, with its peculiarities, and that breaks
//! connections when it is told to. Plain threads; a connection carries one request.

#![allow(dead_code, reason = "not every test uses everything")]

#[path = "quirks_manifests.rs"]
mod manifests;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crossdock_storage::Hasher;
use manifests::Manifests;

/// Whose peculiarities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Content-Range checked, a wrong start or a stale state is 416; GET gives Range and a fresh Location.
    Distribution3,
    /// Uploads as Distribution 3, behind a door that wants a token; a manifest is there only once a tag names it.
    OpenShift,
    /// Appends; for an offset other than that of the state all requests get 404, and nobody can reach the upload any more.
    Distribution2,
    /// Appends without Content-Range; GET has no Location, and N in `bytes=0-N` is the next offset.
    Quay,
    /// A broken PATCH is the end of the upload; Location is relative.
    Zot,
    /// Bytes of a second PATCH are lost in silence.
    Ecr,
    /// A PATCH that says more than 4 MiB is 416.
    Ghcr,
    /// No PATCH.
    ArtifactRegistry,
}

/// The running registry; its threads end with the process.
pub(crate) struct Quirks {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    uploads: HashMap<String, Upload>,
    blobs: HashMap<(String, String), Vec<u8>>,
    manifests: Manifests,
    begun: usize,
    /// Bodies to break after so many bytes, one each.
    breaks: Vec<u64>,
    /// Bytes at the end of a broken body that are lost.
    forgetful: u64,
    hanging: Option<u64>,
    /// Refusals to come: method, a part of path and query, and status.
    refusals: Vec<(&'static str, &'static str, u16)>,
    /// So many PUTs of blobs are carried out and never answered.
    speechless: usize,
    silent: usize,
    received: u64,
    requests: Vec<String>,
}

#[derive(Default)]
struct Upload {
    bytes: Vec<u8>,
    patches: usize,
    /// Nobody knows its place any more.
    lost: bool,
}

struct Reply(u16, Vec<(&'static str, String)>, Vec<u8>);

impl Quirks {
    pub(crate) fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    // Broken connections are what this is for.
                    let _ = serve(kind, addr, &state, client);
                });
            }
        });
        Self { addr, state }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Breaks the next body of more than so many bytes when it has as many.
    pub(crate) fn break_after(&self, bytes: u64) {
        self.state.lock().unwrap().breaks.push(bytes);
    }

    /// Loses so many bytes of a body that is broken: they were in memory only.
    pub(crate) fn forget(&self, bytes: u64) {
        self.state.lock().unwrap().forgetful = bytes;
    }

    /// Takes so many bytes of the next body, and no more, without a word.
    pub(crate) fn hang_after(&self, bytes: u64) {
        self.state.lock().unwrap().hanging = Some(bytes);
    }

    /// Refuses the next so many requests of this method with this in path or query: without a word, and 401 with OpenShift's
    /// challenge.
    pub(crate) fn refuse(&self, method: &'static str, part: &'static str, status: u16, times: usize) {
        let refusals = std::iter::repeat_n((method, part, status), times);
        self.state.lock().unwrap().refusals.extend(refusals);
    }

    /// Forgets refusals that nobody met.
    pub(crate) fn refuse_no_more(&self) {
        self.state.lock().unwrap().refusals.clear();
    }

    /// Carries the next PUT of a blob out, and never answers it.
    pub(crate) fn leave_unanswered(&self) {
        self.state.lock().unwrap().speechless += 1;
    }

    /// Answers 503 so many times to who asks how far an upload is.
    pub(crate) fn refuse_asking(&self, times: usize) {
        self.state.lock().unwrap().silent = times;
    }

    /// Forgets all uploads.
    pub(crate) fn drop_uploads(&self) {
        self.state.lock().unwrap().uploads.clear();
    }

    /// Bytes of bodies of uploads.
    pub(crate) fn received(&self) -> u64 {
        self.state.lock().unwrap().received
    }

    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().blobs.get(&(repository.to_owned(), digest.to_owned())).cloned()
    }

    /// How many blobs there are, in all repositories.
    pub(crate) fn blobs(&self) -> usize {
        self.state.lock().unwrap().blobs.len()
    }

    pub(crate) fn remove_blobs(&self) {
        self.state.lock().unwrap().blobs.clear();
    }

    /// Uploads that somebody could go on with, or cancel.
    pub(crate) fn open_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.values().filter(|upload| !upload.lost).count()
    }

    /// Whether there is a manifest under this path, whether or not it can be read.
    pub(crate) fn has_manifest(&self, path: &str) -> bool {
        self.state.lock().unwrap().manifests.has(path)
    }

    /// Requests that begin so, `METHOD PATH`.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|line| line.starts_with(start)).count()
    }
}

fn serve(kind: Kind, addr: SocketAddr, state: &Mutex<State>, client: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut client = client;
    if reader.fill_buf()?.first() == Some(&0x16) {
        return client.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    }
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    state.lock().unwrap().requests.push(format!("{method} {target}"));
    let is_upload = target.contains("/blobs/uploads/") && matches!(method, "PATCH" | "PUT");
    if let Some(answer) = at_the_door(kind, addr, &mut state.lock().unwrap(), method, target, &headers) {
        read_body(&mut reader, &headers, u64::MAX)?;
        return reply(&mut client, &answer, method);
    }
    let told: Option<u64> = headers.get("content-length").and_then(|len| len.parse().ok());
    let mut broken = false;
    let mut body = Vec::new();
    let refused = method == "PATCH"
        && ((kind == Kind::Ghcr && told.is_some_and(|len| len > 4 << 20)) || kind == Kind::ArtifactRegistry);
    if refused {
        read_body(&mut reader, &headers, u64::MAX)?;
        let status = if kind == Kind::Ghcr { 416 } else { 405 };
        return reply(&mut client, &Reply(status, Vec::new(), Vec::new()), method);
    }
    if is_upload {
        // Checked before the body, as far as it can be.
        if let Some(answer) = check(kind, addr, &mut state.lock().unwrap(), target, &headers) {
            read_body(&mut reader, &headers, u64::MAX)?;
            return reply(&mut client, &answer, method);
        }
        let (limit, hang) = {
            let mut state = state.lock().unwrap();
            let fits = |bytes: &u64| told.is_none_or(|told| told > *bytes);
            let limit =
                if state.breaks.first().is_some_and(fits) { Some(state.breaks.remove(0)) } else { None };
            let hang = if state.hanging.as_ref().is_some_and(fits) { state.hanging.take() } else { None };
            (limit.or(hang).unwrap_or(u64::MAX), hang.is_some())
        };
        body = read_body(&mut reader, &headers, limit)?;
        broken = limit != u64::MAX && body.len() as u64 == limit;
        let mut state = state.lock().unwrap();
        state.received += body.len() as u64;
        if broken {
            let keep = body.len() - usize::try_from(state.forgetful).unwrap().min(body.len());
            body.truncate(keep);
            if method == "PATCH" {
                append(kind, &mut state, target, &headers, &body);
            }
            if matches!(kind, Kind::Zot) {
                state.uploads.remove(id_of(target));
            }
        }
        drop(state);
        if hang && broken {
            wait_for_the_end(&client)?;
        }
    } else if method == "PUT" {
        body = read_body(&mut reader, &headers, u64::MAX)?;
    }
    if broken {
        return Ok(());
    }
    let answer = handle(kind, addr, &mut state.lock().unwrap(), method, target, &headers, body);
    let speechless = {
        let mut state = state.lock().unwrap();
        let speechless = is_upload && method == "PUT" && state.speechless > 0;
        state.speechless -= usize::from(speechless);
        speechless
    };
    if speechless {
        return wait_for_the_end(&client);
    }
    reply(&mut client, &answer, method)
}

/// Until the client has had enough. What it still sends is not read.
fn wait_for_the_end(client: &TcpStream) -> io::Result<()> {
    let mut rest = [0; 1024];
    while client.peek(&mut rest)? > 0 {
        thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

/// What is refused whatever it is: what the test wants refused, and whom OpenShift does not know.
fn at_the_door(
    kind: Kind,
    addr: SocketAddr,
    state: &mut State,
    method: &str,
    target: &str,
    headers: &HashMap<String, String>,
) -> Option<Reply> {
    let meant = |(refused, part, _): &(&str, &str, u16)| *refused == method && target.contains(part);
    if let Some(at) = state.refusals.iter().position(meant) {
        let (.., status) = state.refusals.remove(at);
        let challenge = ("www-authenticate", "Basic realm=openshift,error=\"access denied\"".to_owned());
        let headers = if status == 401 { vec![challenge] } else { Vec::new() };
        return Some(Reply(status, headers, Vec::new()));
    }
    if kind != Kind::OpenShift {
        return None;
    }
    let path = target.split('?').next().unwrap_or_default();
    if path == "/openshift/token" {
        let status = if method == "GET" { 200 } else { 405 };
        return Some(Reply(status, Vec::new(), br#"{"token":"t","access_token":"t"}"#.to_vec()));
    }
    if !headers.contains_key("authorization") {
        let challenge = format!("Bearer realm=\"http://{addr}/openshift/token\"");
        return Some(Reply(401, vec![("www-authenticate", challenge)], Vec::new()));
    }
    let repository = path.strip_prefix("/v2/").filter(|rest| !rest.is_empty())?;
    let repository = repository.split("/blobs/").next()?.split("/manifests/").next()?;
    (repository.split('/').count() != 2).then(|| Reply(400, Vec::new(), Vec::new()))
}

/// What is wrong with a request to an upload, before its body.
fn check(
    kind: Kind,
    addr: SocketAddr,
    state: &mut State,
    target: &str,
    headers: &HashMap<String, String>,
) -> Option<Reply> {
    let id = id_of(target).to_owned();
    let Some(size) = state.uploads.get(&id).map(|upload| upload.bytes.len()) else {
        return Some(Reply(404, Vec::new(), b"{\"errors\":[{\"code\":\"BLOB_UPLOAD_UNKNOWN\"}]}".to_vec()));
    };
    let start: Option<usize> = headers
        .get("content-range")
        .and_then(|range| range.split_once('-'))
        .map(|(start, _)| start.parse().expect("first-last, without a unit"));
    let stated = query(target, "_state").and_then(|state| state.parse().ok());
    match kind {
        Kind::Distribution2 if stated != Some(size) => {
            if let Some(upload) = state.uploads.get_mut(&id) {
                upload.lost = true;
            }
            Some(Reply(404, Vec::new(), b"{\"errors\":[{\"code\":\"BLOB_UPLOAD_INVALID\"}]}".to_vec()))
        }
        Kind::Distribution3 | Kind::OpenShift | Kind::Ghcr
            if stated != Some(size)
                || (headers.contains_key("content-length") && start.is_some_and(|start| start != size)) =>
        {
            Some(Reply(416, place(kind, addr, target, size, false), Vec::new()))
        }
        Kind::Zot if start.is_some_and(|start| start != size) => Some(Reply(416, Vec::new(), Vec::new())),
        Kind::Quay if start.is_some_and(|start| start > size) => {
            Some(Reply(416, place(kind, addr, target, size, true), Vec::new()))
        }
        _ => None,
    }
}

fn append(kind: Kind, state: &mut State, target: &str, headers: &HashMap<String, String>, body: &[u8]) {
    let Some(upload) = state.uploads.get_mut(id_of(target)) else { return };
    upload.patches += 1;
    let start = headers.get("content-range").and_then(|range| range.split('-').next()?.parse::<usize>().ok());
    match (kind, start) {
        (Kind::Ecr, _) if upload.patches > 1 => {}
        (Kind::Quay, Some(start)) if start < upload.bytes.len() => {
            let over = (upload.bytes.len() - start).min(body.len());
            upload.bytes.extend_from_slice(&body[over..]);
        }
        _ => upload.bytes.extend_from_slice(body),
    }
}

fn handle(
    kind: Kind,
    addr: SocketAddr,
    state: &mut State,
    method: &str,
    target: &str,
    headers: &HashMap<String, String>,
    body: Vec<u8>,
) -> Reply {
    let path = target.split('?').next().unwrap_or_default();
    let repository = path
        .strip_prefix("/v2/")
        .and_then(|rest| rest.split("/blobs/").next())
        .unwrap_or_default()
        .to_owned();
    if path == "/v2/" {
        return Reply(200, Vec::new(), Vec::new());
    }
    if path.contains("/manifests/") {
        let media_type = headers.get("content-type").map(String::as_str).unwrap_or_default();
        return match (kind, method) {
            (Kind::OpenShift, "PUT") => {
                let (manifests, blobs) = (&mut state.manifests, &state.blobs);
                let repository = repository.split("/manifests/").next().unwrap_or_default().to_owned();
                let has = |digest: &str| blobs.contains_key(&(repository.clone(), digest.to_owned()));
                manifests.put_in_stream(path, media_type, body, has)
            }
            (Kind::OpenShift, _) => state.manifests.get_from_stream(path),
            (_, "PUT") => state.manifests.put(path, media_type, body),
            _ => state.manifests.get(path),
        };
    }
    let Some(id) = path.split("/blobs/uploads/").nth(1) else {
        let digest = path.rsplit('/').next().unwrap_or_default().to_owned();
        return match state.blobs.get(&(repository, digest)) {
            Some(bytes) => Reply(200, Vec::new(), bytes.clone()),
            None => Reply(404, Vec::new(), Vec::new()),
        };
    };
    match method {
        "POST" => {
            if let (Some(mount), Some(from)) = (query(target, "mount"), query(target, "from"))
                && let Some(bytes) = state.blobs.get(&(from, mount.clone())).cloned()
            {
                state.blobs.insert((repository, mount), bytes);
                return Reply(201, Vec::new(), Vec::new());
            }
            state.begun += 1;
            let id = format!("u{}", state.begun);
            state.uploads.insert(id.clone(), Upload::default());
            Reply(202, place(kind, addr, &format!("{path}{id}"), 0, false), Vec::new())
        }
        "PATCH" => {
            append(kind, state, target, headers, &body);
            let upload = &state.uploads[id];
            let size = if kind == Kind::Ecr { upload.bytes.len().max(1) } else { upload.bytes.len() };
            Reply(202, place(kind, addr, target, size, false), Vec::new())
        }
        "PUT" => {
            let Some(mut upload) = state.uploads.remove(id) else {
                return Reply(404, Vec::new(), Vec::new());
            };
            upload.bytes.extend_from_slice(&body);
            let digest = query(target, "digest").unwrap_or_default();
            if Hasher::digest(&upload.bytes).to_string() != digest {
                return Reply(400, Vec::new(), b"{\"errors\":[{\"code\":\"DIGEST_INVALID\"}]}".to_vec());
            }
            state.blobs.insert((repository, digest.clone()), upload.bytes);
            Reply(201, vec![("docker-content-digest", digest)], Vec::new())
        }
        "DELETE" => {
            let strict = matches!(kind, Kind::Distribution3 | Kind::OpenShift | Kind::Distribution2);
            if strict && let Some(answer) = check(kind, addr, state, target, &HashMap::new()) {
                return answer;
            }
            state.uploads.remove(id);
            Reply(204, Vec::new(), Vec::new())
        }
        _ if state.silent > 0 => {
            state.silent -= 1;
            Reply(503, Vec::new(), Vec::new())
        }
        _ => {
            if !matches!(kind, Kind::Distribution3 | Kind::OpenShift | Kind::Ghcr | Kind::Quay)
                && let Some(answer) = check(kind, addr, state, target, headers)
            {
                return answer;
            }
            match state.uploads.get(id) {
                Some(upload) => Reply(204, place(kind, addr, target, upload.bytes.len(), true), Vec::new()),
                None => Reply(404, Vec::new(), Vec::new()),
            }
        }
    }
}

/// Range and Location of an upload.
fn place(
    kind: Kind,
    addr: SocketAddr,
    target: &str,
    size: usize,
    asked: bool,
) -> Vec<(&'static str, String)> {
    let path = target.split('?').next().unwrap_or_default();
    let last = size.saturating_sub(1);
    match kind {
        Kind::Quay if asked => vec![("range", format!("bytes=0-{size}"))],
        Kind::Quay => vec![("range", format!("0-{last}")), ("location", format!("http://{addr}{path}"))],
        Kind::Zot => vec![("range", format!("0-{last}")), ("location", path.to_owned())],
        _ => vec![("range", format!("0-{last}")), ("location", format!("http://{addr}{path}?_state={size}"))],
    }
}

fn id_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default()
}

fn query(target: &str, name: &str) -> Option<String> {
    let pairs = target.split_once('?')?.1;
    let value = pairs.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}

fn reply(client: &mut TcpStream, Reply(status, headers, body): &Reply, method: &str) -> io::Result<()> {
    let len = body.len();
    let mut text = format!("HTTP/1.1 {status} Quirk\r\nconnection: close\r\n");
    if *status != 204 {
        text.push_str(&format!("content-length: {len}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    client.write_all(text.as_bytes())?;
    if method == "HEAD" { Ok(()) } else { client.write_all(body) }
}

/// The body, or the first `limit` bytes of it.
fn read_body(
    reader: &mut impl BufRead,
    headers: &HashMap<String, String>,
    limit: u64,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(len) = headers.get("content-length").and_then(|len| len.parse::<u64>().ok()) {
        reader.by_ref().take(len.min(limit)).read_to_end(&mut body)?;
        return Ok(body);
    }
    if !headers.contains_key("transfer-encoding") {
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let left = limit - body.len() as u64;
        reader.by_ref().take(size.min(left)).read_to_end(&mut body)?;
        if size >= left {
            return Ok(body);
        }
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

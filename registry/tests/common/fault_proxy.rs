//! A proxy before a registry that breaks what it is told to break, and remembers what passed.
//!
//! Plain threads and no dependencies, so that tests of any kind can take it in with `#[path]`. Each connection carries
//! one request; answers are passed on as they come.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "not every test uses everything; what cannot be set up fails"
)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What to break.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Answer with this, and do not ask the registry. The request's body is read first.
    Answer { status: u16, headers: Vec<(String, String)>, body: String },
    /// Answer with this at once, and close the connection with the body half read.
    AnswerEarly { status: u16, headers: Vec<(String, String)>, body: String },
    /// Pass so many bytes of the request's body on, then break both connections.
    BreakBody(u64),
    /// Pass so many bytes of the answer's body on, then break both connections.
    CutAnswer(u64),
    /// Let the registry do it, and lose its answer.
    LoseAnswer,
    /// Let the registry do it, and answer with this status in its place.
    AnswerInstead(u16),
    /// Put this header in the place of the answer's own.
    ReplaceHeader { name: String, value: String },
    /// Pass the request on without this header.
    DropHeader(&'static str),
    /// Do as told by nobody: call this, then pass the request on.
    Run(Hook),
    /// Let the registry do it, and call this before its answer is passed on.
    RunBeforeAnswer(Hook),
}

/// Something to do when a request comes.
#[derive(Clone)]
pub(crate) struct Hook(pub(crate) Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// Which requests to break.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// The method.
    pub(crate) method: &'static str,
    /// A part of path and query.
    pub(crate) path: &'static str,
    /// So many matching requests pass first.
    pub(crate) skip: usize,
    /// So many are broken then.
    pub(crate) times: usize,
    /// How.
    pub(crate) fault: Fault,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Bytes of the body that were read, framing included where it is chunked.
    pub(crate) body: u64,
}

impl Seen {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Decides for every request that no rule breaks.
type Gate = Box<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;

/// The running proxy; its threads end with the process.
pub(crate) struct FaultProxy {
    addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    upstream: SocketAddr,
    gate: Mutex<Option<Gate>>,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
}

impl FaultProxy {
    /// Starts before the registry at `upstream`, on a free port of 127.0.0.1.
    pub(crate) fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            upstream,
            gate: Mutex::default(),
            rules: Mutex::default(),
            seen: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    // Broken connections are what this is for.
                    let _ = state.serve(client);
                });
            }
        });
        Self { addr, state }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Breaks the next `times` requests that match.
    pub(crate) fn break_next(&self, method: &'static str, path: &'static str, times: usize, fault: Fault) {
        self.break_after(0, method, path, times, fault);
    }

    /// Breaks `times` requests that match, after `skip` of them.
    pub(crate) fn break_after(
        &self,
        skip: usize,
        method: &'static str,
        path: &'static str,
        times: usize,
        fault: Fault,
    ) {
        self.state.rules.lock().unwrap().push(Rule { method, path, skip, times, fault });
    }

    /// Asks `gate` about every request that no rule breaks: a token server, or a door.
    pub(crate) fn with_gate(self, gate: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) -> Self {
        *self.state.gate.lock().unwrap() = Some(Box::new(gate));
        self
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many requests of this method, with this in path or query, came so far.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == method && seen.path.contains(path)).count()
    }
}

impl State {
    fn fault_for(&self, seen: &Seen) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let matches = |r: &&mut Rule| r.method == seen.method && seen.path.contains(r.path) && r.times > 0;
        match rules.iter_mut().find(matches) {
            Some(rule) if rule.skip > 0 => rule.skip -= 1,
            Some(rule) => {
                rule.times -= 1;
                return Some(rule.fault.clone());
            }
            None => {}
        }
        self.gate.lock().unwrap().as_ref().and_then(|gate| gate(seen))
    }

    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut reader = BufReader::new(client.try_clone()?);
        let mut client = client;
        if reader.fill_buf()?.first() == Some(&0x16) {
            // TLS: say what plain servers say.
            return client.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        }
        let Some((first, headers)) = read_head(&mut reader)? else { return Ok(()) };
        let mut words = first.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().to_owned();
        let seen = Seen { method, path, headers: headers.clone(), body: 0 };
        let at = {
            let mut all = self.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let read = |bytes: u64| self.seen.lock().unwrap()[at].body += bytes;
        let fault = self.fault_for(&seen);
        match &fault {
            Some(Fault::Answer { status, headers: extra, body }) => {
                copy_body(&mut reader, &headers, &mut io::sink(), None, &read)?;
                return answer(&mut client, *status, extra, body);
            }
            Some(Fault::AnswerEarly { status, headers: extra, body }) => {
                return answer(&mut client, *status, extra, body);
            }
            Some(Fault::Run(hook)) => (hook.0)(),
            _ => {}
        }
        let mut upstream = TcpStream::connect(self.upstream)?;
        upstream.set_nodelay(true)?;
        let mut head = format!("{first}\r\n");
        let dropped = match fault {
            Some(Fault::DropHeader(name)) => name,
            _ => "connection",
        };
        for (name, value) in headers.iter().filter(|(name, _)| name != "connection" && name != dropped) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("connection: close\r\n\r\n");
        upstream.write_all(head.as_bytes())?;
        let limit = match fault {
            Some(Fault::BreakBody(bytes)) => Some(bytes),
            _ => None,
        };
        copy_body(&mut reader, &headers, &mut upstream, limit, &read)?;
        if limit.is_some() {
            // Unread bytes make the kernel reset the connection when it is closed.
            thread::sleep(Duration::from_millis(20));
            upstream.shutdown(Shutdown::Both)?;
            return Ok(());
        }
        let mut answers = BufReader::new(upstream);
        let Some((status, mut headers)) = read_head(&mut answers)? else { return Ok(()) };
        if let Some(Fault::RunBeforeAnswer(hook)) = &fault {
            (hook.0)();
        }
        if let Some(Fault::LoseAnswer) = fault {
            io::copy(&mut answers, &mut io::sink())?;
            return Ok(());
        }
        if let Some(Fault::AnswerInstead(status)) = fault {
            io::copy(&mut answers, &mut io::sink())?;
            return answer(&mut client, status, &[], "");
        }
        if let Some(Fault::ReplaceHeader { name, value }) = &fault {
            headers.retain(|(n, _)| n != name);
            headers.push((name.clone(), value.clone()));
        }
        let mut head = format!("{status}\r\n");
        for (name, value) in headers.iter().filter(|(name, _)| name != "connection") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("connection: close\r\n\r\n");
        client.write_all(head.as_bytes())?;
        match fault {
            Some(Fault::CutAnswer(bytes)) => io::copy(&mut answers.take(bytes), &mut client)?,
            _ => io::copy(&mut answers, &mut client)?,
        };
        Ok(())
    }
}

fn answer(client: &mut TcpStream, status: u16, headers: &[(String, String)], body: &str) -> io::Result<()> {
    let mut text =
        format!("HTTP/1.1 {status} Fault\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    client.write_all(text.as_bytes())
}

type Head = (String, Vec<(String, String)>);

fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            return Ok(Some((first.trim_end().to_owned(), headers)));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

fn copy_body(
    reader: &mut impl BufRead,
    headers: &[(String, String)],
    to: &mut impl Write,
    limit: Option<u64>,
    read: &impl Fn(u64),
) -> io::Result<()> {
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let mut left = limit.unwrap_or(u64::MAX);
    let mut pass = |reader: &mut dyn Read, bytes: u64, to: &mut dyn Write| -> io::Result<bool> {
        let mut wanted = bytes.min(left);
        let mut buffer = [0; 16 << 10];
        while wanted > 0 {
            let at_most = usize::try_from(wanted).unwrap_or(buffer.len()).min(buffer.len());
            let got = reader.read(&mut buffer[..at_most])?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all(&buffer[..got])?;
            read(got as u64);
            wanted -= got as u64;
        }
        left -= bytes.min(left);
        Ok(left > 0)
    };
    if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all(line.as_bytes())?;
            let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16)
                .map_err(|_| io::ErrorKind::InvalidData)?;
            let more = pass(reader, size + 2, to)?;
            if size == 0 || !more {
                return Ok(());
            }
        }
    }
    if let Some(len) = header("content-length").and_then(|value| value.parse().ok()) {
        pass(reader, len, to)?;
    }
    Ok(())
}

//! Credential helpers: programs `docker-credential-NAME` that keep credentials for files that only name them
//! (<https://github.com/docker/docker-credential-helpers>). A helper is asked on its standard input and answers on its
//! standard output; it is given a limited time, and nothing that it says is logged.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crossdock_storage::{escape_controls, from_json};
use serde::Deserialize;

use super::Credential;
use crate::secret::Secret;

/// What a helper says when it has nothing; the protocol has no other sign of it.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user name by which a helper marks its secret as an identity token.
const TOKEN_USER: &str = "<token>";

/// Answers longer than this many bytes are not credentials.
const MAX_ANSWER: u64 = 1 << 20;

/// The helpers that there are.
#[derive(Debug, Clone)]
pub(crate) struct Helpers {
    /// Directories to look for programs in, as `PATH` has them.
    pub(crate) path: Option<OsString>,
    /// How long a helper may take.
    pub(crate) patience: Duration,
}

/// Why a helper gave nothing, though it was asked to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such program.
    Missing,
    /// It did not do what it was asked; the text says why, and holds no secret.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such program in the PATH"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helpers {
    /// Asks a helper for the credential of a server; `None` where it has none.
    pub(crate) fn get(&self, name: &str, server: &str) -> Result<Option<Credential>, Failure> {
        let Some(text) = self.run(name, "get", server.as_bytes())? else { return Ok(None) };
        // Not the error of serde_json: it may cite the secret.
        let answer: Answer = from_json(&text)
            .map_err(|_| Failure::Failed("its answer is not JSON with Username and Secret".to_owned()))?;
        Ok(match (answer.username.as_str(), answer.secret) {
            (_, secret) if secret.is_empty() => None,
            (TOKEN_USER, secret) => {
                Some(Credential::Identity { user: TOKEN_USER.to_owned(), token: Secret::new(secret) })
            }
            ("", _) => None,
            (user, secret) => {
                Some(Credential::Basic { user: user.to_owned(), password: Secret::new(secret) })
            }
        })
    }

    /// Gives a credential to a helper to keep.
    pub(crate) fn store(
        &self,
        name: &str,
        server: &str,
        user: &str,
        password: &Secret,
    ) -> Result<(), Failure> {
        let text = serde_json::json!({"ServerURL": server, "Username": user, "Secret": password.expose()});
        self.run(name, "store", text.to_string().as_bytes()).map(|_| ())
    }

    /// Has a helper forget a server's credential; whether it had one.
    pub(crate) fn erase(&self, name: &str, server: &str) -> Result<bool, Failure> {
        Ok(self.run(name, "erase", server.as_bytes())?.is_some())
    }

    /// Runs a helper; `None` where it says that it has no such credential.
    fn run(&self, name: &str, action: &str, input: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let program = self.program(name).ok_or(Failure::Missing)?;
        let failed = |error: io::Error| Failure::Failed(format!("cannot run it: {error}"));
        let deadline = Instant::now() + self.patience;
        let mut command = Command::new(program);
        command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        let mut child = command.spawn().map_err(failed)?;
        let result = converse(&mut child, input, deadline);
        if result.is_err() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        let (status, text) = result?;
        if status.success() {
            return Ok(Some(text));
        }
        let said = String::from_utf8_lossy(&text);
        let said = said.trim();
        if said == NOT_FOUND {
            return Ok(None);
        }
        // What looks like an answer may hold a secret.
        let said = if said.starts_with('{') { "" } else { said.lines().next().unwrap_or_default() };
        let said: String = said.chars().take(200).collect();
        let said = escape_controls(&said);
        let gap = if said.is_empty() { "" } else { ": " };
        Err(Failure::Failed(format!("it ended with {status}{gap}{said}")))
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        if name.is_empty() || name.contains('/') {
            return None;
        }
        let file = format!("docker-credential-{name}");
        let path: &OsStr = self.path.as_deref()?;
        std::env::split_paths(path).filter(|directory| directory.is_absolute()).map(|d| d.join(&file)).find(
            |program| {
                program.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
            },
        )
    }
}

/// Tells a helper its input and takes what it says, until `deadline`.
fn converse(child: &mut Child, input: &[u8], deadline: Instant) -> Result<(ExitStatus, Vec<u8>), Failure> {
    let late = || Failure::Failed("it took too long".to_owned());
    let failed = |error: io::Error| Failure::Failed(format!("it cannot be spoken to: {error}"));
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(failed(error));
    }
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut text = Vec::new();
            let result = stdout.take(MAX_ANSWER).read_to_end(&mut text).map(|_| text);
            // Nobody waits any more: it took too long.
            let _ = sender.send(result);
        });
    }
    let text = receiver
        .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .map_err(|_| late())?
        .map_err(failed)?;
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok((status, text));
        }
        if Instant::now() >= deadline {
            return Err(late());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

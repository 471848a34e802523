//! `crossdock login` and `crossdock logout`: as podman and buildah have them, with the same files and the same words.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use crossdock_registry::{CredentialEnv, CredentialOptions, Login, Logins, RegistriesConf, Secret};
use crossdock_storage::blocking;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::args::{ConfArgs, RegistryArgs};
use crate::exit::UsageError;
use crate::session::print;
use crate::{environment, registries, signals};

/// What `login` takes.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// User name [default: asked for]
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,

    /// Password; other users of this machine can see it while the command runs [default: asked for]
    #[arg(short, long, value_name = "PASSWORD", value_parser = secret, conflicts_with = "password_stdin")]
    password: Option<Secret>,

    /// Take the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,

    /// Print the user name that is kept for the registry, and do nothing else
    #[arg(long)]
    get_login: bool,

    /// Say which file the login is kept in
    #[arg(short, long)]
    verbose: bool,

    #[command(flatten)]
    registry: RegistryArgs,

    /// Registry, or a part of it [default: the first of unqualified-search-registries in registries.conf]
    #[arg(value_name = "HOST[:PORT][/NAMESPACE]")]
    host: Option<String>,
}

/// What `logout` takes.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// File of registry credentials [default: that which login writes]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,

    /// Forget all that is kept in the file
    #[arg(short, long, conflicts_with = "host")]
    all: bool,

    /// Registry, or a part of it [default: the first of unqualified-search-registries in registries.conf]
    #[arg(value_name = "HOST[:PORT][/NAMESPACE]")]
    host: Option<String>,
}

/// Runs `login`.
///
/// # Errors
/// Where the registry does not take the login, cannot be asked, or the login cannot be kept.
pub(crate) fn run(args: &LoginArgs, conf: &ConfArgs) -> Result<()> {
    let conf = registries::conf(conf).map_err(UsageError)?;
    let key = key(args.host.as_deref(), &conf).map_err(UsageError)?;
    if args.registry.creds.is_some() {
        return Err(UsageError(anyhow!("--creds: to log in, use --username and --password-stdin")).into());
    }
    let registry = registries::registry(&args.registry, conf, None, std::sync::Arc::default(), None)
        .map_err(UsageError)?;
    let logins = registry.logins();
    let known = logins.find(&key).context("get credentials")?;
    if args.get_login {
        let Some(login) = known else { bail!("not logged into {key}") };
        return say(&format!("{}\n", login.user));
    }
    if known.as_ref().is_some_and(|login| login.password.is_none()) {
        bail!("currently logged in, auth file contains an Identity token");
    }
    let mut password = args.password.clone();
    if args.password_stdin {
        password = Some(password_of_stdin()?);
    }
    if args.username.is_none()
        && password.is_none()
        && let Some(Login { user, password: Some(password) }) = &known
    {
        say(&format!("Authenticating with existing credentials for {key}\n"))?;
        if signals::block_on(async { Ok(registry.check_login(&key, user, password).await) })?.is_ok() {
            let host = key.split('/').next().unwrap_or(&key);
            return say(&format!("Existing credentials are valid. Already logged in to {host}\n"));
        }
        say("Existing credentials are invalid, please enter valid username and password\n")?;
    }
    let user = match &args.username {
        Some(user) => user.trim().to_owned(),
        None => ask_user(known.as_ref().map(|login| login.user.as_str()))?,
    };
    let password = match password {
        Some(password) => password,
        None => signals::block_on_to_end(ask_password())?,
    };
    if user.is_empty() || user.contains(':') {
        bail!("a user name is wanted, without a colon in it");
    }
    if password.is_empty() {
        bail!("the password is empty");
    }
    signals::block_on(async { Ok(registry.check_login(&key, &user, &password).await?) })?;
    logins.set(&key, &user, &password)?;
    if args.verbose {
        say(&format!("Used: {}\n", logins.path().display()))?;
    }
    say("Login Succeeded!\n")
}

/// Runs `logout`.
///
/// # Errors
/// Where there is no such login, or the file cannot be written.
pub(crate) fn run_logout(args: &LogoutArgs, conf: &ConfArgs) -> Result<()> {
    if let Some(path) = &args.authfile {
        std::fs::metadata(path).with_context(|| format!("checking authfile: {}", path.display()))?;
    }
    let uid = nix::unistd::getuid().as_raw();
    let logins = Logins::new(CredentialOptions {
        authfile: args.authfile.clone(),
        env: CredentialEnv::from_lookup(environment::var_os, uid),
        ..CredentialOptions::default()
    });
    if args.all {
        logins.remove_all()?;
        return say("Removed login credentials for all registries\n");
    }
    let conf = registries::conf(conf).map_err(UsageError)?;
    let key = key(args.host.as_deref(), &conf).map_err(UsageError)?;
    if logins.remove(&key).with_context(|| format!("logging out of {key:?}"))? {
        return say(&format!("Removed login credentials for {key}\n"));
    }
    if !key.contains('/') && logins.find(&key).context("get credentials")?.is_some() {
        return say(&format!(
            "Not logged into {key} with current tool. Existing credentials were established via docker login. Please \
             use docker logout instead.\n"
        ));
    }
    bail!("not logged into {key}")
}

/// The registry that is meant; where none is named, the first that short names are looked for on, as with podman.
fn key(host: Option<&str>, conf: &RegistriesConf) -> Result<String> {
    match host.or_else(|| conf.search_registries().first().map(String::as_str)) {
        Some(host) => parse_key(host),
        None => bail!("no registries found in registries.conf, a registry must be provided"),
    }
}

/// `HOST[:PORT][/NAMESPACE...]`; of a URL, its host.
fn parse_key(text: &str) -> Result<String> {
    let url = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let key = match url {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => text,
    };
    let mut parts = key.split('/');
    let host = parts.next().unwrap_or_default();
    let of_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if host.is_empty() || !host.chars().all(of_host) {
        bail!("{text:?} is not a registry: write HOST[:PORT][/NAMESPACE]");
    }
    let of_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    if !parts.all(|part| !part.is_empty() && part.chars().all(of_path)) {
        bail!("{text:?} is not a part of a registry: write HOST[:PORT]/NAMESPACE, without tag and digest");
    }
    Ok(key.to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "as clap wants it")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

fn say(text: &str) -> Result<()> {
    print(text)
}

fn password_of_stdin() -> Result<Secret> {
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text).context("reading the password from standard input")?;
    // As podman does: line ends are no part of a password.
    Ok(Secret::new(text.lines().collect::<String>()))
}

fn ask_user(known: Option<&str>) -> Result<String> {
    match known {
        Some(user) => say(&format!("Username ({user}): "))?,
        None => say("Username: ")?,
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("reading the user name")?;
    let line = line.trim();
    Ok(if line.is_empty() { known.unwrap_or_default().to_owned() } else { line.to_owned() })
}

async fn ask_password() -> Result<Secret> {
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask for the password: use --password-stdin");
    }
    // Before the question: who answers at once must not be seen.
    let quiet = Quiet::new().context("cannot keep the terminal from showing the password")?;
    say("Password: ")?;
    let read = || {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line).context("reading the password")
    };
    // A signal must not leave the terminal as it is now.
    let line = signals::cancel().or(blocking(read)).await?;
    drop(quiet);
    say("\n")?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn new() -> nix::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Whoever looks at the terminal sees that it did not work.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_host_or_a_part_of_one() {
        for (text, key) in [
            ("quay.io", Some("quay.io")),
            ("localhost:5000", Some("localhost:5000")),
            ("quay.io/org/team", Some("quay.io/org/team")),
            ("https://quay.io/v2/", Some("quay.io")),
            ("http://r.example:5000", Some("r.example:5000")),
            ("", None),
            ("quay.io/", None),
            ("quay.io/org:tag", None),
            ("quay.io/org@sha256:00", None),
            ("quay.io/Org", None),
            ("user@quay.io", None),
        ] {
            assert_eq!(parse_key(text).ok().as_deref(), key, "{text}");
        }
    }
}

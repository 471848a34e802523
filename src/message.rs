//! What people read. All of it goes through here to the terminal: control characters are written as escapes, for names,
//! paths, labels and the words of registries are other people's texts; and what was typed as a secret is covered. What
//! is for machines, names, templates and data, goes to a pipe as it is; in JSON the escapes are JSON's.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use crossdock_storage::escape_controls;

/// What stands in the place of a secret.
const COVER: &str = "***";

/// Shorter secrets, in bytes, are not covered wherever they stand: they are in every text.
const SHORTEST: usize = 4;

/// Names of variables whose values are secrets, in a part.
const SECRETIVE: [&str; 6] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "APIKEY", "API_KEY"];

/// Names of transports: what follows them up to an @ is a path.
const TRANSPORTS: [&str; 6] = ["oci", "oci-archive", "docker-archive", "dir", "docker", "containers-storage"];

/// The secrets on the command line.
static TYPED: OnceLock<Vec<String>> = OnceLock::new();

/// Covers from now on what the command line has of secrets.
pub(crate) fn hide_typed(args: &[OsString]) {
    let args: Vec<_> = args.iter().skip(1).filter_map(|arg| arg.to_str()).collect();
    // A second command line in one process there is not.
    let _ = TYPED.set(typed_secrets(&args));
}

/// Writes to standard error.
///
/// # Errors
/// Where it is closed.
pub(crate) fn to_stderr(text: &str) -> io::Result<()> {
    io::stderr().lock().write_all(clean(text).as_bytes())
}

/// Writes what programs read to standard error, as [`data_to_stdout`] does.
///
/// # Errors
/// Where it is closed.
pub(crate) fn data_to_stderr(text: &str) -> io::Result<()> {
    if io::stderr().is_terminal() { to_stderr(text) } else { io::stderr().lock().write_all(text.as_bytes()) }
}

/// Writes a text for people to standard output: a log or a file of it is shown on somebody's terminal later.
///
/// # Errors
/// Where it is closed.
pub(crate) fn to_stdout(text: &str) -> io::Result<()> {
    write_out(&escape_controls(text))
}

/// Writes what programs read to standard output: to a pipe or file as it is, to a terminal without control characters.
///
/// # Errors
/// Where it is closed.
pub(crate) fn data_to_stdout(text: &str) -> io::Result<()> {
    if io::stdout().is_terminal() { to_stdout(text) } else { write_out(text) }
}

fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// JSON whose strings have no control characters either: JSON itself wants escapes for those of ASCII alone.
pub(crate) fn json_safe(json: &str) -> Cow<'_, str> {
    if let Cow::Borrowed(json) = escape_controls(json) {
        return Cow::Borrowed(json);
    }
    let mut result = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match escape_controls(c.encode_utf8(&mut [0; 4])) {
            Cow::Borrowed(same) => result.push_str(same),
            // All of them have four digits at most. Writing to a String does not fail.
            Cow::Owned(_) => drop(write!(result, "\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(result)
}

/// A message without secrets and control characters.
pub(crate) fn clean(text: &str) -> String {
    escape_controls(&covered(text, typed())).into_owned()
}

/// A line of the log, which may have colours of its own on a terminal.
pub(crate) fn clean_log(line: &str) -> String {
    let line = covered(line, typed());
    if io::stderr().is_terminal() { escaped_but_colors(&line) } else { escape_controls(&line).into_owned() }
}

fn typed() -> &'static [String] {
    TYPED.get().map_or(&[], Vec::as_slice)
}

/// The secrets among the words of a command line, the longest first.
fn typed_secrets(args: &[&str]) -> Vec<String> {
    let mut secrets = Vec::new();
    for (at, arg) in args.iter().enumerate() {
        let next = args.get(at + 1).copied().unwrap_or_default();
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag, value),
            _ => (*arg, next),
        };
        match flag {
            "--creds" | "--src-creds" | "--dest-creds" => {
                secrets.push(value.split_once(':').map_or(value, |(_, password)| password).to_owned());
            }
            "--password" | "-p" => secrets.push(value.to_owned()),
            "--build-arg" | "--env" => {
                if let Some((name, value)) = value.split_once('=') {
                    let name = name.to_ascii_uppercase();
                    secrets
                        .extend(SECRETIVE.iter().any(|part| name.contains(part)).then(|| value.to_owned()));
                }
            }
            _ => {}
        }
        // `-t user:password@host/name`, and URLs.
        let value = if arg.starts_with("--") { value } else { arg };
        if let Some((_, password, _)) = userinfo(value) {
            secrets.push(password.to_owned());
        }
    }
    secrets.retain(|secret| secret.len() >= SHORTEST);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// `text` with a cover over what is known to be a secret, and over passwords in URLs and names of images.
fn covered<'t>(text: &'t str, secrets: &[String]) -> Cow<'t, str> {
    let mut text = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST) {
        // Quotes and control characters are written as escapes in quoted texts.
        let quoted = format!("{secret:?}");
        for form in [&quoted[1..quoted.len() - 1], secret] {
            if text.contains(form) {
                text = Cow::Owned(text.replace(form, COVER));
            }
        }
    }
    if !text.contains('@') {
        return text;
    }
    let ends = |c: char| c.is_whitespace() || "\"'`()<>,;".contains(c);
    let mut result = String::with_capacity(text.len());
    let mut rest: &str = &text;
    while !rest.is_empty() {
        let end = rest.find(ends).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match userinfo(word) {
            Some((before, password, after)) if password != COVER => {
                result.extend([before, COVER, after]);
            }
            _ => result.push_str(word),
        }
        let gap = after.chars().next().map_or(0, char::len_utf8);
        result.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    Cow::Owned(result)
}

/// What stands before, in and after the password of `[scheme://]user:password@host`.
fn userinfo(word: &str) -> Option<(&str, &str, &str)> {
    let start = word.find("://").map_or(0, |at| at + 3);
    let (_, authority) = word.split_at(start);
    // Of a URL the first part alone: a later @ is of a path.
    let end =
        if start > 0 { authority.find(['/', '?', '#']).unwrap_or(authority.len()) } else { authority.len() };
    let at = authority[..end].rfind('@')?;
    let at = if is_digest(&authority[at + 1..]) { authority[..at].rfind('@')? } else { at };
    let (user, password) = authority[..at].split_once(':')?;
    let host = authority[at + 1..].chars().next();
    let of_name = |c: char| c.is_alphanumeric() || "._%+~$=-".contains(c);
    if password.is_empty()
        || user.is_empty()
        || !user.chars().all(of_name)
        || TRANSPORTS.contains(&user)
        || !host.is_some_and(|c| c.is_alphanumeric() || c == '[')
    {
        return None;
    }
    let begin = start + user.len() + 1;
    Some((&word[..begin], &word[begin..start + at], &word[start + at..]))
}

/// `sha256:...`, which stands behind the @ of a name.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, rest)) = text.split_once(':') else { return false };
    let hex = rest.chars().take_while(char::is_ascii_hexdigit).count();
    algorithm.chars().all(|c| c.is_ascii_alphanumeric() || "+._-".contains(c)) && hex >= 32
}

/// A line of the log with escapes for control characters, but for the sequences that set its own colours.
fn escaped_but_colors(line: &str) -> String {
    let mut result = String::with_capacity(line.len() + 16);
    let (mut rest, mut begin) = (line, 0);
    while let Some(at) = rest[begin..].find('\x1b').map(|at| begin + at) {
        let length = color(&rest[at..]);
        if length == 0 {
            begin = at + 1;
            continue;
        }
        result += &escape_controls(&rest[..at]);
        result += &rest[at..at + length];
        (rest, begin) = (&rest[at + length..], 0);
    }
    result + &escape_controls(rest)
}

/// Bytes of a sequence that sets colours and weight at the start of a text: ESC [ 1 ; 31 m.
fn color(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\x1b[") else { return 0 };
    let numbers = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b';').count();
    if rest.as_bytes().get(numbers) == Some(&b'm') { numbers + 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_colors_and_nothing_else() {
        assert_eq!(
            escaped_but_colors("\x1b[1;31mred\x1b[0m \x1b[2J \x1b[ \x07"),
            "\x1b[1;31mred\x1b[0m \\u{1b}[2J \\u{1b}[ \\u{7}"
        );
    }

    #[test]
    fn json_says_the_same_with_escapes() {
        let text = "a\nb\x1b\u{7f}\u{9b}2J \u{202e} 模型";
        let json = serde_json::to_string(text).unwrap();
        let safe = json_safe(&json);
        assert_eq!(safe, "\"a\\nb\\u001b\\u007f\\u009b2J \\u202e 模型\"");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }

    #[test]
    fn passwords_in_urls_and_names_are_covered() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, shown) in [
            ("bad name \"user:pw@host/x\": no", "bad name \"user:***@host/x\": no"),
            ("--tag=user:p@ss@host/x:1", "--tag=user:***@host/x:1"),
            ("GET https://u:p:w@host:5000/v2/", "GET https://u:***@host:5000/v2/"),
            ("http://u:p@[::1]:80/ and ftp://a:b@c", "http://u:***@[::1]:80/ and ftp://a:***@c"),
            ("docker://user:pw@host/x", "docker://user:***@host/x"),
            (&format!("user:pw@host/x@{digest}"), &format!("user:***@host/x@{digest}")),
            (&format!("host:5000/x:1@{digest}"), &format!("host:5000/x:1@{digest}")),
            (&format!("alpine:3@{digest}"), &format!("alpine:3@{digest}")),
            ("https://host/a:b@c", "https://host/a:b@c"),
            ("oci:/models/a@b:tag", "oci:/models/a@b:tag"),
            ("models/a:b@c.bin", "models/a:b@c.bin"),
            ("git@github.com:x/y", "git@github.com:x/y"),
            ("a : b @ c", "a : b @ c"),
            ("[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]", "[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]"),
        ] {
            assert_eq!(covered(text, &[]), shown);
        }
    }

    #[test]
    fn what_was_typed_as_a_secret_is_covered_wherever_it_stands() {
        let args = [
            "build",
            "--creds",
            "me:hunter2",
            "--build-arg=HF_TOKEN=hf_abcdef",
            "--build-arg",
            "VERSION=1.2.3",
            "-t",
            "user:s3cr/et@host/x",
            "--env",
            "DB_PASSWORD=o'\"p\"",
            "-p",
            "pw",
        ];
        let secrets = typed_secrets(&args);
        let text = "hunter2 hf_abcdef 1.2.3 \"s3cr/et@host\" \"o'\\\"p\\\"\" pw";
        assert_eq!(covered(text, &secrets), "*** *** 1.2.3 \"***@host\" \"***\" pw");
    }
}

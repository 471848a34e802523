//! Texts of other people (names, paths, labels, the words of registries) as they are shown to a user.

use std::borrow::Cow;

/// `text` with escapes for characters that a terminal would obey: controls, and those that turn the direction of writing.
/// They are spelled as in Rust, `\u{1b}`. Line feeds and tabs stay, a line that ends in CR LF ends in LF.
///
/// ```
/// assert_eq!(crossdock_storage::escape_controls("a\u{1b}[2J\r\nb\rc"), "a\\u{1b}[2J\nb\\rc");
/// ```
#[must_use]
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' => escaped.push_str("\\r"),
            c if is_obeyed(c) => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// A title, path or name within a line: as [`escape_controls`], and it has no lines and tabs of its own.
///
/// ```
/// assert_eq!(crossdock_storage::escape_line("a\nError: \u{7}\t"), "a\\nError: \\u{7}\\t");
/// ```
#[must_use]
pub fn escape_line(text: &str) -> Cow<'_, str> {
    let text = escape_controls(text);
    if text.contains(['\n', '\t']) { text.replace('\n', "\\n").replace('\t', "\\t").into() } else { text }
}

/// `text` with every URL in it without the user name and password, and without the query, which may be a signature.
///
/// ```
/// let text = "ADD https://me:pw@host/x.bin?X-Amz-Signature=5ec2e7 /";
/// assert_eq!(crossdock_storage::redact_urls(text), "ADD https://host/x.bin?*** /");
/// ```
#[must_use]
pub fn redact_urls(text: &str) -> Cow<'_, str> {
    const MARK: &str = "://";
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
    let Some(mut at) = text.find(MARK) else { return Cow::Borrowed(text) };
    let (mut redacted, mut rest) = (String::with_capacity(text.len()), text);
    loop {
        let (before, url) = rest.split_at(at + MARK.len());
        let (url, behind) = url.split_at(url.find(ends).unwrap_or(url.len()));
        let (address, query) = match url.find('?') {
            Some(query) => (&url[..query], "?***"),
            None => (url, ""),
        };
        let host = address.find(['/', '#']).unwrap_or(address.len());
        let user = address[..host].rfind('@').map_or(0, |at| at + 1);
        for part in [before, &address[user..], query] {
            redacted.push_str(part);
        }
        rest = behind;
        match rest.find(MARK) {
            Some(next) => at = next,
            None => break,
        }
    }
    redacted.push_str(rest);
    Cow::Owned(redacted)
}

/// Whether a terminal does something for the character other than to show it.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_are_left_out() {
        for (text, shown) in [
            ("no URL: a?b@c", "no URL: a?b@c"),
            ("https://me:pw@host/a@b", "https://host/a@b"),
            ("https://host/a@b", "https://host/a@b"),
            ("https://host", "https://host"),
            ("https://p@ss@host?token=1", "https://host?***"),
            (
                "RUN curl 'https://h/x?sig=1' \"s3://k@b/y?z\" -o x?",
                "RUN curl 'https://h/x?***' \"s3://b/y?***\" -o x?",
            ),
            ("://", "://"),
            ("a://b?c://d e", "a://b?*** e"),
        ] {
            assert_eq!(redact_urls(text), shown);
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_written_as_an_escape() {
        for (text, shown) in [
            ("plain\n\ttext 模型", "plain\n\ttext 模型"),
            ("\x1b]0;title\x07\0", "\\u{1b}]0;title\\u{7}\\u{0}"),
            ("a\rb\r\nc\r", "a\\rb\nc\\r"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("txt.\u{202e}gpj\u{2066}", "txt.\\u{202e}gpj\\u{2066}"),
        ] {
            assert_eq!(escape_controls(text), shown);
        }
    }
}

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

/// Whether a terminal does something for the character other than to show it.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! Finding the heredocs that a line opens.
//!
//! The rules are BuildKit's: `ADD`, `COPY` and `RUN` take them, also behind `ONBUILD`, but not in JSON form. A
//! heredoc is a word of its own, so `cat<<EOF` opens none, and neither does anything in quotes.

use std::ops::Range;

use super::words;

/// `<<NAME` as it stands on its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    /// The word in the logical line, from the number or `<<` to the end of the name.
    pub(super) range: Range<usize>,
    pub(super) name: String,
    pub(super) fd: Option<u32>,
    pub(super) expand: bool,
    pub(super) strip_tabs: bool,
}

/// The heredocs `line` opens, in order.
pub(super) fn openings(line: &str) -> Vec<Opening> {
    if !line.contains("<<") || !may_open(line) {
        return Vec::new();
    }
    // Quotes that do not close are the shell's business in a RUN; there is no heredoc to find then.
    shell_words(line)
        .map(|words| words.into_iter().filter_map(|word| opening(line, word)).collect())
        .unwrap_or_default()
}

fn may_open(line: &str) -> bool {
    let (mut keyword, mut rest) = words::split_keyword(line, 0..line.len());
    if line[keyword.clone()].eq_ignore_ascii_case("ONBUILD") {
        (keyword, rest) = words::split_keyword(line, rest);
    }
    let keyword = &line[keyword];
    if !["ADD", "COPY", "RUN"].iter().any(|takes| keyword.eq_ignore_ascii_case(takes)) {
        return false;
    }
    match words::flags(line, rest) {
        Ok((_, args)) => !matches!(words::json_array(line, args), words::JsonArray::Strings { .. }),
        Err(_) => true,
    }
}

/// The words of a shell command, as ranges; `<<` takes blanks behind it into its word. `None` when a quote is
/// not closed.
fn shell_words(line: &str) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = line.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if let Some(open) = quote {
            if char == open {
                quote = None;
            } else if char == '\\' && open == '"' {
                chars.next();
            }
            continue;
        }
        if words::is_blank(char) {
            words.extend(start.take().map(|start| start..at));
            continue;
        }
        start.get_or_insert(at);
        match char {
            '\'' | '"' => quote = Some(char),
            '\\' => {
                chars.next();
            }
            '<' if chars.next_if(|(_, next)| *next == '<').is_some() => {
                chars.next_if(|(_, next)| *next == '-');
                while chars.next_if(|(_, next)| matches!(next, ' ' | '\t')).is_some() {}
            }
            _ => {}
        }
    }
    words.extend(start.map(|start| start..line.len()));
    quote.is_none().then_some(words)
}

fn opening(line: &str, range: Range<usize>) -> Option<Opening> {
    let (fd, rest) = line[range.clone()].split_once("<<")?;
    if !fd.bytes().all(|byte| byte.is_ascii_digit()) || rest.contains('<') {
        return None;
    }
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (name, quoted) = unquoted(rest.trim_start());
    // A descriptor that fits no number is no descriptor.
    let fd = if fd.is_empty() { None } else { Some(fd.parse().ok()?) };
    (!name.is_empty()).then_some(Opening { range, name, fd, expand: !quoted, strip_tabs })
}

/// The name without quotes and escapes, and whether there were quotes.
fn unquoted(word: &str) -> (String, bool) {
    let mut name = String::with_capacity(word.len());
    let mut quoted = false;
    let mut quote = None;
    let mut chars = word.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, quote) {
            (char, Some(open)) if char == open => quote = None,
            ('\'' | '"', None) => {
                quoted = true;
                quote = Some(char);
            }
            ('\\', None) => name.extend(chars.next()),
            ('\\', Some('"')) => {
                name.push(chars.next_if(|next| matches!(next, '"' | '$' | '\\')).unwrap_or('\\'));
            }
            _ => name.push(char),
        }
    }
    (name, quoted)
}

#[cfg(test)]
mod tests {
    use super::openings;

    fn names(line: &str) -> Vec<String> {
        openings(line)
            .into_iter()
            .map(|opening| {
                let fd = opening.fd.map(|fd| fd.to_string()).unwrap_or_default();
                let dash = if opening.strip_tabs { "-" } else { "" };
                let quoted = if opening.expand { "" } else { " literal" };
                format!("{fd}<<{dash}{}{quoted} at {}", opening.name, &line[opening.range])
            })
            .collect()
    }

    #[test]
    fn heredocs_are_words_of_their_own_outside_of_quotes() {
        let cases: &[(&str, &[&str])] = &[
            ("RUN <<EOF", &["<<EOF at <<EOF"]),
            ("run 3<<EOF", &["3<<EOF at 3<<EOF"]),
            ("RUN <<-EOF", &["<<-EOF at <<-EOF"]),
            ("RUN <<  EOF > foo", &["<<EOF at <<  EOF"]),
            ("RUN <<- EOF", &["<<-EOF at <<- EOF"]),
            ("RUN << -EOF", &["<<-EOF at << -EOF"]),
            ("RUN cat <<'one two' | sh", &["<<one two literal at <<'one two'"]),
            ("RUN <<eo'f'", &["<<eof literal at <<eo'f'"]),
            (r"RUN <<eo\'f", &[r"<<eo'f at <<eo\'f"]),
            (r"RUN <<'e'o\'f", &[r"<<eo'f literal at <<'e'o\'f"]),
            ("RUN <<$EOF", &["<<$EOF at <<$EOF"]),
            ("COPY <<A <<\"B\" /dest", &["<<A at <<A", "<<B literal at <<\"B\""]),
            ("ONBUILD COPY <<A /dest", &["<<A at <<A"]),
            ("RUN --mount=type=cache,target=/x <<A", &["<<A at <<A"]),
            ("RUN \"<<EOF\"", &[]),
            ("RUN '<<EOF'", &[]),
            ("RUN [\"<<EOF\"]", &[]),
            ("RUN cat<<EOF", &[]),
            ("RUN x <<<EOF", &[]),
            ("RUN <<''", &[]),
            ("RUN <<", &[]),
            ("RUN it's <<EOF", &[]),
            ("USER <<EOF", &[]),
            ("RUN 99999999999<<EOF", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(names(line), *expected, "{line}");
        }
    }
}

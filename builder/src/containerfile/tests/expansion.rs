//! Variables in words.

use std::sync::Arc;

use super::super::{Diagnostic, Expanded, Expander, Instruction, Source, Span, Spanned};
use super::{parse, values};

fn env(name: &str) -> Option<String> {
    let value = match name {
        "x" => "plain",
        "empty" => "",
        "two" => "a  b",
        "path" => "/a/b.tar.gz",
        "glob" => "*.",
        "lang" => "한국어",
        _ => return None,
    };
    Some(value.to_owned())
}

fn with<T>(
    text: &str,
    expand: impl Fn(Expander<'_>, &Spanned<String>) -> Result<T, Diagnostic>,
) -> Result<T, Diagnostic> {
    let source = Arc::new(Source::new("Containerfile", text));
    let word = Spanned::new(text.to_owned(), Span::new(0, text.len()));
    expand(Expander::new(&source, '\\', &env), &word)
}

fn word(text: &str) -> Result<Expanded, Diagnostic> {
    with(text, |expander, text| expander.word(text))
}

#[test]
fn words_are_expanded_as_the_shell_does() {
    let cases = [
        ("a", "a"),
        ("$x", "plain"),
        ("a$x/b", "aplain/b"),
        ("${x}y", "plainy"),
        ("$x$x", "plainplain"),
        ("$unset.", "."),
        ("$", "$"),
        ("a$", "a$"),
        ("$.", "$."),
        ("$$x", "$plain"),
        ("pa$$word", "pa$"),
        ("\"$@ $* $# $? $- $!\"", "$@ $* $# $? $- $!"),
        ("$1x", "x"),
        ("$12.", "2."),
        ("\\$x", "$x"),
        ("\\\\$x", "\\plain"),
        ("'$x'", "$x"),
        ("\"$x\"", "plain"),
        ("\"\\$x\"", "$x"),
        ("\"a\\b\\\"c\\\\\"", "a\\b\"c\\"),
        ("'a\\b'", "a\\b"),
        ("a'b'\"c\"d", "abcd"),
        ("it\\'s", "it's"),
        ("a\\", "a"),
        ("\"'\"", "'"),
        ("$lang!", "한국어!"),
        ("${x:-d}", "plain"),
        ("${x-d}", "plain"),
        ("${empty:-d}", "d"),
        ("${empty-d}", ""),
        ("${unset:-d}", "d"),
        ("${unset-d}", "d"),
        ("${unset:-}", ""),
        ("${x:+d}", "d"),
        ("${x+d}", "d"),
        ("${empty:+d}", ""),
        ("${empty+d}", "d"),
        ("${unset:+d}", ""),
        ("${unset+d}", ""),
        ("${x:?d}", "plain"),
        ("${empty?d}", ""),
        ("${x:-${unset:?never}}", "plain"),
        ("${unset:-${empty:-$x}}", "plain"),
        ("${unset:-a b'c}'\"}\"}", "a bc}}"),
        ("${unset:-\\}}", "}"),
        ("\"${unset:-'\"'}\"", "\""),
        ("${path#*/}", "a/b.tar.gz"),
        ("${path##*/}", "b.tar.gz"),
        ("${path%.*}", "/a/b.tar"),
        ("${path%%.*}", "/a/b"),
        ("${path#}", "/a/b.tar.gz"),
        ("${path%%?z}", "/a/b.tar."),
        ("${path#$unset}", "/a/b.tar.gz"),
        ("${path##*$glob}", "gz"),
        ("${path/a/X}", "/X/b.tar.gz"),
        ("${path//a/X}", "/X/b.tXr.gz"),
        ("${path//\\//-}", "-a-b.tar.gz"),
        ("${path/*./}", "gz"),
        ("${path//\\//\\/}", "\\/a\\/b.tar.gz"),
        ("${path//$unset/}", "/a/b.tar.gz"),
        ("${path/$empty/w}", "w/a/b.tar.gz"),
        ("${unset//a/b}", ""),
        ("${path#'/a'}", "/b.tar.gz"),
    ];
    for (text, expected) in cases {
        assert_eq!(word(text).map(|word| word.value).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn words_are_split_outside_of_quotes_only() {
    let cases: &[(&str, &[&str])] = &[
        ("a", &["a"]),
        (" a  b ", &["a", "b"]),
        ("$two", &["a", "b"]),
        ("x$two", &["xa", "b"]),
        ("\"$two\" c", &["a  b", "c"]),
        ("'a b'", &["a b"]),
        ("a\\ b", &["a b"]),
        ("${unset:-c d}", &["c", "d"]),
        ("", &[]),
        ("$empty", &[]),
        ("'' a", &["a"]),
    ];
    for (text, expected) in cases {
        let words = with(text, |expander, text| expander.words(text)).expect(text);
        assert_eq!(words.value, *expected, "{text}");
    }
}

#[test]
fn in_a_heredoc_quotes_mean_nothing() {
    let cases = [
        ("it's \"$x\"\n'$x'\n", "it's \"plain\"\n'plain'\n"),
        ("\\$x \\\\ \\`x` \\\n", "$x \\ `x` \\\n"),
        ("exec a \\\n  --b \\\n  \"$x\" \\", "exec a \\\n  --b \\\n  \"plain\" \\"),
        ("printf \"\\t%s\\n\"", "printf \"\\t%s\\n\""),
        ("${unset:-a\\}b}", "a}b"),
        ("$$ $@ $12.", "  ."),
        ("${unset:-\"a\"}", "\"a\""),
    ];
    for (text, expected) in cases {
        let found = with(text, |expander, text| expander.text(text));
        assert_eq!(found.map(|found| found.value).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn unset_names_are_told_where_nothing_is_said_for_them() {
    let found = word("$a $a ${b} ${c:-x} ${d:+$e} ${f#x} $x $empty \"$g\"").expect("a word");
    assert_eq!(values(&found.unset), ["a", "b", "f", "g"]);
    assert_eq!(found.unset[1].span, Span::new(8, 9));
}

#[test]
fn errors_point_into_the_word() {
    let cases = [
        "a${",
        "${x",
        "${x:",
        "${x:-",
        "${x:-${y}",
        "${}",
        "${:-x}",
        "${{x}}",
        "${x=d}",
        "${x:=d}",
        "${x!}",
        "${x/a}",
        "${x/a/b",
        "${x#\\a}",
        "${unset:?}",
        "${unset?}",
        "${empty:?say why$x}",
        "a'b",
        "a\"$x",
        "${x:-\"}",
        "${x:-'}",
    ];
    let rendered: Vec<_> = cases.iter().map(|text| word(text).expect_err(text).render()).collect();
    insta::assert_snapshot!(rendered.join("\n"), @r##"
    Containerfile:1:2: substitution has no }, close it, or escape the dollar sign
      |
    1 | a${
      |  ^^
    Containerfile:1:1: substitution has no }, close it, or escape the dollar sign
      |
    1 | ${x
      | ^^^
    Containerfile:1:1: substitution has no }, close it, or escape the dollar sign
      |
    1 | ${x:
      | ^^^^
    Containerfile:1:1: substitution has no }, close it, or escape the dollar sign
      |
    1 | ${x:-
      | ^^^^^
    Containerfile:1:1: substitution has no }, close it, or escape the dollar sign
      |
    1 | ${x:-${y}
      | ^^^^^^^^^
    Containerfile:1:1: substitution without a variable name, write \$ to mean a dollar sign
      |
    1 | ${}
      | ^^
    Containerfile:1:1: substitution without a variable name, write \$ to mean a dollar sign
      |
    1 | ${:-x}
      | ^^
    Containerfile:1:1: substitution without a variable name, write \$ to mean a dollar sign
      |
    1 | ${{x}}
      | ^^
    Containerfile:1:4: unknown modifier = in a substitution, the known ones are :- - :+ + :? ? # ## % %% / //
      |
    1 | ${x=d}
      |    ^
    Containerfile:1:4: unknown modifier := in a substitution, the known ones are :- - :+ + :? ? # ## % %% / //
      |
    1 | ${x:=d}
      |    ^^
    Containerfile:1:4: unknown modifier ! in a substitution, the known ones are :- - :+ + :? ? # ## % %% / //
      |
    1 | ${x!}
      |    ^
    Containerfile:1:1: substitution has no /, write ${name/pattern/replacement}
      |
    1 | ${x/a}
      | ^^^^^^
    Containerfile:1:1: substitution has no }, close it, or escape the dollar sign
      |
    1 | ${x/a/b
      | ^^^^^^^
    Containerfile:1:5: invalid escape \a in a pattern, write \\ to mean the character \
      |
    1 | ${x#\a}
      |     ^^
    Containerfile:1:1: variable unset is required: it has to be set and not empty
      |
    1 | ${unset:?}
      | ^^^^^^^^^^
    Containerfile:1:1: variable unset is required: it has to be set
      |
    1 | ${unset?}
      | ^^^^^^^^^
    Containerfile:1:1: variable empty is required: say whyplain
      |
    1 | ${empty:?say why$x}
      | ^^^^^^^^^^^^^^^^^^^
    Containerfile:1:2: quote ' is not closed, close it, or write \' to mean the character
      |
    1 | a'b
      |  ^
    Containerfile:1:2: quote " is not closed, close it, or write \" to mean the character
      |
    1 | a"$x
      |  ^
    Containerfile:1:6: quote " is not closed, close it, or write \" to mean the character
      |
    1 | ${x:-"}
      |      ^
    Containerfile:1:6: quote ' is not closed, close it, or write \' to mean the character
      |
    1 | ${x:-'}
      |      ^
    "##);
}

#[test]
fn an_error_in_a_continued_word_is_on_its_own_line() {
    let file = parse("FROM scratch\nENV A=\"b \\\n  # a comment\n  ${c!d}\"\n");
    let Instruction::Env(pairs) = &file.stages[0].instructions[0].value else { panic!("no ENV") };
    let error = Expander::new(&file.source, '\\', &env).word(&pairs[0].value).expect_err("an error");
    insta::assert_snapshot!(error.render(), @r##"
    Containerfile:4:6: unknown modifier ! in a substitution, the known ones are :- - :+ + :? ? # ## % %% / //
      |
    4 |   ${c!d}"
      |      ^
    "##);
}

#[test]
fn neither_depth_nor_length_is_without_end() {
    let deep = "${a:-".repeat(60) + &"}".repeat(60);
    assert!(word(&deep).expect_err("too deep").message().contains("more than 50"));
    let deeper = "${a:-".repeat(100_000);
    assert!(word(&deeper).is_err());
    let long = |_: &str| Some("a".repeat(1 << 20));
    let text = "$a$a$a$a$a";
    let source = Arc::new(Source::new("Containerfile", text));
    let word = Spanned::new(text.to_owned(), Span::new(0, text.len()));
    let error = Expander::new(&source, '\\', &long).word(&word).expect_err("too long");
    assert_eq!(error.message(), "expands to more than 4 MiB");
}

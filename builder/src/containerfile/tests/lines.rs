//! Comments, directives, continued lines, heredocs, and where things stand.

use super::super::{CommandForm, CopySource, Instruction, Position, Source, Span, Spanned};
use super::{one, parse, values};

fn position(source: &Source, span: Span) -> (usize, usize) {
    let Position { line, column } = source.position(span.start);
    (line, column)
}

fn run(instruction: &Instruction) -> &str {
    match instruction {
        Instruction::Run(run) => match &run.command {
            CommandForm::Shell(text) => text,
            CommandForm::Exec(words) => panic!("exec form {words:?}"),
        },
        other => panic!("{}", other.keyword()),
    }
}

#[test]
fn continued_lines_are_joined_without_what_stands_between() {
    let cases = [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\  \t\n# comment\n   # another\nb", "a b"),
        ("RUN a \\\n\n\nb", "a b"),
        ("RUN a \\\r\n  b\r\n", "a   b"),
        ("RUN a \\\n", "a"),
        ("RUN a \\", "a"),
        ("RUN \\\n a", "a"),
        ("\\\nRUN a", "a"),
        ("  RUN a  ", "a"),
        ("RUN a # no comment", "a # no comment"),
        ("RUN a \\\n b \\\n# c\\\n c", "a  b  c"),
    ];
    for (text, expected) in cases {
        assert_eq!(run(&one(text)), expected, "{text:?}");
    }
    let file = parse("FROM scratch\nRUN a \\\\\nRUN b");
    assert_eq!(file.stages[0].instructions.len(), 2, "an escaped escape continues nothing");
}

#[test]
fn the_escape_directive_changes_continuation_and_escaping() {
    let file = parse("# escape=`\nFROM scratch\nCOPY a\\ `\n b\\\n");
    assert_eq!(file.directives.escape, '`');
    let Instruction::Copy(copy) = &file.stages[0].instructions[0].value else { panic!("no COPY") };
    assert_eq!(copy.sources.len(), 1);
    assert_eq!(copy.dest.value, "b\\");
}

#[test]
fn directives_stand_at_the_head_only() {
    let file = parse("\u{feff}#syntax = docker/dockerfile:1 \r\n# Check=skip=all\n#escape=`\nFROM a`\n\n");
    let value = |value: &Option<Spanned<String>>| value.as_ref().map(|value| value.value.clone());
    assert_eq!(value(&file.directives.syntax).as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(value(&file.directives.check).as_deref(), Some("skip=all"));
    assert_eq!(file.stages[0].from.image.value, "a");
    for text in ["# a comment\n# escape=`\nFROM a", "\n# escape=`\nFROM a", "FROM a\n# escape=`\n# escape=x"]
    {
        assert_eq!(parse(text).directives.escape, '\\', "{text:?}");
    }
}

#[test]
fn places_in_continued_lines_are_those_of_the_file() {
    let text = "FROM scratch\nCOPY --chown=1:1 \\\n   # which\n   models \\\n\n\tfi\\\nle /opt\n";
    let file = parse(text);
    let instruction = &file.stages[0].instructions[0];
    assert_eq!(position(&file.source, instruction.span), (2, 1));
    let Instruction::Copy(copy) = &instruction.value else { panic!("no COPY") };
    let chown = copy.chown.as_ref().expect("chown");
    assert_eq!((chown.value.as_str(), position(&file.source, chown.span)), ("1:1", (2, 14)));
    let places: Vec<_> = copy
        .sources
        .iter()
        .map(|source| match source {
            CopySource::Path(path) => (path.value.as_str(), position(&file.source, path.span)),
            CopySource::Heredoc(_) => panic!("a heredoc"),
        })
        .collect();
    assert_eq!(places, [("models", (4, 4)), ("file", (6, 2))]);
    assert_eq!(position(&file.source, copy.dest.span), (7, 4));
    let CopySource::Path(path) = &copy.sources[1] else { panic!("a heredoc") };
    assert_eq!(file.source.slice(path.span), "fi\\\nle");
    assert_eq!(file.source.unfolded(path.span), "file");
    assert_eq!(position(&file.source, file.source.locate(path, 3..4)), (7, 2));
    assert_eq!(file.source.unfolded(instruction.span), "COPY --chown=1:1    models \tfile /opt");
}

#[test]
fn heredocs_are_read_in_order_and_to_their_end() {
    let file = parse(
        "FROM scratch\nCOPY <<A <<-'B' c /dest/\nB\r\n# $x\nA\n\t\tin\n\t  deep\n\tB\nRUN <<EOF python3\n\nprint()\nEOF\nENV a=b",
    );
    let instructions = &file.stages[0].instructions;
    assert_eq!(instructions.len(), 3);
    let Instruction::Copy(copy) = &instructions[0].value else { panic!("no COPY") };
    let [CopySource::Heredoc(a), CopySource::Heredoc(b), CopySource::Path(c)] = copy.sources.as_slice()
    else {
        panic!("{:?}", copy.sources)
    };
    assert_eq!((a.name.value.as_str(), a.expand, a.strip_tabs), ("A", true, false));
    assert_eq!(a.content.value, "B\r\n# $x\n");
    assert_eq!((b.name.value.as_str(), b.expand, b.strip_tabs), ("B", false, true));
    assert_eq!(b.content.value, "in\n  deep\n");
    let deep = b.content.value.find("deep").expect("deep");
    assert_eq!(position(&file.source, file.source.locate(&b.content, deep..deep + 4)), (7, 4));
    assert_eq!(c.value, "c");
    assert_eq!(file.source.position(instructions[0].span.end).line, 8);
    let Instruction::Run(run) = &instructions[1].value else { panic!("no RUN") };
    let CommandForm::Shell(command) = &run.command else { panic!("exec form") };
    assert_eq!(command.value, "<<EOF python3");
    assert_eq!(run.heredocs[0].content.value, "\nprint()\n");
}

#[test]
fn the_last_line_of_a_heredoc_needs_no_line_ending() {
    let Instruction::Copy(copy) = one("COPY << EOF /x\r\nhello\r\nEOF") else { panic!("no COPY") };
    let CopySource::Heredoc(heredoc) = &copy.sources[0] else { panic!("no heredoc") };
    assert_eq!(heredoc.content.value, "hello\r\n");
    assert_eq!(copy.dest.value, "/x");
}

#[test]
fn an_onbuild_keeps_its_trigger_as_text_with_its_heredocs() {
    let Instruction::Onbuild(onbuild) = one("ONBUILD  copy <<A \\\n  /x\nhello\nA\n") else {
        panic!("no ONBUILD")
    };
    assert_eq!(onbuild.text.value, "copy <<A   /x\nhello\nA");
    assert_eq!(onbuild.trigger.keyword(), "COPY");
    let again = super::super::Trigger::parse("ONBUILD", &onbuild.text).expect("a trigger");
    let Instruction::Copy(copy) = &again.instruction.value else { panic!("no COPY") };
    let CopySource::Heredoc(heredoc) = &copy.sources[0] else { panic!("no heredoc") };
    assert_eq!(heredoc.content.value, "hello\n");
}

#[test]
fn a_stage_spans_its_instructions() {
    let file = parse("ARG A B=c\nFROM a AS One\nRUN x\n\nFROM --platform=$P one\n");
    let args: Vec<_> = file.global_args.iter().flatten().map(|arg| arg.name.value.as_str()).collect();
    assert_eq!(args, ["A", "B"]);
    assert_eq!(file.source.slice(file.stages[0].span), "FROM a AS One\nRUN x");
    let from = &file.stages[0].from;
    assert_eq!(from.name.as_ref().map(|name| name.value.as_str()), Some("One"));
    let platform = file.stages[1].from.platform.as_slice();
    assert_eq!(values(platform), ["$P"]);
}

//! What holds for any input: no panic, and places that lie in the text.

use proptest::prelude::*;

use super::super::{
    CommandForm, Containerfile, CopySource, Diagnostic, Expander, Healthcheck, Heredoc, Instruction,
    KeyValue, Source, Span, Spanned,
};

const VALID: &str = r#"# syntax=docker/dockerfile:1
# escape=\
ARG BASE=alpine REV="1 2"
FROM --platform=$P ${BASE}:latest AS Build
LABEL "a b"='c' é=ü \
  # comment
  d="e \
 f"
ENV PATH=/x:$PATH legacy=
COPY --chown=1:1 --exclude=*.md --link <<A <<-"B" file /dest/
$PATH 'it
A
	tabs	\
	B
RUN --mount=type=cache,target=/x <<EOF python3
print("日本語")
EOF
ADD ["a b", "/c"]
HEALTHCHECK --interval=1m30s --retries=3 CMD ["x", "\u00e9"]
ONBUILD COPY --from=build a \
  b
FROM build
EXPOSE 80/tcp 1-2/udp $PORTS
VOLUME ["/a"]
USER ${U:-${V:?no user}}
WORKDIR /a\ b/${X##*/}/${Y//a/b}
SHELL ["/bin/sh"]
STOPSIGNAL SIGTERM
ENTRYPOINT exec a
CMD []
"#;

/// Everything in a file that has a place.
#[derive(Default)]
struct Found {
    spans: Vec<Span>,
    words: Vec<Spanned<String>>,
    texts: Vec<Spanned<String>>,
}

impl Found {
    fn in_file(file: &Containerfile) -> Self {
        let mut found = Self::default();
        for arg in file.global_args.iter().flatten() {
            found.words.push(arg.name.clone());
            found.words.extend(arg.default.clone());
        }
        for stage in &file.stages {
            found.spans.extend([stage.span, stage.from.span]);
            found.words.push(stage.from.image.clone());
            found.words.extend(stage.from.platform.clone());
            found.spans.extend(stage.from.name.as_ref().map(|name| name.span));
            for instruction in &stage.instructions {
                found.spans.push(instruction.span);
                found.instruction(&instruction.value);
            }
        }
        found.spans.extend(file.warnings.iter().map(Diagnostic::span));
        found.spans.extend(found.words.iter().chain(&found.texts).map(|word| word.span));
        found
    }

    fn instruction(&mut self, instruction: &Instruction) {
        match instruction {
            Instruction::Add(add) => {
                self.sources(&add.sources);
                self.words.push(add.dest.clone());
                self.words.extend([&add.chown, &add.chmod, &add.checksum].into_iter().flatten().cloned());
                self.words.extend(add.exclude.iter().cloned());
            }
            Instruction::Copy(copy) => {
                self.sources(&copy.sources);
                self.words.push(copy.dest.clone());
                self.words.extend([&copy.from, &copy.chown, &copy.chmod].into_iter().flatten().cloned());
                self.words.extend(copy.exclude.iter().cloned());
            }
            Instruction::Arg(args) => {
                for arg in args {
                    self.words.push(arg.name.clone());
                    self.words.extend(arg.default.clone());
                }
            }
            Instruction::Cmd(form) | Instruction::Entrypoint(form) => self.command(form),
            Instruction::Env(pairs) | Instruction::Label(pairs) => {
                for KeyValue { key, value } in pairs {
                    self.words.extend([key.clone(), value.clone()]);
                }
            }
            Instruction::Expose(words) | Instruction::Shell(words) | Instruction::Volume(words) => {
                self.words.extend(words.iter().cloned());
            }
            Instruction::Healthcheck(check) => {
                let times = [check.interval, check.timeout, check.start_period, check.start_interval];
                self.spans.extend(times.iter().flatten().map(|time| time.span));
                if let Healthcheck::Command(form) = &check.check {
                    self.command(form);
                }
            }
            Instruction::Maintainer(word)
            | Instruction::Stopsignal(word)
            | Instruction::User(word)
            | Instruction::Workdir(word) => self.words.push(word.clone()),
            Instruction::Onbuild(onbuild) => {
                self.spans.extend([onbuild.trigger.span, onbuild.text.span]);
                self.instruction(&onbuild.trigger.value);
            }
            Instruction::Run(run) => {
                self.command(&run.command);
                self.heredocs(&run.heredocs);
                self.words.extend(run.mounts.iter().cloned());
            }
        }
    }

    fn command(&mut self, form: &CommandForm) {
        match form {
            CommandForm::Exec(words) => self.words.extend(words.iter().cloned()),
            CommandForm::Shell(text) => self.texts.push(text.clone()),
        }
    }

    fn sources(&mut self, sources: &[CopySource]) {
        for source in sources {
            match source {
                CopySource::Path(path) => self.words.push(path.clone()),
                CopySource::Heredoc(heredoc) => self.heredocs(std::slice::from_ref(heredoc)),
            }
        }
    }

    fn heredocs(&mut self, heredocs: &[Heredoc]) {
        for heredoc in heredocs {
            self.spans.push(heredoc.name.span);
            self.texts.push(heredoc.content.clone());
        }
    }
}

fn holds(source: &Source, span: Span) {
    assert!(source.text().get(span.range()).is_some(), "{span:?} in {:?}", source.text());
}

fn diagnostic_holds(diagnostic: &Diagnostic) {
    holds(diagnostic.source(), diagnostic.span());
    assert!(!diagnostic.to_string().contains('\n'), "{diagnostic}");
    assert_eq!(diagnostic.render().split('\n').count(), 4, "{}", diagnostic.render());
}

fn check(bytes: &[u8]) {
    match Containerfile::parse("Containerfile", bytes) {
        Err(error) => diagnostic_holds(error.diagnostic()),
        Ok(file) => {
            file.warnings.iter().for_each(diagnostic_holds);
            let unreadable = file.stages.iter().filter_map(|stage| stage.unreadable.as_ref());
            unreadable.for_each(|error| diagnostic_holds(error.diagnostic()));
            let found = Found::in_file(&file);
            found.spans.iter().for_each(|span| holds(&file.source, *span));
            let env = |name: &str| name.len().is_multiple_of(2).then(|| format!("{name} $x"));
            let expander = Expander::new(&file.source, file.directives.escape, &env);
            for word in &found.words {
                let joined = expander.word(word).map(|word| word.unset);
                let split = expander.words(word).map(|word| word.unset);
                for result in [joined, split] {
                    match result {
                        Ok(unset) => unset.iter().for_each(|name| holds(&file.source, name.span)),
                        Err(error) => diagnostic_holds(&error),
                    }
                }
            }
            for text in &found.texts {
                assert_eq!(file.source.unfolded(text.span), text.value);
                if let Err(error) = expander.text(text) {
                    diagnostic_holds(&error);
                }
            }
        }
    }
}

#[test]
fn the_example_is_valid() {
    let file = Containerfile::parse("Containerfile", VALID.as_bytes()).unwrap();
    assert!(file.stages.iter().all(|stage| stage.unreadable.is_none()));
    check(VALID.as_bytes());
}

/// Text made of what means something in a Containerfile.
fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "FROM ",
        "a",
        "COPY ",
        "ADD ",
        "RUN ",
        "ENV ",
        "ONBUILD ",
        "ARG ",
        "LABEL ",
        "HEALTHCHECK ",
        "CMD ",
        "VOLUME ",
        "EXPOSE ",
        "AS ",
        "--from=",
        "--link",
        "--",
        "=",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\\\n",
        "\\",
        "`",
        "\"",
        "'",
        "$",
        "${",
        "}",
        ":-",
        "#",
        "%",
        "/",
        "//",
        "*",
        "?",
        "[",
        "]",
        ",",
        "<<",
        "<<-",
        "EOF",
        "\nEOF\n",
        "# escape=`\n",
        "é",
        "日",
        "\u{a0}",
        "\u{feff}",
        "\u{85}",
        "0",
        "x",
        "[\"a\", \"\\u00e9\"]",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn any_text_of_fragments_is_parsed_or_refused(head in prop::bool::ANY, text in fragments()) {
        let text = if head { format!("FROM a\n{text}") } else { text };
        check(text.as_bytes());
    }

    #[test]
    fn a_mutated_file_is_parsed_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, fragments()), 1..4),
    ) {
        let mut text = VALID.as_bytes().to_vec();
        for (at, cut, insert) in edits {
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, insert.into_bytes());
        }
        check(&text);
    }
}

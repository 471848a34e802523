//! What to write in the place of a RUN that only arranges files: COPY and WORKDIR do that without a container.

use std::collections::BTreeSet;

use crate::containerfile::{CommandForm, RunInstruction};
use crate::eval::is_mode;

/// What a command that arranges files is written as, with its arguments put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Says nothing of files, and stands in no way.
    Nothing,
    Directory,
    Mode,
    Owner,
    Group,
    Link,
    Copy,
    Remove,
    Empty,
}

/// The commands that have another form. A RUN with any other command has none.
const FORMS: &[(&str, Form)] = &[
    (":", Form::Nothing),
    ("set", Form::Nothing),
    ("true", Form::Nothing),
    ("umask", Form::Nothing),
    ("mkdir", Form::Directory),
    ("chmod", Form::Mode),
    ("chown", Form::Owner),
    ("chgrp", Form::Group),
    ("ln", Form::Link),
    ("cp", Form::Copy),
    ("mv", Form::Copy),
    ("rm", Form::Remove),
    ("rmdir", Form::Remove),
    ("touch", Form::Empty),
];

/// What stands between commands.
const BETWEEN: &[&str] = &["&&", "||", ";", "\n"];

/// What to write instead; `None` where the command does more than arrange files, or is more than a list of simple commands.
pub(crate) fn instead(run: &RunInstruction) -> Option<String> {
    if !run.heredocs.is_empty() {
        return None;
    }
    let commands = match &run.command {
        CommandForm::Shell(text) => commands(&text.value)?,
        CommandForm::Exec(words) => {
            let words: Vec<String> = words.iter().map(|word| word.value.clone()).collect();
            match words.as_slice() {
                [shell, flag, text] if name_of(shell).ends_with("sh") && flag.starts_with('-') => {
                    commands(text)?
                }
                _ => vec![words],
            }
        }
    };
    let mut seen = BTreeSet::new();
    let mut advice = Vec::new();
    for command in &commands {
        let (program, arguments) = command.split_first()?;
        let (_, form) = FORMS.iter().find(|(name, _)| *name == name_of(program))?;
        if *form != Form::Nothing && seen.insert(*form) {
            advice.push(advise(*form, arguments));
        }
    }
    (!advice.is_empty()).then(|| format!("leave it out: {}", advice.join("; ")))
}

fn advise(form: Form, arguments: &[String]) -> String {
    let mut operands = arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-'));
    let first = operands.next();
    match form {
        Form::Nothing => String::new(),
        Form::Directory => {
            let path = first.unwrap_or("/DIRECTORY");
            format!("COPY makes the directories that it copies into, and WORKDIR {path} makes an empty one")
        }
        Form::Mode => {
            let mode = first.filter(|mode| is_mode(mode)).unwrap_or("MODE");
            format!("COPY --chmod={mode} sets the mode of what it copies")
        }
        Form::Owner => {
            format!("COPY --chown={} sets the owner of what it copies", first.unwrap_or("USER:GROUP"))
        }
        Form::Group => {
            format!("COPY --chown=0:{} sets the group of what it copies", first.unwrap_or("GROUP"))
        }
        Form::Link => "make the link in the context and COPY the directory that it is in, links are kept".to_owned(),
        Form::Copy => "name the place in the destination of COPY, or use COPY --from".to_owned(),
        Form::Remove => {
            "name what is not to be copied in .containerignore or COPY --exclude, what a base has stays in its layers"
                .to_owned()
        }
        Form::Empty => "COPY an empty file".to_owned(),
    }
}

/// The program without its directory.
fn name_of(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The words of each command of a list; `None` for what only a shell can tell: pipes, redirections, substitutions, and words
/// that are no commands, such as `if`.
fn commands(text: &str) -> Option<Vec<Vec<String>>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        if let Some(between) = BETWEEN.iter().find(|between| rest.starts_with(**between)) {
            commands.last_mut()?.extend(word.take());
            commands.push(Vec::new());
            rest = &rest[between.len()..];
            continue;
        }
        rest = &rest[char.len_utf8()..];
        match char {
            ' ' | '\t' => commands.last_mut()?.extend(word.take()),
            '\'' | '"' => {
                let (quoted, behind) = rest.split_once(char)?;
                if char == '"' && quoted.contains(['`', '\\']) || quoted.contains("$(") {
                    return None;
                }
                word.get_or_insert_default().push_str(quoted);
                rest = behind;
            }
            '\\' => {
                let escaped = rest.chars().next()?;
                word.get_or_insert_default().push(escaped);
                rest = &rest[escaped.len_utf8()..];
            }
            '|' | '&' | '<' | '>' | '(' | ')' | '`' | '#' => return None,
            char => word.get_or_insert_default().push(char),
        }
    }
    commands.last_mut()?.extend(word);
    commands.retain(|command| !command.is_empty());
    Some(commands)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerfile::{Containerfile, Instruction};

    fn hint(run: &str) -> Option<String> {
        let file = Containerfile::parse("Containerfile", format!("FROM a\nRUN {run}\n").as_bytes()).unwrap();
        match &file.stages[0].instructions[0].value {
            Instruction::Run(run) => instead(run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_run_that_only_arranges_files_has_another_form() {
        let directory =
            "COPY makes the directories that it copies into, and WORKDIR /models makes an empty one";
        let mode = |mode| format!("COPY --chmod={mode} sets the mode of what it copies");
        for (run, expected) in [
            ("mkdir /models && chmod 775 /models", format!("{directory}; {}", mode("775"))),
            (r#"["mkdir", "-p", "/models"]"#, directory.to_owned()),
            (r#"["/bin/sh", "-c", "mkdir -p /models"]"#, directory.to_owned()),
            ("mkdir -p /models ; chmod g=u /models", format!("{directory}; {}", mode("g=u"))),
            ("set -e; /bin/chmod -R a+rX,go-w /m || true", mode("a+rX,go-w")),
            ("chmod $MODE /m", mode("MODE")),
            ("chmod 0644 /m/a && \\\n    chmod 0600 /m/b", mode("0644")),
            ("chown -R 1001:0 /m", "COPY --chown=1001:0 sets the owner of what it copies".to_owned()),
            ("chgrp 7 '/a b'", "COPY --chown=0:7 sets the group of what it copies".to_owned()),
            (
                "ln -s /models/a /mnt/models",
                "make the link in the context and COPY the directory that it is in, links are kept"
                    .to_owned(),
            ),
        ] {
            assert_eq!(hint(run), Some(format!("leave it out: {expected}")), "{run}");
        }
    }

    #[test]
    fn a_run_that_does_more_has_none() {
        for run in [
            "pip install torch",
            "curl -O https://example.org/x && chmod 644 x",
            "mkdir /models && huggingface-cli download --local-dir /models a/b",
            "wget https://example.org/x",
            r#"["pip", "install", "torch"]"#,
            "chmod 644 $(find /m)",
            "chmod 644 \"`ls`\"",
            "mkdir /a | tee /b",
            "mkdir /a > /dev/null",
            "if true; then mkdir /a; fi",
            "(mkdir /a)",
            "true",
            "mkdir 'a",
            "<<EOF\nmkdir /a\nEOF",
        ] {
            assert_eq!(hint(run), None, "{run}");
        }
    }
}

//! What the arguments of each instruction mean.

use std::ops::Range;

use super::error::ParseError;
use super::flags::{Flags, Known, Takes};
use super::healthcheck;
use super::instruction::{
    AddInstruction, ArgDeclaration, CommandForm, CopyInstruction, CopySource, FromInstruction, Heredoc,
    Instruction, KeyValue, RunInstruction,
};
use super::lexer::{HeredocBody, shorten};
use super::line::Line;
use super::source::{Span, Spanned};
use super::words::{self, JsonArray};

const ADD: &[Known] = &[
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("checksum", Takes::Value),
    ("keep-git-dir", Takes::Switch),
    ("link", Takes::Switch),
    ("exclude", Takes::Values),
    ("unpack", Takes::Switch),
];
const COPY: &[Known] = &[
    ("from", Takes::Value),
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("parents", Takes::Switch),
    ("exclude", Takes::Values),
];
const FROM: &[Known] = &[("platform", Takes::Value)];
const RUN: &[Known] = &[
    ("mount", Takes::Values),
    ("network", Takes::Value),
    ("security", Takes::Value),
    ("device", Takes::Values),
];

const JSON_FOR_PATHS: &str = "a path with blanks or quotes needs the JSON form [\"a b\", \"dest\"]";
const CLOSE_OR_ESCAPE: &str = "close it, or escape it to mean the character";

/// A line cut as far as all instructions have in common.
pub(super) struct Arguments {
    pub(super) keyword: &'static str,
    pub(super) flags: Flags,
    /// The arguments behind the flags.
    pub(super) args: Range<usize>,
    /// The instruction from its keyword on.
    pub(super) span: Span,
}

/// The instruction that `keyword` begins; any but `FROM` and `ONBUILD`.
pub(super) fn instruction(
    line: &mut Line<'_>,
    keyword: &'static str,
    range: Range<usize>,
    args: Range<usize>,
) -> Result<Instruction, ParseError> {
    let known = match keyword {
        "ADD" => ADD,
        "COPY" => COPY,
        "HEALTHCHECK" => healthcheck::FLAGS,
        "RUN" => RUN,
        _ => &[],
    };
    let (flags, args) = Flags::take(line, keyword, args, known)?;
    let parts = Arguments { keyword, flags, args, span: line.span(&range) };
    Ok(match keyword {
        "ADD" => Instruction::Add(parts.add(line)?),
        "ARG" => Instruction::Arg(parts.declarations(line)?),
        "CMD" => Instruction::Cmd(parts.clearable_command(line)?),
        "COPY" => Instruction::Copy(parts.copy(line)?),
        "ENTRYPOINT" => Instruction::Entrypoint(parts.clearable_command(line)?),
        "ENV" => Instruction::Env(parts.pairs(line)?),
        "EXPOSE" => Instruction::Expose(parts.ports(line)?),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck::parse(line, &parts)?),
        "LABEL" => Instruction::Label(parts.pairs(line)?),
        "MAINTAINER" => {
            line.warn(
                parts.span,
                "MAINTAINER is deprecated",
                "write LABEL org.opencontainers.image.authors=..",
            );
            parts.required(line, "a name")?;
            Instruction::Maintainer(line.spanned(&parts.args))
        }
        "RUN" => Instruction::Run(parts.run(line)?),
        "SHELL" => Instruction::Shell(parts.shell(line)?),
        "STOPSIGNAL" => Instruction::Stopsignal(parts.single(line, "a signal")?),
        "USER" => Instruction::User(parts.single(line, "a user")?),
        "VOLUME" => Instruction::Volume(parts.volumes(line)?),
        _ => Instruction::Workdir(parts.single(line, "a directory")?),
    })
}

/// `FROM` with its arguments.
pub(super) fn from(line: &Line<'_>, args: Range<usize>) -> Result<FromInstruction, ParseError> {
    const HELP: &str = "write FROM image or FROM image AS name";
    let span = line.span(&(0..line.text().len()));
    let (flags, args) = Flags::take(line, "FROM", args, FROM)?;
    let words = words::blank_words(line.text(), args, &[]);
    let (image, name) = match words.as_slice() {
        [] => return Err(line.arguments(span, "FROM has no image", HELP)),
        [image] => (image, None),
        [image, keyword, name] if line.text()[keyword.clone()].eq_ignore_ascii_case("as") => {
            (image, Some(line.spanned(name)))
        }
        [_, keyword] if line.text()[keyword.clone()].eq_ignore_ascii_case("as") => {
            return Err(line.arguments(line.span(keyword), "FROM has no stage name behind AS", HELP));
        }
        [_, keyword, _, extra, ..] if line.text()[keyword.clone()].eq_ignore_ascii_case("as") => {
            return Err(line.arguments(line.span(extra), "FROM has more than an image and a name", HELP));
        }
        [_, extra, ..] => {
            return Err(line.arguments(line.span(extra), "FROM has more than an image", HELP));
        }
    };
    let image = line.word(image, "close it")?;
    Ok(FromInstruction { image, platform: flags.value("platform"), name, span })
}

/// Refuses any flag.
pub(super) fn no_flags(
    line: &Line<'_>,
    keyword: &str,
    args: Range<usize>,
) -> Result<(Flags, Range<usize>), ParseError> {
    Flags::take(line, keyword, args, &[])
}

impl Arguments {
    fn copy(self, line: &mut Line<'_>) -> Result<CopyInstruction, ParseError> {
        let (sources, dest) = self.sources_and_dest(line)?;
        let Self { flags, .. } = self;
        Ok(CopyInstruction {
            sources,
            dest,
            from: flags.value("from"),
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.switch("link"),
            parents: flags.switch("parents"),
            exclude: flags.values("exclude"),
        })
    }

    fn add(self, line: &mut Line<'_>) -> Result<AddInstruction, ParseError> {
        let (sources, dest) = self.sources_and_dest(line)?;
        let Self { flags, .. } = self;
        Ok(AddInstruction {
            sources,
            dest,
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            checksum: flags.value("checksum"),
            keep_git_dir: flags.switch("keep-git-dir"),
            link: flags.switch("link"),
            exclude: flags.values("exclude"),
            unpack: flags.switch("unpack"),
        })
    }

    fn sources_and_dest(
        &self,
        line: &mut Line<'_>,
    ) -> Result<(Vec<CopySource>, Spanned<String>), ParseError> {
        let keyword = self.keyword;
        let mut sources = self.sources(line)?;
        let Some(dest) = sources.pop() else {
            let help = format!("write {keyword} source.. dest");
            return Err(line.arguments(
                self.span,
                format!("{keyword} has no source and no destination"),
                &help,
            ));
        };
        if sources.is_empty() {
            let message =
                format!("{keyword} has only one argument, so a source or the destination is missing");
            return Err(line.arguments(dest.span(), message, &format!("write {keyword} source.. dest")));
        }
        match dest {
            CopySource::Path(dest) => Ok((sources, dest)),
            CopySource::Heredoc(heredoc) => {
                let message = format!("a heredoc cannot be the destination of {keyword}");
                Err(line.arguments(heredoc.name.span, message, "write a path behind it"))
            }
        }
    }

    /// All arguments of `COPY` and `ADD`, the destination last.
    fn sources(&self, line: &mut Line<'_>) -> Result<Vec<CopySource>, ParseError> {
        if let Some(strings) = self.json(line)? {
            return Ok(strings.into_iter().map(CopySource::Path).collect());
        }
        let whole: Vec<_> = line.heredocs().iter().map(|body| body.opening.range.clone()).collect();
        words::blank_words(line.text(), self.args.clone(), &whole)
            .iter()
            .map(|word| match line.heredocs().iter().find(|body| body.opening.range.start == word.start) {
                Some(body) => Ok(CopySource::Heredoc(heredoc(line, body))),
                None => line.word(word, JSON_FOR_PATHS).map(CopySource::Path),
            })
            .collect()
    }

    /// The arguments as a JSON array; `None` if they are none.
    fn json(&self, line: &mut Line<'_>) -> Result<Option<Vec<Spanned<String>>>, ParseError> {
        json(line, self.keyword, &self.args)
    }

    pub(super) fn required(&self, line: &Line<'_>, what: &str) -> Result<(), ParseError> {
        if !self.args.is_empty() {
            return Ok(());
        }
        let Self { keyword, span, .. } = self;
        Err(line.arguments(*span, format!("{keyword} has no argument"), &format!("it takes {what}")))
    }

    fn single(&self, line: &Line<'_>, what: &str) -> Result<Spanned<String>, ParseError> {
        self.required(line, what)?;
        line.word(&self.args, CLOSE_OR_ESCAPE)
    }

    fn ports(&self, line: &Line<'_>) -> Result<Vec<Spanned<String>>, ParseError> {
        self.required(line, "one or more ports")?;
        let words = words::blank_words(line.text(), self.args.clone(), &[]);
        words.iter().map(|word| line.word(word, "close it")).collect()
    }

    fn volumes(&self, line: &mut Line<'_>) -> Result<Vec<Spanned<String>>, ParseError> {
        const WHAT: &str = "one or more paths";
        self.required(line, WHAT)?;
        let volumes = match self.json(line)? {
            Some(strings) => strings,
            None => words::blank_words(line.text(), self.args.clone(), &[])
                .iter()
                .map(|word| line.word(word, JSON_FOR_PATHS))
                .collect::<Result<_, _>>()?,
        };
        if let Some(blank) = volumes.iter().find(|volume| volume.trim().is_empty()) {
            return Err(line.arguments(
                blank.span,
                "VOLUME has an empty path",
                "write the path or remove it",
            ));
        }
        if volumes.is_empty() {
            return Err(line.arguments(self.span, "VOLUME has no argument", &format!("it takes {WHAT}")));
        }
        Ok(volumes)
    }

    fn shell(&self, line: &mut Line<'_>) -> Result<Vec<Spanned<String>>, ParseError> {
        const HELP: &str = "write SHELL [\"executable\", \"parameter\"]";
        match self.json(line)? {
            Some(words) if !words.is_empty() => Ok(words),
            Some(_) => Err(line.arguments(self.span, "SHELL has no command", HELP)),
            None if self.args.is_empty() => Err(line.arguments(self.span, "SHELL has no argument", HELP)),
            None => {
                Err(line.arguments(line.span(&self.args), "SHELL takes a JSON array of strings only", HELP))
            }
        }
    }

    /// The command of `CMD` and `ENTRYPOINT`, for which `[]` has a meaning.
    fn clearable_command(&self, line: &mut Line<'_>) -> Result<CommandForm, ParseError> {
        let keyword = self.keyword;
        self.required(line, &format!("a command; {keyword} [] clears the base's"))?;
        command(line, keyword, &self.args)
    }

    fn run(self, line: &mut Line<'_>) -> Result<RunInstruction, ParseError> {
        self.required(line, "a command")?;
        let command = command(line, self.keyword, &self.args)?;
        refuse_empty(line, self.keyword, self.span, &command)?;
        let Self { flags, .. } = self;
        Ok(RunInstruction {
            command,
            heredocs: line.heredocs().iter().map(|body| heredoc(line, body)).collect(),
            mounts: flags.values("mount"),
            network: flags.value("network"),
            security: flags.value("security"),
            devices: flags.values("device"),
        })
    }

    fn declarations(&self, line: &Line<'_>) -> Result<Vec<ArgDeclaration>, ParseError> {
        self.required(line, "NAME or NAME=default")?;
        let words = words::quoted_words(line.text(), self.args.clone(), line.escape)
            .map_err(|quote| line.unclosed_quote(quote, CLOSE_OR_ESCAPE))?;
        words
            .iter()
            .map(|word| {
                // One in quotes is found when they are gone.
                let (name, default) = match words::equals(line.text(), word.clone(), line.escape) {
                    Some(equals) => (word.start..equals, Some(line.spanned(&(equals + 1..word.end)))),
                    None => (word.clone(), None),
                };
                self.named(line, word, &name)?;
                Ok(ArgDeclaration { name: line.spanned(&name), default })
            })
            .collect()
    }

    /// `K=V ..` or, where the first word has no `=`, the one pair of `K V`.
    fn pairs(&self, line: &mut Line<'_>) -> Result<Vec<KeyValue>, ParseError> {
        self.required(line, "NAME=value")?;
        let keyword = self.keyword;
        let words = words::quoted_words(line.text(), self.args.clone(), line.escape)
            .map_err(|quote| line.unclosed_quote(quote, CLOSE_OR_ESCAPE))?;
        let legacy = words.first().is_none_or(|first| !line.text()[first.clone()].contains('='));
        if legacy {
            let (key, value) = words::split_keyword(line.text(), self.args.clone());
            if value.is_empty() {
                let message = format!("{keyword} {} has no value", shorten(&line.text()[key.clone()]));
                return Err(line.arguments(line.span(&key), message, "write NAME=value"));
            }
            line.warn(line.span(&self.args), format!("{keyword} with a blank for ="), "write NAME=value");
            return Ok(vec![KeyValue { key: line.spanned(&key), value: line.spanned(&value) }]);
        }
        words
            .iter()
            .map(|word| {
                let Some(equals) = line.text()[word.clone()].find('=') else {
                    let written = shorten(&line.text()[word.clone()]);
                    let message = format!("{keyword} has the word {written} without =");
                    let help = "write NAME=value, with quotes around a value that has blanks";
                    return Err(line.arguments(line.span(word), message, help));
                };
                let equals = word.start + equals;
                let key = word.start..equals;
                self.named(line, word, &key)?;
                Ok(KeyValue { key: line.spanned(&key), value: line.spanned(&(equals + 1..word.end)) })
            })
            .collect()
    }

    /// Refuses `=value` and `""=value`.
    fn named(&self, line: &Line<'_>, word: &Range<usize>, name: &Range<usize>) -> Result<(), ParseError> {
        if line.text()[name.clone()].chars().any(|char| !matches!(char, '"' | '\'')) {
            return Ok(());
        }
        let message = format!("{} has an empty name", self.keyword);
        Err(line.arguments(line.span(word), message, "write NAME=value"))
    }
}

fn heredoc(line: &Line<'_>, body: &HeredocBody) -> Heredoc {
    let opening = &body.opening;
    Heredoc {
        name: Spanned::new(opening.name.clone(), line.span(&opening.range)),
        fd: opening.fd,
        expand: opening.expand,
        strip_tabs: opening.strip_tabs,
        content: body.content.clone(),
    }
}

fn json(
    line: &mut Line<'_>,
    keyword: &str,
    args: &Range<usize>,
) -> Result<Option<Vec<Spanned<String>>>, ParseError> {
    match words::json_array(line.text(), args.clone()) {
        JsonArray::Strings { strings, rest } => {
            if !rest.is_empty() {
                let message = format!(
                    "{keyword} leaves out what stands behind its JSON array: {}",
                    shorten(&line.text()[rest.clone()])
                );
                line.warn(line.span(&rest), message, "put a comment on a line of its own");
            }
            Ok(Some(
                strings.into_iter().map(|(value, range)| Spanned::new(value, line.span(&range))).collect(),
            ))
        }
        JsonArray::Mixed => Err(line.arguments(
            line.span(args),
            format!("{keyword} has a JSON array with something else than strings"),
            "put each element in double quotes",
        )),
        JsonArray::Not => {
            let text = &line.text()[args.clone()];
            // `[ -f x ]` is a good shell command; with a quote right behind the bracket JSON was meant.
            if text.starts_with("[\"") || text.starts_with("['") {
                line.warn(
                    line.span(args),
                    format!("{keyword} looks like a JSON array and is none"),
                    "use double quotes and no comma at the end",
                );
            }
            Ok(None)
        }
    }
}

pub(super) fn command(
    line: &mut Line<'_>,
    keyword: &str,
    args: &Range<usize>,
) -> Result<CommandForm, ParseError> {
    Ok(match json(line, keyword, args)? {
        Some(words) => CommandForm::Exec(words),
        None => CommandForm::Shell(line.spanned(args)),
    })
}

pub(super) fn refuse_empty(
    line: &Line<'_>,
    what: &str,
    span: Span,
    command: &CommandForm,
) -> Result<(), ParseError> {
    match command {
        CommandForm::Exec(words) if words.is_empty() => {
            Err(line.arguments(span, format!("{what} has no command"), "write one into the array"))
        }
        CommandForm::Exec(_) | CommandForm::Shell(_) => Ok(()),
    }
}

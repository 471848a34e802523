//! Tests of the whole path from text to instructions.

mod errors;
mod expansion;
mod instructions;
mod lines;
mod properties;

use super::{Containerfile, Instruction, Spanned};

fn parse(text: &str) -> Containerfile {
    match Containerfile::parse("Containerfile", text.as_bytes()) {
        Ok(file) => {
            if let Some(error) = file.stages.iter().find_map(|stage| stage.unreadable.as_ref()) {
                panic!("{}", error.render());
            }
            file
        }
        Err(error) => panic!("{}", error.render()),
    }
}

/// The only instruction behind `FROM scratch`.
fn one(text: &str) -> Instruction {
    let file = parse(&format!("FROM scratch\n{text}"));
    let [stage] = file.stages.as_slice() else { panic!("{} stages", file.stages.len()) };
    let [instruction] = stage.instructions.as_slice() else {
        panic!("{} instructions", stage.instructions.len())
    };
    instruction.value.clone()
}

fn values(words: &[Spanned<String>]) -> Vec<&str> {
    words.iter().map(|word| word.value.as_str()).collect()
}

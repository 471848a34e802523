//! `model-00002-of-00005.safetensors`: a file that is one of several.

/// The name of a file that says which of how many it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Numbered<'n> {
    /// What is before and behind the numbers.
    pub(super) before: &'n str,
    pub(super) behind: &'n str,
    /// The second number as it is written.
    pub(super) of: &'n str,
    pub(super) no: &'n str,
}

impl<'n> Numbered<'n> {
    pub(super) fn parse(name: &'n str) -> Option<Self> {
        let (left, right) = name.split_once("-of-").filter(|(_, rest)| !rest.contains("-of-"))?;
        let (before, no) = left.rsplit_once('-')?;
        let end = right.find(|c: char| !c.is_ascii_digit()).unwrap_or(right.len());
        let (of, behind) = right.split_at(end);
        let is_number =
            |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        (is_number(no) && is_number(of)).then_some(Self { before, behind, of, no })
    }

    pub(super) fn number(&self) -> u32 {
        self.no.parse().unwrap_or_default()
    }

    pub(super) fn count(&self) -> u32 {
        self.of.parse().unwrap_or_default()
    }

    /// The name of another one of them.
    pub(super) fn sibling(&self, number: u32) -> String {
        let Self { before, behind, of, no } = self;
        format!("{before}-{number:0width$}-of-{of}{behind}", width = no.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_of_how_many_they_are() {
        for (name, expected) in [
            ("model-00002-of-00005.safetensors", Some((2, 5, "model-00004-of-00005.safetensors"))),
            ("model-00002-of-000163.safetensors", Some((2, 163, "model-00004-of-000163.safetensors"))),
            ("llama-3-8b-00001-of-00003.gguf", Some((1, 3, "llama-3-8b-00004-of-00003.gguf"))),
            ("model-00001-of-00002.fp16.safetensors", Some((1, 2, "model-00004-of-00002.fp16.safetensors"))),
            ("model.safetensors", None),
            ("one-of-00002.bin", None),
            ("a-1-of-b.bin", None),
            ("a-1-of-2-of-3.bin", None),
            ("a-1234567890-of-2.bin", None),
        ] {
            let parsed = Numbered::parse(name);
            let parsed = parsed.as_ref().map(|it| (it.number(), it.count(), it.sibling(4)));
            assert_eq!(parsed, expected.map(|(no, of, other)| (no, of, other.to_owned())), "{name}");
        }
    }
}

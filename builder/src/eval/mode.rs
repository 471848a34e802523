//! `--chmod`: an octal mode, or clauses as chmod(1) takes them (POSIX, "chmod", with the umask 0 that BuildKit has).

/// What becomes of a file's mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is this.
    Octal(u32),
    /// It changes by these, one after the other.
    Symbolic(Vec<Change>),
}

/// One operator of a clause, such as the `-w` of `go-w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The bits that `who` stands for: read, write, execute, and set-ID or sticky.
    who: u32,
    operator: u8,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Of all classes, before `who` chooses among them; `x_if_any` is `X`.
    Bits { bits: u32, x_if_any: bool },
    /// What the class that is so many bits from the right has.
    Class { shift: u32 },
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const ALL: u32 = 0o7777;
const EXECUTE: u32 = 0o111;

impl Mode {
    /// Reads `0644`, `u+x` or `a+rX,go-w`; `None` where it is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= ALL).map(Self::Octal);
        }
        let clauses: Option<Vec<_>> = text.split(',').map(clause).collect();
        clauses.map(|clauses| Self::Symbolic(clauses.concat()))
    }

    /// What a file or directory with `mode` gets.
    pub(super) fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => {
                changes.iter().fold(mode, |mode, change| change.apply(mode, directory))
            }
        }
    }
}

impl Change {
    fn apply(self, mode: u32, directory: bool) -> u32 {
        let bits = match self.what {
            What::Bits { bits, x_if_any: true } if directory || mode & EXECUTE != 0 => bits | EXECUTE,
            What::Bits { bits, .. } => bits,
            What::Class { shift } => (mode >> shift & 0o7) * EXECUTE,
        } & self.who;
        match self.operator {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            _ => mode & !self.who | bits,
        }
    }
}

/// `[ugoa..][+-=][rwxXst..|u|g|o]..`, operators repeated as often as one likes.
fn clause(text: &str) -> Option<Vec<Change>> {
    let rest = text.trim_start_matches(['u', 'g', 'o', 'a']);
    let named = text[..text.len() - rest.len()].bytes();
    let who = named.map(|class| match class {
        b'u' => USER,
        b'g' => GROUP,
        b'o' => OTHER,
        _ => ALL,
    });
    let who = who.reduce(|a, b| a | b).unwrap_or(ALL);
    // Sticky is nobody's in particular.
    let who = if who | 0o1000 == ALL { ALL } else { who };
    let mut changes = Vec::new();
    let mut rest = rest;
    while let Some(operator) = rest.bytes().next() {
        if !b"+-=".contains(&operator) {
            return None;
        }
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        changes.push(Change { who, operator, what: what(&rest[1..end])? });
        rest = &rest[end..];
    }
    (!changes.is_empty()).then_some(changes)
}

fn what(text: &str) -> Option<What> {
    match text {
        "u" => return Some(What::Class { shift: 6 }),
        "g" => return Some(What::Class { shift: 3 }),
        "o" => return Some(What::Class { shift: 0 }),
        _ => {}
    }
    let (mut bits, mut x_if_any) = (0, false);
    for letter in text.bytes() {
        match letter {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= EXECUTE,
            b'X' => x_if_any = true,
            b's' => bits |= 0o6000,
            b't' => bits |= 0o1000,
            _ => return None,
        }
    }
    Some(What::Bits { bits, x_if_any })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_as_chmod_has_them() {
        for (text, file, directory) in [
            ("644", 0o644, 0o644),
            ("0755", 0o755, 0o755),
            ("4711", 0o4711, 0o4711),
            ("u+x", 0o740, 0o750),
            ("+x", 0o751, 0o751),
            ("a+rX,go-w", 0o644, 0o755),
            ("a=rX", 0o444, 0o555),
            ("u=rw,g=u,o=", 0o660, 0o660),
            ("go=u-w", 0o644, 0o755),
            ("u+s", 0o4640, 0o4750),
            ("g+s,+t", 0o3640, 0o3750),
            ("o+s", 0o640, 0o750),
            ("ug+rw,o-rwx", 0o660, 0o770),
            ("u=", 0o040, 0o050),
        ] {
            let mode = Mode::parse(text).unwrap();
            assert_eq!((mode.apply(0o640, false), mode.apply(0o750, true)), (file, directory), "{text}");
        }
        for text in ["", "8", "10000", "u", "+7", "z+x", "u+x,", "u+q", "u~x", "u+ux"] {
            assert_eq!(Mode::parse(text), None, "{text}");
        }
    }
}

//! The header of a GGUF file: magic, version, counts, key-value pairs, and the place of each tensor
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>). Long arrays of numbers are skipped; vocabularies may take
//! more than is read of a file, and what is behind them is not looked at then.

use super::look::{FIRST, Fault, Look, MOST, Seen, quoted};

const MAGIC: [u8; 4] = *b"GGUF";

/// The newest version that is known here; so many that may come are not looked into, and are no mistake.
const NEWEST: u32 = 3;
const TO_COME: u32 = 16;

/// Where tensors begin, if nothing else is said: at a multiple of so many bytes.
const ALIGNMENT: u64 = 32;

/// The format's own limit of a key, in bytes.
const MAX_KEY: u64 = 65_535;

/// llama.cpp has tensors of four dimensions.
const MAX_DIMENSIONS: u64 = 8;

/// Arrays of arrays so deep.
const MAX_DEPTH: usize = 4;

/// So many bytes are read ahead at most.
const AHEAD: usize = 64 << 10;

/// What a file's header says, as far as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gguf {
    /// Of a split file: which part it is, from 0.
    pub split_no: Option<u64>,
    /// Of a split file: how many parts there are.
    pub split_count: Option<u64>,
    /// How many tensors the file has.
    pub tensors: u64,
    alignment: Option<u64>,
}

/// Why the reading ended.
enum End {
    Fault(Fault),
    /// Behind this is what is not looked at.
    Unseen,
}

impl From<String> for End {
    fn from(text: String) -> Self {
        Self::Fault(Fault(text))
    }
}

/// Reads the header of a file, at most [`MOST`] bytes of it. `None` where the file's bytes cannot be had.
///
/// # Errors
/// Where the file cannot be one of GGUF that is whole.
pub fn read(file: &mut dyn Look) -> Option<Result<Seen<Gguf>, Fault>> {
    let bytes = file.read(0, FIRST)?;
    let mut gguf = Gguf::default();
    let mut reader =
        Reader { file, bytes, begin: 0, at: 0, read: FIRST as u64, big_endian: false, wide: true };
    Some(match reader.header(&mut gguf) {
        Ok(()) => Ok(Seen::Whole(gguf)),
        Err(End::Unseen) => Ok(Seen::Part(gguf)),
        Err(End::Fault(fault)) => Err(fault),
    })
}

/// The file's bytes from beginning to end, a piece at a time.
struct Reader<'f> {
    file: &'f mut dyn Look,
    /// The piece at hand, and where it begins.
    bytes: Vec<u8>,
    begin: u64,
    at: u64,
    /// How much was read so far.
    read: u64,
    big_endian: bool,
    /// Whether counts have 64 bits, as from version 2 on.
    wide: bool,
}

impl Reader<'_> {
    fn header(&mut self, gguf: &mut Gguf) -> Result<(), End> {
        let magic = self.take::<4>("magic")?;
        if magic != MAGIC {
            return Err(format!(
                "is no GGUF file: it begins with {:?}, and not with \"GGUF\"",
                String::from_utf8_lossy(&magic)
            )
            .into());
        }
        let version = u32::from_le_bytes(self.take("version")?);
        // A file for machines of the other byte order.
        self.big_endian = version & 0xffff == 0;
        let version = if self.big_endian { version.swap_bytes() } else { version };
        match version {
            1..=NEWEST => {}
            0 | TO_COME.. => {
                return Err(format!(
                    "is no GGUF file: its version is {version}, and 1 to {NEWEST} are known"
                )
                .into());
            }
            _ => return Err(End::Unseen),
        }
        self.wide = version > 1;
        gguf.tensors = self.count("number of tensors")?;
        let pairs = self.count("number of pairs")?;
        for _ in 0..pairs {
            self.pair(gguf)?;
        }
        let mut end = None;
        for _ in 0..gguf.tensors {
            end = end.max(self.tensor()?);
        }
        let alignment = gguf.alignment.unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(format!("has an alignment of {alignment}, which is no power of two").into());
        }
        let Some((end, name)) = end else { return Ok(()) };
        let expected = u128::from(self.at).next_multiple_of(u128::from(alignment)) + end;
        if expected > u128::from(self.file.len()) {
            let len = self.file.len();
            return Err(format!(
                "was cut off: its tensor {} ends at byte {expected} by its header, and the file has {len}",
                quoted(&name)
            )
            .into());
        }
        Ok(())
    }

    /// A key with its value.
    fn pair(&mut self, gguf: &mut Gguf) -> Result<(), End> {
        let key = self.key("key")?;
        let kind = self.number("type of a value")?;
        match key.as_str() {
            "split.no" => gguf.split_no = self.integer(kind)?,
            "split.count" => gguf.split_count = self.integer(kind)?,
            "general.alignment" => gguf.alignment = self.integer(kind)?,
            _ => self.value(kind, &key, 0)?,
        }
        Ok(())
    }

    /// A value that is a whole number; `None` for one that is something else.
    fn integer(&mut self, kind: u32) -> Result<Option<u64>, End> {
        Ok(match kind {
            0 | 1 | 7 => Some(u64::from(self.take::<1>("value")?[0])),
            2 | 3 => {
                let bytes = self.take("value")?;
                Some(u64::from(if self.big_endian {
                    u16::from_be_bytes(bytes)
                } else {
                    u16::from_le_bytes(bytes)
                }))
            }
            4 | 5 => Some(u64::from(self.number("value")?)),
            10 | 11 => Some(self.long("value")?),
            _ => {
                self.value(kind, "split or alignment", 0)?;
                None
            }
        })
    }

    fn value(&mut self, kind: u32, key: &str, depth: usize) -> Result<(), End> {
        const STRING: u32 = 8;
        const ARRAY: u32 = 9;
        match kind {
            STRING => {
                let len = self.count("length of a text")?;
                self.skip(len, key)
            }
            ARRAY if depth < MAX_DEPTH => {
                let kind = self.number("type of an array")?;
                let count = self.count("length of an array")?;
                if let Some(size) = size_of(kind) {
                    return self.skip(count.saturating_mul(size), key);
                }
                for _ in 0..count {
                    self.value(kind, key, depth + 1)?;
                }
                Ok(())
            }
            _ => match size_of(kind) {
                Some(size) => self.skip(size, key),
                None => {
                    Err(format!("has a value of the type {kind} at {}, which GGUF has not", quoted(key))
                        .into())
                }
            },
        }
    }

    /// Where a tensor ends in the data, with its name; `None` for one of a type that is not known here.
    fn tensor(&mut self) -> Result<Option<(u128, String)>, End> {
        let name = self.key("name of a tensor")?;
        let dimensions = u64::from(self.number("number of dimensions")?);
        if dimensions > MAX_DIMENSIONS {
            return Err(format!(
                "has a tensor {} of {dimensions} dimensions, and {MAX_DIMENSIONS} are the most",
                quoted(&name)
            )
            .into());
        }
        let mut elements = 1_u128;
        for _ in 0..dimensions {
            let one = self.count("dimension")?;
            elements = elements
                .checked_mul(u128::from(one))
                .ok_or_else(|| format!("has a tensor {} beyond all size", quoted(&name)))?;
        }
        let kind = self.number("type of a tensor")?;
        let offset = u128::from(self.long("place of a tensor")?);
        let size = block(kind).and_then(|(block, bytes)| (elements / block).checked_mul(bytes));
        Ok(size.map(|size| (offset.saturating_add(size), name)))
    }

    /// A short text.
    fn key(&mut self, what: &str) -> Result<String, End> {
        let len = self.count(what)?;
        if len > MAX_KEY {
            return Err(
                format!("is damaged: a {what} would have {len} bytes, and {MAX_KEY} are the most").into()
            );
        }
        let bytes = self.next(len, what)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn count(&mut self, what: &str) -> Result<u64, End> {
        if self.wide { self.long(what) } else { self.number(what).map(u64::from) }
    }

    fn number(&mut self, what: &str) -> Result<u32, End> {
        let bytes = self.take(what)?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn long(&mut self, what: &str) -> Result<u64, End> {
        let bytes = self.take(what)?;
        Ok(if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], End> {
        let bytes = self.next(N as u64, what)?;
        bytes.try_into().map_err(|_| End::Unseen)
    }

    /// The next bytes, at most [`MAX_KEY`] of them.
    fn next(&mut self, len: u64, what: &str) -> Result<Vec<u8>, End> {
        self.room(len, what)?;
        let wanted = usize::try_from(len).map_err(|_| End::Unseen)?;
        if self.at + len > self.begin + self.bytes.len() as u64 {
            // One piece after another gets longer; after a jump it is short again.
            let follows = self.at <= self.begin + self.bytes.len() as u64;
            let ahead = if follows { (self.bytes.len() * 2).min(AHEAD) } else { FIRST }.max(wanted);
            let ahead = u64::try_from(ahead).unwrap_or(u64::MAX).min(MOST.saturating_sub(self.read));
            if ahead < len {
                return Err(End::Unseen);
            }
            self.bytes = self
                .file
                .read(self.at, usize::try_from(ahead).map_err(|_| End::Unseen)?)
                .ok_or(End::Unseen)?;
            self.begin = self.at;
            self.read += ahead;
        }
        let from = usize::try_from(self.at - self.begin).map_err(|_| End::Unseen)?;
        self.at += len;
        self.bytes.get(from..from + wanted).map(<[u8]>::to_vec).ok_or(End::Unseen)
    }

    fn skip(&mut self, len: u64, key: &str) -> Result<(), End> {
        self.room(len, &format!("value of {}", quoted(key)))?;
        self.at += len;
        Ok(())
    }

    /// Whether so many bytes follow.
    fn room(&self, wanted: u64, what: &str) -> Result<(), End> {
        let left = self.file.len() - self.at;
        if wanted <= left {
            return Ok(());
        }
        Err(format!("was cut off inside its header: the {what} takes {wanted} bytes at {}, and {left} are left of the file", self.at).into())
    }
}

/// The bytes of a value of a type; `None` for texts, arrays, and what is no type.
fn size_of(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// The elements of a block and its bytes, for a type of tensors: `GGML_QUANT_SIZES` of the package `gguf`. `None` for a type
/// that is not known here, or no longer in use.
fn block(kind: u32) -> Option<(u128, u128)> {
    Some(match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        // It is in memory alone, and written by nobody: the package has 40 for it, ggml itself 36.
        9 => (32, 36),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        22 => (256, 82),
        23 => (256, 136),
        24 => (1, 1),
        27 | 28 => (1, 8),
        29 => (256, 56),
        34 => (256, 54),
        39 => (32, 17),
        40 => (64, 36),
        41 => (128, 18),
        _ => return None,
    })
}

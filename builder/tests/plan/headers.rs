//! The readers of headers take any bytes, and say of a file what the format's own library says.

use crossdock_builder::model::{Look, MOST, gguf, index, is_pickle, pointer, safetensors};
use proptest::collection::vec;
use proptest::prelude::*;
use safetensors_crate::{SafeTensorError, SafeTensors};

use crate::models;

/// A file, of which it is noted how much was read.
struct Counted<'b> {
    bytes: &'b [u8],
    read: u64,
}

impl Look for Counted<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, most: usize) -> Option<Vec<u8>> {
        let read = (&mut &*self.bytes as &mut dyn Look).read(offset, most)?;
        self.read += read.len() as u64;
        Some(read)
    }
}

/// Has all readers look at some bytes; none reads more than it may.
fn look(bytes: &[u8]) {
    let readers: [fn(&mut dyn Look); 5] = [
        |file| drop(safetensors::read(file)),
        |file| drop(gguf::read(file)),
        |file| drop(index::read(file)),
        |file| assert!(pointer(file).is_none() || file.len() < 1024),
        |file| assert!(!is_pickle(file) || !file.is_empty()),
    ];
    for reader in readers {
        let mut file = Counted { bytes, read: 0 };
        reader(&mut file);
        assert!(file.read <= MOST, "{}", file.read);
    }
}

/// Bytes that begin as a format does.
fn almost() -> impl Strategy<Value = Vec<u8>> {
    let beginning = prop_oneof![
        Just(Vec::new()),
        Just(b"GGUF\x03\0\0\0".to_vec()),
        Just(b"GGUF\0\0\0\x03".to_vec()),
        Just(b"GGUF\x01\0\0\0\x01\0\0\0".to_vec()),
        Just([&100_u64.to_le_bytes()[..], b"{\"a\":{\"dtype\":\"U8\",\"shape\":["].concat()),
        Just(b"{\"weight_map\":{".to_vec()),
        Just(b"version https://git-lfs".to_vec()),
        Just(models::gguf(&[("split.no", 1)])),
        Just(models::safetensors(&[("one", 10), ("two", 20)])),
    ];
    (beginning, vec(any::<u8>(), 0..600)).prop_map(|(beginning, rest)| [beginning, rest].concat())
}

/// A whole file with some bytes that are others, and perhaps without its end.
fn damaged(whole: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = whole.len();
    (vec((0..len, any::<u8>()), 0..3), prop_oneof![Just(0), 0..len]).prop_map(move |(changes, cut)| {
        let mut bytes = whole.clone();
        changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
        bytes.truncate(len - cut);
        bytes
    })
}

fn tensors() -> Vec<u8> {
    models::safetensors(&[("model.embed", 64), ("lm_head", 0), ("model.norm", 16)])
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in almost()) {
        look(&bytes);
    }

    #[test]
    fn damaged_files_are_read_without_a_panic(gguf in damaged(models::gguf(&[("split.no", 1), ("split.count", 2)])), tensors in damaged(tensors())) {
        look(&gguf);
        look(&tensors);
    }

    #[test]
    fn safetensors_are_whole_where_the_formats_own_library_says_so(bytes in damaged(tensors())) {
        let ours = safetensors::read(&mut &*bytes).expect("the bytes are there");
        match (SafeTensors::deserialize(&bytes), ours) {
            (Ok(theirs), Ok(ours)) => {
                let ours = ours.whole().expect("it is short");
                prop_assert_eq!(ours.count(), theirs.len());
                prop_assert!(theirs.names().iter().all(|name| ours.has(name)));
            }
            (Err(_), Err(_)) => {}
            // A type that it does not know may be one that comes.
            (Err(SafeTensorError::InvalidHeaderDeserialization(error)), Ok(_)) if error.to_string().contains("unknown variant") => {}
            (theirs, ours) => prop_assert!(false, "theirs: {:?}, ours: {:?}", theirs.map(drop), ours),
        }
    }
}

#[test]
fn a_file_that_promises_more_than_there_is_takes_neither_time_nor_room() {
    let mut gguf = b"GGUF\x03\0\0\0".to_vec();
    gguf.extend([0xff; 16]);
    // Arrays in arrays, and texts without a letter, as many as there is room for.
    let nested = [
        &gguf[..24],
        &[0; 8],
        &9_u32.to_le_bytes(),
        &[9, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0].repeat(200_000),
    ]
    .concat();
    let texts = [
        &gguf[..24],
        &[0; 8],
        &9_u32.to_le_bytes(),
        &8_u32.to_le_bytes(),
        &u64::MAX.to_le_bytes(),
        &[0; 4 << 20],
    ]
    .concat();
    for bytes in [gguf, nested, texts] {
        look(&bytes);
    }
    look(&[&(90_u64 << 20).to_le_bytes()[..], &b"[".repeat(3 << 20)].concat());
    look(&b"{\"weight_map\":{\"a\":".repeat(1 << 18));
}

//! The headers of weights, an index of shards, and what stands in the place of a file: each reader takes any bytes.

use crossdock_builder::model::{Look, MOST, gguf, index, is_pickle, pointer, safetensors};

/// A file that counts what is read of it.
struct File<'b> {
    bytes: &'b [u8],
    read: u64,
}

impl Look for File<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, most: usize) -> Option<Vec<u8>> {
        let mut bytes = self.bytes;
        let read = Look::read(&mut bytes, offset, most)?;
        self.read += read.len() as u64;
        Some(read)
    }
}

/// Has each reader look at the input.
pub fn model(input: &[u8]) {
    let look = |reader: &dyn Fn(&mut dyn Look)| {
        let mut file = File { bytes: input, read: 0 };
        reader(&mut file);
        assert!(file.read <= MOST, "{} bytes are read", file.read);
    };
    look(&|file| drop(gguf::read(file)));
    look(&|file| drop(index::read(file)));
    look(&|file| drop(safetensors::read(file)));
    look(&|file| {
        let _ = (pointer(file), is_pickle(file));
    });
    let whole =
        |mut bytes: &[u8]| matches!(safetensors::read(&mut bytes), Some(Ok(seen)) if seen.whole().is_some());
    if let Some((_, shorter)) = input.split_last().filter(|_| whole(input)) {
        assert!(!whole(shorter), "whole with its last byte, and without");
    }
}

/// A file of each kind.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F4","shape":[2],"data_offsets":[12,13]}}"#;
    let tensors = [&(header.len() as u64).to_le_bytes()[..], header, &[7; 13]].concat();
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let gguf = [
        b"GGUF\x03\0\0\0".to_vec(),
        [1_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat(),
        [text("split.count"), vec![2, 0, 0, 0, 3, 0]].concat(),
        [text("tokenizer.ggml.tokens"), vec![9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], text("<s>")]
            .concat(),
        [
            text("nested"),
            vec![9, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            vec![0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2],
        ]
        .concat(),
        [
            text("token_embd.weight"),
            vec![1, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat(),
        vec![0; 100],
    ]
    .concat();
    let index = br#"{"metadata":{"total_size":13},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 13\n", "ab".repeat(32));
    vec![
        ("safetensors", tensors),
        ("gguf", gguf),
        ("index", index.to_vec()),
        ("pointer", pointer.into_bytes()),
        ("torch", b"PK\x03\x04\x00\x00archive/data.pkl".to_vec()),
        ("pickle", b"\x80\x02}q\x00.".to_vec()),
    ]
}

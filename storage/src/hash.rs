//! SHA-256: of bytes, and of a layer that is read for its digests alone.

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::encode::Compression;
use crate::error::Result;
use crate::image::Layer;
use crate::layer::VirtualLayer;
use crate::parallel::blocking;
use crate::progress::LayerWatch;
use crate::reader::{LayerReader, ReadOptions};

/// A running SHA-256 whose end is a [`Digest`]. Uses the processor's SHA extensions where there are any.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The state, for [`from_state`](Self::from_state).
    pub(crate) fn state(&self) -> Vec<u8> {
        self.0.serialize().to_vec()
    }

    /// The hasher of a state after `taken` bytes; `None` where it is not one.
    pub(crate) fn from_state(taken: u64, state: &[u8]) -> Option<Self> {
        let state = SerializedState::<Sha256>::try_from(state).ok()?;
        // The eight chaining words are followed by the number of whole blocks taken in.
        let blocks = u64::from_le_bytes(state.get(32..40)?.try_into().ok()?);
        (blocks == taken / 64).then(|| Sha256::deserialize(&state).ok().map(Self)).flatten()
    }

    /// The hasher of a state; `None` where it is not one.
    pub(crate) fn of_state(state: &[u8]) -> Option<Self> {
        let state = SerializedState::<Sha256>::try_from(state).ok()?;
        Sha256::deserialize(&state).ok().map(Self)
    }

    /// Whether it may have taken in so many bytes, as far as its state tells.
    pub(crate) fn may_be_at(&self, taken: u64) -> bool {
        Self::from_state(taken, &self.state()).is_some()
    }

    /// The digest of all bytes taken in.
    ///
    /// # Panics
    /// Never: 64 hexadecimal digits are a valid sha256 digest.
    #[must_use]
    pub fn finish(self) -> Digest {
        use std::fmt::Write;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in self.0.finalize() {
            let _ = write!(text, "{byte:02x}");
        }
        text.parse().expect("64 hexadecimal digits")
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn digest(bytes: &[u8]) -> Digest {
        let mut hasher = Self::new();
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Digests one layer on a blocking thread; it ends early where the options' [`Cancel`](crate::Cancel) says so.
pub(crate) async fn hash_layer(
    layer: VirtualLayer,
    compression: Compression,
    options: ReadOptions,
    watch: LayerWatch,
) -> Result<Layer> {
    blocking(move || LayerReader::new(&layer, compression, &options).drain(&watch)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_fips_180_4() {
        assert_eq!(
            Hasher::digest(b"abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}

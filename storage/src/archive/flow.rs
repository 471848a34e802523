//! An archive that is written into a stream. A tar header says how long the bytes behind it are and comes before them, and
//! nothing is kept on disk: where neither name nor length of a blob is known, the blob is read twice.
//!
//! | | oci-archive | docker-archive |
//! |---|---|---|
//! | a new layer | named by its digest: read for that first, unless it is remembered | of known length, under a number |
//! | a layer of the base | as it is stored, once | unpacked: read for its length first, unless it is stored unpacked |

use std::io::{self, Read};

use oci_spec::image::Descriptor;

use super::state::Hashed;
use super::{ArchiveKind, ArchiveSink, check_diff_id, go_on, layer_name, what};
use crate::cancel::Cancel;
use crate::decode::{ChannelReader, decoder, limit_or};
use crate::digest::DiffId;
use crate::encode::Compression;
use crate::error::{Error, Result};
use crate::image::{ImageSource, Layer};
use crate::progress::{LayerWatch, Outcome, Phase};
use crate::reader::{LayerReader, ReadOptions};
use crate::sink::NewLayer;

impl ArchiveSink {
    /// Whether the archive goes into a stream.
    pub(super) fn flows(&self) -> bool {
        self.lock().as_ref().is_some_and(super::State::flows)
    }

    pub(super) async fn flow_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<(Layer, Outcome)> {
        let (known, compression) = match (self.kind, &layer.known) {
            (ArchiveKind::Oci, Some(known)) => (Some(known.clone()), layer.compression),
            (ArchiveKind::Oci, None) => {
                watch.phase(Phase::Hashing);
                (Some(layer.digest(read, watch).await?), layer.compression)
            }
            (ArchiveKind::Docker, _) => (None, Compression::None),
        };
        watch.phase(Phase::Writing);
        let mut state = self.take()?;
        let (name, len) = match &known {
            Some(known) => (self.blob_name(&known.descriptor, None), known.descriptor.size()),
            None => (state.next_name(), layer.layer.len()),
        };
        if let Some(known) = known.clone().filter(|_| state.has(&name)) {
            self.put_back(state);
            watch.finished(&Outcome::Written, &known.descriptor);
            return Ok((known, Outcome::Written));
        }
        let mut reader = LayerReader::new(&layer.layer, compression, read).with_known(layer.known.as_ref());
        let (line, failed, written) = (watch.clone(), self.write_error(), name.clone());
        let write = move |wanted: &Cancel| {
            let failed = |error| limit_or(error, &failed);
            state.announce(&written, len, || go_on(wanted)).map_err(failed)?;
            while let Some(chunk) = reader.next_chunk()? {
                wanted.check()?;
                state.write(&chunk, || go_on(wanted)).map_err(failed)?;
                line.position(reader.position());
            }
            state.pad(|| go_on(wanted)).map_err(failed)?;
            Ok((state, reader.finish()?))
        };
        let (mut state, digested) = self.writers.run(write).await?;
        match known {
            Some(known) if known.descriptor.digest() != digested.descriptor.digest() => {
                return Err(Error::DigestMismatch {
                    what: format!("the layer {} was read twice and changed in between", layer.title.trim()),
                    expected: known.descriptor.digest().clone(),
                    actual: digested.descriptor.digest().clone(),
                });
            }
            Some(_) => {}
            None => state.name_layer(digested.diff_id.clone(), name),
        }
        self.put_back(state);
        watch.finished(&Outcome::Written, &digested.descriptor);
        Ok((digested, Outcome::Written))
    }

    pub(super) async fn flow_blob(
        &self,
        blob: &Descriptor,
        diff_id: Option<&DiffId>,
        from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> Result<Outcome> {
        let packed = diff_id.filter(|id| self.kind == ArchiveKind::Docker && id.as_digest() != blob.digest());
        let (name, len) = match (self.kind, diff_id) {
            (ArchiveKind::Docker, Some(id)) => (layer_name(id), blob.size()),
            _ => (self.blob_name(blob, None), blob.size()),
        };
        if self.lock().as_ref().is_some_and(|state| state.has(&name)) {
            watch.finished(&Outcome::Written, blob);
            return Ok(Outcome::Written);
        }
        let (what, stored, unpacked) = (what(blob, from), blob.size(), packed.is_some());
        let len = match packed {
            None => len,
            Some(_) => {
                watch.phase(Phase::Hashing);
                let name = what.clone();
                let measure = move |stream: ChannelReader, wanted: &Cancel| {
                    let mut hashed = Hashed::new(|_: &[u8]| go_on(wanted));
                    io::copy(&mut decoder(stream, stored, &name)?, &mut hashed)
                        .map_err(|error| limit_or(error, Error::Compress))?;
                    Ok(hashed.finish())
                };
                let (len, digest) = self.through(blob, from, watch, measure).await?;
                check_diff_id(what.clone(), diff_id, digest)?;
                len
            }
        };
        watch.phase(Phase::Writing);
        let (mut state, failed) = (self.take()?, self.write_error());
        let of = what.clone();
        let write = move |stream: ChannelReader, wanted: &Cancel| {
            state.announce(&name, len, || go_on(wanted)).map_err(|error| limit_or(error, &failed))?;
            let source: Box<dyn Read> =
                if unpacked { Box::new(decoder(stream, stored, &of)?) } else { Box::new(stream) };
            let mut hashed = Hashed::new(|bytes: &[u8]| state.write(bytes, || go_on(wanted)));
            // Not a byte beyond what the header says.
            let copied = io::copy(&mut source.take(len), &mut hashed);
            copied.map_err(|error| limit_or(error, &failed))?;
            let (actual, digest) = hashed.finish();
            if actual != len {
                return Err(Error::SizeMismatch { what: of, expected: len, actual });
            }
            state.pad(|| go_on(wanted)).map_err(|error| limit_or(error, &failed))?;
            Ok((state, digest))
        };
        let (state, digest) = self.through(blob, from, watch, write).await?;
        if unpacked {
            check_diff_id(what, diff_id, digest)?;
        }
        self.put_back(state);
        watch.finished(&Outcome::Written, blob);
        Ok(Outcome::Written)
    }
}

//! A new layer on its way: what each attempt reads and sends, and the last request that makes a blob of it.

use crossdock_storage::{
    Compression, Digest, Error as StorageError, Layer, LayerReader, LayerStream, LayerWatch, NewLayer,
    PendingLayer, Phase, ReadOptions,
};

use super::RegistrySink;
use super::course::{Course, Noted};
use crate::error::Result;
use crate::resume::Partial;
use crate::retry::Attempts;
use crate::upload::Sent;

/// What an attempt at a layer needs.
struct Job<'a> {
    new: &'a NewLayer,
    known: Option<&'a Layer>,
    read: &'a ReadOptions,
    watch: &'a LayerWatch,
}

impl RegistrySink {
    pub(super) async fn send_layer(
        &self,
        new: &NewLayer,
        known: Option<&Layer>,
        noted: Option<Noted>,
        (read, watch): (&ReadOptions, &LayerWatch),
    ) -> Result<Layer> {
        let job = Job { new, known, read, watch };
        let mut course = self.course_of_layer(new, noted, watch).await;
        loop {
            watch.phase(Phase::Sending);
            let error = match course.ready().await {
                Ok(()) => match self.try_layer(&job, &mut course).await {
                    Ok(layer) => return Ok(layer),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            course.failed(error).await?;
        }
    }

    /// One attempt at a layer.
    #[tracing::instrument(
        skip_all,
        fields(title = job.new.title, bytes = job.new.layer.len(), attempt = course.attempts.number())
    )]
    async fn try_layer(&self, job: &Job<'_>, course: &mut Course<'_>) -> Result<Layer> {
        let Job { new, known, watch, .. } = *job;
        if let Some(known) = known
            && self.came_to_be(course, &known.descriptor).await?
        {
            return Ok(known.clone());
        }
        let mut partial = course.upload().await?;
        let (sent, layer) = match all_there(&partial, known) {
            Some(layer) => (Sent::Open, layer),
            None => {
                let checkpoints = Some(partial.checkpoints.clone());
                let (stream, pending) =
                    LayerStream::of_reader(job.reader(&partial), checkpoints, watch.clone());
                let len = stream.stored_len();
                let known_digest = known.map(|layer| layer.descriptor.digest());
                let sent = course.send(&partial, Box::pin(stream), len, known_digest, None).await;
                match self.settle(new, known, sent, pending).await {
                    Ok(sent) => sent,
                    Err(error) => return Err(course.broke(partial, error).await),
                }
            }
        };
        tracing::debug!(digest = %layer.descriptor.digest(), bytes = layer.descriptor.size(), "layer sent");
        if sent == Sent::Open {
            watch.phase(Phase::Committing);
            course.finishing(&mut partial, &layer);
            let (upload, digest, size) = (partial.url(), layer.descriptor.digest(), layer.descriptor.size());
            let finished = if known.is_none() {
                self.finish_unless_there(&upload, digest, size, &mut course.attempts).await
            } else {
                self.repository.finish(&upload, digest, size, &mut course.attempts).await
            };
            if let Err(error) = finished {
                return Err(course.refused(partial, error).await);
            }
        }
        course.done();
        Ok(layer)
    }

    /// Brings together what the reader and the request say: the reader's error counts first, for it breaks the
    /// request; and a layer that is not what was remembered of it is none.
    async fn settle(
        &self,
        new: &NewLayer,
        known: Option<&Layer>,
        sent: Result<Sent>,
        pending: PendingLayer,
    ) -> Result<(Sent, Layer)> {
        let layer = match (pending.layer().await, sent) {
            (Err(StorageError::Interrupted), Err(error)) => {
                // A file that was truncated under its map breaks the request before its reader comes to see it.
                let _ = new.layer.check_files().await?;
                return Err(error);
            }
            (Err(error), _) => return Err(error.into()),
            (Ok(layer), sent) => (sent, layer),
        };
        if let Some(known) = known {
            new.compare(known, &layer.1)?;
        }
        Ok((layer.0?, layer.1))
    }

    /// Finishes an upload whose digest came out only now, unless another lane has put the same blob meanwhile.
    async fn finish_unless_there(
        &self,
        upload: &url::Url,
        digest: &Digest,
        size: u64,
        attempts: &mut Attempts,
    ) -> Result<()> {
        let claim = self.claims.of_digest(digest);
        let mut put = claim.lock().await;
        if *put {
            self.repository.cancel(upload).await;
        } else {
            self.repository.finish(upload, digest, size, attempts).await?;
            *put = true;
        }
        Ok(())
    }
}

/// The layer's digests, where the registry has all its bytes already and they are known: nothing is read then.
fn all_there(partial: &Partial, known: Option<&Layer>) -> Option<Layer> {
    let layer = known.or(partial.done.as_ref())?;
    (partial.offset > 0 && partial.offset == layer.descriptor.size()).then(|| layer.clone())
}

impl Job<'_> {
    /// The layer's bytes from where its upload goes on. A compressor has no state to go on from: what the registry has is
    /// read and compressed again, to the same bytes, and not sent again.
    fn reader(&self, partial: &Partial) -> LayerReader {
        let (layer, from) = (&self.new.layer, partial.offset);
        let reader = match (from, self.new.compression) {
            (1.., Compression::None) => {
                LayerReader::resume(layer, &partial.checkpoints.before(from), from, self.read)
            }
            (_, compression) => LayerReader::new(layer, compression, self.read).with_start(from),
        };
        reader.with_known(self.known)
    }
}

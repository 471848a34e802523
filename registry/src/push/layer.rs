//! A new layer on its way: what each attempt reads and sends, and the last request that makes a blob of it.

use crossdock_storage::{
    Compression, Digest, Error as StorageError, Layer, LayerReader, LayerStream, LayerWatch, NewLayer,
    PendingLayer, Phase, ReadOptions,
};

use super::RegistrySink;
use super::course::Course;
use crate::error::{Error, Result};
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
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<Layer> {
        let job = Job { new, known, read, watch };
        let mut course = self.course_of_layer(new, watch).await;
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
        let partial = course.upload().await?;
        let (stream, pending) =
            LayerStream::of_reader(job.reader(&partial), Some(partial.checkpoints.clone()), watch.clone());
        let len = stream.stored_len();
        let known_digest = known.map(|layer| layer.descriptor.digest());
        let sent = course.send(&partial, Box::pin(stream), len, known_digest, None).await;
        let (sent, layer) = match self.settle(new, known, sent, pending).await {
            Ok(sent) => sent,
            Err(error) => return Err(course.broke(partial, error).await),
        };
        tracing::debug!(digest = %layer.descriptor.digest(), bytes = layer.descriptor.size(), "layer sent");
        if sent == Sent::Open {
            watch.phase(Phase::Committing);
            let (upload, digest, size) = (partial.url(), layer.descriptor.digest(), layer.descriptor.size());
            let finished = if known.is_none() {
                self.finish_unless_there(&upload, digest, size, &mut course.attempts).await
            } else {
                self.repository.finish(&upload, digest, size, &mut course.attempts).await
            };
            if let Err(error) = finished {
                return Err(course.refused(&partial, error).await);
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
                new.check_files().await?;
                return Err(error);
            }
            (Err(error), _) => return Err(error.into()),
            (Ok(layer), sent) => (sent, layer),
        };
        if let Some(known) = known
            && known.descriptor.digest() != layer.1.descriptor.digest()
        {
            return Err(Error::Digest {
                what: format!(
                    "the layer {} is not what an earlier build remembered of it, and nothing was tagged; build again \
                     without the remembered digests",
                    new.title
                ),
                expected: known.descriptor.digest().clone(),
                actual: layer.1.descriptor.digest().to_string(),
            });
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

impl Job<'_> {
    /// The layer's bytes from where its upload goes on. A compressor has no state to go on from: what the registry has is
    /// read and compressed again, to the same bytes, and not sent again.
    fn reader(&self, partial: &Partial) -> LayerReader {
        let (layer, from) = (&self.new.layer, partial.offset);
        match (from, self.new.compression) {
            (1.., Compression::None) => {
                LayerReader::resume(layer, &partial.checkpoints.before(from), from, self.read)
            }
            (_, compression) => LayerReader::new(layer, compression, self.read).with_start(from),
        }
    }
}

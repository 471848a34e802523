//! Layers whose digest is known before they are read, and how far that is to be trusted: docs/records.md has the rules.

use crossdock_storage::{
    FileState, ImageSink, LayerWatch, MemoStore, NewLayer, Outcome, Phase, Result, blocking,
};

use crate::lanes::{AssembleOptions, AssemblyLayer, LayerContent};

/// Sets the digest of a layer that is remembered, and says whether it is the memo's word that counts and not that of a
/// hasher in this process.
///
/// Where the change time of a file is another than it was, the digest is what the destination is asked for, and no more:
/// where it has such a blob, the files are hashed first, and most likely need not be sent. Where it has none, they are
/// hashed on their way there.
pub(crate) async fn recall(
    new: &mut NewLayer,
    memos: &MemoStore,
    sink: &dyn ImageSink,
    options: &AssembleOptions,
    watch: &LayerWatch,
) -> Result<bool> {
    let (layer, compression, store) = (new.layer.clone(), new.compression, memos.clone());
    let recalled = blocking(move || store.recall(&layer, compression)).await;
    let Some(recalled) = recalled else { return Ok(false) };
    // Its file's digest is wanted too, and the memo is older than that wish.
    let lacks = wants_content(new, options) && recalled.layer.content_digest().is_none();
    if lacks {
        let layer = new.title.trim();
        tracing::info!(layer, "the layer's digest is remembered, and not its file's: it is read once more");
    }
    // The digest stands for bytes that nobody may read again: they must be those of the files as they are now.
    let now = new.layer.check_files().await?;
    if recalled.state.max(now) == FileState::Same && !lacks {
        new.known = Some(recalled.layer);
        return Ok(true);
    }
    let outcome = sink.foresee(Some(&recalled.layer.descriptor), None).await?;
    let there = matches!(outcome, Outcome::Present | Outcome::Mounted { .. });
    if memos.trusts_mtime() && !lacks && (there || outcome == Outcome::Digested) {
        new.known = Some(recalled.layer);
        return Ok(true);
    }
    if there {
        watch.phase(Phase::Hashing);
        new.known = Some(new.digest(&options.read, watch).await?);
    }
    Ok(false)
}

/// Whether the digest of the layer's only file is wanted.
pub(crate) fn wants_content(new: &NewLayer, options: &AssembleOptions) -> bool {
    options.read.digest_content && new.layer.only_file().is_some()
}

/// Finds files that are others now than when their layer was digested, before anything is sent. Where the sink has a
/// layer whose digest is known, its files are not needed, and may be what they like.
///
/// # Errors
/// [`Error::Changed`](crossdock_storage::Error::Changed), and those of the sink.
pub(crate) async fn check_known(
    layers: &[AssemblyLayer],
    recorded: bool,
    sink: &dyn ImageSink,
) -> Result<()> {
    for layer in layers {
        let LayerContent::Files { layer: files, known, .. } = &layer.content else { continue };
        if known.is_none() && !recorded {
            continue;
        }
        let Err(changed) = files.check_files().await else { continue };
        let Some(known) = known else { return Err(changed) };
        match sink.foresee(Some(&known.descriptor), None).await? {
            Outcome::Present | Outcome::Mounted { .. } => {
                tracing::info!(layer = layer.title.trim(), %changed, "the destination has the layer as it was");
            }
            _ => return Err(changed),
        }
    }
    Ok(())
}

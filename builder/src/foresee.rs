//! What putting images into a sink would come to, found out without reading a file or writing anything.

use crossdock_storage::{
    Descriptor, Digest, FileState, ImageSink, MediaType, MemoStore, Outcome, Result, VirtualLayer, blocking,
};

use crate::assemble::Assembly;
use crate::lanes::{AssemblyLayer, LayerContent, distinct};
use crate::media::layer_media_type;
use crate::trust::Trust;

/// What would happen to a layer.
#[derive(Debug, Clone)]
pub struct ForeseenLayer {
    /// What it holds, for people.
    pub title: String,
    /// Whether it came with the base.
    pub from_base: bool,
    /// As the manifest would list it.
    pub media_type: MediaType,
    /// Its digest, where that is known before it is read.
    pub digest: Option<Digest>,
    /// Bytes as it would be stored; before they are compressed, for a layer whose digest is not known.
    pub bytes: u64,
    /// Bytes of the uncompressed archive; `None` for a layer that is a blob elsewhere.
    pub archive: Option<u64>,
    /// What would happen to it at the sink.
    pub outcome: Outcome,
    /// Whether an earlier image has the layer too: nothing more happens to it then.
    pub shared: bool,
    /// Bytes that would be read from files.
    pub read: u64,
    /// Bytes that would come from the base's registry.
    pub received: u64,
    /// Its bytes, where they lie in files.
    pub files: Option<VirtualLayer>,
}

/// Foresees what becomes of each layer of each image.
///
/// A destination that cannot be asked is said so once, as a warning, and taken to have nothing.
///
/// # Errors
/// Where a layer has no place in the image's format.
pub async fn foresee(
    images: &[&Assembly],
    sink: &dyn ImageSink,
    memos: Option<&MemoStore>,
    trust: Option<&Trust>,
) -> Result<Vec<Vec<ForeseenLayer>>> {
    let layers: Vec<_> = images.iter().map(|image| image.layers.as_slice()).collect();
    let (layers, places) = distinct(&layers);
    let mut asking = true;
    let mut foreseen = Vec::with_capacity(layers.len());
    for layer in layers {
        foreseen.push(foresee_layer(layer, sink, (memos, trust), &mut asking).await?);
    }
    let mut taken = vec![false; foreseen.len()];
    let mut result = Vec::with_capacity(images.len());
    for (image, places) in images.iter().zip(places) {
        let mut of_image = Vec::with_capacity(places.len());
        for (place, layer) in places.into_iter().zip(&image.layers) {
            let mut seen = ForeseenLayer { title: layer.title.clone(), ..foreseen[place].clone() };
            seen.media_type = layer_media_type(&seen.media_type, image.format)?;
            if std::mem::replace(&mut taken[place], true) {
                (seen.shared, seen.read, seen.received) = (true, 0, 0);
                if !matches!(seen.outcome, Outcome::Digested | Outcome::Foreign) {
                    seen.outcome = Outcome::Present;
                }
            }
            of_image.push(seen);
        }
        result.push(of_image);
    }
    Ok(result)
}

async fn foresee_layer(
    layer: &AssemblyLayer,
    sink: &dyn ImageSink,
    (memos, trust): (Option<&MemoStore>, Option<&Trust>),
    asking: &mut bool,
) -> Result<ForeseenLayer> {
    // Whether all files are read whatever the destination has.
    let mut hashed = false;
    let (mut known, from) = match &layer.content {
        LayerContent::Blob { layer, source } => (Some(layer.clone()), Some(&**source)),
        LayerContent::Files { layer, compression, known } => match (known, memos.cloned()) {
            (None, Some(memos)) => {
                let (layer, compression, trusting) = (layer.clone(), *compression, memos.trusts_mtime());
                let recalled = blocking(move || memos.recall(&layer, compression)).await;
                hashed =
                    recalled.as_ref().is_some_and(|known| known.state == FileState::Touched && !trusting);
                (recalled.map(|recalled| recalled.layer), None)
            }
            (known, _) => (known.clone(), None),
        },
    };
    let mut outcome = None;
    if let (LayerContent::Files { layer, compression, .. }, None, Some(trust), true) =
        (&layer.content, &known, trust, *asking)
        && let Ok(Some((trusted, foreseen))) = trust.foresee(layer, *compression, sink).await
    {
        (known, outcome) = (Some(trusted), Some(foreseen));
    }
    let descriptor = known.as_ref().map(|known| &known.descriptor);
    if outcome.is_some() {
        // It is asked for already.
    } else if let LayerContent::Blob { layer, .. } = &layer.content
        && layer.is_foreign()
        && sink.leaves_foreign()
    {
        outcome = Some(Outcome::Foreign);
    } else if *asking {
        match sink.foresee(descriptor, from).await {
            Ok(foreseen) => outcome = Some(foreseen),
            Err(error) => {
                *asking = false;
                tracing::warn!("{} cannot be asked what it has: {error}", sink.name());
            }
        }
    }
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => sink.foresee(None, None).await?,
    };
    if let LayerContent::Files { layer, known: Some(_), .. } = &layer.content
        && !matches!(outcome, Outcome::Present | Outcome::Mounted { .. })
    {
        // The build will find the same, and end there.
        let _ = layer.check_files().await?;
    }
    let moved = matches!(outcome, Outcome::Sent | Outcome::Written);
    let (bytes, archive, media_type, files) = match &layer.content {
        LayerContent::Blob { layer, .. } => {
            let descriptor = &layer.descriptor;
            (descriptor.size(), None, descriptor.media_type().clone(), None)
        }
        LayerContent::Files { layer, compression, .. } => (
            descriptor.map_or(layer.len(), Descriptor::size),
            Some(layer.len()),
            compression.media_type(),
            Some(layer.clone()),
        ),
    };
    let file_bytes = files.as_ref().map_or(0, VirtualLayer::bytes_in_files);
    Ok(ForeseenLayer {
        title: layer.title.clone(),
        from_base: layer.from_base,
        media_type,
        digest: descriptor.filter(|_| !hashed).map(|descriptor| descriptor.digest().clone()),
        bytes,
        archive,
        read: if moved || hashed || known.is_none() { file_bytes } else { 0 },
        received: if moved && archive.is_none() { bytes } else { 0 },
        outcome,
        shared: false,
        files,
    })
}

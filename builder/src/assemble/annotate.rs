//! What an image's manifest says of its layers: the keys that their digests can be found by, and what they hold of a model.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crossdock_storage::{Descriptor, LayerKey, ManifestFormat, blocking};

use super::{Documents, Job, LayerKeys};
use crate::lanes::{AssembledLayer, AssemblyLayer, LayerContent};
use crate::modelcar::{self, Annotations};

impl Job<'_> {
    /// The keys of the layers, where their descriptors are to say them. No file is read.
    pub(super) async fn keys(&self) -> Vec<Option<LayerKey>> {
        let mut keys = Vec::with_capacity(self.layers.len());
        for layer in &*self.layers {
            keys.push(match &layer.content {
                LayerContent::Files { layer, compression, .. } if self.layer_keys != LayerKeys::None => {
                    let (layer, compression) = (layer.clone(), *compression);
                    let key = blocking(move || LayerKey::of(&layer, compression)).await;
                    match self.layer_keys {
                        LayerKeys::KeyAndContent => key,
                        LayerKeys::None | LayerKeys::Key => key.map(LayerKey::without_content),
                    }
                }
                _ => None,
            });
        }
        keys
    }

    /// Says a layer's key in its descriptor, beside what [`annotate`](Self::annotate) has put there. An image without keys does
    /// not take over those of a base.
    pub(super) fn say_key(&self, descriptor: &mut Descriptor, key: Option<&LayerKey>) {
        let of_other = matches!(self.documents, Documents::New(_)) && self.layer_keys == LayerKeys::None;
        let mut annotations = descriptor.annotations().clone().unwrap_or_default();
        if self.format == ManifestFormat::Docker {
            annotations.clear();
        } else if key.is_some() || of_other {
            annotations.retain(|name, _| name != LayerKey::KEY && name != LayerKey::CONTENT);
        }
        annotations.extend(key.into_iter().flat_map(LayerKey::annotations));
        descriptor.set_annotations(Some(annotations).filter(|annotations| !annotations.is_empty()));
    }

    /// What the layers say in their descriptors, and what the manifest says of them. Docker's format has no place for any of
    /// it.
    pub(super) fn annotate(&self, layers: &mut [AssembledLayer]) -> Cow<'_, BTreeMap<String, String>> {
        let mut annotations = Cow::Borrowed(&*self.annotations);
        let new_card = self.modelcar.and_then(|modelcar| modelcar.card);
        for (index, (done, planned)) in layers.iter_mut().zip(&*self.layers).enumerate() {
            let said = match (&self.documents, &planned.content) {
                _ if self.format == ManifestFormat::Docker => None,
                (Documents::New(_), LayerContent::Files { layer, .. }) if !planned.from_base => {
                    let of_layer = |_| {
                        let content = done.layer.content_digest();
                        modelcar::of_layer(layer, content.as_ref(), new_card == Some(index))
                    };
                    self.modelcar.and_then(of_layer)
                }
                _ if new_card.is_some() => self.said[index].clone().map(modelcar::without_card),
                _ => self.said[index].clone(),
            };
            if said.as_ref().is_some_and(modelcar::is_card) {
                modelcar::point_to(annotations.to_mut(), &done.layer.descriptor);
            }
            done.layer.descriptor.set_annotations(said);
        }
        annotations
    }

    /// Bytes that the annotations of new layers will take in the manifest.
    pub(super) fn planned(&self) -> u64 {
        let new = self.layers.iter().filter(|layer| !layer.from_base && self.modelcar.is_some());
        new.map(|layer| match &layer.content {
            LayerContent::Files { layer, .. } => modelcar::planned(layer),
            LayerContent::Blob { .. } => 0,
        })
        .sum()
    }
}

impl LayerKeys {
    /// What a descriptor says.
    pub(super) fn of(descriptor: &Descriptor) -> Self {
        match LayerKey::said(descriptor.annotations().iter().flatten()) {
            Some(key) if key.has_content() => Self::KeyAndContent,
            Some(_) => Self::Key,
            None => Self::None,
        }
    }

    /// Docker's format has no place for any of it.
    pub(super) fn in_format(self, format: ManifestFormat) -> Self {
        if format == ManifestFormat::Oci { self } else { Self::None }
    }
}

/// What a layer says that has its descriptor.
pub(super) fn said(layer: &AssemblyLayer) -> Option<Annotations> {
    match &layer.content {
        LayerContent::Blob { layer, .. } | LayerContent::Files { known: Some(layer), .. } => {
            layer.descriptor.annotations().clone()
        }
        LayerContent::Files { known: None, .. } => None,
    }
}

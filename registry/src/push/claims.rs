//! Blobs that a push has put, or is about to: none is sent twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crossdock_storage::{Compression, Digest, Layer, VirtualLayer};
use tokio::sync::Mutex as AsyncMutex;

use crate::client::lock;

/// The blobs by digest, and the new layers whose digest is not known yet by what they are made of.
#[derive(Debug, Default)]
pub(super) struct Claims {
    digests: Mutex<HashMap<Digest, Arc<AsyncMutex<bool>>>>,
    layers: Mutex<Vec<LayerClaim>>,
}

#[derive(Debug, Clone)]
pub(super) struct LayerClaim {
    layer: VirtualLayer,
    compression: Compression,
    pub(super) result: Arc<AsyncMutex<Option<Layer>>>,
}

impl Claims {
    pub(super) fn of_digest(&self, digest: &Digest) -> Arc<AsyncMutex<bool>> {
        Arc::clone(lock(&self.digests).entry(digest.clone()).or_default())
    }

    pub(super) fn of_layer(&self, layer: &VirtualLayer, compression: Compression) -> LayerClaim {
        let mut layers = lock(&self.layers);
        let same = |claim: &&LayerClaim| {
            claim.compression == compression && claim.layer.len() == layer.len() && claim.layer == *layer
        };
        if let Some(claim) = layers.iter().find(same) {
            return claim.clone();
        }
        let claim = LayerClaim { layer: layer.clone(), compression, result: Arc::default() };
        layers.push(claim.clone());
        claim
    }
}

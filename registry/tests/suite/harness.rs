//! Images made by code, and a push as the program does it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use crossdock_registry::{Reference, Registry, RegistryOptions, RegistrySink, RetryPolicy, Secret};
use crossdock_storage::{
    Abort, Compression, Descriptor, Error, Hasher, ImageSink as _, Layer, LayerEvent, LayerWatch, MediaType,
    NewLayer, Outcome, PlannedLayer, Progress, ReadOptions, Segment, SinkPlan, SourceFile, VirtualLayer,
    canonical_json,
};

/// A directory with files to make layers of.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file of `len` bytes that no other seed gives.
    pub(crate) fn write(&self, name: &str, len: usize, seed: u64) -> SourceFile {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect();
        fs::write(self.path(name), bytes).unwrap();
        SourceFile::stat(self.path(name)).unwrap()
    }

    pub(crate) fn layer(&self, name: &str, len: usize, seed: u64) -> NewLayer {
        layer_of(&self.write(name, len, seed))
    }
}

/// Not a tar archive, but bytes at hand and bytes of a file: a registry does not mind.
pub(crate) fn layer_of(file: &SourceFile) -> NewLayer {
    let layer = VirtualLayer::new([
        Segment::Inline(Bytes::from_static(b"header")),
        Segment::Extent { file: file.clone(), offset: 0, len: file.size() },
        Segment::Inline(Bytes::from_static(&[0; 1024])),
    ]);
    NewLayer { title: file.path().display().to_string(), layer, compression: Compression::None, known: None }
}

pub(crate) const QUICK: RetryPolicy =
    RetryPolicy { retries: 3, base: Duration::from_millis(4), cap: Duration::from_millis(20), delay: None };

pub(crate) fn options() -> RegistryOptions {
    RegistryOptions { tls_verify: false, retry: QUICK, ..RegistryOptions::default() }
}

/// With certificates verified, and what this machine trusts of no matter.
pub(crate) fn verified() -> RegistryOptions {
    let mut options = RegistryOptions { tls_verify: true, ..options() };
    options.trust.ssl_cert_file = Some(PathBuf::from("/dev/null"));
    options
}

pub(crate) fn with_password(user: &str, password: &str) -> RegistryOptions {
    let mut options = options();
    options.credentials.explicit = Some((user.to_owned(), Secret::new(password)));
    options
}

pub(crate) fn reference(addr: SocketAddr, rest: &str) -> Reference {
    format!("{addr}/{rest}").parse().unwrap()
}

pub(crate) fn sink(options: RegistryOptions, reference: &Reference) -> RegistrySink {
    Registry::new(options).sink(std::slice::from_ref(reference)).unwrap()
}

#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) manifest: Descriptor,
    pub(crate) layers: Vec<(Layer, Outcome)>,
}

/// Pushes an image of these layers, one after the other, as the program does: with an abort on any error.
pub(crate) async fn push(sink: &RegistrySink, layers: &[NewLayer]) -> Result<Pushed, Error> {
    push_watched(sink, layers, &LayerWatch::silent()).await
}

pub(crate) async fn push_watched(
    sink: &RegistrySink,
    layers: &[NewLayer],
    watch: &LayerWatch,
) -> Result<Pushed, Error> {
    let result = try_push(sink, layers, watch).await;
    if result.is_err() {
        sink.abort(Abort::Failed).await;
    }
    result
}

async fn try_push(sink: &RegistrySink, layers: &[NewLayer], watch: &LayerWatch) -> Result<Pushed, Error> {
    let planned = |layer: &NewLayer| PlannedLayer {
        title: layer.title.clone(),
        bytes: layer.layer.len(),
        compression: layer.compression,
    };
    let plan = SinkPlan { new_layers: layers.iter().map(planned).collect(), ..SinkPlan::default() };
    sink.prepare(&plan).await?;
    let mut done = Vec::new();
    for layer in layers {
        done.push(sink.put_layer(layer, &ReadOptions::default(), watch).await?);
    }
    let manifest = finish(sink, &done).await?;
    Ok(Pushed { manifest, layers: done })
}

/// Config and manifest of an image of these layers.
pub(crate) async fn finish(sink: &RegistrySink, layers: &[(Layer, Outcome)]) -> Result<Descriptor, Error> {
    let ids: Vec<_> = layers.iter().map(|(layer, _)| layer.diff_id.to_string()).collect();
    let config = Bytes::from(canonical_json(&serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["A=1"]},
        "rootfs": {"type": "layers", "diff_ids": ids},
    })));
    let config_descriptor =
        Descriptor::new(MediaType::ImageConfig, config.len() as u64, Hasher::digest(&config));
    sink.put_config(&config_descriptor, config).await?;
    let descriptors: Vec<_> = layers.iter().map(|(layer, _)| layer.descriptor.clone()).collect();
    let manifest = Bytes::from(canonical_json(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config_descriptor, "layers": descriptors,
    })));
    let descriptor =
        Descriptor::new(MediaType::ImageManifest, manifest.len() as u64, Hasher::digest(&manifest));
    sink.commit(&descriptor, manifest).await?;
    Ok(descriptor)
}

/// An error with all its causes, as a user sees it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}

/// Keeps the events of a layer.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<LayerEvent>>);

impl Recorder {
    pub(crate) fn watch() -> (Arc<Self>, LayerWatch) {
        let recorder = Arc::new(Self::default());
        (Arc::clone(&recorder), LayerWatch::new(0, recorder))
    }

    /// Why attempts failed, and what came next.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let reason = |event: &LayerEvent| match event {
            LayerEvent::Retry { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        events.iter().filter_map(reason).collect()
    }

    pub(crate) fn retries(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|event| matches!(event, LayerEvent::Retry { .. })).count()
    }
}

impl Progress for Recorder {
    fn announce(&self, _index: usize, _title: &str, _bytes: u64) {}

    fn event(&self, _index: usize, event: LayerEvent) {
        self.0.lock().unwrap().push(event);
    }
}

//! The documents of an image: indexes, manifests and configs, each against its digest and against the others.

use bytes::Bytes;
use crossdock_storage::{
    Descriptor, Digest, ImageConfig, ImageManifest, ManifestEntry, MediaType, Platform, from_json, is_config,
    is_foreign,
};

use super::{Mismatch, Verified, VerifiedBlob, VerifiedManifest, Verifier, Wanted};
use crate::error::{Error, Result};
use crate::image_config::{MAX_CONFIG, select};
use crate::manifest::{Document, MAX_DEPTH, fetch};

impl Verifier {
    /// The manifests that the name leads to.
    pub(super) async fn manifests(
        &self,
        selector: &str,
        platform: Option<&Platform>,
        report: &mut Verified,
    ) -> Result<Vec<(Digest, ImageManifest, Option<String>)>> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        // Selector, what the index says of it, and how deep it lies.
        let mut next: Vec<(String, Option<ManifestEntry>, usize)> = vec![(selector.to_owned(), None, 0)];
        while let Some((selector, entry, depth)) = next.pop() {
            let fetched = match (fetch(&self.host, &self.access, &selector, &self.image).await, &entry) {
                (Ok(fetched), _) => fetched,
                (Err(Error::Digest { expected, actual, .. }), _) => {
                    report.mismatches.push(Mismatch::new(
                        &expected,
                        format!("the manifest's bytes are those of {actual}"),
                    ));
                    if entry.is_none() {
                        report.digest = expected;
                    }
                    continue;
                }
                (Err(Error::NotFound { .. }), Some(entry)) => {
                    let problem = "the index names this manifest, and it is not there";
                    report.mismatches.push(Mismatch::new(&entry.digest, problem));
                    continue;
                }
                (Err(error), _) => return Err(error),
            };
            match &entry {
                None => report.digest = fetched.digest.clone(),
                Some(entry) if entry.size != fetched.bytes.len() as u64 => {
                    report.mismatches.push(Mismatch::new(
                        &entry.digest,
                        format!("it has {} bytes, and the index says {}", fetched.bytes.len(), entry.size),
                    ));
                }
                Some(_) => {}
            }
            if seen.contains(&fetched.digest) {
                continue;
            }
            seen.push(fetched.digest.clone());
            match fetched.parse(&self.image)? {
                Document::Manifest(manifest, _) => {
                    let of = entry.and_then(|entry| {
                        entry.details.platform.map(|p| format!("{}/{}", p.os, p.architecture))
                    });
                    found.push((fetched.digest, *manifest, of));
                }
                Document::Index(_) if depth >= MAX_DEPTH => {
                    return Err(Error::Answer {
                        what: self.image.clone(),
                        reason: format!("its indexes are nested deeper than {MAX_DEPTH} levels"),
                    });
                }
                Document::Index(entries) => {
                    let entries = match platform {
                        Some(platform) => {
                            vec![select(&self.host, &self.access, &entries, platform, &self.image).await?]
                        }
                        None => entries,
                    };
                    let below = |entry: ManifestEntry| (entry.digest.to_string(), Some(entry), depth + 1);
                    next.extend(entries.into_iter().rev().map(below));
                }
            }
        }
        Ok(found)
    }

    /// Reads the configs, and lists the blobs, each once.
    pub(super) async fn documents(
        &self,
        manifests: &[(Digest, ImageManifest, Option<String>)],
        report: &mut Verified,
    ) -> Result<Vec<Wanted>> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for (digest, manifest, platform) in manifests {
            let mut platform = platform.clone();
            let add = |wanted: &mut Vec<Wanted>, descriptor: &Descriptor, title: String, is_layer: bool| {
                if !wanted.iter().any(|known| known.descriptor.digest() == descriptor.digest()) {
                    wanted.push(Wanted { descriptor: descriptor.clone(), title, is_layer });
                }
            };
            let config = manifest.config();
            if is_config(config) && config.size() <= MAX_CONFIG {
                match self.config(config).await? {
                    Ok(bytes) => check_config(config, &bytes, manifest, &mut platform, report)?,
                    Err(mismatch) => report.mismatches.push(mismatch),
                }
                if !report.blobs.iter().any(|known| known.digest == *config.digest()) {
                    report.blobs.push(VerifiedBlob {
                        digest: config.digest().clone(),
                        size: config.size(),
                        hashed: true,
                    });
                }
            } else {
                add(&mut wanted, config, format!("config of {}", short(digest)), false);
            }
            let layers = manifest.layers();
            for (at, layer) in layers.iter().enumerate() {
                if is_foreign(layer) {
                    let (digest, urls) = (layer.digest(), layer.urls().as_deref().unwrap_or_default());
                    let note =
                        format!("the layer {digest} is not looked at: it is kept at {}", urls.join(", "));
                    if !report.notes.contains(&note) {
                        report.notes.push(note);
                    }
                    continue;
                }
                add(&mut wanted, layer, format!("layer {} of {}", at + 1, layers.len()), true);
            }
            report.manifests.push(VerifiedManifest {
                digest: digest.clone(),
                platform,
                layers: layers.len(),
            });
        }
        Ok(wanted)
    }

    async fn config(&self, config: &Descriptor) -> Result<Result<Bytes, Mismatch>> {
        let mut all = Vec::new();
        let each = |bytes: &[u8]| all.extend_from_slice(bytes);
        Ok(self.read(config, each).await?.map(|()| Bytes::from(all)))
    }
}

/// The config against its manifest: as many diff IDs as layers, and for a layer that is not compressed the same digest.
fn check_config(
    config: &Descriptor,
    bytes: &[u8],
    manifest: &ImageManifest,
    platform: &mut Option<String>,
    report: &mut Verified,
) -> Result<()> {
    let parsed: ImageConfig = from_json(bytes).map_err(|source| Error::Malformed {
        what: format!("the config {} of {}", config.digest(), report.image),
        source,
    })?;
    if platform.is_none() && !parsed.os.is_empty() {
        *platform = Some(format!("{}/{}", parsed.os, parsed.architecture));
    }
    let (layers, diff_ids) = (manifest.layers(), &parsed.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        report.mismatches.push(Mismatch::new(
            config.digest(),
            format!("the config has {} diff IDs, and the manifest {} layers", diff_ids.len(), layers.len()),
        ));
        return Ok(());
    }
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        if is_plain(layer) && diff_id.as_digest() != layer.digest() {
            report.mismatches.push(Mismatch::new(
                layer.digest(),
                format!("the layer is not compressed, and the config has the diff ID {diff_id} for it"),
            ));
        }
    }
    Ok(())
}

/// Whether a layer is stored as it is.
pub(super) fn is_plain(layer: &Descriptor) -> bool {
    match layer.media_type() {
        MediaType::ImageLayer | MediaType::ImageLayerNonDistributable => true,
        other => other.to_string() == "application/vnd.docker.image.rootfs.diff.tar",
    }
}

fn short(digest: &Digest) -> String {
    digest.digest().chars().take(12).collect()
}

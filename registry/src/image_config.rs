//! Configs on a registry: of the image that is resolved, and of those of an index that say only there what they are for.

use bytes::Bytes;
use crossdock_storage::{
    Descriptor, Digest, EntryPlatform, Hasher, ImageConfig, ManifestEntry, Platform, Selection, from_json,
    is_config, is_index,
};
use reqwest::Method;

use crate::error::{Error, Result};
use crate::host::{Access, Call, Host, READ};
use crate::manifest::{Document, fetch};

/// Configs larger than this many bytes are not read.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;

/// The config of a manifest, checked against its digest, and its bytes; `image` names it in errors.
pub(crate) async fn fetch_config(
    host: &Host,
    access: &Access,
    config: &Descriptor,
    image: &str,
) -> Result<(ImageConfig, Bytes)> {
    let what = format!("the config of {image}");
    if !is_config(config) {
        let media_type = config.media_type();
        let reason = format!("it is a {media_type}: this is an artifact and not an image to build from");
        return Err(Error::Answer { what, reason });
    }
    if config.size() > MAX_CONFIG {
        return Err(Error::TooLarge { what, limit: MAX_CONFIG });
    }
    let bytes = host.attempts().run(|| small_blob(host, access, config.digest(), &what)).await?;
    let actual = Hasher::digest(&bytes);
    if actual != *config.digest() {
        return Err(Error::Digest { what, expected: config.digest().clone(), actual: actual.to_string() });
    }
    let read = from_json(&bytes).map_err(|source| Error::Malformed { what, source })?;
    Ok((read, bytes))
}

async fn small_blob(host: &Host, access: &Access, digest: &Digest, what: &str) -> Result<Bytes> {
    let url = host.endpoint().await?.blob(&access.repository, digest);
    let make = |url| Call::new(access, Method::GET, url, &READ);
    host.get_following(make, url).await?.bytes(MAX_CONFIG, what).await
}

/// What an image of an index is for, by its config; `None` for what is no image.
pub(crate) async fn platform_of(
    host: &Host,
    access: &Access,
    entry: &ManifestEntry,
    image: &str,
) -> Result<Option<EntryPlatform>> {
    if is_index(&entry.media_type) {
        return Ok(None);
    }
    let fetched = fetch(host, access, entry.digest.as_ref(), image).await?;
    match fetched.parse(image)? {
        Document::Manifest(manifest, _) if is_config(manifest.config()) => {
            let (config, _) = fetch_config(host, access, manifest.config(), image).await?;
            Ok(Some(EntryPlatform::of_config(&config)).filter(|is| is.said().is_some()))
        }
        _ => Ok(None),
    }
}

/// The entry of an index that is for a platform; configs are read where the index does not say what its images are for.
pub(crate) async fn select(
    host: &Host,
    access: &Access,
    entries: &[ManifestEntry],
    wanted: &Platform,
    image: &str,
) -> Result<ManifestEntry> {
    let mut selection = Selection::new(entries, wanted);
    while let Some(unknown) = selection.next_unknown() {
        selection.learn(platform_of(host, access, unknown, image).await?.as_ref());
    }
    Ok(selection.chosen(image)?.clone())
}

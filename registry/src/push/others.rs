//! What other images of the repository have: a build with an empty root directory and a new tag, as pipelines that tag by commit
//! make them, would else send what is there. Nothing that such an image says is trusted: a layer that may be there is hashed
//! before it is sent, and asked for by its own digest.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossdock_storage::{Compression, Descriptor, LayerKey, NewLayer, Outcome, blocking, from_json};
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::RegistrySink;
use crate::client::lock;
use crate::error::Result;
use crate::host::{Call, READ};
use crate::manifest::{Document, fetch_once};

/// Manifests that are looked at beside that of the tag that is replaced.
const MANIFESTS: usize = 10;

/// Pages of tags that are asked for, and bytes of one of them.
const PAGES: usize = 10;
const MAX_PAGE: u64 = 4 << 20;

/// Other images are not waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Images with fewer new bytes than this, uncompressed, are sent sooner than the repository is asked what it has.
const WORTH_ASKING: u64 = 16 << 20;

/// Two layers of one size that have no keys may well be the same from this size on: the lengths of small archives are often
/// equal by chance.
const TELLING_SIZE: u64 = 64 << 20;

/// Layers of images in the repository.
#[derive(Debug, Default)]
pub(super) struct Others {
    layers: Mutex<Vec<Seen>>,
    /// Tags to look at in the place of the last ones.
    named: Vec<String>,
    asked: OnceCell<()>,
    /// Bytes of layers that were hashed first and were there, and of those that were not.
    found: AtomicU64,
    missed: AtomicU64,
}

#[derive(Debug)]
struct Seen {
    size: u64,
    key: Option<LayerKey>,
    /// Whether it belongs to the image that the push replaces.
    replaced: bool,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Others {
    pub(super) fn named(tags: Vec<String>) -> Self {
        Self { named: tags, ..Self::default() }
    }

    /// Takes in the layers of a manifest.
    pub(super) fn add(&self, layers: &[Descriptor], replaced: bool) {
        lock(&self.layers).extend(layers.iter().map(|layer| Seen {
            size: layer.size(),
            key: LayerKey::said(layer.annotations().iter().flatten()),
            replaced,
        }));
    }

    /// Notes what came of a layer that was hashed first.
    pub(super) fn came_to(&self, outcome: &Outcome, bytes: u64) {
        let sum = if *outcome == Outcome::Sent { &self.missed } else { &self.found };
        sum.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether what was hashed first was sent after all: a model that was trained again has shards of the old names and sizes, and
    /// not each of them is to be read twice.
    fn misleads(&self) -> bool {
        let found = self.found.load(Ordering::Relaxed);
        self.missed.load(Ordering::Relaxed) >= found.saturating_add(TELLING_SIZE)
    }

    /// Whether one of them may well be `new`.
    async fn may_have(&self, new: &NewLayer) -> bool {
        let is_plain = new.compression == Compression::None;
        let sized = |seen: &Seen| !is_plain || seen.size == new.layer.len();
        let (with_keys, without) = {
            let layers = lock(&self.layers);
            let (keyed, others): (Vec<_>, Vec<_>) =
                layers.iter().filter(|seen| sized(seen)).partition(|seen| seen.key.is_some());
            let telling = |seen: &&Seen| seen.replaced || seen.size >= TELLING_SIZE;
            let keys: Vec<_> = keyed.into_iter().filter_map(|seen| seen.key.clone()).collect();
            (keys, is_plain && others.iter().any(telling))
        };
        if without || with_keys.is_empty() {
            return without;
        }
        let (layer, compression) = (new.layer.clone(), new.compression);
        match blocking(move || LayerKey::of(&layer, compression)).await {
            Some(own) => with_keys.iter().any(|key| own.may_be(key)),
            None => is_plain,
        }
    }
}

impl RegistrySink {
    /// Whether a layer that is not digested yet may well be in the repository. Of one that an earlier push had begun to send,
    /// only the image that is replaced is asked.
    pub(super) async fn may_be_there(&self, new: &NewLayer, begun: bool) -> bool {
        if self.others.misleads() {
            return false;
        }
        if self.others.may_have(new).await {
            return true;
        }
        let planned = self.planned.get().copied().unwrap_or_default();
        if begun || planned < WORTH_ASKING && self.others.named.is_empty() {
            return false;
        }
        self.others.asked.get_or_init(|| self.ask_others()).await;
        self.others.may_have(new).await
    }

    /// Looks at other images. That there are none, or that they may not be looked at, is no error.
    async fn ask_others(&self) {
        let looking = async {
            let tags = match self.others.named.as_slice() {
                [] => self.last_tags().await.unwrap_or_else(|error| {
                    tracing::debug!(%error, "the repository does not say which tags it has");
                    Vec::new()
                }),
                named => named.to_vec(),
            };
            let mut left = MANIFESTS.max(self.others.named.len());
            for tag in tags {
                if left == 0 {
                    break;
                }
                if let Err(error) = self.look_at(&tag, &mut left).await {
                    if self.others.named.is_empty() {
                        tracing::debug!(tag, %error, "no layers are looked for in this image");
                    } else {
                        tracing::warn!("--reuse-from {tag}: its layers are not known: {error}");
                    }
                }
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            tracing::debug!("the repository takes too long to say what it has");
        }
    }

    /// Takes in the layers of the image that a tag names, and of those of an index as many as are `left`.
    async fn look_at(&self, tag: &str, left: &mut usize) -> Result<()> {
        let (host, access) = (self.host(), &self.repository.access);
        let mut selectors = vec![tag.to_owned()];
        while let Some(selector) = selectors.pop() {
            let image = format!("{}/{}:{selector}", host.registry(), access.repository);
            let fetched = fetch_once(host, access, &selector, &image).await?;
            match fetched.parse(&image)? {
                Document::Manifest(manifest, _) => {
                    self.others.add(manifest.layers(), false);
                    *left = left.saturating_sub(1);
                }
                Document::Index(entries) if selector == tag => {
                    // Attestations stand beside the images under a platform that is none.
                    let images = entries
                        .iter()
                        .filter(|entry| entry.platform().is_none_or(|platform| platform.os != "unknown"));
                    selectors.extend(images.take(*left).map(|entry| entry.digest.to_string()));
                }
                Document::Index(_) => {}
            }
        }
        Ok(())
    }

    /// The last tags by name, the last one first. Registries tell no times, and Distribution 2 lists tags in no order.
    async fn last_tags(&self) -> Result<Vec<String>> {
        let (host, access) = (self.host(), &self.repository.access);
        let what = format!("the tags of {}/{}", host.registry(), access.repository);
        let mut url = host.endpoint().await?.tags(&access.repository);
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let make = |url| Call::new(access, Method::GET, url, &READ);
            let answer = host.get_following(make, url.clone()).await?;
            let next = answer.header("link").and_then(next_page).map(|next| url.join(next));
            let bytes = answer.bytes(MAX_PAGE, &what).await?;
            all.extend(from_json::<Tags>(&bytes).ok().and_then(|page| page.tags).unwrap_or_default());
            match next {
                // Pages of another host are none of this registry's.
                Some(Ok(next)) if crate::endpoint::same_origin(&next, &url) => url = next,
                _ => break,
            }
        }
        let own: Vec<_> = self.references.iter().filter_map(|reference| reference.tag()).collect();
        // Signatures and attestations are kept under tags that begin so.
        all.retain(|tag| !tag.starts_with("sha256-") && !own.contains(&tag.as_str()));
        all.sort_by_cached_key(|tag| in_order(tag));
        Ok(all.into_iter().rev().take(MANIFESTS).collect())
    }
}

/// A name that comes later the greater its numbers are: `v10` behind `v9`.
fn in_order(tag: &str) -> String {
    let mut key = String::new();
    let mut rest = tag;
    while let Some(first) = rest.chars().next() {
        let is_number = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        let part = if is_number { part.trim_start_matches('0') } else { part };
        if is_number {
            // A number with more digits is greater; a tag has at most 128 characters.
            key.extend(['0', char::from(b'0' + u8::try_from(part.len()).unwrap_or(u8::MAX - b'0'))]);
        }
        key.push_str(part);
        rest = after;
    }
    key
}

/// The URL of a `Link` header (RFC 8288) that leads to the next page.
fn next_page(link: &str) -> Option<&str> {
    let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|part| matches!(part.trim(), "rel=\"next\"" | "rel=next"));
    is_next.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_in_the_order_of_their_numbers() {
        let sorted = ["007", "8", "20", "latest", "v1.2", "v1.10-rc1", "v9", "v10", "v010.1", "w"];
        let mut tags = sorted.map(str::to_owned);
        tags.reverse();
        tags.sort_by_cached_key(|tag| in_order(tag));
        assert_eq!(tags, sorted);
    }

    #[test]
    fn a_link_to_the_next_page_is_told_from_others() {
        for (link, next) in [
            ("</v2/a/tags/list?last=b&n=2>; rel=\"next\"", Some("/v2/a/tags/list?last=b&n=2")),
            (" <https://r.example/x>;rel=next", Some("https://r.example/x")),
            ("</v2/a/tags/list?n=2>; rel=\"prev\"", None),
            ("/v2/a/tags/list", None),
            ("", None),
        ] {
            assert_eq!(next_page(link), next, "{link}");
        }
    }
}

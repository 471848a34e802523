//! Manifests of the registry in memory: as the specification has it, and as OpenShift's registry does, for which a manifest
//! is there only once a tag names it. That was seen on the wire of the real one, and is in its source
//! (<https://github.com/openshift/image-registry>, pkg/dockerregistry/server/{manifestservice,tagservice}.go).

use std::collections::{HashMap, HashSet};

use crossdock_storage::Hasher;
use serde_json::Value;

use super::Reply;

#[derive(Default)]
pub(super) struct Manifests {
    /// By repository, and tag or digest: media type and bytes.
    all: HashMap<(String, String), (String, Vec<u8>)>,
    /// The ImageStreams with the digests that their tags name, or that an index does which a tag names.
    streams: HashMap<String, HashSet<String>>,
}

impl Manifests {
    pub(super) fn has(&self, path: &str) -> bool {
        place(path).is_some_and(|place| self.all.contains_key(&place))
    }

    pub(super) fn put(&mut self, path: &str, media_type: &str, body: Vec<u8>) -> Reply {
        let Some((repository, selector)) = place(path) else { return empty(404) };
        let digest = Hasher::digest(&body).to_string();
        let stored = (media_type.to_owned(), body);
        self.all.insert((repository.clone(), digest.clone()), stored.clone());
        self.all.insert((repository, selector), stored);
        Reply(201, vec![("docker-content-digest", digest)], Vec::new())
    }

    pub(super) fn get(&self, path: &str) -> Reply {
        match place(path).and_then(|place| self.all.get(&place)) {
            Some((media_type, bytes)) => {
                let digest = Hasher::digest(bytes).to_string();
                let headers = vec![("content-type", media_type.clone()), ("docker-content-digest", digest)];
                Reply(200, headers, bytes.clone())
            }
            None => error(404, "MANIFEST_UNKNOWN"),
        }
    }

    /// A PUT makes the ImageStream only by a tag. `has_blob` says whether the repository has a blob.
    pub(super) fn put_in_stream(
        &mut self,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
        has_blob: impl Fn(&str) -> bool,
    ) -> Reply {
        let Some((repository, selector)) = place(path) else { return empty(404) };
        let Ok(document) = serde_json::from_slice::<Value>(&body) else {
            return error(400, "MANIFEST_INVALID");
        };
        let entries = document["manifests"].as_array().cloned().unwrap_or_default();
        if entries.iter().any(|entry| entry["platform"].is_null()) {
            return error(500, "UNKNOWN");
        }
        let layers = document["layers"].as_array().cloned().unwrap_or_default();
        let mut blobs = layers.iter().chain(document.get("config"));
        if blobs.any(|blob| !has_blob(blob["digest"].as_str().unwrap_or_default())) {
            return error(400, "MANIFEST_BLOB_UNKNOWN");
        }
        let digest = Hasher::digest(&body).to_string();
        let reply = self.put(path, media_type, body);
        if !selector.contains(':') {
            let stream = self.streams.entry(repository).or_default();
            stream.insert(digest);
            stream.extend(entries.iter().filter_map(|entry| Some(entry["digest"].as_str()?.to_owned())));
        }
        reply
    }

    pub(super) fn get_from_stream(&self, path: &str) -> Reply {
        let Some((repository, selector)) = place(path) else { return empty(404) };
        match (self.streams.get(&repository), selector.contains(':')) {
            (None, true) => error(500, "UNKNOWN"),
            (None, false) => error(404, "NAME_UNKNOWN"),
            (Some(stream), true) if !stream.contains(&selector) => error(404, "MANIFEST_UNKNOWN"),
            _ => self.get(path),
        }
    }
}

/// Repository, and tag or digest.
fn place(path: &str) -> Option<(String, String)> {
    let (repository, selector) = path.strip_prefix("/v2/")?.split_once("/manifests/")?;
    Some((repository.to_owned(), selector.replace("%3A", ":")))
}

fn empty(status: u16) -> Reply {
    Reply(status, Vec::new(), Vec::new())
}

fn error(status: u16, code: &str) -> Reply {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"as told"}}]}}"#);
    Reply(status, vec![("content-type", "application/json".to_owned())], body.into_bytes())
}

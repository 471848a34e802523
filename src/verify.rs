//! `crossdock verify`: is an image on a registry there, whole and unchanged.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use crossdock_registry::{Depth, Reference, Sampling, Verified, VerifyOptions};
use crossdock_storage::{Against, Counters, LayerPath, Platform, escape_line};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::args::{ConfArgs, Deep, ProgressStyle, VerifyArgs};
use crate::destination::transport_of;
use crate::exit::UsageError;
use crate::local::{LOCALHOST, LocalImages, has_host};
use crate::session::{print, print_json, root_directory};
use crate::signals::block_on;
use crate::{progress, registries};

/// What was found is not what should be there; the report has named it.
#[derive(Debug, Clone, Copy)]
struct Other(usize);

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("the image is not as it should be: 1 mismatch"),
            n => write!(f, "the image is not as it should be: {n} mismatches"),
        }
    }
}

impl std::error::Error for Other {}

/// Runs the command.
///
/// # Errors
/// All that can go wrong, and what is not as it should be; `exit::code` sorts it.
pub(crate) fn run(args: &VerifyArgs, root: Option<&Path>, conf: &ConfArgs) -> Result<()> {
    let conf = registries::conf(conf).map_err(UsageError)?;
    let began = Instant::now();
    let reference = reference(&args.image, root).map_err(UsageError)?;
    let platform = match (&args.platform, args.all) {
        (_, true) => None,
        (Some(text), _) => Some(text.parse().context("--platform").map_err(UsageError)?),
        (None, _) => Some(Platform::host()),
    };
    let counters = Arc::<Counters>::default();
    let registry =
        registries::registry(&args.registry, conf, Some(reference.registry()), Arc::clone(&counters), None)
            .map_err(UsageError)?;
    let depth = depth(args).map_err(UsageError)?;
    let seed = match &depth {
        Depth::Sample(sampling) => Some(sampling.seed),
        _ => None,
    };
    let options = VerifyOptions {
        platform,
        depth,
        jobs: usize::from(args.jobs),
        progress: progress::display(args.progress, false),
    };
    let verified = block_on(async { Ok(registry.verify(&reference, &options).await?) })?;
    if args.json || args.progress == ProgressStyle::Json {
        print_json(&in_json(&verified, seed, counters.received(), began.elapsed()))?;
    } else {
        print(&text(&verified, seed, counters.received(), began.elapsed()))?;
    }
    match verified.mismatches.len() {
        0 => Ok(()),
        mismatches => Err(Other(mismatches).into()),
    }
}

/// The image on a registry that is meant. A name of this machine stands for where the image belongs: asking Docker Hub
/// for it would be asking for another image.
fn reference(text: &str, root: Option<&Path>) -> Result<Reference> {
    let image = text.strip_prefix("docker://").unwrap_or(text);
    if let Some((transport, _)) = transport_of(image) {
        bail!(
            "{text}: verify looks at images on registries, and not at {transport}: places; push it and name the registry's image"
        );
    }
    let local = LocalImages::new(root_directory(root).as_deref());
    if (!has_host(image) || image.starts_with(LOCALHOST))
        && let Ok(local) = local
        && let Some(names) = local.registry_names(image)?
    {
        return match names.as_slice() {
            [name] => {
                tracing::warn!("{text} is remembered here, and looked at as {name}");
                name.parse().context("IMAGE")
            }
            [] => bail!(
                "{text} is remembered here, and no name of it says on which registry it is: write where it was pushed, \
                 HOST[:PORT]/REPOSITORY[:TAG]"
            ),
            names => {
                bail!("{text} is remembered here under several names, write which: {}", names.join(", "))
            }
        };
    }
    image.parse().context("IMAGE")
}

/// How closely to look. Bytes that are not all there have no digest to be held against: a sample needs files.
fn depth(args: &VerifyArgs) -> Result<Depth> {
    let against = args.against.iter().map(|text| against(text)).collect::<Result<Vec<_>>>()?;
    Ok(match args.deep {
        Some(Deep::Full) => Depth::Full(against),
        None if against.is_empty() => Depth::Presence,
        Some(Deep::Sample) if against.is_empty() => {
            bail!("--deep=sample: name the files to compare with, as --against DIR:PATH")
        }
        None | Some(Deep::Sample) => Depth::Sample(Sampling {
            against,
            ranges: args.samples,
            // Not more bits than a JSON number keeps.
            seed: args.seed.unwrap_or_else(|| RandomState::new().hash_one(()) >> 32),
        }),
    })
}

/// `DIR[:PATH]`: a path in the image begins with a slash, and is the root where it is left out.
fn against(text: &str) -> Result<Against> {
    let (local, image) = match text.rsplit_once(":/") {
        Some((local, image)) => (local, image),
        None => (text, ""),
    };
    if local.is_empty() {
        bail!("--against {text:?}: write DIR[:PATH], with PATH from the root of the image on");
    }
    let image = LayerPath::clean(image).with_context(|| format!("--against {text:?}"))?;
    Ok(Against { local: local.into(), image })
}

/// For people.
fn text(verified: &Verified, seed: Option<u64>, received: u64, elapsed: Duration) -> String {
    let mut lines = vec![format!("image    {}", verified.image), format!("digest   {}", verified.digest)];
    for manifest in &verified.manifests {
        let platform = manifest.platform.as_deref().unwrap_or("no platform");
        lines.push(format!("manifest {}  {platform}, {} layers", manifest.digest, manifest.layers));
    }
    let bytes: u64 = verified.blobs.iter().map(|blob| blob.size).sum();
    let hashed = verified.blobs.iter().filter(|blob| blob.hashed).count();
    lines.push(format!(
        "blobs    {} of {}, {hashed} read and hashed again",
        verified.blobs.len(),
        HumanBytes(bytes)
    ));
    if let Some(files) = &verified.files {
        let (compared, size) = (HumanBytes(files.compared), HumanBytes(files.size));
        lines.push(format!("files    {}, {compared} of {size} compared", files.count));
    }
    lines.extend(seed.map(|seed| format!("seed     {seed}")));
    lines.extend(verified.notes.iter().map(|note| format!("note     {note}")));
    lines.push(format!("received {}", HumanBytes(received)));
    lines.push(format!("time     {:.2} s", elapsed.as_secs_f64()));
    for mismatch in &verified.mismatches {
        lines.push(format!("MISMATCH {mismatch}"));
    }
    if verified.mismatches.is_empty() {
        lines.push("ok".to_owned());
    }
    // A file's name makes no line, such as `ok`.
    lines.iter().map(|line| escape_line(line) + "\n").collect()
}

/// For machines: one object, documented in docs/progress.md.
fn in_json(verified: &Verified, seed: Option<u64>, received: u64, elapsed: Duration) -> Value {
    let manifests: Vec<_> = verified
        .manifests
        .iter()
        .map(|m| json!({"digest": m.digest.to_string(), "platform": m.platform, "layers": m.layers}))
        .collect();
    let blobs: Vec<_> = verified
        .blobs
        .iter()
        .map(|b| json!({"digest": b.digest.to_string(), "size": b.size, "hashed": b.hashed}))
        .collect();
    let mismatches: Vec<_> = verified
        .mismatches
        .iter()
        .map(|m| {
            json!({
                "digest": m.digest.to_string(),
                "offset": m.offset,
                "file": m.file.as_ref().map(|file| file.display().to_string()),
                "problem": m.problem,
            })
        })
        .collect();
    json!({
        "event": "verified",
        "image": verified.image,
        "digest": verified.digest.to_string(),
        "ok": verified.mismatches.is_empty(),
        "manifests": manifests,
        "blobs": blobs,
        "mismatches": mismatches,
        "files": verified.files.as_ref().map(|files| {
            json!({"count": files.count, "size": files.size, "compared": files.compared})
        }),
        "seed": seed,
        "notes": verified.notes,
        "bytes_received": received,
        "seconds": elapsed.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn against_is_a_place_here_and_one_in_the_image() {
        for (text, parts) in [
            ("model:/models", Some(("model", "models"))),
            ("model:/", Some(("model", ""))),
            (".", Some((".", ""))),
            ("a:b:/c//d/", Some(("a:b", "c/d"))),
            ("a:b", Some(("a:b", ""))),
            (":/models", None),
            ("", None),
            ("model:/../x", None),
        ] {
            let read = against(text).ok();
            let wanted = parts.map(|(local, image)| Against {
                local: local.into(),
                image: LayerPath::clean(image).unwrap(),
            });
            assert_eq!(read, wanted, "{text}");
        }
    }
}

//! Preflight: what can be known before the first byte of a layer is read. Whether we may write there, found out by an
//! upload that is begun and cancelled; and whether the image keeps within what the registry is known to take.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crossdock_storage::{Compression, SinkPlan};
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::auth::Challenge;
use crate::credentials::{Credential, Found, Origin};
use crate::endpoint::without_port;
use crate::error::{Error, Result};
use crate::host::{Call, Host};
use crate::profile::LayerLimit;
use crate::upload::Repository;

/// Registries take manifests of 4 MiB and need not take larger ones (distribution specification, "Pushing manifests").
const MAX_MANIFEST: u64 = 4 << 20;

/// A layer's part of a manifest has at least so many bytes: media type, digest and size with their names.
const LAYER_IN_MANIFEST: u64 = 150;

/// Container runtimes stop at so many layers (overlayfs).
const MAX_LAYERS: usize = 127;

/// Whether we may push: an upload is begun, and cancelled.
///
/// # Errors
/// The registry's refusal, with what was tried and what to do.
pub(crate) async fn admit(repository: &Repository) -> Result<()> {
    // The token server's failures are not counted as those of the registry.
    let mut attempts = repository.host.attempts();
    while let Err(error) = authenticate(repository).await {
        attempts.failed(explain(repository, error).await).await?;
    }
    let mut attempts = repository.host.attempts();
    let upload = loop {
        match repository.begin_upload().await {
            Ok(upload) => break upload,
            Err(error) => attempts.failed(explain(repository, error).await).await?,
        }
    };
    repository.cancel(&upload).await;
    Ok(())
}

async fn authenticate(repository: &Repository) -> Result<()> {
    repository.host.endpoint().await?;
    repository.host.key(&repository.access, None).await?;
    Ok(())
}

/// Says of a refused push what to do about it.
pub(crate) async fn explain(repository: &Repository, error: Error) -> Error {
    let (host, name) = (&*repository.host, repository.access.repository.as_str());
    match error {
        Error::Status { what, status: 404, detail, retry_after, .. } => Error::Status {
            what,
            status: 404,
            detail: format!("{detail}; does the registry want the repository (or project) to be made first?"),
            transient: false,
            retry_after,
        },
        // Only a 400 without a word counts as one that may pass.
        Error::Status { what, status: 400, transient: true, retry_after, .. }
            if is_openshift(host) && name.split('/').count() != 2 =>
        {
            let detail = format!(
                ": a repository of OpenShift's registry is PROJECT/NAME, and {name} is not; push to {}/PROJECT/NAME",
                host.registry()
            );
            Error::Status { what, status: 400, detail, transient: false, retry_after }
        }
        Error::Denied { host: registry, action, repository: name, status, detail, tried } => {
            let tried = match host.credentials().find_for(&registry, &name).await {
                Ok(found) if is_openshift(host) => openshift(repository, &found, status).await,
                _ => match granted(repository).await {
                    Some(granted) => {
                        format!("{tried} (of pull and push, the token server granted {granted})")
                    }
                    None => tried,
                },
            };
            Error::Denied { host: registry, action, repository: name, status, detail, tried }
        }
        other => other,
    }
}

/// Says of a refused manifest what to do about it, all blobs being there.
pub(crate) async fn explain_manifest(repository: &Repository, error: Error) -> Error {
    match error {
        Error::Denied { .. } => explain(repository, error).await,
        other => other,
    }
}

/// Whether the registry is OpenShift's own, by its usual names or by its token server.
fn is_openshift(host: &Host) -> bool {
    let name = without_port(host.registry());
    let realm = match host.challenge() {
        Some(Challenge::Bearer { realm, .. }) => Url::parse(&realm).ok(),
        _ => None,
    };
    name.starts_with("image-registry.openshift-image-registry.svc")
        || name.starts_with("default-route-openshift-image-registry.")
        || realm.is_some_and(|realm| realm.path() == "/openshift/token")
}

/// What was tried with OpenShift's registry, and what to do. An expired token and a missing right look the same there,
/// but for the API's root: it takes every good token.
async fn openshift(repository: &Repository, found: &Found, status: u16) -> String {
    let (host, origin) = (&*repository.host, &found.origin);
    let project = repository.access.repository.split('/').next().unwrap_or_default();
    if let Origin::Nowhere { .. } = origin {
        let account = host.shared().credentials.service_account();
        return if account.dir.join("token").is_file() {
            format!(
                "{origin}; there is a ServiceAccount's token in {}, which goes only to in-cluster hosts by itself: pass \
                 --sa-registry {} if it is for this registry",
                account.dir.display(),
                host.registry()
            )
        } else {
            format!(
                "{origin}; pass --creds USER:TOKEN with the token that `oc whoami --show-token` shows, or --authfile, or \
                 in a pod the ServiceAccount's directory with --sa-dir"
            )
        };
    }
    if !root_is_open(repository).await {
        return format!(
            "{origin}; the registry does not take that token at all: it has expired, or is of another cluster"
        );
    }
    if status == 403 {
        return format!(
            "{origin}; the quota of the project {project} may be used up, or the role lacks the right to create an \
             ImageStream: see `oc describe quota -n {project}`, or run `oc policy add-role-to-user \
             system:image-builder {} -n {project}`",
            subject(found, project)
        );
    }
    format!(
        "{origin}; that token is good, but may not push there: let an administrator of the project run `oc policy \
         add-role-to-user system:image-builder {} -n {project}`",
        subject(found, project)
    )
}

async fn root_is_open(repository: &Repository) -> bool {
    let Ok(endpoint) = repository.host.endpoint().await else { return false };
    repository.host.call(Call::new(&repository.access, Method::GET, endpoint.ping(), &[200])).await.is_ok()
}

/// Whom a role is for, as `oc policy` takes it: the token says whose it is, and that is no secret.
fn subject(found: &Found, project: &str) -> String {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let mut known: Option<Claims> = None;
    if let Credential::Basic { password, .. } = &found.credential {
        known = claims(password.expose());
    }
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':'));
    let sub = known.map(|claims| claims.sub).filter(|sub| plain(sub));
    match sub.as_deref().and_then(|sub| sub.strip_prefix("system:serviceaccount:")?.split_once(':')) {
        Some((namespace, name)) if namespace == project => format!("-z {name}"),
        Some((namespace, name)) => format!("system:serviceaccount:{namespace}:{name}"),
        None => match found.origin {
            Origin::ServiceAccount { .. } => "-z SERVICEACCOUNT".to_owned(),
            _ => "USER".to_owned(),
        },
    }
}

/// What the token at hand allows on the repository, where it says so (the token specification's `access` claim) and
/// pushing is not among it.
async fn granted(repository: &Repository) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        access: Vec<Access>,
    }
    #[derive(Deserialize)]
    struct Access {
        #[serde(default)]
        r#type: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        actions: Vec<String>,
    }
    let key = repository.host.key(&repository.access, None).await.ok()?;
    let claims: Claims = claims(key.header.as_ref()?.to_str().ok()?.strip_prefix("Bearer ")?)?;
    let mut actions = claims
        .access
        .into_iter()
        .filter(|access| access.r#type == "repository" && access.name == repository.access.repository)
        .flat_map(|access| access.actions)
        .filter(|action| matches!(action.as_str(), "pull" | "push" | "*"))
        .collect::<Vec<_>>();
    actions.dedup();
    if actions.iter().any(|action| action != "pull") {
        return None;
    }
    Some(if actions.is_empty() { "neither".to_owned() } else { actions.join(", ") })
}

/// The claims of a JSON web token; its signature is the registry's to check.
fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

impl LayerLimit {
    fn check(self, destination: &str, layer: &str, bytes: u64, exact: bool) -> Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let Self { bytes: limit, whose, .. } = self;
        if self.hard && exact {
            return Err(Error::Destination {
                destination: destination.to_owned(),
                reason: format!(
                    "the layer {layer} has {bytes} bytes, and {whose} at most {limit} in a layer; --layer-file-size \
                     cannot split a file: split the file itself, or push to a registry that takes larger layers \
                     (--no-preflight tries nevertheless)"
                ),
            });
        }
        tracing::warn!(
            "the layer {layer} has {bytes} bytes, and {whose} at most {limit} in a layer; the push may fail at its end"
        );
        Ok(())
    }
}

/// Whether the image keeps within what is known of the registry. Limits that whoever runs it may have changed are
/// warned of.
///
/// # Errors
/// [`Error::Destination`] for a limit that holds everywhere.
pub(crate) fn check_limits(repository: &Repository, plan: &SinkPlan) -> Result<()> {
    let registry = repository.host.registry();
    let destination = format!("{registry}/{}", repository.access.repository);
    let limit = repository.profile().limit;
    for layer in &plan.new_layers {
        limit.check(&destination, &layer.title, layer.bytes, layer.compression == Compression::None)?;
    }
    for layer in &plan.base_layers {
        limit.check(&destination, &format!("{} of the base", layer.digest()), layer.size(), true)?;
    }
    let layers = plan.new_layers.len() + plan.base_layers.len();
    if layers > MAX_LAYERS {
        tracing::warn!("the image has {layers} layers, and container runtimes take at most {MAX_LAYERS}");
    }
    let manifest = plan.annotations + layers as u64 * LAYER_IN_MANIFEST;
    if manifest > MAX_MANIFEST {
        return Err(Error::Destination {
            destination,
            reason: format!(
                "the manifest would have more than {MAX_MANIFEST} bytes, which registries do not take: the annotations \
                 alone have {}",
                plan.annotations
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crossdock_storage::PlannedLayer;

    use super::*;
    use crate::client::{Registry, RegistryOptions};
    use crate::host::Manner;
    use crate::secret::Secret;

    fn repository(registry: &str) -> Repository {
        Repository::new(Registry::new(RegistryOptions::default()).host(registry, Manner::default()), "team/m")
    }

    fn plan(bytes: u64, compression: Compression) -> SinkPlan {
        let title = "models/big.safetensors".to_owned();
        SinkPlan { new_layers: vec![PlannedLayer { title, bytes, compression }], ..SinkPlan::default() }
    }

    #[test]
    fn a_documented_limit_is_an_error_that_names_the_layer_and_a_way_out() {
        for (registry, limit) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", 52_000_u64 << 20),
            ("public.ecr.aws", 10_000 << 20),
            ("ghcr.io", 10_000_000_000),
        ] {
            let repository = repository(registry);
            check_limits(&repository, &plan(limit, Compression::None)).unwrap();
            let text =
                check_limits(&repository, &plan(limit + 1, Compression::None)).unwrap_err().to_string();
            assert!(
                text.contains("models/big.safetensors")
                    && text.contains(&limit.to_string())
                    && text.contains("registry that takes larger layers"),
                "{text}"
            );
            // What it will have compressed, nobody knows.
            check_limits(&repository, &plan(limit + 1, Compression::Zstd { level: 3 })).unwrap();
        }
    }

    #[test]
    fn a_default_that_may_have_been_changed_is_no_error() {
        for registry in
            ["quay.io", "registry.example:5000", "image-registry.openshift-image-registry.svc:5000"]
        {
            check_limits(&repository(registry), &plan(1 << 40, Compression::None)).unwrap();
        }
    }

    #[test]
    fn a_manifest_that_no_registry_takes_is_an_error() {
        let plan = SinkPlan { annotations: 5 << 20, ..SinkPlan::default() };
        let text = check_limits(&repository("quay.io"), &plan).unwrap_err().to_string();
        assert!(text.contains("annotations"), "{text}");
    }

    #[test]
    fn openshift_is_known_by_its_names() {
        for (registry, is) in [
            ("image-registry.openshift-image-registry.svc:5000", true),
            ("image-registry.openshift-image-registry.svc.cluster.local:5000", true),
            ("default-route-openshift-image-registry.apps.example.com", true),
            ("quay.io", false),
        ] {
            assert_eq!(is_openshift(&repository(registry).host), is, "{registry}");
        }
    }

    #[test]
    fn a_role_is_for_the_subject_of_the_token() {
        let token = |sub: &str| {
            let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{sub}","exp":1}}"#));
            Found {
                credential: Credential::Basic {
                    user: "x".to_owned(),
                    password: Secret::new(format!("h.{payload}.s")),
                },
                origin: Origin::Explicit,
            }
        };
        assert_eq!(subject(&token("system:serviceaccount:team:pipeline"), "team"), "-z pipeline");
        assert_eq!(
            subject(&token("system:serviceaccount:ci:pipeline"), "team"),
            "system:serviceaccount:ci:pipeline"
        );
        assert_eq!(subject(&token("system:serviceaccount:ci:a b`"), "team"), "USER");
        let opaque = Found {
            credential: Credential::Basic { user: "x".to_owned(), password: Secret::new("sha256~abc") },
            origin: Origin::ServiceAccount { token: "token".into() },
        };
        assert_eq!(subject(&opaque, "team"), "-z SERVICEACCOUNT");
    }
}

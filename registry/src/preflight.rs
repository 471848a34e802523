//! Preflight: what can be known before the first byte of a layer is read. Whether we may write there, found out by an
//! upload that is begun and cancelled; and whether the image keeps within what the registry is known to take.

use crossdock_storage::{Compression, Descriptor, SinkPlan};
use reqwest::Method;
use serde::Deserialize;
use url::Url;

use crate::auth::Challenge;
use crate::cluster::Cluster;
use crate::credentials::{Credential, Found, Origin};
use crate::endpoint::without_port;
use crate::error::{Error, Result};
use crate::expiry::{self, claims};
use crate::host::{Call, Host};
use crate::profile::LayerLimit;
use crate::upload::Repository;

/// Registries take manifests of 4 MiB and need not take larger ones (distribution specification, "Pushing manifests").
const MAX_MANIFEST: u64 = 4 << 20;

/// A layer's part of a manifest has about so many bytes: media type, digest and size with their names.
const LAYER_IN_MANIFEST: u64 = 160;

/// The rest of a manifest but for its annotations has about so many: the config's part and the names around.
const MANIFEST_AROUND: u64 = 320;

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
    for unknown in foresee(repository).await? {
        tracing::info!("not known before the push: {unknown}");
    }
    Ok(())
}

/// What an upload that is begun does not tell: whether the manifest will be taken. What cannot be found out either comes
/// back in words.
///
/// # Errors
/// [`Error::Destination`] and [`Error::WouldBeDenied`], where the manifest is known to be refused.
pub(crate) async fn foresee(repository: &Repository) -> Result<Vec<String>> {
    let (host, name) = (&*repository.host, repository.access.repository.as_str());
    let Some((project, stream)) = name.split_once('/').filter(|_| is_openshift(host)) else {
        return Ok(vec![
            "whether a quota has room for the image: registries tell when a blob or the manifest is put"
                .to_owned(),
        ]);
    };
    let quota = format!(
        "whether the quotas and LimitRanges of the project {project} have room for the image: see `oc describe \
         quota,limits -n {project}`"
    );
    let has_stream = has_stream(repository).await;
    if has_stream == Some(true) {
        return Ok(vec![quota]);
    }
    let found = host.credentials().find_for(host.registry(), name).await?;
    let said = Said::of(host, &found, project).await;
    if said.has_project == Some(false) {
        return Err(Error::Destination {
            destination: format!("{}/{name}", host.registry()),
            reason: no_project(project),
        });
    }
    match said.may_make_streams {
        Some(true) => Ok(vec![quota]),
        Some(false) if has_stream == Some(false) => Err(Error::WouldBeDenied {
            destination: format!("{}/{name}", host.registry()),
            reason: format!(
                "there is no ImageStream {stream} in the project {project}, and {} may not make one, as the cluster's \
                 API says; {}",
                found.origin,
                make_stream(&found, project, stream)
            ),
        }),
        _ => Ok(vec![
            format!(
                "whether the project {project} is there, and whether the ImageStream {stream} is there or may be made (the \
                 right `create` on imagestreams, which system:image-pusher lacks)"
            ),
            quota,
        ]),
    }
}

/// What the cluster's API says of a project to those whose token it is.
#[derive(Default)]
struct Said {
    has_project: Option<bool>,
    may_make_streams: Option<bool>,
}

impl Said {
    async fn of(host: &Host, found: &Found, project: &str) -> Self {
        let Some(cluster) = Cluster::of(host, found) else { return Self::default() };
        Self {
            has_project: cluster.has_project(project).await,
            may_make_streams: cluster.may_make_streams(project).await,
        }
    }
}

/// Whether the ImageStream of a repository is there: OpenShift's registry has tags of no other.
async fn has_stream(repository: &Repository) -> Option<bool> {
    let (host, name) = (&*repository.host, repository.access.repository.as_str());
    let url = host.endpoint().await.ok()?.tags(name);
    let answer = host.call(Call::new(&repository.access, Method::GET, url, &[200, 404])).await.ok()?;
    Some(answer.status() == reqwest::StatusCode::OK)
}

fn no_project(project: &str) -> String {
    format!("there is no project {project}; make it with `oc new-project {project}`, or push to another one")
}

fn make_stream(found: &Found, project: &str, stream: &str) -> String {
    let (role, subject) = grant(found, project);
    format!(
        "make it with `oc create imagestream {stream} -n {project}`, or let an administrator of the project run `oc policy \
         add-role-to-user {role} {subject} -n {project}`"
    )
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
            let found = host.credentials().find_for(&registry, &name).await.ok();
            let tried = match &found {
                Some(found) if is_openshift(host) => openshift(repository, found, status).await,
                _ => match dead_or_denied(repository, found.as_ref(), status).await {
                    Some(reason) => reason,
                    None => tried,
                },
            };
            Error::Denied { host: registry, action, repository: name, status, detail, tried }
        }
        other => other,
    }
}

/// What is known of a refusal beside where the credential came from: that it has died, or what its token allows.
async fn dead_or_denied(repository: &Repository, found: Option<&Found>, status: u16) -> Option<String> {
    if let Some(found) = found
        && let Some(died) = expiry::died(&repository.host, &repository.access, found).await
    {
        return Some(format!("{}; {died}", found.origin));
    }
    let origin =
        found.map(|found| format!("{}; {}", found.origin, found.origin.way_out(status, &repository.access)));
    let granted = granted(repository).await?;
    Some(format!("{} (of pull and push, the token server granted {granted})", origin?))
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
    if let Some(died) = expiry::died(host, &repository.access, found).await {
        return format!("{origin}; {died} (`oc whoami --show-token` shows a token)");
    }
    if !expiry::is_taken(host, &repository.access).await {
        return format!(
            "{origin}; the registry does not take that token at all: it has expired, or is of another cluster; `oc whoami \
             --show-token` shows one for --creds USER:TOKEN, and --sa-dir names a pod's ServiceAccount"
        );
    }
    if status == 403 {
        let reasons = refused_image(repository, found, project).await;
        return format!("{origin}; that token may push there, but the cluster refused the image: {reasons}");
    }
    let (role, subject) = grant(found, project);
    format!(
        "{origin}; that token is good, but may not push there: let an administrator of the project run `oc policy \
         add-role-to-user {role} {subject} -n {project}`"
    )
}

/// Why the cluster may have refused an image (CreateImageStreamMapping of openshift/image-registry): the registry keeps
/// the reason in its log, and answers with the one word for all of them.
async fn refused_image(repository: &Repository, found: &Found, project: &str) -> String {
    let said = Said::of(&repository.host, found, project).await;
    if said.has_project == Some(false) {
        return no_project(project);
    }
    let mut reasons = Vec::new();
    if said.has_project.is_none() {
        reasons.push(format!(
            "the project {project} is not there: look with `oc get project {project}`, make it with `oc new-project \
             {project}`"
        ));
    }
    reasons.push(format!(
        "a quota of the project is used up, or a LimitRange (type openshift.io/Image) takes no image of this size: see `oc \
         describe quota,limits -n {project}`"
    ));
    if said.may_make_streams != Some(true) && has_stream(repository).await != Some(true) {
        let stream = repository.access.repository.split_once('/').map_or("NAME", |(_, stream)| stream);
        reasons.push(format!(
            "the ImageStream {stream} is not there and the token may not make it, as with the role system:image-pusher: {}",
            make_stream(found, project, stream)
        ));
    }
    match reasons.as_slice() {
        [only] => only.clone(),
        several => format!("one of these, which the registry does not say. {}", numbered(several)),
    }
}

fn numbered(reasons: &[String]) -> String {
    let number = |(at, reason): (usize, &String)| format!("({}) {reason}", at + 1);
    reasons.iter().enumerate().map(number).collect::<Vec<_>>().join("; ")
}

/// The role that allows a push and whom it is for, as `oc policy` takes them: the token says whose it is, and that is
/// no secret. Both roles may create an ImageStream, which `system:image-pusher` may not.
fn grant(found: &Found, project: &str) -> (&'static str, String) {
    const SERVICE_ACCOUNT: &str = "system:image-builder";
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
        Some((namespace, name)) if namespace == project => (SERVICE_ACCOUNT, format!("-z {name}")),
        Some((namespace, name)) => (SERVICE_ACCOUNT, format!("system:serviceaccount:{namespace}:{name}")),
        None => match found.origin {
            Origin::ServiceAccount { .. } => (SERVICE_ACCOUNT, "-z SERVICEACCOUNT".to_owned()),
            _ => ("registry-editor", "USER".to_owned()),
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

impl LayerLimit {
    /// What is to be warned of, if there is anything.
    fn check(self, destination: &str, layer: &str, bytes: u64, exact: bool) -> Result<Option<String>> {
        if bytes <= self.bytes {
            return Ok(None);
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
        Ok(Some(format!(
            "the layer {layer} has {bytes} bytes, and {whose} at most {limit} in a layer; the push may fail at its end"
        )))
    }
}

/// No registry is known that takes less in a layer, in bytes.
const LEAST_LIMIT: u64 = 10_000_000_000;

/// Whether there is a layer that some registry is known not to take.
pub(crate) fn may_be_beyond(plan: &SinkPlan) -> bool {
    let new = plan.new_layers.iter().map(|layer| layer.bytes);
    new.chain(plan.base_layers.iter().map(Descriptor::size)).any(|bytes| bytes > LEAST_LIMIT)
}

/// Whether the image keeps within what is known of the registry: the warnings are of limits that whoever runs it may have
/// changed.
///
/// # Errors
/// [`Error::Destination`] for a limit that holds everywhere.
pub(crate) fn beyond(repository: &Repository, plan: &SinkPlan) -> Result<Vec<String>> {
    let registry = repository.host.registry();
    let destination = format!("{registry}/{}", repository.access.repository);
    let limit = repository.profile().limit;
    let check = |layer: &str, bytes, exact| match limit {
        Some(limit) => limit.check(&destination, layer, bytes, exact),
        None => Ok(None),
    };
    let mut warnings = Vec::new();
    for layer in &plan.new_layers {
        let exact = layer.compression == Compression::None;
        warnings.extend(check(&layer.title, layer.bytes, exact)?);
    }
    for layer in &plan.base_layers {
        let name = format!("{} of the base", layer.digest());
        warnings.extend(check(&name, layer.size(), true)?);
    }
    let layers = plan.new_layers.len() + plan.base_layers.len();
    if layers > MAX_LAYERS {
        warnings
            .push(format!("the image has {layers} layers, and container runtimes take at most {MAX_LAYERS}"));
    }
    let manifest = plan.annotations + layers as u64 * LAYER_IN_MANIFEST + MANIFEST_AROUND;
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
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use crossdock_storage::{Hasher, MediaType, PlannedLayer};

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

    /// Exactly as much as is taken, and a byte more: no error and no warning for the one, one of them for the other.
    #[test]
    fn each_registry_has_its_limit_of_a_layer() {
        for (registry, limit, hard, whose) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", 52_000_u64 << 20, true, "Amazon ECR takes"),
            ("public.ecr.aws", 10_000 << 20, true, "Amazon ECR Public takes"),
            ("ghcr.io", 10_000_000_000, true, "GHCR takes"),
            ("quay.io", 20 << 30, false, "Quay takes by default"),
            ("registry.example:5000", 100_000 << 20, false, "on S3"),
            ("image-registry.openshift-image-registry.svc:5000", 100_000 << 20, false, "on S3"),
            ("models.azurecr.io", 200 << 30, true, "Azure Container Registry takes"),
            ("docker.io", 100_000 << 20, false, "on S3"),
        ] {
            let repository = repository(registry);
            let beyond = |bytes, compression| beyond(&repository, &plan(bytes, compression));
            assert!(beyond(limit, Compression::None).unwrap().is_empty(), "{registry}");
            assert!(limit >= LEAST_LIMIT && may_be_beyond(&plan(limit + 1, Compression::None)), "{registry}");
            let text = match beyond(limit + 1, Compression::None) {
                Ok(warnings) if !hard => warnings.join("\n"),
                Err(error) if hard => error.to_string(),
                other => panic!("{registry}: {other:?}"),
            };
            for part in ["models/big.safetensors", &limit.to_string(), whose] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert_eq!(text.contains("--no-preflight"), hard, "{text}");
            // What it will have compressed, nobody knows.
            assert_eq!(beyond(limit + 1, Compression::Zstd { level: 3 }).unwrap().len(), 1);
            // The base's layers are sent as well.
            let digest = Hasher::digest(b"x");
            let base = Descriptor::new(MediaType::ImageLayer, limit + 1, digest.clone());
            let of_base =
                super::beyond(&repository, &SinkPlan { base_layers: vec![base], ..SinkPlan::default() });
            let text = of_base.map_or_else(|error| error.to_string(), |warnings| warnings.join("\n"));
            assert!(text.contains(&format!("{digest} of the base")), "{text}");
        }
    }

    #[test]
    fn a_registry_that_documents_no_limit_has_none() {
        let plan = plan(1 << 50, Compression::None);
        for registry in ["europe-docker.pkg.dev", "gcr.io"] {
            assert!(beyond(&repository(registry), &plan).unwrap().is_empty(), "{registry}");
        }
    }

    #[test]
    fn many_layers_are_warned_of() {
        let layers =
            |number| SinkPlan { new_layers: vec![PlannedLayer::default(); number], ..SinkPlan::default() };
        assert!(beyond(&repository("quay.io"), &layers(MAX_LAYERS)).unwrap().is_empty());
        let warnings = beyond(&repository("quay.io"), &layers(MAX_LAYERS + 1)).unwrap();
        assert!(warnings[0].contains("128 layers") && warnings[0].contains("127"), "{warnings:?}");
    }

    #[test]
    fn a_manifest_that_no_registry_takes_is_an_error() {
        let plan = |annotations| SinkPlan { annotations, ..SinkPlan::default() };
        assert!(beyond(&repository("quay.io"), &plan(MAX_MANIFEST - MANIFEST_AROUND)).unwrap().is_empty());
        let error = beyond(&repository("quay.io"), &plan(MAX_MANIFEST - MANIFEST_AROUND + 1)).unwrap_err();
        assert!(error.to_string().contains("annotations"), "{error}");
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
        let granted = |found: &Found| {
            let (role, subject) = grant(found, "team");
            format!("{role} {subject}")
        };
        for (sub, expected) in [
            ("system:serviceaccount:team:pipeline", "system:image-builder -z pipeline"),
            ("system:serviceaccount:ci:pipeline", "system:image-builder system:serviceaccount:ci:pipeline"),
            // What could be more than a name is not printed.
            ("system:serviceaccount:ci:a b`", "registry-editor USER"),
        ] {
            assert_eq!(granted(&token(sub)), expected);
        }
        let opaque = Found {
            credential: Credential::Basic { user: "x".to_owned(), password: Secret::new("sha256~abc") },
            origin: Origin::ServiceAccount { token: "token".into() },
        };
        assert_eq!(granted(&opaque), "system:image-builder -z SERVICEACCOUNT");
        let person = Found { origin: Origin::Explicit, ..opaque };
        assert_eq!(granted(&person), "registry-editor USER");
    }
}

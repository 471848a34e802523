//! What a user may do with a repository, and why: asked of the registry, not guessed.

use crossdock_storage::Abort;
use oci_spec::image::MediaType;
use reqwest::Method;

use crate::auth::Challenge;
use crate::client::Registry;
use crate::credentials::{CredentialSource, Found};
use crate::error::{Error, Result};
use crate::expiry;
use crate::host::{Access, Call, Host};
use crate::preflight;
use crate::reference::Reference;
use crate::upload::Repository;

/// How a repository is reached, and as whom. Nothing in it is secret.
#[derive(Debug)]
#[non_exhaustive]
pub struct AccessReport {
    /// Where the registry answers.
    pub endpoint: String,
    /// All places that were looked at for a credential, in order.
    pub sources: Vec<CredentialSource>,
    /// Which credential is taken, in words.
    pub credential: String,
    /// The user name that is sent.
    pub user: Option<String>,
    /// What the registry asks for.
    pub challenge: String,
    /// Whether images may be pulled.
    pub pull: Permission,
    /// Whether images may be pushed; `None` where it was not asked.
    pub push: Option<Permission>,
    /// What is not known of a push before it is made.
    pub unknown: Vec<String>,
}

/// Whether something is allowed.
#[derive(Debug)]
pub enum Permission {
    /// It is; the text says how that was found out.
    Allowed(&'static str),
    /// It is not.
    Refused(Error),
    /// The registry does not say.
    Unknown(Error),
}

impl Permission {
    fn of(result: Result<()>, how: &'static str) -> Self {
        match result {
            Ok(()) => Self::Allowed(how),
            Err(error) if error.is_credentials() || matches!(error, Error::Destination { .. }) => {
                Self::Refused(error)
            }
            Err(error) => Self::Unknown(error),
        }
    }
}

impl Registry {
    /// Finds out as whom `reference` is reached and what is allowed there. A push is tried by an upload that is begun
    /// and cancelled.
    ///
    /// # Errors
    /// Where the registry cannot be reached.
    pub async fn explain(&self, reference: &Reference, push: bool) -> Result<AccessReport> {
        let host = self.named_host(reference)?;
        let endpoint = host.attempts().run(|| host.endpoint()).await?.ping().to_string();
        let credentials = &self.shared.credentials;
        let (sources, found) = credentials.explain(reference.registry(), reference.repository()).await;
        let (credential, user) = match &found {
            Ok(found) => (found.origin.to_string(), found.credential.user().map(str::to_owned)),
            Err(_) => ("none that can be used".to_owned(), None),
        };
        let found = found.ok();
        let result = try_pull(&host, reference).await;
        let result = dated(&host, Access::pull(reference.repository()), found.as_ref(), result).await;
        let pull = Permission::of(result, "a manifest was asked for");
        let (mut permission, mut unknown) = (None, Vec::new());
        if push {
            let repository = Repository::new(host.clone(), reference.repository());
            let result = match try_push(&repository).await {
                Ok(()) => preflight::foresee(&repository).await.map(|notes| unknown = notes),
                Err(error) => Err(error),
            };
            let result = dated(&host, repository.access.clone(), found.as_ref(), result).await;
            permission = Some(Permission::of(result, "an upload was begun and cancelled"));
        }
        let challenge = words(&host);
        Ok(AccessReport { endpoint, sources, credential, user, challenge, pull, push: permission, unknown })
    }
}

async fn try_pull(host: &Host, reference: &Reference) -> Result<()> {
    let access = Access::pull(reference.repository());
    // Without accepting what is there, a registry may say 404 for an image of another format; that is no refusal.
    let make = |endpoint: &crate::endpoint::Endpoint| {
        let url = endpoint.manifest(reference.repository(), reference.selector());
        Call::new(&access, Method::HEAD, url, &[200, 301, 302, 303, 307, 308, 404])
            .with_header(reqwest::header::ACCEPT, accept())
    };
    host.request(host.attempts(), make).await.map(|_| ())
}

async fn try_push(repository: &Repository) -> Result<()> {
    repository.host.attempts().run(|| repository.begin_upload()).await?;
    repository.leave(Abort::Failed).await;
    Ok(())
}

/// Says of a refusal that the credential has died, where it has.
async fn dated(host: &Host, access: Access, found: Option<&Found>, result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Denied { host: registry, action, repository, status, detail, mut tried }) => {
            if let Some(found) = found
                && let Some(died) = expiry::died(host, &access, found).await
            {
                tried = format!("{}; {died}", found.origin);
            }
            Err(Error::Denied { host: registry, action, repository, status, detail, tried })
        }
        result => result,
    }
}

fn accept() -> reqwest::header::HeaderValue {
    let types = format!(
        "{}, {}, application/vnd.docker.distribution.manifest.v2+json, \
         application/vnd.docker.distribution.manifest.list.v2+json",
        MediaType::ImageManifest,
        MediaType::ImageIndex
    );
    // Media types are always valid in a header.
    types.parse().unwrap_or(reqwest::header::HeaderValue::from_static("*/*"))
}

fn words(host: &Host) -> String {
    match host.challenge() {
        None => "nothing: anybody may come in".to_owned(),
        Some(Challenge::Basic) => "Basic: user name and password with each request".to_owned(),
        Some(Challenge::Bearer { realm, service }) => {
            // A realm with a user or a query may hold what is not for everybody.
            let realm = url::Url::parse(&realm).map_or(realm, |url| crate::endpoint::shown(&url));
            let service = service.map(|service| format!(", service {service}")).unwrap_or_default();
            host.veil().cover(&format!("Bearer: a token of {realm}{service}"))
        }
    }
}

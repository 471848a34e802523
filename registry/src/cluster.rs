//! The cluster's API, asked from a pod about what its registry does not tell before all bytes are sent: whether the
//! project is there, and whether the token may make an ImageStream in it.
//!
//! Only the ServiceAccount's own token goes there, and only to the address that the pod's environment names for
//! `kubernetes.default.svc`, over TLS that the authority beside the token vouches for, whatever `--tls-verify` says. An
//! API that does not answer, or does not say, leaves the question open: it is never a reason to fail.

use std::path::PathBuf;
use std::time::Duration;

use crossdock_storage::from_json;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::credentials::{Credential, Found};
use crate::host::Host;
use crate::tls::{CertFile, TlsPlan, Trusted};

/// An API in trouble is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers of more bytes are no reviews.
const MAX_ANSWER: usize = 1 << 20;

/// The API of the cluster that this is a pod of.
pub(crate) struct Cluster {
    client: reqwest::Client,
    api: Url,
    authorization: HeaderValue,
}

impl Cluster {
    /// The cluster of the credential, where that is the token of this pod's ServiceAccount.
    pub(crate) fn of(host: &Host, found: &Found) -> Option<Self> {
        let account = host.shared().credentials.service_account();
        let api = account.api.as_ref()?;
        let token = account.own_token()?;
        let Credential::Basic { password, .. } = &found.credential else { return None };
        if password.expose() != token.expose() {
            return None;
        }
        let authority: PathBuf = account.dir.join("ca.crt");
        if !authority.is_file() {
            return None;
        }
        let plan = TlsPlan {
            verify: true,
            system: &Trusted::default(),
            directory: None,
            authorities: vec![CertFile { path: authority, named: account.named }],
            identity: false,
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(plan.client_config().ok()?)
            .https_only(true)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .user_agent(&host.shared().options.user_agent)
            .build()
            .ok()?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
        authorization.set_sensitive(true);
        Some(Self { client, api: Url::parse(&format!("https://{api}/")).ok()?, authorization })
    }

    /// Whether a project is there; `None` where the token may not know. Where it may not look into a project, the API
    /// refuses it for one that is not there as well.
    pub(crate) async fn has_project(&self, project: &str) -> Option<bool> {
        let url = self.api.join(&format!("api/v1/namespaces/{project}")).ok()?;
        match self.ask(self.client.get(url)).await?.status() {
            StatusCode::OK => Some(true),
            StatusCode::NOT_FOUND => Some(false),
            _ => None,
        }
    }

    /// Whether the token may make ImageStreams in a project: a review of one's own rights, which everybody may ask for.
    pub(crate) async fn may_make_streams(&self, project: &str) -> Option<bool> {
        #[derive(Deserialize)]
        struct Review {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            #[serde(default)]
            allowed: bool,
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "namespace": project,
                "verb": "create",
                "group": "image.openshift.io",
                "resource": "imagestreams",
            }},
        });
        let url = self.api.join("apis/authorization.k8s.io/v1/selfsubjectaccessreviews").ok()?;
        let mut answer = self.ask(self.client.post(url).json(&review)).await?;
        if answer.status() != StatusCode::CREATED {
            return None;
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.ok()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return None;
            }
        }
        let review: Review = from_json(&bytes).ok()?;
        Some(review.status.allowed)
    }

    async fn ask(&self, request: RequestBuilder) -> Option<reqwest::Response> {
        match request.header(AUTHORIZATION, self.authorization.clone()).send().await {
            Ok(answer) => {
                tracing::debug!(url = %answer.url(), status = answer.status().as_u16(), "the cluster's API answered");
                Some(answer)
            }
            Err(error) => {
                tracing::debug!(%error, "the cluster's API cannot be asked");
                None
            }
        }
    }
}

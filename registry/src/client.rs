//! `Registry`: the way to all registries; keeps what is shared between repositories and images.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crossdock_storage::{Checkpoints, Counters};
use url::Url;

use crate::conf::{Place, RegistriesConf};
use crate::credentials::{CredentialOptions, Credentials};
use crate::error::{Error, Result};
use crate::host::{Host, Manner, authority};
use crate::mirrors::MirroredSource;
use crate::profile::UploadStyle;
use crate::proxy::{NotAProxy, Proxies};
use crate::pull::RegistrySource;
use crate::push::RegistrySink;
use crate::reference::Reference;
use crate::retry::RetryPolicy;
use crate::secret::Secret;
use crate::tls::{CertDir, CertFile, TlsPlan, TrustOptions, Trusted};
use crate::veil::Veil;

/// How to speak to registries.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Whether certificates are verified. Where they are not, a registry that does not speak TLS is spoken to in
    /// plain http.
    pub tls_verify: bool,
    /// A directory of `*.crt` to trust and a client's `NAME.cert` and `NAME.key` (containers-certs.d(5)).
    pub cert_dir: Option<PathBuf>,
    /// Mirrors, locations, blocked and insecure registries, short names. Its `insecure` adds to `tls_verify: false`.
    pub conf: RegistriesConf,
    /// Whom to trust besides.
    pub trust: TrustOptions,
    /// Who to be.
    pub credentials: CredentialOptions,
    /// How failed requests are tried again.
    pub retry: RetryPolicy,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How blobs are sent; `None` for the way that the registry is known to take.
    pub upload: Option<UploadStyle>,
    /// Where uploads on their way and blobs of earlier pushes are noted; without it, nothing is.
    pub root: Option<PathBuf>,
    /// How often is looked whether it is time to note how far an upload is.
    pub journal_every: Duration,
    /// Bytes between two states of a layer's hash that are kept to go on from, and the least between two notes of a layer:
    /// they lie further apart where that is less than a 64th of all new layers. At least 1.
    pub checkpoint_step: u64,
    /// After so long a push, the registry is asked again for each blob before the manifest goes up: some collect blobs
    /// that no manifest names (Quay after an hour).
    pub ask_again_after: Duration,
    /// Proxies, as the environment names them.
    pub proxy: ProxyOptions,
    /// The `User-Agent` of all requests.
    pub user_agent: String,
    /// Where the bytes of bodies are counted.
    pub counters: Arc<Counters>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            tls_verify: true,
            cert_dir: None,
            conf: RegistriesConf::default(),
            trust: TrustOptions::default(),
            credentials: CredentialOptions::default(),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            upload: None,
            root: None,
            journal_every: Duration::from_secs(2),
            checkpoint_step: Checkpoints::STEP,
            ask_again_after: Duration::from_secs(30 * 60),
            proxy: ProxyOptions::default(),
            user_agent: concat!("crossdock/", env!("CARGO_PKG_VERSION")).to_owned(),
            counters: Arc::default(),
        }
    }
}

/// How long to wait for what. There is no limit on a request as a whole: a body may take hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For a server to speak TLS before plain http is tried beside it, where certificates are not verified.
    pub hello: Duration,
    /// For the next bytes to go or come, or an answer to begin.
    pub stall: Duration,
    /// For the answer to a blob's last request: a registry on object storage copies and hashes the blob before it.
    pub commit: Duration,
}

impl Default for Timeouts {
    /// 30 s, 5 s, 5 min and 15 min.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            hello: Duration::from_secs(5),
            stall: Duration::from_secs(300),
            commit: Duration::from_secs(900),
        }
    }
}

/// Proxies. URLs of proxies may hold passwords, and so are secrets.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// For http URLs: `http_proxy`.
    pub http: Option<Secret>,
    /// For https URLs: `https_proxy`.
    pub https: Option<Secret>,
    /// What is reached without a proxy: `no_proxy`, comma-separated hosts, domains and networks, by Go's rules.
    pub no_proxy: Option<String>,
}

/// The way to all registries. Cheap to clone; clones share connections, tokens and what was learnt of the hosts.
#[derive(Clone)]
pub struct Registry {
    pub(crate) shared: Arc<Shared>,
}

/// What all hosts share.
pub(crate) struct Shared {
    pub(crate) options: RegistryOptions,
    pub(crate) credentials: Credentials,
    /// Without those given explicitly: they are for the registry that was named, and not for its mirrors.
    pub(crate) credentials_elsewhere: Credentials,
    /// What must not be shown of what servers say.
    pub(crate) veil: Veil,
    trusted: OnceLock<Trusted>,
    pub(crate) proxies: Proxies,
    /// By host and port, whether the host is a registry (to which we may identify ourselves), and whether its
    /// certificate is verified.
    clients: Mutex<HashMap<(String, bool, bool), reqwest::Client>>,
    hosts: Mutex<HashMap<(String, Manner), Arc<Host>>>,
    /// Registries that speak plain http, as was found out where certificates are not verified.
    pub(crate) plain: Mutex<HashSet<String>>,
}

impl Registry {
    /// Makes ready; nothing is read or connected yet.
    #[must_use]
    pub fn new(options: RegistryOptions) -> Self {
        let credentials = Credentials::new(options.credentials.clone());
        let credentials_elsewhere =
            Credentials::new(CredentialOptions { explicit: None, ..options.credentials.clone() });
        let veil = Veil::default();
        let proxies = Proxies::new(&options.proxy);
        proxies.hide(&veil);
        Self {
            shared: Arc::new(Shared {
                options,
                credentials,
                credentials_elsewhere,
                veil,
                trusted: OnceLock::new(),
                proxies,
                clients: Mutex::default(),
                hosts: Mutex::default(),
                plain: Mutex::default(),
            }),
        }
    }

    /// The image `reference` as a source, from the very registry that it names.
    #[must_use]
    pub fn source(&self, reference: &Reference) -> RegistrySource {
        RegistrySource::new(self.host(reference.registry(), Manner::default()), reference.clone())
    }

    /// The image that `name` stands for as a source, from where the registries.conf has it: short names are resolved,
    /// mirrors tried in order.
    ///
    /// # Errors
    /// [`Error::Reference`], [`Error::ShortName`], [`Error::Blocked`] and [`Error::Conf`], by what is wrong with the name.
    pub fn image(&self, name: &str) -> Result<MirroredSource> {
        let mut sources = Vec::new();
        let mut blocked = None;
        for reference in self.shared.options.conf.names(name)? {
            match self.shared.options.conf.places(&reference) {
                Ok(places) => {
                    let name = reference.name_in_full();
                    sources.extend(places.iter().map(|place| (name.clone(), self.at(place))));
                }
                Err(error @ Error::Blocked { .. }) => blocked = Some(error),
                Err(error) => return Err(error),
            }
        }
        match blocked {
            Some(error) if sources.is_empty() => Err(error),
            _ => Ok(MirroredSource::new(name.to_owned(), sources)),
        }
    }

    fn at(&self, place: &Place) -> RegistrySource {
        let manner = Manner { insecure: place.insecure, elsewhere: place.elsewhere };
        RegistrySource::new(self.host(place.reference.registry(), manner), place.reference.clone())
    }

    /// A sink that pushes to one repository and moves all the tags that `references` name.
    ///
    /// # Errors
    /// [`Error::Destination`] where there is no reference, one has a digest, or they name several repositories;
    /// [`Error::Blocked`].
    pub fn sink(&self, references: &[Reference]) -> Result<RegistrySink> {
        let refuse = |destination: String, reason: &str| {
            Err(Error::Destination { destination, reason: reason.to_owned() })
        };
        let Some(first) = references.first() else {
            return refuse("nowhere".to_owned(), "no destination was given");
        };
        for reference in references {
            if reference.digest().is_some() {
                return refuse(reference.to_string(), "a destination has a tag and not a digest");
            }
            if reference.repository_name() != first.repository_name() {
                return refuse(
                    reference.to_string(),
                    &format!("it is another repository than that of {first}"),
                );
            }
        }
        let mut manner = Manner::default();
        for reference in references {
            manner.insecure |= self.shared.options.conf.push(reference)?;
        }
        Ok(RegistrySink::new(self.host(first.registry(), manner), references.to_vec()))
    }

    /// The host of an image that is named, without mirrors: `insecure` and `blocked` of registries.conf hold for it.
    ///
    /// # Errors
    /// [`Error::Blocked`].
    pub(crate) fn named_host(&self, reference: &Reference) -> Result<Arc<Host>> {
        let insecure = self.shared.options.conf.push(reference)?;
        Ok(self.host(reference.registry(), Manner { insecure, ..Manner::default() }))
    }

    pub(crate) fn host(&self, registry: &str, manner: Manner) -> Arc<Host> {
        let mut hosts = lock(&self.shared.hosts);
        let host = hosts
            .entry((registry.to_owned(), manner))
            .or_insert_with(|| Arc::new(Host::new(registry.to_owned(), manner, Arc::clone(&self.shared))));
        Arc::clone(host)
    }
}

impl Shared {
    /// The HTTP client for a host and port. Only a registry is told who we are by a certificate, and only an
    /// in-cluster host is trusted by the authorities of the ServiceAccount.
    pub(crate) fn client(&self, authority: &str, registry: bool, verify: bool) -> Result<reqwest::Client> {
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(&(authority.to_owned(), registry, verify)) {
            return Ok(client.clone());
        }
        let options = &self.options;
        let service_account = self.credentials.service_account();
        let authorities = if service_account.is_for(authority) {
            let named = service_account.named;
            service_account.authorities().map(|path| CertFile { path, named }).to_vec()
        } else {
            Vec::new()
        };
        let found = if options.cert_dir.is_none() { options.trust.directory_of(authority) } else { None };
        let directory = match (&options.cert_dir, &found) {
            (Some(path), _) => Some(CertDir { path, named: true }),
            (None, Some(path)) => Some(CertDir { path, named: false }),
            (None, None) => None,
        };
        let trusted = match self.trusted.get() {
            Some(trusted) => trusted,
            None => {
                let read = options.trust.trusted_by_all()?;
                self.trusted.get_or_init(|| read)
            }
        };
        let plan = TlsPlan { verify, system: trusted, directory, authorities, identity: registry };
        let setup =
            |source: reqwest::Error| Error::Setup { host: authority.to_owned(), source: source.into() };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(plan.client_config()?)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            // Not the client's 30 s: a registry that takes nothing for a while, being busy with its storage, is waited for.
            .tcp_user_timeout(options.timeouts.stall)
            // Shorter than the servers keep them: who sends into a connection that is just being closed has lost.
            .pool_idle_timeout(Duration::from_secs(30))
            .connect_timeout(options.timeouts.connect)
            .user_agent(&options.user_agent);
        // A client is for one host and port: whether a proxy is between is decided here, and not by reqwest's rules.
        // Not the error of reqwest: it cites the URL, and with it the password.
        let unusable = |NotAProxy(variable)| Error::Setup {
            host: authority.to_owned(),
            source: format!("the value of {variable} is not the URL of a proxy").into(),
        };
        if let Some(url) = self.proxies.before(authority, false).map_err(unusable)? {
            let proxy = reqwest::Proxy::http(url).map_err(|_| unusable(NotAProxy("http_proxy")))?;
            builder = builder.proxy(proxy);
        }
        if let Some(url) = self.proxies.before(authority, true).map_err(unusable)? {
            let proxy = reqwest::Proxy::https(url).map_err(|_| unusable(NotAProxy("https_proxy")))?;
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(setup)?;
        clients.insert((authority.to_owned(), registry, verify), client.clone());
        Ok(client)
    }

    /// Sorts an error of the HTTP client on its way to a URL; `what` names the request.
    pub(crate) async fn failed(&self, error: reqwest::Error, url: &Url, what: &str) -> Error {
        let host = authority(url);
        let error = Error::of_client(error, &host, what);
        self.proxies.named_in(error, &host, url.scheme() == "https", &self.veil).await
    }
}

/// Locks, whatever happened to who held it before: all that is locked here is whole at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Registry>();
};

//! OpenShift's internal registry as it behaves on the wire: its challenges, its token server and its refusals, in front
//! of a real registry.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use crossdock_registry::{
    AccessReport, Error as RegistryError, Permission, Registry, RegistryOptions, Secret,
};
use crossdock_storage::{Error, ImageSink as _};

use crate::docker_registry::DockerRegistry;
use crate::fault_proxy::{Fault, FaultProxy, Seen};
use crate::harness::{Files, chain, options, push, reference, sink, with_password};
use crate::https::Front;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    Push,
    Pull,
    /// Blobs may be pushed, and no ImageStream made.
    Update,
}

/// Something that happens to the tokens.
type Happening = Box<dyn FnOnce(&mut HashMap<String, Rights>) + Send>;

#[derive(Default)]
struct Cluster {
    realm: String,
    tokens: HashMap<String, Rights>,
    /// So many requests to the token server, and to the registry, find the API server in trouble.
    token_trouble: usize,
    registry_trouble: usize,
    /// Requests to the registry that carried an authorization.
    requests: usize,
    /// At the so-manieth of them, this happens.
    at: Option<(usize, Happening)>,
}

/// A registry behind OpenShift's door.
struct OpenShift {
    registry: DockerRegistry,
    proxy: FaultProxy,
    cluster: Arc<Mutex<Cluster>>,
}

impl OpenShift {
    fn start() -> Self {
        let registry = DockerRegistry::start();
        let cluster = Arc::new(Mutex::new(Cluster::default()));
        let shared = Arc::clone(&cluster);
        let proxy =
            FaultProxy::start(registry.addr()).with_gate(move |seen| shared.lock().unwrap().answer(seen));
        cluster.lock().unwrap().realm = format!("http://{}/openshift/token", proxy.addr());
        Self { registry, proxy, cluster }
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    fn allow(&self, token: &str, rights: Rights) {
        self.cluster().tokens.insert(token.to_owned(), rights);
    }

    /// A ServiceAccount's directory whose token goes to this registry.
    fn service_account(&self, files: &Files, token: &str) -> RegistryOptions {
        fs::write(files.path("token"), token).unwrap();
        let mut options = options();
        options.credentials.service_account.dir = files.path("");
        options.credentials.service_account.registries = vec![self.proxy.addr().to_string()];
        options
    }
}

impl Cluster {
    fn answer(&mut self, seen: &Seen) -> Option<Fault> {
        let plain = |status, body: &str| Fault::Answer { status, headers: Vec::new(), body: body.to_owned() };
        let challenge = |text: String| Fault::Answer {
            status: 401,
            headers: vec![("www-authenticate".to_owned(), text)],
            body: r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}"#
                .to_owned(),
        };
        let denied = || challenge("Basic realm=openshift,error=\"access denied\"".to_owned());
        let authorization = seen.header("authorization");
        let password = authorization.and_then(|text| text.strip_prefix("Basic ")).and_then(|text| {
            let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
            Some(text.split_once(':')?.1.to_owned())
        });
        if seen.path.starts_with("/openshift/token") {
            if seen.method != "GET" {
                return Some(plain(405, ""));
            }
            if self.token_trouble > 0 {
                self.token_trouble -= 1;
                return Some(plain(
                    401,
                    r#"{"details":"the server was unable to return a response in time"}"#,
                ));
            }
            let token = match (authorization, password) {
                (None, _) => "anonymous".to_owned(),
                (_, Some(password)) if self.tokens.contains_key(&password) => password,
                _ => return Some(plain(401, "")),
            };
            return Some(plain(200, &format!(r#"{{"token":"{token}","access_token":"{token}"}}"#)));
        }
        let bearer = authorization.and_then(|text| text.strip_prefix("Bearer ")).map(str::to_owned);
        let Some(token) = bearer.or(password) else {
            return Some(challenge(format!("Bearer realm=\"{}\"", self.realm)));
        };
        self.requests += 1;
        if self.at.as_ref().is_some_and(|(number, _)| *number == self.requests)
            && let Some((_, happen)) = self.at.take()
        {
            happen(&mut self.tokens);
        }
        if self.registry_trouble > 0 {
            self.registry_trouble -= 1;
            return Some(plain(400, ""));
        }
        let Some(rights) = self.tokens.get(&token).copied() else { return Some(denied()) };
        let path = seen.path.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/v2/").filter(|path| !path.is_empty())?;
        let repository = path.split("/blobs/").next().unwrap_or_default();
        let repository = repository.split("/manifests/").next().unwrap_or_default();
        let repository = repository.strip_suffix("/tags/list").unwrap_or(repository);
        if repository.split('/').count() != 2 {
            return Some(plain(400, ""));
        }
        match (rights, seen.method.as_str()) {
            (Rights::Pull, "POST" | "PATCH" | "PUT" | "DELETE") => Some(denied()),
            (Rights::Update, "PUT") if path.contains("/manifests/") => {
                Some(plain(403, r#"{"errors":[{"code":"DENIED","message":"requested access denied"}]}"#))
            }
            _ => None,
        }
    }
}

/// A ServiceAccount's token; the number makes it another one.
fn token(namespace: &str, number: usize) -> String {
    let payload = format!(r#"{{"sub":"system:serviceaccount:{namespace}:pipeline","exp":{number}}}"#);
    format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload))
}

fn is_credentials(error: &Error) -> bool {
    let Error::Backend(inner) = error else { return false };
    inner.downcast_ref::<RegistryError>().is_some_and(RegistryError::is_credentials)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_account_pushes() {
    let openshift = OpenShift::start();
    let files = Files::new();
    let options = openshift.service_account(&files, &token("team", 1));
    openshift.allow(&token("team", 1), Rights::Push);
    let to = reference(openshift.proxy.addr(), "team/m:1");
    push(&sink(options, &to), &[files.layer("a", 3 << 20, 1), files.layer("b", 10, 2)]).await.unwrap();
    assert!(openshift.registry.tag("team/m", "1").is_some());
    assert_eq!(openshift.proxy.count("POST", "/openshift/token"), 0);
    assert_eq!(openshift.registry.open_uploads("team/m"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_given_as_password_pushes_whatever_the_user_name() {
    let openshift = OpenShift::start();
    let files = Files::new();
    openshift.allow("sha256~api-token", Rights::Push);
    let to = reference(openshift.proxy.addr(), "team/m:1");
    push(&sink(with_password("<token>", "sha256~api-token"), &to), &[files.layer("a", 10, 1)]).await.unwrap();
    assert!(openshift.registry.tag("team/m", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projected_token_may_be_replaced_at_any_request() {
    let openshift = OpenShift::start();
    let mut number = 0;
    loop {
        number += 1;
        let files = Files::new();
        let options = openshift.service_account(&files, &token("team", 2 * number));
        let (old, new) = (token("team", 2 * number), token("team", 2 * number + 1));
        openshift.allow(&old, Rights::Push);
        let path = files.path("token");
        openshift.cluster().requests = 0;
        // What the kubelet does; the old token is refused from now on.
        openshift.cluster().at = Some((
            number,
            Box::new(move |tokens| {
                fs::write(path, &new).unwrap();
                tokens.remove(&old);
                tokens.insert(new, Rights::Push);
            }),
        ));
        let to = reference(openshift.proxy.addr(), &format!("team/m:{number}"));
        let layers = [files.layer("a", 1 << 20, number as u64), files.layer("b", 10, 1000 + number as u64)];
        let result = push(&sink(options, &to), &layers).await;
        assert!(result.is_ok(), "request {number}: {:?}", result.map_err(|error| chain(&error)));
        assert!(openshift.registry.tag("team/m", &number.to_string()).is_some());
        if openshift.cluster().at.is_some() {
            break;
        }
    }
    assert!(number > 10, "{number}");
    assert_eq!(openshift.registry.open_uploads("team/m"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_ends_before_any_layer_byte_and_names_the_role() {
    for (namespace, who) in [("team", "-z pipeline"), ("ci", "system:serviceaccount:ci:pipeline")] {
        let openshift = OpenShift::start();
        let files = Files::new();
        let options = openshift.service_account(&files, &token(namespace, 1));
        openshift.allow(&token(namespace, 1), Rights::Pull);
        let to = reference(openshift.proxy.addr(), "team/m:1");
        let sink = sink(options, &to);
        let error = sink.admit().await.unwrap_err();
        let text = chain(&error);
        let command = format!("`oc policy add-role-to-user system:image-builder {who} -n team`");
        assert!(text.contains("refused the push to team/m: 401") && text.contains(&command), "{text}");
        assert!(is_credentials(&error));
        assert!(text.contains(&files.path("token").display().to_string()), "{text}");
        assert!(is_credentials(&push(&sink, &[files.layer("a", 10, 1)]).await.unwrap_err()));
        assert_eq!(openshift.proxy.count("PATCH", ""), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_told_from_a_missing_right() {
    let openshift = OpenShift::start();
    let files = Files::new();
    let options = openshift.service_account(&files, &token("team", 1));
    let to = reference(openshift.proxy.addr(), "team/m:1");
    let error = push(&sink(options, &to), &[files.layer("a", 10, 1)]).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains("it has expired") && !text.contains("add-role"), "{text}");
    assert!(is_credentials(&error));
}

/// The account has all its rights: only its token is of no use any more, wherever in the push that happens.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_dies_under_a_push_is_said_to_have_been_taken_before() {
    let (past, future) = (784_111_777, 4_102_444_800);
    for expiry in [past, future] {
        let mut number = 0;
        loop {
            number += 1;
            let openshift = OpenShift::start();
            let files = Files::new();
            let dying = token("team", expiry);
            let options = openshift.service_account(&files, &dying);
            openshift.allow(&dying, Rights::Push);
            let gone = dying.clone();
            openshift.cluster().at = Some((
                number,
                Box::new(move |tokens| {
                    tokens.remove(&gone);
                }),
            ));
            let to = reference(openshift.proxy.addr(), "team/m:1");
            let result = push(&sink(options, &to), &[files.layer("a", 1 << 20, 1)]).await;
            if openshift.cluster().at.is_some() {
                result.unwrap();
                break;
            }
            let Err(error) = result else { panic!("request {number} went through") };
            let text = chain(&error);
            assert!(is_credentials(&error), "request {number}: {text}");
            assert!(!text.contains("add-role") && !text.contains(&dying), "request {number}: {text}");
            assert!(text.contains("has expired"), "request {number}: {text}");
            assert_eq!(text.contains("1994-11-06 08:49:37 UTC"), expiry == past, "request {number}: {text}");
            // Before the registry, its token server took it.
            assert!(text.contains("it was taken until 2"), "request {number}: {text}");
        }
        assert!(number > 8, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_says_of_a_dead_token_when_it_expired() {
    for (expiry, dated) in [(784_111_777, true), (4_102_444_800, false)] {
        let openshift = OpenShift::start();
        let files = Files::new();
        let options = openshift.service_account(&files, &token("team", expiry));
        let to = reference(openshift.proxy.addr(), "team/m:1");
        let report = Registry::new(options).explain(&to, true).await.unwrap();
        for permission in [report.pull, report.push.unwrap()] {
            let Permission::Refused(error) = permission else { panic!("{permission:?}") };
            let text = chain(&error);
            let says = "the token says that it expired at 1994-11-06 08:49:37 UTC";
            assert_eq!(text.contains(says), dated, "{text}");
            assert!(!text.contains(&token("team", expiry)), "{text}");
        }
    }
}

/// The same of a registry that is not OpenShift's, whose password is withdrawn.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_withdrawn_under_a_push_is_told_from_a_missing_right() {
    let registry = DockerRegistry::start();
    let (refusing, shared) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let refused = Arc::clone(&refusing);
    let proxy = FaultProxy::start(registry.addr()).with_gate(move |seen| {
        let headers = vec![("www-authenticate".to_owned(), "Basic realm=\"test\"".to_owned())];
        let denied = Some(Fault::Answer { status: 401, headers, body: String::new() });
        if seen.header("authorization").is_none() {
            return denied;
        }
        if seen.method == "PATCH" {
            *shared.lock().unwrap() += 1;
        }
        let refused: &Vec<&str> = &refused.lock().unwrap();
        let dead = *shared.lock().unwrap() > 0;
        (dead && refused.iter().any(|part| seen.path.ends_with(part) || part.is_empty())).then_some(denied)?
    });
    let files = Files::new();
    let to = reference(proxy.addr(), "m:1");
    // Everything is refused, the root as well; then the root goes on taking the password.
    for (parts, dead) in [(vec![""], true), (vec!["manifests/1"], false)] {
        *refusing.lock().unwrap() = parts;
        let sink = sink(with_password("user", "secret"), &to);
        let text = chain(&push(&sink, &[files.layer("a", 1 << 20, u64::from(dead))]).await.unwrap_err());
        assert_eq!(text.contains("it was taken until 2"), dead, "{text}");
        assert_eq!(text.contains("has expired, or was withdrawn"), dead, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_nobody_is_told_what_to_pass() {
    let openshift = OpenShift::start();
    let files = Files::new();
    let to = reference(openshift.proxy.addr(), "team/m:1");
    let mut options = options();
    options.credentials.service_account.dir = files.path("");
    let error = sink(options.clone(), &to).admit().await.unwrap_err();
    let text = chain(&error);
    assert!(is_credentials(&error), "{text}");
    assert!(text.contains("--creds") && text.contains("--sa-dir"), "{text}");
    // A token that is there, and not for this host as far as anybody said.
    fs::write(files.path("token"), token("team", 1)).unwrap();
    let text = chain(&sink(options, &to).admit().await.unwrap_err());
    assert!(text.contains(&format!("--sa-registry {}", openshift.proxy.addr())), "{text}");
    assert!(openshift.proxy.seen().iter().all(|seen| {
        seen.header("authorization").is_none_or(|authorization| authorization == "Bearer anonymous")
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_is_not_tried_again() {
    let openshift = OpenShift::start();
    let files = Files::new();
    let options = openshift.service_account(&files, &token("team", 1));
    openshift.allow(&token("team", 1), Rights::Push);
    for name in ["m:1", "a/b/m:1"] {
        let before = openshift.proxy.count("POST", "/v2/");
        let to = reference(openshift.proxy.addr(), name);
        let error = push(&sink(options.clone(), &to), &[files.layer("a", 10, 1)]).await.unwrap_err();
        let text = chain(&error);
        assert!(text.contains("PROJECT/NAME") && text.contains("400"), "{text}");
        assert_eq!(openshift.proxy.count("POST", "/v2/"), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_the_api_server_passes() {
    let openshift = OpenShift::start();
    let files = Files::new();
    let options = openshift.service_account(&files, &token("team", 1));
    openshift.allow(&token("team", 1), Rights::Push);
    openshift.cluster().token_trouble = 2;
    openshift.cluster().registry_trouble = 1;
    let to = reference(openshift.proxy.addr(), "team/m:1");
    push(&sink(options, &to), &[files.layer("a", 10, 1)]).await.unwrap();
    assert!(openshift.registry.tag("team/m", "1").is_some());
}

/// The cluster's API, for what it says of a project and of the right to make an ImageStream there; `None` for what it
/// refuses to say. Its authority lies beside the token.
fn api(files: &Files, has_project: Option<bool>, may_make_streams: Option<bool>) -> Front {
    let front = Front::start(move |request| {
        let answer = match (request.split(' ').nth(1), has_project, may_make_streams) {
            (Some("/api/v1/namespaces/team"), Some(true), _) => "200 OK\r\n\r\n{}",
            (Some("/api/v1/namespaces/team"), Some(false), _) => "404 Not Found\r\n\r\n{}",
            (Some("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"), _, Some(allowed)) => {
                return format!("201 Created\r\n\r\n{{\"status\":{{\"allowed\":{allowed}}}}}");
            }
            _ => "403 Forbidden\r\n\r\n{}",
        };
        answer.to_owned()
    });
    fs::copy(front.files.path("certs/ca.crt"), files.path("ca.crt")).unwrap();
    front
}

fn unknown_of(report: &AccessReport) -> String {
    report.unknown.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upload_does_not_tell_is_asked_of_the_clusters_api() {
    for (has_project, may_make_streams, rights, refusal) in [
        (Some(true), Some(true), Rights::Push, None),
        (None, Some(true), Rights::Push, None),
        (
            Some(false),
            Some(true),
            Rights::Update,
            Some("there is no project team; make it with `oc new-project team`"),
        ),
        (None, Some(false), Rights::Update, Some("oc create imagestream m -n team")),
    ] {
        let (openshift, files) = (OpenShift::start(), Files::new());
        let mut options = openshift.service_account(&files, &token("team", 1));
        openshift.allow(&token("team", 1), rights);
        let api = api(&files, has_project, may_make_streams);
        options.credentials.service_account.api = Some(api.addr.to_string());
        let to = reference(openshift.proxy.addr(), "team/m:1");
        let admitted = sink(options.clone(), &to).admit().await;
        let report = Registry::new(options).explain(&to, true).await.unwrap();
        assert!(unknown_of(&report).contains("quota") == refusal.is_none(), "{report:?}");
        assert!(!unknown_of(&report).contains("create"), "{report:?}");
        match (refusal, admitted, report.push) {
            (None, Ok(()), Some(Permission::Allowed(_))) => {}
            (Some(part), Err(error), Some(Permission::Refused(explained))) => {
                for text in [chain(&error), chain(&explained)] {
                    assert!(text.contains(part) && text.contains("/team/m"), "{text}");
                }
                assert_eq!(is_credentials(&error), may_make_streams == Some(false), "{error:?}");
            }
            other => panic!("{has_project:?} {may_make_streams:?}: {other:?}"),
        }
        let seen = api.seen.lock().unwrap();
        let review = seen.iter().find(|request| request.starts_with("POST")).unwrap();
        assert!(
            review.contains(r#""resource":"imagestreams""#) && review.contains(r#""verb":"create""#),
            "{review}"
        );
        assert_eq!(openshift.proxy.count("PATCH", ""), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_there_needs_no_right_to_be_made() {
    let (openshift, files) = (OpenShift::start(), Files::new());
    let mut options = openshift.service_account(&files, &token("team", 1));
    openshift.allow(&token("team", 1), Rights::Push);
    let to = reference(openshift.proxy.addr(), "team/m:1");
    push(&sink(options.clone(), &to), &[files.layer("a", 10, 1)]).await.unwrap();
    let api = api(&files, None, Some(false));
    options.credentials.service_account.api = Some(api.addr.to_string());
    sink(options, &to).admit().await.unwrap();
    assert!(api.seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_be_asked_is_told_to_be_unknown() {
    let (openshift, files) = (OpenShift::start(), Files::new());
    openshift.allow(&token("team", 1), Rights::Push);
    let to = reference(openshift.proxy.addr(), "team/m:1");
    // No cluster, one that does not say, and one that does not answer.
    let silent = api(&files, None, None);
    for api in [None, Some(silent.addr.to_string()), Some("127.0.0.1:1".to_owned())] {
        let mut options = openshift.service_account(&files, &token("team", 1));
        options.credentials.service_account.api = api;
        sink(options.clone(), &to).admit().await.unwrap();
        let report = Registry::new(options).explain(&to, true).await.unwrap();
        for part in ["the right `create` on imagestreams", "whether the project team is there", "LimitRange"]
        {
            assert!(unknown_of(&report).contains(part), "{part}: {report:?}");
        }
    }
    // Other registries.
    let registry = DockerRegistry::start();
    let to = reference(registry.addr(), "team/m:1");
    let report = Registry::new(options()).explain(&to, true).await.unwrap();
    assert!(unknown_of(&report).contains("quota") && report.unknown.len() == 1, "{report:?}");
    assert!(Registry::new(options()).explain(&to, false).await.unwrap().unknown.is_empty());
}

/// Another credential than the ServiceAccount's stays away from the API, and so does the token from an API that its own
/// authority does not vouch for.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_service_accounts_token_goes_to_the_api_and_only_to_a_trusted_one() {
    let (openshift, files) = (OpenShift::start(), Files::new());
    openshift.allow("sha256~other", Rights::Push);
    openshift.allow(&token("team", 1), Rights::Push);
    let to = reference(openshift.proxy.addr(), "team/m:1");
    let front = api(&files, Some(true), Some(true));
    let mut account = openshift.service_account(&files, &token("team", 1));
    account.credentials.service_account.api = Some(front.addr.to_string());

    let mut other = account.clone();
    other.credentials.explicit = Some(("x".to_owned(), Secret::new("sha256~other")));
    sink(other, &to).admit().await.unwrap();
    assert!(front.seen.lock().unwrap().is_empty());

    // The token is the ServiceAccount's, whichever way it came.
    let mut same = account.clone();
    same.credentials.explicit = Some(("x".to_owned(), Secret::new(token("team", 1))));
    sink(same, &to).admit().await.unwrap();
    assert_eq!(front.seen.lock().unwrap().len(), 2);

    // With certificates unverified otherwise, as in these options.
    let stranger = Front::start(|_| "200 OK\r\n".to_owned());
    account.credentials.service_account.api = Some(stranger.addr.to_string());
    assert!(!account.tls_verify);
    sink(account, &to).admit().await.unwrap();
    assert!(stranger.seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_manifest_names_project_quota_limits_and_role() {
    let openshift = OpenShift::start();
    let files = Files::new();
    let options = openshift.service_account(&files, &token("team", 1));
    openshift.allow(&token("team", 1), Rights::Update);
    let to = reference(openshift.proxy.addr(), "team/m:1");
    let error = push(&sink(options, &to), &[files.layer("a", 10, 1)]).await.unwrap_err();
    let text = chain(&error);
    for part in
        ["403", "oc get project team", "quota", "LimitRange", "oc create imagestream m", "image-builder"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(is_credentials(&error));
    assert!(openshift.registry.tag("team/m", "1").is_none());
}

/// What the API says leaves one reason of several.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_manifest_has_the_reason_that_is_left() {
    let (openshift, files) = (OpenShift::start(), Files::new());
    let mut options = openshift.service_account(&files, &token("team", 1));
    openshift.allow(&token("team", 1), Rights::Update);
    let api = api(&files, Some(true), Some(true));
    options.credentials.service_account.api = Some(api.addr.to_string());
    let to = reference(openshift.proxy.addr(), "team/m:1");
    let text = chain(&push(&sink(options, &to), &[files.layer("a", 10, 1)]).await.unwrap_err());
    assert!(text.contains("quota") && text.contains("LimitRange"), "{text}");
    assert!(!text.contains("create imagestream") && !text.contains("new-project"), "{text}");
}

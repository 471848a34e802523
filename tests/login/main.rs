//! `crossdock login`, `logout` and `auth` as a user sees them: against Debian's docker-registry with a password, and
//! against a token server that speaks OAuth2.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

#[path = "../../registry/tests/common/docker_registry.rs"]
mod docker_registry;
mod terminal;
mod token_server;
mod unprivileged;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docker_registry::{DockerRegistry, PASSWORD, Setup, USER};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use tempfile::TempDir;
use token_server::TokenServer;

/// No other text of these tests has it in it.
const HIDDEN: &str = "Hunter2-Zq9";

/// A home of its own, and an environment that knows nothing of this machine.
struct Home(TempDir);

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::write(home.path("registries.conf"), "").unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where podman and this program keep logins by default.
    fn auth_json(&self) -> PathBuf {
        self.path("run/containers/auth.json")
    }

    fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, "", &[])
    }

    /// With all that can be logged.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crossdock"));
        command
            .args(["--log-level", "trace", "--registries-conf-dir", "/nonexistent"])
            .args(["--short-name-alias-conf", "/nonexistent"])
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"));
        command
    }

    /// Whatever comes out must be free of secrets.
    fn run_with(&self, args: &[&str], stdin: &str, env: &[(&str, PathBuf)]) -> Run {
        let mut child = self
            .command(args)
            .envs(env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It need not read it.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let run =
            Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        let shown = format!("{}{}", run.stdout, run.stderr);
        let basic = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        for secret in [HIDDEN, basic.trim_end_matches('='), token_server::ACCESS_TOKEN] {
            assert!(!shown.contains(secret), "{shown}");
        }
        run
    }
}

impl Run {
    #[track_caller]
    fn succeeds(self, stdout: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(0), stdout), "{}", self.stderr);
    }

    #[track_caller]
    fn fails(self, code: i32, part: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(part), "{}", self.stderr);
    }
}

fn locked() -> DockerRegistry {
    DockerRegistry::start_with(&Setup { password: true, ..Setup::default() })
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn write(path: &Path, value: &Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_login_is_checked_then_kept_where_podman_keeps_it() {
    let (registry, home) = (locked(), Home::new());
    let host = registry.addr().to_string();
    let login = |more: &[&str], stdin: &str| {
        home.run_with(&[&["login", "--tls-verify=false"], more, &[&host]].concat(), stdin, &[])
    };
    login(&["-u", USER, "--password-stdin"], "wrong-password\n")
        .fails(6, &format!("logging into {host:?}: invalid username/password"));
    assert!(!home.auth_json().exists(), "nothing is kept of a login that is refused");
    home.run(&["login", "--get-login", &host]).fails(1, &format!("not logged into {host}"));

    login(&["-u", USER, "--password-stdin"], &format!("{PASSWORD}\n")).succeeds("Login Succeeded!\n");
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    assert_eq!(read(&home.auth_json()), json!({"auths": {&host: {"auth": auth}}}));
    assert_eq!(fs::metadata(home.auth_json()).unwrap().permissions().mode() & 0o777, 0o600);

    home.run(&["login", "--get-login", &host]).succeeds(&format!("{USER}\n"));
    login(&[], "").succeeds(&format!(
        "Authenticating with existing credentials for {host}\nExisting credentials are valid. Already logged in to \
         {host}\n"
    ));
    home.run(&["logout", &host]).succeeds(&format!("Removed login credentials for {host}\n"));
    assert_eq!(read(&home.auth_json()), json!({"auths": {}}));
    home.run(&["logout", &host]).fails(1, &format!("not logged into {host}"));
}

#[test]
fn what_else_is_in_the_file_stays() {
    let (registry, home) = (locked(), Home::new());
    let host = registry.addr().to_string();
    let file = home.path("own/auth.json");
    let other = json!({"auth": STANDARD.encode(format!("x:{HIDDEN}")), "email": "x@y"});
    write(&file, &json!({"auths": {"quay.io": other}, "psFormat": "table"}));
    let key = format!("{host}/team");
    let authfile = file.to_str().unwrap();
    let login =
        ["login", "--tls-verify=false", "-v", "-u", USER, "-p", PASSWORD, "--authfile", authfile, &key];
    home.run(&login).succeeds(&format!("Used: {authfile}\nLogin Succeeded!\n"));
    let value = read(&file);
    assert_eq!((&value["psFormat"], &value["auths"]["quay.io"]), (&json!("table"), &other));
    assert!(value["auths"][&key]["auth"].is_string());
    assert!(!home.auth_json().exists());
    // The environment names a file as the option does.
    let env = [("REGISTRY_AUTH_FILE", file.clone())];
    home.run_with(&["login", "--get-login", &key], "", &env).succeeds(&format!("{USER}\n"));
    home.run_with(&["logout", &key], "", &env).succeeds(&format!("Removed login credentials for {key}\n"));
    assert_eq!(read(&file), json!({"auths": {"quay.io": other}, "psFormat": "table"}));
    home.run_with(&["logout", "--all"], "", &env).succeeds("Removed login credentials for all registries\n");
    assert_eq!(read(&file), json!({"auths": {}, "psFormat": "table"}));
    home.run(&["logout", "--authfile", "/missing", "quay.io"]).fails(1, "checking authfile");
}

#[test]
fn logins_and_logouts_at_once_are_all_kept() {
    const AT_ONCE: usize = 12;
    let (registry, home) = (locked(), Home::new());
    let host = registry.addr().to_string();
    let file = home.path("own/auth.json");
    let other = json!({"auth": STANDARD.encode(format!("x:{HIDDEN}"))});
    write(&file, &json!({"auths": {"quay.io": other}}));
    let authfile = file.to_str().unwrap();
    let keys: Vec<_> = (0..AT_ONCE).map(|n| format!("{host}/team{n}")).collect();
    let all = |args: &[&str]| {
        let start = |key: &String| home.command(&[args, &["--authfile", authfile, key]].concat()).spawn();
        let children: Vec<_> = keys.iter().map(|key| start(key).unwrap()).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        read(&file)["auths"].as_object().unwrap().len()
    };
    assert_eq!(all(&["login", "--tls-verify=false", "-u", USER, "-p", PASSWORD]), AT_ONCE + 1);
    assert_eq!(all(&["logout"]), 1);
    assert_eq!(read(&file), json!({"auths": {"quay.io": other}}));
    assert_eq!(fs::read_dir(home.path("own")).unwrap().count(), 1, "no lock and no temporary file stays");
}

#[test]
fn a_login_is_written_to_what_a_link_leads_to_or_into_what_is_no_file() {
    let (registry, home) = (locked(), Home::new());
    let host = registry.addr().to_string();
    let login = |authfile: &Path| {
        let authfile = authfile.to_str().unwrap();
        let args = ["login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, "--authfile", authfile, &host];
        home.run(&args).succeeds("Login Succeeded!\n");
    };
    // As ~/.docker/config.json is where the home of a person is under version control.
    let link = home.path("link.json");
    for target in ["elsewhere/there.json", "elsewhere/missing.json"] {
        if target.contains("there") {
            write(&home.path(target), &json!({"psFormat": "table"}));
        }
        symlink(target, &link).unwrap();
        login(&link);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        assert!(read(&home.path(target))["auths"][&host]["auth"].is_string());
        assert_eq!(fs::metadata(home.path(target)).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&link).unwrap();
    }
    let fifo = home.path("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    login(&fifo);
    let written: Value = serde_json::from_slice(&reader.join().unwrap()).unwrap();
    assert!(written["auths"][&host]["auth"].is_string());
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
}

#[test]
fn what_is_asked_for_wrongly_is_a_usage_error() {
    let home = Home::new();
    for args in [
        &["login", "quay.io/a:tag", "-u", "u", "-p", "p"][..],
        &["login", "quay.io", "--password-stdin"],
        &["login", "quay.io", "-u", "u", "-p", "p", "--password-stdin"],
        &["login", "quay.io", "--creds", "a:b"],
        &["login"],
        &["logout"],
        &["logout", "--all", "quay.io"],
        &["auth", "https://quay.io/x"],
    ] {
        let run = home.run(args);
        assert_eq!(run.code, Some(2), "{args:?}: {}{}", run.stdout, run.stderr);
    }
    home.run_with(&["login", "-u", "me", "r.example"], "", &[]).fails(1, "--password-stdin");
}

#[test]
fn without_a_host_the_first_search_registry_is_meant() {
    let (registry, home) = (locked(), Home::new());
    let host = registry.addr().to_string();
    let conf = format!("unqualified-search-registries = [\"{host}\", \"other.example\"]\n");
    fs::write(home.path("registries.conf"), conf).unwrap();
    home.run(&["login", "--tls-verify=false", "-u", USER, "-p", PASSWORD]).succeeds("Login Succeeded!\n");
    assert!(read(&home.auth_json())["auths"][&host]["auth"].is_string());
    home.run(&["login", "--get-login"]).succeeds(&format!("{USER}\n"));
    home.run(&["logout"]).succeeds(&format!("Removed login credentials for {host}\n"));
    home.run(&["login", "--get-login"]).fails(1, &format!("not logged into {host}"));
    fs::write(home.path("registries.conf"), "").unwrap();
    home.run(&["login"]).fails(2, "a registry must be provided");
}

#[test]
fn another_programs_login_is_not_removed() {
    let home = Home::new();
    let entry = json!({"auths": {"r.example": {"auth": STANDARD.encode(format!("me:{HIDDEN}"))}}});
    write(&home.path("home/.docker/config.json"), &entry);
    let run = home.run(&["logout", "r.example"]);
    assert!(
        run.stdout.contains("Not logged into r.example with current tool"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert_eq!(read(&home.path("home/.docker/config.json")), entry);
}

#[test]
fn auth_explains_without_a_secret() {
    let (registry, home) = (locked(), Home::new());
    let host = registry.addr().to_string();
    let name = format!("{host}/team/m");
    let auth = |more: &[&str]| home.run(&[&["auth", "--tls-verify=false"], more, &[&name]].concat());

    let run = auth(&[]);
    assert!(run.stdout.contains("run/containers/auth.json: absent"), "{}", run.stdout);
    assert!(
        run.stdout.contains("pull        refused") && run.stdout.contains("user        none"),
        "{}",
        run.stdout
    );
    run.fails(6, "no credentials");

    write(&home.path("home/.docker/config.json"), &json!({"auths": {"other.example": {"auth": "eDp5"}}}));
    let encoded = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let file = home.path("home/.config/containers/auth.json");
    write(&file, &json!({"auths": {format!("{host}/team"): {"auth": encoded}}}));
    let run = auth(&[]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    for part in [
        format!("repository  {name}\n"),
        format!("endpoint    http://{host}/v2/\n"),
        "asks for    Basic".to_owned(),
        format!("{}: matched by {host}/team\n", file.display()),
        format!("user        {USER}\n"),
        "pull        allowed".to_owned(),
        "push        allowed".to_owned(),
    ] {
        assert!(run.stdout.contains(&part), "{part}\n{}", run.stdout);
    }
    assert_eq!(registry.open_uploads("team/m"), 0, "the upload that was begun is cancelled");

    let run = auth(&["--json", "--pull"]);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&value["user"], &value["pull"]["allowed"]), (&json!(USER), &json!(true)));
    assert_eq!((&value["push"], &value["sources"][0]["outcome"]), (&Value::Null, &json!("absent")));
    assert_eq!(value["sources"][1]["key"], json!(format!("{host}/team")));

    let run = home.run(&["auth", "--tls-verify=false", "--json", "--creds", &format!("me:{HIDDEN}"), &name]);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&value["user"], &value["push"]["allowed"]), (&json!("me"), &json!(false)));
    run.fails(6, "--creds");
}

#[test]
fn an_identity_token_is_traded_for_a_token() {
    let (server, home) = (TokenServer::start(HIDDEN), Home::new());
    let host = server.addr().to_string();
    let name = format!("{host}/team/m");
    let auth = || home.run(&["auth", "--tls-verify=false", &name]);
    write(&home.auth_json(), &json!({"auths": {&host: {"auth": "", "identitytoken": HIDDEN}}}));
    let run = auth();
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(
        run.stdout.contains("user        <token>") && run.stdout.contains("service here"),
        "{}",
        run.stdout
    );
    let forms = server.forms();
    let scopes = ["repository%3Ateam%2Fm%3Apull", "repository%3Ateam%2Fm%3Apull%2Cpush"];
    for (form, scope) in forms.iter().zip(scopes) {
        assert_eq!(
            *form,
            format!(
                "grant_type=refresh_token&service=here&scope={scope}&client_id=crossdock&refresh_token={HIDDEN}"
            )
        );
    }
    assert_eq!(forms.len(), 2);
    home.run(&["login", "--tls-verify=false", "-u", "a", "-p", "b", &host]).fails(1, "Identity token");

    // One that is no longer good is a refusal and not a circle; a plain user `<token>` is none at all.
    write(&home.auth_json(), &json!({"auths": {&host: {"identitytoken": "expired"}}}));
    auth().fails(6, "401");
    let plain = STANDARD.encode(format!("<token>:{HIDDEN}"));
    write(&home.auth_json(), &json!({"auths": {&host: {"auth": plain}}}));
    let before = server.forms().len();
    assert_eq!(auth().code, Some(0));
    assert_eq!(server.forms().len(), before, "a plain user name is sent as one");
}

#[test]
fn a_helper_keeps_a_login_and_gives_it_back() {
    let (server, home) = (TokenServer::start(HIDDEN), Home::new());
    let host = server.addr().to_string();
    let bin = home.path("bin");
    fs::create_dir(&bin).unwrap();
    let kept = home.path("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat >'{0}' ;;\nget) cat '{0}' 2>/dev/null || \
         {{ echo credentials not found in native keychain; exit 1; }} ;;\nerase) rm '{0}' ;;\nesac\n",
        kept.display()
    );
    // By another process: a file that this one has open while another test forks cannot be run.
    let make = Command::new("/bin/sh")
        .args(["-c", r#"printf %s "$1" >"$2" && chmod 755 "$2""#, "sh", &script])
        .arg(bin.join("docker-credential-box"))
        .status();
    assert!(make.unwrap().success());
    write(&home.auth_json(), &json!({"credHelpers": {&host: "box"}}));
    let path = std::env::join_paths([bin, "/usr/bin".into(), "/bin".into()]).unwrap();
    let env = [("PATH", PathBuf::from(path))];
    let run = |args: &[&str], stdin: &str| home.run_with(args, stdin, &env);
    run(&["login", "--get-login", &host], "").fails(1, "not logged into");
    let password = format!("{HIDDEN}\n");
    run(&["login", "--tls-verify=false", "-u", "me", "--password-stdin", &host], &password)
        .succeeds("Login Succeeded!\n");
    assert_eq!(read(&kept), json!({"ServerURL": host, "Username": "me", "Secret": HIDDEN}));
    assert_eq!(read(&home.auth_json()), json!({"credHelpers": {&host: "box"}}));
    run(&["login", "--get-login", &host], "").succeeds("me\n");
    let explained = run(&["auth", "--tls-verify=false", &format!("{host}/m")], "");
    assert!(
        explained.stdout.contains("docker-credential-box for"),
        "{}{}",
        explained.stdout,
        explained.stderr
    );
    assert_eq!(explained.code, Some(0));
    run(&["logout", &host], "").succeeds(&format!("Removed login credentials for {host}\n"));
    assert!(!kept.exists());
}

//! A login by a user without a session (`XDG_RUNTIME_DIR`), for whom `/run` is not writable, as in a pod: buildah and this
//! program find each other's.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

use super::{Home, PASSWORD, Run, USER, locked};

/// Nobody's number; who is not root is somebody of this kind already.
const NOBODY: u32 = 65534;

struct Stranger {
    home: Home,
    root: bool,
}

impl Stranger {
    fn new() -> Self {
        let home = Home::new();
        let root = fs::metadata(home.path("")).unwrap().uid() == 0;
        fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        // Nobody may go where it was built.
        fs::copy(env!("CARGO_BIN_EXE_crossdock"), home.path("crossdock")).unwrap();
        for name in ["home", "tmp"] {
            fs::create_dir(home.path(name)).unwrap();
            if root {
                chown(home.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        Self { home, root }
    }

    fn uid(&self) -> u32 {
        if self.root { NOBODY } else { fs::metadata(self.home.path("")).unwrap().uid() }
    }

    fn run(&self, program: &str, args: &[&str]) -> Run {
        self.run_in(&[], &[], program, args)
    }

    /// With these variables too, and without those.
    fn run_in(&self, with: &[(&str, &str)], without: &[&str], program: &str, args: &[&str]) -> Run {
        let mut command = Command::new(if self.root { "setpriv" } else { "env" });
        if self.root {
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        }
        command
            .arg(program)
            .args(args)
            .current_dir(self.home.path(""))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home.path("home"))
            .env("TMPDIR", self.home.path("tmp"))
            .env("CONTAINERS_REGISTRIES_CONF", self.home.path("registries.conf"))
            .envs(with.iter().copied());
        for name in without {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn crossdock(&self, args: &[&str]) -> Run {
        self.run(self.home.path("crossdock").to_str().unwrap(), args)
    }

    fn crossdock_with(&self, with: &[(&str, &str)], args: &[&str]) -> Run {
        self.run_in(with, &[], self.home.path("crossdock").to_str().unwrap(), args)
    }

    fn crossdock_without(&self, without: &[&str], args: &[&str]) -> Run {
        self.run_in(&[], without, self.home.path("crossdock").to_str().unwrap(), args)
    }

    /// The files of logins that there are.
    fn auth_files(&self) -> Vec<PathBuf> {
        let find =
            Command::new("find").arg(self.home.path("")).args(["-name", "auth.json"]).output().unwrap();
        String::from_utf8(find.stdout).unwrap().lines().map(PathBuf::from).collect()
    }
}

#[test]
fn a_login_lies_where_buildahs_does() {
    let (registry, stranger) = (locked(), Stranger::new());
    let host = registry.addr().to_string();
    let session = PathBuf::from(format!("/run/user/{}", stranger.uid()));
    assert!(!session.exists(), "this test is for users without a session, as its files would go there");
    let login = ["login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, &host];

    // Nobody has been here before.
    stranger.crossdock(&login).succeeds("Login Succeeded!\n");
    let by_default = format!("tmp/containers-user-{}/containers/containers/auth.json", stranger.uid());
    assert_eq!(stranger.auth_files(), [stranger.home.path(&by_default)]);
    for directory in stranger.home.path(&by_default).ancestors().skip(1).take(3) {
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o700, "{}", directory.display());
    }
    stranger.crossdock(&["login", "--get-login", &host]).succeeds(&format!("{USER}\n"));
    let name = format!("{host}/team/m");
    let auth = stranger.crossdock(&["auth", "--tls-verify=false", &name]);
    assert!(auth.stdout.contains(&format!("{by_default}: matched by {host}")), "{}", auth.stdout);
    stranger.crossdock(&["logout", &host]).succeeds(&format!("Removed login credentials for {host}\n"));

    // A login of buildah's is found, and one of ours by buildah, whichever of its places buildah has.
    fs::remove_dir_all(stranger.home.path(&format!("tmp/containers-user-{}", stranger.uid()))).unwrap();
    let by_buildah = stranger.run("buildah", &login);
    assert_eq!(by_buildah.code, Some(0), "{}", by_buildah.stderr);
    let of_buildah = stranger.auth_files();
    assert_eq!(of_buildah.len(), 1, "{of_buildah:?}");
    stranger.crossdock(&["login", "--get-login", &host]).succeeds(&format!("{USER}\n"));
    stranger.crossdock(&["logout", &host]).succeeds(&format!("Removed login credentials for {host}\n"));
    assert_ne!(stranger.run("buildah", &["login", "--get-login", &host]).code, Some(0));
    stranger.crossdock(&login).succeeds("Login Succeeded!\n");
    assert_eq!(stranger.auth_files(), of_buildah);
    let told = stranger.run("buildah", &["login", "--get-login", &host]);
    assert_eq!((told.code, told.stdout.trim()), (Some(0), USER), "{}", told.stderr);
}

#[test]
fn a_directory_that_somebody_else_made_gets_no_login() {
    let (registry, stranger) = (locked(), Stranger::new());
    let host = registry.addr().to_string();
    let planted = stranger.home.path(&format!("tmp/containers-user-{}", stranger.uid()));
    fs::create_dir(&planted).unwrap();
    // Others may enter it, and whoever is root here made it.
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o777)).unwrap();
    let login = ["login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, &host];
    stranger.crossdock(&login).succeeds("Login Succeeded!\n");
    assert_eq!(stranger.auth_files(), [stranger.home.path("home/rundir/containers/containers/auth.json")]);
    stranger.crossdock(&["login", "--get-login", &host]).succeeds(&format!("{USER}\n"));
}

/// A directory that only root may enter, or its owner where that is not root; for who is not root, nobody may.
fn lock(path: &std::path::Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
}

#[test]
fn a_default_place_that_cannot_be_read_is_left_out_with_a_warning() {
    let (registry, stranger) = (locked(), Stranger::new());
    let name = format!("{}/team/m", registry.addr());
    let home = &stranger.home;
    for file in [
        "home/.config/containers/auth.json",
        "home/.config/containers/registries.conf",
        "home/.config/crossdock/config.toml",
        "home/.docker/config.json",
    ] {
        fs::create_dir_all(home.path(file).parent().unwrap()).unwrap();
        fs::write(home.path(file), "unreadable { [").unwrap();
        lock(&home.path(file));
    }
    // A directory in the place of a file, and one that nobody may enter.
    fs::create_dir(home.path("home/.dockercfg")).unwrap();
    let certs = home.path("home/.config/containers/certs.d");
    fs::create_dir_all(certs.join(registry.addr().to_string())).unwrap();
    lock(&certs);
    let account = home.path("sa");
    fs::create_dir(&account).unwrap();
    fs::write(account.join("token"), "a-token").unwrap();
    let host = registry.addr().to_string();
    let args =
        ["auth", "--tls-verify=false", "--sa-dir", account.to_str().unwrap(), "--sa-registry", &host, &name];
    let run = stranger.crossdock_without(&["CONTAINERS_REGISTRIES_CONF"], &args);
    for warned in
        ["containers/auth.json", "registries.conf", "config.toml", ".docker/config.json", ".dockercfg"]
    {
        let lines = run.stderr.lines().filter(|line| line.contains("WARN") && line.contains(warned)).count();
        assert_eq!(lines, 1, "{warned}: {}", run.stderr);
    }
    assert!(run.stdout.contains("the ServiceAccount's token"), "{}{}", run.stdout, run.stderr);
    // The registry knows no such account; all that is asked here is who is sent.
    assert_eq!(run.code, Some(6), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("user        serviceaccount"), "{}", run.stdout);

    // As /run/containers is where root alone may enter it.
    let session = home.path("session");
    fs::create_dir_all(session.join("containers")).unwrap();
    lock(&session);
    let variables = [("XDG_RUNTIME_DIR", session.to_str().unwrap())];
    let run = stranger.crossdock_with(&variables, &args);
    assert!(run.stdout.contains("user        serviceaccount"), "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("session/containers/auth.json cannot be read"), "{}", run.stderr);
    fs::set_permissions(&session, fs::Permissions::from_mode(0o755)).unwrap();

    // What somebody named is an error.
    let unreadable = home.path("home/.docker/config.json");
    let unreadable = unreadable.to_str().unwrap();
    for args in [
        &["auth", "--tls-verify=false", "--authfile", unreadable, &name][..],
        &["--registries-conf", unreadable, "auth", "--tls-verify=false", &name],
        &["--short-name-alias-conf", unreadable, "auth", "--tls-verify=false", &name],
        &["--registries-conf-dir", certs.to_str().unwrap(), "auth", "--tls-verify=false", &name],
    ] {
        let run = stranger.crossdock(args);
        assert_ne!(run.code, Some(0), "{args:?}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("Permission denied"), "{args:?}: {}", run.stderr);
    }
    lock(&account.join("token"));
    let run = stranger.crossdock(&args);
    assert!(run.stderr.contains("sa/token") && run.stderr.contains("Permission denied"), "{}", run.stderr);
    for variable in ["REGISTRY_AUTH_FILE", "CROSSDOCK_CONFIG", "CONTAINERS_REGISTRIES_CONF"] {
        let run = stranger.crossdock_with(&[(variable, unreadable)], &["auth", "--tls-verify=false", &name]);
        assert_ne!(run.code, Some(0), "{variable}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("Permission denied"), "{variable}: {}", run.stderr);
    }
    let verified = stranger.crossdock_with(&[("SSL_CERT_FILE", unreadable)], &["auth", &name]);
    assert!(verified.stderr.contains("SSL_CERT_FILE"), "{}", verified.stderr);
    // For the temporary directory to be removable by who is not root.
    fs::set_permissions(&certs, fs::Permissions::from_mode(0o755)).unwrap();
}

//! The files of logins that do not outlive a session, where nobody names a file.
//!
//! With `XDG_RUNTIME_DIR` and for root there is one such file (containers/image, pkg/docker/config). For other users
//! each tool finds a directory of its own, and a login by one is of use to the next, so all of them are read:
//!
//! | directory | whose |
//! |---|---|
//! | `/run/user/UID` | podman's and that of buildah since 1.34, where it is there |
//! | `$TMPDIR/containers-user-UID/containers` | buildah's up to 1.33 (containers/storage, types/utils.go) |
//! | `$TMPDIR/storage-run-UID` | buildah's since 1.34 (containers/storage, pkg/homedir) |
//! | `$TMPDIR/podman-run-UID` | podman's |
//! | `/run/containers/UID` | skopeo's, and root's |
//!
//! `TMPDIR` is `/var/tmp` to buildah where it is not set, and `/tmp` to podman. Anybody may make these directories there,
//! so one counts only if it is its user's alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::CredentialEnv;

/// containers/storage keeps its own files in one directory named so, and containers/image in another one in there.
const BELOW_BUILDAHS: &str = "containers/containers/auth.json";

/// The file that a login is written to, and the other ones that are read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RuntimeFiles {
    pub(super) login: PathBuf,
    /// A directory that others could have made: it is made, or checked, before a login is written below it.
    shared: Option<PathBuf>,
    pub(super) others: Vec<PathBuf>,
    uid: u32,
}

impl RuntimeFiles {
    pub(super) fn of(env: &CredentialEnv) -> Self {
        let run = env.run_dir.as_deref().unwrap_or(Path::new("/run"));
        let uid = env.uid;
        let per_user = run.join(format!("containers/{uid}/auth.json"));
        let only = |login| Self { login, shared: None, others: Vec::new(), uid };
        if let Some(directory) = &env.xdg_runtime_dir {
            return only(directory.join("containers/auth.json"));
        }
        if uid == 0 {
            return only(per_user);
        }
        let temporary = |default, name: &str| {
            env.tmpdir.as_deref().unwrap_or(Path::new(default)).join(format!("{name}-{uid}"))
        };
        let of_session = run.join(format!("user/{uid}"));
        let of_buildah = temporary("/var/tmp", "containers-user");
        let of_podman = temporary("/tmp", "podman-run");
        let private = |directory: &Path| is_private(directory, uid);
        let mut files: Vec<_> = [
            (of_session.as_path(), "containers/auth.json"),
            (&of_buildah, BELOW_BUILDAHS),
            (&temporary("/var/tmp", "storage-run"), "containers/auth.json"),
        ]
        .into_iter()
        .filter(|(directory, _)| private(directory))
        .map(|(directory, file)| directory.join(file))
        .collect();
        let mut shared = None;
        if files.is_empty() {
            if is_absent(&of_buildah) {
                files.push(of_buildah.join(BELOW_BUILDAHS));
                shared = Some(of_buildah);
            } else if let Some(home) = &env.home {
                // Somebody else has taken the name.
                files.push(home.join("rundir").join(BELOW_BUILDAHS));
            }
        }
        if private(&of_podman) {
            files.push(of_podman.join("containers/auth.json"));
        }
        files.push(per_user);
        let login = files.remove(0);
        Self { login, shared, others: files, uid }
    }

    /// Makes sure that the login's directory is the user's alone, where others could have made it.
    pub(super) fn claim(&self) -> io::Result<()> {
        let Some(directory) = &self.shared else { return Ok(()) };
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if is_private(directory, self.uid) {
            return Ok(());
        }
        let reason = format!("{} belongs to somebody else, or others may enter it", directory.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
    }
}

/// Whether only its user may look into a directory or change it. A link is none: whoever made it may lead it elsewhere.
fn is_private(directory: &Path, uid: u32) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|meta| {
        let mode = meta.mode();
        meta.is_dir() && meta.uid() == uid && mode & 0o700 == 0o700 && mode & 0o066 == 0
    })
}

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// A machine of one's own: `/run`, `$TMPDIR` and a home, for the user of this process.
    struct Machine {
        root: tempfile::TempDir,
        env: CredentialEnv,
    }

    impl Machine {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| Some(root.path().join(name));
            let uid = fs::metadata(root.path()).unwrap().uid();
            let env = CredentialEnv {
                home: at("home"),
                tmpdir: at("tmp"),
                run_dir: at("run"),
                uid,
                ..CredentialEnv::default()
            };
            fs::create_dir_all(root.path().join("tmp")).unwrap();
            Self { root, env }
        }

        /// The same for a user who is not root, whoever runs the tests.
        fn of_somebody() -> (Self, u32) {
            let mut machine = Self::new();
            if machine.env.uid == 0 {
                machine.env.uid = 7;
            }
            let uid = machine.env.uid;
            (machine, uid)
        }

        /// A directory that is the user's alone.
        fn private(&self, name: &str) {
            let path = self.directory(name, 0o700);
            if fs::metadata(&path).unwrap().uid() != self.env.uid {
                chown(&path, Some(self.env.uid), None).unwrap();
            }
        }

        fn directory(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.root.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        /// The file of a login, and the others, below the root.
        fn files(&self) -> (String, Vec<String>) {
            let files = self.runtime_files();
            let below =
                |path: &PathBuf| path.strip_prefix(self.root.path()).unwrap().to_str().unwrap().to_owned();
            (below(&files.login), files.others.iter().map(below).collect())
        }

        fn runtime_files(&self) -> RuntimeFiles {
            RuntimeFiles::of(&self.env)
        }
    }

    #[test]
    fn root_and_a_session_have_one_place() {
        let mut machine = Machine::new();
        machine.env.uid = 0;
        assert_eq!(machine.files(), ("run/containers/0/auth.json".to_owned(), vec![]));
        machine.env.uid = 7;
        machine.env.xdg_runtime_dir = Some(machine.root.path().join("session"));
        assert_eq!(machine.files(), ("session/containers/auth.json".to_owned(), vec![]));
    }

    #[test]
    fn without_a_session_a_login_lies_where_buildah_puts_it() {
        let mut machine = Machine::new();
        machine.env.uid = 7;
        let (login, others) = machine.files();
        assert_eq!(login, "tmp/containers-user-7/containers/containers/auth.json");
        assert_eq!(others, ["run/containers/7/auth.json"]);
    }

    #[test]
    fn a_directory_that_others_may_have_made_does_not_count() {
        let mut machine = Machine::new();
        machine.env.uid = 7;
        // It is not of the user 7, whoever runs this test.
        machine.directory("tmp/containers-user-7", 0o700);
        machine.directory("tmp/storage-run-7", 0o700);
        machine.directory("run/user/7", 0o700);
        let (login, others) = machine.files();
        assert_eq!(login, "home/rundir/containers/containers/auth.json");
        assert_eq!(others, ["run/containers/7/auth.json"]);
    }

    #[test]
    fn all_that_is_the_users_alone_is_read() {
        let (machine, uid) = Machine::of_somebody();
        for name in ["tmp/storage-run", "tmp/podman-run"] {
            machine.private(&format!("{name}-{uid}"));
        }
        machine.private(&format!("run/user/{uid}"));
        let (login, others) = machine.files();
        assert_eq!(login, format!("run/user/{uid}/containers/auth.json"));
        assert_eq!(
            others,
            [
                format!("tmp/storage-run-{uid}/containers/auth.json"),
                format!("tmp/podman-run-{uid}/containers/auth.json"),
                format!("run/containers/{uid}/auth.json"),
            ]
        );
    }

    #[test]
    fn a_login_goes_to_what_the_installed_buildah_made() {
        let (machine, uid) = Machine::of_somebody();
        machine.private(&format!("tmp/storage-run-{uid}"));
        assert_eq!(machine.files().0, format!("tmp/storage-run-{uid}/containers/auth.json"));
        machine.private(&format!("tmp/containers-user-{uid}"));
        assert_eq!(machine.files().0, format!("tmp/containers-user-{uid}/containers/containers/auth.json"));
    }

    #[test]
    fn a_private_directory_is_its_users_and_no_link() {
        let machine = Machine::new();
        let uid = machine.env.uid;
        for (mode, private) in [(0o700, true), (0o711, true), (0o755, false), (0o720, false), (0o500, false)]
        {
            let path = machine.directory(&format!("mode-{mode:o}"), mode);
            assert_eq!(is_private(&path, uid), private, "{mode:o}");
            assert!(!is_private(&path, uid + 1));
        }
        let link = machine.root.path().join("link");
        symlink(machine.directory("target", 0o700), &link).unwrap();
        assert!(!is_private(&link, uid) && !is_absent(&link));
    }

    #[test]
    fn a_login_is_not_written_below_what_somebody_else_made_meanwhile() {
        let mut machine = Machine::new();
        machine.env.uid += 1;
        let files = machine.runtime_files();
        let directory = files.shared.clone().unwrap();
        fs::create_dir(&directory).unwrap();
        let error = files.claim().unwrap_err();
        assert!(error.to_string().contains("somebody else"), "{error}");
        fs::remove_dir(&directory).unwrap();
        // What is made here is its maker's, who is the user of this process.
        let own = RuntimeFiles { uid: machine.env.uid - 1, ..files };
        own.claim().unwrap();
        own.claim().unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    }
}

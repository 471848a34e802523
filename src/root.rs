//! The root directory: where images, layer digests and notes of uploads are remembered.
//!
//! `crossdock` has a place of its own. Under the name `buildah` it is a directory in the store that buildah would use, so
//! that two steps which share buildah's store share what is remembered too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use toml::Table;

use crate::args::Cli;
use crate::buildah::CalledAs;
use crate::environment;
use crate::session::root_directory;

/// Our directory in buildah's store.
const DIRECTORY: &str = "crossdock";

/// Names another storage.conf, as containers-storage.conf(5) has it.
const VARIABLE: &str = "CONTAINERS_STORAGE_CONF";

/// The root directory of a command line; `None` where there is no place for one.
///
/// # Errors
/// Where storage.conf, which says where buildah's store is, cannot be understood.
pub(crate) fn of(cli: &Cli) -> Result<Option<PathBuf>> {
    match (&cli.root, cli.called) {
        // The config file is crossdock's own, and so is a root that it names.
        (Some(root), CalledAs::Buildah) if cli.root_typed => Ok(Some(root.join(DIRECTORY))),
        (None, CalledAs::Buildah) => {
            let machine = Machine {
                user: nix::unistd::geteuid().as_raw(),
                variable: &environment::var_os,
                system: Path::new("/"),
            };
            Ok(machine.store()?.map(|store| store.join(DIRECTORY)))
        }
        (root, _) => Ok(root_directory(root.as_deref())),
    }
}

/// The directory that no build context takes in: the root directory, and under the name `buildah` the whole store around it.
pub(crate) fn kept_out(cli: &Cli, root: Option<&Path>) -> Option<PathBuf> {
    let in_store = matches!(cli.called, CalledAs::Buildah) && (cli.root.is_none() || cli.root_typed);
    let store = root.filter(|_| in_store).and_then(Path::parent);
    store.or(root).map(Path::to_path_buf)
}

/// What decides where buildah's store is.
struct Machine<'a> {
    user: u32,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Where the files of the system are: `/`.
    system: &'a Path,
}

/// What storage.conf says of places.
#[derive(Debug, Default, PartialEq, Eq)]
struct StorageConf {
    graph_root: Option<String>,
    rootless: Option<String>,
}

impl Machine<'_> {
    /// Where buildah's store is without `--root`: what storage.conf says, else /var/lib/containers/storage for root and
    /// the user's data directory for others.
    fn store(&self) -> Result<Option<PathBuf>> {
        let system = self.system_conf()?;
        if self.user == 0 {
            let configured = system.graph_root.map(|path| self.expanded(&path));
            return Ok(Some(configured.unwrap_or_else(|| self.system.join("var/lib/containers/storage"))));
        }
        let own = self.own_conf()?;
        let configured = own.graph_root.or(own.rootless).or(system.rootless);
        Ok(configured.map(|path| self.expanded(&path)).or_else(|| {
            self.home("XDG_DATA_HOME", ".local/share").map(|data| data.join("containers/storage"))
        }))
    }

    /// For root, the file that is named counts; others have it in the place of their own.
    fn system_conf(&self) -> Result<StorageConf> {
        if self.user == 0
            && let Some(named) = self.named()
        {
            return read(&named);
        }
        let there = ["etc/containers/storage.conf", "usr/share/containers/storage.conf"];
        let found = there.iter().map(|path| self.system.join(path)).find(|path| path.exists());
        found.map_or_else(|| Ok(StorageConf::default()), |path| readable(&path))
    }

    fn own_conf(&self) -> Result<StorageConf> {
        if let Some(named) = self.named() {
            return read(&named);
        }
        let own = self.home("XDG_CONFIG_HOME", ".config").map(|home| home.join("containers/storage.conf"));
        own.filter(|path| path.exists()).map_or_else(|| Ok(StorageConf::default()), |path| readable(&path))
    }

    fn named(&self) -> Option<PathBuf> {
        (self.variable)(VARIABLE).map(PathBuf::from)
    }

    fn home(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let absolute =
            |name: &str| (self.variable)(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
    }

    /// `$NAME` and `${NAME}` are what the environment says; `$UID` is the user.
    fn expanded(&self, text: &str) -> PathBuf {
        let mut path = OsString::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            path.push(before);
            let (name, left) = match after.strip_prefix('{').and_then(|after| after.split_once('}')) {
                Some((name, left)) => (name, left),
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    after.split_at(end.unwrap_or(after.len()))
                }
            };
            if name == "UID" {
                path.push(self.user.to_string());
            } else {
                path.push((self.variable)(name).unwrap_or_default());
            }
            rest = left;
        }
        path.push(rest);
        PathBuf::from(path)
    }
}

/// A file in a default place that this user may not read says nothing.
fn readable(path: &Path) -> Result<StorageConf> {
    match std::fs::File::open(path) {
        Ok(_) => read(path),
        Err(error) => {
            tracing::warn!("{} is left out: {error}", path.display());
            Ok(StorageConf::default())
        }
    }
}

fn read(path: &Path) -> Result<StorageConf> {
    let at = || format!("cannot tell where buildah's store is: {}", path.display());
    let text = std::fs::read_to_string(path).with_context(at)?;
    let table: Table = text.parse().with_context(at)?;
    let text = |name: &str| {
        let value = table.get("storage").and_then(|storage| storage.get(name)).and_then(toml::Value::as_str);
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    Ok(StorageConf { graph_root: text("graphroot"), rootless: text("rootless_storage_path") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the store is for a user, with these variables and these files of the system.
    fn store(user: u32, variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Option<String>> {
        let system = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = system.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let at = system.path().display().to_string();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, value)| *known == name && !value.is_empty());
            found.map(|(_, value)| OsString::from(value.replace('@', &at)))
        };
        let store = Machine { user, variable: &variable, system: system.path() }.store()?;
        Ok(store.map(|store| store.display().to_string().replace(&at, "@")))
    }

    #[test]
    fn the_store_is_where_buildah_has_it() {
        let system =
            ("etc/containers/storage.conf", "[storage]\ndriver = \"vfs\"\ngraphroot = \"/data/$UID\"\n");
        let shared = (
            "usr/share/containers/storage.conf",
            "[storage]\ngraphroot = \"/shared\"\nrootless_storage_path = \"/users/${USER}/store\"\n",
        );
        let own = ("home/.config/containers/storage.conf", "[storage]\ngraphroot = \"$HOME/own\"\n");
        let home = ("HOME", "@/home");
        for (user, variables, files, place) in [
            (0, vec![home], vec![], Some("@/var/lib/containers/storage")),
            (0, vec![home, ("XDG_DATA_HOME", "/d")], vec![], Some("@/var/lib/containers/storage")),
            (0, vec![home], vec![system, shared], Some("/data/0")),
            (0, vec![home], vec![shared, own], Some("/shared")),
            (7, vec![home], vec![], Some("@/home/.local/share/containers/storage")),
            (7, vec![home, ("XDG_DATA_HOME", "/d")], vec![system], Some("/d/containers/storage")),
            (7, vec![home, ("USER", "u")], vec![shared], Some("/users/u/store")),
            (7, vec![home, ("USER", "u")], vec![shared, own], Some("@/home/own")),
            (7, vec![home, (VARIABLE, "@/etc/containers/storage.conf")], vec![system, own], Some("/data/7")),
            (
                0,
                vec![home, (VARIABLE, "@/usr/share/containers/storage.conf")],
                vec![system, shared],
                Some("/shared"),
            ),
            (0, vec![home, (VARIABLE, "")], vec![system], Some("/data/0")),
            (7, vec![], vec![], None),
        ] {
            assert_eq!(
                store(user, &variables, &files).unwrap().as_deref(),
                place,
                "{user} {variables:?} {files:?}"
            );
        }
    }

    #[test]
    fn a_storage_conf_that_cannot_be_understood_is_named() {
        let broken = ("etc/containers/storage.conf", "[storage\n");
        for (variables, files) in
            [(vec![], vec![broken]), (vec![(VARIABLE, "@/nowhere")], vec![("etc/x", "")])]
        {
            let error = format!("{:#}", store(0, &variables, &files).unwrap_err());
            assert!(error.starts_with("cannot tell where buildah's store is: /"), "{error}");
        }
    }
}

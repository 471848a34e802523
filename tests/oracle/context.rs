//! The build context of a row, made by code.

use std::fs;
use std::os::unix::fs::{chown, lchown, symlink};
use std::os::unix::net::UnixListener;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use rustix::fs::{XattrFlags, setxattr};

use crate::support::sandbox::Sandbox;
use crate::support::write_sparse;

/// What every row begins with, and ways to add to it.
pub(crate) struct Context<'a>(pub(crate) &'a Sandbox);

impl<'a> Context<'a> {
    /// A few files, a directory and a link.
    pub(crate) fn standard(sandbox: &'a Sandbox) -> Self {
        let context = Self(sandbox);
        context
            .file("a.txt", "a\n")
            .mode("a.txt", 0o640)
            .file("b.txt", "b\n")
            .file("dir/c.txt", "c\n")
            .file("dir/sub/d.txt", "d\n")
            .mode("dir/sub/d.txt", 0o600)
            .mode("dir/sub", 0o700)
            .link("dir/link", "c.txt");
        context
    }

    /// A file of mode 0644, the directories above it 0755.
    pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
        if let Some((directory, _)) = path.rsplit_once('/') {
            self.directory(directory);
        }
        fs::write(self.0.file(path), text).unwrap();
        self.mode(path, 0o644)
    }

    pub(crate) fn files(&self, paths: &[&str]) -> &Self {
        for path in paths {
            self.file(path, &format!("{path}\n"));
        }
        self
    }

    pub(crate) fn bytes(&self, path: &str, bytes: &[u8]) -> &Self {
        fs::write(self.0.file(path), bytes).unwrap();
        self.mode(path, 0o644)
    }

    pub(crate) fn directory(&self, path: &str) -> &Self {
        if self.0.file(path).is_dir() {
            return self;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above);
        }
        fs::create_dir(self.0.file(path)).unwrap();
        self.mode(path, 0o755)
    }

    pub(crate) fn mode(&self, path: &str, mode: u32) -> &Self {
        self.0.mode(path, mode);
        self
    }

    pub(crate) fn owner(&self, path: &str, uid: u32, gid: u32) -> &Self {
        chown(self.0.file(path), Some(uid), Some(gid)).unwrap();
        self
    }

    pub(crate) fn link_owner(&self, path: &str, uid: u32, gid: u32) -> &Self {
        lchown(self.0.file(path), Some(uid), Some(gid)).unwrap();
        self
    }

    pub(crate) fn link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.0.file(path)).unwrap();
        self
    }

    pub(crate) fn hard_link(&self, path: &str, target: &str) -> &Self {
        fs::hard_link(self.0.file(target), self.0.file(path)).unwrap();
        self
    }

    pub(crate) fn fifo(&self, path: &str) -> &Self {
        mkfifo(&self.0.file(path), Mode::from_bits_truncate(0o644)).unwrap();
        self
    }

    /// A character device.
    pub(crate) fn device(&self, path: &str, major: u64, minor: u64) -> &Self {
        let mode = Mode::from_bits_truncate(0o644);
        mknod(&self.0.file(path), SFlag::S_IFCHR, mode, makedev(major, minor)).unwrap();
        self.mode(path, 0o644)
    }

    /// Nobody listens any more, but it stays.
    pub(crate) fn socket(&self, path: &str) -> &Self {
        drop(UnixListener::bind(self.0.file(path)).unwrap());
        self
    }

    pub(crate) fn xattr(&self, path: &str, name: &str, value: &[u8]) -> &Self {
        setxattr(self.0.file(path), name, value, XattrFlags::empty()).unwrap();
        self
    }

    /// A file with a hole.
    pub(crate) fn sparse(&self, path: &str, len: u64) -> &Self {
        write_sparse(&self.0.file(path), len);
        self.mode(path, 0o644)
    }
}

//! A tar archive as the build context.

use std::sync::Arc;

use crossdock_builder::{BuildContext, Containerfile, Context, Error, IgnoreFile, PlannedImage, plan};
use crossdock_storage::{Cancel, SourceFile};
use insta::{allow_duplicates, assert_snapshot};
use tar::{Builder, EntryType, Header};

use crate::harness::Setup;

struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, path: &str, link: &str, text: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(text.len() as u64);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o4644 });
        header.set_uid(7);
        header.set_gid(7);
        // The tar crate refuses names that lead out.
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, text.as_bytes()).unwrap();
        self
    }

    fn file(self, path: &str, text: &str) -> Self {
        self.add(EntryType::Regular, path, "", text)
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, path, target, "")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn open(setup: &Setup, bytes: &[u8]) -> Result<Context, Error> {
    let path = setup.beside("ctx.tar");
    std::fs::write(&path, bytes).unwrap();
    let file = SourceFile::stat(path).unwrap();
    Context::open_archive(&file, "ctx.tar", &Cancel::default())
        .map(|context| context.expect("it is an archive"))
}

fn planned(setup: &Setup, context: Context, instructions: &str) -> Result<PlannedImage, Error> {
    let text = format!("FROM scratch\n{instructions}");
    let file = Containerfile::parse("Containerfile", text.as_bytes()).unwrap().into();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(plan(&file, &Arc::new(context), &setup.options, &setup.bases))
}

fn layers(setup: &Setup, context: Context, instructions: &str) -> String {
    let image = planned(setup, context, instructions);
    setup.layers(&image.unwrap_or_else(|error| panic!("{error}")))
}

fn model() -> Tar {
    Tar::new()
        .file("./Containerfile", "FROM scratch")
        .file("./.containerignore", "**/*.md\n")
        .file("./model/config.json", "{}")
        .file("./model/README.md", "text")
        .file("./model/weights", "0123456789")
        .add(EntryType::Link, "./model/same", "./model/weights", "")
        .link("./model/link", "config.json")
        .link("./out", "model/weights")
}

#[test]
fn files_come_out_of_the_archive_where_they_lie() {
    let setup = Setup::new();
    let ignore = |context: &Context| IgnoreFile::find_inside(context, Some("Containerfile")).unwrap();
    for compressed in [false, true] {
        let bytes = model().bytes();
        let bytes = if compressed { zstd::encode_all(bytes.as_slice(), 1).unwrap() } else { bytes };
        let context = open(&setup, &bytes).unwrap();
        assert_eq!(context.file_inside("Containerfile", 100).unwrap().unwrap(), b"FROM scratch");
        assert_eq!(context.file_inside("Dockerfile", 100).unwrap(), None);
        assert!(context.file_inside("Containerfile", 3).is_err());
        assert!(context.file_inside("model", 100).is_err());
        let ignoring = ignore(&context);
        let context = context.ignoring(ignoring);
        // Owners and set-id bits of a context stay there; hard links of a directory are links in the image.
        allow_duplicates! {
            assert_snapshot!(layers(&setup, context, "COPY model /m\nCOPY out model/*.json /n/\nCOPY --chown=7 model/w* /w/"), @r#"
            COPY model /m:
              d 0755 0:0 /m
              f 0644 0:0 /m/config.json = packed "{}"
              l 0777 0:0 /m/link -> config.json
              f 0644 0:0 /m/same = packed "0123456789"
              h 0644 0:0 /m/weights -> /m/same
            COPY out model/*.json /n/:
              d 0755 0:0 /n
              f 0644 0:0 /n/config.json = packed "{}"
              f 0644 0:0 /n/out = packed "0123456789"
            COPY --chown=7 model/w* /w/:
              d 0755 7:7 /w
              f 0644 7:7 /w/weights = packed "0123456789"
            "#);
        }
    }
}

#[test]
fn errors_name_the_archive_and_what_ignores() {
    let setup = Setup::new();
    let error = |instructions: &str| {
        let context = open(&setup, &model().bytes()).unwrap();
        let ignore = IgnoreFile::find_inside(&context, None).unwrap();
        planned(&setup, context.ignoring(ignore), instructions).unwrap_err().to_string()
    };
    assert_snapshot!(error("COPY none /m"), @r#"Containerfile:2:6: COPY source "none" is not in the build context ctx.tar"#);
    assert_snapshot!(error("COPY x/README.md /m"), @r#"Containerfile:2:6: COPY source "x/README.md" is not in the build context ctx.tar"#);
    assert_snapshot!(error("COPY ../x /m"), @r#"Containerfile:2:6: COPY source "../x" leads above the root of the build context ctx.tar"#);
}

#[test]
fn a_hostile_archive_stays_inside() {
    let setup = Setup::new();
    let context = open(
        &setup,
        &Tar::new()
            .file("../../etc/passwd", "up")
            .file("/abs", "absolute")
            .link("etc-link", "/etc")
            .file("etc-link/shadow", "through")
            .link("escape", "../../../etc/hostname")
            .bytes(),
    )
    .unwrap();
    assert_snapshot!(layers(&setup, context, "COPY . /c"), @r#"
    COPY . /c:
      d 0755 0:0 /c
      f 0644 0:0 /c/abs = packed "absolute"
      l 0777 0:0 /c/escape -> ../../../etc/hostname
      d 0755 0:0 /c/etc
      l 0777 0:0 /c/etc-link -> /etc
      f 0644 0:0 /c/etc/passwd = packed "up"
      f 0644 0:0 /c/etc/shadow = packed "through"
    "#);
    let context = open(&setup, &Tar::new().link("x", "../../../../etc/hostname").bytes()).unwrap();
    let error = planned(&setup, context, "COPY x /x").unwrap_err().to_string();
    assert!(error.contains("\"x\" is not in the build context ctx.tar"), "{error}");
    let link = open(&setup, &Tar::new().add(EntryType::Link, "h", "/etc/passwd", "").bytes());
    assert!(link.unwrap_err().to_string().contains("a hard link to /etc/passwd, which is no file in it"));
}

#[test]
fn links_in_an_archive_are_followed_inside_of_it() {
    let setup = Setup::new();
    let tar = Tar::new()
        .file("blobs/a", "aa")
        .file("dir/f", "ff")
        .link("snap/config", "../blobs/a")
        .link("snap/dir", "../dir")
        .link("snap/up", "..")
        .link("snap/none", "/nowhere");
    let context = open(&setup, &tar.bytes()).unwrap().following_links(&[]).unwrap();
    assert_snapshot!(layers(&setup, context, "COPY snap /s"), @r#"
    COPY snap /s:
      d 0755 0:0 /s
      f 0644 0:0 /s/config = packed "aa"
      d 0755 0:0 /s/dir
      f 0644 0:0 /s/dir/f = packed "ff"
      l 0777 0:0 /s/none -> /nowhere
      l 0777 0:0 /s/up -> ..
    "#);
}

#[test]
fn an_archive_may_be_a_further_context_and_holds_none_that_is_unpacked() {
    let mut setup = Setup::new();
    let inner = Tar::new().file("f", "f").bytes();
    let path = setup.beside("more.tar");
    let tar = Tar::new().add(EntryType::Regular, "inner.tar", "", &String::from_utf8(inner).unwrap());
    std::fs::write(&path, tar.bytes()).unwrap();
    setup.options.build_contexts.insert("more".to_owned(), BuildContext::Directory(path));
    let image = setup.plan("FROM scratch\nCOPY --from=more inner.tar /x/");
    assert_eq!(image.layers[0].entries[1].path.to_string(), "/x/inner.tar");
    let context = || {
        let inner = String::from_utf8(Tar::new().file("f", "f").bytes()).unwrap();
        open(&setup, &Tar::new().add(EntryType::Regular, "inner.tar", "", &inner).bytes()).unwrap()
    };
    let error = planned(&setup, context(), "ADD inner.tar /x/").unwrap_err().to_string();
    assert!(error.contains("it lies in an archive itself"), "{error}");
    assert!(planned(&setup, context(), "ADD --unpack=false inner.tar /x/").is_ok());
}

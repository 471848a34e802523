//! `--follow-links`: what symlinks point to is copied in their place, and never from where nobody said.

use std::fs;
use std::os::unix::fs::symlink;

use crossdock_builder::BuildContext;
use insta::assert_snapshot;

use crate::harness::Setup;

/// A setup in which links are followed.
fn following() -> Setup {
    let mut setup = Setup::new();
    setup.follow = Some(Vec::new());
    setup
}

fn warnings(setup: &Setup, containerfile: &str) -> String {
    setup.warnings(&setup.plan(containerfile)).replace(&setup.beside("").display().to_string(), "./")
}

#[test]
fn links_of_a_copied_directory_become_what_they_point_to() {
    let setup = following()
        .file("hub/blobs/1", "one", 0o644)
        .file("hub/blobs/2", "two", 0o600)
        .link("hub/snap/config.json", "../blobs/1")
        .link("hub/snap/again.json", "../blobs/1")
        .link("hub/snap/nested/model", "../../blobs/2")
        .link("hub/snap/abs", "/dir/c.txt")
        .link("hub/snap/directory", "../../dir")
        .link("hub/snap/chain", "config.json")
        .link("hub/snap/none", "nowhere");
    // Links to one file are names of one file, so that it is in the layer once.
    assert_snapshot!(setup.scratch("COPY hub/snap /m"), @r"
    COPY hub/snap /m:
      d 0755 0:0 /m
      f 0644 0:0 /m/abs = dir/c.txt
      f 0644 0:0 /m/again.json = hub/blobs/1
      h 0644 0:0 /m/chain -> /m/again.json
      h 0644 0:0 /m/config.json -> /m/again.json
      d 0755 0:0 /m/directory
      h 0644 0:0 /m/directory/c.txt -> /m/abs
      h 0644 0:0 /m/directory/inner -> /m/abs
      d 0700 0:0 /m/directory/sub
      f 0600 0:0 /m/directory/sub/d.txt = dir/sub/d.txt
      d 0755 0:0 /m/nested
      f 0600 0:0 /m/nested/model = hub/blobs/2
      l 0777 0:0 /m/none -> nowhere
    ");
    let told = warnings(&setup, "FROM scratch\nCOPY --chmod=a+rX hub/snap /m");
    assert_snapshot!(told, @"Containerfile:2:28: 1 symlink leads nowhere in the image: /m/none -> nowhere, copy the directory that holds both the links and what they point to");
}

#[test]
fn what_is_ignored_or_excluded_is_not_followed() {
    let setup = following()
        .file("blobs/1", "one", 0o644)
        .file("blobs/2", "two", 0o644)
        .file(".containerignore", "blobs/1\nsnap/skip\n", 0o644)
        .link("snap/a", "../blobs/1")
        .link("snap/b", "../blobs/2")
        .link("snap/c.tmp", "../blobs/2")
        .link("snap/skip", "../blobs/2");
    let text = "FROM scratch\nCOPY --exclude=*.tmp snap /m";
    assert_snapshot!(setup.layers(&setup.plan(text)), @r"
    COPY --exclude=*.tmp snap /m:
      d 0755 0:0 /m
      l 0777 0:0 /m/a -> ../blobs/1
      f 0644 0:0 /m/b = blobs/2
    ");
    let told = warnings(&setup, text);
    assert!(
        told.contains(r#"leaves 1 symlink as it is: "./ctx/snap/a" (ignored by .containerignore:1)"#),
        "{told}"
    );
}

#[test]
fn links_that_lead_round_end_somewhere() {
    let setup = following()
        .link("m/up", "..")
        .link("m/x/here", ".")
        .link("m/x/other", "../y")
        .link("m/y/back", "../x");
    let told = warnings(&setup, "FROM scratch\nCOPY m/x /x");
    assert!(told.contains("a directory around it"), "{told}");
    let layers = setup.scratch("COPY m/x /x");
    assert!(layers.contains("d 0755 0:0 /x/other\n"), "{layers}");
    assert!(layers.contains("l 0777 0:0 /x/other/back -> ../x"), "{layers}");
    // Each directory links to the next one twice: what is behind the links doubles with each.
    let mut setup = following();
    for level in 0..45 {
        let next = format!("../{}", level + 1);
        setup = setup.link(&format!("n/{level}/a"), &next).link(&format!("n/{level}/b"), &next);
    }
    let error = setup.file("n/45/f", "", 0o644).error("COPY n/0 /n");
    assert!(error.contains("--follow-links finds no end"), "{error}");
}

#[test]
fn nothing_is_followed_to_where_nobody_said() {
    let mut setup = following()
        .link("m/out", "../../secret/key")
        .link("m/abs", "/etc/passwd")
        .link("named", "../secret/key");
    fs::create_dir(setup.beside("secret")).unwrap();
    fs::write(setup.beside("secret/key"), "k").unwrap();
    assert_snapshot!(setup.scratch("COPY m /m"), @r"
    COPY m /m:
      d 0755 0:0 /m
      l 0777 0:0 /m/abs -> /etc/passwd
      l 0777 0:0 /m/out -> ../../secret/key
    ");
    let told = warnings(&setup, "FROM scratch\nCOPY m /m");
    let expected = r#"--follow-links leaves 2 symlinks as they are: "./ctx/m/abs" (it leads outside), "./ctx/m/out" (it leads outside); name the directory that they lead to with --build-context"#;
    assert!(told.contains(expected), "{told}");
    let error = setup.error("COPY named /m/");
    assert!(
        error.contains("leads outside") && error.ends_with("or name its directory with --build-context"),
        "{error}"
    );
    // A directory of --build-context is where somebody said.
    let secret = setup.beside("secret");
    setup.follow = Some(vec![secret.clone()]);
    setup.options.build_contexts.insert("more".to_owned(), BuildContext::Directory(secret));
    let image = setup.plan("FROM scratch\nCOPY m named /m/");
    let files: Vec<_> = image.layers[0].entries.iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(files, ["/m", "/m/abs", "/m/named", "/m/out"]);
    let told = setup.warnings(&image);
    assert!(told.contains("leaves 1 symlink ") && !told.contains("/m/out"), "{told}");
}

#[test]
fn links_that_are_followed_already_are_not_told_to_follow() {
    let mut setup = following();
    let more = setup.beside("more");
    fs::create_dir(&more).unwrap();
    symlink("../nowhere/x", more.join("lost")).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    archive.append_link(&mut header, "link", "nowhere").unwrap();
    fs::write(setup.context().join("x.tar"), archive.into_inner().unwrap()).unwrap();
    setup.options.build_contexts.insert("more".to_owned(), BuildContext::Directory(more.clone()));
    setup.follow = Some(vec![more]);
    let told = warnings(&setup, "FROM scratch\nCOPY --from=more / /m/\nADD x.tar /x/");
    assert!(told.contains("/m/lost") && told.contains("/x/link"), "{told}");
    assert!(!told.contains("build with --follow-links"), "{told}");
    setup.follow = None;
    let told = warnings(&setup, "FROM scratch\nADD x.tar /x/");
    assert!(told.contains("tar --dereference") && !told.contains("--follow-links"), "{told}");
}

/// The layout that `huggingface_hub` makes: see the module `follow`.
#[test]
fn a_snapshot_in_the_cache_of_hugging_face_has_its_blobs_beside_it() {
    let mut setup = following();
    let repository = setup.beside("hub/models--org--name");
    let snapshot = repository.join("snapshots/0123abcd");
    fs::create_dir_all(snapshot.join("onnx")).unwrap();
    fs::create_dir_all(repository.join("blobs")).unwrap();
    fs::write(repository.join("blobs/aa"), "{}").unwrap();
    fs::write(repository.join("blobs/bb"), "weights").unwrap();
    symlink("../../blobs/aa", snapshot.join("config.json")).unwrap();
    symlink("../../../blobs/bb", snapshot.join("onnx/model.onnx")).unwrap();
    // What lies in the repository beside the blobs is not meant.
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "0123abcd").unwrap();
    symlink("../../refs/main", snapshot.join("ref")).unwrap();
    setup.options.build_contexts.insert("hf".to_owned(), BuildContext::Directory(snapshot.clone()));
    setup.follow = Some(vec![snapshot]);
    let image = setup.plan("FROM scratch\nCOPY --from=hf / /models/\nCOPY --from=hf *.json /one/");
    let shown = image.layers.iter().flat_map(|layer| &layer.entries).map(|entry| {
        let kind = match &entry.kind {
            crossdock_storage::EntryKind::File(content) => format!("{} bytes", content.len()),
            other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
        };
        format!("{} {kind}", entry.path)
    });
    let shown: Vec<_> = shown.collect();
    assert_eq!(
        shown,
        [
            "/models Directory",
            "/models/config.json 2 bytes",
            "/models/onnx Directory",
            "/models/onnx/model.onnx 7 bytes",
            "/models/ref Symlink",
            "/one Directory",
            "/one/config.json 2 bytes",
        ]
    );
    let told = setup.warnings(&image);
    assert!(told.contains("/ref\" (it leads outside)"), "{told}");
}

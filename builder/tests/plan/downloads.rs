//! What a download has left beside the files of a model.

use std::fs;

use crossdock_builder::Downloads;
use insta::assert_snapshot;

use crate::harness::Setup;
use crate::models::model;

/// A directory that `hf download --local-dir` has written, with a file that it has not finished.
fn downloaded() -> Setup {
    let cache = "m/.cache/huggingface";
    model()
        .file(&format!("{cache}/.gitignore"), "*", 0o644)
        .file(&format!("{cache}/CACHEDIR.TAG"), "Signature", 0o644)
        .file(&format!("{cache}/download/config.json.metadata"), "c0ffee\n1700000000.5\n", 0o644)
        .file(&format!("{cache}/download/config.json.lock"), "", 0o644)
        .file("m/vocab.txt.incomplete", "half", 0o644)
        .file("m/sub/other.part", "half", 0o644)
}

#[test]
fn what_a_download_left_is_left_out_and_told_of() {
    let mut setup = downloaded();
    let image = setup.plan("FROM scratch\nCOPY m /m/");
    assert_snapshot!(setup.layers(&image), @"
    COPY m /m/:
      d 0755 0:0 /m
      f 0644 0:0 /m/config.json = m/config.json
      d 0755 0:0 /m/sub
    ");
    assert_snapshot!(setup.warnings(&image), @r#"Containerfile:2:8: COPY leaves out what a download has left: "m/.cache/huggingface", "m/sub/other.part", "m/vocab.txt.incomplete", 6 files of 38 bytes, build with --keep-download-cache to copy it"#);
    // A pattern names none of it.
    let image = setup.plan("FROM scratch\nCOPY m/* /m/");
    assert_snapshot!(setup.layers(&image), @"
    COPY m/* /m/:
      d 0755 0:0 /m
      f 0644 0:0 /m/config.json = m/config.json
    ");
    // By its name it is meant.
    for named in [
        "COPY m/.cache /m/.cache",
        "COPY m/.cache/huggingface /m/x",
        "COPY m/vocab.txt.incomplete /m/",
        "COPY m/*.incomplete /m/",
    ] {
        let image = setup.plan(&format!("FROM scratch\n{named}"));
        assert_eq!(setup.warnings(&image), "", "{named}");
        let files = image.layers[0]
            .entries
            .iter()
            .filter(|entry| matches!(entry.kind, crossdock_storage::EntryKind::File(_)));
        assert_eq!(files.count(), if named.contains("incomplete") { 1 } else { 4 }, "{named}");
    }
    // A stage has what was copied there.
    let of_stage = setup.scratch("COPY m/.cache /m/.cache\nFROM scratch\nCOPY --from=0 / /");
    assert!(of_stage.contains("config.json.metadata"), "{of_stage}");
    let all = |setup: &Setup| setup.plan("FROM scratch\nCOPY m /m/");
    setup.options.downloads = Downloads::Keep;
    let image = all(&setup);
    assert_eq!((setup.warnings(&image).as_str(), image.layers[0].entries.len()), ("", 12));
    setup.options.downloads = Downloads::Tell;
    let image = all(&setup);
    assert_eq!(image.layers[0].entries.len(), 12);
    assert_snapshot!(setup.warnings(&image), @r#"
    Containerfile:2:8: COPY takes files into the image that a download has not finished: "m/sub/other.part", "m/vocab.txt.incomplete", 2 files of 8 bytes, finish the download, or name them in --exclude
    Containerfile:2:8: COPY takes the notes of a download into the image: /m/.cache, 4 files of 30 bytes, add the line **/.cache to .containerignore
    "#);
}

#[test]
fn a_cache_that_holds_more_than_notes_of_a_download_stays() {
    let setup = downloaded()
        .file("m/.cache/huggingface/hub/models--a--b/blobs/1", "x", 0o644)
        .file("n/.cache/pip/x", "x", 0o644)
        .file("n/.incomplete", "x", 0o644)
        .file("n/some.partial", "x", 0o644);
    fs::create_dir_all(setup.context().join("n/empty/.cache/huggingface")).unwrap();
    assert_snapshot!(setup.scratch("COPY m n /x/"), @"
    COPY m n /x/:
      d 0755 0:0 /x
      d 0755 0:0 /x/.cache
      d 0755 0:0 /x/.cache/huggingface
      d 0755 0:0 /x/.cache/huggingface/hub
      d 0755 0:0 /x/.cache/huggingface/hub/models--a--b
      d 0755 0:0 /x/.cache/huggingface/hub/models--a--b/blobs
      f 0644 0:0 /x/.cache/huggingface/hub/models--a--b/blobs/1 = m/.cache/huggingface/hub/models--a--b/blobs/1
      d 0755 0:0 /x/.cache/pip
      f 0644 0:0 /x/.cache/pip/x = n/.cache/pip/x
      f 0644 0:0 /x/.incomplete = n/.incomplete
      f 0644 0:0 /x/config.json = m/config.json
      d 0755 0:0 /x/empty
      d 0755 0:0 /x/empty/.cache
      d 0755 0:0 /x/empty/.cache/huggingface
      f 0644 0:0 /x/some.partial = n/some.partial
      d 0755 0:0 /x/sub
    ");
    // With the directories above.
    assert_snapshot!(setup.scratch("COPY --parents m/./.cache m/./sub /x/"), @"
    COPY --parents m/./.cache m/./sub /x/:
      d 0755 0:0 /x
      d 0755 0:0 /x/.cache
      d 0755 0:0 /x/.cache/huggingface
      f 0644 0:0 /x/.cache/huggingface/.gitignore = m/.cache/huggingface/.gitignore
      f 0644 0:0 /x/.cache/huggingface/CACHEDIR.TAG = m/.cache/huggingface/CACHEDIR.TAG
      d 0755 0:0 /x/.cache/huggingface/download
      f 0644 0:0 /x/.cache/huggingface/download/config.json.lock = m/.cache/huggingface/download/config.json.lock
      f 0644 0:0 /x/.cache/huggingface/download/config.json.metadata = m/.cache/huggingface/download/config.json.metadata
      d 0755 0:0 /x/.cache/huggingface/hub
      d 0755 0:0 /x/.cache/huggingface/hub/models--a--b
      d 0755 0:0 /x/.cache/huggingface/hub/models--a--b/blobs
      f 0644 0:0 /x/.cache/huggingface/hub/models--a--b/blobs/1 = m/.cache/huggingface/hub/models--a--b/blobs/1
      d 0755 0:0 /x/sub
    ");
    assert_snapshot!(setup.scratch("COPY --parents m/*/huggingface /x/"), @"
    COPY --parents m/*/huggingface /x/:
      d 0755 0:0 /x
      d 0755 0:0 /x/m
      d 0755 0:0 /x/m/.cache
      d 0755 0:0 /x/m/.cache/huggingface
      f 0644 0:0 /x/m/.cache/huggingface/.gitignore = m/.cache/huggingface/.gitignore
      f 0644 0:0 /x/m/.cache/huggingface/CACHEDIR.TAG = m/.cache/huggingface/CACHEDIR.TAG
      d 0755 0:0 /x/m/.cache/huggingface/download
      f 0644 0:0 /x/m/.cache/huggingface/download/config.json.lock = m/.cache/huggingface/download/config.json.lock
      f 0644 0:0 /x/m/.cache/huggingface/download/config.json.metadata = m/.cache/huggingface/download/config.json.metadata
      d 0755 0:0 /x/m/.cache/huggingface/hub
      d 0755 0:0 /x/m/.cache/huggingface/hub/models--a--b
      d 0755 0:0 /x/m/.cache/huggingface/hub/models--a--b/blobs
      f 0644 0:0 /x/m/.cache/huggingface/hub/models--a--b/blobs/1 = m/.cache/huggingface/hub/models--a--b/blobs/1
    ");
}

//! What is most likely not meant: leftovers of clones and downloads, and files that no pod may read.

use crossdock_builder::{FileTree, Node};
use insta::assert_snapshot;

use crate::harness::{Setup, path};

fn config() -> serde_json::Value {
    serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } })
}

#[test]
fn what_a_clone_left_is_told_with_the_line_that_keeps_it_out() {
    let setup = Setup::new()
        .mode("dir/sub", 0o755)
        .mode("dir/sub/d.txt", 0o644)
        .file("m/.git/HEAD", "ref", 0o644)
        .file("m/.git/lfs/ab", &"x".repeat(2048), 0o644)
        .hard_link("m/.git/lfs/ab", "m/model.bin")
        .file("m/.git/only", &"y".repeat(1536), 0o644)
        .file("m/sub/.git", "gitdir: x", 0o644)
        .file("m/.cache/huggingface/hub/x", "", 0o644)
        .file("m/.gitignore", "", 0o644);
    let warnings = |instructions: &str| setup.warnings(&setup.plan(&format!("FROM scratch\n{instructions}")));
    assert_snapshot!(warnings("COPY . /x/"), @"
    Containerfile:2:8: COPY takes the history of a git clone into the image: /x/m/.git, /x/m/sub/.git, 4 files of 1.5 KiB, add the line **/.git to .containerignore
    Containerfile:2:8: COPY takes the notes of a download into the image: /x/m/.cache, 1 file of 0 bytes, add the line **/.cache to .containerignore
    ");
    // What is named is meant, and so is what only the destination calls so.
    for meant in [
        "COPY m/.git /x/",
        "COPY --parents m/.git /x/",
        "COPY m/.git/lfs /x/.git/",
        "COPY dir /root/.cache/hub/",
    ] {
        assert_eq!(warnings(&format!("{meant}\nCOPY a.txt /x/")), "", "{meant}");
    }
    // What is not in the image is nobody's concern.
    assert_eq!(warnings("COPY m /x/\nFROM scratch\nCOPY --from=0 /x/model.bin /x/"), "");
    assert_snapshot!(warnings("COPY m /x/\nFROM scratch\nCOPY --from=0 /x /y"), @"
    Containerfile:4:18: COPY takes the history of a git clone into the image: /y/.git, /y/sub/.git, 4 files of 1.5 KiB, write COPY --exclude=**/.git
    Containerfile:4:18: COPY takes the notes of a download into the image: /y/.cache, 1 file of 0 bytes, write COPY --exclude=**/.cache
    ");
    assert_eq!(warnings("COPY --exclude=**/.git --exclude=**/.cache m /x/"), "");
    let setup = setup.file(".dockerignore", "# nothing\nb.txt\n", 0o644);
    let told = setup.warnings(&setup.plan("FROM scratch\nCOPY m /x/"));
    assert!(told.contains("add the line **/.git to .dockerignore"), "{told}");
    let setup = setup.file(".dockerignore", "**/.git\n**/.cache\n", 0o644);
    assert_eq!(setup.warnings(&setup.plan("FROM scratch\nCOPY m /x/")), "");
}

#[test]
fn files_that_no_pod_may_read_are_told_with_the_mode_that_mends_it() {
    let setup = Setup::new()
        .mode("dir/sub", 0o755)
        .mode("dir/sub/d.txt", 0o644)
        .file("m/a", "", 0o600)
        .file("m/b", "", 0o600)
        .file("m/c", "", 0o644)
        .file("m/d", "", 0o640)
        .file("m/e/f", "", 0o600)
        .mode("m/e", 0o700);
    let warnings = |instructions: &str| setup.warnings(&setup.plan(&format!("FROM scratch\n{instructions}")));
    assert_snapshot!(warnings("COPY m /m"), @"Containerfile:2:8: a pod's user in group 0, as OpenShift gives one, cannot read what COPY adds: /m/a, /m/b, /m/e and 1 more, write COPY --chmod=a+rX");
    // Group 0 may read /m/d, whichever user is in it; group 7 may not.
    assert_snapshot!(warnings("COPY m/d /m/\nUSER 1001"), @"");
    assert_snapshot!(warnings("COPY m/d /m/\nUSER 1001:7"), @"Containerfile:2:10: USER 1001:7 cannot read what COPY adds: /m/d, write COPY --chmod=a+rX");
    assert_snapshot!(warnings("COPY --chown=1001 m/a /m/\nUSER 1001"), @"Containerfile:2:23: a pod's user in group 0, as OpenShift gives one, cannot read what COPY adds: /m/a, write COPY --chmod=a+rX");
    // A mode that is written is meant, but for the user that the image itself names, and for directories that nobody may
    // enter; one that changes what was there is looked at.
    assert_eq!(warnings("COPY --chmod=0600 m/a /m/"), "");
    assert_eq!(warnings("COPY --chmod=0600 --chown=7 m/a /m/\nUSER 7"), "");
    assert_snapshot!(warnings("COPY --chmod=0600 m/a /m/\nUSER 7"), @"Containerfile:2:23: USER 7 cannot read what COPY adds: /m/a, write COPY --chmod=a+r and not --chmod=0600");
    assert_snapshot!(warnings("COPY --chmod=0600 <<EOF /m/\nx\nEOF\nUSER 7"), @"Containerfile:2:25: USER 7 cannot read what COPY adds: /m/EOF, write COPY --chmod=a+r and not --chmod=0600");
    assert_snapshot!(warnings("COPY --chmod=0644 m /m"), @"Containerfile:2:21: a pod's user in group 0, as OpenShift gives one, cannot read what COPY adds: /m/e, write COPY --chmod=a+rX and not --chmod=0644, which is the mode of directories too");
    assert_eq!(warnings("COPY --chmod=0755 m /m\nUSER 7"), "");
    assert_eq!(warnings("COPY --chmod=a+rX m /m"), "");
    assert_snapshot!(warnings("COPY --chmod=u+x m/a /m/"), @"Containerfile:2:22: a pod's user in group 0, as OpenShift gives one, cannot read what COPY adds: /m/a, write COPY --chmod=u+x,a+rX");
    assert!(warnings("COPY --chmod=u+x m /m").contains("/m/a, /m/b, /m/e and 1 more"));
    // What the next instruction puts in its place counts, and what other stages hold does not.
    assert_eq!(warnings("COPY m/a /m/\nCOPY --chmod=0644 m/a /m/"), "");
    assert_eq!(warnings("COPY m /m\nFROM scratch\nCOPY --from=0 /m/c /m/"), "");
    let image = setup.plan("FROM scratch AS one\nCOPY m /m\nFROM one\nUSER 7");
    assert!(setup.warnings(&image).starts_with("Containerfile:2:8: USER 7 cannot read what COPY adds"));
    // What an archive unpacks has the modes that it has there, and root reads all.
    assert_eq!(warnings("COPY --chmod=0600 m/a /m/\nUSER root"), "");
}

#[test]
fn a_directory_of_the_base_that_the_user_cannot_enter_is_told() {
    let mut tree = FileTree::empty();
    tree.insert(&path("root"), Node::directory(0o700));
    tree.insert(&path("home/app"), Node { uid: 7, gid: 7, ..Node::directory(0o700) });
    let setup = Setup::new().base("base", config(), tree).file("m/a", "", 0o644).file("m/b", "", 0o644);
    let warnings = |text: &str| setup.warnings(&setup.plan(&format!("FROM base\n{text}")));
    assert_snapshot!(warnings("COPY m /root/models\nUSER 7"), @"Containerfile:2:8: USER 7 cannot enter /root, where COPY puts /root/models, /root/models/a, /root/models/b, copy to a directory that all may enter; the mode of this one is the base image's");
    assert_eq!(warnings("COPY m /home/app/models\nUSER 7"), "");
    // Whose user is not said keeps what a base keeps from others.
    assert_eq!(warnings("COPY m /root/models"), "");
}

#[test]
fn symlinks_that_lead_nowhere_in_the_image_are_told_with_their_number() {
    let mut tree = FileTree::empty();
    tree.insert(&path("usr/lib"), Node::directory(0o755));
    let setup = Setup::new()
        .base("base", config(), tree)
        .link("m/abs", "/nowhere/x")
        .link("m/base", "/usr/lib")
        .link("m/loop", "loop")
        .link("m/out", "../../../a.txt")
        .link("m/through", "file/x")
        .link("m/proc", "/proc/self/mounts")
        .link("m/volume", "/data/x")
        .file("m/file", "", 0o644);
    let warnings = |text: &str| setup.warnings(&setup.plan(&format!("FROM base\n{text}")));
    assert_snapshot!(warnings("COPY m /m\nVOLUME /data"), @"Containerfile:2:8: 4 symlinks lead nowhere in the image: /m/abs -> /nowhere/x, /m/loop -> loop, /m/out -> ../../../a.txt and 1 more, build with --follow-links to copy what they point to, or copy the directory that holds both");
    // What another instruction or another stage brings counts, whichever comes first.
    assert_snapshot!(warnings("COPY m /m\nCOPY dir/c.txt /nowhere/x\nCOPY --chmod=0644 a.txt /a.txt\nVOLUME /data"), @"Containerfile:2:8: 2 symlinks lead nowhere in the image: /m/loop -> loop, /m/through -> file/x, build with --follow-links to copy what they point to, or copy the directory that holds both");
    assert_eq!(
        warnings(
            "COPY --exclude=loop --exclude=through --exclude=out --exclude=volume m /m\nCOPY dir/c.txt /nowhere/x"
        ),
        ""
    );
    // Nor does a link that another file takes the place of.
    assert!(!warnings("COPY m /m\nCOPY m/file /m/abs").contains("/m/abs"));
    assert_snapshot!(warnings("COPY m /m\nFROM base\nCOPY --from=0 /m/ /n"), @"Containerfile:4:19: 5 symlinks lead nowhere in the image: /n/abs -> /nowhere/x, /n/loop -> loop, /n/out -> ../../../a.txt and 2 more, copy the directory that holds both the links and what they point to");
}

#[test]
fn sources_that_land_on_one_path_are_told_by_their_names() {
    let setup = Setup::new()
        .file("m/config.json", "{}", 0o644)
        .file("m/inference/config.json", "{}", 0o644)
        .file("m/inference/model.py", "", 0o644)
        .file("m/tool", "", 0o644)
        .file("n/tool/x", "", 0o644)
        .file("same/config.json", "{}", 0o644);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, text) in [("config.json", "1"), ("config.json", "2"), ("other", "")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    let archive = archive.into_inner().unwrap();
    std::fs::write(setup.context().join("x.tar"), &archive).unwrap();
    std::fs::write(setup.context().join("y.tar"), &archive).unwrap();
    let warnings = |instructions: &str| setup.warnings(&setup.plan(&format!("FROM scratch\n{instructions}")));
    let told = [
        "COPY m/* /models/",
        "COPY m/inference m /models/",
        "COPY m/config.json same/config.json /models/",
        "ADD same x.tar /models/",
        "ADD x.tar y.tar m /models/",
        "COPY m n /models/",
        "COPY <<a <<a <<b /models/\none\na\ntwo\na\nthree\nb",
        "COPY --parents m/./config.json same/./config.json /models/",
        "COPY m /first/\nCOPY same /second/\nFROM scratch\nCOPY --from=0 /first /second /models/",
    ]
    .map(&warnings)
    .join("\n");
    assert_snapshot!(told, @r##"
Containerfile:2:10: several sources of COPY have one path, and the last wins: /models/config.json is "m/inference/config.json" and not "m/config.json", copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents
Containerfile:2:20: several sources of COPY have one path, and the last wins: /models/config.json is "m/config.json" and not "m/inference/config.json", copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents
Containerfile:2:37: several sources of COPY have one path, and the last wins: /models/config.json is "same/config.json" and not "m/config.json", copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents
Containerfile:2:16: several sources of ADD have one path, and the last wins: /models/config.json is "config.json" in "x.tar" and not "same/config.json", copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents
Containerfile:2:19: several sources of ADD have one path, and the last wins: /models/config.json is "m/config.json" and not "config.json" in "y.tar", copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents
Containerfile:2:10: several sources of COPY have one path, and the last wins: /models/tool is "n/tool" and not "m/tool", copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents
Containerfile:2:18: several sources of COPY have one path, and the last wins: /models/a is heredoc 2 of the name a and not heredoc 1 of the name a, copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents
Containerfile:2:51: several sources of COPY have one path, and the last wins: /models/config.json is "same/config.json" and not "m/config.json", copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents
Containerfile:5:30: several sources of COPY have one path, and the last wins: /models/config.json is "second/config.json" and not "first/config.json", copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents
"##);
    // Two instructions mean it, one file is no loss, and an archive may have a path twice.
    for meant in [
        "COPY m /models/\nCOPY same /models/",
        "COPY m/config.json m/* /models/m/\nCOPY m/c* m/config.json /models/n/",
        "ADD x.tar /models/",
        "COPY --parents m/config.json same/config.json /models/",
    ] {
        assert_eq!(
            warnings(meant).lines().filter(|line| line.contains("one path")).count(),
            usize::from(meant.contains("m/*")),
            "{meant}"
        );
    }
    let many: Vec<String> = (0..14).map(|n| format!("many/{n}/f{n} many/x/f{n}")).collect();
    let mut setup = setup;
    for n in 0..14 {
        setup = setup.file(&format!("many/{n}/f{n}"), "", 0o644).file(&format!("many/x/f{n}"), "x", 0o644);
    }
    let told = setup.warnings(&setup.plan(&format!("FROM scratch\nCOPY {} /d/", many.join(" "))));
    assert_eq!(told.matches(" and not ").count(), 10, "{told}");
    assert!(told.contains("and so it is with 4 more"), "{told}");
}

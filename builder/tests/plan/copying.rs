//! What COPY and ADD make of the context, as buildah 1.28.2 does unless docs/containerfile.md says otherwise.

use std::sync::Arc;

use bytes::Bytes;
use crossdock_builder::{FileTree, Node, NodeKind};
use insta::assert_snapshot;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{Setup, path, socket};

#[test]
fn a_file_goes_into_a_directory_or_gets_a_name() {
    let setup = Setup::new();
    assert_snapshot!(setup.scratch("COPY a.txt /new/deep/\nCOPY a.txt /new/name\nCOPY a.txt b.txt /two\nCOPY a.txt /two"), @r"
    COPY a.txt /new/deep/:
      d 0755 0:0 /new
      d 0755 0:0 /new/deep
      f 0640 0:0 /new/deep/a.txt = a.txt
    COPY a.txt /new/name:
      f 0640 0:0 /new/name = a.txt
    COPY a.txt b.txt /two:
      d 0755 0:0 /two
      f 0640 0:0 /two/a.txt = a.txt
      f 0644 0:0 /two/b.txt = b.txt
    COPY a.txt /two:
      f 0640 0:0 /two/a.txt = a.txt
    ");
}

#[test]
fn a_directory_gives_its_contents_and_not_its_mode() {
    let setup = Setup::new().mode("dir", 0o700);
    assert_snapshot!(setup.scratch("COPY dir /d\nCOPY dir/sub dir /d"), @r"
    COPY dir /d:
      d 0755 0:0 /d
      f 0644 0:0 /d/c.txt = dir/c.txt
      l 0777 0:0 /d/inner -> c.txt
      d 0700 0:0 /d/sub
      f 0600 0:0 /d/sub/d.txt = dir/sub/d.txt
    COPY dir/sub dir /d:
      f 0644 0:0 /d/c.txt = dir/c.txt
      f 0600 0:0 /d/d.txt = dir/sub/d.txt
      l 0777 0:0 /d/inner -> c.txt
      d 0700 0:0 /d/sub
      f 0600 0:0 /d/sub/d.txt = dir/sub/d.txt
    ");
}

#[test]
fn a_link_that_is_named_is_followed() {
    let setup = Setup::new().link("abs", "/dir/sub").link("chain", "dirlink/../filelink");
    assert_snapshot!(setup.scratch("COPY filelink dirlink/c.txt abs/d.txt chain /x/\nCOPY abs /y"), @r"
    COPY filelink dirlink/c.txt abs/d.txt chain /x/:
      d 0755 0:0 /x
      f 0644 0:0 /x/c.txt = dir/c.txt
      f 0640 0:0 /x/chain = a.txt
      f 0600 0:0 /x/d.txt = dir/sub/d.txt
      f 0640 0:0 /x/filelink = a.txt
    COPY abs /y:
      d 0755 0:0 /y
      f 0600 0:0 /y/d.txt = dir/sub/d.txt
    ");
}

#[test]
fn wildcards_match_one_part_each() {
    let setup = Setup::new().file("x[1].txt", "x", 0o644).file(".hidden.txt", "h", 0o644);
    assert_snapshot!(setup.scratch("COPY *.txt /t/\nCOPY d*/s?b /s/\nCOPY [a-b].txt /r/\nCOPY x[1].txt /l\nCOPY dir/[^s]* /n/"), @r"
    COPY *.txt /t/:
      d 0755 0:0 /t
      f 0644 0:0 /t/.hidden.txt = .hidden.txt
      f 0640 0:0 /t/a.txt = a.txt
      f 0644 0:0 /t/b.txt = b.txt
      f 0644 0:0 /t/x[1].txt = x[1].txt
    COPY d*/s?b /s/:
      d 0755 0:0 /s
      f 0600 0:0 /s/d.txt = dir/sub/d.txt
    COPY [a-b].txt /r/:
      d 0755 0:0 /r
      f 0640 0:0 /r/a.txt = a.txt
      f 0644 0:0 /r/b.txt = b.txt
    COPY x[1].txt /l:
      f 0644 0:0 /l = x[1].txt
    COPY dir/[^s]* /n/:
      d 0755 0:0 /n
      f 0644 0:0 /n/c.txt = dir/c.txt
      f 0644 0:0 /n/inner = dir/c.txt
    ");
}

#[test]
fn two_stars_match_at_any_depth() {
    let setup = Setup::new().file("dir/sub/deep/e.txt", "e", 0o644).mode("dir/sub/deep", 0o755);
    let lines = "COPY **/*.txt /all/\nCOPY dir/**/s*/*.txt /d/\nCOPY dir/**/sub /s\nCOPY dir/** /tree/\nCOPY **/**/c.txt /c";
    assert_snapshot!(setup.scratch(lines), @r"
    COPY **/*.txt /all/:
      d 0755 0:0 /all
      f 0640 0:0 /all/a.txt = a.txt
      f 0644 0:0 /all/b.txt = b.txt
      f 0644 0:0 /all/c.txt = dir/c.txt
      f 0600 0:0 /all/d.txt = dir/sub/d.txt
      f 0644 0:0 /all/e.txt = dir/sub/deep/e.txt
    COPY dir/**/s*/*.txt /d/:
      d 0755 0:0 /d
      f 0600 0:0 /d/d.txt = dir/sub/d.txt
    COPY dir/**/sub /s:
      d 0755 0:0 /s
      f 0600 0:0 /s/d.txt = dir/sub/d.txt
      d 0755 0:0 /s/deep
      f 0644 0:0 /s/deep/e.txt = dir/sub/deep/e.txt
    COPY dir/** /tree/:
      d 0755 0:0 /tree
      f 0644 0:0 /tree/c.txt = dir/c.txt
      l 0777 0:0 /tree/inner -> c.txt
      d 0700 0:0 /tree/sub
      f 0600 0:0 /tree/sub/d.txt = dir/sub/d.txt
      d 0755 0:0 /tree/sub/deep
      f 0644 0:0 /tree/sub/deep/e.txt = dir/sub/deep/e.txt
    COPY **/**/c.txt /c:
      f 0644 0:0 /c = dir/c.txt
    ");
    let error = setup.error("COPY a.txt/** /x/");
    assert_snapshot!(error, @r#"Containerfile:2:6: COPY source "a.txt/**" matches nothing in the build context ./ctx"#);
}

#[test]
fn a_pattern_may_match_nothing_where_another_source_is_there() {
    let setup = Setup::new();
    let lines = "COPY *.none a.t* /d/\nADD *.none b.txt /e\nCOPY *.txt *.none dir/*.none /f/";
    assert_snapshot!(setup.scratch(lines), @r"
    COPY *.none a.t* /d/:
      d 0755 0:0 /d
      f 0640 0:0 /d/a.txt = a.txt
    ADD *.none b.txt /e:
      d 0755 0:0 /e
      f 0644 0:0 /e/b.txt = b.txt
    COPY *.txt *.none dir/*.none /f/:
      d 0755 0:0 /f
      f 0640 0:0 /f/a.txt = a.txt
      f 0644 0:0 /f/b.txt = b.txt
    ");
    for (instruction, expected) in [
        (
            "COPY *.none no*thing /x/",
            r#"Containerfile:2:6: COPY sources "*.none", "no*thing" match nothing in the build context ./ctx"#,
        ),
        (
            "COPY *.txt nothing /x/",
            r#"Containerfile:2:12: COPY source "nothing" is not in the build context ./ctx"#,
        ),
    ] {
        assert_eq!(setup.error(instruction), expected, "{instruction}");
    }
    let stages = "FROM scratch AS one\nCOPY *.txt dir /o/\nFROM scratch\nCOPY --from=one";
    let image = setup.plan(&format!("{stages} /o/*.none /o/**/*.txt /p/"));
    assert_snapshot!(setup.layers(&image), @r"
    COPY --from=one /o/*.none /o/**/*.txt /p/:
      d 0755 0:0 /p
      f 0640 0:0 /p/a.txt = a.txt
      f 0644 0:0 /p/b.txt = b.txt
      f 0644 0:0 /p/c.txt = dir/c.txt
      f 0600 0:0 /p/d.txt = dir/sub/d.txt
    ");
    let error = setup.file_error(&format!("{stages} /o/*.none /p/"));
    assert_snapshot!(error, @r#"Containerfile:4:17: COPY source "/o/*.none" matches nothing in stage "one""#);
}

#[test]
fn a_directory_among_the_matches_makes_the_destination_one() {
    let setup = Setup::new().file("double/x", "x", 0o644);
    assert_snapshot!(setup.scratch("COPY d*e /d\nCOPY d* /e"), @r"
    COPY d*e /d:
      d 0755 0:0 /d
      f 0644 0:0 /d/x = double/x
    COPY d* /e:
      d 0755 0:0 /e
      f 0644 0:0 /e/c.txt = dir/c.txt
      l 0777 0:0 /e/inner -> c.txt
      d 0700 0:0 /e/sub
      f 0600 0:0 /e/sub/d.txt = dir/sub/d.txt
      f 0644 0:0 /e/x = double/x
    ");
}

#[test]
fn owners_and_modes() {
    let setup = Setup::new().mode("b.txt", 0o6755);
    assert_snapshot!(setup.scratch("COPY --chown=5:6 a.txt /own/deep/x\nCOPY --chown=7 a.txt /own/\nCOPY --chmod=600 dir /m\nCOPY b.txt /s\nCOPY --chmod=4711 b.txt /t"), @r"
    COPY --chown=5:6 a.txt /own/deep/x:
      d 0755 5:6 /own
      d 0755 5:6 /own/deep
      f 0640 5:6 /own/deep/x = a.txt
    COPY --chown=7 a.txt /own/:
      f 0640 7:7 /own/a.txt = a.txt
    COPY --chmod=600 dir /m:
      d 0755 0:0 /m
      f 0600 0:0 /m/c.txt = dir/c.txt
      l 0777 0:0 /m/inner -> c.txt
      d 0600 0:0 /m/sub
      f 0600 0:0 /m/sub/d.txt = dir/sub/d.txt
    COPY b.txt /s:
      f 0755 0:0 /s = b.txt
    COPY --chmod=4711 b.txt /t:
      f 4711 0:0 /t = b.txt
    ");
}

#[test]
fn workdir_is_made_and_relative_destinations_begin_there() {
    let setup = Setup::new();
    assert_snapshot!(setup.scratch("WORKDIR /w/k\nCOPY a.txt .\nCOPY a.txt rel/\nCOPY a.txt ../up\nUSER 5\nWORKDIR ../own\nWORKDIR /w\nCOPY b.txt /w"), @r"
    WORKDIR /w/k:
      d 0755 0:0 /w
      d 0755 0:0 /w/k
    COPY a.txt .:
      f 0640 0:0 /w/k/a.txt = a.txt
    COPY a.txt rel/:
      d 0755 0:0 /w/k/rel
      f 0640 0:0 /w/k/rel/a.txt = a.txt
    COPY a.txt ../up:
      f 0640 0:0 /w/up = a.txt
    WORKDIR ../own:
      d 0755 5:5 /w/own
    COPY b.txt /w:
      f 0644 0:0 /w/b.txt = b.txt
    ");
}

#[test]
fn names_of_one_file_are_hard_links_in_a_copied_directory() {
    let setup = Setup::new()
        .hard_link("dir/c.txt", "dir/aa")
        .hard_link("dir/c.txt", "dir/sub/zz")
        .hard_link("dir/c.txt", "top");
    assert_snapshot!(setup.scratch("COPY dir /d\nCOPY top dir/c.txt /e/"), @r"
    COPY dir /d:
      d 0755 0:0 /d
      f 0644 0:0 /d/aa = dir/aa
      h 0644 0:0 /d/c.txt -> /d/aa
      l 0777 0:0 /d/inner -> c.txt
      d 0700 0:0 /d/sub
      f 0600 0:0 /d/sub/d.txt = dir/sub/d.txt
      h 0644 0:0 /d/sub/zz -> /d/aa
    COPY top dir/c.txt /e/:
      d 0755 0:0 /e
      f 0644 0:0 /e/c.txt = dir/c.txt
      f 0644 0:0 /e/top = top
    ");
}

#[test]
fn ignored_files_stay_out_and_exceptions_come_back() {
    let setup = Setup::new().file(
        ".containerignore",
        "# models\ndir\n!dir/sub\n*.txt\n!b.txt\n.containerignore",
        0o644,
    );
    assert_snapshot!(setup.scratch("COPY . /all\nCOPY dir /d"), @r"
    COPY . /all:
      d 0755 0:0 /all
      f 0644 0:0 /all/b.txt = b.txt
      d 0755 0:0 /all/dir
      d 0700 0:0 /all/dir/sub
      f 0600 0:0 /all/dir/sub/d.txt = dir/sub/d.txt
      l 0777 0:0 /all/dirlink -> dir
      l 0777 0:0 /all/filelink -> a.txt
    COPY dir /d:
      d 0755 0:0 /d
      d 0700 0:0 /d/sub
      f 0600 0:0 /d/sub/d.txt = dir/sub/d.txt
    ");
}

#[test]
fn exclude_leaves_out() {
    let setup = Setup::new();
    assert_snapshot!(setup.scratch("COPY --exclude=*.txt --exclude=inner dir /d\nCOPY --exclude=a* *.txt /t/\nCOPY --exclude=**/d.txt dir /e"), @r"
    COPY --exclude=*.txt --exclude=inner dir /d:
      d 0755 0:0 /d
      d 0700 0:0 /d/sub
      f 0600 0:0 /d/sub/d.txt = dir/sub/d.txt
    COPY --exclude=a* *.txt /t/:
      d 0755 0:0 /t
      f 0644 0:0 /t/b.txt = b.txt
    COPY --exclude=**/d.txt dir /e:
      d 0755 0:0 /e
      f 0644 0:0 /e/c.txt = dir/c.txt
      l 0777 0:0 /e/inner -> c.txt
      d 0700 0:0 /e/sub
    ");
}

#[test]
fn heredocs_are_files() {
    let setup = Setup::new();
    assert_snapshot!(setup.scratch("ENV X=1\nCOPY <<a <<\"b\" /h/\n$X\na\n$X\nb\nCOPY --chmod=755 <<run.sh /run.sh\nhi\nrun.sh\n"), @r#"
    COPY <<a <<"b" /h/:
      d 0755 0:0 /h
      f 0644 0:0 /h/a = "1\n"
      f 0644 0:0 /h/b = "$X\n"
    COPY --chmod=755 <<run.sh /run.sh:
      f 0755 0:0 /run.sh = "hi\n"
    "#);
    let script = "COPY <<EOF /start.sh\nexec serve \\\n  --port $X\\$PORT \\\n  --path 'a\\\\b\\n'\nEOF\n";
    assert_snapshot!(setup.scratch(&format!("ENV X=1\n{script}")), @r#"
    COPY <<EOF /start.sh:
      f 0644 0:0 /start.sh = "exec serve \\\n  --port 1$PORT \\\n  --path 'a\\b\\n'\n"
    "#);
}

#[test]
fn links_of_the_image_are_followed_inside_its_root() {
    let setup = Setup::new()
        .file("mk/real/t", "t", 0o644)
        .link("mk/link", "/real")
        .link("mk/flink", "real/t")
        .link("mk/gone", "../made")
        .file("over/link/q", "q", 0o644);
    assert_snapshot!(setup.scratch("COPY mk /\nCOPY a.txt /link/\nCOPY a.txt /link/via\nCOPY b.txt /flink\nCOPY a.txt /gone\nCOPY over /"), @r"
    COPY mk /:
      l 0777 0:0 /flink -> real/t
      l 0777 0:0 /gone -> ../made
      l 0777 0:0 /link -> /real
      d 0755 0:0 /real
      f 0644 0:0 /real/t = mk/real/t
    COPY a.txt /link/:
      f 0640 0:0 /real/a.txt = a.txt
    COPY a.txt /link/via:
      f 0640 0:0 /real/via = a.txt
    COPY b.txt /flink:
      f 0644 0:0 /flink = b.txt
    COPY a.txt /gone:
      d 0755 0:0 /made
      f 0640 0:0 /made/a.txt = a.txt
    COPY over /:
      d 0755 0:0 /real
      f 0644 0:0 /real/q = over/link/q
    ");
}

#[test]
fn directories_of_the_base_are_not_written_again() {
    let mut tree = FileTree::empty();
    tree.insert(&path("tmp"), Node::directory(0o1777));
    tree.insert(&path("run"), Node::directory(0o755));
    tree.insert(
        &path("var/run"),
        Node { kind: NodeKind::Symlink(Arc::new(Bytes::from_static(b"../run"))), ..Node::directory(0) },
    );
    let setup = Setup::new().base("known", serde_json::json!({}), tree).base(
        "unknown",
        serde_json::json!({}),
        FileTree::unknown(),
    );
    let instructions =
        "COPY a.txt /tmp/x/\nCOPY a.txt /var/run/new/\nWORKDIR /tmp\nWORKDIR /var/run/w\nCOPY a.txt /tmp";
    assert_snapshot!(setup.layers(&setup.plan(&format!("FROM known\n{instructions}"))), @r"
    COPY a.txt /tmp/x/:
      d 0755 0:0 /tmp/x
      f 0640 0:0 /tmp/x/a.txt = a.txt
    COPY a.txt /var/run/new/:
      d 0755 0:0 /run/new
      f 0640 0:0 /run/new/a.txt = a.txt
    WORKDIR /var/run/w:
      d 0755 0:0 /run/w
    COPY a.txt /tmp:
      f 0640 0:0 /tmp/a.txt = a.txt
    ");
    let image = setup.plan(&format!("FROM unknown\n{instructions}\nCOPY dir /opt\nCOPY a.txt /etc"));
    assert_snapshot!(setup.layers(&image), @r"
    COPY a.txt /tmp/x/:
      f 0640 0:0 /tmp/x/a.txt = a.txt
    COPY a.txt /var/run/new/:
      f 0640 0:0 /var/run/new/a.txt = a.txt
    COPY a.txt /tmp:
      f 0640 0:0 /tmp/a.txt = a.txt
    COPY dir /opt:
      f 0644 0:0 /opt/c.txt = dir/c.txt
      l 0777 0:0 /opt/inner -> c.txt
      d 0700 0:0 /opt/sub
      f 0600 0:0 /opt/sub/d.txt = dir/sub/d.txt
    COPY a.txt /etc:
      f 0640 0:0 /etc = a.txt
    ");
    assert_snapshot!(setup.warnings(&image), @"
    Containerfile:8:12: /etc is written as a file, though the base image might have a directory there, end the destination with / to copy into a directory
    Containerfile:7:10: a pod's user in group 0, as OpenShift gives one, cannot read what COPY adds: /opt/sub, /opt/sub/d.txt, write COPY --chmod=a+rX
    ");
}

#[test]
fn a_link_that_will_lead_to_nothing_is_warned_of() {
    let setup = Setup::new().file("hub/blobs/1", "x", 0o644).link("hub/snap/model.bin", "../blobs/1");
    let image = setup.plan("FROM scratch\nCOPY hub/snap /models");
    assert_snapshot!(setup.warnings(&image), @"Containerfile:2:15: 1 symlink leads nowhere in the image: /models/model.bin -> ../blobs/1, build with --follow-links to copy what they point to, or copy the directory that holds both");
    let image = setup.plan("FROM scratch\nCOPY hub /models");
    assert_snapshot!(setup.warnings(&image), @"");
}

#[test]
fn sources_that_are_not_there_are_told_with_the_reason() {
    let setup = Setup::new()
        .file(".containerignore", "# big\nmodels\nb.*\n", 0o644)
        .file("models/m", "", 0o644)
        .link("out", "../../etc/passwd")
        .link("abs", "/etc/passwd")
        .link("dangling", "nowhere")
        .link("loop", "loop");
    for (instruction, expected) in [
        ("COPY nothing /x", r#"Containerfile:2:6: COPY source "nothing" is not in the build context ./ctx"#),
        (
            "COPY models /x",
            r#"Containerfile:2:6: COPY source "models" is not in the build context ./ctx (ignored by .containerignore:2)"#,
        ),
        (
            "COPY models/m /x",
            r#"Containerfile:2:6: COPY source "models/m" is not in the build context ./ctx (ignored by .containerignore:2)"#,
        ),
        (
            "COPY b.t* /x",
            r#"Containerfile:2:6: COPY source "b.t*" matches only what is ignored in the build context ./ctx ("b.txt" by .containerignore:3)"#,
        ),
        (
            "COPY $NONE /x",
            r#"Containerfile:2:6: COPY has an empty source: the variable NONE is not set, name what is copied, or write . for all of it"#,
        ),
        (
            "ADD a.txt ${NONE}$OTHER /x/",
            r#"Containerfile:2:11: ADD has an empty source: the variables NONE, OTHER are not set, name what is copied, or write . for all of it"#,
        ),
        (
            "COPY ${NONE}/ /x/",
            r#"Containerfile:2:6: COPY has the source "/", which is all there is: the variable NONE is not set, name what is copied, or write . for all of it"#,
        ),
        (
            "COPY ./$NONE/* /x/",
            r#"Containerfile:2:6: COPY has the source ".//*", which is all there is: the variable NONE is not set, name what is copied, or write . for all of it"#,
        ),
        (
            r#"COPY ["", "/x"]"#,
            r#"Containerfile:2:8: COPY has an empty source, name what is copied, or write . for all of it"#,
        ),
        ("COPY --exclude=$NONE dir /x", "Containerfile:2:16: --exclude needs a pattern"),
        (
            "COPY no*thing /x",
            r#"Containerfile:2:6: COPY source "no*thing" matches nothing in the build context ./ctx"#,
        ),
        (
            "COPY ../c2/f /x",
            r#"Containerfile:2:6: COPY source "../c2/f" leads outside the build context ./ctx, give the directory above as the context and name the source from there"#,
        ),
        (
            "ADD dir/../../f /x",
            r#"Containerfile:2:5: ADD source "dir/../../f" leads outside the build context ./ctx, give the directory above as the context and name the source from there"#,
        ),
        (
            "COPY out /x",
            r#"Containerfile:2:6: the symlink "out" to "../../etc/passwd" leads outside the build context ./ctx, put what it points to into the context, make the directory above both the context, or build with --follow-links"#,
        ),
        (
            "COPY abs /x",
            r#"Containerfile:2:6: the symlink "abs" to "/etc/passwd" leads outside the build context ./ctx, put what it points to into the context, make the directory above both the context, or build with --follow-links"#,
        ),
        (
            "COPY dangling /x",
            r#"Containerfile:2:6: the symlink "dangling" to "nowhere" leads to nothing in the build context ./ctx"#,
        ),
        ("COPY loop /x", r#"Containerfile:2:6: COPY source "loop" is a loop of symlinks"#),
        ("COPY a.txt/b /x", r#"Containerfile:2:6: COPY source "a.txt/b" is not in the build context ./ctx"#),
        (
            "COPY [a /x",
            r#"Containerfile:2:6: invalid pattern "[a", a [ is not closed, a class is empty or reversed, or the pattern ends with a backslash"#,
        ),
    ] {
        assert_eq!(setup.error(instruction), expected, "{instruction}");
    }
}

#[test]
fn destinations_that_cannot_be_are_told() {
    let setup = Setup::new().file("tree/x/y", "", 0o644);
    for (instructions, expected) in [
        (
            "COPY *.txt /x",
            "Containerfile:2:12: cannot copy 2 files to the one path /x, end the destination with / to copy into a directory",
        ),
        (
            "COPY a.txt /x\nCOPY dir /x",
            "Containerfile:3:10: cannot copy into /x: it is there and not a directory",
        ),
        ("COPY a.txt /x\nCOPY b.txt /x/y", "Containerfile:3:12: cannot copy to /x/y: /x is not a directory"),
        ("COPY a.txt /x\nWORKDIR /x", "Containerfile:3:9: /x is not a directory"),
        (
            "COPY tree/x /a.txt/\nCOPY a.txt /",
            "Containerfile:3:6: /a.txt is a directory, which a file would take the place of, give the file another name, or copy into another directory",
        ),
        (
            "COPY --chmod=u+y a.txt /x",
            "Containerfile:2:14: --chmod=u+y is no mode, write three or four octal digits, such as 0644, or changes such as a+rX,go-w",
        ),
        (
            "COPY --chown=app a.txt /x",
            "Containerfile:2:14: the user \"app\" is not known: the image has no /etc/passwd, write the user's number",
        ),
        (
            "COPY --exclude=[ a.txt /x",
            "Containerfile:2:16: --exclude=[ is no pattern, a [ is not closed, a class is empty or reversed, or the pattern ends with a backslash",
        ),
    ] {
        assert_eq!(setup.error(instructions), expected, "{instructions}");
    }
}

#[test]
fn sockets_are_left_out_and_named() {
    let setup = Setup::new().file("run/keep/x", "x", 0o644);
    socket(&setup.context().join("run/s"));
    socket(&setup.context().join("run/keep/t"));
    let image = setup.plan("FROM scratch\nCOPY run /x\nCOPY --parents run/keep /y");
    assert_snapshot!(setup.layers(&image), @r"
    COPY run /x:
      d 0755 0:0 /x
      d 0755 0:0 /x/keep
      f 0644 0:0 /x/keep/x = run/keep/x
    COPY --parents run/keep /y:
      d 0755 0:0 /y
      d 0755 0:0 /y/run
      d 0755 0:0 /y/run/keep
      f 0644 0:0 /y/run/keep/x = run/keep/x
    ");
    assert_snapshot!(setup.warnings(&image), @r#"
    Containerfile:2:10: sockets are left out: "run/keep/t", "run/s", no image can have one: name them in .containerignore, or remove them
    Containerfile:3:25: sockets are left out: "run/keep/t", no image can have one: name them in .containerignore, or remove them
    "#);
    assert_snapshot!(setup.error("COPY run/s /x"), @r#"Containerfile:2:6: "run/s" is a socket, which an image cannot have, leave it out"#);
    assert_snapshot!(setup.error("COPY run/* /x/"), @r#"Containerfile:2:6: "run/s" is a socket, which an image cannot have, leave it out"#);
    let setup = setup.file(".dockerignore", "**/s\n", 0o644);
    let image = setup.plan("FROM scratch\nCOPY --exclude=**/t run /x");
    assert_eq!(setup.warnings(&image), "");
}

#[test]
fn a_fifo_is_an_entry_and_is_never_opened() {
    let setup = Setup::new().file("run/x", "x", 0o644);
    let fifo = |name: &str| mkfifo(&setup.context().join(name), Mode::from_bits_truncate(0o600)).unwrap();
    fifo("run/pipe");
    fifo("pipe");
    let setup = setup.mode("run/pipe", 0o4751).hard_link("run/pipe", "run/twin");
    let lines = "COPY run /x\nCOPY pipe /new\nCOPY a.txt /file\nCOPY pipe /file\nCOPY --chown=7 --chmod=a+x pipe a.txt /both\nADD pipe /x/";
    assert_snapshot!(setup.scratch(lines), @r"
    COPY run /x:
      d 0755 0:0 /x
      s 0751 0:0 /x/pipe, a FIFO
      s 0751 0:0 /x/twin, a FIFO
      f 0644 0:0 /x/x = run/x
    COPY pipe /new:
      d 0755 0:0 /new
      s 0600 0:0 /new/pipe, a FIFO
    COPY a.txt /file:
      f 0640 0:0 /file = a.txt
    COPY pipe /file:
      s 0600 0:0 /file, a FIFO
    COPY --chown=7 --chmod=a+x pipe a.txt /both:
      d 0755 7:7 /both
      f 0751 7:7 /both/a.txt = a.txt
      s 0711 7:7 /both/pipe, a FIFO
    ADD pipe /x/:
      s 0600 0:0 /x/pipe, a FIFO
    ");
}

#[test]
fn a_file_that_cannot_be_read_stops_the_build_before_it_begins() {
    let setup = Setup::new().mode("dir/sub/d.txt", 0o000);
    if std::fs::File::open(setup.context().join("dir/sub/d.txt")).is_ok() {
        return; // root reads everything
    }
    assert_snapshot!(setup.error("COPY dir /d"), @r#"Containerfile:2:6: cannot read "dir/sub/d.txt" of the build context, give the user of the build the right to read it, or name it in .containerignore: Permission denied (os error 13)"#);
    let setup = setup.mode("dir/sub/d.txt", 0o600).mode("dir/sub", 0o000);
    assert_snapshot!(setup.error("COPY dir /d"), @r#"Containerfile:2:6: cannot read "dir/sub" of the build context, give the user of the build the right to read it, or name it in .containerignore: Permission denied (os error 13)"#);
    let _ = setup.mode("dir/sub", 0o700);
}

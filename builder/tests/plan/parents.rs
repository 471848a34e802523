//! `COPY --parents`, as BuildKit and today's buildah have it (Dockerfile reference, "COPY --parents").

use insta::assert_snapshot;

use crate::harness::Setup;

/// The tree of BuildKit's own tests.
fn deep() -> Setup {
    Setup::new()
        .file("test/a/b/c/d/foo", "", 0o644)
        .file("test/a/b/c/d/e/bay", "", 0o644)
        .file("test/a/b2/c/d/e/bar", "", 0o644)
        .file("test/a/b/c2/d/e/baz", "", 0o644)
        .mode("test", 0o755)
        .mode("test/a", 0o711)
        .mode("test/a/b", 0o700)
        .mode("test/a/b/c", 0o755)
        .mode("test/a/b/c/d", 0o755)
        .mode("test/a/b/c/d/e", 0o755)
        .mode("test/a/b2", 0o750)
        .mode("test/a/b2/c", 0o705)
        .mode("test/a/b2/c/d", 0o755)
        .mode("test/a/b2/c/d/e", 0o755)
        .mode("test/a/b/c2", 0o755)
        .mode("test/a/b/c2/d", 0o755)
        .mode("test/a/b/c2/d/e", 0o755)
}

#[test]
fn the_directories_above_a_source_are_kept_with_their_modes() {
    let setup = deep();
    assert_snapshot!(setup.scratch("COPY --parents a.txt dir/sub/d.txt /out\nWORKDIR /w\nCOPY --parents ./test/a/b/c/d ."), @r"
    COPY --parents a.txt dir/sub/d.txt /out:
      d 0755 0:0 /out
      f 0640 0:0 /out/a.txt = a.txt
      d 0755 0:0 /out/dir
      d 0700 0:0 /out/dir/sub
      f 0600 0:0 /out/dir/sub/d.txt = dir/sub/d.txt
    WORKDIR /w:
      d 0755 0:0 /w
    COPY --parents ./test/a/b/c/d .:
      d 0755 0:0 /w/test
      d 0711 0:0 /w/test/a
      d 0700 0:0 /w/test/a/b
      d 0755 0:0 /w/test/a/b/c
      d 0755 0:0 /w/test/a/b/c/d
      d 0755 0:0 /w/test/a/b/c/d/e
      f 0644 0:0 /w/test/a/b/c/d/e/bay = test/a/b/c/d/e/bay
      f 0644 0:0 /w/test/a/b/c/d/foo = test/a/b/c/d/foo
    ");
}

#[test]
fn a_pivot_says_from_where_on() {
    let setup = deep();
    assert_snapshot!(setup.scratch(
        "COPY --parents /test/a/./b/./c/d/foo /one/\nCOPY --parents test/./a/../a/b2/c/d/e/. /two/\nCOPY --parents test/a/b/c/d/e/./ /three/"
    ), @r"
    COPY --parents /test/a/./b/./c/d/foo /one/:
      d 0755 0:0 /one
      d 0700 0:0 /one/b
      d 0755 0:0 /one/b/c
      d 0755 0:0 /one/b/c/d
      f 0644 0:0 /one/b/c/d/foo = test/a/b/c/d/foo
    COPY --parents test/./a/../a/b2/c/d/e/. /two/:
      d 0755 0:0 /two
      d 0711 0:0 /two/a
      d 0750 0:0 /two/a/b2
      d 0705 0:0 /two/a/b2/c
      d 0755 0:0 /two/a/b2/c/d
      d 0755 0:0 /two/a/b2/c/d/e
      f 0644 0:0 /two/a/b2/c/d/e/bar = test/a/b2/c/d/e/bar
    COPY --parents test/a/b/c/d/e/./ /three/:
      d 0755 0:0 /three
      f 0644 0:0 /three/bay = test/a/b/c/d/e/bay
    ");
    assert_snapshot!(
        setup.error("COPY --parents test/./../a.txt /x/"),
        @r#"Containerfile:2:16: COPY source "test/./../a.txt" leads outside the build context ./ctx, give the directory above as the context and name the source from there"#
    );
}

#[test]
fn two_stars_match_any_number_of_directories() {
    let setup = deep();
    let lines = "COPY --parents test/a/b*/./c/**/e /one/\nCOPY --parents test/a/b/./c*/**/d/**/ba* test/a/./**/bar /two/\nCOPY --parents test/a/b/c/./** /three/\nCOPY --parents **/foo /four/";
    assert_snapshot!(setup.scratch(lines), @r"
    COPY --parents test/a/b*/./c/**/e /one/:
      d 0755 0:0 /one
      d 0755 0:0 /one/c
      d 0755 0:0 /one/c/d
      d 0755 0:0 /one/c/d/e
      f 0644 0:0 /one/c/d/e/bar = test/a/b2/c/d/e/bar
      f 0644 0:0 /one/c/d/e/bay = test/a/b/c/d/e/bay
    COPY --parents test/a/b/./c*/**/d/**/ba* test/a/./**/bar /two/:
      d 0755 0:0 /two
      d 0750 0:0 /two/b2
      d 0705 0:0 /two/b2/c
      d 0755 0:0 /two/b2/c/d
      d 0755 0:0 /two/b2/c/d/e
      f 0644 0:0 /two/b2/c/d/e/bar = test/a/b2/c/d/e/bar
      d 0755 0:0 /two/c
      d 0755 0:0 /two/c/d
      d 0755 0:0 /two/c/d/e
      f 0644 0:0 /two/c/d/e/bay = test/a/b/c/d/e/bay
      d 0755 0:0 /two/c2
      d 0755 0:0 /two/c2/d
      d 0755 0:0 /two/c2/d/e
      f 0644 0:0 /two/c2/d/e/baz = test/a/b/c2/d/e/baz
    COPY --parents test/a/b/c/./** /three/:
      d 0755 0:0 /three
      d 0755 0:0 /three/d
      d 0755 0:0 /three/d/e
      f 0644 0:0 /three/d/e/bay = test/a/b/c/d/e/bay
      f 0644 0:0 /three/d/foo = test/a/b/c/d/foo
    COPY --parents **/foo /four/:
      d 0755 0:0 /four
      d 0755 0:0 /four/test
      d 0711 0:0 /four/test/a
      d 0700 0:0 /four/test/a/b
      d 0755 0:0 /four/test/a/b/c
      d 0755 0:0 /four/test/a/b/c/d
      f 0644 0:0 /four/test/a/b/c/d/foo = test/a/b/c/d/foo
    ");
    let nothing = setup.error("COPY --parents **/none /x/");
    assert_snapshot!(nothing, @r#"Containerfile:2:16: COPY source "**/none" matches nothing in the build context ./ctx"#);
}

#[test]
fn flags_hold_for_what_is_kept_and_nothing_is_kept_above_what_is_left_out() {
    let setup = deep().file(".containerignore", "dir/sub\ntest/a/b2\n!test/a/b2/c/d/e/bar\n", 0o644);
    let lines = "COPY --parents --chown=7:8 --chmod=u=rwX,go= dir test/a/b2/c/d/e/bar /one/\nCOPY --parents --exclude=test/a/b/c --exclude=**/ba? test /two/";
    assert_snapshot!(setup.scratch(lines), @r"
    COPY --parents --chown=7:8 --chmod=u=rwX,go= dir test/a/b2/c/d/e/bar /one/:
      d 0755 7:8 /one
      d 0700 7:8 /one/dir
      f 0600 7:8 /one/dir/c.txt = dir/c.txt
      l 0777 7:8 /one/dir/inner -> c.txt
      d 0700 7:8 /one/test
      d 0700 7:8 /one/test/a
      d 0755 7:8 /one/test/a/b2
      d 0755 7:8 /one/test/a/b2/c
      d 0755 7:8 /one/test/a/b2/c/d
      d 0755 7:8 /one/test/a/b2/c/d/e
      f 0600 7:8 /one/test/a/b2/c/d/e/bar = test/a/b2/c/d/e/bar
    COPY --parents --exclude=test/a/b/c --exclude=**/ba? test /two/:
      d 0755 0:0 /two
      d 0755 0:0 /two/test
      d 0711 0:0 /two/test/a
      d 0700 0:0 /two/test/a/b
      d 0755 0:0 /two/test/a/b/c2
      d 0755 0:0 /two/test/a/b/c2/d
      d 0755 0:0 /two/test/a/b/c2/d/e
    ");
}

#[test]
fn the_names_are_those_that_were_written_where_links_were_followed() {
    let setup = Setup::new().mode("dir", 0o711).link("dir/sub/up", "../../a.txt");
    assert_snapshot!(setup.scratch("COPY --parents dirlink/sub filelink /x/"), @r"
    COPY --parents dirlink/sub filelink /x/:
      d 0755 0:0 /x
      d 0711 0:0 /x/dirlink
      d 0700 0:0 /x/dirlink/sub
      f 0600 0:0 /x/dirlink/sub/d.txt = dir/sub/d.txt
      l 0777 0:0 /x/dirlink/sub/up -> ../../a.txt
      f 0640 0:0 /x/filelink = a.txt
    ");
    let image = setup.plan("FROM scratch\nCOPY --parents dirlink/sub filelink /x/");
    assert_snapshot!(setup.warnings(&image), @"
    Containerfile:2:37: a pod's user in group 0, as OpenShift gives one, cannot read what COPY adds: /x/dirlink, /x/dirlink/sub, /x/dirlink/sub/d.txt, write COPY --chmod=a+rX
    Containerfile:2:37: 1 symlink leads nowhere in the image: /x/dirlink/sub/up -> ../../a.txt, build with --follow-links to copy what they point to, or copy the directory that holds both
    ");
}

#[test]
fn directories_of_a_stage_keep_their_owners_too() {
    let setup = Setup::new();
    let text = "FROM scratch AS one\nCOPY --chown=5:6 dir /opt/app\nFROM scratch\nCOPY --from=one --parents /opt/./app/sub/d.txt opt/**/c.txt /x/\nCOPY --from=one --parents --chown=9 opt/app/sub /y/";
    assert_snapshot!(setup.layers(&setup.plan(text)), @r"
    COPY --from=one --parents /opt/./app/sub/d.txt opt/**/c.txt /x/:
      d 0755 0:0 /x
      d 0755 5:6 /x/app
      d 0700 5:6 /x/app/sub
      f 0600 5:6 /x/app/sub/d.txt = dir/sub/d.txt
      d 0755 5:6 /x/opt
      d 0755 5:6 /x/opt/app
      f 0644 5:6 /x/opt/app/c.txt = dir/c.txt
    COPY --from=one --parents --chown=9 opt/app/sub /y/:
      d 0755 9:9 /y
      d 0755 9:9 /y/opt
      d 0755 9:9 /y/opt/app
      d 0700 9:9 /y/opt/app/sub
      f 0600 9:9 /y/opt/app/sub/d.txt = dir/sub/d.txt
    ");
}

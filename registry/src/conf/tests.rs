//! Tables: what files say, and where names then lead.

use std::fs;

use super::*;
use crate::reference::Reference;

const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn conf(text: &str) -> RegistriesConf {
    let mut conf = RegistriesConf::default();
    conf.lay(Path::new("/etc/containers/registries.conf"), text).unwrap();
    conf.check().unwrap();
    conf
}

const TABLES: &str = r#"
unqualified-search-registries = ["quay.io", "registry.example:5000"]

[[registry]]
location = "plain.example"

[[registry]]
location = "insecure.example:5000"
insecure = true

[[registry]]
prefix = "example.com/foo"
location = "internal.example/bar"

[[registry]]
prefix = "example.com/foo/deep"
location = "deep.example/"

[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.gcr.io"
[[registry.mirror]]
location = "localhost:5000/hub"
insecure = true

[[registry]]
prefix = "docker.io/library/pinned:1"
location = "pinned.example/library/pinned:2"

[[registry]]
prefix = "*.wild.example"
insecure = true

[[registry]]
prefix = "*.sub.wild.example"
location = "wild-mirror.example/ns"

[[registry]]
location = "digests.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.example/digests"

[[registry]]
location = "mixed.example"
[[registry.mirror]]
location = "all.example"
pull-from-mirror = "all"
[[registry.mirror]]
location = "digest.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tag.example"
pull-from-mirror = "tag-only"

[[registry]]
location = "blocked.example"
blocked = true

[[registry]]
prefix = "behind.example"
location = "blocked.example/behind"
blocked = true

[[registry]]
location = "source.example"
blocked = true
[[registry.mirror]]
location = "instead.example/source"

[[registry]]
location = "half.example"
[[registry.mirror]]
location = "blocked.example/half"

[[registry]]
prefix = "odd.example"
location = "nohost"

[aliases]
"ubi9" = "registry.access.redhat.com/ubi9"
"team/app" = "quay.io/team/app"
"python" = "docker.io/python"
"reset" = ""
"#;

/// The places of each name: `host/repository:tag`, with `!` after one that is insecure and `>` before one that is
/// another registry than the name's own; or a part of the error.
#[test]
fn names_lead_to_places() {
    let conf = conf(TABLES);
    let d = &format!("@sha256:{HEX}");
    let table = [
        // No table, or a table that changes nothing.
        ("other.example/x", "other.example/x:latest"),
        ("plain.example/x:1", "plain.example/x:1"),
        ("plain.example.org/x", "plain.example.org/x:latest"),
        ("notplain.example/x", "notplain.example/x:latest"),
        ("insecure.example:5000/x", "insecure.example:5000/x:latest!"),
        ("insecure.example:5001/x", "insecure.example:5001/x:latest"),
        ("insecure.example/x", "insecure.example/x:latest"),
        ("localhost/x", "localhost/x:latest"),
        // Locations; the longest prefix counts, and ends where a part of the name ends.
        ("example.com/foo/image:1", ">internal.example/bar/image:1"),
        ("example.com/foo:1", ">internal.example/bar:1"),
        ("example.com/foo@D", ">internal.example/bar@D"),
        ("example.com/foo/image:1@D", ">internal.example/bar/image:1@D"),
        ("example.com/foobar:1", "example.com/foobar:1"),
        ("example.com/fo:1", "example.com/fo:1"),
        ("example.com/foo/deep/x", ">deep.example/x:latest"),
        ("example.com/foo/deeper/x", ">internal.example/bar/deeper/x:latest"),
        ("example.com/x/foo", "example.com/x/foo:latest"),
        // A host is for all its ports.
        ("plain.example:5000/x", "plain.example:5000/x:latest"),
        ("blocked.example:5000/x", "is blocked"),
        // Docker Hub: its names are whole before they are matched.
        (
            "docker.io/library/alpine:3",
            ">mirror.gcr.io/library/alpine:3 >localhost:5000/hub/library/alpine:3! docker.io/library/alpine:3",
        ),
        (
            "docker.io/alpine:3",
            ">mirror.gcr.io/library/alpine:3 >localhost:5000/hub/library/alpine:3! docker.io/library/alpine:3",
        ),
        ("docker.io/u/i", ">mirror.gcr.io/u/i:latest >localhost:5000/hub/u/i:latest! docker.io/u/i:latest"),
        // A prefix with a tag is for nothing.
        (
            "docker.io/pinned:1",
            ">mirror.gcr.io/library/pinned:1 >localhost:5000/hub/library/pinned:1! docker.io/library/pinned:1",
        ),
        // Wildcards: any host below, and no path.
        ("a.wild.example/x:1", "a.wild.example/x:1!"),
        ("a.b.wild.example/x:1", "a.b.wild.example/x:1!"),
        ("a.wild.example:5000/x:1", "a.wild.example:5000/x:1!"),
        ("wild.example/x:1", "wild.example/x:1"),
        ("other.example/a.wild.example/x:1", "other.example/a.wild.example/x:1"),
        ("a.wild.example.org/x:1", "a.wild.example.org/x:1"),
        ("a.sub.wild.example/x:1", ">wild-mirror.example/ns/x:1"),
        // Mirrors for digests, for tags, for both.
        ("digests.example/x:1", "digests.example/x:1"),
        ("digests.example/x@D", ">m.example/digests/x@D digests.example/x@D"),
        ("digests.example/x:1@D", ">m.example/digests/x:1@D digests.example/x:1@D"),
        ("mixed.example/x:1", ">all.example/x:1 >tag.example/x:1 mixed.example/x:1"),
        ("mixed.example/x@D", ">all.example/x@D >digest.example/x@D mixed.example/x@D"),
        // Blocked: by its own table, by that of the location; mirrors go on serving.
        ("blocked.example/x:1", "[[registry]] blocked.example in /etc/containers/registries.conf"),
        ("behind.example/x:1", "is blocked"),
        ("source.example/x:1", ">instead.example/source/x:1"),
        ("half.example/x:1", "half.example/x:1"),
        // What cannot be rewritten.
        ("odd.example/x", "nohost has no host"),
        // Short names.
        ("ubi9", "registry.access.redhat.com/ubi9:latest"),
        ("ubi9:9.4", "registry.access.redhat.com/ubi9:9.4"),
        ("ubi9@D", "registry.access.redhat.com/ubi9@D"),
        ("team/app:1", "quay.io/team/app:1"),
        ("team/other:1", "quay.io/team/other:1 registry.example:5000/team/other:1"),
        ("reset", "quay.io/reset:latest registry.example:5000/reset:latest"),
        ("x@D", "quay.io/x@D registry.example:5000/x@D"),
        (
            "python:3",
            ">mirror.gcr.io/library/python:3 >localhost:5000/hub/library/python:3! docker.io/library/python:3",
        ),
        ("UPPER", "lower case"),
        ("", "is not the name of an image"),
    ];
    for (name, expected) in table.map(|(name, places)| (name.replace("@D", d), places.replace("@D", d))) {
        let got = conf.names(&name).and_then(|names| {
            let mut all = Vec::new();
            for reference in names {
                for place in conf.places(&reference)? {
                    let (before, after) =
                        (if place.elsewhere { ">" } else { "" }, if place.insecure { "!" } else { "" });
                    all.push(format!("{before}{}{after}", place.reference));
                }
            }
            Ok(all.join(" "))
        });
        match got {
            Ok(got) => assert_eq!(got, expected, "{name}"),
            Err(error) => assert!(error.to_string().contains(&expected), "{name}: {error}"),
        }
    }
}

#[test]
fn a_push_goes_where_the_name_says() {
    let conf = conf(TABLES);
    let push = |name: &str| conf.push(&name.parse::<Reference>().unwrap());
    assert!(!push("plain.example/x").unwrap());
    assert!(!push("docker.io/u/x").unwrap());
    assert!(push("insecure.example:5000/x").unwrap());
    assert!(push("a.wild.example/x").unwrap());
    let text = push("blocked.example/x").unwrap_err().to_string();
    assert!(
        text.contains("blocked.example/x:latest is blocked") && text.contains("registries.conf"),
        "{text}"
    );
    let secure = conf.clone().with_all_secure();
    assert!(!secure.push(&"insecure.example:5000/x".parse().unwrap()).unwrap());
    assert!(secure.places(&"docker.io/u/x".parse().unwrap()).unwrap().iter().all(|place| !place.insecure));
}

#[test]
fn short_names_without_a_list_are_docker_hubs() {
    let names = |text: &str, name: &str| {
        conf(text)
            .names(name)
            .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names("", "alpine").unwrap(), "docker.io/library/alpine:latest");
    let text = names("unqualified-search-registries = []", "alpine").unwrap_err().to_string();
    assert!(text.contains("alpine") && text.contains("is empty"), "{text}");
    let two = "unqualified-search-registries = [\"a.example\", \"b.example\"]\n";
    for mode in ["", "permissive", "disabled"] {
        let conf = format!("{two}short-name-mode = {mode:?}");
        assert_eq!(names(&conf, "x").unwrap(), "a.example/x:latest b.example/x:latest");
    }
    let enforcing = format!("{two}short-name-mode = \"enforcing\"\n[aliases]\nknown = \"c.example/known\"");
    let text = names(&enforcing, "x").unwrap_err().to_string();
    assert!(text.contains("a.example/x:latest, b.example/x:latest"), "{text}");
    assert_eq!(names(&enforcing, "known").unwrap(), "c.example/known:latest");
    let one = "unqualified-search-registries = [\"a.example\"]\nshort-name-mode = \"enforcing\"";
    assert_eq!(names(one, "x").unwrap(), "a.example/x:latest");
}

#[test]
fn what_cannot_be_used_is_said_with_its_place() {
    for (text, part) in [
        ("a = ", "/r.conf: 1:"),
        ("\n[[registry]]\nlocation = 5", "/r.conf: 3:12:"),
        ("[[registry]]\ninsecure = true", "neither prefix nor location"),
        ("[[registry]]\nprefix = \"a.example\"", "no location"),
        ("[[registry]]\nlocation = \"https://a.example\"", "scheme"),
        ("[[registry]]\nprefix = \"a.*.example\"\nlocation = \"b.example\"", "wildcard"),
        ("[[registry]]\nprefix = \"*.example/ns\"\nlocation = \"b.example\"", "wildcard"),
        ("[[registry]]\nlocation = \"*.example\"", "not HOST"),
        (
            "[[registry]]\nlocation = \"a.example\"\npull-from-mirror = \"all\"",
            "is for a [[registry.mirror]]",
        ),
        ("[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\ninsecure = true", "no location"),
        (
            "[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"b.example\"\npull-from-mirror = \"x\"",
            "digest-only and tag-only are known",
        ),
        (
            "[[registry]]\nlocation = \"a.example\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"b.example\"\npull-from-mirror = \"all\"",
            "do not go together",
        ),
        ("short-name-mode = \"strict\"", "enforcing, permissive and disabled"),
        ("unqualified-search-registries = [\"a.example/ns\"]", "HOST[:PORT]"),
        ("[aliases]\nx = \"y\"", "HOST[:PORT]/REPOSITORY"),
        ("[aliases]\nx = \"a.example/y:1\"", "neither tag nor digest"),
        ("[aliases]\n\"x:1\" = \"a.example/y\"", "alias"),
        ("[aliases]\n\"a.example/x\" = \"a.example/y\"", "alias"),
        ("[registries.search]\nregistries = [\"docker.io\"]", "version 1"),
        (
            "[[registry]]\nlocation = \"a.example\"\n[[registry]]\nprefix = \"b.example\"\nlocation = \"a.example\"\nblocked = true",
            "differ in blocked",
        ),
    ] {
        let mut conf = RegistriesConf::default();
        let error = conf.lay(Path::new("/r.conf"), text).and_then(|()| conf.check()).unwrap_err().to_string();
        assert!(error.contains(part) && error.starts_with("/r.conf: "), "{text}\n{error}");
    }
}

#[test]
fn files_are_laid_over_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for directory in ["system.d", "user.d"] {
        fs::create_dir(at(directory)).unwrap();
    }
    let paths = ConfPaths {
        explicit: None,
        files: vec![at("user.conf"), at("system.conf")],
        drop_ins: vec![at("system.d"), at("user.d"), at("none.d")],
        aliases: Some(at("cache.conf")),
        ..ConfPaths::default()
    };
    let names = |paths: &ConfPaths, name: &str| {
        let conf = RegistriesConf::load(paths).unwrap();
        conf.names(name).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&paths, "x:1"), "docker.io/library/x:1");
    fs::write(at("system.conf"), "unqualified-search-registries = [\"system.example\"]").unwrap();
    assert_eq!(names(&paths, "x:1"), "system.example/x:1");
    fs::write(at("user.conf"), "unqualified-search-registries = [\"user.example\"]").unwrap();
    assert_eq!(names(&paths, "x:1"), "user.example/x:1");
    fs::write(at("system.d/10.conf"), "unqualified-search-registries = [\"ten.example\"]").unwrap();
    fs::write(at("system.d/09.conf"), "unqualified-search-registries = [\"nine.example\"]").unwrap();
    fs::write(at("system.d/99.conf.off"), "not read").unwrap();
    assert_eq!(names(&paths, "x:1"), "ten.example/x:1");
    fs::write(at("user.d/00.conf"), "[aliases]\nx = \"alias.example/x\"\ny = \"alias.example/y\"").unwrap();
    assert_eq!(names(&paths, "x:1"), "alias.example/x:1");
    fs::write(at("cache.conf"), "[aliases]\nx = \"cache.example/x\"\ny = \"\"").unwrap();
    assert_eq!(names(&paths, "x:1"), "cache.example/x:1");
    assert_eq!(names(&paths, "y:1"), "ten.example/y:1");
    // A table in the place of one with the same prefix, as a whole.
    fs::write(at("user.conf"), "[[registry]]\nlocation = \"a.example\"\nblocked = true").unwrap();
    fs::write(at("user.d/00.conf"), "[[registry]]\nlocation = \"a.example\"\ninsecure = true").unwrap();
    assert!(RegistriesConf::load(&paths).unwrap().push(&"a.example/x".parse().unwrap()).unwrap());
    // A file that was named stands for the user's and the system's, and must be there.
    let named = |name: &str| ConfPaths { explicit: Some(at(name)), ..paths.clone() };
    assert!(RegistriesConf::load(&named("system.conf")).is_ok());
    let text = RegistriesConf::load(&named("missing.conf")).unwrap_err().to_string();
    assert!(text.contains("missing.conf: there is no such file"), "{text}");
}

#[test]
fn the_paths_are_those_of_containers_image() {
    let paths = ConfPaths::from_lookup(
        ConfGiven::default(),
        |name| (name == "HOME").then(|| "/home/me".into()),
        1000,
    );
    assert_eq!(paths.explicit, None);
    assert_eq!(paths.files[0], Path::new("/home/me/.config/containers/registries.conf"));
    assert_eq!(paths.files[1], Path::new("/etc/containers/registries.conf"));
    assert_eq!(paths.drop_ins[0], Path::new("/etc/containers/registries.conf.d"));
    assert_eq!(paths.drop_ins[1], Path::new("/home/me/.config/containers/registries.conf.d"));
    assert_eq!(paths.aliases.unwrap(), Path::new("/home/me/.cache/containers/short-name-aliases.conf"));
    let lookup = |name: &str| (name == "CONTAINERS_REGISTRIES_CONF").then(|| OsString::from("/env.conf"));
    assert_eq!(
        ConfPaths::from_lookup(ConfGiven::default(), lookup, 0).explicit.unwrap(),
        Path::new("/env.conf")
    );
    let older = |name: &str| (name == "REGISTRIES_CONFIG_PATH").then(|| OsString::from("/older.conf"));
    assert_eq!(
        ConfPaths::from_lookup(ConfGiven::default(), older, 0).explicit.unwrap(),
        Path::new("/older.conf")
    );
    let given = ConfGiven { file: Some("/flag.conf".into()), ..ConfGiven::default() };
    let paths = ConfPaths::from_lookup(given, lookup, 0);
    assert_eq!(paths.explicit.unwrap(), Path::new("/flag.conf"));
    assert_eq!(paths.aliases.unwrap(), Path::new("/var/cache/containers/short-name-aliases.conf"));
    let given =
        ConfGiven { drop_ins: Some("/d".into()), aliases: Some("/a.conf".into()), ..ConfGiven::default() };
    let paths = ConfPaths::from_lookup(given, |name| (name == "HOME").then(|| "/home/me".into()), 0);
    assert_eq!(paths.drop_ins, [Path::new("/d"), Path::new("/home/me/.config/containers/registries.conf.d")]);
    assert_eq!(paths.aliases.unwrap(), Path::new("/a.conf"));
}

//! What users of docker and podman type from habit: it is carried out, or answered with what to do here.

use crate::support::image::Image;
use crate::support::sandbox::Sandbox;

#[test]
fn what_asks_for_nothing_is_taken() {
    let sandbox = Sandbox::small();
    for (at, line) in [
        "build --provenance=false --sbom=false --builder default --load=false -t model context",
        "buildx build --progress=plain --cache-from type=gha --cache-to type=inline --no-cache-filter x -t model context",
        "build --secret id=a,src=b --ssh default --network=host --allow network.host --attest type=sbom,disabled=true -t model context",
        "build --progress=quiet --mount type=secret,id=x --iidfile-raw id -t model context",
        "image ls",
        "image inspect model",
        "image ls --filter dangling=false -q",
        "system prune -f --volumes",
        "image prune -a -f",
    ]
    .into_iter()
    .enumerate()
    {
        let args: Vec<_> = line.split(' ').collect();
        sandbox.run(&args).done();
        // Under the other name the same.
        if at < 4 {
            sandbox.buildah(&args).done();
        }
    }
    let id = std::fs::read_to_string(sandbox.path("id")).unwrap();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(sandbox.run(&["images", "-q"]).done().stdout, "", "image prune -a forgets all");
}

#[test]
fn the_rest_says_what_to_do_here() {
    let sandbox = Sandbox::small();
    for (line, says) in [
        (
            "build --load .",
            "--load is not carried out: nothing is put into docker's store: write -o docker-archive:FILE",
        ),
        ("build --provenance=mode=max .", "--provenance is not carried out: attestations are not made"),
        ("build --attest=type=sbom .", "--attest is not carried out"),
        ("build --sbom=true .", "--sbom is not carried out: images are not scanned"),
        ("build --check .", "--check is not carried out: use --dry-run"),
        (
            "save -o x.tar model",
            "save is not carried out here: push NAME oci-archive:FILE or docker-archive:FILE",
        ),
        ("load -i x.tar", "load is not carried out here: make a layout of the archive"),
        ("cp a:/b c", "cp is not carried out here: write COPY in a Containerfile"),
        ("logs x", "logs is not carried out here: there are no containers"),
        (
            "history model",
            "history is not carried out here: inspect --format '{{json .OCIv1.History}}' IMAGE",
        ),
        ("search x", "search is not carried out here"),
        ("export x", "export is not carried out here: push to oci:DIR"),
        ("du", "du is not carried out here: info shows"),
        ("system df", "system df is not carried out here: info shows"),
        ("exec -it x sh", "exec is not carried out here"),
        ("buildx create --use", "buildx create is not carried out here"),
        ("image save model", "image save is not carried out here: push NAME"),
        ("push -a x", "--all-tags is not carried out: push them by name"),
    ] {
        let args: Vec<_> = line.split(' ').collect();
        for run in [sandbox.run(&args).failed(2), sandbox.buildah(&args).failed(125)] {
            let run = run.says(&[says]);
            assert!(!run.stderr.contains("similar"), "no guess at what was meant: {run}");
        }
    }
    // What is named instead works.
    sandbox.build(&["-q", "-t", "model"]).done();
    let history = sandbox.run(&["inspect", "--format", "{{json .OCIv1.History}}", "model"]).done().stdout;
    assert!(history.contains("created_by"), "{history}");
    sandbox.run(&["push", "-q", "model", "docker-archive:x.tar"]).done();
    Image::read(&format!("docker-archive:{}", sandbox.path("x.tar").display()));
    assert!(sandbox.run(&["info"]).done().stdout.contains("DiskUsed"));
}

#[test]
fn the_version_and_the_help_of_buildah_are_those_of_buildah() {
    let sandbox = Sandbox::new();
    let theirs = sandbox.command_of("buildah").arg("--version").output().unwrap();
    let theirs = String::from_utf8(theirs.stdout).unwrap();
    let ours = sandbox.buildah(&["--version"]).done().stdout;
    assert_eq!(sandbox.buildah(&["-v"]).done().stdout, ours);
    // `buildah --version | cut -d' ' -f3` is what scripts do.
    let version = |line: &str| -> Vec<u32> {
        let word = line.split(' ').nth(2).unwrap().to_owned();
        word.split('.').map(|part| part.parse().unwrap()).collect()
    };
    assert_eq!(ours.split(" (").next().unwrap().rsplit_once(' ').unwrap().0, "buildah version");
    assert!(version(&ours) > version(&theirs), "{ours}{theirs}");
    assert!(
        ours.contains("(image-spec ")
            && ours.trim_end().ends_with(&format!("crossdock {})", env!("CARGO_PKG_VERSION")))
    );

    let words = sandbox.buildah(&["version"]).done().stdout;
    let line = words.lines().find(|line| line.starts_with("Version:")).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.buildah(&["version", "--json"]).done().stdout).unwrap();
    let number = line.split_whitespace().last().unwrap();
    assert_eq!(json["version"], number);
    assert_eq!(ours.split(' ').nth(2), Some(number));
    assert_eq!(
        sandbox.run(&["--version"]).done().stdout,
        format!("crossdock {}\n", env!("CARGO_PKG_VERSION"))
    );

    for (args, has) in [
        (&["--help"][..], "Usage: buildah"),
        (&["build", "--help"], "buildah build --push"),
        (&["push", "-h"], "buildah push llama"),
        (&["manifest", "--help"], "buildah manifest create llama"),
    ] {
        let help = sandbox.buildah(args).done().stdout;
        assert!(help.contains(has), "{help}");
        assert!(!help.contains("crossdock build") && !help.contains("crossdock push"), "{help}");
    }
    let help = sandbox.buildah(&["--help"]).done().stdout;
    assert!(help.contains("\n  125  failed\n"), "{help}");
    for (args, code) in [(&["--help"][..], "\n  6  "), (&["verify", "--help"], "\n  5  ")] {
        assert!(!sandbox.buildah(args).done().stdout.contains(code), "buildah has no such exit code");
        assert!(sandbox.run(args).done().stdout.contains(code));
    }
}

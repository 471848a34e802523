//! crossdock in buildah's place: the command lines of pipelines as they are, and what scripts rely on.

use std::fs;

use serde_json::{Value, json};

use crate::support::architecture;
use crate::support::base::{Base, push_index};
use crate::support::image::{Image, Node};
use crate::support::registry::{PASSWORD, Registry};
use crate::support::sandbox::{Run, Sandbox};
use crate::support::tool;

/// A base that everybody may pull, and a model that is built upon it.
fn model(bases: &Registry) -> Sandbox {
    let name = bases.name("ubi-micro:9");
    Base::new().push(&name);
    let sandbox = Sandbox::new();
    sandbox.containerfile(&format!(
        "ARG HF_TOKEN\nFROM {name}\nCOPY models /models\nUSER 1001\nCMD [\"/bin/sh\"]\n"
    ));
    sandbox.write("models/config.json", "{}");
    sandbox.write("models/weights.safetensors", "weights");
    sandbox
}

/// The image that a pipeline pushed is the one that it says in its digest file.
fn check_pushed(registry: &Registry, sandbox: &Sandbox, digest_file: &str) -> Value {
    let tag = registry.tag("ns/model", "tag").expect("the tag is there");
    assert_eq!(fs::read_to_string(sandbox.path(digest_file)).unwrap(), tag, "without a newline");
    let creds = format!("serviceaccount:{PASSWORD}");
    let creds = ["inspect", "--tls-verify=false", "--creds", &creds];
    let name = format!("docker://{}", registry.name("ns/model:tag"));
    let config = tool("skopeo", &[&creds[..], &["--config", "--raw", &name]].concat());
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["config"]["User"], "1001");
    assert_eq!(config["config"]["Cmd"], json!(["/bin/sh"]));
    serde_json::from_str(&tool("skopeo", &[&creds[..], &["--raw", &name]].concat())).unwrap()
}

/// The pipeline that this project came from.
const DOWNLOAD_AND_BUILD: &str = r#"
    buildah --root $STORAGE --storage-driver=vfs bud --format=oci --tls-verify=false --no-cache \
      --layers=false --squash --ulimit nofile=4096:8192 --build-arg=HF_TOKEN=$HF_TOKEN \
      -f ./Containerfile -t $IMAGE .
"#;

const PUSH_WITH_AUTHFILE: &str = r#"
    buildah --root $STORAGE --storage-driver=vfs push --authfile $AUTHFILE \
      --tls-verify=false --digestfile $TMPDIR/image-digest $IMAGE docker://$IMAGE
"#;

const PUSH_WITH_CREDS: &str = r#"
    buildah --root $STORAGE --storage-driver=vfs push --creds="serviceaccount:$TOKEN" \
      --tls-verify=false --digestfile $TMPDIR/image-digest $IMAGE docker://$IMAGE
"#;

#[test]
fn the_pipeline_that_this_project_came_from_runs_as_it_is() {
    let bases = Registry::start();
    let registry = Registry::locked(&["serviceaccount"]);
    let image = registry.name("ns/model:tag");
    let host = registry.addr().to_string();
    for (push, login) in [(PUSH_WITH_AUTHFILE, true), (PUSH_WITH_CREDS, false)] {
        let sandbox = model(&bases);
        let storage = sandbox.path("storage").display().to_string();
        let authfile = sandbox.path("auth.json").display().to_string();
        let variables = [
            ("STORAGE", storage.as_str()),
            ("BUILDAH_STORAGE_ROOT", &storage),
            ("STORAGE_DRIVER", "vfs"),
            ("IMAGE", &image),
            ("AUTHFILE", &authfile),
            ("HOST", &host),
            ("HF_TOKEN", "hf_secret"),
            ("TOKEN", PASSWORD),
        ];
        if login {
            let script = "echo $TOKEN | buildah login --tls-verify=false --authfile $AUTHFILE \
                          -u serviceaccount --password-stdin $HOST";
            let run = sandbox.pipeline(script, &variables).done();
            assert_eq!(run.stdout, "Login Succeeded!\n");
        }
        let built = sandbox.pipeline(DOWNLOAD_AND_BUILD, &variables).done();
        let pushed = sandbox.pipeline(push, &variables).done();
        assert_eq!(pushed.stdout, "", "{pushed}");
        let manifest = check_pushed(&registry, &sandbox, "tmp/image-digest");
        let id = format!("sha256:{}", built.stdout.lines().last().unwrap());
        assert_eq!(manifest["config"]["digest"], id, "the last line is the image ID");
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 3, "those of the base and one");
        for run in [&built, &pushed] {
            assert!(!run.to_string().contains("hf_secret") && !run.to_string().contains(PASSWORD), "{run}");
        }
    }
}

/// tektoncd/catalog, task buildah 0.9: the steps' scripts, with the params as variables.
const CATALOG_BUILD: &str = r#"
    BUILD_ARGS=()
    for buildarg in "$@"; do BUILD_ARGS+=("--build-arg=$buildarg"); done
    BUILD_ARGS+=("--build-arg=")
    CERT_DIR_FLAG=""
    [ "$SSL" = true ] && CERT_DIR_FLAG="--cert-dir=$CERTS"
    buildah ${CERT_DIR_FLAG} --storage-driver=$STORAGE_DRIVER bud "${BUILD_ARGS[@]}" $BUILD_EXTRA_ARGS \
      --format=$FORMAT --tls-verify=$TLSVERIFY --no-cache \
      -f $DOCKERFILE -t $IMAGE $CONTEXT
"#;

const CATALOG_PUSH: &str = r#"
    CERT_DIR_FLAG=""
    [ "$SSL" = true ] && CERT_DIR_FLAG="--cert-dir=$CERTS"
    buildah ${CERT_DIR_FLAG} --storage-driver=$STORAGE_DRIVER push --tls-verify=$TLSVERIFY \
      --digestfile $TMPDIR/image-digest $PUSH_EXTRA_ARGS $IMAGE docker://$IMAGE
    cat $TMPDIR/image-digest | tee $TMPDIR/IMAGE_DIGEST
    printf '%s' "$IMAGE" | tee $TMPDIR/IMAGE_URL
"#;

#[test]
fn the_task_of_tektons_catalog_runs_as_it_is() {
    let bases = Registry::start();
    let registry = Registry::locked(&["serviceaccount"]);
    let image = registry.name("ns/model:tag");
    for format in ["oci", "docker"] {
        let sandbox = model(&bases);
        fs::create_dir(sandbox.path("certs")).unwrap();
        let certs = sandbox.path("certs").display().to_string();
        let push_extra =
            format!("--creds serviceaccount:{PASSWORD} -D --retry 5 --retry-delay 1s --remove-signatures");
        let variables = [
            ("IMAGE", image.as_str()),
            ("STORAGE_DRIVER", "overlay"),
            ("DOCKERFILE", "./Containerfile"),
            ("CONTEXT", "."),
            ("TLSVERIFY", "false"),
            ("FORMAT", format),
            ("SSL", "true"),
            ("CERTS", &certs),
            (
                "BUILD_EXTRA_ARGS",
                "--layers --isolation chroot --volume /a:/b:ro --cap-add=ALL --memory 1g --network=host \
                 --userns host --security-opt seccomp=unconfined --jobs 0 --label made=here -q",
            ),
            ("PUSH_EXTRA_ARGS", &push_extra),
        ];
        let script = format!("set -- HF_TOKEN=x\n{CATALOG_BUILD}");
        let built = sandbox.pipeline(&script, &variables).done();
        let pushed = sandbox.pipeline(CATALOG_PUSH, &variables).done();
        let manifest = check_pushed(&registry, &sandbox, "tmp/image-digest");
        assert_eq!(manifest["mediaType"].as_str().unwrap().contains("docker"), format == "docker");
        assert_eq!(manifest["config"]["digest"], format!("sha256:{}", built.stdout.trim_end()));
        assert_eq!(built.stdout.lines().count(), 1, "{built}");
        assert_eq!(pushed.stdout, fs::read_to_string(sandbox.path("tmp/image-digest")).unwrap() + &image);
    }
}

/// OpenShift Pipelines, task buildah 0.8: --tls-verify stands before the command.
const OPENSHIFT: &str = r#"
    buildah --storage-driver=$STORAGE_DRIVER --tls-verify=$TLSVERIFY bud $BUILD_EXTRA_ARGS \
      --volume $TMPDIR:/etc/pki/entitlement:ro --build-arg=HF_TOKEN --file=$DOCKERFILE --tag=$IMAGE $CONTEXT
    buildah --storage-driver=$STORAGE_DRIVER --tls-verify=$TLSVERIFY push $PUSH_EXTRA_ARGS \
      --digestfile=$TMPDIR/buildah-digest.txt $IMAGE docker://$IMAGE
"#;

#[test]
fn the_task_of_openshift_runs_as_it_is() {
    let bases = Registry::start();
    let registry = Registry::locked(&["serviceaccount"]);
    let image = registry.name("ns/model:tag");
    let sandbox = model(&bases);
    let push_extra = format!("--creds=serviceaccount:{PASSWORD} --quiet");
    let variables = [
        ("IMAGE", image.as_str()),
        ("STORAGE_DRIVER", "vfs"),
        ("DOCKERFILE", "./Containerfile"),
        ("CONTEXT", "."),
        ("TLSVERIFY", "false"),
        ("BUILD_EXTRA_ARGS", ""),
        ("PUSH_EXTRA_ARGS", &push_extra),
        ("HF_TOKEN", "hf_secret"),
    ];
    let run = sandbox.pipeline(OPENSHIFT, &variables).done();
    let manifest = check_pushed(&registry, &sandbox, "tmp/buildah-digest.txt");
    let id = format!("sha256:{}", run.stdout.lines().last().unwrap());
    assert_eq!(manifest["config"]["digest"], id, "push --quiet prints nothing");
}

#[test]
fn the_environment_counts_where_buildah_reads_it() {
    let sandbox = Sandbox::small();
    let built = |variables: &[(&str, &str)], more: &[&str]| {
        let args = [&["bud", "-q", "--iidfile", "id", "-t", "model"], more, &["context"]].concat();
        let output = sandbox.buildah_command(&args).envs(variables.iter().copied()).output().unwrap();
        let run = sandbox.finish(output, &args).done();
        let id = run.stdout.trim_end();
        assert_eq!(fs::read_to_string(sandbox.path("id")).unwrap(), format!("sha256:{id}"));
        pushed_to_directory(&sandbox, &[]).0
    };
    let media_type = |image: &Image| image.manifest["mediaType"].as_str().unwrap().to_owned();
    let epoch = [("SOURCE_DATE_EPOCH", "1700000000")];
    let first = built(&epoch, &[]);
    assert!(media_type(&first).contains("oci"));
    assert_eq!(first.config["created"], "2023-11-14T22:13:20Z");
    let without_effect =
        [epoch[0], ("BUILDAH_LAYERS", "true"), ("BUILDAH_ISOLATION", "chroot"), ("STORAGE_DRIVER", "zfs")];
    assert_eq!(built(&without_effect, &[]).digest, first.digest);
    let docker = [epoch[0], ("BUILDAH_FORMAT", "docker")];
    assert!(media_type(&built(&docker, &[])).contains("docker"));
    assert_eq!(built(&docker, &["--format=oci"]).digest, first.digest, "the command line goes before");
    assert_eq!(built(&[epoch[0], ("BUILDAH_FORMAT", "")], &[]).digest, first.digest);
}

#[test]
fn all_that_goes_wrong_ends_with_buildahs_code_and_says_what_to_do() {
    let sandbox = Sandbox::small();
    let registry = Registry::locked(&["serviceaccount"]);
    let name = registry.name("model:1");
    sandbox.buildah(&["bud", "-q", "-t", &name, "context"]).done();
    let cases: &[(&[&str], &str)] = &[
        (&["bud", "--nope", "context"], "unknown flag: --nope"),
        (&["nope"], "unknown command \"nope\""),
        (&["bud", "nowhere"], "the build context nowhere does not exist"),
        (&["push", "nothing"], "nothing: image not known"),
        (&["push", "--tls-verify=false", &name], "refused"),
        (&["push", &name, "a", "b"], "unexpected argument 'b'"),
        (&["push", "--format", "v2s1", &name], "v2s1"),
        (&["push", &name, "docker-daemon:x:1"], "docker-archive:FILE"),
        (&["push", &name, "containers-storage:x"], "docker-archive:FILE"),
        (&["bud", "--sign-by", "me", "context"], "--sign-by is not carried out"),
        (&["bud", "-o", "type=tar,dest=x.tar", "context"], "images are not unpacked"),
        (&["bud", "-o", "somewhere", "context"], "write oci:DIR"),
        (&["bud", "-t", "oci-archive:x.tar", "context"], "write --output oci-archive:x.tar"),
        (&["bud", "--pull=never", "--from", "nothing", "context"], "no registry is asked"),
        (&["bud", "-f", "Containerfile.in", "context"], "run cpp -E"),
        (&["--root", "x", "from", "alpine"], "use build"),
        (&["run", "c", "--", "make"], "an earlier task of the pipeline"),
        (&["rm", "-a"], "builds leave no containers behind"),
    ];
    for (args, says) in cases {
        sandbox.buildah(args).failed(125).says(&[says]);
    }
    // The other name has codes that tell more.
    let root = sandbox.path("containers/crossdock").display().to_string();
    sandbox.run(&["--root", &root, "push", "--tls-verify=false", &name]).failed(6);
    sandbox.run(&["from", "alpine"]).failed(2).says(&["write FROM in a Containerfile"]);
    let help = sandbox.buildah(&["bud", "--help"]).done();
    assert!(help.stdout.contains("Usage: buildah build"), "{help}");
    assert!(sandbox.buildah(&[]).done().stdout.contains("Usage: buildah"));
}

#[test]
fn flags_without_effect_are_named_once_and_only_when_asked() {
    let sandbox = Sandbox::small();
    let args =
        ["--runroot", "x", "bud", "--layers", "--layers=false", "--no-cache", "-v", "/secret:/x", "context"];
    let run = sandbox.buildah(&[&["--log-level", "debug"], &args[..]].concat()).done();
    let lines: Vec<_> = run.stderr.lines().filter(|line| line.contains("--layers")).collect();
    assert_eq!(lines.len(), 1, "{run}");
    assert!(lines[0].ends_with("--layers, --no-cache, --runroot, --volume"), "{run}");
    let run = sandbox.buildah(&args).done();
    assert!(!run.stderr.contains("--layers"), "{run}");
    // The same under the other name.
    let args = [&["--log-level", "debug"], &args[..]].concat();
    sandbox.run(&args).done().says(&["--layers, --no-cache, --runroot, --volume"]);
}

#[test]
fn what_is_typed_as_false_counts_more_than_the_config_file() {
    let sandbox = Sandbox::small();
    sandbox.containerfile("FROM scratch\nCOPY model /a\nCOPY model /b\n");
    fs::create_dir_all(sandbox.path("home/.config/crossdock")).unwrap();
    fs::write(sandbox.path("home/.config/crossdock/config.toml"), "[build]\nsquash = true\n").unwrap();
    assert_eq!(sandbox.built(&[]).layers().len(), 1);
    assert_eq!(sandbox.built(&["--squash=false"]).layers().len(), 2);
}

#[test]
fn credentials_given_to_a_build_open_the_registry_of_its_base() {
    let registry = Registry::locked(&["serviceaccount"]);
    let creds = format!("serviceaccount:{PASSWORD}");
    Base::new().push_with(&["--dest-creds", &creds], &registry.name("base:1"));
    let sandbox = Sandbox::small();
    let from = registry.name("base:1");
    let build = |more: &[&str]| {
        let common = ["--log-level=FATAL", "bud", "-q", "--tls-verify=false", "--from", &from];
        sandbox.buildah(&[&common[..], more, &["context"]].concat())
    };
    build(&[]).failed(125).says(&["refused"]);
    build(&["--creds", &creds]).done();
}

/// An image in a directory as skopeo reads it, and its config.
fn pushed_to_directory(sandbox: &Sandbox, push: &[&str]) -> (Image, Value) {
    let directory = sandbox.path("image");
    let to = format!("dir:{}", directory.display());
    sandbox.buildah(&[&["push", "-q"], push, &["model", &to]].concat()).done();
    let image = Image::read(&to);
    let config = image.config.clone();
    (image, config)
}

#[test]
fn an_image_in_a_directory_is_read_by_skopeo_and_replaced_by_the_next() {
    let bases = Registry::start();
    let sandbox = model(&bases);
    let build = || sandbox.buildah(&["bud", "-q", "--tls-verify=false", "-t", "model", "context"]).done();
    build();
    let (first, _) = pushed_to_directory(&sandbox, &["--tls-verify=false"]);
    assert_eq!(*first.node("models/weights.safetensors"), Node::file(b"weights", 0o644));
    assert_eq!(
        fs::read_to_string(sandbox.path("image/version")).unwrap(),
        "Directory Transport Version: 1.1\n"
    );
    sandbox.write("models/weights.safetensors", "others");
    build();
    let (second, _) = pushed_to_directory(&sandbox, &["--tls-verify=false", "--compression-format", "gzip"]);
    assert_eq!(*second.node("models/weights.safetensors"), Node::file(b"others", 0o644));
    // version, manifest.json and the config, and nothing of the first image but the base's layers.
    assert_eq!(sandbox.files_below("image").len(), 3 + second.layers.len());
    // A push that fails leaves it as it was.
    let before = sandbox.files_below("image");
    sandbox.write("models/weights.safetensors", "changed");
    let to = format!("dir:{}", sandbox.path("image").display());
    let push = ["push", "--tls-verify=false", "model", &to];
    sandbox.buildah(&push).failed(125).says(&["weights.safetensors"]);
    assert_eq!(sandbox.files_below("image"), before);

    // What has a place for one format alone gets that.
    sandbox.buildah(&["bud", "-q", "--from=scratch", "--format=docker", "-t", "model", "context"]).done();
    let (docker, _) = pushed_to_directory(&sandbox, &[]);
    assert!(docker.manifest["mediaType"].as_str().unwrap().contains("docker"));
    sandbox.buildah(&["push", "model", "oci:layout:1"]).done();
    let layout = Image::read(&format!("oci:{}:1", sandbox.path("layout").display()));
    assert_eq!(layout.files, docker.files);
    let asked = ["push", "--format=v2s2", "model", "oci-archive:x.tar"];
    sandbox.buildah(&asked).failed(125).says(&["an OCI layout has no place"]);
    let asked = ["bud", "--from=scratch", "--format=docker", "-o", "oci:layout:2", "context"];
    sandbox.buildah(&asked).failed(125).says(&["an OCI layout has no place"]);

    fs::create_dir(sandbox.path("full")).unwrap();
    fs::write(sandbox.path("full/precious"), "p").unwrap();
    let to_full = ["push", "--tls-verify=false", "model", "dir:full"];
    sandbox.buildah(&to_full).failed(125).says(&["full is not empty and holds no image"]);
    assert_eq!(sandbox.files_below("full").len(), 1);
}

#[test]
fn the_command_line_speaks_instead_of_the_containerfile() {
    let bases = Registry::start();
    let sandbox = model(&bases);
    Base::new().with_file("etc/other", b"base").push(&bases.name("other:1"));
    fs::write(sandbox.path("args.conf"), "# of the team\n\nHF_TOKEN=file\nWHO=file\n").unwrap();
    sandbox.containerfile(
        "FROM scratch\nARG WHO\nARG HF_TOKEN\nCOPY models /models\nENV A=1 B=2\nLABEL who=$WHO hf=$HF_TOKEN\n",
    );
    let from = bases.name("other:1");
    let args = [
        "bud",
        "-q",
        "--tls-verify=false",
        "--from",
        &from,
        "--env=A=3",
        "--env",
        "FROM_OUTSIDE",
        "--env=NOT_THERE",
        "--unsetenv=B,PATH",
        "--unsetlabel",
        "from",
        "--build-arg-file=args.conf",
        "--build-arg",
        "WHO=me",
        "--annotation",
        "empty",
        "--timestamp=0",
        "-tmodel",
        "--logfile=log",
        "context",
    ];
    let output = sandbox.buildah_command(&args).env("FROM_OUTSIDE", "yes").output().unwrap();
    let run = sandbox.finish(output, &args).done();
    assert_eq!(run.stdout, "");
    let (image, config) = pushed_to_directory(&sandbox, &["--tls-verify=false"]);
    let logged = fs::read_to_string(sandbox.path("log")).unwrap();
    assert_eq!(image.manifest["config"]["digest"], format!("sha256:{}", logged.trim_end()));
    assert_eq!(*image.node("etc/other"), Node { mtime: 1_000_000_000, ..Node::file(b"base", 0o644) });
    assert_eq!(config["config"]["Env"], json!(["A=3", "FROM_OUTSIDE=yes"]));
    assert_eq!(config["config"]["Labels"], json!({"who": "me", "hf": "file"}));
    let annotations = json!({
        "empty": "",
        "org.opencontainers.image.base.digest": bases.tag("other", "1"),
        "org.opencontainers.image.base.name": from,
        "org.opencontainers.image.created": "1970-01-01T00:00:00Z",
    });
    assert_eq!(image.manifest["annotations"], annotations);

    let built = |more: &[&str]| -> Run {
        let common = ["bud", "-q", "--tls-verify=false", "--from", &from, "-t", "model"];
        sandbox.buildah(&[&common[..], more, &["context"]].concat())
    };
    built(&["--inherit-labels=false"]).done();
    assert_eq!(
        pushed_to_directory(&sandbox, &["--tls-verify=false"]).1["config"]["Labels"],
        json!({"who": "", "hf": ""})
    );
    built(&["--arch=s390x"]).done().says(&["does not match the expected platform (linux/s390x)"]);
    built(&["--arch=s390x", "--platform=linux/arm64"]).failed(125).says(&["cannot be used with"]);
    let of_nothing =
        ["bud", "-q", "--from=scratch", "--arch=arm", "--variant", "v6", "-t", "model", "context"];
    sandbox.buildah(&of_nothing).done();
    let (_, config) = pushed_to_directory(&sandbox, &[]);
    assert_eq!((&config["architecture"], &config["variant"]), (&json!("arm"), &json!("v6")));

    built(&["--omit-history"]).done();
    sandbox.buildah(&["push", "-q", "--tls-verify=false", "model", "dir:image"]).done();
    let manifest: Value =
        serde_json::from_slice(&fs::read(sandbox.path("image/manifest.json")).unwrap()).unwrap();
    let id = manifest["config"]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let config: Value = serde_json::from_slice(&fs::read(sandbox.path("image").join(id)).unwrap()).unwrap();
    assert_eq!(config.get("history"), None);
    assert!(config["rootfs"]["diff_ids"].as_array().unwrap().len() > 3);
}

/// What of a base's two versions is in the image: of this machine, or of the registry.
#[test]
fn a_base_comes_from_where_the_policy_says() {
    let registry = Registry::start();
    let base = registry.name("base:1");
    let sandbox = Sandbox::small();
    sandbox.buildah(&["bud", "-q", "--label", "is=here", "-t", &base, "context"]).done();
    let used = |from: &str, policy: &[&str]| {
        let common = ["bud", "-q", "--tls-verify=false", "--retry=0", "--from", from, "-t", "model"];
        let run = sandbox.buildah(&[&common[..], policy, &["context"]].concat());
        if run.status.code() != Some(0) {
            return Err(run);
        }
        let (_, config) = pushed_to_directory(&sandbox, &["--tls-verify=false"]);
        Ok(config["config"]["Labels"]["is"].as_str().unwrap_or("there").to_owned())
    };
    // Nothing is there yet.
    assert_eq!(used(&base, &["--pull"]).unwrap(), "here");
    assert_eq!(used(&base, &["--pull=missing"]).unwrap(), "here");
    used(&base, &["--pull=always"]).unwrap_err().failed(125);
    Base::new().push(&base);
    for (policy, place) in [
        (&[][..], "here"),
        (&["--pull=false"], "here"),
        (&["--pull=missing"], "here"),
        (&["--pull-never"], "here"),
        (&["--pull=never"], "here"),
        (&["--pull"], "there"),
        (&["--pull=true"], "there"),
        (&["--pull=newer"], "there"),
        (&["--pull-always"], "there"),
        (&["--pull=always"], "there"),
    ] {
        assert_eq!(used(&base, policy).unwrap(), place, "{policy:?}");
    }
    let other = registry.name("other:1");
    Base::new().push(&other);
    assert_eq!(used(&other, &[]).unwrap(), "there");
    used(&other, &["--pull=never"]).unwrap_err().failed(125).says(&["no registry is asked"]);
}

#[test]
fn a_registry_is_asked_where_the_image_here_is_for_another_platform() {
    let registry = Registry::start();
    let (base, other) = (registry.name("base:1"), if architecture() == "amd64" { "arm64" } else { "amd64" });
    push_index(&[Base::new(), Base::new().for_architecture(other)], &base);
    let sandbox = Sandbox::small();
    let insecure = "--tls-verify=false";
    sandbox.buildah(&["pull", "-q", insecure, &base]).done();
    let platform = format!("linux/{other}");
    let built = |more: &[&str]| {
        let common = ["bud", "-q", insecure, "--retry=0", "--platform", &platform, "-t", "model"];
        sandbox.buildah(&[&common[..], more, &["context"]].concat())
    };
    let made_for = || {
        let (_, config) = pushed_to_directory(&sandbox, &[insecure]);
        (
            config["architecture"].clone(),
            config["config"]["Env"].to_string().contains(&format!("MADE_FOR={other}")),
        )
    };
    for policy in [&[][..], &["--pull=missing"], &["--pull=newer"], &["--pull=always"]] {
        built(&[&["--from", &base], policy].concat()).done();
        assert_eq!(made_for(), (other.into(), true), "{policy:?}");
    }
    let is = |name: &str| {
        let own = architecture();
        format!(
            "image platform (linux/{own}) does not match the expected platform ({platform}): {name} is used as it is"
        )
    };
    built(&["--from", &base, "--pull=never"]).done().says(&[&is(&base)]);

    // What was only built here is another image than what a registry has under such a name.
    sandbox.buildah(&["bud", "-q", "-t", "mine", "context"]).done();
    built(&["--from", "mine"]).done().says(&[&is("mine")]);
    sandbox.buildah(&["bud", "-q", "--platform", &platform, "-t", "mine", "context"]).done();
    built(&["--from", "mine"]).done();
}

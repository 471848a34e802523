//! Images for those who serve models: layers that every reader of gzip takes whole, annotations that say what is in them, and an
//! image that does what KServe asks of its sidecar.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::base::Base;
use crate::support::image::{Image, is_root, unpack};
use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Sandbox};
use crate::support::{digest_of, make_old, make_weights, noise, skopeo_copy, tool, write_sparse};

const SPLIT: [&str; 2] = ["--layer-file-size", "1MiB"];

/// A write within the last two seconds may be followed by another in the same tick: such files are not remembered.
const RACY: Duration = Duration::from_millis(2_100);

const OLOT: &str = "olot.layer.content";
const LAYER_TYPE: &str = "io.opendatahub.modelcar.layer.type";
const CARD_LAYER: &str = "io.opendatahub.layers.modelcard";

/// A model with a file that compresses, one that does not, one with holes, and two small ones.
fn model() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.containerfile("FROM scratch\nCOPY model /models\n");
    let mut text = Vec::new();
    for line in 0..90_000_u64 {
        writeln!(text, "line {line} of a text, {}", line * line % 1_000_003).unwrap();
    }
    sandbox.write("model/a.txt", text);
    sandbox.write("model/shard.safetensors", noise((3 << 20) + 7, 1));
    make_weights(&sandbox.file("model/shard.safetensors"));
    write_sparse(&sandbox.file("model/sparse.bin"), (5 << 20) + 100);
    sandbox.write("model/config.json", "{}");
    sandbox.write("model/tokenizer.json", "{\"a\":1}");
    for name in ["a.txt", "shard.safetensors", "sparse.bin", "config.json", "tokenizer.json"] {
        make_old(&sandbox.file(&format!("model/{name}")));
    }
    sandbox
}

/// The digest of each file of the model, by its path in the image.
fn files(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let entries = fs::read_dir(sandbox.file("model")).unwrap().map(Result::unwrap);
    let of = |path: &Path| digest_of(&fs::read(path).unwrap());
    entries
        .map(|entry| (format!("models/{}", entry.file_name().to_str().unwrap()), of(&entry.path())))
        .collect()
}

/// What Python's `tarfile` finds in blobs, reading each as a stream in mode `r|gz` or `r|`, as KServe's storage initializer does.
fn streamed(mode: &str, blobs: &[String]) -> BTreeMap<String, String> {
    const SCRIPT: &str = "
import hashlib, sys, tarfile
for path in sys.argv[2:]:
    with tarfile.open(path, sys.argv[1]) as tar:
        for member in tar:
            if member.isfile():
                print(member.name, 'sha256:' + hashlib.sha256(tar.extractfile(member).read()).hexdigest())
";
    let mut args = vec!["-c", SCRIPT, mode];
    args.extend(blobs.iter().map(String::as_str));
    let found = tool("python3", &args);
    found.lines().map(|line| line.rsplit_once(' ').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
}

#[test]
fn a_gzip_layer_is_one_member_and_every_reader_takes_it_whole() {
    let sandbox = model();
    let expected = files(&sandbox);
    for level in ["0", "1", "6", "9"] {
        let layout = sandbox.path(&format!("level-{level}"));
        let output = format!("oci:{}:1", layout.display());
        let gzip = ["--compression-format", "gzip", "--compression-level", level];
        sandbox.built(&[&["-o", &output], &gzip[..], &SPLIT].concat());
        // skopeo, which is written in Go, and our own reader.
        let image = Image::read(&output);
        let blobs: Vec<String> = image.manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| layer["digest"].as_str().unwrap().replacen(':', "/", 1))
            .map(|name| layout.join("blobs").join(name).display().to_string())
            .collect();
        assert_eq!(blobs.len(), 4);
        assert_eq!(streamed("r|gz", &blobs), expected, "Python, level {level}");
        for (blob, diff_id) in blobs.iter().zip(image.config["rootfs"]["diff_ids"].as_array().unwrap()) {
            let zcat = Command::new("zcat").stdin(fs::File::open(blob).unwrap()).output().unwrap();
            assert!(zcat.status.success(), "{}", String::from_utf8_lossy(&zcat.stderr));
            assert_eq!(*diff_id, digest_of(&zcat.stdout), "zcat, level {level}");
            let listed = tool("bsdtar", &["-tf", blob]);
            assert!(listed.lines().all(|line| line.starts_with("models/")), "{listed}");
            // One member: what a single decoder leaves is nothing.
            let bytes = fs::read(blob).unwrap();
            let mut decoder = flate2::bufread::GzDecoder::new(&bytes[..]);
            let taken = std::io::copy(&mut decoder, &mut std::io::sink()).unwrap();
            assert_eq!((taken, decoder.into_inner().len()), (zcat.stdout.len() as u64, 0), "level {level}");
        }
    }
}

#[test]
fn layers_as_they_are_are_read_as_a_stream_too_and_gzip_ones_are_unpacked_by_umoci() {
    let sandbox = model();
    let expected = files(&sandbox);
    sandbox.built(&[&["-o", "oci:plain:1"], &SPLIT[..]].concat());
    let blobs = fs::read_dir(sandbox.path("plain/blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
    let blobs: Vec<_> = blobs
        .filter(|path| path.metadata().unwrap().len() > 2_000)
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(streamed("r|", &blobs), expected);

    let registry = Registry::start();
    let name = registry.name("model:1");
    sandbox.pushed(&name, &[&["--compression-format", "gzip"], &SPLIT[..]].concat());
    let unpacked = unpack(&name);
    for (path, digest) in &expected {
        let found = format!("{:?}", unpacked[path].kind);
        assert!(found.contains(digest), "{path}: {found}");
    }
}

#[test]
fn a_zstd_layer_comes_with_a_word_of_who_refuses_it() {
    let sandbox = Sandbox::small();
    let zstd = ["--compression-format", "zstd", "-q", "-o", "oci:layout:1"];
    let word = "KServe's oci+fetch:// refuses them";
    let quiet = sandbox.build(&zstd).done();
    assert!(!quiet.stderr.contains(word), "{quiet}");
    let told = sandbox.run(&[&["--log-level", "info", "build"], &zstd[..], &["context"]].concat()).done();
    assert_eq!(told.stderr.matches(word).count(), 1, "{told}");
    let modelcar = [&zstd[..], &["--modelcar"]].concat();
    let warned = sandbox.build(&modelcar).done();
    assert_eq!(warned.stderr.matches(word).count(), 1, "{warned}");
    sandbox.build(&[&modelcar[..], &["--strict"]].concat()).failed(3);
}

fn manifest(built: &str) -> Value {
    Image::read(built).manifest
}

/// The files of a model, as rh-model-signing reads them out of a manifest: those of a layer of one file from its annotations, and
/// of other layers from the layer.
fn signed(sandbox: &Sandbox, output: &str) -> BTreeMap<String, String> {
    // A directory takes blobs as they are.
    let copy = sandbox.path("signed");
    let _ = fs::remove_dir_all(&copy);
    skopeo_copy(&[], output, &format!("dir:{}", copy.display()));
    let mut found = BTreeMap::new();
    for layer in manifest(output)["layers"].as_array().unwrap() {
        let said = &layer["annotations"];
        let word = |name: &str| said[format!("{OLOT}.{name}")].as_str().unwrap_or_default().to_owned();
        match word("type").as_str() {
            "file" => {
                found.insert(word("inlayerpath")[1..].to_owned(), word("digest"));
            }
            "directory" => {
                assert_eq!(word("digest"), "", "a directory has none");
                let blob = &layer["digest"].as_str().unwrap()["sha256:".len()..];
                let mode = if layer["mediaType"].as_str().unwrap().ends_with("gzip") { "r|gz" } else { "r|" };
                found.extend(streamed(mode, &[copy.join(blob).display().to_string()]));
            }
            _ => continue,
        }
        let path = word("inlayerpath");
        assert_eq!(word("name"), path.rsplit('/').next().unwrap());
        assert_eq!(said["org.opencontainers.image.title"], word("name"));
    }
    found
}

/// What a layer's descriptor says of a model; every layer says its key.
fn said(layer: &Value) -> Value {
    let mut said = layer["annotations"].clone();
    assert!(said.as_object_mut().unwrap().remove("io.crossdock.layer.key").is_some(), "{layer}");
    said
}

#[test]
fn modelcar_says_of_each_layer_what_it_holds_and_changes_no_digest() {
    let sandbox = model();
    let expected = files(&sandbox);
    let plain = sandbox.built(&[&["-o", "oci:plain:1", "--no-memo"], &SPLIT[..]].concat());
    let plain_manifest = manifest(&format!("oci:{}:1", sandbox.path("plain").display()));
    assert!(plain_manifest["layers"].as_array().unwrap().iter().all(|layer| said(layer) == json!({})));
    for io in ["mmap", "read"] {
        for compression in [&[][..], &["--compression-format", "gzip"]] {
            let args = [&["-o", "oci:car:1", "--modelcar", "--no-memo", "--io", io], &SPLIT[..], compression];
            let built = sandbox.built(&args.concat());
            if compression.is_empty() {
                assert_eq!(built.layers(), plain.layers());
            }
            // Each file is read once.
            assert_eq!(built.number("bytes_read"), plain.number("bytes_read"));
            let output = format!("oci:{}:1", sandbox.path("car").display());
            assert_eq!(signed(&sandbox, &output), expected, "{io} {compression:?}");
            let layers = &manifest(&output)["layers"];
            let small = json!({
                format!("{OLOT}.type"): "directory",
                format!("{OLOT}.inlayerpath"): "/models",
                format!("{OLOT}.name"): "models",
                "org.opencontainers.image.title": "models",
            });
            assert_eq!(said(&layers[0]), small);
            fs::remove_dir_all(sandbox.path("car")).unwrap();
        }
    }
}

#[test]
fn a_memo_knows_the_digest_of_a_file_or_its_layer_is_read_once_more() {
    let registry = Registry::start();
    let sandbox = model();
    thread::sleep(RACY);
    let build = |tag: &str, args: &[&str]| {
        let name = registry.name(&format!("model:{tag}"));
        (sandbox.pushed(&name, &[args, &SPLIT, &["--timestamp", "0"]].concat()), name)
    };
    let (plain, _) = build("plain", &[]);
    assert_eq!(plain.outcomes(), ["sent"; 4]);
    // The layers are remembered without it: they are read for it, and not sent again. The small files are not.
    let (first, name) = build("car", &["--modelcar"]);
    assert_eq!(first.outcomes(), ["present"; 4]);
    let small: u64 = ["config.json", "tokenizer.json"]
        .iter()
        .map(|name| sandbox.file(&format!("model/{name}")).metadata().unwrap().len())
        .sum();
    assert_eq!(first.number("bytes_read"), plain.number("bytes_read") - small);
    assert_eq!(signed(&sandbox, &format!("docker://{name}")), files(&sandbox));
    let (second, _) = build("car", &["--modelcar"]);
    assert_eq!((second.number("bytes_read"), second.digest()), (0, first.digest()));
    // And what is remembered with it leaves no trace where nobody asks.
    let (again, _) = build("plain", &[]);
    assert_eq!((again.number("bytes_read"), again.digest()), (0, plain.digest()));
    // Another registry, which has none of it: sent, with the same words.
    let other = Registry::start();
    let elsewhere =
        sandbox.pushed(&other.name("model:1"), &[&SPLIT[..], &["--timestamp", "0", "--modelcar"]].concat());
    assert_eq!(elsewhere.digest(), first.digest());
}

#[test]
fn a_recorded_modelcar_keeps_its_words_wherever_it_goes() {
    let sandbox = model();
    sandbox.write("README.md", "# A model\n");
    let args = ["--modelcard", "context/README.md", "-t", "car", "-q"];
    sandbox.build(&[&args[..], &SPLIT].concat()).done();
    let mut expected = files(&sandbox);
    expected.insert("models/README.md".to_owned(), digest_of(b"# A model\n"));
    for (format, more) in [("as it is", &[][..]), ("gzip", &["--compression-format", "gzip"])] {
        let output = format!("oci:{}:1", sandbox.path(format).display());
        sandbox.run(&[&["push", "-q", "car", &output], more].concat()).done();
        assert_eq!(signed(&sandbox, &output), expected, "{format}");
        let manifest = manifest(&output);
        let cards: Vec<_> = manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|layer| layer["annotations"][LAYER_TYPE] == "modelcard")
            .collect();
        assert_eq!(cards.len(), 1);
        assert_eq!(manifest["annotations"][CARD_LAYER], cards[0]["digest"]);
    }
    let docker = format!("dir:{}", sandbox.path("docker").display());
    let run = sandbox.run(&["push", "-q", "--format", "docker", "car", &docker]).done();
    run.says(&["the docker format has no place for what its layers say of a model"]);
    let manifest = fs::read_to_string(sandbox.path("docker/manifest.json")).unwrap();
    assert!(!manifest.contains("annotations"), "Docker's format has no place for them: {manifest}");
}

#[test]
fn the_card_is_the_last_layer_and_there_is_one() {
    let registry = Registry::start();
    let sandbox = model();
    sandbox.write("README.md", "# First\n");
    let base = registry.name("base:1");
    sandbox.pushed(&base, &["--modelcard", "context/README.md"]);
    let first = manifest(&format!("docker://{base}"));
    assert_eq!(first["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");

    // Upon it: the base's layers keep their words; with a card of its own the image has no other.
    sandbox.containerfile(&format!("FROM {base}\nCOPY model/config.json /models/more/\n"));
    for (args, card) in [(&["--modelcar"][..], 1), (&["--modelcard", "context/README.md"], 3)] {
        let name = registry.name("upon:1");
        sandbox.write("README.md", "# Second\n");
        sandbox.pushed(&name, args);
        let image = manifest(&format!("docker://{name}"));
        let layers = image["layers"].as_array().unwrap();
        assert_eq!(layers[0]["annotations"], first["layers"][0]["annotations"]);
        assert_eq!(layers[2]["annotations"][format!("{OLOT}.inlayerpath")], "/models/more/config.json");
        let cards = layers.iter().enumerate();
        let cards: Vec<_> = cards
            .filter(|(_, layer)| layer["annotations"].get(LAYER_TYPE).is_some())
            .map(|(at, _)| at)
            .collect();
        assert_eq!(cards, [card], "{args:?}");
        assert_eq!(image["annotations"][CARD_LAYER], layers[card]["digest"]);
        let lines = Image::pull(&name).config["history"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|line| line["empty_layer"] != Value::Bool(true))
            .count();
        assert_eq!(lines, layers.len(), "olot refuses an image whose history has no line for a layer");
    }
}

#[test]
fn a_modelcar_that_nobody_could_read_is_refused() {
    let sandbox = Sandbox::small();
    sandbox.write("README.md", "# A model\n");
    sandbox.write("README.txt", "A model\n");
    let card = ["--modelcard", "context/README.md"];
    for (args, code, says) in [
        (
            &["--modelcar", "--format", "docker"][..],
            2,
            "--modelcar: the docker format has no annotations of layers",
        ),
        (&["--modelcar", "-o", "docker-archive:x.tar"], 2, "write an oci-archive"),
        (&["--modelcard", "context/README.txt"], 2, "a name that ends in .md"),
        (&["--modelcard", "context/none.md"], 4, "none.md"),
        (&["--modelcard", "model.md"], 3, "it is no file"),
    ] {
        fs::create_dir_all(sandbox.path("model.md")).unwrap();
        sandbox.build(args).failed(code).says(&[says]);
    }
    sandbox.containerfile("FROM scratch\nCOPY model /model\n");
    for args in [&["--modelcar"][..], &card] {
        sandbox.build(args).failed(3).says(&["no file below /models", "COPY model /models"]);
    }
    // What is beside the model is not of it.
    sandbox.containerfile("FROM scratch\nCOPY model /models\nCOPY README.txt /usr/share/doc/\n");
    sandbox.build(&["-q", "--modelcar", "-o", "oci:layout:1"]).done();
    let image = manifest(&format!("oci:{}:1", sandbox.path("layout").display()));
    assert_eq!(said(&image["layers"][1]), json!({}), "{image}");
}

/// The programs that KServe's sidecar and init container run, with what they need, below a directory of the context.
fn shell(sandbox: &Sandbox, directory: &str) {
    for program in ["/bin/sh", "/bin/ls", "/bin/ln", "/bin/sleep"] {
        let libraries = tool("ldd", &[program]);
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths.chain([program]) {
            let to = sandbox.file(&format!("{directory}{path}"));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
    }
}

#[test]
fn a_container_of_the_image_does_what_kserve_asks_of_its_sidecar() {
    let sandbox = Sandbox::new();
    let layout = sandbox.path("base");
    Base::new().write_layout(&layout);
    shell(&sandbox, "tools");
    sandbox.write("model/config.json", "{\"served\":true}");
    sandbox.mode("model/config.json", 0o600);
    sandbox.containerfile(&format!(
        "FROM oci:{}:latest\nCOPY tools /\nCOPY --chmod=a+rX model /models\nUSER 1001\n",
        layout.display()
    ));
    sandbox.build(&["-q", "--modelcar", "-o", "oci:car:1"]).done();
    let bundle = sandbox.path("bundle").display().to_string();
    let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
    let image = format!("{}:1", sandbox.path("car").display());
    tool("umoci", &[&["unpack"], rootless, &["--image", &image, &bundle]].concat());
    let root = format!("{bundle}/rootfs");
    // The volume that the sidecar shares with the server.
    let volume = format!("{root}/mnt");
    fs::create_dir_all(&volume).unwrap();
    fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // Any user of group 0, as OpenShift has it.
    let enter: &[&str] = if is_root() {
        &["chroot", "--userspec=1000690000:0"]
    } else {
        &["unshare", "--map-root-user", "chroot"]
    };
    let inside = |script: &str| {
        let mut command = sandbox.command_of(enter[0]);
        command
            .args(&enter[1..])
            .arg(&root)
            .args(["/bin/sh", "-c", script])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    };
    // The two scripts are KServe's (pkg/utils/storage.go), as a pod has them when Kubernetes has expanded $$.
    let check = "[ -d /models ] && [ \"$(ls -A /models)\" ] && echo OK";
    let checked = inside(check).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&checked.stdout),
        "OK\n",
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let mut car = inside("ln -sf /proc/$$/root/models /mnt/models && exec sleep 60")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let served = format!("{volume}/models/config.json");
    let since = Instant::now();
    let read = loop {
        match fs::read_to_string(&served) {
            Err(_) if since.elapsed() < Duration::from_secs(20) => thread::sleep(Duration::from_millis(20)),
            read => break read,
        }
    };
    car.kill().unwrap();
    car.wait().unwrap();
    assert_eq!(read.unwrap(), "{\"served\":true}");
}

#[test]
fn modelcar_and_plain_images_of_one_model_share_their_layers() {
    let registry = Registry::start();
    let sandbox = model();
    let plain = sandbox.pushed(&registry.name("model:1"), &SPLIT);
    let car: Built = sandbox
        .pushed(&registry.name("model:2"), &[&SPLIT[..], &["--modelcar", "--root", "another"]].concat());
    assert_eq!(car.layers(), plain.layers());
    assert_ne!(car.digest(), plain.digest());
}

/// The bytes of a gzip layer as earlier builds stored it: a member for each MiB of its tar.
fn in_members(tar: &[u8]) -> Vec<u8> {
    let piece = |piece: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(piece).unwrap();
        encoder.finish().unwrap()
    };
    tar.chunks(1 << 20).flat_map(piece).collect()
}

/// Turns the only record of a root directory, of an image with one gzip layer, into what an earlier build would have written; says
/// which digest the image has then, and which its layer.
fn recorded_earlier(sandbox: &Sandbox, blob: &Path) -> (String, String) {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(blob).unwrap()).read_to_end(&mut tar).unwrap();
    let stored = in_members(&tar);
    let (layer, size) = (digest_of(&stored), stored.len());
    let images = sandbox.path("root/images");
    let [record] = &fs::read_dir(&images).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>()[..]
    else {
        panic!("one record")
    };
    let text = tool("zstd", &["-dc", &record.display().to_string()]);
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut manifest: Value = serde_json::from_str(lines[0]["manifest_text"].as_str().unwrap()).unwrap();
    for descriptor in [&mut manifest["layers"][0], &mut lines[1]["layer"]["descriptor"]] {
        descriptor["digest"] = layer.as_str().into();
        descriptor["size"] = size.into();
    }
    lines[1]["origin"]["entries"]["compression"] = json!({"gzip": {"level": 6}});
    let manifest = serde_json::to_string(&manifest).unwrap();
    let digest = digest_of(manifest.as_bytes());
    lines[0]["manifest"]["digest"] = digest.as_str().into();
    lines[0]["manifest"]["size"] = manifest.len().into();
    lines[0]["manifest_text"] = manifest.into();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let plain = sandbox.path("record");
    fs::write(&plain, text).unwrap();
    fs::remove_file(record).unwrap();
    let to = images.join(format!("{}.jsonl.zst", &digest["sha256:".len()..]));
    tool("zstd", &["-q", &plain.display().to_string(), "-o", &to.display().to_string()]);
    (digest, layer)
}

#[test]
fn an_image_that_was_recorded_with_a_member_for_each_piece_keeps_its_digests() {
    let sandbox = model();
    let gzip = ["--compression-format", "gzip", "--squash"];
    let first = sandbox.built(&[&["--root", "root", "-t", "old"], &gzip[..]].concat());
    sandbox.run(&["--root", "root", "push", "-q", "old", "oci:new:1"]).done();
    let blob = first.layers()[0].replacen(':', "/", 1);
    let (digest, layer) = recorded_earlier(&sandbox, &sandbox.path(&format!("new/blobs/{blob}")));
    assert_ne!(layer, first.layers()[0]);

    let id = &digest["sha256:".len()..];
    let push = |place: &str, more: &[&str]| {
        let args = ["--root", "root", "push", "--progress", "json", id];
        Built::of(sandbox.run(&[&args[..], &[&format!("oci:{place}:1")], more].concat()).done())
    };
    let sent = push("as-it-was", &[]);
    assert_eq!((sent.digest(), &sent.layers()[0]), (digest.as_str(), &layer));
    Image::read(&format!("oci:{}:1", sandbox.path("as-it-was").display()));
    // A base of that time is in the form that it had.
    sandbox.run(&["--root", "root", "tag", id, "earlier"]).done();
    sandbox.containerfile("FROM localhost/earlier\nLABEL a=1\n");
    let upon = sandbox.built(&["--root", "root", "-o", "oci:upon:1"]);
    assert_eq!(upon.layers()[0], layer);
    // Who asks for gzip gets one member.
    let converted = push("converted", &["--compression-format", "gzip"]);
    assert_eq!(converted.layers(), first.layers());
}

//! The model check, as a user meets it: what ends a build and what does not, what it says in which form, and what it costs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use serde_json::{Value, json};

use crate::support::image::Image;
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{make_weights, write_large, write_sparse};

/// A model that is a pointer of Git LFS.
fn pointer() -> Sandbox {
    let sandbox = Sandbox::small();
    let text = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5000000000\n",
        "ab".repeat(32)
    );
    sandbox.write("model/model.safetensors", text);
    sandbox
}

/// A model with its weights twice, 1 MiB each.
fn twice() -> Sandbox {
    let sandbox = Sandbox::small();
    write_large(&sandbox.file("model/model.safetensors"), 1 << 20, 1);
    write_large(&sandbox.file("model/consolidated.safetensors"), 1 << 20, 2);
    sandbox
}

const POINTER: &str = "Containerfile:2:12: /models/model.safetensors is a pointer of Git LFS, 135 bytes long, and not the file itself (4.6 GiB), run `git lfs pull` where the model was cloned";
const TWICE: &str = "/models/consolidated.safetensors beside /models/model.safetensors, write COPY --exclude=consolidated.safetensors to leave 1.0 MiB out";

fn json(run: &Run) -> Value {
    serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap()
}

#[test]
fn a_broken_model_ends_the_build_before_a_byte_is_sent() {
    let registry = Registry::start();
    let proxy = registry.proxy();
    let sandbox = pointer();
    let name = format!("{}/team/model:1", proxy.addr());
    let push = ["--push", "--tls-verify=false", "-t", &name];
    for more in [&[][..], &["--dry-run"], &["--model-check=error"], &["--strict"]] {
        let run = sandbox.build(&[&push[..], more].concat()).failed(3);
        let run = run.says(&[POINTER, "nothing of it was sent; --model-check=warn packs it all the same"]);
        assert_eq!(run.stderr.matches("Git LFS").count(), 1, "{run}");
    }
    assert_eq!((proxy.count("PATCH", ""), proxy.count("PUT", "")), (0, 0));
    assert_eq!(registry.tag("team/model", "1"), None);
    // Who asks for it gets it.
    let run = sandbox.build(&[&push[..], &["--model-check=warn"]].concat()).done().says(&["WARN", POINTER]);
    assert_eq!(run.stderr.matches("Git LFS").count(), 1, "{run}");
    sandbox
        .build(&[&push[..], &["--model-check=warn", "--strict"]].concat())
        .failed(3)
        .says(&["--strict takes warnings"]);
    let run = sandbox.build(&[&push[..], &["--model-check=off", "--strict"]].concat()).done();
    assert_eq!(run.stderr.matches("Git LFS").count(), 0, "{run}");
    sandbox.build(&["--model-check=maybe"]).failed(2).says(&["--model-check"]);
}

#[test]
fn all_faults_are_told_at_once_and_once_for_several_platforms() {
    let sandbox = pointer();
    sandbox.write("model/other.gguf", "no magic");
    sandbox.write("model/pytorch_model-00001-of-00002.bin", "x");
    let run = sandbox.build(&["--platform=linux/amd64,linux/arm64", "-t", "x", "-t", "y"]).failed(3);
    let run = run.says(&[
        "Error: the model is broken, first of all: ",
        POINTER,
        "and Containerfile:2:12: /models/other.gguf is no GGUF file",
        "and Containerfile:2:12: /models/pytorch_model-00001-of-00002.bin is one of 2 files, and 1 of them is not in the image: /models/pytorch_model-00002-of-00002.bin",
    ]);
    assert_eq!(run.stderr.matches("other.gguf").count(), 1, "{run}");
}

#[test]
fn a_broken_model_is_told_to_machines_too() {
    let sandbox = pointer();
    for more in [&["--dry-run"][..], &["-o", "oci:out:1"]] {
        let run = sandbox.build(&[&["--progress", "json"], more].concat()).failed(3);
        let last: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "model", "{run}");
        assert_eq!(last["model"]["findings"][0]["rule"], "lfs-pointer", "{run}");
    }
}

#[test]
fn under_the_name_buildah_a_broken_model_is_a_warning() {
    let sandbox = pointer();
    let run = sandbox.buildah(&["bud", "-t", "x", "context"]).done().says(&["WARN", POINTER]);
    assert!(!run.stdout.contains("Git LFS"), "{run}");
    sandbox.buildah(&["bud", "--model-check=error", "-t", "x", "context"]).failed(125).says(&[POINTER]);
    // What the config file says counts there, too.
    fs::write(sandbox.path("config.toml"), "[build]\nmodel-check = \"error\"\n").unwrap();
    let mut command = sandbox.buildah_command(&["bud", "-t", "x", "context"]);
    command.env("CROSSDOCK_CONFIG", sandbox.path("config.toml"));
    sandbox.finish(command.output().unwrap(), &["config"]).failed(125).says(&[POINTER]);
}

#[test]
fn weights_that_are_there_twice_are_a_warning_with_the_way_out() {
    let sandbox = twice();
    let built = sandbox.built(&["-o", "oci:out:v1"]);
    assert!(built.run.stderr.contains(TWICE), "{}", built.run);
    sandbox.build(&["-o", "oci:out:v1", "--strict"]).failed(3).says(&[TWICE, "there is a warning"]);
    sandbox.containerfile("FROM scratch\nCOPY --exclude=consolidated.safetensors model /models\n");
    let run = sandbox.build(&["-o", "oci:out:v1", "--strict"]).done();
    assert_eq!(run.stderr.matches("WARN").count(), 0, "{run}");
    let image = Image::read(&format!("oci:{}:v1", sandbox.path("out").display()));
    assert_eq!(
        image.files.into_keys().collect::<Vec<_>>(),
        ["models", "models/config.json", "models/model.safetensors"]
    );
}

#[test]
fn what_was_found_is_in_the_report_and_in_the_plan() {
    let sandbox = twice();
    sandbox.write("model/optimizer.pt", b"\x80\x02}q\x00.");
    let wasteful = json!({
        "rule": "twice",
        "severity": "wasteful",
        "paths": ["/models/consolidated.safetensors"],
        "message": "the same weights are in the image twice, by their names: /models/consolidated.safetensors beside /models/model.safetensors",
        "help": "write COPY --exclude=consolidated.safetensors to leave 1.0 MiB out",
        "bytes": 1 << 20,
    });
    let note = json!({
        "rule": "pickle",
        "severity": "note",
        "paths": ["/models/optimizer.pt"],
        "message": "/models/optimizer.pt is a pickle, which runs code when loaded",
        "help": "load nothing that you do not trust; safetensors has no code",
        "bytes": null,
    });
    // Two pages, and a file of six bytes; these are no part of what is read to be packed.
    let model =
        json!({ "check": "error", "files": 3, "bytes_read": 2 * 4096 + 6, "findings": [wasteful, note] });
    let dry = sandbox.build(&["--dry-run", "--progress=json"]).done();
    assert_eq!(json(&dry)["model"], model);
    let built = sandbox.built(&["-o", "oci:out:v1"]);
    assert_eq!(built.image["model"], model);
    assert_eq!(built.number("bytes_read"), (2 << 20) + 6 + 2);
    let list =
        sandbox.build(&["--progress=json", "--platform=linux/amd64,linux/arm64", "-o", "oci:list:v1"]).done();
    assert_eq!(json(&list)["model"]["findings"], model["findings"]);
    for more in [&["--dry-run"][..], &["-o", "oci:out:v1"]] {
        let text = sandbox.build(more).done().stdout;
        assert!(
            text.contains("model    3 files looked into, 8.01 KiB read: 1 wasteful, 1 to note\n"),
            "{text}"
        );
        assert!(text.contains("  note   /models/optimizer.pt is a pickle"), "{text}");
    }
    // A note is no warning.
    fs::remove_file(sandbox.file("model/consolidated.safetensors")).unwrap();
    sandbox.build(&["-o", "oci:out:v1", "--strict"]).done();
    let off = sandbox.build(&["--dry-run", "--progress=json", "--model-check=off"]).done();
    assert_eq!(json(&off)["model"], json!({ "check": "off", "files": 0, "bytes_read": 0, "findings": [] }));
}

/// The model as `hf download --local-dir` leaves it, at some time.
fn download(sandbox: &Sandbox, time: &str) {
    sandbox.write("model/config.json", "{}");
    write_large(&sandbox.file("model/model.safetensors"), 1 << 20, 1);
    for file in ["config.json", "model.safetensors"] {
        let note = format!("c0ffee\n\"etag\"\n{time}\n");
        sandbox.write(&format!("model/.cache/huggingface/download/{file}.metadata"), note);
        sandbox.write(&format!("model/.cache/huggingface/download/{file}.lock"), "");
    }
    sandbox.write("model/.cache/huggingface/.gitignore", "*");
    sandbox.write(&format!("model/{time}.incomplete"), "half of it");
}

#[test]
fn two_downloads_of_one_model_make_one_layer() {
    let (first, second) = (Sandbox::small(), Sandbox::small());
    download(&first, "1700000000.1");
    download(&second, "1800000000.2");
    let layers =
        |sandbox: &Sandbox, more: &[&str]| sandbox.built(&[&["-o", "oci:out:v1"], more].concat()).layers();
    assert_eq!(layers(&first, &[]), layers(&second, &[]));
    let built = first.built(&["-o", "oci:out:v1"]);
    let told = "COPY leaves out what a download has left: \"model/.cache/huggingface\", \"model/1700000000.1.incomplete\", 6 files of ";
    assert_eq!(built.run.stderr.matches(told).count(), 1, "{}", built.run);
    // One that was cloned has none of it.
    let plain = Sandbox::small();
    write_large(&plain.file("model/model.safetensors"), 1 << 20, 1);
    let built = plain.built(&["-o", "oci:out:v1"]);
    assert_eq!((built.layers(), built.run.stderr.as_str()), (layers(&first, &[]), ""));

    let keep = ["--keep-download-cache", "--strict"];
    assert_ne!(layers(&first, &keep), layers(&second, &keep));
    let image = Image::read(&format!("oci:{}:v1", first.path("out").display()));
    for path in ["models/.cache/huggingface/download/config.json.metadata", "models/1700000000.1.incomplete"]
    {
        assert!(image.files.contains_key(path), "{path}");
    }
    // buildah copies it, and so does who stands in its place.
    let run = first.buildah(&["bud", "-o", "oci:drop-in:v1", "context"]).done();
    run.says(&[
        "takes files into the image that a download has not finished",
        "takes the notes of a download into the image",
    ]);
    let drop_in = Image::read(&format!("oci:{}:v1", first.path("drop-in").display()));
    assert_eq!(drop_in.files, image.files);
}

/// Writes a shard with a true header of some tensors, which takes no room.
fn shard(sandbox: &Sandbox, name: &str, tensors: &[String], each: u64) {
    let mut at = 0;
    let mut header = serde_json::Map::new();
    for tensor in tensors {
        let end = at + each;
        header.insert(
            tensor.clone(),
            json!({ "dtype": "BF16", "shape": [each / 2], "data_offsets": [at, end] }),
        );
        at = end;
    }
    let header = Value::from(header).to_string();
    let file = File::create(sandbox.file(name)).unwrap();
    file.write_all_at(&(header.len() as u64).to_le_bytes(), 0).unwrap();
    file.write_all_at(header.as_bytes(), 8).unwrap();
    file.set_len(8 + header.len() as u64 + at).unwrap();
}

#[test]
fn a_model_of_163_shards_and_700_gigabytes_costs_little_to_look_at() {
    const SHARDS: u64 = 163;
    let sandbox = Sandbox::small();
    let mut map = serde_json::Map::new();
    let each = 700_000_000_000 / SHARDS / 8 / 4096 * 4096;
    for no in 1..=SHARDS {
        let name = format!("model-{no:05}-of-{SHARDS:06}.safetensors");
        let tensors: Vec<_> = (0..8).map(|at| format!("model.layers.{no}.mlp.experts.{at}.weight")).collect();
        shard(&sandbox, &format!("model/{name}"), &tensors, each);
        map.extend(tensors.into_iter().map(|tensor| (tensor, name.clone().into())));
    }
    let index = json!({ "metadata": { "total_size": each * 8 * SHARDS }, "weight_map": map });
    sandbox.write("model/model.safetensors.index.json", index.to_string());
    let plan = json(&sandbox.build(&["--dry-run", "--progress=json"]).done());
    let model = &plan["model"];
    assert_eq!(model["files"], SHARDS + 1);
    assert!(model["bytes_read"].as_u64().unwrap() < 2 << 20, "{}", model["bytes_read"]);
    // All is well but for what an image has too few layers for.
    let findings = model["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{model}");
    assert_eq!((&findings[0]["rule"], &findings[0]["severity"]), (&json!("layers"), &json!("note")));
    let message = findings[0]["message"].as_str().unwrap();
    assert!(message.contains("of 64.00 MiB or more share") && message.contains("at most 100"), "{message}");
    // One that is cut off is found among them.
    let cut = sandbox.file("model/model-00077-of-000163.safetensors");
    let file = File::options().write(true).open(&cut).unwrap();
    file.set_len(cut.metadata().unwrap().len() - 1).unwrap();
    sandbox.build(&["--dry-run"]).failed(3).says(&["/models/model-00077-of-000163.safetensors was cut off"]);
    fs::remove_file(cut).unwrap();
    let run = sandbox.build(&["--dry-run"]).failed(3);
    let run = run.says(&[
        "names 163 files, and 1 of them is not in the image: /models/model-00077-of-000163.safetensors",
    ]);
    assert_eq!(run.stderr.matches("00077").count(), 1, "{run}");
}

#[test]
fn what_an_ignore_file_leaves_out_is_missing_and_what_comes_over_a_stage_is_there() {
    let sandbox = Sandbox::small();
    for no in 1..=2 {
        write_sparse(&sandbox.file(&format!("model/model-0000{no}-of-00002.safetensors")), 1 << 20);
    }
    sandbox.write(".containerignore", "**/*-00002-of-*\n");
    let missing =
        "/models/model-00001-of-00002.safetensors is one of 2 files, and 1 of them is not in the image";
    sandbox.build(&["-o", "oci:out:v1"]).failed(3).says(&[missing]);
    sandbox.containerfile("FROM scratch AS all\nCOPY --from=more . /all\nFROM scratch\nCOPY --from=all /all /models\nCOPY model /models\n");
    let more = format!("more={}", sandbox.file("model").display());
    let run = sandbox.build(&["-o", "oci:out:v1", "--build-context", &more]).done();
    assert_eq!(run.stderr.matches("WARN").count(), 0, "{run}");
}

#[test]
fn a_file_that_changes_after_it_was_looked_at_is_told_of_as_always() {
    let sandbox = Sandbox::small();
    let path = sandbox.file("model/model.safetensors");
    write_large(&path, 2 << 20, 1);
    let before = sandbox.built(&["-o", "oci:out:v1"]);
    write_large(&path, 2 << 20, 2);
    make_weights(&path);
    let after = sandbox.built(&["-o", "oci:out:v1"]);
    assert_ne!(before.layers(), after.layers());
}

//! The model check: one test a rule, with what it says.

use std::fmt::Write as _;
use std::fs;

use crossdock_builder::{FileTree, PlannedImage};
use insta::assert_snapshot;

use crate::harness::{Setup, path};

/// A safetensors file with these tensors, of so many bytes each.
pub(crate) fn safetensors(tensors: &[(&str, usize)]) -> Vec<u8> {
    let mut at = 0;
    let mut json = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
    for (name, size) in tensors {
        let end = at + size;
        write!(json, ",\"{name}\":{{\"dtype\":\"U8\",\"shape\":[{size}],\"data_offsets\":[{at},{end}]}}")
            .unwrap();
        at = end;
    }
    with_header(&(json + "}"), at)
}

fn with_header(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 7);
    bytes
}

/// A GGUF file of version 3 with these whole numbers of 16 bits, and one tensor of 32 bytes.
pub(crate) fn gguf(pairs: &[(&str, u16)]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend((pairs.len() as u64 + 2).to_le_bytes());
    text(&mut bytes, "general.architecture");
    bytes.extend(8_u32.to_le_bytes());
    text(&mut bytes, "llama");
    text(&mut bytes, "tokenizer.ggml.scores");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(6_u32.to_le_bytes());
    bytes.extend(3_u64.to_le_bytes());
    bytes.extend([0; 12]);
    for (key, value) in pairs {
        text(&mut bytes, key);
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    text(&mut bytes, "token_embd.weight");
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(8_u64.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 32, 0);
    bytes
}

fn pointer(size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n", "4d7a".repeat(16))
}

fn index(map: &[(&str, &str)]) -> String {
    let map: serde_json::Map<_, _> =
        map.iter().map(|(tensor, file)| ((*tensor).to_owned(), (*file).into())).collect();
    serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string()
}

/// A context with a model's config in `m`.
pub(crate) fn model() -> Setup {
    Setup::new().file("m/config.json", "{}", 0o644)
}

fn write(setup: &Setup, name: &str, bytes: impl AsRef<[u8]>) {
    let at = setup.context().join(name);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(at, bytes).unwrap();
}

fn told(image: &PlannedImage) -> String {
    let one = |finding: &crossdock_builder::Finding| {
        let rule = serde_json::to_value(finding.rule).unwrap();
        let severity = serde_json::to_value(finding.severity).unwrap();
        format!("{} {}: {finding}", severity.as_str().unwrap(), rule.as_str().unwrap())
    };
    image.model.findings.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// What is found in an image of these instructions.
fn found(setup: &Setup, instructions: &str) -> String {
    told(&setup.plan(&format!("FROM scratch\n{instructions}")))
}

#[test]
fn a_pointer_of_git_lfs_is_no_model() {
    let setup = model();
    write(&setup, "m/model.safetensors", pointer(4_976_698_672));
    write(&setup, "m/tokenizer.model", pointer(499_723));
    write(&setup, "m/tokenizer.json", pointer(1));
    // A text that tells of pointers is none, and neither is one of a kind that nobody keeps so.
    write(&setup, "m/README.md", pointer(1));
    write(&setup, "m/small.bin", "a".repeat(200));
    assert_snapshot!(found(&setup, "COPY m /m/"), @"
    broken lfs-pointer: Containerfile:2:8: /m/model.safetensors is a pointer of Git LFS, 135 bytes long, and not the file itself (4.6 GiB), run `git lfs pull` where the model was cloned
    broken lfs-pointer: Containerfile:2:8: /m/tokenizer.json is a pointer of Git LFS, 126 bytes long, and not the file itself (1 byte), run `git lfs pull` where the model was cloned
    broken lfs-pointer: Containerfile:2:8: /m/tokenizer.model is a pointer of Git LFS, 131 bytes long, and not the file itself (488.0 KiB), run `git lfs pull` where the model was cloned
    ");
}

#[test]
fn a_safetensors_file_that_cannot_be_whole_is_named_with_what_was_expected() {
    let place = |begin: usize, end: usize| {
        format!("{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[{begin},{end}]}}", (end - begin) / 4)
    };
    let two = |a: &str, b: &str| format!("{{\"a\":{a},\"b\":{b}}}");
    let whole = safetensors(&[("a", 100), ("b", 60)]);
    let mut long = whole.clone();
    long.push(0);
    let setup = model();
    for (name, bytes) in [
        ("whole", whole.clone()),
        ("none", with_header("{}", 0)),
        ("padded", with_header("{}      ", 0)),
        ("newer", with_header(r#"{"a":{"dtype":"F2","shape":[9],"data_offsets":[0,3]}}"#, 3)),
        ("empty", Vec::new()),
        ("short", vec![1, 2, 3]),
        ("header-beyond", whole[..50].to_vec()),
        ("header-too-long", with_header("", 0).into_iter().map(|byte| byte | 0x7f).collect()),
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("long", long),
        ("no-json", with_header("<html>404</html>", 10)),
        ("no-utf8", [&8_u64.to_le_bytes()[..], b"{\"\xff\":1}"].concat()),
        ("two-objects", with_header("{}{}", 0)),
        ("no-places", with_header(r#"{"a":{"dtype":"F32"}}"#, 0)),
        ("hole", with_header(&two(&place(0, 4), &place(8, 12)), 12)),
        ("begins-late", with_header(&format!("{{\"a\":{}}}", place(4, 8)), 8)),
        ("overlap", with_header(&two(&place(0, 8), &place(4, 12)), 12)),
        ("backwards", with_header(r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[4,0]}}"#, 4)),
        ("shape", with_header(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#, 4)),
        (
            "endless",
            with_header(
                &format!(r#"{{"a":{{"dtype":"F32","shape":[{0},{0},{0}],"data_offsets":[0,4]}}}}"#, u64::MAX),
                4,
            ),
        ),
        ("half-bytes", with_header(r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#, 1)),
    ] {
        write(&setup, &format!("m/{name}.safetensors"), bytes);
    }
    assert_snapshot!(found(&setup, "COPY m /m/"), @r#"
    broken safetensors: Containerfile:2:8: /m/backwards.safetensors has a tensor "a" that ends at 0, before it begins at 4, download it again
    broken safetensors: Containerfile:2:8: /m/begins-late.safetensors has 4 bytes that are of no tensor: "a" begins at 4, and what is before it ends at 0, download it again
    broken safetensors: Containerfile:2:8: /m/cut.safetensors was cut off: its tensors have 160 bytes by its header, and the file has 159 for them, download it again
    broken safetensors: Containerfile:2:8: /m/empty.safetensors is no safetensors file: the length of its header takes 8 bytes, and the file has 0, download it again
    broken safetensors: Containerfile:2:8: /m/endless.safetensors has a header that is no JSON of safetensors: the shape of "a" is of no whole number of bytes at line 1 column 115, download it again
    broken safetensors: Containerfile:2:8: /m/half-bytes.safetensors has a header that is no JSON of safetensors: the shape of "a" is of no whole number of bytes at line 1 column 53, download it again
    broken safetensors: Containerfile:2:8: /m/header-beyond.safetensors was cut off: its header has 145 bytes, and the file 42 behind the header's length, download it again
    broken safetensors: Containerfile:2:8: /m/header-too-long.safetensors is no safetensors file: its header would have 9187201950435737471 bytes, and the format allows 100000000, download it again
    broken safetensors: Containerfile:2:8: /m/hole.safetensors has 4 bytes that are of no tensor: "b" begins at 8, and what is before it ends at 4, download it again
    broken safetensors: Containerfile:2:8: /m/long.safetensors is longer than it says: its tensors have 160 bytes by its header, and the file has 161 for them, download it again
    broken safetensors: Containerfile:2:8: /m/no-json.safetensors has a header that is no JSON of safetensors: expected value at line 1 column 1, download it again
    broken safetensors: Containerfile:2:8: /m/no-places.safetensors has a header that is no JSON of safetensors: missing field `shape` at line 1 column 20, download it again
    broken safetensors: Containerfile:2:8: /m/no-utf8.safetensors was cut off: its header has 8 bytes, and the file 7 behind the header's length, download it again
    broken safetensors: Containerfile:2:8: /m/overlap.safetensors has tensors that lie on one another: "b" begins at 4, and "a" ends at 8, download it again
    broken safetensors: Containerfile:2:8: /m/shape.safetensors has a tensor "a" of 12 bytes by its type and shape, and of 4 by its place, download it again
    broken safetensors: Containerfile:2:8: /m/short.safetensors is no safetensors file: the length of its header takes 8 bytes, and the file has 3, download it again
    broken safetensors: Containerfile:2:8: /m/two-objects.safetensors has a header that is no JSON of safetensors: trailing characters at line 1 column 3, download it again
    "#);
}

#[test]
fn a_header_that_is_longer_than_what_is_read_is_looked_at_as_far_as_that() {
    let setup = model();
    let names: Vec<_> =
        (0..20_000).map(|at| format!("model.layers.{at:06}.self_attn.q_proj.weight")).collect();
    let tensors: Vec<_> = names.iter().map(|name| (name.as_str(), 8)).collect();
    let whole = safetensors(&tensors);
    let header = u64::from_le_bytes(*whole.first_chunk().unwrap());
    assert!(header > 3 << 19);
    write(&setup, "m/a.safetensors", &whole);
    let image = setup.plan("FROM scratch\nCOPY m /m/");
    assert_eq!(told(&image), "");
    assert_eq!(image.model.bytes_read, 1 << 20);
    // What is seen must fit.
    write(&setup, "m/a.safetensors", &whole[..8 + usize::try_from(header).unwrap() + 100]);
    assert_snapshot!(found(&setup, "COPY m /m/"), @"broken safetensors: Containerfile:2:8: /m/a.safetensors was cut off: its tensors have 82448 bytes by its header, and the file has 100 for them, download it again");
    // A tensor that an index names may be behind that.
    write(&setup, "m/a.safetensors", &whole);
    write(
        &setup,
        "m/a.safetensors.index.json",
        index(&[(&names[19_999], "a.safetensors"), ("no such", "a.safetensors")]),
    );
    assert_eq!(found(&setup, "COPY m /m/"), "");
}

#[test]
fn an_index_and_its_shards_belong_together() {
    let setup = model();
    let name = |no: u32| format!("m/model-{no:05}-of-00003.safetensors");
    for no in 1..=3 {
        write(&setup, &name(no), safetensors(&[(&format!("t{no}"), 10)]));
    }
    let shard = |no: u32| format!("model-{no:05}-of-00003.safetensors");
    let map = index(&[("t1", &shard(1)), ("t2", &shard(2)), ("t3", &shard(3))]);
    write(&setup, "m/model.safetensors.index.json", &map);
    assert_eq!(found(&setup, "COPY m /m/"), "");
    // What the image will not have is missing, whyever: one message says so.
    assert_snapshot!(found(&setup, "COPY --exclude=*-00002-* m /m/"), @"broken index: Containerfile:2:28: /m/model.safetensors.index.json names 3 files, and 1 of them is not in the image: /m/model-00002-of-00003.safetensors, download them, or take the line that leaves them out of the ignore file or of --exclude");
    let ignoring = setup.file(".dockerignore", "m/*-00003-of*\nm/*-00001-of*\n", 0o644);
    assert_snapshot!(found(&ignoring, "COPY m /m/"), @"broken index: Containerfile:2:8: /m/model.safetensors.index.json names 3 files, and 2 of them are not in the image: /m/model-00001-of-00003.safetensors, /m/model-00003-of-00003.safetensors, download them, or take the line that leaves them out of the ignore file or of --exclude");
    fs::remove_file(ignoring.context().join(".dockerignore")).unwrap();
    let setup = ignoring;
    // Of a stage that has all of it, a part; and the rest by another instruction.
    assert_snapshot!(found(&setup, &format!("COPY m /m/\nFROM scratch\nCOPY --from=0 /m/config.json /m/model.safetensors.index.json /{} /m/", name(1))), @"broken index: Containerfile:4:98: /m/model.safetensors.index.json names 3 files, and 2 of them are not in the image: /m/model-00002-of-00003.safetensors, /m/model-00003-of-00003.safetensors, download them, or take the line that leaves them out of the ignore file or of --exclude");
    assert_eq!(found(&setup, &format!("COPY --exclude=*-00002-* m /m/\nCOPY {} /m/", name(2))), "");
    // A shard that is of another revision.
    write(&setup, &name(2), safetensors(&[("other", 10)]));
    assert_snapshot!(found(&setup, "COPY m /m/"), @r#"broken index: Containerfile:2:8: /m/model-00002-of-00003.safetensors has 1 tensor, and 1 that /m/model.safetensors.index.json looks for there is not among them: "t2", download the shard and the index of one revision"#);
    // Links into what is not in the image.
    fs::remove_file(setup.context().join(name(2))).unwrap();
    let setup = setup.link(&name(2), "../../blobs/2");
    assert_snapshot!(found(&setup, "COPY m /m/"), @"broken index: Containerfile:2:8: /m/model.safetensors.index.json names files that are symlinks to nowhere in the image: /m/model-00002-of-00003.safetensors -> ../../blobs/2, build with --follow-links to copy what they point to");
    for (text, name) in [
        ("", "empty"),
        ("[]", "list"),
        ("{}", "bare"),
        (r#"{"weight_map": {"a": 1}}"#, "odd"),
        (r#"{"weight_map": {"a": "../../../x"}}"#, "up"),
    ] {
        write(&setup, &format!("i/{name}.safetensors.index.json"), text);
    }
    assert_snapshot!(found(&setup, "COPY i /i/"), @r#"
    broken index: Containerfile:2:8: /i/bare.safetensors.index.json is no index of shards: it has no weight_map, download it again
    broken index: Containerfile:2:8: /i/empty.safetensors.index.json is no index of shards: EOF while parsing a value at line 1 column 0, download it again
    broken index: Containerfile:2:8: /i/list.safetensors.index.json is no index of shards: invalid type: sequence, expected an object with a weight_map at line 1 column 0, download it again
    broken index: Containerfile:2:8: /i/odd.safetensors.index.json is no index of shards: invalid type: integer `1`, expected a string at line 1 column 22, download it again
    broken index: Containerfile:2:8: /i/up.safetensors.index.json names 1 file, and 1 of them is not in the image: "../../../x", download them, or take the line that leaves them out of the ignore file or of --exclude
    "#);
}

#[test]
fn what_the_base_has_is_there() {
    let setup = model();
    write(
        &setup,
        "m/model.safetensors.index.json",
        index(&[("a", "model-00001-of-00002.safetensors"), ("b", "model-00002-of-00002.safetensors")]),
    );
    write(&setup, "m/model-00002-of-00002.safetensors", safetensors(&[("b", 1)]));
    let config = serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let mut tree = FileTree::empty();
    let node = crossdock_builder::Node {
        kind: crossdock_builder::NodeKind::File(crossdock_builder::FileNode::InBase),
        ..crossdock_builder::Node::directory(0o644)
    };
    tree.insert(&path("m/model-00001-of-00002.safetensors"), node);
    let setup = setup
        .base("has", config.clone(), tree)
        .base("unknown", config.clone(), FileTree::unknown())
        .base("lacks", config, FileTree::empty());
    for base in ["has", "unknown"] {
        assert_eq!(told(&setup.plan(&format!("FROM {base}\nCOPY m /m/"))), "", "{base}");
    }
    assert!(told(&setup.plan("FROM lacks\nCOPY m /m/")).starts_with("broken index"));
}

#[test]
fn numbered_files_are_all_there() {
    let setup = model();
    for (name, of) in [("whole", 2), ("gaps", 5), ("zero", 2), ("beyond", 1), ("many", 999_999)] {
        let numbers: &[u32] = match name {
            "whole" | "beyond" => &[1, 2],
            "gaps" => &[2],
            "zero" => &[0, 1],
            _ => &[7],
        };
        for no in numbers {
            write(&setup, &format!("m/{name}_model-{no:05}-of-{of:05}.bin"), "x");
        }
    }
    write(&setup, "m/two.model-00001-of-00002.safetensors", safetensors(&[("a", 1)]));
    write(&setup, "m/deep/two.model-00002-of-00002.safetensors", safetensors(&[("a", 1)]));
    // What has numbers and is no weights.
    write(&setup, "m/log-00001-of-00002.txt", "x");
    assert_snapshot!(found(&setup, "COPY m /m/"), @"
    broken shards: Containerfile:2:8: /m/beyond_model-00002-of-00001.bin has a number beyond the 1 that its name says there are, download it again, all files of one revision
    broken shards: Containerfile:2:8: /m/deep/two.model-00002-of-00002.safetensors is one of 2 files, and 1 of them is not in the image: /m/deep/two.model-00001-of-00002.safetensors, download what is missing, or take the line that leaves it out of the ignore file or of --exclude
    broken shards: Containerfile:2:8: /m/gaps_model-00002-of-00005.bin is one of 5 files, and 4 of them are not in the image: /m/gaps_model-00001-of-00005.bin, /m/gaps_model-00003-of-00005.bin, /m/gaps_model-00004-of-00005.bin and 1 more, download what is missing, or take the line that leaves it out of the ignore file or of --exclude
    broken shards: Containerfile:2:8: /m/many_model-00007-of-999999.bin is one of 999999 files, and 999998 of them are not in the image, download what is missing, or take the line that leaves it out of the ignore file or of --exclude
    broken shards: Containerfile:2:8: /m/two.model-00001-of-00002.safetensors is one of 2 files, and 1 of them is not in the image: /m/two.model-00002-of-00002.safetensors, download what is missing, or take the line that leaves it out of the ignore file or of --exclude
    wasteful config: Containerfile:2:8: there is no config.json beside /m/deep/two.model-00002-of-00002.safetensors, most programs that serve models load none without: copy it too
    ");
}

#[test]
fn numbers_that_other_files_have_make_no_broken_model() {
    let setup = model();
    // The first model of OpenAI's counts from 0 to the last number.
    for no in 0..=2 {
        write(&setup, &format!("m/model-{no:05}-of-00002.safetensors"), safetensors(&[("a", 1)]));
    }
    write(&setup, "m/lora-epoch-3-of-10.safetensors", safetensors(&[("a", 1)]));
    for name in ["ckpt-step-5-of-9.pt", "tokens-00003-of-00100.bin", "tokens-00004-of-00100.bin"] {
        write(&setup, &format!("m/{name}"), "x");
    }
    // What macOS puts beside a file.
    write(&setup, "m/._model-00001-of-00002.safetensors", "Mac OS X");
    assert_eq!(found(&setup, "COPY m /m/"), "");
    // Two of three under a name of their own may be a model.
    for no in 1..=2 {
        write(&setup, &format!("m/qwen-{no:05}-of-00003.safetensors"), safetensors(&[("a", 1)]));
    }
    assert_snapshot!(found(&setup, "COPY m /m/"), @"wasteful shards: Containerfile:2:8: /m/qwen-00001-of-00003.safetensors is one of 3 files, and 1 of them is not in the image: /m/qwen-00003-of-00003.safetensors, download what is missing, or take the line that leaves it out of the ignore file or of --exclude");
}

#[test]
fn an_index_of_weights_that_nobody_wanted_is_no_broken_model() {
    let setup = model();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors\nx"];
    write(&setup, "m/model.safetensors.index.json", index(&[("a", shards[0]), ("b", shards[1])]));
    write(&setup, "m/tokenizer.json", "{}");
    write(&setup, "m/model.gguf", gguf(&[]));
    assert_snapshot!(found(&setup, "COPY m /m/"), @r"wasteful index: Containerfile:2:8: /m/model.safetensors.index.json names 2 files, and none of them is in the image: /m/model-00001-of-00002.safetensors, /m/model-00002-of-00002.safetensors\nx, leave the index out too, or copy the files that it names");
    // One that is there tells that the others were to come.
    write(&setup, &format!("m/{}", shards[0]), safetensors(&[("a", 1)]));
    assert!(found(&setup, "COPY m /m/").contains("broken index: "));
}

#[test]
fn a_gguf_file_that_cannot_be_whole_is_named_and_a_split_one_is_all_there() {
    let setup = Setup::new();
    let whole = gguf(&[]);
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    for (name, bytes) in [
        ("whole", whole.clone()),
        ("newer", with(4, 4)),
        ("empty", Vec::new()),
        ("magic", with(0, b'g')),
        ("version", with(4, 200)),
        ("cut-in-version", whole[..6].to_vec()),
        ("cut-in-pairs", whole[..50].to_vec()),
        ("cut-in-array", whole[..120].to_vec()),
        ("cut-in-tensors", whole[..whole.len() - 64].to_vec()),
        ("cut-in-data", whole[..whole.len() - 1].to_vec()),
        ("long-key", with(30, 1)),
    ] {
        write(&setup, &format!("m/{name}.gguf"), bytes);
    }
    write(&setup, "m/kind.gguf", with(52, 77));
    assert_snapshot!(found(&setup, "COPY m /m/"), @r#"
    broken gguf: Containerfile:2:8: /m/cut-in-array.gguf was cut off inside its header: the value of "tokenizer.ggml.scores" takes 12 bytes at 114, and 6 are left of the file, download it again
    broken gguf: Containerfile:2:8: /m/cut-in-data.gguf was cut off: its tensor "token_embd.weight" ends at byte 224 by its header, and the file has 223, download it again
    broken gguf: Containerfile:2:8: /m/cut-in-pairs.gguf was cut off inside its header: the key takes 20 bytes at 32, and 18 are left of the file, download it again
    broken gguf: Containerfile:2:8: /m/cut-in-tensors.gguf was cut off inside its header: the dimension takes 8 bytes at 155, and 5 are left of the file, download it again
    broken gguf: Containerfile:2:8: /m/cut-in-version.gguf was cut off inside its header: the version takes 4 bytes at 4, and 2 are left of the file, download it again
    broken gguf: Containerfile:2:8: /m/empty.gguf was cut off inside its header: the magic takes 4 bytes at 0, and 0 are left of the file, download it again
    broken gguf: Containerfile:2:8: /m/kind.gguf has a value of the type 77 at "general.architecture", which GGUF has not, download it again
    broken gguf: Containerfile:2:8: /m/long-key.gguf is damaged: a key would have 281474976710676 bytes, and 65535 are the most, download it again
    broken gguf: Containerfile:2:8: /m/magic.gguf is no GGUF file: it begins with "gGUF", and not with "GGUF", download it again
    broken gguf: Containerfile:2:8: /m/version.gguf is no GGUF file: its version is 200, and 1 to 3 are known, download it again
    "#);

    let part = |no: u16, count: u16| gguf(&[("split.no", no), ("split.count", count)]);
    for (name, bytes) in [
        ("q4-00001-of-00002.gguf", part(0, 2)),
        ("q4-00002-of-00002.gguf", part(1, 2)),
        ("q8-00001-of-00003.gguf", part(0, 3)),
        ("q8-00003-of-00003.gguf", part(2, 3)),
        ("renamed.gguf", part(1, 2)),
        ("swapped-00001-of-00001.gguf", part(4, 8)),
        // Quantisations of one model are different weights, and need no config.
        ("model-Q4_K_M.gguf", gguf(&[])),
        ("model-Q8_0.gguf", gguf(&[("split.count", 1)])),
    ] {
        write(&setup, &format!("s/{name}"), bytes);
    }
    assert_snapshot!(found(&setup, "COPY s /s/"), @"
    broken shards: Containerfile:2:8: /s/q8-00001-of-00003.gguf is one of 3 files, and 1 of them is not in the image: /s/q8-00002-of-00003.gguf, download what is missing, or take the line that leaves it out of the ignore file or of --exclude
    broken shards: Containerfile:2:8: /s/renamed.gguf is part 2 of 2 by its header, and not by its name, call it NAME-00002-of-00002.gguf, beside the others
    broken shards: Containerfile:2:8: /s/swapped-00001-of-00001.gguf is part 5 of 8 by its header, and not by its name, call it NAME-00005-of-00008.gguf, beside the others
    ");
}

#[test]
fn the_same_weights_in_two_forms_are_told_with_the_exclude_that_ends_it() {
    let weights = |bytes: usize| safetensors(&[("a", bytes)]);
    let rows: &[(&str, &[&str], &[&str])] = &[
        (
            "mistral",
            &["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            &["consolidated.safetensors"],
        ),
        (
            "mistral in shards",
            &["model.safetensors"],
            &["consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors"],
        ),
        (
            "llama",
            &["model-00001-of-00001.safetensors"],
            &["original/consolidated.00.pth", "original/consolidated.01.pth"],
        ),
        ("bert", &["model.safetensors"], &["pytorch_model.bin"]),
        (
            "bloom",
            &["model.safetensors"],
            &["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
        ),
        ("frameworks", &["model.safetensors"], &["tf_model.h5"]),
        ("peft", &["adapter_model.safetensors"], &["adapter_model.bin"]),
        ("diffusers", &["unet.safetensors"], &["unet.fp16.safetensors"]),
        (
            "both cuts",
            &["model-00001-of-00001.safetensors"],
            &["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (
            "whole and in shards",
            &["model.safetensors"],
            &["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
    ];
    let mut all = String::new();
    for (name, kept, spare) in rows {
        let setup = model().file("m/original/params.json", "{}", 0o644);
        for file in kept.iter().chain(*spare) {
            let bytes = if file.ends_with(".safetensors") { weights(2000) } else { vec![1; 2000] };
            write(&setup, &format!("m/{file}"), bytes);
        }
        let image = setup.plan("FROM scratch\nCOPY m /srv/models/");
        let told = told(&image);
        writeln!(all, "{name}: {told}").unwrap();
        let [finding] = image.model.findings.as_slice() else { panic!("{name}: {told}") };
        let mut paths: Vec<_> = spare.iter().map(|file| path(&format!("srv/models/{file}"))).collect();
        paths.sort();
        assert_eq!(finding.paths, paths);
        let sizes =
            spare.iter().map(|file| fs::metadata(setup.context().join("m").join(file)).unwrap().len());
        assert_eq!(finding.bytes, Some(sizes.sum()));
        // What it says to write does it, and takes nothing else.
        let excluding = finding.help.strip_prefix("write ").unwrap().split(" to leave").next().unwrap();
        let before = setup.plan("FROM scratch\nCOPY m /srv/models/").layers[0].entries.len();
        let image = setup.plan(&format!("FROM scratch\n{excluding} m /srv/models/"));
        assert_eq!(self::told(&image), "", "{name}");
        assert_eq!(image.layers[0].entries.len(), before - spare.len(), "{name}");
    }
    assert_snapshot!(all, @"
    mistral: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/consolidated.safetensors beside /srv/models/model-00001-of-00002.safetensors, /srv/models/model-00002-of-00002.safetensors, write COPY --exclude=consolidated.safetensors to leave 2.0 KiB out
    mistral in shards: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/consolidated-00001-of-00002.safetensors, /srv/models/consolidated-00002-of-00002.safetensors beside /srv/models/model.safetensors, write COPY --exclude=consolidated-*-of-00002.safetensors to leave 4.0 KiB out
    llama: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/original/consolidated.00.pth, /srv/models/original/consolidated.01.pth beside /srv/models/model-00001-of-00001.safetensors, write COPY --exclude=original/consolidated.*.pth to leave 3.9 KiB out
    bert: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/pytorch_model.bin beside /srv/models/model.safetensors, write COPY --exclude=pytorch_model.bin to leave 1.9 KiB out
    bloom: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/pytorch_model-00001-of-00002.bin, /srv/models/pytorch_model-00002-of-00002.bin beside /srv/models/model.safetensors, write COPY --exclude=pytorch_model-*-of-00002.bin to leave 3.9 KiB out
    frameworks: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/tf_model.h5 beside /srv/models/model.safetensors, write COPY --exclude=tf_model.h5 to leave 1.9 KiB out
    peft: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/adapter_model.bin beside /srv/models/adapter_model.safetensors, write COPY --exclude=adapter_model.bin to leave 1.9 KiB out
    diffusers: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/unet.fp16.safetensors beside /srv/models/unet.safetensors, write COPY --exclude=unet.fp16.safetensors to leave 2.0 KiB out
    both cuts: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/model-00001-of-00002.safetensors, /srv/models/model-00002-of-00002.safetensors beside /srv/models/model-00001-of-00001.safetensors, write COPY --exclude=model-*-of-00002.safetensors to leave 4.0 KiB out
    whole and in shards: wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /srv/models/model-00001-of-00002.safetensors, /srv/models/model-00002-of-00002.safetensors beside /srv/models/model.safetensors, write COPY --exclude=model-*-of-00002.safetensors to leave 4.0 KiB out
    ");
}

#[test]
fn an_index_goes_with_the_shards_that_may_go() {
    let setup = model();
    write(&setup, "m/model.safetensors", safetensors(&[("a", 100)]));
    for no in 1..=2 {
        write(
            &setup,
            &format!("m/consolidated-0000{no}-of-00002.safetensors"),
            safetensors(&[(&format!("t{no}"), 50)]),
        );
    }
    write(
        &setup,
        "m/consolidated.safetensors.index.json",
        index(&[
            ("t1", "consolidated-00001-of-00002.safetensors"),
            ("t2", "consolidated-00002-of-00002.safetensors"),
        ]),
    );
    assert_snapshot!(found(&setup, "COPY . /x/"), @"wasteful twice: Containerfile:2:8: the same weights are in the image twice, by their names: /x/m/consolidated-00001-of-00002.safetensors, /x/m/consolidated-00002-of-00002.safetensors beside /x/m/model.safetensors, write COPY --exclude=m/consolidated-*-of-00002.safetensors --exclude=m/consolidated.safetensors.index.json to leave 290 bytes out");
    assert_eq!(
        found(
            &setup,
            "COPY --exclude=m/consolidated-*-of-00002.safetensors --exclude=m/consolidated.safetensors.index.json . /x/"
        ),
        ""
    );
}

#[test]
fn what_only_looks_the_same_is_not_told_of() {
    let setup = model();
    // Other names of one file, sizes that no precision explains, and other quantisations.
    write(&setup, "m/model.safetensors", safetensors(&[("a", 4000)]));
    let setup = setup.hard_link("m/model.safetensors", "m/consolidated.safetensors");
    write(&setup, "m/voice.safetensors", safetensors(&[("a", 4000)]));
    write(&setup, "m/voice.pt", "x");
    write(&setup, "m/model.Q4.gguf", gguf(&[]));
    write(&setup, "m/model.Q8.gguf", gguf(&[]));
    write(&setup, "m/training_args.bin", "x");
    assert_eq!(found(&setup, "COPY m /m/"), "");
}

#[test]
fn a_config_and_every_byte_belong_to_weights() {
    let setup = Setup::new();
    write(&setup, "m/model.safetensors", safetensors(&[("a", 1)]));
    write(&setup, "m/adapter/adapter_model.safetensors", safetensors(&[("a", 1)]));
    write(&setup, "m/adapter/adapter_config.json", "{}");
    write(&setup, "m/vocab.txt", "");
    write(&setup, "m/.gitkeep", "");
    write(&setup, "m/__init__.py", "");
    write(&setup, "m/code/empty.txt", "");
    write(&setup, "m/quantised/q.gguf", gguf(&[]));
    assert_snapshot!(found(&setup, "COPY m /m/"), @"
    wasteful config: Containerfile:2:8: there is no config.json beside /m/model.safetensors, most programs that serve models load none without: copy it too
    wasteful empty: Containerfile:2:8: a file of the model has no bytes: /m/vocab.txt, download it again, or leave out what is not needed
    ");
    // Another instruction may bring it.
    write(&setup, "config.json", "{}");
    let told = found(&setup, "COPY m /m/\nCOPY config.json /m/");
    assert!(!told.contains("config.json beside"), "{told}");
}

#[test]
fn pickles_are_noted_once() {
    let setup = Setup::new();
    for (name, bytes) in [
        ("a.pt", b"PK\x03\x04\x00\x00archive/data.pkl..".to_vec()),
        ("b.bin", b"\x80\x02\x8a\x0al".to_vec()),
        ("c.ckpt", b"\x80\x04\x95".to_vec()),
        ("d/e.pkl", b"\x80\x05\x95".to_vec()),
        ("zip.pt", b"PK\x03\x04\x00\x00text.txt".to_vec()),
        ("raw.bin", vec![0; 4096]),
        ("none.pth", Vec::new()),
    ] {
        write(&setup, &format!("m/{name}"), bytes);
    }
    assert_snapshot!(found(&setup, "COPY m /m/"), @"
    wasteful empty: Containerfile:2:8: a file of the model has no bytes: /m/none.pth, download it again, or leave out what is not needed
    note pickle: Containerfile:2:8: /m/a.pt, /m/b.bin, /m/c.ckpt and 1 more are pickles, which run code when loaded, load nothing that you do not trust; safetensors has no code
    ");
}

#[test]
fn bytes_that_would_have_to_be_decoded_are_not_looked_at() {
    let setup = model();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    tar.append_data(&mut header.clone(), "x.safetensors", &b"bad"[..]).unwrap();
    tar.append_data(&mut header, "config.json", &b"{ }"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    write(&setup, "m.tar", &tar);
    write(&setup, "m.tar.zst", zstd::encode_all(&tar[..], 1).unwrap());
    let image = setup.plan("FROM scratch\nADD m.tar.zst /m/");
    assert_eq!((told(&image), image.model.files, image.model.bytes_read), (String::new(), 0, 0));
    // In an archive that is not compressed the bytes lie there.
    assert_snapshot!(found(&setup, "ADD m.tar /m/"), @"broken safetensors: Containerfile:2:11: /m/x.safetensors is no safetensors file: the length of its header takes 8 bytes, and the file has 3, download it again");
}

#[test]
fn what_is_turned_off_is_not_looked_at() {
    let mut setup = model();
    write(&setup, "m/model.safetensors", "bad");
    setup.options.check_models = false;
    let image = setup.plan("FROM scratch\nCOPY m /m/");
    assert_eq!((told(&image), image.model.files, image.model.bytes_read), (String::new(), 0, 0));
}

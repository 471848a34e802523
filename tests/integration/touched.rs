//! A change of ctime alone is no change of a file: what kubelet does to every file of a volume at each pod start costs no
//! second sending and no failed push. And whoever writes to a file and sets its modification time back is found.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, removexattr, setxattr};

use crate::support::image::Image;
use crate::support::registry::Registry;
use crate::support::sandbox::{Built, Sandbox};
use crate::support::{make_old, tool, write_large};

/// A change time of less than this ago is not trusted.
const RACY: Duration = Duration::from_millis(2_100);

const WEIGHTS: u64 = 3 << 20;
const ALL: u64 = WEIGHTS + 2;
const SPLIT: [&str; 2] = ["--layer-file-size", "1MiB"];

/// A way to move the change time of a file and nothing else; it may put something beside it, at the second path.
type Touch = (&'static str, fn(&Path, &Path));

const TOUCHES: [Touch; 6] = [
    ("chown to the same group", |file, _| {
        let group = fs::metadata(file).unwrap().gid();
        chown(file, None, Some(group)).unwrap();
    }),
    ("chmod u+r", |file, _| {
        let mode = fs::metadata(file).unwrap().mode();
        fs::set_permissions(file, Permissions::from_mode(mode | 0o400)).unwrap();
    }),
    ("ln", |file, aside| fs::hard_link(file, aside).unwrap()),
    ("setfattr and back", |file, _| {
        // One that stays is in the image, and so makes another layer.
        setxattr(file, "user.crossdock.test", b"1", XattrFlags::empty()).unwrap();
        removexattr(file, "user.crossdock.test").unwrap();
    }),
    ("touch -a", |file, _| {
        let times = FileTimes::new().set_accessed(SystemTime::now());
        File::open(file).unwrap().set_times(times).unwrap();
    }),
    ("mv there and back", |file, aside| {
        fs::rename(file, aside).unwrap();
        fs::rename(aside, file).unwrap();
    }),
];

const FILES: [&str; 2] = ["model/config.json", "model/weights"];

/// A model of one small file and one large, long past.
fn model() -> Sandbox {
    let sandbox = Sandbox::small();
    write_large(&sandbox.file("model/weights"), WEIGHTS, 1);
    for name in FILES {
        make_old(&sandbox.file(name));
    }
    sandbox
}

fn touch(sandbox: &Sandbox, (name, touch): Touch) {
    for (number, file) in FILES.iter().enumerate() {
        let path = sandbox.file(file);
        let before = fs::metadata(&path).unwrap();
        // The file system's clock has ticks: let one pass.
        thread::sleep(Duration::from_millis(30));
        touch(&path, &sandbox.path(&format!("aside-{number}-{}", name.replace(' ', "-"))));
        let after = fs::metadata(&path).unwrap();
        let is = |m: &fs::Metadata| (m.ino(), m.size(), m.mode(), m.mtime(), m.mtime_nsec());
        assert_eq!(is(&before), is(&after), "{name}");
        assert_ne!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()), "{name}");
    }
}

/// Writes to a file and sets its modification time back.
fn rewrite(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    thread::sleep(Duration::from_millis(30));
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(b"other bytes", 100).unwrap();
    file.set_modified(modified).unwrap();
}

fn push(sandbox: &Sandbox, args: &[&str]) -> Built {
    Built::of(sandbox.run(&[&["push", "--progress", "json", "--tls-verify=false"], args].concat()).done())
}

#[test]
fn an_image_is_pushed_after_a_change_of_ctime_alone() {
    for way in TOUCHES {
        let registry = Registry::start();
        let proxy = registry.proxy();
        let sandbox = model();
        let name = format!("{}/model:1", proxy.addr());
        let built = sandbox.built(&[&SPLIT[..], &["-t", &name]].concat());
        touch(&sandbox, way);
        let pushed = push(&sandbox, &[&name]);
        assert_eq!(pushed.digest(), built.digest(), "{}", way.0);
        assert_eq!((pushed.outcomes(), pushed.number("bytes_read")), (vec!["sent".to_owned(); 2], ALL));
        assert_eq!(registry.tag("model", "1").as_deref(), Some(built.digest()));
        // The registry has it: no byte is needed.
        touch(&sandbox, TOUCHES[0]);
        let sent = proxy.count("PATCH", "/blobs/uploads/");
        let again = push(&sandbox, &[&name]);
        assert_eq!((again.outcomes(), again.number("bytes_read")), (vec!["present".to_owned(); 2], 0));
        assert_eq!(proxy.count("PATCH", "/blobs/uploads/"), sent, "{}", way.0);
    }
}

/// Every kind of place on disk.
const PLACES: [&str; 4] = ["oci:out", "oci-archive:out", "docker-archive:out:model:1", "dir:out"];

#[test]
fn an_image_is_written_to_disk_after_a_chown_and_not_after_a_write() {
    let sandbox = model();
    let built = sandbox.built(&[&SPLIT[..], &["-t", "model:1"]].concat());
    for compression in [None, Some("gzip")] {
        let form: Vec<&str> = compression.into_iter().flat_map(|c| ["--compression-format", c]).collect();
        // A docker-archive has no compressed layers.
        let takes = |place: &str| compression.is_none() || !place.starts_with("docker-archive:");
        for place in PLACES.into_iter().filter(|place| takes(place)) {
            touch(&sandbox, TOUCHES[0]);
            let pushed = push(&sandbox, &[&["model:1", place], &form[..]].concat());
            assert_eq!(pushed.image["image_id"], built.image["image_id"], "{place}");
            tool("rm", &["-r", &sandbox.path("out").display().to_string()]);
        }
    }
    rewrite(&sandbox.file("model/weights"));
    for compression in ["none", "gzip"] {
        for place in PLACES {
            if compression != "none" && place.starts_with("docker-archive:") {
                continue;
            }
            let run = sandbox.run(&["push", "model:1", place, "--compression-format", compression]).failed(4);
            run.says(&[
                "model/weights was written to and its modification time set back",
                "build the image again",
            ]);
            assert!(!sandbox.path("out").exists(), "{place} {compression}");
        }
    }
}

#[test]
fn a_file_written_to_under_its_old_modification_time_is_not_pushed() {
    let sandbox = model();
    sandbox.built(&[&SPLIT[..], &["-t", "model:1"]].concat());
    rewrite(&sandbox.file("model/weights"));
    let registry = Registry::start();
    let to = format!("docker://{}", registry.name("model:1"));
    for more in [&[][..], &["--compression-format", "zstd"], &["--upload", "monolithic"]] {
        let args = ["push", "--tls-verify=false", "--jobs", "1", "model:1", &to];
        let run = sandbox.run(&[&args[..], more].concat()).failed(4);
        run.says(&["model/weights was written to and its modification time set back"]);
        assert_eq!(registry.tag("model", "1"), None, "{more:?}");
        // Of a PUT that it refuses, the registry does not say where its upload goes on.
        assert_eq!(registry.open_uploads("model"), usize::from(more.contains(&"monolithic")), "{more:?}");
    }
}

#[test]
fn a_build_after_a_change_of_ctime_alone_hashes_and_does_not_send() {
    let registry = Registry::start();
    let proxy = registry.proxy();
    let sandbox = model();
    thread::sleep(RACY);
    let name = |tag: &str| format!("{}/model:{tag}", proxy.addr());
    let first = sandbox.pushed(&name("first"), &SPLIT);
    let present = || vec!["present".to_owned(); 2];
    let sent =
        || proxy.seen().iter().filter(|seen| seen.method == "PATCH").map(|seen| seen.body).sum::<u64>();
    let before = sent();
    assert!(before > ALL);
    for (number, way) in TOUCHES.into_iter().enumerate() {
        touch(&sandbox, way);
        // A tag that no image has yet: nothing there has the size of a layer.
        let again = sandbox.pushed(&name(&number.to_string()), &SPLIT);
        assert_eq!((again.outcomes(), again.number("bytes_read")), (present(), ALL), "{}", way.0);
        assert_eq!(again.layers(), first.layers());

        touch(&sandbox, TOUCHES[0]);
        let args = [&SPLIT[..], &["--trust-mtime"]].concat();
        let trusted = sandbox.pushed(&name(&format!("{number}-t")), &args);
        assert_eq!((trusted.outcomes(), trusted.number("bytes_read")), (present(), 0), "{}", way.0);
        assert_eq!(trusted.layers(), first.layers());
    }
    assert!(sent() < before + 100_000, "for each image its config, and no layer");

    // The memo is the new one's, once it can be.
    thread::sleep(RACY);
    assert_eq!(sandbox.pushed(&name("hashed"), &SPLIT).number("bytes_read"), ALL);
    assert_eq!(sandbox.pushed(&name("known"), &SPLIT).number("bytes_read"), 0);
}

#[test]
fn a_build_for_a_registry_that_lacks_the_layers_reads_once_after_a_chown() {
    let registry = Registry::start();
    let sandbox = model();
    thread::sleep(RACY);
    sandbox.pushed(&registry.name("model:1"), &SPLIT);
    for trust in [&[][..], &["--trust-mtime"]] {
        touch(&sandbox, TOUCHES[0]);
        let elsewhere = Registry::start();
        let sent = sandbox.pushed(&elsewhere.name("model:1"), &[&SPLIT[..], trust].concat());
        assert_eq!((sent.outcomes(), sent.number("bytes_read")), (vec!["sent".to_owned(); 2], ALL));
    }
}

#[test]
fn a_build_finds_what_was_written_under_the_old_modification_time() {
    let registry = Registry::start();
    let sandbox = model();
    thread::sleep(RACY);
    let name = registry.name("model:1");
    let first = sandbox.pushed(&name, &SPLIT);
    rewrite(&sandbox.file("model/weights"));
    let expected = sandbox.built(&[&SPLIT[..], &["--no-memo", "-o", "oci:layout"]].concat()).layers();
    assert_ne!(expected[1], first.layers()[1]);
    // Nothing is trusted there: it has to be sent, and is hashed meanwhile.
    let elsewhere = Registry::start();
    let trusting = sandbox.pushed(&elsewhere.name("model:1"), &[&SPLIT[..], &["--trust-mtime"]].concat());
    assert_eq!(trusting.layers(), expected);

    rewrite(&sandbox.file("model/weights"));
    let second = sandbox.pushed(&registry.name("model:2"), &SPLIT);
    assert_eq!(second.layers(), expected);
    assert_eq!(second.outcomes(), ["present", "sent"]);
    assert_eq!(Image::pull(&registry.name("model:2")).digest, second.digest());
}

#[test]
fn trusting_modification_times_is_a_setting() {
    let registry = Registry::start();
    let sandbox = model();
    thread::sleep(RACY);
    sandbox.pushed(&registry.name("model:1"), &SPLIT);
    touch(&sandbox, TOUCHES[0]);
    let config = sandbox.path("home/.config/crossdock/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(config, "[build]\ntrust-mtime = true\n").unwrap();
    assert_eq!(sandbox.pushed(&registry.name("model:2"), &SPLIT).number("bytes_read"), 0);
}

#[test]
fn an_image_that_is_copied_from_is_what_it_was_when_it_was_built() {
    let sandbox = model();
    sandbox.built(&[&SPLIT[..], &["-t", "parent"]].concat());
    sandbox.write("child", "FROM scratch\nCOPY --from=parent /models/weights /w\n");
    let child = || sandbox.build(&["-f", "context/child", "-o", "oci:child"]);
    touch(&sandbox, TOUCHES[0]);
    child().done();
    rewrite(&sandbox.file("model/weights"));
    child().failed(4).says(&["model/weights was written to and its modification time set back"]);
}

#[test]
fn an_archive_that_was_added_is_pushed_after_a_chown() {
    for packed in [false, true] {
        let sandbox = model();
        let (context, archive) = (sandbox.context(), sandbox.file("model.tar"));
        let (flags, archive_text) = (if packed { "-czf" } else { "-cf" }, archive.display().to_string());
        tool("tar", &[flags, &archive_text, "-C", &context.display().to_string(), "model"]);
        make_old(&archive);
        sandbox.containerfile("FROM scratch\nADD model.tar /\n");
        let built = sandbox.built(&["-t", "model:1"]);
        let group = fs::metadata(&archive).unwrap().gid();
        thread::sleep(Duration::from_millis(30));
        chown(&archive, None, Some(group)).unwrap();
        let pushed = push(&sandbox, &["model:1", "oci:out"]);
        assert_eq!(pushed.digest(), built.digest(), "packed: {packed}");
        assert_eq!(sandbox.built(&["-o", "oci:again"]).layers(), built.layers());
    }
}

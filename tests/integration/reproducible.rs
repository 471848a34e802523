//! The same input is the same image, whatever the machine.

use std::collections::BTreeSet;
use std::fs;

use crate::support::image::Image;
use crate::support::noise;
use crate::support::sandbox::Sandbox;

/// The same files, written in one order or the other, so that inodes and times differ.
fn model(reverse: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.containerfile(
        "FROM scratch\nLABEL b=2 a=1 c=3\nENV Z=1 A=2\nCOPY model /models\nCOPY extra /extra\nVOLUME /b /a\n",
    );
    let mut numbers: Vec<u64> = (0..24).collect();
    if reverse {
        numbers.reverse();
    }
    for n in numbers {
        let len = if n % 6 == 0 { 1_200_000 } else { 700 };
        let name = if n % 2 == 0 { format!("model/{n}.bin") } else { format!("extra/d{}/{n}.bin", n % 3) };
        let path = sandbox.write(&name, noise(len, n));
        let time =
            std::time::UNIX_EPOCH + std::time::Duration::from_secs(if reverse { 1_000_000 * n } else { 77 });
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    sandbox
}

#[test]
fn layers_do_not_depend_on_order_times_threads_or_the_way_of_reading() {
    let (one, other) = (model(false), model(true));
    for compression in [&[][..], &["--compression-format", "zstd"], &["--compression-format", "gzip"]] {
        let common = [&["--layer-file-size", "1MiB"], compression].concat();
        let first = one.built(&[&common[..], &["--jobs", "1", "--io", "mmap"]].concat());
        assert_eq!(first.layers().len(), 6);
        for more in [["--jobs", "8", "--io", "read"], ["--jobs", "3", "--io", "auto"]] {
            let second = other.built(&[&common[..], &more, &["--root", "no-memos"]].concat());
            assert_eq!(second.layers(), first.layers(), "{common:?} {more:?}");
        }
    }
}

#[test]
fn with_a_timestamp_the_manifest_is_the_same() {
    let (one, other) = (model(false), model(true));
    let args = ["--timestamp", "1700000000", "--annotation", "z=1", "--annotation", "a=2"];
    let first = one.built(&args);
    assert_eq!(other.built(&args).digest(), first.digest());
    let without = one.built(&[]);
    assert_ne!(without.digest(), first.digest(), "`created` is the real time, and files have the time 0");

    let args = ["build", "-q", "-o", "oci:o", "--annotation=a=2", "--annotation=z=1", "context"];
    let run = other.command(&args).env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
    assert_eq!(other.finish(run, &args).done().stdout.trim_end(), first.digest());
}

#[test]
fn the_source_date_epoch_is_the_time_of_the_image_and_of_files_where_that_is_asked_for() {
    const NOW: &str = "2023-11-14T22:13:20Z";
    let sandbox = model(false);
    let text = "FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL e=$SOURCE_DATE_EPOCH\nCOPY model /models\n";
    sandbox.containerfile(text);
    let built = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["build", "--progress", "none", "-o", "dir:image"], args, &["context"]].concat();
        let output = sandbox.command(&args).envs(variables.iter().copied()).output().unwrap();
        let run = sandbox.finish(output, &args).done();
        let image = Image::of_directory(&sandbox.path("image"), true);
        let times: BTreeSet<i64> =
            image.files.values().map(|node| i64::try_from(node.mtime).unwrap()).collect();
        assert_eq!(image.config["created"], NOW, "{args:?}");
        for line in image.config["history"].as_array().unwrap() {
            assert_eq!(line["created"], NOW, "{args:?}");
        }
        let label = image.config["config"]["Labels"]["e"].as_str().unwrap_or_default().to_owned();
        (times.into_iter().collect::<Vec<_>>(), label, run.stderr)
    };
    let epoch = &["--source-date-epoch", "1700000000"][..];
    let all = 1_700_000_000;
    for (args, variables, times, label) in [
        (epoch, &[][..], 0, "1700000000"),
        (&["--source-date-epoch", "1700000000", "--rewrite-timestamp"], &[], all, "1700000000"),
        (&["--timestamp", "1700000000", "--rewrite-timestamp"], &[], all, ""),
        (&["--build-arg", "SOURCE_DATE_EPOCH=1700000000"], &[], 0, "1700000000"),
        // What is typed goes before the variable, which is the default of --timestamp.
        (epoch, &[("SOURCE_DATE_EPOCH", "5")], 0, "1700000000"),
    ] {
        let (seen, value, warnings) = built(args, variables);
        assert_eq!((seen.as_slice(), value.as_str()), (&[times][..], label), "{args:?}");
        assert!(!warnings.contains("is not used"), "{warnings}");
    }
    for args in [
        &["--source-date-epoch", "1", "--timestamp", "1", "context"][..],
        &["--source-date-epoch", "now", "context"],
        // The year 10000, which no config can say.
        &["--source-date-epoch", "253402300800", "context"],
        &["--timestamp", "18446744073709551615", "context"],
        &["--build-arg", "SOURCE_DATE_EPOCH=253402300800", "context"],
        &["--build-arg", "SOURCE_DATE_EPOCH=now", "context"],
    ] {
        let run = sandbox.run(&[&["build", "-o", "dir:no"], args].concat());
        assert_eq!(run.status.code(), Some(2), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn the_timestamp_is_the_time_of_all_there_is() {
    let sandbox = model(false);
    let image = {
        sandbox.built(&["--timestamp", "1700000000", "-o", "oci:layout:v1"]);
        Image::read(&format!("oci:{}:v1", sandbox.path("layout").display()))
    };
    assert!(image.files.values().all(|node| node.mtime == 1_700_000_000), "{:#?}", image.files);
    assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
    for line in image.config["history"].as_array().unwrap() {
        assert_eq!(line["created"], "2023-11-14T22:13:20Z", "{line}");
    }
}

//! The seeds of the fuzz targets, through the code that the targets run: a seed that shows a bug that was mended shows it
//! again when it comes back, and none of them rots.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
#[allow(
    unreachable_pub,
    unused_imports,
    dead_code,
    reason = "there it is a crate, whose targets use all of it"
)]
mod fuzz;

/// Runs each file of a directory of seeds.
fn each(directory: &str, run: impl Fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(directory);
    let mut count = 0;
    for file in fs::read_dir(&directory).expect("the seeds are there") {
        run(&fs::read(file.expect("a file").path()).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", directory.display());
}

#[test]
fn seeds_of_containerfiles() {
    let containerfiles = fuzz::Containerfiles::new();
    each("containerfile", |input| containerfiles.run(input));
}

#[test]
fn seeds_of_base_indexes() {
    let layers = fuzz::Layers::new();
    each("archive", |input| layers.run(input));
    fuzz::archive_seeds().iter().for_each(|(_, input)| layers.run(input));
}

#[test]
fn seeds_of_models() {
    let seeds = fuzz::model_seeds();
    seeds.iter().for_each(|(_, input)| fuzz::model(input));
    // They are what they are called.
    let seed = |name: &str| seeds.iter().find(|(other, _)| *other == name).expect("there is one").1.clone();
    let whole =
        |name: &str, read: &dyn Fn(&mut &[u8]) -> bool| assert!(read(&mut seed(name).as_slice()), "{name}");
    use crossdock_builder::model::{Seen, gguf, index, is_pickle, pointer, safetensors};
    whole("safetensors", &|file| matches!(safetensors::read(file), Some(Ok(Seen::Whole(_)))));
    whole(
        "gguf",
        &|file| matches!(gguf::read(file), Some(Ok(Seen::Whole(gguf))) if gguf.split_count == Some(3)),
    );
    whole(
        "index",
        &|file| matches!(index::read(file), Some(Ok(Seen::Whole(index))) if index.shards.len() == 2),
    );
    whole("pointer", &|file| pointer(file).and_then(|pointer| pointer.size) == Some(13));
    whole("torch", &|file| is_pickle(file));
    whole("pickle", &|file| is_pickle(file));
}

#[test]
fn seeds_of_archives() {
    let archives = fuzz::Archives::new();
    each("archive", |input| archives.run(input));
    fuzz::archive_seeds().iter().for_each(|(_, input)| archives.run(input));
}

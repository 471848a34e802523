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
fn seeds_of_archives() {
    let archives = fuzz::Archives::new();
    each("archive", |input| archives.run(input));
    fuzz::archive_seeds().iter().for_each(|(_, input)| archives.run(input));
}

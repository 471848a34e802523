//! A context of many small files is planned in less than a second or two, and nothing grows faster than it does.

use std::time::{Duration, Instant};

use crate::harness::Setup;

const FILES: usize = 20_000;

#[test]
fn many_small_files_take_little_time() {
    let setup = Setup::new();
    for index in 0..FILES {
        let directory = setup.context().join(format!("many/{}", index % 100));
        if index < 100 {
            std::fs::create_dir_all(&directory).unwrap();
        }
        std::fs::write(directory.join(format!("file-{index}")), b"").unwrap();
    }
    let setup = setup.file(".containerignore", "*.tmp\n**/*.bak\nmany/0\n!many/0/file-0\n", 0o644);
    let start = Instant::now();
    let image = setup.plan("FROM scratch\nCOPY many /many\nCOPY many/1* /flat/");
    let took = start.elapsed();
    assert_eq!(image.layers[0].entries.len(), 1 + 100 + FILES - FILES / 100 + 1);
    // Ten times what a debug build takes on two slow cores.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

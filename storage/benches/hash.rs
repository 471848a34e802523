//! Tar and SHA-256 of a virtual layer against plain sha2 over memory, in bytes a second. Run both in one go and
//! compare the ratio: the machine's own speed is in both.

use std::hint::black_box;
use std::io::Write;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossdock_storage::{
    Cancel, Compression, Entry, EntryKind, FileContent, IoMode, LayerPath, LayerReader, LayerWatch, NewLayer,
    ReadOptions, SourceFile, encode_entries, in_lanes,
};
use sha2::{Digest, Sha256};

const SIZE: usize = 256 << 20;

fn layer_against_memory(criterion: &mut Criterion) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes: Vec<u8> = (0..SIZE / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()
        })
        .collect();
    file.write_all(&bytes).expect("a file of the benchmark's size");
    let entry = Entry {
        path: LayerPath::clean("models/weights").expect("a path"),
        kind: EntryKind::File(FileContent::Source(SourceFile::stat(file.path()).expect("a file"))),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: crossdock_storage::Xattrs::default(),
    };
    let layer = encode_entries(vec![entry], 0).expect("a layer");

    let mut group = criterion.benchmark_group("sha256");
    group.throughput(Throughput::Bytes(SIZE as u64)).sample_size(20);
    group.bench_function("sha2 over memory", |b| b.iter(|| Sha256::digest(black_box(&bytes))));
    for (name, io) in [("virtual layer, mapped", IoMode::Mmap), ("virtual layer, read", IoMode::Read)] {
        let options = ReadOptions { io, ..ReadOptions::default() };
        group.bench_function(name, |b| {
            b.iter(|| {
                LayerReader::new(&layer, Compression::None, &options)
                    .drain(&LayerWatch::silent())
                    .expect("hashed")
            });
        });
    }
    group.finish();

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let layers = vec![layer; cores];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("sha256 on all cores");
    group.throughput(Throughput::Bytes((SIZE * cores) as u64)).sample_size(10);
    group.bench_function(format!("{cores} virtual layers"), |b| {
        b.iter(|| {
            let cancel = Cancel::default();
            let hashed = in_lanes(layers.clone(), cores, &cancel, |_, layer| async move {
                let new =
                    NewLayer { title: String::new(), layer, compression: Compression::None, known: None };
                new.digest(&ReadOptions::default(), &LayerWatch::silent()).await
            });
            runtime.block_on(hashed).expect("hashed")
        });
    });
    group.finish();
}

criterion_group!(benches, layer_against_memory);
criterion_main!(benches);

//! Parsing a large Containerfile, in bytes a second, beside splitting the same text into lines and words.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossdock_builder::Containerfile;

fn large() -> String {
    let mut text = String::from("# syntax=docker/dockerfile:1\nARG BASE=scratch\nFROM ${BASE} AS base\n");
    for i in 0..20_000_u32 {
        // Writing to a String does not fail.
        let _ = match i % 5 {
            0 => {
                writeln!(text, "ENV NAME_{i}=\"value of ${{NAME_{}:-none}}\" OTHER={i}", i.saturating_sub(5))
            }
            1 => writeln!(
                text,
                "# a remark\nCOPY --chown=1001:0 --chmod=0644 \\\n    model/part-{i}.safetensors \\\n    /models/"
            ),
            2 => writeln!(text, "LABEL org.example.l{i}='single' \"quoted key\"=v"),
            3 => writeln!(text, "COPY <<EOF /etc/file-{i}\nline one\nline two of $NAME\nEOF"),
            _ => writeln!(text, "CMD [\"/bin/sh\", \"-c\", \"echo {i}\"]"),
        };
    }
    text
}

fn parse(criterion: &mut Criterion) {
    let text = large();
    let mut group = criterion.benchmark_group("Containerfile of 20,000 instructions");
    group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(20);
    group.bench_function("parse", |b| {
        b.iter(|| Containerfile::parse("Containerfile", black_box(text.as_bytes())).expect("valid"));
    });
    group.bench_function("lines and words only", |b| {
        b.iter(|| black_box(&text).lines().map(|line| line.split_whitespace().count()).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);

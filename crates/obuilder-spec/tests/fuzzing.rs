//! The bodies of the fuzz targets over their seeds, over OBuilder's own answers, and over a bounded number of mutations of both:
//! the part of fuzzing which any toolchain can do. The mutations are the same in each run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use bstr::ByteSlice as _;
use ocluster_obuilder_spec::fuzzing;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const ROUNDS: usize = 20_000;

/// What is put into seeds besides single bytes.
const WORDS: &[&[u8]] = &[
    b"(",
    b")",
    b"\"",
    b"\\",
    b"#;",
    b"#|",
    b"|#",
    b";",
    b"\n",
    b"\\\n ",
    b"\\x",
    b"\\25",
    b"\\065",
    b"\0",
    b"\xff",
    b"(build a ((from b)))",
    b"(from (build a))",
    b"(user (uid 1) (gid 2))",
    b"(shell a)",
    b"(env A B)",
    b"(src)",
];

fn seeds() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut paths: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{} must hold the seeds: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 4, "seeds are missing: {paths:?}");
    let files = paths.iter().map(|path| fs::read(path).unwrap());
    let lines = include_bytes!("golden.txt").lines().map(<[u8]>::to_vec);
    files.chain(lines).collect()
}

fn mutate(seed: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..random.random_range(1..6) {
        let start = random.random_range(0..=data.len());
        let end = random.random_range(start..=data.len().min(start + 16));
        let insertion = match random.random_range(0..4) {
            0 => vec![random.random()],
            1 => WORDS[random.random_range(0..WORDS.len())].to_vec(),
            2 => Vec::new(),
            _ => {
                let from = random.random_range(0..=other.len());
                other[from..other.len().min(from + 40)].to_vec()
            }
        };
        data.splice(start..end, insertion);
    }
    data
}

fn run(body: fn(&[u8])) {
    let seeds = seeds();
    let mut random = StdRng::seed_from_u64(1);
    seeds.iter().for_each(|seed| body(seed));
    for _ in 0..ROUNDS {
        let mut pick = || &seeds[random.random_range(0..seeds.len())];
        let (seed, other) = (pick(), pick());
        body(&mutate(seed, other, &mut random));
    }
}

#[test]
fn any_bytes_are_a_spec_or_a_bounded_error() {
    run(fuzzing::parse);
}

#[test]
fn what_was_read_survives_printing() {
    run(fuzzing::roundtrip);
}

#[test]
fn ids_are_hashes_of_what_they_describe() {
    run(fuzzing::ids);
}

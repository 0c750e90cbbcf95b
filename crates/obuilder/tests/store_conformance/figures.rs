//! How long each kind of store takes for a small layer. Run it alone, with optimisations:
//! `cargo test --release -p ocluster-obuilder --test store_conformance figures -- --ignored --nocapture`.

use std::fs;
use std::time::{Duration, Instant};

use crate::lab::Case;

/// Layers above one base.
const LAYERS: usize = 40;

/// Not a test: it measures, and holds nothing against anybody.
#[test]
#[ignore = "a measurement"]
fn of_a_small_layer_on_a_base_of_five_megabytes() {
    let cases = [
        ("overlayfs", Case::OVERLAYFS),
        ("btrfs", Case::BTRFS),
        ("xfs", Case::XFS),
        ("rsync copy", Case::RSYNC_COPY),
        ("rsync hardlink", Case::RSYNC_HARDLINK),
        ("rsync hardlink_unsafe", Case::RSYNC_HARDLINK_UNSAFE),
    ];
    println!("median ms of {LAYERS}:           create    seal  remove");
    for (name, case) in cases {
        case.run(|lab| {
            // As many files as a small image has.
            let base = lab.layer("base", &[], |tree| {
                for file in 0..300_usize {
                    let dir = tree.join(format!("{}", file % 20));
                    fs::create_dir_all(&dir).unwrap();
                    let byte = u8::try_from(file % 251).unwrap();
                    fs::write(dir.join(format!("{file}")), vec![byte; 17_000]).unwrap();
                }
            });
            let mut times = [const { Vec::new() }; 3];
            for layer in 0..LAYERS {
                let (work, mount_point) = lab.work(&layer.to_string());
                let sealed = lab.root.join("layers").join(layer.to_string());
                let started = Instant::now();
                let rootfs = lab.backend.create(&base, &work, &mount_point).unwrap();
                times[0].push(started.elapsed());
                lab.within(&rootfs, |tree| fs::write(tree.join("new"), "x").unwrap());
                let started = Instant::now();
                lab.backend.seal(&work, Some(&base[0]), &sealed).unwrap();
                times[1].push(started.elapsed());
                lab.backend.remove(&work).unwrap();
                let started = Instant::now();
                lab.backend.remove(&sealed).unwrap();
                times[2].push(started.elapsed());
            }
            let [create, seal, remove] = times.map(median);
            println!("{name:<22} {create:>14.2} {seal:>7.2} {remove:>7.2}");
        });
    }
}

/// In milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

//! How long a context takes compared with a local clone by `git`, once both have the objects.

use std::time::{Duration, Instant};

use super::servers::Daemon;
use super::sources::{Source, git, listing};
use super::workshop::Workshop;

const FILES: usize = 10_000;
const ROUNDS: usize = 2;

#[tokio::test]
async fn ten_thousand_files_take_about_as_long_as_git_takes() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    for number in 0..FILES {
        let line = format!("file number {number}\n");
        source.write(
            &format!("d{}/e{}/f{number}", number % 100, number % 7),
            &line.repeat(1 + number % 60),
        );
    }
    let commit = source.commit("many");
    let server = Daemon::serve(&workshop.served());
    let url = server.url("repo");
    let first = workshop.prepare(&url, &[&commit]).await;
    first.commit();
    let mirror = workshop.mirror();
    let (mut ours, mut gits) = (Duration::MAX, Duration::MAX);
    for round in 0..ROUNDS {
        let started = Instant::now();
        let outcome = workshop.prepare(&url, &[&commit]).await;
        ours = ours.min(started.elapsed());
        let clone = workshop.dir.path().join(format!("clone{round}"));
        let clone_name = clone.display().to_string();
        let started = Instant::now();
        git(
            workshop.dir.path(),
            &[
                "clone",
                "-q",
                "--no-checkout",
                "--reference",
                &mirror.display().to_string(),
                &url,
                &clone_name,
            ],
        );
        git(&clone, &["checkout", "-q", &commit]);
        gits = gits.min(started.elapsed());
        assert_eq!(listing(&outcome.context), listing(&clone));
    }
    let ratio = ours.as_secs_f64() / gits.as_secs_f64();
    println!(
        "{FILES} files: {ours:?}, git clone --reference and checkout {gits:?}, ratio {ratio:.2}"
    );
    assert!(ratio < 2.0, "{ours:?} against {gits:?}");
}

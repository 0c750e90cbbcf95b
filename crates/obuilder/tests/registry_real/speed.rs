//! How fast a large image comes, beside skopeo.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use ocluster_obuilder::image::ImageSource as _;

use crate::layout::{self, tar};
use crate::pulls::Puller;
use crate::registry::{Registry, run};

/// How much of an image there is in each of two layers, in bytes.
const LAYER: usize = 100 << 20;
/// How often each is measured; the best counts.
const TIMES: usize = 3;

/// Bytes that nothing compresses.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(LAYER / 8).flatten().collect()
}

/// Optimised programs are compared: `cargo test --release -p ocluster-obuilder --test registry_real -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, which needs a quiet machine and an optimised build"]
#[expect(clippy::print_stderr, reason = "the figures are for whoever measures")]
async fn two_layers_of_100_mib_come_as_fast_as_with_skopeo() {
    let registry = Registry::start();
    let puller = Puller::new().await;
    let layout = puller.dir.path().join("layout");
    layout::write(&layout, &[tar("a", &noise(1)), tar("b", &noise(2))]);
    registry.push(&layout, "large:v1", &[]);
    std::fs::remove_dir_all(&layout).expect("removed");

    let (mut ours, mut skopeos) = (Duration::MAX, Duration::MAX);
    for _ in 0..TIMES {
        let target = puller.dir.path().join("copy");
        let start = Instant::now();
        run(
            "skopeo",
            &[
                "copy",
                "--insecure-policy",
                "--quiet",
                "--src-tls-verify=false",
                &format!("docker://{}", registry.name("large:v1")),
                &format!("oci:{}", target.display()),
            ],
        );
        skopeos = skopeos.min(start.elapsed());
        std::fs::remove_dir_all(target).expect("removed");

        let start = Instant::now();
        let source = puller.source(&registry.name("large:v1")).await;
        let manifest = source.manifest(&puller.cancel).await.expect("a manifest");
        let blobs = manifest
            .layers
            .iter()
            .map(|layer| source.blob(layer, &puller.log, &puller.cancel));
        let blobs = try_join_all(blobs).await.expect("the layers");
        ours = ours.min(start.elapsed());
        drop(blobs);
    }
    eprintln!("200 MiB in two layers: {ours:.2?}; skopeo copy to an OCI directory: {skopeos:.2?}");
    assert!(ours < skopeos * 3 / 2, "{ours:?} against {skopeos:?}");
}

//! The list of workers in the form of Prometheus's HTTP service discovery, so that nobody has to keep such a list by hand. OCluster
//! has nothing like it.

use serde::Serialize;

use crate::state::Scheduler;

/// A worker that its pool knows, connected or not: one that is away is to be missed until an administrator says to forget it.
pub(super) struct KnownWorker {
    pool: String,
    name: String,
}

/// All of them, by pool and name.
pub(super) fn known(scheduler: &Scheduler) -> Vec<KnownWorker> {
    scheduler.look(|cluster| {
        let mut workers = Vec::new();
        for pool in cluster.pools() {
            let known = cluster.known_workers(pool);
            workers.extend(known.into_iter().flatten().map(|worker| KnownWorker {
                pool: pool.as_str().to_owned(),
                name: worker.name.as_str().to_owned(),
            }));
        }
        workers
    })
}

#[derive(Serialize)]
struct Target<'a> {
    /// Where to ask: here.
    targets: [&'a str; 1],
    labels: Labels<'a>,
}

#[derive(Serialize)]
struct Labels<'a> {
    pool: &'a str,
    worker: &'a str,
}

/// The list, for whoever reaches this server under the name `host`.
pub(super) fn list(host: &str, workers: &[KnownWorker]) -> String {
    let targets = workers.iter().map(|worker| Target {
        targets: [host],
        labels: Labels {
            pool: &worker.pool,
            worker: &worker.name,
        },
    });
    // Texts alone always can be written.
    serde_json::to_string(&targets.collect::<Vec<_>>()).unwrap_or_else(|_| "[]".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_what_prometheus_reads() {
        let worker = |pool: &str, name: &str| KnownWorker {
            pool: pool.to_owned(),
            name: name.to_owned(),
        };
        let workers = [worker("linux", "w \"1\""), worker("arm", "w2")];
        let expected = r#"[{"targets":["s:9090"],"labels":{"pool":"linux","worker":"w \"1\""}},{"targets":["s:9090"],"labels":{"pool":"arm","worker":"w2"}}]"#;
        assert_eq!(list("s:9090", &workers), expected);
        assert_eq!(list("s:9090", &[]), "[]");
    }
}

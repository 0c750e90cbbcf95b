//! Which page a path means. Empty segments do not matter, as with OCluster.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A page of the scheduler's HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The scheduler's own metrics.
    Metrics,
    /// Whether the scheduler works.
    Health,
    /// All known workers, for Prometheus to find them.
    Targets,
    /// Metrics of a worker.
    Worker {
        pool: Segment,
        worker: Segment,
        page: WorkerPage,
    },
}

/// Which of a worker's pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WorkerPage {
    /// Those of the worker itself.
    Agent,
    /// Those of its machine.
    Host,
    /// One of its additional ones.
    Additional(Segment),
}

/// A name within a path, as it was written. OCluster does not decode it, but Prometheus, like every other client, has to encode
/// spaces: so it means first what is written, then what that stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment(String);

impl Segment {
    /// The name as it was written.
    pub(super) fn raw(&self) -> &str {
        &self.0
    }

    /// What it stands for, if that is another name.
    pub(super) fn decoded(&self) -> Option<String> {
        match percent_decode_str(&self.0).decode_utf8() {
            Ok(Cow::Owned(decoded)) if decoded != self.0 => Some(decoded),
            _ => None,
        }
    }

    /// The first thing that is found under what was written or what it stands for.
    pub(super) fn find<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        find(&self.0).or_else(|| find(&self.decoded()?))
    }
}

impl From<&str> for Segment {
    fn from(raw: &str) -> Self {
        Self(raw.to_owned())
    }
}

impl Route {
    /// Reads a path, without its query.
    pub(super) fn of(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match segments[..] {
            ["metrics"] => Some(Self::Metrics),
            ["health"] => Some(Self::Health),
            ["targets"] => Some(Self::Targets),
            ["pool", pool, "worker", worker, page] => Some(Self::Worker {
                pool: pool.into(),
                worker: worker.into(),
                page: match page {
                    "metrics" => WorkerPage::Agent,
                    "host-metrics" => WorkerPage::Host,
                    name => WorkerPage::Additional(name.into()),
                },
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(page: WorkerPage) -> Option<Route> {
        Some(Route::Worker {
            pool: "linux".into(),
            worker: "w".into(),
            page,
        })
    }

    #[test]
    fn paths_are_upstream_s() {
        assert_eq!(Route::of("/metrics"), Some(Route::Metrics));
        assert_eq!(Route::of("//metrics/"), Some(Route::Metrics));
        assert_eq!(Route::of("/health"), Some(Route::Health));
        assert_eq!(Route::of("/targets"), Some(Route::Targets));
        let path = "/pool/linux/worker/w";
        for (page, meant) in [
            ("metrics", WorkerPage::Agent),
            ("/host-metrics/", WorkerPage::Host),
            ("gpu", WorkerPage::Additional("gpu".into())),
        ] {
            assert_eq!(Route::of(&format!("{path}/{page}")), worker(meant));
        }
        for path in [
            "",
            "/",
            "/metrics/more",
            "/pool/linux",
            "/pool/linux/worker/w",
            "/pool/linux/worker//metrics",
            "/pool/linux/worker/w/metrics/more",
            "/pools/linux/worker/w/metrics",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }

    #[test]
    fn a_name_means_what_is_written_before_what_it_stands_for() {
        let find = |known: &[&str], segment: &str| {
            let find = |name: &str| known.contains(&name).then(|| name.to_owned());
            Segment::from(segment).find(find)
        };
        let both = ["a b", "a%20b"];
        assert_eq!(find(&both, "a%20b").as_deref(), Some("a%20b"));
        assert_eq!(find(&["a b"], "a%20b").as_deref(), Some("a b"));
        assert_eq!(find(&["a/b"], "a%2fb").as_deref(), Some("a/b"));
        assert_eq!(find(&["a b"], "a+b"), None);
        assert_eq!(Segment::from("plain").decoded(), None);
        assert_eq!(Segment::from("%ff").decoded(), None, "not UTF-8");
    }
}

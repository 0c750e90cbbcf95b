//! A good worker and a good client, who must not notice what others do.

use crate::support::client::{Client, Submitted, read_at, result, whole_log};
use crate::support::site::{Running, Site};
use crate::support::story;
use crate::support::worker::{FakeWorker, Given, Traits};

/// A cluster at work: one job runs from before the strange peer comes until after.
pub(crate) struct Witness {
    pub(crate) scheduler: Running,
    _site: Site,
    worker: FakeWorker,
    client: Client,
    job: Submitted,
    given: Given,
}

impl Witness {
    pub(crate) async fn with(site: Site) -> Self {
        let scheduler = site.start().await;
        let mut worker = scheduler.worker_with("witness", 2, Traits::default()).await;
        let client = scheduler.client().await;
        let job = client.submit("before");
        let given = worker.next().await;
        let (line, _) = read_at(&job.job, 0).await.unwrap();
        assert_eq!(line, "Building on witness\n");
        Self {
            scheduler,
            _site: site,
            worker,
            client,
            job,
            given,
        }
    }

    /// The next job of somebody else's, which is `what`.
    pub(crate) async fn next(&mut self, what: &str) -> Given {
        let given = self.worker.next().await;
        assert_eq!(given.what, what);
        given
    }

    /// The job from before ends well, over the same connections, and another one goes from beginning to end.
    pub(crate) async fn is_unharmed(&mut self) {
        assert!(!self.given.build.cancelled.is_cancelled());
        assert!(!self.client.connection.is_closed());
        assert!(!self.worker.connection.is_closed());
        let another = self.client.submit("after");
        self.given.succeed("unharmed");
        assert_eq!(result(&self.job.job).await, Ok("unharmed".to_owned()));
        let log = whole_log(&self.job.job).await;
        assert_eq!(log, "Building on witness\nJob succeeded\n");
        // Jobs of strangers may have been given before.
        let given = loop {
            let given = self.worker.next().await;
            if given.what == "after" {
                break given;
            }
        };
        given.succeed("as ever");
        assert_eq!(result(&another.job).await, Ok("as ever".to_owned()));
    }
}

#[test]
fn a_witness_alone_is_unharmed() {
    story(async {
        Witness::with(Site::new()).await.is_unharmed().await;
    });
}

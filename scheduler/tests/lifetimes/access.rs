//! Who may submit: clients that are added, removed, revoked, and those that exist from the start.

use std::os::unix::fs::PermissionsExt as _;

use ocluster_api::cluster_capnp::{admin, submission};
use ocluster_api::persistent_capnp::persistent;
use ocluster_vat::SturdyRef;

use crate::support::client::{Submitted, cancel_ticket, result};
use crate::support::site::{Site, add, remove, show};
use crate::support::{POOL, kind_and_reason, story};

pub(crate) async fn list(admin: &admin::Client) -> Vec<String> {
    let response = admin.list_clients_request().send().promise.await.unwrap();
    let clients = response.get().unwrap().get_clients().unwrap();
    let name = |name: capnp::Result<capnp::text::Reader<'_>>| name.unwrap().to_string().unwrap();
    clients.iter().map(name).collect()
}

async fn save(submission: &submission::Client) -> SturdyRef {
    use capnp::capability::FromClientHook as _;
    let persistent: persistent::Client = submission.clone().cast_to();
    let response = persistent.save_request().send().promise.await.unwrap();
    let uri: capnp::text::Reader<'_> = response.get().unwrap().get_sturdy_ref().get_as().unwrap();
    SturdyRef::parse(uri.to_str().unwrap()).unwrap()
}

/// Upstream's defect: removing a client left its queued jobs to run for nobody, and broke the connection of whoever cancelled one.
#[test]
fn removing_a_client_cancels_its_queued_jobs_and_harms_nobody() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let admin = scheduler.admin().await;
        let removed = add(&scheduler, &admin, "removed").await.unwrap();
        let client = scheduler.client().await;
        let mut worker = scheduler.worker("w").await;
        let running = removed.submit("running");
        let given = worker.next().await;
        let queued =
            ["queued", "cancelled later", "released later"].map(|what| removed.submit(what));
        let other = client.submit("other");
        let outcomes: Vec<_> = queued.iter().map(|job| result(&job.job)).collect();
        super::logs::arrived(&other.ticket).await;

        remove(&admin, "removed").await.unwrap();
        for outcome in outcomes {
            assert_eq!(
                outcome.await,
                Err("Failed: Access has been revoked".to_owned())
            );
        }
        let [_, cancelled, released] = queued;
        assert_eq!(
            cancel_ticket(&cancelled.ticket).await,
            Err("Failed: Access has been revoked".to_owned())
        );
        drop(released);
        // The same connection still serves, and what was running goes on.
        assert_eq!(list(&admin).await, ["client"]);
        given.succeed("done");
        assert_eq!(result(&running.job).await, Ok("done".to_owned()));
        let given = worker.next().await;
        assert_eq!(given.what, "other");
        given.succeed("");
        assert_eq!(result(&other.job).await, Ok(String::new()));
        let shown = show(&scheduler.pool_admin().await).await;
        assert!(!shown.contains("removed"), "{shown}");
    });
}

#[test]
fn a_revoked_client_stays_out_whatever_it_holds_and_also_when_its_name_comes_back() {
    story(async {
        let site = Site::with_tls();
        let scheduler = site.start().await;
        let admin = scheduler.admin().await;
        let before = scheduler.client().await;
        super::logs::arrived(&before.submit("first").ticket).await;
        remove(&admin, "client").await.unwrap();
        let again = add(&scheduler, &admin, "client").await.unwrap();

        let refused = before.submit("second");
        assert_eq!(
            result(&refused.job).await,
            Err("Failed: Access has been revoked".to_owned())
        );
        // Its sturdy ref leads nowhere any more.
        let stranger = scheduler.client().await;
        assert_eq!(
            result(&stranger.submit("third").job).await,
            Err("Failed: Unknown persistent service ID".to_owned())
        );
        let mut worker = scheduler.worker("w").await;
        let job = again.submit("fourth");
        worker.next().await.succeed("");
        assert_eq!(result(&job.job).await, Ok(String::new()));
    });
}

#[test]
fn a_saved_sturdy_ref_leads_back_to_the_same_client() {
    story(async {
        let site = Site::with_tls();
        let scheduler = site.start().await;
        let admin = scheduler.admin().await;
        let alice = add(&scheduler, &admin, "alice").await.unwrap();
        let saved = save(&alice.submission).await;
        let restored = scheduler.client_by(&saved).await;
        assert_eq!(save(&restored.submission).await, saved, "saved once more");
        let _job = restored.submit("example");
        super::logs::arrived(&_job.ticket).await;
        let shown = show(&scheduler.pool_admin().await).await;
        assert!(shown.contains("[alice:(no cache hint)@"), "{shown}");
    });
}

#[test]
fn an_unknown_pool_is_named_with_those_there_are() {
    story(async {
        let policy = ocluster_scheduling::Policy::default();
        let site = Site::with(|config| {
            config.pools = ["b", "a", POOL]
                .map(|name| (name.to_owned(), policy))
                .into();
        });
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let Submitted { ticket, job } =
            client.submit_to("nowhere", |mut descr| descr.set_cache_hint("x"));
        let expected = "Failed: Pool ID \"nowhere\" not one of {a, b, pool}".to_owned();
        assert_eq!(result(&job).await, Err(expected.clone()));
        assert_eq!(cancel_ticket(&ticket).await, Err(expected));
        let mut request = scheduler.admin().await.pool_request();
        request.get().set_name("nowhere");
        let pool = request.send().pipeline.get_pool();
        let error = pool.show_request().send().promise.await.err().unwrap();
        assert_eq!(kind_and_reason(error), "Failed: No such pool");
    });
}

/// Upstream's defect: a scheduler whose client's file was lost did not start any more.
#[test]
fn a_default_client_whose_file_was_lost_gets_a_new_one_and_the_old_stays_valid() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let old = scheduler.cap("submit-client.cap");
        scheduler.stop().await;
        let file = site.path().join("secrets/submit-client.cap");
        std::fs::remove_file(&file).unwrap();

        let scheduler = site.start().await;
        let new = scheduler.cap("submit-client.cap");
        assert_ne!(new.id, old.id);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut worker = scheduler.worker("w").await;
        for id in [old.id, new.id] {
            let cap = SturdyRef::new(new.address.clone(), id);
            let job = scheduler.client_by(&cap).await.submit("example");
            worker.next().await.succeed("");
            assert_eq!(result(&job.job).await, Ok(String::new()));
        }
        assert_eq!(list(&scheduler.admin().await).await, ["client"]);
    });
}

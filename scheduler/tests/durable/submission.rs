//! What is accepted, under which key, and what is refused and why.

use std::collections::BTreeMap;

use ocluster_api::cluster_capnp::job_descr;
use ocluster_scheduler::config::Quota;

use crate::support::client::{result, whole_log};
use crate::support::keeper::{Keeper, Query, Wanted};
use crate::support::site::{Site, add, remove};
use crate::support::{POOL, eventually, story};

#[test]
fn a_job_is_kept_with_its_record_and_its_log_and_the_worker_may_forget_it() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let wanted = Wanted::new("example").hint("a-hint").urgent();
        let kept = keeper.submit(&wanted).await.unwrap();
        assert!(!kept.known);
        let queued = kept.info().await;
        assert_eq!(queued.id, kept.id);
        assert_eq!(queued.stand(), ("queued", 0, ""));
        assert_eq!(
            (
                queued.pool.as_str(),
                queued.client.as_str(),
                queued.hint.as_str()
            ),
            (POOL, "client", "a-hint")
        );
        assert!(queued.urgent && queued.durable);
        assert_eq!(queued.kind, "docker");
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        assert_eq!((given.what.as_str(), given.attempt), ("example", 1));
        assert!(given.durable);
        eventually("the job runs", async || {
            (kept.info().await.stand() == ("running", 1, "w")).then_some(())
        })
        .await;
        assert!(!given.build.settled.is_cancelled());
        given.succeed("sha256:1");
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 1, "w"));
        assert_eq!(ended.output, "sha256:1");
        assert_eq!(ended.log_length, given.build.log_length());
        assert_eq!(ended.log_digest.len(), 64, "{:?}", ended.log_digest);
        assert!(ended.ended_at >= ended.started_at && ended.started_at >= ended.queued_at);
        assert_eq!(ended.story(), [(1, "w", "")]);
        assert_eq!(whole_log(&kept.job()).await, given.build.log());
        assert_eq!(result(&kept.job()).await, Ok("sha256:1".to_owned()));
        given.build.settled.cancelled().await;
        assert!(!given.build.cancelled.is_cancelled());
    });
}

#[test]
fn a_job_stays_when_its_client_lets_go_of_everything() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let queued = keeper.keep("queued").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        let id = queued.id.clone();
        drop(queued);
        let waiting = keeper.keep("waiting").await.id;
        keeper.client.connection.disconnect("Connection closed");
        keeper.client.connection.closed().await;
        drop(keeper);

        let again = scheduler.keeper().await;
        let found = again.find(&id).await.unwrap();
        assert_eq!(found.info().await.stand(), ("running", 1, "w"));
        given.succeed("out");
        assert_eq!(found.ended().await.unwrap().output, "out");
        let next = worker.next().await;
        assert_eq!(next.what, "waiting");
        next.succeed("");
        let ended = again.find(&waiting).await.unwrap().ended().await.unwrap();
        assert_eq!(ended.state, "passed");
    });
}

#[test]
fn a_client_can_ask_what_is_offered() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        assert_eq!(
            scheduler.keeper().await.features().await,
            ["durable-jobs", "submit-many", "time-limits"]
        );
    });
}

/// Nobody could come back for them: after a restart, no sturdy ref is valid.
#[test]
fn a_scheduler_with_a_key_for_one_start_keeps_no_jobs() {
    story(async {
        let site = Site::with(|config| config.key_file = None);
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        assert!(keeper.features().await.is_empty());
        let refused = keeper.submit(&Wanted::new("example")).await.err().unwrap();
        assert!(refused.starts_with("Unimplemented: "), "{refused}");
        let refused = keeper.submit_many(&[Wanted::new("x")]).await.unwrap_err();
        assert!(refused.starts_with("Unimplemented: "), "{refused}");
        // What does not outlive its client goes on as ever, and has a record.
        let attached = keeper.client.submit("attached");
        scheduler.worker("w").await.next().await.succeed("");
        assert_eq!(result(&attached.job).await, Ok(String::new()));
        let (jobs, _) = keeper.list(&Query::default()).await.unwrap();
        assert_eq!(jobs.len(), 1);
        assert!(!jobs[0].durable);
    });
}

#[test]
fn the_same_job_under_the_same_key_is_the_same_job_until_it_is_forgotten() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let wanted = Wanted::new("example").key("nightly");
        let first = keeper.submit(&wanted).await.unwrap();
        assert!(!first.known);
        assert_eq!(first.info().await.key, "nightly");
        let second = keeper.submit(&wanted).await.unwrap();
        assert_eq!(
            (second.id.as_str(), second.known),
            (first.id.as_str(), true)
        );
        let mut worker = scheduler.leased_worker("w").await;
        worker.next().await.succeed("out");
        first.ended().await.unwrap();
        let third = keeper.submit(&wanted).await.unwrap();
        assert_eq!((third.id.as_str(), third.known), (first.id.as_str(), true));
        assert_eq!(third.ended().await.unwrap().output, "out");
        scheduler.stop().await;

        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let fourth = keeper.submit(&wanted).await.unwrap();
        assert_eq!(
            (fourth.id.as_str(), fourth.known),
            (first.id.as_str(), true)
        );
        let (jobs, _) = keeper.list(&Query::default()).await.unwrap();
        assert_eq!(jobs.len(), 1);
    });
}

#[test]
fn another_job_under_a_key_that_was_used_is_refused_with_the_one_that_has_it() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let wanted = Wanted::new("example").key("k");
        let first = keeper.submit(&wanted).await.unwrap();
        for other in [
            Wanted::new("another").key("k"),
            wanted.clone().urgent(),
            wanted.clone().hint("hint"),
            wanted.clone().limits(1000, 0, 0),
        ] {
            let refused = keeper.submit(&other).await.err().unwrap();
            assert!(
                refused.contains("key") && refused.contains(&first.id),
                "{refused}"
            );
        }
        // Without a key, and under another client's, it is a job of its own.
        assert_ne!(keeper.keep("example").await.id, first.id);
        let admin = scheduler.admin().await;
        let alice = Keeper::new(add(&scheduler, &admin, "alice").await.unwrap());
        let hers = alice.submit(&wanted).await.unwrap();
        assert_ne!(hers.id, first.id);
        assert!(!hers.known);
    });
}

#[test]
fn submissions_under_one_key_that_arrive_together_are_one_job() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let wanted = Wanted::new("example").key("k");
        let answers: Vec<_> = (0..8).map(|_| keeper.begin_to_submit(&wanted)).collect();
        let answers = futures::future::join_all(answers).await;
        let kept: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert!(kept.iter().all(|one| one.id == kept[0].id));
        assert_eq!(kept.iter().filter(|one| !one.known).count(), 1);
    });
}

#[test]
fn what_was_begun_is_completed_though_the_client_does_not_wait_for_it() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let begun: Vec<_> = (0..20)
            .map(|number| Wanted::new("example").key(&format!("key {number}")))
            .map(|wanted| keeper.begin_to_submit(&wanted))
            .collect();
        // Known to have arrived, and not to be answered yet.
        keeper.features().await;
        drop(begun);
        keeper.client.connection.disconnect("Connection closed");
        keeper.client.connection.closed().await;
        let again = scheduler.keeper().await;
        eventually("all of them are there", async || {
            let (jobs, _) = again.list(&Query::default()).await.unwrap();
            (jobs.len() == 20).then_some(())
        })
        .await;
        let same = Wanted::new("example").key("key 7");
        assert!(again.submit(&same).await.unwrap().known);
    });
}

#[test]
fn of_many_jobs_each_is_accepted_or_refused_for_itself() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let wanted = [
            Wanted::new("first").key("k"),
            Wanted::new("nowhere").in_pool("nowhere"),
            Wanted::new("first").key("k"),
            Wanted::new("other").key("k"),
            Wanted::new("hint").hint(&"h".repeat(70_000)),
            Wanted::new("last"),
        ];
        let answers = keeper.submit_many(&wanted).await.unwrap();
        let (first, known) = answers[0].clone().unwrap();
        assert!(!known);
        assert_eq!(
            answers[1],
            Err("Pool ID \"nowhere\" not one of {pool}".to_owned())
        );
        assert_eq!(answers[2], Ok((first.clone(), true)));
        let other = answers[3].clone().unwrap_err();
        assert!(other.contains(&first), "{other}");
        let hint = answers[4].clone().unwrap_err();
        assert!(hint.contains("its cache hint has 70000 bytes"), "{hint}");
        let (last, _) = answers[5].clone().unwrap();
        let (jobs, more) = keeper.list(&Query::default()).await.unwrap();
        let ids: Vec<_> = jobs.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(ids, [last.as_str(), first.as_str()]);
        assert_eq!(more, "");
        // They run in the order in which they were submitted.
        let mut worker = scheduler.leased_worker("w").await;
        for what in ["first", "last"] {
            let given = worker.next().await;
            assert_eq!(given.what, what);
            given.succeed("");
        }
    });
}

#[test]
fn too_many_jobs_at_once_are_refused_whole() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let wanted = vec![Wanted::new("example"); 1001];
        let refused = keeper.submit_many(&wanted).await.unwrap_err();
        assert!(refused.contains("at most 1000"), "{refused}");
        let (jobs, _) = keeper.list(&Query::default()).await.unwrap();
        assert!(jobs.is_empty());
        assert_eq!(keeper.submit_many(&[]).await, Ok(Vec::new()));
    });
}

#[test]
fn what_is_wrong_with_a_job_is_said() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let refused = async |wanted: Wanted| keeper.submit(&wanted).await.err().unwrap();
        assert_eq!(
            refused(Wanted::new("x").in_pool("nowhere")).await,
            "Failed: Pool ID \"nowhere\" not one of {pool}"
        );
        let key = refused(Wanted::new("x").key(&"k".repeat(257))).await;
        assert!(key.contains("its key has 257 bytes"), "{key}");
        let hint = refused(Wanted::new("x").hint(&"h".repeat(65_537))).await;
        assert!(hint.contains("its cache hint has 65537 bytes"), "{hint}");
        // A description without anything in it is for its worker to refuse.
        let mut request = keeper.endpoint.submit_job_request();
        request.get().init_job().set_pool(POOL);
        let _: job_descr::Builder<'_> = request.get().get_job().unwrap().init_descr();
        request.send().promise.await.unwrap();
    });
}

#[test]
fn a_client_has_only_so_many_jobs_queued() {
    story(async {
        let site = Site::with(|config| {
            config.jobs.client_quotas = BTreeMap::from([(
                "client".to_owned(),
                Quota {
                    queued: Some(2),
                    ..Quota::default()
                },
            )]);
        });
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        keeper.keep("first").await;
        keeper.keep("second").await;
        let refused = keeper.submit(&Wanted::new("third")).await.err().unwrap();
        assert!(
            refused.contains("2 jobs queued") && refused.contains("client"),
            "{refused}"
        );
        let attached = result(&keeper.client.submit("attached").job).await;
        let attached = attached.unwrap_err();
        assert!(attached.contains("2 jobs queued"), "{attached}");
        // Others have room, and so has the client when one of its jobs has begun.
        let admin = scheduler.admin().await;
        let alice = Keeper::new(add(&scheduler, &admin, "alice").await.unwrap());
        for _ in 0..3 {
            alice.keep("hers").await;
        }
        let mut worker = scheduler.leased_worker("w").await;
        assert_eq!(worker.next().await.what, "first");
        keeper.keep("third").await;
    });
}

#[test]
fn a_client_has_only_so_many_jobs_running_and_the_others_are_in_nobodys_way() {
    story(async {
        let site = Site::with(|config| config.jobs.quota.running = Some(1));
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let admin = scheduler.admin().await;
        let alice = Keeper::new(add(&scheduler, &admin, "alice").await.unwrap());
        keeper.keep("first").await;
        let second = keeper.keep("second").await;
        alice.keep("hers").await;
        let mut w1 = scheduler.leased_worker("w1").await;
        let first = w1.next().await;
        assert_eq!(first.what, "first");
        let mut w2 = scheduler.leased_worker("w2").await;
        let hers = w2.next().await;
        assert_eq!(hers.what, "hers");
        let (summary, details) = second.explain().await.unwrap();
        let all = format!("{summary} {}", details.join(" "));
        assert!(all.contains('1'), "{all}");
        hers.succeed("");
        first.succeed("");
        let given = tokio::select! {
            given = w1.next() => given,
            given = w2.next() => given,
        };
        assert_eq!(given.what, "second");
    });
}

#[test]
fn a_description_may_be_only_so_large() {
    story(async {
        let site = Site::with(|config| config.jobs.quota.description = Some(1000));
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        keeper.keep("small").await;
        let large = Wanted::new(&"x".repeat(2000));
        let refused = keeper.submit(&large).await.err().unwrap();
        assert!(refused.contains("1000 are allowed"), "{refused}");
    });
}

#[test]
fn a_log_is_kept_only_as_far_as_the_client_may() {
    story(async {
        let site = Site::with(|config| config.jobs.quota.log = Some(1000));
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("talks").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        for _ in 0..100 {
            given.write(&"x".repeat(100));
        }
        given.succeed("out");
        let ended = kept.ended().await.unwrap();
        assert_eq!(
            (ended.state.as_str(), ended.output.as_str()),
            ("passed", "out")
        );
        assert!(ended.log_length < 2000, "{}", ended.log_length);
    });
}

#[test]
fn a_client_whose_access_is_revoked_is_out_with_all_its_handles() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let admin = scheduler.admin().await;
        let alice = Keeper::new(add(&scheduler, &admin, "alice").await.unwrap());
        let kept = alice.keep("example").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        let waiting = kept.ended();
        let watching = alice.watch(&Query::default(), 0).await.unwrap().cursor;
        let watching = alice.watch(&Query::default(), watching);
        // Known to have arrived before the access goes.
        kept.info().await;
        remove(&admin, "alice").await.unwrap();
        let out = "Failed: Access has been revoked";
        assert_eq!(kept.try_info().await.unwrap_err(), out);
        assert_eq!(kept.stop("").await.unwrap_err(), out);
        assert_eq!(kept.explain().await.unwrap_err(), out);
        assert_eq!(result(&kept.job()).await.unwrap_err(), out);
        assert_eq!(alice.find(&kept.id).await.err().unwrap(), out);
        assert_eq!(alice.list(&Query::default()).await.err().unwrap(), out);
        assert_eq!(alice.submit(&Wanted::new("more")).await.err().unwrap(), out);
        assert_eq!(
            alice
                .endpoint
                .features_request()
                .send()
                .promise
                .await
                .err()
                .map(crate::support::kind_and_reason)
                .unwrap(),
            out
        );
        // Those who wait already get no more than an error, when there would be something to tell.
        given.succeed("secret");
        assert_eq!(waiting.await.unwrap_err(), out);
        assert_eq!(watching.await.err().unwrap(), out);
    });
}

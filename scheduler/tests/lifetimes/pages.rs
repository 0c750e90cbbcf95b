//! What the scheduler's HTTP server shows of itself and of its workers.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::site::{Running, Site};
use super::support::worker::{OnMetrics, Traits};
use super::support::{POOL, eventually, story};

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    kind: String,
    /// Whether a browser is told not to run what is in it.
    sandboxed: bool,
    body: String,
}

fn site() -> Site {
    Site::with(|config| config.listen_prometheus = Some("127.0.0.1:0".parse().unwrap()))
}

async fn begin(address: SocketAddr, method: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: scheduler\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn read(mut stream: TcpStream) -> Answer {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        kind: kind.unwrap_or_default().to_owned(),
        sandboxed: head.contains("\r\ncontent-security-policy: default-src 'none'; sandbox"),
        body: body.to_owned(),
    }
}

async fn get(scheduler: &Running, path: &str) -> Answer {
    read(begin(scheduler.started.metrics.unwrap(), "GET", path).await).await
}

async fn status_and_body(scheduler: &Running, path: &str) -> (u16, String) {
    let answer = get(scheduler, path).await;
    (answer.status, answer.body)
}

fn of(worker: &str, page: &str) -> String {
    format!("/pool/{POOL}/worker/{worker}/{page}")
}

#[test]
fn a_worker_s_pages_are_handed_on_with_its_content_type() {
    story(async {
        let site = site();
        let scheduler = site.start().await;
        let _worker = scheduler.worker("w").await;
        for (page, kind, body) in [
            ("metrics", "text/plain; version=0.0.4", "up 1\n"),
            ("host-metrics", "text/plain; version=0.0.4", "host 1\n"),
            ("gpu", "text/x-mine", "about gpu"),
            ("my%20disk", "text/x-mine", "about my disk"),
        ] {
            let expected = Answer {
                status: 200,
                kind: kind.to_owned(),
                sandboxed: true,
                body: body.to_owned(),
            };
            assert_eq!(get(&scheduler, &of("w", page)).await, expected);
        }
        // Empty segments do not matter.
        let path = format!("//pool/{POOL}//worker/w/metrics/");
        assert_eq!(status_and_body(&scheduler, &path).await.0, 200);
    });
}

#[test]
fn what_is_not_there_is_refused_in_upstream_s_words() {
    story(async {
        let site = site();
        let scheduler = site.start().await;
        let _worker = scheduler.worker("w").await;
        for (path, status, words) in [
            (of("w", "ups"), 404, "Not found"),
            (of("v", "metrics"), 400, "Error: Worker not connected"),
            (of("v", "ups"), 400, "Error: Worker not connected"),
            (
                "/pool/none/worker/w/metrics".to_owned(),
                400,
                "Error: No such pool",
            ),
            (format!("/pool/{POOL}/worker/w"), 400, "Error: Bad request"),
            ("/nothing".to_owned(), 400, "Error: Bad request"),
        ] {
            let answer = status_and_body(&scheduler, &path).await;
            assert_eq!(answer, (status, words.to_owned()), "{path}");
        }
        let address = scheduler.started.metrics.unwrap();
        for method in ["POST", "PUT", "OPTIONS"] {
            let answer = read(begin(address, method, "/metrics").await).await;
            let said = (answer.status, answer.body.as_str());
            assert_eq!(said, (400, "Error: Bad request"), "{method}");
        }
        // The body is left out, as it must be.
        assert_eq!(
            read(begin(address, "HEAD", "/metrics").await).await.status,
            400
        );
    });
}

#[test]
fn names_with_spaces_can_be_reached_and_a_worker_named_as_it_is_written_comes_first() {
    story(async {
        let site = site();
        let scheduler = site.start().await;
        let fails = || Traits {
            on_metrics: OnMetrics::Fail("not you".to_owned()),
            ..Traits::default()
        };
        let _spaced = scheduler.worker("my worker").await;
        let path = of("my%20worker", "metrics");
        assert_eq!(status_and_body(&scheduler, &path).await.0, 200);
        let _literal = scheduler.worker_with("my%20worker", 1, fails()).await;
        assert_eq!(status_and_body(&scheduler, &path).await.0, 500);
    });
}

#[test]
fn a_worker_that_fails_or_talks_nonsense_gives_a_500_without_its_reasons() {
    story(async {
        let site = site();
        let scheduler = site.start().await;
        let failing = OnMetrics::Fail("Failed to connect to prometheus-node-exporter".to_owned());
        let splitting = OnMetrics::OfType("text/plain\r\nX-Evil: 1".to_owned());
        for (name, on_metrics) in [("failing", failing), ("splitting", splitting)] {
            let traits = Traits {
                on_metrics,
                ..Traits::default()
            };
            let _worker = scheduler.worker_with(name, 1, traits).await;
            let expected = "Error: Worker metrics collection failed".to_owned();
            let answer = status_and_body(&scheduler, &of(name, "metrics")).await;
            assert_eq!(answer, (500, expected));
        }
    });
}

#[test]
fn a_worker_that_does_not_answer_costs_a_bounded_number_of_calls_and_nobody_else_anything() {
    const CALLS_TO_ONE: usize = 16;
    story(async {
        let site = site();
        let scheduler = site.start().await;
        let waiting = Rc::new(Cell::new(0));
        let traits = Traits {
            on_metrics: OnMetrics::Wait(waiting.clone()),
            ..Traits::default()
        };
        let _stuck = scheduler.worker_with("stuck", 1, traits).await;
        let _well = scheduler.worker("well").await;
        let address = scheduler.started.metrics.unwrap();

        // Given as many questions as one worker may have,
        let mut requests = Vec::new();
        for _ in 0..CALLS_TO_ONE {
            requests.push(begin(address, "GET", &of("stuck", "metrics")).await);
        }
        eventually("all are asked", async || {
            (waiting.get() == CALLS_TO_ONE).then_some(())
        })
        .await;

        // one more is refused at once, and everything else goes on.
        let refused = status_and_body(&scheduler, &of("stuck", "metrics")).await;
        let expected = "Error: Worker metrics collection failed".to_owned();
        assert_eq!(refused, (500, expected));
        assert_eq!(waiting.get(), CALLS_TO_ONE);
        for path in [of("well", "metrics"), "/metrics".to_owned()] {
            assert_eq!(status_and_body(&scheduler, &path).await.0, 200);
        }

        // When those who asked go away, the worker hears of it, and can be asked again.
        drop(requests);
        eventually("the questions are withdrawn", async || {
            (waiting.get() == 0).then_some(())
        })
        .await;
        let _request = begin(address, "GET", &of("stuck", "metrics")).await;
        eventually("it is asked again", async || {
            (waiting.get() == 1).then_some(())
        })
        .await;
    });
}

#[test]
fn a_stuck_scheduler_is_not_healthy() {
    story(async {
        let site = site();
        let scheduler = site.start().await;
        assert_eq!(get(&scheduler, "/health").await.status, 200);
        let address = scheduler.started.metrics.unwrap();
        // Given somebody on another thread who asks while this one, on which the scheduler runs, does nothing else than wait,
        let asking = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let limit = std::time::Duration::from_secs(60);
            stream.set_read_timeout(Some(limit)).unwrap();
            let request = "GET /health HTTP/1.1\r\nHost: scheduler\r\n\r\n";
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            std::io::read_to_string(stream)
        });
        // they are told so.
        let answer = asking.join().unwrap().expect("no answer");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.ends_with("the scheduler does not answer\n"),
            "{answer}"
        );
        // And it recovers.
        assert_eq!(get(&scheduler, "/health").await.status, 200);
    });
}

#[test]
fn prometheus_finds_every_known_worker_until_it_is_forgotten() {
    story(async {
        let site = site();
        let scheduler = site.start().await;
        let list = async || {
            let answer = get(&scheduler, "/targets").await;
            assert_eq!(
                (answer.status, answer.kind.as_str()),
                (200, "application/json")
            );
            answer.body
        };
        assert_eq!(list().await, "[]");
        let worker = scheduler.worker("my worker").await;
        let expected = format!(
            r#"[{{"targets":["scheduler"],"labels":{{"pool":"{POOL}","worker":"my worker"}}}}]"#
        );
        assert_eq!(list().await, expected);

        // One that is away is to be missed.
        worker.vanish().await;
        let path = of("my%20worker", "metrics");
        eventually("it is away", async || {
            (status_and_body(&scheduler, &path).await.0 == 400).then_some(())
        })
        .await;
        assert_eq!(list().await, expected);
        let mut forget = scheduler.pool_admin().await.forget_request();
        forget.get().set_worker("my worker");
        forget.send().promise.await.unwrap();
        assert_eq!(list().await, "[]");
    });
}

#[test]
fn rubbish_and_silence_keep_nobody_out() {
    story(async {
        let site = site();
        let scheduler = site.start().await;
        let address = scheduler.started.metrics.unwrap();
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        for rubbish in [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            b"GET\r\n\r\n".to_vec(),
            [
                b"GET /metrics HTTP/1.1\r\nX: ".to_vec(),
                vec![b'x'; 1 << 20],
            ]
            .concat(),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // It may be cut off in the middle, or answered.
            let _ = stream.write_all(&rubbish).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        assert_eq!(get(&scheduler, "/metrics").await.status, 200);
        drop(silent);
    });
}

#[test]
fn metrics_can_be_served_over_ipv6() {
    story(async {
        let site = Site::with(|config| {
            config.listen_prometheus = Some("[::1]:0".parse().unwrap());
        });
        let scheduler = site.start().await;
        assert!(scheduler.started.metrics.unwrap().is_ipv6());
        assert_eq!(get(&scheduler, "/metrics").await.status, 200);
    });
}

#[test]
fn d13_workers_and_clients_that_have_left_are_gone_from_the_metrics() {
    story(async {
        let site = site();
        let scheduler = site.start().await;
        let worker = scheduler.worker("departing").await;
        worker.set_active(false).await;
        let client = scheduler.client().await;
        let queued = client.submit("job");
        let is_shown = async |what: &str| {
            let page = get(&scheduler, "/metrics").await;
            assert!(
                page.body
                    .contains("# HELP ocluster_pool_workers_connected ")
            );
            page.body.contains(what)
        };
        let (its_queue, its_jobs) = ("queue=\"departing\"", "client=\"client\"");
        eventually("both are shown", async || {
            (is_shown(its_queue).await && is_shown(its_jobs).await).then_some(())
        })
        .await;

        worker.vanish().await;
        let mut remove = scheduler.admin().await.remove_client_request();
        remove.get().set_id("client");
        remove.send().promise.await.unwrap();

        eventually("the worker's queue is gone", async || {
            (!is_shown(its_queue).await).then_some(())
        })
        .await;
        assert!(!is_shown(its_jobs).await);
        drop(queued);
    });
}

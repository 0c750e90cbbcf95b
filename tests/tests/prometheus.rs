//! A real Prometheus watches a real cluster with the configuration, the alert rules and the dashboard that come with the programs.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Cluster, Daemonless, Dockerfile, Exposition, NodeExporter, Prometheus, SOON, Story, Submission, Worker,
    WorkerOptions, complaints_about, deploy, metric_names, promtool, wait_for,
};
use serde_json::Value;

/// A name that has to be encoded in a path.
const WORKER: &str = "my worker";

/// The pages of the worker, as its routes know them.
const PAGES: [&str; 2] = ["metrics", "host-metrics"];

/// A cluster that has done something, with the node exporter of the worker's machine.
struct Busy<'a> {
    cluster: Cluster<'a>,
    worker: Worker<'a>,
    _node_exporter: NodeExporter,
}

impl<'a> Busy<'a> {
    fn start(story: &'a Story) -> Result<Self> {
        let node_exporter = NodeExporter::start(&story.scratch)?;
        let mut cluster = Cluster::start(story)?;
        let flag = format!("--node-exporter={}", node_exporter.url());
        let builds = Daemonless::new(story)?;
        let options = builds.beside_docker(WorkerOptions::named(WORKER).flag(&flag));
        let worker = cluster.add_worker_with(options)?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        let good = Dockerfile::from(&base).step("RUN echo one");
        alice.submit(&Submission::of(&good))?.success()?;
        let bad = Dockerfile::from(&base).step("RUN exit 3");
        alice.submit(&Submission::of(&bad))?.exits_with(1)?;
        Ok(Self {
            cluster,
            worker,
            _node_exporter: node_exporter,
        })
    }

    /// The scheduler's page, the worker's and its machine's.
    fn pages(&self) -> Result<Vec<String>> {
        let worker = WORKER.replace(' ', "%20");
        let paths = PAGES.map(|page| format!("/pool/linux/worker/{worker}/{page}"));
        std::iter::once("/metrics".to_owned())
            .chain(paths)
            .map(|path| {
                let answer = self.cluster.get(&path)?;
                ensure!(answer.status == 200, "GET {path}: {answer:?}");
                Ok(answer.body)
            })
            .collect()
    }
}

/// Copies the configuration as it is shipped, with the addresses and names of this cluster, and with less patience.
fn configuration(story: &Story, cluster: &Cluster<'_>) -> Result<PathBuf> {
    let address = format!("127.0.0.1:{}", cluster.http_port());
    let copy = |file: &str, changes: &[(&str, &str)]| -> Result<PathBuf> {
        let mut text = fs::read_to_string(deploy("prometheus").join(file))?;
        for (what, by) in changes {
            ensure!(text.contains(what), "{file} has no {what:?}");
            text = text.replace(what, by);
        }
        story.scratch.write(file, text)
    };
    let scheduler = ("scheduler.example:9877", address.as_str());
    copy("alerts.yml", &[])?;
    let patience = (
        "scrape_interval: 15s",
        "scrape_interval: 2s\n  evaluation_interval: 2s",
    );
    let timeout = ("scrape_timeout: 13s", "scrape_timeout: 2s");
    let often = ("refresh_interval: 30s", "refresh_interval: 2s");
    copy("prometheus.yml", &[scheduler, patience, timeout, often])
}

/// The expressions of the dashboard's panels, with what Grafana would put in, each with its panel's title.
fn panels() -> Result<Vec<(String, String)>> {
    let dashboard = fs::read_to_string(deploy("grafana/ocluster.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let title = panel["title"].as_str().context("a panel without a title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("no expression")?;
            let expression = expression
                .replace("$__rate_interval", "1m")
                .replace("$pool", ".*")
                .replace("$worker", ".*");
            ensure!(!expression.contains('$'), "{title}: {expression}");
            expressions.push((title.to_owned(), expression));
        }
    }
    Ok(expressions)
}

/// What the dashboard's variables ask for: `label_values(METRIC, LABEL)`.
fn variables() -> Result<Vec<String>> {
    let dashboard = fs::read_to_string(deploy("grafana/ocluster.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let variables = dashboard["templating"]["list"].as_array();
    let queries = variables.context("no variables")?.iter();
    let queries = queries.filter_map(|variable| variable["query"]["query"].as_str());
    queries
        .map(|query| {
            let inside = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.rsplit_once(','));
            Ok(inside.with_context(|| query.to_owned())?.0.to_owned())
        })
        .collect()
}

/// The names, queries and states of the alert rules, as Prometheus knows them.
fn rules(prometheus: &Prometheus) -> Result<Vec<Value>> {
    let data = prometheus.api("/api/v1/rules")?;
    let groups = data["groups"].as_array().context("no groups")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array());
    Ok(rules.flatten().cloned().collect())
}

#[test]
fn a_real_prometheus_sees_scheduler_worker_and_host_and_every_rule_and_panel_has_its_metrics()
-> Result<()> {
    Story::tell(&["docker", "obuilder", "prometheus"], |story| {
        // Given a cluster at work, and Prometheus with what is in deploy/,
        let mut busy = Busy::start(story)?;
        let config = configuration(story, &busy.cluster)?;
        let prometheus = Prometheus::start(&story.scratch, &config)?;

        // when it has scraped everything,
        let mut targets = Value::Null;
        wait_for("all targets to be up", SOON, || {
            targets = prometheus.api("/api/v1/targets")?["activeTargets"].take();
            let targets = targets.as_array().context("no targets")?;
            let up = targets.iter().filter(|target| target["health"] == "up");
            Ok((targets.len() == 3 && up.count() == 3).then_some(()))
        })
        .with_context(|| format!("the targets are {targets:#}\n{}", prometheus.log()))?;

        // then it knows the pool, the worker and its machine,
        for (query, expected) in [
            ("ocluster_pool_workers_connected{pool=\"linux\"}", 1.0),
            ("ocluster_pool_jobs_accepted_total{pool=\"linux\"}", 2.0),
            (
                "ocluster_worker_jobs_accepted_total{worker=\"my worker\"}",
                2.0,
            ),
            ("count(node_load1{worker=\"my worker\"})", 1.0),
        ] {
            let samples = prometheus.query(query)?;
            let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
            ensure!(values == [expected], "{query} gives {samples:?}");
        }

        // every metric that a rule, a panel or a variable names is on one of the pages,
        let mut known = BTreeSet::from(["up".to_owned()]);
        for page in busy.pages()? {
            let page = Exposition::parse(&page)?;
            known.extend(page.samples().iter().map(|sample| sample.name.clone()));
        }
        let rules = rules(&prometheus)?;
        ensure!(rules.len() >= 15, "{rules:?}");
        let mut asked = panels()?;
        for rule in &rules {
            let word = |key: &str| rule[key].as_str().context("no text").map(str::to_owned);
            asked.push((word("name")?, word("query")?));
        }
        for variable in variables()? {
            asked.push(("a variable".to_owned(), variable));
        }
        for (who, expression) in &asked {
            let names = metric_names(expression);
            ensure!(!names.is_empty(), "{who} asks for nothing: {expression}");
            for name in names {
                ensure!(known.contains(&name), "{who}: there is no {name}");
            }
        }

        // the panels show something,
        for (title, expression) in panels()? {
            // There may be no warnings, and no file system of a usual kind.
            let may_be_empty = expression.contains("level=~") || expression.contains("fstype");
            wait_for(&format!("{title}: {expression}"), SOON, || {
                let shown = !prometheus.query(&expression)?.is_empty();
                Ok((shown || may_be_empty).then_some(()))
            })?;
        }

        // and Prometheus can evaluate all rules.
        wait_for("the rules to be evaluated", SOON, || {
            let rules = self::rules(&prometheus)?;
            let done = rules.iter().all(|rule| rule["health"] != "unknown");
            Ok(done.then_some(()))
        })?;
        for rule in self::rules(&prometheus)? {
            ensure!(rule["health"] == "ok", "{rule:#}");
        }

        // When the worker goes away, Prometheus sees that.
        busy.worker.process().terminate(SOON)?;
        wait_for("Prometheus to miss the worker", SOON, || {
            let away = "up{job=\"ocluster-worker\", worker=\"my worker\"} == 0";
            let none = "ocluster_pool_workers_connected{pool=\"linux\"} == 0";
            let missed = !prometheus.query(away)?.is_empty() && !prometheus.query(none)?.is_empty();
            Ok(missed.then_some(()))
        })
    })
}

#[test]
fn promtool_finds_nothing_wrong_with_the_pages_and_the_book_has_every_metric() -> Result<()> {
    Story::tell(&["docker", "obuilder", "prometheus"], |story| {
        let busy = Busy::start(story)?;
        let pages = busy.pages()?;
        let (host, ours) = pages.split_last().context("no pages")?;
        let book = fs::read_to_string(deploy("../docs/metrics.md"))?;
        for page in ours {
            let complaints = complaints_about(&story.scratch, page)?;
            ensure!(complaints.is_empty(), "{complaints:#?}\n{page}");
            let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            for (name, _) in types.filter_map(|line| line.split_once(' ')) {
                ensure!(
                    book.contains(&format!("`{name}`")),
                    "{name} is not in the book"
                );
            }
        }
        // The node exporter's page is handed on as it is, with its names in camel case.
        for complaint in complaints_about(&story.scratch, host)? {
            ensure!(complaint.starts_with("node_"), "{complaint}");
        }
        // It would have found something.
        let wrong = "# TYPE a_count gauge\na_count 1\n";
        ensure!(!complaints_about(&story.scratch, wrong)?.is_empty());
        Ok(())
    })
}

#[test]
fn promtool_accepts_configuration_and_rules_and_each_alert_fires_when_it_should() -> Result<()> {
    Story::tell(&["prometheus"], |_| {
        let directory = deploy("prometheus");
        let (config, rules) = (
            directory.join("prometheus.yml"),
            directory.join("alerts.yml"),
        );
        let tests = directory.join("alerts_test.yml");
        promtool(&["check", "config"], &config)?.success()?;
        promtool(&["check", "rules"], &rules)?.success()?;
        promtool(&["test", "rules"], &tests)?.success()?;
        let tested = fs::read_to_string(tests)?;
        let rules = fs::read_to_string(rules)?;
        let alerts = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- alert: "));
        let mut count = 0;
        for alert in alerts {
            let fires = format!("alertname=\"{alert}\"");
            ensure!(tested.contains(&fires), "{alert} is never seen to fire");
            count += 1;
        }
        ensure!(count >= 15, "only {count} alerts");
        Ok(())
    })
}

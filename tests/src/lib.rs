//! The harness of the end-to-end tests and of `cargo xtask demo`: guards around real things (programs, a Docker engine, git servers,
//! network namespaces), each of which is started when asked for and gone when its guard is dropped.
//!
//! Layout: `process` and `command` run programs; `cluster`, `worker` and `client` are the four programs as nouns; `engine`, `image`,
//! `containers`, `git`, `git_http`, `registry`, `netns`, `peer`, `prometheus` and the exporters are their surroundings; `deadline` is
//! the one way to wait; `book` reads the tables that name tests.
//!
//! The harness never sleeps for luck, never stops what it did not start, and never skips anything without writing it down
//! (see `skip`).

mod book;
mod bystander;
mod client;
mod cluster;
mod command;
mod containers;
mod deadline;
mod dockerfile;
mod engine;
mod family;
mod git;
mod git_http;
mod http;
mod image;
mod interrupt;
mod metrics;
mod netns;
mod node_exporter;
mod obuilder;
mod peer;
mod ports;
mod process;
mod programs;
mod prometheus;
mod promql;
mod python;
mod registry;
mod scratch;
mod skip;
mod story;
mod strange_exporter;
mod worker;

pub use book::{Proof, proofs};
pub use bystander::Bystander;
pub use client::{Client, Submission};
pub use cluster::{Cluster, ClusterOptions};
pub use command::{Finished, run, run_within};
pub use containers::{Container, Workshop, project};
pub use deadline::{SOON, wait_for};
pub use dockerfile::{Dockerfile, unique};
pub use engine::Engine;
pub use git::{GitDaemon, Repository};
pub use git_http::GitHttp;
pub use http::{HttpResponse, http_get};
pub use image::{BASE_IMAGE_VARIABLE, BaseImage, base_archive};
pub use interrupt::{check_interrupt, watch_interrupts};
pub use metrics::{Exposition, Sample};
pub use netns::NetNs;
pub use node_exporter::NodeExporter;
pub use obuilder::Daemonless;
pub use peer::TlsPeer;
pub use ports::free_port;
pub use process::Process;
pub use programs::{BIN_DIR_VARIABLE, Programs, find_program};
pub use prometheus::{Prometheus, complaints_about, deploy, promtool};
pub use promql::metric_names;
pub use python::{PYTHON_VARIABLE, Python};
pub use registry::Registry;
pub use scratch::Scratch;
pub use skip::{SKIP_REPORT, SKIP_VARIABLE, skipped};
pub use story::Story;
pub use strange_exporter::Strange;
pub use worker::{Worker, WorkerOptions};

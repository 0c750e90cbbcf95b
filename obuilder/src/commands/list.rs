//! `obuilder ls`.

use jiff::Timestamp;
use ocluster_cli::{Failure, OutputMode, Table, output};
use ocluster_obuilder::store::{CacheInfo, LayerInfo};
use serde::Serialize;

use super::{failed, open};
use crate::amount::amount;
use crate::args::Ls;

pub(super) async fn run(args: &Ls) -> Result<(), Failure> {
    let store = open(&args.store).await?;
    match (args.caches, args.output) {
        (false, OutputMode::Human) => print(layers(&store.list().await.map_err(failed)?)),
        (true, OutputMode::Human) => print(caches(&store.caches())),
        (false, OutputMode::Json) => {
            let results = store
                .list()
                .await
                .map_err(failed)?
                .into_iter()
                .map(Into::into)
                .collect();
            Ok(output::json(Results { results })?)
        }
        (true, OutputMode::Json) => {
            let caches = store.caches().into_iter().map(Into::into).collect();
            Ok(output::json(Caches { caches })?)
        }
    }
}

fn print(table: Table) -> Result<(), Failure> {
    Ok(output::line(table.to_string().trim_end())?)
}

fn layers(layers: &[LayerInfo]) -> Table {
    let mut table = Table::new(["ID", "USED", "LOG", "FROM"]);
    for layer in layers {
        let from = match (layer.meta.origin.get("name"), layer.parent) {
            (Some(name), _) => name.clone(),
            (None, Some(parent)) => parent.to_string(),
            (None, None) => layer.meta.origin.get("kind").cloned().unwrap_or_default(),
        };
        table.row([
            layer.id.to_string(),
            minute(layer.used),
            amount(layer.log_size),
            from,
        ]);
    }
    table
}

fn caches(caches: &[CacheInfo]) -> Table {
    let mut table = Table::new(["NAME", "USED", "SIZE"]);
    for cache in caches {
        table.row([
            cache.name.to_string(),
            minute(cache.used),
            cache.bytes.map_or(String::new(), amount),
        ]);
    }
    table
}

fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

#[derive(Serialize)]
struct Results {
    results: Vec<Row>,
}

#[derive(Serialize)]
struct Caches {
    caches: Vec<CacheRow>,
}

/// A result in JSON. Times are in UTC.
#[derive(Serialize)]
struct Row {
    id: String,
    parent: Option<String>,
    created: String,
    used: String,
    log_bytes: u64,
    origin: std::collections::BTreeMap<String, String>,
}

/// A cache in JSON.
#[derive(Serialize)]
struct CacheRow {
    name: String,
    used: String,
    bytes: Option<u64>,
}

impl From<LayerInfo> for Row {
    fn from(layer: LayerInfo) -> Self {
        Self {
            id: layer.id.to_string(),
            parent: layer.parent.map(|parent| parent.to_string()),
            created: layer.created.to_string(),
            used: layer.used.to_string(),
            log_bytes: layer.log_size,
            origin: layer.meta.origin,
        }
    }
}

impl From<CacheInfo> for CacheRow {
    fn from(cache: CacheInfo) -> Self {
        Self {
            name: cache.name.to_string(),
            used: cache.used.to_string(),
            bytes: cache.bytes,
        }
    }
}

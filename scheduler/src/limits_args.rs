//! The options that say what jobs may take: attempts, time limits of pools and quotas of clients.
//!
//! `[POOL:]WHAT=VALUE` is said once for all and again for those that differ; what is said for one replaces, for that one thing, what
//! is said for all. Nothing here enforces a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ocluster_cli::{parse_duration, parse_size};
use ocluster_store::JobRecord;

use crate::config::{JobPolicy, LimitRange, PoolLimits, Quota};

/// What is written where a value would stand, if there is to be none.
const NONE: &str = "-";

/// What jobs may take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Jobs")]
pub(crate) struct JobArgs {
    /// How often a durable job is tried on workers that get lost or cannot work, before it is given up. A build that fails by itself
    /// is never tried again.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = max_attempts())]
    max_attempts: u32,

    /// After a start of the scheduler, how long workers may take to come back with the durable jobs they still run. Those of workers
    /// that do not are tried elsewhere.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = parse_duration)]
    readopt_grace: Duration,

    /// How long jobs may run, be queued, or run without printing anything, for all pools or one: LIMIT is running, queued or silent;
    /// DEFAULT holds for jobs that do not ask for another, MAX is the longest they may ask for. "-" or nothing for none. May be
    /// repeated: running=/8h, silent=30m, arm:running=2h/12h.
    #[arg(long, value_name = "[POOL:]LIMIT=DEFAULT[/MAX]", value_parser = time_limit)]
    time_limit: Vec<Setting<TimeKind, LimitRange>>,

    /// How much clients may use, for all or one: WHAT is running (jobs at once in a pool; others wait), queued (jobs in all pools),
    /// description or log (bytes of one job, or with k, M, G). "-" for no bound. May be repeated: queued=10000, alice:running=20.
    #[arg(long, value_name = "[CLIENT:]WHAT=N", value_parser = quota)]
    quota: Vec<Setting<QuotaKind, Option<u64>>>,
}

/// `[OF:]KIND=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting<K, V> {
    /// The pool or client; `None` for all.
    of: Option<String>,
    kind: K,
    value: V,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimeKind {
    Running,
    Queued,
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum QuotaKind {
    Running,
    Queued,
    Description,
    Log,
}

impl FromStr for TimeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "running" => Ok(Self::Running),
            "queued" => Ok(Self::Queued),
            "silent" => Ok(Self::Silent),
            _ => Err(format!(
                "{text:?} is not a time that can be limited: use running, queued or silent"
            )),
        }
    }
}

impl FromStr for QuotaKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "running" => Ok(Self::Running),
            "queued" => Ok(Self::Queued),
            "description" => Ok(Self::Description),
            "log" => Ok(Self::Log),
            _ => Err(format!(
                "{text:?} is nothing that a quota can be set for: use running, queued, description or log"
            )),
        }
    }
}

impl fmt::Display for TimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Queued => "queued",
            Self::Silent => "silent",
        })
    }
}

impl fmt::Display for QuotaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Queued => "queued",
            Self::Description => "description",
            Self::Log => "log",
        })
    }
}

impl JobArgs {
    /// The policy these options ask for, with pools that exist.
    ///
    /// # Errors
    /// If a pool is named that is none of `pools`, or the same thing is said twice.
    pub(crate) fn policy(&self, pools: &[String]) -> Result<JobPolicy, String> {
        let stray = self
            .time_limit
            .iter()
            .filter_map(|setting| setting.of.as_ref())
            .find(|pool| !pools.contains(pool));
        if let Some(stray) = stray {
            return Err(format!(
                "--time-limit names the pool \"{stray}\", which --pools does not"
            ));
        }
        let (limits, pool_limits) = layered("--time-limit", &self.time_limit, set_limit)?;
        let (quota, client_quotas) = layered("--quota", &self.quota, set_quota)?;
        Ok(JobPolicy {
            max_attempts: self.max_attempts,
            readopt_grace: self.readopt_grace,
            limits,
            pool_limits,
            quota,
            client_quotas,
        })
    }
}

fn set_limit(limits: &mut PoolLimits, kind: TimeKind, range: LimitRange) {
    match kind {
        TimeKind::Running => limits.running = range,
        TimeKind::Queued => limits.queued = range,
        TimeKind::Silent => limits.silent = range,
    }
}

fn set_quota(quota: &mut Quota, kind: QuotaKind, bound: Option<u64>) {
    // The parser has let through no count that does not fit.
    let count = bound.and_then(|bound| u32::try_from(bound).ok());
    match kind {
        QuotaKind::Running => quota.running = count,
        QuotaKind::Queued => quota.queued = count,
        QuotaKind::Description => quota.description = bound,
        QuotaKind::Log => quota.log = bound,
    }
}

/// What holds for all, and what holds for those who are named: theirs, upon what holds for all.
fn layered<K, V, T>(
    option: &str,
    settings: &[Setting<K, V>],
    set: fn(&mut T, K, V),
) -> Result<(T, BTreeMap<String, T>), String>
where
    K: Copy + Ord + fmt::Display,
    V: Copy,
    T: Copy + Default,
{
    let mut said = BTreeSet::new();
    for Setting { of, kind, .. } in settings {
        if !said.insert((of, kind)) {
            let of = of.as_ref().map_or_else(String::new, |of| format!("{of}:"));
            return Err(format!("{option} {of}{kind} is given more than once"));
        }
    }
    let mut general = T::default();
    for setting in settings.iter().filter(|setting| setting.of.is_none()) {
        set(&mut general, setting.kind, setting.value);
    }
    let mut own = BTreeMap::new();
    for setting in settings {
        if let Some(of) = &setting.of {
            let of = own.entry(of.clone()).or_insert(general);
            set(of, setting.kind, setting.value);
        }
    }
    Ok((general, own))
}

fn max_attempts() -> clap::builder::RangedI64ValueParser<u32> {
    // A record tells of no more.
    let most = i64::try_from(JobRecord::MAX_ATTEMPTS).unwrap_or(i64::MAX);
    clap::value_parser!(u32).range(1..=most)
}

/// Splits `[OF:]KIND=VALUE`. Names may hold either sign, so the last ones count.
fn setting<K: FromStr<Err = String>>(text: &str, form: &str) -> Result<Setting<K, String>, String> {
    let (left, value) = text
        .rsplit_once('=')
        .ok_or_else(|| format!("expected {form}"))?;
    let (of, kind) = match left.rsplit_once(':') {
        Some(("", _)) => return Err(format!("a name is empty: expected {form}")),
        Some((of, kind)) => (Some(of.to_owned()), kind),
        None => (None, left),
    };
    Ok(Setting {
        of,
        kind: kind.parse()?,
        value: value.to_owned(),
    })
}

fn time_limit(text: &str) -> Result<Setting<TimeKind, LimitRange>, String> {
    let Setting { of, kind, value } = setting(text, "[POOL:]LIMIT=DEFAULT[/MAX]")?;
    let (default, max) = match value.split_once('/') {
        Some((default, max)) => (limit(default)?, limit(max)?),
        None => (limit(&value)?, None),
    };
    if let (Some(default), Some(max)) = (default, max)
        && default > max
    {
        return Err("the default is longer than the maximum".to_owned());
    }
    Ok(Setting {
        of,
        kind,
        value: LimitRange { default, max },
    })
}

fn limit(text: &str) -> Result<Option<Duration>, String> {
    if text.is_empty() || text == NONE {
        return Ok(None);
    }
    let limit = parse_duration(text).map_err(|error| error.to_string())?;
    // Limits travel in milliseconds, where 0 means none.
    if limit.as_millis() == 0 {
        return Err(format!(
            "{text:?} would end every job at once: write - for no limit"
        ));
    }
    Ok(Some(limit))
}

fn quota(text: &str) -> Result<Setting<QuotaKind, Option<u64>>, String> {
    let Setting { of, kind, value } = setting(text, "[CLIENT:]WHAT=N")?;
    let value = match kind {
        _ if value == NONE => None,
        QuotaKind::Running | QuotaKind::Queued => {
            let count: Result<u32, _> = value.parse();
            Some(
                count
                    .map_err(|_| format!("{value:?} is not a number of jobs"))?
                    .into(),
            )
        }
        QuotaKind::Description | QuotaKind::Log => {
            Some(parse_size(&value).map_err(|error| error.to_string())?)
        }
    };
    if value == Some(0) {
        return Err("0 would keep out every job: write - for no bound".to_owned());
    }
    Ok(Setting { of, kind, value })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        jobs: JobArgs,
    }

    fn policy(line: &str) -> Result<JobPolicy, String> {
        let line = format!("scheduler {line}");
        let parsed =
            Line::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        parsed.jobs.policy(&["linux".to_owned(), "arm".to_owned()])
    }

    const fn hours(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n * 3600))
    }

    const fn range(default: Option<Duration>, max: Option<Duration>) -> LimitRange {
        LimitRange { default, max }
    }

    #[test]
    fn without_options_it_is_the_default_policy() {
        let (ours, default) = (policy("").unwrap(), JobPolicy::default());
        assert_eq!(format!("{ours:?}"), format!("{default:?}"));
    }

    #[test]
    fn attempts_and_grace_can_be_set() {
        let policy = |line: &str| policy(line).map(|p| (p.max_attempts, p.readopt_grace));
        let five = Duration::from_secs(300);
        assert_eq!(policy("--max-attempts=1 --readopt-grace=5m"), Ok((1, five)));
        for wrong in [
            "--max-attempts=0",
            "--max-attempts=33",
            "--readopt-grace=soon",
        ] {
            policy(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_limit_has_a_default_and_a_maximum_either_of_which_may_be_missing() {
        let running = |value: &str| {
            let policy = policy(&format!("--time-limit=running={value}"));
            policy.map(|policy| policy.limits.running)
        };
        assert_eq!(running("2h/8h"), Ok(range(hours(2), hours(8))));
        assert_eq!(running("2h"), Ok(range(hours(2), None)));
        assert_eq!(running("2h/"), Ok(range(hours(2), None)));
        assert_eq!(running("/8h"), Ok(range(None, hours(8))));
        assert_eq!(running("-/8h"), Ok(range(None, hours(8))));
        assert_eq!(running("2h/2h"), Ok(range(hours(2), hours(2))));
        for none in ["-", "", "/", "-/-"] {
            assert_eq!(running(none), Ok(LimitRange::default()), "{none}");
        }
    }

    #[test]
    fn a_pool_has_its_own_limits_upon_those_of_all() {
        let policy = policy(
            "--time-limit linux:silent=1h --time-limit arm:running=- --time-limit running=2h/8h --time-limit queued=/4h",
        )
        .unwrap();
        let general = PoolLimits {
            running: range(hours(2), hours(8)),
            queued: range(None, hours(4)),
            silent: LimitRange::default(),
        };
        assert_eq!(policy.limits, general);
        let linux = PoolLimits {
            silent: range(hours(1), None),
            ..general
        };
        let arm = PoolLimits {
            running: LimitRange::default(),
            ..general
        };
        let own = [("linux".to_owned(), linux), ("arm".to_owned(), arm)];
        assert_eq!(policy.pool_limits, BTreeMap::from(own));
    }

    #[test]
    fn a_client_has_its_own_quota_upon_that_of_all() {
        let policy = policy(
            "--quota queued=100 --quota log=5M --quota a:b=c:running=2 --quota a:b=c:queued=- --quota bob:description=64k",
        )
        .unwrap();
        let general = Quota {
            queued: Some(100),
            log: Some(5 << 20),
            ..Quota::default()
        };
        assert_eq!(policy.quota, general);
        let odd = Quota {
            running: Some(2),
            queued: None,
            ..general
        };
        let bob = Quota {
            description: Some(64 << 10),
            ..general
        };
        let own = [("a:b=c".to_owned(), odd), ("bob".to_owned(), bob)];
        assert_eq!(policy.client_quotas, BTreeMap::from(own));
    }

    #[test]
    fn mistakes_say_what_is_wrong() {
        for (line, says) in [
            (
                "--time-limit=running",
                "expected [POOL:]LIMIT=DEFAULT[/MAX]",
            ),
            (
                "--time-limit=:running=1h",
                "a name is empty: expected [POOL:]LIMIT=DEFAULT[/MAX]",
            ),
            (
                "--time-limit=linux=1h",
                "\"linux\" is not a time that can be limited: use running, queued or silent",
            ),
            ("--time-limit=running=10", "\"10\" is not a duration"),
            (
                "--time-limit=running=0s",
                "would end every job at once: write - for no limit",
            ),
            (
                "--time-limit=running=3h/2h",
                "the default is longer than the maximum",
            ),
            (
                "--time-limit=mips:running=3h",
                "--time-limit names the pool \"mips\", which --pools does not",
            ),
            (
                "--time-limit=arm:silent=3h --time-limit=silent=1h --time-limit=arm:silent=2h",
                "--time-limit arm:silent is given more than once",
            ),
            (
                "--quota=running=1 --quota=running=2",
                "--quota running is given more than once",
            ),
            ("--quota=10", "expected [CLIENT:]WHAT=N"),
            (
                "--quota=disk=10",
                "\"disk\" is nothing that a quota can be set for: use running, queued, description or log",
            ),
            ("--quota=queued=5G", "\"5G\" is not a number of jobs"),
            ("--quota=log=many", "expected a size in bytes"),
            (
                "--quota=running=0",
                "0 would keep out every job: write - for no bound",
            ),
        ] {
            let error = policy(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}

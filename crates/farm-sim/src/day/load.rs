//! What arrives within the day: who submits what, and when; and how long each job takes.

use crate::chance::{Chance, Ms, SECOND};

use super::args::DayArgs;

/// The length of the day.
const DAY: Ms = 24 * 3600 * SECOND;
/// By how much the busiest time of the day differs from its mean, and the quietest.
const SWING: f64 = 0.7;
/// A tenth of all hints are shared by all clients; each has its own part of the others.
const SHARED: u32 = 10;

/// A job that arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// When, since the day began.
    pub(crate) at: u32,
    pub(crate) client: u32,
    /// Which hint, if any.
    pub(crate) hint: Option<u32>,
    /// How long it takes where nothing is cached, in milliseconds.
    pub(crate) cold: f32,
    pub(crate) urgent: bool,
}

/// What is true of a hint, whoever uses it.
#[derive(Debug, Clone, Copy)]
struct Nature {
    /// How long its jobs take where nothing is cached, roughly.
    cold: f64,
    /// What part of that remains where it is cached.
    warm: f64,
}

/// All that arrives, in order.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) jobs: Vec<Job>,
    natures: Vec<Nature>,
}

impl Load {
    pub(crate) fn draw(args: &DayArgs) -> Self {
        let chance = &mut Chance::new(args.seed);
        let natures: Vec<Nature> = (0..args.hints)
            .map(|_| Nature {
                cold: chance.pareto(60.0, 1.3, 7_200.0) * SECOND as f64,
                warm: 0.03 + 0.5 * chance.unit(),
            })
            .collect();
        let mut cumulated = Vec::new();
        let mut sum = 0.0;
        for _ in 0..args.clients {
            sum += chance.pareto(1.0, 1.1, 1e4);
            cumulated.push(sum);
        }
        let mut load = Self {
            jobs: Vec::with_capacity(args.jobs as usize),
            natures,
        };
        while load.jobs.len() < args.jobs as usize {
            let drawn = chance.unit() * sum;
            let client = cumulated.partition_point(|upto| *upto <= drawn);
            load.draw_burst(args, chance, client as u32);
        }
        load.jobs.sort_by_key(|job| job.at);
        load.scale(args);
        load
    }

    /// Some jobs of one client, most of them of one kind.
    fn draw_burst(&mut self, args: &DayArgs, chance: &mut Chance, client: u32) {
        let begin = time_of_day(chance);
        let most = f64::from(args.jobs / 100).max(1.0);
        let count = chance.pareto(1.0, 1.15, most) as u32;
        let usual = draw_hint(args, chance, client);
        let urgent = chance.permille(20);
        for number in 0..count {
            if self.jobs.len() >= args.jobs as usize {
                return;
            }
            let hint = match chance.permille(700) {
                true => usual,
                false => draw_hint(args, chance, client),
            };
            let nature = hint.and_then(|hint| self.natures.get(hint as usize));
            let cold = nature.map_or(300.0 * SECOND as f64, |nature| nature.cold);
            self.jobs.push(Job {
                at: (begin + u64::from(number) * 20).min(DAY - 1) as u32,
                client,
                hint,
                cold: (cold * chance.pareto(0.7, 2.5, 20.0)) as f32,
                urgent,
            });
        }
    }

    /// Makes the work as much as was asked for.
    fn scale(&mut self, args: &DayArgs) {
        let cold: f64 = self.jobs.iter().map(|job| f64::from(job.cold)).sum();
        let slots = f64::from(args.workers) * f64::from(args.slots);
        let wanted = slots * DAY as f64 * f64::from(args.load) / 100.0;
        let factor = wanted / cold.max(1.0);
        for job in &mut self.jobs {
            job.cold = (f64::from(job.cold) * factor) as f32;
        }
    }

    /// How long the job takes.
    pub(crate) fn duration(&self, job: &Job, cached: bool) -> Ms {
        let nature = job.hint.and_then(|hint| self.natures.get(hint as usize));
        let part = nature.filter(|_| cached).map_or(1.0, |nature| nature.warm);
        ((f64::from(job.cold) * part) as Ms).max(1)
    }

    /// When the last job can be over at the earliest, however it is decided: no job is shorter than with its hint cached, and
    /// what arrives from some time on needs all slots for its work.
    pub(crate) fn lower_bound(&self, slots: u64) -> Ms {
        let mut work = 0;
        let mut bound = 0;
        for job in self.jobs.iter().rev() {
            let least = self.duration(job, true);
            work += least;
            let at = Ms::from(job.at);
            bound = bound.max(at + least).max(at + work / slots.max(1));
        }
        bound
    }
}

fn time_of_day(chance: &mut Chance) -> Ms {
    loop {
        let part = chance.unit();
        let rate = 1.0 - SWING * (std::f64::consts::TAU * part).cos();
        if chance.unit() * (1.0 + SWING) < rate {
            return (part * DAY as f64) as Ms;
        }
    }
}

/// A hint the client may use: in few cases none, in some a shared one, else one of its own.
fn draw_hint(args: &DayArgs, chance: &mut Chance, client: u32) -> Option<u32> {
    let shared = args.hints.div_ceil(SHARED);
    let own = (args.hints - shared) / args.clients;
    match chance.between(0, 99) {
        0..5 => None,
        5..35 => Some(chance.skewed(shared as usize) as u32),
        _ if own == 0 => Some(chance.skewed(args.hints as usize) as u32),
        _ => {
            let number = chance.skewed(own as usize) as u32;
            Some(shared + client * own + number)
        }
    }
}

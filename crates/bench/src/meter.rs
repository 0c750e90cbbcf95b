//! What a stretch of a measurement took: time, and the processor time of the scheduler and of this program; and medians over such.

use std::time::{Duration, Instant};

use crate::memory::processor_time;
use crate::pairs::median;
use crate::scenario::Figures;

/// A stretch that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    pid: u32,
    scheduler: Duration,
    driver: Duration,
    started: Instant,
}

/// A stretch that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// On the clock.
    pub(crate) time: Duration,
    /// Processor time of the scheduler.
    pub(crate) scheduler: Duration,
    /// Processor time of this program.
    pub(crate) driver: Duration,
}

impl Meter {
    /// Begins. `pid` is the scheduler's.
    ///
    /// # Errors
    /// If there is no such process.
    pub(crate) fn start(pid: u32) -> anyhow::Result<Self> {
        Ok(Self {
            pid,
            scheduler: processor_time(pid)?,
            driver: processor_time(std::process::id())?,
            started: Instant::now(),
        })
    }

    /// What was spent so far.
    ///
    /// # Errors
    /// If the process has gone.
    pub(crate) fn read(&self) -> anyhow::Result<Spent> {
        Ok(Spent {
            time: self.started.elapsed(),
            scheduler: processor_time(self.pid)?.saturating_sub(self.scheduler),
            driver: processor_time(std::process::id())?.saturating_sub(self.driver),
        })
    }
}

impl Spent {
    /// How often in a second something was done that was done so many times.
    pub(crate) fn per_second(&self, times: f64) -> f64 {
        times / self.time.as_secs_f64()
    }

    /// The scheduler's processor time for each, in microseconds.
    pub(crate) fn scheduler_us(&self, times: f64) -> f64 {
        self.scheduler.as_secs_f64() * 1e6 / times
    }

    /// This program's processor time for each, in microseconds.
    pub(crate) fn driver_us(&self, times: f64) -> f64 {
        self.driver.as_secs_f64() * 1e6 / times
    }
}

/// Figures that are measured several times, of which the medians are given.
#[derive(Debug, Default)]
pub(crate) struct Medians(Vec<(&'static str, Vec<f64>)>);

impl Medians {
    /// Adds what a round has given.
    pub(crate) fn add(&mut self, name: &'static str, value: f64) {
        match self.0.iter_mut().find(|(its, _)| *its == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name, vec![value])),
        }
    }

    /// Adds the medians to `figures`.
    ///
    /// # Errors
    /// Never: each figure was added at least once.
    pub(crate) fn give(self, figures: &mut Figures) -> anyhow::Result<()> {
        for (name, values) in self.0 {
            figures.add(name, median(values)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::FigureKind;

    #[test]
    fn the_median_of_each_figure_is_given() {
        let mut medians = Medians::default();
        for (rate, ratio) in [(1.0, 9.0), (3.0, 7.0), (2.0, 8.0)] {
            medians.add("rate", rate);
            medians.add("ratio", ratio);
        }
        let mut figures = Figures::default();
        medians.give(&mut figures).unwrap();
        let kinds = ["rate", "ratio"].map(|name| FigureKind { name, unit: "x" });
        let values = figures.in_order(&kinds).unwrap();
        assert_eq!(values, [(kinds[0], 2.0), (kinds[1], 8.0)]);
    }

    #[test]
    fn work_is_counted_for_each_time_it_was_done() {
        let spent = Spent {
            time: Duration::from_secs(2),
            scheduler: Duration::from_millis(10),
            driver: Duration::from_millis(30),
        };
        assert!((spent.per_second(1000.0) - 500.0).abs() < 1e-9);
        assert!((spent.scheduler_us(1000.0) - 10.0).abs() < 1e-9);
        assert!((spent.driver_us(1000.0) - 30.0).abs() < 1e-9);
    }
}

//! Faults strike at random.

use crate::chance::{HOUR, MINUTE, SECOND};
use crate::fault::Fault;
use crate::happening::Happening;
use crate::world::World;

impl World {
    pub(crate) fn plan_fault(&mut self, fault: Fault) {
        if let Some(mean) = fault.mean() {
            self.after_chance(mean, Happening::Strikes(fault));
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        if self.is_ending {
            return;
        }
        self.plan_fault(fault);
        let at = self.chance.index(self.workers.len());
        let is_up = self.workers.get(at).is_some_and(|worker| worker.is_up);
        let struck = match fault {
            Fault::WorkerCrash if is_up => {
                self.kill_worker(at);
                true
            }
            Fault::WorkerFreeze | Fault::Partition if is_up => {
                let lasts = match self.chance.permille(500) {
                    true => self.chance.between(SECOND, 15 * SECOND),
                    false => self.chance.between(15 * SECOND, 20 * MINUTE),
                };
                self.stall(at, fault == Fault::WorkerFreeze, lasts);
                true
            }
            Fault::ConnectionBlip => self.break_connection(at),
            Fault::SchedulerCrash if self.scheduler.is_some() => {
                self.kill_scheduler();
                if self.chance.permille(200) {
                    self.plan.draw_quotas(&mut self.chance, 300);
                    self.faults.count(Fault::QuotaChange);
                }
                true
            }
            Fault::SlowDisk => {
                let lasts = self.chance.between(SECOND, MINUTE);
                self.disk_is_slow_until = self.now + lasts;
                true
            }
            Fault::AdminPause | Fault::Eviction if self.scheduler.is_some() => {
                self.admin_active(at, false);
                if fault == Fault::Eviction {
                    self.evict(at);
                }
                let lasts = self.chance.between(MINUTE, HOUR);
                self.after(lasts, Happening::AdminResumes { worker: at });
                true
            }
            Fault::ClockForward => {
                self.clock_error += self.chance.between(SECOND, 2 * HOUR) as i64;
                true
            }
            Fault::ClockBackward => {
                self.clock_error -= self.chance.between(SECOND, 2 * HOUR) as i64;
                true
            }
            _ => false,
        };
        if struck {
            self.faults.count(fault);
        }
    }

    /// A connection breaks, and both sides notice.
    fn break_connection(&mut self, at: usize) -> bool {
        let Some(worker) = self.workers.get(at) else {
            return false;
        };
        let Some(conn) = worker.conn.filter(|_| worker.stall.is_none()) else {
            return false;
        };
        self.disconnected(at);
        self.connection_broke(conn);
        true
    }
}

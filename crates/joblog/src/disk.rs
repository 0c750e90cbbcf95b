//! The one thread that writes logs: many logs, few system calls.
//!
//! Logs with something to write stand in a queue. The thread lets them gather for a moment (nobody waits for it:
//! readers are served from memory), then writes a [turn](crate::turn) of each.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::live::{CHUNK, Log};
use crate::turn::{fail, write_each};
use crate::{Pace, WriteError};

/// The queue in front of the thread.
#[derive(Debug)]
pub(crate) struct Disk {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// For a task in place of the thread.
    bell: Notify,
    pub(crate) stopped: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    logs: Vec<Arc<Log>>,
    /// Somebody waits: do not linger.
    hurry: bool,
    /// The thread waits for work, and not just for more of it.
    idle: bool,
    closing: bool,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            wake: Condvar::new(),
            bell: Notify::new(),
            stopped: watch::Sender::new(false),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a log that has something to write. After the thread has stopped, the log fails at once.
    pub(crate) fn push(&self, log: Arc<Log>) {
        let mut queue = self.queue();
        if *self.stopped.borrow() {
            drop(queue);
            fail(&log, &WriteError::Closed);
            // Whoever waits for its end hears that the store is closed.
            log.state().recorded = None;
            return;
        }
        queue.logs.push(log);
        let idle = std::mem::take(&mut queue.idle);
        drop(queue);
        if idle {
            self.ring();
        }
    }

    /// Wakes whoever writes.
    fn ring(&self) {
        self.wake.notify_one();
        self.bell.notify_one();
    }

    /// Asks for what is queued to be written now.
    pub(crate) fn hurry(&self) {
        let mut queue = self.queue();
        if !queue.logs.is_empty() && !std::mem::replace(&mut queue.hurry, true) {
            drop(queue);
            self.ring();
        }
    }

    /// Asks the thread to write what is queued and to stop.
    pub(crate) fn close(&self) {
        self.queue().closing = true;
        self.ring();
    }

    /// Waits for logs to write. `None`: stop.
    fn next(&self, linger: Duration) -> Option<Vec<Arc<Log>>> {
        let wait_error = PoisonError::into_inner;
        let mut queue = self.queue();
        while queue.logs.is_empty() {
            if queue.closing {
                // Under the queue's lock, so that no log is queued behind it.
                self.stopped.send_replace(true);
                return None;
            }
            queue.idle = true;
            queue = self.wake.wait(queue).unwrap_or_else(wait_error);
        }
        queue.idle = false;
        let until = Instant::now() + linger;
        while !queue.hurry && !queue.closing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
        queue.hurry = false;
        Some(std::mem::take(&mut queue.logs))
    }

    /// The thread's life.
    pub(crate) fn run(&self, linger: Duration) {
        let mut buffer = Vec::with_capacity(CHUNK);
        while let Some(logs) = self.next(linger) {
            write_each(logs, &mut buffer);
        }
    }

    /// The same as a task, which writes as fast as `pace` says. What it has not written when it is dropped is lost, as in a crash.
    pub(crate) async fn run_as_task(&self, linger: Duration, pace: Pace) {
        let mut buffer = Vec::with_capacity(CHUNK);
        while self.something_to_write().await {
            let gathered = tokio::time::sleep(linger);
            tokio::pin!(gathered);
            while !self.is_in_hurry() {
                tokio::select! {
                    biased;
                    () = &mut gathered => break,
                    () = self.bell.notified() => {}
                }
            }
            tokio::time::sleep(pace()).await;
            let mut queue = self.queue();
            queue.hurry = false;
            let logs = std::mem::take(&mut queue.logs);
            drop(queue);
            write_each(logs, &mut buffer);
        }
    }

    fn is_in_hurry(&self) -> bool {
        let queue = self.queue();
        queue.hurry || queue.closing
    }

    /// Waits for logs to write. False: stop.
    async fn something_to_write(&self) -> bool {
        loop {
            {
                let mut queue = self.queue();
                queue.idle = queue.logs.is_empty();
                if !queue.idle {
                    return true;
                }
                if queue.closing {
                    self.stopped.send_replace(true);
                    return false;
                }
            }
            self.bell.notified().await;
        }
    }
}

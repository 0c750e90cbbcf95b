//! Who got how much: waits, slowdowns, and the slots that clients had while they all wanted more.

use hdrhistogram::Histogram;

use crate::chance::{HOUR, MINUTE, Ms};

/// Clients are compared in what they get within spans of this length.
const SPAN: Ms = 10 * MINUTE;

/// Longer waits are counted as this long: a year.
const LONGEST: Ms = 365 * 24 * HOUR;

/// What is known of one client.
#[derive(Debug, Clone, Default)]
struct Client {
    jobs: u64,
    queued: u64,
    running: u64,
    slowdown: f64,
    longest_wait: Ms,
    /// Slot-milliseconds it had in this span, up to `seen`.
    service: u64,
    seen: Ms,
    /// Whether it had nothing queued at some time in this span.
    was_content: bool,
}

impl Client {
    fn see(&mut self, now: Ms) {
        self.service += self.running * now.saturating_sub(self.seen);
        self.seen = now;
    }
}

/// What all clients got.
#[derive(Debug)]
pub(crate) struct Shares {
    clients: Vec<Client>,
    span_ends: Ms,
    /// Jain's index of each span in which clients could be compared, times how many these were; and the sum of those.
    jain: f64,
    compared: f64,
    waits: Option<Histogram<u64>>,
}

impl Shares {
    pub(crate) fn new(clients: usize) -> Self {
        let client = Client {
            was_content: true,
            ..Client::default()
        };
        Self {
            clients: vec![client; clients],
            span_ends: SPAN,
            jain: 0.0,
            compared: 0.0,
            waits: Histogram::new_with_bounds(1, LONGEST, 3).ok(),
        }
    }

    /// Time goes on.
    pub(crate) fn advance(&mut self, now: Ms) {
        while now >= self.span_ends {
            let end = self.span_ends;
            let mut index = Jain::default();
            for client in &mut self.clients {
                client.see(end);
                if !client.was_content {
                    index.add(client.service as f64);
                }
                client.service = 0;
                client.was_content = client.queued == 0;
            }
            if index.count > 1.0 {
                self.jain += index.value() * index.count;
                self.compared += index.count;
            }
            self.span_ends += SPAN;
        }
    }

    pub(crate) fn queued(&mut self, client: u32) {
        if let Some(client) = self.clients.get_mut(client as usize) {
            client.jobs += 1;
            client.queued += 1;
        }
    }

    /// A job begins, which will take so long.
    pub(crate) fn started(&mut self, client: u32, now: Ms, waited: Ms, duration: Ms) {
        if let Some(waits) = &mut self.waits {
            waits.saturating_record(waited);
        }
        if let Some(client) = self.clients.get_mut(client as usize) {
            client.see(now);
            client.queued -= 1;
            client.was_content |= client.queued == 0;
            client.running += 1;
            client.longest_wait = client.longest_wait.max(waited);
            client.slowdown += (waited + duration) as f64 / duration.max(1) as f64;
        }
    }

    pub(crate) fn ended(&mut self, client: u32, now: Ms) {
        if let Some(client) = self.clients.get_mut(client as usize) {
            client.see(now);
            client.running -= 1;
        }
    }

    /// How evenly clients were served: Jain's index, (Σx)² / (n Σx²), of the slot-time that clients got within ten minutes
    /// throughout which they had jobs queued, weighted by how many these were. 1 if all got the same; 1 if there was nothing
    /// to compare.
    pub(crate) fn jain_of_share(&self) -> f64 {
        match self.compared > 0.0 {
            true => self.jain / self.compared,
            false => 1.0,
        }
    }

    /// Jain's index of the mean slowdown of clients: (wait + duration) / duration.
    pub(crate) fn jain_of_slowdown(&self) -> f64 {
        let mut index = Jain::default();
        for client in self.clients.iter().filter(|client| client.jobs > 0) {
            index.add(client.slowdown / client.jobs as f64);
        }
        index.value()
    }

    /// The longest wait of any job of the smaller half of the clients, and of the smallest client, in seconds.
    pub(crate) fn longest_waits_of_small(&self) -> (f64, f64) {
        let mut clients: Vec<&Client> = self.clients.iter().filter(|c| c.jobs > 0).collect();
        clients.sort_by_key(|client| client.jobs);
        let half = clients.iter().take(clients.len().div_ceil(2));
        let of_half = half.map(|client| client.longest_wait).max();
        let of_first = clients.first().map(|client| client.longest_wait);
        let seconds = |ms: Option<Ms>| ms.unwrap_or_default() as f64 / 1000.0;
        (seconds(of_half), seconds(of_first))
    }

    /// The wait of jobs in seconds: mean, median, 99 of 100, longest.
    pub(crate) fn waits(&self) -> [f64; 4] {
        let Some(waits) = &self.waits else {
            return [0.0; 4];
        };
        let at = |part| waits.value_at_quantile(part) as f64 / 1000.0;
        [waits.mean() / 1000.0, at(0.5), at(0.99), at(1.0)]
    }
}

/// Jain's index of numbers that come one by one.
#[derive(Debug, Default)]
struct Jain {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Jain {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn value(&self) -> f64 {
        match self.squares > 0.0 {
            true => self.sum * self.sum / (self.count * self.squares),
            false => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    #[test]
    fn only_clients_that_want_more_all_the_time_are_compared() {
        let mut shares = Shares::new(3);
        // Two want two slots each all day and get one and two; the third comes and is served at once.
        shares.advance(SPAN - 1);
        for client in [0, 0, 0, 1, 1, 1] {
            shares.queued(client);
        }
        shares.started(0, SPAN - 1, 0, SPAN);
        shares.started(1, SPAN - 1, 0, SPAN);
        shares.started(1, SPAN - 1, 0, SPAN);
        shares.advance(SPAN + 1);
        shares.queued(2);
        shares.started(2, SPAN + 1, 0, SPAN);
        shares.advance(2 * SPAN);
        assert_eq!(shares.jain_of_share(), 9.0 / (2.0 * 5.0));
    }
}

//! What a worker really has cached: the hints it used last, as many as there is room for.

/// The hints of one worker, the one used last at the end.
#[derive(Debug)]
pub(crate) struct Cache {
    room: usize,
    hints: Vec<u32>,
}

impl Cache {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            hints: Vec::new(),
        }
    }

    pub(crate) fn has(&self, hint: u32) -> bool {
        self.hints.contains(&hint)
    }

    /// The hint was used; the one not used for longest may have to go.
    pub(crate) fn use_now(&mut self, hint: u32) {
        match self.hints.iter().position(|known| *known == hint) {
            Some(at) => drop(self.hints.remove(at)),
            None if self.hints.len() >= self.room => drop(self.hints.remove(0)),
            None => {}
        }
        self.hints.push(hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut cache = Cache::new(2);
        for hint in [1, 2, 1, 3] {
            cache.use_now(hint);
        }
        assert_eq!(
            [cache.has(1), cache.has(2), cache.has(3)],
            [true, false, true]
        );
    }
}

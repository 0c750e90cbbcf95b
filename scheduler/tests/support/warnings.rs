//! What a scheduler inside the test complains about: upstream's tests fail on any warning, and so do their twins here.
//!
//! Only the vat thread is listened to, which is the test's own.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Collects warnings and errors of the current thread until it is dropped.
pub(crate) struct Warnings {
    heard: Arc<Mutex<Vec<String>>>,
    _listening: tracing::subscriber::DefaultGuard,
}

impl Warnings {
    /// Begins to listen.
    pub(crate) fn listen() -> Self {
        let heard = Arc::default();
        let listener = Listener(Arc::clone(&heard));
        Self {
            heard,
            _listening: tracing::subscriber::set_default(listener),
        }
    }

    /// What was heard so far, without the fields.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

struct Listener(Arc<Mutex<Vec<String>>>);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        self.0.lock().unwrap().push(message.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

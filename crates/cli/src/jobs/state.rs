//! The states of a job, by the names which go over the wire and which people see.

use std::fmt;

use clap::builder::PossibleValue;

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// It ended well.
    Passed,
    /// It ended badly.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It was stopped at a time limit.
    TimedOut,
    /// Nobody knows how it ended.
    Lost,
    /// Some other way of having ended, which a newer scheduler knows.
    Other(String),
}

impl JobState {
    /// Those with a name of their own, in the order of a job's life.
    const NAMED: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Passed,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
        Self::Lost,
    ];

    /// The state of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        Self::NAMED
            .into_iter()
            .find(|state| state.name() == name)
            .unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    /// Its name, as in `timed-out`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::Lost => "lost",
            Self::Other(name) => name,
        }
    }

    /// Whether the job is over, whatever the way.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// What to say of a job in this state: "Job j12 ...".
    #[must_use]
    pub fn verb(&self) -> &str {
        match self {
            Self::Queued => "is queued",
            Self::Running => "is running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Cancelled => "was cancelled",
            Self::TimedOut => "timed out",
            Self::Lost => "was lost",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The values of an option that takes a state.
impl clap::ValueEnum for JobState {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::NAMED
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Other(_) => None,
            named => {
                let place = Self::NAMED.iter().position(|other| other == named)?;
                NAMES.get(place).map(|name| PossibleValue::new(*name))
            }
        }
    }
}

/// [`JobState::NAMED`] in words that live for ever, which is what clap asks for.
const NAMES: [&str; 7] = [
    "queued",
    "running",
    "passed",
    "failed",
    "cancelled",
    "timed-out",
    "lost",
];

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn names_read_back() {
        for (state, name) in JobState::NAMED.iter().zip(NAMES) {
            assert_eq!(state.name(), name);
            assert_eq!(&JobState::of_name(name), state);
            assert_eq!(&JobState::from_str(name, false).unwrap(), state);
        }
    }

    #[test]
    fn a_state_of_the_future_is_an_end_and_keeps_its_name() {
        let state = JobState::of_name("expired");
        assert!(state.is_ended());
        assert_eq!(state.to_string(), "expired");
    }
}

//! Which jobs take more slots than others.

use clap::Args;

use crate::weights::{Weight, Weights};

#[derive(Clone, Debug, Args)]
pub(super) struct WeightArgs {
    /// Jobs whose cache hint matches PATTERN take this many slots instead of one. May be given more than once: the first match counts.
    #[arg(long = "weight", value_name = "PATTERN=SLOTS")]
    weights: Vec<Weight>,
}

impl WeightArgs {
    /// The weights, in the order given.
    pub(super) fn weights(&self) -> Weights {
        self.weights.iter().cloned().collect()
    }

    /// Sees to it that a worker with this many slots can keep to the weights.
    ///
    /// # Errors
    /// A sentence about the first that it cannot.
    pub(super) fn fit(&self, capacity: u32) -> Result<(), String> {
        match self.weights().beyond(capacity) {
            None => Ok(()),
            Some(weight) => Err(format!(
                "--weight={weight} asks for more slots than this worker has: raise --capacity, which is {capacity}, or lower the weight"
            )),
        }
    }
}

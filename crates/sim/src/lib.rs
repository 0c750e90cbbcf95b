//! Whole clusters under simulated time and network: the real scheduler, workers and clients on simulated hosts, where everything that can
//! go wrong does, and a checker that holds what happened against what was promised.
//!
//! One seed gives one history, so that whatever was seen once can be looked at again. Layout: [`plan`] makes a cluster and its fate out of
//! a seed, [`faults`] says what can go wrong; [`network`], [`clock`], [`disk`] and [`determinism`] are what the programs run on;
//! [`hosts`] starts them there; [`work`] is what their jobs do; [`history`] is what was seen from outside, [`check`] and [`read_log`] hold it
//! against the promises; [`cluster`] runs one seed and [`many`] a number of them, each in a process of its own.
//!
//! For development only: nothing here may be a dependency of a program.

pub mod args;
pub mod check;
pub mod clock;
pub mod cluster;
pub mod determinism;
pub mod disk;
pub mod faults;
pub mod history;
pub mod hosts;
pub mod many;
pub mod network;
pub mod plan;
pub mod read_log;
pub mod work;

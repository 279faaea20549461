//! The build: executes the steps of a plan.

pub mod copy;
pub mod users;

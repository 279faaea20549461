//! The build: executes the steps of a plan.

pub mod add;
pub mod copy;
pub mod users;

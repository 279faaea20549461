//! The Dockerfile language, row by row: COVERAGE.md says which test shows what.

mod add;
mod checks;
mod copy;
mod corpus;
mod coverage;
mod differential;
mod errors;
mod expectation;
mod fetching;
mod inputs;
mod language;
mod mounts;
mod mounts_bind;
mod mounts_cache;
mod mounts_ssh;
mod platforms;
mod run;

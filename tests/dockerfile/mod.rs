//! The Dockerfile language, row by row: COVERAGE.md says which test shows what.

mod add;
mod copy;
mod corpus;
mod coverage;
mod differential;
mod expectation;
mod mounts;
mod mounts_bind;
mod mounts_cache;
mod platforms;
mod run;

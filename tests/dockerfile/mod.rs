//! The Dockerfile language, row by row: COVERAGE.md says which test shows what.

mod copy;
mod coverage;
mod run;

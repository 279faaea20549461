//! Conformance of `sandcrab-oci`: the runtime specification and runc's command line, from outside.
//!
//! One module for each feature; COVERAGE.md says which test covers what. Must not reach into the
//! libraries. `SANDCRAB_TEST_RUNTIME` names another runtime to be tested: runc and crun are what
//! shows that the tests are right. Where those differ, [`harness::differs`] says how.
#![cfg(test)]

mod cgroups;
mod coverage;
mod devices;
mod harness;
mod hooks;
mod idmap;
mod mounts;
mod namespaces;
mod peers;
mod process;
mod robustness;
mod seccomp;
mod verbs;

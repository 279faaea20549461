//! The black-box tests: every promise of the programs, through their command lines, as root, as a
//! user with subordinate ids, and as one without.
//!
//! One module for each feature. Must not reach into the libraries.
#![cfg(test)]

mod add;
mod attest;
mod cache;
mod compare;
mod compression;
mod context;
mod crash;
mod digests;
mod dockerfile;
mod dockerignore;
mod errors;
mod estargz;
mod identity;
mod instructions;
mod interop;
mod layers;
mod output;
mod overlap;
mod parallel;
mod progress;
mod random;
mod registry;
mod sandbox;
mod store;

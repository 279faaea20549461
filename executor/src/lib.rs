//! The builder of sandcrab: from a Dockerfile to an image.
//!
//! A library, so that its parts can be tested alone; the programs are `sandcrab` and `executor`.
//! Only `cli` and `progress` print, and only `cli` and `config` read the environment.

#![forbid(unsafe_code)]

pub mod attest;
pub mod build;
pub mod cache;
pub mod cancel;
pub mod cli;
pub mod config;
pub mod context;
pub mod diagnostics;
pub mod dockerfile;
pub mod error;
pub mod image;
pub mod layer;
pub mod output;
pub mod plan;
pub mod progress;
pub mod redact;
pub mod registry;
pub mod store;

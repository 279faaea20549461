//! Attestations: what a build says about the image that it made.
//!
//! Responsible for the documents: provenance (SLSA) and SBOM (SPDX), as in-toto statements, and for the image-like
//! manifest that carries them (BuildKit, docs/attestations). Must not run or fetch anything: the
//! facts are handed in. Invariants: no secret's value is in a document, and the same facts give the
//! same bytes.

pub mod files;
pub mod options;
pub mod provenance;
pub mod purl;
pub mod record;
pub mod sbom;
pub mod statement;
mod steps;

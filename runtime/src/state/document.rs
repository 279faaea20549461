//! The state document (runtime.md, "State"), which `state` and `list` print and hooks read.
//!
//! Responsible for its shape and that of runc's additions. Invariant: the members and their order
//! are runc's (1.1.5), so that what reads one reads the other.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{Id, OCI_VERSION, Record, Status};

/// The state document of a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    /// The specification that this document follows.
    pub oci_version: &'static str,
    /// The container's name.
    pub id: &'a Id,
    /// The first process; 0 when there is none.
    pub pid: i32,
    /// What it does.
    pub status: Status,
    /// The bundle, absolute.
    pub bundle: &'a Path,
    /// The root file system, absolute; runc's addition.
    pub rootfs: &'a Path,
    /// When it was made; runc's addition.
    pub created: &'a str,
    /// The configuration's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
    /// Name of who made it; runc's addition, empty except in `list`.
    pub owner: String,
}

/// Makes the document that says what `record` and `status` say.
pub fn document(record: &Record, status: Status) -> Document<'_> {
    Document {
        oci_version: OCI_VERSION,
        id: &record.id,
        pid: record.pid(status).unwrap_or(0),
        status,
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        created: &record.created,
        annotations: &record.annotations,
        owner: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn members_are_those_of_runc() {
        let mut record = record("x");
        "2026-01-02T03:04:05.000000006Z".clone_into(&mut record.created);
        record.annotations.insert("a".into(), "b".into());
        let text = serde_json::to_string(&document(&record, Status::Stopped)).expect("write");
        assert_eq!(
            text,
            concat!(
                r#"{"ociVersion":"1.3.0","id":"x","pid":0,"status":"stopped","bundle":"/b","#,
                r#""rootfs":"/b/rootfs","created":"2026-01-02T03:04:05.000000006Z","#,
                r#""annotations":{"a":"b"},"owner":""}"#
            )
        );
    }
}

//! Provenance: from what, by whom and how an image was made.
//!
//! Responsible for the predicate (slsa.dev/spec/v1.1/provenance), with the fields and extensions that
//! BuildKit documents (docs/attestations/slsa-definitions.md). Must not know where it goes. Invariant:
//! arguments and labels are in no provenance with `mode=min`, values of secrets in none.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::options::{Mode, ProvenanceOptions};
use super::record::{Material, Record};
use super::statement::Predicate;
use super::steps;
use crate::context::Origin;
use crate::image::digest::Digest;
use crate::image::platform::Platform;
use crate::plan::step::{MountKind, Op};

/// The predicate's type.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";

/// What the fields of a build's definition mean: what BuildKit says that they do.
const BUILD_TYPE: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// Who builds, unless the user says it.
const BUILDER: &str = concat!("pkg:generic/sandcrab@", env!("CARGO_PKG_VERSION"));

/// What was asked for; the same for all platforms.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// What the context was fetched from.
    pub context: Option<Origin>,
    /// What the Dockerfile was fetched from, if that was not the context.
    pub dockerfile: Option<Origin>,
    /// The Dockerfile's name.
    pub path: String,
    /// Its text.
    pub text: Vec<u8>,
    /// Options by the names that BuildKit has for them.
    pub args: BTreeMap<String, String>,
    /// Which of the caller's files were used, by the names that BuildKit has for them.
    pub locals: Vec<String>,
    /// When it began (RFC 3339).
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// The invocation's own name, if it has one; else it is made of what was built.
    pub id: Option<String>,
}

/// Makes the provenance of an image. `hide` takes what is secret out of a text.
pub fn predicate(
    options: &ProvenanceOptions,
    invocation: &Invocation,
    record: &Record,
    hide: &dyn Fn(&str) -> String,
) -> Value {
    let is_max = options.mode == Mode::Max;
    let mut internal = json!({ "builderPlatform": Platform::host().to_string() });
    let mut metadata = json!({
        "invocationId": invocation.name(),
        "startedOn": invocation.started,
        "finishedOn": invocation.finished,
        "buildkit_hermetic": !record.steps().any(|step| step.online),
        "buildkit_completeness": {
            "request": is_max || !invocation.args.keys().any(|key| is_private(key)),
            "resolvedDependencies": invocation.locals.is_empty(),
        },
        "buildkit_reproducible": options.reproducible,
    });
    let mut request = json!({
        "frontend": "dockerfile.v0",
        "args": invocation.args(options.mode),
        "locals": names(&invocation.locals),
    });
    strings(&mut request["args"], hide);
    if is_max {
        let graph = steps::graph(record, &invocation.text);
        internal["buildConfig"] = graph.config;
        strings(&mut internal["buildConfig"], hide);
        metadata["buildkit_metadata"] = json!({
            "source": {
                "locations": graph.locations,
                "infos": [{
                    "filename": invocation.path,
                    "language": "Dockerfile",
                    "data": STANDARD.encode(hide_in_bytes(&invocation.text, hide)),
                }],
            },
            "layers": graph.layers,
        });
        let (secrets, ssh) = used(record);
        request["secrets"] = secrets;
        request["ssh"] = ssh;
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "configSource": invocation.source(),
                "request": request,
            },
            "internalParameters": internal,
            "resolvedDependencies": invocation.materials(record),
        },
        "runDetails": {
            "builder": { "id": options.builder_id.as_deref().unwrap_or(BUILDER) },
            "metadata": metadata,
        },
    })
}

/// Makes a document of a provenance.
pub fn document(options: &ProvenanceOptions, body: &Value) -> Predicate {
    Predicate {
        kind: PREDICATE,
        file: options.file.clone(),
        inline_only: options.inline_only,
        body: serde_json::value::to_raw_value(body).expect("values have string keys only"),
    }
}

/// Changes all strings in a value.
fn strings(value: &mut Value, change: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| strings(item, change)),
        Value::Object(fields) => fields.values_mut().for_each(|field| strings(field, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn hide_in_bytes(bytes: &[u8], hide: &dyn Fn(&str) -> String) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => hide(text).into_bytes(),
        Err(_) => hide(&String::from_utf8_lossy(bytes)).into_bytes(),
    }
}

/// Tells whether an option's value is for `mode=max` only.
fn is_private(key: &str) -> bool {
    key.starts_with("build-arg:") || key.starts_with("label:")
}

fn names(names: &[String]) -> Value {
    names.iter().map(|name| json!({ "name": name })).collect()
}

/// Lists the secrets and agents that steps could use, by id.
fn used(record: &Record) -> (Value, Value) {
    let (mut secrets, mut ssh) = (BTreeMap::new(), BTreeMap::new());
    let note = |into: &mut BTreeMap<String, bool>, id: &str, required: bool| {
        *into.entry(id.to_owned()).or_default() |= required;
    };
    for step in record.steps() {
        let Op::Run(run) = &step.op else { continue };
        for mount in &run.mounts {
            match &mount.kind {
                MountKind::Secret(secret) => note(&mut secrets, &secret.id, secret.required),
                MountKind::Ssh(agent) => note(&mut ssh, &agent.id, agent.required),
                _ => {}
            }
        }
    }
    let list = |all: BTreeMap<String, bool>| {
        let entry = |(id, required): (String, bool)| {
            let mut entry = Map::from_iter([("id".to_owned(), Value::String(id))]);
            if !required {
                entry.insert("optional".to_owned(), true.into());
            }
            Value::Object(entry)
        };
        all.into_iter().map(entry).collect()
    };
    (list(secrets), list(ssh))
}

impl Invocation {
    fn args(&self, mode: Mode) -> Value {
        let args = self.args.iter();
        let told = args.filter(|(key, _)| mode == Mode::Max || !is_private(key));
        told.map(|(key, value)| (key.clone(), Value::String(value.clone())))
            .collect()
    }

    fn source(&self) -> Value {
        let mut source = json!({ "path": self.path });
        if let Some(origin) = self.dockerfile.as_ref().or(self.context.as_ref()) {
            let material = Material::from(origin);
            source["uri"] = material.uri.into();
            source["digest"] = json!({ material.algorithm: material.digest });
        }
        source
    }

    fn materials(&self, record: &Record) -> Value {
        let own = [&self.context, &self.dockerfile];
        let own = own.into_iter().flatten().map(Material::from);
        let all: BTreeSet<Material> = own.chain(record.materials.iter().cloned()).collect();
        let list = all.into_iter().map(|material| {
            json!({ "uri": material.uri, "digest": { material.algorithm: material.digest } })
        });
        list.collect()
    }

    /// Returns the invocation's name. One that has to be the same each time tells no argument, not even
    /// to who tries all.
    fn name(&self) -> String {
        let Some(id) = &self.id else {
            let known = json!([self.args(Mode::Min), self.source(), self.started]);
            let text = [&self.text[..], known.to_string().as_bytes()].concat();
            return Digest::of(&text).hex()[..32].to_owned();
        };
        id.clone()
    }
}

#[cfg(test)]
#[path = "provenance_tests.rs"]
mod tests;

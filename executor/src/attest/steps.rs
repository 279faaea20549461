//! The steps of a build as a graph, for a provenance that tells all.
//!
//! Responsible for describing steps in the words of BuildKit's LLB (solver/pb/ops.proto), as far as they
//! have one, and for where each is in the Dockerfile. Must not decide what may be told. Invariant: a step
//! comes after those that it needs.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::record::{Record, Stage, Start, Step};
use crate::image::manifest::Descriptor;
use crate::plan::step::{Copy, CopyFrom, CopySourceKind, MountKind, Op, Run, Sharing, StageIndex};
use crate::redact;

// Numbers of LLB's enumerations MountType, NetMode and SecurityMode.
const SECRET: u8 = 1;
const SSH: u8 = 2;
const CACHE: u8 = 3;
const TMPFS: u8 = 4;
const NO_NETWORK: u8 = 2;
const INSECURE: u8 = 1;

/// A described graph.
#[derive(Debug)]
pub(super) struct Graph {
    /// The steps (`buildConfig`).
    pub(super) config: Value,
    /// Their places in the Dockerfile.
    pub(super) locations: Value,
    /// The layers that each has under it.
    pub(super) layers: Value,
}

/// Describes what a build did.
pub(super) fn graph(record: &Record, text: &[u8]) -> Graph {
    let mut writer = Writer {
        record,
        text,
        steps: Vec::new(),
        mapping: Map::new(),
        locations: Map::new(),
        layers: Map::new(),
        sources: BTreeMap::new(),
        ends: BTreeMap::new(),
    };
    for (index, stage) in &record.stages {
        writer.stage(*index, stage);
    }
    Graph {
        config: json!({
            "llbDefinition": writer.steps,
            "digestMapping": writer.mapping,
        }),
        locations: Value::Object(writer.locations),
        layers: Value::Object(writer.layers),
    }
}

/// The result of a step, as another names it.
type Input = String;

struct Writer<'a> {
    record: &'a Record,
    text: &'a [u8],
    steps: Vec<Value>,
    mapping: Map<String, Value>,
    locations: Map<String, Value>,
    layers: Map<String, Value>,
    /// What is taken from elsewhere, by its identifier.
    sources: BTreeMap<String, Input>,
    /// The last step of each stage; nothing for an empty one.
    ends: BTreeMap<StageIndex, Option<Input>>,
}

impl Writer<'_> {
    fn stage(&mut self, index: StageIndex, stage: &Stage) {
        let mut end = match &stage.start {
            Start::Scratch => None,
            Start::Stage(below) => self.ends.get(below).cloned().flatten(),
            Start::Image(name, digest) => {
                let input = self.source(format!("docker-image://{name}@{digest}"));
                self.chain(&input, &stage.layers);
                Some(input)
            }
        };
        for step in &stage.steps {
            let (op, inputs) = self.op(step, end.as_ref());
            let platform = json!({
                "OS": stage.platform.os,
                "Architecture": stage.platform.architecture,
            });
            let input = self.push(json!({ "Op": op, "platform": platform }), &inputs);
            self.mapping.insert(step.key.to_string(), id(&input).into());
            let (first, last) = (self.line(step.span.start), self.last_line(step.span.end));
            self.locations.insert(
                id(&input).to_owned(),
                json!({ "locations": [{ "ranges": [
                    { "start": { "line": first }, "end": { "line": last } }
                ] }] }),
            );
            self.chain(&input, &step.layers);
            end = Some(input);
        }
        self.ends.insert(index, end);
    }

    fn push(&mut self, op: Value, inputs: &[Input]) -> Input {
        let id = format!("step{}", self.steps.len());
        let mut step = json!({ "id": id, "op": op });
        if !inputs.is_empty() {
            step["inputs"] = inputs.into();
        }
        self.steps.push(step);
        format!("{id}:0")
    }

    fn source(&mut self, identifier: String) -> Input {
        if let Some(known) = self.sources.get(&identifier) {
            return known.clone();
        }
        let op = json!({ "Op": { "source": { "identifier": identifier } } });
        let input = self.push(op, &[]);
        self.sources.insert(identifier, input.clone());
        input
    }

    fn chain(&mut self, input: &Input, layers: &[Descriptor]) {
        if !layers.is_empty() {
            let layers: Vec<Value> = layers
                .iter()
                .map(|l| json!({ "mediaType": l.media_type, "digest": l.digest, "size": l.size }))
                .collect();
            self.layers.insert(input.clone(), json!([layers]));
        }
    }

    /// Returns the line of a place in the Dockerfile, from 1.
    fn line(&self, at: usize) -> usize {
        let before = &self.text[..at.min(self.text.len())];
        1 + before.iter().filter(|b| **b == b'\n').count()
    }

    /// Returns the line of the last character before a place.
    fn last_line(&self, end: usize) -> usize {
        let before = &self.text[..end.min(self.text.len())];
        self.line(before.strip_suffix(b"\n").unwrap_or(before).len())
    }

    /// Describes what a step does, and returns what it needs.
    fn op(&mut self, step: &Step, below: Option<&Input>) -> (Value, Vec<Input>) {
        let mut inputs: Vec<Input> = below.into_iter().cloned().collect();
        let op = match &step.op {
            Op::Config => json!({}),
            Op::Workdir { path, .. } => file(
                below,
                [json!({ "mkdir": { "path": path, "mode": 0o755, "makeParents": true } })],
                &[],
            ),
            Op::Copy(copy) => {
                let (actions, secondary) = self.copy(copy, &mut inputs);
                file(below, actions, &secondary)
            }
            Op::Run(run) => self.run(run, step.online, below, &mut inputs),
        };
        (op, inputs)
    }

    /// Returns the place of an input among those of a step.
    fn input(&mut self, from: &CopyFrom, inputs: &mut Vec<Input>) -> Option<usize> {
        let input = match from {
            CopyFrom::Context => self.source("local://context".to_owned()),
            CopyFrom::Named(name) => self.source(format!("local://{name}")),
            CopyFrom::Stage(index) => self.ends.get(index).cloned().flatten()?,
            CopyFrom::Image(reference) => {
                let name = reference.to_string();
                let digest = self.record.images.get(&name);
                let digest = digest.map_or_else(String::new, |digest| format!("@{digest}"));
                self.source(format!("docker-image://{name}{digest}"))
            }
        };
        if let Some(at) = inputs.iter().position(|known| *known == input) {
            return Some(at);
        }
        inputs.push(input);
        Some(inputs.len() - 1)
    }

    /// Describes a copy's sources one by one; each has the place of what it is copied from.
    fn copy(&mut self, copy: &Copy, inputs: &mut Vec<Input>) -> (Vec<Value>, Vec<Option<usize>>) {
        let (mut actions, mut secondary) = (Vec::new(), Vec::new());
        for source in &copy.sources {
            let (action, from) = match &source.kind {
                CopySourceKind::File { name, content } => {
                    let path = match copy.dest.ends_with('/') {
                        true => format!("{}{name}", copy.dest),
                        false => copy.dest.clone(),
                    };
                    let data = STANDARD.encode(content);
                    let action = json!({ "mkfile": { "path": path, "mode": 0o644, "data": data } });
                    (action, None)
                }
                CopySourceKind::Word(word) => {
                    let address = copy.add && (word.contains("://") || word.starts_with("git@"));
                    let from = if address {
                        let input = self.source(redact::text(word));
                        inputs.push(input);
                        Some(inputs.len() - 1)
                    } else {
                        self.input(&copy.from, inputs)
                    };
                    let src = if address {
                        "/".to_owned()
                    } else {
                        word.clone()
                    };
                    let mut action = json!({ "src": src, "dest": copy.dest });
                    if let Some(owner) = &copy.chown {
                        action["owner"] = owner.as_str().into();
                    }
                    if !copy.exclude.is_empty() {
                        action["excludePatterns"] = copy.exclude.clone().into();
                    }
                    (json!({ "copy": action }), from)
                }
            };
            actions.push(action);
            secondary.push(from);
        }
        (actions, secondary)
    }

    fn run(
        &mut self,
        run: &Run,
        online: bool,
        below: Option<&Input>,
        inputs: &mut Vec<Input>,
    ) -> Value {
        let root = if below.is_some() { 0 } else { -1 };
        let mut mounts = vec![json!({ "input": root, "dest": "/", "output": 0 })];
        let mut secret_env = Vec::new();
        for mount in &run.mounts {
            match &mount.kind {
                MountKind::Script { .. } => {}
                MountKind::Tmpfs { target, .. } => {
                    mounts.push(json!({ "input": -1, "dest": target, "mountType": TMPFS }));
                }
                MountKind::Bind(bind) => {
                    let from = self.input(&bind.from, inputs);
                    mounts.push(json!({
                        "input": place(from),
                        "selector": bind.source,
                        "dest": bind.target,
                        "readonly": bind.read_only,
                    }));
                }
                MountKind::Cache(cache) => {
                    let from = cache
                        .from
                        .as_ref()
                        .and_then(|from| self.input(from, inputs));
                    let sharing = match cache.sharing {
                        Sharing::Shared => 0,
                        Sharing::Private => 1,
                        Sharing::Locked => 2,
                    };
                    mounts.push(json!({
                        "input": place(from),
                        "dest": cache.target,
                        "mountType": CACHE,
                        "cacheOpt": { "ID": cache.id, "sharing": sharing },
                    }));
                }
                MountKind::Secret(secret) => {
                    let optional = !secret.required;
                    if let Some(target) = &secret.target {
                        mounts.push(json!({
                            "input": -1,
                            "dest": target,
                            "mountType": SECRET,
                            "secretOpt": { "ID": secret.id, "optional": optional },
                        }));
                    }
                    if let Some(name) = &secret.env {
                        secret_env
                            .push(json!({ "ID": secret.id, "name": name, "optional": optional }));
                    }
                }
                MountKind::Ssh(agent) => mounts.push(json!({
                    "input": -1,
                    "dest": agent.target,
                    "mountType": SSH,
                    "SSHOpt": { "ID": agent.id, "optional": !agent.required },
                })),
            }
        }
        let env: Vec<&str> = run.env.entries().collect();
        let mut meta = json!({ "args": run.argv, "env": env, "cwd": run.cwd });
        if !run.user.is_empty() {
            meta["user"] = run.user.as_str().into();
        }
        let mut exec = json!({ "meta": meta, "mounts": mounts });
        if !online {
            exec["network"] = NO_NETWORK.into();
        }
        if run.insecure {
            exec["security"] = INSECURE.into();
        }
        if !secret_env.is_empty() {
            exec["secretenv"] = secret_env.into();
        }
        json!({ "exec": exec })
    }
}

/// Returns the step of a result's name.
fn id(input: &str) -> &str {
    input.split(':').next().unwrap_or(input)
}

/// Writes the place of an input; what is none is -1.
fn place(input: Option<usize>) -> Value {
    input.map_or_else(|| json!(-1), |place| json!(place))
}

/// Describes a chain of changes to files.
fn file(
    below: Option<&Input>,
    actions: impl IntoIterator<Item = Value>,
    secondary: &[Option<usize>],
) -> Value {
    let actions: Vec<Value> = actions
        .into_iter()
        .enumerate()
        .map(|(n, action)| {
            json!({
                "Action": action,
                "input": if below.is_some() { 0 } else { -1 },
                "secondaryInput": place(secondary.get(n).copied().flatten()),
                "output": 0,
            })
        })
        .collect();
    json!({ "file": { "actions": actions } })
}

//! The raw display: one JSON object per line.
//!
//! Responsible for the shape that BuildKit's clients read (`client.SolveStatus`): vertexes,
//! statuses, logs and warnings, bytes in base64, times as RFC 3339. Invariant: each line is a
//! complete object, and a vertex has the same `digest` in all of them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;

use super::event::{Event, Stream, VertexId};
use super::{Display, Now, Summary};
use crate::image::digest::Digest;

/// See the module.
pub(super) struct RawJson {
    vertexes: BTreeMap<VertexId, State>,
}

struct State {
    digest: Digest,
    name: String,
    started: Timestamp,
    parts: BTreeMap<String, Timestamp>,
}

#[derive(Default, Serialize)]
struct SolveStatus<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    vertexes: Option<[Vertex<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statuses: Option<[Status<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<[Log<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[Warning<'a>; 1]>,
}

#[derive(Serialize)]
struct Vertex<'a> {
    digest: &'a Digest,
    name: &'a str,
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Status<'a> {
    id: &'a str,
    vertex: &'a Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    current: u64,
    timestamp: String,
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
}

#[derive(Serialize)]
struct Log<'a> {
    vertex: &'a Digest,
    stream: u8,
    data: String,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Warning<'a> {
    OfVertex {
        vertex: &'a Digest,
        level: u8,
        short: String,
    },
    /// About the Dockerfile.
    Finding(&'a serde_json::Value),
}

impl RawJson {
    pub(super) fn new() -> Self {
        Self {
            vertexes: BTreeMap::new(),
        }
    }

    fn end(
        &mut self,
        vertex: VertexId,
        now: Now,
        cached: bool,
        error: Option<&str>,
        out: &mut Vec<u8>,
    ) {
        let Some(state) = self.vertexes.remove(&vertex) else {
            return;
        };
        let completed = Some(now.wall.to_string());
        write(
            out,
            &SolveStatus {
                vertexes: Some([Vertex {
                    completed,
                    cached,
                    error,
                    ..state.vertex()
                }]),
                ..SolveStatus::default()
            },
        );
    }
}

impl State {
    fn vertex(&self) -> Vertex<'_> {
        Vertex {
            digest: &self.digest,
            name: &self.name,
            started: self.started.to_string(),
            completed: None,
            cached: false,
            error: None,
        }
    }
}

fn write(out: &mut Vec<u8>, status: &SolveStatus<'_>) {
    // Strings and numbers into memory: neither can go wrong.
    if serde_json::to_writer(&mut *out, status).is_ok() {
        out.push(b'\n');
    }
}

impl Display for RawJson {
    fn event(&mut self, event: Event, now: Now, out: &mut Vec<u8>) {
        match event {
            Event::Started { vertex, name } => {
                let state = State {
                    digest: Digest::of(format!("{vertex} {name}").as_bytes()),
                    name,
                    started: now.wall,
                    parts: BTreeMap::new(),
                };
                write(
                    out,
                    &SolveStatus {
                        vertexes: Some([state.vertex()]),
                        ..SolveStatus::default()
                    },
                );
                self.vertexes.insert(vertex, state);
            }
            Event::Log {
                vertex,
                stream,
                bytes,
            } => {
                let Some(state) = self.vertexes.get(&vertex) else {
                    return;
                };
                write(
                    out,
                    &SolveStatus {
                        logs: Some([Log {
                            vertex: &state.digest,
                            stream: match stream {
                                Stream::Stdout => 1,
                                Stream::Stderr => 2,
                            },
                            data: STANDARD.encode(bytes),
                            timestamp: now.wall.to_string(),
                        }]),
                        ..SolveStatus::default()
                    },
                );
            }
            Event::Status {
                vertex,
                id,
                current,
                total,
                complete,
            } => {
                let Some(state) = self.vertexes.get_mut(&vertex) else {
                    return;
                };
                let started = *state.parts.entry(id.clone()).or_insert(now.wall);
                let timestamp = now.wall.to_string();
                write(
                    out,
                    &SolveStatus {
                        statuses: Some([Status {
                            id: &id,
                            vertex: &state.digest,
                            total,
                            current,
                            completed: complete.then(|| timestamp.clone()),
                            timestamp,
                            started: started.to_string(),
                        }]),
                        ..SolveStatus::default()
                    },
                );
            }
            Event::Warning { vertex, message } => {
                let Some(state) = self.vertexes.get(&vertex) else {
                    return;
                };
                write(
                    out,
                    &SolveStatus {
                        warnings: Some([Warning::OfVertex {
                            vertex: &state.digest,
                            level: 1,
                            short: STANDARD.encode(message),
                        }]),
                        ..SolveStatus::default()
                    },
                );
            }
            Event::Finding { document } => write(
                out,
                &SolveStatus {
                    warnings: Some([Warning::Finding(&document)]),
                    ..SolveStatus::default()
                },
            ),
            // BuildKit's clients have no place for these.
            Event::Layer { .. } | Event::Result { .. } => {}
            Event::Cached { vertex } => self.end(vertex, now, true, None, out),
            Event::Done { vertex } => self.end(vertex, now, false, None, out),
            Event::Failed { vertex, message } => {
                self.end(vertex, now, false, Some(&message), out);
            }
            Event::Cancelled { vertex } => {
                self.end(vertex, now, false, Some("context canceled"), out);
            }
        }
    }

    fn tick(&mut self, _now: Now, _out: &mut Vec<u8>) {}

    fn finish(&mut self, _now: Now, _summary: &Summary, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

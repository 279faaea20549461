//! The raw display.

use super::*;

#[test]
fn objects_have_buildkits_shape() {
    let text = Script::new(json::RawJson::new())
        .started(3, "[1/1] RUN x")
        .at(1_000)
        .log(3, b"\xffhi")
        .status(3, "blob", 5, 10)
        .at(2_000)
        .status(3, "blob", 10, 10)
        .event(Event::Warning {
            vertex: 3,
            message: "w".into(),
        })
        .event(Event::Finding {
            document: serde_json::json!({"level": 1, "short": "Zg=="}),
        })
        .at(2_500)
        .failed(3, "exit code: 2")
        .finish(&["w"]);
    let digest = crate::image::digest::Digest::of(b"3 [1/1] RUN x");
    let started = "2024-01-01T00:00:00Z";
    let wanted = [
        serde_json::json!({"vertexes": [
            {"digest": digest, "name": "[1/1] RUN x", "started": started}]}),
        serde_json::json!({"logs": [
            {"vertex": digest, "stream": 1, "data": "/2hp", "timestamp": "2024-01-01T00:00:01Z"}]}),
        serde_json::json!({"statuses": [
            {"id": "blob", "vertex": digest, "total": 10, "current": 5,
             "timestamp": "2024-01-01T00:00:01Z", "started": "2024-01-01T00:00:01Z"}]}),
        serde_json::json!({"statuses": [
            {"id": "blob", "vertex": digest, "total": 10, "current": 10,
             "timestamp": "2024-01-01T00:00:02Z", "started": "2024-01-01T00:00:01Z",
             "completed": "2024-01-01T00:00:02Z"}]}),
        serde_json::json!({"warnings": [{"vertex": digest, "level": 1, "short": "dw=="}]}),
        serde_json::json!({"warnings": [{"level": 1, "short": "Zg=="}]}),
        serde_json::json!({"vertexes": [
            {"digest": digest, "name": "[1/1] RUN x", "started": started,
             "completed": "2024-01-01T00:00:02.5Z", "error": "exit code: 2"}]}),
    ];
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object"))
        .collect();
    assert_eq!(lines, wanted);
}

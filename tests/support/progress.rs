//! Reading plain progress.
//!
//! Responsible for turning lines such as `#7 [build 2/5] RUN make` and `#7 CACHED` back into steps.
//! Must not know what a step should have been.

use std::collections::BTreeMap;

/// What was said of one vertex.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vertex {
    /// What follows its number where it first appears.
    pub name: String,
    /// Whether its result was taken from the cache.
    pub cached: bool,
    /// Whether it ended well by work of its own.
    pub done: bool,
    /// All its other lines, without the number and the time.
    pub lines: Vec<String>,
}

impl Vertex {
    /// Whether it is an instruction that changes files: only those are in the cache.
    pub fn is_step(&self) -> bool {
        self.name.starts_with('[')
            && ["] RUN ", "] COPY ", "] ADD ", "] WORKDIR "]
                .iter()
                .any(|instruction| self.name.contains(instruction))
    }
}

/// Reads plain progress as `sandcrab build --progress=plain` prints it.
pub fn parse(text: &str) -> Vec<Vertex> {
    let mut vertices: BTreeMap<u32, Vertex> = BTreeMap::new();
    for line in text.lines() {
        let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let Ok(number) = number.parse::<u32>() else {
            continue;
        };
        let vertex = vertices.entry(number).or_default();
        if vertex.name.is_empty() {
            rest.clone_into(&mut vertex.name);
        } else if rest == vertex.name || rest == "..." {
            // The display leaves it for another one, and comes back to it.
        } else if rest == "CACHED" {
            vertex.cached = true;
        } else if rest.starts_with("DONE ") {
            vertex.done = true;
        } else {
            // `0.123 text`
            let text = match rest.split_once(' ') {
                Some((time, text)) if time.parse::<f64>().is_ok() => text,
                _ => rest,
            };
            vertex.lines.push(text.to_owned());
        }
    }
    vertices.into_values().collect()
}

/// Returns the steps of a plain log.
pub fn steps(text: &str) -> Vec<Vertex> {
    parse(text).into_iter().filter(Vertex::is_step).collect()
}

/// Expects that there are `count` steps and that all came from the cache.
///
/// # Panics
/// Otherwise.
#[track_caller]
pub fn assert_all_cached(text: &str, count: usize) {
    let steps = steps(text);
    assert_eq!(steps.len(), count, "number of steps:\n{text}");
    let missed: Vec<&str> = steps
        .iter()
        .filter(|step| !step.cached)
        .map(|step| step.name.as_str())
        .collect();
    assert!(missed.is_empty(), "not cached: {missed:#?}\n{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_become_vertices() {
        let text = "#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n\
                    #2 [build 1/2] FROM docker.io/library/debian:12\n#2 CACHED\n\n\
                    #3 [build 2/2] RUN make\n#3 0.210 cc -c x.c\n#3 0.310 CACHED\n#3 DONE 3.2s\n\n\
                    #4 [stage-1 1/1] COPY --from=build /a /b\n#4 CACHED\n";
        let steps = steps(text);
        assert_eq!(steps.len(), 2);
        assert!(!steps[0].cached && steps[0].done && steps[1].cached);
        assert_eq!(steps[0].lines, ["cc -c x.c", "CACHED"]);
    }
}

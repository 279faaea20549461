//! Variables in scope.
//!
//! Responsible for the order in which ENV and ARG hide each other: the later one wins, as in
//! BuildKit, and the ENV of a base wins anew in each stage that is built from it.

use crate::dockerfile::suggest;

/// Variables with their values, in the order in which they were first set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    list: Vec<(String, String)>,
}

impl Variables {
    /// Returns a variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Sets a variable; one that exists keeps its place.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.list.iter_mut().find(|(n, _)| *n == name) {
            Some(found) => found.1 = value,
            None => self.list.push((name, value)),
        }
    }

    /// Sets variables from `NAME=value`; without `=` the value is empty.
    pub fn extend_env<'a>(&mut self, env: impl IntoIterator<Item = &'a String>) {
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.set(name, value);
        }
    }

    /// Returns all of them as `NAME=value`.
    pub fn to_env(&self) -> Vec<String> {
        self.list
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// Returns the names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|(name, _)| name.as_str())
    }

    /// Returns a hint that names the variable that was probably meant.
    pub fn suggest(&self, name: &str) -> Option<String> {
        suggest::nearest(name, self.names()).map(|near| format!("did you mean `${near}`?"))
    }
}

/// What one stage knows: values for expansion and for RUN, and which ARGs were declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// ENV and ARG with a value.
    pub variables: Variables,
    /// Names of the ARGs declared so far, each once, in order; also those without a value.
    pub declared: Vec<String>,
}

impl Scope {
    /// Declares an ARG; one without a value hides nothing.
    pub fn declare(&mut self, name: &str, value: Option<&str>) {
        if !self.declared.iter().any(|n| n == name) {
            self.declared.push(name.to_owned());
        }
        if let Some(value) = value {
            self.variables.set(name, value);
        }
    }

    /// Returns `|N NAME=value … ` for the history of RUN; empty without ARGs.
    pub fn history_prefix(&self) -> String {
        if self.declared.is_empty() {
            return String::new();
        }
        let mut text = format!("|{} ", self.declared.len());
        for name in &self.declared {
            let value = self.variables.get(name).unwrap_or_default();
            text.push_str(&format!("{name}={value} "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_wins_and_keeps_its_place() {
        let mut scope = Scope::default();
        scope
            .variables
            .extend_env(&["A=1".to_owned(), "B=2=3".to_owned(), "C".to_owned()]);
        scope.declare("A", Some("4"));
        scope.declare("B", None);
        scope.declare("D", None);
        scope.declare("A", None);
        assert_eq!(scope.variables.to_env(), ["A=4", "B=2=3", "C="]);
        assert_eq!(scope.history_prefix(), "|3 A=4 B=2=3 D= ");
        assert_eq!(Scope::default().history_prefix(), "");
    }
}

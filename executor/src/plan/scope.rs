//! Variables in scope.
//!
//! Responsible for the order in which ENV and ARG hide each other: the later one wins, as in
//! BuildKit, and the ENV of a base wins anew in each stage that is built from it.

use std::fmt;
use std::sync::Arc;

use super::table::{Named, Table};
use crate::dockerfile::suggest;

/// One variable: `NAME=value`.
#[derive(Clone, PartialEq, Eq)]
struct Variable {
    text: Arc<str>,
    /// Length of the name.
    name: usize,
}

impl Named for Variable {
    fn name(&self) -> &str {
        &self.text[..self.name]
    }
}

impl Variable {
    fn value(&self) -> &str {
        self.text.get(self.name + 1..).unwrap_or_default()
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Variables with their values, in the order in which they were first set. A clone costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    table: Table<Variable>,
}

impl Variables {
    /// Returns a variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.table.get(name).map(Variable::value)
    }

    /// Sets a variable; one that exists keeps its place, which is returned.
    pub fn set(&mut self, name: &str, value: &str) -> usize {
        if let Some(at) = self.table.find(name)
            && self.table.at(at).value() == value
        {
            return at;
        }
        self.table.set(Variable {
            text: format!("{name}={value}").into(),
            name: name.len(),
        })
    }

    /// Sets variables from `NAME=value`; without `=` the value is empty.
    pub fn extend_env<'a>(&mut self, env: impl IntoIterator<Item = &'a str>) {
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.set(name, value);
        }
    }

    /// Takes the environment of an image, in which what has no `=` stays as it is.
    pub fn of_image(env: &[String]) -> Self {
        let mut table = Table::default();
        for entry in env {
            table.set(Variable {
                text: entry.as_str().into(),
                name: entry.find('=').unwrap_or(entry.len()),
            });
        }
        Self { table }
    }

    /// Returns all of them as `NAME=value`.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.table.iter().map(|variable| &*variable.text)
    }

    /// Returns names with values.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.table.iter();
        all.map(|variable| (variable.name(), variable.value()))
    }

    /// Returns a hint that names the variable that was probably meant.
    pub fn suggest(&self, name: &str) -> Option<String> {
        let names = self.table.iter().map(Variable::name);
        suggest::nearest(name, names).map(|near| format!("did you mean `${near}`?"))
    }
}

/// A declared ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    name: Arc<str>,
    /// Its place among the variables, once it is known.
    at: Option<usize>,
}

impl Named for Declared {
    fn name(&self) -> &str {
        &self.name
    }
}

/// What one stage knows: values for expansion and for RUN, and which ARGs were declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// ENV and ARG with a value.
    pub variables: Variables,
    /// The ARGs declared so far, each once, in order; also those without a value.
    declared: Table<Declared>,
}

impl Scope {
    /// Declares an ARG; one without a value hides nothing.
    pub fn declare(&mut self, name: &str, value: Option<&str>) {
        let at = match value {
            Some(value) => Some(self.variables.set(name, value)),
            None => self.variables.table.find(name),
        };
        if self.declared.get(name).is_none_or(|known| known.at != at) {
            let name = name.into();
            self.declared.set(Declared { name, at });
        }
    }

    /// Tells whether an ARG was declared.
    pub fn is_declared(&self, name: &str) -> bool {
        self.declared.find(name).is_some()
    }

    /// Returns `|N NAME=value … ` for the history of RUN; empty without ARGs.
    pub fn history_prefix(&self) -> String {
        let count = self.declared.len();
        if count == 0 {
            return String::new();
        }
        let mut text = format!("|{count} ");
        for Declared { name, at } in self.declared.iter() {
            let at = at.or_else(|| self.variables.table.find(name));
            match at {
                Some(at) => text.push_str(&self.variables.table.at(at).text),
                None => {
                    text.push_str(name);
                    text.push('=');
                }
            }
            text.push(' ');
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
        scope.variables.extend_env(["A=1", "B=2=3", "C"]);
        scope.declare("A", Some("4"));
        scope.declare("B", None);
        scope.declare("D", None);
        scope.declare("A", None);
        scope.declare("E", None);
        scope.variables.set("E", "5");
        let all: Vec<&str> = scope.variables.entries().collect();
        assert_eq!(all, ["A=4", "B=2=3", "C=", "E=5"]);
        assert_eq!(scope.history_prefix(), "|4 A=4 B=2=3 D= E=5 ");
        assert!(scope.is_declared("D") && !scope.is_declared("C"));
        assert_eq!(Scope::default().history_prefix(), "");
        let image = Variables::of_image(&["A=1".into(), "B".into()]);
        assert_eq!(image.entries().collect::<Vec<_>>(), ["A=1", "B"]);
        assert_eq!((image.get("A"), image.get("B")), (Some("1"), Some("")));
    }
}

//! Where a shared type or value lies in a document.

use std::sync::Arc;

/// One step down from a shared type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// An entry of a map.
    Key(Arc<str>),
    /// An element of a list.
    Index(u32),
}

/// The name of a root type and steps from there. Indexes count from 0 and mean the moment of use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    /// The root type's name.
    pub root: Arc<str>,
    /// The way down.
    pub steps: Vec<Step>,
}

impl Path {
    /// The root type of this name itself.
    pub fn root(name: &str) -> Self {
        Path { root: name.into(), steps: Vec::new() }
    }

    /// This path and a step further.
    pub fn join(&self, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Path { root: self.root.clone(), steps }
    }
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Step::Key(key.into())
    }
}

impl From<u32> for Step {
    fn from(index: u32) -> Self {
        Step::Index(index)
    }
}

/// What a shared type is used as. A counter is a map to Yjs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Y.Text.
    Text,
    /// Y.Array.
    List,
    /// Y.Map.
    Map,
}

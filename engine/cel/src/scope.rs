//! The names that an expression may use.

use std::collections::BTreeMap;

use crate::problem::closest;
use crate::types::Type;

/// Where a name's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Measured at every observation; the only kind that windows are made of.
    Signal,
    /// Set by the workload, with a default in the rule.
    Parameter,
    /// Computed by the rule, under `let`.
    Let,
}

/// The names that an expression may use, with their types.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    names: BTreeMap<String, (Type, Kind)>,
    of_one_queue: BTreeMap<String, Type>,
}

impl Scope {
    /// Declares a name. A later declaration replaces an earlier one.
    pub fn declare(&mut self, name: impl Into<String>, of: Type, kind: Kind) {
        self.names.insert(name.into(), (of, kind));
    }

    /// Takes a name away.
    pub(crate) fn forget(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Declares a signal that every queue has: `queues['any name'].NAME`.
    pub fn declare_of_one_queue(&mut self, name: impl Into<String>, of: Type) {
        self.of_one_queue.insert(name.into(), of);
    }

    /// What a dotted name is.
    pub fn get(&self, name: &str) -> Option<(Type, Kind)> {
        self.names.get(name).copied().or_else(|| {
            let field = name.strip_prefix("queues['")?.split_once("'].")?.1;
            self.of_one_queue.get(field).map(|of| (*of, Kind::Signal))
        })
    }

    /// What was probably meant by a name that nothing has.
    pub(crate) fn suggest(&self, name: &str) -> Option<String> {
        if let Some((queue, field)) = name.strip_prefix("queues['").and_then(|rest| rest.split_once("'].")) {
            let known = self.of_one_queue.keys().map(String::as_str);
            return match closest(field, known.clone()) {
                Some(meant) => Some(format!("did you mean `queues['{queue}'].{meant}`?")),
                None => Some(format!("a queue has {}", list(known))),
            };
        }
        if let Some(meant) = closest(name, self.names.keys().map(String::as_str)) {
            return Some(format!("did you mean `{meant}`?"));
        }
        let (group, _) = name.split_once('.').unwrap_or((name, ""));
        if group == "queues" {
            return Some("write `queues['name'].length`".into());
        }
        let members = self.names.keys().filter_map(|known| known.strip_prefix(group)?.strip_prefix('.'));
        let members: Vec<_> = members.collect();
        if members.is_empty() {
            // A name of one group may have been looked for in another: `length` for `queue.length`.
            let fields = self.names.keys().filter_map(|known| known.split_once('.').map(|(_, field)| field));
            let meant = closest(name, fields)?;
            let known = self.names.keys().find(|known| known.ends_with(&format!(".{meant}")));
            return known.map(|known| format!("did you mean `{known}`?"));
        }
        Some(format!("`{group}` has {}", list(members.into_iter())))
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.join(""),
    }
}

//! `resources` of a rule, checked.

use std::collections::BTreeMap;
use std::time::Duration;

use qscaler_cel::{Expression, Input, WindowFunction};

use super::{Policy, WindowKey};
use crate::vertical::{ContainerKind, Resource};

/// How large the containers are that this fits.
#[derive(Clone, Debug)]
pub struct Sizing {
    /// The container's name; none for every one.
    pub container: Option<String>,
    /// The kinds that it fits.
    pub kinds: Vec<ContainerKind>,
    /// Its values under `let`, each after those that it needs.
    pub lets: Vec<(String, Expression)>,
    /// Processor.
    pub cpu: Option<AmountRule>,
    /// Memory.
    pub memory: Option<AmountRule>,
    /// When a running worker gets new amounts.
    pub when: Option<Expression>,
    /// What its expressions are evaluated over.
    pub inputs: Vec<Input>,
}

/// How much of one resource.
#[derive(Clone, Debug)]
pub struct AmountRule {
    /// The request.
    pub request: Expression,
    /// The limit; the template's ratio without.
    pub limit: Option<Expression>,
    /// The floor after a kill for want of memory.
    pub on_oom: Option<Expression>,
    /// In which half of what that floor adds fades.
    pub oom_half_life: Duration,
    /// At least.
    pub min: Option<Expression>,
    /// At most.
    pub max: Option<Expression>,
}

/// Windows by slot of the inputs of whoever reads them, each with its further argument.
pub type Windows = BTreeMap<usize, (WindowKey, Option<f64>)>;

impl Sizing {
    /// How much of a resource.
    pub fn of(&self, resource: Resource) -> Option<&AmountRule> {
        match resource {
            Resource::Cpu => self.cpu.as_ref(),
            Resource::Memory => self.memory.as_ref(),
        }
    }

    fn fits(&self, name: &str, kind: ContainerKind) -> bool {
        self.container.as_ref().is_none_or(|wanted| wanted == name) && self.kinds.contains(&kind)
    }

    /// How long the longest of its windows is that forget all at once, in milliseconds: before it has
    /// been watched, what it says of the past is not yet known. Histograms say by weight how much they know.
    pub fn longest_window_ms(&self, windows: &Windows) -> u64 {
        let forgets = |(slot, (key, _)): (&usize, &(WindowKey, Option<f64>))| match self.inputs.get(*slot) {
            Some(Input::Window(window)) if window.function.is_decaying() => 0,
            Some(Input::Window(window)) if window.function == WindowFunction::MaxEver => 0,
            _ => key.length_ms,
        };
        windows.iter().map(forgets).max().unwrap_or(0)
    }
}

impl Policy {
    /// What the rule says of a container: the first entry that fits, and its windows.
    pub fn sizing(&self, name: &str, kind: ContainerKind) -> Option<(usize, &Sizing, &Windows)> {
        let fits = |sizing: &Sizing| sizing.fits(name, kind);
        let place = self.rule.sizings.iter().position(fits)?;
        Some((place, &self.rule.sizings[place], self.sizing_windows.get(place)?))
    }
}

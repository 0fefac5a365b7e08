//! Breadth-first search over all states: the first walk that breaks a promise is a shortest one.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::hash::{BuildHasherDefault, Hasher};

use super::moves::Move;
use super::setting::Setting;
use super::shared::digest;
use super::world::{Broken, World};

/// Beyond this a setting is too large to be explored whole, and that is a mistake in the setting.
const STATES_MAX: usize = 6_000_000;

/// What an exploration has come to.
pub(super) struct Found {
    pub(super) states: usize,
    /// The most moves that a state is away from the beginning.
    pub(super) depth: usize,
    pub(super) quiet: usize,
    pub(super) broken: Option<Violation>,
}

/// A promise that was broken, and the moves that led there.
pub(super) struct Violation {
    pub(super) what: String,
    pub(super) walk: Vec<Move>,
}

/// Digests are random already.
#[derive(Default)]
struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only digests are hashed");
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64;
    }
}

struct Search<'a> {
    setting: &'a Setting,
    places: HashMap<u128, u32, BuildHasherDefault<Low>>,
    /// For each state the one that it was first reached from, and by which of its moves.
    parents: Vec<(u32, u16)>,
    /// Moves between states that happen by themselves.
    progress: Vec<(u32, u32)>,
    quiet: Vec<u32>,
    open: VecDeque<(World, usize)>,
}

/// Explores a setting whole, or until a promise is broken.
pub(super) fn explore(setting: &Setting) -> Found {
    let mut search = Search {
        setting,
        places: HashMap::default(),
        parents: vec![],
        progress: vec![],
        quiet: vec![],
        open: VecDeque::new(),
    };
    let result = search.run();
    let (depth, broken) = match result {
        Ok(depth) => (depth, search.stuck()),
        Err(violation) => (violation.walk.len(), Some(violation)),
    };
    Found { states: search.parents.len(), depth, quiet: search.quiet.len(), broken }
}

impl Search<'_> {
    fn run(&mut self) -> Result<usize, Violation> {
        self.meet(World::new(self.setting), (0, 0), 0);
        let mut here = 0;
        let mut deepest = 0;
        while let Some((world, depth)) = self.open.pop_front() {
            deepest = depth;
            if let Err(Broken(what)) = world.check(self.setting) {
                return Err(Violation { what, walk: self.walk_to(here) });
            }
            if world.is_quiet(self.setting) {
                self.quiet.push(here);
            }
            for (number, made) in world.moves(self.setting).into_iter().enumerate() {
                let next = world.after(made, self.setting).map_err(|Broken(what)| {
                    let walk = [self.walk_to(here), vec![made]].concat();
                    Violation { what, walk }
                })?;
                let there = self.meet(next, (here, number as u16), depth + 1);
                if made.is_progress() && there != here {
                    self.progress.push((here, there));
                }
            }
            assert!(
                self.parents.len() < STATES_MAX,
                "`{}` is too large to be explored whole",
                self.setting.name
            );
            here += 1;
        }
        Ok(deepest)
    }

    /// The place of a state, which is visited later if it is new.
    fn meet(&mut self, world: World, from: (u32, u16), depth: usize) -> u32 {
        let fresh = self.parents.len() as u32;
        let place = *self.places.entry(digest(&world)).or_insert(fresh);
        if place == fresh {
            self.parents.push(from);
            self.open.push_back((world, depth));
        }
        place
    }

    fn walk_to(&self, state: u32) -> Vec<Move> {
        let mut numbers = vec![];
        let mut at = state;
        while at != 0 {
            let (parent, number) = self.parents[at as usize];
            numbers.push(number);
            at = parent;
        }
        let mut world = World::new(self.setting);
        let mut walk = vec![];
        for number in numbers.into_iter().rev() {
            let made = world.moves(self.setting)[number as usize];
            walk.push(made);
            match world.after(made, self.setting) {
                Ok(next) => world = next,
                Err(_) => break,
            }
        }
        walk
    }

    /// The first state from which nothing that happens by itself leads to a quiet one.
    fn stuck(&self) -> Option<Violation> {
        let count = self.parents.len();
        let mut first = vec![0_u32; count + 1];
        self.progress.iter().for_each(|(_, to)| first[*to as usize + 1] += 1);
        (0..count).for_each(|at| first[at + 1] += first[at]);
        let mut next = first.clone();
        let mut sources = vec![0_u32; self.progress.len()];
        for (from, to) in &self.progress {
            sources[next[*to as usize] as usize] = *from;
            next[*to as usize] += 1;
        }
        let mut calm = vec![false; count];
        let mut open = self.quiet.clone();
        for at in &open {
            calm[*at as usize] = true;
        }
        while let Some(at) = open.pop() {
            let into = first[at as usize] as usize..first[at as usize + 1] as usize;
            for from in &sources[into] {
                if !std::mem::replace(&mut calm[*from as usize], true) {
                    open.push(*from);
                }
            }
        }
        let stuck = calm.iter().position(|calm| !calm)?;
        let what = "no quiet state can be reached".to_owned();
        Some(Violation { what, walk: self.walk_to(stuck as u32) })
    }
}

/// The walk, a line for each move.
pub(super) fn tell(setting: &Setting, violation: &Violation) -> String {
    let mut text = format!("{} after {} moves:\n", violation.what, violation.walk.len());
    let mut world = World::new(setting);
    for made in &violation.walk {
        let _ = writeln!(text, "  {}", world.describe(*made));
        if let Ok(next) = world.after(*made, setting) {
            world = next;
        }
    }
    let _ = writeln!(text, "ledger {:?}\npath {:?}\nworkers", world.ledger, world.path);
    for worker in &world.workers {
        let _ = writeln!(text, "  {} {:?} {:?}", worker.id, worker.process, worker.life);
    }
    text
}

impl World {
    fn describe(&self, made: Move) -> String {
        match made {
            Move::Engine(place, super::moves::EngineMove::Act) => {
                format!("{made:?}: {:?}", self.engines[place].next())
            }
            Move::Engine(place, super::moves::EngineMove::Commit) => {
                format!("{made:?}: {:?}", self.engines[place])
            }
            Move::Worker(place, _) => format!("{} {made:?}", self.workers[place].id),
            _ => format!("{made:?}"),
        }
    }
}

//! A profile that was opened: what each function took, and by which way.
//!
//! Made once when it is opened and when another measure is looked at; drawing only cuts it to size.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use coral_model::num::f64_from;
use coral_proto::pprof::{Measure, Profile, TopRow, TreeRow};

use super::App;
use crate::layout::{PaneId, ViewId};

/// Branches that took less than this part of the whole would be thinner than any cell.
const LEAST: i64 = 1_000;
/// Branches kept.
const BRANCHES: usize = 20_000;
/// Functions kept.
const FUNCTIONS: usize = 2_000;

/// A branch of the tree, and where it stands.
#[derive(Clone, Debug)]
pub struct Branch {
    /// What it is and took.
    pub row: TreeRow,
    /// What stands before it on its level, in the profile's unit.
    pub from: i64,
    /// The branch it is part of.
    pub parent: Option<usize>,
}

/// A profile, laid out.
pub struct Flame {
    /// Its file.
    pub path: PathBuf,
    profile: Arc<Profile>,
    measure: usize,
    /// All that was measured.
    pub total: i64,
    /// Functions, those that took most by themselves first.
    pub top: Vec<TopRow>,
    /// Branches, each before what it called.
    pub branches: Vec<Branch>,
    /// Functions and branches too many to keep.
    pub left_out: usize,
}

impl Flame {
    /// Lays a profile out.
    #[must_use]
    pub fn new(path: PathBuf, profile: Arc<Profile>) -> Self {
        let measure = profile.default;
        let mut flame = Self {
            path,
            profile,
            measure,
            total: 0,
            top: Vec::new(),
            branches: Vec::new(),
            left_out: 0,
        };
        flame.lay_out();
        flame
    }

    fn lay_out(&mut self) {
        self.total = self.profile.total(self.measure);
        self.top = self.profile.top(self.measure);
        let mut rows = self.profile.tree(self.measure, (self.total / LEAST).max(1));
        self.left_out =
            self.top.len().saturating_sub(FUNCTIONS) + rows.len().saturating_sub(BRANCHES);
        self.top.truncate(FUNCTIONS);
        rows.truncate(BRANCHES);
        self.branches.clear();
        // The branch one is in on each level, and where its next part begins.
        let mut open: Vec<(usize, i64)> = Vec::new();
        let mut roots = 0;
        for (i, row) in rows.into_iter().enumerate() {
            open.truncate(row.depth);
            let parent = open.last().map(|(at, _)| *at);
            let next = open.last_mut().map_or(&mut roots, |(_, next)| next);
            let from = *next;
            *next = next.saturating_add(row.cumulative);
            open.push((i, from));
            self.branches.push(Branch { row, from, parent });
        }
    }

    /// What is shown.
    #[must_use]
    pub fn measure(&self) -> Option<&Measure> {
        self.profile.measures.get(self.measure)
    }

    /// Everything that was measured.
    #[must_use]
    pub fn measures(&self) -> &[Measure] {
        &self.profile.measures
    }

    /// Over how long, in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        self.profile.duration_ns
    }

    fn next_measure(&mut self) {
        self.measure = (self.measure + 1) % self.profile.measures.len().max(1);
        self.lay_out();
    }

    /// What was measured, as text.
    #[must_use]
    pub fn amount(&self, n: i64) -> String {
        self.measure().map_or_else(String::new, |measure| crate::open::profile::amount(n, measure))
    }

    /// Its share of everything.
    #[must_use]
    pub fn share(&self, n: i64) -> String {
        crate::open::profile::share(n, self.total)
    }

    /// A part of `whole`, 0..=1.
    #[must_use]
    pub fn part(n: i64, whole: i64) -> f64 {
        if whole <= 0 || n <= 0 {
            return 0.0;
        }
        (f64_from(n.unsigned_abs()) / f64_from(whole.unsigned_abs())).min(1.0)
    }

    /// A branch and what it called: they stand one after the other. Everything for `None`.
    #[must_use]
    pub fn within(&self, root: Option<usize>) -> Range<usize> {
        let Some(root) = root else { return 0..self.branches.len() };
        let Some(depth) = self.branches.get(root).map(|b| b.row.depth) else { return 0..0 };
        let below = self.branches.iter().skip(root + 1).take_while(|b| b.row.depth > depth);
        root..root + 1 + below.count()
    }
}

impl App {
    /// The branch everything shown is part of; `None` is the whole.
    #[must_use]
    pub fn flame_root(&self) -> Option<usize> {
        let n = self.flame.as_ref()?.branches.len();
        self.here.branch.filter(|i| *i < n)
    }

    /// The branch the cursor is on: the one that took most, unless another was chosen.
    #[must_use]
    pub fn flame_cursor(&self) -> usize {
        let n = self.flame.as_ref().map_or(0, |flame| flame.branches.len());
        let chosen = self.here.cursors.get(&PaneId::Profile).and_then(|key| key.parse().ok());
        chosen.filter(|i| *i < n).or_else(|| self.flame_root()).unwrap_or(0)
    }

    /// Moves through the branches: into what took most of this one, out of it, to those beside it.
    pub(super) fn step_flame(&mut self, rows: isize, columns: isize) {
        let Some(flame) = &self.flame else { return };
        let root = self.flame_root();
        let mut at = self.flame_cursor();
        for _ in 0..rows.unsigned_abs() {
            let next = if rows > 0 {
                Some(at + 1)
                    .filter(|i| flame.branches.get(*i).is_some_and(|b| b.parent == Some(at)))
            } else {
                flame.branches.get(at).and_then(|b| b.parent).filter(|_| Some(at) != root)
            };
            let Some(next) = next else { break };
            at = next;
        }
        if columns != 0
            && let Some(depth) = flame.branches.get(at).map(|b| b.row.depth)
        {
            let level = |i: &usize| flame.branches.get(*i).is_some_and(|b| b.row.depth == depth);
            let inside = flame.within(root);
            let next = if columns > 0 {
                (at + 1..inside.end).find(level)
            } else {
                (inside.start..at).rev().find(level)
            };
            at = next.unwrap_or(at);
        }
        self.here.cursors.insert(PaneId::Profile, at.to_string());
    }

    /// Gives the whole width to the branch the cursor is on.
    pub(super) fn enter_flame(&mut self) {
        if self.flame.is_some() {
            let at = self.flame_cursor();
            self.go(|here| {
                here.branch = Some(at);
                here.cursors.insert(PaneId::Profile, at.to_string());
            });
        }
    }

    /// Shows where a function took most.
    pub(super) fn enter_function(&mut self, row: usize) {
        let found = self.flame.as_ref().and_then(|flame| {
            let name = &self.functions().get(row)?.name;
            let all = flame.branches.iter().enumerate().filter(|(_, b)| b.row.name == *name);
            all.max_by_key(|(i, b)| (b.row.cumulative, std::cmp::Reverse(*i))).map(|(i, _)| i)
        });
        let Some(at) = found else {
            return self.say("no branch of it is wide enough to be drawn");
        };
        self.go(|here| {
            here.focus = PaneId::Profile;
            here.branch = None;
            here.zoom = false;
            here.cursors.insert(PaneId::Profile, at.to_string());
        });
    }

    /// The next of what was measured.
    pub(super) fn next_measure(&mut self) {
        let Some(flame) = &mut self.flame else {
            return self.say("no profile is open");
        };
        flame.next_measure();
        let name = flame.measure().map(|m| m.name.clone()).unwrap_or_default();
        self.here.branch = None;
        self.here.cursors.remove(&PaneId::Profile);
        self.here.cursors.remove(&PaneId::Functions);
        self.say(coral_model::text::clean(&format!("measured: {name}")).into_owned());
    }

    /// Shows a profile.
    pub fn show_profile(&mut self, path: PathBuf, profile: Arc<Profile>) {
        self.flame = Some(Flame::new(path, profile));
        self.go(|here| {
            here.view = ViewId::Profile;
            here.focus = PaneId::Profile;
            here.zoom = false;
            here.branch = None;
            here.cursors.remove(&PaneId::Profile);
            here.cursors.remove(&PaneId::Functions);
        });
        self.touch();
    }
}

//! The store's own check: whether everything in its directory is as it should be, and nothing else is there. It changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::format::Found;
use super::handle::blocking;
use super::layout::{self, Layout};
use super::meta::Facts;
use super::mount_points::is_mount_point;
use super::open::{Claimed, claim, list};
use super::{Location, Store, StoreError, mounts};
use crate::StepId;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// Checks a store that nobody has open.
///
/// # Errors
/// There is no such store; another process has it open; the disk's.
pub async fn check_closed(location: &Location) -> Result<Vec<Problem>, StoreError> {
    let location = location.clone();
    blocking(move || {
        let nothing =
            || StoreError::Refused(format!("there is no store in {}", location.root.display()));
        if !location.root.exists() {
            return Err(nothing());
        }
        let Claimed {
            layout,
            backend,
            lock: _lock,
            found,
        } = claim(&location)?;
        if found == Found::Empty {
            return Err(nothing());
        }
        let mut check = Check::new(&layout, backend.longest_chain().is_some());
        check.all()?;
        // What is under way in an open store is left over in a closed one.
        check.nothing_in(&layout.tmp())?;
        Ok(check.problems)
    })
    .await
}

impl Store {
    /// Checks the store while it is open. What is under way is not looked at; layers that come and go wait meanwhile.
    ///
    /// # Errors
    /// The disk's.
    pub async fn check(&self) -> Result<Vec<Problem>, StoreError> {
        let core = self.inner.core.clone();
        blocking(move || {
            let _still = core.hold_still();
            let mut check = Check::new(&core.layout, core.backend.longest_chain().is_some());
            check.all()?;
            let known = core
                .index()
                .iter()
                .map(|entry| entry.facts.id)
                .collect::<HashSet<_>>();
            for id in known.difference(&check.layers) {
                check.problems.push(problem(
                    core.layout.layer(*id),
                    "is gone, although nobody removed it",
                ));
            }
            for id in check.layers.difference(&known) {
                check
                    .problems
                    .push(problem(core.layout.layer(*id), "came from elsewhere"));
            }
            Ok(check.problems)
        })
        .await
    }
}

struct Check<'a> {
    layout: &'a Layout,
    /// Whether layers have short names.
    layered: bool,
    problems: Vec<Problem>,
    /// Directories of layers.
    layers: HashSet<StepId>,
}

fn problem(path: PathBuf, what: impl Into<String>) -> Problem {
    Problem {
        path,
        what: what.into(),
    }
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
}

impl<'a> Check<'a> {
    fn new(layout: &'a Layout, layered: bool) -> Self {
        Self {
            layout,
            layered,
            problems: Vec::new(),
            layers: HashSet::new(),
        }
    }

    fn say(&mut self, path: PathBuf, what: impl Into<String>) {
        self.problems.push(problem(path, what));
    }

    fn all(&mut self) -> Result<(), StoreError> {
        self.top()?;
        let root = self.layout.root();
        let mounted = mounts::below(root).map_err(StoreError::io("find mounts in", root))?;
        for at in mounted {
            self.say(at, "something is mounted there");
        }
        let layers = self.layers()?;
        self.families(&layers);
        if self.layered {
            self.links(&layers)?;
        }
        self.mount_points(&layers)
    }

    fn top(&mut self) -> Result<(), StoreError> {
        let files = [
            self.layout.lock(),
            self.layout.format(),
            self.layout.synced(),
            self.layout.root().join("lost+found"),
        ];
        let dirs = self.layout.directories();
        for (_, path) in list(self.layout.root())? {
            if !files.contains(&path) && !dirs.contains(&path) {
                self.say(path, "is not the store's");
            }
        }
        for dir in dirs {
            if !is_dir(&dir) {
                self.say(dir, "is no directory");
            }
        }
        Ok(())
    }

    fn nothing_in(&mut self, dir: &Path) -> Result<(), StoreError> {
        for (_, path) in list(dir)? {
            self.say(path, "is left over");
        }
        Ok(())
    }

    /// The layers that can be read.
    fn layers(&mut self) -> Result<Vec<Facts>, StoreError> {
        let mut layers = Vec::new();
        for (name, path) in list(&self.layout.layers())? {
            let Some(id) = layout::parse_id(&name) else {
                self.say(path, "is no layer");
                continue;
            };
            self.layers.insert(id);
            if !is_dir(&path.join(layout::FS)) {
                self.say(path.clone(), "has no tree");
            }
            let known = [layout::FS, layout::META, layout::LOG, layout::FLAT];
            for (name, path) in list(&path)? {
                if !known.contains(&name.as_str()) {
                    self.say(path, "does not belong to a layer");
                }
            }
            match Facts::read(&path.join(layout::META), id) {
                Ok(loaded) => layers.push(loaded.facts),
                Err(error) => self.say(path.join(layout::META), format!("cannot be read: {error}")),
            }
        }
        Ok(layers)
    }

    fn families(&mut self, layers: &[Facts]) {
        let seqs = layers
            .iter()
            .map(|facts| (facts.id, facts.seq))
            .collect::<BTreeMap<_, _>>();
        let mut taken = BTreeSet::new();
        for facts in layers {
            if !taken.insert(facts.seq) {
                self.say(
                    self.layout.layer(facts.id),
                    "has the number of another layer",
                );
            }
            let Some(parent) = facts.parent else { continue };
            match seqs.get(&parent) {
                None => self.say(
                    self.layout.layer(facts.id),
                    format!("is built on {parent}, which is gone"),
                ),
                Some(seq) if *seq >= facts.seq => self.say(
                    self.layout.layer(facts.id),
                    format!("is built on {parent}, which is younger"),
                ),
                Some(_) => (),
            }
        }
    }

    fn links(&mut self, layers: &[Facts]) -> Result<(), StoreError> {
        let mut wanted = BTreeMap::new();
        for facts in layers {
            for (name, tree) in [
                (layout::link_name(facts.seq), layout::FS),
                (layout::flat_link_name(facts.seq), layout::FLAT),
            ] {
                if is_dir(&self.layout.layer(facts.id).join(tree)) {
                    wanted.insert(name, layout::link_target(facts.id, tree));
                }
            }
        }
        for (name, path) in list(&self.layout.links())? {
            match wanted.remove(&name) {
                None => self.say(path, "is the short name of nothing"),
                Some(target) if fs::read_link(&path).ok().as_ref() != Some(&target) => {
                    self.say(path, format!("does not lead to {}", target.display()));
                }
                Some(_) => (),
            }
        }
        for (name, target) in wanted {
            self.say(
                self.layout.links().join(name),
                format!("is missing: it leads to {}", target.display()),
            );
        }
        Ok(())
    }

    fn mount_points(&mut self, layers: &[Facts]) -> Result<(), StoreError> {
        let names = layers
            .iter()
            .map(|facts| layout::link_name(facts.seq))
            .collect::<BTreeSet<_>>();
        for (name, path) in list(&self.layout.mounts())? {
            if !names.contains(&name) && !is_mount_point(&name) {
                self.say(path, "is the mount point of nothing");
            } else if !is_dir(&path) || !list(&path)?.is_empty() {
                self.say(path, "is not an empty directory");
            }
        }
        Ok(())
    }
}

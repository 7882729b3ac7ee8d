//! Which file uses which: read from `use` lines, from paths, and from calls of methods that stand in another
//! file than their type.
//!
//! A name counts for the file that defines it, however many files pass it on: neither `mod child;` nor
//! `pub use child::Name;` makes a parent use its child, unless the parent speaks of the name itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::words::{after_group, words};

/// The files of the house and what each uses.
pub(crate) struct Uses {
    house: PathBuf,
    files: Vec<Source>,
    /// Names of crates, each with the file that is its root.
    roots: BTreeMap<String, usize>,
    /// Every use, with the names that are used.
    edges: BTreeMap<(usize, usize), BTreeSet<String>>,
}

/// What a file says.
#[derive(Default)]
struct Source {
    path: PathBuf,
    room: String,
    root: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    defined: BTreeSet<String>,
    imports: Vec<Import>,
    paths: BTreeSet<(Vec<String>, usize)>,
    /// Words outside of `use` lines.
    spoken: BTreeSet<String>,
    /// Words that are called behind a dot.
    called: BTreeSet<String>,
    functions: Vec<String>,
    /// Methods of types, by the name of the type.
    methods: Vec<(String, String)>,
}

struct Import {
    path: Vec<String>,
    name: String,
    public: bool,
    /// How many modules within the file it stands in.
    inside: usize,
}

impl Uses {
    /// Reads crates below a folder: name, room and the file that is the root of each.
    pub(crate) fn of(house: &Path, crates: &[(String, String, PathBuf)]) -> Uses {
        let mut uses = Uses {
            house: house.to_owned(),
            files: Vec::new(),
            roots: BTreeMap::new(),
            edges: BTreeMap::new(),
        };
        for (name, room, root) in crates {
            let index = uses.add(root, room, None);
            uses.roots.insert(name.clone(), index);
        }
        uses.connect();
        uses
    }

    pub(crate) fn path(&self, file: usize) -> &Path {
        &self.files[file].path
    }

    pub(crate) fn room(&self, file: usize) -> &str {
        &self.files[file].room
    }

    /// Whether one file uses another.
    pub(crate) fn has(&self, file: &str, target: &str) -> bool {
        let mut edges = self.edges.keys();
        let is = |file: usize, name: &str| self.path(file) == Path::new(name);
        edges.any(|&(a, b)| is(a, file) && is(b, target))
    }

    fn add(&mut self, path: &Path, room: &str, parent: Option<usize>) -> usize {
        let text = fs::read_to_string(self.house.join(path));
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (mut source, children) = Source::of(&words(&text));
        let index = self.files.len();
        source.path = path.to_owned();
        source.room = room.to_owned();
        source.parent = parent;
        source.root = parent.map_or(index, |parent| self.files[parent].root);
        self.files.push(source);
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = path.parent().unwrap();
        let folder = if ["mod", "lib", "main"].contains(&stem.as_str()) {
            folder.to_owned()
        } else {
            folder.join(stem)
        };
        for child in children {
            let flat = folder.join(format!("{child}.rs"));
            let deep = folder.join(&child).join("mod.rs");
            let found = if self.house.join(&flat).exists() {
                flat
            } else {
                deep
            };
            let found = self.add(&found, room, Some(index));
            self.files[index].children.insert(child, found);
        }
        index
    }

    fn connect(&mut self) {
        let mut found = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            for import in &file.imports {
                if import.name == "*" {
                    let Some(module) = self.resolve(index, &import.path, import.inside) else {
                        continue;
                    };
                    for word in file.spoken.difference(&file.defined) {
                        let target = self.named(module, word, &mut BTreeSet::new());
                        found.extend(target.map(|target| (index, target, word.clone())));
                    }
                } else if !import.public || file.spoken.contains(&import.name) {
                    let target = self.defining(index, &import.path, import.inside);
                    found.extend(target.map(|target| (index, target, import.name.clone())));
                }
            }
            for (path, inside) in &file.paths {
                let target = self.defining(index, path, *inside);
                found.extend(target.map(|target| (index, target, path.join("::"))));
            }
        }
        self.insert(found);
        self.insert(self.calls());
    }

    fn insert(&mut self, found: Vec<(usize, usize, String)>) {
        for (file, target, name) in found {
            if file != target {
                self.edges.entry((file, target)).or_default().insert(name);
            }
        }
    }

    /// Calls of methods that stand in another file than their type, where one function alone has the name, by
    /// the file of the type and those that use it.
    fn calls(&self) -> Vec<(usize, usize, String)> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for file in &self.files {
            for name in &file.functions {
                *counts.entry((&file.room, name)).or_default() += 1;
            }
        }
        let mut found = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            for (owner, method) in &file.methods {
                let home = self.named(index, owner, &mut BTreeSet::new());
                let Some(home) = home.filter(|home| *home != index) else {
                    continue;
                };
                if counts[&(file.room.as_str(), method.as_str())] > 1 {
                    continue;
                }
                for (other, user) in self.files.iter().enumerate() {
                    let near = other == home || self.edges.contains_key(&(other, home));
                    let called = user.called.contains(method)
                        || user.paths.iter().any(|(path, _)| {
                            let [.., of, name] = &path[..] else {
                                return false;
                            };
                            name == method && (of == owner || of == "Self")
                        });
                    if near && user.room == file.room && called {
                        found.push((other, index, format!("{owner}::{method}")));
                    }
                }
            }
        }
        found
    }

    /// The file that defines what a path names; `None` where that is a module, or not of this house.
    fn defining(&self, file: usize, path: &[String], inside: usize) -> Option<usize> {
        self.walk(file, path, inside, &mut BTreeSet::new())
            .filter(|(_, whole)| !whole)
            .map(|(file, _)| file)
    }

    /// The module that a path names.
    fn resolve(&self, file: usize, path: &[String], inside: usize) -> Option<usize> {
        self.walk(file, path, inside, &mut BTreeSet::new())
            .filter(|(_, whole)| *whole)
            .map(|(file, _)| file)
    }

    /// The file at the end of a path, and whether it is named as a module.
    fn walk(
        &self,
        file: usize,
        path: &[String],
        mut inside: usize,
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Option<(usize, bool)> {
        let mut rest = path.iter();
        let mut at = file;
        let mut whole = true;
        let first = rest.next()?;
        match first.as_str() {
            "crate" => at = self.files[file].root,
            "self" => {}
            "super" => {
                if inside > 0 {
                    inside -= 1;
                } else {
                    at = self.files[file].parent?;
                }
            }
            name => {
                (at, whole) = self
                    .step(file, name, seen)
                    .or_else(|| self.roots.get(name).map(|root| (*root, true)))?
            }
        }
        for name in rest {
            if !whole {
                break;
            }
            if name == "super" {
                if inside > 0 {
                    inside -= 1;
                } else {
                    at = self.files[at].parent?;
                }
            } else if name != "self" {
                // What a module has and no word of it tells was made there by a macro.
                (at, whole) = self.step(at, name, seen).unwrap_or((at, false));
            }
        }
        Some((at, whole))
    }

    /// What a name means in a file.
    fn step(
        &self,
        file: usize,
        name: &str,
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Option<(usize, bool)> {
        if !seen.insert((file, name.to_owned())) {
            return None;
        }
        let source = &self.files[file];
        if let Some(child) = source.children.get(name) {
            return Some((*child, true));
        }
        if source.defined.contains(name) {
            return Some((file, false));
        }
        for import in source.imports.iter().filter(|import| import.name == name) {
            if let Some(found) = self.walk(file, &import.path, import.inside, seen) {
                return Some(found);
            }
        }
        for import in source.imports.iter().filter(|import| import.name == "*") {
            if let Some((module, true)) = self.walk(file, &import.path, import.inside, seen)
                && module != file
                && let Some(found) = self.step(module, name, seen)
            {
                return Some(found);
            }
        }
        None
    }

    fn named(
        &self,
        file: usize,
        name: &str,
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Option<usize> {
        self.step(file, name, seen)
            .filter(|(_, whole)| !whole)
            .map(|(file, _)| file)
    }

    /// Groups of files each of which leads to every other, of two files and more.
    pub(crate) fn circles(&self) -> Vec<Vec<usize>> {
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); self.files.len()];
        for (file, target) in self.edges.keys() {
            after[*file].push(*target);
        }
        let reached: Vec<BTreeSet<usize>> = (0..self.files.len())
            .map(|start| {
                let mut reached = BTreeSet::new();
                let mut waiting = vec![start];
                while let Some(file) = waiting.pop() {
                    for &next in &after[file] {
                        if reached.insert(next) {
                            waiting.push(next);
                        }
                    }
                }
                reached
            })
            .collect();
        let mut circles = Vec::new();
        let mut placed: BTreeSet<usize> = BTreeSet::new();
        for file in 0..self.files.len() {
            if reached[file].contains(&file) && !placed.contains(&file) {
                let circle: Vec<usize> = (0..self.files.len())
                    .filter(|&other| {
                        reached[file].contains(&other) && reached[other].contains(&file)
                    })
                    .collect();
                placed.extend(&circle);
                circles.push(circle);
            }
        }
        circles
    }

    /// The uses within a circle, a line each.
    pub(crate) fn ties(&self, circle: &[usize]) -> String {
        let mut lines = String::new();
        for ((file, target), names) in &self.edges {
            if circle.contains(file) && circle.contains(target) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                lines.push_str(&format!(
                    "\n  {} uses {}: {}",
                    self.path(*file).display(),
                    self.path(*target).display(),
                    names.join(", ")
                ));
            }
        }
        lines
    }
}

const ITEMS: [&str; 8] = [
    "struct", "enum", "trait", "type", "const", "static", "union", "fn",
];

impl Source {
    /// Reads words; with the names of the modules that are files of their own.
    fn of(words: &[String]) -> (Source, Vec<String>) {
        let mut source = Source::default();
        let mut children = Vec::new();
        let word = |place: usize| words.get(place).map_or("", String::as_str);
        // Depths at which modules within the file opened, and that of the methods being read.
        let (mut depth, mut modules): (usize, Vec<usize>) = (0, Vec::new());
        let mut owner: Option<(usize, String)> = None;
        let mut place = 0;
        while place < words.len() {
            let before = place.checked_sub(1).map_or("", word);
            match word(place) {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if modules.last() == Some(&depth) {
                        modules.pop();
                    }
                    if owner.as_ref().is_some_and(|(opened, _)| *opened == depth) {
                        owner = None;
                    }
                }
                "use" if is_name(word(place + 1)) => {
                    let public = before == "pub"
                        || before == ")" && words[..place].iter().rev().take(6).any(|w| w == "pub");
                    let end = place + words[place..].iter().position(|w| w == ";").unwrap();
                    let mut found = Vec::new();
                    tree(&words[place + 1..end], &mut Vec::new(), &mut found);
                    for (path, name) in found {
                        source.imports.push(Import {
                            path,
                            name,
                            public,
                            inside: modules.len(),
                        });
                    }
                    place = end;
                }
                "mod" if word(place + 2) == ";" => {
                    children.push(word(place + 1).to_owned());
                    place += 2;
                }
                "mod" if word(place + 2) == "{" => {
                    modules.push(depth);
                    depth += 1;
                    place += 2;
                }
                "macro_rules" => {
                    source.defined.insert(word(place + 2).to_owned());
                    place += 2;
                }
                "impl"
                    if depth == modules.len()
                        && ["", "}", ";", "]", "unsafe"].contains(&before) =>
                {
                    owner = owner_of(&words[place..]).map(|name| (depth, name));
                }
                item if ITEMS.contains(&item) && is_name(word(place + 1)) => {
                    let name = word(place + 1);
                    if item == "fn" {
                        source.functions.push(name.to_owned());
                    }
                    if depth == modules.len() {
                        source.defined.insert(name.to_owned());
                    } else if let Some((opened, owner)) = &owner
                        && item == "fn"
                        && depth == opened + 1
                    {
                        source.methods.push((owner.clone(), name.to_owned()));
                    }
                    place += usize::from(!ITEMS.contains(&name));
                }
                name if is_name(name) => {
                    let mut path = vec![name.to_owned()];
                    while word(place + 1) == "::" && is_name(word(place + 2)) {
                        place += 2;
                        path.push(word(place).to_owned());
                    }
                    if before == "." && ["(", "::"].contains(&word(place + 1)) {
                        source.called.extend(path.last().cloned());
                    }
                    if before != "." && before != "::" {
                        source.spoken.insert(path[0].clone());
                        if path.len() > 1 {
                            source.paths.insert((path, modules.len()));
                        }
                    }
                }
                _ => {}
            }
            place += 1;
        }
        (source, children)
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// The type that an `impl` is of; `None` for traits'.
fn owner_of(words: &[String]) -> Option<String> {
    let end = words.iter().position(|word| word == "{")?;
    let (mut angles, mut name) = (0, None);
    for (place, word) in words[1..end].iter().enumerate() {
        match word.as_str() {
            "<" => angles += 1,
            ">" => angles -= 1,
            "for" if angles == 0 && words[place + 2] != "<" => return None,
            "where" => break,
            other if angles == 0 && is_name(other) => name = Some(other.to_owned()),
            _ => {}
        }
    }
    name
}

/// The paths of a `use`, each with the name that it gives.
fn tree(words: &[String], before: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    let depth = before.len();
    let mut place = 0;
    while place < words.len() {
        match words[place].as_str() {
            "," => {
                finish(before, depth, None, found);
            }
            "::" => {}
            "{" => {
                let end = after_group(words, place);
                tree(&words[place + 1..end - 1], before, found);
                before.truncate(depth);
                place = end;
                continue;
            }
            "*" => {
                found.push((before.clone(), "*".to_owned()));
                before.truncate(depth);
            }
            "as" => {
                finish(before, depth, words.get(place + 1), found);
                place += 1;
            }
            name => before.push(name.to_owned()),
        }
        place += 1;
    }
    finish(before, depth, None, found);
}

fn finish(
    before: &mut Vec<String>,
    depth: usize,
    name: Option<&String>,
    found: &mut Vec<(Vec<String>, String)>,
) {
    if before.len() > depth {
        if before.last().is_some_and(|last| last == "self") && before.len() > 1 {
            before.pop();
        }
        let name = name.or(before.last()).cloned().unwrap_or_default();
        found.push((before.clone(), name));
    }
    before.truncate(depth);
}

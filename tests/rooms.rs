//! The rooms of the house: who may name whom. It reads the `use` lines of `src`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in the order of `docs/architecture.md`: each may name those before it, and itself.
const ORDER: [&str; 19] = [
    "error",
    "files",
    "schedule",
    "attempt",
    "progress",
    "device",
    "transfer",
    "data",
    "ops",
    "loss",
    "teacher",
    "objective",
    "knowledge",
    "metric",
    "train",
    "report",
    "supervised",
    "distiller",
    "recipe",
];

/// A file of `src`, as a module path, and the module paths that it takes something from.
type Uses = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        // Tests may look at all they want.
        match path.is_dir() {
            true if path.ends_with("tests") || path.ends_with("testing") => {}
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

fn module(source: &Path, file: &Path) -> Vec<String> {
    let path = file.strip_prefix(source).unwrap().with_extension("");
    let mut parts: Vec<String> = path
        .iter()
        .map(|part| part.to_str().unwrap().to_string())
        .collect();
    if parts
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        parts.pop();
    }
    parts
}

/// The text without what follows `#[cfg(test)]` at the end of a file.
fn without_tests(text: &str) -> &str {
    let start = text.find("#[cfg(test)]\nmod tests {");
    &text[..start.unwrap_or(text.len())]
}

/// The paths of all leaves of a `use` tree.
fn leaves(prefix: &[String], tree: &str, found: &mut Vec<Vec<String>>) {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for c in tree.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c == ',' && depth == 0 {
            true => parts.push(String::new()),
            false => parts.last_mut().unwrap().push(c),
        }
    }
    for part in parts.iter().map(|part| part.trim()) {
        let (path, inner) = match part.find('{') {
            Some(at) => (&part[..at], part[at + 1..].strip_suffix('}')),
            None => (part, None),
        };
        let names = path
            .split("::")
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let names = names.map(|name| name.split(' ').next().unwrap().to_string());
        let path: Vec<String> = prefix.iter().cloned().chain(names).collect();
        match inner {
            Some(inner) => leaves(&path, inner, found),
            None if !part.is_empty() => found.push(path),
            None => {}
        }
    }
}

fn uses() -> Uses {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let modules: BTreeSet<_> = all.iter().map(|file| module(&source, file)).collect();
    let mut uses = Uses::new();
    for file in &all {
        let own = module(&source, file);
        if own.is_empty() {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        let named = uses.entry(own.clone()).or_default();
        for statement in without_tests(&text).split("use ").skip(1) {
            let Some(tree) = statement
                .split(';')
                .next()
                .filter(|t| t.starts_with("crate::"))
            else {
                continue;
            };
            let mut found = Vec::new();
            leaves(&[], tree, &mut found);
            for path in found {
                let path = &path[1..];
                let is_module = |len: &usize| modules.contains(&path[..*len]);
                let longest = (0..=path.len()).rev().find(is_module).unwrap();
                named.insert(path[..longest].to_vec());
            }
        }
        named.remove(&own);
    }
    uses
}

#[test]
fn nothing_inside_imports_from_the_face() {
    for (file, named) in uses() {
        assert!(
            !named.contains(&Vec::new()),
            "{} imports from lib.rs: name the module that defines it",
            file.join("/")
        );
    }
}

#[test]
fn no_arrow_goes_against_the_order_of_the_rooms() {
    let place = |room: &str| {
        let place = ORDER.iter().position(|other| *other == room);
        place.unwrap_or_else(|| panic!("{room} has no place in the order of the rooms"))
    };
    for (file, named) in uses() {
        for other in named {
            assert!(
                place(&other[0]) <= place(&file[0]),
                "{} names {}, which stands above it",
                file.join("/"),
                other.join("/")
            );
        }
    }
}

#[test]
fn no_two_files_name_each_other_on_whatever_way() {
    let uses = uses();
    for start in uses.keys() {
        // Every file that can be reached, with the way there.
        let mut ways = vec![vec![start]];
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop() {
            for next in uses.get(way[way.len() - 1]).into_iter().flatten() {
                let names = |way: &[&Vec<String>]| {
                    let names: Vec<_> = way.iter().map(|file| file.join("/")).collect();
                    names.join(" -> ")
                };
                assert!(
                    next != start,
                    "a circle: {} -> {}",
                    names(&way),
                    next.join("/")
                );
                if seen.insert(next) {
                    ways.push([way.clone(), vec![next]].concat());
                }
            }
        }
    }
}

#[test]
fn a_loss_names_no_other() {
    let groups = ["logits", "features", "relations", "sequences"];
    let is_loss = |file: &[String]| {
        matches!(file, [room, group, name] if room == "loss"
            && groups.contains(&group.as_str())
            // What several losses of a group share.
            && !["composed", "pair", "reduction", "relative", "scale", "standardize"].contains(&name.as_str()))
    };
    for (file, named) in uses() {
        let mut others = named.iter();
        if let Some(other) = others.find(|other| is_loss(&file) && is_loss(other)) {
            panic!("{} names {}", file.join("/"), other.join("/"));
        }
    }
}

#[test]
fn no_folder_holds_a_single_file_of_tests() {
    fn check(folder: &Path) {
        let entries: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert!(
            !matches!(&entries[..], [only] if only.ends_with("tests.rs")),
            "{} holds a single tests.rs",
            folder.display()
        );
        entries
            .iter()
            .filter(|path| path.is_dir())
            .for_each(|path| check(path));
    }
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
}

/// The control: the reader of `use` lines sees what there is.
#[test]
fn use_lines_are_read() {
    let mut found = Vec::new();
    leaves(&[], "crate::a::{B, c::{self, D as E}}", &mut found);
    let found: Vec<_> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        ["crate::a::B", "crate::a::c::self", "crate::a::c::D"]
    );
    let uses = uses();
    let of_distiller = &uses[&vec!["distiller".to_string()]];
    assert!(of_distiller.contains(&vec!["error".to_string()]));
    assert!(of_distiller.contains(&["data", "batch"].map(String::from).to_vec()));
}

//! Modules depend on one another in one direction: read from what their sources name.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What each module of a crate names of the others, parent and child left out.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn sources(folder: &Path, path: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            sources(&entry.path(), &format!("{path}{name}::"), found);
        } else if let Some(stem) = name.strip_suffix(".rs").filter(|stem| *stem != "tests") {
            let module = if ["lib", "main"].contains(&stem) { "" } else { stem };
            let text = fs::read_to_string(entry.path()).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let code: Vec<&str> =
                code.lines().map(|line| line.split("//").next().unwrap()).collect();
            found.insert(format!("{path}{module}"), code.join("\n"));
        }
    }
}

/// Every path of a `use` tree: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn leaves(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap().trim();
        return found.push(format!("{prefix}{path}"));
    };
    let inner = rest.rsplit_once('}').unwrap().0;
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[from..at].trim().is_empty() {
                    leaves(&format!("{prefix}{head}"), &inner[from..at], found);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// The paths that a source names, from `crate`, `super` or `self`.
fn named(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for keyword in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(keyword) {
            let before = &code[..at];
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &code[at..];
            if before.trim_end().ends_with("use") {
                leaves("", rest.split(';').next().unwrap(), &mut found);
            } else {
                let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
                let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
                found.push(rest[..end].to_owned());
            }
        }
    }
    found
}

fn graph(crate_name: &str) -> Graph {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crate_name).join("src");
    let mut all = BTreeMap::new();
    sources(&root, "", &mut all);
    assert!(all.len() > 30, "{crate_name} has {} modules", all.len());
    let is_within = |one: &str, other: &str| {
        one == other || other.is_empty() || one.starts_with(&format!("{other}::"))
    };
    let mut graph = Graph::new();
    for (module, code) in &all {
        let edges = graph.entry(module.clone()).or_default();
        for path in named(code) {
            let mut parts: Vec<&str> = path.split("::").collect();
            let mut place: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
            if parts[0] == "crate" {
                place.clear();
                parts.remove(0);
            }
            while parts.first().is_some_and(|part| ["super", "self"].contains(part)) {
                if parts.remove(0) == "super" {
                    place.pop();
                }
            }
            place.extend(parts);
            let known = (1..=place.len()).rev().map(|length| place[..length].join("::"));
            let Some(target) = known.into_iter().find(|name| all.contains_key(name)) else {
                continue;
            };
            if !is_within(module, &target) && !is_within(&target, module) {
                edges.insert(target);
            }
        }
    }
    graph
}

fn reachable(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut left = vec![from.to_owned()];
    while let Some(module) = left.pop() {
        for next in graph.get(&module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                left.push(next.clone());
            }
        }
    }
    seen
}

/// Every dependency that leads back to where it comes from.
fn circular(graph: &Graph) -> Vec<String> {
    let edges = graph.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)));
    edges
        .filter(|(from, to)| reachable(graph, to).contains(*from))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect()
}

#[test]
fn no_modules_depend_on_each_other_in_a_circle() {
    for crate_name in ["runner", "profiler", "report", "pipeprof"] {
        let graph = graph(crate_name);
        let edges: usize = graph.values().map(BTreeSet::len).sum();
        assert!(edges > 50, "{crate_name}: only {edges} dependencies were found");
        let circular = circular(&graph);
        assert!(circular.is_empty(), "{crate_name}: in circles:\n{}", circular.join("\n"));
    }
}

#[test]
fn renderers_do_not_know_each_other() {
    let renderers = [
        "text",
        "html",
        "folded",
        "flat",
        "tree",
        "counters",
        "topology",
        "export::csv",
        "export::firefox",
        "export::perf_script",
        "export::pprof",
        "export::speedscope",
    ];
    let graph = graph("report");
    for renderer in renderers {
        assert!(graph.contains_key(renderer), "{renderer} has gone: name what took its place");
        for (module, edges) in graph.iter().filter(|(module, _)| module.starts_with(renderer)) {
            let others = renderers.iter().filter(|other| **other != renderer);
            let wrong: Vec<&&str> = others.filter(|other| edges.contains(**other)).collect();
            assert!(wrong.is_empty(), "{module} imports {wrong:?}");
        }
    }
}

#[test]
fn a_circle_would_be_found() {
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let graph = Graph::from([
        ("a".to_owned(), of(&["b"])),
        ("b".to_owned(), of(&["c"])),
        ("c".to_owned(), of(&["b"])),
    ]);
    assert_eq!(circular(&graph), ["b -> c", "c -> b"]);
    let mut paths =
        named("use crate::a::{self, b::{C, d}};\nfn f() -> super::e::F { crate::g::h() }");
    paths.sort();
    assert_eq!(
        paths,
        ["crate::a::b::C", "crate::a::b::d", "crate::a::self", "crate::g::h", "super::e::F"]
    );
}

//! The words that people read: none of those that once took explaining.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// What was said before, and must not come back.
const RETIRED: [&str; 25] = [
    "does without the others",
    "nobody else is near",
    "next to nothing",
    "not sure: the others",
    "fairly sure",
    "asleep, nobody knows",
    "that its pipes don't explain",
    "something else runs there",
    "its ends take turns",
    "beside them, ",
    "can't fire while interrupts are off",
    "samples stand for",
    "of others dropped",
    "instead of a better one",
    "not had here",
    "nothing says what",
    "Say nothing but errors",
    "What single moves of the kernel",
    "how far to trust it",
    "in the pipes themselves",
    "the next in line is",
    "A timer took the samples",
    "a timer took the samples",
    "the members kept",
    "of roof",
];

/// Names of things in code that only their author understands.
const PRIVATE_NAMES: [&str; 8] = ["nap", "naps", "roof", "roofs", "rung", "rungs", "duel", "duels"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ext| ["rs", "md", "js"].iter().any(|e| ext == *e)) {
            found.push(path);
        }
    }
}

/// Sources and documents, with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = vec![root.join("README.md")];
    for folder in [
        "docs",
        "crates/report/src",
        "crates/pipeprof/src",
        "crates/profiler/src",
        "crates/runner/src",
    ] {
        files(&root.join(folder), &mut found);
    }
    assert!(found.len() > 200, "only {} files were found", found.len());
    let text = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    found.into_iter().map(text).collect()
}

#[test]
fn sources_and_documents_use_plain_words() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // A sentence goes on over lines of a string, of a comment, and of a paragraph.
        let joined = text.replace("\\\n", "\n").replace("\n//", "\n").replace("///", "");
        let plain = joined.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = RETIRED.iter().filter(|words| plain.contains(words.trim_end()));
        wrong.extend(said.map(|words| format!("{}: {words:?}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_in_code_are_the_fields_own() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if PRIVATE_NAMES.contains(&word.to_lowercase().as_str()) {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

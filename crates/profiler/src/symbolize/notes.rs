//! Sentences about what could not be named: one per reason, for all objects together.

use crate::object_file::Object;

/// Objects that a sentence names.
const MOST_NAMED: usize = 3;

/// Objects without names, or with names that may not be theirs, by reason.
#[derive(Debug, Default)]
pub(super) struct Notes {
    replaced: Vec<String>,
    missing: Vec<String>,
    unchecked: Vec<String>,
    stale: Vec<String>,
    damaged: Vec<String>,
}

impl Notes {
    /// Another file has the object's name.
    pub(super) fn replaced(&mut self, object: &Object) {
        add(&mut self.replaced, object);
    }

    /// The object's file is nowhere.
    pub(super) fn missing(&mut self, object: &Object) {
        add(&mut self.missing, object);
    }

    /// Nothing in the recording says which build it was.
    pub(super) fn unchecked(&mut self, object: &Object) {
        add(&mut self.unchecked, object);
    }

    /// Its debug file is of another build.
    pub(super) fn stale(&mut self, object: &Object) {
        add(&mut self.stale, object);
    }

    /// Its debug information cannot be read.
    pub(super) fn damaged(&mut self, object: &Object) {
        add(&mut self.damaged, object);
    }

    pub(super) fn sentences(&self) -> impl Iterator<Item = String> {
        let sentence = |objects: &[String], one: &str, many: &str| {
            let (verb, named) = match objects {
                [] => return None,
                [object] => (one, object.clone()),
                [first @ .., last] if objects.len() <= MOST_NAMED => {
                    (many, format!("{} and {last}", first.join(", ")))
                }
                _ => {
                    let named = objects[..MOST_NAMED].join(", ");
                    (many, format!("{named} and {} more", objects.len() - MOST_NAMED))
                }
            };
            Some(format!("{named} {verb}"))
        };
        [
            sentence(
                &self.replaced,
                "is no longer the file that ran, so its functions have no names",
                "are no longer the files that ran, so their functions have no names",
            ),
            sentence(
                &self.missing,
                "no longer exists, and no copy with its build id was found, so its functions \
                 have no names",
                "no longer exist, and no copies with their build ids were found, so their \
                 functions have no names",
            ),
            sentence(
                &self.unchecked,
                "has no build id in the recording: its functions are named by the file of the \
                 same name that has not changed since",
                "have no build ids in the recording: their functions are named by the files of \
                 the same names that have not changed since",
            ),
            sentence(
                &self.stale,
                "has a debug file of another build, which was not used",
                "have debug files of other builds, which were not used",
            ),
            sentence(
                &self.damaged,
                "has damaged debug information, so inlined functions may be missing",
                "have damaged debug information, so inlined functions may be missing",
            ),
        ]
        .into_iter()
        .flatten()
    }
}

fn add(objects: &mut Vec<String>, object: &Object) {
    let path = String::from_utf8_lossy(&object.path);
    // One path may be two objects: two builds of it.
    if objects.last().is_none_or(|last| *last != path) {
        objects.push(path.into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_three_objects_and_counts_the_others() {
        let mut notes = Notes::default();
        let sentences = |notes: &Notes| notes.sentences().collect::<Vec<_>>();
        assert_eq!(sentences(&notes), [""; 0]);
        notes.replaced(&Object::named(b"/a"));
        assert_eq!(
            sentences(&notes),
            ["/a is no longer the file that ran, so its functions have no names"]
        );
        notes.replaced(&Object::named(b"/b"));
        assert!(sentences(&notes)[0].starts_with("/a and /b are no longer the files that ran"));
        for path in [b"/c", b"/d", b"/e"] {
            notes.replaced(&Object::named(path));
        }
        assert!(sentences(&notes)[0].starts_with("/a, /b, /c and 2 more are no longer"));
    }
}

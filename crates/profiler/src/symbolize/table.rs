//! Stores the names of a recording's addresses, so that it reads the same on any machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Deserializer, Serialize};

use super::{BuildId, Function, Functions, Object, Symbolizer};
use crate::kernel_code::RecordedKernel;

/// All that a symbolizer said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SymbolTable {
    kernel: Names,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    kernel_callees: Callees,
    objects: Vec<ObjectNames>,
    notes: Vec<String>,
    /// Indices of objects.
    #[serde(skip)]
    by_key: FxHashMap<Key, usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Names {
    /// The build that they were taken from, in hexadecimal.
    #[serde(deserialize_with = "build_id_if_any")]
    build_id: Option<BuildId>,
    /// By address, or by offset in the object's file.
    functions: BTreeMap<u64, Vec<Name>>,
}

/// By return address in the kernel, the function that is called right before it.
type Callees = BTreeMap<u64, Arc<str>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ObjectNames {
    path: ObjectPath,
    /// 0 where it is not known.
    inode: u64,
    /// Of the inode; 0 where it is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    generation: u64,
    /// The build that was mapped, where its mapping said so.
    #[serde(
        default,
        deserialize_with = "build_id_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    mapped: Option<BuildId>,
    /// Of the process, where it made the code.
    pid: i32,
    names: Names,
}

/// A path is bytes, and nearly always text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum ObjectPath {
    Text(String),
    Bytes(Vec<u8>),
}

impl ObjectPath {
    fn new(path: &[u8]) -> Self {
        match std::str::from_utf8(path) {
            Ok(text) => ObjectPath::Text(text.to_owned()),
            Err(_) => ObjectPath::Bytes(path.to_owned()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            ObjectPath::Text(text) => text.as_bytes(),
            ObjectPath::Bytes(bytes) => bytes,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Name {
    name: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module: Option<Arc<str>>,
    offset: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    inlined: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A build id that makes no sense is none.
fn build_id_if_any<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BuildId>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.as_deref().and_then(BuildId::parse))
}

/// What tells objects apart: path, inode with its generation, build, and the process where it made the code.
type Key = (Box<[u8]>, (u64, u64), Option<BuildId>, Option<i32>);

fn key(object: &Object) -> Key {
    let maker = object.is_jit().then_some(object.pid);
    let inode = (object.inode, object.generation);
    (object.path.clone(), inode, object.build_id, maker)
}

impl ObjectNames {
    fn object(&self) -> Object {
        let path = self.path.as_bytes().into();
        let (build_id, pid) = (self.mapped, self.pid);
        let (inode, generation) = (self.inode, self.generation);
        Object { path, build_id, device: (0, 0), inode, generation, pid, mapped_ns: 0 }
    }
}

impl PartialEq for SymbolTable {
    fn eq(&self, other: &Self) -> bool {
        // What is looked up in it changes nothing of what it says.
        (&self.kernel, &self.kernel_callees, &self.objects, &self.notes)
            == (&other.kernel, &other.kernel_callees, &other.objects, &other.notes)
    }
}

impl Eq for SymbolTable {}

impl SymbolTable {
    fn names_of(&mut self, object: &Object) -> Option<&ObjectNames> {
        if self.by_key.is_empty() {
            // Of several with one key the first is in force.
            for (index, known) in self.objects.iter().enumerate().rev() {
                self.by_key.insert(key(&known.object()), index);
            }
        }
        self.objects.get(*self.by_key.get(&key(object))?)
    }
}

impl Names {
    fn add(&mut self, addresses: &[u64], found: &[Functions]) {
        for (&address, functions) in addresses.iter().zip(found) {
            if !functions.is_empty() {
                self.functions.insert(address, functions.iter().map(Name::of).collect());
            }
        }
    }

    fn find(&self, addresses: &[u64]) -> Vec<Functions> {
        let functions = |address| {
            let names = self.functions.get(address).map(Vec::as_slice).unwrap_or_default();
            names.iter().map(Name::function).collect()
        };
        addresses.iter().map(functions).collect()
    }
}

impl Name {
    fn of(function: &Function) -> Self {
        let Function { name, module, offset, inlined } = function.clone();
        Name { name, module, offset, inlined }
    }

    fn function(&self) -> Function {
        let Name { name, module, offset, inlined } = self.clone();
        Function { name, module, offset, inlined }
    }
}

impl Symbolizer for SymbolTable {
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        self.kernel.find(addresses)
    }

    fn kernel_callees(&mut self, return_addresses: &[u64]) -> Vec<Option<Arc<str>>> {
        return_addresses.iter().map(|address| self.kernel_callees.get(address).cloned()).collect()
    }

    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        match self.names_of(object) {
            Some(known) => known.names.find(file_offsets),
            None => vec![Functions::new(); file_offsets.len()],
        }
    }

    fn kernel_build_id(&mut self) -> Option<BuildId> {
        self.kernel.build_id
    }

    fn build_id(&mut self, object: &Object) -> Option<BuildId> {
        self.names_of(object)?.names.build_id
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// Passes on what another symbolizer says, and writes it down.
pub struct RecordingSymbolizer<'a> {
    inner: &'a mut dyn Symbolizer,
    table: SymbolTable,
}

impl<'a> RecordingSymbolizer<'a> {
    /// Has written down nothing yet.
    pub fn new(inner: &'a mut dyn Symbolizer) -> Self {
        RecordingSymbolizer { inner, table: SymbolTable::default() }
    }

    /// What was said.
    pub fn into_table(mut self) -> SymbolTable {
        self.table.notes = self.inner.notes();
        self.table
    }
}

impl Symbolizer for RecordingSymbolizer<'_> {
    fn recorded_kernel(&mut self, kernel: RecordedKernel) {
        self.inner.recorded_kernel(kernel);
    }

    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        let found = self.inner.kernel(addresses);
        self.table.kernel.build_id = self.inner.kernel_build_id();
        self.table.kernel.add(addresses, &found);
        found
    }

    fn kernel_callees(&mut self, return_addresses: &[u64]) -> Vec<Option<Arc<str>>> {
        let callees = self.inner.kernel_callees(return_addresses);
        let known = return_addresses.iter().zip(&callees);
        let known = known.filter_map(|(&address, callee)| Some((address, callee.clone()?)));
        self.table.kernel_callees.extend(known);
        callees
    }

    fn kernel_build_id(&mut self) -> Option<BuildId> {
        self.inner.kernel_build_id()
    }

    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        let found = self.inner.object(object, file_offsets);
        let mut names = Names { build_id: self.inner.build_id(object), ..Names::default() };
        names.add(file_offsets, &found);
        self.table.objects.push(ObjectNames {
            path: ObjectPath::new(&object.path),
            inode: object.inode,
            generation: object.generation,
            mapped: object.build_id,
            pid: object.pid,
            names,
        });
        found
    }

    fn build_id(&mut self, object: &Object) -> Option<BuildId> {
        self.inner.build_id(object)
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two functions, one inlined into the other, at whatever even address is asked for.
    struct Even;

    impl Symbolizer for Even {
        fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
            let function = |name: &str, inlined| Function {
                name: name.into(),
                module: Some("ext4".into()),
                offset: 3,
                inlined,
            };
            let both = || vec![function("inner", true), function("outer", false)];
            addresses.iter().map(|at| if at % 2 == 0 { both() } else { Vec::new() }).collect()
        }

        fn kernel_callees(&mut self, return_addresses: &[u64]) -> Vec<Option<Arc<str>>> {
            return_addresses.iter().map(|at| (at % 2 == 0).then(|| "finish_wait".into())).collect()
        }

        fn object(&mut self, _object: &Object, file_offsets: &[u64]) -> Vec<Functions> {
            self.kernel(file_offsets)
        }

        fn notes(&self) -> Vec<String> {
            vec!["half of it has no names".to_owned()]
        }
    }

    #[test]
    fn a_table_written_and_read_back_says_the_same_again() {
        let addresses = [0xffff_ffff_8100_0000, 0xffff_ffff_8100_0001, 0x12];
        let mut even = Even;
        let mut recorder = RecordingSymbolizer::new(&mut even);
        let kernel = recorder.kernel(&addresses);
        let callees = recorder.kernel_callees(&addresses);
        let named = Object::named(b"/bin/a");
        let other = Object { inode: 7, ..named.clone() };
        let build = Object { build_id: BuildId::new(&[7; 20]), ..named.clone() };
        let objects = [named, Object::named(b"/bin/\xff"), other, build];
        let objects = objects.map(|object| {
            let found = recorder.object(&object, &addresses);
            (object, found)
        });
        let table = recorder.into_table();
        let text = serde_json::to_string(&table).unwrap();
        let mut read: SymbolTable = serde_json::from_str(&text).unwrap();
        assert_eq!(read, table);
        assert_eq!(read.kernel(&addresses), kernel);
        assert_eq!(read.kernel_callees(&addresses), callees);
        assert_eq!(callees[0].as_deref(), Some("finish_wait"));
        for (object, found) in objects {
            assert_eq!(read.object(&object, &addresses), found);
        }
        assert_eq!(
            read.object(&Object::named(b"/bin/other"), &addresses),
            vec![Functions::new(); 3]
        );
        assert_eq!(read.notes(), Even.notes());
    }
}

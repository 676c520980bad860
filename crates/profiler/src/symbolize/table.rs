//! The names of one recording's addresses, kept, so that it reads the same on any machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Function, Functions, Object, Symbolizer};

/// All that a symbolizer said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolTable {
    kernel: Names,
    objects: Vec<ObjectNames>,
    notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Names {
    /// In hexadecimal.
    build_id: Option<String>,
    /// By address, or by offset in the object's file.
    functions: BTreeMap<u64, Vec<Name>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ObjectNames {
    path: ObjectPath,
    /// 0 where it is not known.
    inode: u64,
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

impl ObjectNames {
    fn is(&self, object: &Object) -> bool {
        self.path.as_bytes() == &*object.path
            && self.inode == object.inode
            && (!object.is_jit() || self.pid == object.pid)
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

    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        match self.objects.iter().find(|known| known.is(object)) {
            Some(known) => known.names.find(file_offsets),
            None => vec![Functions::new(); file_offsets.len()],
        }
    }

    fn kernel_build_id(&mut self) -> Option<String> {
        self.kernel.build_id.clone()
    }

    fn build_id(&mut self, object: &Object) -> Option<String> {
        self.objects.iter().find(|known| known.is(object))?.names.build_id.clone()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// Passes on what another symbolizer says, and writes it down.
pub struct Remembering<'a> {
    inner: &'a mut dyn Symbolizer,
    table: SymbolTable,
}

impl<'a> Remembering<'a> {
    /// Has written down nothing yet.
    pub fn new(inner: &'a mut dyn Symbolizer) -> Self {
        Remembering { inner, table: SymbolTable::default() }
    }

    /// What was said.
    pub fn into_table(mut self) -> SymbolTable {
        self.table.notes = self.inner.notes();
        self.table
    }
}

impl Symbolizer for Remembering<'_> {
    fn kernel_base(&mut self, symbol: &[u8], address: u64) {
        self.inner.kernel_base(symbol, address);
    }

    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        let found = self.inner.kernel(addresses);
        self.table.kernel.build_id = self.inner.kernel_build_id();
        self.table.kernel.add(addresses, &found);
        found
    }

    fn kernel_build_id(&mut self) -> Option<String> {
        self.inner.kernel_build_id()
    }

    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        let found = self.inner.object(object, file_offsets);
        let mut names = Names { build_id: self.inner.build_id(object), ..Names::default() };
        names.add(file_offsets, &found);
        self.table.objects.push(ObjectNames {
            path: ObjectPath::new(&object.path),
            inode: object.inode,
            pid: object.pid,
            names,
        });
        found
    }

    fn build_id(&mut self, object: &Object) -> Option<String> {
        self.table.build_id(object)
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
        let mut remembering = Remembering::new(&mut even);
        let kernel = remembering.kernel(&addresses);
        let mut other = Object::named(b"/bin/a");
        other.inode = 7;
        let objects = [Object::named(b"/bin/a"), Object::named(b"/bin/\xff"), other];
        let objects = objects.map(|object| {
            let found = remembering.object(&object, &addresses);
            (object, found)
        });
        let table = remembering.into_table();
        let text = serde_json::to_string(&table).unwrap();
        let mut read: SymbolTable = serde_json::from_str(&text).unwrap();
        assert_eq!(read, table);
        assert_eq!(read.kernel(&addresses), kernel);
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

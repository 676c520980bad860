//! The functions that an ELF file's symbol tables name, and of several at one address the one that
//! perf prints.

use std::borrow::Cow;

use object::elf::{
    STB_GLOBAL, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT, STV_HIDDEN, STV_INTERNAL,
    SymbolType,
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, SymbolFlags};

use super::demangle::demangled;

/// More than any program has, so that a sparse file of zeros does not pass for one.
const MOST_SYMBOLS: usize = 1 << 24;

/// A function, at the file's own addresses.
#[derive(Clone, Copy, Debug)]
struct Listed<'data> {
    start: u64,
    /// Behind its last byte.
    end: u64,
    name: &'data str,
    kind: SymbolType,
    is_weak: bool,
    is_global: bool,
}

/// Functions by address, each address once.
#[derive(Debug, Default)]
pub(super) struct Functions<'data> {
    /// By start.
    listed: Vec<Listed<'data>>,
    /// The highest end among each and those before it, as functions may lie within others.
    reach: Vec<u64>,
}

impl<'data> Functions<'data> {
    /// Of `.dynsym`: what the file offers to others.
    pub(super) fn exported(elf: &object::File<'data>) -> Self {
        Self::from_symbols(elf, elf.dynamic_symbols())
    }

    /// Of `.symtab`.
    pub(super) fn of_symtab(elf: &object::File<'data>) -> Self {
        Self::from_symbols(elf, elf.symbols())
    }

    fn from_symbols<'file>(
        elf: &'file object::File<'data>,
        symbols: object::SymbolIterator<'data, 'file>,
    ) -> Self {
        let code = Code::of(elf);
        let listed = symbols.take(MOST_SYMBOLS).filter_map(|symbol| code.listed(&symbol));
        Self::choose(listed.collect())
    }

    fn choose(mut listed: Vec<Listed<'data>>) -> Self {
        // Stable: symbols of one address stay in the order of the table, which decides among them.
        listed.sort_by_key(|function| function.start);
        fix_ends(&mut listed);
        listed.dedup_by(|next, kept| {
            let same = next.start == kept.start;
            if same && !is_better(kept, next) {
                std::mem::swap(next, kept);
            }
            same
        });
        let mut highest = 0;
        let reach = listed.iter().map(|function| {
            highest = function.end.max(highest);
            highest
        });
        let reach = reach.collect();
        Functions { listed, reach }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The name of the function at an address, as it is spelled in the file, and the offset in it.
    pub(super) fn find(&self, address: u64) -> Option<(&'data str, u64)> {
        let after = self.listed.partition_point(|function| function.start <= address);
        let mut before = after;
        while let Some(index) = before.checked_sub(1) {
            if self.reach[index] <= address {
                return None;
            }
            let function = &self.listed[index];
            if address < function.end {
                return Some((function.name, address - function.start));
            }
            before = index;
        }
        None
    }
}

/// Gives symbols without a size the room up to the next, the last one up to the end of the page
/// after it (`symbols__fixup_end` in tools/perf/util/symbol.c, v6.1).
fn fix_ends(listed: &mut [Listed<'_>]) {
    let starts: Vec<u64> = listed.iter().skip(1).map(|function| function.start).collect();
    for (index, function) in listed.iter_mut().enumerate() {
        if function.end == function.start {
            function.end = match starts.get(index) {
                Some(&next) => next,
                None => function.start.saturating_add(4096).next_multiple_of(4096).max(1),
            };
        }
    }
}

/// Whether perf keeps `a` rather than `b`, which follows it in the table (`choose_best_symbol` in
/// tools/perf/util/symbol.c, v6.1).
fn is_better(a: &Listed<'_>, b: &Listed<'_>) -> bool {
    let length = |function: &Listed<'_>| function.end - function.start;
    if (length(a) == 0) != (length(b) == 0) {
        return length(a) > 0;
    }
    if a.kind != b.kind && (a.kind == STT_NOTYPE || b.kind == STT_NOTYPE) {
        return b.kind == STT_NOTYPE;
    }
    if a.is_weak != b.is_weak {
        return b.is_weak;
    }
    if a.is_global != b.is_global {
        return a.is_global;
    }
    let [name_a, name_b] = [a.name, b.name].map(demangled);
    let underscores = |name: &str| name.bytes().take_while(|&byte| byte == b'_').count();
    let (a, b): (&Cow<'_, str>, _) = (&name_a, &name_b);
    match underscores(a).cmp(&underscores(b)).then(b.len().cmp(&a.len())) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Greater => false,
        std::cmp::Ordering::Equal => !a.starts_with("SyS") && !a.starts_with("compat_SyS"),
    }
}

/// Which sections of a file hold code.
struct Code {
    /// By index: of code, and with "text" in its name.
    sections: Vec<(bool, bool)>,
    has_mapping_symbols: bool,
}

impl Code {
    fn of(elf: &object::File<'_>) -> Self {
        let mut sections = Vec::new();
        for section in elf.sections() {
            let index = section.index().0;
            // What names more sections than it has bytes for does not get here.
            if sections.len() <= index {
                sections.resize(index + 1, (false, false));
            }
            let flags = match section.flags() {
                SectionFlags::Elf { sh_flags, .. } => sh_flags,
                _ => continue,
            };
            let is_code = flags.contains(object::elf::SHF_ALLOC | object::elf::SHF_EXECINSTR);
            let is_text = section.name().is_ok_and(|name| name.contains("text"));
            sections[index] = (is_code, is_text);
        }
        let has_mapping_symbols =
            matches!(elf.architecture(), object::Architecture::Aarch64 | object::Architecture::Arm);
        Code { sections, has_mapping_symbols }
    }

    /// A symbol that perf takes for the name of code (`elf_sym__filter` and `elf_sym__is_label` in
    /// tools/perf/util/symbol-elf.c, v6.1).
    fn listed<'data>(&self, symbol: &object::Symbol<'data, '_>) -> Option<Listed<'data>> {
        let SymbolFlags::Elf { st_info, st_other } = symbol.flags() else { return None };
        let &(is_code, is_text) = self.sections.get(symbol.section_index()?.0)?;
        let kind = st_info.st_type();
        let counts = match kind {
            STT_FUNC | STT_GNU_IFUNC | STT_OBJECT => true,
            STT_NOTYPE => is_text && !matches!(st_other.visibility(), STV_HIDDEN | STV_INTERNAL),
            _ => false,
        };
        if !is_code || !counts {
            return None;
        }
        let name = symbol.name().ok().filter(|name| !name.is_empty())?;
        if self.has_mapping_symbols && name.starts_with('$') {
            return None;
        }
        let start = symbol.address();
        let end = start.saturating_add(symbol.size());
        let (is_weak, is_global) = (symbol.is_weak(), st_info.st_bind() == STB_GLOBAL);
        Some(Listed { start, end, name, kind, is_weak, is_global })
    }
}

//! The kernel's symbol table, `/proc/kallsyms`.

use std::ops::Range;

/// Functions of the kernel and its modules, by address.
#[derive(Debug, Default)]
pub(crate) struct Kallsyms {
    text: String,
    /// Sorted by address, one an address.
    symbols: Vec<Symbol>,
    /// What perf measures the kernel's place by; often an alias, so apart from the others.
    bases: Vec<(String, u64)>,
}

#[derive(Clone, Debug)]
struct Symbol {
    address: u64,
    kind: u8,
    name: Range<u32>,
    /// Empty for the kernel proper.
    module: Range<u32>,
    /// Padding lies before it.
    padded: bool,
}

/// A function found by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    /// As the kernel spells it.
    pub name: &'a str,
    /// `ext4`; `None` for the kernel proper.
    pub module: Option<&'a str>,
    /// Bytes from its start.
    pub offset: u64,
}

impl Kallsyms {
    /// Parses the table. One that hides its addresses (all zero) comes out empty.
    pub(crate) fn parse(text: String) -> Self {
        let mut symbols = Vec::with_capacity(text.len() / 40);
        let mut at = 0usize;
        for line in text.split_inclusive('\n') {
            symbols.extend(parse_line(line, at));
            at += line.len();
        }
        symbols.sort_by_key(|symbol| symbol.address);
        let name = |symbol: &Symbol| &text[symbol.name.start as usize..symbol.name.end as usize];
        let (mut behind_marker, mut padded_at) = (false, None);
        symbols.retain_mut(|symbol| {
            let is_marker = is_padding(name(symbol));
            if behind_marker && !is_marker {
                padded_at = Some(symbol.address);
            }
            behind_marker = is_marker;
            symbol.padded = padded_at == Some(symbol.address);
            !is_marker
        });
        let is_base = |symbol: &&Symbol| matches!(name(symbol), "_text" | "_stext");
        let bases = symbols.iter().filter(is_base);
        let bases = bases.map(|symbol| (name(symbol).to_owned(), symbol.address)).collect();
        let mut kallsyms = Kallsyms { text, symbols, bases };
        kallsyms.keep_best_of_aliases();
        kallsyms
    }

    /// No addresses to be had.
    pub(crate) fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The function that covers an address: the last that starts at or before it.
    ///
    /// Of a caller the byte before its return address is asked for. Where that is padding no call
    /// ends, and the address is the start of the function behind it: one that was interrupted at its
    /// first instruction, or that a retpoline is about to enter, which puts it where the return
    /// address is (`__x86_indirect_thunk_*`, arch/x86/lib/retpoline.S, v6.18).
    pub(crate) fn find(&self, address: u64) -> Option<Found<'_>> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= address);
        let begins = |next: &&Symbol| next.padded && next.address - 1 == address;
        let symbol = match self.symbols.get(after).filter(begins) {
            Some(next) => next,
            None => &self.symbols[after.checked_sub(1)?],
        };
        let module = self.slice(&symbol.module);
        Some(Found {
            name: self.slice(&symbol.name),
            module: (!module.is_empty()).then_some(module),
            offset: address.saturating_sub(symbol.address),
        })
    }

    /// Where a function of the kernel proper starts.
    pub(crate) fn address(&self, name: &str) -> Option<u64> {
        self.bases.iter().find(|(known, _)| known == name).map(|&(_, address)| address)
    }

    fn slice(&self, range: &Range<u32>) -> &str {
        &self.text[range.start as usize..range.end as usize]
    }

    /// Several names for one address: the one that choose_best_symbol in tools/perf/util/symbol.c
    /// (v6.1) prefers. perf itself ends up with the last, as in a table without sizes all others
    /// come out empty; the plainest name is the one that people know.
    fn keep_best_of_aliases(&mut self) {
        let mut symbols = std::mem::take(&mut self.symbols);
        symbols.dedup_by(|next, kept| {
            if next.address != kept.address {
                return false;
            }
            if self.rank(next) > self.rank(kept) {
                std::mem::swap(next, kept);
            }
            true
        });
        self.symbols = symbols;
    }

    /// Strong before weak, global before local, fewer leading underscores, then the longer name.
    fn rank(&self, symbol: &Symbol) -> (bool, bool, std::cmp::Reverse<usize>, usize) {
        let name = self.slice(&symbol.name);
        let underscores = name.bytes().take_while(|&byte| byte == b'_').count();
        let weak = symbol.kind.eq_ignore_ascii_case(&b'w');
        let global = symbol.kind.is_ascii_uppercase();
        (!weak, global, std::cmp::Reverse(underscores), name.len())
    }
}

/// Padding before a function that a debugger's prefix or a control-flow check lives in: never where
/// the program counter is, but it would win over the end of the function before.
fn is_padding(name: &str) -> bool {
    name.starts_with("__pfx_") || name.starts_with("__cfi_")
}

/// `ffffffff8136ddc0 t anon_pipe_write` or `ffffffffc0000000 t ext4_write [ext4]`.
fn parse_line(line: &str, at: usize) -> Option<Symbol> {
    let trimmed = line.trim_end();
    let (address, rest) = trimmed.split_once(' ')?;
    let kind = *rest.as_bytes().first()?;
    if !matches!(kind, b't' | b'T' | b'w' | b'W') {
        return None;
    }
    let address = u64::from_str_radix(address, 16).ok().filter(|&address| address != 0)?;
    let names = rest.get(2..)?;
    let names_at = at + (trimmed.len() - names.len());
    let (name, module) = match names.split_once("\t[") {
        Some((name, module)) => (name, module.trim_end_matches(']')),
        None => (names, ""),
    };
    // Mapping symbols of arm64 and assembler locals, which perf passes over too.
    if name.is_empty() || name.starts_with('$') || name.starts_with(".L") {
        return None;
    }
    let range = |start: usize, length: usize| {
        Some(u32::try_from(start).ok()?..u32::try_from(start + length).ok()?)
    };
    let module_at = names_at + name.len() + 2;
    Some(Symbol {
        address,
        kind,
        name: range(names_at, name.len())?,
        module: if module.is_empty() { 0..0 } else { range(module_at, module.len())? },
        padded: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 t __pfx_anon_pipe_write
ffffffff81000110 t anon_pipe_write
ffffffff81000200 T __x64_sys_write
ffffffff81000200 T __se_sys_write_with_a_long_name
ffffffff81000300 W weak_one
ffffffff81000300 t strong_local
ffffffff81000400 d some_data
ffffffffc0000000 t ext4_write\t[ext4]
";

    fn name(address: u64) -> String {
        let table = Kallsyms::parse(TABLE.to_owned());
        table.find(address).map_or_else(String::new, |found| {
            format!("{}+{:#x} {}", found.name, found.offset, found.module.unwrap_or("-"))
        })
    }

    #[test]
    fn the_function_that_covers_an_address() {
        assert_eq!(name(0xffff_ffff_8100_0114), "anon_pipe_write+0x4 -");
        assert_eq!(name(0xffff_ffff_8100_0108), "_stext+0x108 -");
        assert_eq!(name(0xffff_ffff_8100_0450), "strong_local+0x150 -");
        assert_eq!(name(0xffff_ffff_c000_0001), "ext4_write+0x1 ext4");
        assert_eq!(name(0x1000), "");
    }

    #[test]
    fn a_function_that_is_about_to_begin_is_not_the_one_before() {
        assert_eq!(name(0xffff_ffff_8100_010e), "_stext+0x10e -");
        assert_eq!(name(0xffff_ffff_8100_010f), "anon_pipe_write+0x0 -");
        // Without padding the byte before may be the end of a call that never returns.
        assert!(name(0xffff_ffff_8100_01ff).starts_with("anon_pipe_write+0xef"));
    }

    #[test]
    fn of_several_names_the_one_that_perf_prints() {
        assert!(name(0xffff_ffff_8100_0200).starts_with("__se_sys_write_with"));
        assert!(name(0xffff_ffff_8100_0300).starts_with("strong_local"));
    }

    #[test]
    fn hidden_addresses_make_an_empty_table() {
        let hidden = TABLE.lines().map(|line| format!("0000000000000000{}\n", &line[16..]));
        assert!(Kallsyms::parse(hidden.collect()).is_empty());
    }
}

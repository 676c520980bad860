//! The kernel's symbol table, `/proc/kallsyms`.

use std::ops::Range;

/// Functions of the kernel and its modules, by address.
#[derive(Debug, Default)]
pub(crate) struct Kallsyms {
    text: String,
    /// Sorted by address, one an address.
    symbols: Vec<Symbol>,
    /// What the kernel's place and the ends of its code are measured by; often an alias, so apart
    /// from the others.
    landmarks: Vec<(&'static str, u64)>,
    /// Where the code of the kernel proper lies; empty where the table does not tell.
    code: Vec<Range<u64>>,
}

/// The symbols at the borders of the kernel's code (include/asm-generic/sections.h).
const LANDMARKS: [&str; 5] = ["_text", "_stext", "_etext", "_sinittext", "_einittext"];

#[derive(Clone, Debug)]
struct Symbol {
    address: u64,
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
        // Stable: of several names for one address the last of the table is in force.
        symbols.sort_by_key(|symbol| symbol.address);
        let name = |symbol: &Symbol| &text[symbol.name.start as usize..symbol.name.end as usize];
        let (mut behind_marker, mut padded_at) = (false, None);
        symbols.retain_mut(|symbol| {
            let is_marker = is_padding(name(symbol));
            if behind_marker && !is_marker {
                padded_at = Some(symbol.address);
            }
            behind_marker = is_marker;
            symbol.padded = padded_at == Some(symbol.address) || is_thunk(name(symbol));
            !is_marker
        });
        let landmark = |symbol: &Symbol| {
            let known = LANDMARKS.iter().find(|&&known| known == name(symbol))?;
            Some((*known, symbol.address))
        };
        let landmarks: Vec<_> = symbols.iter().filter_map(landmark).collect();
        let mut kallsyms = Kallsyms { text, symbols, landmarks, code: Vec::new() };
        kallsyms.keep_last_of_aliases();
        let start = kallsyms.address("_text").or_else(|| kallsyms.address("_stext"));
        let code = [
            (start, kallsyms.address("_etext")),
            (kallsyms.address("_sinittext"), kallsyms.address("_einittext")),
        ];
        let code = code.into_iter().filter_map(|(start, end)| Some(start?..end?));
        kallsyms.code = code.collect();
        kallsyms
    }

    /// No addresses available.
    pub(crate) fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The function that covers an address: the last that starts at or before it, and ends behind
    /// it. The table has no ends. That of a function is where the next begins; of the last of the
    /// kernel proper `_etext`; of the last of a module the end of the page after its first, as perf
    /// has it (`symbols__fixup_end` in tools/perf/util/symbol.c, v6.1).
    ///
    /// Of a caller the byte before its return address is asked for. Where that is padding no call
    /// ends, and the address is the start of the function behind it: one that was interrupted at its
    /// first instruction, or that a retpoline is about to enter, which puts it where the return
    /// address is (`__x86_indirect_thunk_*`, arch/x86/lib/retpoline.S, v6.18).
    pub(crate) fn find(&self, address: u64) -> Option<Found<'_>> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= address);
        let begins = |next: &&Symbol| next.padded && next.address - 1 == address;
        let next = self.symbols.get(after);
        let symbol = match next.filter(begins) {
            Some(next) => next,
            None => &self.symbols[after.checked_sub(1)?],
        };
        let module = self.slice(&symbol.module);
        let is_last = next.is_none_or(|next| self.slice(&next.module) != module);
        if is_last && address >= end_of_last(symbol.address) {
            return None;
        }
        let is_code = |at: u64| self.code.iter().any(|code| code.contains(&at));
        if module.is_empty() && !self.code.is_empty() && !is_code(address) {
            return None;
        }
        Some(Found {
            name: self.slice(&symbol.name),
            module: (!module.is_empty()).then_some(module),
            offset: address.saturating_sub(symbol.address),
        })
    }

    /// Where a landmark of the kernel proper is.
    pub(crate) fn address(&self, name: &str) -> Option<u64> {
        self.landmarks.iter().find(|(known, _)| *known == name).map(|&(_, address)| address)
    }

    fn slice(&self, range: &Range<u32>) -> &str {
        &self.text[range.start as usize..range.end as usize]
    }

    /// Several names for one address: the one that perf prints. As the table has no ends, perf has
    /// all but the last come out empty, and prefers the one that is not (`symbols__fixup_end`, then
    /// `choose_best_symbol` in tools/perf/util/symbol.c, v6.1).
    fn keep_last_of_aliases(&mut self) {
        self.symbols.dedup_by(|next, kept| {
            let same = next.address == kept.address;
            if same {
                std::mem::swap(next, kept);
            }
            same
        });
    }
}

/// Where the last function of a module ends at the latest.
fn end_of_last(start: u64) -> u64 {
    start.saturating_add(4096).checked_next_multiple_of(4096).unwrap_or(u64::MAX)
}

/// Padding before a function that a debugger's prefix or a control-flow check lives in: never where
/// the program counter is, but it would win over the end of the function before.
fn is_padding(name: &str) -> bool {
    name.starts_with("__pfx_") || name.starts_with("__cfi_")
}

/// Jumps and returns that mitigations go through have traps before them and no marker: a function
/// that ends in a call is never right before one (arch/x86/lib/retpoline.S, v6.18).
fn is_thunk(name: &str) -> bool {
    name.contains("__x86_indirect_") || name.ends_with("return_thunk")
}

/// `ffffffff8136ddc0 t anon_pipe_write` or `ffffffffc0000000 t ext4_write [ext4]`.
fn parse_line(line: &str, at: usize) -> Option<Symbol> {
    let trimmed = line.trim_end();
    let (address, rest) = trimmed.split_once(' ')?;
    if !matches!(rest.as_bytes().first()?, b't' | b'T' | b'w' | b'W') {
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
ffffffff81000500 T _etext
ffffffff81800000 T _sinittext
ffffffff81800000 t set_up
ffffffff81800100 T _einittext
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
        assert_eq!(name(0xffff_ffff_8100_0108), "_text+0x108 -");
        assert_eq!(name(0xffff_ffff_8100_0450), "strong_local+0x150 -");
        assert_eq!(name(0xffff_ffff_8180_0001), "set_up+0x1 -");
        assert_eq!(name(0xffff_ffff_c000_0001), "ext4_write+0x1 ext4");
        assert_eq!(name(0x1000), "");
    }

    #[test]
    fn addresses_outside_all_code_have_no_name() {
        // Behind the code, between its two parts, and behind both, where JIT-compiled filters lie.
        for address in [0x8100_0500, 0x8140_0000, 0x8180_0100, 0xa000_0000, 0xc000_2000] {
            assert_eq!(name(0xffff_ffff_0000_0000 | address), "", "{address:x}");
        }
        assert_eq!(name(0xffff_ffff_c000_0fff), "ext4_write+0xfff ext4");
        // Without landmarks, one page after the last function.
        let table = Kallsyms::parse("ffffffff81000010 t only\n".to_owned());
        assert!(table.find(0xffff_ffff_8100_0fff).is_some());
        assert!(table.find(0xffff_ffff_8100_2000).is_none());
    }

    #[test]
    fn a_function_that_is_about_to_begin_is_not_the_one_before() {
        assert_eq!(name(0xffff_ffff_8100_010e), "_text+0x10e -");
        assert_eq!(name(0xffff_ffff_8100_010f), "anon_pipe_write+0x0 -");
        // Without padding the byte before may be the end of a call that never returns.
        assert!(name(0xffff_ffff_8100_01ff).starts_with("anon_pipe_write+0xef"));
        // Thunks have no marker, and nothing calls right before them.
        for thunk in ["its_return_thunk", "__x86_return_thunk", "__x86_indirect_thunk_rax"] {
            let table = format!("ffffffff81000000 T before\nffffffff81000010 T {thunk}\n");
            let table = Kallsyms::parse(table);
            assert_eq!(table.find(0xffff_ffff_8100_000f).map(|found| found.name), Some(thunk));
        }
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

//! Inlined functions, which only debug information knows. It is optional: whatever is wrong in it,
//! the names of the symbol table stand.

use std::borrow::Cow;

use addr2line::gimli::{self, EndianSlice, RunTimeEndian, SectionId};
use addr2line::{Context, LookupResult};
use object::Object as _;

use super::demangle::demangled;
use super::image;

/// Functions deeper in one another are left out: damaged information nests without end.
const DEEPEST: usize = 64;

/// What debug information says of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// Functions that were inlined here, innermost first.
    pub(super) inlined: Vec<String>,
    /// The function that is there as one.
    pub(super) function: Option<String>,
}

/// Something in the debug information cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// A file has debug information.
pub(super) fn has_any(elf: &object::File<'_>) -> bool {
    elf.section_by_name(".debug_info").is_some()
}

/// What a file's debug information says of these of its addresses; `supplement` is the file that it
/// shares with others (`.gnu_debugaltlink`).
///
/// # Errors
/// [`Damaged`] where nothing of it can be read; the second of the pair tells that some cannot.
pub(super) fn find(
    elf: &object::File<'_>,
    supplement: Option<&object::File<'_>>,
    addresses: &[u64],
) -> Result<(Vec<Frames>, bool), Damaged> {
    let sections = load(elf)?;
    let of_supplement = supplement.map(load).transpose()?;
    let endian = if elf.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let dwarf =
        sections.borrow_with_sup(of_supplement.as_ref(), |bytes| EndianSlice::new(bytes, endian));
    let context = Context::from_dwarf(dwarf).map_err(|_| Damaged)?;
    let mut damaged = false;
    let frames = addresses.iter().map(|&address| {
        frames_at(&context, address).unwrap_or_else(|_| {
            damaged = true;
            Frames::default()
        })
    });
    Ok((frames.collect(), damaged))
}

type Sections<'data> = gimli::DwarfSections<Cow<'data, [u8]>>;

fn load<'data>(elf: &object::File<'data>) -> Result<Sections<'data>, Damaged> {
    gimli::DwarfSections::load(|id: SectionId| {
        if elf.section_by_name(id.name()).is_none() {
            return Ok(Cow::Borrowed(&[][..]));
        }
        image::section(elf, id.name()).ok_or(Damaged)
    })
}

type Reader<'a> = EndianSlice<'a, RunTimeEndian>;

fn frames_at(context: &Context<Reader<'_>>, address: u64) -> Result<Frames, gimli::Error> {
    let mut found = match context.find_frames(address) {
        LookupResult::Output(found) => found?,
        // Debug information in a file of its own for each unit (.dwo) is not looked for.
        load @ LookupResult::Load { .. } => load.skip_all_loads()?,
    };
    let mut names = Vec::new();
    while let Some(frame) = found.next()? {
        if names.len() == DEEPEST {
            break;
        }
        let name = match &frame.function {
            Some(function) => Some(demangled(&function.raw_name()?).into_owned()),
            None => None,
        };
        names.push(name);
    }
    let function = names.pop().flatten();
    Ok(Frames { inlined: names.into_iter().flatten().collect(), function })
}

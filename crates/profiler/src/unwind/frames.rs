//! The call frame information of one object: which row of it covers an address, and what a caller
//! looks like by that row.

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, Evaluation,
    EvaluationResult, Expression, LittleEndian, Location, RegisterRule, UnwindContext,
    UnwindSection, UnwindTableRow, Value, Vendor,
};

use super::machine::{Bytes, Machine};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Steps of an expression; real ones have some ten.
const MOST_STEPS: u32 = 1000;

/// Which section the information is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `.eh_frame`.
    Eh,
    /// `.debug_frame`.
    Debug,
}

/// How the caller of a frame at some address is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// framehop does it by the row alone.
    Plain,
    /// It takes an expression, which framehop would give up and guess.
    Expressed {
        /// What is below was interrupted by a signal, so it made no call.
        signal: bool,
    },
    /// Nothing covers the address.
    Uncovered,
}

/// Why there is no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// This is the outermost frame.
    Root,
    /// A word of the stack was needed that is not there.
    Unread(u64),
    /// The row cannot be followed.
    Unknown,
}

/// Call frame information, with an index by address.
pub(super) struct Frames {
    kind: Kind,
    section: Bytes,
    bases: BaseAddresses,
    /// `.eh_frame_hdr`, where it has a table to search.
    header: Option<Bytes>,
    /// Without such a table: where each entry's code begins, and the entry's offset.
    sorted: Vec<(u64, usize)>,
    context: UnwindContext<usize>,
}

impl Frames {
    /// Of a section's bytes. `None` where they are damaged.
    pub(super) fn new(
        kind: Kind,
        section: Bytes,
        header: Option<Bytes>,
        bases: BaseAddresses,
    ) -> Option<Self> {
        let header = header.filter(|header| {
            let parsed = EhFrameHdr::new(header, LittleEndian).parse(&bases, 8);
            parsed.is_ok_and(|parsed| parsed.table().is_some())
        });
        let context = UnwindContext::new();
        let mut frames = Frames { kind, section, bases, header, sorted: Vec::new(), context };
        if frames.header.is_none() {
            frames.sorted = match kind {
                Kind::Eh => sorted(&frames.eh(Vendor::Default), &frames.bases)?,
                Kind::Debug => sorted(&frames.debug(Vendor::Default), &frames.bases)?,
            };
        }
        Some(frames)
    }

    /// What lies in the header is searched by framehop too.
    pub(super) fn header(&self) -> Option<&Bytes> {
        self.header.as_ref()
    }

    /// Where all indexed code begins, lowest first; empty where the header tells.
    pub(super) fn starts(&self) -> &[(u64, usize)] {
        &self.sorted
    }

    fn eh(&self, vendor: Vendor) -> EhFrame<Slice<'_>> {
        let mut section = EhFrame::new(&self.section, LittleEndian);
        section.set_address_size(8);
        section.set_vendor(vendor);
        section
    }

    fn debug(&self, vendor: Vendor) -> DebugFrame<Slice<'_>> {
        let mut section = DebugFrame::new(&self.section, LittleEndian);
        section.set_address_size(8);
        section.set_vendor(vendor);
        section
    }

    /// The entry that may cover an address.
    fn entry(&self, address: u64) -> Option<usize> {
        if let Some(header) = &self.header {
            let parsed = EhFrameHdr::new(header, LittleEndian).parse(&self.bases, 8).ok()?;
            let table = parsed.table()?;
            let found = table.lookup(address, &self.bases).ok()?;
            return table.pointer_to_offset(found).ok().map(|offset| offset.0);
        }
        let after = self.sorted.partition_point(|&(start, _)| start <= address);
        Some(self.sorted[after.checked_sub(1)?].1)
    }

    /// How the caller of a frame at `address` is found.
    pub(super) fn judge<M: Machine>(&mut self, address: u64) -> Verdict {
        let judge = |row: &UnwindTableRow<usize>, signal: bool| {
            if M::is_plain(row) && !signal { Verdict::Plain } else { Verdict::Expressed { signal } }
        };
        // framehop knows no vendor.
        let common = self.with_row(address, Vendor::Default, judge);
        match common {
            Some(verdict) => verdict,
            None if M::VENDOR != Vendor::Default => self
                .with_row(address, M::VENDOR, |_, signal| Verdict::Expressed { signal })
                .unwrap_or(Verdict::Uncovered),
            None => Verdict::Uncovered,
        }
    }

    fn with_row<T>(
        &mut self,
        address: u64,
        vendor: Vendor,
        then: impl FnOnce(&UnwindTableRow<usize>, bool) -> T,
    ) -> Option<T> {
        let entry = self.entry(address)?;
        let mut context = std::mem::take(&mut self.context);
        let result = match self.kind {
            Kind::Eh => row(&self.eh(vendor), &self.bases, entry, address, &mut context)
                .map(|(row, signal, _)| then(row, signal)),
            Kind::Debug => row(&self.debug(vendor), &self.bases, entry, address, &mut context)
                .map(|(row, signal, _)| then(row, signal)),
        };
        self.context = context;
        result
    }

    /// The caller of a frame, by a row that is [`Verdict::Expressed`]: where it goes on, and its
    /// registers.
    pub(super) fn caller<M: Machine>(
        &mut self,
        address: u64,
        regs: &M::Regs,
        read: &mut dyn FnMut(u64) -> Result<u64, ()>,
    ) -> Result<(u64, M::Regs), Stop> {
        let entry = self.entry(address).ok_or(Stop::Unknown)?;
        let mut context = std::mem::take(&mut self.context);
        let result = match self.kind {
            Kind::Eh => {
                let section = self.eh(M::VENDOR);
                row(&section, &self.bases, entry, address, &mut context)
                    .ok_or(Stop::Unknown)
                    .and_then(|(row, _, encoding)| {
                        Follow::<M, _> { section: &section, encoding, regs, read }.caller(row)
                    })
            }
            Kind::Debug => {
                let section = self.debug(M::VENDOR);
                row(&section, &self.bases, entry, address, &mut context)
                    .ok_or(Stop::Unknown)
                    .and_then(|(row, _, encoding)| {
                        Follow::<M, _> { section: &section, encoding, regs, read }.caller(row)
                    })
            }
        };
        self.context = context;
        result
    }
}

/// Where the code of each entry begins. As strict as framehop's own index, so that both find the
/// same: one bad entry, and there is none.
fn sorted<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
) -> Option<Vec<(u64, usize)>> {
    let mut starts = Vec::new();
    let mut entries = section.entries(bases);
    while let Some(entry) = entries.next().ok()? {
        if let CieOrFde::Fde(partial) = entry {
            let entry = partial.parse(S::cie_from_offset).ok()?;
            starts.push((entry.initial_address(), entry.offset()));
        }
    }
    starts.sort_by_key(|&(start, _)| start);
    Some(starts)
}

/// The row of an entry for an address, if it is there, whether a signal frame's, and how its
/// expressions are encoded.
fn row<'a, 'c, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    entry: usize,
    address: u64,
    context: &'c mut UnwindContext<usize>,
) -> Option<(&'c UnwindTableRow<usize>, bool, gimli::Encoding)> {
    let entry = section.fde_from_offset(bases, S::Offset::from(entry), S::cie_from_offset).ok()?;
    let row = entry.unwind_info_for_address(section, bases, context, address).ok()?;
    Some((row, entry.is_signal_trampoline(), entry.cie().encoding()))
}

/// Follows one row.
struct Follow<'r, M: Machine, S> {
    section: &'r S,
    encoding: gimli::Encoding,
    regs: &'r M::Regs,
    read: &'r mut dyn FnMut(u64) -> Result<u64, ()>,
}

impl<'a, M: Machine, S: UnwindSection<Slice<'a>>> Follow<'_, M, S> {
    fn caller(&mut self, row: &UnwindTableRow<usize>) -> Result<(u64, M::Regs), Stop> {
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                let base = M::get(self.regs, *register).ok_or(Stop::Unknown)?;
                base.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => {
                let expression = expression.get(self.section).map_err(|_| Stop::Unknown)?;
                self.evaluate(expression, None)?
            }
        };
        let link = M::get(self.regs, M::RETURN_ADDRESS);
        let address = match row.register(M::RETURN_ADDRESS) {
            Some(RegisterRule::Undefined) => return Err(Stop::Root),
            None | Some(RegisterRule::SameValue) => link.ok_or(Stop::Unknown)?,
            Some(rule) => self.value(&rule, cfa)?,
        };
        // By the definition of the frame address it is the caller's stack pointer, but for a
        // signal's frame, which says otherwise.
        let stack = match row.register(M::STACK_POINTER) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => cfa,
            Some(rule) => self.value(&rule, cfa)?,
        };
        let frame = match row.register(M::FRAME_POINTER) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => {
                M::get(self.regs, M::FRAME_POINTER).ok_or(Stop::Unknown)?
            }
            Some(rule) => self.value(&rule, cfa)?,
        };
        if address == 0 {
            return Err(Stop::Root);
        }
        Ok(M::caller(self.regs, address, stack, frame))
    }

    fn value(&mut self, rule: &RegisterRule<usize>, cfa: u64) -> Result<u64, Stop> {
        match rule {
            RegisterRule::Offset(offset) => self.word(cfa.wrapping_add_signed(*offset)),
            RegisterRule::ValOffset(offset) => Ok(cfa.wrapping_add_signed(*offset)),
            RegisterRule::Register(register) => M::get(self.regs, *register).ok_or(Stop::Unknown),
            RegisterRule::Expression(expression) => {
                let expression = expression.get(self.section).map_err(|_| Stop::Unknown)?;
                let at = self.evaluate(expression, Some(cfa))?;
                self.word(at)
            }
            RegisterRule::ValExpression(expression) => {
                let expression = expression.get(self.section).map_err(|_| Stop::Unknown)?;
                self.evaluate(expression, Some(cfa))
            }
            _ => Err(Stop::Unknown),
        }
    }

    fn word(&mut self, address: u64) -> Result<u64, Stop> {
        (self.read)(address).map_err(|()| Stop::Unread(address))
    }

    /// The value of an expression over registers and stack.
    fn evaluate(
        &mut self,
        expression: Expression<Slice<'a>>,
        cfa: Option<u64>,
    ) -> Result<u64, Stop> {
        let unknown = |_| Stop::Unknown;
        let mut evaluation = Evaluation::new(expression.0, self.encoding);
        evaluation.set_max_iterations(MOST_STEPS);
        if let Some(cfa) = cfa {
            evaluation.set_initial_value(cfa);
        }
        let mut state = evaluation.evaluate().map_err(unknown)?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = M::get(self.regs, register).ok_or(Stop::Unknown)?;
                    evaluation.resume_with_register(Value::Generic(value)).map_err(unknown)?
                }
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    let value = self.word(address)?;
                    evaluation.resume_with_memory(Value::Generic(value)).map_err(unknown)?
                }
                _ => return Err(Stop::Unknown),
            };
        }
        match evaluation.as_result().last().map(|piece| &piece.location) {
            Some(Location::Address { address }) => Ok(*address),
            _ => Err(Stop::Unknown),
        }
    }
}

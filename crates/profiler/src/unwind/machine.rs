//! What differs between the architectures that can be unwound. Both are compiled everywhere, as a
//! recording may come from another machine.

use std::sync::Arc;

use framehop::aarch64::{CacheAarch64, PtrAuthMask, UnwindRegsAarch64, UnwinderAarch64};
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use gimli::{AArch64, CfaRule, Register, RegisterRule, UnwindTableRow, Vendor};

use crate::perfdata::layout::UserState;

/// The bytes of a section.
pub(super) type Bytes = Arc<[u8]>;

/// Offsets that framehop can hold, with room to spare.
const SMALL: i64 = 1 << 19;

/// An architecture.
pub(crate) trait Machine {
    /// The registers that tell a caller.
    type Regs: Copy;
    /// framehop's rules by address.
    type Cache: Default;
    /// framehop's unwinder.
    type Unwinder: framehop::Unwinder<
            UnwindRegs = Self::Regs,
            Cache = Self::Cache,
            Module = framehop::Module<Bytes>,
        > + Default;

    /// DWARF's number of the register that a row's return address stands under.
    const RETURN_ADDRESS: Register;
    /// Likewise, of the stack pointer.
    const STACK_POINTER: Register;
    /// Likewise, of the frame pointer.
    const FRAME_POINTER: Register;
    /// Whose call frame instructions there are beside the common ones.
    const VENDOR: Vendor;

    /// The instruction pointer and the registers of a sample.
    fn start(user: &UserState<'_>) -> Option<(u64, Self::Regs)>;

    /// A register by DWARF's number.
    fn get(regs: &Self::Regs, register: Register) -> Option<u64>;

    /// The registers of a caller; the return address first.
    fn caller(regs: &Self::Regs, address: u64, stack: u64, frame: u64) -> (u64, Self::Regs);

    /// framehop follows such a row by the row alone, without a guess.
    fn is_plain(row: &UnwindTableRow<usize>) -> bool;
}

/// x86 of 64 bits.
#[derive(Debug)]
pub(crate) struct X86_64;

impl Machine for X86_64 {
    type Regs = UnwindRegsX86_64;
    type Cache = CacheX86_64;
    type Unwinder = UnwinderX86_64<Bytes>;

    const RETURN_ADDRESS: Register = gimli::X86_64::RA;
    const STACK_POINTER: Register = gimli::X86_64::RSP;
    const FRAME_POINTER: Register = gimli::X86_64::RBP;
    const VENDOR: Vendor = Vendor::Default;

    fn start(user: &UserState<'_>) -> Option<(u64, Self::Regs)> {
        // PERF_REG_X86_BP, SP and IP (arch/x86/include/uapi/asm/perf_regs.h).
        let (bp, sp, ip) = (user.register(6)?, user.register(7)?, user.register(8)?);
        user.is_64_bit.then(|| (ip, UnwindRegsX86_64::new(ip, sp, bp)))
    }

    fn get(regs: &Self::Regs, register: Register) -> Option<u64> {
        match register {
            gimli::X86_64::RA => Some(regs.ip()),
            gimli::X86_64::RSP => Some(regs.sp()),
            gimli::X86_64::RBP => Some(regs.bp()),
            _ => None,
        }
    }

    fn caller(_: &Self::Regs, address: u64, stack: u64, frame: u64) -> (u64, Self::Regs) {
        (address, UnwindRegsX86_64::new(address, stack, frame))
    }

    fn is_plain(row: &UnwindTableRow<usize>) -> bool {
        let returns = match row.register(Self::RETURN_ADDRESS) {
            // The root.
            None | Some(RegisterRule::Undefined) => return true,
            Some(rule) => rule == RegisterRule::Offset(-8),
        };
        let frame = offset(row.register(Self::FRAME_POINTER));
        let (CfaRule::RegisterAndOffset { register, offset: cfa }, Some(frame)) =
            (row.cfa(), frame)
        else {
            return false;
        };
        let is_whole = |offset: i64| offset % 8 == 0 && offset.abs() < SMALL;
        match *register {
            Self::STACK_POINTER => {
                returns && *cfa >= 8 && is_whole(*cfa) && frame.is_none_or(is_whole)
            }
            Self::FRAME_POINTER => returns && *cfa == 16 && frame == Some(-16),
            _ => false,
        }
    }
}

/// ARM of 64 bits.
#[derive(Debug)]
pub(crate) struct Aarch64;

impl Machine for Aarch64 {
    type Regs = UnwindRegsAarch64;
    type Cache = CacheAarch64;
    type Unwinder = UnwinderAarch64<Bytes>;

    const RETURN_ADDRESS: Register = AArch64::X30;
    const STACK_POINTER: Register = AArch64::SP;
    const FRAME_POINTER: Register = AArch64::X29;
    const VENDOR: Vendor = Vendor::AArch64;

    fn start(user: &UserState<'_>) -> Option<(u64, Self::Regs)> {
        // PERF_REG_ARM64_X29, LR, SP and PC (arch/arm64/include/uapi/asm/perf_regs.h).
        let (fp, lr, sp, pc) =
            (user.register(29)?, user.register(30)?, user.register(31)?, user.register(32)?);
        // User addresses have at most 48 bits here; those above sign a return address.
        let mask = PtrAuthMask::from_max_known_address((1 << 48) - 1);
        let regs = UnwindRegsAarch64::new_with_ptr_auth_mask(mask, lr, sp, fp);
        user.is_64_bit.then_some((pc, regs))
    }

    fn get(regs: &Self::Regs, register: Register) -> Option<u64> {
        match register {
            AArch64::SP => Some(regs.sp()),
            AArch64::X29 => Some(regs.fp()),
            AArch64::X30 => Some(regs.lr()),
            _ => None,
        }
    }

    fn caller(regs: &Self::Regs, address: u64, stack: u64, frame: u64) -> (u64, Self::Regs) {
        let regs = UnwindRegsAarch64::new_with_ptr_auth_mask(regs.lr_mask(), address, stack, frame);
        (regs.lr(), regs)
    }

    fn is_plain(row: &UnwindTableRow<usize>) -> bool {
        let CfaRule::RegisterAndOffset { register, offset: cfa } = *row.cfa() else { return false };
        let rules =
            [Self::RETURN_ADDRESS, Self::FRAME_POINTER].map(|register| row.register(register));
        let [Some(link), Some(frame)] = rules.map(offset) else { return false };
        let is_whole = |offset: i64| offset % 8 == 0 && offset.abs() < SMALL;
        let saved = link.is_none_or(is_whole) && frame.is_none_or(is_whole);
        match register {
            Self::STACK_POINTER => {
                cfa >= 0
                    && cfa % 16 == 0
                    && is_whole(cfa)
                    && saved
                    && (link.is_some() || frame.is_none())
            }
            Self::FRAME_POINTER => {
                cfa > 0 && is_whole(cfa) && saved && link.is_some() && frame.is_some()
            }
            _ => false,
        }
    }
}

/// Where a register was saved, from the canonical frame address; `Some(None)` where it was not,
/// `None` where that takes more than an offset to tell.
fn offset(rule: Option<RegisterRule<usize>>) -> Option<Option<i64>> {
    match rule {
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => Some(None),
        Some(RegisterRule::Offset(offset)) => Some(Some(offset)),
        Some(_) => None,
    }
}

//! The signals that this process ignored when it began.
//!
//! The caller of a program may have it ignore signals (`nohup`, `trap '' HUP`, a shell without job
//! control that puts it into the background), and means the children of the program too. But Rust
//! ignores `SIGPIPE` before `main`, and pipeprof ignores others for itself later. So the ignored
//! signals are noted before either happens.

pub(crate) mod sys;

/// Whether `signal` was ignored when this process began. Such a signal is to be left ignored, here
/// and in whatever is launched.
pub fn ignored_at_start(signal: i32) -> bool {
    sys::ignored_at_start() & bit(signal) != 0
}

fn bit(signal: i32) -> u64 {
    match u32::try_from(signal) {
        Ok(signal @ 1..=64) => 1 << (signal - 1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_a_bit_each_and_nothing_else_has() {
        assert_eq!((bit(1), bit(13), bit(64)), (1, 1 << 12, 1 << 63));
        assert_eq!((bit(0), bit(-1), bit(65)), (0, 0, 0));
    }

    #[test]
    fn what_rust_ignores_for_itself_was_not_ignored_at_start() {
        // Cargo starts tests with SIGPIPE at its default, and Rust has it ignored by now.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let now = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let now = u64::from_str_radix(now.trim(), 16).unwrap();
        assert_ne!(now & bit(libc::SIGPIPE), 0);
        assert!(!ignored_at_start(libc::SIGPIPE));
    }
}

//! Names of functions as their source spells them.

/// The name as the source spells it: without what the compiler or linker appended.
///
/// GCC clones functions under `.constprop.0`, `.isra.0`, `.part.0` and `.cold`; Clang's LTO appends
/// `.llvm.123`, the linker `.lto_priv.0`. `__pfx_` and `__cfi_` name the padding before a function,
/// `__pi_` the same function once more, for code that runs before the kernel is in its place
/// (`SYM_FUNC_ALIAS(__pi_memcpy, ...)` and the like, v6.18).
pub fn source_name(name: &str) -> &str {
    let prefixes = ["__pfx_", "__cfi_", "__pi_"];
    let mut name = prefixes.iter().find_map(|it| name.strip_prefix(it)).unwrap_or(name);
    loop {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let stem = if stem.len() < name.len() && !name[stem.len()..].starts_with('.') {
            // Digits that belong to the last word: `copy_user.cold` has none, `gup2` does.
            name
        } else {
            stem
        };
        let Some((head, tail)) = stem.rsplit_once('.') else { return name };
        if head.is_empty()
            || !matches!(tail, "constprop" | "isra" | "part" | "cold" | "llvm" | "lto_priv")
        {
            return name;
        }
        name = head;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_of_compilers_and_linkers_go() {
        for (spelled, source) in [
            ("__mutex_lock.constprop.0", "__mutex_lock"),
            ("finish_task_switch.isra.0", "finish_task_switch"),
            ("pipe_write.part.0.isra.0", "pipe_write"),
            ("pipe_write.cold", "pipe_write"),
            ("pipe_write.isra.0.cold", "pipe_write"),
            ("do_tee.llvm.1234567890", "do_tee"),
            ("do_tee.lto_priv.0", "do_tee"),
            ("do_tee.constprop.0.1", "do_tee"),
            ("iov_iter_get_pages2", "iov_iter_get_pages2"),
            ("iov_iter_get_pages2.cold", "iov_iter_get_pages2"),
            ("__pfx_pipe_write", "pipe_write"),
            ("__cfi_pipe_read", "pipe_read"),
            ("__pi_memcpy", "memcpy"),
            ("a.b", "a.b"),
            (".cold", ".cold"),
            ("x.", "x."),
            ("1", "1"),
            ("", ""),
        ] {
            assert_eq!(source_name(spelled), source, "{spelled}");
        }
    }
}

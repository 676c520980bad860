//! Names as their programmers wrote them, spelled as perf spells them: a C++ function without its
//! parameters, a Rust function without its hash.

use std::borrow::Cow;

use cpp_demangle::{DemangleOptions, Symbol};

/// Longer names are shown as they are: what they stand for may be longer than memory.
const LONGEST: usize = 4096;

/// A name without the mangling of C++ or Rust.
pub(super) fn demangled(name: &str) -> Cow<'_, str> {
    let plain = || {
        if let Ok(rust) = rustc_demangle::try_demangle(name) {
            return Some(format!("{rust:#}"));
        }
        let options = DemangleOptions::new().no_params().no_return_type().recursion_limit(128);
        Symbol::new(name).ok()?.demangle_with_options(&options).ok()
    };
    let is_mangled = name.starts_with("_Z") || name.starts_with("_R") || name.starts_with("__Z");
    let plain = if is_mangled && name.len() <= LONGEST { plain() } else { None };
    plain.map_or(Cow::Borrowed(name), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_perf_spells_them() {
        for (mangled, plain) in [
            ("_ZN2ns1A4spinIiEElT_PKc", "ns::A::spin<int>"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("__libc_start_main", "__libc_start_main"),
            ("_Zgarbage", "_Zgarbage"),
            ("main", "main"),
        ] {
            assert_eq!(demangled(mangled), plain);
        }
    }
}

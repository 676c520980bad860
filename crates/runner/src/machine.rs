//! What this machine offers to a pipe pair, read again on each call.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::sys;

/// Bytes of an ordinary page.
pub fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .map_or(4096, |bytes| bytes as u64)
}

/// `/proc/sys/fs/pipe-max-size` in bytes: the largest pipe without `CAP_SYS_RESOURCE`.
pub fn pipe_max_size() -> Option<u64> {
    fs::read_to_string("/proc/sys/fs/pipe-max-size").ok()?.trim().parse().ok()
}

/// `/sys/kernel/mm/transparent_hugepage/enabled`: `always`, `madvise` or `never`; `None` where the
/// kernel has no transparent huge pages.
pub fn transparent_huge_pages() -> Option<String> {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(chosen, _)| chosen.to_owned())
}

/// Bytes of one transparent huge page.
pub fn huge_page_size() -> u64 {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|bytes: &u64| bytes.is_power_of_two())
        .unwrap_or(2 << 20)
}

/// Whether this process can read `/proc/kpageflags`, which takes `CAP_SYS_ADMIN`.
pub fn can_read_page_flags() -> bool {
    let mut flags = [0; 8];
    fs::File::open("/proc/kpageflags").and_then(|mut file| file.read_exact(&mut flags)).is_ok()
}

/// Whether `vmsplice` lends pages to a pipe, as the stages from `vmsplice` on rely on, or has
/// become a copy: changes a page after it was spliced, and looks at what comes out.
///
/// # Errors
/// The kernel's answer where a pipe, a page or `vmsplice` itself is refused.
pub fn vmsplice_shares_pages() -> Result<bool, Errno> {
    let (outlet, inlet) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let mut page = sys::Pages::map(4096, 4096)?;
    page.as_mut_slice().fill(b'a');
    let spliced = sys::vmsplice(inlet.as_fd(), page.as_mut_slice(), libc::SPLICE_F_NONBLOCK)?;
    page.as_mut_slice().fill(b'b');
    let mut found = [0];
    let read = sys::read(outlet.as_fd(), &mut found)?;
    if spliced == 0 || read == 0 {
        return Err(Errno::ENODATA);
    }
    Ok(found == *b"b")
}

/// What to tell the user of a stage that relies on `vmsplice`, if anything.
pub(crate) fn vmsplice_note() -> Option<String> {
    match vmsplice_shares_pages() {
        Ok(true) => None,
        Ok(false) => Some(
            "vmsplice copies on this kernel: a page changed after it was spliced came out \
             unchanged, so this stage does not measure what its name says"
                .to_owned(),
        ),
        Err(error) => Some(format!("can't tell whether vmsplice shares pages: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_shares_spliced_pages() {
        match vmsplice_shares_pages() {
            Ok(true) => assert_eq!(vmsplice_note(), None),
            Ok(false) => eprintln!("skipped: vmsplice copies on this kernel"),
            Err(error) => eprintln!("skipped: vmsplice was refused: {error}"),
        }
    }
}

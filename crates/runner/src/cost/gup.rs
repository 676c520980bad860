//! The kernel's own measurement of `get_user_pages_fast`, where it was built with it.

use std::fs::File;

use nix::errno::Errno;
use serde::Serialize;

use super::sys;
use crate::sys::Pages;

const FILE: &str = "/sys/kernel/debug/gup_test";

/// What `gup_test` said of touched ordinary pages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GupTest {
    /// `get_user_pages_fast`, for all pages at once.
    pub get_ns_per_page: f64,
    /// `put_page`, one by one.
    pub put_ns_per_page: f64,
}

/// Asks it; else why not.
pub(super) fn measure(bytes: u64, page: u64) -> Result<GupTest, String> {
    let file =
        File::options().read(true).write(true).open(FILE).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "not present: CONFIG_GUP_TEST".to_owned(),
            std::io::ErrorKind::PermissionDenied => format!("{FILE} needs root"),
            _ => format!("{FILE}: {error}"),
        })?;
    let refused = |errno: Errno| format!("{FILE}: {errno}");
    let mut memory = Pages::map(bytes as usize, page as usize).map_err(refused)?;
    let _ = memory.advise(libc::MADV_NOHUGEPAGE);
    memory.as_mut_slice().fill(b'X');
    let mut request = sys::GupRequest {
        addr: memory.address() as u64,
        size: bytes,
        nr_pages_per_call: u32::try_from(bytes / page).unwrap_or(u32::MAX),
        ..sys::GupRequest::default()
    };
    sys::gup_fast_benchmark(&file, &mut request).map_err(refused)?;
    // It answers how much it held, and in whole microseconds.
    if request.size != bytes || request.get_delta_usec == 0 {
        return Err(format!("{FILE}: held {} of {bytes} bytes", request.size));
    }
    let per_page = |usec: u64| usec as f64 * 1000.0 / (bytes / page) as f64;
    Ok(GupTest {
        get_ns_per_page: per_page(request.get_delta_usec),
        put_ns_per_page: per_page(request.put_delta_usec),
    })
}

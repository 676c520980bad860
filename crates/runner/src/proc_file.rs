//! Reads files of `/proc` in as few system calls as possible. They have no size, so `std` would ask
//! for it and then read them in steps of 32, 64, 128 … bytes.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Most files of a process are smaller.
const USUAL_BYTES: usize = 4096;

/// All of a file.
///
/// # Errors
/// As for [`std::fs::read`].
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; USUAL_BYTES];
    let mut length = 0;
    loop {
        if length == bytes.len() {
            bytes.resize(2 * length, 0);
        }
        match file.read(&mut bytes[length..]) {
            Ok(0) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// All of a file, as text.
///
/// # Errors
/// As for [`std::fs::read_to_string`].
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_every_length_are_read_as_std_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, USUAL_BYTES - 1, USUAL_BYTES, USUAL_BYTES + 1, 5 * USUAL_BYTES] {
            let path = folder.path().join("file");
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            assert_eq!(read(&path).unwrap(), std::fs::read(&path).unwrap(), "{length}");
        }
        assert!(read_to_string("/proc/self/status").unwrap().starts_with("Name:"));
        assert_eq!(read("/proc/self/nothing").unwrap_err().kind(), ErrorKind::NotFound);
    }
}

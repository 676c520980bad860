//! Format errors of a perf.data file.

use super::forms::Form;

/// Why bytes are no perf.data file that this program reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not the magic, nor that of anything known.
    #[error("not a perf.data file: it starts with {found:02x?}, not with \"PERFILE2\"")]
    Magic {
        /// The first bytes.
        found: Vec<u8>,
    },
    /// A file of another form, which is known.
    #[error("not a perf.data file, but {}", .0.name)]
    Other(Form),
    /// Written on a machine of the other byte order.
    #[error("a perf.data file of a machine of the other byte order, which is not supported")]
    ByteOrder,
    /// A processor trace, which holds no samples until it is decoded.
    #[error(
        "a perf.data file of a processor trace (intel_pt, cs_etm) without samples, which is \
             not supported"
    )]
    Traced,
    /// Compressed records that zstd refuses.
    #[error("bad perf.data file: the compressed record at byte {at} of the records: {what}")]
    Compressed {
        /// What zstd says.
        what: String,
        /// Byte offset from the first record.
        at: u64,
    },
    /// A section points outside the file, or a field inside it makes no sense.
    #[error("bad perf.data file: {what} at byte {at}")]
    Section {
        /// What is wrong.
        what: &'static str,
        /// Byte offset in the file.
        at: u64,
    },
}

impl FormatError {
    /// A fix that can be pasted into a shell; `path` as the shell takes it.
    pub fn hint(&self, path: &str) -> Option<String> {
        match self {
            FormatError::Other(form) => form.hint(path),
            FormatError::Traced => {
                Some(format!("perf inject --itrace=i100usl -i {path} -o samples.data"))
            }
            FormatError::ByteOrder => {
                Some(format!("perf script -i {path} reads it, as do inferno and speedscope that"))
            }
            _ => None,
        }
    }
}

/// Eight bytes of a header.
pub(super) fn word(file: &[u8], at: usize) -> Result<u64, FormatError> {
    let error = FormatError::Section { what: "the file ends inside its header", at: at as u64 };
    let bytes = file.get(at..).and_then(<[u8]>::first_chunk::<8>).ok_or(error)?;
    Ok(u64::from_ne_bytes(*bytes))
}

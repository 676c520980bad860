//! Distinguishes an output that can't be written from one that can't be rendered.

use std::io::{self, BufWriter, Write};

/// Why an output was not written.
#[derive(Debug)]
pub(super) enum Failure {
    /// The error of writing to the file.
    File(io::Error),
    /// The error of the renderer.
    Rendering(anyhow::Error),
}

/// Renders into a file, in large pieces. A renderer wraps an error of the file in one of its
/// own, so it is recorded here.
///
/// # Errors
/// See [`Failure`].
pub(super) fn render_into(
    file: impl Write,
    render: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, ErrorRecorder { file, error: None });
    let rendered = render(&mut out).and_then(|()| Ok(out.flush()?));
    // What is left in the buffer after a failure would only fail again.
    let (recorder, _) = out.into_parts();
    match (rendered, recorder.error) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(error)) => Err(Failure::File(error)),
        (Err(error), None) => Err(Failure::Rendering(error)),
    }
}

struct ErrorRecorder<W> {
    file: W,
    error: Option<io::Error>,
}

impl<W: Write> ErrorRecorder<W> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.error = Some(match error.raw_os_error() {
                    Some(errno) => io::Error::from_raw_os_error(errno),
                    None => error.kind().into(),
                });
            }
        })
    }
}

impl<W: Write> Write for ErrorRecorder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.file.write(bytes) {
            Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        };
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.note(flushed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_answered_survives_the_words_of_the_rendering() {
        let full: &mut [u8] = &mut [];
        let failure = render_into(full, |out| {
            out.write_all(&[0; 1 << 17]).map_err(|_| anyhow::anyhow!("can't draw"))
        });
        assert!(matches!(failure, Err(Failure::File(_))), "{failure:?}");
        let failure = render_into(Vec::new(), |_| anyhow::bail!("can't draw"));
        assert!(matches!(failure, Err(Failure::Rendering(_))), "{failure:?}");
    }
}

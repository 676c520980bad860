//! Outputs that are written to directly: standard output, descriptors, FIFOs, devices, sockets.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::failure::{Failure, render_into};

/// An open file that can't be replaced by another.
#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    is_stdout: bool,
}

impl Stream {
    /// Standard output.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub(super) fn stdout() -> io::Result<Stream> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Stream { file, is_stdout: true })
    }

    /// A descriptor that this process was started with.
    ///
    /// # Errors
    /// EBADF where it is open for reading only.
    pub(super) fn inherited(fd: OwnedFd) -> io::Result<Stream> {
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        if flags & OFlag::O_ACCMODE == OFlag::O_RDONLY {
            return Err(io::Error::other("it is open for reading only"));
        }
        let file = File::from(fd);
        let is_stdout = same_file(&file)?;
        Ok(Stream { file, is_stdout })
    }

    /// A FIFO or a device. Opening does not wait: a FIFO without a reader is ENXIO.
    ///
    /// # Errors
    /// What the system answers.
    pub(super) fn open(path: &Path) -> io::Result<Stream> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = options.open(path)?;
        let flags = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL)?);
        fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
        let is_stdout = same_file(&file)?;
        Ok(Stream { file, is_stdout })
    }

    /// What another process has open; from its beginning, where it has one.
    ///
    /// # Errors
    /// What the system answers.
    pub(super) fn open_anew(path: &Path) -> io::Result<Stream> {
        let stream = Stream::open(path)?;
        if stream.file.metadata()?.is_file() {
            stream.file.set_len(0)?;
        }
        Ok(stream)
    }

    /// A listening stream socket. It is not waited for: where its queue is full, that is EAGAIN.
    ///
    /// # Errors
    /// What the system answers.
    pub(super) fn connect(path: &Path) -> io::Result<Stream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Stream { file: File::from(socket), is_stdout: false })
    }

    pub(super) fn is_stdout(&self) -> bool {
        self.is_stdout
    }

    /// Writes piece by piece. A reader that has gone is no error.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(super) fn write(
        &self,
        render: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> Result<(), Failure> {
        match render_into(BlockingWriter(&self.file), render) {
            Err(Failure::File(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// Whether a path names the very file that standard output goes to.
pub(super) fn is_stdout(path: &Path) -> bool {
    let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let stdout = Stream::stdout().and_then(|stream| stream.file.metadata());
    let both = (path.symlink_metadata().map(identity), stdout.map(identity));
    matches!(both, (Ok(path), Ok(stdout)) if path == stdout)
}

/// Whether it goes where standard output goes. What goes to /dev/null goes nowhere.
fn same_file(file: &File) -> io::Result<bool> {
    let (file, stdout) = (file.metadata()?, Stream::stdout()?.file.metadata()?);
    let null = std::fs::metadata("/dev/null").map(|null| null.rdev()).unwrap_or_default();
    let is_null = file.rdev() != 0 && file.rdev() == null;
    Ok(!is_null && (file.dev(), file.ino()) == (stdout.dev(), stdout.ino()))
}

/// A writer that waits if the file is non-blocking: a process that shares it may have set that.
struct BlockingWriter<'a>(&'a File);

impl Write for BlockingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut room = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    // A signal ends the wait, and the next write tells how things are.
                    let _ = poll(&mut room, PollTimeout::NONE);
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

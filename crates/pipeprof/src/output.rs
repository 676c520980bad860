//! Where data goes: standard output, or what a path given with `-o` leads to.
//!
//! An [`Output`] is opened before the watch whose result goes there, so that an unwritable output
//! is found before anything is launched. A regular file is either written completely or left as it
//! was; anything else (a FIFO, a device, a socket, a descriptor) is opened once, held, and written
//! to directly.

mod failure;
mod regular;
mod stream;
mod target;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pipeprof_runner::inherited;

use self::failure::{Failure, render_into};
pub(crate) use self::regular::quoted;
use self::stream::Stream;
use self::target::Target;
use crate::ui::{Ui, hinted, wrong_usage};

/// Where one file's worth of output goes.
#[derive(Debug)]
pub(crate) struct Output {
    /// As the user gave it.
    name: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A regular file, or where one will be; all links followed.
    File(PathBuf),
    Stream(Stream),
}

impl Output {
    /// Finds out what a path leads to, and checks that it is writable; `-` is standard output.
    ///
    /// # Errors
    /// Where it can't be written, with what to do about it.
    pub(crate) fn open(name: &Path) -> anyhow::Result<Output> {
        let place = Place::open(name).map_err(|error| refused(name, error))?;
        Ok(Output { name: name.to_owned(), place })
    }

    /// As the user gave it.
    pub(crate) fn path(&self) -> &Path {
        &self.name
    }

    /// Whether it goes where standard output goes, so that nothing else may go there.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(&self.place, Place::Stream(stream) if stream.is_stdout())
    }

    /// Refuses two outputs of one run in one place, each under the flag that names it.
    ///
    /// # Errors
    /// Wrong usage.
    pub(crate) fn must_differ(&self, other: &Output, flags: [&str; 2]) -> anyhow::Result<()> {
        let is_same = match (&self.place, &other.place) {
            (Place::File(one), Place::File(other)) => one == other,
            (Place::Stream(one), Place::Stream(other)) => one.is_stdout() && other.is_stdout(),
            _ => false,
        };
        if is_same {
            let [one, other] = flags;
            return Err(wrong_usage(format_args!("{one} and {other} both write to {self}")));
        }
        Ok(())
    }

    /// Writes all of it. A reader that has gone is no error.
    ///
    /// # Errors
    /// Where it can't be written; a regular file is as it was then.
    pub(crate) fn write(
        &self,
        render: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let path = match &self.place {
            Place::File(path) => path,
            Place::Stream(stream) => {
                return stream.write(render).map_err(|failure| match failure {
                    // No disk that could be looked at, nor a folder.
                    Failure::File(error) => refused(&self.name, error.into()),
                    failure => self.failed(&self.name, failure),
                });
            }
        };
        let refused = |error| self.failed(path, Failure::File(error));
        let mut stage = regular::Stage::new(path).map_err(refused)?;
        render_into(&mut stage.file, render).map_err(|failure| self.failed(path, failure))?;
        stage.put(path).map_err(refused)
    }

    fn failed(&self, path: &Path, failure: Failure) -> anyhow::Error {
        match failure {
            Failure::File(error) => refused(&self.name, Refusal::new(path, error)),
            Failure::Rendering(error) => error.context(format!("writing {self}")),
        }
    }

    /// Prints that it was written, unless it is standard output.
    pub(crate) fn note_written(&self, ui: &Ui) {
        if !self.is_stdout() {
            ui.note(format_args!("wrote {self}"));
        }
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&called(&self.name))
    }
}

impl Place {
    fn open(name: &Path) -> Result<Place, Refusal> {
        if name == Path::new("-") {
            return Ok(Place::Stream(Stream::stdout()?));
        }
        let hopeless = |error| Refusal::new(name, error);
        let stream = match Target::of(name).map_err(hopeless)? {
            Target::Descriptor(1) => Stream::stdout()?,
            Target::Descriptor(number) => {
                inherited::duplicate(number).and_then(Stream::inherited).map_err(hopeless)?
            }
            Target::Foreign(path) => Stream::open_anew(&path).map_err(hopeless)?,
            Target::Openable(path) => {
                Stream::open(&path).map_err(|error| match error.raw_os_error() {
                    Some(libc::ENXIO) => Refusal::no_reader(&path),
                    _ => hopeless(error),
                })?
            }
            Target::Socket(path) => {
                Stream::connect(&path).map_err(|error| match error.raw_os_error() {
                    Some(libc::ECONNREFUSED | libc::EAGAIN) => Refusal::no_listener(&path),
                    _ => hopeless(error),
                })?
            }
            Target::Folder => return Err(Refusal::folder(name)),
            Target::New(path) | Target::File(path) if stream::is_stdout(&path) => {
                Stream::stdout().map_err(|error| Refusal::new(&path, error))?
            }
            Target::New(path) => {
                regular::try_to_write(&path, false).map_err(|error| Refusal::new(&path, error))?;
                return Ok(Place::File(path));
            }
            Target::File(path) => {
                regular::try_to_write(&path, true).map_err(|error| Refusal::new(&path, error))?;
                return Ok(Place::File(path));
            }
        };
        Ok(Place::Stream(stream))
    }
}

/// Why something can't be written, and what to do about it.
struct Refusal {
    why: String,
    hint: Option<String>,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal { why: error.to_string(), hint: None }
    }
}

impl Refusal {
    fn new(path: &Path, error: io::Error) -> Self {
        Refusal { hint: regular::remedy(path, &error), why: error.to_string() }
    }

    fn folder(path: &Path) -> Self {
        Refusal {
            why: "it is a folder".to_owned(),
            hint: Some(format!("name a file in it: {}", quoted(&path.join("NAME")))),
        }
    }

    fn no_reader(fifo: &Path) -> Self {
        Refusal {
            why: "no process has this FIFO open for reading".to_owned(),
            hint: Some(format!("start its reader first: cat {} >FILE &", quoted(fifo))),
        }
    }

    fn no_listener(socket: &Path) -> Self {
        let listen = format!("socat -u UNIX-LISTEN:{} - >FILE &", quoted(socket));
        Refusal {
            why: "no process accepts connections on this socket".to_owned(),
            hint: Some(format!("start its listener first: {listen}")),
        }
    }
}

fn refused(name: &Path, Refusal { why, hint }: Refusal) -> anyhow::Error {
    hinted(format_args!("writing {}: {why}", called(name)), hint)
}

fn called(name: &Path) -> String {
    if name == Path::new("-") { "standard output".to_owned() } else { name.display().to_string() }
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
pub(crate) fn write_stdout(text: &str) -> anyhow::Result<()> {
    Output::open(Path::new("-"))?.write(|out| Ok(out.write_all(text.as_bytes())?))
}

/// Prints what a person reads: on stderr where `taken`, as another output has standard output.
pub(crate) fn print_beside(text: &str, taken: bool, ui: &Ui) -> anyhow::Result<()> {
    if !taken {
        return write_stdout(text);
    }
    ui.text(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn write(path: &Path, text: &str) -> anyhow::Result<()> {
        Output::open(path)?.write(|out| Ok(out.write_all(text.as_bytes())?))
    }

    fn refusal(path: &Path) -> String {
        format!("{:#}", Output::open(path).unwrap_err())
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.svg");
        for old in [None, Some("old")] {
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
            }
            let result = Output::open(&path).unwrap().write(|out| {
                out.write_all(b"half of the new")?;
                anyhow::bail!("the disk is full")
            });
            assert!(format!("{:#}", result.unwrap_err()).contains("the disk is full"));
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), old);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_output_that_is_only_opened_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        fs::write(&old, "old").unwrap();
        Output::open(&new).unwrap();
        Output::open(&old).unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_takes_no_file_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = refusal(folder.path());
        assert!(text.contains("it is a folder\nhint: name a file in it"), "{text}");
        let text = refusal(&at("no/out.svg"));
        assert!(text.starts_with("writing ") && text.contains("hint: mkdir -p "), "{text}");
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let text = refusal(&at("fifo"));
        assert!(text.contains("hint: start its reader first: cat "), "{text}");
        drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
        let text = refusal(&at("socket"));
        assert!(text.contains("hint: start its listener first: socat "), "{text}");
        symlink("loop", at("loop")).unwrap();
        assert!(refusal(&at("loop")).contains("symbolic links"));
    }

    #[test]
    fn links_stay_and_what_they_lead_to_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "old").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("link", at("chain")).unwrap();
        symlink("new", at("dangling")).unwrap();
        fs::hard_link(at("file"), at("other name")).unwrap();
        write(&at("chain"), "longer than the old").unwrap();
        write(&at("dangling"), "made").unwrap();
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "longer than the old");
        assert_eq!(fs::read_to_string(at("other name")).unwrap(), "longer than the old");
        write(&at("other name"), "short").unwrap();
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "short");
        assert_eq!(fs::read_to_string(at("new")).unwrap(), "made");
        for link in ["link", "chain", "dangling"] {
            assert!(at(link).symlink_metadata().unwrap().is_symlink(), "{link}");
        }
    }

    #[test]
    fn a_new_file_has_the_mode_of_any_and_an_old_one_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        let mode = |path: &Path| path.metadata().unwrap().mode();
        write(&ours, "x").unwrap();
        fs::write(&theirs, "x").unwrap();
        assert_eq!(mode(&ours), mode(&theirs));
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o640)).unwrap();
        let before = ours.metadata().unwrap().ino();
        write(&ours, "y").unwrap();
        assert_eq!(mode(&ours) & 0o7777, 0o640);
        assert_ne!(ours.metadata().unwrap().ino(), before, "it is replaced in one step");
    }

    #[test]
    fn two_outputs_of_one_run_go_to_two_places() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| Output::open(&folder.path().join(name)).unwrap();
        symlink("x", folder.path().join("link")).unwrap();
        open("x").must_differ(&open("y"), ["-o", "--folded"]).unwrap();
        assert!(open("x").must_differ(&open("link"), ["-o", "--folded"]).is_err());
        let stdout = |name: &str| Output::open(Path::new(name)).unwrap();
        assert!(stdout("-").is_stdout() && stdout("/dev/stdout").is_stdout());
        assert!(stdout("-").must_differ(&stdout("/dev/fd/1"), ["-o", "--folded"]).is_err());
        assert!(!stdout("/dev/null").is_stdout());
    }

    #[test]
    fn a_socket_is_written_to() {
        use std::io::Read;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        write(&path, "through").unwrap();
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }
}

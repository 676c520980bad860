//! The terminal: events in, screens out, and everything as it was when it ends.

use std::io::{self, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use pipeprof_report::escape::printable;
use pipeprof_report::live::PipelineNow;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
    Event, KeyEventKind,
};
use ratatui::crossterm::execute;

use super::app::{Action, App, View};
use super::collect::Collector;
use super::draw::{Look, draw};
use super::{flame, text};
use crate::interrupt::Interrupt;
use crate::terminal;
use crate::ui::{Exit, Ui};

/// The terminal in its own mode; as it was once dropped, and where the program panics.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> anyhow::Result<Self> {
        let terminal = ratatui::try_init().context("taking over the terminal")?;
        // What a terminal doesn't know it ignores.
        let _ = execute!(io::stdout(), EnableMouseCapture, EnableBracketedPaste);
        Ok(Screen(terminal))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), DisableBracketedPaste, DisableMouseCapture);
        ratatui::restore();
    }
}

/// Looks at states while waiting for keys.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn run(
    collector: &mut Collector,
    interval: Duration,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Exit> {
    let look = Look { colour: ui.colours_stdout(), unicode: terminal::has_utf8_locale() };
    let mut app = App::default();
    let mut screen = Screen::open()?;
    // The first screen comes soon.
    let mut next = Instant::now() + interval.min(Duration::from_millis(300));
    let mut detail = None;
    loop {
        screen.0.draw(|frame| draw(frame, &mut app, detail.as_ref(), look))?;
        let action = loop {
            if interrupt.is_set() {
                return Ok(Exit::Interrupted);
            }
            collector.look();
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break None;
            }
            if event::poll(left.min(LOOK))? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => break app.key(key),
                    Event::Mouse(mouse) => {
                        app.mouse(mouse);
                        break None;
                    }
                    Event::Paste(pasted) => {
                        app.paste(&pasted);
                        break None;
                    }
                    Event::Resize(..) => break None,
                    _ => {}
                }
            }
        };
        match action {
            Some(Action::Quit) => return Ok(Exit::Done),
            Some(action) => {
                drop(screen);
                hand_over(action, look, interrupt)?;
                screen = Screen::open()?;
            }
            None => {}
        }
        if Instant::now() >= next {
            app.update(collector.take());
            next = Instant::now() + interval;
        }
        let shown = app.shown();
        let one = app.selected().and_then(|at| shown.get(at)).filter(|_| app.view == View::One);
        detail = one.map(|pipeline| Detail::of(pipeline));
    }
}

/// Runs another command of this program on the ordinary screen.
fn hand_over(action: Action, look: Look, interrupt: &Interrupt) -> anyhow::Result<()> {
    let program = || Command::new("/proc/self/exe");
    let done = match action {
        Action::Quit => return Ok(()),
        Action::Flame(pid) => flame::show(program(), pid, look),
        Action::Record(pid) => {
            println_err(&format!("recording the pipeline of pid {pid} for 10 s"));
            program().args(["record", "--pid", &pid.to_string()]).status().map(drop)
        }
        Action::Tune(pid) => program().args(["tune", "--pid", &pid.to_string()]).status().map(drop),
    };
    if let Err(error) = done {
        println_err(&format!("error: {error}"));
    }
    if interrupt.is_set() {
        return Ok(());
    }
    println_err("\nEnter: back to top");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(())
}

fn println_err(text: &str) {
    // Nothing sensible is left to do where the terminal is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Threads and open files of one pipeline's members.
#[derive(Debug, Default)]
pub(super) struct Detail {
    threads: Vec<String>,
    files: Vec<String>,
}

/// More than these fit no screen.
const MOST: usize = 12;

impl Detail {
    fn of(pipeline: &PipelineNow) -> Detail {
        let mut detail = Detail::default();
        for member in &pipeline.members {
            let name = printable(&member.name);
            let threads = pipeprof_runner::discover::threads(member.pid).unwrap_or_default();
            if threads.len() > 1 {
                detail.threads.push(format!("  {name:<15}  {} threads", threads.len()));
            }
            for file in files(member.pid) {
                detail.files.push(format!("  {name:<15}  {file}"));
            }
        }
        detail
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (title, rows) in [("threads", &self.threads), ("open files", &self.files)] {
            if rows.is_empty() {
                continue;
            }
            lines.push(String::new());
            lines.push(title.to_owned());
            lines.extend(rows.iter().take(MOST).cloned());
            if rows.len() > MOST {
                lines.push(format!("  and {} more", rows.len() - MOST));
            }
        }
        lines
    }
}

/// The regular files that a process has open, with how far it is in each.
fn files(pid: i32) -> Vec<String> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let file = |entry: std::fs::DirEntry| -> Option<String> {
        let target = std::fs::read_link(entry.path()).ok()?;
        let meta = std::fs::metadata(entry.path()).ok().filter(std::fs::Metadata::is_file)?;
        let fd = entry.file_name().to_string_lossy().into_owned();
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
        let at: u64 =
            info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()?;
        let percent = match meta.len() {
            0 => String::new(),
            size => {
                format!(" {:.0} % of {}", 100.0 * at as f64 / size as f64, text::size(size as f64))
            }
        };
        let name = target.to_string_lossy();
        Some(format!("{}  {}{percent}", printable(&name), text::size(at as f64)))
    };
    folder.filter_map(file).collect()
}

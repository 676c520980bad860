//! The terminal: reads events, draws screens, and restores the terminal at the end.

use std::io::{self, Write as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
    Event, KeyEventKind,
};
use ratatui::crossterm::execute;

use signal_hook::consts::{SIGCONT, SIGTSTP};
use signal_hook::low_level::emulate_default_handler;

use super::app::{Action, App};
use super::collect::{Collector, Detail};
use super::draw::draw;
use super::flame;
use super::look::Look;
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
        // A terminal that is gone takes no report of it either.
        let _ = ratatui::try_restore();
    }
}

/// Stops and continues by signals.
struct Job {
    stop: Arc<AtomicBool>,
    continued: Arc<AtomicBool>,
}

impl Job {
    fn new() -> anyhow::Result<Self> {
        let job = Job { stop: Arc::default(), continued: Arc::default() };
        // One that was ignored at the start (a shell without job control) stays so.
        if !pipeprof_runner::signals::ignored_at_start(SIGTSTP) {
            signal_hook::flag::register(SIGTSTP, Arc::clone(&job.stop))?;
        }
        signal_hook::flag::register(SIGCONT, Arc::clone(&job.continued))?;
        Ok(job)
    }

    fn is_to_stop(&self) -> bool {
        self.stop.swap(false, Ordering::Relaxed)
    }

    /// It was stopped by a signal that cannot be caught, and the shell had the terminal meanwhile.
    fn was_stopped(&self) -> bool {
        self.continued.swap(false, Ordering::Relaxed)
    }

    /// Stops; returns when it is continued.
    fn stop(&self) -> anyhow::Result<()> {
        emulate_default_handler(SIGTSTP).context("stopping")?;
        self.continued.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Looks at states while waiting for keys, so far apart at least and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

pub(super) fn run(
    collector: &mut Collector,
    interval: Duration,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Exit> {
    let look = Look { colour: ui.colours_stdout(), unicode: terminal::has_utf8_locale() };
    let mut app = App::default();
    let job = Job::new()?;
    terminal::end_on_hangup().context("watching the terminal")?;
    let mut screen = Screen::open()?;
    // The first screen comes soon.
    let mut next = Instant::now() + interval.min(Duration::from_millis(300));
    loop {
        screen.0.draw(|frame| draw(frame, &mut app, look))?;
        let action = loop {
            if interrupt.is_set() {
                return Ok(Exit::Interrupted);
            }
            if job.is_to_stop() {
                break Some(Action::Suspend);
            }
            if job.was_stopped() {
                drop(screen);
                screen = Screen::open()?;
                break None;
            }
            collector.look();
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break None;
            }
            let pause = interval / collector.looks();
            if event::poll(left.min(pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)))? {
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
                match action {
                    Action::Suspend => job.stop()?,
                    action => hand_over(action, look, &job, interrupt)?,
                }
                screen = Screen::open()?;
            }
            None => {}
        }
        collector.what.detail = app.alone().map_or(Detail::Nobody, Detail::Of);
        if Instant::now() >= next {
            app.update(collector.take());
            next = Instant::now() + interval;
        }
    }
}

/// Runs another command of this program on the ordinary screen.
fn hand_over(action: Action, look: Look, job: &Job, interrupt: &Interrupt) -> anyhow::Result<()> {
    let program = || Command::new("/proc/self/exe");
    let done = match action {
        Action::Quit | Action::Suspend => return Ok(()),
        Action::Flame(pid) => flame::show(program(), pid, look),
        Action::Record(pid) => {
            println_err(&format!("recording the pipeline of pid {pid} for 10 s"));
            wait_for(program().args(["record", "--pid", &pid.to_string()]), job)
        }
        Action::Tune(pid) => wait_for(program().args(["tune", "--pid", &pid.to_string()]), job),
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

/// Runs a command that has the terminal. Ctrl-Z stops it, and then this program with it.
fn wait_for(command: &mut Command, job: &Job) -> io::Result<()> {
    let mut child = command.spawn()?;
    while child.try_wait()?.is_none() {
        if job.is_to_stop() {
            emulate_default_handler(SIGTSTP)?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn println_err(text: &str) {
    // Nothing sensible is left to do where the terminal is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

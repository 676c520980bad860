//! The terminal: events in, screens out, and everything as it was when it ends.

use std::io::{self, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
    Event, KeyEventKind,
};
use ratatui::crossterm::execute;

use super::app::{Action, App, View};
use super::collect::Collector;
use super::detail::Detail;
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

//! The state of the screen and what keys do to it, without a terminal.

use std::collections::{HashMap, VecDeque};

use pipeprof_report::live::{MemberNow, Order, PipeNow, PipelineNow, Snapshot};
use ratatui::crossterm::event::{
    KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

/// Pipelines or lines to a page.
const PAGE: isize = 10;

/// Intervals that are remembered, for lanes and sparklines.
const REMEMBERED: usize = 300;

/// What the screen asks its runner to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    /// Ctrl-Z: the terminal is the shell's until it is continued.
    Suspend,
    /// Hand the terminal to another command of pipeprof.
    Record(i32),
    Tune(i32),
    /// Draw a flame graph of the next seconds.
    Flame(i32),
}

/// What is shown below the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    List,
    /// One pipeline, with what it did over time.
    One,
}

#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) snapshot: Snapshot,
    pub(super) order: Order,
    pub(super) view: View,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// Typed after `/`.
    pub(super) filter: String,
    pub(super) typing: bool,
    /// First line of the list that is shown.
    pub(super) scroll: u16,
    /// First line of the one pipeline that is shown.
    pub(super) scroll_one: u16,
    /// The pid of the first member of the selected pipeline.
    selected: Option<i32>,
    /// Line of the list at which each pipeline begins, as drawn last.
    pub(super) lines: Vec<u16>,
    rates: HashMap<(u64, u64), VecDeque<f64>>,
    states: HashMap<i32, VecDeque<MemberNow>>,
}

impl App {
    /// A new interval.
    pub(super) fn update(&mut self, snapshot: Snapshot) {
        if self.paused {
            return;
        }
        self.snapshot = snapshot;
        self.order.sort(&mut self.snapshot.pipelines);
        let (mut rates, mut states) = (HashMap::new(), HashMap::new());
        for pipeline in &self.snapshot.pipelines {
            for pipe in &pipeline.pipes {
                let key = (pipe.device, pipe.inode);
                let mut known: VecDeque<f64> = self.rates.remove(&key).unwrap_or_default();
                push(&mut known, pipe.bytes_per_second.unwrap_or(0.0));
                rates.insert(key, known);
            }
            for member in &pipeline.members {
                let mut known = self.states.remove(&member.pid).unwrap_or_default();
                push(&mut known, MemberNow { command_line: Vec::new(), ..member.clone() });
                states.insert(member.pid, known);
            }
        }
        // Pipelines that have ended are forgotten.
        (self.rates, self.states) = (rates, states);
        if self.selected().is_none() {
            self.selected = self.shown().first().and_then(|pipeline| leader(pipeline));
        }
    }

    /// The pipelines that the filter lets through, in order.
    pub(super) fn shown(&self) -> Vec<&PipelineNow> {
        self.snapshot.pipelines.iter().filter(|pipeline| pipeline.matches(&self.filter)).collect()
    }

    /// Place of the selected pipeline among those shown.
    pub(super) fn selected(&self) -> Option<usize> {
        let selected = self.selected?;
        self.shown()
            .iter()
            .position(|pipeline| pipeline.members.iter().any(|member| member.pid == selected))
    }

    /// Rates of a pipe, oldest first.
    pub(super) fn rates(&self, pipe: &PipeNow) -> impl DoubleEndedIterator<Item = f64> + '_ {
        self.rates.get(&(pipe.device, pipe.inode)).into_iter().flatten().copied()
    }

    /// States of a member, oldest first.
    pub(super) fn states(&self, pid: i32) -> impl DoubleEndedIterator<Item = &MemberNow> {
        self.states.get(&pid).into_iter().flatten()
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Action::Quit);
        }
        if key.code == KeyCode::Char('z') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Action::Suspend);
        }
        if self.typing {
            self.type_filter(key.code);
            return None;
        }
        if self.help {
            self.help = false;
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Esc if self.view == View::One => self.view = View::List,
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc => return Some(Action::Quit),
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.order.sort(&mut self.snapshot.pipelines);
            }
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Home => self.step(isize::MIN / 2),
            KeyCode::End => self.step(isize::MAX / 2),
            KeyCode::PageDown => self.step(PAGE),
            KeyCode::PageUp => self.step(-PAGE),
            KeyCode::Enter => self.open_or_close(),
            KeyCode::Char('r') => return self.selected_pid().map(Action::Record),
            KeyCode::Char('t') => return self.selected_pid().map(Action::Tune),
            KeyCode::Char('f') => return self.selected_pid().map(Action::Flame),
            _ => {}
        }
        None
    }

    pub(super) fn mouse(&mut self, mouse: MouseEvent) {
        match mouse.kind {
            MouseEventKind::ScrollDown => self.step(1),
            MouseEventKind::ScrollUp => self.step(-1),
            MouseEventKind::Down(MouseButton::Left) if mouse.row > 0 && self.view == View::List => {
                let line = mouse.row - 1 + self.scroll;
                let at = self.lines.partition_point(|&begins| begins <= line);
                match at.checked_sub(1) {
                    // A second click opens it.
                    Some(at) if self.selected() == Some(at) => self.open_or_close(),
                    Some(at) => self.select(at),
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// Pasted text is not a sequence of key strokes.
    pub(super) fn paste(&mut self, text: &str) {
        if self.typing {
            self.filter.extend(text.chars().filter(|c| !c.is_control()));
        }
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
        if self.selected().is_none() {
            self.select(0);
        }
    }

    fn open_or_close(&mut self) {
        self.view = if self.view == View::One { View::List } else { View::One };
        self.scroll_one = 0;
    }

    /// The pipeline that is shown alone, by the pid of its first member.
    pub(super) fn alone(&self) -> Option<i32> {
        self.selected_pid().filter(|_| self.view == View::One)
    }

    /// Moves to another pipeline, or scrolls the one that is shown alone.
    fn step(&mut self, by: isize) {
        if self.view == View::One {
            let by = by.clamp(-0x4000, 0x4000) as i16;
            self.scroll_one = self.scroll_one.min(0x4000).saturating_add_signed(by);
            return;
        }
        let last = self.shown().len().saturating_sub(1) as isize;
        let at = self.selected().unwrap_or(0) as isize;
        self.select(at.saturating_add(by).clamp(0, last) as usize);
    }

    fn select(&mut self, at: usize) {
        let chosen = self.shown().get(at).and_then(|pipeline| leader(pipeline));
        self.selected = chosen;
    }

    pub(super) fn selected_pid(&self) -> Option<i32> {
        self.shown().get(self.selected()?).and_then(|pipeline| leader(pipeline))
    }
}

fn leader(pipeline: &PipelineNow) -> Option<i32> {
    pipeline.members.first().map(|member| member.pid)
}

fn push<T>(known: &mut VecDeque<T>, value: T) {
    if known.len() == REMEMBERED {
        known.pop_front();
    }
    known.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(name: &str, pid: i32, cpus_used: f64) -> PipelineNow {
        let member = MemberNow { name: name.into(), pid, ..MemberNow::default() };
        let pipe = PipeNow { inode: pid as u64, bytes_per_second: Some(1.0), ..PipeNow::default() };
        PipelineNow { members: vec![member], pipes: vec![pipe], cpus_used, ..Default::default() }
    }

    fn app() -> App {
        let mut app = App::default();
        app.update(Snapshot {
            pipelines: vec![pipeline("a", 1, 0.3), pipeline("b", 2, 0.2), pipeline("c", 3, 0.1)],
            ..Snapshot::default()
        });
        app
    }

    fn press(app: &mut App, keys: &str) -> Option<Action> {
        let mut action = None;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                c => KeyCode::Char(c),
            };
            action = app.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        action
    }

    #[test]
    fn the_selection_stays_with_its_pipeline() {
        let mut app = app();
        press(&mut app, "jjj");
        assert_eq!(app.selected_pid(), Some(3));
        press(&mut app, "k");
        assert_eq!(app.selected_pid(), Some(2));
        // b gets the busiest, and is still the one selected.
        let pipelines = vec![pipeline("a", 1, 0.3), pipeline("b", 2, 0.9)];
        app.update(Snapshot { pipelines, ..Snapshot::default() });
        assert_eq!((app.selected(), app.selected_pid()), (Some(0), Some(2)));
        // It has gone.
        app.update(Snapshot { pipelines: vec![pipeline("a", 1, 0.3)], ..Snapshot::default() });
        assert_eq!(app.selected_pid(), Some(1));
    }

    #[test]
    fn a_filter_is_typed_pasted_and_taken_back() {
        let mut app = app();
        press(&mut app, "/");
        app.paste("b\n");
        assert_eq!(app.filter, "b");
        // Letters are letters while a filter is typed.
        press(&mut app, "q\n");
        assert_eq!(app.shown().len(), 0);
        press(&mut app, "\u{1b}");
        assert_eq!(app.shown().len(), 3);
        press(&mut app, "/c\n");
        assert_eq!(app.selected_pid(), Some(3));
        app.paste("ignored");
        assert_eq!(app.filter, "c");
    }

    #[test]
    fn keys_ask_for_what_they_say() {
        let mut app = app();
        assert_eq!(press(&mut app, "r"), Some(Action::Record(1)));
        assert_eq!(press(&mut app, "t"), Some(Action::Tune(1)));
        assert_eq!(press(&mut app, "f"), Some(Action::Flame(1)));
        assert_eq!(press(&mut app, "\n"), None);
        assert_eq!(app.view, View::One);
        assert_eq!(press(&mut app, "\u{1b}"), None);
        assert_eq!(press(&mut app, "?x"), None);
        assert_eq!(press(&mut app, "q"), Some(Action::Quit));
        assert_eq!(app.order, Order::Cpu);
        press(&mut app, "s");
        assert_eq!(app.order, Order::Throughput);
    }

    #[test]
    fn a_second_click_opens_and_keys_scroll_what_is_open() {
        let mut app = app();
        app.lines = vec![0, 3, 6];
        let click = |row| MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column: 0,
            row,
            modifiers: KeyModifiers::NONE,
        };
        app.mouse(click(5));
        assert_eq!((app.selected_pid(), app.view), (Some(2), View::List));
        app.mouse(click(5));
        assert_eq!((app.alone(), app.view), (Some(2), View::One));
        press(&mut app, "jjk");
        assert_eq!((app.scroll_one, app.selected_pid()), (1, Some(2)));
        app.key(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
        app.key(KeyEvent::new(KeyCode::Home, KeyModifiers::NONE));
        assert_eq!(app.scroll_one, 0);
        let suspend = KeyEvent::new(KeyCode::Char('z'), KeyModifiers::CONTROL);
        assert_eq!(app.key(suspend), Some(Action::Suspend));
    }

    #[test]
    fn a_pause_keeps_the_screen_and_forgets_nobody_twice() {
        let mut app = app();
        press(&mut app, "p");
        app.update(Snapshot::default());
        assert_eq!(app.shown().len(), 3);
        press(&mut app, "p");
        app.update(Snapshot::default());
        assert_eq!((app.shown().len(), app.states.len(), app.rates.len()), (0, 0, 0));
    }
}

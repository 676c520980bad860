//! Draws the screen.

use pipeprof_report::escape::printable;
use pipeprof_report::live::{MemberNow, PipeNow, PipelineNow};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::app::{App, View};
use super::detail;
use super::look::Look;
use super::text::{USER_COLUMNS, counted, headline, hidden, level, user};
use super::units::{size, throughput};

/// What a member did, as a letter and a colour: a screen without colour has the letter.
const KINDS: [(&str, &str, Color); 4] = [
    ("busy", "█#", Color::Green),
    ("data", "▒d", Color::Blue),
    ("space", "▓s", Color::Yellow),
    ("outside", "·.", Color::DarkGray),
];

pub(super) fn draw(frame: &mut Frame, app: &mut App, look: Look) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(head_line(app)), head);
    match app.view {
        View::List => list(frame, body, app, look),
        View::One => one(frame, body, app, look),
    }
    frame.render_widget(Paragraph::new(foot_line(app, foot.width, look)), foot);
    if app.help {
        help(frame);
    }
}

fn head_line(app: &App) -> Line<'static> {
    let moving = app.snapshot.pipelines.iter().filter(|pipeline| pipeline.moves()).count();
    let paused = if app.paused { "  paused" } else { "" };
    let text = format!(
        "pipeprof top: {}, {moving} moving, by {}{}{paused}",
        counted(app.snapshot.pipelines.len()),
        app.order.name(),
        hidden(&app.snapshot)
    );
    Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

fn foot_line(app: &App, width: u16, look: Look) -> Line<'static> {
    if app.typing {
        return Line::raw(format!("find: {}_", printable(&app.filter)));
    }
    let mut spans = legend(look);
    let keys = if usize::from(width) >= WIDE {
        " ?:help  Enter:one  /:find  q:quit"
    } else {
        " ?:help  q:quit"
    };
    spans.push(Span::styled(keys, look.style(Color::DarkGray)));
    if !app.filter.is_empty() {
        let filter = printable(&app.filter);
        spans.push(Span::raw(format!("  only \"{filter}\" (Esc: all)")));
    }
    Line::from(spans)
}

fn legend(look: Look) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    for (word, ink, colour) in KINDS {
        spans.push(Span::styled(look.ink(ink).to_string(), look.style(colour)));
        spans.push(Span::raw(format!("{word} ")));
    }
    spans
}

fn list(frame: &mut Frame, area: Rect, app: &mut App, look: Look) {
    let selected = app.selected();
    let mut lines: Vec<Line> = Vec::new();
    let mut begins = Vec::new();
    for (at, pipeline) in app.shown().into_iter().enumerate() {
        begins.push(lines.len() as u16);
        pipeline_lines(&mut lines, app, pipeline, selected == Some(at), area.width, look);
    }
    if lines.is_empty() {
        lines.push(Line::raw(match app.filter.as_str() {
            "" => "no pipeline runs on this machine",
            _ => "no pipeline has this in a name or argument",
        }));
    }
    // The selected pipeline stays in sight.
    let height = area.height.max(1);
    if let Some(at) = selected {
        let from = begins[at];
        let until = begins.get(at + 1).copied().unwrap_or(lines.len() as u16);
        if until > app.scroll + height {
            app.scroll = until - height;
        }
        app.scroll = app.scroll.min(from);
    }
    app.scroll = app.scroll.min((lines.len() as u16).saturating_sub(1));
    app.lines = begins;
    frame.render_widget(Paragraph::new(lines).scroll((app.scroll, 0)), area);
}

fn pipeline_lines(
    lines: &mut Vec<Line<'static>>,
    app: &App,
    pipeline: &PipelineNow,
    is_selected: bool,
    width: u16,
    look: Look,
) {
    let mark = if is_selected { look.ink("▶>") } else { ' ' };
    let style = match is_selected {
        true => Style::new().add_modifier(Modifier::REVERSED),
        false => Style::new().add_modifier(Modifier::BOLD),
    };
    lines.push(Line::styled(format!("{mark} {}", headline(pipeline)), style));
    for (at, member) in pipeline.members.iter().enumerate() {
        lines.push(member_line(pipeline, at, member, width, look));
        for pipe in pipeline.pipes.iter().filter(|pipe| pipe.writers.first() == Some(&at)) {
            lines.push(pipe_line(app, pipe, width, look));
        }
    }
    lines.push(Line::raw(""));
}

fn member_line(
    pipeline: &PipelineNow,
    at: usize,
    member: &MemberNow,
    width: u16,
    look: Look,
) -> Line<'static> {
    let limits = pipeline.limit.filter(|limit| limit.member == Some(at)).map(|limit| limit.share);
    let mut label = format!("  {:<15} {:>7}", printable(&member.name), member.pid);
    if usize::from(width) >= WIDE {
        label += &format!(" {:<USER_COLUMNS$}", user(member));
    }
    let cpus = format!(" {:>5.2} CPU ", member.cpus_used);
    let limit = match limits {
        Some(share) => format!(" {} limits {:.0} %", look.ink("◀<"), 100.0 * share),
        None => String::new(),
    };
    let taken = label.chars().count() + cpus.chars().count() + LIMIT_COLUMNS;
    let bar = usize::from(width).saturating_sub(taken).min(40);
    let mut spans = vec![Span::raw(label), Span::raw(cpus)];
    spans.extend(share_bar(member, bar, look));
    spans.push(Span::styled(limit, look.style(Color::Red).add_modifier(Modifier::BOLD)));
    Line::from(spans)
}

/// A narrower screen has no room for users.
const WIDE: usize = 72;

/// ` ◀ limits 100 %`.
const LIMIT_COLUMNS: usize = 16;

fn share_bar(member: &MemberNow, width: usize, look: Look) -> Vec<Span<'static>> {
    let shares = [member.busy, member.waits_for_data, member.waits_for_space, member.outside];
    let mut spans = Vec::new();
    let (mut sum, mut drawn) = (0.0, 0);
    for (share, (_, ink, colour)) in shares.into_iter().zip(KINDS) {
        sum += share;
        let until = ((sum * width as f64).round() as usize).min(width);
        let cells = until.saturating_sub(drawn);
        drawn = drawn.max(until);
        let text: String = std::iter::repeat_n(look.ink(ink), cells).collect();
        spans.push(Span::styled(text, look.style(colour)));
    }
    spans.push(Span::raw(" ".repeat(width.saturating_sub(drawn))));
    spans
}

fn pipe_line(app: &App, pipe: &PipeNow, width: u16, look: Look) -> Line<'static> {
    let rate = pipe.bytes_per_second.map_or("?".to_owned(), throughput);
    let mut spans = vec![Span::raw(format!("    {} {rate:>12}  ", look.ink("│|")))];
    if let Some((share, capacity)) = level(pipe) {
        let cells = (share * 10.0).round() as usize;
        let full: String = std::iter::repeat_n(look.ink("▰="), cells).collect();
        let empty: String = std::iter::repeat_n(look.ink("▱-"), 10 - cells).collect();
        spans.push(Span::styled(full, look.style(Color::Cyan)));
        spans.push(Span::raw(empty));
        spans.push(Span::raw(format!(" {:>3.0} % of {}  ", 100.0 * share, size(capacity as f64))));
    }
    let taken: usize = spans.iter().map(Span::width).sum();
    let room = usize::from(width).saturating_sub(taken).min(60);
    spans.push(Span::styled(sparkline(app.rates(pipe), room, look), look.style(Color::Cyan)));
    Line::from(spans)
}

/// The latest values, as heights of their largest.
fn sparkline(rates: impl DoubleEndedIterator<Item = f64>, width: usize, look: Look) -> String {
    let mut latest: Vec<f64> = rates.rev().take(width).collect();
    latest.reverse();
    let most = latest.iter().copied().fold(0.0, f64::max);
    let inks: Vec<char> = if look.unicode { "▁▂▃▄▅▆▇█" } else { "_.-=+*%#" }.chars().collect();
    let ink = |rate: f64| match most > 0.0 && rate > 0.0 {
        true => inks[((rate / most * 8.0).ceil() as usize).clamp(1, 8) - 1],
        false => ' ',
    };
    latest.into_iter().map(ink).collect()
}

fn one(frame: &mut Frame, area: Rect, app: &mut App, look: Look) {
    let lines = one_lines(area, app, look);
    // Its end stays at the lower edge.
    let most = (lines.len() as u16).saturating_sub(area.height.max(1));
    app.scroll_one = app.scroll_one.min(most);
    frame.render_widget(Paragraph::new(lines).scroll((app.scroll_one, 0)), area);
}

fn one_lines(area: Rect, app: &App, look: Look) -> Vec<Line<'static>> {
    let shown = app.shown();
    let Some(pipeline) = app.selected().and_then(|at| shown.get(at)) else {
        return vec![Line::raw("this pipeline has ended (Esc: back)")];
    };
    let mut lines = Vec::new();
    pipeline_lines(&mut lines, app, pipeline, true, area.width, look);
    lines.push(Line::styled(
        "over time, latest at the right",
        Style::new().add_modifier(Modifier::BOLD),
    ));
    let room = usize::from(area.width).saturating_sub(20);
    for member in &pipeline.members {
        let mut latest: Vec<&MemberNow> = app.states(member.pid).rev().take(room).collect();
        latest.reverse();
        let mut spans = vec![Span::raw(format!("  {:<15}  ", printable(&member.name)))];
        spans.extend(latest.into_iter().map(|state| {
            let shares = [state.busy, state.waits_for_data, state.waits_for_space, state.outside];
            let most = (0..4).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap_or(0);
            let (_, ink, colour) = KINDS[most];
            Span::styled(look.ink(ink).to_string(), look.style(colour))
        }));
        lines.push(Line::from(spans));
    }
    lines.extend(detail::lines(pipeline).into_iter().map(Line::raw));
    lines
}

fn help(frame: &mut Frame) {
    let text = [
        "Up Down Home End  select a pipeline (wheel and click, too)",
        "Enter             one pipeline: over time, threads, open files",
        "                  (there, Up and Down scroll)",
        "/                 find by name, argument or pid; Esc: all again",
        "s                 sort by CPU, throughput or name",
        "f                 flame graph of the next 5 s, in the terminal",
        "r                 record it (pipeprof record --pid)",
        "t                 try what makes it faster (pipeprof tune --pid)",
        "p                 pause",
        "Ctrl-Z            suspend",
        "q Esc Ctrl-C      quit",
        "",
        "busy: a thread runs or is runnable; waits: all threads wait for data",
        "in a pipe, for space in one, or for something outside the pipeline",
    ];
    let area = frame.area();
    let width = 70.min(area.width);
    let height = (text.len() as u16 + 2).min(area.height);
    let middle = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    let lines: Vec<Line> = text.iter().map(|line| Line::raw(*line)).collect();
    frame.render_widget(Clear, middle);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), middle);
}

#[cfg(test)]
mod tests {
    use pipeprof_report::live::{LimitKind, LimitNow, Snapshot};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::*;

    fn snapshot() -> Snapshot {
        let member = |name: &str, pid, cpus_used, busy, data, space| MemberNow {
            name: name.into(),
            pid,
            user: Some("postgresql".into()),
            cpus_used,
            busy,
            waits_for_data: data,
            waits_for_space: space,
            ..MemberNow::default()
        };
        let pipe = |inode, writer, reader, fill| PipeNow {
            inode,
            writers: vec![writer],
            readers: vec![reader],
            bytes_per_second: Some(157e6),
            fill_bytes: Some(fill),
            capacity_bytes: Some(65_536),
            ..PipeNow::default()
        };
        let limit = LimitNow { kind: LimitKind::Busy, member: Some(1), pipe: None, share: 0.93 };
        let gzip = PipelineNow {
            members: vec![
                member("yes", 6390, 0.05, 0.05, 0.0, 0.95),
                member("gzip", 6391, 0.98, 0.97, 0.03, 0.0),
                member("sha\u{1b}[2Jsum", 6392, 0.1, 0.1, 0.9, 0.0),
            ],
            pipes: vec![pipe(1, 0, 1, 65_536), pipe(2, 1, 2, 0)],
            bytes_per_second: Some(157e6),
            cpus_used: 1.13,
            limit: Some(limit),
            elapsed_s: 1.0,
        };
        Snapshot { pipelines: vec![gzip], unreadable_processes: 4, at_unix_ms: 0 }
    }

    fn drawn(width: u16, height: u16, unicode: bool, keys: &str) -> String {
        let mut app = App::default();
        app.update(snapshot());
        app.update(snapshot());
        for key in keys.chars() {
            let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
            app.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let look = Look { colour: false, unicode };
        terminal.draw(|frame| draw(frame, &mut app, look)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_pipeline_fits_a_small_and_a_large_terminal() {
        insta::assert_snapshot!("list_80x24", drawn(80, 24, true, ""));
        insta::assert_snapshot!("list_60x20_ascii", drawn(60, 20, false, ""));
        insta::assert_snapshot!("one_100x30", drawn(100, 30, true, "\n"));
    }

    #[test]
    fn no_size_of_a_terminal_is_too_small() {
        for (width, height) in [(1, 1), (3, 2), (20, 5), (200, 60)] {
            for keys in ["", "\n", "?", "/x"] {
                drawn(width, height, true, keys);
            }
        }
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        assert!(!drawn(120, 24, true, "").contains('\u{1b}'));
    }
}

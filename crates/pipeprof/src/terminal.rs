//! What the user's terminal can show.

mod hangup;
mod sharing;

use std::io::{self, IsTerminal};

use pipeprof_report::text::Style;

pub(crate) use self::hangup::end_on_hangup;
pub(crate) use self::sharing::is_shared_with;
use crate::ui::Ui;

/// How to write to standard output.
pub(crate) fn style(ui: &Ui) -> Style {
    let plain =
        Style { colour: ui.colours_stdout(), ascii: !has_utf8_locale(), ..Style::default() };
    Style { columns: columns().unwrap_or(plain.columns), ..plain }
}

/// Columns of the terminal that standard output is, or that `COLUMNS` says; `None` without either.
pub(crate) fn columns() -> Option<usize> {
    let size = io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    let typed = || std::env::var("COLUMNS").ok()?.parse().ok();
    size.map(|(width, _)| usize::from(width.0)).or_else(typed).filter(|columns| *columns > 0)
}

/// As `setlocale` decides: the first of these that is set and not empty.
pub(crate) fn has_utf8_locale() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = names.iter().filter_map(|name| std::env::var(name).ok()).find(|v| !v.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

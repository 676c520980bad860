//! How the screen may look: with colours, beyond ASCII.

use ratatui::style::{Color, Style};

/// How the screen may look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colour: bool,
    pub(super) unicode: bool,
}

impl Look {
    pub(super) fn style(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn ink(self, pair: &str) -> char {
        let mut inks = pair.chars();
        let (unicode, ascii) = (inks.next().unwrap_or(' '), inks.next().unwrap_or(' '));
        if self.unicode { unicode } else { ascii }
    }
}

//! HTML that is escaped where it is made: everything except literals of this program is text.

use std::fmt::Display;

use quick_xml::escape::escape;

use crate::escape::printable;

/// A piece of HTML.
///
/// Names of processes and functions are untrusted. They can come in by [`Markup::text`] and
/// [`Markup::attribute`] only, which escape them; [`Markup::raw`] takes literals alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markup(String);

impl Markup {
    /// Nothing yet.
    pub fn new() -> Self {
        Markup::default()
    }

    /// Markup that stands in the program's own source.
    pub fn raw(&mut self, html: &'static str) -> &mut Self {
        self.0.push_str(html);
        self
    }

    /// Anything, shown as it is written; what is invisible in it is spelled out.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        self.0.push_str(&escaped(&text.to_string()));
        self
    }

    /// A sentence, in which a number and its unit stay on one line.
    pub fn prose(&mut self, text: impl Display) -> &mut Self {
        let glued = text.to_string().replace(" %", "\u{a0}%").replace("pid ", "pid\u{a0}");
        self.text(glued)
    }

    /// ` name="value"`, within a tag that is open.
    pub fn attribute(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").text(value).raw("\"")
    }

    /// `<tag>text</tag>`.
    pub fn element(&mut self, tag: &'static str, text: impl Display) -> &mut Self {
        self.raw("<").raw(tag).raw(">").text(text).raw("</").raw(tag).raw(">")
    }

    /// Markup that this program made elsewhere, of its own constants and of what it had escaped.
    pub(crate) fn trusted(&mut self, html: &str) -> &mut Self {
        self.0.push_str(html);
        self
    }

    /// Another piece, as it is.
    pub fn append(&mut self, other: &Markup) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// The HTML.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Text, escaped for an element's content and for a quoted attribute alike. Lines stay lines.
fn escaped(text: &str) -> String {
    let lines: Vec<String> =
        text.split('\n').map(|line| escape(printable(line)).into_owned()).collect();
    lines.join("&#10;")
}

/// A JSON text that can stand in a `<script>` element: it ends at `</script`, and after `<!--` and
/// `<script` ends elsewhere (HTML, "restrictions for contents of script elements").
pub(super) fn json_for_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_stays_text() {
        let hostile = "</text><script>alert(1)</script>\"'&]]>\u{202e}\u{1b}[31m";
        let mut markup = Markup::new();
        markup.raw("<p").attribute("title", hostile).raw(">").text(hostile).raw("</p>");
        let html = markup.as_str();
        assert_eq!(html.matches('<').count(), 2, "{html}");
        assert_eq!(html.matches('"').count(), 2, "{html}");
        assert!(html.contains("&lt;script&gt;alert(1)"), "{html}");
        assert!(html.contains("\\u{202e}\\u{1b}[31m"), "{html}");
    }

    #[test]
    fn json_never_ends_its_element() {
        let json = serde_json::to_string("</script><!-- <script>").unwrap();
        let safe = json_for_script(&json);
        assert!(!safe.contains('<'));
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), "</script><!-- <script>");
    }
}

//! The tables of the page: members by role, reason and function, pipes, quality, machine.

use std::fmt::Display;

use pipeprof_profiler::profile::Mode;
use serde_json::Value;

use super::bars;
use crate::markup::Markup;
use crate::summary::{LEAST_PERCENT, MemberSummary, Summary};
use crate::words::units::{bytes, duration, percent, share, thousands};
use crate::words::{self, pipe, quality};

/// What a member spent its time on.
pub(super) fn member(member: &MemberSummary) -> Markup {
    let mut html = Markup::new();
    html.element("h3", bars::name(member)).raw("<p class=\"sub\">");
    html.prose(words::member::samples(member));
    if let Some(words) = bars::life_words(member) {
        html.text("; ").prose(words);
    }
    if let Some(moved) = member.bytes_moved {
        html.text(format_args!("; moved {} ({})", bytes(moved as f64), member.bytes_moved_are));
    }
    html.raw("</p><div class=\"columns\">");
    html.append(&roles(member)).append(&blocked(member)).append(&functions(member));
    html.raw("</div>");
    html
}

fn roles(member: &MemberSummary) -> Markup {
    let has_rate = member.roles.iter().any(|share| share.ns_per_gib.is_some());
    let mut table = Table::new("on CPU, by role", &["role"], &["share", "samples"], has_rate);
    for share in member.roles.iter().filter(|share| share.percent >= LEAST_PERCENT) {
        table.words(share.role.label());
        table.number(percent(share.percent)).number(thousands(share.samples));
        table.rate(share.ns_per_gib);
    }
    table.done()
}

fn blocked(member: &MemberSummary) -> Markup {
    let has_rate = member.blocked.iter().any(|share| share.ns_per_gib.is_some());
    let mut table = Table::new("blocked, by reason", &["reason"], &["of life", "time"], has_rate);
    for share in member.blocked.iter().filter(|share| share.percent >= LEAST_PERCENT) {
        match &share.kernel_function {
            Some(function) => table.words(format_args!("{} in {function}", share.reason.label())),
            None => table.words(share.reason.label()),
        };
        table.number(percent(share.percent)).number(duration(share.ns as f64));
        table.rate(share.ns_per_gib);
    }
    table.done()
}

fn functions(member: &MemberSummary) -> Markup {
    let mut table = Table::new("on CPU, by function", &["function"], &["self", "total"], false);
    for function in &member.top_functions {
        let mut name = function.name.clone();
        if let Some(classic) = &function.known_as {
            name.push_str(&format!(" ({classic})"));
        }
        if function.mode == Mode::User {
            name.push_str(" [user]");
        }
        table.words(name);
        table.number(share(function.self_weight, member.weight));
        table.number(share(function.total_weight, member.weight));
        table.rate(None);
    }
    table.done()
}

/// The pipes, each with what is known of it.
pub(super) fn pipes(summary: &Summary) -> Markup {
    let mut html = Markup::new();
    let mut told = None;
    let members = summary.by_pid();
    for of in &summary.pipes {
        html.element("h3", pipe::head(&members, of, "→"));
        html.raw("<table>");
        for (name, words) in pipe::rows(&members, of, told) {
            html.raw("<tr><th scope=\"row\">").text(name).raw("</th><td>");
            html.text(words).raw("</td></tr>");
        }
        html.raw("</table>");
        told = of.wakeups_unknown.as_deref();
    }
    html
}

/// What limits trust in the numbers.
pub(super) fn quality(summary: &Summary) -> Markup {
    let mut html = Markup::new();
    html.raw("<ul>");
    let mut is_inner = false;
    for (level, line) in quality::lines(summary) {
        match (is_inner, level > 0) {
            (false, true) => html.raw("<li class=\"plain\"><ul>"),
            (true, false) => html.raw("</ul></li>"),
            _ => &mut html,
        };
        is_inner = level > 0;
        html.element("li", line);
    }
    html.raw(if is_inner { "</ul></li></ul>" } else { "</ul>" });
    html
}

/// The facts about the machine that the page shows, by their place in pipeprof.json.
const MACHINE: [(&str, &str); 13] = [
    ("/kernel_release", "kernel"),
    ("/cpus_online", "CPUs online"),
    ("/virtualisation/guest", "virtual machine"),
    ("/virtualisation/product", "machine"),
    ("/perf/paranoid", "kernel.perf_event_paranoid"),
    ("/perf/max_sample_rate_hz", "kernel.perf_event_max_sample_rate"),
    ("/perf/mlock_kib", "kernel.perf_event_mlock_kb"),
    ("/kptr_restrict", "kernel.kptr_restrict"),
    ("/kernel_symbols", "/proc/kallsyms shows"),
    ("/process/effective_uid", "user id of the recorder"),
    ("/pipes/max_size_bytes", "fs.pipe-max-size"),
    ("/pipes/user_pages_soft", "fs.pipe-user-pages-soft"),
    ("/huge_pages/transparent", "transparent huge pages"),
];

/// The machine; `None` where nothing was noted.
pub(super) fn machine(environment: &Value) -> Option<Markup> {
    let mut html = Markup::new();
    for (pointer, name) in MACHINE {
        let words = match environment.pointer(pointer) {
            None | Some(Value::Null) => continue,
            Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        html.raw("<tr><th scope=\"row\">").text(name).raw("</th><td>");
        html.text(words).raw("</td></tr>");
    }
    if html.is_empty() {
        return None;
    }
    let mut table = Markup::new();
    table.raw("<table>").append(&html).raw("</table>");
    Some(table)
}

/// A table with words on the left and numbers on the right.
struct Table {
    html: Markup,
    has_rate: bool,
    is_empty: bool,
}

impl Table {
    fn new(caption: &str, words: &[&str], numbers: &[&str], has_rate: bool) -> Self {
        let mut html = Markup::new();
        html.raw("<div class=\"scroll\"><table><caption>").text(caption).raw("</caption><tr>");
        for head in words {
            html.raw("<th scope=\"col\">").text(head).raw("</th>");
        }
        let rate = has_rate.then_some("per GiB");
        for head in numbers.iter().copied().chain(rate) {
            html.raw("<th scope=\"col\" class=\"n\">").text(head).raw("</th>");
        }
        html.raw("</tr>");
        Table { html, has_rate, is_empty: true }
    }

    /// The first cell of a row.
    fn words(&mut self, words: impl Display) -> &mut Self {
        self.is_empty = false;
        self.html.raw("<tr><td>").text(words).raw("</td>");
        self
    }

    fn number(&mut self, number: impl Display) -> &mut Self {
        self.html.raw("<td class=\"n\">").text(number).raw("</td>");
        self
    }

    /// The last cell of a row.
    fn rate(&mut self, ns: Option<f64>) {
        if self.has_rate {
            self.number(ns.map_or_else(|| "–".to_owned(), duration));
        }
        self.html.raw("</tr>");
    }

    fn done(mut self) -> Markup {
        if self.is_empty {
            return Markup::new();
        }
        self.html.raw("</table></div>");
        self.html
    }
}

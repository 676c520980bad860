//! `pipeprof doctor`: what works on this machine, and how to make the rest work.

mod checks;

use pipeprof_profiler::environment::Environment;
use pipeprof_report::text::Style;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt::Write as _;

use self::checks::{Check, Findings, Trials};
use crate::args::json::{JsonArgs, pretty};
use crate::terminal;
use crate::ui::{Exit, Ui};

/// Check what can be measured on this machine, and how to fix the rest
///
/// Tries every event on its own process. Exits with 0 if profiling works, even if limited, and with
/// 1 if it does not.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    json: JsonArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    findings: &'a Findings,
    environment: &'a Environment,
    tried: &'a Trials,
}

pub(crate) fn run(args: &DoctorArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let environment = Environment::read();
    let tried = Trials::run();
    let findings = checks::judge(&environment, &tried);
    let json = || {
        let report = Report { findings: &findings, environment: &environment, tried: &tried };
        pretty(&report)
    };
    args.json.open(&[])?.write(json, || Ok(render(&findings, terminal::style(ui))), ui)?;
    Ok(if findings.works { Exit::Done } else { Exit::Failed })
}

/// What keeps pipeprof from measuring kernel code here, as `doctor` says it; `None` if nothing
/// does.
pub(crate) fn kernel_limit() -> Option<String> {
    let findings = checks::judge(&Environment::read(), &Trials::run());
    let needed = ["perf events", "kernel code", "kernel names"];
    let limits = findings.checks.into_iter().filter(|check| needed.contains(&check.name));
    let Check { name, value, fix, .. } =
        limits.into_iter().find(|check| check.status != checks::Status::Ok)?;
    Some(match fix {
        Some(fix) => format!("{name}: {value}\nfix: {fix}"),
        None => format!("{name}: {value}"),
    })
}

/// A line a check; a fix below the first check that it lifts.
fn render(findings: &Findings, style: Style) -> String {
    let width = findings.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut fixes = HashSet::new();
    for Check { name, status, value, fix } in &findings.checks {
        let status = status.as_str();
        let line = format!("{status:<7}  {name:<width$}  {}", harmless(value));
        text.push_str(&style.wrap(&line, width + 11));
        if let Some(fix) = fix
            && fixes.insert(fix)
        {
            let _ = writeln!(text, "{:<7}  {:<width$}  fix: {}", "", "", harmless(fix));
        }
    }
    text.push('\n');
    text.push_str(&style.wrap(&findings.verdict, 0));
    text
}

/// Some values are texts from the firmware or the kernel build.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use checks::Status;

    #[test]
    fn lines_align_and_a_fix_is_said_once() {
        let check = |name, status, value: &str, fix: Option<&str>| Check {
            name,
            status,
            value: value.to_owned(),
            fix: fix.map(str::to_owned),
        };
        let findings = Findings {
            checks: vec![
                check("a", Status::Ok, "1", None),
                check("long name", Status::Limited, "2", Some("do it")),
                check("b", Status::Missing, "\u{1b}[2J", Some("do it")),
            ],
            works: true,
            verdict: "It works.".to_owned(),
        };
        let expected = "\
ok       a          1
limited  long name  2
                    fix: do it
missing  b          \\u{1b}[2J

It works.
";
        assert_eq!(render(&findings, Style::default()), expected);
    }
}

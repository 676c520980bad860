//! Pushes profiles to a server, in a thread that never delays the watch.

pub(super) mod address;
pub(super) mod queue;
mod retry;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use address::{Address, Form};
use pipeprof_report::export::{otlp, pprof};
use prost::Message;
use queue::{Queue, Waiting};
use retry::{Fate, fate, pause};

use crate::ui::Ui;

/// A server that does not answer within this is tried again.
const LONGEST_CALL: Duration = Duration::from_secs(15);

/// So long does the end of a watch wait for a server that takes what is left.
const LONGEST_END: Duration = Duration::from_secs(10);

/// Sends what is in the queue, the oldest first, until nothing more can come. What the server does
/// not take then stays for the next watch.
pub(super) fn send_all(
    address: &Address,
    queue: &Queue<'_>,
    watch: &str,
    news: Receiver<()>,
    ui: &Ui,
) {
    let agent = agent();
    let mut failures = 0;
    let mut until = None;
    loop {
        if until.is_none() && is_told_to_end(&news, Duration::ZERO) {
            until = Some(Instant::now() + LONGEST_END);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return;
        }
        let Some(oldest) = queue.oldest() else {
            if until.is_some() || news.recv().is_err() {
                return;
            }
            continue;
        };
        let fate = match queue.read(&oldest) {
            Ok(body) => fate(&call(&agent, address, watch, &oldest, &body)),
            Err(error) => Fate::Refused(error.to_string()),
        };
        let removed = match fate {
            Fate::Sent => {
                if failures > 0 {
                    ui.note(format_args!("pushing to {address} works again"));
                }
                failures = 0;
                queue.sent(&oldest)
            }
            Fate::Refused(why) => {
                ui.warn(format_args!("a profile for {address} is dropped: {why}"));
                queue.dropped(&oldest)
            }
            Fate::Later(why) => {
                if failures == 0 {
                    let folder = queue.folder().display();
                    ui.warn(format_args!(
                        "pushing to {address} failed: {why}; profiles wait in {folder}"
                    ));
                }
                failures += 1;
                if until.is_some() {
                    return;
                }
                is_told_to_end(&news, pause(failures));
                Ok(())
            }
        };
        if let Err(error) = removed {
            let folder = queue.folder().display();
            ui.warn(format_args!("pushing ends: removing a profile from {folder} failed: {error}"));
            return;
        }
    }
}

/// Waits so long, or until nothing more can come.
fn is_told_to_end(news: &Receiver<()>, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match news.recv_timeout(left) {
            // What has come waits in the queue.
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(LONGEST_CALL))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("pipeprof/", env!("CARGO_PKG_VERSION")))
        .build();
    config.into()
}

/// The status that the server answers with.
fn call(
    agent: &ureq::Agent,
    address: &Address,
    watch: &str,
    waiting: &Waiting,
    body: &[u8],
) -> Result<u16, String> {
    let request = agent.post(address.endpoint());
    let answer = match address.form {
        Form::Pyroscope => request
            .query("name", address::application(watch))
            .query("from", waiting.from.as_secs().to_string())
            .query("until", waiting.until.as_secs().to_string())
            .query("format", "pprof")
            .query("spyName", "pipeprof")
            .content_type("application/octet-stream")
            .send(body),
        Form::Otlp => {
            let host = address::host();
            let whose =
                [("service.name", "pipeprof"), ("host.name", &host), ("pipeprof.watch", watch)];
            let profile = pprof::read(body).map_err(|error| error.to_string())?;
            let message = otlp::request(&profile, &whose).encode_to_vec();
            request.content_type("application/x-protobuf").send(&message[..])
        }
    };
    let answer = answer.map_err(|error| error.to_string())?;
    Ok(answer.status().as_u16())
}

//! The summary as JSON.

use serde_json::Value;

use super::{ByPid, Summary};
use crate::facts::lanes::{Cell, Lanes, PipeLane};

impl Summary {
    /// The summary as JSON, for a program to read.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::Write`] where `out` fails.
    pub fn write_json(&self, mut out: impl std::io::Write) -> Result<(), crate::error::Error> {
        let mut json = serde_json::to_value(self).map_err(std::io::Error::from)?;
        if let Some(lanes) = &self.timeline {
            json["timeline"] = self.timeline_json(lanes);
        }
        // Who it is, not only a pid to look up.
        if let Some(Value::Array(members)) = json.pointer_mut("/verdict/members") {
            let by_pid = self.by_pid();
            for member in members.iter_mut() {
                if let Some(pid) = member.as_i64().and_then(|pid| i32::try_from(pid).ok()) {
                    *member = named(&by_pid, pid);
                }
            }
        }
        serde_json::to_writer_pretty(&mut out, &json).map_err(std::io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }

    fn timeline_json(&self, lanes: &Lanes) -> Value {
        let percents = |shares: &[f64]| -> Vec<Value> {
            shares.iter().map(|share| tenth(100.0 * share)).collect()
        };
        let by_pid = self.by_pid();
        let is_kept = |pid: i32| by_pid.get(pid).is_some();
        let members = lanes.members.iter().filter(|lane| is_kept(lane.pid)).map(|lane| {
            let mut json = named(&by_pid, lane.pid);
            let of_cells = |share: &dyn Fn(&Cell) -> f64| -> Value {
                percents(&lane.cells.iter().map(share).collect::<Vec<_>>()).into()
            };
            for (at, name) in STATE_FIELDS.into_iter().enumerate() {
                json[name] = of_cells(&|cell| cell.shares[at]);
            }
            json["limits_percent"] = of_cells(&|cell| cell.limits);
            json
        });
        let is_held =
            |lane: &&PipeLane| lane.writers.iter().chain(&lane.readers).any(|&p| is_kept(p));
        let pipes = lanes.pipes.iter().filter(is_held).map(|lane| {
            let rates: Vec<Option<f64>> =
                lane.bytes_per_second.iter().map(|rate| rate.map(f64::round)).collect();
            let fill: Vec<Value> = lane
                .fill
                .iter()
                .map(|fill| fill.map_or(Value::Null, |f| tenth(100.0 * f)))
                .collect();
            serde_json::json!({
                "inode": lane.inode,
                "bytes_per_second": rates,
                "fill_percent": fill,
                "limits_percent": percents(&lane.limits),
            })
        });
        serde_json::json!({
            "column_ns": lanes.column_ns.round(),
            "columns": lanes.columns,
            "members": members.collect::<Vec<_>>(),
            "pipes": pipes.collect::<Vec<_>>(),
            "cpus_limit_percent": percents(&lanes.cpus),
            "unknown_limit_percent": percents(&lanes.unknown),
        })
    }
}

/// A member by pid, name and place in the pipeline.
fn named(by_pid: &ByPid<'_>, pid: i32) -> Value {
    let (place, name) = by_pid.placed(pid).map(|(at, member)| (at, member.comm.as_str())).unzip();
    serde_json::json!({ "pid": pid, "name": name.unwrap_or_default(), "place": place })
}

/// Fields of the JSON, by [`State::ALL`](crate::facts::lanes::State::ALL).
const STATE_FIELDS: [&str; 5] = [
    "busy_percent",
    "runnable_percent",
    "waits_for_data_percent",
    "waits_for_space_percent",
    "outside_percent",
];

/// Rounded to a tenth, as more says nothing.
fn tenth(value: f64) -> Value {
    ((10.0 * value).round() / 10.0).into()
}

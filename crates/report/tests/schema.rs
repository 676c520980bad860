//! The JSON of a run against `docs/json.schema.json`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{blocked_chain, pair, phased, stage};
use pipeprof_profiler::states::{GroupLimits, IoLimit, Stalls};
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::run::Run;
use pipeprof_report::summary::Summary;
use serde_json::Value;

fn json(run: &Run) -> Value {
    let mut out = Vec::new();
    Summary::of(run, &Highlights::article(), View::default()).write_json(&mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        other => panic!("the schema has a type {other}"),
    }
}

/// Where a value is not what the schema says, of the words that this schema uses.
fn faults(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(constant) = schema.get("const").filter(|constant| *constant != value) {
        found.push(format!("{at}: {value} is not {constant}"));
    }
    if let Some(Value::Array(all)) = schema.get("enum")
        && !all.contains(value)
    {
        found.push(format!("{at}: {value} is none of {all:?}"));
    }
    let is_of_type = match schema.get("type") {
        Some(Value::String(name)) => is_a(value, name),
        Some(Value::Array(names)) => names.iter().any(|name| is_a(value, name.as_str().unwrap())),
        _ => true,
    };
    if !is_of_type {
        found.push(format!("{at}: {value} is no {}", schema["type"]));
    }
    if let Value::Object(fields) = value {
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                found.push(format!("{at}: no {name}"));
            }
        }
        for (name, schema) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            if let Some(field) = fields.get(name) {
                faults(schema, field, &format!("{at}/{name}"), found);
            }
        }
    }
    if let (Value::Array(items), Some(schema)) = (value, schema.get("items")) {
        for (index, item) in items.iter().enumerate() {
            faults(schema, item, &format!("{at}/{index}"), found);
        }
    }
}

#[test]
fn json_is_what_its_schema_says() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../docs/json.schema.json")).unwrap();
    let of = |value: &Value| {
        let mut found = Vec::new();
        faults(&schema, value, "", &mut found);
        found
    };
    for run in
        [blocked_chain(), pair(stage("write"), "write", 8 << 30, 2.3), Run::bare(stage("splice"))]
    {
        assert_eq!(of(&json(&run)), Vec::<String>::new());
    }
    let json_of = |columns: usize| -> Value {
        let mut run = phased();
        let seen = &mut run.states.as_mut().unwrap().processes[0];
        seen.quota_cpus = Some(0.5);
        seen.limits = Some(GroupLimits {
            memory_high_bytes: Some(1 << 29),
            memory_max_bytes: Some(1 << 30),
            io: vec![IoLimit { device: "8:16".into(), ..IoLimit::default() }],
            cpus: Some("0-1".into()),
            stalled: Some(Stalls::default()),
        });
        let mut summary = Summary::of(&run, &Highlights::article(), View::default());
        summary.add_timeline(&run, columns);
        let mut out = Vec::new();
        summary.write_json(&mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    };
    let mut timeline = json_of(50);
    assert_eq!(of(&timeline), Vec::<String>::new());
    let group = &timeline["members"][0]["control_group"];
    assert_eq!((group["cpu_quota"].as_f64(), &group["cpus"]), (Some(0.5), &"0-1".into()));
    let busy = &timeline["timeline"]["members"][0]["busy_percent"];
    assert_eq!((busy[10].as_f64(), busy[40].as_f64()), (Some(100.0), Some(0.0)));
    for column in 0..50 {
        let of_members = timeline["timeline"]["members"].as_array().unwrap().iter();
        let of_pipes = timeline["timeline"]["pipes"].as_array().unwrap().iter();
        let at = |lane: &Value| lane["limits_percent"][column].as_f64().unwrap();
        let alone = ["cpus_limit_percent", "unknown_limit_percent"];
        let alone = alone.map(|name| timeline["timeline"][name][column].as_f64().unwrap());
        let sum: f64 = of_members.chain(of_pipes).map(at).chain(alone).sum();
        assert!((sum - 100.0).abs() < 0.5, "{column}: {sum}");
    }
    timeline["timeline"]["members"][0]["busy_percent"][3] = "x".into();
    assert_eq!(of(&timeline).len(), 1);
    // The checker finds what is wrong.
    let mut wrong = json(&blocked_chain());
    wrong["members"][0]["pid"] = "x".into();
    wrong["verdict"]["members"][0] = 12.into();
    wrong.as_object_mut().unwrap().remove("quality");
    assert_eq!(of(&wrong).len(), 3, "{:?}", of(&wrong));
}

#[test]
fn the_verdict_says_who_by_pid_name_and_place() {
    let json = json(&blocked_chain());
    assert_eq!(
        json["verdict"]["members"],
        serde_json::json!([{ "pid": 12, "name": "sort", "place": 1 }])
    );
}

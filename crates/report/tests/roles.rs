//! Roles of real stacks.

mod common;

use common::{Builder, STAGES, frame, stage};
use pipeprof_profiler::profile::{Mode, Profile};
use pipeprof_report::roles::{Basis, Classification, Role};
use pipeprof_runner::pipeline::End;

/// Percent of an end's samples, per role.
fn shares(profile: &Profile, end: End) -> [f64; Role::ALL.len()] {
    let roles = Classification::of(profile);
    let member = profile.members.iter().find(|m| m.end == Some(end)).unwrap();
    let mut shares = [0.0; Role::ALL.len()];
    for weight in &member.on_cpu {
        shares[roles.role(weight.stack).index()] += weight.samples as f64;
    }
    shares.map(|samples| 100.0 * samples / member.samples() as f64)
}

#[test]
fn print_shares() {
    for name in STAGES {
        let profile = stage(name);
        for end in [End::Writer, End::Reader] {
            let shares = shares(&profile, end);
            let mut list: Vec<_> =
                Role::ALL.iter().map(|&r| (shares[r.index()], r.label())).filter(|x| x.0 > 0.0).collect();
            list.sort_by(|a, b| b.0.total_cmp(&a.0));
            let text: Vec<String> = list.iter().map(|(s, l)| format!("{l} {s:.1}")).collect();
            eprintln!("{name} {}: {}", end.as_str(), text.join(", "));
        }
        let roles = Classification::of(&profile);
        let mut n = [0u64; 3];
        for m in &profile.members { for w in &m.on_cpu { n[match roles.basis(w.stack) { Basis::Seen => 0, Basis::Learned => 1, Basis::Inferred => 2 }] += w.samples; } }
        eprintln!("   seen {} learned {} inferred {}", n[0], n[1], n[2]);
    }
    let _ = (frame(Mode::User, "x"), Builder::new());
}

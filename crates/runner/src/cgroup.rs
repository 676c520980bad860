//! Where a process runs, by the path of its control group: a container, a pod, a systemd unit.
//!
//! Container engines name control groups after what runs in them. The names read here are those of
//! Docker, Podman, containerd (nerdctl, Kubernetes), CRI-O, LXC and systemd-nspawn, with the systemd
//! driver and without. Inside a container its own control group is mostly `/`, which says nothing.

use std::borrow::Cow;

use crate::proc_file;

use serde::{Deserialize, Serialize};

/// Where a process runs, as far as its control group tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The container that it is in.
    pub container: Option<Container>,
    /// The innermost systemd unit, `nginx.service`.
    pub unit: Option<String>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// What made it: `docker`, `podman`, `containerd`, `cri-o`, `nerdctl`, `lxc`, `nspawn`; `null` where
    /// the name does not say.
    pub engine: Option<Cow<'static, str>>,
    /// Its id, 64 hexadecimal digits, or its name.
    pub id: String,
    /// The Kubernetes pod that it belongs to.
    pub pod: Option<String>,
}

impl Container {
    /// Its id as the engines print it: 12 digits.
    pub fn short_id(&self) -> &str {
        if is_id(&self.id) { &self.id[..12] } else { &self.id }
    }

    /// `docker 4f2a91c03bde`, and the pod. Untrusted text.
    pub fn name(&self) -> String {
        let engine = self.engine.as_deref().unwrap_or("container");
        let pod = self.pod.as_ref().map_or(String::new(), |pod| format!(", pod {pod}"));
        format!("{engine} {}{pod}", self.short_id())
    }
}

/// Of a process; nothing is known where it has gone or may not be read.
pub fn place_of(pid: i32) -> Place {
    proc_file::read_to_string(format!("/proc/{pid}/cgroup"))
        .map_or_else(|_| Place::default(), |text| place(&text))
}

/// Of the text of `/proc/PID/cgroup` (cgroups(7)): a line a hierarchy, `ID:CONTROLLERS:PATH`.
pub fn place(cgroup: &str) -> Place {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut place = Place::default();
    for path in paths {
        // Of version 1 only some hierarchies may have it.
        place.container = place.container.or_else(|| container(path));
        place.unit = place.unit.or_else(|| unit(path));
    }
    place
}

/// What stands before the id in the name of a scope, and whose it is.
const SCOPES: [(&str, &str); 6] = [
    ("docker-", "docker"),
    ("libpod-", "podman"),
    ("cri-containerd-", "containerd"),
    ("crio-", "cri-o"),
    ("nerdctl-", "nerdctl"),
    ("machine-", "nspawn"),
];

fn container(path: &str) -> Option<Container> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let pod = parts.iter().find_map(|part| pod(part));
    let found = |engine: Option<&'static str>, id: &str| {
        let engine = engine.map(Cow::Borrowed);
        Some(Container { engine, id: id.to_owned(), pod: pod.clone() })
    };
    for (at, part) in parts.iter().enumerate().rev() {
        if let Some(name) = part.strip_suffix(".scope") {
            for (prefix, engine) in SCOPES {
                let id = name.strip_prefix(prefix);
                if let Some(id) = id.filter(|id| is_id(id) || engine == "nspawn") {
                    return found(Some(engine), id);
                }
            }
        }
        if let Some(name) = part.strip_prefix("lxc.payload.") {
            return found(Some("lxc"), name);
        }
        let before = at.checked_sub(1).map(|before| parts[before]);
        match before {
            Some("docker") if is_id(part) => return found(Some("docker"), part),
            Some("lxc") => return found(Some("lxc"), part),
            // containerd without systemd: the namespace, then the id.
            Some("default" | "k8s.io" | "moby") if is_id(part) => {
                return found(Some("containerd"), part);
            }
            Some(_) if pod.is_some() && is_id(part) => return found(None, part),
            _ => {}
        }
        let nspawn =
            part.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service"));
        if let Some(name) = nspawn {
            return found(Some("nspawn"), name);
        }
    }
    None
}

/// `kubepods-burstable-pod1b2c_….slice`, or `pod1b2c-…` without systemd, whose name has no `_`.
fn pod(part: &str) -> Option<String> {
    let name = part.strip_suffix(".slice").map_or(Some(part), |name| {
        name.strip_prefix("kubepods").and_then(|rest| rest.rsplit_once("-pod")).map(|_| name)
    })?;
    let uid = match name.rsplit_once("-pod") {
        Some((_, uid)) => uid,
        None => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let is_uid = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    is_uid.then_some(uid)
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The innermost service or scope.
fn unit(path: &str) -> Option<String> {
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    path.rsplit('/').find(is_unit).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f2a91c03bde5f6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c";

    #[test]
    fn containers_are_read_from_the_names_that_their_engines_give() {
        let pod = "1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901";
        let pod_ = pod.replace('-', "_");
        for (path, engine, id, pod) in [
            (format!("0::/system.slice/docker-{ID}.scope"), Some("docker"), ID, None),
            (format!("12:pids:/docker/{ID}\n11:memory:/docker/{ID}"), Some("docker"), ID, None),
            (format!("0::/machine.slice/libpod-{ID}.scope/container"), Some("podman"), ID, None),
            (
                format!(
                    "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"
                ),
                Some("podman"),
                ID,
                None,
            ),
            (format!("0::/default/{ID}"), Some("containerd"), ID, None),
            (format!("0::/system.slice/nerdctl-{ID}.scope"), Some("nerdctl"), ID, None),
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{pod_}.slice/cri-containerd-{ID}.scope"
                ),
                Some("containerd"),
                ID,
                Some(pod),
            ),
            (
                format!("0::/kubepods.slice/kubepods-pod{pod_}.slice/crio-{ID}.scope"),
                Some("cri-o"),
                ID,
                Some(pod),
            ),
            (format!("0::/kubepods/besteffort/pod{pod}/{ID}"), None, ID, Some(pod)),
            (
                "0::/lxc.payload.web1/system.slice/cron.service".to_owned(),
                Some("lxc"),
                "web1",
                None,
            ),
            ("9:cpu:/lxc/web1".to_owned(), Some("lxc"), "web1", None),
            ("0::/machine.slice/machine-deb.scope/payload".to_owned(), Some("nspawn"), "deb", None),
            (
                "0::/machine.slice/systemd-nspawn@deb.service/payload".to_owned(),
                Some("nspawn"),
                "deb",
                None,
            ),
        ] {
            let engine = engine.map(Cow::Borrowed);
            let expected = Container { engine, id: id.to_owned(), pod: pod.map(str::to_owned) };
            assert_eq!(place(&path).container, Some(expected), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_is_none() {
        for path in [
            "0::/".to_owned(),
            String::new(),
            "nonsense".to_owned(),
            "0::/user.slice/user-0.slice/session-3.scope".to_owned(),
            // Podman's monitor is outside of its container.
            format!("0::/machine.slice/libpod-conmon-{ID}.scope"),
            format!("0::/docker/{}", &ID[..12]),
            "0::/podcasts/podium".to_owned(),
        ] {
            assert_eq!(place(&path).container, None, "{path}");
        }
    }

    #[test]
    fn the_unit_is_the_innermost_one() {
        let unit = |path: &str| place(path).unit;
        assert_eq!(unit("0::/system.slice/backup.service").as_deref(), Some("backup.service"));
        assert_eq!(
            unit("0::/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service/x")
                .as_deref(),
            Some("sync.service")
        );
        assert_eq!(
            unit("0::/user.slice/user-0.slice/session-3.scope").as_deref(),
            Some("session-3.scope")
        );
        assert_eq!(unit("0::/init"), None);
    }

    #[test]
    fn an_id_is_shortened_and_a_name_is_not() {
        let named = |id: &str| Container { engine: None, id: id.to_owned(), pod: None };
        assert_eq!(named(ID).short_id(), "4f2a91c03bde");
        assert_eq!(named("web1").short_id(), "web1");
        assert_eq!(named(ID).name(), "container 4f2a91c03bde");
        let docker =
            Container { engine: Some("docker".into()), pod: Some("7".to_owned()), ..named("web1") };
        assert_eq!(docker.name(), "docker web1, pod 7");
    }
}

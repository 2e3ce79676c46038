//! What whoever runs a container says of it: Compose, Swarm, Kubernetes.
//!
//! Read from the files that Docker, containerd and CRI-O keep of every container, without asking any
//! daemon. They are the host's, and root's; an agent that cannot read them names processes without.

use std::collections::HashMap;

use coral_model::text::clean;
use serde_json::Value;

use crate::observe::files::Files;

/// Containers remembered; beyond it all are read anew.
const CONTAINERS: usize = 1_024;
/// Where a container's file lies, `{}` standing for its id, and where its labels are in that.
const PLACES: [(&str, &[&str]); 6] = [
    ("/var/lib/docker/containers/{}/config.v2.json", &["Config", "Labels"]),
    ("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json", &["annotations"]),
    ("/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json", &["annotations"]),
    ("/run/containerd/io.containerd.runtime.v2.task/default/{}/config.json", &["annotations"]),
    ("/run/containers/storage/overlay-containers/{}/userdata/config.json", &["annotations"]),
    ("/var/run/containers/storage/overlay-containers/{}/userdata/config.json", &["annotations"]),
];

/// A container as its labels name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The service it is part of.
    pub service: Option<String>,
    /// Attributes of its resource, by OpenTelemetry's names.
    pub attributes: Vec<(&'static str, String)>,
}

/// Reads containers, each once.
#[derive(Debug, Default)]
pub struct Containers {
    known: HashMap<String, Container>,
}

impl Containers {
    /// What is said of the container with this id; nothing where nobody says anything.
    pub fn of(&mut self, files: &mut Files, id: &str) -> Container {
        if let Some(known) = self.known.get(id) {
            return known.clone();
        }
        if self.known.len() >= CONTAINERS {
            self.known.clear();
        }
        let container = read(files, id).unwrap_or_default();
        self.known.insert(id.to_owned(), container.clone());
        container
    }
}

fn read(files: &mut Files, id: &str) -> Option<Container> {
    PLACES.iter().find_map(|(place, way)| {
        let text = files.read(&place.replace("{}", id)).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let labels = way.iter().try_fold(&value, |value, key| value.get(key))?;
        Some(container(labels))
    })
}

fn container(labels: &Value) -> Container {
    let label = |names: &[&str]| {
        let found = names.iter().find_map(|name| labels.get(name)?.as_str());
        found
            .filter(|text| !text.is_empty() && text.len() <= 253)
            .map(|text| clean(text).into_owned())
    };
    let pod = label(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    let inside = label(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]);
    let service = label(&[
        "resource.opentelemetry.io/service.name",
        "com.docker.compose.service",
        "com.docker.swarm.service.name",
        "app.kubernetes.io/name",
    ]);
    let service = service.or_else(|| pod.as_deref().map(|pod| owner(pod).to_owned()));
    let namespace = label(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]);
    let attributes = [
        ("k8s.pod.name", pod),
        ("k8s.container.name", inside),
        ("k8s.namespace.name", namespace),
        ("service.namespace", label(&["com.docker.compose.project"])),
    ];
    let attributes =
        attributes.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    Container { service, attributes }
}

/// What a pod belongs to, by the way Kubernetes makes names: `cart-7d9f8b6c5-x2x4z` of a Deployment, `db-0` of
/// a StatefulSet, `log-abcde` of a DaemonSet, `nightly-28371840-5xkzq` of a CronJob.
fn owner(pod: &str) -> &str {
    // The letters and digits that its generator uses: no vowels, none that look alike.
    let random = |part: &str| part.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let Some((rest, last)) = pod.rsplit_once('-') else { return pod };
    if digits(last) && last.len() < 5 {
        return rest;
    }
    if last.len() != 5 || !random(last) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((owner, set)) if (6..=10).contains(&set.len()) && (random(set) || digits(set)) => {
            owner
        }
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4c01db0b339c4c01db0b339c4c01db0b339c4c01db0b339c4c01db0b339cabcd";

    fn host(place: &str, text: &str) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(place.replace("{}", ID).trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        let files = Files::below(dir.path());
        (dir, files)
    }

    #[test]
    fn compose_says_the_service() {
        let text = r#"{"ID":"4c01","Name":"/shop-cart-1","Config":{"Image":"cart","Labels":{
            "com.docker.compose.project":"shop","com.docker.compose.service":"cart"}}}"#;
        let (_dir, mut files) = host(PLACES[0].0, text);
        let mut containers = Containers::default();
        let found = containers.of(&mut files, ID);
        assert_eq!(found.service.as_deref(), Some("cart"));
        assert_eq!(found.attributes, [("service.namespace", "shop".to_owned())]);
        assert_eq!(containers.of(&mut Files::below("/nowhere"), ID), found, "read once");
        assert_eq!(containers.of(&mut files, "other"), Container::default());
    }

    #[test]
    fn kubernetes_says_pod_and_container_and_the_pod_whose_it_is() {
        let text = r#"{"ociVersion":"1.1.0","annotations":{
            "io.kubernetes.cri.container-name":"app","io.kubernetes.cri.container-type":"container",
            "io.kubernetes.cri.sandbox-name":"cart-7d9f8b6c5-x2x4z","io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
        let (_dir, mut files) = host(PLACES[1].0, text);
        let found = Containers::default().of(&mut files, ID);
        assert_eq!(found.service.as_deref(), Some("cart"));
        let attributes = [
            ("k8s.pod.name", "cart-7d9f8b6c5-x2x4z"),
            ("k8s.container.name", "app"),
            ("k8s.namespace.name", "shop"),
        ];
        assert_eq!(found.attributes, attributes.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn what_is_no_label_is_nothing() {
        for text in [
            "",
            "{}",
            "[1]",
            r#"{"Config":{"Labels":null}}"#,
            r#"{"Config":{"Labels":{"com.docker.compose.service":7}}}"#,
        ] {
            let (_dir, mut files) = host(PLACES[0].0, text);
            assert_eq!(Containers::default().of(&mut files, ID), Container::default(), "{text}");
        }
    }

    #[test]
    fn pods_are_called_after_what_made_them() {
        for (pod, expected) in [
            ("cart-7d9f8b6c5-x2x4z", "cart"),
            ("shop-cart-6bdc8bd447-zx4wd", "shop-cart"),
            ("db-0", "db"),
            ("fluent-bit-b4xkz", "fluent-bit"),
            ("etcd-node-a", "etcd-node-a"),
            ("nightly-28371840-5xkzq", "nightly"),
            ("single", "single"),
            ("-", "-"),
        ] {
            assert_eq!(owner(pod), expected, "{pod}");
        }
    }
}

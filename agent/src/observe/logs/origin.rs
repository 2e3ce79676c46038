//! Whose log a file is.
//!
//! The configuration's word first; then what the runtime wrote beside or into the file; then where the
//! file lies (Kubernetes' folders, `kubelet`: `/var/log/pods/<namespace>_<pod>_<uid>/<container>/`);
//! last its own name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use super::otlp::Pairs;

/// Largest `config.v2.json` that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Compose's and Kubernetes' labels for what people call the service.
const LABELS: [&str; 4] = [
    "com.docker.compose.service",
    "com.docker.swarm.service.name",
    "io.kubernetes.container.name",
    "app.kubernetes.io/name",
];

/// Resource attributes of a file's records.
#[must_use]
pub fn resource(
    service: Option<&str>,
    path: &Path,
    labels: &BTreeMap<String, String>,
    host: &str,
) -> Pairs {
    let mut found = of_path(path);
    if let Some(id) = container_id(path) {
        found.insert("container.id", id);
        if let Some((name, labels)) = config_of(path) {
            found.insert("container.name", name.clone());
            let service = of_labels(&labels).unwrap_or(name);
            found.entry("service.name").or_insert(service);
        }
    }
    if let Some(of_labels) = of_labels(labels) {
        found.insert("service.name", of_labels);
    }
    if let Some(service) = service {
        found.insert("service.name", service.to_owned());
    }
    found.entry("service.name").or_insert_with(|| stem(path));
    found.insert("host.name", host.to_owned());
    found.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn of_labels(labels: &BTreeMap<String, String>) -> Option<String> {
    LABELS.iter().find_map(|key| labels.get(*key)).filter(|v| !v.is_empty()).cloned()
}

/// `payments` of `payments.log.1`.
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    match name.split('.').find(|part| !part.is_empty()) {
        Some(first) => first.to_owned(),
        None => "unknown_service".to_owned(),
    }
}

fn of_path(path: &Path) -> BTreeMap<&'static str, String> {
    let parts: Vec<String> =
        path.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    let mut found = BTreeMap::new();
    let mut put = |namespace: &str, pod: &str, container: &str| {
        found.insert("k8s.namespace.name", namespace.to_owned());
        found.insert("k8s.pod.name", pod.to_owned());
        found.insert("k8s.container.name", container.to_owned());
        found.insert("service.name", container.to_owned());
    };
    match parts.as_slice() {
        [.., pods, pod, container, _] if pods == "pods" => {
            if let [namespace, pod, _] = pod.split('_').collect::<Vec<_>>()[..] {
                put(namespace, pod, container);
            }
        }
        [.., containers, file] if containers == "containers" => {
            let bare = file.strip_suffix(".log").unwrap_or(file);
            if let [pod, namespace, rest] = bare.split('_').collect::<Vec<_>>()[..]
                && let Some((container, _)) = rest.rsplit_once('-')
            {
                put(namespace, pod, container);
            }
        }
        _ => {}
    }
    found
}

/// Docker's: `/var/lib/docker/containers/<id>/<id>-json.log`.
fn container_id(path: &Path) -> Option<String> {
    let id = path.parent()?.file_name()?.to_str()?;
    let hex = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| id.to_owned())
}

fn config_of(path: &Path) -> Option<(String, BTreeMap<String, String>)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Container {
        name: String,
        config: Config,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        labels: Option<BTreeMap<String, String>>,
    }
    let mut text = Vec::new();
    let file = File::open(path.parent()?.join("config.v2.json")).ok()?;
    file.take(LARGEST).read_to_end(&mut text).ok()?;
    let container: Container = serde_json::from_slice(&text).ok()?;
    let name = container.name.trim_start_matches('/').to_owned();
    Some((name, container.config.labels.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(service: Option<&str>, path: &str, labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        resource(service, Path::new(path), &labels, "h").into_iter().collect()
    }

    #[test]
    fn a_service_is_named_by_who_knows_best() {
        assert_eq!(of(None, "/var/log/payments.log.1", &[])["service.name"], "payments");
        assert_eq!(
            of(Some("p"), "/var/log/x.log", &[("com.docker.compose.service", "w")])["service.name"],
            "p"
        );
        let pod = of(None, "/var/log/pods/shop_cart-7f_123-4/web/0.log", &[]);
        assert_eq!(
            (pod["service.name"].as_str(), pod["k8s.pod.name"].as_str()),
            ("web", "cart-7f")
        );
        let link = of(None, "/var/log/containers/cart-7f_shop_web-0123abc.log", &[]);
        assert_eq!(
            (link["service.name"].as_str(), link["k8s.namespace.name"].as_str()),
            ("web", "shop")
        );
        assert_eq!(
            of(None, "/a/x.log", &[("com.docker.compose.service", "w")])["service.name"],
            "w"
        );
    }

    #[test]
    fn docker_says_beside_the_file_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let id = "ab".repeat(32);
        let home = dir.path().join(&id);
        std::fs::create_dir(&home).unwrap();
        let config =
            r#"{"Name":"/shop-web-1","Config":{"Labels":{"com.docker.compose.service":"web"}}}"#;
        std::fs::write(home.join("config.v2.json"), config).unwrap();
        let found = of(None, home.join(format!("{id}-json.log")).to_str().unwrap(), &[]);
        assert_eq!(
            (found["service.name"].as_str(), found["container.name"].as_str()),
            ("web", "shop-web-1")
        );
        assert_eq!(found["container.id"], id);
    }
}

//! The configuration of an image.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;

use anyhow::Result;
use oci_spec::image::{Arch, Config, ImageConfigurationBuilder, Os, RootFsBuilder};

use crate::bundle::oci;
use crate::compile::archive::Packed;
use crate::compile::host::{Architecture, Settings};

/// The configuration as canonical JSON. Deliberately absent: `created`, `author` and `history`, which would make equal images differ.
pub(super) fn render(architecture: Architecture, settings: &Config, layers: &[Packed]) -> Result<Vec<u8>> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let architecture = match architecture {
        Architecture::Amd64 => Arch::Amd64,
        Architecture::Arm64 => Arch::ARM64,
    };
    let configuration = ImageConfigurationBuilder::default()
        .architecture(architecture)
        .os(Os::Linux)
        .config(settings.clone())
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?)
        .build()?;
    Ok(oci::canonical_json(&configuration)?)
}

/// What an image says over what the one below says. What neither says is left out. Whoever says another program does not want the arguments
/// of the one before.
pub(super) fn over(mut config: Config, settings: &Settings) -> Config {
    if !settings.entrypoint.is_empty() {
        config.set_entrypoint(Some(settings.entrypoint.clone()));
        config.set_cmd(None);
    }
    if !settings.command.is_empty() {
        config.set_cmd(Some(settings.command.clone()));
    }
    let mut variables: Vec<String> = config.env().clone().unwrap_or_default();
    for (name, value) in &settings.environment {
        variables.retain(|variable| variable.split('=').next() != Some(name));
        variables.push(format!("{name}={value}"));
    }
    config.set_env(Some(variables).filter(|variables| !variables.is_empty()));
    if let Some(user) = &settings.user {
        config.set_user(Some(user.clone()));
    }
    if let Some(directory) = &settings.working_directory {
        config.set_working_dir(Some(directory.to_string()));
    }
    let ports = settings.ports.iter().cloned();
    config.set_exposed_ports(joined(config.exposed_ports().clone(), ports));
    let volumes = settings.volumes.iter().map(ToString::to_string);
    config.set_volumes(joined(config.volumes().clone(), volumes));
    if let Some(signal) = &settings.stop_signal {
        config.set_stop_signal(Some(signal.clone()));
    }
    let mut labels = config.labels().clone().unwrap_or_default();
    labels.extend(settings.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    config.set_labels(Some(labels).filter(|labels| !labels.is_empty()));
    config
}

/// Both, sorted, each once.
fn joined(below: Option<Vec<String>>, own: impl Iterator<Item = String>) -> Option<Vec<String>> {
    let all: BTreeSet<String> = below.into_iter().flatten().chain(own).collect();
    (!all.is_empty()).then(|| all.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn below() -> Config {
        let below = json!({
            "Entrypoint": ["/entry"], "Cmd": ["serve"], "Env": ["PATH=/bin", "A=1", "NO_VALUE"], "User": "www",
            "WorkingDir": "/srv", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "Labels": {"a": "1", "b": "1"},
            "StopSignal": "SIGQUIT", "Healthcheck": {"Test": ["CMD", "true"]}
        });
        serde_json::from_value(below).unwrap()
    }

    fn said(settings: &Settings) -> Value {
        serde_json::to_value(over(below(), settings)).unwrap()
    }

    #[test]
    fn what_an_image_does_not_say_the_one_below_says() {
        let said = said(&Settings::default());
        assert_eq!(said["Entrypoint"], json!(["/entry"]));
        assert_eq!(said["Cmd"], json!(["serve"]));
        assert_eq!(said["Env"], json!(["PATH=/bin", "A=1", "NO_VALUE"]));
        assert_eq!((&said["User"], &said["WorkingDir"]), (&json!("www"), &json!("/srv")));
        assert_eq!(said["StopSignal"], "SIGQUIT");
        assert!(said.get("Healthcheck").is_none(), "the OCI has none");
    }

    #[test]
    fn what_an_image_says_goes_over_the_one_below_or_beside_it() {
        let text = |text: &str| text.to_owned();
        let said = said(&Settings {
            entrypoint: vec![text("/own")],
            environment: [(text("A"), text("2")), (text("NO_VALUE"), text("3"))].into(),
            user: Some(text("1000")),
            working_directory: Some("/own".parse().unwrap()),
            ports: [text("443/tcp")].into(),
            volumes: ["/more".parse().unwrap()].into(),
            labels: [(text("b"), text("2"))].into(),
            stop_signal: Some(text("SIGINT")),
            ..Settings::default()
        });
        assert_eq!(
            (&said["Entrypoint"], said.get("Cmd")),
            (&json!(["/own"]), None),
            "the arguments were for another program"
        );
        assert_eq!(said["Env"], json!(["PATH=/bin", "A=2", "NO_VALUE=3"]));
        assert_eq!(
            (&said["User"], &said["WorkingDir"], &said["StopSignal"]),
            (&json!("1000"), &json!("/own"), &json!("SIGINT"))
        );
        assert_eq!(said["ExposedPorts"], json!({"443/tcp": {}, "80/tcp": {}}));
        assert_eq!(said["Volumes"], json!({"/data": {}, "/more": {}}));
        assert_eq!(said["Labels"], json!({"a": "1", "b": "2"}));
    }
}

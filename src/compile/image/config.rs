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

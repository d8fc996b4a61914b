//! The configuration of an image.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use oci_spec::image::{Arch, Config, ConfigBuilder, ImageConfigurationBuilder, Os, RootFsBuilder};

use crate::bundle::oci;
use crate::compile::archive::Packed;
use crate::compile::host::{Architecture, Image, Settings};

/// The configuration as canonical JSON. Deliberately absent: `created`, `author` and `history`, which would make equal images differ.
pub(super) fn render(image: &Image, layers: &[Packed]) -> anyhow::Result<Vec<u8>> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let architecture = match image.architecture {
        Architecture::Amd64 => Arch::Amd64,
        Architecture::Arm64 => Arch::ARM64,
    };
    let configuration = ImageConfigurationBuilder::default()
        .architecture(architecture)
        .os(Os::Linux)
        .config(config(&image.settings)?)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?)
        .build()?;
    Ok(oci::canonical_json(&configuration)?)
}

/// What says nothing is left out.
fn config(settings: &Settings) -> anyhow::Result<Config> {
    let mut config = ConfigBuilder::default();
    if !settings.entrypoint.is_empty() {
        config = config.entrypoint(settings.entrypoint.clone());
    }
    if !settings.command.is_empty() {
        config = config.cmd(settings.command.clone());
    }
    let environment: Vec<String> =
        settings.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !environment.is_empty() {
        config = config.env(environment);
    }
    if let Some(user) = &settings.user {
        config = config.user(user);
    }
    if let Some(directory) = &settings.working_directory {
        config = config.working_dir(directory.as_str());
    }
    if !settings.ports.is_empty() {
        config = config.exposed_ports(settings.ports.iter().cloned().collect::<Vec<_>>());
    }
    if !settings.volumes.is_empty() {
        config = config.volumes(settings.volumes.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    if let Some(signal) = &settings.stop_signal {
        config = config.stop_signal(signal);
    }
    let mut config = config.build()?;
    if !settings.labels.is_empty() {
        let labels = settings.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
        config.set_labels(Some(labels.collect()));
    }
    Ok(config)
}

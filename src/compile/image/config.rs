//! The configuration of an image.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use oci_spec::image::{Arch, Config, ConfigBuilder, ImageConfigurationBuilder, Os, RootFsBuilder};

use crate::bundle::oci;
use crate::compile::archive::Packed;
use crate::compile::host::Image;

/// The configuration as canonical JSON. Deliberately absent: `created`, `author` and `history`, which would make equal images differ.
pub(super) fn render(image: &Image, layers: &[Packed]) -> anyhow::Result<Vec<u8>> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let configuration = ImageConfigurationBuilder::default()
        // All hosts that rick knows are amd64; the programs in the layers are built for nothing else.
        .architecture(Arch::Amd64)
        .os(Os::Linux)
        .config(config(image)?)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?)
        .build()?;
    Ok(oci::canonical_json(&configuration)?)
}

fn config(image: &Image) -> anyhow::Result<Config> {
    let mut config = ConfigBuilder::default();
    if !image.entrypoint.is_empty() {
        config = config.entrypoint(image.entrypoint.clone());
    }
    if !image.command.is_empty() {
        config = config.cmd(image.command.clone());
    }
    let environment: Vec<String> =
        image.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !environment.is_empty() {
        config = config.env(environment);
    }
    Ok(config.build()?)
}

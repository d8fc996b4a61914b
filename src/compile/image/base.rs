//! The layers that an image takes over from the one that it stands on.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow};
use oci_spec::image::Config;
use rayon::prelude::*;

use super::Built;
use super::cache::Cache;
use super::layer;
use super::place::{Content, Entries, Entry};
use crate::bundle::digest::Digest;
use crate::bundle::names::BundlePath;
use crate::compile::archive::{self, Codec, Packed};
use crate::compile::blob::Blob;
use crate::compile::host::{Architecture, Base, BaseKind, Image, MAX_LAYERS};
use crate::compile::make::{Maker, Stored, Upstream, other_processors};
use crate::compile::outside::Reference;
use crate::compile::owner::Owner;
use crate::compile::payload::PayloadFile;
use crate::compile::source::Span;
use crate::compile::tree::{Kind, Tree};

/// What stands below an image's own layers.
#[derive(Default)]
pub(super) struct Below {
    /// The layers, lowest first.
    pub(super) layers: Vec<Packed>,
    /// What a container is like, as far as the image does not say it.
    pub(super) config: Config,
    /// The file system.
    pub(super) tree: Option<Rc<Tree>>,
}

/// Packages have at most this many layers, so that the image on top can have some.
const MAX_PACKAGE_LAYERS: usize = MAX_LAYERS / 3 * 2;

pub(super) fn below(image: &Image, maker: &Maker<'_>) -> Result<Below> {
    let Some(base) = &image.base else { return Ok(Below::default()) };
    let (layers, config) = layers_below(image, base, maker)?;
    Ok(Below { layers, config, tree: Some(maker.tree(base, image.architecture)?) })
}

fn layers_below(image: &Image, base: &Base, maker: &Maker<'_>) -> Result<(Vec<Packed>, Config)> {
    match &base.kind {
        BaseKind::Upstream(reference) => {
            let upstream = maker.upstream(reference, &base.span, image.architecture)?;
            let layers = layers_of(&upstream, reference, &base.span, image.codec, maker)?;
            Ok((layers, upstream.config))
        }
        BaseKind::Image(below) => {
            if below.architecture != image.architecture {
                return Err(other_processors(base));
            }
            let built = super::build(below, maker)?;
            Ok((built.layers, built.settings))
        }
        BaseKind::Debian(packages) => {
            if image.architecture != Architecture::Amd64 {
                return Err(other_processors(base));
            }
            let (whole, each) = maker.packages(packages, &base.span)?;
            let most = MAX_LAYERS.saturating_sub(image.layers.len()).clamp(1, MAX_PACKAGE_LAYERS);
            let cache = maker.cache().map(Cache::at);
            let groups = grouped(&each, most);
            let held = groups.iter().map(|paths| held(paths, &whole, maker)).collect::<Result<Vec<_>>>()?;
            let whole: &Tree = &whole;
            let pack = |held| layer::pack(&entries(held, whole), image.codec, cache.as_ref());
            let packed: Vec<_> = held.par_iter().map(pack).collect();
            let layers = packed.into_iter().collect::<Result<_>>()?;
            Ok((layers, Config::default()))
        }
    }
}

/// An image of a registry as a bundle has it: with the configuration that it has there, and its layers.
pub(super) fn embedded(reference: &Reference, place: &Span, maker: &Maker<'_>) -> Result<Built> {
    let upstream = maker.upstream(reference, place, Architecture::OF_HOSTS)?;
    let layers = layers_of(&upstream, reference, place, Codec::Zstd, maker)?;
    let config = maker.fetched(upstream.config_digest, reference, place)?;
    let manifest = Blob::of(super::manifest(&BTreeMap::new(), &config, &layers)?);
    Ok(Built { manifest, config, layers, settings: upstream.config })
}

fn layers_of(
    upstream: &Upstream,
    reference: &Reference,
    place: &Span,
    codec: Codec,
    maker: &Maker<'_>,
) -> Result<Vec<Packed>> {
    let layer = |(stored, diff_id): &(Stored, Digest)| {
        let blob = maker.fetched(stored.digest, reference, place)?;
        match stored.codec {
            Some(codec) => Ok(Packed { blob, codec, diff_id: *diff_id }),
            // Registries and tools make something else of layers that are not compressed, and not all the same.
            None => Ok(archive::compress(codec, &mut blob.open()?)?),
        }
    };
    upstream.layers.iter().map(layer).collect()
}

/// The paths of each layer, lowest first: a package that is large has its own, and all small ones have one together.
fn grouped(each: &[Tree], most: usize) -> Vec<BTreeSet<&str>> {
    let mut by_size: Vec<usize> = (0..each.len()).collect();
    by_size.sort_by_key(|number| std::cmp::Reverse(size(&each[*number])));
    let alone: BTreeSet<usize> = if each.len() <= most {
        by_size.into_iter().collect()
    } else {
        by_size.into_iter().take(most.saturating_sub(1)).collect()
    };
    let mut groups = Vec::new();
    let mut rest = BTreeSet::new();
    for (number, tree) in each.iter().enumerate() {
        let own = tree.entries().map(|(path, _)| path);
        if alone.contains(&number) { groups.push(own.collect()) } else { rest.extend(own) }
    }
    if !rest.is_empty() {
        groups.push(rest);
    }
    groups
}

fn size(tree: &Tree) -> u64 {
    let size = |kind: &Kind| if let Kind::File { size, .. } = kind { *size } else { 0 };
    tree.entries().map(|(_, node)| size(&node.kind)).sum()
}

/// What stands at a path of a layer, apart from where its content lies.
type Held = Vec<(BundlePath, Owner, u32, Option<PayloadFile>)>;

/// What a layer of packages holds. Where packages say different things of a path, each layer says what is so in the end.
fn held(paths: &BTreeSet<&str>, whole: &Tree, maker: &Maker<'_>) -> Result<Held> {
    let held = |path: &&str| {
        // Where another package has a link, this one's directory is where that leads.
        let path = whole.resolve_parent(path).map_err(|why| anyhow!(why))?;
        let node =
            whole.get(&path).with_context(|| format!("`/{path}` of a package is hidden by another one"))?;
        let place: BundlePath =
            path.parse().map_err(|why: String| anyhow!("`/{path}` of a package: {why}"))?;
        let owner = Owner::of(node.uid, node.gid)
            .with_context(|| format!("`/{path}` of a package has an owner that no layer can hold"))?;
        Ok((place, owner, node.mode, maker.stored(None, node)))
    };
    paths.iter().map(held).collect()
}

fn entries<'a>(held: &'a Held, whole: &'a Tree) -> Entries<'a> {
    let entry = |(path, owner, mode, file): &'a (BundlePath, Owner, u32, Option<PayloadFile>)| {
        let content = match (file, whole.get(path.as_str()).map(|node| &node.kind)) {
            (Some(file), _) => Content::File(file),
            (None, Some(Kind::Link(target))) => Content::Link(target),
            (None, _) => Content::Directory,
        };
        (path.clone(), Entry { owner: *owner, mode: *mode, content })
    };
    held.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::tree::{Change, Node};

    fn package(name: &str, size: u64) -> Tree {
        let kind = Kind::File { digest: Digest::of(name.as_bytes()), size };
        let node = Node { uid: 0, gid: 0, mode: 0o644, kind };
        let mut tree = Tree::default();
        tree.apply(vec![(format!("usr/{name}"), Change::Put(node))]).unwrap();
        tree
    }

    #[test]
    fn large_packages_have_layers_of_their_own_and_small_ones_share_one() {
        let each: Vec<Tree> =
            [("a", 1), ("b", 500), ("c", 2), ("d", 400)].map(|(name, size)| package(name, size)).into();
        assert_eq!(
            grouped(&each, 3),
            [["usr", "usr/b"].into(), ["usr", "usr/d"].into(), BTreeSet::from(["usr", "usr/a", "usr/c"])]
        );
        assert_eq!(grouped(&each, 4).len(), 4);
        assert_eq!(grouped(&each, 1), [BTreeSet::from(["usr", "usr/a", "usr/b", "usr/c", "usr/d"])]);
    }
}

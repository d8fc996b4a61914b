//! What images and builds are made of beside the source tree, as modules state it. Everything is stated by value: a layer that takes
//! something of a build holds the whole build.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Image;
use crate::compile::source::{SourcePath, Span};

/// Where the content of a layer, or an input of a build, comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Source {
    /// A file or tree of the source tree.
    Tree(SourcePath),
    /// A file of the network.
    Archive(Archive),
    /// What a build made.
    Output(Box<Build>, String),
    /// What an image has at a path.
    Within(Box<Base>, String),
}

/// `archive(url)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Archive {
    /// Where it is.
    pub url: String,
    /// The call.
    pub span: Span,
}

/// An image that others stand on: the base of an image, or the root of a build.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Base {
    /// Which.
    pub kind: BaseKind,
    /// The call that made it.
    pub span: Span,
}

/// The images that others can stand on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum BaseKind {
    /// `upstream(reference)`: an image of a registry.
    Upstream(String),
    /// `debian(release, packages)`: packages of Debian, and what they depend on.
    Debian {
        /// The code name of a release.
        release: String,
        /// What is asked for by name.
        packages: Vec<String>,
    },
    /// An image of a module.
    Image(Box<Image>),
}

/// `build(name, root, command, outputs, inputs = {}, environment = {}, cores = 1)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Build {
    /// What it is called, for people.
    pub name: String,
    /// The file system that it runs in.
    pub root: Base,
    /// Path → what stands there.
    pub inputs: BTreeMap<String, Source>,
    /// What is run.
    pub command: Vec<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// What it makes, as paths below `/out`.
    pub outputs: Vec<String>,
    /// How many processors it sees.
    pub cores: u32,
    /// The call.
    pub span: Span,
    /// Places inside that call, as those of an [`Item`](super::Item).
    pub places: BTreeMap<String, Span>,
}

/// Something that only the network has.
#[derive(Clone, Copy, Debug)]
pub enum Outside<'a> {
    /// An image of a registry, by its reference.
    Image(&'a str),
    /// A file, by its URL.
    Archive(&'a str),
    /// Packages of Debian.
    Debian {
        /// The code name of a release.
        release: &'a str,
        /// What is asked for by name.
        packages: &'a [String],
    },
}

/// Is told of something, and where it is asked for.
pub type Tell<'a, 'b, T> = &'b mut dyn FnMut(T, &'a Span);

impl Source {
    /// Tells each file or tree of the source tree in it; `place` is where it is asked for.
    pub(super) fn copied<'a>(&'a self, place: &'a Span, tell: Tell<'a, '_, &'a SourcePath>) {
        match self {
            Self::Tree(path) => tell(path, place),
            Self::Archive(_) => {}
            Self::Output(build, _) => build.copied(tell),
            Self::Within(base, _) => base.copied(tell),
        }
    }

    /// Tells all in it that only the network has.
    pub(super) fn outside<'a>(&'a self, tell: Tell<'a, '_, Outside<'a>>) {
        match self {
            Self::Tree(_) => {}
            Self::Archive(archive) => tell(Outside::Archive(&archive.url), &archive.span),
            Self::Output(build, _) => build.outside(tell),
            Self::Within(base, _) => base.outside(tell),
        }
    }
}

/// How deep builds and images may stand on each other. Each holds those below as a whole.
pub const MAX_DEPTH: usize = 16;

impl Source {
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Tree(_) | Self::Archive(_) => 0,
            Self::Output(build, _) => build.depth(),
            Self::Within(base, _) => base.depth(),
        }
    }

    pub(super) fn builds_mut(&mut self, change: &mut dyn FnMut(&mut Build)) {
        match self {
            Self::Tree(_) | Self::Archive(_) => {}
            Self::Output(build, _) => build.builds_mut(change),
            Self::Within(base, _) => base.builds_mut(change),
        }
    }
}

impl Build {
    fn copied<'a>(&'a self, tell: Tell<'a, '_, &'a SourcePath>) {
        self.root.copied(tell);
        for (path, input) in &self.inputs {
            input.copied(self.place(&[path, "inputs"]), tell);
        }
    }

    fn outside<'a>(&'a self, tell: Tell<'a, '_, Outside<'a>>) {
        self.root.outside(tell);
        self.inputs.values().for_each(|input| input.outside(tell));
    }

    /// How deep other builds and images are in it.
    pub fn depth(&self) -> usize {
        let inputs = self.inputs.values().map(Source::depth).max().unwrap_or_default();
        1 + inputs.max(self.root.depth())
    }

    /// The builds in it, and itself last.
    fn builds_mut(&mut self, change: &mut dyn FnMut(&mut Self)) {
        self.root.builds_mut(change);
        self.inputs.values_mut().for_each(|input| input.builds_mut(change));
        change(self);
    }

    /// The place of the first of these words in the call, or the call.
    pub fn place(&self, words: &[&str]) -> &Span {
        words.iter().find_map(|word| self.places.get(*word)).unwrap_or(&self.span)
    }
}

impl Base {
    pub(super) fn depth(&self) -> usize {
        if let BaseKind::Image(image) = &self.kind { image.depth() } else { 0 }
    }

    pub(super) fn builds_mut(&mut self, change: &mut dyn FnMut(&mut Build)) {
        if let BaseKind::Image(image) = &mut self.kind {
            image.builds_mut(change);
        }
    }

    pub(super) fn copied<'a>(&'a self, tell: Tell<'a, '_, &'a SourcePath>) {
        if let BaseKind::Image(image) = &self.kind {
            image.copied(&self.span, tell);
        }
    }

    pub(super) fn outside<'a>(&'a self, tell: Tell<'a, '_, Outside<'a>>) {
        match &self.kind {
            BaseKind::Upstream(reference) => tell(Outside::Image(reference), &self.span),
            BaseKind::Debian { release, packages } => tell(Outside::Debian { release, packages }, &self.span),
            BaseKind::Image(image) => image.outside(tell),
        }
    }
}

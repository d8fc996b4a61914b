//! Container images as modules state them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::build::{Base, Build, Outside, Source, Tell};
use crate::compile::source::{SourcePath, Span};

/// `image(name, layers = {path: …}, entrypoint = [...], …)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The name: becomes `localhost/NAME`.
    pub name: String,
    /// The system that its programs are for, `linux/amd64`.
    pub platform: String,
    /// How its layers are compressed.
    pub compression: String,
    /// The image below its own layers.
    pub base: Option<Base>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// What is run.
    pub entrypoint: Vec<String>,
    /// Its default arguments.
    pub command: Vec<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Who it runs as.
    pub user: Option<String>,
    /// Where it runs.
    pub working_directory: Option<String>,
    /// Ports that it listens on, `8080/tcp`.
    pub ports: Vec<String>,
    /// Directories that hold data.
    pub volumes: Vec<String>,
    /// Labels of the configuration.
    pub labels: BTreeMap<String, String>,
    /// What tells it to stop.
    pub stop_signal: Option<String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

impl Image {
    /// Tells the files and trees of the source that it holds; `layers` is where its layers are said.
    pub(super) fn copied<'a>(&'a self, layers: &'a Span, tell: Tell<'a, '_, &'a SourcePath>) {
        self.base.iter().for_each(|base| base.copied(tell));
        for layer in &self.layers {
            if let Piece::Copied(copied) = &layer.piece {
                copied.source.copied(layer.place(&[]).unwrap_or(layers), tell);
            }
        }
    }

    /// How deep other images and builds are in it.
    pub fn depth(&self) -> usize {
        let sources = self.layers.iter().filter_map(|layer| match &layer.piece {
            Piece::Copied(copied) => Some(copied.source.depth()),
            Piece::Written(_) | Piece::Linked(_) | Piece::EmptyDirectory(_) => None,
        });
        1 + sources.chain(self.base.as_ref().map(Base::depth)).max().unwrap_or_default()
    }

    /// Changes each build in it.
    pub fn builds_mut(&mut self, change: &mut dyn FnMut(&mut Build)) {
        self.base.iter_mut().for_each(|base| base.builds_mut(change));
        for layer in &mut self.layers {
            if let Piece::Copied(copied) = &mut layer.piece {
                copied.source.builds_mut(change);
            }
        }
    }

    /// Tells all in it that only the network has.
    pub fn outside<'a>(&'a self, tell: Tell<'a, '_, Outside<'a>>) {
        self.base.iter().for_each(|base| base.outside(tell));
        for layer in &self.layers {
            if let Piece::Copied(copied) = &layer.piece {
                copied.source.outside(tell);
            }
        }
    }
}

/// One layer: what stands at a path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// The absolute path in the image.
    pub path: String,
    /// What stands there.
    pub piece: Piece,
    /// The call of its constructor; none if there is only a source path.
    pub span: Option<Span>,
    /// Places inside that call, as those of an [`Item`](super::Item).
    pub places: BTreeMap<String, Span>,
}

impl Layer {
    /// The place of the first of these words in the call of the constructor, or that call.
    pub fn place(&self, words: &[&str]) -> Option<&Span> {
        words.iter().find_map(|word| self.places.get(*word)).or(self.span.as_ref())
    }
}

/// What stands at a path of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Piece {
    /// A file or a tree of the source.
    Copied(Copied),
    /// A file whose text stands in the module.
    Written(Written),
    /// A symbolic link, and where it leads.
    Linked(String),
    /// A directory in which only other layers put something.
    EmptyDirectory(EmptyDirectory),
}

/// `copied(source, owner = "0:0", mode = None, modes = {}, exclude = [])`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Copied {
    /// A file or a tree.
    pub source: Source,
    /// `UID:GID` or `UID`.
    pub owner: String,
    /// The mode of the file, or of all files of the tree.
    pub mode: Option<u32>,
    /// Modes by pattern, in the order of the source.
    pub modes: Vec<(String, u32)>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
}

/// `written(text, owner = "0:0", mode = 0o644)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Written {
    /// What it holds.
    pub text: String,
    /// `UID:GID` or `UID`.
    pub owner: String,
    /// Permission bits.
    pub mode: u32,
}

/// `empty_directory(owner = "0:0", mode = 0o755)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EmptyDirectory {
    /// `UID:GID` or `UID`.
    pub owner: String,
    /// Permission bits, sticky bit included.
    pub mode: u32,
}

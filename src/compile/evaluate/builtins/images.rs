//! Container images, and what their layers are made of.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// The signatures are those of the language, and the macro passes every argument by value and wants a result of each.
#![allow(clippy::too_many_arguments, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

use std::collections::BTreeMap;

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::dict::DictRef;
use starlark::values::list::UnpackList;
use starlark::values::none::NoneOr;
use starlark::values::structs::AllocStruct;
use starlark::values::{UnpackValue, Value};

use super::builds::{base_of, not_too_deep, source_of};
use super::nouns::text_of;
use super::{AT, PIECE, field, made, place_of, place_value};
use crate::compile::item::{Copied, EmptyDirectory, Image, Layer, Noun, Piece, Source, Written};

type Texts = UnpackList<String>;

/// The owner of what names none.
const ROOT: &str = "0:0";

/// Container images.
#[starlark_module]
pub(super) fn images(builder: &mut GlobalsBuilder) {
    /// A container image: at least one layer for each entry of `layers`, a path in the image → a path of the source, or what `copied()`,
    /// `written()`, `linked()` or `empty_directory()` gave. `base` is an image below them. The rest is what a container of it is like unless
    /// it is told otherwise. `ref` names it in Quadlets.
    fn image<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = named)] layers: DictRef<'v>,
        #[starlark(require = named, default = NoneOr::None)] base: NoneOr<Value<'v>>,
        #[starlark(require = named, default = UnpackList::default())] entrypoint: Texts,
        #[starlark(require = named, default = UnpackList::default())] command: Texts,
        #[starlark(require = named, default = NoneOr::None)] environment: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = NoneOr::None)] user: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] working_directory: NoneOr<String>,
        #[starlark(require = named, default = UnpackList::default())] ports: Texts,
        #[starlark(require = named, default = UnpackList::default())] volumes: Texts,
        #[starlark(require = named, default = NoneOr::None)] labels: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = NoneOr::None)] stop_signal: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] annotations: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = "linux/amd64")] platform: &str,
        #[starlark(require = named, default = "zstd")] compression: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let layers = layers.iter().map(|(path, value)| layer(eval, path, value));
        let image = Image {
            name: name.to_owned(),
            platform: platform.to_owned(),
            compression: compression.to_owned(),
            base: base.into_option().map(|base| base_of(base, "`base`")).transpose()?,
            layers: layers.collect::<anyhow::Result<_>>()?,
            entrypoint: entrypoint.items,
            command: command.items,
            environment: texts(environment, "a variable")?,
            user: user.into_option(),
            working_directory: working_directory.into_option(),
            ports: ports.items,
            volumes: volumes.items,
            labels: texts(labels, "a label")?,
            stop_signal: stop_signal.into_option(),
            annotations: texts(annotations, "an annotation")?,
        };
        not_too_deep(image.depth())?;
        let noun = Noun::Image(Box::new(image));
        let reference = eval.heap().alloc(format!("localhost/{name}"));
        made(eval, &noun, &[("ref", reference)])
    }

    /// A file or tree for a layer of an image: a path of the source, or what `archive()`, `path_in()` or the `outputs` of a build gave. `mode` is that of each file, `modes` that of files by pattern, and `exclude`
    /// are patterns of what is left out. `owner` is `"UID:GID"`, or `"UID"` for both.
    fn copied<'v>(
        #[starlark(require = pos)] source: Value<'v>,
        #[starlark(require = named, default = ROOT)] owner: &str,
        #[starlark(require = named, default = NoneOr::None)] mode: NoneOr<u32>,
        #[starlark(require = named, default = NoneOr::None)] modes: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = UnpackList::default())] exclude: Texts,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let copied = Copied {
            source: source_of(eval, source, "`copied()`")?,
            owner: owner.to_owned(),
            mode: mode.into_option(),
            modes: modes.into_option().map_or(Ok(Vec::new()), |modes| modes_of(&modes))?,
            exclude: exclude.items,
        };
        piece(eval, &Piece::Copied(copied))
    }

    /// A file with this text, for a layer of an image.
    fn written<'v>(
        #[starlark(require = pos)] text: &str,
        #[starlark(require = named, default = ROOT)] owner: &str,
        #[starlark(require = named, default = 0o644)] mode: u32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        piece(eval, &Piece::Written(Written { text: text.to_owned(), owner: owner.to_owned(), mode }))
    }

    /// A symbolic link to `target`, for a layer of an image.
    fn linked<'v>(
        #[starlark(require = pos)] target: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        piece(eval, &Piece::Linked(target.to_owned()))
    }

    /// A directory, for a layer of an image. It is empty unless other layers put something there.
    fn empty_directory<'v>(
        #[starlark(require = named, default = ROOT)] owner: &str,
        #[starlark(require = named, default = 0o755)] mode: u32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        piece(eval, &Piece::EmptyDirectory(EmptyDirectory { owner: owner.to_owned(), mode }))
    }
}

/// Gives a piece as a value, with the place of the call.
fn piece<'v>(eval: &Evaluator<'v, '_, '_>, piece: &Piece) -> anyhow::Result<Value<'v>> {
    let heap = eval.heap();
    let fields = [(PIECE, heap.alloc(serde_json::to_string(piece)?)), (AT, place_value(eval)?)];
    Ok(heap.alloc(AllocStruct(fields)))
}

/// The piece that a constructor gave, if this is one.
fn piece_of(value: Value<'_>) -> Option<Piece> {
    serde_json::from_str(field(value, PIECE)?.unpack_str()?).ok()
}

/// An entry of `layers`. The places inside the constructor's call are named later, where the syntax is known.
fn layer<'v>(eval: &Evaluator<'v, '_, '_>, path: Value<'v>, value: Value<'v>) -> anyhow::Result<Layer> {
    let path = text_of(path, "a layer's path")?;
    let (piece, span) = match piece_of(value) {
        Some(piece) => (piece, place_of(value)),
        None => match source_of(eval, value, "") {
            Ok(source) => (Piece::Copied(whole(source)), None),
            Err(error) if value.unpack_str().is_some() => return Err(error),
            Err(_) => anyhow::bail!(
                "the layer `{path}` must be a path of the source, or what copied(), written(), linked(), empty_directory(), archive(), path_in() or the outputs of a build gave, not {}\nhelp: write `written(…)` for a text, and `copied(…)` for a file or tree of the source",
                value.get_type()
            ),
        },
    };
    Ok(Layer { path, piece, span, places: BTreeMap::new() })
}

/// A source as it is.
fn whole(source: Source) -> Copied {
    Copied { source, owner: ROOT.to_owned(), mode: None, modes: Vec::new(), exclude: Vec::new() }
}

fn modes_of(modes: &DictRef<'_>) -> anyhow::Result<Vec<(String, u32)>> {
    let mode = |pattern: &str, value| match u32::unpack_value(value) {
        Ok(Some(mode)) => Ok(mode),
        _ => Err(anyhow::anyhow!("the mode of `{pattern}` must be a number, as in 0o755, not {value}")),
    };
    let modes = modes.iter().map(|(pattern, value)| {
        let pattern = text_of(pattern, "a pattern")?;
        let mode = mode(&pattern, value)?;
        Ok((pattern, mode))
    });
    modes.collect()
}

/// A dictionary of texts.
pub(super) fn texts(dictionary: NoneOr<DictRef<'_>>, what: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let NoneOr::Other(dictionary) = dictionary else { return Ok(BTreeMap::new()) };
    let entry = |(name, value)| {
        let name = text_of(name, &format!("the name of {what}"))?;
        let value = text_of(value, &format!("the value of {what}"))?;
        Ok((name, value))
    };
    dictionary.iter().map(entry).collect()
}

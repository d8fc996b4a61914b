//! The file system of an image: its layers one over the other, as plain data.
//!
//! What layers say is applied to a map, never to a disk: no path leads anywhere but to another entry of the map, whatever links there are. Only
//! a whole tree is then laid out, parents first and links last.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bundle::digest::Digest;

/// A file system: path without the leading `/` → what stands there. Each directory on the way to something is there too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree(BTreeMap<String, Node>);

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The number of its user.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// Its permission bits, setuid, setgid and sticky bit included.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of what a tree holds. Devices, pipes and sockets are none of them: nobody but root could make them, and no image needs any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file with this content.
    File {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A symbolic link, and where it leads.
    Link(String),
}

/// What a layer says of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This stands there.
    Put(Node),
    /// The file that stands at another path stands there too.
    Same(String),
    /// What layers below have there is gone.
    Hide,
    /// What layers below have in that directory is gone.
    HideBelow,
}

/// How many links a path may lead over, as on Linux.
const MAX_LINKS: usize = 40;

/// The directory that something needs and nothing declares.
const IMPLIED: Node = Node { uid: 0, gid: 0, mode: 0o755, kind: Kind::Directory };

impl Tree {
    /// Applies what a layer says, in its order. What it hides is only what lies below it, wherever in the layer that is said.
    ///
    /// # Errors
    /// A path that leads through links without end, and a file that is the same as none.
    pub fn apply(&mut self, layer: Vec<(String, Change)>) -> Result<(), String> {
        let (hidden, put): (Vec<_>, Vec<_>) =
            layer.into_iter().partition(|(_, change)| matches!(change, Change::Hide | Change::HideBelow));
        for (path, change) in hidden {
            let path = self.resolve_parent(&path)?;
            self.remove_below(&path);
            if change == Change::Hide {
                self.0.remove(&path);
            }
        }
        for (path, change) in put {
            let path = self.resolve_parent(&path)?;
            match change {
                Change::Put(node) => self.put(path, node),
                Change::Same(other) => {
                    let other = self.resolve_parent(&other)?;
                    let node = self.0.get(&other).filter(|node| node.kind != Kind::Directory);
                    let node = node.ok_or_else(|| {
                        format!("`/{path}` is a second name of `/{other}`, which is no file")
                    })?;
                    let node = node.clone();
                    self.put(path, node);
                }
                Change::Hide | Change::HideBelow => {}
            }
        }
        Ok(())
    }

    /// The same of a package of Debian, by the rules of its own tools: a directory that is there stays as it is, and so does a link to one.
    ///
    /// # Errors
    /// As of [`Self::apply`].
    pub fn install(&mut self, package: Vec<(String, Change)>) -> Result<(), String> {
        for (path, change) in package {
            let is_directory = matches!(&change, Change::Put(node) if node.kind == Kind::Directory);
            let there = self.resolve(&path)?;
            let stays = is_directory && self.0.get(&there).is_some_and(|node| node.kind == Kind::Directory);
            if !stays {
                self.apply(vec![(path, change)])?;
            }
        }
        Ok(())
    }

    fn put(&mut self, path: String, node: Node) {
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            if self.0.get(parent).is_none_or(|node| node.kind != Kind::Directory) {
                self.0.insert(parent.to_owned(), IMPLIED);
            }
        }
        if node.kind != Kind::Directory {
            self.remove_below(&path);
        }
        self.0.insert(path, node);
    }

    fn remove_below(&mut self, path: &str) {
        let below: Vec<String> = self.below(path).map(|(path, _)| path.to_owned()).collect();
        for path in below {
            self.0.remove(&path);
        }
    }

    /// Where something is put: the links on the way to it are followed, but not itself if it is one.
    ///
    /// # Errors
    /// If the links do not end.
    pub fn resolve_parent(&self, path: &str) -> Result<String, String> {
        match path.rsplit_once('/') {
            Some((parent, name)) => Ok(joined(&self.resolve(parent)?, name)),
            None => Ok(path.to_owned()),
        }
    }

    /// Where a path leads, links followed, itself included. Beyond what is there, a path is what it says.
    ///
    /// # Errors
    /// If the links do not end.
    pub fn resolve(&self, path: &str) -> Result<String, String> {
        let mut links = 0;
        let mut rest: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut at = String::new();
        while let Some(name) = rest.pop() {
            match name.as_str() {
                "" | "." => continue,
                // Above the root is the root.
                ".." => {
                    at.truncate(at.rfind('/').unwrap_or_default());
                    continue;
                }
                _ => {}
            }
            let next = joined(&at, &name);
            match self.0.get(&next).map(|node| &node.kind) {
                Some(Kind::Link(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(format!("`/{path}` leads over links without end"));
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    rest.extend(target.rsplit('/').map(str::to_owned));
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// What stands at a path, which is taken as it is.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// What stands below a path; below the empty one stands everything.
    pub fn below<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        // `0` is the character after `/`.
        let range = match path {
            "" => self.0.range::<String, _>(..),
            _ => self.0.range(format!("{path}/")..format!("{path}0")),
        };
        range.map(|(path, node)| (path.as_str(), node))
    }

    /// All of it, parents first.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Change {
        let kind = Kind::File { digest: Digest::of(text.as_bytes()), size: text.len() as u64 };
        Change::Put(Node { uid: 0, gid: 0, mode: 0o644, kind })
    }

    fn link(target: &str) -> Change {
        Change::Put(Node { uid: 0, gid: 0, mode: 0o777, kind: Kind::Link(target.to_owned()) })
    }

    fn directory() -> Change {
        Change::Put(Node { mode: 0o700, ..IMPLIED })
    }

    fn tree(layers: Vec<Vec<(&str, Change)>>) -> Result<Tree, String> {
        let mut tree = Tree::default();
        for layer in layers {
            tree.apply(layer.into_iter().map(|(path, change)| (path.to_owned(), change)).collect())?;
        }
        Ok(tree)
    }

    fn paths(layers: Vec<Vec<(&str, Change)>>) -> Vec<String> {
        tree(layers).unwrap().entries().map(|(path, _)| path.to_owned()).collect()
    }

    #[test]
    fn what_a_layer_hides_is_gone_and_what_it_puts_stays() {
        let below = vec![("a/x", file("1")), ("a/y", file("2")), ("b/z", file("3")), ("bc", file("4"))];
        assert_eq!(paths(vec![below.clone(), vec![("a/x", Change::Hide)]]), ["a", "a/y", "b", "b/z", "bc"]);
        assert_eq!(paths(vec![below.clone(), vec![("b", Change::Hide)]]), ["a", "a/x", "a/y", "bc"]);
        // The order in the layer does not matter.
        let opaque = vec![("a/new", file("5")), ("a", Change::HideBelow)];
        assert_eq!(paths(vec![below.clone(), opaque]), ["a", "a/new", "b", "b/z", "bc"]);
        assert_eq!(paths(vec![below, vec![("", Change::HideBelow), ("n", file("6"))]]), ["n"]);
    }

    #[test]
    fn paths_lead_where_links_lead() {
        let usr = vec![("usr/bin", directory()), ("bin", link("usr/bin")), ("bin/sh", file("1"))];
        assert_eq!(paths(vec![usr.clone()]), ["bin", "usr", "usr/bin", "usr/bin/sh"]);
        let tree = tree(vec![usr]).unwrap();
        assert_eq!(tree.resolve("bin/sh").unwrap(), "usr/bin/sh");
        assert_eq!(tree.resolve("/bin/../../../etc/x").unwrap(), "etc/x");
    }

    #[test]
    fn nothing_leads_out_of_a_tree() {
        let up = vec![("a", directory()), ("a/up", link("../../../../etc")), ("a/up/passwd", file("1"))];
        assert_eq!(paths(vec![up]), ["a", "a/up", "etc", "etc/passwd"]);
        let endless = vec![("x", link("y")), ("y", link("x")), ("x/z", file("1"))];
        assert!(tree(vec![endless]).unwrap_err().contains("without end"));
    }

    #[test]
    fn packages_leave_directories_and_links_to_them_as_they_are() {
        let mut tree = tree(vec![vec![("usr/lib", directory()), ("lib", link("usr/lib"))]]).unwrap();
        let package =
            [("lib", Change::Put(IMPLIED)), ("lib/x", file("1")), ("usr/lib", Change::Put(IMPLIED))];
        tree.install(package.map(|(path, change)| (path.to_owned(), change)).into()).unwrap();
        let paths: Vec<&str> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["lib", "usr", "usr/lib", "usr/lib/x"]);
        assert_eq!(tree.get("usr/lib").unwrap().mode, 0o700);
    }

    #[test]
    fn what_is_put_takes_the_place_of_what_was_there() {
        let below = vec![("a/x", file("1")), ("f", file("2"))];
        assert_eq!(paths(vec![below.clone(), vec![("a", file("3"))]]), ["a", "f"]);
        assert_eq!(paths(vec![below.clone(), vec![("f/g", file("3"))]]), ["a", "a/x", "f", "f/g"]);
        // A directory that is said again keeps what is in it.
        assert_eq!(paths(vec![below, vec![("a", directory())]]), ["a", "a/x", "f"]);
    }

    #[test]
    fn second_names_are_the_same_file() {
        let tree = tree(vec![vec![("a", file("1")), ("b/c", Change::Same("a".to_owned()))]]).unwrap();
        assert_eq!(tree.get("a"), tree.get("b/c"));
        let none = vec![vec![("a", Change::Same("b".to_owned()))]];
        assert!(super::tests::tree(none).unwrap_err().contains("second name"));
    }
}

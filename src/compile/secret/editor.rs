//! A person's editor.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::refusal::refuse;

/// What keeps vim from leaving text in the person's home: registers, undo and copies.
const VIM: &str = "-n -i NONE -c 'set nobackup nowritebackup noundofile'";

/// Lets a person change a file.
pub(super) fn edit(file: &Path) -> Result<()> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // It may be given with arguments, so a shell reads it, as others do.
    let (program, arguments) = editor.trim().split_once(' ').unwrap_or((editor.trim(), ""));
    let quiet = if is_vim(program) { VIM } else { "" };
    let script = format!("{program} {quiet} {arguments} \"$@\"");
    let status = Command::new("sh").args(["-c", &script, "sh"]).arg(file).status();
    let status = status.with_context(|| format!("cannot start `{editor}`"))?;
    if !status.success() {
        refuse!("the editor `{editor}` ended with {status}, so nothing is changed");
    }
    Ok(())
}

/// The program is vim or a kin of it, by whatever name.
fn is_vim(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&folders).map(|folder| folder.join(program));
    let found = places.into_iter().find_map(|path| fs::canonicalize(path).ok());
    let name = found.unwrap_or_else(|| PathBuf::from(program));
    name.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("vim") || name == "nvim")
}

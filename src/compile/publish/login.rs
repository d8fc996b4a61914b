//! The name and password for a registry, from where skopeo and podman have them too.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::registry::Origin;

/// What is known for a registry.
pub(super) enum Login {
    /// `NAME:PASSWORD` in base64, as HTTP has it.
    Known(String),
    /// Another program would have to be asked for it, or it is a pass of a kind that only skopeo can use.
    Elsewhere,
    /// Nothing is.
    None,
}

impl Login {
    pub(super) fn of(to: &Origin) -> Self {
        for file in files(to.skopeo.authfile.as_deref()) {
            let Ok(text) = fs::read(&file) else { continue };
            let Ok(said) = serde_json::from_slice::<Value>(&text) else { continue };
            match entry(&said, to.reference.registry(), to.reference.repository()) {
                Self::None => {}
                login => return login,
            }
        }
        Self::None
    }
}

/// The files that may have it; one that is named is the only one.
fn files(named: Option<&Path>) -> Vec<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    if let Some(named) = named.map(Path::to_owned).or_else(|| folder("REGISTRY_AUTH_FILE")) {
        return vec![named];
    }
    let user = rustix::process::getuid().as_raw();
    let runtime = folder("XDG_RUNTIME_DIR").map(|runtime| runtime.join("containers"));
    let runtime = runtime.unwrap_or_else(|| format!("/run/containers/{user}").into());
    let home = folder("HOME");
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let docker = folder("DOCKER_CONFIG").or_else(|| Some(home?.join(".docker")));
    let mut files = vec![runtime.join("auth.json")];
    files.extend(config.map(|config| config.join("containers/auth.json")));
    files.extend(docker.map(|docker| docker.join("config.json")));
    files
}

/// What a file says of a repository: the longest part of its name counts.
fn entry(said: &Value, registry: &str, repository: &str) -> Login {
    let whole = format!("{registry}/{repository}");
    let mut names = vec![whole.as_str()];
    while let Some((shorter, _)) = names[names.len() - 1].rsplit_once('/') {
        names.push(shorter);
    }
    if registry == "docker.io" {
        names.push("https://index.docker.io/v1/");
    }
    for name in names {
        let entry = &said["auths"][name];
        if let Some(login) = entry["auth"].as_str().filter(|login| !login.is_empty() && is_base64(login)) {
            return Login::Known(login.to_owned());
        }
        let elsewhere = entry["identitytoken"].is_string()
            || said["credHelpers"][name].is_string()
            || (entry.is_object() && said["credsStore"].is_string());
        if elsewhere {
            return Login::Elsewhere;
        }
    }
    Login::None
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_name_has_it() {
        let said = json!({
            "auths": {"r.test": {"auth": "AAAA"}, "r.test/a": {"auth": "BBBB"}, "s.test": {}, "bad.test": {"auth": "x\r\ny"}},
            "credHelpers": {"t.test": "pass"},
        });
        let known = |registry, repository| match entry(&said, registry, repository) {
            Login::Known(login) => login,
            Login::Elsewhere => "elsewhere".to_owned(),
            Login::None => String::new(),
        };
        assert_eq!(known("r.test", "a/b"), "BBBB");
        assert_eq!(known("r.test", "ab"), "AAAA");
        assert_eq!(known("t.test", "a"), "elsewhere");
        for none in ["s.test", "bad.test", "x.test"] {
            assert_eq!(known(none, "a"), "");
        }
    }
}

//! Which files packages of Debian are, by apt-get: in a root of its own, which is empty and knows nothing of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::Network;
use super::failure::Failure;
use super::program::{Limits, Program};
use crate::compile::lock::{Package, Resolved, Snapshot};
use crate::compile::outside::Packages;

const APT_GET: Program =
    Program { name: "apt-get", package: "apt", purpose: "knows which files packages of Debian are" };
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// It holds the links `/bin` and `/lib64` and so on, without which nothing runs.
const ALWAYS: &str = "base-files";
/// Releases that nothing is added to beside themselves.
const ALONE: [&str; 4] = ["sid", "unstable", "experimental", "rc-buggy"];
/// Several times the lists of a release.
const LISTS_BYTES: u64 = 1 << 30;
/// A line for each package of Debian would be less.
const URIS_BYTES: u64 = 32 << 20;
const TIME: Duration = Duration::from_hours(1);

/// The releases that were asked for so far: each is asked once.
#[derive(Default)]
pub(super) struct Releases(Mutex<BTreeMap<String, Arc<Mutex<Option<Release>>>>>);

/// A release as it is now.
struct Release {
    root: TempDir,
    snapshot: Snapshot,
}

/// Which files packages and all that they depend on are now.
pub(super) fn resolve(network: &Network<'_>, packages: &Packages) -> Result<Resolved, Failure> {
    let slot = {
        let mut all = network.releases.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(packages.release().to_owned()).or_default())
    };
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if slot.is_none() {
        *slot = Some(Release::ask(network, packages.release())?);
    }
    let Some(release) = &*slot else { return Err(Failure::refused("no release was asked for")) };
    release.resolve(network, packages)
}

impl Release {
    /// Fetches the lists of a release, which apt-get verifies.
    fn ask(network: &Network<'_>, name: &str) -> Result<Self, Failure> {
        if !Path::new(KEYRING).exists() {
            let message = format!("`{KEYRING}` is not there, by which apt knows what is of Debian");
            return Err(Failure::refused(message).help("install the package `debian-archive-keyring`"));
        }
        let root = network.blobs.scratch()?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.path().join(folder))?;
        }
        fs::write(root.path().join("status"), "")?;
        fs::write(root.path().join("sources.list"), sources(name, &network.settings.debian_mirror))?;
        fs::write(root.path().join("apt.conf"), configuration(root.path())?)?;
        let limits = Limits {
            stdout: URIS_BYTES,
            written: Some((&root.path().join("lists"), LISTS_BYTES)),
            time: TIME,
        };
        // Without the last word, apt is content with what it could get.
        let mut command = call(root.path(), &["update", "--error-on=any"]);
        let ended = APT_GET.run(&mut command, &limits, network.progress)?;
        if !ended.well {
            let message = format!("the release `{name}` of Debian could not be had");
            return Err(Failure::refused(message).note(ended.said));
        }
        let snapshot = latest_date(&root.path().join("lists"))?
            .ok_or_else(|| Failure::refused(format!("the release `{name}` of Debian says no date")))?;
        Ok(Self { root, snapshot })
    }

    fn resolve(&self, network: &Network<'_>, packages: &Packages) -> Result<Resolved, Failure> {
        let mut command =
            call(self.root.path(), &["install", "--print-uris", "--yes", "--no-install-recommends"]);
        command.args(packages.names()).arg(ALWAYS);
        let limits = Limits { stdout: URIS_BYTES, written: None, time: TIME };
        let ended = APT_GET.run(&mut command, &limits, network.progress)?;
        if !ended.well {
            return Err(Failure::refused(format!("`{packages}` could not be resolved")).note(ended.said));
        }
        let text = String::from_utf8_lossy(&ended.stdout);
        let lines = text.lines().filter(|line| line.starts_with('\''));
        let files = lines.map(|line| package_of(line, &network.settings.debian_mirror));
        let mut files = files.collect::<Result<Vec<_>, _>>().map_err(|line| {
            Failure::refused(format!("`{packages}` could not be resolved"))
                .note(format!("apt-get said `{line}`"))
        })?;
        files.sort();
        let is_there = |name: &str| files.iter().any(|file| file.path.package() == name);
        // apt takes some names for other words: of packages that another one provides, or of patterns.
        if let Some(name) = packages.names().find(|name| !is_there(name)) {
            return Err(Failure::refused(format!("`{name}` is no package of Debian {}", packages.release()))
                .help("name the package itself, not what it provides"));
        }
        Ok(Resolved { snapshot: self.snapshot, packages: files })
    }
}

/// The lines of what apt is to ask, which is the archive, what was added since, and the repairs of security.
fn sources(release: &str, mirror: &str) -> String {
    let line =
        |archive: &str, suite: &str| format!("deb [signed-by={KEYRING}] {mirror}/{archive} {suite} main\n");
    let mut text = line("debian", release);
    if !ALONE.contains(&release) {
        text += &line("debian", &format!("{release}-updates"));
        text += &line("debian-security", &format!("{release}-security"));
    }
    text
}

/// Nothing of this machine's apt, but for its programs.
fn configuration(root: &Path) -> Result<String, Failure> {
    let root = root.to_str().filter(|root| !root.contains(['"', '\\', '\n'])).ok_or_else(|| {
        Failure::refused(format!("apt-get cannot work in a folder with the name {}", root.display()))
            .help("say in `XDG_CACHE_HOME` where the cache is to be")
    })?;
    let values = [
        ("Dir", root),
        ("Dir::State", root),
        ("Dir::State::status", &format!("{root}/status")),
        ("Dir::State::lists", &format!("{root}/lists")),
        ("Dir::Cache", &format!("{root}/cache")),
        ("Dir::Etc::sourcelist", &format!("{root}/sources.list")),
        ("Dir::Etc::sourceparts", "/dev/null"),
        ("Dir::Etc::main", "/dev/null"),
        ("Dir::Etc::parts", "/dev/null"),
        ("Dir::Etc::preferences", "/dev/null"),
        ("Dir::Etc::preferencesparts", "/dev/null"),
        ("Dir::Etc::trusted", "/dev/null"),
        ("Dir::Etc::trustedparts", "/dev/null"),
        ("APT::Architecture", "amd64"),
        ("APT::Install-Recommends", "0"),
        // The folder is of who called, and nobody else can write there.
        ("APT::Sandbox::User", "root"),
        ("Acquire::Languages", "none"),
        ("Acquire::ForceHash", "SHA256"),
        ("Acquire::Retries", "2"),
        ("Acquire::http::Timeout", "30"),
    ];
    let mut text = String::from("#clear APT::Architectures;\nAPT::Architectures { \"amd64\"; };\n");
    text.extend(values.map(|(name, value)| format!("{name} \"{value}\";\n")));
    Ok(text)
}

fn call(root: &Path, arguments: &[&str]) -> Command {
    let mut command = APT_GET.command();
    command.env("APT_CONFIG", root.join("apt.conf")).arg("--quiet=2").args(arguments);
    command
}

/// The latest `Date:` of the release files.
fn latest_date(lists: &Path) -> Result<Option<Snapshot>, Failure> {
    let mut latest = None;
    for entry in fs::read_dir(lists)? {
        let path: PathBuf = entry?.path();
        if path.is_file() && path.to_string_lossy().ends_with("Release") {
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            let date = text.lines().find_map(|line| line.strip_prefix("Date:"));
            latest = latest.max(date.and_then(Snapshot::of_date));
        }
    }
    Ok(latest)
}

/// A file, from `'URL' NAME SIZE SHA256:DIGEST`; gives back a line that is none.
fn package_of<'a>(line: &'a str, mirror: &str) -> Result<Package, &'a str> {
    let parsed = || {
        let (url, rest) = line.strip_prefix('\'')?.split_once('\'')?;
        let path = decoded(url.strip_prefix(mirror)?.strip_prefix('/')?)?.parse().ok()?;
        let digest = rest.split_ascii_whitespace().last()?.strip_prefix("SHA256:")?;
        Some(Package { path, digest: format!("sha256:{digest}").parse().ok()? })
    };
    parsed().ok_or(line)
}

/// A path of a URL as text.
fn decoded(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let code = u8::from_str_radix(part.get(..2)?, 16).ok().filter(u8::is_ascii_graphic)?;
        text.push(char::from(code));
        text.push_str(&part[2..]);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::digest::Digest;

    #[test]
    fn lines_of_apt_are_files_of_the_mirror() {
        let digest = Digest::of(b"");
        let line = |url: &str| format!("'{url}' x_1.deb 7 SHA256:{}", digest.hex());
        let good = line("http://deb.debian.org/debian/pool/main/g/glibc/libc6_2.41-12%2bdeb13u5_amd64.deb");
        let package = package_of(&good, "http://deb.debian.org").unwrap();
        assert_eq!(package.path.as_str(), "debian/pool/main/g/glibc/libc6_2.41-12+deb13u5_amd64.deb");
        assert_eq!(package.digest, digest);
        for bad in [
            line("http://elsewhere.example/debian/pool/x_1_amd64.deb"),
            line("http://deb.debian.org/debian/pool/%2e%2e/x_1_amd64.deb"),
            line("http://deb.debian.org/debian/pool/%zz_1_amd64.deb"),
            line("http://deb.debian.org/debian/pool/%"),
            good.replace("SHA256", "MD5Sum"),
            "'".to_owned(),
        ] {
            assert!(package_of(&bad, "http://deb.debian.org").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_release_is_asked_with_its_updates_and_repairs() {
        let suites = |release| {
            let text = sources(release, "http://m");
            text.lines().map(|line| line.split(' ').skip(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            suites("trixie"),
            [
                "http://m/debian trixie main",
                "http://m/debian trixie-updates main",
                "http://m/debian-security trixie-security main"
            ]
        );
        assert_eq!(suites("sid"), ["http://m/debian sid main"]);
    }
}

//! The few requests to a registry that skopeo has no words for, by curl: what an index holds, byte by byte, and what is attached to a thing.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::login::Login;
use crate::bundle::digest::Digest;
use crate::bundle::oci;
use crate::refusal::Refusal;
use crate::registry::Origin;
use crate::registry::skopeo::{Trouble, not_let_in};

/// As much as registries take for a manifest.
const LIMIT: u64 = 4 << 20;
/// How long a registry may take to answer, in seconds.
const TIME: &str = "60";
/// How many characters of a complaint are shown.
const SHOWN: usize = 300;

/// A registry of which is known how it is spoken to.
pub(super) struct Web<'a> {
    to: &'a Origin,
    /// `https://HOST` or `http://HOST`.
    base: String,
    /// What stands behind `Authorization:`.
    authorization: Option<String>,
}

/// An answer.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// A question.
#[derive(Default)]
struct Question<'a> {
    url: &'a str,
    authorization: Option<&'a str>,
    headers: &'a [&'a str],
    /// Written into the URL.
    query: &'a [(&'a str, &'a str)],
    /// What is put there.
    body: Option<&'a [u8]>,
}

impl<'a> Web<'a> {
    /// Asks how to speak with a registry, and for what it lets in with.
    pub(super) fn open(to: &'a Origin) -> Result<Self, Trouble> {
        let host = match to.reference.registry() {
            // The one whose name is not where it is.
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let mut base = format!("https://{host}");
        let mut hello = ask(to, &Question { url: &format!("{base}/v2/"), ..Question::default() });
        if to.skopeo.insecure && hello.is_err() {
            base = format!("http://{host}");
            hello = ask(to, &Question { url: &format!("{base}/v2/"), ..Question::default() });
        }
        let hello = hello?;
        let authorization = match hello.status {
            401 => Some(authorization(to, &hello)?),
            _ => None,
        };
        Ok(Self { to, base, authorization })
    }

    /// What has a tag or digest, if there is such a thing.
    pub(super) fn manifest(&self, version: &str) -> Result<Option<Vec<u8>>, Trouble> {
        let accept = format!("Accept: {}, {}", oci::INDEX, oci::MANIFEST);
        let answer = self.ask(&format!("manifests/{version}"), &[&accept], None)?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            _ => Err(self.meaning(&answer)),
        }
    }

    /// What is attached to something, if the registry keeps a list of that by itself.
    pub(super) fn referrers(&self, subject: Digest) -> Result<Option<Vec<u8>>, Trouble> {
        let accept = format!("Accept: {}", oci::INDEX);
        let answer = self.ask(&format!("referrers/{subject}"), &[&accept], None)?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            // Those that do not know the question say so in several ways.
            400 | 404 | 405 | 501 => Ok(None),
            _ => Err(self.meaning(&answer)),
        }
    }

    /// Gives an index a tag.
    pub(super) fn put_index(&self, tag: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let kind = format!("Content-Type: {}", oci::INDEX);
        let answer = self.ask(&format!("manifests/{tag}"), &[&kind], Some(bytes))?;
        match answer.status {
            200..=202 => Ok(()),
            _ => Err(self.meaning(&answer)),
        }
    }

    fn ask(&self, path: &str, headers: &[&str], body: Option<&[u8]>) -> Result<Answer, Trouble> {
        let url = format!("{}/v2/{}/{path}", self.base, self.to.reference.repository());
        let authorization = self.authorization.as_deref();
        ask(self.to, &Question { url: &url, authorization, headers, query: &[], body })
    }

    fn meaning(&self, answer: &Answer) -> Trouble {
        let at = &self.to.reference;
        let why = answer.complaint();
        match answer.status {
            401 | 403 => not_let_in(at, &why),
            429 | 500.. => Trouble::Passing(Refusal::new(format!(
                "the registry `{}` does not answer as it should: {why}",
                at.registry()
            ))),
            _ => Trouble::Lasting(Refusal::new(format!(
                "the registry `{}` does not take what is attached: {why}",
                at.registry()
            ))),
        }
    }
}

impl Answer {
    /// What a header says.
    fn header(&self, name: &str) -> Option<&str> {
        let named =
            |line: &'_ str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        let line = self.head.lines().find(|line| named(line))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    /// For people: nothing that a terminal would obey.
    fn complaint(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let said = body["errors"][0]["message"].as_str().unwrap_or_default();
        let said: String = said.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("HTTP status {}{}{said}", self.status, if said.is_empty() { "" } else { ": " })
    }
}

/// What a registry is told that wants to know who asks.
fn authorization(to: &Origin, hello: &Answer) -> Result<String, Trouble> {
    let login = match Login::of(to) {
        Login::Known(login) => Some(format!("Basic {login}")),
        Login::None => None,
        Login::Elsewhere => {
            let why = "the name and password are kept by a credential helper, or are a pass, which are not asked for the list of what is attached";
            return Err(not_let_in(&to.reference, why));
        }
    };
    let challenge = hello.header("WWW-Authenticate").unwrap_or_default();
    let Some(challenge) = strip_word(challenge, "Bearer") else {
        return login.ok_or_else(|| not_let_in(&to.reference, "it wants a name and a password"));
    };
    let Some(realm) = parameter(challenge, "realm").filter(|realm| {
        realm.starts_with("https://") || (to.skopeo.insecure && realm.starts_with("http://"))
    }) else {
        return Err(not_let_in(&to.reference, "it does not say over TLS where passes are to be had"));
    };
    let scope = format!("repository:{}:pull,push", to.reference.repository());
    let mut query = vec![("scope", scope.as_str())];
    query.extend(parameter(challenge, "service").map(|service| ("service", service)));
    let question =
        Question { url: realm, authorization: login.as_deref(), query: &query, ..Question::default() };
    let answer = ask(to, &question)?;
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let pass = said["token"].as_str().or(said["access_token"].as_str());
    match pass.filter(|pass| pass.bytes().all(|b| b.is_ascii_graphic())) {
        Some(pass) if answer.status == 200 => Ok(format!("Bearer {pass}")),
        _ => Err(not_let_in(&to.reference, &answer.complaint())),
    }
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (first, rest) = text.split_once(' ')?;
    first.eq_ignore_ascii_case(word).then_some(rest)
}

/// `realm="https://…",service="…"`: what one of them says.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let at = challenge.match_indices(name).find(|(at, _)| {
        let before = challenge[..*at].trim_end();
        before.is_empty() || before.ends_with(',')
    });
    let value = challenge[at?.0 + name.len()..].strip_prefix("=\"")?;
    value.split_once('"').map(|(value, _)| value)
}

/// Asks one thing.
fn ask(to: &Origin, question: &Question<'_>) -> Result<Answer, Trouble> {
    let machine = |error: io::Error| Trouble::Lasting(Refusal::new(format!("cannot run curl: {error}")));
    let (head, body) = (tempfile::NamedTempFile::new(), tempfile::NamedTempFile::new());
    let (head, mut sent) = (head.map_err(machine)?, body.map_err(machine)?);
    let mut command = Command::new("curl");
    command
        .args(["--disable", "--silent", "--show-error", "--globoff", "--max-time", TIME, "--config", "-"])
        .args(["--proto", if to.skopeo.insecure { "=http,https" } else { "=https" }])
        .arg("--dump-header")
        .arg(head.path())
        .args(["--url", question.url]);
    if to.skopeo.insecure {
        command.arg("--insecure");
    }
    if let Some(authority) = authority(to.reference.registry()) {
        command.arg("--cacert").arg(authority);
    }
    for header in question.headers {
        command.args(["--header", header]);
    }
    if !question.query.is_empty() {
        command.arg("--get");
    }
    for (key, value) in question.query {
        command.arg("--data-urlencode").arg(format!("{key}={value}"));
    }
    if let Some(body) = question.body {
        sent.write_all(body).map_err(machine)?;
        command.arg("--upload-file").arg(sent.path());
    }
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Trouble::Lasting(
                Refusal::new("`curl` is needed to attach something in a registry, and not installed here")
                    .help("install the package `curl`"),
            ),
            _ => machine(error),
        })?;
    // Not as an argument, which everybody on this machine can read.
    let secret =
        question.authorization.map(|authorization| format!("header = \"Authorization: {authorization}\"\n"));
    if let Some(mut stdin) = child.stdin.take() {
        // If it does not read that, it says below why.
        let _ = stdin.write_all(secret.unwrap_or_default().as_bytes());
    }
    let mut body = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LIMIT + 1).read_to_end(&mut body).map_err(machine)?;
    }
    if body.len() as u64 > LIMIT {
        let _ = child.kill();
        let _ = child.wait();
        return Err(Trouble::Lasting(Refusal::new(format!(
            "the registry `{}` sends more than a list may have",
            to.reference.registry()
        ))));
    }
    let ended = child.wait_with_output().map_err(machine)?;
    let head = fs::read(head.path()).map_err(machine)?;
    let head = String::from_utf8_lossy(&head);
    // Of several, as a proxy gives them, the last is the answer.
    let lines: Vec<&str> = head.lines().collect();
    let start = lines.iter().rposition(|line| line.starts_with("HTTP/")).unwrap_or_default();
    let last = lines[start..].join("\n");
    let status = last.split(' ').nth(1).and_then(|status| status.trim().parse().ok());
    if let Some(status) = status.filter(|_| ended.status.success()) {
        return Ok(Answer { status, head: last, body });
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.lines().next_back().unwrap_or("no answer").trim_start_matches("curl: ");
    Err(Trouble::Passing(Refusal::new(format!(
        "the registry `{}` does not answer as it should: {said}",
        to.reference.registry()
    ))))
}

/// The certificate of an authority that vouches for a registry, from where skopeo has it too.
fn authority(registry: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
    let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    let folder =
        home.into_iter().chain(system).map(|all| all.join(registry)).find(|folder| folder.is_dir())?;
    let mut files: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.into_iter().find(|file| file.extension().is_some_and(|kind| kind == "crt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let head = "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: bearer realm=\"https://r.test/token\", service=\"r.test\",scope=\"a,realm=b\"\r\n";
        let answer = Answer { status: 401, head: head.to_owned(), body: Vec::new() };
        let challenge = strip_word(answer.header("WWW-Authenticate").unwrap(), "Bearer").unwrap();
        assert_eq!(parameter(challenge, "realm"), Some("https://r.test/token"));
        assert_eq!(parameter(challenge, "service"), Some("r.test"));
        assert_eq!(parameter(challenge, "error"), None);
    }

    #[test]
    fn a_complaint_does_nothing_to_a_terminal() {
        let body = br#"{"errors":[{"message":"no\u001b[2J"}]}"#.to_vec();
        let answer = Answer { status: 400, head: String::new(), body };
        assert_eq!(answer.complaint(), "HTTP status 400: no [2J");
    }
}

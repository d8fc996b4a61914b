//! What the `[Install]` section of a unit asks for.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::bundle::names::UnitName;
use crate::compile::item::Sections;

/// The keys that name who wants a unit, and the directory of their links.
const WANTERS: [(&str, &str); 3] =
    [("WantedBy", "wants"), ("RequiredBy", "requires"), ("UpheldBy", "upholds")];

/// The raw values of a key in a section, in order.
pub(super) fn values<'a>(
    sections: &'a Sections,
    section: &'a str,
    key: &'a str,
) -> impl Iterator<Item = &'a str> {
    let entries = sections.iter().filter(move |(name, _)| name == section).flat_map(|(_, entries)| entries);
    entries.filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// The words of a key that takes a list; an empty value forgets what stood before it.
pub(super) fn words<'a>(sections: &'a Sections, section: &'a str, key: &'a str) -> Vec<&'a str> {
    let mut words = Vec::new();
    for value in values(sections, section, key) {
        if value.is_empty() {
            words.clear();
        }
        words.extend(value.split_whitespace());
    }
    words
}

/// Somebody wants the unit, so rick runs it.
pub(super) fn is_wanted(sections: &Sections) -> bool {
    WANTERS.iter().any(|(key, _)| !words(sections, "Install", key).is_empty())
}

/// The name under which a unit runs: a template's is that of its default instance, if it has one.
pub(super) fn installed_name(name: &UnitName, sections: &Sections) -> Option<UnitName> {
    if !name.is_template() {
        return Some(name.clone());
    }
    let instance =
        values(sections, "Install", "DefaultInstance").last().filter(|instance| !instance.is_empty())?;
    format!("{}{instance}.{}", name.stem(), name.kind()).parse().ok()
}

/// The units that a whole unit is an alias for itself under.
pub(super) fn aliases(sections: &Sections) -> Vec<&str> {
    words(sections, "Install", "Alias")
}

/// The links that `systemctl enable` would make: path below `units/` → target.
///
/// # Errors
/// A name that is no unit's.
pub(super) fn links(name: &UnitName, sections: &Sections) -> Result<Vec<(String, String)>, String> {
    let mut links = Vec::new();
    let wrong = |key: &str, why: String| format!("`{key}=` in [Install] of `{name}`: {why}");
    if let Some(installed) = installed_name(name, sections) {
        for (key, directory) in WANTERS {
            for wanter in words(sections, "Install", key) {
                let wanter: UnitName = wanter.parse().map_err(|why| wrong(key, why))?;
                links.push((format!("{wanter}.{directory}/{installed}"), format!("../{name}")));
            }
        }
    }
    for alias in aliases(sections) {
        let alias: UnitName = alias.parse().map_err(|why| wrong("Alias", why))?;
        if alias.kind() != name.kind() {
            return Err(wrong("Alias", format!("`{alias}` is of another type")));
        }
        if alias != *name {
            links.push((alias.to_string(), name.to_string()));
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::ini;

    fn links_of(name: &str, install: &str) -> Vec<(String, String)> {
        let sections = ini::sections(&format!("[Install]\n{install}"));
        links(&name.parse().unwrap(), &sections).unwrap()
    }

    fn pair(path: &str, target: &str) -> (String, String) {
        (path.to_owned(), target.to_owned())
    }

    #[test]
    fn every_key_of_install_becomes_its_link() {
        assert_eq!(
            links_of(
                "a.service",
                "WantedBy=x.target y.target\nRequiredBy=z.target\nUpheldBy=u.service\nAlias=b.service"
            ),
            [
                pair("x.target.wants/a.service", "../a.service"),
                pair("y.target.wants/a.service", "../a.service"),
                pair("z.target.requires/a.service", "../a.service"),
                pair("u.service.upholds/a.service", "../a.service"),
                pair("b.service", "a.service"),
            ]
        );
        assert_eq!(links_of("a.service", "WantedBy=x.target\nWantedBy=\nWantedBy=y.target").len(), 1);
    }

    #[test]
    fn templates_are_installed_as_their_default_instance() {
        assert_eq!(links_of("a@.service", "WantedBy=x.target"), []);
        assert_eq!(
            links_of("a@.service", "DefaultInstance=one\nWantedBy=x.target"),
            [pair("x.target.wants/a@one.service", "../a@.service")]
        );
    }

    #[test]
    fn names_that_are_no_units_are_errors() {
        for install in ["WantedBy=../x.target", "WantedBy=multi-user", "Alias=b.socket", "Alias=x/b.service"]
        {
            let sections = ini::sections(&format!("[Install]\n{install}"));
            assert!(links(&"a.service".parse().unwrap(), &sections).is_err(), "{install}");
        }
    }
}

//! The page: HTML and a little CSS, without a script.

use std::fmt::Write as _;

use crate::store::Photo;

/// What a browser may load for the page: its own style and our photos.
pub(crate) const POLICY: &str = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; \
                                 base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Photos on the page. Older ones keep their addresses.
const MAX_SHOWN: usize = 1000;

const STYLE: &str = "
:root { color-scheme: light dark }
body { margin: 0 auto; padding: 1rem; max-width: 90rem; font: 1rem/1.5 system-ui, sans-serif }
h1 { margin: 0; font-size: 1.5rem; line-height: 1.2; overflow-wrap: anywhere }
p { margin: .25rem 0 1rem }
ul { margin: 0; padding: 0; list-style: none; display: grid; gap: .5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 10rem), 1fr)) }
@media (min-width: 60rem) { ul { grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)) } }
a { display: block }
a:focus-visible { outline: 3px solid; outline-offset: 2px }
img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; background: #8883; overflow: hidden }
";

/// Draws the photos in the order that they come in.
pub(crate) fn draw(title: &str, photos: &[Photo]) -> String {
    let title = escaped(title);
    let shown = &photos[..photos.len().min(MAX_SHOWN)];
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p>{}</p>\n",
        count(photos.len()),
    );
    if !shown.is_empty() {
        // Without its role, Safari takes a list that has no bullets for none.
        page.push_str("<ul role=\"list\">\n");
    }
    for Photo { name, .. } in shown {
        let (name, alt) = (escaped(name), escaped(&words(name)));
        let _ = writeln!(
            page,
            "<li><a href=\"/photos/{name}\"><img src=\"/photos/{name}\" alt=\"{alt}\" loading=\"lazy\" decoding=\"async\"></a></li>"
        );
    }
    if !shown.is_empty() {
        page.push_str("</ul>\n");
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn count(photos: usize) -> String {
    match photos {
        0 => "No photos yet.".into(),
        1 => "1 photo".into(),
        2..=MAX_SHOWN => format!("{photos} photos"),
        _ => format!("The newest {MAX_SHOWN} of {photos} photos"),
    }
}

/// All that is known of what a photo shows: `fjord at dawn` for `fjord-at_dawn.jpg`.
fn words(name: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let words: Vec<_> = stem.split(['-', '_', '.']).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "Photo".into() } else { words.join(" ") }
}

fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            char => safe.push(char),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn photos(names: &[&str]) -> Vec<Photo> {
        let modified = SystemTime::UNIX_EPOCH;
        names.iter().map(|name| Photo { name: (*name).to_owned(), modified }).collect()
    }

    #[test]
    fn the_title_is_text() {
        let page = draw("</title><script>'&\"", &[]);
        let safe = "&lt;/title&gt;&lt;script&gt;&#39;&amp;&quot;";
        assert!(
            page.contains(&format!("<title>{safe}</title>")) && page.contains(&format!("<h1>{safe}</h1>"))
        );
        assert!(!page.contains("<script") && !page.contains("<ul"));
    }

    #[test]
    fn photos_keep_their_order_and_have_words() {
        let page = draw("T", &photos(&["b-c_d.e.jpg", "a.png", "-.gif"]));
        let images: Vec<_> =
            page.lines().filter_map(|line| line.split_once("<img ")?.1.split_once(" loading")).collect();
        let images: Vec<_> = images.into_iter().map(|(image, _)| image).collect();
        assert_eq!(
            images,
            [
                "src=\"/photos/b-c_d.e.jpg\" alt=\"b c d e\"",
                "src=\"/photos/a.png\" alt=\"a\"",
                "src=\"/photos/-.gif\" alt=\"Photo\""
            ]
        );
    }

    #[test]
    fn a_page_ends_somewhere() {
        let page = draw("T", &photos(&["a.jpg"; MAX_SHOWN + 1]));
        assert_eq!(page.matches("<li>").count(), MAX_SHOWN);
        assert!(page.contains("<p>The newest 1000 of 1001 photos</p>"));
        assert_eq!(
            (count(0), count(1), count(2)),
            ("No photos yet.".into(), "1 photo".into(), "2 photos".into())
        );
    }
}

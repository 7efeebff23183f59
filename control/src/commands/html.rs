//! What the HTML files of `preview` and `eval` share: a text with its spans, templates, and how a file is written.
//!
//! Invariants: whatever the text holds, it is text in the page that comes out, never markup; no character is
//! invisible that could hide or move others (controls and bidirectional overrides are shown as signs of their own).

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use minijinja::{Environment, Value};

use crate::failure::Failure;

/// What every template begins its style with: `{% include "base.css" %}`.
const BASE: &str = include_str!("base.css");
/// A blue.
const FIRST_HUE: usize = 205;

/// Stands for a character that has no sign of its own.
const PLACEHOLDER: char = '▯';

/// A span to be drawn. Offsets count code points, end exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub start: usize,
    pub end: usize,
    /// The number of its label.
    pub label: usize,
    /// Shown behind the span.
    pub name: String,
    pub tooltip: String,
}

/// The text with every mark that lies on it and does not overlap one before it; and how many did not.
/// `marks` are in order of their start.
pub(super) fn marked(text: &str, marks: &[Mark]) -> (String, u64) {
    let length = text.chars().count();
    let (mut at, mut left_out) = (0, 0);
    let mut html = String::with_capacity(text.len() + text.len() / 8 + 120 * marks.len());
    let mut rest = text.chars();
    let mut copy = |html: &mut String, count: usize| rest.by_ref().take(count).for_each(|c| push(html, c));
    for mark in marks {
        if mark.start < at || mark.end > length || mark.start >= mark.end {
            left_out += 1;
            continue;
        }
        copy(&mut html, mark.start - at);
        let (label, name, tooltip) = (mark.label, attribute(&mark.name), attribute(&mark.tooltip));
        let _ = write!(html, r#"<mark class="l{label}" data-l="{name}" title="{tooltip}">"#);
        copy(&mut html, mark.end - mark.start);
        html.push_str("</mark>");
        at = mark.end;
    }
    copy(&mut html, length - at);
    (html, left_out)
}

/// Plain text in which nothing is invisible: for names, which the template escapes.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(|c| sign(c).unwrap_or(c)).collect()
}

/// `name` ends in `.html`, by which values are escaped. The environment may hold filters.
pub(super) fn render(
    mut environment: Environment<'_>,
    name: &'static str,
    template: &'static str,
    shown: Value,
) -> Result<String, Failure> {
    let failed = |error: minijinja::Error| Failure::data(format!("{name} cannot be rendered: {error}"));
    environment.add_template("base.css", BASE).map_err(failed)?;
    environment.add_template(name, template).map_err(failed)?;
    environment.get_template(name).map_err(failed)?.render(shown).map_err(failed)
}

/// Writes a file: readers see the old one or the new one. Answers with its whole path.
pub(super) fn write(path: &Path, text: &str) -> Result<PathBuf, Failure> {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    let whole = std::path::absolute(path).map_err(failed)?;
    if let Some(folder) = whole.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut unfinished = whole.clone().into_os_string();
    unfinished.push(".tmp");
    fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &whole)).map_err(failed)?;
    Ok(whole)
}

/// Hues that all lie equally far apart, and neighbours of the legend far: steps of about the golden section.
pub(super) fn hue(n: usize, all: usize) -> usize {
    let coprime = |step: &usize| (2..=*step).all(|d| !(all.is_multiple_of(d) && step.is_multiple_of(d)));
    let step = (all * 382 / 1000..all).find(coprime).filter(|step| *step > 0).unwrap_or(1);
    (FIRST_HUE + n * step % all * 360 / all) % 360
}

fn push(html: &mut String, c: char) {
    match sign(c) {
        None => escape(html, c),
        // Tesseract ends each page with a form feed: not worth a reader's eye.
        Some(_) if c == '\u{c}' => html.push('\n'),
        Some(sign) => {
            let _ = write!(html, r#"<i title="U+{:04X}">{sign}</i>"#, u32::from(c));
        }
    }
}

fn attribute(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    visible(text).chars().for_each(|c| escape(&mut html, c));
    html
}

fn escape(html: &mut String, c: char) {
    match c {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        _ => html.push(c),
    }
}

/// The sign of a character that would not be seen; None for all others.
fn sign(c: char) -> Option<char> {
    match c {
        '\n' | '\t' => None,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)),
        '\u{7f}' => Some('␡'),
        '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => Some(PLACEHOLDER),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some(PLACEHOLDER),
        '\u{feff}' | '\u{fdd0}'..='\u{fdef}' | '\u{e0000}'..='\u{e007f}' => Some(PLACEHOLDER),
        c if u32::from(c) & 0xfffe == 0xfffe => Some(PLACEHOLDER),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn mark(start: usize, end: usize) -> Mark {
        Mark { start, end, label: 1, name: "IMO".into(), tooltip: "a \"b\" <c>\0".into() }
    }

    #[test]
    fn text_stays_text_and_offsets_count_code_points() {
        let (drawn, left_out) = marked("🚢<b> & 9074729\r\n", &[mark(7, 14)]);
        assert_eq!(left_out, 0);
        let tooltip = "a &quot;b&quot; &lt;c&gt;␀";
        assert_eq!(
            drawn,
            format!(
                "🚢&lt;b&gt; &amp; <mark class=\"l1\" data-l=\"IMO\" title=\"{tooltip}\">9074729</mark>\
                 <i title=\"U+000D\">␍</i>\n"
            )
        );
    }

    #[test]
    fn no_two_labels_have_one_hue() {
        for all in 1..100 {
            let hues: BTreeSet<_> = (0..all).map(|n| hue(n, all)).collect();
            assert_eq!(hues.len(), all);
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_counted() {
        let (drawn, left_out) = marked("abcdef", &[mark(1, 3), mark(2, 4), mark(5, 7), mark(5, 5)]);
        assert_eq!(left_out, 3);
        assert!(drawn.ends_with(">bc</mark>def"), "{drawn}");
    }

    #[test]
    fn nothing_invisible_is_left() {
        assert_eq!(visible("a\u{202e}b\u{0}\u{85}\u{200f}\t"), "a▯b␀▯\u{200f}\t");
    }

    proptest! {
        #[test]
        fn no_markup_comes_from_the_text(
            text in proptest::collection::vec(any::<char>(), 0..60),
            spans in proptest::collection::vec((0usize..70, 0usize..70), 0..6),
        ) {
            let text: String = text.into_iter().chain("<script>&\"'".chars()).collect();
            let mut marks: Vec<_> = spans.into_iter().map(|(start, end)| mark(start, end)).collect();
            marks.sort_by_key(|mark| mark.start);
            let (drawn, left_out) = marked(&text, &marks);
            prop_assert_eq!(drawn.matches("<mark ").count() as u64 + left_out, marks.len() as u64);
            let tags = drawn.matches("<mark ").count() * 2 + drawn.matches("<i ").count() * 2;
            prop_assert_eq!(drawn.matches('<').count(), tags);
            let hidden = drawn.contains(['\0', '\u{202e}', '\u{7f}']);
            prop_assert!(!hidden);
        }
    }
}

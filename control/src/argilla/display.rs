//! The text that reviewers see: look-alikes for what Argilla's web page would change.
//!
//! Invariant: one code point for one code point, so that every offset into the display text is the same offset
//! into the original; and only code points of the basic plane, so that counting UTF-16 units (the page) and
//! counting code points (the server) agree. The original's hash travels in the record's metadata.
//!
//! The page renders through `innerHTML`: `<` and `&` would start markup, `\r\n` would become one character, NUL
//! would vanish. Bidirectional embeddings, overrides and isolates would move words away from their highlights;
//! the plain marks (LRM, RLM, ALM) and joiners stay, because right-to-left and Indic text needs them.

/// Stands for a character that cannot be shown.
const PLACEHOLDER: char = '▯';
/// Stands for a character outside the basic plane.
const ASTRAL: char = '▪';

/// The display text of a page.
pub fn display_text(text: &str) -> String {
    text.chars().map(look_alike).collect()
}

fn look_alike(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '<' => '‹',
        '&' => '＆',
        // Vertical tab, form feed (which Tesseract puts after each page), carriage return, next line, line and
        // paragraph separator: blanks that would break or join lines.
        '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(PLACEHOLDER),
        '\u{7f}' => '␡',
        '\u{80}'..='\u{9f}' => PLACEHOLDER,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => PLACEHOLDER,
        // A byte order mark, and the non-characters.
        '\u{feff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fffe}' | '\u{ffff}' => PLACEHOLDER,
        '\u{10000}'.. => ASTRAL,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_line_ends_and_astral_characters_are_replaced() {
        assert_eq!(display_text("<b>M/V \u{1f6a2} & Co\r\n\tIMO\0\u{c}"), "‹b>M/V ▪ ＆ Co \n\tIMO␀ ");
        assert_eq!(display_text("\u{202e}abc\u{2069}\u{2028}\u{feff}\u{7f}"), "▯abc▯ ▯␡");
    }

    #[test]
    fn scripts_keep_what_they_need() {
        let text = "naïve „ß“ Ελλάδα судно \u{200f}سفينة\u{200e} 船舶 क्\u{200d}ष";
        assert_eq!(display_text(text), text);
    }

    proptest! {
        #[test]
        fn code_points_correspond_and_nothing_dangerous_is_left(text in proptest::collection::vec(any::<char>(), 0..200)) {
            let text: String = text.into_iter().collect();
            let shown = display_text(&text);
            prop_assert_eq!(shown.chars().count(), text.chars().count());
            prop_assert_eq!(shown.encode_utf16().count(), shown.chars().count());
            let controls = |c: char| c.is_control() && c != '\n' && c != '\t';
            let dangerous = "<&\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
            prop_assert!(!shown.contains(|c| controls(c) || dangerous.contains(c)));
            prop_assert_eq!(display_text(&shown), shown);
        }
    }
}

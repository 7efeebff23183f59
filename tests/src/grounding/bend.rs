//! A text as OCR, a printer or a model may have changed it.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

/// With one digit changed, lost or added.
pub fn one_off(text: &str, rng: &mut StdRng) -> String {
    let digits: Vec<usize> =
        text.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|(at, _)| at).collect();
    let at = *digits.choose(rng).unwrap_or(&0);
    let mut off = text.to_owned();
    let digit = text.as_bytes()[at] - b'0';
    let other = char::from(b'0' + (digit + rng.random_range(1..10)) % 10);
    match rng.random_range(0..4) {
        0 => off.insert(at, other),
        1 if digits.len() > 1 => {
            off.remove(at);
        }
        _ => off.replace_range(at..=at, &other.to_string()),
    }
    off
}

/// With something put between two letters of a word.
pub fn broken(name: &str, between: &str, rng: &mut StdRng) -> String {
    let chars: Vec<char> = name.chars().collect();
    let places: Vec<usize> = (1..chars.len())
        .filter(|at| {
            chars[at.saturating_sub(2)..(*at + 2).min(chars.len())].iter().all(|c| c.is_alphabetic())
        })
        .collect();
    let Some(&at) = places.choose(rng) else { return name.to_owned() };
    [chars[..at].iter().collect::<String>(), chars[at..].iter().collect()].join(between)
}

const CONFUSIONS: &[(&str, &[&str])] = &[
    ("O", &["0", "Q", "D"]),
    ("o", &["0", "c", "e"]),
    ("I", &["1", "l", "|"]),
    ("l", &["1", "I", "i"]),
    ("i", &["1", "l", "j"]),
    ("S", &["5", "$"]),
    ("s", &["5"]),
    ("B", &["8", "R"]),
    ("G", &["6", "C"]),
    ("Z", &["2"]),
    ("m", &["rn"]),
    ("rn", &["m"]),
    ("cl", &["d"]),
    ("d", &["cl"]),
    ("e", &["c", "o"]),
    ("c", &["e"]),
    ("h", &["b", "li"]),
    ("n", &["u", "ri"]),
    ("u", &["n", "ii"]),
    ("t", &["f", "l"]),
    ("f", &["t"]),
    ("E", &["F"]),
    ("A", &["4"]),
    ("v", &["y"]),
    ("w", &["vv"]),
    ("a", &["o"]),
    ("0", &["O"]),
    ("1", &["I", "l"]),
    ("5", &["S"]),
    ("8", &["B"]),
    ("6", &["G"]),
    ("2", &["Z"]),
    ("о", &["0", "o"]),
    ("О", &["0", "O"]),
    ("а", &["a"]),
    ("е", &["e"]),
    ("З", &["3"]),
    ("н", &["п"]),
    ("п", &["н"]),
    ("ш", &["щ"]),
    ("и", &["н"]),
    ("л", &["д"]),
    ("ο", &["o", "0"]),
    ("Ο", &["0"]),
    ("ν", &["v"]),
    ("Α", &["A"]),
    ("ι", &["i"]),
    ("ρ", &["p"]),
];

/// As OCR may have read it: one error, and one more for every eight characters.
pub fn garbled(name: &str, rng: &mut StdRng) -> String {
    let mut garbled = name.to_owned();
    for _ in 0..1 + name.chars().count() / 8 {
        let places: Vec<(usize, &str, &[&str])> = CONFUSIONS
            .iter()
            .flat_map(|(from, to)| {
                garbled.match_indices(from).map(|(at, from)| (at, from, *to)).collect::<Vec<_>>()
            })
            .collect();
        let Some(&(at, from, to)) = places.choose(rng) else { break };
        let (from, to) = (from.len(), (*to.choose(rng).unwrap_or(&"")).to_owned());
        garbled.replace_range(at..at + from, &to);
    }
    garbled
}

const MARKS: &[(&str, &str)] = &[
    ("é", "e\u{301}"),
    ("è", "e\u{300}"),
    ("ê", "e\u{302}"),
    ("ë", "e\u{308}"),
    ("à", "a\u{300}"),
    ("â", "a\u{302}"),
    ("á", "a\u{301}"),
    ("ä", "a\u{308}"),
    ("ö", "o\u{308}"),
    ("ü", "u\u{308}"),
    ("ó", "o\u{301}"),
    ("ô", "o\u{302}"),
    ("í", "i\u{301}"),
    ("ï", "i\u{308}"),
    ("î", "i\u{302}"),
    ("ú", "u\u{301}"),
    ("ñ", "n\u{303}"),
    ("ç", "c\u{327}"),
    ("É", "E\u{301}"),
    ("Í", "I\u{301}"),
    ("Á", "A\u{301}"),
    ("Î", "I\u{302}"),
    ("Ç", "C\u{327}"),
    ("Ö", "O\u{308}"),
    ("Ü", "U\u{308}"),
    ("ę", "e\u{328}"),
    ("ą", "a\u{328}"),
    ("ś", "s\u{301}"),
    ("Ś", "S\u{301}"),
    ("ż", "z\u{307}"),
    ("Ż", "Z\u{307}"),
    ("ź", "z\u{301}"),
    ("Ź", "Z\u{301}"),
    ("ć", "c\u{301}"),
    ("ń", "n\u{301}"),
    ("ё", "е\u{308}"),
    ("Ё", "Е\u{308}"),
    ("й", "и\u{306}"),
    ("Й", "И\u{306}"),
    ("ά", "α\u{301}"),
    ("έ", "ε\u{301}"),
    ("ή", "η\u{301}"),
    ("ί", "ι\u{301}"),
    ("ό", "ο\u{301}"),
    ("ύ", "υ\u{301}"),
    ("ώ", "ω\u{301}"),
    ("Ά", "Α\u{301}"),
    ("Έ", "Ε\u{301}"),
    ("Ή", "Η\u{301}"),
    ("Ό", "Ο\u{301}"),
    ("Ώ", "Ω\u{301}"),
    ("أ", "ا\u{654}"),
    ("إ", "ا\u{655}"),
    ("آ", "ا\u{653}"),
    ("ガ", "カ\u{3099}"),
    ("ゼ", "セ\u{3099}"),
];

/// With letters and marks apart.
pub fn decomposed(name: &str) -> String {
    MARKS.iter().fold(name.to_owned(), |name, (one, two)| name.replace(one, two))
}

/// Without accents. Voicing marks are none: they make another syllable.
pub fn plain(name: &str) -> String {
    let marks = MARKS.iter().filter(|(one, _)| !["ガ", "ゼ"].contains(one));
    marks
        .fold(name.to_owned(), |name, (one, two)| name.replace(one, &two.chars().take(1).collect::<String>()))
}

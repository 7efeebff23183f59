//! Odd pages: long, of one letter, of one word, of nothing but dashes, with ten thousand mentions. None may take more
//! than twice as long when it is twice as long.

use proto::labelset::Mention;

/// Mentions of each.
pub const MENTIONS: usize = 10_000;

/// A page of about so many bytes, by name.
pub fn pages(bytes: usize) -> Vec<(&'static str, String)> {
    let repeated = |unit: &str| unit.repeat(bytes / unit.len());
    let line =
        "The trawler OCEAN LANTERN 7, master Wilbur Inkwell, landed 12.5 t of bigeye tuna at Port Louis. ";
    vec![
        ("prose on one line", repeated(line)),
        ("one letter", repeated("a")),
        ("one word", repeated("aaaa ")),
        ("a table of numbers", repeated("9074729 | 12.50 | 2024-03-07\n")),
        ("broken dashes", repeated("a-\n")),
        ("blanks", repeated(" \t\u{A0}")),
        ("accents alone", repeated("\u{301}")),
        ("ideographs", repeated("海洋明珠")),
    ]
}

/// Mentions that stand there often, nearly, and not at all.
pub fn mentions() -> Vec<Mention> {
    let text = |n: usize| match n % 8 {
        0 => "OCEAN LANTERN 7".to_owned(),
        1 => format!("aaaa aaaa {n} aaab"),
        2 => "aaaa".to_owned(),
        3 => format!("Wilbur Inkwel{}", char::from(b'a' + (n % 26) as u8)),
        4 => format!("{}", 9_000_000 + n),
        5 => "aaaaaaaaaaab".to_owned(),
        6 => format!("海洋{}珠", char::from_u32(0x4E00 + n as u32 % 2000).unwrap_or('海')),
        _ => format!("Nobody {n} Nowhere"),
    };
    let mention =
        |n| Mention { label: "OWNER".to_owned(), text: text(n), before: Some("landed at".to_owned()) };
    (0..MENTIONS).map(mention).collect()
}

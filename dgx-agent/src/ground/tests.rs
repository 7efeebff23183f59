use proptest::prelude::*;

use super::*;

fn labelset() -> Labelset {
    Labelset::embedded()
}

fn mention(label: &str, text: &str, before: &str) -> Mention {
    let before = (!before.is_empty()).then(|| before.to_owned());
    Mention { label: label.to_owned(), text: text.to_owned(), before }
}

/// The one span, or the reason why there is none.
fn one(text: &str, label: &str, words: &str) -> Result<(String, MatchKind), Reason> {
    let grounded = ground(text, &[mention(label, words, "")], &labelset());
    match (grounded.spans.first(), grounded.ungrounded.first()) {
        (Some(span), None) => Ok((span.text.clone(), span.match_kind)),
        (None, Some(ungrounded)) => Err(ungrounded.reason),
        other => panic!("neither or both: {other:?}"),
    }
}

fn name(text: &str, words: &str) -> Result<(String, MatchKind), Reason> {
    one(text, "VESSEL_NAME", words)
}

fn found(text: &str, kind: MatchKind) -> Result<(String, MatchKind), Reason> {
    Ok((text.to_owned(), kind))
}

#[test]
fn exact_and_normalised() {
    use MatchKind::{Exact, Normalized};
    let cases = [
        ("the OCEAN LANTERN sailed", "OCEAN LANTERN", "OCEAN LANTERN", Exact),
        ("the Ocean  Lantern sailed", "OCEAN LANTERN", "Ocean  Lantern", Normalized),
        ("the OCEAN\r\nLANTERN sailed", "OCEAN LANTERN", "OCEAN\r\nLANTERN", Normalized),
        ("the OCEAN LAN-\nTERN sailed", "OCEAN LANTERN", "OCEAN LAN-\nTERN", Normalized),
        ("with pole-\nand-line gear", "pole-and-line", "pole-\nand-line", Normalized),
        ("licence LIC-\n2024-0042.", "LIC-2024-0042", "LIC-\n2024-0042", Normalized),
        ("the ﬁshing oﬃce", "fishing office", "ﬁshing oﬃce", Normalized),
        ("le che\u{301}ne vert", "chéne vert", "che\u{301}ne vert", Normalized),
        ("Sirène d’Étain", "SIRENE D'ETAIN", "Sirène d’Étain", Normalized),
        ("судно «ГОЛУБОЙ ЧАЙНИК»", "\"Голубой чайник\"", "«ГОЛУБОЙ ЧАЙНИК»", Normalized),
        ("vessel—OCEAN LANTERN—sank", "OCEAN LANTERN", "OCEAN LANTERN", Exact),
        ("MMSI351234567 ", "351234567", "351234567", Exact),
        ("船名はゼロ丸です", "ゼロ丸", "ゼロ丸", Exact),
        ("owner X Y S.A. of", "X Y S.A.", "X Y S.A.", Exact),
        ("owner X Y S.A, of", "X Y S.A.", "X Y S.A", Normalized),
        ("so\u{AD}ft hy\u{200B}phen", "soft hyphen", "so\u{AD}ft hy\u{200B}phen", Normalized),
        ("OCEANIC and OCEAN", "OCEAN", "OCEAN", Exact),
    ];
    for (text, words, expected, kind) in cases {
        assert_eq!(name(text, words), found(expected, kind), "{text}");
    }
}

#[test]
fn likeness_knows_ocr() {
    let cases = [
        ("the MIDNIGHT B1SCU1T sailed", "MIDNIGHT BISCUIT", "MIDNIGHT B1SCU1T"),
        ("the rnarble herring", "marble herring", "rnarble herring"),
        ("‘Wilbur Dusipan Oiler", "Wilbur Dustpan", "Wilbur Dusipan"),
        ("Hypothetical Crewing C0.", "Hypothetical Crewing Co", "Hypothetical Crewing C0"),
        ("OCEANLANTERN sailed", "OCEAN LANTERN", "OCEANLANTERN"),
        ("в порту Kaлинингpaд", "Калининград", "Kaлинингpaд"),
        ("господин Ёлкпн прибыл", "Ёлкин", "Ёлкпн"),
        ("הספינה בנמל אשרוד היום", "אשדוד", "אשרוד"),
        ("die Möwe sank", "Moewe", "Möwe"),
        ("the HEDWI6 SOPHIcE sailed", "HEDWIG SOPHIE", "HEDWI6 SOPHIcE"),
    ];
    for (text, words, expected) in cases {
        assert_eq!(name(text, words), found(expected, MatchKind::Fuzzy), "{text}");
    }
}

#[test]
fn nothing_is_invented() {
    let cases = [
        ("the OCEAN LANTERN sailed", "COPPER MOONFISH"),
        ("the OCEANIC sailed", "OCEAN"),
        ("CLOUD HARVESTER NO. 8", "CLOUD HARVESTER NO. 7"),
        ("Hans", "Hand"),
        ("the Harbour & Dock Company", "Harbour Co"),
        ("", "OCEAN"),
        ("OCEAN", "OCEAN LANTERN"),
    ];
    for (text, words) in cases {
        assert_eq!(name(text, words), Err(Reason::NotFound), "{text}");
    }
    assert_eq!(name("a", " \u{200B}—\0 "), Err(Reason::Empty));
    assert_eq!(name("a", &"a".repeat(100_000)), Err(Reason::TooLong));
    assert_eq!(name("the QUIET TROMB0NE or QUIET TR0MBONE", "QUIET TROMBONE"), Err(Reason::Ambiguous));
}

#[test]
fn what_reads_as_another_value_is_another() {
    use MatchKind::{Exact, Fuzzy};
    for (label, text, words) in [
        ("FLAG", "Flag State: Iran", "Iraq"),
        ("FLAG", "Flag State: Austria", "Australia"),
        ("RFMO", "by NAFO alone", "NEAFC"),
        ("TONNAGE", "of 11,421 GT", "421 GT"),
        ("TONNAGE", "GT 1.421,", "421"),
        ("LENGTH", "LOA 45.305 m", "305 m"),
        ("DATE", "on 7.3.2020", "3.2020"),
        ("VESSEL_NAME", "the TAI PING 9 and", "TAI PING 8"),
        ("VESSEL_NAME", "the OCEAN STAR No. 9 and", "OCEAN STAR No. 8"),
        ("VESSEL_NAME", "ALPHA II, ALPHA III", "ALPHA I"),
    ] {
        let ungrounded = one(text, label, words);
        assert!(ungrounded.is_err(), "{words} on {text}: {ungrounded:?}");
    }
    assert_eq!(one("Flag: Slovak1a", "FLAG", "Slovakia"), found("Slovak1a", Fuzzy));
    assert_eq!(one("of 11,421 GT", "TONNAGE", "11,421 GT"), found("11,421 GT", Exact));
    assert_eq!(one("1.9074729 and", "IMO", "9074729"), found("9074729", Exact));
    assert_eq!(one("12-15 March 2020", "DATE", "15 March 2020"), found("15 March 2020", Exact));
    assert_eq!(name("the TAI PING B and", "TAI PING 8"), found("TAI PING B", Fuzzy));
    assert_eq!(name("the TIN SAILOR II of", "TIN SAILOR III"), found("TIN SAILOR II", Fuzzy));
    assert_eq!(name("NUEVO PARAGUAS ll of", "NUEVO PARAGUAS II"), found("NUEVO PARAGUAS ll", Fuzzy));
}

#[test]
fn identifiers_are_bent_only_where_their_validator_can_tell() {
    let fuzzy = |text: &str| found(text, MatchKind::Fuzzy);
    assert_eq!(one("IMO 9O74729.", "IMO", "9074729"), fuzzy("9O74729"));
    assert_eq!(one("IMO 9074728.", "IMO", "9074729"), Err(Reason::NotFound));
    assert_eq!(one("IMO 9O74728.", "IMO", "9074728"), Err(Reason::NotFound), "the check digit is wrong");
    assert_eq!(one("on 12-0CT-2023.", "DATE", "12-OCT-2023"), fuzzy("12-0CT-2023"));
    assert_eq!(one("on 12-10-2023.", "DATE", "12-10-2028"), Err(Reason::NotFound));
    assert_eq!(one("sign H0AB.", "CALL_SIGN", "HOAB"), fuzzy("H0AB"));
    assert_eq!(one("sign 6KUS8.", "CALL_SIGN", "6KUSB"), Err(Reason::NotFound), "6KUSB is no call sign");
    assert_eq!(one("sign EA52.", "CALL_SIGN", "EAS2"), Err(Reason::NotFound), "both could be");
    assert_eq!(one("on 20O7-07-07.", "DATE", "2007-07-07"), fuzzy("20O7-07-07"));
    assert_eq!(one("on 2O July 1824.", "DATE", "20 July 1824"), fuzzy("2O July 1824"));
    assert_eq!(one("on 3 July 2004.", "DATE", "1 July 2004"), Err(Reason::NotFound), "J is no 1 here");
    assert_eq!(one("on 19/11/2011.", "DATE", "11/11/2011"), Err(Reason::NotFound));
    assert_eq!(one("licence LIC-2024~-3078.", "LICENCE_NO", "LIC-2024-3078"), fuzzy("LIC-2024~-3078"));
    assert_eq!(one("licence LIC-20243078.", "LICENCE_NO", "LIC-2024-3078"), Err(Reason::NotFound));
    assert_eq!(one("licence LIC-2O24-1.", "LICENCE_NO", "LIC-2024-1"), Err(Reason::NotFound), "no validator");
}

#[test]
fn repeated_mentions_spread_by_context_then_order() {
    let text = "Name: OCEAN A. Former name: OCEAN A. The OCEAN A sank.";
    let starts = |mentions: &[Mention]| -> Vec<(usize, usize)> {
        ground(text, mentions, &labelset()).spans.iter().map(|span| (span.mention, span.start)).collect()
    };
    let plain = mention("VESSEL_NAME", "OCEAN A", "");
    assert_eq!(starts(&[plain.clone(), plain.clone(), plain.clone()]), [(0, 6), (1, 28), (2, 41)]);
    assert_eq!(starts(&[mention("VESSEL_NAME", "OCEAN A", "The"), plain.clone()]), [(1, 6), (0, 41)]);
    assert_eq!(starts(&[mention("VESSEL_NAME", "OCEAN A", "Former name:")]), [(0, 28)]);
    let grounded = ground(text, &vec![plain; 4], &labelset());
    assert_eq!(grounded.ungrounded, [Ungrounded { mention: 3, reason: Reason::Taken }]);
}

#[test]
fn an_address_is_known_by_its_letters() {
    let asked = "LOT 276 JALAN BANTING, 43800 DENGKIL";
    let on_page = |read: &str| one(&format!("GIN KEE\n{read}\nTEL"), "ADDRESS", asked);
    let read = "LOT 276 JALAN BANTING, 43809 DENGKIL";
    assert_eq!(on_page(read), found(read, MatchKind::Fuzzy));
    assert_eq!(on_page("LOT 278 JALAN BANTING, 43809 DENGKIL"), Err(Reason::NotFound), "too many digits");
    assert_eq!(one("no 438001234", "ADDRESS", "no 438001235"), Err(Reason::NotFound), "too few letters");
}

#[test]
fn words_in_front_lead_to_what_is_hardly_like() {
    let text = "The doctor wrote a long letter to Gorba, and went by way of Lyons.";
    let place = |before: &str| {
        let spans = ground(text, &[mention("PORT", "Gotha", before)], &labelset()).spans;
        spans.first().map(|span| span.text.clone())
    };
    assert_eq!(place(""), None);
    assert_eq!(place("a long letter to"), Some("Gorba".to_owned()));
    assert_eq!(place("went by way of"), None);
    // A word that is written small is no name, whatever stands in front of it.
    let small =
        ground("bound for which it sailed", &[mention("PORT", "Whitby", "the ship bound for")], &labelset());
    assert_eq!(small.spans, []);
}

#[test]
fn what_stands_once_as_asked_may_stand_again_garbled() {
    let text = "Den Monolog des Ains hat Welcker erklärt; Aias selbst spricht.";
    let twice = vec![mention("MASTER", "Aias", ""); 2];
    let placed = |mentions: &[Mention]| -> Vec<(usize, String, MatchKind)> {
        let spans = ground(text, mentions, &labelset()).spans;
        spans.into_iter().map(|span| (span.mention, span.text, span.match_kind)).collect()
    };
    let (ains, aias) = ("Ains".to_owned(), "Aias".to_owned());
    let in_order = [(0, ains.clone(), MatchKind::Fuzzy), (1, aias.clone(), MatchKind::Exact)];
    assert_eq!(placed(&twice), in_order, "the first one is the garbled one");
    let after = [mention("MASTER", "Aias", "erklärt;"), mention("MASTER", "Aias", "Monolog des")];
    assert_eq!(placed(&after), [(1, ains, MatchKind::Fuzzy), (0, aias, MatchKind::Exact)]);
}

#[test]
fn the_labelset_says_who_is_placed_first() {
    let text = "Owner: Ocean Lantern Fisheries Inc. Vessel: Ocean Lantern.";
    let mentions =
        [mention("VESSEL_NAME", "Ocean Lantern", ""), mention("OWNER", "Ocean Lantern Fisheries Inc.", "")];
    let spans = ground(text, &mentions, &labelset()).spans;
    let texts: Vec<_> = spans.iter().map(|span| (span.label.as_str(), span.start)).collect();
    assert_eq!(texts, [("OWNER", 7), ("VESSEL_NAME", 44)]);
}

#[test]
fn odd_long_pages_come_to_an_end() {
    let mentions: Vec<Mention> =
        (0..2000).map(|n| mention("OWNER", &format!("aaaa aaaa {n} aaab"), "aa")).collect();
    for text in
        ["a".repeat(2_000_000), "aaaa ".repeat(400_000), "-\n".repeat(1_000_000), "\u{301}".repeat(1_000_000)]
    {
        let grounded = ground(&text, &mentions, &labelset());
        assert_eq!(grounded.ungrounded.len(), mentions.len());
    }
}

/// Text with much of what pages and Unicode have to offer, and words that come back.
fn odd_text(max: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[A-Ca-c0-2]{1,4}",
        3 => "[ \\n\\-\u{AD}—'’«»ﬁß½№İ\u{301}\u{200B}\u{0}船が]{1,3}",
        1 => "\\PC",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..max).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn spans_are_on_the_page(
        text in odd_text(60),
        wanted in proptest::collection::vec((0usize..4, odd_text(4), odd_text(3), 0usize..200, 0usize..12), 0..8),
    ) {
        let chars: Vec<char> = text.chars().collect();
        let labels = ["OWNER", "VESSEL_NAME", "IMO", "NOBODYS"];
        let mentions: Vec<Mention> = wanted
            .into_iter()
            .map(|(label, invented, before, start, length)| {
                // Half of them stand on the page.
                let start = start.min(chars.len());
                let copied: String = chars[start..(start + length).min(chars.len())].iter().collect();
                mention(labels[label], if length % 2 == 0 { &invented } else { &copied }, &before)
            })
            .collect();
        let grounded = ground(&text, &mentions, &labelset());
        prop_assert_eq!(grounded.spans.len() + grounded.ungrounded.len(), mentions.len());
        let mut end = 0;
        for span in &grounded.spans {
            prop_assert!(span.start < span.end && end <= span.start, "{:?}", span);
            end = span.end;
            prop_assert_eq!(chars[span.start..span.end].iter().collect::<String>(), span.text.clone());
            let exact = span.text == mentions[span.mention].text.trim();
            prop_assert_eq!(span.match_kind == MatchKind::Exact, exact);
            prop_assert!((0.5..=1.0).contains(&span.similarity));
        }
    }
}

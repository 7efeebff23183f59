use std::sync::LazyLock;

use proptest::prelude::*;
use proto::labelset::Rule;
use regex_automata::{Anchored, Input, meta::Regex};

use super::*;

fn found(text: &str) -> Vec<(String, String, Option<String>)> {
    let spans = Rules::new(&Labelset::embedded()).expect("it compiles").annotate(text);
    spans.into_iter().map(|span| (span.label, span.text, span.norm_value)).collect()
}

fn expect(text: &str, expected: &[(&str, &str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(label, text, value)| {
            ((*label).to_owned(), (*text).to_owned(), (!value.is_empty()).then(|| (*value).to_owned()))
        })
        .collect();
    assert_eq!(found(text), expected, "{text}");
}

#[test]
fn forms_in_four_languages() {
    expect(
        "Name of vessel: MARBLE HERRING\nIMO No.: 4522460\nRadio call sign: FGGX\nFlag State: France",
        &[
            ("VESSEL_NAME", "MARBLE HERRING", ""),
            ("IMO", "4522460", "4522460"),
            ("CALL_SIGN", "FGGX", "FGGX"),
            ("FLAG", "France", "FRA"),
        ],
    );
    expect(
        "Armador: Armadora Nube Blanca S.L.\nEslora total: 100,55 m\nVálida desde: 9 de septiembre de 2022",
        &[
            ("OWNER", "Armadora Nube Blanca S.L.", ""),
            ("LENGTH", "100,55 m", "100.55"),
            ("DATE", "9 de septiembre de 2022", "2022-09-09"),
        ],
    );
    expect(
        "Capitaine: Hippolyte Ficelle\nPort d'attache: Concarneau\nJauge brute: 1 856 tjb\nMMSI: 663933965",
        &[
            ("MASTER", "Hippolyte Ficelle", ""),
            ("PORT", "Concarneau", ""),
            ("TONNAGE", "1 856 tjb", "1856"),
            ("MMSI", "663933965", "663933965"),
        ],
    );
    expect(
        "Название судна: ГОЛУБОЙ ЧАЙНИК\nОрудие лова: донный трал\nДата: 23 февраля 2022 г.",
        &[
            ("VESSEL_NAME", "ГОЛУБОЙ ЧАЙНИК", ""),
            ("GEAR_TYPE", "донный трал", "TB"),
            ("DATE", "23 февраля 2022 г.", "2022-02-23"),
        ],
    );
}

/// Call signs and dates as documents of other languages have them.
#[test]
fn call_signs_and_dates_in_many_languages() {
    for (text, sign, date) in [
        ("Call Sign HO3421, last survey 07-AUG-22", "HO3421", "07-AUG-22"),
        ("Callsign is EHQX. On Sept. 2, 2022 they sailed", "EHQX", "Sept. 2, 2022"),
        ("International Radio Call Sign (IRCS): EHQX at 2023-04-21T09:30Z", "EHQX", "2023-04-21"),
        ("Distintivo: EA4821. El 1 de setiembre del 2021", "EA4821", "1 de setiembre del 2021"),
        ("Indicativo de chamada: CUQD, 23 de fevereiro de 2020", "CUQD", "23 de fevereiro de 2020"),
        ("Indicatif d’appel radio : FW4210, le 1er mars 2022", "FW4210", "1er mars 2022"),
        ("Rufzeichen: DJFG, geprüft 7. 3. 2022", "DJFG", "7. 3. 2022"),
        ("Nominativo internazionale: IJXP, 4 luglio 2019", "IJXP", "4 luglio 2019"),
        ("Kallesignal: LKBT, 12. juni 2021", "LKBT", "12. juni 2021"),
        ("Позывной сигнал судна: UEHT, 3 сентября 2021", "UEHT", "3 сентября 2021"),
        ("呼号: BQAB 签发日期: 2021年3月15日", "BQAB", "2021年3月15日"),
    ] {
        let found: Vec<_> = found(text).into_iter().map(|(label, text, _)| (label, text)).collect();
        let expected = [("CALL_SIGN", sign), ("DATE", date)].map(|(l, t)| (l.to_owned(), t.to_owned()));
        assert_eq!(found, expected, "{text}");
    }
}

/// Tons of fish are no tonnage of a vessel.
#[test]
fn tons_are_a_tonnage_where_it_is_said() {
    let tonnages = |text: &str| {
        let found = found(text).into_iter().filter(|(label, ..)| label == "TONNAGE");
        found.map(|(_, text, _)| text).collect::<Vec<_>>()
    };
    assert_eq!(tonnages("Улов: 120 т минтая, 45 т трески."), Vec::<String>::new());
    assert_eq!(tonnages("Валовая вместимость: 1420 т"), ["1420 т"]);
    assert_eq!(tonnages("валовая вместимость 920 рег. т."), ["920 рег. т"]);
}

/// Phone numbers, sections, heads of columns and words for nothing.
#[test]
fn what_only_looks_like_a_value_is_none() {
    for text in [
        "Tel. 612345678, fax no. 345678901, account 224123450",
        "See section 3.2.11, version 1.2.13, Art. 12.03.14, form 10-12, EUR 1.250,50, lat 12.03.20",
        "Call sign: none. IRCS: unknown. CALL SIGN PORT OF CALL. Call sign: N/A",
        "9074729 PERU, postcode 1234567, May 2021, in the year 2024, 2019-2021",
    ] {
        let wrong: Vec<_> = found(text)
            .into_iter()
            .filter(|(label, text, _)| {
                ["MMSI", "DATE", "CALL_SIGN"].contains(&label.as_str()) || text == "1234567"
            })
            .collect();
        assert_eq!(wrong, [], "{text}");
    }
}

#[test]
fn what_is_named_once_is_found_again() {
    expect(
        "The longliner OCEAN LANTERN sailed. Nothing was heard of OCEAN LANTERN, or of OCEAN LANTERNS.",
        &[
            ("VESSEL_TYPE", "longliner", "longliner"),
            ("VESSEL_NAME", "OCEAN LANTERN", ""),
            ("VESSEL_NAME", "OCEAN LANTERN", ""),
        ],
    );
}

#[test]
fn what_its_validator_refuses_is_no_span() {
    expect("IMO No.: 4522461, MMSI 999933965, on 31/02/2022 in a manta ray's wake", &[]);
}

#[test]
fn odd_rules_and_odd_pages_come_to_an_end() {
    let toml = Labelset::embedded().toml().replacen("value = '{{rfmos}}'", "value = 'x{0,3}'", 1);
    let labelset = Labelset::parse(&toml).expect("still a labelset");
    assert_eq!(Rules::new(&labelset).expect("it compiles").annotate("IMO é"), []);
    let rules = Rules::new(&Labelset::embedded()).expect("it compiles");
    for unit in ["a", "AB ", "1", "1234567 ", "\n", "Owner: ", "«А» ", "船"] {
        let started = std::time::Instant::now();
        rules.annotate(&unit.repeat(500_000 / unit.len()));
        assert!(started.elapsed().as_secs() < 10, "{unit:?}: {:?}", started.elapsed());
    }
}

/// Every match is looked at, whole, one character after the other.
fn values_one_by_one(rule: &Rule, text: &str) -> Vec<Range<usize>> {
    let (mut found, mut from) = (Vec::new(), 0);
    let mut places = rule.regex().create_captures();
    loop {
        rule.regex().search_captures(&Input::new(text).range(from..), &mut places);
        let Some(whole) = places.get_match().filter(|whole| whole.start() < text.len()) else { break };
        let value = places.get_group(rule.group()).map_or(whole.range(), |group| group.start..group.end);
        let next = text.ceil_char_boundary(whole.start() + 1);
        from = next;
        if [whole.start(), value.start, value.end].iter().all(|at| is_border(text, *at)) {
            from = value.end.max(next);
            found.push(value);
        }
    }
    found
}

/// A pattern as somebody may write it.
fn odd_pattern() -> impl Strategy<Value = String> {
    const ATOMS: &[&str] = &[
        "",
        "a",
        "ab",
        "b",
        "1",
        "abababababab",
        "[ab]",
        "[^a]",
        "\\d",
        "ж",
        "(?i:é)",
        "(?i:abba baab)",
        "\\pL",
        "\\b",
        "^",
        "$",
    ];
    const TIMES: &[&str] = &["?", "*", "+?", "{0,3}", "{2}", "{3,12}"];
    let atom = proptest::sample::select(ATOMS).prop_map(str::to_owned);
    atom.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            proptest::collection::vec(inner.clone(), 1..4)
                .prop_map(|parts| format!("(?:{})", parts.join("|"))),
            (inner, proptest::sample::select(TIMES)).prop_map(|(part, times)| format!("(?:{part}){times}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_passed_over_is_no_value(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("IMO 4522460".to_owned()), Just("OCEAN LANTERN".to_owned()), Just("call sign: ".to_owned()),
                Just("7 марта 2024 г.".to_owned()), Just("12.50 GT".to_owned()), Just("Panama".to_owned()),
                "[0-9]{1,9}", "[A-Zé船ж]{1,6}", "[ \\n:|/«»—.-]{1,3}", "\\PC{0,3}",
            ],
            0..30,
        ),
    ) {
        let text = pieces.concat();
        static STARTS: LazyLock<Starts> = LazyLock::new(|| {
            let labelset = Labelset::embedded();
            labelset.compile().expect("it compiles");
            Starts::new(&labelset).expect("they are few")
        });
        let (labelset, starts) = (Labelset::embedded(), &*STARTS);
        let rules = labelset.labels.iter().flat_map(|label| &label.rules).enumerate();
        starts.with_found(&text, |starting| {
            for (nth, rule) in rules {
                let values = values_one_by_one(rule, &text);
                prop_assert_eq!(&Reader::new(rule, &text).all().collect::<Vec<_>>(), &values);
                let starts = starting.of(nth).expect("they can be told");
                prop_assert_eq!(&Reader::new(rule, &text).at(starts).collect::<Vec<_>>(), &values);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_head_matches_where_its_pattern_does(pattern in odd_pattern(), text in "(ab|b|a|é|ж|1| |\n|abba baab){0,12}") {
        let mut parser = regex_syntax::ParserBuilder::new().multi_line(true).utf8(false).build();
        let whole = parser.parse(&pattern).expect("a pattern");
        let build = |hir| Regex::builder().build_from_hir(hir).expect("it is small");
        let (head, whole) = (build(&heads::head(&whole)), build(&whole));
        for (at, _) in text.char_indices() {
            let here = || Input::new(&text).range(at..).anchored(Anchored::Yes);
            prop_assert!(head.is_match(here()) || !whole.is_match(here()), "{} at {} of {:?}", pattern, at, text);
        }
    }

    #[test]
    fn spans_are_on_the_page(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("IMO 4522460 ".to_owned()), Just("vessel: BLUE KETTLE\n".to_owned()), Just("Owner: ".to_owned()),
                Just("Paper Moon Fishing Co. Ltd".to_owned()), Just("7 марта 2024 г.".to_owned()), "\\PC{0,5}",
                "[ \\n:«»—é\u{301}船]{1,3}",
            ],
            0..20,
        ),
    ) {
        let text = pieces.concat();
        let chars: Vec<char> = text.chars().collect();
        let spans = Rules::new(&Labelset::embedded()).expect("it compiles").annotate(&text);
        for (n, span) in spans.iter().enumerate() {
            prop_assert_eq!(span.mention, n);
            prop_assert_eq!(chars[span.start..span.end].iter().collect::<String>(), span.text.clone());
        }
        prop_assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }
}

use super::*;

/// A labelset with one label, into which a test puts its fault.
fn one_label(lines: &str, label: &str) -> String {
    format!(
        r#"
name = "t"
version = "1"
guidelines = ""
overlap_order = ["A"]
{lines}
[[labels]]
name = "A"
title = "A"
description = "an A"
examples = ["a1", "a2", "a3"]
{label}
"#
    )
}

fn refused(toml: &str) -> String {
    Labelset::parse(toml).expect_err("refused").to_string()
}

#[test]
fn the_embedded_labelset_is_whole() {
    let labelset = Labelset::parse(Labelset::embedded().toml()).expect("all of it is right");
    let names: Vec<&str> = labelset.labels.iter().map(|label| label.name.as_str()).collect();
    let expected = [
        "VESSEL_NAME",
        "IMO",
        "MMSI",
        "CALL_SIGN",
        "FLAG",
        "OWNER",
        "OPERATOR",
        "MASTER",
        "GEAR_TYPE",
        "VESSEL_TYPE",
        "SPECIES",
        "PORT",
        "RFMO",
        "LICENCE_NO",
        "DATE",
        "LENGTH",
        "TONNAGE",
    ];
    assert_eq!(names, expected);
    assert!(labelset.labels.iter().all(|label| !label.rules.is_empty() && !label.description.is_empty()));
    assert_eq!(labelset.sha256(), sha256_hex(labelset.toml()));
    assert!(labelset.rank("OWNER") < labelset.rank("VESSEL_NAME"));
    assert_eq!(labelset.rank("nobody's"), names.len());
}

#[test]
fn lists_give_codes_whatever_case_accents_and_hyphens() {
    let labelset = Labelset::embedded();
    let check = |label: &str, text: &str| labelset.label(label).expect("a label").check(text);
    for text in ["Panamá", "PANAMA", "панама"] {
        assert_eq!(check("FLAG", text), Verdict::Valid("PAN".to_owned()));
    }
    assert_eq!(check("FLAG", "Côte d’Ivoire"), Verdict::Valid("CIV".to_owned()));
    assert_eq!(check("SPECIES", "yellowfin\ntuna"), Verdict::Valid("YFT".to_owned()));
    assert_eq!(check("RFMO", "orop ps"), Verdict::Valid("SPRFMO".to_owned()));
    assert_eq!(check("SPECIES", "YFT"), Verdict::Valid("YFT".to_owned()));
    assert_eq!(check("SPECIES", "merluza de cola"), Verdict::Valid("GRM".to_owned()));
    assert_eq!(check("SPECIES", "hoki"), Verdict::Valid("GRN".to_owned()));
    assert_eq!(check("GEAR_TYPE", " OTB "), Verdict::Valid("OTB".to_owned()));
    assert_eq!(check("FLAG", "PAN"), Verdict::Valid("PAN".to_owned()));
    assert_eq!(check("SPECIES", "yft"), Verdict::Invalid);
    assert_eq!(check("FLAG", "Atlantis"), Verdict::Invalid);
    assert_eq!(check("OWNER", "anyone"), Verdict::Unchecked);
}

#[test]
fn every_validator_gives_one_normal_form_whatever_the_language() {
    let labelset = Labelset::embedded();
    let table: &[(&str, &str, &[&str])] = &[
        ("IMO", "9074729", &["9074729", "IMO 9074729", "9O74729"]),
        ("MMSI", "224123450", &["224123450", "224 123 450", "224-123-450", "MMSI: 224123450"]),
        ("CALL_SIGN", "3FRK7", &["3FRK7", "3FRK-7"]),
        (
            "DATE",
            "2024-03-07",
            &[
                "2024-03-07",
                "07/03/2024",
                "7 March 2024",
                "Thursday, 7 March 2024",
                "miércoles 7 de marzo de 2024",
                "суббота, 7 марта 2024 г.",
                "7 de marzo de 2024",
                "7 mars 2024",
                "7 марта 2024 г.",
                "7. März 2024",
                "7 de março de 2024",
                "7 marzo 2024",
                "7 maart 2024",
                "7. mars 2024",
                "7 marca 2024",
                "7 Mart 2024",
                "7 березня 2024",
                "2024-Mar-07",
                "07/mar/24",
                "2024年3月7日",
                "O7/0З/2O24",
            ],
        ),
        (
            "LENGTH",
            "45.3",
            &["45.3 m", "45,3 mètres", "45,3 метров", "45.3 metros", "45,3 Meter", "45,3 metri"],
        ),
        ("LENGTH", "45.11", &["148 ft", "148 feet"]),
        (
            "TONNAGE",
            "1856",
            &["1,856 GT", "1.856 TRB", "1 856 tjb", "1.856 BRZ", "1 856 рег. т", "GT 1856", "1,856 GRT"],
        ),
        (
            "SPECIES",
            "YFT",
            &[
                "YFT",
                "yellowfin tuna",
                "atún aleta amarilla",
                "thon albacore",
                "желтопёрый тунец",
                "Thunnus albacares",
            ],
        ),
        ("GEAR_TYPE", "PS", &["PS", "purse seine", "red de cerco"]),
        ("GEAR_TYPE", "LLD", &["LLD", "drifting longlines"]),
        ("GEAR_TYPE", "TBB", &["TBB", "beam trawl", "chalut à perche", "Baumkurre"]),
        ("GEAR_TYPE", "MDV", &["MDV", "diving"]),
        ("SPECIES", "HAL", &["HAL", "Atlantic halibut", "flétan", "Hippoglossus hippoglossus"]),
        ("SPECIES", "SAP", &["SAP", "Pacific saury", "сайра"]),
        ("FLAG", "ESP", &["ESP", "Spain", "España", "Espagne", "Испания", "Spanien", "Espanha", "Spagna"]),
        ("FLAG", "REU", &["REU", "Réunion", "La Réunion", "Реюньон"]),
        ("FLAG", "CHN", &["CHN", "中国", "P.R. China"]),
        ("FLAG", "NOR", &["NOR", "Norway", "Noruega", "Norvège", "Норвегия"]),
        ("FLAG", "KOR", &["República de Corea"]),
        ("RFMO", "ICCAT", &["ICCAT", "CICAA", "CICTA", "ИККАТ"]),
        ("RFMO", "IOTC", &["IOTC", "CTOI", "CAOI", "Indian Ocean Tuna Commission"]),
        ("RFMO", "NEAFC", &["NEAFC", "CPANE", "НЕАФК"]),
    ];
    for (label, value, texts) in table {
        for text in *texts {
            let found = labelset.label(label).expect("a label").check(text);
            assert_eq!(found, Verdict::Valid((*value).to_owned()), "{label} {text}");
        }
    }
    for (label, text) in [
        ("IMO", "9074728"),
        ("MMSI", "999123450"),
        ("CALL_SIGN", "QABC"),
        ("DATE", "31/02/2024"),
        ("LENGTH", "4500 m"),
        ("TONNAGE", "0 GT"),
        ("SPECIES", "XQZ"),
        ("GEAR_TYPE", "spoons"),
        ("FLAG", "Atlantis"),
        ("RFMO", "FIFA"),
    ] {
        assert_eq!(labelset.label(label).expect("a label").check(text), Verdict::Invalid, "{label} {text}");
    }
}

/// The lists are whole: ISO 3166-1 has 249 codes, ISSCFG (revision 1) 58 with an abbreviation of its own; the ITU has given
/// out 292 maritime identification digits.
#[test]
fn lists_are_whole() {
    let toml: toml::Table = toml::from_str(Labelset::embedded().toml()).expect("it is TOML");
    let lexicon = |name: &str| toml["lexicons"][name].as_table().expect("a list").clone();
    let names =
        |name: &str| lexicon(name).values().map(|names| names.as_array().map_or(0, Vec::len)).sum::<usize>();
    assert_eq!(lexicon("countries").len(), 249);
    assert!(names("countries") > 1_300, "in several languages");
    assert_eq!(lexicon("gear").len(), 59);
    assert_eq!(names("mids"), 292);
    assert!(lexicon("species").len() > 180 && lexicon("months").len() == 12);
}

/// `~` stands before a name that is read, though no rule looks for it; the number after `Tel.` is no value.
#[test]
fn what_is_another_word_more_often_is_read_and_not_looked_for() {
    let toml = one_label(
        "fragments = { gap = ' ' }\nlexicons = { l = { x = ['alpha', '~beta'], y = ['~gamma'] } }",
        "validator = \"lexicon\"\nlexicon = \"l\"\non_invalid = \"keep\"\n\
         [[labels.rules]]\nvalue = '{{l}}'\nunless = ['tel', 'no more']",
    )
    .replace("[\"a1\", \"a2\", \"a3\"]", "[\"alpha\", \"beta\", \"gamma\"]");
    let labelset = Labelset::parse(&toml).expect("parses");
    let label = &labelset.labels[0];
    assert_eq!(label.check("beta"), Verdict::Valid("x".to_owned()));
    assert!(label.rules[0].regex().is_match("alpha") && !label.rules[0].regex().is_match("beta gamma"));
    let out = |before: &str| label.rules[0].is_ruled_out(before);
    assert!(out("Tel. +34 ") && out("a tel:") && out("no\n more "));
    assert!(!out("hotel 7") && !out("Tel. of 7 ") && !out("tel\n7 ") && !out(""));
    let all = toml.replace("'alpha', '~beta'", "'~alpha', '~beta'");
    assert!(refused(&all).contains("has no names to look for"));
}

#[test]
fn a_rule_takes_cue_gap_value_and_what_follows() {
    let toml = one_label(
        r#"fragments = { gap = '[: ]{1,3}', word = '\p{L}+' }"#,
        "[[labels.rules]]\ncues = ['name', 'nom de']\nvalue = '{{word}}'\nthen = '\\d'",
    );
    let labelset = Labelset::parse(&toml).expect("parses");
    let rule = &labelset.labels[0].rules[0];
    let find = |text: &str| {
        let mut places = rule.regex().create_captures();
        rule.regex().captures(text, &mut places);
        places.get_group(rule.group()).map(|value| text[value.range()].to_owned())
    };
    assert_eq!(find("NOM\nDE: éa1").as_deref(), Some("éa"));
    assert_eq!(find("nom de: éa"), None);
    assert_eq!(find("nombre: éa1"), None);
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        (one_label("", "[[labels.rules]]\nvalue = '('"), r#"label "A" (line 8): rule 1: unclosed group"#),
        (one_label("", "[[labels.rules]]\nvalue = 'a'\nunless = ['(']"), r#"label "A" (line 8): rule 1: "#),
        (
            one_label("", "pattern = '[a-z]'"),
            r#"label "A" (line 8): the example "a1" does not match its pattern"#,
        ),
        (one_label("", "validator = \"imo\""), r#"label "A" (line 8): the example "a1" fails its validator"#),
        (one_label("", "validator = \"date\""), "the validator Date needs a lexicon"),
        (one_label("", "validator = \"date\"\nlexicon = \"none\""), r#"there is no lexicon "none""#),
        (one_label("", "validator = \"magic\""), "unknown variant `magic`"),
        (one_label("", "colour = \"red\""), "unknown field `colour`"),
        (
            one_label("", "[[labels.rules]]\nvalue = '{{none}}'"),
            "{{none}} is neither a fragment nor a lexicon",
        ),
        (one_label("", "[[labels.rules]]\ncues = ['a']\nvalue = 'b'"), "{{gap}} is neither"),
        (one_label("", "[[labels.rules]]\ncues = ['a']"), "rule 1: needs a value"),
        (one_label("fragments = { a = '{{b}}', b = '{{a}}' }", "stop = '{{a}}'"), "nested more than 8 deep"),
        (one_label("lexicons = { l = { x = ['é'], y = ['E'] } }", ""), "stands for both"),
        (
            one_label("", "").replace("overlap_order = [\"A\"]", "overlap_order = []"),
            "is missing in overlap_order",
        ),
        (one_label("", "").replace("[\"A\"]", "[\"A\", \"B\"]"), r#"overlap_order names "B""#),
        (
            one_label("", "").replace("name = \"A\"", "name = \"a b\""),
            r#"label "a b" (line 8): is no name of a label"#,
        ),
        (one_label("", "").replace(", \"a3\"", ""), "needs 3 examples"),
        (one_label("labels = []", ""), "cannot be read"),
        ("labels = 3".to_owned(), "cannot be read"),
    ];
    for (toml, expected) in cases {
        let message = refused(&toml);
        assert!(message.contains(expected), "{message}");
    }
    let twice = one_label("", "");
    let label = &twice[twice.find("[[labels]]").expect("a label")..];
    let message = refused(&format!("{twice}{label}"));
    assert!(message.contains(r#"label "A" (line 14): is there twice"#), "{message}");
    // What is no TOML, and what has a wrong field, is placed by the TOML reader.
    assert!(refused(&one_label("", "validator = \"magic\"")).contains("line 12"));
}

/// Every regex runs in linear time; one that would be too large is refused.
#[test]
fn a_regex_can_neither_backtrack_nor_grow_without_end() {
    let message = refused(&one_label("", "[[labels.rules]]\nvalue = '(?:\\p{L}{500}){500}'"));
    assert!(
        message.contains(r#"label "A" (line 8): rule 1: "#) && message.contains("size limit"),
        "{message}"
    );
    let labelset =
        Labelset::parse(&one_label("", "[[labels.rules]]\nvalue = '(?:(?:a+)+)+b'")).expect("parses");
    assert!(!labelset.labels[0].rules[0].regex().is_match("a".repeat(200_000).as_str()));
}

#[test]
fn five_hundred_labels_are_taken_and_no_more() {
    let labels = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("\"L{n}\"")).collect();
        let label = |n| {
            format!(
                "[[labels]]\nname = \"L{n}\"\ntitle = \"t\"\ndescription = \"d\"\nexamples = [\"a\", \"b\", \"c\"]\n\
                 [[labels.rules]]\nvalue = 'x{n}'\n"
            )
        };
        format!(
            "name = \"t\"\nversion = \"1\"\nguidelines = \"\"\noverlap_order = [{}]\n{}",
            names.join(", "),
            (0..count).map(label).collect::<String>()
        )
    };
    assert_eq!(Labelset::parse(&labels(500)).expect("parses").labels.len(), 500);
    assert!(refused(&labels(501)).contains("1 to 500 labels, and has 501"));
}

#[test]
fn exploding_fragments_are_refused() {
    let fragments: Vec<String> =
        (1..8).map(|n| format!("f{n} = '{}'", format!("{{{{f{}}}}}", n - 1).repeat(20))).collect();
    let toml =
        one_label(&format!("[fragments]\nf0 = 'aaaaaaaaaa'\n{}", fragments.join("\n")), "stop = '{{f7}}'");
    assert!(refused(&toml).contains("longer than"));
}

//! What every engine gives stands on its page, whatever the page and whatever the model says.

use proptest::prelude::*;
use proto::labelset::{Labelset, Mention};
use serde_json::json;

use super::{
    PageResult, PageSpan, Source,
    answer::{Read, read},
    unite::unite,
};
use crate::{
    chunk::{ChunkBudget, OVERLAP, overlapping},
    infer::Completion,
    rules::Rules,
};

const LABELS: [&str; 7] = ["IMO", "VESSEL_NAME", "OWNER", "DATE", "FLAG", "CALL_SIGN", "NOBODYS"];

fn page() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("IMO No.: 9O74729 | Flag State: Côte d’Ivoire\n".to_owned()),
        Just("Name of vessel: OCEAN LAN-\nTERN, 7 марта 2024 г. ".to_owned()),
        Just("e\u{301}\u{200d}👨‍👩‍👧 \u{202e}ﬁsh\u{fffd}\0 ".to_owned()),
        "(?s).{0,30}",
        "[ \\n|:«»—é\u{301}船Ⅷßİ]{0,9}",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Words of the page, by place and length, as they are, in other letters, or with others behind; and made up.
fn mentions(page: &str, asked: &[(usize, usize, usize, usize)]) -> Vec<Mention> {
    let chars: Vec<char> = page.chars().collect();
    let one = |(label, at, length, bend): &(usize, usize, usize, usize)| {
        let start = at % (chars.len() + 1);
        let words: String = chars[start..(start + length).min(chars.len())].iter().collect();
        Mention {
            label: LABELS[label % LABELS.len()].to_owned(),
            text: match bend {
                0 => words.to_uppercase(),
                1 => words.to_lowercase(),
                2 => format!("{words} made up"),
                _ => words,
            },
            before: (bend % 2 == 0).then(|| chars[start.saturating_sub(8)..start].iter().collect()),
        }
    };
    asked.iter().map(one).collect()
}

fn stands(page: &str, spans: &[PageSpan]) -> Result<(), TestCaseError> {
    let chars: Vec<char> = page.chars().collect();
    for PageSpan { span, confidence, .. } in spans {
        prop_assert!(span.start < span.end && span.end <= chars.len());
        prop_assert_eq!(chars[span.start..span.end].iter().collect::<String>(), span.text.clone());
        prop_assert!(confidence.is_none_or(|confidence| (0.0..=1.0).contains(&confidence)));
    }
    prop_assert!(spans.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_span_of_every_engine_is_on_its_page(
        page in page(),
        asked in proptest::collection::vec((0usize..9, 0usize..4000, 0usize..40, 0usize..6), 0..12),
    ) {
        let labelset = Labelset::embedded();
        let answer = json!({"mentions": mentions(&page, &asked)}).to_string();
        let mut model = PageResult::default();
        // The smallest pieces that there are; each is given the same answer.
        for piece in overlapping(&page, ChunkBudget::of_tokens(1), OVERLAP) {
            let said = Completion { content: answer.clone(), ..Completion::default() };
            match read(said, &piece.text, &labelset) {
                Read::Whole(answered, _) => model.take(&piece, answered),
                Read::Broken(_) | Read::Full(_) => prop_assert!(false, "it is whole"),
            }
        }
        let by_rules = Rules::new(&labelset).expect("compiles").annotate(&page).into_iter();
        let rules: Vec<PageSpan> =
            by_rules.map(|span| PageSpan { span, source: Source::Rules, confidence: None }).collect();
        stands(&page, &rules)?;
        stands(&page, &unite(model.spans.clone(), &labelset))?;
        stands(&page, &unite([rules, model.spans].concat(), &labelset))?;
    }
}

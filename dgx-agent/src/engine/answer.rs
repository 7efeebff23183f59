//! What an answer about a piece of page is worth: its mentions, mended where they must be, at their places. Pure.

use proto::labelset::{Labelset, Mention};

use super::{PageResult, PageSpan, Source};
use crate::{
    chunk::Chunk,
    ground::{Grounded, ground},
    parse::{Parsed, Repair, Repairs, parse},
    validate::validate,
};

/// An answer's mentions at their places.
#[derive(Debug)]
pub(super) struct Answered {
    grounded: Grounded,
    /// Mentions that a cut or broken answer began.
    lost: usize,
    pub repairs: Repairs,
}

/// What an answer turned out to be.
#[derive(Debug)]
pub(super) enum Read {
    /// Whole, though something may have been mended.
    Whole(Answered),
    /// Cut or broken in its middle: better asked again. With its content, of which [`save`] makes what it can.
    Broken(String),
}

/// An answer that ended as it should, about a piece of page.
pub(super) fn read(content: String, piece: &str, labelset: &Labelset) -> Read {
    match parse(&content) {
        Ok(parsed) if !parsed.repairs.contains_key(&Repair::Cut) => {
            Read::Whole(placed(parsed, piece, labelset))
        }
        _ => Read::Broken(content),
    }
}

/// The whole mentions of a cut or broken answer; None when there are none. What was lost counts as ungrounded.
pub(super) fn save(content: &str, piece: &str, labelset: &Labelset) -> Option<Answered> {
    let parsed = parse(content).ok().filter(|parsed| !parsed.mentions.is_empty())?;
    Some(placed(parsed, piece, labelset))
}

fn placed(parsed: Parsed, piece: &str, labelset: &Labelset) -> Answered {
    let Parsed { mentions, repairs, lost } = parsed;
    Answered { grounded: at_their_places(piece, &mentions, labelset), lost, repairs }
}

fn at_their_places(piece: &str, mentions: &[Mention], labelset: &Labelset) -> Grounded {
    validate(ground(piece, mentions, labelset), mentions, labelset)
}

impl Answered {
    pub fn mentions(&self) -> usize {
        self.grounded.spans.len() + self.grounded.ungrounded.len()
    }
}

impl PageResult {
    /// Adds the spans of a piece, moved to where they stand on the page.
    pub(super) fn take(&mut self, piece: &Chunk, answered: Answered) {
        self.chunks += 1;
        self.ungrounded += answered.grounded.ungrounded.len() + answered.lost;
        self.spans.extend(answered.grounded.spans.into_iter().map(|mut span| {
            span.start += piece.start;
            span.end += piece.start;
            PageSpan { span, source: Source::Ollama }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(content: &str, piece: &str) -> Answered {
        match read(content.to_owned(), piece, &Labelset::embedded()) {
            Read::Whole(answered) => answered,
            Read::Broken(_) => panic!("broken: {content}"),
        }
    }

    #[test]
    fn what_can_be_mended_is_not_asked_again_and_what_is_cut_is() {
        let page = "IMO No.: 9074729";
        let mention = r#"{"label": "IMO", "text": "9074729"}"#;
        for (content, repairs) in [
            (format!(r#"{{"mentions": [{mention}]}}"#), vec![]),
            (
                format!("```json\n{{\"mentions\": [{mention},]}}\n```"),
                vec![Repair::Wrapped, Repair::TrailingComma],
            ),
            (mention.to_owned(), vec![Repair::OtherShape]),
        ] {
            let answered = whole(&content, page);
            assert_eq!((answered.grounded.spans.len(), answered.lost), (1, 0), "{content}");
            assert_eq!(answered.repairs.into_keys().collect::<Vec<_>>(), repairs, "{content}");
        }
        let cut = format!(r#"{{"mentions": [{mention}, {{"label": "FLAG", "te"#);
        let Read::Broken(content) = read(cut, page, &Labelset::embedded()) else { panic!("it is cut") };
        let saved = save(&content, page, &Labelset::embedded()).expect("one is whole");
        assert_eq!((saved.mentions(), saved.lost, saved.repairs[&Repair::Cut]), (1, 1, 1));
        assert!(matches!(read("I found nothing.".into(), page, &Labelset::embedded()), Read::Broken(_)));
        assert!(save("I found nothing.", page, &Labelset::embedded()).is_none());
    }

    #[test]
    fn odd_mentions_are_counted_and_refused() {
        let page = "IMO No.: 9074729, flag \u{0}Panama";
        let long = "é".repeat(100_000);
        let content = format!(
            r#"{{"mentions": [{{"label": "IMO", "text": "9074729\u0000"}}, {{"label": "FLAG", "text": "\ud800"}},
            {{"label": "OWNER", "text": "{long}"}}, {{"label": "OWNER", "text": ""}}, {{"label": "NOBODYS", "text": "flag"}},
            {{"label": "FLAG", "text": "Panama"}}]}}"#
        );
        let answered = whole(&content, page);
        assert_eq!(answered.repairs[&Repair::LoneSurrogate], 1);
        let mut result = PageResult::default();
        result.take(&Chunk { start: 3, text: page.to_owned() }, answered);
        let found: Vec<_> =
            result.spans.iter().map(|found| (found.span.text.as_str(), found.span.start)).collect();
        assert!(found.contains(&("Panama", 27)), "{found:?}");
        assert_eq!(found.len() + result.ungrounded, 6, "each is a span or counted: {found:?}");
        assert!(result.ungrounded >= 4, "{found:?}");
    }
}

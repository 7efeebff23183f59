//! What an answer about a piece of page is worth: its mentions, mended where they must be, at their places. Pure.

use proto::labelset::Labelset;

use super::{PageResult, PageSpan, Source};
use crate::{
    chunk::Chunk,
    confidence,
    ground::ground,
    infer::Completion,
    parse::{Parsed, Repair, Repairs, parse},
    prompt::MAX_MENTIONS,
    validate::{Validated, validate},
};

/// An answer's mentions at their places.
#[derive(Debug)]
pub(super) struct Answered {
    /// In the order of the piece; places are the piece's.
    spans: Vec<PageSpan>,
    ungrounded: usize,
    /// Mentions that a cut or broken answer began.
    lost: usize,
    pub repairs: Repairs,
}

/// What an answer turned out to be.
#[derive(Debug)]
pub(super) enum Read {
    /// Whole, though something may have been mended.
    Whole(Answered, Completion),
    /// Cut or broken in its middle: better asked again. [`save`] makes of it what it can.
    Broken(Completion),
    /// Ended by the schema, which allows so many mentions and no more: what else the piece holds is in its halves.
    Full(Completion),
}

/// An answer that ended as it should, about a piece of page.
pub(super) fn read(answer: Completion, piece: &str, labelset: &Labelset) -> Read {
    match parse(&answer.content) {
        Ok(parsed) if !parsed.repairs.contains_key(&Repair::Cut) => {
            let is_full = parsed.mentions.len() >= MAX_MENTIONS;
            let answered = placed(parsed, &answer, piece, labelset);
            // A model that says one thing over and over fills a list with what is not there.
            match is_full && answered.spans.len() * 2 > MAX_MENTIONS {
                true => Read::Full(answer),
                false => Read::Whole(answered, answer),
            }
        }
        _ => Read::Broken(answer),
    }
}

/// The whole mentions of a cut or broken answer; None when there are none. What was lost counts as ungrounded.
pub(super) fn save(answer: &Completion, piece: &str, labelset: &Labelset) -> Option<Answered> {
    let parsed = parse(&answer.content).ok().filter(|parsed| !parsed.mentions.is_empty())?;
    Some(placed(parsed, answer, piece, labelset))
}

fn placed(parsed: Parsed, answer: &Completion, piece: &str, labelset: &Labelset) -> Answered {
    let Parsed { mentions, repairs, lost } = parsed;
    let words = confidence::of_words(&answer.content, &mentions, &answer.logprobs);
    let Validated { spans, ungrounded } = validate(ground(piece, &mentions, labelset), &mentions, labelset);
    let spans = spans.into_iter().map(|(span, trust)| {
        let words = words.get(span.mention).copied().flatten();
        PageSpan { confidence: confidence::raw(words, span.similarity, trust), span, source: Source::Ollama }
    });
    Answered { spans: spans.collect(), ungrounded: ungrounded.len(), lost, repairs }
}

impl Answered {
    pub fn mentions(&self) -> usize {
        self.spans.len() + self.ungrounded
    }
}

impl PageResult {
    /// Adds the spans of a piece, moved to where they stand on the page.
    pub(super) fn take(&mut self, piece: &Chunk, answered: Answered) {
        self.chunks += 1;
        self.ungrounded += answered.ungrounded + answered.lost;
        self.spans.extend(answered.spans.into_iter().map(|mut found| {
            found.span.start += piece.start;
            found.span.end += piece.start;
            found
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(content: &str) -> Completion {
        Completion { content: content.to_owned(), ..Completion::default() }
    }

    fn whole(content: &str, piece: &str) -> Answered {
        match read(said(content), piece, &Labelset::embedded()) {
            Read::Whole(answered, _) => answered,
            Read::Broken(_) | Read::Full(_) => panic!("not whole: {content}"),
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
            assert_eq!((answered.spans.len(), answered.lost), (1, 0), "{content}");
            assert_eq!(answered.repairs.into_keys().collect::<Vec<_>>(), repairs, "{content}");
        }
        let cut = format!(r#"{{"mentions": [{mention}, {{"label": "FLAG", "te"#);
        let Read::Broken(content) = read(said(&cut), page, &Labelset::embedded()) else {
            panic!("it is cut")
        };
        let saved = save(&content, page, &Labelset::embedded()).expect("one is whole");
        assert_eq!((saved.mentions(), saved.lost, saved.repairs[&Repair::Cut]), (1, 1, 1));
        assert!(matches!(read(said("I found nothing."), page, &Labelset::embedded()), Read::Broken(_)));
        assert!(save(&said("I found nothing."), page, &Labelset::embedded()).is_none());
    }

    #[test]
    fn a_list_that_the_schema_ended_is_asked_for_in_halves() {
        let page = "Port: Vigo\n".repeat(MAX_MENTIONS + 20);
        let list = |mentions: usize| {
            let mention = r#"{"label": "PORT", "text": "Vigo"}"#;
            said(&format!(r#"{{"mentions": [{}]}}"#, vec![mention; mentions].join(",")))
        };
        let read = |mentions, page: &str| read(list(mentions), page, &Labelset::embedded());
        assert!(matches!(read(MAX_MENTIONS, &page), Read::Full(_)));
        assert!(matches!(read(MAX_MENTIONS - 1, &page), Read::Whole(..)));
        assert!(matches!(read(MAX_MENTIONS, "Port: Vigo"), Read::Whole(..)), "said over and over");
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

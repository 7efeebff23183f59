//! A page in pieces that fit a prompt.
//!
//! Pieces are cut where the text pauses: after a paragraph, else a line, a sentence, a word, and only then within
//! one, never within a character. A line that fits into a piece, as the row of a table, is never cut. Together the
//! pieces are the page: nothing is left out and nothing is there twice; with [`overlapping`] each begins with the
//! last lines or words of the one before it, and [`unite`] makes one span of what both found.

use proto::labelset::Labelset;

use crate::ground::GroundedSpan;
use crate::overlap;
use crate::prompt::Prompt;

/// Bytes of UTF-8 that make a token, low enough for tables of numbers and for scripts other than Latin.
const BYTES_PER_TOKEN: usize = 3;

/// Room for the chat template around system prompt and page.
const TEMPLATE_TOKENS: usize = 64;

/// The smallest piece worth asking about, in bytes.
const MIN_BYTES: usize = 256;

/// What a piece says again of the one before it, in bytes: a long name, wrapped, and the line before it.
pub const OVERLAP: usize = 300;

/// How many tokens a text is at most, as far as can be told without the model's tokenizer.
pub fn estimated_tokens(text: &str) -> usize {
    text.len().div_ceil(BYTES_PER_TOKEN)
}

/// How long a piece may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkBudget {
    bytes: usize,
}

impl ChunkBudget {
    /// What a context window leaves for a piece beside prompt and answer. A piece is also no longer than its
    /// answer may be: on a dense page every other word is a mention.
    pub fn new(num_ctx: u32, num_predict: u32, prompt: &Prompt) -> Self {
        let (window, answer) = (num_ctx as usize, num_predict as usize);
        let left = window.saturating_sub(answer + estimated_tokens(&prompt.system) + TEMPLATE_TOKENS);
        Self::of_tokens(left.min(answer))
    }

    /// The smallest context window that holds prompt, answer and a smallest piece, as far as can be told.
    pub fn least_window(num_predict: u32, prompt: &Prompt) -> usize {
        let piece = MIN_BYTES.div_ceil(BYTES_PER_TOKEN);
        num_predict as usize + estimated_tokens(&prompt.system) + TEMPLATE_TOKENS + piece
    }

    pub fn of_tokens(tokens: usize) -> Self {
        Self { bytes: (tokens * BYTES_PER_TOKEN).max(MIN_BYTES) }
    }

    pub fn divided_by(self, parts: u32) -> Self {
        Self { bytes: (self.bytes / parts.max(1) as usize).max(MIN_BYTES) }
    }
}

/// A piece of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it starts on the page, in code points.
    pub start: usize,
    pub text: String,
}

/// The pieces of a text, in order; none for an empty text.
pub fn chunks(text: &str, budget: ChunkBudget) -> Vec<Chunk> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut start = 0;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cut(rest, budget.bytes));
        pieces.push(Chunk { start, text: piece.to_owned() });
        start += piece.chars().count();
        rest = after;
    }
    pieces
}

/// The pieces of a text, each but the first with the end of the one before it in front, as much as fits into
/// `overlap` from the start of a line, else of a word. None is longer than the budget.
pub fn overlapping(text: &str, budget: ChunkBudget, overlap: usize) -> Vec<Chunk> {
    if text.len() <= budget.bytes {
        return chunks(text, budget);
    }
    let overlap = overlap.min(budget.bytes / 2);
    let own = ChunkBudget { bytes: (budget.bytes - overlap).max(4) };
    let mut before: &str = "";
    let mut at = 0;
    let mut pieces = chunks(text, own);
    for piece in &mut pieces {
        let end = at + piece.text.len();
        let lead = lead(before, overlap);
        piece.start -= lead.chars().count();
        before = &text[..end];
        piece.text.insert_str(0, lead);
        at = end;
    }
    pieces
}

/// A piece in two at about its middle, the second with the end of the first in front; one when it is too small.
pub fn halves(piece: &Chunk) -> Vec<Chunk> {
    let text = &piece.text;
    if text.len() <= MIN_BYTES {
        return vec![piece.clone()];
    }
    let (first, rest) = text.split_at(cut(text, text.len() / 2 + text.len() / 8));
    let lead = lead(first, OVERLAP.min(first.len() / 4));
    let start = piece.start + first.chars().count() - lead.chars().count();
    vec![Chunk { start: piece.start, text: first.to_owned() }, Chunk { start, text: format!("{lead}{rest}") }]
}

/// The end of a text that is said again.
fn lead(before: &str, overlap: usize) -> &str {
    let tail = &before[before.ceil_char_boundary(before.len().saturating_sub(overlap))..];
    if tail.len() == before.len() || before[..before.len() - tail.len()].ends_with('\n') {
        return tail;
    }
    let line = tail.find('\n').map(|at| &tail[at + 1..]).filter(|line| !line.is_empty());
    let word =
        || tail.char_indices().find(|(_, c)| c.is_whitespace()).map(|(at, c)| &tail[at + c.len_utf8()..]);
    line.or_else(word).unwrap_or_default()
}

/// The spans of overlapping pieces, already moved to where they stand on the page: what two pieces found is one span,
/// and where a piece's border cut what its neighbour has whole, the labelset's order, then the longer one, says which.
pub fn unite(spans: Vec<GroundedSpan>, labelset: &Labelset) -> Vec<GroundedSpan> {
    overlap::resolve(spans, |span| span, labelset)
}

/// Where to end the first piece: the last good place in the second half of what it may hold, or where the line begins
/// that would be cut, if it fits into the next.
fn cut(text: &str, max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    let end = text.floor_char_boundary(max);
    let half = text.floor_char_boundary(max / 2);
    let window = &text[half..end];
    let after = |mark: &str| window.rfind(mark).map(|at| at + mark.len());
    let sentence = || [". ", "; ", "! ", "? ", "。"].into_iter().filter_map(after).max();
    let word = || window.char_indices().rfind(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
    let row = || {
        let start = text[..half].rfind('\n')? + 1;
        let fits = text.len() - start <= max || text.as_bytes()[start..start + max].contains(&b'\n');
        fits.then_some(start)
    };
    if let Some(place) = after("\n\n").or_else(|| after("\n")) {
        return half + place;
    }
    if let Some(start) = row() {
        return start;
    }
    // A character is at most four bytes, and no budget is smaller than that.
    sentence().or_else(word).map_or(end, |place| half + place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: usize) -> ChunkBudget {
        ChunkBudget { bytes }
    }

    fn texts(text: &str, bytes: usize) -> Vec<String> {
        chunks(text, of(bytes)).into_iter().map(|chunk| chunk.text).collect()
    }

    #[test]
    fn text_is_cut_where_it_pauses() {
        assert_eq!(texts("short", 10), ["short"]);
        assert!(texts("", 10).is_empty());
        assert_eq!(texts("one two\n\nthree four", 14), ["one two\n\n", "three four"]);
        assert_eq!(texts("one two three\nfour five", 18), ["one two three\n", "four five"]);
        assert_eq!(texts("One by. Two three", 10), ["One by. ", "Two three"]);
        assert_eq!(texts("one two three", 10), ["one two ", "three"]);
        assert_eq!(texts("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    }

    #[test]
    fn a_row_that_fits_is_not_cut() {
        let row = "4522460 | MARBLE HERRING | FGGX";
        assert_eq!(texts(&format!("ab\n{row}\ncd"), 34), ["ab\n", &format!("{row}\ncd")]);
        let all = texts(&format!("{row}\n").repeat(9), 100);
        assert!(all.iter().all(|piece| piece.ends_with("FGGX\n")), "{all:?}");
        // One that does not fit is cut between words.
        assert_eq!(texts("a\nbbbb cccc dddd", 10), ["a\nbbbb ", "cccc dddd"]);
    }

    #[test]
    fn a_half_begins_with_the_end_of_the_other() {
        let piece = Chunk { start: 7, text: "Флаг: Панама и порт Виго\n".repeat(40) };
        let pieces = halves(&piece);
        assert_eq!(pieces.len(), 2);
        let end = pieces[0].start + pieces[0].text.chars().count();
        assert!(pieces[1].start < end && pieces[1].text.starts_with("Флаг"), "{pieces:?}");
        assert_eq!(pieces[1].start + pieces[1].text.chars().count(), 7 + piece.text.chars().count());
        assert_eq!(halves(&Chunk { start: 0, text: "short".into() }).len(), 1);
    }

    #[test]
    fn what_two_pieces_found_is_one_span() {
        let labelset = Labelset::embedded();
        let mention = |text: &str| proto::labelset::Mention {
            label: "VESSEL_NAME".to_owned(),
            text: text.to_owned(),
            before: None,
        };
        let text = "first words here\nthe OCEAN LANTERN sailed\nand came to port\n";
        let pieces = overlapping(text, of(50), 25);
        assert!(pieces.len() == 3 && pieces[2].text.starts_with("the OCEAN"), "{pieces:?}");
        let spans = pieces.iter().flat_map(|piece| {
            let found = crate::ground::ground(&piece.text, &[mention("OCEAN LANTERN")], &labelset).spans;
            found.into_iter().map(|span| GroundedSpan {
                start: span.start + piece.start,
                end: span.end + piece.start,
                ..span
            })
        });
        let spans: Vec<GroundedSpan> = spans.collect();
        assert_eq!(spans.len(), 2);
        let places: Vec<_> = unite(spans, &labelset).iter().map(|span| (span.start, span.end)).collect();
        assert_eq!(places, [(21, 34)]);
    }

    #[test]
    fn the_budget_leaves_room_for_prompt_and_answer() {
        let prompt = Prompt::new(&proto::labelset::Labelset::embedded());
        let needed = estimated_tokens(&prompt.system) as u32;
        assert_eq!(ChunkBudget::new(needed + 2064, 1000, &prompt), ChunkBudget::of_tokens(1000));
        assert_eq!(ChunkBudget::new(needed + 1564, 1000, &prompt), ChunkBudget::of_tokens(500));
        assert_eq!(ChunkBudget::new(100, 50, &prompt).bytes, MIN_BYTES);
        assert_eq!(of(4000).divided_by(4), of(1000));
    }

    proptest! {
        #[test]
        fn prompt_and_answer_stay_below_the_window(num_predict in 64..8192u32, more in 0..20_000u32, text in ".{0,3000}") {
            let prompt = Prompt::new(&Labelset::embedded());
            let num_ctx = ChunkBudget::least_window(num_predict, &prompt) as u32 + more;
            let budget = ChunkBudget::new(num_ctx, num_predict, &prompt);
            for piece in overlapping(&text, budget, OVERLAP) {
                let asked = estimated_tokens(&prompt.system) + estimated_tokens(&piece.text) + TEMPLATE_TOKENS;
                prop_assert!(asked + num_predict as usize <= num_ctx as usize);
            }
        }
    }

    /// Rows of a register: what rules find in one of them hangs on no other.
    fn rows() -> impl Strategy<Value = String> {
        let row = prop_oneof![
            Just("IMO No.: 9074729\n".to_owned()),
            (1u32..29, 1950u32..2049).prop_map(|(day, year)| format!("Fecha: {day:02}/03/{year} | Côte\n")),
            Just("MMSI: 663933965 | позывной: UBCL5\n".to_owned()),
            Just("Eslora total: 100,55 m | Flag State: Panama\n".to_owned()),
            Just("船 nothing to be found here, é\u{301}\n\n".to_owned()),
        ];
        proptest::collection::vec(row, 0..60).prop_map(|rows| rows.concat())
    }

    proptest! {
        /// The rules see the whole page in production; here they stand for an annotator that is asked in pieces.
        #[test]
        fn pieces_united_are_the_page(text in rows(), bytes in 200usize..900, overlap in 80usize..400) {
            let labelset = Labelset::embedded();
            let rules = crate::rules::Rules::new(&labelset).expect("it compiles");
            let spans = overlapping(&text, of(bytes), overlap).into_iter().flat_map(|piece| {
                rules.annotate(&piece.text).into_iter().map(move |span| GroundedSpan {
                    start: span.start + piece.start,
                    end: span.end + piece.start,
                    ..span
                })
            });
            let places = |spans: Vec<GroundedSpan>| -> Vec<_> {
                spans.into_iter().map(|span| (span.label, span.start, span.end, span.norm_value)).collect()
            };
            let united = places(unite(spans.collect(), &labelset));
            prop_assert_eq!(united, places(rules.annotate(&text)));
        }

        #[test]
        fn overlapping_pieces_cover_the_page(text in "(?s)(.|\n| ){0,300}", bytes in 8usize..80, overlap in 0usize..60) {
            let chars: Vec<char> = text.chars().collect();
            let mut end = 0;
            for piece in overlapping(&text, of(bytes), overlap) {
                prop_assert!(piece.start <= end && piece.text.len() <= bytes);
                end = piece.start + piece.text.chars().count();
                prop_assert_eq!(chars[piece.start..end].iter().collect::<String>(), piece.text);
            }
            prop_assert_eq!(end, chars.len());
        }

        #[test]
        fn pieces_are_the_page(text in "(?s)(.|\n| ){0,300}", bytes in 4usize..80) {
            let pieces = chunks(&text, of(bytes));
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), text);
            for piece in &pieces {
                prop_assert!(!piece.text.is_empty() && piece.text.len() <= bytes);
                let end = piece.start + piece.text.chars().count();
                prop_assert_eq!(chars[piece.start..end].iter().collect::<String>(), piece.text.clone());
            }
        }
    }
}

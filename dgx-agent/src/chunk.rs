//! A page in pieces that fit a prompt.
//!
//! Pieces are cut where the text pauses: after a paragraph, else a line, a sentence, a word, and only then within
//! one, never within a character. Together they are the page: nothing is left out and nothing is there twice.

use crate::prompt::Prompt;

/// Bytes of UTF-8 that make a token, low enough for tables of numbers and for scripts other than Latin.
const BYTES_PER_TOKEN: usize = 3;

/// Room for the chat template around system prompt and page.
const TEMPLATE_TOKENS: usize = 64;

/// The smallest piece worth asking about, in bytes.
const MIN_BYTES: usize = 256;

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

/// Where to end the first piece: the last good place in the second half of what it may hold.
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
    let place = after("\n\n").or_else(|| after("\n")).or_else(sentence).or_else(word);
    // A character is at most four bytes, and no budget is smaller than that.
    place.map_or(end, |place| half + place)
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

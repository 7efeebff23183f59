//! How much a page may differ from a mention that is taken for it.
//!
//! Tuned on one half of the documents of `examples/` and of `tests/data/ground`, on mentions that stand on the page
//! and on mentions of other pages, which must be refused; `make bench-ground` reports the other half.

use super::fuzzy::Like;

pub(super) struct Bounds;

impl Bounds {
    /// Two places whose costs, in tenths of an edit, are this close are equally like a mention.
    pub const MARGIN: i32 = 4;

    /// Letters and digits in front that must agree to say much.
    const SPEAKS: usize = 8;

    /// The most that any text of so many letters and digits may cost, in tenths of an edit.
    pub fn most(letters: usize) -> u16 {
        (letters as u16 * 5).max(5)
    }

    /// Whether a place is like enough, given how many letters in front agree and whether it is where the order of
    /// the mentions has it.
    pub fn allow(like: &Like, agrees: usize, in_order: bool) -> bool {
        let letters = u32::from(like.letters);
        let spoken = agrees >= Self::SPEAKS;
        // Tenths of an edit in a hundred letters.
        let rate = u32::from(like.cost) * 100 / letters.max(1);
        let (plain, in_context) = match letters {
            0..=2 => (0, 150),
            3 => (100, 300),
            4..=5 => (130, 340),
            6..=8 => (180, 400),
            9..=14 => (230, 430),
            _ => (270, 450),
        };
        let word = if spoken { 550 } else { 350 };
        let more = if in_order { 20 } else { 0 };
        rate <= if spoken { in_context } else { plain + more } && u32::from(like.worst) <= word
    }
}

//! How much a page may differ from a mention that is taken for it.
//!
//! Tuned on one half of the documents of `examples/` and of `tests/data/ground`, on mentions that stand on the page
//! and on mentions of other pages, which must be refused; `make bench-ground` reports the other half.

use super::fuzzy::Like;

pub(super) struct Bounds;

impl Bounds {
    /// Two places whose costs, in tenths of an edit, are this close are equally like a mention.
    pub const MARGIN: i32 = 4;

    /// A place that costs so much more than another is not taken for a mention, whatever stands in front of it.
    pub const BEYOND: u16 = 40;

    /// Letters and digits in front that must agree to say much.
    const SPEAKS: usize = 8;

    /// The most that any text of so many letters and digits may cost, in tenths of an edit.
    pub fn most(letters: usize) -> u16 {
        (letters as u16 * 5).max(5)
    }

    /// Whether so many letters in front of a mention that agree, of so many, say that it stands there.
    pub fn speaks(agrees: usize, of: usize) -> bool {
        agrees >= Self::SPEAKS && agrees * 4 >= of * 3
    }

    /// Whether a place is like enough, given whether the words in front speak for it and whether it is where the order
    /// of the mentions has it.
    pub fn allow(like: &Like, spoken: bool, in_order: bool) -> bool {
        let letters = u32::from(like.letters);
        // Tenths of an edit in a hundred letters.
        let rate = u32::from(like.cost) * 100 / letters.max(1);
        let (plain, in_context) = match letters {
            0..=2 => (0, 150),
            3 => (100, 300),
            4..=5 => (130, 340),
            6..=8 => (180, 390),
            9..=14 => (230, 420),
            _ => (270, 430),
        };
        let word = if spoken { 550 } else { 350 };
        let more = if in_order { 20 } else { 0 };
        rate <= if spoken { in_context } else { plain + more } && u32::from(like.worst) <= word
    }
}

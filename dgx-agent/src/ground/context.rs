//! What stands in front of a mention, compared with what stands in front of a place.

/// Letters and digits in front of a mention that are compared; that must agree to say anything; and to say much.
pub(super) const CONTEXT: usize = 24;
pub(super) const MIN_CONTEXT: usize = 3;

/// Of a mention: the classes of the letters and digits in front of it, the nearest first.
pub(super) struct Context {
    pub classes: [u8; CONTEXT],
    pub length: usize,
}

impl Context {
    pub fn len(&self) -> usize {
        self.length
    }
}

/// Fewest edits from the whole pattern to some beginning of the text. Source: Myers, A fast bit-vector algorithm for
/// approximate string matching based on dynamic programming, 1999; with a text that begins where the pattern does.
pub(super) fn distance(pattern: &[u8], text: impl Iterator<Item = u8>) -> usize {
    let mut bits = [0u64; 64];
    for (at, class) in pattern.iter().enumerate() {
        bits[usize::from(*class)] |= 1 << at;
    }
    let last = 1u64 << (pattern.len() - 1);
    let (mut plus, mut minus) = (u64::MAX, 0u64);
    let mut score = pattern.len();
    let mut best = score;
    for class in text {
        let equal = bits[usize::from(class)];
        let vertical = equal | minus;
        let horizontal = (((equal & plus).wrapping_add(plus)) ^ plus) | equal;
        let mut more = minus | !(horizontal | plus);
        let mut less = plus & horizontal;
        score += usize::from(more & last != 0);
        score -= usize::from(less & last != 0);
        best = best.min(score);
        more = more << 1 | 1;
        less <<= 1;
        plus = less | !(vertical | more);
        minus = more & vertical;
    }
    best
}

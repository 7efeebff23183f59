//! Byte offsets of a text as code points, without walking it from the start each time.

/// Bytes between two counts.
const BLOCK: usize = 256;

/// Bytes whose count a byte holds.
const COUNTED: usize = 128;

/// Turns byte offsets of `text` into code points: a table of counts, and at most one block to walk.
#[derive(Debug)]
pub struct CodePoints<'a> {
    bytes: &'a [u8],
    /// Code points that start before each block.
    before: Vec<usize>,
}

impl<'a> CodePoints<'a> {
    pub fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let before = bytes
            .chunks(BLOCK)
            .scan(0, |total, block| {
                let before = *total;
                *total += starts(block);
                Some(before)
            })
            .collect();
        Self { bytes, before }
    }

    /// The code points that start before `byte`, which is a border of characters.
    pub fn at(&self, byte: usize) -> usize {
        let block = byte / BLOCK;
        let rest = self.bytes.get(block * BLOCK..byte.min(self.bytes.len())).unwrap_or_default();
        match self.before.get(block) {
            Some(before) => before + starts(rest),
            None => self.before.last().map_or(0, |before| before + starts(self.last_block())),
        }
    }

    fn last_block(&self) -> &[u8] {
        self.bytes.chunks(BLOCK).next_back().unwrap_or_default()
    }
}

/// Bytes that begin a character. Counted in bytes, of which a register of the processor adds many at once.
fn starts(bytes: &[u8]) -> usize {
    let few = |bytes: &[u8]| bytes.iter().map(|byte| u8::from(byte & 0xC0 != 0x80)).sum::<u8>();
    bytes.chunks(COUNTED).map(|bytes| usize::from(few(bytes))).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_as_chars_do(text in "(?s).{0,600}") {
            let points = CodePoints::new(&text);
            for (n, (byte, _)) in text.char_indices().enumerate() {
                prop_assert_eq!(points.at(byte), n);
            }
            prop_assert_eq!(points.at(text.len()), text.chars().count());
        }
    }
}

//! Answers that do not end: white space, one string over and over, one item over and over. Pure.
//!
//! A page may well hold one name on each of its lines, so that an item repeats as often as the schema allows.

/// A run of white space this long is no JSON that anybody wants.
const WHITESPACE: usize = 400;
/// Of a text that repeats itself within one string, in bytes.
const WITHIN_A_STRING: usize = 800;
/// Of an item; above the schema's `maxItems`.
const ITEMS: usize = 110;
/// The longest text that is looked for as repeating.
const PERIOD: usize = 320;
/// An answer is looked at each time that it has grown by so much.
const STEP: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Watch {
    whitespace: usize,
    looked: usize,
}

impl Watch {
    /// `content` has grown by `added` bytes; what is wrong with it, if anything.
    pub fn look(&mut self, content: &str, added: usize) -> Option<&'static str> {
        let new = &content.as_bytes()[content.len() - added..];
        match new.trim_ascii_end() {
            [] => self.whitespace += new.len(),
            text => self.whitespace = new.len() - text.len(),
        }
        if self.whitespace > WHITESPACE {
            return Some("white space without end");
        }
        if content.len() < self.looked + STEP {
            return None;
        }
        self.looked = content.len();
        repeats(content.as_bytes()).then_some("the same over and over")
    }
}

fn repeats(content: &[u8]) -> bool {
    (1..=PERIOD.min(content.len() / 2)).any(|period| {
        let ahead = content.iter().rev();
        let run = ahead.zip(content.iter().rev().skip(period)).take_while(|(a, b)| a == b).count() + period;
        // Almost always false at the first byte, so nothing dearer comes before it.
        run >= WITHIN_A_STRING.min(ITEMS * period) && {
            let has_items = content[content.len() - period..].iter().any(|byte| matches!(byte, b'{' | b'}'));
            run >= if has_items { ITEMS * period } else { WITHIN_A_STRING }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_at(content: &str, step: usize) -> Option<usize> {
        let mut watch = Watch::default();
        let mut end = 0;
        while end < content.len() {
            let next = content.ceil_char_boundary(end + step);
            if watch.look(&content[..next], next - end).is_some() {
                return Some(next);
            }
            end = next;
        }
        None
    }

    #[test]
    fn what_does_not_end_is_stopped_early() {
        let blank = format!("{{\"mentions\": [{}", " \n".repeat(5000));
        assert!(ends_at(&blank, 7).is_some_and(|end| end < 500));
        let string = format!("{{\"mentions\": [{{\"text\": \"{}", "船 of ".repeat(2000));
        assert!(ends_at(&string, 5).is_some_and(|end| end < 2000));
        let item = "{\"label\": \"FLAG\", \"text\": \"Panama\", \"before\": \"flag\"}, ";
        let items = |times| format!("{{\"mentions\": [{}", item.repeat(times));
        assert!(ends_at(&items(400), 9).is_some_and(|end| end < 130 * item.len()));
        assert_eq!(ends_at(&items(100), 9), None, "a page may hold it as often");
    }

    #[test]
    fn long_answers_that_go_on_are_left_alone() {
        let items: String = (0..500).map(|n| format!("{{\"text\": \"{n}\"}},\n    ")).collect();
        assert_eq!(ends_at(&items, 11), None);
        let prose: String = (0..2000).map(|n| format!("line {n}. ")).collect();
        assert_eq!(ends_at(&prose, 11), None);
    }
}

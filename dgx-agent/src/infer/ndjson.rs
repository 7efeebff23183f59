//! Splits a byte stream into lines, however the network cut it.
//!
//! Invariants: a line is given out once, whole and without its line break; a frame may end anywhere, also
//! inside a UTF-8 character, since only the byte `\n` is looked for; memory is bounded by `max_line`.

use memchr::memchr;

/// A line grew past the bound without an end: the peer does not speak NDJSON.
#[derive(Debug, PartialEq, Eq)]
pub struct LineTooLong {
    pub max_line: usize,
}

/// Collects frames and gives out lines.
#[derive(Debug)]
pub struct LineSplitter {
    buffer: Vec<u8>,
    /// Where the next line starts in `buffer`.
    start: usize,
    /// Bytes of `buffer` already searched for a line break.
    searched: usize,
    max_line: usize,
}

impl LineSplitter {
    /// `max_line`: the longest accepted line, in bytes.
    pub fn new(max_line: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, searched: 0, max_line }
    }

    /// Adds a frame. Take the lines with [`next_line`](Self::next_line) before the next push.
    pub fn push(&mut self, frame: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(frame);
    }

    /// The next whole line that is not blank, or `None` until more bytes come.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        loop {
            let Some(at) = memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                return self.bounded(self.buffer.len() - self.start).map(|()| None);
            };
            let (start, end) = (self.start, self.searched + at);
            self.start = end + 1;
            self.searched = end + 1;
            self.bounded(end - start)?;
            if !self.buffer[start..end].trim_ascii().is_empty() {
                return Ok(Some(self.buffer[start..end].trim_ascii()));
            }
        }
    }

    /// What is left when the stream has ended: a last line without its break, or nothing.
    pub fn rest(&self) -> Option<&[u8]> {
        let rest = self.buffer[self.start..].trim_ascii();
        (!rest.is_empty()).then_some(rest)
    }

    fn bounded(&self, length: usize) -> Result<(), LineTooLong> {
        if length > self.max_line { Err(LineTooLong { max_line: self.max_line }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(frames: &[&[u8]], max_line: usize) -> Result<Vec<String>, LineTooLong> {
        let mut splitter = LineSplitter::new(max_line);
        let mut lines = Vec::new();
        for frame in frames {
            splitter.push(frame);
            while let Some(line) = splitter.next_line()? {
                lines.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        lines.extend(splitter.rest().map(|rest| String::from_utf8(rest.to_vec()).unwrap()));
        Ok(lines)
    }

    #[test]
    fn a_character_cut_in_two_comes_out_whole() {
        let bytes = "{\"a\":\"é\"}\n".as_bytes();
        let cut = bytes.iter().position(|b| *b == 0xC3).unwrap() + 1;
        assert_eq!(split(&[&bytes[..cut], &bytes[cut..]], 100).unwrap(), ["{\"a\":\"é\"}"]);
    }

    #[test]
    fn blank_lines_and_crlf_are_no_lines() {
        assert_eq!(split(&[b"\n\r\n  \nx\r\n"], 100).unwrap(), ["x"]);
    }

    #[test]
    fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
        assert_eq!(split(&[&[b'x'; 60], &[b'x'; 60]], 100), Err(LineTooLong { max_line: 100 }));
        assert_eq!(split(&[&[b'x'; 101], b"\n"], 100), Err(LineTooLong { max_line: 100 }));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_lines(
            lines in prop::collection::vec("[a-zé船𝄞]{1,12}", 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let bytes = lines.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let frames: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&frames, 1000).unwrap(), lines);
        }
    }
}

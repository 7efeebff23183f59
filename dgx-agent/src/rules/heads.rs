//! How the matches of a pattern begin: a pattern of at most a few bytes, which matches the beginning of each of them,
//! and perhaps other text. The heads of all rules of a labelset fit into one small automaton; what goes on behind
//! them, as the words of a company's name do, would make a large one.

use regex_syntax::hir::{Hir, HirKind, Literal, Repetition};

/// Bytes after which a head ends: enough to tell most names and cues from other words.
const LONGEST: usize = 9;

/// A head ends after what may be repeated more often than this.
const MOST_TIMES: u32 = 2;

/// The head of a pattern.
pub(super) fn head(hir: &Hir) -> Hir {
    let Head { mut ended, open } = begin(hir, LONGEST);
    ended.extend(open.map(|(hir, _)| hir));
    Hir::alternation(ended)
}

/// The beginnings of a part of a pattern.
struct Head {
    /// Those after which nothing more is asked.
    ended: Vec<Hir>,
    /// The part as a whole, and how many bytes are left, at least, for what follows it.
    open: Option<(Hir, usize)>,
}

impl Head {
    fn open(hir: Hir, left: usize) -> Self {
        Self { ended: Vec::new(), open: Some((hir, left)) }
    }

    fn ended(hir: Hir) -> Self {
        Self { ended: vec![hir], open: None }
    }

    /// What was open goes on with another part.
    fn then(&mut self, part: &Hir) {
        let Some((before, left)) = self.open.take() else { return };
        let Head { ended, open } = begin(part, left);
        if !ended.is_empty() {
            self.ended.push(Hir::concat(vec![before.clone(), Hir::alternation(ended)]));
        }
        self.open = open.map(|(hir, left)| (Hir::concat(vec![before, hir]), left));
    }
}

fn begin(hir: &Hir, left: usize) -> Head {
    if left == 0 {
        return Head::ended(Hir::empty());
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Head::open(hir.clone(), left),
        HirKind::Class(_) => {
            let least = hir.properties().minimum_len().unwrap_or(1);
            Head::open(hir.clone(), left.saturating_sub(least))
        }
        HirKind::Literal(Literal(bytes)) => match left.checked_sub(bytes.len()) {
            Some(left) => Head::open(hir.clone(), left),
            None => Head::ended(Hir::literal(&bytes[..left])),
        },
        HirKind::Capture(capture) => begin(&capture.sub, left),
        HirKind::Repetition(repetition) => repeated(repetition, left),
        HirKind::Concat(parts) => {
            let mut head = Head::open(Hir::empty(), left);
            parts.iter().for_each(|part| head.then(part));
            head
        }
        HirKind::Alternation(parts) => any(parts.iter().map(|part| begin(part, left))),
    }
}

/// One of several. Those that have said much more than another end here: else nothing would be asked of what follows
/// the other.
fn any(heads: impl Iterator<Item = Head>) -> Head {
    let (mut ended, mut open) = (Vec::new(), Vec::new());
    for head in heads {
        ended.extend(head.ended);
        open.extend(head.open);
    }
    let most = open.iter().map(|(_, left)| *left).max().unwrap_or(0);
    let (open, long): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, left)| left + LONGEST / 2 >= most);
    ended.extend(long.into_iter().map(|(hir, _)| hir));
    let least = open.iter().map(|(_, left)| *left).min();
    let open = least.map(|least| (Hir::alternation(open.into_iter().map(|(hir, _)| hir).collect()), least));
    Head { ended, open }
}

/// Each number of times that is allowed, up to a few.
fn repeated(repetition: &Repetition, left: usize) -> Head {
    let most = repetition.min.max(MOST_TIMES).min(LONGEST as u32);
    let mut times = vec![];
    let mut head = Head::open(Hir::empty(), left);
    for time in 0.. {
        if time > most {
            // More may follow, of the same or of what stands behind it.
            times.push(Head {
                ended: head.open.map(|(hir, _)| hir).into_iter().chain(head.ended).collect(),
                open: None,
            });
            break;
        }
        if time >= repetition.min {
            times.push(Head { ended: Vec::new(), open: head.open.clone() });
        }
        if repetition.max.is_some_and(|max| time >= max) || head.open.is_none() {
            times.push(Head { ended: head.ended, open: None });
            break;
        }
        head.then(&repetition.sub);
    }
    any(times.into_iter())
}

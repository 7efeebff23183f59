//! Which suggestion answers to which true span: one to one, as many as can be, always the same ones.
//!
//! A page where one span overlaps all others costs their product; else it is about linear.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Span;

/// The partner of each span of the left side, by its index on the right.
pub type Partners = Vec<Option<usize>>;

/// Pairs spans that are equal.
pub fn exact(left: &[Span], right: &[Span]) -> Partners {
    let mut free: HashMap<&Span, VecDeque<usize>> = HashMap::new();
    for (at, span) in right.iter().enumerate() {
        free.entry(span).or_default().push_back(at);
    }
    left.iter().map(|span| free.get_mut(span).and_then(VecDeque::pop_front)).collect()
}

/// Pairs spans of one label that overlap; those that are equal stay paired with each other.
pub fn overlapping(left: &[Span], right: &[Span]) -> Partners {
    let mut of_left = exact(left, right);
    let mut of_right = vec![None; right.len()];
    for (l, r) in of_left.iter().enumerate() {
        if let Some(r) = r {
            of_right[*r] = Some(l);
        }
    }
    let index = Index::of(right);
    let mut order: Vec<usize> = (0..left.len()).collect();
    order.sort_by_key(|l| (&left[*l], *l));
    for l in order {
        if of_left[l].is_none() {
            augment(l, &mut of_left, &mut of_right, |l| index.overlapping(&left[l]));
        }
    }
    of_left
}

/// Takes `from` in along the shortest path that lets all who are paired stay so; pairs nobody if there is none.
fn augment<I: Iterator<Item = usize>>(
    from: usize,
    of_left: &mut [Option<usize>],
    of_right: &mut [Option<usize>],
    near: impl Fn(usize) -> I,
) {
    let mut came: HashMap<usize, usize> = HashMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(l) = queue.pop_front() {
        for r in near(l) {
            if came.contains_key(&r) {
                continue;
            }
            came.insert(r, l);
            let Some(next) = of_right[r] else {
                let mut taken = Some(r);
                while let Some(r) = taken {
                    let l = came[&r];
                    of_right[r] = Some(l);
                    taken = of_left[l].replace(r);
                }
                return;
            };
            queue.push_back(next);
        }
    }
}

/// Spans by label and start.
struct Index<'a> {
    spans: &'a [Span],
    labels: BTreeMap<&'a str, Vec<Place>>,
}

struct Place {
    at: usize,
    start: u32,
    /// The furthest end up to here.
    reach: u32,
}

impl<'a> Index<'a> {
    fn of(spans: &'a [Span]) -> Self {
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|at| (&spans[*at], *at));
        let mut labels: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
        for at in order {
            let Span { label, start, end } = &spans[at];
            let places = labels.entry(label).or_default();
            let reach = places.last().map_or(0, |place| place.reach).max(*end);
            places.push(Place { at, start: *start, reach });
        }
        Self { spans, labels }
    }

    fn overlapping(&self, span: &Span) -> impl Iterator<Item = usize> {
        let places = self.labels.get(span.label.as_str()).map(Vec::as_slice).unwrap_or_default();
        let first = places.partition_point(|place| place.reach <= span.start);
        let end = places.partition_point(|place| place.start < span.end);
        let near = places.get(first..end).unwrap_or_default();
        near.iter().map(|place| place.at).filter(move |at| self.spans[*at].overlaps(span))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn span(label: &str, start: u32, end: u32) -> Span {
        Span { label: label.into(), start, end }
    }

    fn count(partners: &Partners) -> usize {
        partners.iter().flatten().count()
    }

    /// Tries every way; for a handful of spans.
    fn most(left: &[Span], right: &[Span], taken: u32) -> usize {
        let Some((first, rest)) = left.split_first() else { return 0 };
        let with = (0..right.len())
            .filter(|r| taken & (1 << r) == 0 && right[*r].label == first.label && right[*r].overlaps(first))
            .map(|r| 1 + most(rest, right, taken | 1 << r));
        with.chain([most(rest, right, taken)]).max().unwrap_or(0)
    }

    #[test]
    fn a_greedy_choice_is_undone_where_that_pairs_more() {
        let left = [span("A", 0, 10), span("A", 0, 3)];
        let right = [span("A", 1, 3), span("A", 5, 9)];
        assert_eq!(overlapping(&left, &right), [Some(1), Some(0)]);
    }

    #[test]
    fn labels_differ_and_neighbours_do_not_overlap() {
        assert_eq!(overlapping(&[span("A", 0, 5)], &[span("B", 0, 5), span("A", 5, 9)]), [None]);
    }

    #[test]
    fn one_that_stands_twice_needs_two_partners() {
        let twice = [span("A", 0, 5), span("A", 0, 5)];
        assert_eq!(count(&exact(&twice, &twice[..1])), 1);
        assert_eq!(count(&overlapping(&twice, &twice)), 2);
    }

    #[test]
    fn ten_thousand_spans_in_a_chain_are_paired() {
        let left: Vec<_> = (0..10_000).map(|n| span("A", 10 * n, 10 * n + 8)).collect();
        let right: Vec<_> = (0..10_000).map(|n| span("A", 10 * n + 5, 10 * n + 12)).collect();
        assert_eq!(count(&overlapping(&left, &right)), 10_000);
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let one = (0u32..2, 0u32..20, 1u32..8);
        proptest::collection::vec(one.prop_map(|(l, s, n)| span(["A", "B"][l as usize], s, s + n)), 0..6)
    }

    proptest! {
        #[test]
        fn pairs_are_real_and_as_many_as_can_be_from_either_side(left in spans(), right in spans()) {
            for (partners, equal) in [(exact(&left, &right), true), (overlapping(&left, &right), false)] {
                let mut seen = std::collections::BTreeSet::new();
                for (l, r) in partners.iter().enumerate().filter_map(|(l, r)| r.map(|r| (l, r))) {
                    prop_assert!(seen.insert(r), "one partner each");
                    prop_assert_eq!(&left[l].label, &right[r].label);
                    prop_assert!(left[l].overlaps(&right[r]) && (!equal || left[l] == right[r]));
                }
            }
            prop_assert_eq!(count(&exact(&left, &right)), count(&exact(&right, &left)));
            prop_assert_eq!(count(&overlapping(&left, &right)), count(&overlapping(&right, &left)));
            prop_assert_eq!(count(&overlapping(&left, &right)), most(&left, &right, 0));
            let kept = exact(&left, &right).iter().zip(overlapping(&left, &right)).all(|(e, o)| e.is_none() || o.is_some());
            prop_assert!(kept, "what is right exactly is right by overlap");
        }
    }
}

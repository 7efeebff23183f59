use proptest::prelude::*;

use super::{
    model::{Run, Server, run},
    *,
};

fn auto(server: &Server, pages: usize, seed: u64) -> Run {
    run(server, Controller::auto(CAP), pages, seed)
}

#[test]
fn four_slots_are_found_and_kept_busy() {
    let done = auto(&Server::default(), 1000, 1);
    assert!(done.busy() >= 0.985, "{}", done.busy());
    let most = done.in_flight[100..].iter().max().unwrap();
    assert!(*most <= 10, "{most}");
    let settled = done.limits[100..].iter().all(|limit| (5..=6).contains(limit));
    assert!(settled, "{:?}", &done.limits[..200]);
}

/// 8, then 2 from the 500th answer on, then 8 again from the 1,000th.
fn changing(answered: usize) -> usize {
    if (500..1000).contains(&answered) { 2 } else { 8 }
}

#[test]
fn slots_that_go_and_come_are_followed() {
    for seed in 0..20 {
        let server = Server { slots: changing, sigma: 0.5, ..Server::default() };
        let done = auto(&server, 1500, seed);
        assert!(done.busy() >= 0.95, "{seed}: {}", done.busy());
        for (from, to, slots) in [(60, 500, 8), (560, 1000, 2), (1060, 1500, 8)] {
            let out: Vec<_> = done.limits[from..to]
                .iter()
                .filter(|limit| !(slots..=2 * slots + 2).contains(*limit))
                .collect();
            assert!(out.is_empty(), "{seed}: {slots} slots, {out:?}");
        }
    }
}

/// Of what the best of all fixed limits reaches.
fn share_of_best(server: &Server, pages: usize, seed: u64) -> f64 {
    let took = |limit| run(server, Controller::fixed(limit), pages, seed).took;
    let best = (1..=20).map(took).min().unwrap();
    best as f64 / auto(server, pages, seed).took as f64
}

#[test]
fn a_server_that_slows_gives_its_most() {
    type Curve = fn(usize) -> f64;
    let curves: [(&str, Curve); 6] = [
        ("half at six", |with| 1.0 + ((with - 1) as f64 / 6.0).powi(2)),
        ("a tenth each", |with| 1.0 + 0.1 * (with - 1) as f64),
        ("half each", |with| 1.0 + 0.5 * (with - 1) as f64),
        ("root", |with| (with as f64).sqrt()),
        ("no gain at all", |with| with as f64),
        ("worse beyond six", |with| 1.0 + (with as f64 / 6.0).powi(2)),
    ];
    for (name, slows) in curves {
        for (sigma, slots) in
            [(0.0, (|_| 8) as fn(usize) -> usize), (0.3, |_| 8), (0.3, |_| 16), (0.0, |_| 32)]
        {
            let server = Server { slots, slows, sigma, ..Server::default() };
            let mut shares: Vec<f64> = (0..5).map(|seed| share_of_best(&server, 2000, seed)).collect();
            shares.sort_by(f64::total_cmp);
            let least = if sigma > 0.0 { 0.95 } else { 0.97 };
            assert!(shares[2] >= least, "{name}, {sigma}, {} slots: {shares:?}", slots(0));
        }
    }
}

#[test]
fn tokens_that_tell_nothing_of_the_time_do_not_mislead() {
    let slows = |with| 1.0 + ((with - 1) as f64 / 6.0).powi(2);
    let server = Server { slots: |_| 64, slows, tokens_vary: 90, ..Server::default() };
    for seed in 0..5 {
        let share = share_of_best(&server, 1000, seed);
        assert!(share >= 0.97, "{seed}: {share}");
    }
}

#[test]
fn without_a_word_of_durations_throughput_alone_leads() {
    let server = Server { says_timing: false, ..Server::default() };
    assert!(share_of_best(&server, 1000, 1) >= 0.97);
}

#[test]
fn a_fixed_limit_stays_and_a_server_that_turns_requests_off_is_spared() {
    let fixed = run(&Server::default(), Controller::fixed(3), 100, 1);
    assert!(fixed.limits.iter().all(|limit| *limit == 3));
    let mut controller = Controller::auto(CAP);
    let sample = Sample {
        sent: Duration::ZERO,
        answered: Duration::from_secs(1),
        in_flight: 1,
        timing: None,
        tokens: 1,
    };
    assert_eq!(controller.answered(&sample), Some(Move { limit: 4, reason: Reason::NoQueue }));
    let at = Duration::from_secs(2);
    assert_eq!(controller.turned_off(at), Some(Move { limit: 2, reason: Reason::TurnedOff }));
    assert_eq!(controller.answered(&sample), None, "it was sent before the move");
}

#[test]
fn no_service_time_at_all_is_no_reason_to_creep() {
    let server = Server { slots: |_| 1000, service: 0.0, ..Server::default() };
    let done = auto(&server, 5000, 1);
    assert!(*done.limits.last().unwrap() >= 16, "{:?}", done.limits.last());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_server_is_kept_busy_within_the_cap(
        slots in 1usize..33, service in 5_000u32..200_000, sigma in 0.0..0.8, way in 100u64..4_000, seed in any::<u64>(),
    ) {
        // A function pointer carries no number: the slots go by the table.
        const TABLE: [fn(usize) -> usize; 6] = [|_| 1, |_| 2, |_| 3, |_| 7, |_| 16, |_| 31];
        let server = Server { slots: TABLE[slots % 6], service: f64::from(service), sigma, way, ..Server::default() };
        let there = TABLE[slots % 6](0);
        let done = auto(&server, 200 + 100 * there, seed);
        prop_assert!(done.limits.iter().all(|limit| *limit <= CAP));
        // Of 6,000 servers the least busy one came to 0.884.
        prop_assert!(done.busy_while_fed() >= 0.87, "{} {there}", done.busy_while_fed());
    }
}

//! What the simulator is to be like, as flags; and the draws that follow from its seed. Pure.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::slots::Change;

/// The server's speed and its misfortunes.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// Requests worked on at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub slots: u32,
    /// Another number of slots after N answers (300:2; 40:0 holds what comes then) or a time after the first request
    /// (5s:2); in order.
    #[arg(long = "then", value_name = "WHEN:SLOTS")]
    pub changes: Vec<Change>,
    /// Time of a request alone on the server; the median where --sigma is set. 0: none, and no queue.
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    pub service_ms: f64,
    /// Log-normal service times, with this sigma of their logarithm.
    #[arg(long, value_name = "SIGMA", default_value_t = 0.0)]
    pub sigma: f64,
    /// Each request slows as slots fill: with 1 + N active each has half its speed.
    #[arg(long, value_name = "N")]
    pub slowdown: Option<f64>,
    /// Share of the requests that meet a fault, each kind equally often.
    #[arg(long = "faults", value_name = "SHARE", default_value_t = 0.0)]
    pub fault_share: f64,
    /// Of these kinds alone.
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub fault_kinds: Vec<Fault>,
    /// A request that hangs has its connection closed after so long; without it, never.
    #[arg(long, value_name = "MS")]
    pub hang_ms: Option<u64>,
    /// Characters of the answer in one line: Ollama sends one a token.
    #[arg(long, value_name = "CHARS", default_value_t = 4)]
    pub delta: usize,
    /// Write each body that comes for the first time here, a line each (some thousands at most).
    #[arg(long, value_name = "FILE")]
    pub keep_bodies: Option<PathBuf>,
    /// Of service times and faults.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
}

/// What goes wrong with a request.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// 500: the model runner has unexpectedly stopped
    #[value(name = "500")]
    #[serde(rename = "500")]
    Status500,
    /// 503: server busy
    #[value(name = "503")]
    #[serde(rename = "503")]
    Status503,
    /// It takes a slot and says nothing
    Hang,
    /// Half an answer, done_reason length
    CutJson,
    /// A whole answer that is no JSON
    Garbage,
    /// Words of the answer, then an error under 200
    MidStream,
    /// The stream ends without done
    NoDone,
    /// White space until num_predict
    Whitespace,
    /// A proxy's web page
    Html,
}

/// A page that holds this and the name of a fault meets it in every request.
pub const ALWAYS: &str = "sim-always-";

impl Plan {
    fn kinds(&self) -> &[Fault] {
        if self.fault_kinds.is_empty() { Fault::value_variants() } else { &self.fault_kinds }
    }

    /// The fault that every request about a page meets.
    pub fn always(page: &str) -> Option<Fault> {
        let (_, name) = page.split_once(ALWAYS)?;
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(name.len());
        Fault::from_str(&name[..end], false).ok()
    }

    /// The fault of the `nth` request about a page: the same in whatever order the pages come.
    pub fn fault(&self, page: u64, nth: u32) -> Option<Fault> {
        if self.fault_share <= 0.0 {
            return None;
        }
        let drawn = mix(self.seed ^ mix(page) ^ mix(u64::from(nth) + 1));
        let kinds = self.kinds();
        let kind = kinds[usize::try_from(mix(drawn)).unwrap_or(0) % kinds.len()];
        (unit(drawn) < self.fault_share).then_some(kind)
    }

    /// Nanoseconds that the `nth` request needs, alone on the server.
    pub fn work(&self, nth: u64) -> f64 {
        let median = self.service_ms * 1e6;
        if self.sigma <= 0.0 {
            return median;
        }
        let drawn = mix(self.seed.wrapping_add(mix(nth)));
        // Box and Muller: a normal draw of two even ones.
        let normal =
            (-2.0 * unit(drawn).max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * unit(mix(drawn))).cos();
        median * (self.sigma * normal).exp()
    }

    pub fn hang(&self) -> Option<Duration> {
        self.hang_ms.map(Duration::from_millis)
    }
}

/// Evenly in 0..1.
fn unit(drawn: u64) -> f64 {
    (drawn >> 11) as f64 / (1u64 << 53) as f64
}

/// Every bit of the result hangs on every bit of the input (splitmix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Tells bodies and pages apart, at memory speed.
pub fn digest(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = mix(bytes.len() as u64);
    for word in words {
        state = (state ^ u64::from_le_bytes(*word)).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state ^ u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        plan: Plan,
    }

    fn plan(args: &[&str]) -> Plan {
        Flags::parse_from([&["sim"], args].concat()).plan
    }

    #[test]
    fn faults_have_their_share_and_every_kind_its_part() {
        let plan = plan(&["--faults", "0.2"]);
        let drawn: Vec<_> = (0..9000).filter_map(|page| plan.fault(page, 0)).collect();
        assert!((1600..2000).contains(&drawn.len()), "{}", drawn.len());
        for kind in Fault::value_variants() {
            let part = drawn.iter().filter(|fault| *fault == kind).count();
            assert!((140..260).contains(&part), "{kind:?}: {part}");
        }
        assert_eq!(plan.fault(7, 1), plan.fault(7, 1));
    }

    #[test]
    fn service_times_have_their_median() {
        let plan = plan(&["--service-ms", "50", "--sigma", "0.6"]);
        let mut works: Vec<_> = (0..4001).map(|nth| plan.work(nth) / 1e6).collect();
        works.sort_by(f64::total_cmp);
        assert!((48.0..52.0).contains(&works[2000]), "{}", works[2000]);
        assert!((90.0..105.0).contains(&works[4000 * 84 / 100]), "e^0.6 times the median at one sigma");
    }

    #[test]
    fn a_page_may_ask_for_its_fault() {
        assert_eq!(Plan::always("a sim-always-garbage b"), Some(Fault::Garbage));
        assert_eq!(Plan::always("sim-always-500"), Some(Fault::Status500));
        assert_eq!(Plan::always("sim-always-x, IMO 1"), None);
    }

    #[test]
    fn digests_differ() {
        let texts = ["", "a", "aaaaaaaa", "aaaaaaaab", "baaaaaaaa", "\0", "\0\0"];
        let mut digests: Vec<_> = texts.iter().map(|text| digest(text.as_bytes())).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), texts.len());
    }
}

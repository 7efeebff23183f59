//! What texts cost in tokens, learned from the server's own counts, and how long an answer may take. Pure.
//!
//! A model's tokenizer is not at hand. The densest prompt seen bounds what a piece may hold from above, the sparsest
//! one tells when a server read less than it was sent.

use std::time::Duration;

use super::transport::Completion;

/// Bytes of a token before anything was counted: few, and many.
const DENSEST: f64 = 3.0;
const SPARSEST: f64 = 12.0;
/// A count below this share of the least expected one is of a prompt that was cut.
const CUT: f64 = 0.6;
/// Prompts counted before a count is doubted.
const LEARNED_FROM: u32 = 8;
/// No answer is given up sooner.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);
/// How much longer than expected an answer may take.
const PATIENCE: f64 = 4.0;

#[derive(Debug, Clone, Copy)]
pub struct Learned {
    prompts: u32,
    /// Bytes a token: of the densest prompt and of the sparsest.
    densest: f64,
    sparsest: f64,
    /// Seconds a token of the slowest answer, and of the longest wait; both fade.
    token_seconds: f64,
    longest: f64,
}

impl Default for Learned {
    fn default() -> Self {
        Self { prompts: 0, densest: DENSEST, sparsest: 0.0, token_seconds: 0.0, longest: 0.0 }
    }
}

impl Learned {
    /// Takes an answer about a prompt of `bytes` into account, that took `wall`.
    pub fn take(&mut self, bytes: usize, completion: &Completion, wall: Duration) {
        self.counted(bytes, completion.prompt_tokens);
        let fading = |longest: f64, now: f64| now.max(longest * 0.99 + now * 0.01);
        self.longest = fading(self.longest, wall.as_secs_f64());
        let tokens = completion.output_tokens.filter(|tokens| *tokens > 0);
        if let (Some(timing), Some(tokens)) = (completion.timing, tokens) {
            let each = timing.served.as_secs_f64() / tokens as f64;
            self.token_seconds = fading(self.token_seconds, each);
        }
    }

    /// Takes the count of a prompt alone, as far as there is one.
    pub fn counted(&mut self, bytes: usize, tokens: Option<u64>) {
        if let Some(tokens) = tokens.filter(|tokens| *tokens > 0) {
            let each = bytes as f64 / tokens as f64;
            self.densest = self.densest.min(each);
            self.sparsest = self.sparsest.max(each);
            self.prompts = self.prompts.saturating_add(1);
        }
    }

    /// Tokens of a prompt, at most, as far as is known.
    pub fn most(&self, bytes: usize) -> usize {
        (bytes as f64 / self.densest).ceil() as usize
    }

    /// Whether a server that counted `tokens` for a prompt of `bytes` has read all of it.
    pub fn is_whole(&self, bytes: usize, tokens: u64) -> bool {
        let sparsest = if self.prompts < LEARNED_FROM { SPARSEST } else { self.sparsest };
        tokens == 0 || tokens as f64 >= bytes as f64 / sparsest * CUT
    }

    /// How long to wait for an answer of up to `tokens`, its time in the server's queue included.
    pub fn patience(&self, tokens: u32, most: Duration) -> Duration {
        if self.longest <= 0.0 {
            return most;
        }
        let expected = self.longest + self.token_seconds * f64::from(tokens);
        most.min(LEAST_PATIENCE.max(Duration::from_secs_f64((expected * PATIENCE).min(1e9))))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::controller::Timing, *};

    fn answer(prompt_tokens: u64) -> Completion {
        let served = Duration::from_secs(2);
        let timing = Timing { total: served, load: Duration::ZERO, served };
        Completion {
            prompt_tokens: Some(prompt_tokens),
            output_tokens: Some(100),
            timing: Some(timing),
            ..Completion::default()
        }
    }

    #[test]
    fn a_dense_script_is_learned_and_a_short_count_is_doubted() {
        let mut learned = Learned::default();
        assert_eq!(learned.most(3000), 1000);
        assert!(!learned.is_whole(12_000, 500), "no tokenizer is that good");
        for _ in 0..LEARNED_FROM {
            learned.take(3000, &answer(750), Duration::from_secs(3));
        }
        assert_eq!(learned.most(3000), 1000, "sparser than feared: pieces stay as they were");
        assert!(learned.is_whole(12_000, 3000) && !learned.is_whole(12_000, 1500));
        assert!(learned.is_whole(12_000, 0), "it did not say");
        learned.take(3000, &answer(2000), Duration::from_secs(3));
        assert_eq!(learned.most(3000), 2000);
    }

    #[test]
    fn patience_hangs_on_the_servers_speed() {
        let most = Duration::from_secs(600);
        let mut learned = Learned::default();
        assert_eq!(learned.patience(2000, most), most);
        learned.take(1, &answer(1), Duration::from_secs(5));
        assert_eq!(learned.patience(2000, most), Duration::from_secs(180), "4 * (5 + 2000 / 50)");
        assert_eq!(learned.patience(100_000, most), most);
        let mut quick = Learned::default();
        quick.take(1, &Completion::default(), Duration::from_millis(1));
        assert_eq!(quick.patience(2000, most), LEAST_PATIENCE);
    }
}

//! A piece of page to its spans: from the journal, from one that is alike, or from the model; in halves where it is too
//! large.
//!
//! What came of it is kept whatever it was, but for a failure: so a page that is done again, here or in another batch,
//! makes no request; neither for what was halved, nor for what was saved of a cut answer.

use futures::{FutureExt, future::BoxFuture};

use super::{
    INTERNAL_ERROR, PageResult,
    answer::{self, Answered, Read},
    near,
    ollama::OllamaEngine,
    on_rayon,
};
use crate::{
    batch::Meter,
    chunk::{Chunk, halves},
    infer::{Class, Completion, Decision, InferError, Tries},
    journal::{Kept, Worth},
};

/// How often a piece that is too large is halved: by then it is an eighth.
const MAX_HALVINGS: u32 = 3;

/// As an answer that the token limit cut.
const TRUNCATED: &str = "output_truncated";

/// What came of asking about a piece.
enum Asked {
    Answered(Answered, Completion),
    /// To be asked about in halves, so often; with the answer as far as it came.
    Halve {
        times: u32,
        reason: &'static str,
        partial: Completion,
    },
    Failed(&'static str),
}

impl OllamaEngine {
    /// `halved`: how often what it is a piece of was.
    pub(super) fn piece<'a>(
        &'a self,
        piece: Chunk,
        halved: u32,
        meter: &'a Meter,
    ) -> BoxFuture<'a, Result<PageResult, InferError>> {
        let done = async move {
            let mut turn = self.asker().turn(&piece.text).await;
            let mut result = PageResult::default();
            let mut known = self.asker().recall(&piece.text, turn.as_ref(), meter).await;
            if let Some(kept) = known.take_if(|kept| kept.worth != Worth::Halves)
                && let Some(answered) = self.again(&kept, &piece.text, meter).await
            {
                result.spend(&kept);
                result.take(&piece, answered);
                return Ok(result);
            }
            if known.is_some() || (halved < MAX_HALVINGS && !self.asker().fits(&piece.text)) {
                let halves = halves(&piece);
                if halves.len() > 1 {
                    let known_before = known.is_some();
                    let kept = known.unwrap_or(Kept { worth: Worth::Halves, ..Kept::default() });
                    result.spend(&kept);
                    let result = self.in_halves(result, halves, halved, meter).await?;
                    if result.failed.is_none() && !known_before {
                        self.asker().keep(turn.as_mut(), kept, meter).await;
                    }
                    return Ok(result);
                }
            }
            let asked = self.ask(&piece.text, meter, &mut result).await?;
            let (prompt_tokens, output_tokens) = (result.prompt_tokens, result.output_tokens);
            let kept = |worth, completion| Kept { worth, completion, prompt_tokens, output_tokens };
            let (kept, failed) = match asked {
                Asked::Answered(answered, completion) => {
                    result.take(&piece, answered);
                    (kept(Worth::Whole, completion), None)
                }
                Asked::Failed(reason) => (Kept::default(), Some(reason)),
                Asked::Halve { times, reason, partial } => {
                    let halves = if halved < times { halves(&piece) } else { Vec::new() };
                    if halves.len() > 1 {
                        result = self.in_halves(result, halves, halved, meter).await?;
                        (kept(Worth::Halves, Completion::default()), result.failed)
                    } else {
                        match self.save(partial.clone(), &piece.text, meter).await {
                            Some(answered) => {
                                result.take(&piece, answered);
                                (kept(Worth::Saved, partial), None)
                            }
                            None => (Kept::default(), Some(reason)),
                        }
                    }
                }
            };
            match failed {
                Some(_) => result.failed = failed,
                None => self.asker().keep(turn.as_mut(), kept, meter).await,
            }
            Ok(result)
        };
        done.boxed()
    }

    async fn in_halves(
        &self,
        mut result: PageResult,
        halves: Vec<Chunk>,
        halved: u32,
        meter: &Meter,
    ) -> Result<PageResult, InferError> {
        for half in halves {
            result.add(self.piece(half, halved + 1, meter).await?);
            if result.failed.is_some() {
                break;
            }
        }
        Ok(result)
    }

    /// Asks until there is an answer, or none is to be had.
    async fn ask(&self, text: &str, meter: &Meter, spent: &mut PageResult) -> Result<Asked, InferError> {
        self.asker().warm_up(meter).await?;
        self.asker().begins();
        let mut tries = Tries::default();
        loop {
            let mut broken = Completion::default();
            let error = match self.asker().ask(text, &mut tries, meter, spent).await {
                Ok((completion, _under_way)) => {
                    match self.read(completion, text, meter).await {
                        Some(Read::Whole(answered, completion)) => {
                            return Ok(Asked::Answered(answered, completion));
                        }
                        Some(Read::Full(partial)) => {
                            return Ok(Asked::Halve { times: MAX_HALVINGS, reason: TRUNCATED, partial });
                        }
                        Some(Read::Broken(answer)) => broken = answer,
                        None => return Ok(Asked::Failed(INTERNAL_ERROR)),
                    }
                    InferError::Garbage {
                        detail: "its content is not the JSON that was asked for".to_owned(),
                    }
                }
                Err(error) => error,
            };
            if error.class_in_batch() == Class::Fatal {
                return Err(error);
            }
            match self.asker().decide(&error, &mut tries) {
                Decision::RetryAfter(pause) => tokio::time::sleep(pause).await,
                Decision::GiveUp => return Ok(given_up(error, broken)),
            }
        }
    }

    /// What was found before, found again: no request, no time.
    async fn again(&self, kept: &Kept, text: &str, meter: &Meter) -> Option<Answered> {
        match kept.worth {
            Worth::Halves => None,
            Worth::Saved => self.save(kept.completion.clone(), text, meter).await,
            Worth::Whole => match self.read(kept.completion.clone(), text, meter).await? {
                Read::Whole(answered, _) => Some(answered),
                Read::Broken(_) | Read::Full(_) => None,
            },
        }
    }

    /// None when the work panicked.
    async fn read(&self, answer: Completion, text: &str, meter: &Meter) -> Option<Read> {
        let (labelset, text) = (self.labelset().clone(), text.to_owned());
        let bytes = answer.content.len() + text.len();
        let read = near(bytes, move || answer::read(answer, &text, &labelset)).await.ok()?;
        if let Read::Whole(answered, _) = &read {
            meter.repaired(&answered.repairs);
        }
        Some(read)
    }

    async fn save(&self, answer: Completion, text: &str, meter: &Meter) -> Option<Answered> {
        let (labelset, text) = (self.labelset().clone(), text.to_owned());
        let saved = on_rayon(move || answer::save(&answer, &text, &labelset)).await.ok().flatten()?;
        meter.repaired(&saved.repairs);
        meter.salvaged(saved.mentions());
        Some(saved)
    }
}

impl PageResult {
    /// The tokens that it cost when it was asked.
    fn spend(&mut self, kept: &Kept) {
        self.prompt_tokens += kept.prompt_tokens;
        self.output_tokens += kept.output_tokens;
    }
}

fn given_up(error: InferError, broken: Completion) -> Asked {
    let reason = error.reason();
    match (error.class(), error) {
        (_, InferError::AnswerCut { partial }) => {
            Asked::Halve { times: MAX_HALVINGS, reason, partial: partial.into_completion() }
        }
        (Class::TooLarge, _) => Asked::Halve { times: MAX_HALVINGS, reason, partial: Completion::default() },
        // Another seed did not help; of what fails so, a half seldom does where both halves do not.
        (Class::BadAnswer, _) => Asked::Halve { times: 1, reason, partial: broken },
        _ => Asked::Failed(reason),
    }
}

//! One model on one Ollama server, as a batch asks it: at the server's pace, and only while it is there.
//!
//! ```text
//! warm_up (once) ─► ask: wait while it is away ─► permit ─► rates ─► chat ─► learn, tell the controller and the breaker
//!                              └─► probe (one for all)
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::{sync::OnceCell, time};

use super::{PageResult, Server, alike::Turn};
use crate::{
    batch::Meter,
    config::EngineConfig,
    infer::{
        Class, Client, Completion, Decision, InferError, Lane, Learned, RequestTemplate, RetryBudget,
        RetryPolicy, Tries, UnderWay, digest, loaded_context, version,
    },
    journal::{Kept, Witness},
    metrics::METRICS,
    prompt::Prompt,
};

/// What a server that is to be shown to work is asked: a page that any model reads at once.
const WARM_UP: &str = "IMO No.: 9074729";

/// What a server that is asked one question for all may take at least: it may have to load the model. Twice as long when
/// that was too short.
const TO_LOAD: Duration = Duration::from_secs(60);

/// Between two looks which model a server has that is away.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Of a batch that has no other, in the range that clients may ask for.
pub const DEFAULT_WEIGHT: u32 = 10;

#[derive(Debug)]
pub(super) struct Asker {
    pub client: Client,
    pub template: RequestTemplate,
    prompt: Prompt,
    server: Server,
    /// This batch's claim on the server's slots.
    pub lane: Lane,
    retry: RetryPolicy,
    budget: RetryBudget,
    learned: Mutex<Learned>,
    /// How the warm-up ended: a page that comes later learns of it, and does not try again.
    warm: OnceCell<Result<(), InferError>>,
    /// Of its answers, for the journal.
    witness: Witness,
}

impl Asker {
    pub fn new(
        client: Client,
        template: RequestTemplate,
        prompt: Prompt,
        config: &EngineConfig,
        server: Server,
        digest: &str,
    ) -> Self {
        Self {
            witness: witness(&client, &template.params().model, digest),
            client,
            template,
            prompt,
            lane: server.limiter.lane(DEFAULT_WEIGHT),
            server,
            retry: config.retry,
            budget: RetryBudget::default(),
            learned: Mutex::default(),
            warm: OnceCell::new(),
        }
    }

    pub fn most_at_once(&self) -> usize {
        self.server.limiter.cap() as usize
    }

    /// Loads the model, sees that it takes the schema and has the context that was asked for: once a batch, and
    /// not before something is to be asked.
    pub async fn warm_up(&self, meter: &Meter) -> Result<(), InferError> {
        if let Some(ended) = self.warm.get() {
            return ended.clone();
        }
        let warm = async {
            let mut tries = Tries::default();
            let mut spent = PageResult::default();
            while let Err(error) = self.ask(WARM_UP, &mut tries, meter, &mut spent).await {
                // A proxy that refuses the first request refuses all: its class in a batch is for later.
                match error.class() {
                    Class::Fatal => return Err(error),
                    // It answered as it was asked to; what is no use will show page by page.
                    Class::BadAnswer | Class::TooLarge => break,
                    _ => match self.retry.decide(&error, &mut tries, rand::random) {
                        Decision::RetryAfter(pause) => time::sleep(pause).await,
                        Decision::GiveUp => return Err(error),
                    },
                }
            }
            self.check_loaded(meter).await
        };
        self.warm.get_or_init(|| warm).await.clone()?;
        meter.moved(self.server.limiter.now());
        Ok(())
    }

    async fn check_loaded(&self, meter: &Meter) -> Result<(), InferError> {
        let params = self.template.params();
        // Some proxies let nothing but chats through.
        let Ok(Some((loaded, context))) = loaded_context(&self.client, &params.model).await else {
            return Ok(());
        };
        meter.loaded(loaded);
        if !loaded.on_gpu() {
            let (vram, size) = (loaded.size_vram_bytes, loaded.size_bytes);
            tracing::warn!(
                model = params.model,
                vram,
                size,
                "the model is not all on a GPU: it will be slow"
            );
        }
        match context.filter(|context| *context > 0 && *context < u64::from(params.num_ctx)) {
            Some(context_length) => Err(InferError::NumCtxTooLarge {
                model: params.model.clone(),
                num_ctx: params.num_ctx,
                context_length,
            }),
            None => Ok(()),
        }
    }

    /// Whether a piece fits the window beside its answer, as far as was learned from the server's counts.
    pub fn fits(&self, text: &str) -> bool {
        let params = self.template.params();
        let prompt = self.learned().most(self.bytes(text));
        prompt + (params.num_predict as usize) < params.num_ctx as usize
    }

    /// Waits for pieces that are alike; None without a journal.
    pub async fn turn(&self, text: &str) -> Option<Turn> {
        self.server.journal.as_ref()?;
        Some(self.server.alike.turn(self.template.key(&self.prompt.user(text))).await)
    }

    /// What is known about a piece: from the one ahead, or from the journal.
    pub async fn recall(&self, text: &str, turn: Option<&Turn>, meter: &Meter) -> Option<Kept> {
        let (journal, turn) = (self.server.journal.as_ref()?, turn?);
        let kept = match turn.found() {
            Some(kept) => kept,
            None => journal.recall(turn.key()).await?,
        };
        self.learned().counted(self.bytes(text), kept.completion.prompt_tokens);
        meter.replayed();
        Some(kept)
    }

    /// Keeps what came of a piece, for the journal and for those behind.
    pub async fn keep(&self, turn: Option<&mut Turn>, kept: Kept, meter: &Meter) {
        let (Some(journal), Some(turn)) = (&self.server.journal, turn) else { return };
        turn.tell(&kept);
        journal.keep(turn.key(), kept, &self.witness).await;
        meter.journal_off(journal.trouble().unwrap_or_default());
    }

    /// A first try is not yet a retry.
    pub fn begins(&self) {
        self.budget.asked();
    }

    /// What to do after a failed try.
    pub fn decide(&self, error: &InferError, tries: &mut Tries) -> Decision {
        match self.retry.decide(error, tries, rand::random) {
            Decision::RetryAfter(_) if !self.server.breaker.is_open() && !self.budget.take() => {
                Decision::GiveUp
            }
            decision => decision,
        }
    }

    /// One request about a piece of page. A drain waits until what comes with the answer is dropped.
    pub async fn ask(
        &self,
        text: &str,
        tries: &mut Tries,
        meter: &Meter,
        spent: &mut PageResult,
    ) -> Result<(Completion, UnderWay), InferError> {
        let params = self.template.params();
        let bytes = self.bytes(text);
        let body = self.template.body(&self.prompt.user(text), tries.bad_answers());
        let tokens = self.learned().most(bytes);
        let (permit, under_way) = loop {
            if self.server.breaker.is_open() {
                self.wait_until_there(meter).await?;
                // What failed while the server went away says nothing about the page.
                tries.forgive();
            }
            self.server.breaker.until_wanted().await;
            let (mut permit, under_way) = self.lane.permit().await;
            permit.pace(tokens + params.num_predict as usize / 4).await;
            // It may have gone while this one waited for its turn.
            if !self.server.breaker.is_open() && self.server.breaker.held().is_none() {
                break (permit, under_way);
            }
        };
        let most = self.client.patience();
        // By what was learned while this one waited, too.
        let patience = tries.patience(self.learned().patience(params.num_predict, most), most);
        let in_flight = meter.request(tries.sent > 0);
        tries.sent += 1;
        spent.attempts += 1;
        let begun = Instant::now();
        let answer = self.client.chat_within(patience, body, params).await;
        let wall = begun.elapsed();
        spent.latency += wall;
        drop(in_flight);
        // One that was cut at num_predict took its slot and its tokens like any other.
        let counted = match &answer {
            Ok(completion) => Some(completion),
            Err(InferError::AnswerCut { partial }) => Some(partial.completion()),
            Err(_) => None,
        };
        let moved = if let Some(completion) = counted {
            self.server.breaker.answered();
            meter.answered();
            let count = |tokens: Option<u64>| tokens.unwrap_or(0);
            let (read, written) = (count(completion.prompt_tokens), count(completion.output_tokens));
            METRICS.tokens(read, written);
            spent.prompt_tokens += read;
            spent.output_tokens += written;
            self.learned().take(bytes, completion, wall);
            permit.answered(completion)
        } else if let Err(error) = &answer {
            if matches!(error, InferError::TimedOut { .. }) {
                tries.late();
            }
            let struck = self.server.breaker.failed(error);
            match struck.is_open || struck.is_held {
                true => meter.waiting(error),
                // Badly answered is answered.
                false if struck.strikes == 0 => meter.answered(),
                false => {}
            }
            let turned_off = matches!(error, InferError::Busy { .. }) && struck.strikes > 2;
            if turned_off { permit.turned_off() } else { None }
        } else {
            None
        };
        if let Err(error) = &answer {
            METRICS.failure(error.reason());
        }
        if let Some(moved) = moved {
            METRICS.moved(moved);
        }
        // Another batch's answer may have moved it.
        meter.moved(self.server.limiter.now());
        let completion = answer?;
        let counted = completion.prompt_tokens.unwrap_or(0);
        if !self.learned().is_whole(bytes, counted) {
            return Err(InferError::PromptCut { prompt_tokens: counted, num_ctx: u64::from(params.num_ctx) });
        }
        Ok((completion, under_way))
    }

    /// Probes a server that is away; one of all that wait does.
    async fn wait_until_there(&self, meter: &Meter) -> Result<(), InferError> {
        let tries = Mutex::default();
        let pause = |failed| self.retry.probe_pause(failed, rand::random());
        let probe = || async { self.probe(&tries, meter).await.inspect_err(|error| meter.waiting(error)) };
        self.server.breaker.wait(pause, probe).await?;
        meter.answered();
        Ok(())
    }

    /// One question to a server that is away. `tries`: those that it did not answer in time.
    async fn probe(&self, tries: &Mutex<Tries>, meter: &Meter) -> Result<(), InferError> {
        match version(&self.client).await {
            Ok(_) => meter.trying(&format!(
                "the model server at {} is there again: it is asked one question before all others, and may have to \
                 load the model first",
                self.client.url()
            )),
            Err(error @ InferError::Unreachable { .. }) => return Err(error),
            // Some proxies let nothing but chats through.
            Err(_) => {}
        }
        let params = self.template.params();
        let (body, bytes) = (self.template.body(&self.prompt.user(WARM_UP), 0), self.bytes(WARM_UP));
        let most = self.client.patience();
        let learned = self.learned().patience(params.num_predict, most);
        // A number alone: a panic leaves it sound.
        let tries = || tries.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = tries().patience(learned.max(TO_LOAD), most);
        let begun = Instant::now();
        let answer = self.client.chat_within(patience, body, params).await;
        match &answer {
            // The server may be slower than it was.
            Ok(completion) => self.learned().take(bytes, completion, begun.elapsed()),
            Err(InferError::TimedOut { .. }) => tries().late(),
            Err(_) => {}
        }
        answer.map(drop)
    }

    /// The model's digest now; waits for a server that is away.
    pub async fn digest(&self, meter: &Meter) -> Result<String, InferError> {
        let mut tries = Tries::default();
        loop {
            let error = match digest(&self.client, &self.template.params().model).await {
                Ok(digest) => break Ok(digest),
                Err(error) => error,
            };
            if error.class_in_batch() == Class::Fatal {
                break Err(error);
            }
            meter.waiting(&error);
            // The pages are done, and must not be lost for this: it has no end.
            let pause = match self.retry.decide(&error, &mut tries, rand::random) {
                Decision::RetryAfter(pause) => pause,
                Decision::GiveUp => self.retry.cap,
            };
            time::sleep(pause).await;
        }
        .inspect(|_| meter.answered())
    }

    fn bytes(&self, text: &str) -> usize {
        self.prompt.system.len() + text.len()
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        // Numbers alone: a panic leaves them sound.
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server still has the model with the digest that a batch began with.
fn witness(client: &Client, model: &str, began_with: &str) -> Witness {
    let all = Arc::new((client.clone(), model.to_owned(), began_with.to_owned()));
    Witness::new(move || {
        let all = all.clone();
        async move {
            let (client, model, began_with) = &*all;
            loop {
                match digest(client, model).await {
                    Ok(now) => return now == *began_with,
                    Err(error) if error.class_in_batch() == Class::Fatal => return false,
                    // It is away: all of its answers wait.
                    Err(_) => time::sleep(LOOK_AGAIN).await,
                }
            }
        }
        .boxed()
    })
}

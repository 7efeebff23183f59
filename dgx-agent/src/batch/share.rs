//! Which parts are done here and when, beside other agents over the same batch.
//!
//! Constraints: a part is begun once its lease is ours and it has no record; parts are begun and committed in their order,
//! a few at a time; a part that another agent has is looked at again until it is committed or free.

use std::{collections::VecDeque, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use proto::{
    docs::{CommitRecord, Counts},
    lease::Holder,
};

use super::{
    BatchError, PartPlan,
    run::{LOOKS, Run},
    survey::Survey,
};

/// Parts under way: one whose pages are asked about, one or two that are committed, and the next one, opened already.
/// So the model server has work while a part is written.
const PARTS: usize = 4;

/// Between two looks at parts that other agents have.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Parts on their way to whoever does them.
struct State<'a> {
    parts: VecDeque<&'a PartPlan>,
    /// Of other agents.
    held: VecDeque<(&'a PartPlan, Holder)>,
    /// All that is left was with others before.
    again: bool,
    /// How many were ours so far.
    index: usize,
    /// What was told of those that others have.
    told: String,
}

/// What is to be done next.
enum Next<'a> {
    /// Ours, and how many of ours come before it.
    Do(usize, &'a PartPlan),
    /// Another agent committed it meanwhile.
    Found(&'a PartPlan, Box<CommitRecord>),
}

impl Run<'_> {
    /// Parts without a record are done, a few at a time and in their order; beside that the others' records are read.
    pub fn work<'a>(
        &'a self,
        parts: &[&'a PartPlan],
        survey: &'a Survey,
    ) -> BoxStream<'a, (&'a PartPlan, Result<Counts, BatchError>)> {
        let (there, missing): (Vec<&PartPlan>, Vec<&PartPlan>) =
            parts.iter().partition(|part| survey.has_commit(part.number));
        let there = stream::iter(there).map(move |part| async move {
            let done = Box::pin(self.committed_part(part, survey)).await;
            (part, done)
        });
        let missing = self.shared(missing.into()).map(move |(part, next)| async move {
            let done = match next {
                Ok(Next::Do(index, part)) => {
                    let done = Box::pin(self.redo(Some(index), part)).await;
                    self.leases.release(part.number).await;
                    // Committed or bad: the next one may be committed. A bad one must not take the turn back.
                    self.turn_of(index).await;
                    self.committed.send_replace(index + 1);
                    done
                }
                Ok(Next::Found(part, record)) => Box::pin(self.accept(part, *record, None)).await,
                Err(error) => Err(error),
            };
            (part, done)
        });
        stream::select(missing.buffered(PARTS), there.buffer_unordered(LOOKS)).boxed()
    }

    /// Waits until so many parts are through.
    pub async fn turn_of(&self, parts: usize) {
        // The sender lives as long as the run.
        let _ = self.committed.subscribe().wait_for(|committed| *committed >= parts).await;
    }

    /// Parts without a record, each when it is ours to do or another agent has done it. Those that others have come last.
    fn shared<'a>(
        &'a self,
        parts: VecDeque<&'a PartPlan>,
    ) -> BoxStream<'a, (&'a PartPlan, Result<Next<'a>, BatchError>)> {
        let state = State { parts, held: VecDeque::new(), again: false, index: 0, told: String::new() };
        let next = move |mut state: State<'a>| async move {
            loop {
                let Some(part) = state.parts.pop_front() else {
                    let (first, holder) = state.held.front()?;
                    let (first, left) = (first.number, state.held.len());
                    state.told = format!("{left} parts are with other agents: part {first} is with {holder}");
                    self.meter.held(&state.told);
                    tokio::time::sleep(LOOK_AGAIN).await;
                    state.parts.extend(state.held.drain(..).map(|(part, _)| part));
                    state.again = true;
                    continue;
                };
                let again = state.again;
                let next = match self.patiently(|| self.look(part, again)).await {
                    Ok(Err(holder)) => {
                        state.held.push_back((part, holder));
                        continue;
                    }
                    Ok(Ok(None)) => {
                        self.meter.no_longer(&std::mem::take(&mut state.told));
                        state.index += 1;
                        Ok(Next::Do(state.index - 1, part))
                    }
                    Ok(Ok(Some(record))) => {
                        self.meter.no_longer(&std::mem::take(&mut state.told));
                        self.leases.release(part.number).await;
                        Ok(Next::Found(part, Box::new(record)))
                    }
                    Err(error) => Err(error),
                };
                return Some(((part, next), state));
            }
        };
        stream::unfold(state, next).boxed()
    }

    /// Its record, or the lease of it, or who has that.
    async fn look(
        &self,
        part: &PartPlan,
        again: bool,
    ) -> Result<Result<Option<CommitRecord>, Holder>, BatchError> {
        // Who had it may have committed it, and not have been able to give the lease back.
        if again && let Some(record) = self.protocol().record(part.number).await? {
            return Ok(Ok(Some(record)));
        }
        if let Some(holder) = self.leases.take(part.number).await? {
            return Ok(Err(holder));
        }
        Ok(Ok(self.protocol().record(part.number).await?))
    }
}

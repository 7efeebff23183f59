//! `preannotate`: jobs of the agent.

use std::time::Instant;

use proto::{
    grpc::{self, SubmitBatchRequest},
    ids::BatchId,
    keys::{BatchKeys, PartKind},
};

use crate::{
    agent::{Agent, Job, JobOutcome, Jobs, Sight},
    cli::{Engine, PriorityArgs, RetryArgs, StatusArgs, SubmitArgs, WatchArgs},
    ctx::Ctx,
    failure::Failure,
    printer::Answer,
    report::Report,
};

pub async fn submit(ctx: &Ctx, args: &SubmitArgs) -> Result<JobOutcome, Failure> {
    let mut agent = Agent::connect(&ctx.settings).await?;
    let (job, created) = agent.submit(asked(args)).await?;
    if !created {
        ctx.printer.note(&format!("batch {} is a job already", args.batch));
    }
    if args.watch { ended(ctx, &mut agent, &args.batch).await } else { Ok(JobOutcome(job.into())) }
}

pub async fn watch(ctx: &Ctx, args: &WatchArgs) -> Result<JobOutcome, Failure> {
    let mut agent = Agent::connect(&ctx.settings).await?;
    ended(ctx, &mut agent, &args.batch).await
}

/// One job, or all.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub enum Status {
    One(Box<Job>),
    All(Jobs),
}

impl Answer for Status {
    fn text(&self) -> String {
        match self {
            Self::One(job) => job.text(),
            Self::All(jobs) => jobs.text(),
        }
    }
}

pub async fn status(ctx: &Ctx, args: &StatusArgs) -> Result<Status, Failure> {
    let mut agent = Agent::connect(&ctx.settings).await?;
    match &args.batch {
        Some(batch) => Ok(Status::One(Box::new(agent.get(batch).await?.into()))),
        None => {
            let jobs = agent.list().await?.into_iter().map(Job::from).collect();
            Ok(Status::All(Jobs { jobs }))
        }
    }
}

pub async fn cancel(ctx: &Ctx, args: &WatchArgs) -> Result<Job, Failure> {
    Ok(Agent::connect(&ctx.settings).await?.cancel(&args.batch).await?.into())
}

pub async fn retry(ctx: &Ctx, args: &RetryArgs) -> Result<Job, Failure> {
    Ok(Agent::connect(&ctx.settings).await?.retry(&args.batch, args.lost).await?.into())
}

pub async fn pause(ctx: &Ctx, args: &WatchArgs) -> Result<Job, Failure> {
    Ok(Agent::connect(&ctx.settings).await?.pause(&args.batch).await?.into())
}

pub async fn resume(ctx: &Ctx, args: &WatchArgs) -> Result<Job, Failure> {
    Ok(Agent::connect(&ctx.settings).await?.resume(&args.batch).await?.into())
}

pub async fn priority(ctx: &Ctx, args: &PriorityArgs) -> Result<Job, Failure> {
    Ok(Agent::connect(&ctx.settings).await?.weigh(&args.batch, args.weight).await?.into())
}

/// Submits and watches: the stage of a pilot. A job that failed before is queued again.
pub async fn annotate(ctx: &Ctx, batch: &BatchId) -> Result<Report, Failure> {
    let start = Instant::now();
    let mut agent = Agent::connect(&ctx.settings).await?;
    let (job, created) = agent.submit(request(batch, None, None)).await?;
    let already_done = !created && job.state() == grpc::BatchState::Complete;
    if matches!(job.state(), grpc::BatchState::Failed | grpc::BatchState::Cancelled) {
        agent.retry(batch, false).await?;
    }
    let outcome = ended(ctx, &mut agent, batch).await?;
    if let Some(gate) = outcome.gate() {
        return Err(Failure::gate(gate));
    }
    let suggestions = BatchKeys::new(batch).parts(PartKind::Suggestions);
    let report = outcome.0.report(already_done).artifact(format!("{}/{suggestions}", ctx.store()?.root()));
    Ok(report.since(start))
}

fn asked(args: &SubmitArgs) -> SubmitBatchRequest {
    let shard = args.shard.clone().unwrap_or_default();
    SubmitBatchRequest { shard, ..request(&args.batch, args.engine, args.model.as_deref()) }
}

fn request(batch: &BatchId, engine: Option<Engine>, model: Option<&str>) -> SubmitBatchRequest {
    let engine = match engine {
        None => grpc::Engine::Unspecified,
        Some(Engine::Rules) => grpc::Engine::Rules,
        Some(Engine::Ollama) => grpc::Engine::Ollama,
        Some(Engine::Hybrid) => grpc::Engine::Hybrid,
    };
    SubmitBatchRequest {
        batch_id: batch.to_string(),
        // The agent's own root: from another machine the same place may have another name.
        root_uri: String::new(),
        engine: engine.into(),
        model: model.unwrap_or_default().to_owned(),
        weight: 0,
        shard: String::new(),
    }
}

async fn ended(ctx: &Ctx, agent: &mut Agent, batch: &BatchId) -> Result<JobOutcome, Failure> {
    let bar = ctx.printer.progress("pages", Some(0));
    let show = |sight: Sight<'_>| match sight {
        Sight::Job(job) => {
            let job = Job::from(job.clone());
            bar.total(job.pages);
            bar.at(job.pages_done);
            bar.message(job.activity(ctx.now()));
        }
        Sight::Away => bar.message("the agent is away; waiting for it"),
    };
    let left = || format!("interrupted; the job goes on: `control preannotate watch {batch}` shows it again");
    let job = ctx.until_stopped(agent.watch(batch, show), left).await?;
    Ok(JobOutcome(job.into()))
}

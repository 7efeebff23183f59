//! `batch delete`: all that lies in a batch's folder, unless a job works on it or somebody signed it.

use std::time::Instant;

use proto::keys::BatchKeys;

use crate::{agent::Agent, batch, cli::DeleteArgs, ctx::Ctx, failure::Failure, report::Report};

/// The agent is asked first, so that no job runs over what goes away; the batch's description goes last, so that a delete
/// that was interrupted can be repeated.
pub async fn delete(ctx: &Ctx, args: &DeleteArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let (store, keys) = (ctx.store()?, BatchKeys::new(&args.batch));
    let objects = store.list_sorted(keys.folder()).await?;
    if objects.is_empty() {
        return Err(batch::unknown(ctx, &args.batch));
    }
    if !args.signed && objects.iter().any(|object| object.key == keys.signoff()) {
        return Err(Failure::gate(format!(
            "batch {} is signed off: what rests on it could not be traced any more; --signed deletes it all the same",
            args.batch
        )));
    }
    if let Some(child) = batch::retried_by(ctx, &args.batch).await? {
        return Err(Failure::gate(format!(
            "the pages that failed in batch {} are with batch {child}: delete that first",
            args.batch
        )));
    }
    let spec = batch::spec(ctx, &args.batch).await?;
    let had_job = Agent::connect(&ctx.settings).await?.delete(&args.batch).await?;
    let mut deleted = 0;
    let (last, first): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.key == keys.spec());
    for object in &first {
        store.delete(&object.key).await?;
        deleted += 1;
    }
    // Its pages may be retried by another one.
    if let Some(parent) = spec.filter(|spec| spec.retry).and_then(|spec| spec.parent)
        && batch::retried_by(ctx, &parent).await?.as_ref() == Some(&args.batch)
    {
        store.delete(&BatchKeys::new(&parent).retry()).await?;
    }
    for object in &last {
        store.delete(&object.key).await?;
        deleted += 1;
    }
    let report = Report::new("batch delete").outcome("objects", deleted).outcome("jobs", u64::from(had_job));
    Ok(report.since(start))
}

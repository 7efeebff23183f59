//! A large batch wants a signed pilot of the same labelset and model, or a reason to go without.

use proto::docs::{BatchSpec, PilotPin, Signoff};

use crate::{batch, ctx::Ctx, failure::Failure};

/// Pages that need no pilot.
const FREE_PAGES: u64 = 1_000;

/// The newest pilot that speaks for the batch; None when it needs none or goes without. What the batch leaves to
/// the agent is held against the pin by the agent.
pub(super) async fn pin(ctx: &Ctx, spec: &BatchSpec) -> Result<Option<PilotPin>, Failure> {
    if spec.pages <= FREE_PAGES {
        return Ok(None);
    }
    let signoffs = batch::signoffs(ctx).await?;
    match (signoffs.iter().find(|signoff| speaks_for(signoff, spec)), &spec.no_pilot) {
        (Some(signoff), _) => Ok(Some(PilotPin {
            batch_id: signoff.batch_id.clone(),
            labelset_sha256: signoff.provenance.labelset_sha256.clone(),
            prompt_sha256: signoff.provenance.prompt_sha256.clone(),
            model: signoff.provenance.model.clone(),
            model_digest: signoff.provenance.model_digest.clone(),
        })),
        (None, Some(_)) => Ok(None),
        (None, None) => Err(Failure::gate(format!(
            "batch {} has {} pages, and more than {FREE_PAGES} want a signed pilot of the same labelset and model: {}; \
             sign one, or say why not with --no-pilot",
            spec.batch_id,
            spec.pages,
            others(&signoffs, spec)
        ))),
    }
}

fn speaks_for(signoff: &Signoff, spec: &BatchSpec) -> bool {
    let made = &signoff.provenance;
    signoff.batch_id != spec.batch_id
        && made.labelset_sha256 == spec.labelset.sha256
        && spec.engine.as_ref().is_none_or(|engine| *engine == made.engine)
        && spec.model.as_ref().is_none_or(|model| *model == made.model)
}

fn others(signoffs: &[Signoff], spec: &BatchSpec) -> String {
    let told: Vec<_> = signoffs
        .iter()
        .take(5)
        .map(|signoff| {
            let made = &signoff.provenance;
            let labelset = if made.labelset_sha256 == spec.labelset.sha256 { "the same" } else { "another" };
            format!(
                "{} has {labelset} labelset, engine {}, model {}",
                signoff.batch_id, made.engine, made.model
            )
        })
        .collect();
    if told.is_empty() { "none is signed under this root".to_owned() } else { told.join("; ") }
}

//! `argilla status`: how far people are with a batch.
//!
//! Argilla counts the progress in its search index, which may lag behind what is stored; the number of records
//! comes from the database, so that a difference shows the lag. [`review`] counts exactly, by reading every record.

use proto::{ids::BatchId, keys::BatchKeys, parquet_io::TableFile, schema::Table};
use serde::Serialize;

use super::{connect, found, page_of};
use crate::{
    argilla::{model::UserProgress, scan},
    cli::ArgillaStatusArgs,
    ctx::Ctx,
    failure::Failure,
    printer::Answer,
    report::table,
};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReviewStatus {
    pub batch: BatchId,
    pub dataset: String,
    /// Where people review it.
    pub url: String,
    /// Records of the merged batch; None when it is not merged here.
    pub merged: Option<u64>,
    /// Records that Argilla has stored.
    pub records: u64,
    /// Records as the search index counts them: the next three numbers add up to this, and may lag.
    pub indexed: u64,
    /// With a submitted answer.
    pub completed: u64,
    /// Without one, discarded ones among them.
    pub pending: u64,
    /// Discarded answers, of all users.
    pub discarded: u64,
    pub users: Vec<UserReview>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserReview {
    pub username: String,
    pub submitted: u64,
    pub discarded: u64,
    pub drafts: u64,
}

impl From<&UserProgress> for UserReview {
    fn from(user: &UserProgress) -> Self {
        let (done, open) = (user.completed, user.pending);
        Self {
            username: user.username.clone(),
            submitted: done.submitted + open.submitted,
            discarded: done.discarded + open.discarded,
            drafts: done.draft + open.draft,
        }
    }
}

impl Answer for ReviewStatus {
    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} of {} records completed, {} pending, {} answers discarded\n",
            self.dataset, self.completed, self.indexed, self.pending, self.discarded
        );
        if !self.users.is_empty() {
            let row = |user: &UserReview| {
                let counts = [user.submitted, user.discarded, user.drafts].map(|count| count.to_string());
                [vec![user.username.clone()], counts.into()].concat()
            };
            let rows = self.users.iter().map(row);
            text.push_str(&table(&["user", "submitted", "discarded", "drafts"], &[1, 2, 3], rows));
        }
        text.push_str(&format!("  {}\n", self.url));
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        text
    }
}

pub async fn status(ctx: &Ctx, args: &ArgillaStatusArgs) -> Result<ReviewStatus, Failure> {
    let ask = async {
        let client = connect(ctx)?;
        let dataset = found(ctx, &client, &args.batch).await?;
        let progress = client.progress(&dataset.id).await?;
        let users = client.users_progress(&dataset.id).await?;
        let users: Vec<UserReview> = users.users.iter().map(UserReview::from).collect();
        let records = client.records(&dataset.id, 0, 1).await?.total;
        let merged = merged(ctx, &args.batch).await?;
        Ok(ReviewStatus {
            batch: args.batch.clone(),
            url: page_of(ctx, &dataset),
            dataset: dataset.name,
            merged,
            records,
            indexed: progress.total,
            completed: progress.completed,
            pending: progress.pending,
            discarded: users.iter().map(|user| user.discarded).sum(),
            users,
            notes: notes(&args.batch, merged, records, progress.total),
        })
    };
    ctx.until_stopped(ask, || "interrupted".to_owned()).await
}

fn notes(batch: &BatchId, merged: Option<u64>, records: u64, indexed: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if indexed != records {
        notes.push(format!(
            "Argilla's search index lags: it knows {indexed} of {records} stored records, so the counts may be old; \
             ask again in a moment"
        ));
    }
    match merged {
        Some(merged) if merged != records => notes.push(format!(
            "the merged batch has {merged} records and Argilla {records}: run `control argilla sync {batch}`"
        )),
        _ => {}
    }
    notes
}

async fn merged(ctx: &Ctx, batch: &BatchId) -> Result<Option<u64>, Failure> {
    let store = ctx.store()?;
    let Some(records) = store.head_opt(&BatchKeys::new(batch).records()).await? else { return Ok(None) };
    Ok(Some(TableFile::open(store, &records, Table::ArgillaRecords).await?.rows()))
}

/// How many records have an answer, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Review {
    /// Records of the dataset.
    pub records: u64,
    /// Submitted or discarded: what `argilla export --min-reviewed` counts.
    pub reviewed: u64,
    /// Of those, submitted by somebody.
    pub submitted: u64,
}

/// Reads every record of the batch's dataset: for pilots, not for millions.
pub async fn review(ctx: &Ctx, batch: &BatchId) -> Result<Review, Failure> {
    let client = connect(ctx)?;
    let dataset = found(ctx, &client, batch).await?;
    let answers = scan::answers(&client, &dataset.id).await?;
    Ok(Review {
        records: answers.records,
        reviewed: answers.answered.len() as u64,
        submitted: answers.answered.values().filter(|answered| answered.submitted()).count() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_and_a_difference_are_told() {
        let batch = "p".parse().expect("an id");
        assert!(notes(&batch, Some(3), 3, 3).is_empty());
        assert!(notes(&batch, None, 3, 3).is_empty());
        assert!(notes(&batch, Some(3), 3, 1)[0].contains("knows 1 of 3"));
        assert!(notes(&batch, Some(4), 3, 3)[0].contains("control argilla sync p"));
    }

    #[test]
    fn a_status_reads_well() {
        let user =
            |name: &str, submitted| UserReview { username: name.into(), submitted, discarded: 1, drafts: 0 };
        let status = ReviewStatus {
            batch: "p".parse().expect("an id"),
            dataset: "vessels_ocr_p".into(),
            url: "http://argilla/dataset/1/annotation-mode".into(),
            merged: Some(40),
            records: 40,
            indexed: 40,
            completed: 14,
            pending: 26,
            discarded: 2,
            users: vec![user("ana", 12), user("bo", 2)],
            notes: vec!["a note".into()],
        };
        insta::assert_snapshot!(status.text());
    }
}

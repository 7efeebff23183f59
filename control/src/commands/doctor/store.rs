//! The root: written, read back, listed and deleted; and whether a create-only write is one, which commits rely on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use proto::{
    keys::{self, Key},
    store::{Created, RootUri, Store, StoreError},
};

use super::finding::{Clock, Found, Trouble};
use crate::{ctx::Ctx, env};

/// What lies under the root for a moment. `control` alone writes it, and nothing reads it.
const PROBE: &str = "_doctor/";
const CONTENT: &[u8] = b"control doctor looks whether it can write here";
/// For taking the probe away after a failure.
const TIDY: Duration = Duration::from_secs(1);

pub(super) const LATE_FIX: &str = "start the object store, or set AWS_ENDPOINT_URL to its address";

/// `patience` bounds the probe, so that what it wrote can still be taken away when it takes too long.
pub(super) async fn look(ctx: &Ctx, patience: Duration) -> Result<Found, Trouble> {
    let root = &ctx.settings.root;
    let store = Store::open_once(root, ctx.env()).map_err(|error| trouble(root, &error))?;
    if let RootUri::Folder(folder) = store.root()
        && !folder.is_dir()
    {
        return Err(Trouble::problem(
            format!("there is no folder {}", folder.display()),
            format!("give --root or {} where the OCR job writes md_raw_ocr/", env::ROOT),
        ));
    }
    let asked = Utc::now();
    let key = Key::from_listing(format!("{PROBE}{}-{}", std::process::id(), asked.timestamp_micros()));
    let probed = tokio::time::timeout(patience, probe(&store, &key)).await;
    let answered = Utc::now();
    // Where the first write failed, there is nothing to delete, or nobody to ask.
    let written = !matches!(probed, Ok(Err(Probed::Unwritten(_))));
    let deleted = if written { tokio::time::timeout(TIDY, store.delete(&key)).await.ok() } else { None };
    if let Some(folder) = store.local_path(&Key::from_listing(PROBE.trim_end_matches('/'))) {
        let _ = std::fs::remove_dir(folder);
    }
    let (theirs, ocr) = match probed {
        Err(_) => return Err(super::late(store.root(), patience, LATE_FIX)),
        Ok(Err(Probed::Unwritten(error) | Probed::Broken(error))) => return Err(trouble(root, &error)),
        Ok(Err(Probed::Told(told))) => return Err(told),
        Ok(Ok(found)) => found,
    };
    if let Some(Err(error)) = deleted {
        return Err(trouble(root, &error));
    }
    let ocr = if ocr { "OCR output is there" } else { "no OCR output yet" };
    let clock = matches!(store.root(), RootUri::Bucket { .. })
        .then(|| Clock::read("the object store's", theirs, asked, answered));
    let says = format!(
        "{}: wrote, read, listed and deleted an object; create-only writes hold; {ocr}",
        store.root()
    );
    Ok(Found { clock, ..Found::fine(says) })
}

enum Probed {
    /// Nothing was written.
    Unwritten(StoreError),
    Broken(StoreError),
    Told(Trouble),
}

impl From<StoreError> for Probed {
    fn from(error: StoreError) -> Self {
        Self::Broken(error)
    }
}

/// When the probe was written, and whether the OCR job wrote something.
async fn probe(store: &Store, key: &Key) -> Result<(DateTime<Utc>, bool), Probed> {
    store.put_create(key, CONTENT).await.map_err(Probed::Unwritten)?;
    let again = store.put_create(key, &b"a second write"[..]).await?;
    if again != Created::Exists {
        return Err(Probed::Told(Trouble::problem(
            format!(
                "{}: a create-only write replaced what was there, and commits rely on that it cannot",
                store.root()
            ),
            "use a store that knows conditional writes (If-None-Match): AWS S3, R2, MinIO, a folder",
        )));
    }
    if store.get(key).await? != CONTENT {
        return Err(Probed::Told(Trouble::problem(
            format!("{}: what was written is not what is read back", store.root()),
            "look at what stands between here and the store (a proxy? a cache?)",
        )));
    }
    let theirs = store.head(key).await?.last_modified;
    let listed = store.list(PROBE).collect::<Vec<_>>().await;
    let listed: Vec<_> = listed.into_iter().collect::<Result<_, _>>()?;
    if !listed.iter().any(|object| object.key == *key) {
        return Err(Probed::Told(Trouble::problem(
            format!("{}: what was written is not in the listing", store.root()),
            "use a store whose listings are consistent: AWS S3, R2, MinIO, a folder",
        )));
    }
    let ocr = store.list(keys::RAW_DOCUMENTS).next().await.transpose()?.is_some();
    Ok((theirs, ocr))
}

/// What a person makes of an error of the store.
fn trouble(root: &str, error: &StoreError) -> Trouble {
    match error {
        StoreError::Uri { .. }
        | StoreError::NameTooLong { .. }
        | StoreError::Changed { .. }
        | StoreError::Forbidden { .. } => {
            Trouble::problem(error.to_string(), format!("set --root or {}", env::ROOT))
        }
        StoreError::NoCredentials { hint, .. } => {
            Trouble::problem(format!("{root} has no credentials"), *hint)
        }
        StoreError::NotFound { .. } => Trouble::problem(
            format!("{root}: the store answers that it is not there"),
            format!("make the bucket, or set --root or {}", env::ROOT),
        ),
        StoreError::Denied { source, .. } => Trouble::problem(
            format!("{root} refuses the credentials: {}", cause(source)),
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that may read and write there",
        ),
        StoreError::Unreachable { source, .. } => {
            let cause = cause(source);
            if let Some(page) = foreign(source) {
                return Trouble::problem(
                    format!("{root}: what answers there is no object store ({page})"),
                    "set AWS_ENDPOINT_URL to the store itself: a login page or another server stands there",
                );
            }
            Trouble::away(format!("{root} cannot be reached: {cause}"), LATE_FIX)
        }
    }
}

/// Set when something answers that is no object store: a redirect, or an answer without what each has.
fn foreign(error: &object_store::Error) -> Option<String> {
    let text = error.to_string();
    let status =
        text.split_once("status code: ").map(|(_, rest)| rest.split(':').next().unwrap_or(rest).trim());
    match status {
        Some(status) if status.starts_with('3') => Some(format!("HTTP {status}")),
        Some(_) => None,
        None if text.contains("metadata from headers") => Some("its answer has no ETag".to_owned()),
        None => None,
    }
}

/// In one line: the code and sentence of S3's XML, the HTTP status, or the innermost cause.
fn cause(error: &object_store::Error) -> String {
    let text = error.to_string();
    let tag = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside.to_owned())
    };
    if let (Some(code), Some(message)) = (tag("Code"), tag("Message")) {
        return format!("{code}: {message}");
    }
    if let Some((_, status)) = text.split_once("status code: ") {
        return format!("HTTP {}", status.lines().next().unwrap_or_default().trim_end_matches([':', ' ']));
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn what_the_store_says_fits_into_a_line() {
        let denied = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>\
                      SignatureDoesNotMatch</Code><Message>The signature is wrong.</Message><Key>k</Key></Error>";
        assert_eq!(cause(&generic(denied)), "SignatureDoesNotMatch: The signature is wrong.");
        assert_eq!(
            cause(&generic("status code: 503 Service Unavailable: \nbusy")),
            "HTTP 503 Service Unavailable"
        );
        assert_eq!(cause(&generic("connection refused")), "connection refused");
        assert!(foreign(&generic(denied)).is_none() && foreign(&generic("connection refused")).is_none());
    }

    #[test]
    fn a_login_page_is_no_store_that_is_away() {
        let redirect =
            "Error performing PUT http://x in 1ms - Server returned non-2xx status code: 302 Found: ";
        for text in [redirect, "Unable to extract metadata from headers: ETag Header missing from response"] {
            let uri = "s3://b/x".to_owned();
            let told = trouble("s3://b", &StoreError::Unreachable { uri, source: generic(text) });
            assert_eq!(told.status, super::super::answer::Status::Problem, "{told:?}");
        }
    }

    #[tokio::test]
    async fn a_folder_is_looked_at_and_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_str().expect("UTF-8");
        let store = Store::open(root, &proto::store::Env::new()).expect("a store");
        let key = Key::from_listing("_doctor/x");
        let Ok((_, false)) = probe(&store, &key).await else { panic!("as it must be") };
        store.delete(&key).await.expect("deleted");
    }
}

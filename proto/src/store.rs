//! Opening an object store from a URI, and the few operations on it that the pipeline uses.
//!
//! ```text
//! ./data  /data  file:///data      a folder
//! s3://bucket/prefix               AWS S3, MinIO, R2   (AWS_*, AWS_ENDPOINT_URL)
//! gs://bucket/prefix               GOOGLE_*
//! az://container/prefix            AZURE_*
//! ```
//!
//! The environment comes in as a map, so that nothing here reads it behind the caller's back.

mod cloud;

use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    io::{self, ErrorKind},
    ops::Range,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use object_store::{
    OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult,
    RetryConfig, UpdateVersion, buffered::BufWriter, coalesce_ranges, local::LocalFileSystem, path::Path,
};
use url::Url;

use crate::keys::Key;
use cloud::{azure, gcs, retries, s3};

/// Environment variables by name.
pub type Env = BTreeMap<String, String>;

/// No file system takes a longer name.
const MAX_NAME_BYTES: usize = 255;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{uri:?} is not a root: {reason}; use a folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    Uri { uri: String, reason: String },
    #[error("{uri} has no credentials: {hint}")]
    NoCredentials { uri: String, hint: &'static str },
    #[error("{uri} is not there")]
    NotFound { uri: String },
    #[error("{uri} refuses the credentials: {source}")]
    Denied { uri: String, source: object_store::Error },
    #[error("{uri} may not be read or written by this user: change its owner or mode, or name another root")]
    Forbidden { uri: String },
    #[error("{uri} cannot be reached: {source}")]
    Unreachable { uri: String, source: object_store::Error },
    #[error("{uri} cannot be stored in a folder: the name {name:?} is longer than 255 bytes")]
    NameTooLong { uri: String, name: String },
    #[error("{uri} changed while it was read: its ETag is no longer {etag}")]
    Changed { uri: String, etag: String },
}

/// What a create-only write found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    New,
    /// Another object lies there, untouched.
    Exists,
}

/// Which content of an object is meant: for writes on condition that it is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(UpdateVersion);

impl Version {
    /// As a listing shows it.
    pub fn etag(&self) -> Option<&str> {
        self.0.e_tag.as_deref()
    }
}

impl From<PutResult> for Version {
    fn from(put: PutResult) -> Self {
        Self(put.into())
    }
}

/// An object as a listing tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: Key,
    pub bytes: u64,
    pub etag: Option<String>,
    pub last_modified: DateTime<Utc>,
}

/// One root of the pipeline.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    /// Of the root within the store.
    prefix: Path,
    root: RootUri,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.root.to_string()).finish()
    }
}

/// A root in normal form, without credentials, query or trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootUri {
    /// An absolute path.
    Folder(PathBuf),
    /// `scheme://bucket[/prefix]`
    Bucket { scheme: String, bucket: String, prefix: String },
}

impl FromStr for RootUri {
    type Err = StoreError;

    fn from_str(uri: &str) -> Result<Self, StoreError> {
        let wrong = |reason: &str| StoreError::Uri { uri: uri.to_owned(), reason: reason.to_owned() };
        if uri.is_empty() {
            return Err(wrong("it is empty"));
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            let path = uri.strip_prefix("file:").unwrap_or(uri);
            return folder(PathBuf::from(path)).map_err(|error| wrong(&error.to_string()));
        };
        if scheme == "file" {
            let path = Url::parse(uri)
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| wrong("a file URI has three slashes and an absolute path"))?;
            return folder(path).map_err(|error| wrong(&error.to_string()));
        }
        if !matches!(scheme, "s3" | "gs" | "az") {
            return Err(wrong("its scheme is not known"));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        if bucket.is_empty() || bucket.contains(['@', '?', '#']) {
            return Err(wrong("it names no bucket"));
        }
        if prefix.split('/').any(|part| part == "..") || Path::parse(prefix).is_err() {
            return Err(wrong("its prefix is not a plain path"));
        }
        Ok(Self::Bucket { scheme: scheme.into(), bucket: bucket.into(), prefix: prefix.into() })
    }
}

fn folder(path: PathBuf) -> std::io::Result<RootUri> {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    Ok(RootUri::Folder(clean))
}

impl RootUri {
    /// Whether `other` is this root or lies below it. `..` is resolved before.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(root), Self::Folder(below)) => below.starts_with(root),
            (
                Self::Bucket { scheme, bucket, prefix },
                Self::Bucket { scheme: other_scheme, bucket: other_bucket, prefix: below },
            ) => {
                scheme == other_scheme
                    && bucket == other_bucket
                    && (prefix.is_empty() || below == prefix || below.starts_with(&format!("{prefix}/")))
            }
            _ => false,
        }
    }
}

impl fmt::Display for RootUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket { scheme, bucket, prefix } if prefix.is_empty() => write!(f, "{scheme}://{bucket}"),
            Self::Bucket { scheme, bucket, prefix } => write!(f, "{scheme}://{bucket}/{prefix}"),
        }
    }
}

impl Store {
    /// Opens a root. Nothing is read or written yet, so a wrong key shows at the first use.
    pub fn open(uri: &str, env: &Env) -> Result<Self, StoreError> {
        Self::open_with(uri, env, retries())
    }

    /// Tries nothing twice: for who looks whether it answers, and wants to know at once.
    pub fn open_once(uri: &str, env: &Env) -> Result<Self, StoreError> {
        Self::open_with(uri, env, RetryConfig { max_retries: 0, ..retries() })
    }

    fn open_with(uri: &str, env: &Env, retries: RetryConfig) -> Result<Self, StoreError> {
        let root: RootUri = uri.parse()?;
        let wrong =
            |error: object_store::Error| StoreError::Uri { uri: uri.to_owned(), reason: error.to_string() };
        let (inner, prefix): (Arc<dyn ObjectStore>, String) = match &root {
            RootUri::Folder(path) => {
                let prefix = Path::from_absolute_path(path)
                    .map_err(|error| StoreError::Uri { uri: uri.to_owned(), reason: error.to_string() })?;
                return Ok(Self { inner: Arc::new(LocalFileSystem::new()), prefix, root });
            }
            RootUri::Bucket { scheme, bucket, prefix } => {
                let store: Arc<dyn ObjectStore> = match scheme.as_str() {
                    "s3" => Arc::new(s3(uri, bucket, env)?.with_retry(retries).build().map_err(wrong)?),
                    "gs" => Arc::new(gcs(bucket, env).with_retry(retries).build().map_err(wrong)?),
                    _ => Arc::new(azure(bucket, env).with_retry(retries).build().map_err(wrong)?),
                };
                (store, prefix.clone())
            }
        };
        Ok(Self { inner, prefix: Path::from(prefix), root })
    }

    /// A root on a store that the caller made: for tests that inject faults.
    pub fn with_inner(inner: Arc<dyn ObjectStore>, prefix: Path, root: RootUri) -> Self {
        Self { inner, prefix, root }
    }

    pub fn root(&self) -> &RootUri {
        &self.root
    }

    /// The full URI of a key, for people.
    pub fn uri_of(&self, key: &Key) -> String {
        format!("{}/{key}", self.root)
    }

    /// Where a key lies when the root is a folder.
    pub fn local_path(&self, key: &Key) -> Option<PathBuf> {
        match &self.root {
            RootUri::Folder(root) => Some(root.join(key.as_str())),
            RootUri::Bucket { .. } => None,
        }
    }

    pub async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        Ok(self.get_version(key).await?.0)
    }

    /// With the version that was read.
    pub async fn get_version(&self, key: &Key) -> Result<(Bytes, Version), StoreError> {
        let found = self.inner.get(&self.path(key)?).await.map_err(|error| self.error(key, error))?;
        let ObjectMeta { size, e_tag, version, .. } = found.meta.clone();
        let bytes = found.bytes().await.map_err(|error| self.error(key, error))?;
        self.check_length(key, size, bytes.len() as u64)?;
        Ok((bytes, Version(UpdateVersion { e_tag, version })))
    }

    /// An answer that is cut, or says another length than it has, must not be taken for the object.
    fn check_length(&self, key: &Key, size: u64, came: u64) -> Result<(), StoreError> {
        if size == came {
            return Ok(());
        }
        let source = format!("{came} of {size} bytes came").into();
        Err(self.error(key, object_store::Error::Generic { store: "length", source }))
    }

    /// None when there is no such object.
    pub async fn get_opt(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self.get(key).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object's bytes as they arrive.
    pub async fn stream(
        &self,
        key: &Key,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let found = self.inner.get(&self.path(key)?).await.map_err(|error| self.error(key, error))?;
        let (store, key, size) = (self.clone(), key.clone(), found.meta.size);
        let end = (store.clone(), key.clone());
        let came = Arc::new(AtomicU64::new(0));
        let counted = came.clone();
        let bytes = found.into_stream().map_err(move |error| store.error(&key, error));
        let bytes = bytes.inspect_ok(move |bytes| {
            counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        });
        let whole =
            stream::once(async move { end.0.check_length(&end.1, size, came.load(Ordering::Relaxed)) });
        let whole = whole.filter_map(|whole| future::ready(whole.err().map(Err)));
        Ok(bytes.chain(whole).boxed())
    }

    /// Pieces of an object, each whole; those that lie close together are fetched as one.
    pub async fn ranges(&self, key: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let path = self.path(key)?;
        // `ObjectStore::get_ranges` trusts what comes to be as long as what was asked for, and panics.
        let fetch = |range: Range<u64>| {
            let path = &path;
            async move {
                let piece = self.inner.get_range(path, range.clone()).await;
                let piece = piece.map_err(|error| self.error(key, error))?;
                self.check_length(key, range.end - range.start, piece.len() as u64)?;
                Ok(piece)
            }
        };
        coalesce_ranges(ranges, fetch, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    pub async fn head(&self, key: &Key) -> Result<Object, StoreError> {
        let meta = self.inner.head(&self.path(key)?).await.map_err(|error| self.error(key, error))?;
        Ok(object(key.clone(), meta))
    }

    /// None when there is no such object.
    pub async fn head_opt(&self, key: &Key) -> Result<Option<Object>, StoreError> {
        match self.head(key).await {
            Ok(object) => Ok(Some(object)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an object whole; readers see the old one or the new one.
    pub async fn put(&self, key: &Key, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let path = self.path(key)?;
        self.inner.put(&path, bytes.into().into()).await.map_err(|error| self.error(key, error))?;
        Ok(())
    }

    /// Writes an object unless one lies there. A retried request may find its own write: compare the content
    /// before taking `Exists` for somebody else's.
    pub async fn put_create(&self, key: &Key, bytes: impl Into<Bytes>) -> Result<Created, StoreError> {
        Ok(if self.create(key, bytes).await?.is_some() { Created::New } else { Created::Exists })
    }

    /// The same, with the version that was written; None where another object lies.
    pub async fn create(&self, key: &Key, bytes: impl Into<Bytes>) -> Result<Option<Version>, StoreError> {
        self.put_on(key, bytes.into(), PutMode::Create).await
    }

    /// Replaces that version of an object; None when it is no longer there. Not for a folder.
    pub async fn replace(
        &self,
        key: &Key,
        version: &Version,
        bytes: impl Into<Bytes>,
    ) -> Result<Option<Version>, StoreError> {
        self.put_on(key, bytes.into(), PutMode::Update(version.0.clone())).await
    }

    async fn put_on(&self, key: &Key, bytes: Bytes, mode: PutMode) -> Result<Option<Version>, StoreError> {
        use object_store::Error::{AlreadyExists, NotFound, Precondition};

        let updates = matches!(mode, PutMode::Update(_));
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.inner.put_opts(&self.path(key)?, bytes.into(), options).await {
            Ok(put) => Ok(Some(put.into())),
            Err(AlreadyExists { .. } | Precondition { .. }) => Ok(None),
            Err(NotFound { .. }) if updates => Ok(None),
            Err(error) => Err(self.error(key, error)),
        }
    }

    /// A writer for an object of unknown size: bounded memory, nothing visible before it is shut down.
    pub fn writer(&self, key: &Key) -> Result<BufWriter, StoreError> {
        Ok(BufWriter::new(self.inner.clone(), self.path(key)?))
    }

    /// No error when there is no such object.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match self.inner.delete(&self.path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(key, error)),
        }
    }

    /// The objects below a prefix that ends in `/`, in no order.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Object, StoreError>> {
        let folder = Key::from_listing(prefix.trim_end_matches('/'));
        let path = match self.path(&folder) {
            Ok(path) => path,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let store = self.clone();
        self.inner
            .list(Some(&path))
            .filter_map(move |found| {
                let found = match found {
                    Ok(meta) => store.key_of(&meta.location).map(|key| Ok(object(key, meta))),
                    Err(object_store::Error::NotFound { .. }) if store.local_path(&folder).is_some() => None,
                    Err(error) => Some(Err(store.error(&folder, error))),
                };
                future::ready(found)
            })
            .boxed()
    }

    /// The objects below a prefix, sorted by key.
    pub async fn list_sorted(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let mut objects: Vec<Object> = self.list(prefix).try_collect().await?;
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    fn path(&self, key: &Key) -> Result<Path, StoreError> {
        let uri = || self.uri_of(key);
        if let RootUri::Folder(_) = self.root
            && let Some(name) = key.as_str().split('/').find(|name| name.len() > MAX_NAME_BYTES)
        {
            return Err(StoreError::NameTooLong { uri: uri(), name: name.to_owned() });
        }
        let below = Path::parse(key.as_str())
            .map_err(|error| StoreError::Uri { uri: uri(), reason: error.to_string() })?;
        Ok(self.prefix.parts().chain(below.parts()).collect())
    }

    fn key_of(&self, path: &Path) -> Option<Key> {
        let rest = path.as_ref().strip_prefix(self.prefix.as_ref())?;
        Some(Key::from_listing(rest.trim_start_matches('/')))
    }

    fn error(&self, key: &Key, source: object_store::Error) -> StoreError {
        let uri = self.uri_of(key);
        match source {
            object_store::Error::NotFound { .. } => StoreError::NotFound { uri },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                StoreError::Denied { uri, source }
            }
            source if is_refused_listing(&source) => StoreError::Denied { uri, source },
            source if is_forbidden(&source) => StoreError::Forbidden { uri },
            source => StoreError::Unreachable { uri, source },
        }
    }
}

/// By the file system: nobody need wait for that to pass.
fn is_forbidden(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(at) = cause {
        let io = at.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == ErrorKind::PermissionDenied) {
            return true;
        }
        cause = at.source();
    }
    false
}

/// Of a listing the client tells the status in words alone; the suite against a real store watches them.
fn is_refused_listing(error: &object_store::Error) -> bool {
    let object_store::Error::Generic { source, .. } = error else { return false };
    let text = source.to_string();
    ["status code: 401 ", "status code: 403 "].iter().any(|status| text.contains(status))
}

fn object(key: Key, meta: ObjectMeta) -> Object {
    Object { key, bytes: meta.size, etag: meta.e_tag, last_modified: meta.last_modified }
}

#[cfg(test)]
mod tests;

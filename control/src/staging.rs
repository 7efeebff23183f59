//! Objects of the store as local files, so that DuckDB needs no extension and every store is read alike.
//!
//! - A folder store's objects are used in place. Others are fetched once per content (URI and ETag) into the cache,
//!   several at a time, streaming, under a temporary name until they are whole.
//! - The cache keeps at most [`MAX_BYTES`], unless one step needs more at once; the longest unused goes first.
//! - Results go the other way, streaming; readers see the old object or the whole new one.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use futures::{StreamExt, TryStreamExt};
use proto::{
    docs::FileRef,
    hash::sha256_of_fields,
    keys::Key,
    store::{Object, Store, StoreError},
};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::{ctx::Ctx, failure::Failure};

/// What the cache keeps between two commands.
const MAX_BYTES: u64 = 16 << 30;
/// Objects on their way at a time.
const AT_ONCE: usize = 16;
/// Of a file that is hashed or uploaded.
const CHUNK: usize = 1 << 20;

pub struct Staging<'a> {
    ctx: &'a Ctx,
    store: &'a Store,
    folder: PathBuf,
    max_bytes: u64,
}

/// An object as a local file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    pub path: PathBuf,
    /// The path as SQL takes it.
    pub text: String,
    /// Of the object, for people.
    pub uri: String,
}

/// As SQL takes them.
pub fn paths(staged: &[Staged]) -> Vec<String> {
    staged.iter().map(|staged| staged.text.clone()).collect()
}

impl<'a> Staging<'a> {
    pub fn of(ctx: &'a Ctx) -> Result<Self, Failure> {
        let folder = ctx.settings.cache.join("objects");
        fs::create_dir_all(&folder).map_err(|error| Failure::file("make", &folder, &error))?;
        Ok(Self { ctx, store: ctx.store()?, folder, max_bytes: MAX_BYTES })
    }

    /// The objects as files, in their order.
    pub async fn stage(&self, objects: &[Object]) -> Result<Vec<Staged>, Failure> {
        let staged: Vec<_> = objects.iter().map(|object| self.place(object)).collect::<Result<_, _>>()?;
        self.make_room(objects, &staged)?;
        let fetches = objects.iter().zip(&staged).map(|(object, staged)| self.fetch(object, staged));
        let fetching = futures::stream::iter(fetches).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>();
        self.ctx.until_stopped(fetching, || "interrupted; what was fetched is kept".to_owned()).await?;
        Ok(staged)
    }

    /// The files that a document vouches for, each with the hash that it says. `remedy` ends the message otherwise.
    pub async fn stage_verified(&self, files: &[FileRef], remedy: &str) -> Result<Vec<Staged>, Failure> {
        let heads = files.iter().map(|file| {
            let key = Key::from_listing(&file.key);
            async move {
                match self.store.head_opt(&key).await {
                    Ok(Some(object)) => Ok(object),
                    Ok(None) => {
                        Err(Failure::data(format!("{} is not there: {remedy}", self.store.uri_of(&key))))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        });
        let heads = futures::stream::iter(heads).buffered(AT_ONCE).try_collect::<Vec<_>>();
        let objects = self.ctx.until_stopped(heads, || "interrupted; nothing was written".to_owned()).await?;
        let staged = self.stage(&objects).await?;
        for (file, staged) in files.iter().zip(&staged) {
            let found = sha256_of_file(&staged.path).await?;
            if found != file.sha256 {
                return Err(Failure::data(format!(
                    "{} has the SHA-256 {found}, and {} is vouched for: {remedy}",
                    staged.uri, file.sha256
                )));
            }
        }
        Ok(staged)
    }

    /// Writes a file as an object.
    pub async fn upload(&self, file: &Path, key: &Key) -> Result<(), Failure> {
        let uri = self.store.uri_of(key);
        let uploading = async {
            let mut source =
                tokio::fs::File::open(file).await.map_err(|error| Failure::file("read", file, &error))?;
            let mut target = self.store.writer(key)?;
            let copied = match tokio::io::copy(&mut source, &mut target).await {
                Ok(_) => target.shutdown().await,
                Err(error) => Err(error),
            };
            match copied {
                Ok(()) => Ok(()),
                Err(error) => {
                    let _ = target.abort().await;
                    Err(Failure::unreachable(format!("{uri} cannot be written: {error}")))
                }
            }
        };
        self.ctx.until_stopped(uploading, || format!("interrupted; {uri} was not written")).await
    }

    fn place(&self, object: &Object) -> Result<Staged, Failure> {
        let uri = self.store.uri_of(&object.key);
        let path = self.store.local_path(&object.key).unwrap_or_else(|| {
            // Without an ETag, as good a mark of the content as the store gives.
            let mark = object.etag.clone().unwrap_or_else(|| object.last_modified.to_rfc3339());
            let name = sha256_of_fields([uri.as_str(), mark.as_str(), &object.bytes.to_string()]);
            self.folder.join(format!("{name}.parquet"))
        });
        let text = path.to_str().ok_or_else(|| {
            Failure::config(format!("the path {} is not UTF-8: move the root or the cache", path.display()))
        })?;
        Ok(Staged { text: text.to_owned(), path, uri })
    }

    fn is_in_place(&self, object: &Object) -> bool {
        self.store.local_path(&object.key).is_some()
    }

    async fn fetch(&self, object: &Object, staged: &Staged) -> Result<(), Failure> {
        if self.is_in_place(object) || touch(&staged.path) {
            return Ok(());
        }
        let wrong = |error: &io::Error| Failure::file("write into", &self.folder, error);
        let part = tempfile::NamedTempFile::new_in(&self.folder).map_err(|error| wrong(&error))?;
        let mut file = tokio::fs::File::from_std(part.reopen().map_err(|error| wrong(&error))?);
        let mut bytes = 0;
        let mut stream = self.store.stream(&object.key).await?;
        while let Some(chunk) = stream.try_next().await? {
            file.write_all(&chunk).await.map_err(|error| wrong(&error))?;
            bytes += chunk.len() as u64;
        }
        file.flush().await.map_err(|error| wrong(&error))?;
        if bytes != object.bytes {
            let etag = object.etag.clone().unwrap_or_default();
            return Err(StoreError::Changed { uri: staged.uri.clone(), etag }.into());
        }
        part.persist(&staged.path).map_err(|error| wrong(&error.error))?;
        Ok(())
    }

    /// Removes what was longest unused, but nothing that this step needs.
    fn make_room(&self, objects: &[Object], staged: &[Staged]) -> Result<(), Failure> {
        let wanted: HashSet<&Path> = staged.iter().map(|staged| staged.path.as_path()).collect();
        let coming = objects.iter().filter(|object| !self.is_in_place(object)).map(|object| object.bytes);
        let mut bytes: u64 = coming.sum();
        let wrong = |error: &io::Error| Failure::file("read", &self.folder, error);
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(|error| wrong(&error))? {
            let entry = entry.map_err(|error| wrong(&error))?;
            let path = entry.path();
            // What another process removes meanwhile is as well gone.
            if let Ok(meta) = entry.metadata()
                && !wanted.contains(path.as_path())
            {
                bytes += meta.len();
                kept.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), path));
            }
        }
        kept.sort();
        for (_, size, path) in kept {
            if bytes <= self.max_bytes {
                break;
            }
            let _ = fs::remove_file(path);
            bytes -= size;
        }
        Ok(())
    }
}

/// Marks a cached file as used; false when it is not there.
fn touch(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| {
        let _ = file.set_modified(SystemTime::now());
        true
    })
}

/// The hash of a local file, read in pieces.
pub async fn sha256_of_file(path: &Path) -> Result<String, Failure> {
    let path = path.to_owned();
    let hashing = tokio::task::spawn_blocking(move || {
        let hash = || -> io::Result<String> {
            let mut hasher = Sha256::new();
            io::copy(&mut io::BufReader::with_capacity(CHUNK, File::open(&path)?), &mut hasher)?;
            Ok(hex::encode(hasher.finalize()))
        };
        hash().map_err(|error| Failure::file("read", &path, &error))
    });
    hashing.await.map_err(|error| Failure::data(format!("a file could not be hashed: {error}")))?
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use object_store::{memory::InMemory, path::Path as ObjectPath};
    use proto::hash::sha256_hex;

    use super::*;
    use crate::lake::tests::ctx;

    fn staging<'a>(ctx: &'a Ctx, store: &'a Store, max_bytes: u64) -> Staging<'a> {
        Staging { store, max_bytes, ..Staging::of(ctx).expect("a cache") }
    }

    fn remote() -> Store {
        let root = "s3://bucket/prefix".parse().expect("a root");
        Store::with_inner(Arc::new(InMemory::new()), ObjectPath::from("prefix"), root)
    }

    fn cached(ctx: &Ctx) -> usize {
        fs::read_dir(ctx.settings.cache.join("objects")).expect("a cache").count()
    }

    #[tokio::test]
    async fn objects_are_fetched_once_per_content_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let ctx = ctx(folder.path(), "lake");
        let store = remote();
        let staging = staging(&ctx, &store, 25);
        let put = async |name: &str, bytes: &'static str| {
            let key = Key::from_listing(name);
            store.put(&key, bytes).await.expect("put");
            store.head(&key).await.expect("there")
        };
        let (a, b) = (put("x/a", "0123456789").await, put("x/b", "9876543210").await);
        let staged = staging.stage(&[b.clone(), a.clone()]).await.expect("staged");
        assert_eq!(fs::read_to_string(&staged[0].path).expect("read"), "9876543210");
        assert_eq!(staged[1].uri, "s3://bucket/prefix/x/a");

        store.delete(&a.key).await.expect("deleted");
        assert_eq!(staging.stage(&[a]).await.expect("still there"), [staged[1].clone()]);
        let changed = put("x/b", "0000000000").await;
        let old = SystemTime::now() - Duration::from_secs(60);
        File::open(&staged[0].path).and_then(|file| file.set_modified(old)).expect("set");
        let again = staging.stage(&[changed]).await.expect("staged");
        assert_eq!(fs::read_to_string(&again[0].path).expect("read"), "0000000000");
        assert_eq!((cached(&ctx), staged[0].path.exists(), staged[1].path.exists()), (2, false, true));
    }

    #[tokio::test]
    async fn a_file_that_is_not_what_is_vouched_for_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let ctx = ctx(folder.path(), "lake");
        let store = remote();
        let staging = staging(&ctx, &store, 100);
        let file = folder.path().join("file");
        fs::write(&file, "result").expect("written");
        let key = Key::from_listing("out/r");
        staging.upload(&file, &key).await.expect("uploaded");
        let mut vouched = FileRef { key: "out/r".into(), rows: 0, bytes: 6, sha256: sha256_hex("result") };
        staging.stage_verified(std::slice::from_ref(&vouched), "").await.expect("as vouched for");
        vouched.sha256 = sha256_hex("other");
        let error = staging.stage_verified(&[vouched], "run it again").await.expect_err("another");
        assert_eq!(error.exit_code(), 5);
        assert!(error.to_string().starts_with("s3://bucket/prefix/out/r has the SHA-256"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_is_used_in_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let ctx = ctx(folder.path(), "lake");
        let store = ctx.store().expect("a store");
        let key = Key::from_listing("a/b");
        store.put(&key, "x").await.expect("put");
        let staging = Staging::of(&ctx).expect("a cache");
        let staged = staging.stage(&[store.head(&key).await.expect("there")]).await.expect("staged");
        assert_eq!(staged[0].path, folder.path().join("data/a/b"));
        assert_eq!(cached(&ctx), 0);
    }
}

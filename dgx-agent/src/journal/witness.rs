//! Whose answer it is.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

type Ask = dyn Fn() -> BoxFuture<'static, bool> + Send + Sync;

/// Tells, of answers that were given before it is asked, whether they are of the model that they are kept as. It waits
/// for a server that is away. Clones are equal: one is asked for all.
#[derive(Clone)]
pub struct Witness(Arc<Ask>);

impl Witness {
    pub fn new(ask: impl Fn() -> BoxFuture<'static, bool> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) async fn vouches(&self) -> bool {
        (self.0)().await
    }
}

impl PartialEq for Witness {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(&other.0))
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

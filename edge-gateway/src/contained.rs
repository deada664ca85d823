//! Has a panic cost the client for whom something was done, and no other.

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt, future::CatchUnwind};

/// Works for one client. Where that panics, which is counted and logged by then, it ends with an error, and whoever called ends what
/// the client has. The shard goes on with the others, and its state stands as it was left: if that client's part of it is of no use,
/// the shard's own tasks find out when they come to it, and end the process.
pub(crate) fn contained<F: Future<Output = ()>>(work: F) -> CatchUnwind<AssertUnwindSafe<F>> {
    AssertUnwindSafe(work).catch_unwind()
}

//! Real sandboxes on a busybox root. Everything here needs user namespaces and fails loudly without them.
//!
//! `TREEBOX_TEST_BIN` names the treebox executable when it is not where cargo built it, so that the compiled tests
//! can be run as another user; `TREEBOX_TEST_IDENTITY` is what `treebox` would be told with `--identity`.

#![allow(clippy::unwrap_used)]

mod bounds;
mod fixture;
mod identity;
mod isolation;
mod joining;
mod lifecycle;
mod speed;

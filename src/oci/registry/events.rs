//! What happens during a transfer, for whoever shows it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened during a pull or a push. Blobs are named by their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transfer {
    /// A blob is fetched or sent, or begun again.
    Begun {
        /// Which.
        digest: String,
        /// All of it, in bytes.
        size_bytes: u64,
        /// What of it is done, in bytes: a download that was cut off goes on.
        done_bytes: u64,
    },
    /// So many bytes more of a blob.
    Moved {
        /// Which.
        digest: String,
        /// How many.
        bytes: u64,
    },
    /// A blob is where it should be.
    Done {
        /// Which.
        digest: String,
    },
    /// Another process fetches the same blob; this one waits for it.
    Waiting {
        /// Which.
        digest: String,
    },
    /// Something did not work and is tried again.
    Again {
        /// What was asked for.
        what: String,
        /// Why it did not work.
        reason: String,
        /// How long is waited first.
        after: Duration,
    },
    /// A mirror could not help; the next one is asked.
    NextMirror {
        /// The mirror.
        host: String,
        /// Why it could not.
        reason: String,
    },
}

/// Who hears of transfers; nobody by default. Calls come from several threads.
#[derive(Clone, Default)]
pub struct Listener(Option<Arc<Hear>>);

/// Takes an event.
type Hear = dyn Fn(&Transfer) + Send + Sync;

impl Listener {
    /// Tells this function.
    pub fn new(hear: impl Fn(&Transfer) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    #[cfg_attr(not(feature = "registry"), expect(dead_code, reason = "nothing is transferred"))]
    pub(super) fn tell(&self, event: impl FnOnce() -> Transfer) {
        if let Some(hear) = &self.0 {
            hear(&event());
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener(somebody)" } else { "Listener(nobody)" })
    }
}

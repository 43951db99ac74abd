//! A point in time as file systems keep it.

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z; negative seconds are before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

impl Timestamp {
    /// A time; `None` when `nanoseconds` is not below 1 000 000 000.
    pub const fn new(seconds: i64, nanoseconds: u32) -> Option<Self> {
        if nanoseconds < 1_000_000_000 { Some(Self { seconds, nanoseconds }) } else { None }
    }

    /// A time on a whole second.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(&self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second, below 1 000 000 000.
    pub const fn nanoseconds(&self) -> u32 {
        self.nanoseconds
    }
}

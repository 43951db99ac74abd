//! The run cache: what was run on which state, and what came of it.

use std::ops::Deref;

use rusqlite::{OptionalExtension, Row, params};

use super::{Index, IndexError, int, uint};
use crate::object::{BlobId, IdPrefix, RunKey, StateId};

/// The most bytes of output that are kept in the index itself; longer output is a blob.
pub const MAX_INLINE_OUTPUT_BYTES: usize = 4096;

/// What a command wrote to one of its streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputRecord {
    /// The bytes, at most [`MAX_INLINE_OUTPUT_BYTES`].
    Inline(Vec<u8>),
    /// The blob that holds them, and how many there are.
    Blob(BlobId, u64),
}

impl OutputRecord {
    /// How many bytes were kept.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Blob(_, len) => *len,
        }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a run cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Processor time in user mode, in milliseconds.
    pub user_ms: f64,
    /// Processor time in the kernel, in milliseconds.
    pub system_ms: f64,
    /// The largest resident set, in KiB.
    pub max_rss_kib: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
}

/// One execution and its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What it is remembered under.
    pub key: RunKey,
    /// The state it ran on.
    pub parent: StateId,
    /// The state it left, which is the parent when it changed nothing.
    pub result: StateId,
    /// The canonical bytes of its command spec.
    pub spec: Vec<u8>,
    /// The command as a person would type it.
    pub command: String,
    /// Whether it changed the file system.
    pub changed: bool,
    /// Its exit status, when it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, when one did.
    pub signal: Option<i32>,
    /// Whether it was ended because its time was up.
    pub timed_out: bool,
    /// What it wrote to standard output.
    pub stdout: OutputRecord,
    /// What it wrote to standard error.
    pub stderr: OutputRecord,
    /// Whether more was written than was kept.
    pub truncated: bool,
    /// What it cost.
    pub usage: Usage,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// When it started, in milliseconds since 1970.
    pub started_ms: i64,
    /// How many paths it added.
    pub added: u64,
    /// How many paths it modified.
    pub modified: u64,
    /// How many paths it deleted.
    pub deleted: u64,
}

impl Run {
    /// Whether it exited 0, by itself and in time: the only kind that is ever used again.
    pub fn succeeded(&self) -> bool {
        self.exit_code == Some(0) && self.signal.is_none() && !self.timed_out
    }
}

/// A remembered run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// Its number: later runs have larger ones, and none is used twice.
    pub seq: i64,
    /// What happened.
    pub run: Run,
}

impl Deref for RunRecord {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}

/// The columns in the order in which [`record`] reads them.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT seq, key, parent, result, changed, exit_code, signal, timed_out, truncated, user_ms, system_ms,
             max_rss_kib, read_bytes, written_bytes, duration_ms, started_ms, added, modified, deleted,
             stdout_len, stdout, stderr_len, stderr, command, spec FROM run ",
            $rest
        )
    };
}

const INSERT: &str = "INSERT INTO run (key, parent, result, succeeded, changed, exit_code, signal, timed_out,
    truncated, user_ms, system_ms, max_rss_kib, read_bytes, written_bytes, duration_ms, started_ms, added, modified,
    deleted, stdout_len, stdout, stderr_len, stderr, command, spec)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
    ?24, ?25)";

impl Index {
    /// Remembers a run and gives its number.
    pub fn insert_run(&self, run: &Run) -> Result<i64, IndexError> {
        let (stdout_len, stdout) = output_columns(&run.stdout);
        let (stderr_len, stderr) = output_columns(&run.stderr);
        self.write("remembering a run", |db| {
            db.prepare_cached(INSERT)?.insert(params![
                run.key.as_bytes(),
                run.parent.as_bytes(),
                run.result.as_bytes(),
                run.succeeded(),
                run.changed,
                run.exit_code,
                run.signal,
                run.timed_out,
                run.truncated,
                run.usage.user_ms,
                run.usage.system_ms,
                int(run.usage.max_rss_kib),
                int(run.usage.read_bytes),
                int(run.usage.written_bytes),
                run.duration_ms,
                run.started_ms,
                int(run.added),
                int(run.modified),
                int(run.deleted),
                stdout_len,
                stdout,
                stderr_len,
                stderr,
                run.command,
                run.spec,
            ])
        })
    }

    /// The latest run of that key, however it ended.
    pub fn newest_run(&self, key: &RunKey) -> Result<Option<RunRecord>, IndexError> {
        self.one_run(select!("WHERE key = ?1 ORDER BY seq DESC LIMIT 1"), key.as_bytes())
    }

    /// The latest run of that key that [succeeded](Run::succeeded).
    pub fn newest_successful_run(&self, key: &RunKey) -> Result<Option<RunRecord>, IndexError> {
        self.one_run(select!("WHERE key = ?1 AND succeeded ORDER BY seq DESC LIMIT 1"), key.as_bytes())
    }

    /// The run of that number.
    pub fn run(&self, seq: i64) -> Result<Option<RunRecord>, IndexError> {
        self.one_run(select!("WHERE seq = ?1"), seq)
    }

    /// The runs that left that state, oldest first.
    pub fn runs_with_result(&self, state: &StateId) -> Result<Vec<RunRecord>, IndexError> {
        self.many_runs(select!("WHERE result = ?1 ORDER BY seq"), [state.as_bytes()])
    }

    /// The runs on that state, oldest first.
    pub fn runs_with_parent(&self, state: &StateId) -> Result<Vec<RunRecord>, IndexError> {
        self.many_runs(select!("WHERE parent = ?1 ORDER BY seq"), [state.as_bytes()])
    }

    /// At most `limit` runs of that key before that number, however they ended, newest first.
    pub fn runs_of_key_before(
        &self,
        key: &RunKey,
        seq: i64,
        limit: usize,
    ) -> Result<Vec<RunRecord>, IndexError> {
        let sql = select!("WHERE key = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3");
        self.many_runs(sql, params![key.as_bytes(), seq, int(limit as u64)])
    }

    /// At most `limit` runs of that command, as a person would type it, before that number, newest first; only those that
    /// [succeeded](Run::succeeded).
    pub fn runs_of_command_before(
        &self,
        command: &str,
        seq: i64,
        limit: usize,
    ) -> Result<Vec<RunRecord>, IndexError> {
        // The first condition is the one that has an index.
        let sql = select!(
            "WHERE substr(command, 1, 48) = substr(?1, 1, 48) AND command = ?1 AND seq < ?2 AND succeeded
             ORDER BY seq DESC LIMIT ?3"
        );
        self.many_runs(sql, params![command, seq, int(limit as u64)])
    }

    /// At most `limit` runs with a number above `seq`, oldest first: a way through all of them.
    pub fn runs_after(&self, seq: i64, limit: usize) -> Result<Vec<RunRecord>, IndexError> {
        self.many_runs(select!("WHERE seq > ?1 ORDER BY seq LIMIT ?2"), [seq, int(limit as u64)])
    }

    /// Forgets runs. Commits made of them stay known, without a run.
    pub fn forget_runs(&self, seqs: &[i64]) -> Result<(), IndexError> {
        self.write("forgetting runs", |db| super::collect::forget_runs(db, seqs))
    }

    /// States that begin with the prefix, in order, at most `limit`: results and parents of runs, states
    /// of commits, and states that came from elsewhere.
    pub fn states_with_prefix(&self, prefix: &IdPrefix, limit: usize) -> Result<Vec<StateId>, IndexError> {
        let (low, high) = prefix.range();
        self.read("looking up a short state id", |db| {
            db.prepare_cached(
                "SELECT result FROM run WHERE result BETWEEN ?1 AND ?2
                 UNION SELECT parent FROM run WHERE parent BETWEEN ?1 AND ?2
                 UNION SELECT state FROM history WHERE state BETWEEN ?1 AND ?2
                 UNION SELECT state FROM origin WHERE state BETWEEN ?1 AND ?2
                 ORDER BY 1 LIMIT ?3",
            )?
            .query_map(params![low, high, int(limit as u64)], |row| row.get(0).map(StateId::from_bytes))?
            .collect()
        })
    }

    fn one_run(&self, sql: &str, by: impl rusqlite::ToSql) -> Result<Option<RunRecord>, IndexError> {
        self.read("looking up a run", |db| db.prepare_cached(sql)?.query_row([by], record).optional())
    }

    fn many_runs(&self, sql: &str, by: impl rusqlite::Params) -> Result<Vec<RunRecord>, IndexError> {
        self.read("listing runs", |db| db.prepare_cached(sql)?.query_map(by, record)?.collect())
    }
}

/// A blob is stored as its id with its length beside it; bytes stand alone.
fn output_columns(output: &OutputRecord) -> (Option<i64>, &[u8]) {
    match output {
        OutputRecord::Inline(bytes) => (None, bytes),
        OutputRecord::Blob(id, len) => (Some(int(*len)), id.as_bytes()),
    }
}

fn output(row: &Row<'_>, len: usize, bytes: usize) -> rusqlite::Result<OutputRecord> {
    match row.get::<_, Option<i64>>(len)? {
        None => Ok(OutputRecord::Inline(row.get(bytes)?)),
        Some(_) => Ok(OutputRecord::Blob(BlobId::from_bytes(row.get(bytes)?), uint(row, len)?)),
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let run = Run {
        key: RunKey::from_bytes(row.get(1)?),
        parent: StateId::from_bytes(row.get(2)?),
        result: StateId::from_bytes(row.get(3)?),
        changed: row.get(4)?,
        exit_code: row.get(5)?,
        signal: row.get(6)?,
        timed_out: row.get(7)?,
        truncated: row.get(8)?,
        usage: Usage {
            user_ms: row.get(9)?,
            system_ms: row.get(10)?,
            max_rss_kib: uint(row, 11)?,
            read_bytes: uint(row, 12)?,
            written_bytes: uint(row, 13)?,
        },
        duration_ms: row.get(14)?,
        started_ms: row.get(15)?,
        added: uint(row, 16)?,
        modified: uint(row, 17)?,
        deleted: uint(row, 18)?,
        stdout: output(row, 19, 20)?,
        stderr: output(row, 21, 22)?,
        command: row.get(23)?,
        spec: row.get(24)?,
    };
    Ok(RunRecord { seq: row.get(0)?, run })
}

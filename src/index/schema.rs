//! The tables, as the list of migrations that made them.
//!
//! Append only: a released migration is never edited, since files exist that have seen it.

/// `treb` in ASCII: the file is treebox's.
pub(super) const APPLICATION_ID: i64 = 0x7472_6562;

/// `user_version` is the number of these that a file has seen.
pub(super) const MIGRATIONS: &[&str] = &[
    // Ids as tables' keys are random, so a table keyed by one dirties a page per row; where order of arrival is
    // asked for, or rows are wide, the table is keyed by a number and the id has an index.
    "
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE object (
        id BLOB PRIMARY KEY,
        kind INTEGER NOT NULL,
        segment INTEGER NOT NULL,
        start INTEGER NOT NULL,
        len INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE segment (
        number INTEGER PRIMARY KEY,
        indexed_until INTEGER NOT NULL
    ) STRICT;

    -- The narrow columns come first: a row's output and spec may spill to overflow pages, which a look-up by key or a
    -- filter on `succeeded` then never reads.
    CREATE TABLE run (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL,
        parent BLOB NOT NULL,
        result BLOB NOT NULL,
        succeeded INTEGER NOT NULL,
        changed INTEGER NOT NULL,
        exit_code INTEGER,
        signal INTEGER,
        timed_out INTEGER NOT NULL,
        truncated INTEGER NOT NULL,
        user_ms REAL NOT NULL,
        system_ms REAL NOT NULL,
        max_rss_kib INTEGER NOT NULL,
        read_bytes INTEGER NOT NULL,
        written_bytes INTEGER NOT NULL,
        duration_ms REAL NOT NULL,
        started_ms INTEGER NOT NULL,
        added INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        stdout_len INTEGER,
        stdout BLOB NOT NULL,
        stderr_len INTEGER,
        stderr BLOB NOT NULL,
        command TEXT NOT NULL,
        spec BLOB NOT NULL
    ) STRICT;
    CREATE INDEX run_by_key ON run (key);
    CREATE INDEX run_by_result ON run (result);
    CREATE INDEX run_by_parent ON run (parent);

    CREATE TABLE origin (
        number INTEGER PRIMARY KEY,
        state BLOB NOT NULL,
        kind TEXT NOT NULL,
        detail TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        UNIQUE (state, kind, detail)
    ) STRICT;

    CREATE TABLE history (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        state BLOB NOT NULL,
        parents BLOB NOT NULL,
        run INTEGER
    ) STRICT;
    CREATE INDEX history_by_state ON history (state);
    CREATE INDEX history_by_run ON history (run) WHERE run IS NOT NULL;

    CREATE TABLE image (
        name TEXT PRIMARY KEY,
        state BLOB NOT NULL,
        size_bytes INTEGER NOT NULL,
        entries INTEGER NOT NULL,
        source TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE layer (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        tree BLOB NOT NULL,
        identity TEXT NOT NULL,
        entries INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        made_ms INTEGER NOT NULL,
        used_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX layer_by_tree ON layer (tree);
    CREATE TABLE layer_below (
        layer INTEGER NOT NULL REFERENCES layer (number) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (layer, position)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX layer_below_by_name ON layer_below (name);
    ",
    // What an image's layers give: known ones are not read again.
    "
    CREATE TABLE chain (
        chain TEXT NOT NULL,
        rules INTEGER NOT NULL,
        tree BLOB NOT NULL,
        digest TEXT NOT NULL,
        diff_id TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        PRIMARY KEY (chain, rules)
    ) STRICT, WITHOUT ROWID;
    ",
    // Runs of a command. Commands may be long, so only how they begin is in the index.
    "
    CREATE INDEX run_by_command ON run (substr(command, 1, 48));
    ",
    // When a remembered run was last used, where that is later than when it ran: apart from the wide rows.
    "
    CREATE TABLE run_use (
        run INTEGER PRIMARY KEY,
        used_ms INTEGER NOT NULL
    ) STRICT;
    ",
];

/// The version that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

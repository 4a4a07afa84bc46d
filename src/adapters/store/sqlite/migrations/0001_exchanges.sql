-- Nothing in clear but ids, partner names, states, counts and times (UTC, microseconds since 1970). What may name a
-- person is sealed (AES-256-GCM) or a keyed hash.

CREATE TABLE exchange (
    id          BLOB    NOT NULL PRIMARY KEY,
    version     INTEGER NOT NULL,
    partner     TEXT,
    accepted_at INTEGER NOT NULL,
    is_final    INTEGER NOT NULL,
    final_at    INTEGER,
    sealed      BLOB    NOT NULL
);
CREATE INDEX exchange_by_time ON exchange (accepted_at, id);
CREATE INDEX exchange_by_partner ON exchange (partner, accepted_at, id);
-- Open ones are few among many: a list of them must not walk the final ones.
CREATE INDEX exchange_open ON exchange (accepted_at, id) WHERE is_final = 0;
CREATE INDEX exchange_final ON exchange (final_at) WHERE is_final = 1;

-- One row for each key: its hash as it is looked up by a flow, and the hash of its bare text for operators.
CREATE TABLE lookup_key (
    hash     BLOB NOT NULL,
    exchange BLOB NOT NULL REFERENCES exchange (id) ON DELETE CASCADE,
    any_hash BLOB NOT NULL,
    PRIMARY KEY (hash, exchange)
) WITHOUT ROWID;
CREATE INDEX lookup_key_any ON lookup_key (any_hash);
CREATE INDEX lookup_key_of_exchange ON lookup_key (exchange);

-- state 0 waits until next_at; state 1 is leased to owner until next_at. attempts counts the claims, and so tells one
-- lease from the next.
CREATE TABLE outbox (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    exchange BLOB    NOT NULL REFERENCES exchange (id) ON DELETE CASCADE,
    effect   TEXT    NOT NULL,
    state    INTEGER NOT NULL DEFAULT 0,
    next_at  INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    owner    TEXT
);
CREATE INDEX outbox_queue ON outbox (state, next_at, id);
CREATE INDEX outbox_of_exchange ON outbox (exchange);

-- An adopted body. content is NULL when it lies in a file.
CREATE TABLE body (
    id       BLOB    NOT NULL PRIMARY KEY,
    exchange BLOB    REFERENCES exchange (id),
    size     INTEGER NOT NULL,
    content  BLOB
);
CREATE INDEX body_of_exchange ON body (exchange);

CREATE TABLE audit (
    node     TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    outcome  INTEGER NOT NULL,
    exchange BLOB,
    sealed   BLOB    NOT NULL,
    hash     BLOB    NOT NULL,
    PRIMARY KEY (node, sequence)
);
CREATE INDEX audit_of_exchange ON audit (exchange) WHERE exchange IS NOT NULL;

-- Where each node's chain begins and ends, under a keyed hash: rows cut from either end are missed.
CREATE TABLE audit_chain (
    node           TEXT    NOT NULL PRIMARY KEY,
    first_sequence INTEGER NOT NULL,
    first_previous BLOB    NOT NULL,
    last_sequence  INTEGER NOT NULL,
    last_hash      BLOB    NOT NULL,
    key_id         BLOB    NOT NULL,
    mac            BLOB    NOT NULL
);

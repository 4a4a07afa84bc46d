-- Nothing in clear but ids, partner and node names, states, counts and times (UTC, microseconds since 1970). What may
-- name a person is sealed (AES-256-GCM) or a keyed hash. The form is that of the store on SQLite, but for what several
-- nodes need.

CREATE TABLE exchange (
    id          uuid    NOT NULL PRIMARY KEY,
    version     bigint  NOT NULL,
    partner     text,
    accepted_at bigint  NOT NULL,
    is_final    boolean NOT NULL,
    final_at    bigint,
    sealed      bytea   NOT NULL
);
-- Sealed octets do not shrink: they are not tried.
ALTER TABLE exchange ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX exchange_by_time ON exchange (accepted_at, id);
CREATE INDEX exchange_by_partner ON exchange (partner, accepted_at, id);
-- Open ones are few among many: a list of them must not walk the final ones.
CREATE INDEX exchange_open ON exchange (accepted_at, id) WHERE NOT is_final;
CREATE INDEX exchange_open_of_partner ON exchange (partner, accepted_at, id) WHERE NOT is_final;
CREATE INDEX exchange_final ON exchange (final_at) WHERE is_final;

-- One row for each key: its hash as it is looked up by a flow, and the hash of its bare text for operators.
CREATE TABLE lookup_key (
    hash     bytea NOT NULL,
    exchange uuid  NOT NULL REFERENCES exchange (id) ON DELETE CASCADE,
    any_hash bytea NOT NULL,
    PRIMARY KEY (hash, exchange)
);
CREATE INDEX lookup_key_any ON lookup_key (any_hash);
CREATE INDEX lookup_key_of_exchange ON lookup_key (exchange);

-- An effect can be claimed from next_at on: then it is due, or its lease has lapsed. owner is the node that holds the
-- lease. attempts counts the claims, and so tells one lease from the next. Rows come and go all the time, so the
-- vacuum must not wait for a share of the table.
CREATE TABLE outbox (
    id       bigint  NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange uuid    NOT NULL REFERENCES exchange (id) ON DELETE CASCADE,
    effect   text    NOT NULL,
    next_at  bigint  NOT NULL,
    attempts integer NOT NULL,
    owner    text
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX outbox_queue ON outbox (next_at, id);
CREATE INDEX outbox_leased ON outbox (owner) WHERE owner IS NOT NULL;
CREATE INDEX outbox_of_exchange ON outbox (exchange);

-- A body. One that is adopted has no staged_by; until then that node alone knows it. content is NULL when the sealed
-- octets, sealed_bytes of them, are in chunks.
CREATE TABLE body (
    id           uuid NOT NULL PRIMARY KEY,
    exchange     uuid REFERENCES exchange (id) ON DELETE CASCADE,
    size         bigint,
    content      bytea,
    sealed_bytes bigint,
    staged_by    text
);
ALTER TABLE body ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX body_of_exchange ON body (exchange);
CREATE INDEX body_staged ON body (staged_by) WHERE staged_by IS NOT NULL;

CREATE TABLE body_chunk (
    body     uuid    NOT NULL REFERENCES body (id) ON DELETE CASCADE,
    position integer NOT NULL,
    content  bytea   NOT NULL,
    PRIMARY KEY (body, position)
);
ALTER TABLE body_chunk ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE audit (
    node     text   NOT NULL,
    sequence bigint NOT NULL,
    at       bigint NOT NULL,
    kind     text   NOT NULL,
    outcome  bigint NOT NULL,
    exchange uuid,
    sealed   bytea  NOT NULL,
    hash     bytea  NOT NULL,
    PRIMARY KEY (node, sequence)
);
ALTER TABLE audit ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX audit_of_exchange ON audit (exchange, at, node, sequence) WHERE exchange IS NOT NULL;

-- Where each node's chain begins and ends, under a keyed hash: rows cut from either end are missed.
CREATE TABLE audit_chain (
    node           text   NOT NULL PRIMARY KEY,
    first_sequence bigint NOT NULL,
    first_previous bytea  NOT NULL,
    last_sequence  bigint NOT NULL,
    last_hash      bytea  NOT NULL,
    key_id         bytea  NOT NULL,
    mac            bytea  NOT NULL
);

-- The nodes that are at work, or were until they died. A node at work holds an advisory lock on its name.
CREATE TABLE node (
    name       text        NOT NULL PRIMARY KEY,
    started_at timestamptz NOT NULL,
    beat_at    timestamptz NOT NULL
);

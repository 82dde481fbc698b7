-- All tables of a log. Times are microseconds since the Unix epoch, unless they are for people or for cleaning up.

CREATE TABLE @schema@.life (                        -- one row: which life of the log goes on
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,                       -- how many steps the tables have taken
    epoch text NOT NULL,
    lives text NOT NULL,                            -- all epochs, and the offset after which each began
    server text NOT NULL,                           -- the server process that it was written by
    place oid NOT NULL,                             -- this table, as it was then
    floor bigint NOT NULL DEFAULT 0                 -- offsets up to here were used, whatever `events` has
);
CREATE TABLE @schema@.events (
    number bigint PRIMARY KEY,                      -- the offset
    time bigint NOT NULL,
    size integer NOT NULL,                          -- bytes of the data
    channel text COLLATE "C" NOT NULL,
    event text,                                     -- its type; NULL is `message`
    data text NOT NULL
);
CREATE INDEX events_by_channel ON @schema@.events (channel, number);
CREATE TABLE @schema@.calls (                       -- what became of the groups of batches that hubs sent of late
    id uuid PRIMARY KEY,
    before bigint NOT NULL,                         -- the newest offset before it
    time bigint NOT NULL,
    outcomes bigint[],                              -- NULL: all of it was stored
    at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE @schema@.tokens (                      -- of batches that publishers may store again
    token text COLLATE "C" PRIMARY KEY,
    first bigint NOT NULL,                          -- the offset of the first event of its batch …
    events integer NOT NULL,                        -- … and how many it has
    at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE @schema@.kept (                        -- one row: what retention knows
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    counted bigint NOT NULL DEFAULT 0,              -- events up to here are counted in their channels
    forgets bigint NOT NULL DEFAULT 0,              -- how often channels were forgotten
    forgot bigint NOT NULL DEFAULT 0,               -- the newest offset when that happened first
    doubt bigint NOT NULL DEFAULT 0                 -- up to here any channel may have lost something
);
INSERT INTO @schema@.kept DEFAULT VALUES;
CREATE TABLE @schema@.channels (                    -- those that have lost something, or were counted
    name text COLLATE "C" PRIMARY KEY,
    lost bigint NOT NULL DEFAULT 0,                 -- the offset of the newest event that retention removed
    events bigint NOT NULL DEFAULT 0,               -- how many it has …
    bytes bigint NOT NULL DEFAULT 0,                -- … and their size
    empty boolean NOT NULL DEFAULT false            -- retention left it nothing; it may have had events since
);
CREATE INDEX channels_by_loss ON @schema@.channels (lost) WHERE lost > 0;
CREATE INDEX channels_by_loss_empty ON @schema@.channels (lost) WHERE empty;
CREATE TABLE @schema@.shapes (                      -- what forgotten channels lost; see newswire.log.forgotten
    shape text COLLATE "C" PRIMARY KEY,
    lost bigint NOT NULL
);
CREATE TABLE @schema@.outbox (                      -- events that applications published in their own transactions
    id bigint GENERATED ALWAYS AS IDENTITY,
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ticket uuid NOT NULL DEFAULT gen_random_uuid(),
    channel text NOT NULL,
    event text,                                     -- its type; NULL is `message`
    data text NOT NULL,
    aside text                                      -- why it could not be moved in many attempts; NULL: it can be
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX outbox_by_tx ON @schema@.outbox (tx);
CREATE TABLE @schema@.tickets (                     -- where the events of the outbox came to be
    ticket uuid PRIMARY KEY,
    number bigint NOT NULL,                         -- 0: it was refused
    at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE @schema@.refused (                     -- rows of the outbox that can't be events
    ticket uuid NOT NULL,
    channel text NOT NULL,
    event text,
    data text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

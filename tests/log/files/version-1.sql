PRAGMA application_id = 1852143475;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE channels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    lost INTEGER NOT NULL DEFAULT 0
);
INSERT INTO "channels" VALUES(1,'c.1',3);
INSERT INTO "channels" VALUES(2,'c.0',4);
CREATE TABLE events (
    offset INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    size INTEGER NOT NULL,
    time REAL NOT NULL,
    type TEXT,
    data TEXT NOT NULL
);
INSERT INTO "events" VALUES(5,1,1,1700000000.0,NULL,'5');
INSERT INTO "events" VALUES(6,2,1,1700000000.0,'third','6');
INSERT INTO "events" VALUES(7,1,1,1700000000.0,NULL,'7');
INSERT INTO "events" VALUES(8,2,1,1700000000.0,NULL,'8');
INSERT INTO "events" VALUES(9,1,1,1700000000.0,'third','9');
INSERT INTO "events" VALUES(10,2,2,1700000000.0,NULL,'10');
CREATE TABLE meta (
    epoch TEXT NOT NULL,
    floor INTEGER NOT NULL DEFAULT 0,       -- offsets up to here were used, whatever `events` has
    trims INTEGER NOT NULL DEFAULT 0,       -- counts what retention did: tells what was derived before from after
    forgets INTEGER NOT NULL DEFAULT 0,     -- counts removals of channels: ids read before may be gone
    forgotten INTEGER NOT NULL DEFAULT 0,   -- the newest `lost` of a channel that was removed
    keeper TEXT NOT NULL DEFAULT '',        -- whose background retention runs …
    keeper_until REAL NOT NULL DEFAULT 0    -- … until when, if it does not say so again
);
INSERT INTO "meta" VALUES('7ptmfn6c',10,1,0,0,'',0.0);
CREATE INDEX events_by_channel ON events (channel)  -- and by offset: SQLite ends every index with the key
;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('channels',2);
COMMIT;

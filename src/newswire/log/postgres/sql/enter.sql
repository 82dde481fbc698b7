-- A process has made a connection, or found something strange. Says which life of the log goes on, and begins another
-- one if the log may have lost its newest events: the server process is another one, the tables are others (a copy was
-- put back), or the log ends before what the process has seen of this life. Where nothing can be written, what is there
-- can be read in the life that it had; `o_refusal` then says why, and before anything is written it has to be called again.
CREATE FUNCTION @schema@.enter(
    p_version integer,
    p_new text,         -- an epoch to begin a life with
    p_known text,       -- the epoch that the process knows, or nothing
    p_seen bigint,      -- the newest offset that it has seen in it
    p_lives text,       -- the lives that it knows
    OUT o_version integer, OUT o_epoch text, OUT o_latest bigint, OUT o_lives text, OUT o_refusal text
) LANGUAGE plpgsql AS $$
DECLARE
    v_life @schema@.life;
    v_place oid;
    v_server text := (SELECT system_identifier FROM pg_control_system()) || ' '
        || extract(epoch FROM pg_postmaster_start_time()) || ' ' || pg_relation_filenode('@schema@.events');
    v_part text;
    v_begin bigint;
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'the database has the encoding %, and a log needs UTF8', current_setting('server_encoding')
            USING ERRCODE = 'NW002';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a log needs default_transaction_isolation = ''read committed''' USING ERRCODE = 'NW002';
    END IF;
    SELECT * INTO v_life FROM @schema@.life;
    SELECT tableoid INTO v_place FROM @schema@.life;
    SELECT greatest(coalesce(v_life.floor, 0), coalesce(max(number), 0)) INTO o_latest FROM @schema@.events;
    o_version := v_life.version;
    -- Nearly always; and without waiting for those who store.
    IF v_life.place = v_place AND v_life.server = v_server AND NOT (p_known = v_life.epoch AND p_seen > o_latest) THEN
        o_epoch := v_life.epoch;
        o_lives := v_life.lives;
        RETURN;
    END IF;
    BEGIN
        PERFORM pg_advisory_xact_lock(@log@);
        SELECT * INTO v_life FROM @schema@.life FOR UPDATE;
        SELECT tableoid INTO v_place FROM @schema@.life;
        SELECT greatest(coalesce(v_life.floor, 0), coalesce(max(number), 0)) INTO o_latest FROM @schema@.events;
        o_epoch := v_life.epoch;
        o_lives := v_life.lives;
        o_version := coalesce(v_life.version, p_version);
        IF v_life.place = v_place AND v_life.server = v_server AND NOT (p_known = o_epoch AND p_seen > o_latest) THEN
            RETURN;
        END IF;
        v_begin := o_latest;
        IF o_epoch IS NULL THEN
            o_lives := NULL;
            v_begin := 0;
        ELSIF p_known <> '' AND strpos(',' || o_lives, ',' || p_known || ':') = 0 THEN
            FOREACH v_part IN ARRAY string_to_array(p_lives, ',') LOOP  -- they began after what was put back now
                IF strpos(',' || o_lives, ',' || split_part(v_part, ':', 1) || ':') = 0 THEN
                    o_lives := o_lives || ',' || split_part(v_part, ':', 1) || ':'
                        || least(split_part(v_part, ':', 2)::bigint, o_latest);
                END IF;
            END LOOP;
        END IF;
        o_epoch := p_new;
        o_lives := coalesce(o_lives || ',', '') || o_epoch || ':' || v_begin;
        WHILE length(o_lives) > 4000 LOOP
            o_lives := substr(o_lives, strpos(o_lives, ',') + 1);
        END LOOP;
        INSERT INTO @schema@.life AS l (version, epoch, lives, server, place, floor)
            VALUES (p_version, o_epoch, o_lives, v_server, '@schema@.life'::regclass, o_latest)
            ON CONFLICT (one) DO UPDATE SET epoch = excluded.epoch, lives = excluded.lives, server = excluded.server,
                place = excluded.place, floor = greatest(l.floor, excluded.floor);
        IF o_latest > 0 AND NOT EXISTS (SELECT FROM @schema@.events) THEN
            -- Retention may have removed them all, and knows; or somebody else has, and nobody does.
            UPDATE @schema@.kept SET doubt = o_latest;
        END IF;
        DELETE FROM @schema@.tokens WHERE first > o_latest;
        DELETE FROM @schema@.tickets WHERE number > o_latest;
        DELETE FROM @schema@.calls;
        PERFORM pg_notify('@channel@', o_epoch);
    EXCEPTION WHEN read_only_sql_transaction OR disk_full OR insufficient_privilege THEN
        o_epoch := v_life.epoch;
        o_lives := v_life.lives;
        o_refusal := SQLSTATE || ' ' || SQLERRM;
        IF o_epoch IS NULL OR v_life.place IS DISTINCT FROM v_place OR (p_known = o_epoch AND p_seen > o_latest)
            OR (p_known <> '' AND strpos(',' || o_lives, ',' || p_known || ':') = 0) THEN
            RAISE;  -- it is not what the process has read
        END IF;
    END;
END $$;

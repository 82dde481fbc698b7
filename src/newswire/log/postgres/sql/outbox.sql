-- What can't be an event, in words; NULL: it can be one. The rules are those of `newswire.log.channels` and `Event`.
CREATE FUNCTION @schema@.refusal(p_channel text, p_event text, p_data text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_channel IS NULL OR p_channel = '' THEN 'a channel''s name can''t be empty'
        WHEN octet_length(p_channel) > 255 THEN 'a channel''s name has at most 255 bytes'
        WHEN p_channel ~ '[\u0001-\u0020/*>\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
            THEN 'a channel''s name has no white space, control characters, "*", ">" or "/"'
        WHEN '.' || p_channel || '.' LIKE '%..%' THEN 'a channel''s name has no empty token: check its dots'
        WHEN p_event ~ '[\r\n]' THEN 'an event''s type has no line breaks'
        WHEN p_event IN ('error', 'open') OR p_event LIKE 'newswire.%' THEN 'this type of event is reserved'
        WHEN p_data IS NULL THEN 'an event''s data can''t be NULL'
        WHEN octet_length(p_data) > @event_bytes@ THEN 'an event''s data has at most @event_bytes@ bytes'
    END
$$;

-- Publish in the caller's transaction: readers see it if and only if that commits. One row, no lock, no NOTIFY. For
-- triggers and any language; who may use the schema may call it. Returns the ticket.
CREATE FUNCTION @schema@.newswire_publish(channel text, data text, event text DEFAULT 'message') RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    v_ticket uuid;
    v_refusal text := @schema@.refusal(channel, event, data);
BEGIN
    IF v_refusal IS NOT NULL THEN
        RAISE EXCEPTION 'newswire: %', v_refusal USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO @schema@.outbox (channel, event, data) VALUES (channel, nullif(event, 'message'), data)
        RETURNING ticket INTO v_ticket;
    RETURN v_ticket;
END $$;

-- Move committed rows of the outbox into the log. Rows that were visible in the snapshot `p_before` were moved already:
-- only what has committed since is looked for, so neither rows that are dead nor transactions that stay open for long
-- make it slower. `p_only`: no rows that this snapshot does not see. `p_rest`: do not look, move these.
-- Status 0: done; 1: the log is not as the process knows it, nothing is moved. `o_more`: there are more rows than are
-- looked for at once. `o_missed`: how many of the rows that were found were not there any more (another process moved
-- them, or the table was rewritten by VACUUM FULL), or are locked by somebody, who must not keep all others waiting.
CREATE FUNCTION @schema@.move(
    p_epoch text, p_seen bigint, p_before pg_snapshot, p_only pg_snapshot, p_rest tid[], p_limit integer, p_time bigint,
    OUT o_status integer, OUT o_snapshot pg_snapshot, OUT o_rest tid[], OUT o_moved bigint, OUT o_missed bigint,
    OUT o_more boolean, OUT o_refused text[], OUT o_before bigint, OUT o_latest bigint
) LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_found tid[] := p_rest;
    v_part tid[];
    v_free tid[];
    v_few integer;
    v_epoch text;
    v_here boolean;
    v_last bigint;
    v_time bigint;
BEGIN
    o_status := 0;
    o_moved := 0;
    o_missed := 0;
    o_more := false;
    IF p_rest IS NOT NULL THEN
        NULL;
    ELSIF p_before IS NULL THEN
        SELECT array_agg(row ORDER BY id), pg_current_snapshot() INTO v_found, o_snapshot FROM (
            SELECT ctid AS row, id FROM @schema@.outbox
            WHERE aside IS NULL AND (p_only IS NULL OR pg_visible_in_snapshot(tx, p_only)) ORDER BY id LIMIT 10000
        ) AS found;
    ELSE
        SELECT array_agg(row ORDER BY id), pg_current_snapshot() INTO v_found, o_snapshot FROM (
            SELECT ctid AS row, id FROM @schema@.outbox
            WHERE aside IS NULL
                AND (tx >= pg_snapshot_xmax(p_before) OR tx = ANY (ARRAY(SELECT pg_snapshot_xip(p_before))))
            ORDER BY id LIMIT 10000
        ) AS found;
    END IF;
    o_more := p_rest IS NULL AND cardinality(v_found) = 10000;
    IF v_found IS NULL AND p_only IS NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(@log@);
    SELECT l.epoch, l.place = l.tableoid, greatest(l.floor, coalesce(e.number, 0)), e.time
        INTO v_epoch, v_here, o_before, v_last
        FROM @schema@.life AS l LEFT JOIN LATERAL
            (SELECT number, time FROM @schema@.events WHERE number > l.floor ORDER BY number DESC LIMIT 1) AS e ON true;
    IF v_epoch IS DISTINCT FROM p_epoch OR NOT v_here OR o_before < p_seen THEN
        o_status := 1;
        RETURN;
    END IF;
    v_time := CASE WHEN v_last > p_time AND v_last - p_time <= 60000000 THEN v_last ELSE p_time END;
    -- The first ones, as many as have 16 MiB together, and one at least.
    v_part := v_found[: p_limit];
    SELECT array_agg(row ORDER BY id), count(*) FILTER (WHERE total - size < 16777216) INTO v_free, v_few FROM (
        SELECT row, id, size, sum(size) OVER (ORDER BY id) AS total FROM (
            SELECT ctid AS row, id, octet_length(data) AS size FROM @schema@.outbox
            WHERE ctid = ANY (v_part) FOR UPDATE SKIP LOCKED
        ) AS free
    ) AS sized;
    o_missed := coalesce(cardinality(v_part), 0) - coalesce(cardinality(v_free), 0);
    o_rest := nullif(v_free[v_few + 1 :] || v_found[p_limit + 1 :], '{}');
    WITH gone AS MATERIALIZED (
        DELETE FROM @schema@.outbox WHERE ctid = ANY (v_free[: v_few])
            RETURNING id, ticket, channel, event, data, @schema@.refusal(channel, event, data) AS reason
    ), numbered AS MATERIALIZED (
        SELECT o_before + row_number() OVER (ORDER BY id) AS number, ticket, channel, event, data
            FROM gone WHERE reason IS NULL
    ), stored AS (
        INSERT INTO @schema@.events (number, time, size, channel, event, data)
            SELECT number, v_time, octet_length(data), channel, nullif(event, 'message'), data FROM numbered
    ), known AS (
        INSERT INTO @schema@.tickets (ticket, number)
            SELECT ticket, number FROM numbered UNION ALL SELECT ticket, 0 FROM gone WHERE reason IS NOT NULL
            ON CONFLICT (ticket) DO NOTHING
    ), set_aside AS (
        INSERT INTO @schema@.refused (ticket, channel, event, data, reason)
            SELECT ticket, channel, event, data, reason FROM gone WHERE reason IS NOT NULL
            RETURNING left(channel, 100) || ': ' || reason AS what
    )
    SELECT (SELECT count(*) FROM numbered), (SELECT array_agg(what) FROM set_aside) INTO o_moved, o_refused;
    o_latest := o_before + o_moved;
    IF o_moved > 0 THEN
        PERFORM pg_notify('@channel@', v_epoch || '-' || o_latest);
    END IF;
END $$;

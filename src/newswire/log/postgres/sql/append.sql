-- Store batches. Status 0: done. 1: the log is not as the process knows it, nothing is stored, and it has to enter. 2: the
-- call before it has not come yet, and nothing is stored.
CREATE FUNCTION @schema@.append(
    p_epoch text,
    p_seen bigint,          -- the newest offset that the process has seen
    p_call uuid,
    p_again boolean,        -- whether the same call was sent before
    p_after uuid,           -- the call before it, if that is on another connection and has no answer yet
    p_time bigint,
    p_channels text[],      -- of all events of all batches …
    p_events text[],        -- … NULL: all are messages
    p_datas text[],
    p_counts integer[],     -- of each batch: how many events; NULL: no batch has a condition or a token
    p_conditions text[],    -- the channel of its condition, or NULL …
    p_newest bigint[],      -- … and the offset
    p_tokens text[],        -- its token, or NULL
    OUT o_status integer, OUT o_epoch text, OUT o_time bigint, OUT o_before bigint, OUT o_outcomes bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_here boolean;
    v_last bigint;
    v_latest bigint;
    v_found bigint;
    v_from integer := 1;
    v_to integer;
BEGIN
    PERFORM pg_advisory_xact_lock(@log@);
    SELECT l.epoch, l.place = l.tableoid, greatest(l.floor, coalesce(e.number, 0)), e.time
        INTO o_epoch, v_here, o_before, v_last
        FROM @schema@.life AS l LEFT JOIN LATERAL
            (SELECT number, time FROM @schema@.events WHERE number > l.floor ORDER BY number DESC LIMIT 1) AS e ON true;
    o_status := 1;
    IF o_epoch IS DISTINCT FROM p_epoch OR NOT v_here OR o_before < p_seen
        OR current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN;
    END IF;
    IF p_after IS NOT NULL THEN
        PERFORM FROM @schema@.calls WHERE id = p_after;
        IF NOT FOUND THEN
            o_status := 2;
            RETURN;
        END IF;
    END IF;
    o_status := 0;
    IF p_again THEN
        SELECT before, time, outcomes INTO v_found, o_time, o_outcomes FROM @schema@.calls WHERE id = p_call;
        IF FOUND THEN
            o_before := v_found;
            RETURN;
        END IF;
    END IF;
    o_time := CASE WHEN v_last > p_time AND v_last - p_time <= 60000000 THEN v_last ELSE p_time END;
    v_latest := o_before;
    IF p_counts IS NULL THEN
        INSERT INTO @schema@.events (number, time, size, channel, event, data)
            SELECT o_before + n, o_time, octet_length(d), c, e, d
            FROM unnest(p_channels, p_events, p_datas) WITH ORDINALITY AS u (c, e, d, n);
        v_latest := o_before + cardinality(p_channels);
    ELSE
        o_outcomes := '{}';
        FOR i IN 1 .. cardinality(p_counts) LOOP
            v_to := v_from + p_counts[i];
            v_found := NULL;
            IF p_tokens[i] IS NOT NULL THEN
                SELECT CASE WHEN events = p_counts[i] THEN -first ELSE -9007199254740992 END INTO v_found
                    FROM @schema@.tokens WHERE token = p_tokens[i] AND first <= v_latest;
            END IF;
            IF v_found IS NULL AND (
                p_conditions[i] IS NULL OR @schema@.newest_is(p_conditions[i], p_newest[i], v_latest)
            ) THEN
                INSERT INTO @schema@.events (number, time, size, channel, event, data)
                    SELECT v_latest + n, o_time, octet_length(d), c, e, d
                    FROM unnest(
                        p_channels[v_from : v_to - 1], p_events[v_from : v_to - 1], p_datas[v_from : v_to - 1]
                    ) WITH ORDINALITY AS u (c, e, d, n);
                v_found := v_latest + 1;
                v_latest := v_latest + p_counts[i];
                IF p_tokens[i] IS NOT NULL THEN
                    INSERT INTO @schema@.tokens (token, first, events) VALUES (p_tokens[i], v_found, p_counts[i])
                        ON CONFLICT (token) DO UPDATE
                        SET first = excluded.first, events = excluded.events, at = excluded.at;
                END IF;
            END IF;
            o_outcomes := o_outcomes || coalesce(v_found, 0);
            v_from := v_to;
        END LOOP;
    END IF;
    INSERT INTO @schema@.calls (id, before, time, outcomes) VALUES (p_call, o_before, o_time, o_outcomes);
    IF v_latest > o_before THEN
        PERFORM pg_notify('@channel@', o_epoch || '-' || v_latest);
    END IF;
END $$;
-- Whether the newest event of a channel is this one; see `Condition`.
CREATE FUNCTION @schema@.newest_is(p_channel text, p_newest bigint, p_latest bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_found bigint;
BEGIN
    SELECT number INTO v_found FROM @schema@.events WHERE channel = p_channel ORDER BY number DESC LIMIT 1;
    IF v_found IS NULL THEN
        SELECT lost INTO v_found FROM @schema@.channels WHERE name = p_channel AND lost <= p_latest;
    END IF;
    IF v_found IS NULL AND p_newest > 0 THEN  -- it may have been forgotten
        RETURN p_newest <= (SELECT max(lost) FROM @schema@.shapes);
    END IF;
    RETURN coalesce(v_found, 0) = p_newest;
END $$;

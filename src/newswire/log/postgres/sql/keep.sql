-- What removes events. All of it runs under a lock of its own, which publishing never waits for.

-- Note that events of some channels were removed: the newest of each, and what they had counted.
CREATE FUNCTION @schema@.note_removed(p_channels text[], p_lost bigint[], p_events bigint[], p_bytes bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_newest bigint := (SELECT max(n) FROM unnest(p_lost) AS u (n));
BEGIN
    INSERT INTO @schema@.channels AS c (name, lost, events, bytes)
        SELECT n, l, -e, -b FROM unnest(p_channels, p_lost, p_events, p_bytes) AS u (n, l, e, b)
        ON CONFLICT (name) DO UPDATE SET lost = greatest(c.lost, excluded.lost),
            events = c.events + excluded.events, bytes = c.bytes + excluded.bytes;
    UPDATE @schema@.channels AS c SET empty = NOT EXISTS (SELECT FROM @schema@.events AS e WHERE e.channel = c.name)
        WHERE c.name = ANY (p_channels);
    IF NOT EXISTS (SELECT FROM @schema@.events WHERE number > v_newest) THEN
        UPDATE @schema@.life SET floor = v_newest WHERE floor < v_newest;
    END IF;
END $$;

-- Remove these events. Returns how many were there.
CREATE FUNCTION @schema@.remove(p_numbers bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_counted bigint;
    v_channels text[]; v_lost bigint[]; v_events bigint[]; v_bytes bigint[];
    v_removed bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(@keep@);
    SELECT counted INTO v_counted FROM @schema@.kept;
    WITH gone AS (
        DELETE FROM @schema@.events WHERE number = ANY (p_numbers) RETURNING number, channel, size
    ), sums AS (
        SELECT channel, max(number) AS lost, count(*) AS removed, count(*) FILTER (WHERE number <= v_counted) AS events,
            coalesce(sum(size) FILTER (WHERE number <= v_counted), 0)::bigint AS bytes FROM gone GROUP BY channel
    )
    SELECT array_agg(channel), array_agg(lost), array_agg(events), array_agg(bytes), coalesce(sum(removed), 0)
        INTO v_channels, v_lost, v_events, v_bytes, v_removed FROM sums;
    IF v_removed > 0 THEN
        PERFORM @schema@.note_removed(v_channels, v_lost, v_events, v_bytes);
    END IF;
    RETURN v_removed;
END $$;

-- Remove the events of a channel up to an offset, so many at most. A channel that has nothing left is forgotten, and
-- nobody hears of a loss. Call again while there is more.
CREATE FUNCTION @schema@.drop_events(p_channel text, p_cut bigint, p_limit integer, OUT o_removed bigint, OUT o_more boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_numbers bigint[];
    v_whole boolean;
    v_counted bigint;
    v_lost bigint; v_events bigint; v_bytes bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(@keep@);
    SELECT counted INTO v_counted FROM @schema@.kept;
    v_numbers := ARRAY(
        SELECT number FROM @schema@.events WHERE channel = p_channel AND number <= p_cut ORDER BY number LIMIT p_limit
    );
    o_more := cardinality(v_numbers) = p_limit;
    -- Of one that is going to be whole readers do not hear either while it takes several steps.
    v_whole := NOT EXISTS (SELECT FROM @schema@.events WHERE channel = p_channel AND number > p_cut);
    WITH gone AS (
        DELETE FROM @schema@.events WHERE number = ANY (v_numbers) RETURNING number, size
    )
    SELECT count(*), coalesce(max(number), 0), count(*) FILTER (WHERE number <= v_counted),
            coalesce(sum(size) FILTER (WHERE number <= v_counted), 0)
        INTO o_removed, v_lost, v_events, v_bytes FROM gone;
    IF o_removed > 0 THEN
        PERFORM @schema@.note_removed(
            ARRAY[p_channel], ARRAY[CASE WHEN v_whole THEN 0 ELSE v_lost END], ARRAY[v_events], ARRAY[v_bytes]
        );
        IF NOT EXISTS (SELECT FROM @schema@.events WHERE number > v_lost) THEN
            UPDATE @schema@.life SET floor = v_lost WHERE floor < v_lost;
        END IF;
    END IF;
    IF v_whole AND NOT o_more THEN
        DELETE FROM @schema@.channels WHERE name = p_channel;
    END IF;
END $$;

-- Count some of the events that were stored since, up to an offset. Returns up to where all are counted now, and the
-- channels that have more than so many events or bytes.
CREATE FUNCTION @schema@.count_events(
    p_upto bigint, p_limit integer, p_events bigint, p_bytes bigint, OUT o_counted bigint, OUT o_over text[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_counted bigint;
    v_found bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(@keep@);
    SELECT counted INTO v_counted FROM @schema@.kept;
    SELECT max(number), count(*) INTO o_counted, v_found FROM (
        SELECT number FROM @schema@.events WHERE number > v_counted AND number <= p_upto ORDER BY number LIMIT p_limit
    ) AS first_ones;
    IF v_found < p_limit THEN
        o_counted := p_upto;
    END IF;
    o_counted := greatest(o_counted, v_counted);
    WITH fresh AS (
        SELECT channel, count(*) AS events, sum(size)::bigint AS bytes FROM @schema@.events
            WHERE number > v_counted AND number <= o_counted GROUP BY channel
    ), counted AS (
        INSERT INTO @schema@.channels AS c (name, events, bytes) SELECT channel, events, bytes FROM fresh
            ON CONFLICT (name) DO UPDATE SET events = c.events + excluded.events, bytes = c.bytes + excluded.bytes,
                empty = false
            RETURNING name, events, bytes
    )
    SELECT array_agg(name) INTO o_over FROM counted WHERE events > p_events OR bytes > p_bytes;
    UPDATE @schema@.kept SET counted = o_counted WHERE counted < o_counted;
END $$;

-- Forget channels that have nothing left, but for what is known of them by their shapes, if nobody else did meanwhile.
CREATE FUNCTION @schema@.forget(p_forgets bigint, p_channels text[], p_shapes text[], p_lost bigint[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_forgotten bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(@keep@);
    UPDATE @schema@.kept SET forgets = forgets + 1, forgot = CASE WHEN forgets > 0 THEN forgot ELSE
        (SELECT greatest(floor, (SELECT max(number) FROM @schema@.events)) FROM @schema@.life) END
        WHERE forgets = p_forgets;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    INSERT INTO @schema@.shapes AS s (shape, lost) SELECT * FROM unnest(p_shapes, p_lost)
        ON CONFLICT (shape) DO UPDATE SET lost = greatest(s.lost, excluded.lost);
    WITH gone AS (
        DELETE FROM @schema@.channels AS c WHERE name = ANY (p_channels) AND empty
            AND NOT EXISTS (SELECT FROM @schema@.events AS e WHERE e.channel = c.name) RETURNING 1
    )
    SELECT count(*) INTO v_forgotten FROM gone;
    UPDATE @schema@.channels SET empty = false WHERE name = ANY (p_channels);
    RETURN v_forgotten;
END $$;

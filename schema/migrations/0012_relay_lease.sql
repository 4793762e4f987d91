-- Which relay is the active one, by the server's clock: it renews its lease, and another takes over where that has run out
-- or its session is gone (docs/adr/0006-relay-lease.md). Unlogged: a lease does not outlive a crash of the server, nor does
-- the session behind it; and renewing it writes no log.
CREATE UNLOGGED TABLE relay_lease (
    key        bigint PRIMARY KEY,
    holder     uuid NOT NULL,
    pid        integer NOT NULL,
    renewed_at timestamptz NOT NULL
);
GRANT SELECT ON relay_lease TO nexus_api, nexus_relay;
GRANT INSERT, UPDATE ON relay_lease TO nexus_relay;

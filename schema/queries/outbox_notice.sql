-- A hint to the relay that there is work, once this transaction commits.
NOTIFY outbox

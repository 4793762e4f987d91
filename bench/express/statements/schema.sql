-- The table and the indexes of the original design, in a database of its own.
CREATE TABLE contacts (
    id              SERIAL PRIMARY KEY,
    email           VARCHAR(255),
    phone_number    VARCHAR(20),
    linked_id       INTEGER REFERENCES contacts (id),
    link_precedence VARCHAR(20) CHECK (link_precedence IN ('primary', 'secondary')),
    created_at      TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    updated_at      TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    deleted_at      TIMESTAMP WITH TIME ZONE
);
CREATE INDEX idx_contacts_email ON contacts (email) WHERE deleted_at IS NULL;
CREATE INDEX idx_contacts_phone ON contacts (phone_number) WHERE deleted_at IS NULL;
CREATE INDEX idx_contacts_linked_id ON contacts (linked_id) WHERE deleted_at IS NULL;
CREATE INDEX idx_contacts_precedence ON contacts (link_precedence) WHERE deleted_at IS NULL;

CREATE TABLE useraccesstokens (
    id varchar(26) PRIMARY KEY,
    token varchar(26) NOT NULL UNIQUE,
    userid varchar(26) NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    description varchar(512) NOT NULL DEFAULT '',
    isactive boolean NOT NULL DEFAULT true
);
CREATE INDEX idx_useraccesstokens_userid ON useraccesstokens (userid);

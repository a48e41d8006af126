CREATE TABLE sessions (
    id varchar(26) PRIMARY KEY,
    token varchar(26) NOT NULL UNIQUE,
    createat bigint NOT NULL,
    expiresat bigint NOT NULL,
    lastactivityat bigint NOT NULL,
    userid varchar(26) NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    deviceid varchar(512) NOT NULL DEFAULT '',
    csrf varchar(26) NOT NULL
);
CREATE INDEX idx_sessions_user_id ON sessions (userid);
CREATE TABLE audits (
    id varchar(26) PRIMARY KEY,
    createat bigint NOT NULL,
    userid varchar(26) NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    action varchar(512) NOT NULL,
    extrainfo varchar(1024) NOT NULL,
    ipaddress varchar(64) NOT NULL,
    sessionid varchar(26) NOT NULL
);
CREATE INDEX idx_audits_user_id ON audits (userid);

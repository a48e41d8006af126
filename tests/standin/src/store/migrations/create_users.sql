CREATE TABLE users (
    id varchar(26) PRIMARY KEY,
    createat bigint NOT NULL,
    updateat bigint NOT NULL,
    deleteat bigint NOT NULL DEFAULT 0,
    username varchar(64) NOT NULL CONSTRAINT users_username_key UNIQUE,
    password varchar(256) NOT NULL DEFAULT '',
    email varchar(128) NOT NULL CONSTRAINT users_email_key UNIQUE,
    emailverified boolean NOT NULL DEFAULT false,
    nickname varchar(64) NOT NULL DEFAULT '',
    firstname varchar(64) NOT NULL DEFAULT '',
    lastname varchar(64) NOT NULL DEFAULT '',
    position varchar(128) NOT NULL DEFAULT '',
    roles varchar(256) NOT NULL DEFAULT 'system_user',
    notifyprops text NOT NULL,
    lastpasswordupdate bigint NOT NULL DEFAULT 0,
    failedattempts bigint NOT NULL DEFAULT 0,
    locale varchar(5) NOT NULL DEFAULT 'en',
    timezone text NOT NULL,
    lastlogin bigint NOT NULL DEFAULT 0
);
CREATE INDEX idx_users_delete_at ON users (deleteat);

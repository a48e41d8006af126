CREATE TABLE teams (
    id varchar(26) PRIMARY KEY,
    createat bigint NOT NULL,
    updateat bigint NOT NULL,
    deleteat bigint NOT NULL DEFAULT 0,
    displayname varchar(64) NOT NULL,
    name varchar(64) NOT NULL CONSTRAINT teams_name_key UNIQUE,
    description varchar(255) NOT NULL DEFAULT '',
    email varchar(128) NOT NULL DEFAULT '',
    type varchar(1) NOT NULL,
    inviteid varchar(32) NOT NULL,
    allowopeninvite boolean NOT NULL DEFAULT false
);
CREATE TABLE teammembers (
    teamid varchar(26) NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    userid varchar(26) NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    deleteat bigint NOT NULL DEFAULT 0,
    createat bigint NOT NULL,
    schemeadmin boolean NOT NULL DEFAULT false,
    PRIMARY KEY (teamid, userid)
);
CREATE INDEX idx_teammembers_user_id ON teammembers (userid);

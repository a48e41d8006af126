CREATE TABLE channels (
    id varchar(26) PRIMARY KEY,
    createat bigint NOT NULL,
    updateat bigint NOT NULL,
    deleteat bigint NOT NULL DEFAULT 0,
    teamid varchar(26) NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    type varchar(1) NOT NULL,
    displayname varchar(64) NOT NULL,
    name varchar(64) NOT NULL,
    header varchar(1024) NOT NULL DEFAULT '',
    purpose varchar(250) NOT NULL DEFAULT '',
    lastpostat bigint NOT NULL DEFAULT 0,
    totalmsgcount bigint NOT NULL DEFAULT 0,
    creatorid varchar(26) NOT NULL DEFAULT '',
    CONSTRAINT channels_name_teamid_key UNIQUE (name, teamid)
);
CREATE TABLE channelmembers (
    channelid varchar(26) NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    userid varchar(26) NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    lastviewedat bigint NOT NULL DEFAULT 0,
    msgcount bigint NOT NULL DEFAULT 0,
    lastupdateat bigint NOT NULL,
    schemeadmin boolean NOT NULL DEFAULT false,
    PRIMARY KEY (channelid, userid)
);
CREATE INDEX idx_channelmembers_user_id ON channelmembers (userid);

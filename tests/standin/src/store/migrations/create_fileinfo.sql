CREATE TABLE fileinfo (
    id varchar(26) PRIMARY KEY,
    creatorid varchar(26) NOT NULL,
    postid varchar(26) NOT NULL DEFAULT '',
    channelid varchar(26) NOT NULL,
    createat bigint NOT NULL,
    updateat bigint NOT NULL,
    deleteat bigint NOT NULL DEFAULT 0,
    path varchar(512) NOT NULL,
    name varchar(256) NOT NULL,
    extension varchar(64) NOT NULL,
    size bigint NOT NULL,
    mimetype varchar(256) NOT NULL
);
CREATE INDEX idx_fileinfo_postid ON fileinfo (postid);

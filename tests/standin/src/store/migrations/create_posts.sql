CREATE TABLE posts (
    id varchar(26) PRIMARY KEY,
    createat bigint NOT NULL,
    updateat bigint NOT NULL,
    editat bigint NOT NULL DEFAULT 0,
    deleteat bigint NOT NULL DEFAULT 0,
    ispinned boolean NOT NULL DEFAULT false,
    userid varchar(26) NOT NULL,
    channelid varchar(26) NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    rootid varchar(26) NOT NULL DEFAULT '',
    message text NOT NULL,
    type varchar(26) NOT NULL DEFAULT '',
    props text NOT NULL DEFAULT '{}',
    hashtags varchar(1000) NOT NULL DEFAULT ''
);
CREATE INDEX idx_posts_channel_id_create_at ON posts (channelid, createat);
CREATE INDEX idx_posts_root_id ON posts (rootid);

CREATE TABLE bots (
    userid varchar(26) PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    description varchar(1024) NOT NULL DEFAULT '',
    ownerid varchar(190) NOT NULL,
    createat bigint NOT NULL,
    updateat bigint NOT NULL,
    deleteat bigint NOT NULL DEFAULT 0
);

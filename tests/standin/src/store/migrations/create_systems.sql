CREATE TABLE systems (
    name varchar(64) PRIMARY KEY,
    value varchar(1024) NOT NULL
);

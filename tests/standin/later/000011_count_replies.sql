-- What the release after this one brings, for tests: writes all posts anew, as migrations of a real server may.
ALTER TABLE posts ADD COLUMN replycount bigint NOT NULL DEFAULT 0;
UPDATE posts SET replycount = replies.count
    FROM (SELECT rootid, count(*) AS count FROM posts WHERE rootid <> '' GROUP BY rootid) AS replies
    WHERE posts.id = replies.rootid;

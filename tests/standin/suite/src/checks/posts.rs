//! Team, channel, posts, search, and removing them again.

use super::expect::{ensure, like, refused};
use super::{Failure, Run};
use crate::recording;
use serde_json::json;

pub fn places(run: &mut Run<'_>) {
    let strict = run.target.strict;
    run.check("team", |r| {
        let body = json!({"name": r.team_name, "display_name": "Contract suite", "type": "O"});
        let answer = r.admin()?.post("/api/v4/teams", &body)?;
        if answer.status == 201 {
            r.team = Some(answer.field("id"));
        }
        like(&answer, &recording::team(), strict)
    });
    run.check("a team's name that is taken", |r| {
        r.team()?;
        let body = json!({"name": r.team_name, "display_name": "Again", "type": "O"});
        refused(&r.admin()?.post("/api/v4/teams", &body)?, &[400])
    });
    run.check("team by name", |r| {
        let path = format!("/api/v4/teams/name/{}", r.team_name);
        let answer = r.admin()?.get(&path)?;
        ensure(
            answer.status == 200 && answer.field("id") == r.team()?,
            || answer.text(),
        )
    });
    run.check("channel", |r| {
        let body = json!({
            "team_id": r.team()?, "name": r.channel_name, "display_name": "Contract suite", "type": "O",
        });
        let answer = r.admin()?.post("/api/v4/channels", &body)?;
        if answer.status == 201 {
            r.channel = Some(answer.field("id"));
        }
        like(&answer, &recording::channel(), strict)
    });
    run.check("channel by name", |r| {
        let paths = [
            format!(
                "/api/v4/teams/{}/channels/name/{}",
                r.team()?,
                r.channel_name
            ),
            format!(
                "/api/v4/teams/name/{}/channels/name/{}",
                r.team_name, r.channel_name
            ),
        ];
        for path in paths {
            let answer = r.admin()?.get(&path)?;
            ensure(
                answer.status == 200 && answer.field("id") == r.channel()?,
                || format!("{path}: {}", answer.text()),
            )?;
        }
        let missing = format!("/api/v4/teams/{}/channels/name/nowhere", r.team()?);
        refused(&r.admin()?.get(&missing)?, &[404])
    });
}

pub fn run(run: &mut Run<'_>) {
    let strict = run.target.strict;
    run.check("post", |r| {
        let body =
            json!({"channel_id": r.channel()?, "message": format!("hello {} world", r.mark)});
        let answer = r.admin()?.post("/api/v4/posts", &body)?;
        if answer.status == 201 {
            r.post = Some(answer.field("id"));
        }
        like(&answer, &recording::post(), strict)
    });
    run.check("the post can be read", |r| {
        let id = r.post.clone().ok_or(Failure::Unreached("post"))?;
        let answer = r.admin()?.get(&format!("/api/v4/posts/{id}"))?;
        let wanted = format!("hello {} world", r.mark);
        ensure(
            answer.status == 200 && answer.field("message") == wanted,
            || answer.text(),
        )
    });
    run.check("a reply", |r| {
        let id = r.post.clone().ok_or(Failure::Unreached("post"))?;
        let body = json!({"channel_id": r.channel()?, "message": "a reply", "root_id": id});
        let answer = r.admin()?.post("/api/v4/posts", &body)?;
        ensure(
            answer.status == 201 && answer.field("root_id") == id,
            || answer.text(),
        )
    });
    run.check("bodies that make no sense", |r| {
        let json = [("content-type", "application/json")];
        let answer = r
            .admin()?
            .call("POST", "/api/v4/posts", &json, b"{nonsense")?;
        refused(&answer, &[400])?;
        let body = json!({"message": "nowhere"});
        refused(&r.admin()?.post("/api/v4/posts", &body)?, &[400, 403])?;
        let body = json!({"channel_id": "8rb3s4ehetb5bynnpx4syzimxa", "message": "x"});
        refused(&r.admin()?.post("/api/v4/posts", &body)?, &[400, 403, 404])
    });
}

/// After files were posted, so that lists have both kinds of posts.
pub fn reading(run: &mut Run<'_>) {
    let strict = run.target.strict;
    run.check("search finds the post", |r| {
        let id = r.post.clone().ok_or(Failure::Unreached("post"))?;
        let path = format!("/api/v4/teams/{}/posts/search", r.team()?);
        let body = json!({"terms": r.mark, "is_or_search": false});
        let answer = r.admin()?.post(&path, &body)?;
        like(&answer, &recording::search(), strict)?;
        let order = answer.json()["order"].clone();
        let found = order
            .as_array()
            .is_some_and(|o| o.iter().any(|i| i.as_str() == Some(id.as_str())));
        ensure(found, || format!("not found: order is {order}"))
    });
    run.check("search knows English words", |r| {
        let path = format!("/api/v4/teams/{}/posts/search", r.team()?);
        let body = json!({"terms": format!("worlds {}", r.mark), "is_or_search": false});
        let answer = r.admin()?.post(&path, &body)?;
        ensure(answer.json()["order"][0].is_string(), || answer.text())
    });
    run.check("search without a hit", |r| {
        let path = format!("/api/v4/teams/{}/posts/search", r.team()?);
        let body = json!({"terms": format!("q{}", r.mark), "is_or_search": false});
        let answer = r.admin()?.post(&path, &body)?;
        like(&answer, &recording::search_none(), strict)?;
        ensure(answer.json()["order"] == json!([]), || answer.text())
    });
    run.check("posts of a channel", |r| {
        let id = r.post.clone().ok_or(Failure::Unreached("post"))?;
        let path = format!("/api/v4/channels/{}/posts", r.channel()?);
        let answer = r.admin()?.get(&path)?;
        like(&answer, &recording::channel_posts(), strict)?;
        let body = answer.json();
        ensure(body["posts"][&id]["id"] == id.as_str(), || {
            "the post is not in the list".to_owned()
        })?;
        let times: Vec<i64> = body["order"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|i| body["posts"][i.as_str()?]["create_at"].as_i64())
            .collect();
        ensure(times.is_sorted_by(|a, b| a >= b), || {
            "the newest is not first".to_owned()
        })
    });
}

/// Checks deletions and leaves as little as the API allows.
pub fn cleaning(run: &mut Run<'_>) {
    run.check("a deleted post is gone", |r| {
        let id = r.post.clone().ok_or(Failure::Unreached("post"))?;
        let path = format!("/api/v4/posts/{id}");
        let gone = r.admin()?.delete(&path)?;
        ensure(gone.status == 200, || gone.text())?;
        refused(&r.admin()?.get(&path)?, &[404])
    });
    run.check("channel and team are archived", |r| {
        let channel = r
            .admin()?
            .delete(&format!("/api/v4/channels/{}", r.channel()?))?;
        ensure(channel.status == 200, || channel.text())?;
        let body = json!({"channel_id": r.channel()?, "message": "too late"});
        refused(&r.admin()?.post("/api/v4/posts", &body)?, &[400, 403])?;
        let team = r.admin()?.delete(&format!("/api/v4/teams/{}", r.team()?))?;
        ensure(team.status == 200, || team.text())
    });
    // Over the local socket nothing at all is left.
    if let Some(socket) = run.target.local_socket.clone() {
        let things = [("teams", run.team.clone()), ("users", run.user.clone())];
        run.check("nothing is left", |r| {
            r.team()?;
            for (kind, id) in things {
                let Some(id) = id else { continue };
                let path = format!("/{kind}/{id}?permanent=true");
                let gone = crate::local::call(&socket, "DELETE", &path, None)?;
                ensure(gone.status == 200, || format!("{path}: {}", gone.text()))?;
                let after = crate::local::call(&socket, "GET", &format!("/{kind}/{id}"), None)?;
                ensure(after.status == 404, || {
                    format!("{kind} {id} is still there")
                })?;
            }
            Ok(())
        });
    }
}

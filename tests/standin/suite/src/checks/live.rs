//! The WebSocket: challenge, hello, the event of a post, ping, and refusals.

use super::expect::{ensure, outcome};
use super::{Failure, Run};
use crate::client::ClientError;
use crate::http2::Refused;
use crate::shape::Shape;
use crate::socket::Socket;
use serde_json::{Value, json};

/// Shapes of websocket.txt.
fn event_shape() -> Shape {
    Shape::of(&json!({
        "event": "", "data": {}, "seq": 0,
        "broadcast": {"omit_users": null, "user_id": "", "channel_id": "", "team_id": "", "connection_id": "",
                      "omit_connection_id": ""},
    }))
}

fn posted_shape() -> Shape {
    Shape::of(&json!({
        "channel_display_name": "", "channel_name": "", "channel_type": "", "post": "", "sender_name": "",
        "set_online": true, "team_id": "",
    }))
}

pub fn run(run: &mut Run<'_>) {
    run.check("WebSocket: challenge and hello", |r| {
        let admin = r.admin()?;
        let mut socket = Socket::open(&admin, false)?;
        socket.challenge(admin.token.as_deref().unwrap_or_default())?;
        let hello = socket.wait_for(|v| v["event"] == "hello")?;
        let mut found = event_shape().differences(&hello, false);
        for field in ["connection_id", "server_version"] {
            if hello["data"][field].as_str().is_none_or(str::is_empty) {
                found.push(format!("hello has no {field}"));
            }
        }
        if hello["seq"] != 0 {
            found.push(format!("hello's seq is {}", hello["seq"]));
        }
        let reply = socket.wait_for(|v| v["seq_reply"] == 1)?;
        if reply["status"] != "OK" {
            found.push(format!("the challenge's reply is {reply}"));
        }
        socket.close();
        outcome(found)
    });
    run.check("WebSocket: a post arrives", |r| {
        let admin = r.admin()?;
        let mut socket = Socket::open(&admin, true)?;
        socket.wait_for(|v| v["event"] == "hello")?;
        let message = format!("live {}", r.mark);
        let body = json!({"channel_id": r.channel()?, "message": message});
        let answer = admin.post("/api/v4/posts", &body)?;
        ensure(answer.status == 201, || answer.text())?;
        let id = answer.field("id");
        let post_of =
            |v: &Value| -> Option<Value> { serde_json::from_str(v["data"]["post"].as_str()?).ok() };
        let event = socket.wait_for(|v| {
            v["event"] == "posted" && post_of(v).is_some_and(|p| p["id"] == id.as_str())
        })?;
        let mut found = event_shape().differences(&event, false);
        found.extend(posted_shape().differences(&event["data"], false));
        let post = post_of(&event).unwrap_or_default();
        if post["message"] != message.as_str() {
            found.push(format!("the event's message is {}", post["message"]));
        }
        if event["broadcast"]["channel_id"] != r.channel()?.as_str() {
            found.push("the event is not for the channel".to_owned());
        }
        if event["data"]["channel_name"] != r.channel_name.as_str() {
            found.push("the event has another channel's name".to_owned());
        }
        // What is told must be stored.
        let stored = admin.get(&format!("/api/v4/posts/{id}"))?;
        if stored.status != 200 || stored.field("message") != message {
            found.push(format!("the post cannot be read: {}", stored.text()));
        }
        socket.close();
        outcome(found)
    });
    run.check("WebSocket: ping", |r| {
        let mut socket = Socket::open(&r.admin()?, true)?;
        socket.wait_for(|v| v["event"] == "hello")?;
        socket.send(&json!({"seq": 2, "action": "ping"}))?;
        let pong = socket.wait_for(|v| v["seq_reply"] == 2)?;
        socket.close();
        ensure(
            pong["status"] == "OK" && pong["data"]["text"] == "pong",
            || format!("the reply is {pong}"),
        )
    });
    run.check("WebSocket: a wrong token is refused", |r| {
        let mut socket = Socket::open(&r.stranger, false)?;
        socket.challenge("8rb3s4ehetb5bynnpx4syzimxa")?;
        match socket.wait_for(|v| v["event"] == "hello") {
            Ok(_) => Err(Failure::Differs(vec!["it was greeted".to_owned()])),
            Err(_) => Ok(()),
        }
    });
    run.check("WebSocket: another site's page is refused", |r| {
        let mut other = r.admin()?;
        let url = other.socket_url();
        other.origin = "https://elsewhere.example".to_owned();
        match Socket::open(&other, true) {
            Err(ClientError::Socket(e)) if matches!(*e, tungstenite::Error::Http(_)) => Ok(()),
            Err(ClientError::Socket2(e)) if e.is::<Refused>() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => ensure(false, || format!("{url} accepted a foreign Origin")),
        }
    });
}

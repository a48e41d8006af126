//! The calls. Each is one request; each error says which call it was and what the server said.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::http::{Method, Request, Response, header};
use ureq::{AsSendBody, Body};

use crate::connection::{Connection, Target};
use crate::error::ClientError;
use crate::model::{Channel, FileInfo, Post, Team, User};
use crate::socket::Socket;

/// The largest answer that is read, bytes: above Mattermost's largest file.
const ANSWER_LIMIT: u64 = 128 * 1024 * 1024;
/// Ends the parts of an upload. The server finds it by the header, so it only must not occur in a file.
const BOUNDARY: &str = "atalaya-probe-6f1d2c9b7a3e4850-boundary";

/// One user's session with one server.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    agent: ureq::Agent,
    token: Option<String>,
}

impl Client {
    pub fn new(target: &Target) -> Result<Self, ClientError> {
        let connection = Connection::new(target)?;
        let agent = connection.agent();
        Ok(Self {
            connection,
            agent,
            token: None,
        })
    }

    /// Uses a session or access token instead of a log-in.
    pub fn set_token(&mut self, token: impl Into<String>) {
        self.token = Some(token.into());
    }

    /// Logs in by user name or e-mail address; later calls use the session.
    pub fn login(&mut self, login_id: &str, password: &str) -> Result<User, ClientError> {
        let action = "log in";
        let body = json!({ "login_id": login_id, "password": password });
        let response = self.send(action, Method::POST, "/users/login", Some(&body))?;
        let token = response
            .headers()
            .get("token")
            .and_then(|token| token.to_str().ok())
            .map(str::to_owned);
        let user = read_json(action, response)?;
        self.token = Some(token.ok_or_else(|| ClientError::Answer {
            action: action.to_owned(),
            why: "there is no Token header".to_owned(),
        })?);
        Ok(user)
    }

    /// Ends the session of [`Client::login`].
    pub fn logout(&mut self) -> Result<(), ClientError> {
        self.send("log out", Method::POST, "/users/logout", None)?;
        self.token = None;
        Ok(())
    }

    pub fn me(&self) -> Result<User, ClientError> {
        self.call("read the own user", Method::GET, "/users/me", None)
    }

    /// The server's own verdict on database and file store; an error is a server that is not ready.
    pub fn check_server_status(&self) -> Result<(), ClientError> {
        self.send(
            "ask for the server's status",
            Method::GET,
            "/system/ping?get_server_status=true",
            None,
        )
        .map(drop)
    }

    /// What the server tells everybody of its configuration, as its own pages ask for it.
    pub fn configuration(&self) -> Result<HashMap<String, String>, ClientError> {
        let path = "/config/client?format=old";
        self.call("read the configuration", Method::GET, path, None)
    }

    /// A team that the user is in or may see, by its name in addresses.
    pub fn find_team(&self, name: &str) -> Result<Option<Team>, ClientError> {
        found(self.call(
            "find the team",
            Method::GET,
            &format!("/teams/name/{}", encode(name)),
            None,
        ))
    }

    pub fn create_team(&self, name: &str, display_name: &str) -> Result<Team, ClientError> {
        let body = json!({ "name": name, "display_name": display_name, "type": "O" });
        self.call("create a team", Method::POST, "/teams", Some(&body))
    }

    pub fn find_channel(&self, team: &Team, name: &str) -> Result<Option<Channel>, ClientError> {
        let path = format!("/teams/{}/channels/name/{}", encode(&team.id), encode(name));
        found(self.call("find the channel", Method::GET, &path, None))
    }

    pub fn create_channel(
        &self,
        team: &Team,
        name: &str,
        display_name: &str,
        private: bool,
    ) -> Result<Channel, ClientError> {
        let kind = if private { "P" } else { "O" };
        let body =
            json!({ "team_id": team.id, "name": name, "display_name": display_name, "type": kind });
        self.call("create a channel", Method::POST, "/channels", Some(&body))
    }

    pub fn create_post(
        &self,
        channel: &Channel,
        message: &str,
        files: &[&FileInfo],
    ) -> Result<Post, ClientError> {
        let files: Vec<&str> = files.iter().map(|file| file.id.as_str()).collect();
        let body = json!({ "channel_id": channel.id, "message": message, "file_ids": files });
        self.call("post", Method::POST, "/posts", Some(&body))
    }

    pub fn post(&self, id: &str) -> Result<Post, ClientError> {
        self.call(
            "read a post",
            Method::GET,
            &format!("/posts/{}", encode(id)),
            None,
        )
    }

    /// Uploads one file as browsers do, as multipart.
    pub fn upload_file(
        &self,
        channel: &Channel,
        name: &str,
        content: &[u8],
    ) -> Result<FileInfo, ClientError> {
        #[derive(Deserialize)]
        struct Uploaded {
            file_infos: Vec<FileInfo>,
        }
        let action = "upload a file";
        let mut body = Vec::with_capacity(content.len() + 512);
        body.extend_from_slice(
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"channel_id\"\r\n\r\n{}\r\n--{BOUNDARY}\r\n\
                 Content-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n",
                channel.id
            )
            .as_bytes(),
        );
        body.extend_from_slice(content);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let response = self.run(action, Method::POST, "/files", Some(&kind), &body[..])?;
        let uploaded: Uploaded = read_json(action, response)?;
        uploaded
            .file_infos
            .into_iter()
            .next()
            .ok_or_else(|| ClientError::Answer {
                action: action.to_owned(),
                why: "it lists no file".to_owned(),
            })
    }

    pub fn download_file(&self, id: &str) -> Result<Vec<u8>, ClientError> {
        let action = "download a file";
        let mut response =
            self.send(action, Method::GET, &format!("/files/{}", encode(id)), None)?;
        response
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT)
            .read_to_vec()
            .map_err(|source| ClientError::Transport {
                action: action.to_owned(),
                source: Box::new(source),
            })
    }

    /// Posts of a team that contain all the words, newest first.
    pub fn search_posts(&self, team: &Team, words: &str) -> Result<Vec<Post>, ClientError> {
        #[derive(Deserialize)]
        struct Found {
            order: Vec<String>,
            posts: HashMap<String, Post>,
        }
        let body = json!({ "terms": words, "is_or_search": false });
        let path = format!("/teams/{}/posts/search", encode(&team.id));
        let mut found: Found = self.call("search", Method::POST, &path, Some(&body))?;
        Ok(found
            .order
            .iter()
            .filter_map(|id| found.posts.remove(id))
            .collect())
    }

    /// Opens a WebSocket and waits until the server has accepted the session.
    pub fn open_socket(&self) -> Result<Socket, ClientError> {
        Socket::open(&self.connection, self.token.as_deref().unwrap_or_default())
    }

    /// Any other call under /api/v4: the decoded answer, `Null` where there is none.
    pub fn call_raw(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let action = format!("call {method} {path}");
        let method = method.parse().map_err(|_| ClientError::Answer {
            action: action.clone(),
            why: "no such method".to_owned(),
        })?;
        self.call(&action, method, path, body)
    }

    fn call<T: DeserializeOwned>(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        read_json(action, self.send(action, method, path, body)?)
    }

    fn send(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Body>, ClientError> {
        match body {
            Some(body) => self.run(
                action,
                method,
                path,
                Some("application/json"),
                body.to_string().as_bytes(),
            ),
            // A POST without a body still has a length.
            None if method == Method::POST => self.run(action, method, path, None, &[][..]),
            None => self.run(action, method, path, None, ()),
        }
    }

    fn run(
        &self,
        action: &str,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: impl AsSendBody,
    ) -> Result<Response<Body>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v4{path}", self.connection.origin));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(|error| ClientError::Answer {
            action: action.to_owned(),
            why: error.to_string(),
        })?;
        let mut response = self
            .agent
            .run(request)
            .map_err(|source| ClientError::Transport {
                action: action.to_owned(),
                source: Box::new(source),
            })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(64 * 1024)
            .read_to_string()
            .unwrap_or_default();
        Err(ClientError::Refused {
            action: action.to_owned(),
            status,
            message: refusal_message(&text),
        })
    }
}

/// The sentence in Mattermost's error shape, or the beginning of whatever it was.
fn refusal_message(text: &str) -> String {
    let shape: Option<Value> = serde_json::from_str(text).ok();
    let field = |name: &str| {
        shape
            .as_ref()
            .and_then(|shape| shape.get(name))
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    match (field("message"), field("detailed_error")) {
        (Some(message), Some(detail)) => format!("{message} ({detail})"),
        (Some(message), None) => message.to_owned(),
        (None, _) => text.chars().take(200).collect(),
    }
}

fn read_json<T: DeserializeOwned>(
    action: &str,
    mut response: Response<Body>,
) -> Result<T, ClientError> {
    let text = response
        .body_mut()
        .with_config()
        .limit(ANSWER_LIMIT)
        .read_to_string()
        .map_err(|source| ClientError::Transport {
            action: action.to_owned(),
            source: Box::new(source),
        })?;
    let text = if text.trim().is_empty() {
        "null"
    } else {
        &text
    };
    serde_json::from_str(text).map_err(|error| ClientError::Answer {
        action: action.to_owned(),
        why: error.to_string(),
    })
}

fn found<T>(result: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One part of a path: everything but letters, digits, `-`, `_` and `.` is written as %XX.
fn encode(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let body =
            r#"{"id":"x","message":"Enter a valid email.","detailed_error":"","status_code":401}"#;
        assert_eq!(refusal_message(body), "Enter a valid email.");
        assert_eq!(
            refusal_message(r#"{"message":"a","detailed_error":"b"}"#),
            "a (b)"
        );
        assert_eq!(refusal_message("bad gateway"), "bad gateway");
    }

    #[test]
    fn parts_of_paths_cannot_leave_their_place() {
        assert_eq!(encode("a/../b?c"), "a%2F..%2Fb%3Fc");
    }
}

//! Reads a recording: a request and the whole answer to it. Pure.

use serde_json::Value;

/// What the real server answered.
#[derive(Clone, Debug)]
pub struct Recording {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

macro_rules! recordings {
    ($($name:ident = $file:literal),* $(,)?) => {
        $(pub fn $name() -> Recording {
            parse(include_str!(concat!("../../contract/", $file)))
        })*

        #[cfg(test)]
        fn all() -> Vec<(&'static str, Recording)> {
            vec![$(($file, $name())),*]
        }
    };
}

recordings! {
    ping = "01-ping.http",
    ping_status = "02-ping-status.http",
    page = "03-root.http",
    static_file = "04-static.http",
    static_missing = "05-static-404.http",
    api_missing = "06-api-404.http",
    bad_login = "07-bad-login.http",
    no_session = "08-me-noauth.http",
    login = "09-login.http",
    team = "10-team.http",
    channel = "11-channel.http",
    post = "12-post.http",
    upload = "13-file-upload.http",
    upload_simple = "14-file-upload-simple.http",
    download = "15-file-get.http",
    post_with_file = "16-post-with-file.http",
    file_info = "17-file-info.http",
    search = "18-search.http",
    search_none = "19-search-none.http",
    channel_posts = "20-channel-posts.http",
    ping_admin = "21-ping-admin.http",
    create_user = "22-create-user-api.http",
    config_client = "23-config-client.http",
    logout = "24-logout.http",
    after_logout = "25-me-after-logout.http",
}

impl Recording {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// The body as JSON; one that was cut off is closed after its last whole field.
    pub fn json(&self) -> Option<Value> {
        let body = self.body.trim();
        if let Ok(value) = serde_json::from_str(body) {
            return Some(value);
        }
        let end = body.rfind("\",\"")?;
        serde_json::from_str(&format!("{}\"}}", &body[..end])).ok()
    }
}

/// The answer starts after the line `--- N ms`.
fn parse(text: &str) -> Recording {
    let answer = text
        .split_once("\n--- ")
        .and_then(|(_, rest)| rest.split_once('\n'))
        .map_or(text, |(_, rest)| rest);
    let (head, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|l| l.split(' ').nth(1))
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    let headers = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))
        .collect();
    Recording {
        status,
        headers,
        body: body.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recording_is_read_whole() {
        for (file, recording) in all() {
            assert!((200..500).contains(&recording.status), "{file}");
            let kind = recording.header("content-type").unwrap();
            if kind == "application/json" {
                assert!(recording.json().is_some(), "{file}");
            }
        }
        assert_eq!(all().len(), 25);
        assert!(config_client().json().unwrap()["BuildNumber"].is_string());
    }
}

//! What API v4 shows: field names, order and omissions as recorded. Holds data only.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !*b
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct User {
    pub id: String,
    pub create_at: i64,
    pub update_at: i64,
    pub delete_at: i64,
    pub username: String,
    pub auth_service: String,
    pub email: String,
    #[serde(skip_serializing_if = "is_false")]
    pub email_verified: bool,
    pub nickname: String,
    pub first_name: String,
    pub last_name: String,
    pub position: String,
    pub roles: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify_props: Option<Value>,
    #[serde(skip_serializing_if = "is_zero")]
    pub last_password_update: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub failed_attempts: i64,
    pub locale: String,
    pub timezone: Value,
    #[serde(skip_serializing_if = "is_false")]
    pub is_bot: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bot_description: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub last_login: i64,
    pub remote_id: String,
    pub disable_welcome_email: bool,
    /// Never sent: the stored hash.
    #[serde(skip)]
    pub password: String,
}

impl User {
    /// As shown to the user. Administrators also see `last_login`.
    pub fn for_self(mut self) -> Self {
        self.last_login = 0;
        self
    }

    /// As shown to other users.
    pub fn for_others(mut self) -> Self {
        self.notify_props = None;
        self.last_password_update = 0;
        self.failed_attempts = 0;
        self.for_self()
    }

    pub fn is_admin(&self) -> bool {
        self.roles.split(' ').any(|r| r == "system_admin")
    }
}

pub fn default_notify_props() -> Value {
    json!({
        "channel": "true", "comments": "never", "desktop": "mention", "desktop_sound": "true",
        "desktop_threads": "all", "email": "true", "email_threads": "all", "first_name": "false",
        "mention_keys": "", "push": "mention", "push_status": "online", "push_threads": "all"
    })
}

pub fn default_timezone() -> Value {
    json!({"automaticTimezone": "", "manualTimezone": "", "useAutomaticTimezone": "true"})
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Team {
    pub id: String,
    pub create_at: i64,
    pub update_at: i64,
    pub delete_at: i64,
    pub display_name: String,
    pub name: String,
    pub description: String,
    pub email: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub company_name: String,
    pub allowed_domains: String,
    pub invite_id: String,
    pub allow_open_invite: bool,
    pub scheme_id: Option<String>,
    pub group_constrained: Option<bool>,
    pub policy_id: Option<String>,
    pub cloud_limits_archived: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Channel {
    pub id: String,
    pub create_at: i64,
    pub update_at: i64,
    pub delete_at: i64,
    pub team_id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub display_name: String,
    pub name: String,
    pub header: String,
    pub purpose: String,
    pub last_post_at: i64,
    pub total_msg_count: i64,
    pub extra_update_at: i64,
    pub creator_id: String,
    pub scheme_id: Option<String>,
    pub props: Option<Value>,
    pub group_constrained: Option<bool>,
    pub autotranslation: bool,
    pub shared: Option<bool>,
    pub total_msg_count_root: i64,
    pub policy_id: Option<String>,
    pub last_root_post_at: i64,
    pub banner_info: Option<Value>,
    pub policy_enforced: bool,
    pub policy_is_active: bool,
    pub default_category_name: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Post {
    pub id: String,
    pub create_at: i64,
    pub update_at: i64,
    pub edit_at: i64,
    pub delete_at: i64,
    pub is_pinned: bool,
    pub user_id: String,
    pub channel_id: String,
    pub root_id: String,
    pub original_id: String,
    pub message: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub props: Value,
    pub hashtags: String,
    pub file_ids: Vec<String>,
    pub pending_post_id: String,
    /// Absent on posts that the server itself makes (recorded in 20-channel-posts).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<String>,
    pub reply_count: i64,
    pub last_reply_at: i64,
    pub participants: Option<Value>,
    pub metadata: Value,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct FileInfo {
    pub id: String,
    pub user_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub post_id: String,
    pub channel_id: String,
    pub create_at: i64,
    pub update_at: i64,
    pub delete_at: i64,
    pub name: String,
    pub extension: String,
    pub size: i64,
    pub mime_type: String,
    pub mini_preview: Option<String>,
    pub remote_id: String,
    pub archived: bool,
    /// Never sent: the file's place below `FileSettings.Directory`.
    #[serde(skip)]
    pub path: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Session {
    pub id: String,
    /// Sent empty in lists: a session's token is shown once, at log-in.
    pub token: String,
    pub create_at: i64,
    pub expires_at: i64,
    pub last_activity_at: i64,
    pub user_id: String,
    pub device_id: String,
    pub roles: String,
    pub is_oauth: bool,
    pub expired_notify: bool,
    pub props: Value,
    pub team_members: Value,
    pub local: bool,
    #[serde(skip)]
    pub csrf: String,
}

/// What a user did. The identifier and the time are the store's.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audit {
    pub id: String,
    pub create_at: i64,
    pub user_id: String,
    /// The path of the call.
    pub action: String,
    pub extra_info: String,
    pub ip_address: String,
    pub session_id: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AccessToken {
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token: String,
    pub user_id: String,
    pub description: String,
    pub is_active: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Bot {
    pub user_id: String,
    pub username: String,
    pub display_name: String,
    pub description: String,
    pub owner_id: String,
    pub create_at: i64,
    pub update_at: i64,
    pub delete_at: i64,
}

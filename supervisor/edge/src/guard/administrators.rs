//! The calls of API v4 that only administrators make: by method and path, from the API reference (`manage_system`, `sysconsole_…`,
//! `manage_jobs` and the like under "Permissions"). A call that an ordinary client makes is not in it, even where an administrator may do
//! more with it: with its own networks closed, chat goes on. Pure.

use hyper::Method;

use crate::forward::decoded;

/// Methods and a path below /api/v4; `*` is one segment, `**` any number of them at the end.
type Call = (&'static str, &'static str);

const CALLS: &[Call] = &[
    // The server and its configuration.
    ("GET PUT", "config"),
    ("PUT", "config/patch"),
    ("GET", "config/environment"),
    ("POST", "config/reload"),
    ("POST", "config/migrate"),
    ("POST DELETE", "license"),
    ("POST", "license/preview"),
    ("GET", "license/renewal"),
    ("POST", "trial-license"),
    ("GET", "trial-license/prev"),
    ("*", "upgrade_to_enterprise/**"),
    ("POST", "restart"),
    ("POST", "integrity"),
    ("GET POST DELETE", "server_busy"),
    ("POST", "caches/invalidate"),
    ("POST", "database/recycle"),
    ("POST", "email/test"),
    ("POST", "site_url/test"),
    ("POST", "file/test"),
    ("POST", "file/s3_test"),
    ("GET", "latest_version"),
    ("GET", "system/schema/version"),
    ("GET", "system/support_packet"),
    ("GET POST", "system/onboarding/complete"),
    ("GET", "audits"),
    ("POST DELETE", "audit_logs/certificate"),
    // An ordinary client posts its own errors to `logs`.
    ("GET", "logs"),
    ("POST", "logs/query"),
    ("GET", "logs/download"),
    ("GET", "analytics/old"),
    ("*", "reports/**"),
    ("*", "cluster/**"),
    ("*", "jobs/**"),
    ("*", "imports/**"),
    ("*", "exports/**"),
    ("*", "compliance/**"),
    ("*", "ip_filtering/**"),
    ("POST DELETE", "brand/image"),
    ("POST", "terms_of_service"),
    ("*", "data_retention/policies/**"),
    ("GET", "data_retention/policies_count"),
    ("GET PUT", "content_flagging/config"),
    ("POST", "elasticsearch/**"),
    ("POST", "bleve/**"),
    // Plugins. What a plugin serves is not below /api.
    ("GET POST", "plugins"),
    ("DELETE", "plugins/*"),
    ("POST", "plugins/*/enable"),
    ("POST", "plugins/*/disable"),
    ("POST", "plugins/*/detach"),
    ("GET PUT", "plugins/*/access_control"),
    ("POST", "plugins/install_from_url"),
    ("POST", "plugins/reattach"),
    ("GET POST", "plugins/marketplace"),
    ("GET POST", "plugins/marketplace/first_admin_visit"),
    // Sign-in. `saml/metadata` is public.
    ("*", "ldap/**"),
    ("*", "saml/certificate/**"),
    ("POST", "saml/metadatafromidp"),
    ("POST", "saml/reset_auth_data"),
    ("POST", "users/migrate_auth/**"),
    // People, their rights and their sessions.
    ("PUT", "users/*/roles"),
    ("PUT", "users/*/auth"),
    ("PUT", "users/*/active"),
    ("DELETE", "users/*"),
    ("POST", "users/*/promote"),
    ("POST", "users/*/demote"),
    ("POST", "users/*/convert_to_bot"),
    ("POST", "users/*/email/verify/member"),
    ("POST", "users/*/reset_failed_attempts"),
    ("POST", "users/sessions/revoke/all"),
    ("GET", "users/stats/filtered"),
    ("GET", "users/invalid_emails"),
    ("GET", "users/tokens"),
    ("POST", "users/tokens/search"),
    ("GET", "roles"),
    ("PUT", "roles/*/patch"),
    ("*", "schemes/**"),
    ("POST", "permissions/ancillary"),
    ("POST", "custom_profile_attributes/fields"),
    ("PATCH DELETE", "custom_profile_attributes/fields/*"),
    // Teams and channels, as far as their own administrators have no say.
    ("GET", "channels"),
    ("PUT", "channels/*/scheme"),
    ("PUT", "teams/*/scheme"),
    ("POST", "channels/*/move"),
    ("PUT", "channels/*/moderations/patch"),
    ("GET", "channels/*/members_minus_group_members"),
    ("GET", "teams/*/members_minus_group_members"),
    // Connections to other servers.
    ("GET POST", "remotecluster"),
    ("GET PATCH DELETE", "remotecluster/*"),
    ("POST", "remotecluster/*/generate_invite"),
    ("POST", "remotecluster/accept_invite"),
    ("POST", "oauth/outgoing_connections"),
    ("PUT DELETE", "oauth/outgoing_connections/*"),
    ("POST", "oauth/outgoing_connections/validate"),
];

/// Whether a request is an administrator's call, in any spelling that Mattermost takes for one.
pub fn is_call(method: &Method, path: &str) -> bool {
    let path = decoded(path);
    let mut segments = path.split('/').filter(|part| !part.is_empty());
    if (segments.next(), segments.next()) != (Some("api"), Some("v4")) {
        return false;
    }
    let path: Vec<&str> = segments.collect();
    CALLS
        .iter()
        .any(|(methods, pattern)| covers(methods, method) && matches(pattern, &path))
}

fn covers(methods: &str, method: &Method) -> bool {
    let method = if method == Method::HEAD {
        "GET"
    } else {
        method.as_str()
    };
    methods == "*" || methods.split(' ').any(|one| one == method)
}

fn matches(pattern: &str, path: &[&str]) -> bool {
    let mut path = path.iter();
    for wanted in pattern.split('/') {
        match (wanted, path.next()) {
            ("**", _) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(part)) if wanted == *part => {}
            _ => return false,
        }
    }
    path.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the web client, the desktop app and the mobile app of an ordinary user ask for: from opening the page to logging out, with
    /// the settings, searches, files, threads and team and channel administration that such a user may have.
    const ORDINARY: &str = "
        GET /api/v4/system/ping  GET /api/v4/config/client  GET /api/v4/license/client  GET /api/v4/license/load_metric
        GET /api/v4/plugins/webapp  GET /api/v4/brand/image  GET /api/v4/terms_of_service  GET /api/v4/saml/metadata
        POST /api/v4/logs  POST /api/v4/client_perf  GET /api/v4/limits/server  GET /api/v4/usage/posts  GET /api/v4/cloud/limits
        POST /api/v4/users  POST /api/v4/users/login  POST /api/v4/users/logout  POST /api/v4/users/mfa
        POST /api/v4/users/password/reset  POST /api/v4/users/password/reset/send  POST /api/v4/users/email/verify
        GET /api/v4/websocket  GET /api/v4/users/websocket
        GET /api/v4/users  GET /api/v4/users/me  PUT /api/v4/users/me/patch  PUT /api/v4/users/u1  PUT /api/v4/users/u1/patch
        PUT /api/v4/users/u1/password  PUT /api/v4/users/u1/mfa  POST /api/v4/users/u1/mfa/generate  GET /api/v4/users/u1/sessions
        POST /api/v4/users/u1/sessions/revoke  POST /api/v4/users/u1/sessions/revoke/all  PUT /api/v4/users/sessions/device
        GET /api/v4/users/u1/audits  GET /api/v4/users/u1/image  POST /api/v4/users/u1/image  DELETE /api/v4/users/u1/image
        GET /api/v4/users/u1/tokens  POST /api/v4/users/u1/tokens  POST /api/v4/users/tokens/revoke  POST /api/v4/users/tokens/disable
        GET /api/v4/users/me/preferences  PUT /api/v4/users/u1/preferences  POST /api/v4/users/u1/preferences/delete
        GET /api/v4/users/u1/status  PUT /api/v4/users/u1/status  PUT /api/v4/users/u1/status/custom  POST /api/v4/users/status/ids
        DELETE /api/v4/users/u1/status/custom  DELETE /api/v4/users/u1/status/custom/recent  POST /api/v4/users/u1/typing
        POST /api/v4/users/ids  POST /api/v4/users/usernames  POST /api/v4/users/search  GET /api/v4/users/autocomplete
        GET /api/v4/users/stats  GET /api/v4/users/known  GET /api/v4/users/username/n  GET /api/v4/users/email/e
        POST /api/v4/users/group_channels  GET /api/v4/users/me/teams  GET /api/v4/users/me/teams/unread  GET /api/v4/users/me/teams/members
        GET /api/v4/users/me/channels  GET /api/v4/users/me/teams/t1/channels  GET /api/v4/users/me/teams/t1/channels/members
        GET /api/v4/users/u1/teams/t1/channels/categories  PUT /api/v4/users/u1/teams/t1/channels/categories
        POST /api/v4/users/u1/teams/t1/channels/categories  DELETE /api/v4/users/u1/teams/t1/channels/categories/c1
        GET /api/v4/users/u1/teams/t1/threads  PUT /api/v4/users/u1/teams/t1/threads/p1/read/5  DELETE /api/v4/users/u1/teams/t1/threads/p1/following
        GET /api/v4/users/u1/channels/c1/posts/unread  POST /api/v4/users/u1/posts/p1/set_unread  POST /api/v4/users/u1/posts/p1/reminder
        GET /api/v4/users/u1/data_retention/team_policies  GET /api/v4/data_retention/policy  POST /api/v4/users/u1/terms_of_service
        GET /api/v4/roles/r1  GET /api/v4/roles/name/n  POST /api/v4/roles/names
        GET /api/v4/teams  POST /api/v4/teams  POST /api/v4/teams/search  GET /api/v4/teams/t1  PUT /api/v4/teams/t1/patch
        PUT /api/v4/teams/t1/privacy  POST /api/v4/teams/t1/members  POST /api/v4/teams/members/invite  GET /api/v4/teams/invite/i
        PUT /api/v4/teams/t1/members/u1/roles  PUT /api/v4/teams/t1/members/u1/schemeRoles  DELETE /api/v4/teams/t1/members/u1
        POST /api/v4/teams/t1/invite/email  GET /api/v4/teams/t1/stats  POST /api/v4/teams/t1/image  DELETE /api/v4/teams/t1
        GET /api/v4/teams/t1/channels  POST /api/v4/teams/t1/channels/search  GET /api/v4/teams/t1/channels/autocomplete
        GET /api/v4/teams/t1/commands/autocomplete  POST /api/v4/teams/t1/posts/search  POST /api/v4/teams/t1/files/search
        POST /api/v4/channels  POST /api/v4/channels/direct  POST /api/v4/channels/group  POST /api/v4/channels/search
        GET /api/v4/channels/c1  PUT /api/v4/channels/c1/patch  PUT /api/v4/channels/c1/privacy  POST /api/v4/channels/c1/restore
        DELETE /api/v4/channels/c1  GET /api/v4/channels/c1/stats  GET /api/v4/channels/c1/posts  GET /api/v4/channels/c1/members
        POST /api/v4/channels/c1/members  DELETE /api/v4/channels/c1/members/u1  PUT /api/v4/channels/c1/members/u1/roles
        PUT /api/v4/channels/c1/members/u1/schemeRoles  PUT /api/v4/channels/c1/members/u1/notify_props
        POST /api/v4/channels/members/me/view  GET /api/v4/channels/c1/moderations  GET /api/v4/channels/c1/bookmarks
        POST /api/v4/channels/c1/bookmarks  GET /api/v4/channels/c1/timezones  GET /api/v4/channels/c1/pinned
        POST /api/v4/posts  GET /api/v4/posts/p1  PUT /api/v4/posts/p1  PUT /api/v4/posts/p1/patch  DELETE /api/v4/posts/p1
        POST /api/v4/posts/ids  GET /api/v4/posts/p1/thread  POST /api/v4/posts/p1/pin  POST /api/v4/posts/p1/actions/a
        POST /api/v4/posts/ephemeral  POST /api/v4/posts/schedule  POST /api/v4/drafts  GET /api/v4/users/u1/teams/t1/drafts
        POST /api/v4/reactions  DELETE /api/v4/users/u1/posts/p1/reactions/smile  GET /api/v4/emoji  POST /api/v4/emoji/search
        POST /api/v4/emoji  DELETE /api/v4/emoji/e1  GET /api/v4/emoji/e1/image  GET /api/v4/image  POST /api/v4/opengraph
        POST /api/v4/files  GET /api/v4/files/f1  GET /api/v4/files/f1/info  GET /api/v4/files/f1/thumbnail  POST /api/v4/uploads
        POST /api/v4/uploads/u1  GET /api/v4/files/f1/link  POST /api/v4/commands/execute  GET /api/v4/commands  POST /api/v4/commands
        GET /api/v4/hooks/incoming  POST /api/v4/hooks/incoming  DELETE /api/v4/hooks/outgoing/h1  GET /api/v4/oauth/apps
        GET /api/v4/users/u1/oauth/apps/authorized  GET /api/v4/oauth/outgoing_connections  GET /api/v4/bots  GET /api/v4/bots/b1
        GET /api/v4/groups  GET /api/v4/teams/t1/groups  GET /api/v4/users/u1/groups  GET /api/v4/sharedchannels/remote_info/r1
        GET /api/v4/custom_profile_attributes/fields  PATCH /api/v4/custom_profile_attributes/values
        GET /api/v4/system/notices/t1  PUT /api/v4/system/notices/view  GET /api/v4/system/timezones  POST /api/v4/notifications/ack
        POST /api/v4/notifications/test  POST /api/v4/actions/dialogs/open  POST /api/v4/actions/dialogs/submit
        GET /  GET /static/main.js  GET /admin_console/about  GET /plugins/playbooks/api/v0/runs  POST /hooks/h1  GET /api/v4  GET /api/v5/config
    ";

    #[test]
    fn an_ordinary_users_session_holds_no_administrators_call() {
        let mut words = ORDINARY.split_whitespace();
        let mut count = 0;
        while let (Some(method), Some(path)) = (words.next(), words.next()) {
            let method = method.parse().unwrap();
            assert!(!is_call(&method, path), "{method} {path}");
            count += 1;
        }
        assert!(count > 150 && words.next().is_none());
    }

    #[test]
    fn an_administrators_session_is_seen_in_every_spelling() {
        for (method, path) in [
            ("GET", "/api/v4/config"),
            ("HEAD", "/api/v4/config"),
            ("PUT", "/api/v4/config/"),
            ("PUT", "//api/v4//config"),
            ("PUT", "/api/v4/%63onfig/p%61tch"),
            ("POST", "/api/v4%2Fconfig/reload"),
            ("PUT", "/api/v4/users/u1/roles"),
            ("DELETE", "/api/v4/users/u1"),
            ("GET", "/api/v4/jobs"),
            ("PATCH", "/api/v4/jobs/j1/status"),
            ("POST", "/api/v4/plugins"),
            ("DELETE", "/api/v4/plugins/com.example.plugin"),
            ("POST", "/api/v4/upgrade_to_enterprise"),
            ("GET", "/api/v4/upgrade_to_enterprise/status"),
            ("GET", "/api/v4/logs"),
        ] {
            assert!(is_call(&method.parse().unwrap(), path), "{method} {path}");
        }
    }

    #[test]
    fn the_documentation_lists_what_is_closed() {
        let documented = include_str!("../../../../docs/access.md");
        for (methods, pattern) in CALLS {
            let methods = if *methods == "*" { "any" } else { methods };
            let line = format!("\n{methods:<15} {pattern}\n");
            assert!(documented.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_table_has_only_known_methods_and_ends_with_its_wildcards() {
        for (methods, pattern) in CALLS {
            for method in methods.split(' ') {
                assert!(
                    ["*", "GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method),
                    "{methods}"
                );
            }
            let tail = pattern.split('/').position(|part| part == "**");
            assert!(
                tail.is_none_or(|at| at + 1 == pattern.split('/').count()),
                "{pattern}"
            );
        }
    }
}

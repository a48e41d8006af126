//! Which requests belong together in figures and log. By path alone; decides nothing about them.

/// The kinds of request whose times belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Api,
    Login,
    Files,
    WebSocket,
    Hooks,
    Plugins,
    Static,
    Page,
    /// Answered by the edge for itself.
    Edge,
}

impl Class {
    pub const ALL: [Self; 9] = [
        Self::Api,
        Self::Login,
        Self::Files,
        Self::WebSocket,
        Self::Hooks,
        Self::Plugins,
        Self::Static,
        Self::Page,
        Self::Edge,
    ];

    pub fn of(path: &str) -> Self {
        if let Some(call) = path.strip_prefix("/api/v4/") {
            return if call == "websocket" {
                Self::WebSocket
            } else if call == "users/login" {
                Self::Login
            } else if call.starts_with("files") || call.starts_with("uploads") {
                Self::Files
            } else {
                Self::Api
            };
        }
        match path.split('/').nth(1).unwrap_or_default() {
            "static" => Self::Static,
            "api" => Self::Api,
            "files" => Self::Files,
            "hooks" => Self::Hooks,
            "plugins" => Self::Plugins,
            "_atalaya" => Self::Edge,
            _ => Self::Page,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Login => "login",
            Self::Files => "files",
            Self::WebSocket => "websocket",
            Self::Hooks => "hooks",
            Self::Plugins => "plugins",
            Self::Static => "static",
            Self::Page => "page",
            Self::Edge => "edge",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fall_into_classes() {
        for (path, class) in [
            ("/api/v4/users/me", Class::Api),
            ("/api/v4/users/login", Class::Login),
            ("/api/v4/files/abc", Class::Files),
            ("/api/v4/websocket", Class::WebSocket),
            ("/api/v5/x", Class::Api),
            ("/files/abc/public", Class::Files),
            ("/hooks/abc", Class::Hooks),
            ("/plugins/x/y", Class::Plugins),
            ("/static/main.js", Class::Static),
            ("/team/channels/town-square", Class::Page),
            ("/", Class::Page),
            ("/_atalaya/metrics", Class::Edge),
        ] {
            assert_eq!(Class::of(path), class, "{path}");
        }
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
        }
    }
}
